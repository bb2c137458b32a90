"""The fault layer: each fault does what it says, to the requests that it is for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import requests
from tests.pace import PATIENCE, until
from werkzeug.wrappers import Request, Response

from gpu_ci_sandbox import faults as f
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class World:
    """A served application that counts what reaches it."""

    faults: f.Faults
    landed: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    url: str = ""

    def get(self, path: str = "/thing") -> requests.Response:
        return requests.get(self.url + path, timeout=10)

    def wait_for(self, path: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: path in self.landed, PATIENCE)


@pytest.fixture
def world() -> Iterator[World]:
    @Request.application
    def application(request: Request) -> Response:
        with made.changed:
            made.landed.append(request.path)
            made.changed.notify_all()
        return Response('{"answer": "forty-two"}', content_type="application/json")

    made = World(f.Faults(application))
    with Server(made.faults) as server:
        made.url = server.url
        yield made


def test_answer(world: World) -> None:
    """The stand-in answer is sent and the application sees nothing."""
    world.faults.add(f.answer(503, {"message": "no"}, headers={"Retry-After": "7"}))
    response = world.get()
    assert (response.status_code, response.json()) == (503, {"message": "no"})
    assert response.headers["Retry-After"] == "7"
    assert world.landed == []
    assert world.get().status_code == 200


def test_drop_before_the_application(world: World) -> None:
    """The connection is cut and nothing happened."""
    world.faults.add(f.drop())
    with pytest.raises(requests.ConnectionError):
        world.get()
    assert world.landed == []
    assert world.faults.requests[0].fault == "drop"


def test_lost_answer(world: World) -> None:
    """The application did it, the client is not told (lost answer to a create call, pain 14)."""
    world.faults.add(f.lose_answer())
    with pytest.raises(requests.ConnectionError):
        world.get()
    assert world.landed == ["/thing"]
    logged = world.faults.requests[0]
    assert (logged.landed, logged.status) == (True, None)


def test_delays(world: World) -> None:
    """The delay before comes before the application, the delay after behind it."""
    seen: list[float] = []
    world.faults.add(f.delay(before=0.05, after=0.05))
    begun = time.perf_counter()

    def wait() -> None:
        assert world.wait_for("/thing")
        seen.append(time.perf_counter() - begun)

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert world.get().status_code == 200
    waiter.join()
    assert time.perf_counter() - begun >= 0.1
    assert seen[0] >= 0.05


def test_truncated_answer(world: World) -> None:
    """Half of the body comes, then the connection ends."""
    world.faults.add(f.truncate())
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        world.get()
    assert world.landed == ["/thing"]


def test_broken_json(world: World) -> None:
    """A whole HTTP answer whose JSON is broken."""
    world.faults.add(f.garble())
    response = world.get()
    assert response.status_code == 200
    with pytest.raises(requests.exceptions.JSONDecodeError):
        response.json()


def test_late_landing(world: World) -> None:
    """The client is cut off now, and the application processes the request afterwards."""
    landed: list[bool] = []

    def hook(_number: int, phase: f.Phase, request: f.Request) -> None:
        if phase == "after":
            landed.append(request.landed)

    world.faults.on_request(hook)
    world.faults.add(f.land_late(0.2))
    with pytest.raises(requests.ConnectionError):
        world.get()
    assert world.wait_for("/thing")
    until(lambda: landed == [False, True])
    assert world.faults.requests[0].landed is True


def test_nth_and_times(world: World) -> None:
    """The rule passes over the first matches and then acts so many times."""
    world.faults.add(f.answer(500, nth=2, times=2))
    assert [world.get().status_code for _ in range(4)] == [200, 500, 500, 200]


def test_for_ever(world: World) -> None:
    """Without an end the rule acts on all that follow."""
    world.faults.add(f.answer(500, times=None))
    assert {world.get().status_code for _ in range(4)} == {500}


def test_matching(world: World) -> None:
    """Method, path and query, body as sent or decoded, and Action must all fit."""
    rule = f.answer(
        500, method="POST", path=r"^/a\?x=1$", body=r"Zone=us-east-1a", action="Run", times=None
    )
    world.faults.add(rule)

    def post(path: str, body: str) -> int:
        return requests.post(world.url + path, data=body, timeout=10).status_code

    assert post("/a?x=1", "Action=Run&Zone=us%2Deast%2D1a") == 500
    assert post("/a?x=2", "Action=Run&Zone=us-east-1a") == 200
    assert post("/a?x=1", "Action=Run&Zone=us-east-1b") == 200
    assert post("/a?x=1", "Action=Stop&Zone=us-east-1a") == 200
    assert world.get("/a?x=1").status_code == 200


def test_the_first_rule_that_fires_wins(world: World) -> None:
    """Rules are asked in order; one that has run out lets the next one act."""
    world.faults.add(f.answer(500), f.answer(502, times=None))
    assert [world.get().status_code for _ in range(2)] == [500, 502]


def test_hooks_surround_the_application(world: World) -> None:
    """A hook runs before the application has seen the request and again after, with the status."""
    seen: list[tuple[int, f.Phase, int | None, int]] = []
    world.faults.on_request(
        lambda number, phase, request: seen.append(
            (number, phase, request.status, len(world.landed))
        )
    )
    world.get()
    assert seen == [(1, "before", None, 0), (1, "after", 200, 1)]


def test_log_has_no_secret(world: World) -> None:
    """The log holds what was asked, never who asked."""
    requests.post(
        f"{world.url}/a?b=c",
        data="Action=Do&X=1",
        headers={"Authorization": "Bearer hush-hush", "X-Amz-Security-Token": "hush-hush"},
        timeout=10,
    )
    logged = world.faults.requests[0]
    assert (logged.number, logged.method, logged.target) == (1, "POST", "/a?b=c")
    assert (logged.action, logged.form["X"], logged.status) == ("Do", "1", 200)
    assert "hush-hush" not in repr(logged)
    assert "hush-hush" not in requests.get(f"{world.url}/_sandbox/requests", timeout=10).text


def test_control_over_http(world: World) -> None:
    """Another process can set, read and clear the rules and read the log."""
    control = f"{world.url}/_sandbox/faults"
    posted = requests.post(control, json={"do": "answer", "status": 418}, timeout=10)
    assert posted.json()[0]["status"] == 418
    assert world.get().status_code == 418
    assert requests.get(control, timeout=10).json()[0]["hits"] == 1
    assert requests.delete(control, timeout=10).json() == []
    log = requests.get(f"{world.url}/_sandbox/requests", timeout=10).json()
    assert [(each["path"], each["status"], each["fault"]) for each in log] == [
        ("/thing", 418, "answer")
    ]


@pytest.mark.parametrize(
    "posted",
    [{"do": "explode"}, {"status": 500}, {"do": "drop", "pat": "x"}, {"do": "drop", "path": "("}],
)
def test_control_refuses_what_is_no_rule(world: World, posted: dict[str, object]) -> None:
    """A misspelt rule is refused rather than never firing."""
    response = requests.post(f"{world.url}/_sandbox/faults", json=posted, timeout=10)
    assert response.status_code == 422
    assert world.faults.rules() == []
