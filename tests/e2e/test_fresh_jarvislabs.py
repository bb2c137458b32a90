"""Machines that JarvisLabs makes for one run: nothing of them is left, and none has tags."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
import requests
from tests.e2e.conftest import BOX
from tests.pace import PATIENCE

from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from tests.e2e.conftest import Box

    from gpu_ci_sandbox.faults import Phase

FRESH = {"machine_name": "", "machine": "L4"}
CALLS = ("POST generate-jitconfig", "POST add", "POST create", "GET *")


def left(box: Box) -> list[str]:
    """Return what is there besides the kept machine, of whatever kind."""
    machines = box.jarvislabs.machines()
    names = [each.name for each in machines if each.status != "Destroying"]
    return [*names, *box.jarvislabs.scripts(), *box.world.runner_names()]


def test_a_machine_for_one_run(box: Box) -> None:
    """It is made, named like its runner, and destroyed with the script that it had."""
    assert box.run("start", **FRESH) == 0, box.told()
    name = box.output("runner-name")
    assert name in left(box)
    assert box.output("label").startswith(f"{name}-")
    assert box.run("stop", machine_name="", handle=box.output("handle")) == 0, box.told()
    assert left(box) == [BOX]
    assert "is given back: billed for" in box.told()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("call", CALLS)
def test_a_start_killed_at_a_call(
    box: Box, call: str, phase: Phase, signum: signal.Signals
) -> None:
    """A stop with empty inputs finds the machine by its name, which says whose it is (pain 1)."""
    killed_at = box.kill_at(call, phase, signum)
    assert box.run("start", **FRESH) != 0, box.told()
    assert killed_at
    box.all_well_again()
    box.start_job_is_over()
    assert box.run("stop", machine_name="") == 0, box.told()
    scripts = set(box.jarvislabs.scripts()) if call == "POST add" else set()
    assert set(left(box)) - scripts == {BOX}, box.told()


def test_a_machine_whose_job_is_still_to_come_is_left(box: Box) -> None:
    """A stop that was told nothing asks the registration whose it is, and leaves it to its job."""
    assert box.run("start", **FRESH) == 0, box.told()
    box.start_job_is_over()
    box.world.served.github.queue_job(box.world.run_id, "test", [box.output("label")])
    assert box.run("stop", machine_name="") == 0, box.told()
    assert box.output("runner-name") in left(box)
    assert "asks for its label" in box.told()


def test_a_machine_whose_job_is_over_is_not_left(box: Box) -> None:
    """Its registration is gone with the job, and with it all that told of its start: other jobs of
    the run that go on are no reason to keep it."""
    assert box.run("start", **FRESH) == 0, box.told()
    (runner,) = box.world.served.github.all_runners()
    requests.delete(
        f"{box.world.served.url}/repos/{REPOSITORY}/actions/runners/{runner.id}",
        headers={"Authorization": f"Bearer {box.world.token}"},
        timeout=PATIENCE,
    ).raise_for_status()
    box.world.served.github.queue_job(box.world.run_id, "lint", ["ubuntu-latest"])
    assert box.run("stop", machine_name="") == 0, box.told()
    assert left(box) == [BOX]
