"""The judge of the property tests: it blames a watchdog that is broken, and not one that is whole."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.github.desk import github_desk
from tests.watchdog.any_events import LIMITED, PickUp, Queue, Rent, StartRun, Turn
from tests.watchdog.any_world import LIMIT, AnyWorld, Meanwhile, Pass

from gpu_ci.model.machine import State
from gpu_ci.model.tags import read_name
from gpu_ci.watchdog.dead_registrations import Registrations
from gpu_ci.watchdog.idle_kept_machines import KeptMachines
from gpu_ci.watchdog.orphan_machines import Machines
from gpu_ci.watchdog.owners import Sight
from gpu_ci.watchdog.stuck_runs import RunSweep
from gpu_ci.watchdog.waits import Wait
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu_ci.github.client import Runner
    from gpu_ci.model.machine import Machine
    from gpu_ci.model.tags import Mark
    from gpu_ci.providers import Provider


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """A method of the watchdog, what stands in its place, and a world in which that matters."""

    method: tuple[type, str]
    instead: Callable[..., object]
    story: Callable[[AnyWorld], object]
    blamed: str


def pick_up(world: AnyWorld, job: int) -> list[Meanwhile]:
    """A runner takes a job just after the first act of the pass."""
    return [Meanwhile(act=1, seconds=0.5, happen=partial(PickUp(job).happen, world))]


def picked_up_late(world: AnyWorld) -> None:
    """Two jobs are late; the second is picked up while GitHub lets the first one's cancel wait."""
    Queue(0).happen(world)
    world.desk.clock.sleep(5)
    Queue(1).happen(world)
    world.desk.clock.sleep(LIMIT)
    limited = answer(403, LIMITED, headers={"Retry-After": "60"}, path="cancel$")
    world.make_pass(Pass(faults=[limited]), pick_up(world, 1))


def young(world: AnyWorld) -> None:
    """A job of an old run has been queued just now."""
    world.desk.clock.sleep(LIMIT)
    Queue(0).happen(world)
    world.make_pass(Pass())


def busy_at_last(world: AnyWorld) -> None:
    """Of two machines that are overdue the second gets a job while the first is ended."""
    Queue(1).happen(world)
    Rent(0, overdue=True).happen(world)
    Rent(1, overdue=True).happen(world)
    world.make_pass(Pass(), pick_up(world, 0))


def still_needed(world: AnyWorld) -> None:
    """A machine and its registration stand for a run that goes on."""
    Rent(0).happen(world)
    world.make_pass(Pass())


def running_for_nobody(world: AnyWorld) -> None:
    """A kept machine runs, and no run holds it."""
    Turn(0, State.RUNNING).happen(world)
    world.make_pass(Pass())


def somebody_elses(world: AnyWorld) -> None:
    """Another repository's registration stands among the organisation's."""
    Rent(0, whose="other", machine=False).happen(world)
    world.make_pass(Pass())


def released_at_once(_: Machines, provider: Provider, machine: Machine) -> str:
    provider.release(machine)
    return "released"


def paused_at_once(kept: KeptMachines, name: str) -> str:
    found = kept.keeper.kept(name)
    assert found
    kept.keeper.pause(found[0])
    return "paused"


def anybodys(_: Registrations, runner: Runner) -> Mark | None:
    return read_name(runner.name)


BREAKAGES = {
    "no second look": Breakage(
        method=(RunSweep, "_is_still_stuck"),
        instead=lambda *_: True,
        story=picked_up_late,
        blamed="cancel of run",
    ),
    "no patience": Breakage(
        method=(Wait, "is_over"), instead=lambda *_: True, story=young, blamed="cancel of run"
    ),
    "a release before the registration is gone": Breakage(
        method=(Machines, "_end"),
        instead=released_at_once,
        story=busy_at_last,
        blamed="under its job",
    ),
    "no look at the run": Breakage(
        method=(Sight, "why_over"),
        instead=lambda *_: "it is over",
        story=still_needed,
        blamed="somebody's",
    ),
    "a pause without the lock": Breakage(
        method=(KeptMachines, "_end"),
        instead=paused_at_once,
        story=running_for_nobody,
        blamed="without its lock",
    ),
    "no look at whose it is": Breakage(
        method=(Registrations, "_ours"),
        instead=anybodys,
        story=somebody_elses,
        blamed="somebody's",
    ),
}


@pytest.mark.parametrize("is_broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES.keys())
def test_a_broken_watchdog_is_blamed(
    breakage: Breakage, is_broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the property tests rely on can fail: each safeguard is missed as soon as it is gone."""
    if is_broken:
        monkeypatch.setattr(*breakage.method, breakage.instead)
    with github_desk() as desk:
        world = AnyWorld.at(desk, tmp_path, organization=True)
        StartRun().happen(world)
        StartRun().happen(world)
        breakage.story(world)
    assert any(breakage.blamed in each for each in world.wrong) == is_broken, world.wrong
    assert is_broken or not world.wrong
