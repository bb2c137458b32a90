"""A stand-in for GitHub for all tests of a process, new for each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.github.desk import Desk, desk_at
from tests.ledger.desk import NOON

from gpu_ci_sandbox.fake_github.rest import ServedGitHub, serve_github

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def served_github() -> Iterator[ServedGitHub]:
    with serve_github() as hub:
        yield hub


@pytest.fixture
def desk(served_github: ServedGitHub) -> Iterator[Desk]:
    with desk_at(served_github, now=NOON) as made:
        yield made
