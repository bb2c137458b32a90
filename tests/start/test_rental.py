"""What a start makes, step by step, and that all of it is given back once."""

from __future__ import annotations

import signal
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest
from tests.fakes import World

from gpu_ci.errors import (
    CloudUnreachable,
    Conflict,
    GpuCiError,
    InUse,
    MachineEnded,
    NoCapacity,
    NoSuchMachine,
    QuotaExceeded,
    RegistrationLost,
    Unreachable,
    WrongHere,
)
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate
from gpu_ci.runtime.signals import BUDGET, Cancelled
from gpu_ci.start.rental import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fakes import FakeKeeper


def asked(world: World) -> list[str]:
    """Return the candidates that the provider was asked for."""
    return [str(order.candidate) for order in world.provider.orders]


def test_zones_are_tried_after_the_clouds_own_choice() -> None:
    """No capacity where the cloud looked (pain 8): each zone that may have it comes before the
    next region."""
    world = World.of(machine="big")
    world.provider.refusals = [NoCapacity("none"), NoCapacity("none")]
    world.rental.launch(Lease(index=0))
    assert asked(world) == ["big here on-demand", "big here-a on-demand", "big there on-demand"]


def test_what_is_not_sold_here_has_no_zones_to_try() -> None:
    """A type that a region does not sell is not asked for in each of its zones."""
    world = World.of(machine="big")
    world.provider.refusals = [WrongHere("not here")]
    world.rental.launch(Lease(index=0))
    assert asked(world) == ["big here on-demand", "big there on-demand"]


def test_a_quota_ends_the_search() -> None:
    """Another place of the same account has the same quota (pain 30)."""
    world = World.of()
    world.provider.refusals = [QuotaExceeded("limit 0")]
    with pytest.raises(QuotaExceeded):
        world.rental.launch(Lease(index=0))
    assert len(asked(world)) == 1


def test_all_refused_names_every_try() -> None:
    """The message of the last resort is the table of what was tried."""
    world = World.of(machine="big", region="here/b")
    world.provider.refusals = [NoCapacity("nothing free")]
    with pytest.raises(NoCapacity, match=r"big b on-demand: nothing free\. Name more"):
        world.rental.launch(Lease(index=0))


def test_a_taken_name_leads_to_the_next() -> None:
    """A killed start of the same job left its registration: the name differs, nothing is deleted."""
    world = World.of()
    taken = world.github.add(world.rental.plan.identity.name(0), ["another-label"])
    machine = world.rental.launch(Lease(index=0))
    assert machine.name == world.rental.plan.identity.name(0, 1)
    assert taken.id in world.github.registered


def test_names_run_out_in_words() -> None:
    """Not for ever: a key that many starts share is told."""
    world = World.of()
    for replacement in range(9):
        world.github.add(world.rental.plan.identity.name(0, replacement), ["another-label"])
    with pytest.raises(Conflict, match="set the input key"):
        world.rental.launch(Lease(index=0))


def test_a_replacement_begins_behind_the_zone_that_failed() -> None:
    """Also when the machine came from a zone that the plan does not name."""
    world = World.of(machine="big")
    world.provider.refusals = [NoCapacity("none")]
    lease = Lease(index=0)
    world.rental.launch(lease)
    assert lease.candidate == Candidate(type="big", region="here", zone="here-a")
    world.rental.replace(lease)
    assert asked(world)[-1] == "big there on-demand"
    assert len(world.provider.machines) == 1
    assert len(world.github.registered) == 1


@pytest.mark.parametrize("error", [Cancelled(signal.SIGINT), QuotaExceeded("limit"), KeyError("x")])
def test_any_exception_gives_everything_back(error: BaseException) -> None:
    """Expected or not, and a cancel: nothing is left, and the error goes on."""
    world = World.of(count="2")
    with pytest.raises(type(error)), world.rental as rental:
        rental.launch(Lease(index=0))
        rental.launch(Lease(index=1))
        raise error
    assert world.provider.machines == {}
    assert world.github.registered == {}
    assert world.provider.hurried == isinstance(error, Cancelled)
    assert world.said[-1] == "Given back: 2 machine(s), 2 registration(s)."


