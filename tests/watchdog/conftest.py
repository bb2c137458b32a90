"""A stand-in for GitHub for each file, and a fresh repository in it for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.github.desk import desk_at
from tests.watchdog.scene import Scene

from gpu_ci_sandbox.fake_github.rest import serve_github

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub


@pytest.fixture(scope="module")
def hub() -> Iterator[ServedGitHub]:
    with serve_github() as served:
        yield served


@pytest.fixture
def scene(
    hub: ServedGitHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Scene]:
    """Loopback is reached without the proxy of the machine that the tests run on."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with desk_at(hub) as desk:
        yield Scene(desk=desk, folder=tmp_path, patch=monkeypatch, capsys=capsys)
