"""Holds a release's tag against pyproject.toml, CHANGELOG.md and the branch main; prints its notes.

    python3 .ci/release.py check v1.2.3   exit code 1, with every problem, unless it may be released
    python3 .ci/release.py notes v1.2.3   the section of CHANGELOG.md, for the release's text

Only the standard library, and no network: the checkout must have main and the tags.
"""
# ruff: noqa: INP001 -- run by its path

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

TAG = re.compile(r"v(\d+)\.\d+\.\d+")
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def main(command: str, tag: str) -> int:
    """Do what the module's docstring says, in the repository of the working directory."""
    root = Path.cwd()
    if command == "notes":
        print(notes(root, tag))
        return 0
    found = problems(root, tag)
    for problem in found:
        print(f"::error title=release::{problem}")
    return 1 if found else 0


def problems(root: Path, tag: str) -> list[str]:
    """Return why this tag must not be released, a sentence with the cure for each."""
    if not TAG.fullmatch(tag):
        return [f"The tag {tag} is not of the form v1.2.3. Delete it, and tag with three numbers."]
    return [
        *_version_problems(root, tag),
        *_changelog_problems(root, tag),
        *_git_problems(root, tag),
    ]


def notes(root: Path, tag: str) -> str:
    """Return what CHANGELOG.md says of this version, "" if it says nothing."""
    parts = SECTION.split((root / "CHANGELOG.md").read_text())
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = (text for title, text in sections.items() if title.split(" ")[0] == tag[1:])
    return next(found, "").strip()


def _version_problems(root: Path, tag: str) -> list[str]:
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    if f"v{version}" == tag:
        return []
    return [f"pyproject.toml has version {version}, the tag is {tag}. Make them the same."]


def _changelog_problems(root: Path, tag: str) -> list[str]:
    titles = SECTION.findall((root / "CHANGELOG.md").read_text())
    released = [title for title in titles if title != "Unreleased"]
    if not released or not re.fullmatch(re.escape(tag[1:]) + r" - \d{4}-\d\d-\d\d", released[0]):
        return [f"CHANGELOG.md does not begin with '## {tag[1:]} - YYYY-MM-DD'. Date the section."]
    if not notes(root, tag):
        return [f"CHANGELOG.md says nothing of {tag}. Write what is new for a user."]
    return []


def _git_problems(root: Path, tag: str) -> list[str]:
    if not _is_ancestor(root, tag, "origin/main"):
        return [f"{tag} is not on main. Tag a commit that was merged."]
    major = tag.partition(".")[0]
    if _is_tag(root, major) and not _is_ancestor(root, major, tag):
        return [f"{major} is not behind {tag}, and never moves back. Release from a later commit."]
    return []


def _is_ancestor(root: Path, older: str, newer: str) -> bool:
    return _git(root, "merge-base", "--is-ancestor", older, newer)


def _is_tag(root: Path, name: str) -> bool:
    return _git(root, "show-ref", "--verify", "--quiet", f"refs/tags/{name}")


def _git(root: Path, *arguments: str) -> bool:
    done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, check=False)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