def test_settling_twice_is_settling_once() -> None:
    """The second net, for a signal between two instructions, repeats nothing."""
    world = World.of()
    world.rental.launch(Lease(index=0))
    world.rental.settle(QuotaExceeded("limit"))
    before = list(world.provider.journal)
    world.rental.settle(Cancelled(signal.SIGINT))
    assert world.provider.journal == before


def test_a_create_without_an_answer_is_searched_for() -> None:
    """Lost answer to a create call (pain 14): what landed is found by its name and given back."""
    world = World.of()
    world.provider.failing["launch"] = CloudUnreachable("no answer")
    lease = Lease(index=0)
    with pytest.raises(CloudUnreachable), world.rental as rental:
        world.clock.at(3, partial(_land, world, lease))
        rental.launch(lease)
    assert "release m-1" in world.provider.journal
    assert world.provider.machines == {}
    assert world.github.registered == {}


@pytest.mark.parametrize("call", ["register", "launch"])
def test_a_signal_during_a_create_waits_for_the_answer(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What was made is known by its id then (lost answer: pain 14): a cancelled start has seconds,
    and spends none on a search."""
    world = World.of()
    holder = world.github if call == "register" else world.provider
    create = getattr(holder, call)

    def answered_late(*asked: object) -> object:
        answer = create(*asked)
        signal.raise_signal(signal.SIGINT)
        return answer

    monkeypatch.setattr(holder, call, answered_late)
    cancellation = world.rental.cancellation
    with pytest.raises(Cancelled), cancellation, world.rental as rental:
        rental.launch(Lease(index=0))
    made = ["delete 101", "release m-1"] if call == "launch" else ["delete 101"]
    assert sorted(world.provider.journal[-len(made) :]) == made
    assert not [entry for entry in world.provider.journal if entry.startswith(("find", "look"))]
    assert world.provider.machines == {}
    assert world.github.registered == {}


def test_a_create_that_was_refused_is_not_searched_for() -> None:
    """A definite refusal made nothing: no time is spent on looking."""
    world = World.of()
    world.provider.refusals = [QuotaExceeded("limit")]
    with pytest.raises(QuotaExceeded), world.rental as rental:
        rental.launch(Lease(index=0))
    assert not [entry for entry in world.provider.journal if entry.startswith("find")]
    assert world.clock.elapsed() == 0


def test_a_registration_without_an_answer_is_looked_for() -> None:
    """Lost answer to a registration (pain 14): what it made is found by its name and removed."""
    world = World.of()
    name = world.rental.plan.identity.name(0)
    world.github.failing["register"] = Unreachable("no answer")
    with pytest.raises(Unreachable), world.rental as rental:
        world.github.add(name, [rental.plan.label(name)])
        rental.launch(Lease(index=0))
    assert world.github.registered == {}
    assert world.provider.orders == []


def test_what_cannot_be_given_back_is_a_note_on_the_error() -> None:
    """The user reads both: why it failed, and what is left with where to look."""
    world = World.of()
    world.provider.failing["release"] = CloudUnreachable("the cloud is down")
    with pytest.raises(QuotaExceeded) as caught, world.rental as rental:
        rental.launch(Lease(index=0))
        raise QuotaExceeded("limit")
    (note,) = caught.value.__notes__
    assert "m-1" in note
    assert "the cloud is down" in note
    assert world.github.registered == {}


def test_the_machine_is_told_who_it_is_in_the_create_call() -> None:
    """Tags go into the create call, so that a killed start's machine is found by them (pain 1)."""
    world = World.of()
    lease = Lease(index=0)
    world.rental.launch(lease)
    tags = world.provider.orders[0].tags
    assert (tags.run_id, tags.key, tags.runner_id) == ("7", "start", lease.runner_id)
    assert tags.label == lease.label
    assert tags.expires_at == int(world.clock.now() + 360 * 60)


def _land(world: World, lease: Lease) -> None:
    assert lease.ordering is not None
    world.provider.land(lease.ordering)


def kept(state: State | None = State.PAUSED, **inputs: str) -> tuple[World, FakeKeeper]:
    """Return a start of the machine `box`, which is in this state, or absent."""
    world, keeper = World.kept(**inputs)
    if state:
        keeper.add("box", state)
    return world, keeper


def asked_for(world: World) -> list[str]:
    """Return what was asked of the cloud and of GitHub, without the looks."""
    return [entry for entry in world.provider.journal if not entry.startswith("look")]


def state_of(keeper: FakeKeeper) -> State:
    found = keeper.kept("box")
    return found[1] if found else State.GONE


def held_by(world: World, run_id: str, *, busy: bool = False) -> int:
    """Let a start of a run have the machine's lock."""
    holder = replace(world.rental.plan.identity, run_id=run_id, key="theirs", starter="12")
    runner = world.github.add("box", [holder.label(holder.name(0), "0badcafe")])
    world.github.set(runner.id, busy=busy)
    return runner.id


def test_a_kept_machine_is_locked_and_then_resumed() -> None:
    """The registration has the machine's name, and this start's own label; the machine learns both
    by the boot script's order, and that it is to stay."""
    world, keeper = kept(labels="gpu")
    lease = Lease(index=0)
    machine = world.rental.launch(lease)
    assert asked_for(world) == ["register box", "resume m-1 as on-demand"]
    (runner,) = world.github.registered.values()
    own_name = world.rental.plan.identity.name(0)
    assert runner.labels == {world.rental.plan.label(own_name), "gpu"}
    (order,) = keeper.orders
    assert (order.kept, order.tags.name, order.tags.runner_id) == (True, "box", runner.id)
    assert order.tags.label == lease.label == machine.tags.label
    assert (machine.kept, machine.started, machine.name) == (True, True, "box")
    assert world.said == ["on-demand: resumed"]


def test_a_kept_machine_that_is_absent_is_created_like_any_other() -> None:
    """By candidates and their zones (no capacity: pain 8), under its own name and its lock."""
    world, keeper = kept(None, machine="big")
    keeper.refusals = [NoCapacity("none")]
    machine = world.rental.launch(Lease(index=0))
    assert asked(world) == ["big here on-demand", "big here-a on-demand"]
    assert (machine.name, machine.kept) == ("box", True)
    assert [order.kept for order in keeper.orders] == [True, True]


def test_a_kept_machine_is_never_called_by_another_name() -> None:
    """A taken name is waited for, and not replaced by the next one."""
    world, _ = kept()
    other = held_by(world, "8")
    world.clock.at(30, partial(world.github.delete, other))
    assert world.rental.launch(Lease(index=0)).name == "box"
    assert world.said[0] == "box is in use: run 8 holds it. Waiting for it."


def failed_start(world: World, error: BaseException | None = None) -> BaseException:
    """Launch, then fail with the error; return what came out of it."""
    with pytest.raises((GpuCiError, Cancelled, KeyError)) as caught, world.rental as rental:
        rental.launch(Lease(index=0))
        raise error or KeyError("the start went on")
    return caught.value


@pytest.mark.parametrize("busy", [False, True])
def test_a_start_that_never_had_the_lock_gives_nothing_back(*, busy: bool) -> None:
    """Another run has the machine until the deadline: its registration and its machine are left,
    and why is said (resume of a paused machine: pain 24)."""
    world, keeper = kept(State.RUNNING)
    other = held_by(world, "8", busy=busy)
    error = failed_start(world)
    assert isinstance(error, InUse)
    assert list(world.github.registered) == [other]
    assert state_of(keeper) is State.RUNNING
    assert asked_for(world) == ["register box"]
    why = "run 8 is running a job on it" if busy else "run 8 holds it"
    assert world.said[-1] == f"Given back: 0 machine(s), 0 registration(s). box: {why}."
    assert not world.rental.left


def test_a_lock_whose_answer_was_lost_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands: it is recognised as this very start's, taken, and let go (pain 14)."""
    world, _ = kept()

    def lose_answer(name: str, labels: Sequence[str], _group_id: int) -> NoReturn:
        monkeypatch.undo()
        world.github.add(name, labels)
        raise Unreachable("no answer")

    monkeypatch.setattr(world.github, "register", lose_answer)
    assert isinstance(failed_start(world), Unreachable)
    assert world.github.registered == {}
    assert asked_for(world) == ["register box", "delete 101", "register box", "delete 102"]


@pytest.mark.parametrize(
    ("state", "refusal", "kind"),
    [
        (None, None, NoSuchMachine),
        (State.FAILED, None, MachineEnded),
        (State.PAUSED, QuotaExceeded("limit"), QuotaExceeded),
        (State.PAUSED, KeyError("a bug"), KeyError),
    ],
)
def test_a_start_that_fails_under_the_lock_lets_it_go(
    state: State | None, refusal: Exception | None, kind: type[Exception]
) -> None:
    """Before anything was resumed: the lock goes; a machine that is paused is not paused again."""
    world, keeper = kept(state)
    keeper.refusals = [refusal] if refusal else []
    assert isinstance(failed_start(world), kind)
    assert world.github.registered == {}
    assert ("pause box" in asked_for(world)) is (state is State.FAILED)


def test_a_start_whose_machine_stays_on_its_way_says_that_it_is_billed() -> None:
    """Nobody knows what becomes of it: the error has a note with where to look, and the lock is
    free for the next run."""
    world, _ = kept(State.PENDING)
    error = failed_start(world)
    assert isinstance(error, MachineEnded)
    (note,) = error.__notes__
    assert "box was on its way to another state until the deadline" in note
    assert world.rental.left
    assert world.github.registered == {}


@pytest.mark.parametrize("takes", [0, 300])
def test_a_resume_without_an_answer_is_paused_when_it_lands(takes: int) -> None:
    """Lost answer to a resume (pain 14): the machine looks paused for seconds more, wakes for
    minutes, and can be paused when it is up."""
    world, keeper = kept()
    keeper.failing["resume"] = CloudUnreachable("no answer")
    world.clock.at(4, lambda: keeper.set("box", State.PENDING))
    world.clock.at(4 + takes, lambda: keeper.set("box", State.RUNNING))
    assert isinstance(failed_start(world), CloudUnreachable)
    assert state_of(keeper) is State.PAUSED
    assert "pause box" in asked_for(world)
    assert world.github.registered == {}


def test_a_create_of_a_kept_machine_without_an_answer_is_paused_when_it_lands() -> None:
    """The same when it is made (pain 14): it is paused rather than ended, as it is to be kept."""
    world, keeper = kept(None, machine="big")
    keeper.failing["launch"] = CloudUnreachable("no answer")
    world.clock.at(3, lambda: keeper.add("box", State.RUNNING))
    assert isinstance(failed_start(world), CloudUnreachable)
    assert state_of(keeper) is State.PAUSED


@pytest.mark.parametrize("error", [QuotaExceeded("limit"), KeyError("x")])
@pytest.mark.parametrize("state", [State.PAUSED, State.RUNNING])
def test_a_failure_after_the_resume_pauses_the_machine(error: BaseException, state: State) -> None:
    """Whatever fails, and also where a running machine of ours was taken over: the runner is
    removed first, then the machine is paused under the lock."""
    world, keeper = kept(state)
    assert failed_start(world, error) is error
    assert state_of(keeper) is State.PAUSED
    assert asked_for(world)[-4:] == ["delete 101", "register box", "pause box", "delete 102"]
    assert world.said[-1] == "Given back: 1 machine(s), 0 registration(s)."


def test_a_cancel_after_the_resume_pauses_the_machine_in_a_hurry() -> None:
    """A cancelled process has seconds: the pause is asked for, nothing is waited for (pain 1)."""
    world, keeper = kept()
    failed_start(world, Cancelled(signal.SIGINT))
    assert keeper.hurried
    assert state_of(keeper) is State.PAUSED
    assert world.github.registered == {}
    assert world.clock.slept == []


def test_a_cancel_never_outlasts_its_budget() -> None:
    """A machine that stays on its way is told, and not waited for: the lock goes all the same."""
    world, keeper = kept()
    keeper.failing["resume"] = Cancelled(signal.SIGINT)  # type: ignore[assignment]  # not an Exception, on purpose
    world.clock.at(0, lambda: keeper.set("box", State.PENDING))
    error = failed_start(world)
    assert "on its way to another state" in "".join(error.__notes__)
    assert world.clock.elapsed() <= BUDGET
    assert world.github.registered == {}


def test_somebody_elses_running_machine_is_left_as_it_was_found() -> None:
    """A person had started it: a failed start takes its runner away, and no more."""
    world, keeper = kept(State.RUNNING)
    keeper.ours = False
    failed_start(world)
    assert asked_for(world) == ["register box", "adopt m-1", "delete 101"]
    assert state_of(keeper) is State.RUNNING
    assert world.github.registered == {}
    assert world.said[-1] == "Given back: 0 machine(s), 1 registration(s)."


def test_a_job_that_came_before_the_failure_is_not_killed() -> None:
    """Its runner is busy: the machine stays up, and the error says so (a working runner is killed:
    pain 9)."""
    world, keeper = kept()
    world.rental.launch(Lease(index=0))
    world.github.set(101, busy=True)
    error = KeyError("late")
    world.rental.settle(error)
    assert "box is left: a job of this run" in "".join(error.__notes__)
    assert world.rental.left
    assert state_of(keeper) is State.RUNNING
    assert list(world.github.registered) == [101]


def test_a_lost_lock_that_another_run_has_leaves_it_the_machine() -> None:
    """GitHub dropped our registration, and another run took the machine over: a failed start does
    not pause it there (resume of a paused machine: pain 24)."""
    world, keeper = kept()
    world.rental.launch(Lease(index=0))
    world.github.registered.clear()
    other = held_by(world, "8")
    world.rental.settle(KeyError("late"))
    assert list(world.github.registered) == [other]
    assert state_of(keeper) is State.RUNNING
    assert world.said[-1].endswith("box: run 8 holds it.")


def test_a_lock_that_is_lost_before_the_resume_is_not_resumed_under() -> None:
    """The machine is somebody else's by then; the error is told with its cure."""
    world, keeper = kept(State.PENDING)
    world.clock.at(60, world.github.registered.clear)
    world.clock.at(90, lambda: keeper.set("box", State.PAUSED))
    error = failed_start(world)
    assert isinstance(error, RegistrationLost)
    assert "and with it the lock, before the machine was up. Run the job again" in str(error)
    assert not keeper.orders
    assert world.github.registered == {}


def test_a_pause_that_fails_is_a_note_on_the_error() -> None:
    """The user reads both: why it failed, and that the machine may be billed still (pain 11)."""
    world, keeper = kept()
    keeper.failing["pause"] = CloudUnreachable("the cloud is down")
    error = failed_start(world, QuotaExceeded("limit"))
    (note,) = error.__notes__
    assert note.startswith("Machine box may be running, and billed. the cloud is down")
    assert world.rental.left
    assert world.github.registered == {}


def test_a_kept_machine_is_replaced_by_itself() -> None:
    """What did not come up is paused, and resumed under a new label: a job that waits for the old
    one is never given to a runner that has gone."""
    world, keeper = kept()
    lease = Lease(index=0)
    first = world.rental.launch(lease)
    second = world.rental.replace(lease)
    assert asked_for(world)[2:] == [
        "delete 101",
        "register box",
        "pause box",
        "delete 102",
        "register box",
        "resume m-2 as on-demand",
    ]
    assert (second.name, second.id) == ("box", "m-3")
    assert second.tags.label != first.tags.label
    assert len(keeper.machines) == 1
    assert list(world.github.registered) == [lease.runner_id]
