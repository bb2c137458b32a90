"""The shipped actions, cancelled as the runner cancels a step, and killed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.pace import PATIENCE, assert_within

from gpu_ci_sandbox.faults import hang

if TYPE_CHECKING:
    from gpu_ci_sandbox.action_step import Step
    from gpu_ci_sandbox.faults import Phase, Request
    from gpu_ci_sandbox.world import World

# Every call of a start on this machine.
CALLS = (r"downloads$", r"generate-jitconfig$", r"runners/\d+$")


def test_cancel_reaches_python_and_gives_everything_back(world: World) -> None:
    """Python clean-up never runs on cancel (pain 7): one SIGINT to the step's process suffices."""
    steps: list[Step] = []
    cancelled: list[float] = []

    def hook(_number: int, at: Phase, request: Request) -> None:
        if at == "after" and request.path.endswith("generate-jitconfig") and not cancelled:
            cancelled.append(time.monotonic())
            steps[0].process.send_signal(signal.SIGINT)

    world.served.faults.add(hang(path=r"runners/\d+$", method="GET", times=None))
    world.served.faults.on_request(hook)
    steps.append(world.begin("start"))
    result = steps[0].result(PATIENCE)
    assert result.exit_code == 130, result.log
    assert_within(7.0, time.monotonic() - cancelled[0])
    assert world.machines() == []
    assert world.runner_names() == []


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_killed_start_is_found_by_an_empty_stop(world: World, call: str, phase: Phase) -> None:
    """A start that was killed with -9 could say nothing (pain 1): stop with empty inputs finds it."""
    steps: list[Step] = []
    killed: list[int] = []

    def hook(number: int, at: Phase, request: Request) -> None:
        if at == phase and not killed and request in world.served.faults.calls(path=call):
            killed.append(number)
            while not steps:
                time.sleep(0.01)
            os.killpg(steps[0].process.pid, signal.SIGKILL)

    world.served.faults.on_request(hook)
    steps.append(world.begin("start"))
    assert steps[0].result(PATIENCE).exit_code == -signal.SIGKILL
    assert killed
    world.served.faults.clear()
    world.served.github.set_job(world.start_job, status="completed", conclusion="cancelled")
    stopped = world.act("stop")
    assert stopped.exit_code == 0, stopped.log
    assert world.machines() == []
    assert world.runner_names() == []


def test_no_secret_is_shown_or_passed_on(world: World) -> None:
    """Outputs arrive empty because a mask matched (pain 43); and no log shows a secret."""
    started = world.act("start")
    assert started.exit_code == 0, started.log
    assert started.dropped == ()
    assert all(started.outputs.values())
    assert world.token in started.masks
    shown = [line for line in started.log.splitlines() if not line.startswith("::add-mask::")]
    assert not any(mask in line for mask in started.masks for line in shown)


def test_bad_inputs_are_all_said_at_once(world: World) -> None:
    """Every problem at once, a paragraph each; nothing is asked of anybody, nothing rented."""
    result = world.act("start", count="many", market="cheap", gpus="-1", github_token="")
    assert result.exit_code == 2
    errors = [line for line in result.log.splitlines() if line.startswith("::error::")]
    assert len(errors) == 4, result.log
    assert "Traceback" not in result.log
    assert world.served.faults.requests == ()
    assert world.machines() == []
