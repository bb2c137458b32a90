"""The lock of a kept machine, under every order of events that the model world allows.

A job is never paused away, never shares the machine and always ends; and when all is over the
machine is paused and nothing of ours is registered. `benchmarks/lock_model.py` looks further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.lock_model.search import explore, walk
from tests.lock_model.state import CRASHES, Setup

from gpu_ci.kept.lock import Claim
from gpu_ci.kept.put_away import PutAway
from gpu_ci.model.machine import State
from gpu_ci.model.tags import our_label, read_label

if TYPE_CHECKING:
    from gpu_ci.github.client import Runner
    from gpu_ci.model.machine import Machine
    from gpu_ci.runtime.clock import Deadline

# What an outage does beside another run takes longer to look through, and is in the benchmark.
DEADLY = ("kill", "cancel", "lost", "late", "overslept")


def held(setup: Setup) -> None:
    """Fail with the schedule if there is one that breaks the lock."""
    found = explore(setup)
    assert not found.wrong, "\n".join([found.wrong, *found.story])
    assert found.complete


def test_two_runs_take_turns() -> None:
    """Two runs that share a machine and have no concurrency group: no job is paused away, whatever
    the order of their calls, and the machine is paused at the end (row 1.14, pain 24)."""
    held(Setup())


@pytest.mark.parametrize("handle", [False, True], ids=["by name", "by handle"])
@pytest.mark.parametrize("way_in", [False, True], ids=["restarted", "taken over"])
def test_one_run_survives_any_crash(handle: bool, way_in: bool) -> None:
    """A start or a stop may be killed, cancelled, or lose an answer at any call: a stop that is not
    killed leaves the machine paused and nothing registered."""
    held(Setup(runs=1, crashes=1, handle=handle, way_in=way_in))


def test_one_run_survives_two_crashes() -> None:
    """The same for a start and a stop that both die, or one that dies while it tidies up."""
    held(Setup(runs=1, crashes=2, kinds=CRASHES))


def test_a_stop_by_handle_survives_a_start_that_died_tidying_up() -> None:
    """A start that is cancelled, and killed while it gives the machine back, has the lock for ever;
    the stop with its handle takes it and pauses the machine."""
    held(Setup(runs=1, crashes=2, kinds=("kill", "cancel"), handle=True))


def test_a_stop_that_cannot_read_the_jobs_fails() -> None:
    """A start was killed, and whether anything needs its registration cannot be read: the stop says
    so by failing, and the next one pauses the machine."""
    held(Setup(runs=1, crashes=2, kinds=("kill", "unread")))


def test_a_stop_that_finds_the_runner_busy_for_long_fails() -> None:
    """GitHub shows a runner as busy for longer after its job than the stop waits: the stop fails,
    and the next one pauses the machine."""
    held(Setup(runs=1, crashes=1, kinds=("overslept",), long_busy=True))


def test_a_crash_beside_another_run() -> None:
    """One death or lost answer anywhere, in any order of the runs' turns between their sleeps,
    leaves the other run's job alone and the machine paused."""
    held(Setup(crashes=1, switches=0, kinds=DEADLY))


def test_a_start_that_dies_beside_another_run_with_handles() -> None:
    """The same for stops that are given what their start put out."""
    held(Setup(crashes=1, switches=0, handle=True, kinds=("kill", "cancel")))


def test_a_machine_that_a_person_started_is_left_running() -> None:
    """Runs that take over a running machine leave it as they found it (row 1.3)."""
    held(Setup(by_hand=True, way_in=True, handle=True, switches=1))


def test_no_registration_is_left_on_a_machine_that_a_person_started() -> None:
    """With a crash anywhere it may be paused, but nothing of ours is left at GitHub."""
    held(Setup(runs=1, crashes=1, by_hand=True, way_in=True, handle=True))


@pytest.mark.parametrize("seed", range(0, 300, 100))
def test_three_runs_with_crashes(seed: int) -> None:
    """Three runs and up to three crashes, in random orders that are the same each time."""
    for each in range(seed, seed + 100):
        found = walk(Setup(runs=3, crashes=3, kinds=CRASHES), each)
        assert not found.wrong, "\n".join([found.wrong, *found.story])


# What the model is worth: locks that are broken on purpose must be found out.

PAUSED_AWAY = "a pause is accepted while the job of run 2 runs on it"


def pause_without_lock(self: PutAway, deadline: Deadline) -> Machine | str:
    machine, state = self.keeper.kept(self.lock.name) or (None, State.GONE)
    if machine and state is State.RUNNING:
        self.keeper.pause(machine)
    return machine or "gone"


def pause_after_a_look(self: PutAway, deadline: Deadline) -> Machine | str:
    holder = self.lock.github.runner_named(self.lock.name)
    mark = read_label(our_label(holder.labels)) if holder else None
    if mark and mark.run_id != self.lock.claim.identity.run_id:
        return "another run has it"
    return pause_without_lock(self, deadline)


def never_held(self: Claim, holder: Runner | None) -> None:
    return None


def test_the_model_finds_a_stop_without_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run's stop that pauses what it finds running pauses the first one's job: the fault of
    workflows that always stop by name (row 1.14)."""
    monkeypatch.setattr(PutAway, "machine", pause_without_lock)
    assert explore(Setup(), wanted=PAUSED_AWAY).wrong


def test_the_model_finds_a_look_before_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """To look for another run's registration and then to pause is too late: its start may come
    between the two."""
    monkeypatch.setattr(PutAway, "machine", pause_after_a_look)
    assert explore(Setup(), wanted=PAUSED_AWAY).wrong


def test_the_model_finds_a_start_that_takes_every_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that deletes whatever registration has the name takes a machine from a run whose job
    is waiting for it."""
    monkeypatch.setattr(Claim, "held", never_held)
    assert explore(Setup(), wanted="the job of run 1 is queued for ever").wrong
