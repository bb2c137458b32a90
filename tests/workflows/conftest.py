"""GitHub's own parser and evaluator, one process for all tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.workflows.official import Official, open_official

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def official() -> Iterator[Official]:
    with open_official() as official:
        yield official
