"""What `gpu-ci init` reads from a checkout for its proposals."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

CIRUN = ".cirun.yml"


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A checkout: its root, `owner/name` ("" without a remote), default branch, test command."""

    root: Path
    name: str
    branch: str
    command: str
    cirun: bool

    @classmethod
    def around(cls, folder: Path) -> Self:
        """Look at the repository that a folder is in; at the folder itself if it is in none."""
        root = Path(_git(folder, "rev-parse", "--show-toplevel") or folder)
        return cls(
            root=root,
            name=_name(_git(root, "remote", "get-url", "origin")),
            branch=_default_branch(root),
            command=_command(root),
            cirun=(root / CIRUN).is_file(),
        )


def _git(folder: Path, *arguments: str) -> str:
    """Return git's output, "" if it fails or is not installed: every question has a fallback."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _name(remote: str) -> str:
    """Return owner/name. The rest of the address is dropped: it may hold a token."""
    found = re.search(r"[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$", remote)
    return found[1] if found else ""


def _default_branch(root: Path) -> str:
    """Return the remote's default branch if the checkout knows it, else a usual one, else this one."""
    remote = _git(root, "symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    if remote:
        return remote.removeprefix("origin/")
    for usual in ("main", "master"):
        if _git(root, "rev-parse", "--verify", "--quiet", f"refs/heads/{usual}"):
            return usual
    return _git(root, "symbolic-ref", "--short", "HEAD") or "main"


def _command(root: Path) -> str:
    """Return the command that most probably runs the GPU tests."""
    file = root / "pyproject.toml"
    if not file.is_file():
        return "uv run --with pytest pytest"
    return "uv run pytest -m gpu" if "gpu" in _markers(file) else "uv run pytest"


def _markers(file: Path) -> set[str]:
    """Return the names of pytest's markers; none if the file cannot be read as TOML."""
    try:
        tool: Any = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except (OSError, ValueError):
        return set()
    # pytest 9 reads `[tool.pytest]` as well. https://docs.pytest.org/en/stable/reference/customize.html
    tables = (tool.get("pytest", {}), tool.get("pytest", {}).get("ini_options", {}))
    lines: list[str] = []
    for markers in (table.get("markers", []) for table in tables):
        lines += markers.splitlines() if isinstance(markers, str) else map(str, markers)
    return {re.split(r"[:(]", line)[0].strip() for line in lines}
