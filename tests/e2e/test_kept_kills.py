"""A start and a stop of a kept machine, killed or cancelled at every call that they make."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.e2e.conftest import BOX
from tests.pace import assert_within

if TYPE_CHECKING:
    from tests.e2e.conftest import Box

    from gpu_ci_sandbox.faults import Phase

# Every call of a start that resumes its machine; a test below holds the list complete.
START_CALLS = (
    "GET downloads",
    "GET runners",
    "POST generate-jitconfig",
    "GET fetch",
    "GET *",
    "GET scripts",
    "POST add",
    "POST resume",
    "GET server_meta",
)
# Every call of a stop that has to find everything itself.
STOP_CALLS = (
    "POST generate-jitconfig",
    "GET runners",
    "GET jobs",
    "DELETE *",
    "GET fetch",
    "GET scripts",
    "GET *",
    "POST pause",
    "GET server_meta",
)
GIVEN_BACK_WITHIN = 7.0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", START_CALLS)
def test_a_start_killed_at_a_call(
    box: Box, call: str, phase: Phase, signum: signal.Signals
) -> None:
    """Machine left running when start dies half-way (pain 1): one more stop, and it is paused."""
    killed_at = box.kill_at(call, phase, signum)
    box.begin("start")
    code = box.zygote.wait()
    assert killed_at, f"the call never came\n{box.told()}"
    took = time.monotonic() - killed_at[0]
    assert code == (-signum if signum == signal.SIGKILL else 128 + signum), box.told()
    if signum != signal.SIGKILL:
        assert_within(GIVEN_BACK_WITHIN, took)
    _one_more_stop(box)


@pytest.mark.parametrize("call", ["POST resume", "GET fetch"])
def test_a_start_that_is_told_to_terminate(box: Box, call: str) -> None:
    """SIGTERM is a cancel too."""
    box.kill_at(call, "after", signal.SIGTERM)
    assert box.run("start") == 128 + signal.SIGTERM, box.told()
    _one_more_stop(box)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_start_killed_while_it_makes_the_machine(
    box: Box, phase: Phase, signum: signal.Signals
) -> None:
    """The first time there is no machine of that name yet; what lands of it is paused."""
    killed_at = box.kill_at("POST create", phase, signum)
    assert box.run("start", machine_name="new-box", machine="L4") != 0, box.told()
    assert killed_at
    _one_more_stop(box, "new-box")
    assert len(box.jarvislabs.machines()) <= 2


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_start_killed_while_it_restarts_the_machine(
    box: Box, phase: Phase, signum: signal.Signals
) -> None:
    """It was found running, and is just being paused in order to be resumed."""
    box.jarvislabs.start_by_hand(BOX)
    killed_at = box.kill_at("POST pause", phase, signum)
    assert box.run("start") != 0, box.told()
    assert killed_at
    _one_more_stop(box)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", ["POST ssh", "POST resume"])
def test_a_start_killed_while_it_wakes_a_virtual_machine(
    box: Box, call: str, phase: Phase, signum: signal.Signals
) -> None:
    """Its boot script has not gone in, so nothing on it will end anything: the stop does."""
    box.jarvislabs.add_machine("vm-box", template="vm")
    killed_at = box.kill_at(call, phase, signum)
    assert box.run("start", machine_name="vm-box") != 0, box.told()
    assert killed_at
    _one_more_stop(box, "vm-box")


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", ["DELETE *", "POST generate-jitconfig", "POST pause"])
def test_a_start_killed_while_it_gives_back(box: Box, call: str, phase: Phase) -> None:
    """A start whose runner never comes dies in its own clean-up."""
    box.jarvislabs.settings.on_running = None
    nth = 2 if call == "POST generate-jitconfig" else 1
    killed_at = box.kill_at(call, phase, signal.SIGKILL, nth)
    box.hour_passes_at("POST resume", "after")
    assert box.run("start") == -signal.SIGKILL, box.told()
    assert killed_at
    _one_more_stop(box)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_start_cancelled_while_it_waits_its_turn(box: Box, signum: signal.Signals) -> None:
    """It has nothing yet, and leaves what the other run has."""
    assert box.run("start") == 0, box.told()
    box.world.next_run()
    killed_at = box.kill_at("GET runners", "after", signum, nth=2)
    assert box.run("start") == 128 + signum, box.told()
    assert killed_at
    assert box.status() == "Running"
    assert box.world.runner_names() == [BOX]


@pytest.mark.parametrize("call", STOP_CALLS)
def test_a_stop_cancelled_at_a_call(box: Box, call: str) -> None:
    """A cancelled stop goes on: what it was told to end is billed."""
    assert box.run("start") == 0, box.told()
    box.start_job_is_over()
    killed_at = box.kill_at(call, "before", signal.SIGINT)
    assert box.run("stop") == 0, box.told()
    assert killed_at
    assert box.left() == []


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", STOP_CALLS)
def test_a_stop_killed_at_a_call(box: Box, call: str, phase: Phase) -> None:
    """Whatever a stop had done when it died, another one with only the name finishes it."""
    assert box.run("start") == 0, box.told()
    box.start_job_is_over()
    killed_at = box.kill_at(call, phase, signal.SIGKILL)
    assert box.run("stop") == -signal.SIGKILL, box.told()
    assert killed_at
    _one_more_stop(box)


def test_the_calls_above_are_all(box: Box) -> None:
    """The lists that the kill points come from are what a start and a stop really do."""
    assert box.run("start") == 0, box.told()
    assert set(box.calls()) == set(START_CALLS)
    box.forget_calls()
    box.start_job_is_over()
    assert box.run("stop") == 0, box.told()
    assert set(box.calls()) == set(STOP_CALLS)
    assert box.left() == []


def _one_more_stop(box: Box, name: str = BOX) -> None:
    box.all_well_again()
    box.start_job_is_over()
    assert box.run("stop", machine_name=name) == 0, box.told()
    assert box.left() == [], box.told()
