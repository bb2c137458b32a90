"""A stop killed at every call it makes: the next one finishes what it began."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Cloud

    from gpu_ci.sandbox.faults import Phase, Request

# Every call of a stop that has to find everything itself.
CALLS = (
    "DescribeInstances",
    "GET runners",
    "GET jobs",
    "DELETE *",
    "GET *",
    "TerminateInstances",
    "GetProducts",
)


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_a_call(cloud: Cloud, call: str, phase: Phase) -> None:
    """Whatever a stop had done when it died, another with empty inputs leaves nothing."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    cloud.forget_calls()
    killed = cloud.kill_at(call, phase, signal.SIGKILL)
    assert cloud.run("stop") == -signal.SIGKILL, cloud.told()
    assert killed
    assert cloud.run("stop") == 0, cloud.told()
    assert cloud.left() == []


def test_a_cancelled_stop_goes_on(cloud: Cloud) -> None:
    """SIGINT and SIGTERM do not keep a stop from giving back what it can before the kill."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and cloud.name(request) == "DELETE *":
            cloud.kill(signal.SIGINT)
            cloud.kill(signal.SIGTERM)

    cloud.world.served.faults.on_request(hook)
    assert cloud.run("stop") == 0, cloud.told()
    assert cloud.left() == []


def test_the_calls_above_are_all(cloud: Cloud) -> None:
    """The list that the kill points come from is what a stop really does."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    cloud.forget_calls()
    assert cloud.run("stop") == 0, cloud.told()
    assert sorted(CALLS) == sorted(cloud.calls())


def test_stopping_twice_is_stopping_once(cloud: Cloud) -> None:
    """Gone is success: a second stop with the same handle is green."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    handle = cloud.output("machine")
    assert cloud.run("stop", machine=handle) == 0, cloud.told()
    assert cloud.run("stop", machine=handle) == 0, cloud.told()
    assert cloud.left() == []


def test_the_registration_goes_before_the_machine(cloud: Cloud) -> None:
    """Jobs sent to runners already stopped (pain 22): the registration is removed first."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    order: list[str] = []

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "after" and cloud.name(request) in {"DELETE *", "GET *", "TerminateInstances"}:
            order.append(cloud.name(request))

    cloud.forget_calls()
    cloud.world.served.faults.on_request(hook)
    cloud.aws.faults.on_request(hook)
    assert cloud.run("stop", machine=cloud.output("machine")) == 0, cloud.told()
    assert order == ["DELETE *", "GET *", "TerminateInstances"]
    assert len(cloud.world.served.faults.requests) <= 3
