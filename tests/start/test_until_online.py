"""Waiting for runners: what is seen, what is replaced, what fails early and with which words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.fakes import World

from gpu_ci.errors import (
    BootFailed,
    CloudUnreachable,
    Forbidden,
    GpuUnusable,
    MachineEnded,
    NeverOnline,
    NoCapacity,
    RegistrationLost,
    Unreachable,
)
from gpu_ci.github.client import Job
from gpu_ci.model.machine import State
from gpu_ci.runtime.clock import Deadline
from gpu_ci.start.rental import Lease
from gpu_ci.start.until_online import (
    LOOK_SECONDS,
    MACHINE_LOOKS,
    REPLACEMENTS,
    SILENCE,
    wait_online,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.errors import StartFailed

A_LOOK_AT_THE_MACHINE = LOOK_SECONDS * MACHINE_LOOKS
BEAT = 20


def launched(**inputs: str) -> World:
    """Return a start whose machines are launched; their runners are offline still."""
    world = World.of(**inputs)
    for index in range(world.rental.plan.count):
        world.rental.launch(Lease(index=index))
    return world


def wait(world: World, told: Callable[[], None] = lambda: None) -> None:
    deadline = Deadline(world.clock.begin + world.rental.inputs.online_timeout, world.clock)
    wait_online(world.rental, deadline, told)


def failure_of(world: World, kind: type[StartFailed]) -> StartFailed:
    with pytest.raises(kind) as caught:
        wait(world)
    return caught.value


def boot(world: World, seconds: float, line: str, machine: str = "m-1") -> None:
    """Let the machine's boot script say a line then."""
    world.clock.at(seconds, lambda: world.provider.report(machine, line))


def online(world: World, seconds: float, runner_id: int = 101) -> None:
    world.clock.at(seconds, lambda: world.github.set(runner_id))


def end(world: World, machine: str) -> None:
    world.provider.states[machine] = State.GONE


def test_a_runner_that_is_online_at_once_is_not_waited_for() -> None:
    """The first look is at once."""
    world = launched()
    world.github.set(101)
    wait(world)
    assert world.clock.slept == []
    assert world.rental.leases[0].online_at == world.clock.begin


def test_a_runner_is_seen_within_one_look() -> None:
    """The last second before "online" is ours, not the user's."""
    world = launched()
    online(world, 42)
    wait(world)
    assert 42 <= world.rental.leases[0].online_at - world.clock.begin <= 42 + LOOK_SECONDS


def test_every_runner_of_a_start_is_waited_for() -> None:
    """All or none: each has its own time."""
    world = launched(count="3")
    for seconds, runner_id in ((30, 101), (10, 102), (20, 103)):
        online(world, seconds, runner_id)
    wait(world)
    times = [lease.online_at - world.clock.begin for lease in world.rental.leases]
    assert [round(time, -1) for time in times] == [30, 10, 20]


def test_phases_are_said_once_each() -> None:
    """A user sees how far the boot is."""
    world = launched()
    boot(world, 1, "phase network")
    boot(world, 12, "phase download")
    boot(world, 32, "beat download")
    online(world, 50)
    wait(world)
    said = [line for line in world.said if "launched" not in line]
    assert said == [f"{world.rental.leases[0].name}: {phase}" for phase in ("network", "download")]


def test_a_failed_boot_is_named_within_two_looks() -> None:
    """With its phase, its reason and the end of its log, long before the deadline (only a timeout
    is shown: pain 3); another machine would fail in the same way, so none is launched."""
    world = launched()
    boot(world, 9, "phase libraries")
    boot(world, 10, "failed libraries no package libicu")
    failure = failure_of(world, BootFailed)
    assert "libraries failed: no package libicu" in str(failure)
    assert failure.tail[-1].endswith("failed libraries no package libicu")
    assert world.clock.elapsed() <= 10 + 2 * A_LOOK_AT_THE_MACHINE
    assert len(world.provider.orders) == 1


