"""Where the actions and workflows that a file refers to lie, for a copy that act runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# `$/` and `./` are the file's own repository, at this ref where that is the user's.
SELF_REF: Final = "self"
LIBRARY: Final = re.compile(r"[\w.-]+/gpu-ci")
REFERENCE: Final = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)/(?P<path>[\w./-]+)@(?P<ref>\S+)", re.ASCII
)
WORKFLOW: Final = re.compile(r"\.github/workflows/[\w.-]+\.ya?ml")
# GitHub allows ten levels; a file that calls itself goes on for ever.
LEVELS: Final = 10


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A repository at a ref, as act gets it, and the local folder that it is read from.

    `shipped` says that it is this library.
    """

    repository: str
    ref: str
    folder: Path
    shipped: bool = False

    @classmethod
    def of_tree(cls, tree: Path) -> Origin:
        """Return the user's own repository."""
        return cls(repository=REPOSITORY, ref=SELF_REF, folder=tree)

    def spelled(self, uses: str, *own: str) -> str:
        """Return what is used, its repository written out where it begins with one of `own`."""
        if uses.startswith(own):
            return f"{self.repository}/{uses.partition('/')[2]}@{self.ref}"
        return uses


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A file or folder of a repository that can be had here."""

    origin: Origin
    path: str

    @property
    def uses(self) -> str:
        return f"{self.origin.repository}/{self.path}@{self.origin.ref}"

    @property
    def file(self) -> Path:
        return self.origin.folder / self.path


def find_action(uses: str, origin: Origin, library: Path) -> Reference | None:
    """Return one of this library's actions, None where it is something else."""
    found = _find(origin.spelled(uses, "$/"), origin, library)
    return found if found and found.origin.shipped and _is_action(found.file) else None


def _is_action(folder: Path) -> bool:
    return (folder / "action.yml").is_file()


def find_workflow(uses: str, origin: Origin, library: Path) -> Reference | None:
    """Return the workflow that a job calls: of this library, or of the user's repository."""
    found = _find(origin.spelled(uses, "$/", "./"), origin, library)
    return found if found and WORKFLOW.fullmatch(found.path) and found.file.is_file() else None


def _find(uses: str, origin: Origin, library: Path) -> Reference | None:
    match = REFERENCE.fullmatch(uses)
    if not match:
        return None
    own = (origin.repository, origin.ref) == (match["repository"], match["ref"])
    if not own and not LIBRARY.fullmatch(match["repository"]):
        return None
    found = origin if own else _library(match["repository"], match["ref"], library)
    return Reference(origin=found, path=match["path"])


def _library(repository: str, ref: str, folder: Path) -> Origin:
    return Origin(repository=repository, ref=ref, folder=folder, shipped=True)


def call_problems(job: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """Return what GitHub would refuse of a call, and act would not."""
    problems = []
    for kind, given in (("input", job.get("with")), ("secret", job.get("secrets"))):
        if given == "inherit":
            continue
        known = declared.get(f"{kind}s") or {}
        needed = {name for name, spec in known.items() if (spec or {}).get("required")}
        wrong = {"unknown": set(given or {}) - set(known), "missing": needed - set(given or {})}
        problems += [
            f"{kind} {name} is {word}" for word, names in wrong.items() for name in sorted(names)
        ]
    return problems
