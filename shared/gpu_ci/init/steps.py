"""What is left to do after `gpu-ci init`, in order. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpu_ci.init.files import LABEL, PROFILES, RUNNER_TOKEN, WORKFLOW, secrets

if TYPE_CHECKING:
    from gpu_ci.init.repository import Repository
    from gpu_ci.init.wanted import Wanted

WHAT: Final = {
    "GPU_RUNNER_TOKEN": "registers runners. A fine-grained token for this repository alone, with "
    "Administration: read and write; or a GitHub App, with app-id and app-private-key",
    "JL_API_KEY": "the key of your JarvisLabs account (Settings, API Keys)",
    "AWS_ACCESS_KEY_ID": "of a user who may run and end instances; or no key at all, and aws-role in "
    "the profile",
    "AWS_SECRET_ACCESS_KEY": "the other half of it",
}


def next_steps(wanted: Wanted, seen: Repository, program: str) -> str:
    """Return the steps, numbered, with the commands to copy; `program` is how gpu-ci was called."""
    where = f" --repo {seen.name}" if seen.name else ""
    stored = [name for _, name in secrets(wanted.provider)]
    keys = "\n".join(f"     gh secret set {name}{where}   # {WHAT[name]}" for name in stored)
    others = [name for name in wanted.profiles if name != wanted.used]
    more = (
        f"\nThe workflow uses {wanted.used}; there are also: {', '.join(others)}." if others else ""
    )
    return f"""{more}
Next:
  1. Store the secrets (each command asks for its value):
{keys}
  2. Make the label that lets a pull request use a machine:
     gh label create {LABEL}{where}
  3. See whether a start would work, at no cost; {_needed(stored)}:
     {program} doctor --profile {wanted.used} --repository {seen.name or "OWNER/NAME"}
  4. Commit {PROFILES} and {WORKFLOW}, and push. The first test runs on {seen.branch}.
  5. Require the check `gpu / result` for merging, under Settings, Branches."""


def _needed(stored: list[str]) -> str:
    """Return which variables the terminal's check reads: the same values under their own names."""
    names = ["GITHUB_TOKEN" if name == RUNNER_TOKEN[1] else name for name in stored]
    return f"it reads {', '.join(names)} from the environment"