def test_a_bad_gpu_is_replaced_by_another_candidate() -> None:
    """The machine is up, its GPU is not (pain 23): it is given back first, the next candidate is
    asked under a new name, and who writes the outputs is told."""
    world = launched()
    boot(world, 10, "failed gpu nvidia-smi says ERR!")
    world.clock.at(40, lambda: world.github.set(102))
    changes: list[str] = []
    wait(world, lambda: changes.append(world.rental.machines[0].id))
    first, second = world.provider.orders
    assert world.provider.journal[2:] == [
        "delete 101",
        "release m-1",
        f"register {second.tags.name}",
        f"launch {second.candidate}",
    ]
    assert first.candidate != second.candidate
    assert second.tags.name == f"{first.tags.name}r1"
    assert first.token != second.token
    assert changes == [world.rental.machines[0].id] == list(world.provider.machines)
    assert any("nvidia-smi says ERR!" in line for line in world.said)


def test_a_bad_gpu_is_replaced_twice_at_most() -> None:
    """A third bad machine means that the image or the type is wrong: money is not spent for ever
    (machine up, GPU not: pain 23)."""
    world = launched()
    for second, machine in ((10, "m-1"), (30, "m-2"), (50, "m-3")):
        boot(world, second, "failed gpu no devices were found", machine)
    failure = failure_of(world, GpuUnusable)
    assert "no devices were found" in str(failure)
    assert len(world.provider.orders) == 1 + REPLACEMENTS
    assert len({order.candidate for order in world.provider.orders}) == 1 + REPLACEMENTS


def test_a_reclaimed_machine_is_replaced() -> None:
    """A spot machine that is taken before its runner is online is nobody's fault; what it said
    before is shown when replacing it does not help."""
    world = launched()
    boot(world, 1, "phase download")
    for second, machine in ((10, "m-1"), (30, "m-2"), (50, "m-3")):
        world.clock.at(second, partial(end, world, machine))
    failure = failure_of(world, MachineEnded)
    assert "ended before its runner was online" in str(failure)
    assert any("Its last phase was download" in line for line in world.said)


def test_a_lost_registration_is_replaced() -> None:
    """Lifetimes of idle registrations are disputed: replaced, not waited for; the cure is told."""
    world = launched()
    world.clock.at(20, world.github.registered.clear)
    world.clock.at(60, lambda: world.github.set(102))
    wait(world)
    assert [machine.tags.runner_id for machine in world.rental.machines] == [102]
    assert any("set registration to token" in line for line in world.said)


def test_what_one_machine_said_is_not_said_of_the_next() -> None:
    """The phase and the log are those of the machine that did not come."""
    world = launched(online_timeout_minutes="1")
    boot(world, 1, "phase download")
    world.clock.at(20, world.github.registered.clear)
    failure = failure_of(world, NeverOnline)
    assert "It reported no phase." in str(failure)
    assert failure.tail == ()


def test_a_registration_that_is_lost_for_good_fails() -> None:
    """No more than two replacements here either."""
    world = launched()
    for lost in range(1 + REPLACEMENTS):
        world.clock.at(10 * (1 + lost), world.github.registered.clear)
    failure_of(world, RegistrationLost)
    assert len(world.provider.orders) == 1 + REPLACEMENTS


@pytest.mark.parametrize(
    ("runner", "labels", "again"),
    [
        ("its", {"the-old-label"}, False),
        ("its", {"another"}, True),
        ("another", {"the-old-label"}, True),
        ("", {"the-old-label"}, True),
    ],
)
def test_a_runner_that_has_had_its_job_was_online(
    runner: str, labels: set[str], *, again: bool
) -> None:
    """A job that already waits is taken at once, and may be over before the next look: no second
    machine is started for it (pain 6)."""
    world = launched(labels="the-old-label")
    name = world.rental.leases[0].name if runner == "its" else runner
    world.github.run_jobs = [
        Job(
            id=1,
            name="test",
            status="completed",
            conclusion="failure",
            labels=frozenset(labels),
            runner_name=name,
        )
    ]
    world.clock.at(10, world.github.registered.clear)
    if again:
        online(world, 60, 102)
    wait(world)
    assert len(world.provider.orders) == (2 if again else 1)


