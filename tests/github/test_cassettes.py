"""What our client sends and understands, held as files: a change of either is seen in review."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.fakes import REPOSITORY
from tests.github.desk import Desk, github_desk
from tests.github.record_cassettes import API, CALLS, SECRET, recorder, recording
from vcr.errors import CannotOverwriteExistingCassetteException

if TYPE_CHECKING:
    from collections.abc import Iterator

CASSETTES = Path(__file__).parents[1] / "cassettes"
RECORD = os.environ.get("GPU_CI_RECORD_CASSETTES") == "1"
# A value of such a kind is as long as real ones; shorter ones are examples.
SECRETS = re.compile(
    r"gh[pousr]_\w{24,}|github_pat_\w{24,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{40,}"
    r"|BEGIN [A-Z ]*PRIVATE KEY"
)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with github_desk(now=time.time()) as made:  # by which an App dates its assertion
        yield made


@pytest.mark.skipif(RECORD, reason="they are being recorded")
@pytest.mark.parametrize("name", CALLS)
def test_replay(desk: Desk, name: str) -> None:
    """Each call sends exactly what was recorded, all of it, and makes of the answers what it did."""
    call = CALLS[name]
    with recorder().use_cassette(CASSETTES / f"{name}.yaml") as cassette:
        assert call.connect_and_ask(desk, API, "a-token") == call.gives
        assert cassette.all_played
    assert desk.calls() == []


@pytest.mark.parametrize("name", CALLS)
def test_recorded_anew(desk: Desk, name: str, tmp_path: Path) -> None:
    """The files are what the client and the stand-in say today."""
    path = (CASSETTES if RECORD else tmp_path) / f"{name}.yaml"
    path.unlink(missing_ok=True)
    call = CALLS[name]
    call.before(desk)
    with recording(path, desk.hub.url):
        call.connect_and_ask(desk, desk.hub.url)
    assert path.read_text() == (CASSETTES / path.name).read_text(), "see cassettes/README.md"


def test_no_file_without_a_call() -> None:
    """Every file belongs to a call."""
    assert {path.stem for path in CASSETTES.glob("*.yaml")} == set(CALLS)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "another"},
        {"labels": ["gpu-ci-7-1-x-nonce", "self-hosted"]},
        {"group_id": 2},
    ],
)
def test_another_request_does_not_match(desk: Desk, changed: dict[str, object]) -> None:
    """A replay fails when the body is another one: what is matched is matched exactly."""
    asked = {"name": "gpu-ci-7-1-x", "labels": ["gpu-ci-7-1-x-nonce"], "group_id": 1}
    cassette = recorder().use_cassette(CASSETTES / "register.yaml")
    with cassette, pytest.raises(CannotOverwriteExistingCassetteException):
        desk.client("a-token", api_url=API).register(**(asked | changed))  # type: ignore[arg-type]  # by name


def test_nothing_is_authorized_in_files() -> None:
    """No file holds a credential of a request, or a config or token of an answer."""
    for path in CASSETTES.glob("*.yaml"):
        text = path.read_text()
        assert "uthorization" not in text
        assert "127.0.0.1" not in text
        for value in re.findall(r'"(?:encoded_jit_config|token)\\?": ?\\?"([^"\\]*)', text):
            assert value == SECRET
    answers = yaml.safe_load((CASSETTES / "register.yaml").read_text())["interactions"]
    assert SECRET in answers[0]["response"]["body"]["string"]


def leaks(folder: Path) -> list[str]:
    """Return the files below a folder that hold something that looks like a secret."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [str(path) for path in files if SECRETS.search(path.read_text(errors="replace"))]


def test_no_secret_in_tests() -> None:
    """No test and no recorded answer holds anything like a real credential (pain 50)."""
    assert leaks(Path(__file__).parents[1]) == []


@pytest.mark.parametrize(
    "planted",
    [
        "ghp" + "_" + "a1" * 18,
        "ghs" + "_77_" + "b2" * 30,
        "github" + "_pat_" + "c3" * 36,
        "AKI" + "AIOSFODNN7EXAMPLE",
        "ey" + "JhbGciOiJSUzI1NiJ9" + "d4" * 20,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
    ],
)
def test_planted_secret_is_found(tmp_path: Path, planted: str) -> None:
    """The search finds each kind of secret, wherever it stands in a file (pain 50)."""
    folder = tmp_path / "below"
    folder.mkdir()
    (folder / "x.yaml").write_text(f'body: \'{{"a": "{planted}"}}\'\n')
    assert leaks(tmp_path) == [str(folder / "x.yaml")]


def test_planted_secret_is_taken_out(desk: Desk, tmp_path: Path) -> None:
    """What the recorder is for: the token, the config and the runner's key do not get into a file."""
    path = tmp_path / "x.yaml"
    with recording(path, desk.hub.url):
        _, config = desk.client().register("r", ["x"])
        token = desk.client().registration("r", ["x"], "").token
    [runner] = desk.state.all_runners()
    written = path.read_text()
    assert REPOSITORY in written
    assert not [
        secret for secret in (desk.admin, config, token, runner.secret) if secret in written
    ]
