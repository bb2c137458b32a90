"""Giving back: the order, both halves whatever happens to the other, and nothing assumed."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import pytest
from tests.fakes import FakeClock, FakeGitHub, FakeOptions, FakeProvider, nobodys, start_env, tags

from gpu_ci.errors import (
    CloudUnreachable,
    Forbidden,
    NotPermitted,
    StillThere,
    Unreachable,
)
from gpu_ci.github.client import BUSY_PATIENCE, Job
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine, Price, State
from gpu_ci.providers import Candidate, Order
from gpu_ci.release.give_back import Holding, Releaser
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime.clock import Deadline
from gpu_ci.stop import give_back
from gpu_ci.stop.find_holdings import Search

PATIENCE = 120.0


class Owed:
    """Machines and registrations that stand, and who gives them back."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider(FakeOptions(), {}, self.clock)
        self.deadline = Deadline.after(PATIENCE, self.clock)
        self.github = FakeGitHub(self.deadline, self.provider.journal)

    @property
    def journal(self) -> list[str]:
        return self.provider.journal

    def machine(self, name: str = "gpu-ci-7-1-x") -> Machine:
        return self.provider.land(order(name))

    def holding(self, name: str = "gpu-ci-7-1-x", *, busy: bool = False) -> Holding:
        """Return the holding of a machine whose runner is online."""
        runner = self.github.add(name, [f"{name}-nonce"])
        self.github.set(runner.id, busy=busy)
        return Holding(name=name, runner_id=runner.id, machine=self.machine(name))

    def give_back(self, *holdings: Holding, hurried: bool = False) -> None:
        releaser = Releaser(
            github=self.github, provider=self.provider, deadline=self.deadline, hurried=hurried
        )
        releaser.give_back(holdings)

    def troubles(self, *holdings: Holding, hurried: bool = False) -> str:
        with pytest.raises(StillThere) as caught:
            self.give_back(*holdings, hurried=hurried)
        return str(caught.value)

    def nothing_stands(self) -> bool:
        return not self.provider.machines and not self.github.registered


def order(name: str) -> Order:
    return Order(candidate=Candidate(type="small"), tags=tags(name), token="", boot_script="")


@pytest.fixture
def owed() -> Owed:
    return Owed()


@pytest.mark.parametrize("hurried", [False, True])
def test_what_the_cloud_took_back_is_noted(owed: Owed, *, hurried: bool) -> None:
    """Before the machine is released, since afterwards it may look as if we had ended it; not when the
    process is being cancelled (pain 12)."""
    holding, other = owed.holding(), owed.holding("gpu-ci-7-1-y")
    assert holding.machine
    owed.provider.states[holding.machine.id] = State.GONE
    owed.provider.taken[holding.machine.id] = "no Spot capacity"
    owed.give_back(holding, other, hurried=hurried)
    told = [f"{holding.machine.describe()} was taken back by the cloud: no Spot capacity."]
    assert (holding.taken, other.taken) == ([] if hurried else told, [])
    assert (holding.ended, other.ended) == (set() if hurried else {holding.name}, set())
    assert owed.nothing_stands()


