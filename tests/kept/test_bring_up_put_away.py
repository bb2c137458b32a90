"""Bringing a kept machine up and putting it away: every state that it can be found in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pytest
from tests.fakes import REPOSITORY, FakeClock, FakeGitHub, FakeKeeper, FakeOptions, tags

from gpu_ci.errors import (
    Busy,
    CloudError,
    CloudUnreachable,
    Forbidden,
    GitHubError,
    MachineEnded,
    NameShared,
    NoCapacity,
    NoSuchMachine,
    QuotaExceeded,
    RegistrationLost,
    Unreachable,
    WrongHere,
)
from gpu_ci.github.client import BUSY_PATIENCE
from gpu_ci.kept.bring_up import CAPACITY_SECONDS, BringUp
from gpu_ci.kept.lock import Claim, Lock
from gpu_ci.kept.put_away import LANDING_SECONDS, LOOK_SECONDS, PutAway
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine, State
from gpu_ci.providers import Candidate, Order
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime.clock import Deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.github.client import Runner

MINUTE = 60.0
PATIENCE = 10 * MINUTE
ME = Identity(
    repository=REPOSITORY, run_id="7", attempt="1", key="start", scope=f"repos/{REPOSITORY}"
)
ANOTHER_RUN = replace(ME, run_id="8")


class Site:
    """The machine `box`, its cloud and its GitHub, who share one journal."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.keeper = FakeKeeper(FakeOptions(), {}, self.clock)
        self.troubles: list[str] = []
        self.deadline = Deadline.after(PATIENCE, self.clock)
        self.github = FakeGitHub(self.deadline, self.keeper.journal)

    @property
    def journal(self) -> list[str]:
        """What was asked, without the looks."""
        return [entry for entry in self.keeper.journal if not entry.startswith("look")]

    def state(self) -> State:
        found = self.keeper.kept("box")
        return found[1] if found else State.GONE

    def held_by(self, identity: Identity, *, busy: bool = False) -> Runner:
        """Let a start of this identity have the machine's lock."""
        holder = self.github.add("box", [identity.label(identity.name(0), "deadbeef")])
        self.github.set(holder.id, online=busy, busy=busy)
        return holder


@pytest.fixture
def site() -> Site:
    return Site()


@dataclass(kw_only=True)
class Start:
    """A start that holds the lock; it notes what it tried, and can lose the lock."""

    site: Site
    types: Sequence[str] = ("",)
    lost: bool = False

    def __post_init__(self) -> None:
        self.noted: list[str] = []
        self.checks = 0

    def bring_up(self) -> Machine:
        return BringUp(
            keeper=self.site.keeper,
            name="box",
            candidates=[
                Candidate(type=type_, region=region)
                for type_ in self.types
                for region in ("here", "there")
            ],
            order=self.order,
            create=self.create,
            check=self.check,
            note=lambda candidate, result: self.noted.append(f"{candidate}: {result}"),
            deadline=self.site.deadline,
        ).machine()

    def order(self, candidate: Candidate) -> Order:
        return Order(candidate=candidate, tags=tags("box"), token="", boot_script="boot", kept=True)

    def create(self) -> Machine:
        return self.site.keeper.launch(self.order(Candidate(type="new")))

    def check(self) -> None:
        self.checks += 1
        if self.lost:
            raise RegistrationLost("The lock is lost.")


def test_a_paused_machine_is_resumed_as_it_is(site: Site) -> None:
    """Without a type it keeps its own; where it stands is not asked for, it cannot move. Its new
    id is the one that counts."""
    site.keeper.add("box", State.PAUSED)
    start = Start(site=site)
    machine = start.bring_up()
    assert (machine.id, machine.type, machine.kept) == ("m-2", "old", True)
    assert site.journal == ["resume m-1 as on-demand"]
    assert site.keeper.orders[0].boot_script == "boot"
    assert start.noted == ["on-demand: resumed"]
    assert site.clock.slept == []


def test_a_machine_of_another_name_is_not_touched(site: Site) -> None:
    """Names are compared exactly, and in their case."""
    for name in ("Box", "box2", "bo"):
        site.keeper.add(name, State.PAUSED)
    with pytest.raises(NoSuchMachine):
        Start(site=site).bring_up()
    assert site.journal == []


def test_a_name_that_several_machines_have_means_none(site: Site) -> None:
    """Nothing is resumed on a guess."""
    site.keeper.add("box", State.PAUSED)
    site.keeper.add("box", State.PAUSED)
    with pytest.raises(NameShared):
        Start(site=site).bring_up()
    assert site.journal == []


