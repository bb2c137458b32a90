"""What a start makes, step by step, and that all of it is given back once."""

from __future__ import annotations

import signal
from functools import partial

import pytest
from tests.fakes import World

from gpu_ci.cancellation import Cancelled
from gpu_ci.errors import (
    CloudUnreachable,
    Conflict,
    NoCapacity,
    QuotaExceeded,
    Unreachable,
    WrongHere,
)
from gpu_ci.providers import Candidate
from gpu_ci.rental import Lease


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