def test_a_machine_whose_state_is_unknown_is_not_over(
    owed: Owed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is over is billed to its last job alone, and this one may have run until now."""

    def no_answer(_machine: Machine) -> State:
        raise CloudUnreachable("No answer.")

    monkeypatch.setattr(owed.provider, "state", no_answer)
    holding = owed.holding()
    owed.give_back(holding)
    assert (holding.ended, holding.taken) == (set(), [])
    assert [machine.name for machine in holding.released] == [holding.name]
    assert owed.nothing_stands()


def test_the_registration_goes_before_the_machine(owed: Owed) -> None:
    """No job is sent to a runner that is already stopped (pain 22); nothing waits without need."""
    holding = owed.holding()
    owed.give_back(holding)
    assert owed.journal == ["delete 101", "release m-1"]
    assert owed.nothing_stands()
    assert (holding.removed, [machine.id for machine in holding.released]) == (1, ["m-1"])
    assert owed.clock.slept == []


def test_a_runner_that_ends_its_job_is_waited_for(owed: Owed) -> None:
    """GitHub keeps it busy for some seconds behind its job: tried again, then the machine."""
    holding = owed.holding(busy=True)
    owed.clock.at(5, lambda: owed.github.set(101))
    owed.give_back(holding)
    assert owed.journal[-2:] == ["delete 101", "release m-1"]
    assert owed.nothing_stands()


def test_a_busy_runner_does_not_keep_the_machine(owed: Owed) -> None:
    """After its patience the machine is released, and then the registration is tried again: dead
    registrations would pile up (pain 15) and jobs be sent to them (pain 22)."""
    holding = owed.holding(busy=True)
    owed.clock.at(BUSY_PATIENCE + 3, lambda: owed.github.set(101))
    owed.give_back(holding)
    released = owed.journal.index("release m-1")
    assert set(owed.journal[:released]) == {"delete 101"}
    assert set(owed.journal[released + 1 :]) == {"delete 101"}
    assert owed.nothing_stands()


def test_a_runner_that_stays_busy_is_said(owed: Owed) -> None:
    """Its machine is gone all the same, and all of it within the patience, twice."""
    text = owed.troubles(owed.holding(busy=True))
    assert "Runner gpu-ci-7-1-x could not be removed" in text
    assert owed.provider.machines == {}
    assert owed.clock.elapsed() <= 2 * BUSY_PATIENCE


def test_a_deleted_runner_that_is_still_listed_is_not_gone(
    owed: Owed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone is read, not assumed (jobs sent to a runner already stopped: pain 22)."""
    holding = owed.holding()
    monkeypatch.setattr(owed.github, "delete", lambda _runner_id: True)
    assert "still lists runner 101" in owed.troubles(holding)
    assert owed.provider.machines == {}


@pytest.mark.parametrize("failure", [Unreachable("No answer."), Forbidden("Bad credentials.")])
def test_github_down_does_not_keep_the_machine(owed: Owed, failure: Exception) -> None:
    """An expired token for GitHub is no reason to go on paying (credentials expired: pain 11)."""
    holding = owed.holding()
    owed.github.failing["delete"] = failure
    text = owed.troubles(holding)
    assert owed.provider.machines == {}
    assert str(failure) in text
    assert "Settings, Actions, Runners" in text


@pytest.mark.parametrize("failure", [CloudUnreachable("No answer."), NotPermitted("Expired.")])
def test_a_cloud_down_does_not_keep_the_registration(owed: Owed, failure: Exception) -> None:
    """An expired session of the cloud: the registration goes, the machine is named with where to
    look for it (credentials expired: pain 11)."""
    holding = owed.holding()
    owed.provider.failing["release"] = failure
    text = owed.troubles(holding)
    assert owed.github.registered == {}
    assert "m-1" in text
    assert str(failure) in text
    assert "console by its name, gpu-ci-7-1-x" in text


@pytest.mark.parametrize("hurried", [False, True])
def test_every_trouble_is_said(owed: Owed, *, hurried: bool) -> None:
    """Both halves of two machines fail: four paragraphs, none hidden by another."""
    holdings = [owed.holding("gpu-ci-7-1-a"), owed.holding("gpu-ci-7-1-b")]
    owed.github.failing["delete"] = Unreachable("No answer.")
    owed.provider.failing["release"] = CloudUnreachable("No answer.")
    text = owed.troubles(*holdings, hurried=hurried)
    assert len(text.split("\n\n")) == 4
    assert all(name in text for name in ("gpu-ci-7-1-a", "gpu-ci-7-1-b", "m-1", "m-2"))


def test_one_machine_in_trouble_keeps_no_other(owed: Owed) -> None:
    """All others of a start are given back."""
    holdings = [owed.holding(f"gpu-ci-7-1-{n}", busy=n == 3) for n in range(10)]
    assert "gpu-ci-7-1-3" in owed.troubles(*holdings)
    assert owed.provider.machines == {}
    assert list(owed.github.registered) == [104]


def test_in_a_hurry_nothing_waits(owed: Owed) -> None:
    """A cancelled process has seconds: a busy runner is said at once, both halves are done."""
    text = owed.troubles(
        owed.holding("gpu-ci-7-1-a"), owed.holding("gpu-ci-7-1-b", busy=True), hurried=True
    )
    assert "gpu-ci-7-1-b" in text
    assert owed.provider.machines == {}
    assert list(owed.github.registered) == [102]
    assert owed.clock.slept == []


def test_in_a_hurry_both_halves_go_at_once(owed: Owed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither waits for the other's answer: here each answers only once both were asked."""
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(owed.github, "delete", lambda _runner_id: both.wait() >= 0)
    monkeypatch.setattr(owed.provider, "release", lambda _machine: both.wait())
    holding = owed.holding()
    owed.give_back(holding, hurried=True)
    assert (holding.removed, len(holding.released)) == (1, 1)


def test_nothing_owed_asks_nothing(owed: Owed) -> None:
    """A start that failed before its first write call, and what is gone already."""
    owed.give_back()
    owed.give_back(Holding(name="gpu-ci-7-1-x"))
    assert owed.journal == []


@pytest.mark.parametrize("hurried", [False, True])
def test_a_machine_that_lands_late_is_found(owed: Owed, *, hurried: bool) -> None:
    """A create call whose answer was lost: looked for until it is there (pain 14)."""
    late = owed.provider.machines.pop(owed.machine().id)
    holding = Holding(name=late.name, search=lambda: owed.provider.find({"name": late.name}, []))
    owed.clock.at(3, lambda: owed.provider.machines.update({"m-1": late}))
    owed.give_back(holding, hurried=hurried)
    assert holding.released == [late]
    assert owed.nothing_stands()
    assert owed.clock.elapsed() < 4


def test_a_search_outlasts_the_outage_that_took_the_answer(owed: Owed) -> None:
    """The cloud that lost the answer is down for some seconds more (pain 14)."""
    owed.machine()
    owed.provider.failing["find"] = CloudUnreachable("No answer.")
    owed.clock.at(5, owed.provider.failing.clear)
    owed.give_back(
        Holding(name="gpu-ci-7-1-x", search=lambda: owed.provider.find({"run_id": "7"}, []))
    )
    assert owed.nothing_stands()


def test_a_search_that_never_gets_an_answer_is_said(owed: Owed) -> None:
    """Unknown is not gone; it ends with the deadline."""
    owed.provider.failing["find"] = CloudUnreachable("No answer.")
    search = lambda: owed.provider.find({"run_id": "7"}, [])  # noqa: E731 -- the holding's own form
    assert "gpu-ci-7-1-x" in owed.troubles(Holding(name="gpu-ci-7-1-x", search=search))
    assert owed.clock.elapsed() <= PATIENCE


def test_a_machine_that_never_landed_is_no_trouble(owed: Owed) -> None:
    """Full answers without it, until time is up, mean that there is none."""
    owed.give_back(Holding(name="gpu-ci-7-1-x", search=list))
    assert owed.clock.elapsed() == PATIENCE


def test_a_registration_of_unknown_id_is_found_by_its_name(owed: Owed) -> None:
    """A registration whose answer was lost (pain 14); another's is left alone."""
    owed.github.add("gpu-ci-7-1-x", [])
    other = owed.github.add("gpu-ci-7-1-xy", [])
    owed.give_back(Holding(name="gpu-ci-7-1-x", search_name=True))
    assert list(owed.github.registered) == [other.id]


def searching(owed: Owed, **inputs: str) -> Search:
    env = start_env(**inputs)
    return Search(
        inputs=StopInputs.read(env),
        identity=Identity.from_environment(env),
        provider=owed.provider,
        github=owed.github,
        deadline=owed.deadline,
        asker=Asker(check_run_id="99"),
    )


def job(*labels: str) -> Job:
    return Job(
        id=12, name="test", status="queued", conclusion="", labels=frozenset(labels), runner_name=""
    )


def test_a_stop_without_a_handle_gives_back_what_nothing_needs(owed: Owed) -> None:
    """A start that was killed said nothing: its machine and its registration are found by the run,
    the machine of a job that is still queued is left, and so is another run's (pain 1)."""
    owed.holding("gpu-ci-7-1-a")
    owed.holding("gpu-ci-7-1-b")
    owed.github.add("gpu-ci-71-1-c", [])
    owed.github.run_jobs = [job("gpu-ci-7-1-b-nonce")]
    search = searching(owed)
    give_back(search, search.holdings())
    assert [machine.name for machine in owed.provider.machines.values()] == ["gpu-ci-7-1-b"]
    left = {runner.name for runner in owed.github.registered.values()}
    assert left == {"gpu-ci-7-1-b", "gpu-ci-71-1-c"}


def test_a_stop_whose_cloud_does_not_answer_removes_registrations(owed: Owed) -> None:
    """Without a handle too, one half's expired credentials do not keep the other (pain 11)."""
    owed.holding()
    owed.provider.failing["find"] = NotPermitted("Expired.")
    search = searching(owed)
    give_back(search, search.holdings())
    assert owed.github.registered == {}
    assert "Expired." in "".join(search.troubles)


def test_a_stop_whose_github_does_not_answer_says_both_troubles(owed: Owed) -> None:
    """With a key no jobs are asked for: the machine goes; what could not be listed and what could
    not be released are both said."""
    owed.holding("gpu-ci-7-1-a")
    owed.provider.land(order("gpu-ci-7-1-b"))
    owed.github.failing["list"] = Unreachable("GitHub is down.")
    owed.provider.failing["release"] = CloudUnreachable("The cloud is down.")
    search = searching(owed, key="start")
    give_back(search, search.holdings())
    text = "\n\n".join(search.troubles)
    assert "GitHub is down." in text
    assert text.count("The cloud is down.") == 2


KEPT = Machine(
    provider="keeper",
    id="m-7",
    tags=tags("box"),
    kept=True,
    launched_at=1000.0,
    price=Price(per_hour=2.0),
)
FOUND = replace(KEPT, id="m-8", tags=nobodys("box"), type="A100", launched_at=0.0, price=None)


def test_a_kept_machine_is_put_away_and_not_released(owed: Owed) -> None:
    """Its registration is its lock: whoever puts it away removes that, in its own order."""
    waited: list[Deadline] = []

    def put_away(deadline: Deadline) -> Machine:
        waited.append(deadline)
        return FOUND

    holding = Holding(name="box", runner_id=101, machine=KEPT, put_away=put_away)
    owed.give_back(holding)
    assert waited == [owed.deadline]
    assert owed.journal == []
    assert (holding.left, holding.removed) == ("", 0)


@pytest.mark.parametrize(
    ("handle", "began", "price"), [(KEPT, 1000.0, Price(per_hour=2.0)), (None, 0.0, None)]
)
def test_only_the_handle_knows_since_when_a_kept_machine_is_billed(
    owed: Owed, handle: Machine | None, began: float, price: Price | None
) -> None:
    """Its launch and its price go into the bill; the rest is as it was found. Without a handle the
    time stays unknown, which is not zero."""
    holding = Holding(name="box", machine=handle, put_away=lambda _deadline: FOUND)
    owed.give_back(holding)
    assert holding.released == [replace(FOUND, launched_at=began, price=price)]


def test_a_kept_machine_that_is_left_is_no_trouble(owed: Owed) -> None:
    """Why is told; nothing was released, and nobody fails for it."""
    holding = Holding(name="box", machine=KEPT, put_away=lambda _deadline: "run 8 holds it")
    owed.give_back(holding)
    assert (holding.left, holding.released, holding.troubles) == ("run 8 holds it", [], [])


@pytest.mark.parametrize("hurried", [False, True])
@pytest.mark.parametrize(
    "failure", [CloudUnreachable("The cloud is down."), Unreachable("GitHub is down.")]
)
def test_a_kept_machine_that_cannot_be_put_away_is_said(
    owed: Owed, failure: Exception, *, hurried: bool
) -> None:
    """It may go on being billed (pain 11): it is named, with the cause and where to look, and keeps
    no other machine from being given back."""
    holdings = [Holding(name="box", put_away=partial(fail, failure)), owed.holding()]
    text = owed.troubles(*holdings, hurried=hurried)
    assert text == (
        f"Machine box may be running, and billed. {failure} Look at it in the cloud's "
        "console, or run stop again."
    )
    assert owed.nothing_stands()


def fail(failure: Exception, _deadline: Deadline) -> str:
    raise failure


@pytest.mark.parametrize("ends_itself", [True, False])
def test_a_machine_that_cannot_be_released_is_said_with_what_ends_it(
    owed: Owed, monkeypatch: pytest.MonkeyPatch, *, ends_itself: bool
) -> None:
    """Itself, where it can; where it cannot, nobody must wait for that."""
    known = replace(FakeProvider.about, title="Acme", ends_itself=ends_itself)
    monkeypatch.setattr(FakeProvider, "about", known)
    holding = owed.holding()
    owed.provider.failing["release"] = CloudUnreachable("The cloud is down.")
    text = owed.troubles(holding)
    assert ("it ends itself when its idle time is over." in text) is ends_itself
    assert ("a machine at Acme cannot end itself, and is billed until" in text) is not ends_itself
