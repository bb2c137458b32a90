"""The text of the two files that `gpu-ci init` writes. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import yaml

from gpu_ci.profiles import trusted_file
from gpu_ci.providers import PROVIDERS
from gpu_ci.providers.about import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.init.choices import Wanted
    from gpu_ci.init.cirun_yml import Profile

PROFILES: Final = trusted_file.FILE
WORKFLOW: Final = ".github/workflows/gpu.yml"
LIBRARY: Final = "org/gpu-ci"
VERSION: Final = "v1"
LABEL: Final = "run-gpu-ci"
SCHEMA: Final = f"https://github.com/{LIBRARY}/releases/latest/download/gpu-ci.schema.json"
# What every job needs, whatever its provider.
OF_GITHUB: Final[Mapping[str, Secret]] = {
    "GPU_RUNNER_TOKEN": Secret(
        taken_as="github-token",
        words="registers runners. A fine-grained token for this repository alone, with "
        "Administration: read and write; or a GitHub App, with app-id and app-private-key",
        required=True,
    )
}
ROLE: Final = """\
    # Better than stored AWS keys: a role that trusts this repository's OIDC token.
    # aws-role: arn:aws:iam::123456789012:role/gpu-ci
"""
FRAME: Final = """\
# GPU tests on a rented machine: for pushes to the default branch, and for pull requests that a
# maintainer labels `{label}`. The machines are in {profiles}.
name: GPU tests

on:
  push:
    branches: [{branch}]
  pull_request:
    types: [labeled, opened, synchronize, reopened]
  workflow_dispatch: # by hand: on a branch with a fork's commit that a maintainer has read

permissions: {{}}

# Adding the label again ends the test of the commit before. Another label, or a push, which waits for
# the label, has a group of its own: it ends no test that is paid for.
concurrency:
  group: ${{{{ github.workflow }}}}-${{{{ github.event.label.name == '{label}' && github.event.number || github.run_id }}}}
  cancel-in-progress: true

jobs:
  gpu:
    permissions:
      actions: write # to cancel the run if no machine comes
      checks: read # for a budget: what earlier runs have cost
      contents: read # for checkout and the profile
      id-token: write # for a role of AWS, without stored keys
      pull-requests: write # to take the label off once it is used
    uses: {library}/.github/workflows/gpu-job.yml@{version}
    with:
{inputs}
    secrets:
{secrets}
"""


def profiles_text(profiles: Mapping[str, Profile]) -> str:
    """Return the file of the profiles."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA}",
        "# Machines for GPU jobs by name: the input `profile` picks one, and other inputs outrank it.",
        "profiles:",
    ]
    for name, profile in profiles.items():
        lines.append(f"  {_scalar(name)}:")
        lines += [f"    {key}: {_value(value)}" for key, value in profile.items()]
        if profile["provider"] == "ec2":
            lines += ROLE.splitlines()
    return "\n".join(lines) + "\n"


def workflow_text(wanted: Wanted, branch: str) -> str:
    """Return the workflow that runs the tests with the profile that is used."""
    inputs = {"profile": wanted.used, "run": wanted.run}
    if wanted.python:
        inputs["python-version"] = wanted.python
    return FRAME.format(
        label=LABEL,
        profiles=PROFILES,
        branch=_scalar(branch, inside="[]"),
        library=LIBRARY,
        version=VERSION,
        inputs="\n".join(f"      {key}: {_value(value)}" for key, value in inputs.items()),
        secrets="\n".join(
            f"      {secret.taken_as}: ${{{{ secrets.{name} }}}}"
            for name, secret in secrets(wanted.provider).items()
        ),
    )


def secrets(provider: str) -> Mapping[str, Secret]:
    """Return each secret that a job with this provider needs, by its name in the repository.

    A provider that requires none gets all those that can replace its login.
    """
    taken = {name: each for name, each in PROVIDERS[provider].secrets.items() if each.taken_as}
    required = {name: each for name, each in taken.items() if each.required}
    return {**OF_GITHUB, **(required or taken)}


def _value(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_scalar(each, inside='[]') for each in value)}]"
    return _scalar(value)


def _scalar(text: str, inside: str = "") -> str:
    """Return a text as YAML: plain if every version of YAML then reads it as text, else quoted."""
    in_place = f"[{text}]" if inside else f"a: {text}"
    same: object = [text] if inside else {"a": text}
    try:
        plain = yaml.safe_load(in_place) == same
    except yaml.YAMLError:
        plain = False
    # Versions disagree on what a number is: anything that begins like one gets quotes.
    return (
        text
        if plain and text.isascii() and text[:1].isalpha()
        else json.dumps(text, ensure_ascii=False)
    )
