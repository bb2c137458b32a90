"""A start killed or cancelled at every call it makes, before the call lands and after."""

from __future__ import annotations

import re
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.pace import assert_within, until

from gpu_ci.errors import QuotaExceeded
from gpu_ci_sandbox.faults import Match, Rule, aws_error, drop, hang, land_late, lose_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Cloud

    from gpu_ci_sandbox.faults import Phase, Request

# Every call of a start whose machine boots at once; a test below holds the list complete.
CALLS = (
    "GET downloads",
    "DescribeImages",
    "POST generate-jitconfig",
    "RunInstances",
    "GetProducts",
    "GET *",
)
# What a start that has to wait asks besides.
WAITING_CALLS = ("GetConsoleOutput", "DescribeInstances")
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# The runner kills 10 s after the first signal; what must be given back is, by then, for long.
GIVEN_BACK_WITHIN = 7.0
QUOTA = QuotaExceeded.exit_code
LOOKS = 12


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_a_call(cloud: Cloud, call: str, phase: Phase, signum: signal.Signals) -> None:
    """Machine left running when start is cancelled or dies half-way (pain 1): nothing is left."""
    killed_at = cloud.kill_at(call, phase, signum)
    cloud.begin("start", gpus="0")
    _ends_with_nothing_left(cloud, signum, killed_at)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda s: s.name)
@pytest.mark.parametrize("call", WAITING_CALLS)
def test_killed_while_waiting(cloud: Cloud, call: str, signum: signal.Signals) -> None:
    """The same while the machine boots, when a start asks for its state and its log."""
    cloud.aws.settings.on_boot = None
    killed_at = cloud.kill_at(call, "before", signum)
    cloud.begin("start", gpus="0")
    _ends_with_nothing_left(cloud, signum, killed_at)


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", ["POST generate-jitconfig", "RunInstances"])
def test_killed_at_the_second_of_two(
    cloud: Cloud, call: str, phase: Phase, signum: signal.Signals
) -> None:
    """With the first machine rented and the second on its way, neither is left."""
    killed_at = cloud.kill_at(call, phase, signum, nth=2)
    cloud.begin("start", gpus="0", count="2")
    _ends_with_nothing_left(cloud, signum, killed_at)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", ["DELETE *", "TerminateInstances"])
def test_killed_while_replacing(
    cloud: Cloud, call: str, phase: Phase, signum: signal.Signals
) -> None:
    """A machine whose GPU is bad (pain 23) is just being given back for another one."""
    cloud.aws.settings.on_boot = lambda instance_id, _: cloud.aws.set_console(
        instance_id, "gpu-ci boot 1790000000 failed gpu ERR! in power\n"
    )
    killed_at = cloud.kill_at(call, phase, signum)
    cloud.begin("start")
    _ends_with_nothing_left(cloud, signum, killed_at)


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", ["DELETE *", "TerminateInstances"])
def test_killed_while_giving_back(cloud: Cloud, call: str, phase: Phase) -> None:
    """A start that failed dies in its own clean-up: a stop finds what it had not reached."""
    killed_at = _kill_a_failing_start(cloud, call, phase, signal.SIGKILL)
    _ends_with_nothing_left(cloud, signal.SIGKILL, killed_at)


@pytest.mark.parametrize("call", ["DELETE *", "TerminateInstances"])
def test_cancelled_while_giving_back(cloud: Cloud, call: str) -> None:
    """A cancel does not keep a failed start from giving back, nor hide why it failed."""
    killed_at = _kill_a_failing_start(cloud, call, "before", signal.SIGINT)
    assert cloud.zygote.wait() == QUOTA, cloud.told()
    assert killed_at
    assert cloud.left() == [], cloud.told()


def _kill_a_failing_start(
    cloud: Cloud, call: str, phase: Phase, signum: signal.Signals
) -> list[float]:
    """Begin a start that gets one of its two machines, and gives it back."""
    limit = aws_error("VcpuLimitExceeded", "limit of 4", action="RunInstances", nth=2, times=None)
    cloud.aws.faults.add(limit)
    killed_at = cloud.kill_at(call, phase, signum)
    cloud.begin("start", gpus="0", count="2")
    return killed_at


CREATES: dict[str, Callable[[Match], Rule]] = {
    "answer lost": lambda match: lose_answer(**match),
    "never arrives": lambda match: drop(**match),
    "never answered": lambda match: hang(**match),
    "lands a second late": lambda match: land_late(1.0, **match),
}


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
@pytest.mark.parametrize("what", CREATES)
@pytest.mark.parametrize("call", ["RunInstances", "POST generate-jitconfig"])
def test_cancelled_in_a_create_that_goes_wrong(
    cloud: Cloud, call: str, what: str, signum: signal.Signals
) -> None:
    """A create whose answer is lost, late or never comes (pains 1, 7, 14): found and given back."""
    # Every time: the second try of a lost create must not be what saves the day.
    match: Match = {"times": None}
    if call == "RunInstances":
        cloud.aws.faults.add(CREATES[what]({**match, "action": call}))
    else:
        cloud.world.served.faults.add(CREATES[what]({**match, "path": "generate-jitconfig"}))
    killed_at = cloud.kill_at(call, "before", signum)
    cloud.begin("start", gpus="0")
    _ends_with_nothing_left(cloud, signum, killed_at)
    if what == "lands a second late":
        _everything_has_landed(cloud)
        assert cloud.left() == [], cloud.told()


def test_the_calls_above_are_all(cloud: Cloud) -> None:
    """The list that the kill points come from is what a start really does."""
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    assert set(CALLS) == set(cloud.calls())


def test_a_start_is_cheap_for_the_rate_limit(cloud: Cloud) -> None:
    """Looking often costs nothing while nothing changes: a dozen looks, at most 6 requests."""
    cloud.aws.settings.on_boot, looks = None, list[int]()
    github = cloud.world.served.github

    def come_online(number: int, at: Phase, request: Request) -> None:
        if at == "before" and re.search(r"runners/\d+$", request.path):
            looks.append(number)
            if len(looks) == LOOKS:
                github.set_runner(github.all_runners()[0].id, online=True)

    cloud.world.served.faults.on_request(come_online)
    assert cloud.run("start", gpus="0") == 0, cloud.told()
    assert github.counted_calls <= 6
    assert len(looks) == LOOKS


def _everything_has_landed(cloud: Cloud) -> None:
    """Wait for the requests that the fault holds back."""
    faults = cloud.all_faults()
    until(
        lambda: all(
            request.landed
            for each in faults
            for request in each.requests
            if request.fault == "late"
        )
    )


def _ends_with_nothing_left(cloud: Cloud, signum: signal.Signals, killed_at: list[float]) -> None:
    code = cloud.zygote.wait()
    assert killed_at, f"the call never came\n{cloud.told()}"
    took = time.monotonic() - killed_at[0]
    if signum == signal.SIGKILL:
        assert code == -signal.SIGKILL
        _stop_with_empty_inputs(cloud)
    else:
        assert code == 128 + signum, cloud.told()
        assert_within(GIVEN_BACK_WITHIN, took)
    assert cloud.left() == [], cloud.told()


def _stop_with_empty_inputs(cloud: Cloud) -> None:
    """Run the stop of a run whose start could not say anything."""
    cloud.all_well_again()
    cloud.start_job_is_over()
    assert cloud.run("stop") == 0, cloud.told()
