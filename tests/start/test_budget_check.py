"""What is looked up before a start with a budget: prices, machines that live, the ledger."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.fakes import FakeKeeper, FakeProvider, World, tags
from tests.github.desk import RUN
from tests.ledger.desk import DAY, NOON, add_job, entry, history, stopped

from gpu_ci.errors import BudgetUnknown, CloudUnreachable, OverBudget
from gpu_ci.ledger.read_ledger import read_ledger
from gpu_ci.model.machine import Machine, Price, State
from gpu_ci.providers import Candidate, Order
from gpu_ci.start.budget_check import BudgetCheck
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.annotations import Annotation
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.github.desk import Desk

# FakeProvider's machines cost 0.5 USD an hour; a start without max-lifetime may take six.
START = 3.0


def budget_check(desk: Desk, world: World) -> BudgetCheck:
    rental = world.rental
    return BudgetCheck(
        inputs=rental.inputs,
        plan=rental.plan,
        provider=rental.provider,
        history=history(desk),
        now=NOON,
    )


def check(desk: Desk, world: World) -> list[str]:
    """Return what the check says when it passes."""
    said = list[str]()
    budget_check(desk, world).check(said.append)
    return said


def living(
    provider: FakeProvider, run_id: str = "7", *, hours: float = 2.0, ago: float = 1.0
) -> Machine:
    """Let a machine live that began some hours ago and may go on for some."""
    known = tags(f"m-{run_id}", run_id=run_id, expires_at=int(NOON + hours * 3600))
    order = Order(candidate=Candidate(type="small"), tags=known, token="", boot_script="")
    machine = replace(provider.land(order), launched_at=NOON - ago * 3600)
    provider.machines[machine.id] = machine
    return machine


def prices(world: World, by_type: Mapping[str, Price | None]) -> None:
    """Let types have these prices."""
    world.provider.price = lambda machine: by_type[machine.type]  # type: ignore[method-assign]  # a test's cloud


@pytest.mark.parametrize("budget", ["3/run", "3/month", "3/run, 3/month"])
def test_a_start_within_its_budget_is_told(desk: Desk, budget: str) -> None:
    """Price times lifetime is what a start may cost."""
    for line in check(desk, World.of(budget=budget)):
        assert line.startswith(
            "This start may cost 3.00 USD (a machine at 0.5 USD/h for 360 minutes)"
        )
        assert "and the " in line


@pytest.mark.parametrize("budget", ["2.99/run", "2.99/month", "9/run, 2.99/month"])
def test_a_start_above_its_budget_is_refused(desk: Desk, budget: str) -> None:
    """Before anything is launched, with what would pass."""
    world = World.of(budget=budget)
    with pytest.raises(OverBudget, match="max-lifetime-minutes: 358 would pass"):
        check(desk, world)
    assert OverBudget.exit_code == 46
    assert not [each for each in world.provider.journal if each.startswith("launch")]


def test_every_machine_of_the_start_counts(desk: Desk) -> None:
    """All or none of them are rented."""
    check(desk, World.of(budget="9/run", count="3"))
    with pytest.raises(OverBudget, match=r"9\.00 USD \(3 machines"):
        check(desk, World.of(budget="8.99/run", count="3"))


def test_the_dearest_candidate_counts(desk: Desk) -> None:
    """A start that falls back to it must not be over its budget then."""
    world = World.of(budget="10/run", machine="small, large")
    prices(world, {"small": Price(per_hour=0.5), "large": Price(per_hour=2.0)})
    with pytest.raises(OverBudget, match=r"12\.00 USD"):
        check(desk, world)


@pytest.mark.parametrize("unknown", ["small", "large"])
def test_what_has_no_price_is_not_taken(desk: Desk, unknown: str) -> None:
    """It may cost anything: the start goes on with the others, and says so."""
    world = World.of(budget="100/run", machine="small, large", region="here")
    prices(world, {"small": Price(per_hour=0.5), "large": Price(per_hour=2.0)} | {unknown: None})
    said = list[str]()
    plan = budget_check(desk, world).check(said.append)
    assert [each.type for each in plan.candidates] == [
        each for each in ("small", "large") if each != unknown
    ]
    assert (
        said[0]
        == f"{unknown} here on-demand is left out: its price is not known, and there is a budget."
    )


def test_without_any_price_a_start_is_refused(desk: Desk) -> None:
    """Every candidate is named, and what is needed to look prices up."""
    world = World.of(budget="100/run", machine="small, large", region="here")
    prices(world, {"small": None, "large": None})
    with pytest.raises(
        BudgetUnknown, match="No price is known for small here on-demand, large"
    ) as caught:
        check(desk, world)
    assert caught.value.exit_code == 47
    assert "pricing:GetProducts" in caught.value.cure


def test_a_machine_without_a_price_beside_it_refuses_a_start(desk: Desk) -> None:
    """What it costs is part of the sum."""
    world = World.of(budget="100/run", machine="small")
    living(world.provider)
    odd = replace(living(world.provider), type="odd")
    world.provider.machines[odd.id] = odd
    prices(world, {"small": Price(per_hour=0.5), "odd": None})
    with pytest.raises(BudgetUnknown, match=r"The price of m-7 \(m-2\) \(odd on-demand\) is not"):
        check(desk, world)


def test_prices_in_two_currencies_are_refused(desk: Desk) -> None:
    """A budget has one number."""
    world = World.of(budget="100/run", machine="small, large")
    prices(world, {"small": Price(per_hour=0.5), "large": Price(per_hour=9.0, currency="INR")})
    with pytest.raises(BudgetUnknown, match="INR and USD cannot be added up"):
        check(desk, world)


def test_what_lives_in_the_run_counts_to_its_end(desk: Desk) -> None:
    """Since its launch, and until its own timers end it: an hour and two more at 0.5 are 1.50."""
    world = World.of(budget="4.5/run")
    living(world.provider)
    living(world.provider, "8")
    assert "the rest of the run 1.50 USD, 4.50 USD in all" in check(desk, world)[0]
    living(world.provider)
    with pytest.raises(OverBudget, match=r"the rest of the run 3\.00 USD,"):
        check(desk, world)


def test_what_lives_in_the_repository_counts_for_the_month(desk: Desk) -> None:
    """Of every run; another repository's is not ours."""
    world = World.of(budget="6/month")
    living(world.provider)
    living(world.provider, "8")
    foreign = living(world.provider, "9")
    strange = replace(foreign.tags, repository="octo/other")
    world.provider.machines[foreign.id] = replace(foreign, tags=strange)
    assert "the rest of the month 3.00 USD," in check(desk, world)[0]


