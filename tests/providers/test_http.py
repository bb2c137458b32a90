"""The line to a cloud's JSON API: what is tried again, what never is, and what an error holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from flask import Flask, request

from gpu_ci.errors import (
    CloudError,
    CloudUnreachable,
    NoSuchMachine,
    NotPermitted,
    QuotaExceeded,
    WrongRequest,
)
from gpu_ci.providers import http
from gpu_ci.providers.http import Call, Cures, Line, Passing, Service
from gpu_ci_sandbox import faults as f
from gpu_ci_sandbox.faults import Faults
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes import FakeClock

KEY = "k3y-of-acme"
SERVICE = Service(
    title="Acme",
    root="http://127.0.0.1:9",
    key_variable="ACME_KEY",
    root_variable="ACME_URL",
    cures=Cures(
        network="Wait.", key="Another key.", owner="Or account.", funds="Pay.", machine="Look.",
        request="Correct it.",
    ),
)  # fmt: skip
POST = Call(verb="POST", path="machines", doing="make a machine", body={"name": "box"})


@pytest.fixture
def faults() -> Faults:
    """An API that says what it was asked."""
    app = Flask(__name__)

    @app.route("/<path:path>", methods=["GET", "POST", "DELETE"])
    def say(path: str) -> dict[str, object]:
        return {"path": path, "key": request.headers.get("Authorization", "")}

    return Faults(app)


@pytest.fixture
def line(faults: Faults, clock: FakeClock) -> Iterator[Line]:
    with Server(faults) as server:
        yield Line(SERVICE, {"ACME_KEY": KEY, "ACME_URL": f"{server.url}/"}, clock)


def test_the_key_is_sent_as_a_header(line: Line) -> None:
    """Also where a file of logins of the machine's would replace it."""
    assert line.get("machines", "list") == {"path": "machines", "key": f"Bearer {KEY}"}


@pytest.mark.parametrize("fault", [f.drop, f.truncate, f.garble, f.lose_answer])
def test_a_read_is_tried_again(line: Line, faults: Faults, fault: object) -> None:
    """Whatever came back that means nothing, with pauses that grow."""
    assert callable(fault)
    faults.add(fault(times=2))
    assert line.get("machines", "list the machines")
    assert len(faults.requests) == 3


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_read_ends_after_some_tries(line: Line, faults: Faults, status: int) -> None:
    """With what was asked for, and not in a hurry."""
    faults.add(f.answer(status, {"message": "later"}, times=None))
    with pytest.raises(Passing, match=f'did not list: it answered {status}, "later". Wait.'):
        line.get("machines", "list")
    assert len(faults.requests) == http.TRIES


@pytest.mark.parametrize("fault", [f.drop, f.lose_answer, f.garble])
def test_what_changes_something_is_sent_once(line: Line, faults: Faults, fault: object) -> None:
    """It may have been carried out: what came of it is to be looked at."""
    assert callable(fault)
    faults.add(fault(times=None))
    with pytest.raises(CloudUnreachable, match="Acme did not make a machine"):
        line.send(POST)
    assert len(faults.requests) == 1


def test_it_waits_as_long_as_it_is_asked_to(line: Line, faults: Faults, clock: FakeClock) -> None:
    """By Retry-After; a wait that is too long is an error at once."""
    faults.add(f.answer(429, {}, headers={"Retry-After": "7"}, times=1))
    assert line.get("machines", "list")
    assert clock.slept == [7.0]
    faults.add(f.answer(429, {}, headers={"Retry-After": "3600"}, times=1))
    with pytest.raises(Passing):
        line.get("machines", "list")
    assert clock.slept == [7.0]


@pytest.mark.parametrize(
    ("status", "error", "cure"),
    [
        (302, CloudUnreachable, "Wait."),
        (400, WrongRequest, "Correct it."),
        (401, NotPermitted, "Another key."),
        (402, QuotaExceeded, "Pay."),
        (403, NotPermitted, "Another key. Or account."),
        (404, NoSuchMachine, "Look."),
    ],
)
def test_each_status_has_its_class_and_cure(
    line: Line, faults: Faults, status: int, error: type[CloudError], cure: str
) -> None:
    """The cloud's words are quoted, without the key should they hold it."""
    faults.add(f.answer(status, {"detail": f"not with {KEY}"}))
    with pytest.raises(error) as caught:
        line.get("machines", "list")
    assert str(caught.value) == f'Acme did not list: it answered {status}, "not with ***". {cure}'
    assert len(faults.requests) == 1


def test_nobody_else_gets_the_key(line: Line, faults: Faults) -> None:
    """An answer that sends the call elsewhere is not followed."""
    faults.add(f.answer(302, "", headers={"Location": "/elsewhere"}))
    with pytest.raises(CloudUnreachable):
        line.get("machines", "list")
    assert [each.path for each in faults.requests] == ["/machines"]


def test_an_error_does_not_hold_the_key(clock: FakeClock) -> None:
    """Nor does what stands behind it: a traceback shows causes, which hold the request."""
    for env in (
        {"ACME_KEY": KEY, "ACME_URL": "http://127.0.0.1:1"},
        {"ACME_KEY": KEY, "ACME_URL": "nowhere:at/all"},
        {"ACME_KEY": f"{KEY}\n{KEY}", "ACME_URL": "http://127.0.0.1:1"},
    ):
        with pytest.raises(CloudError) as caught:
            Line(SERVICE, env, clock).send(POST)
        assert KEY not in repr(caught.value)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert KEY not in repr(Line(SERVICE, {"ACME_KEY": KEY}, clock))


def test_without_a_key_nobody_is_asked(faults: Faults, clock: FakeClock) -> None:
    """The variable is named."""
    with Server(faults) as server, pytest.raises(NotPermitted, match="ACME_KEY is not set"):
        Line(SERVICE, {"ACME_URL": server.url}, clock).send(POST)
    assert faults.requests == ()


def test_in_a_hurry_it_asks_once(line: Line, faults: Faults) -> None:
    """Whoever cancels a run waits for no second try."""
    line.hurried = True
    faults.add(f.answer(503, {}, times=None))
    with pytest.raises(Passing):
        line.get("machines", "list")
    assert len(faults.requests) == 1


def test_in_a_hurry_it_gives_up(
    line: Line, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is that hangs."""
    monkeypatch.setattr(http, "HURRY_SECONDS", 0.2)
    faults.add(f.hang(times=None))
    line.hurried = True
    with pytest.raises(CloudUnreachable, match=r"did not list within|did not list: ReadTimeout"):
        line.within_hurry(lambda: line.get("machines", "list"), "list")


def test_an_empty_answer_is_none(line: Line, faults: Faults) -> None:
    """Many a DELETE has none."""
    faults.add(f.answer(204, ""))
    assert line.send(Call(verb="DELETE", path="machines/1", doing="end it")) is None


def test_what_is_sent_is_not_shown() -> None:
    """A boot script holds a registration."""
    call = Call(verb="POST", path="x", doing="y", body={"script": "s3cret"})
    assert "s3cret" not in repr(call)
    assert json.dumps(call.body)
