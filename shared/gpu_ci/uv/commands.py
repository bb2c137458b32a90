"""Runs the uv that won as later steps will run it: with the same folders and nothing foreign."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Commands:
    """A uv, the environment that it gets, and the folder that it works in."""

    path: Path
    env: Mapping[str, str]
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command and keep what it says; what came of it is for the caller to look at."""
        return subprocess.run(
            [self.path, *arguments],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def show(self, *arguments: str) -> int:
        """Run a command that tells the user itself how it goes; return its exit code."""
        done = subprocess.run(
            [self.path, *arguments],
            env=self.env,
            cwd=self.folder,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return why a command failed, on one line."""
    text = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
    return text.removeprefix("error: ")[:400]
