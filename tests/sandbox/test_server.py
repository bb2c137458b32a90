"""The server: quick to start and to stop, and connections stay open in between."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING

import pytest
import requests
from tests.pace import PATIENCE, assert_within
from werkzeug.wrappers import Request, Response

from gpu_ci_sandbox.faults import Faults, hang
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@Request.application
def echo(request: Request) -> Response:
    if request.path == "/broken":
        raise RuntimeError("broken on purpose")
    return Response(request.get_data() or b"nothing", headers={"X-Method": request.method})


@pytest.fixture
def connection() -> Iterator[http.client.HTTPConnection]:
    with Server(echo) as server:
        made = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        yield made
        made.close()


def _ask(connection: http.client.HTTPConnection, method: str, body: str | None = None) -> bytes:
    connection.request(method, "/", body)
    return connection.getresponse().read()


def test_one_connection_serves_many_requests(connection: http.client.HTTPConnection) -> None:
    """A client that keeps its connection is answered on the same socket again and again."""
    connection.connect()
    socket = connection.sock
    assert _ask(connection, "GET") == b"nothing"
    assert _ask(connection, "POST", "some body") == b"some body"
    assert _ask(connection, "GET") == b"nothing"
    assert connection.sock is socket


def test_chunked_body(connection: http.client.HTTPConnection) -> None:
    """A body without a length arrives whole, and the connection can be used again."""
    connection.request("POST", "/", iter([b"one ", b"two"]), encode_chunked=True)
    assert connection.getresponse().read() == b"one two"
    assert _ask(connection, "GET") == b"nothing"


def test_head_and_error(connection: http.client.HTTPConnection) -> None:
    """HEAD has no body; an application that raises is a 500 and the server goes on."""
    assert _ask(connection, "HEAD") == b""
    connection.request("GET", "/broken")
    response = connection.getresponse()
    response.read()
    assert response.status == 500
    assert _ask(connection, "GET") == b"nothing"


def test_starts_and_stops_at_once_with_an_idle_connection() -> None:
    """Neither start nor stop waits for anything, an open connection of an idle client included."""
    before = time.perf_counter()
    with Server(echo) as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        assert _ask(idle, "GET") == b"nothing"
        stopping = time.perf_counter()
    stopped = time.perf_counter()
    assert_within(1.0, stopping - before)
    assert_within(1.0, stopped - stopping)
    with pytest.raises((http.client.HTTPException, OSError)):
        _ask(idle, "GET")
    idle.close()


def test_stop_does_not_wait_for_a_request_that_hangs() -> None:
    """A request that is never answered ends, for its client, when the server stops."""
    faults = Faults(echo)
    faults.add(hang())
    arrived = threading.Event()
    faults.on_request(lambda *_: arrived.set())
    failures: list[Exception] = []

    def ask() -> None:
        try:
            requests.get(url, timeout=PATIENCE)
        except requests.ConnectionError as error:
            failures.append(error)

    with Server(faults) as server:
        url = server.url
        client = threading.Thread(target=ask)
        client.start()
        assert arrived.wait(PATIENCE)
        stopping = time.perf_counter()
    client.join()
    assert_within(2.0, time.perf_counter() - stopping)
    assert failures
    assert faults.requests[0].landed is False


def test_serves_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moto's own application answers behind it, with a fault in front."""
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from gpu_ci_sandbox.faults import aws_error

    faults = Faults(DomainDispatcherApplication(create_backend_app))
    with Server(faults) as server:
        ec2 = boto3.client(
            "ec2",
            region_name="sa-east-1",  # where no other test of this process leaves anything
            endpoint_url=server.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )
        assert ec2.describe_instances()["Reservations"] == []
        faults.add(
            aws_error(
                "InsufficientInstanceCapacity",
                "no <capacity>",
                status=500,
                action="RunInstances",
                body=r"InstanceType=g5\.xlarge&.*",
            )
        )
        with pytest.raises(ClientError) as refused:
            ec2.run_instances(
                ImageId="ami-1", InstanceType="g5.xlarge", MinCount=1, MaxCount=1, DryRun=False
            )
        ec2.close()
    assert refused.value.response["Error"] == {
        "Code": "InsufficientInstanceCapacity",
        "Message": "no <capacity>",
    }
    assert [request.action for request in faults.requests] == ["DescribeInstances", "RunInstances"]
    assert [request.landed for request in faults.requests] == [True, False]
