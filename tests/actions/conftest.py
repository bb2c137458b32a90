"""A world for the shipped actions: the stand-in for GitHub, a run with its jobs, this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci_sandbox.world import World, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A run whose start and stop jobs are in progress, on a repository with all rights."""
    with open_world(tmp_path) as made:
        yield made