def test_a_machine_that_is_absent_is_made(site: Site) -> None:
    """With a type the first run creates it."""
    machine = Start(site=site, types=["a"]).bring_up()
    assert (machine.type, machine.kept) == ("new", True)
    assert site.journal == ["launch new on-demand"]


def test_a_machine_that_is_absent_and_has_no_type_is_told(site: Site) -> None:
    """Both cures: the name may be wrong, or a type is missing."""
    with pytest.raises(NoSuchMachine) as caught:
        Start(site=site).bring_up()
    assert "named exactly 'box' (upper and lower case matter)" in str(caught.value)
    assert "Correct machine-name, or name a type under machine" in str(caught.value)


def test_a_running_machine_is_taken_over(site: Site) -> None:
    """The run before has let it go and not paused it yet, or someone works on it: it is used as it
    is, not restarted."""
    site.keeper.add("box", State.RUNNING)
    start = Start(site=site, types=["a"])
    assert start.bring_up().id == "m-1"
    assert site.journal == ["adopt m-1"]
    assert start.noted == ["a here on-demand: running already, taken over"]


def test_a_running_machine_without_a_way_in_is_restarted(site: Site) -> None:
    """It is paused first, as only a paused machine takes a boot script."""
    site.keeper.add("box", State.RUNNING)
    site.keeper.way_in = False
    start = Start(site=site)
    assert start.bring_up().id == "m-2"
    assert site.journal == ["adopt m-1", "pause box", "resume m-1 as on-demand"]
    assert start.noted[0].endswith("nobody's by now: restarted")


@pytest.mark.parametrize("then", [State.PAUSED, State.RUNNING])
def test_a_machine_on_its_way_is_waited_for(site: Site, then: State) -> None:
    """It is pausing for the run before, or waking: nothing is asked of it before it is there."""
    site.keeper.add("box", State.PENDING)
    site.clock.at(40, lambda: site.keeper.set("box", then))
    Start(site=site).bring_up()
    assert site.journal == [
        "resume m-1 as on-demand" if then is State.PAUSED else "adopt m-1",
    ]
    assert 40 <= site.clock.elapsed() <= 40 + LOOK_SECONDS


def test_a_machine_that_stays_on_its_way_fails_at_the_deadline(site: Site) -> None:
    """In words: how it was, and that it was not resumed."""
    site.keeper.add("box", State.PENDING)
    with pytest.raises(MachineEnded, match=r"box was pending until the deadline.*not resumed"):
        Start(site=site).bring_up()
    assert site.clock.elapsed() == PATIENCE
    assert site.journal == []


def test_a_machine_that_is_being_removed_is_made_anew(site: Site) -> None:
    """Its name is free as soon as it is gone."""
    old = site.keeper.add("box", State.ENDING)
    site.clock.at(20, lambda: site.keeper.machines.pop(old.id))
    assert Start(site=site, types=["a"]).bring_up().id == "m-2"
    assert site.clock.elapsed() <= 20 + LOOK_SECONDS


def test_a_failed_machine_is_said_at_once(site: Site) -> None:
    """Waiting cannot help: what to do in the console is told."""
    site.keeper.add("box", State.FAILED)
    with pytest.raises(MachineEnded, match=r"box has failed.*pause it there, or remove it"):
        Start(site=site, types=["a"]).bring_up()
    assert site.journal == []
    assert site.clock.slept == []


@pytest.mark.parametrize("refusal", [NoCapacity("None free."), WrongHere("Not sold here.")])
def test_the_next_type_is_tried_where_one_is_not_to_be_had(site: Site, refusal: Exception) -> None:
    """No capacity (pain 8): the machine wakes as another type, at once, each type asked once and
    without a place; what the cloud said is in the table of tries."""
    site.keeper.add("box", State.PAUSED)
    site.keeper.refusals = [refusal]
    start = Start(site=site, types=["a", "b"])
    assert start.bring_up().type == "b"
    assert site.journal == ["resume m-1 as a on-demand", "resume m-1 as b on-demand"]
    assert start.noted == [f"a on-demand: {refusal}", "b on-demand: resumed"]
    assert site.clock.slept == []


def test_capacity_that_comes_later_is_waited_for(site: Site) -> None:
    """A kept machine cannot go elsewhere (pain 8): all types are asked again, until the deadline,
    and the lock is read again before each round."""
    site.keeper.add("box", State.PAUSED)
    site.keeper.refusals = [NoCapacity("None free.")] * 5
    start = Start(site=site, types=["a", "b"])
    assert start.bring_up().type == "b"
    assert len(site.journal) == 6
    assert 2 * CAPACITY_SECONDS <= site.clock.elapsed() <= 2 * (CAPACITY_SECONDS + LOOK_SECONDS)
    assert start.checks == 3


