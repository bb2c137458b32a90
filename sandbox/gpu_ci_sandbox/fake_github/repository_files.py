"""The files of repositories, by commit."""

from __future__ import annotations

from collections import defaultdict


class Contents:
    """The files of each repository at each commit; the newest commit is the default branch's."""

    def __init__(self) -> None:
        self._commits: dict[str, dict[str, dict[str, bytes]]] = defaultdict(dict)

    def put(self, repository: str, commit: str, path: str, text: str | bytes) -> None:
        """Add a file to a commit, next to those that it has already."""
        data = text.encode() if isinstance(text, str) else text
        self._commits[repository].setdefault(commit, {})[path] = data

    def at(self, repository: str, commit: str) -> dict[str, bytes]:
        """Return the files of a commit, "" for the newest, by their paths. Raises KeyError."""
        commits = self._commits[repository]
        return commits[commit or list(commits)[-1]] if commits else {}
