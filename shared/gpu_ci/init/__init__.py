"""The order of events of `gpu-ci init`: look, ask, write two files, say what is left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_ci.errors import AlreadyThere
from gpu_ci.init.checkout import Repository
from gpu_ci.init.choices import decide
from gpu_ci.init.file_texts import PROFILES, WORKFLOW, profiles_text, workflow_text
from gpu_ci.init.next_steps import next_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gpu_ci.init.choices import Flags


def init(
    flags: Flags,
    folder: Path,
    env: Mapping[str, str],
    ask: Callable[[str], str] | None,
    say: Callable[[str], None],
) -> None:
    """Write `.github/gpu-ci.yml` and the workflow of the repository that the folder is in.

    `ask` puts a question to the terminal; it is None where there is none. Raises BadInputs for
    flags that are wrong or missing, AlreadyThere if a file exists and `force` is not set.
    """
    seen = Repository.around(folder)
    if not (flags.force or flags.dry_run):
        _refuse_to_overwrite(seen.root)
    wanted = decide(flags, seen, env, ask, say)
    texts = {PROFILES: profiles_text(wanted.profiles), WORKFLOW: workflow_text(wanted, seen.branch)}
    for name, text in texts.items():
        if flags.dry_run:
            say(f"\n# {name}\n{text}")
        else:
            _write(seen.root / name, text)
            say(f"Wrote {name}.")
    say(next_steps(wanted, seen, env.get("GPU_CI_PROGRAM", "gpu-ci")))


def _refuse_to_overwrite(root: Path) -> None:
    there = [name for name in (PROFILES, WORKFLOW) if (root / name).exists()]
    if there:
        raise AlreadyThere(
            f"{' and '.join(there)} would be overwritten, so nothing was written.",
            "Use --dry-run to see the new text, or --force to overwrite.",
        )


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