def test_capacity_that_never_comes_fails_with_what_the_cloud_said(site: Site) -> None:
    """The refusal itself, not a timeout (no capacity: pain 8)."""
    site.keeper.add("box", State.PAUSED)
    site.keeper.refusals = [NoCapacity("None free.")] * 100
    with pytest.raises(NoCapacity, match=r"None free\."):
        Start(site=site).bring_up()
    assert PATIENCE - 2 * CAPACITY_SECONDS <= site.clock.elapsed() <= PATIENCE
    assert site.state() is State.PAUSED


def test_a_quota_ends_the_search(site: Site) -> None:
    """Another type of the same account is not asked for, and nothing is waited for (pain 30)."""
    site.keeper.add("box", State.PAUSED)
    site.keeper.refusals = [QuotaExceeded("The balance is used up.")]
    with pytest.raises(QuotaExceeded):
        Start(site=site, types=["a", "b"]).bring_up()
    assert len(site.journal) == 1
    assert site.clock.slept == []


@pytest.mark.parametrize("state", [State.PAUSED, State.RUNNING, State.FAILED])
def test_without_the_lock_nothing_is_touched(site: Site, state: State) -> None:
    """GitHub dropped the registration: by now another run may have the machine."""
    site.keeper.add("box", state)
    with pytest.raises(RegistrationLost):
        Start(site=site, lost=True).bring_up()
    assert site.journal == []


def test_a_lock_that_is_lost_while_waiting_is_noticed_before_the_machine_is_touched(
    site: Site,
) -> None:
    """The long wait for a machine that pauses is just when GitHub drops an idle registration."""
    site.keeper.add("box", State.PENDING)
    start = Start(site=site)
    site.clock.at(100, lambda: setattr(start, "lost", True))
    site.clock.at(200, lambda: site.keeper.set("box", State.PAUSED))
    with pytest.raises(RegistrationLost):
        start.bring_up()
    assert site.journal == []


def put_away(
    site: Site,
    how: Literal["pause", "terminate", "keep"] = "pause",
    *,
    mine: int = 0,
    landing: bool = False,
) -> Machine | str:
    claim = Claim(github=site.github, identity=ME, asker=Asker(check_run_id="99"))
    lock = Lock(github=site.github, name="box", labels=("away",), claim=claim)
    away = PutAway(
        lock=lock,
        keeper=site.keeper,
        trouble=site.troubles.append,
        how=how,
        mine=mine,
        landing=landing,
    )
    return away.machine(site.deadline)


def test_a_running_machine_is_paused_under_its_lock(site: Site) -> None:
    """From before the pause until after it the name is ours, so that no start resumes it under the
    stop (resume of a paused machine: pain 24); then the lock is free."""
    site.keeper.add("box", State.RUNNING)
    site.keeper.lasting = 30
    done = put_away(site)
    assert isinstance(done, Machine)
    assert done.id == "m-1"
    assert site.journal == ["register box", "pause box", "delete 101"]
    assert site.state() is State.PAUSED
    assert site.github.registered == {}


def test_our_own_registration_makes_room(site: Site) -> None:
    """The runner goes first: no job is sent to a machine that is being paused (pain 22)."""
    site.keeper.add("box", State.RUNNING)
    mine = site.held_by(ME)
    put_away(site, mine=mine.id)
    assert site.journal == [f"delete {mine.id}", "register box", "pause box", "delete 102"]


@pytest.mark.parametrize(
    ("how", "state", "text"),
    [
        ("pause", State.PAUSED, "it is paused"),
        ("pause", State.ENDING, "it is ending"),
        ("pause", State.GONE, "it is gone"),
        ("terminate", State.ENDING, "it is ending"),
        ("terminate", State.GONE, "it is gone"),
        ("keep", State.RUNNING, "it is kept as it is"),
        ("keep", State.PAUSED, "it is kept as it is"),
        ("keep", State.PENDING, "it is kept as it is"),
    ],
)
def test_what_is_not_owed_is_left(
    site: Site, how: Literal["pause", "terminate", "keep"], state: State, text: str
) -> None:
    """It says how the machine is, at once, and the lock is let go in any case."""
    site.keeper.add("box", state)
    assert put_away(site, how, mine=site.held_by(ME).id) == text
    assert site.journal == ["delete 101", "register box", "delete 102"]
    assert site.clock.slept == []


