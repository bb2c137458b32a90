"""Gives every provider's secrets to the callable workflows: run it after a provider has been added.

A secret that is missing is written below the last one that is there, in each place where a workflow
takes secrets, passes them on, or hands them to a step.
"""
# ruff: noqa: INP001 -- a script, run by its path

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "shared"))

from gpu_ci.providers import PROVIDERS  # noqa: E402 -- the path comes first

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpu_ci.providers.about import Secret

SECRETS: Final[Mapping[str, Secret]] = {
    name: secret
    for about in PROVIDERS.values()
    for name, secret in about.secrets.items()
    if secret.taken_as
}
NAMES: Final = "|".join(secret.taken_as for secret in SECRETS.values())
VARIABLES: Final = "|".join(SECRETS)
# One secret in a `secrets:` of `workflow_call`, in that of a call, and in the `env:` of a step.
TAKEN: Final = rf" +(?:{NAMES}):\n(?: +description: .*\n +required: .*\n)"
PASSED: Final = rf" +(?:{NAMES}): \$\{{\{{ secrets\.[\w-]+ \}}\}}\n"
HANDED: Final = rf" +(?:{VARIABLES}): \$\{{\{{ .*secrets\.[\w-]+ \}}\}}\n"


def complete(text: str) -> str:
    """Return a workflow's text with each secret in each place that has some of them."""
    for one, write in ((TAKEN, _taken), (PASSED, _passed), (HANDED, _handed)):
        text = re.sub(rf"(?:{one})+", partial(_filled, write), text)
    return text


def _filled(write: Callable[[str, str, Secret], str], found: re.Match[str]) -> str:
    block = found[0]
    before = block[: len(block) - len(block.lstrip(" "))]
    there = set(re.findall(rf"^{before}([\w-]+):", block, re.MULTILINE))
    missing = {n: s for n, s in SECRETS.items() if not {n, s.taken_as} & there}
    return block + "".join(write(before, name, secret) for name, secret in missing.items())


def _taken(indent: str, name: str, secret: Secret) -> str:
    title = next(about.title for about in PROVIDERS.values() if name in about.secrets)
    said = f"{indent}  description: Key of {title}.\n{indent}  required: false\n"
    return f"{indent}{secret.taken_as}:\n{said}"


def _passed(indent: str, _name: str, secret: Secret) -> str:
    return f"{indent}{secret.taken_as}: ${{{{ secrets.{secret.taken_as} }}}}\n"


def _handed(indent: str, name: str, secret: Secret) -> str:
    """What a login has set comes before what is stored, where a login can stand in for it."""
    stored = f"secrets.{secret.taken_as}"
    value = stored if secret.required else f"env.{name} || {stored}"
    return f"{indent}{name}: ${{{{ {value} }}}}\n"


def main() -> None:
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        before = path.read_text()
        after = complete(before)
        if after != before:
            path.write_text(after)
            print(f"Wrote {path.relative_to(ROOT)}.")


if __name__ == "__main__":
    main()