@pytest.mark.parametrize("budget", ["3.99/run", "3.99/month"])
def test_a_machine_that_ends_meanwhile_is_counted(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """It lives at the first look, at the machines or at the ledger, and at the second one it has
    gone and its stop has left its line: missed by both, it would make room for a machine too many.
    """
    world = World.of(budget=budget)
    machine = living(world.provider)

    def ends() -> None:
        if world.provider.machines.pop(machine.id, None):
            job = add_job(desk, desk.state.run(RUN))
            note = Annotation(level="notice", title="gpu-ci cost", message=str(entry(1.0)))
            desk.state.annotate(job.id, note)

    def find(wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:
        if desk.calls("GET"):  # the ledger was the first
            ends()
        found = FakeProvider.find(world.provider, wanted, regions)
        ends()
        return found

    monkeypatch.setattr(world.provider, "find", find)
    with pytest.raises(OverBudget):
        check(desk, world)
    assert machine.id not in world.provider.machines


def test_a_machine_that_tells_no_end_may_live_as_long_as_ours(desk: Desk) -> None:
    """A cloud without tags tells neither launch nor end: it counts from now for the whole
    lifetime."""
    world = World.of(budget="6/run", max_lifetime_minutes="120")
    machine = living(world.provider)
    bare = replace(machine, launched_at=0.0, tags=replace(machine.tags, expires_at=0))
    world.provider.machines[machine.id] = bare
    assert "the rest of the run 1.00 USD, 2.00 USD in all" in check(desk, world)[0]


def test_what_the_run_has_cost_counts(desk: Desk) -> None:
    """Of every attempt, by what its stops have left."""
    job = add_job(desk, desk.state.run(RUN))
    note = Annotation(level="notice", title="gpu-ci cost", message=str(entry(1.0)))
    desk.state.annotate(job.id, note)
    assert "the rest of the run 1.00 USD," in check(desk, World.of(budget="4/run"))[0]
    with pytest.raises(OverBudget):
        check(desk, World.of(budget="3.99/run"))


def test_what_the_month_has_cost_counts(desk: Desk) -> None:
    """Of every run since its first day, in UTC."""
    stopped(desk, entry(10.0), ago=DAY)
    stopped(desk, entry(5.0))
    stopped(desk, entry(500.0), ago=22 * DAY)
    assert "the rest of the month 15.00 USD," in check(desk, World.of(budget="18/month"))[0]
    with pytest.raises(OverBudget):
        check(desk, World.of(budget="17.99/month"))


def test_a_forged_million_blocks_nothing(desk: Desk) -> None:
    """What a pull request of a fork prints is not the repository's month."""
    stopped(desk, entry(1e6), event="pull_request", fork="mallory/widgets")
    stopped(desk, entry(1e6), steps=("Run pytest",))
    assert "the rest of the month 0.00 USD," in check(desk, World.of(budget="3/month"))[0]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (entry(price=None), "The ledger does not say what an hour of gpu-ci-7-1-test"),
        (entry(price=Price(per_hour=1.0, currency="INR")), "INR and USD cannot be added up"),
        ("hello", "A line from job 'stop' of run [0-9]+ was written by another version"),
    ],
)
def test_a_ledger_that_cannot_be_added_up_is_refused(desk: Desk, message: object, why: str) -> None:
    """A sum that leaves something out is none."""
    stopped(desk, message)
    with pytest.raises(BudgetUnknown, match=why):
        check(desk, World.of(budget="100/month"))


