"""What is left to do after `gpu-ci init`, in order. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_ci.init.file_texts import LABEL, OF_GITHUB, PROFILES, WORKFLOW, secrets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpu_ci.init.checkout import Repository
    from gpu_ci.init.choices import Wanted


def next_steps(wanted: Wanted, seen: Repository, program: str) -> str:
    """Return the steps, numbered, with the commands to copy; `program` is how gpu-ci was called."""
    where = f" --repo {seen.name}" if seen.name else ""
    stored = secrets(wanted.provider)
    keys = "\n".join(
        f"     gh secret set {name}{where}   # {secret.words}" for name, secret in stored.items()
    )
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


def _needed(stored: Iterable[str]) -> str:
    """Return which variables the terminal's check reads: the same values under their own names."""
    names = ["GITHUB_TOKEN" if name in OF_GITHUB else name for name in stored]
    return f"it reads {', '.join(names)} from the environment"
