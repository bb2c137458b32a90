"""A repository on disk, and a terminal that answers."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci.init import init
from gpu_ci.init.choices import Flags

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROFILES = ".github/gpu-ci.yml"
WORKFLOW = ".github/workflows/gpu.yml"


@dataclass(kw_only=True)
class Checkout:
    """A repository with the default branch `trunk`, and what the command asked and said in it."""

    root: Path
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", "-C", str(self.root), *arguments], check=True, capture_output=True)

    def put(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    def init(
        self,
        *,
        answers: list[str] | None = None,
        env: Mapping[str, str] | None = None,
        folder: Path | None = None,
        **flags: Any,
    ) -> None:
        """Run the command; `answers` are those of a terminal, in order, None for no terminal."""
        left = list(answers or [])

        def ask(question: str) -> str:
            self.asked.append(question)
            return left.pop(0)

        teller = ask if answers is not None else None
        init(Flags(**flags), folder or self.root, env or {}, teller, self.said.append)
        assert not left

    @property
    def profiles(self) -> str:
        return (self.root / PROFILES).read_text()

    @property
    def workflow(self) -> str:
        return (self.root / WORKFLOW).read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return checkout_in(tmp_path)


def checkout_in(folder: Path) -> Checkout:
    made = Checkout(root=folder / "widgets")
    made.root.mkdir(parents=True)
    made.git("init", "-q", "-b", "trunk")
    made.git("remote", "add", "origin", "https://t0ken@github.com/octo/widgets.git")
    return made