@pytest.mark.parametrize("message", [entry(price=None), "hello\nhello"])
def test_a_line_that_blocks_a_month_is_named(desk: Desk, message: object) -> None:
    """By its run and job, with what helps: no right to read prices changes what is written."""
    run, job = stopped(desk, message, job={"name": "put away"})
    with pytest.raises(BudgetUnknown, match=f"run {run.id}") as caught:
        check(desk, World.of(budget="100/month"))
    assert f"job {job.name!r}" in caught.value.what
    assert ("and 1 more in the ledger" in caught.value.what) == (message == "hello\nhello")
    assert "Delete that run, and all its lines with it, or leave `month`" in caught.value.cure


@pytest.mark.parametrize("message", [entry(price=None), "hello"])
def test_a_line_that_blocks_a_run_is_named(desk: Desk, message: object) -> None:
    """The run that asks cannot be deleted: another one begins without it."""
    job = add_job(desk, desk.state.run(RUN))
    note = Annotation(level="notice", title="gpu-ci cost", message=str(message))
    desk.state.annotate(job.id, note)
    with pytest.raises(BudgetUnknown, match=f"run {RUN}") as caught:
        check(desk, World.of(budget="100/run"))
    assert "job 'stop'" in caught.value.what
    assert "Begin a new run instead of another attempt, or leave `run`" in caught.value.cure


def test_an_unknown_time_counts_as_the_whole_runs(desk: Desk) -> None:
    """A killed start's machine need not block the month: it cannot be older than its run."""
    stopped(desk, entry(36.0, seconds=None, split=None), job={"completed_at": NOON + 100})
    assert "the rest of the month 1.00 USD," in check(desk, World.of(budget="4/month"))[0]


@pytest.mark.parametrize(("budget", "path"), [("9/month", "actions/runs"), ("9/run", "jobs")])
def test_a_ledger_that_cannot_be_read_is_refused(desk: Desk, budget: str, path: str) -> None:
    """Limited, forbidden or unreachable: a budget that cannot be looked at is none."""
    stopped(desk, entry(1.0))
    desk.add(answer(502, "bad gateway", path=path, times=None))
    with pytest.raises(
        BudgetUnknown, match="cannot be read, so it cannot be checked against the budget"
    ):
        check(desk, World.of(budget=budget))