@pytest.mark.parametrize("how", ["pause", "terminate"])
def test_a_machine_that_is_gone_is_no_trouble(
    site: Site, how: Literal["pause", "terminate"]
) -> None:
    """Gone is success; the lock that outlived it is let go."""
    assert put_away(site, how, mine=site.held_by(ME).id) == "no machine has this name"
    assert site.github.registered == {}


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.FAILED])
def test_a_machine_is_ended_in_every_state(site: Site, state: State) -> None:
    """`release: terminate` ends also what is paused, since its disk is billed; by its id."""
    site.keeper.add("box", state)
    assert isinstance(put_away(site, "terminate"), Machine)
    assert site.journal == ["register box", "release m-1", "delete 101"]
    assert site.keeper.machines == {}


def test_a_failed_machine_is_paused_too(site: Site) -> None:
    """Whether it is billed is not known, so it is not taken for paused."""
    site.keeper.add("box", State.FAILED)
    assert isinstance(put_away(site), Machine)
    assert site.journal == ["register box", "pause box", "delete 101"]


@pytest.mark.parametrize(("how", "call"), [("pause", "pause box"), ("terminate", "release m-1")])
def test_a_machine_that_wakes_is_waited_for_and_put_away(
    site: Site, how: Literal["pause", "terminate"], call: str
) -> None:
    """It wakes for a start that was killed: as soon as it is up, it is put away (pain 1)."""
    site.keeper.add("box", State.PENDING)
    site.clock.at(60, lambda: site.keeper.set("box", State.RUNNING))
    assert isinstance(put_away(site, how), Machine)
    assert call in site.journal
    assert 60 <= site.clock.elapsed() <= 60 + LOOK_SECONDS


def test_a_machine_that_stays_on_its_way_is_trouble(site: Site) -> None:
    """Unknown is not paused: the deadline ends the wait with words, and the lock is let go."""
    site.keeper.add("box", State.PENDING)
    with pytest.raises(CloudError, match=r"on its way to another state.*It is billed.*stop again"):
        put_away(site)
    assert site.clock.elapsed() == PATIENCE
    assert site.github.registered == {}


def test_a_resume_that_lands_late_is_paused(site: Site) -> None:
    """The answer to a resume was lost (pain 14): it looks paused and is billed seconds later, so
    one look is not enough."""
    site.keeper.add("box", State.PAUSED)
    site.clock.at(3, lambda: site.keeper.set("box", State.PENDING))
    site.clock.at(30, lambda: site.keeper.set("box", State.RUNNING))
    assert isinstance(put_away(site, landing=True), Machine)
    assert site.state() is State.PAUSED


def test_a_create_that_lands_late_is_paused(site: Site) -> None:
    """The same for a machine that did not exist (pain 14)."""
    site.clock.at(3, lambda: site.keeper.add("box", State.RUNNING))
    assert isinstance(put_away(site, landing=True), Machine)
    assert site.state() is State.PAUSED


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_that_lands_ends_the_looking(site: Site, *, exists: bool) -> None:
    """After some seconds of full answers there is nothing to do."""
    if exists:
        site.keeper.add("box", State.PAUSED)
    assert put_away(site, landing=True) == (
        "it is paused" if exists else "no machine has this name"
    )
    assert site.clock.elapsed() == LANDING_SECONDS


@pytest.mark.parametrize("busy", [False, True])
def test_another_runs_machine_stays_up(site: Site, *, busy: bool) -> None:
    """A newer run has the lock by now: the stop of an older one does not pause it under its job
    (resume of a paused machine: pain 24); the older run's own registration is gone already."""
    site.keeper.add("box", State.RUNNING)
    site.held_by(ANOTHER_RUN, busy=busy)
    why = "run 8 is running a job on it" if busy else "run 8 holds it"
    assert put_away(site, mine=77) == why
    assert site.state() is State.RUNNING
    assert list(site.github.registered) == [101]
    assert not [entry for entry in site.journal if entry.startswith("pause")]


def test_a_runner_that_ends_its_job_is_waited_for(site: Site) -> None:
    """GitHub keeps it busy for some seconds behind its job; then the machine is paused."""
    site.keeper.add("box", State.RUNNING)
    mine = site.held_by(ME, busy=True)
    site.clock.at(5, lambda: site.github.set(mine.id))
    assert isinstance(put_away(site, mine=mine.id), Machine)
    assert 5 <= site.clock.elapsed() <= 5 + LOOK_SECONDS


