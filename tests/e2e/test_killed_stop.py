"""A stop killed at every call it makes: the next one finishes what it began."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.pace import assert_within

from gpu_ci_sandbox.faults import answer, hang

if TYPE_CHECKING:
    from tests.e2e.conftest import Cloud

    from gpu_ci_sandbox.faults import Phase, Request

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
# Asked for a second time once all is given back: when the jobs ran.
TIMES = "GET jobs"
# Asked for a second time before the machine is ended: whether it is over already.
STATE = "DescribeInstances"


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
    assert sorted((*CALLS, TIMES, STATE)) == sorted(cloud.calls())


@pytest.mark.parametrize("phase", ["before", "after"])
def test_killed_over_its_bill(cloud: Cloud, phase: Phase) -> None:
    """When times are asked for nothing is left any more."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    cloud.start_job_is_over()
    killed = cloud.kill_at(TIMES, phase, signal.SIGKILL, nth=2)
    assert cloud.run("stop") == -signal.SIGKILL, cloud.told()
    assert killed
    assert cloud.left() == []


@pytest.mark.parametrize("trouble", ["silence", "error"])
def test_a_bill_that_cannot_be_looked_up_holds_nothing_up(cloud: Cloud, trouble: str) -> None:
    """GitHub answers no more once the machine is gone: the stop is green within seconds, says what
    it does not know, and tells the rest."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    rule = hang if trouble == "silence" else partial(answer, 502, "bad gateway")
    cloud.world.served.faults.add(rule(path="attempts/1/jobs", times=None))
    began = time.monotonic()
    assert cloud.run("stop", handle=cloud.output("handle")) == 0, cloud.told()
    assert_within(10.0, time.monotonic() - began)
    assert cloud.left() == []
    assert "What the time was for is not known." in cloud.summary()
    assert (cloud.output("work-seconds"), cloud.output("hosted-minutes")) == ("", "")
    assert cloud.output("cost").endswith(" USD")


def test_stopping_twice_is_stopping_once(cloud: Cloud) -> None:
    """Gone is success: a second stop with the same handle is green."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    handle = cloud.output("handle")
    assert cloud.run("stop", handle=handle) == 0, cloud.told()
    assert cloud.run("stop", handle=handle) == 0, cloud.told()
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
    assert cloud.run("stop", handle=cloud.output("handle")) == 0, cloud.told()
    assert order == ["DELETE *", "GET *", "TerminateInstances"]
    assert len(cloud.world.served.faults.requests) <= 3
