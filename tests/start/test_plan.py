"""What is asked for, in which order, under which tokens and labels."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

from tests.fakes import FakeClock, FakeOptions, FakeProvider, World, start_env

from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.model.identity import Identity
from gpu_ci.providers import Candidate
from gpu_ci.start.plan import StartPlan, candidates, plan_start


def plan(nonce: str = "nonce", **inputs: str) -> StartPlan:
    env = start_env(**inputs)
    provider = FakeProvider(FakeOptions(), env, FakeClock())
    return plan_start(StartInputs.read(env), Identity.from_environment(env), provider, nonce)


def test_types_come_first_then_markets_then_places() -> None:
    """A type's spot offers everywhere, then its on-demand ones, then the next type."""
    asked = plan(machine="a, b", region="x, y/y1", market="spot-then-on-demand").candidates
    assert [str(candidate) for candidate in asked] == [
        "a x spot",
        "a y1 spot",
        "a x on-demand",
        "a y1 on-demand",
        "b x spot",
        "b y1 spot",
        "b x on-demand",
        "b y1 on-demand",
    ]


def test_what_is_not_said_is_the_providers_choice() -> None:
    """Without machine and region, the provider's own types and regions are asked for."""
    asked = plan().candidates
    assert [str(candidate) for candidate in asked] == [
        "small here on-demand",
        "small there on-demand",
        "large here on-demand",
        "large there on-demand",
    ]


def test_a_cloud_without_regions_has_candidates_too() -> None:
    """No places means one candidate a type, not none."""
    assert candidates(["local"], [], ["on-demand"]) == (Candidate(type="local"),)


def test_tokens_differ_for_each_candidate_and_machine() -> None:
    """A fall back to another candidate never reuses an idempotency token, which a cloud answers
    with a parameter mismatch (no capacity, wrong zone, spot empty: pain 8)."""
    one = plan(count="3", market="spot-then-on-demand")
    zoned = [replace(candidate, zone="z") for candidate in one.candidates]
    names = [one.identity.name(index, again) for index in range(3) for again in range(3)]
    asked = [*one.candidates, *zoned]
    tokens = {one.token(name, candidate) for name in names for candidate in asked}
    # Candidates in the same zone differ by type and market only.
    assert len(tokens) == len(names) * len({str(candidate) for candidate in asked})


def test_the_same_order_has_the_same_token() -> None:
    """A create call that is repeated after a lost answer is recognised by the cloud (pain 14), in
    at most the 64 characters that EC2 takes."""
    name, candidate = plan().identity.name(0), plan().candidates[0]
    assert plan().token(name, candidate) == plan().token(name, candidate)
    assert len(plan().token(name, candidate)) <= 64


def test_another_start_has_other_tokens() -> None:
    """A second start of the same job is given machines of its own."""
    name, candidate = plan().identity.name(0), plan().candidates[0]
    assert plan("one").token(name, candidate) != plan("two").token(name, candidate)


def test_no_runner_can_take_the_job_of_another() -> None:
    """The labels of 12 legs of a matrix: none is a subset of another's, so that no runner gets
    somebody else's job (same labels: pain 16)."""
    starts = [plan(f"nonce-{leg}", key=f"leg.{leg}", labels="gpu") for leg in range(12)]
    labels = [{start.label(start.identity.name(0)), "gpu"} for start in starts]
    assert [pair for pair in permutations(labels, 2) if pair[0] <= pair[1]] == []


def test_a_label_cannot_be_foretold() -> None:
    """It has the random part of its start, behind a name that can be read."""
    one = plan("5eed1234")
    assert one.label(one.identity.name(0)) == f"{one.identity.name(0)}-5eed1234"


def test_the_plan_can_be_read_before_money_is_spent() -> None:
    """It says how many machines, for whom, and every candidate in its order."""
    lines = plan(count="2", machine="a", region="x").lines()
    assert lines[0].startswith("2 machines, all or none for repos/octo/widgets, named gpu-ci-7-1-")
    assert lines[1:] == ["  1. a x on-demand"]
    assert plan().lines()[0].startswith("one machine for")


def test_a_kept_machine_has_its_type_already() -> None:
    """Without machine, none is asked for: a resume that changed it would be a surprise."""
    world, _ = World.kept()
    assert [str(candidate) for candidate in world.rental.plan.candidates] == [
        "here on-demand",
        "there on-demand",
    ]
    assert {candidate.type for candidate in world.rental.plan.candidates} == {""}


def test_a_kept_machine_can_be_asked_for_by_types() -> None:
    """In their order: for the resume, and for making it when it is absent."""
    world, _ = World.kept(machine="a, b", region="x")
    assert [str(candidate) for candidate in world.rental.plan.candidates] == [
        "a x on-demand",
        "b x on-demand",
    ]


def test_a_label_tells_which_job_started_its_machine() -> None:
    """Where the runner tells it: that job needs the machine until it is over."""
    env = start_env() | {"GPU_CI_CHECK_RUN_ID": "4711"}
    provider = FakeProvider(FakeOptions(), env, FakeClock())
    one = plan_start(StartInputs.read(env), Identity.from_environment(env), provider, "5eed1234")
    name = one.identity.name(0)
    assert one.label(name) == f"{name}-4711-5eed1234"