def test_a_job_that_goes_on_is_not_killed(site: Site) -> None:
    """A stop that named the machine by its handle fails then, and says why (a working runner is
    killed: pain 9)."""
    site.keeper.add("box", State.RUNNING)
    mine = site.held_by(ME, busy=True)
    with pytest.raises(Busy, match=r"box is left: a job of this run.*Run stop again after"):
        put_away(site, mine=mine.id)
    assert site.clock.elapsed() == BUSY_PATIENCE
    assert site.state() is State.RUNNING
    assert list(site.github.registered) == [mine.id]


def test_a_runner_that_stays_busy_fails_a_stop_that_names_nobody_too(site: Site) -> None:
    """No job needs it any more, and GitHub does not let go of it: that is no reason to be green."""
    site.keeper.add("box", State.RUNNING)
    site.held_by(ME, busy=True)
    with pytest.raises(Busy):
        put_away(site)
    assert site.clock.elapsed() == BUSY_PATIENCE
    assert site.state() is State.RUNNING


def test_what_cannot_be_read_fails_the_stop(site: Site) -> None:
    """Whether anybody needs the machine is not known: it is left, and not in silence."""
    site.keeper.add("box", State.RUNNING)
    site.held_by(replace(ME, run_id="8"))
    site.github.failing = {"look at": Forbidden("Give the job actions: read.")}
    with pytest.raises(GitHubError, match=r"box is left: run 8 holds it.*actions: read"):
        put_away(site)
    assert site.state() is State.RUNNING


@pytest.mark.parametrize("mine", [0, 101])
def test_a_lock_that_is_lost_while_waiting_is_taken_again(site: Site, mine: int) -> None:
    """GitHub drops idle registrations: the lock is read again before the pause, and taken again."""
    site.held_by(ME)
    site.keeper.add("box", State.PENDING)
    site.clock.at(100, site.github.registered.clear)
    site.clock.at(200, lambda: site.keeper.set("box", State.RUNNING))
    assert isinstance(put_away(site, mine=mine), Machine)
    assert site.journal.count("pause box") == 1
    assert site.journal[-3:] == ["register box", "pause box", "delete 103"]


def test_a_lock_that_another_run_took_meanwhile_leaves_the_machine(site: Site) -> None:
    """Lost while the stop waited, and somebody else's by now: not paused under it (pain 24)."""
    site.keeper.add("box", State.PENDING)

    def taken() -> None:
        site.github.registered.clear()
        site.held_by(ANOTHER_RUN)
        site.keeper.set("box", State.RUNNING)

    site.clock.at(100, taken)
    assert put_away(site) == "run 8 holds it"
    assert "pause box" not in site.journal
    assert site.state() is State.RUNNING


def test_a_lock_that_is_lost_again_and_again_ends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is paused without it, and nothing is tried for ever."""
    site.keeper.add("box", State.RUNNING)
    monkeypatch.setattr(Lock, "stands", lambda _lock, _runner_id: False)
    assert put_away(site) == "it changes hands"
    assert site.journal == ["register box", "delete 101", "register box", "delete 102"]


@pytest.mark.parametrize("asked", ["look at", "pause"])
def test_the_lock_is_let_go_after_a_failure(site: Site, asked: str) -> None:
    """A cloud that does not answer keeps no later run from the machine."""
    site.keeper.add("box", State.RUNNING)
    site.keeper.failing[asked] = CloudUnreachable("No answer.")
    with pytest.raises(CloudUnreachable):
        put_away(site)
    assert site.github.registered == {}


def test_without_an_answer_about_the_lock_nothing_is_paused(site: Site) -> None:
    """Unknown is not ours."""
    site.keeper.add("box", State.RUNNING)
    site.github.failing["runner"] = Unreachable("No answer.")
    with pytest.raises(Unreachable):
        put_away(site)
    assert site.state() is State.RUNNING


def test_a_lock_that_cannot_be_had_in_time_is_no_trouble_of_the_clouds(site: Site) -> None:
    """A lock that cannot be asked for is GitHub's trouble, and the cloud is not asked at all."""
    site.keeper.add("box", State.RUNNING)
    site.github.failing["register"] = Unreachable("No answer.")
    with pytest.raises(Unreachable):
        put_away(site)
    assert site.keeper.journal == ["register box"]


def test_a_patience_never_outlasts_the_deadline(site: Site) -> None:
    """A cancelled process has seconds for all of it."""
    site.keeper.add("box", State.RUNNING)
    site.deadline = Deadline.after(3, site.clock)
    mine = site.held_by(ME, busy=True)
    with pytest.raises(Busy):
        put_away(site, mine=mine.id)
    assert site.clock.elapsed() == 3