def test_a_replacement_without_capacity_fails() -> None:
    """What the cloud said is not swallowed."""
    world = launched()
    boot(world, 10, "failed gpu none")
    world.provider.refusals = [NoCapacity("Nothing is free.")] * 20
    with pytest.raises(NoCapacity, match=r"Nothing is free\."):
        wait(world)


def test_one_bad_machine_of_several_is_replaced_alone() -> None:
    """The others keep their runners."""
    world = launched(count="2")
    boot(world, 10, "failed gpu none", "m-2")
    online(world, 30, 101)
    online(world, 40, 103)
    wait(world)
    assert [lease.given_up for lease in world.rental.leases] == [0, 1]
    assert set(world.github.registered) == {101, 103}


def test_silence_fails_early() -> None:
    """A boot that was heard and then is not for minutes is stuck (slow first boot: pain 29)."""
    world = launched(online_timeout_minutes="30")
    for second in range(0, 240, BEAT):
        boot(world, second, "phase download" if second == 0 else "beat download")
    failure = failure_of(world, BootFailed)
    assert "nothing heard for 5 minutes. Its last phase was download." in str(failure)
    assert world.clock.elapsed() < 240 + SILENCE + 2 * A_LOOK_AT_THE_MACHINE


@pytest.mark.parametrize("skew", [0, -7200, 7200])
def test_a_slow_boot_that_is_heard_passes(skew: int) -> None:
    """Eight minutes of drivers with a beat every 20 seconds are fine (slow first boot: pain 29),
    also where the machine's clock is wrong by hours."""
    world = launched()
    world.provider.skew = skew
    for second in range(1, 480, BEAT):
        boot(world, second, "beat libraries")
    online(world, 480)
    wait(world)
    assert len(world.provider.orders) == 1


def test_a_clock_that_is_set_back_is_not_silence() -> None:
    """A machine boots in local time and then learns the right one."""
    world = launched()
    world.provider.skew = 7200
    world.clock.at(200, lambda: setattr(world.provider, "skew", 0))
    for second in range(1, 800, BEAT):
        boot(world, second, "beat libraries")
    online(world, 800)
    wait(world)
    assert len(world.provider.orders) == 1


def test_a_console_that_comes_late_is_not_silence() -> None:
    """A cloud that shows the console once in minutes says nothing about silence."""
    world = launched()
    boot(world, 5, "phase network")
    boot(world, 420, "phase libraries")
    online(world, 800)
    wait(world)
    assert len(world.provider.orders) == 1


def test_a_console_that_comes_back_empty_changes_nothing() -> None:
    """The last phase and the last tail stay known."""
    world = launched(online_timeout_minutes="2")
    boot(world, 5, "phase libraries")
    world.clock.at(60, world.provider.logs.clear)
    failure = failure_of(world, NeverOnline)
    assert "Its last phase was libraries." in str(failure)
    assert failure.tail[-1].endswith("phase libraries")


def test_no_answer_is_borne_until_the_deadline() -> None:
    """GitHub or the cloud being down for a while fails no start."""
    world = launched()
    world.github.failing["runner"] = Unreachable("GitHub is down.")
    world.provider.failing["boot_log"] = CloudUnreachable("The cloud is down.")
    world.clock.at(300, world.github.failing.clear)
    online(world, 300)
    wait(world)
    assert world.clock.elapsed() <= 300 + LOOK_SECONDS


def test_no_answer_to_the_end_is_told() -> None:
    """The last trouble is in the message."""
    world = launched(online_timeout_minutes="1")
    world.github.failing["runner"] = Unreachable("GitHub is down.")
    assert "Last trouble: GitHub is down." in str(failure_of(world, NeverOnline))


def test_a_token_without_rights_is_not_waited_with() -> None:
    """Waiting cannot help: it fails at once."""
    world = launched()
    world.github.failing["runner"] = Forbidden("Bad credentials.")
    with pytest.raises(Forbidden):
        wait(world)
    assert world.clock.slept == []