def test_a_month_of_too_many_runs_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are not read may have cost anything."""
    stopped(desk, entry(1.0))
    short = partial(read_ledger, most_runs=1)
    monkeypatch.setattr("gpu_ci.start.budget_check.read_ledger", short)
    with pytest.raises(BudgetUnknown, match="The month has more than 1 runs"):
        check(desk, World.of(budget="100/month"))


def test_a_token_that_may_not_read_checks_is_told_so(desk: Desk) -> None:
    """The right is named that the job needs; without a stop in the month nobody asks for it."""
    poor = desk.state.issue(credentials.fine_grained("octo/widgets", actions="read"))
    world = World.of(budget="9/month")
    poorly = replace(budget_check(desk, world), history=history(desk, poor))
    poorly.check(world.said.append)
    stopped(desk, entry(1.0))
    with pytest.raises(BudgetUnknown, match="`checks: read`"):
        poorly.check(world.said.append)


def test_machines_that_cannot_be_listed_are_refused(desk: Desk) -> None:
    """They may be many."""
    world = World.of(budget="9/run")
    world.provider.failing["find"] = CloudUnreachable("The cloud does not answer.")
    with pytest.raises(BudgetUnknown, match="What else is running cannot be looked up"):
        check(desk, world)


def test_a_run_only_budget_reads_one_run(desk: Desk) -> None:
    """One listing of its jobs, however many runs the month has."""
    stopped(desk, entry(10.0), ago=DAY)
    check(desk, World.of(budget="9/run"))
    assert len(desk.calls("GET")) == 1


def test_two_starts_at_once_see_each_other_once_they_are_launched(desk: Desk) -> None:
    """Nothing locks a budget: two that look before either has launched both pass, and together may
    cost twice; whoever looks later sees the other."""
    budget = "4/run"
    first, second = World.of(budget=budget), World.of(budget=budget)
    second.provider.machines = first.provider.machines
    check(desk, first)
    check(desk, second)
    living(first.provider, hours=6.0, ago=0.0)
    with pytest.raises(OverBudget, match=r"the rest of the run 3\.00 USD,"):
        check(desk, second)


def kept(budget: str, state: State | None, **inputs: str) -> World:
    world, keeper = World.kept(budget=budget, **inputs)
    if state:
        keeper.add("box", state)
    return world


@pytest.mark.parametrize("state", [State.PAUSED, State.RUNNING])
def test_a_kept_machine_counts_by_its_own_type(desk: Desk, state: State) -> None:
    """Where no other is named."""
    world = kept("3/run", state)
    prices(world, {"old": Price(per_hour=0.5)})
    assert "This start may cost 3.00 USD" in check(desk, world)[0]


def test_a_kept_machine_that_may_become_another_type_counts_as_the_dearer(desk: Desk) -> None:
    """It is resumed as the type that is named, or taken over as what it is."""
    world = kept("100/run", State.PAUSED, machine="new")
    prices(world, {"old": Price(per_hour=0.5), "new": Price(per_hour=5.0)})
    assert "This start may cost 30.00 USD" in check(desk, world)[0]
    prices(world, {"old": Price(per_hour=5.0), "new": Price(per_hour=0.5)})
    assert "This start may cost 30.00 USD" in check(desk, world)[0]


@pytest.mark.parametrize("state", [State.PAUSED, State.RUNNING])
def test_a_kept_machine_counts_as_what_it_would_be_resumed_as(desk: Desk, state: State) -> None:
    """Also one that is up: it may be paused until it is our turn, and be resumed with more GPUs."""
    world = kept("100/run", state)
    world.provider.price = lambda machine: Price(per_hour=0.5 if machine.id else 4.0)  # type: ignore[method-assign]  # a test's cloud
    assert "This start may cost 24.00 USD" in check(desk, world)[0]


def test_a_kept_machine_that_is_absent_counts_as_what_it_would_be_made_of(desk: Desk) -> None:
    """And without a type nothing is known."""
    assert check(desk, kept("3/run", None, machine="huge"))
    with pytest.raises(
        BudgetUnknown, match="What box costs is not known: there is no such machine"
    ):
        check(desk, kept("3/run", None))


def test_a_kept_machine_that_cannot_be_looked_at_is_refused(desk: Desk) -> None:
    """Its type is not known then."""
    world = kept("3/run", State.PAUSED)
    assert isinstance(world.provider, FakeKeeper)
    world.provider.failing["look at"] = CloudUnreachable("The cloud does not answer.")
    with pytest.raises(BudgetUnknown, match="What box costs cannot be looked up"):
        check(desk, world)


def test_a_kept_machine_without_a_price_is_refused(desk: Desk) -> None:
    """By its name: it is there, its price is not."""
    world = kept("3/run", State.PAUSED)
    prices(world, {"old": None})
    with pytest.raises(
        BudgetUnknown, match=r"The price of box \(m-1\) \(old on-demand\) is not known"
    ):
        check(desk, world)