def test_a_runner_that_never_comes_names_the_last_phase_and_the_cure() -> None:
    """Not just a timeout: how far it came, the log's end, and what to change (pain 3)."""
    world = launched(online_timeout_minutes="2")
    boot(world, 5, "phase network")
    boot(world, 30, "phase download")
    failure = failure_of(world, NeverOnline)
    text = str(failure)
    assert "not online after 2 minutes. Its last phase was download." in text
    assert "raise online-timeout-minutes" in text
    assert failure.tail[-1].endswith("phase download")
    assert world.clock.elapsed() == 120


def test_a_machine_that_was_never_heard_points_at_the_network() -> None:
    """No phase at all: its access to the internet is what to check (pain 3)."""
    text = str(failure_of(launched(online_timeout_minutes="1"), NeverOnline))
    assert "It reported no phase." in text
    assert "access to the internet" in text


def test_only_those_that_did_not_come_are_named() -> None:
    """Of two machines, one is online."""
    world = launched(count="2", online_timeout_minutes="1")
    online(world, 10, 101)
    text = str(failure_of(world, NeverOnline))
    first, second = (lease.name for lease in world.rental.leases)
    assert first not in text
    assert second in text


def test_a_runner_registered_by_token_is_found_by_its_name() -> None:
    """GitHub knows it only after config.sh has run; from then on by its id."""
    world = World.of(registration="token")
    lease = Lease(index=0)
    world.rental.launch(lease)
    world.clock.at(30, lambda: world.github.set(world.github.add(lease.name, []).id, online=False))
    online(world, 60)
    wait(world)
    assert lease.runner_id == 101


def test_a_registration_that_github_does_not_know_yet_is_waited_for() -> None:
    """Right after registering a runner can be unknown for a moment: that costs no machine."""
    world = launched()
    (known,) = world.github.registered.items()
    world.github.registered.clear()
    world.clock.at(3, lambda: world.github.registered.update([known]))
    world.clock.at(4, lambda: world.github.set(known[0]))
    wait_online(world.rental, world.github.line.deadline, lambda: None)
    assert len(world.provider.orders) == 1


def test_at_the_deadline_nothing_is_replaced() -> None:
    """A machine launched then could not come up in time."""
    world = launched(online_timeout_minutes="0.1")
    world.clock.at(0.5, world.github.registered.clear)
    failure_of(world, RegistrationLost)
    assert len(world.provider.orders) == 1


def test_a_kept_machine_that_is_paused_under_its_start_is_resumed_again() -> None:
    """A stop of an older run was faster, or a person paused it (resume of a paused machine: pain 24):
    it is seen as paused, and wakes under a new registration."""
    world, keeper = World.kept()
    keeper.add("box", State.PAUSED)
    world.rental.launch(Lease(index=0))
    world.clock.at(20, lambda: keeper.set("box", State.PAUSED))
    world.clock.at(60, lambda: world.github.set(103))
    ids: list[str] = []
    wait(world, lambda: ids.append(world.rental.machines[0].id))
    assert ids == ["m-3"] == list(keeper.machines)
    assert list(world.github.registered) == [103]
    assert any("the machine was paused before its runner was online" in line for line in world.said)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.PAUSED, "was paused"),
        (State.FAILED, "failed"),
        (State.ENDING, "ended"),
        (State.GONE, "ended"),
    ],
)
def test_how_a_machine_went_away_is_told(state: State, words: str) -> None:
    """A paused machine is not said to have ended: it is there, and its disk is billed."""
    world = launched()
    world.clock.at(10, lambda: world.provider.states.update({"m-1": state}))
    online(world, 40, 102)
    wait(world)
    assert any(f"{words} before its runner was online" in line for line in world.said)


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING])
def test_a_machine_that_is_up_or_coming_up_is_not_replaced(state: State) -> None:
    """Its runner may come at any moment."""
    world = launched()
    world.provider.states["m-1"] = state
    online(world, 300)
    wait(world)
    assert len(world.provider.orders) == 1
