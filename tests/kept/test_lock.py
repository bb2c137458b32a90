"""The lock of a kept machine: who keeps it, who may take it, and who is told what."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.fakes import REPOSITORY, FakeClock, FakeGitHub

from gpu_ci.errors import Absent, Forbidden, InUse, Unreachable
from gpu_ci.github.client import Job, Runner
from gpu_ci.kept.lock import BUSY, LOOK_SECONDS, TRIES, Claim, Held, Lock, label_to_put_away
from gpu_ci.model.identity import Identity
from gpu_ci.model.tags import read_label
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime.clock import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

ME = Identity(
    repository=REPOSITORY,
    run_id="7",
    attempt="2",
    key="start",
    scope=f"repos/{REPOSITORY}",
    starter="99",
)
ANOTHER_JOB = replace(ME, key="leg.2", starter="12")
EARLIER = replace(ME, attempt="1", key="leg.2", starter="11")
ANOTHER_RUN = replace(ME, run_id="8", attempt="1", starter="21")
MINUTE = 60.0


def label_of(identity: Identity) -> str:
    """Return the label that a start of this identity gives the machine's registration."""
    return identity.label(identity.name(0), "deadbeef")


@dataclass(kw_only=True)
class Door:
    """The lock of the machine `box`, and the GitHub that it hangs on."""

    clock: FakeClock = field(default_factory=FakeClock)
    any_key: bool = False
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline = Deadline.after(10 * MINUTE, self.clock)
        self.github = FakeGitHub(self.deadline)

    @property
    def lock(self) -> Lock:
        asker = Asker(check_run_id=ME.starter)
        claim = Claim(github=self.github, identity=ME, asker=asker, any_key=self.any_key)
        return Lock(github=self.github, name="box", labels=("mine", "gpu"), claim=claim)

    def held_by(self, *labels: str, busy: bool = False) -> Runner:
        """Let a registration with the machine's name stand."""
        holder = self.github.add("box", ["self-hosted", *labels])
        self.github.set(holder.id, online=busy, busy=busy)
        return self.github.runner(holder.id)

    def why(self, *labels: str, busy: bool = False) -> str:
        held = self.lock.claim.held(self.held_by(*labels, busy=busy))
        return held.why if held else ""

    def take(self) -> int:
        """Take the lock and return the registration's id."""
        runner, config = self.lock.take(self.deadline, self.said.append)
        assert config == "a-jit-config"
        assert {"mine", "gpu"} == runner.labels
        return runner.id


def job(number: int, status: str, *labels: str) -> Job:
    return Job(
        id=number,
        name=f"job {number}",
        status=status,
        conclusion="",
        labels=frozenset(labels),
        runner_name="",
    )


@pytest.mark.parametrize("any_key", [False, True])
@pytest.mark.parametrize("labels", [(), ("gpu",), ("gpu-ci-7-1-x",), ("gpu-ci-7-1-x-deadbeef",)])
@pytest.mark.parametrize("busy", [False, True])
def test_a_foreign_registration_is_never_taken(
    labels: tuple[str, ...], *, any_key: bool, busy: bool
) -> None:
    """Somebody's own runner of the same name is left, and named by its id."""
    door = Door(any_key=any_key)
    why = door.why(*labels, busy=busy)
    assert why == "runner 101, which this library did not register, has the name"
    assert door.github.journal == []


@pytest.mark.parametrize(
    ("holder", "why"),
    [
        (ANOTHER_RUN, "run 8 is running a job on it"),
        (ANOTHER_JOB, "another job of this run holds it"),
        (EARLIER, BUSY.why),
        (ME, BUSY.why),
    ],
)
def test_a_busy_holder_keeps_the_lock(holder: Identity, why: str) -> None:
    """A working runner is not killed (pain 9), also where its run seems to be over."""
    door = Door()
    door.github.over = {"7", "8"}
    assert door.why(label_of(holder), busy=True) == why


def test_a_busy_holder_of_our_run_is_judged_by_its_jobs() -> None:
    """A stop that was told nothing leaves it to the job that needs it; where none does, GitHub has
    not yet seen that its job is over, and it is waited for."""
    door = Door(any_key=True)
    door.github.run_jobs = [job(5, "in_progress", label_of(ANOTHER_JOB))]
    held = door.lock.claim.held(door.held_by(label_of(ANOTHER_JOB), busy=True))
    assert held == Held(why="job 'job 5' is in_progress and asks for its label")
    door.github.run_jobs = []
    assert door.lock.claim.held(next(iter(door.github.registered.values()))) == BUSY


@pytest.mark.parametrize("any_key", [False, True])
def test_another_run_keeps_the_lock_until_it_is_over(*, any_key: bool) -> None:
    """Runs that share a machine take turns; what a dead run left behind blocks nobody."""
    door = Door(any_key=any_key)
    assert door.why(label_of(ANOTHER_RUN)) == "run 8 holds it"
    door.github.over = {"8"}
    assert door.why(label_of(ANOTHER_RUN)) == ""


@pytest.mark.parametrize("failure", [Unreachable("No answer."), Forbidden("No.")])
@pytest.mark.parametrize("holder", [ANOTHER_RUN, EARLIER])
def test_a_run_that_cannot_be_read_keeps_the_lock(failure: Exception, holder: Identity) -> None:
    """Unknown means held, and the reason is told."""
    door = Door()
    door.github.failing = {"look at": failure, "list": failure}
    why = door.why(label_of(holder))
    assert why.startswith(
        f"run {holder.run_id} holds it, and whether that run is over cannot be read"
    )
    assert why.endswith(str(failure))


@pytest.mark.parametrize(
    ("scope", "repository", "run_id", "why"),
    [
        ("repos/octo/widgets", "octo/widgets", "8", ""),
        ("orgs/octo", "octo/widgets", "8", ""),
        ("orgs/octo", "octo/gadgets", "8", "run 8 holds it"),
        ("repos/octo/widgets", "octo/widgets", "0", "run 0 holds it"),
    ],
)
def test_a_run_that_does_not_exist_holds_nothing(
    scope: str, repository: str, run_id: str, why: str
) -> None:
    """It was deleted; in an organisation it may be another repository's, which the label tells, and
    what was started in a terminal has no run."""
    door = Door()
    door.github.failing = {"look at": Absent("None.")}
    claim = replace(door.lock.claim, identity=replace(ME, scope=scope))
    holder = door.held_by(label_of(replace(ANOTHER_RUN, run_id=run_id, repository=repository)))
    held = claim.held(holder)
    assert (held.why if held else "") == why


def test_the_same_start_takes_its_own_lock_back() -> None:
    """What this very job registered, and got no answer to, is its own (pain 14)."""
    assert Door().why(label_of(ME)) == ""


def test_another_job_of_the_run_keeps_the_lock() -> None:
    """Two matrix legs that share a machine take turns like two runs, however their jobs stand."""
    door = Door()
    assert door.why(label_of(ANOTHER_JOB)) == "another job of this run holds it"
    assert door.github.journal == []


@pytest.mark.parametrize(
    ("jobs", "part"),
    [
        ([], ""),
        ([job(12, "completed"), job(99, "in_progress")], ""),
        ([job(12, "in_progress")], "which started it, is still in_progress"),
        ([job(13, "queued", label_of(ANOTHER_JOB))], "is queued and asks for its label"),
        ([job(13, "queued", "gpu")], ""),
    ],
)
def test_a_stop_without_a_key_takes_what_its_run_does_not_need(jobs: list[Job], part: str) -> None:
    """The start was killed and said nothing: its jobs say whether the machine is needed (pain 1)."""
    door = Door(any_key=True)
    door.github.run_jobs = jobs
    why = door.why(label_of(ANOTHER_JOB))
    assert part in why
    assert bool(why) is bool(part)


@pytest.mark.parametrize("attempt", ["2", "10"])
def test_an_earlier_attempt_is_compared_as_a_number(attempt: str) -> None:
    """A lock of attempt 9 is earlier than attempt 10 and later than attempt 2: only an earlier one
    is judged by the run's jobs, which are the latest attempt's."""
    door = Door()
    claim = replace(door.lock.claim, identity=replace(ME, attempt=attempt))
    holder = door.held_by(label_of(replace(EARLIER, attempt="9")))
    held = claim.held(holder)
    assert (held.why if held else "") == (
        "" if attempt == "10" else "another job of this run holds it"
    )


@pytest.mark.parametrize(
    ("jobs", "part"),
    [([job(31, "in_progress")], ""), ([job(31, "queued", label_of(EARLIER))], "asks for its")],
)
def test_an_earlier_attempt_holds_what_a_job_still_asks_for(jobs: list[Job], part: str) -> None:
    """After a re-run, a lock of the attempt before is taken, unless a job waits for its runner."""
    door = Door()
    door.github.run_jobs = jobs
    why = door.why(label_of(EARLIER))
    assert part in why
    assert bool(why) is bool(part)


def test_an_unknown_starter_of_an_earlier_attempt_counts_as_going_on() -> None:
    """Where the runner tells no check run, any other job of the run may need the machine."""
    door = Door()
    door.github.run_jobs = [job(31, "in_progress")]
    assert "not known which job" in door.why(label_of(replace(EARLIER, starter="")))


def test_a_free_lock_is_taken_at_once() -> None:
    """One request to look, one to register; nobody is told anything."""
    door = Door()
    assert door.take() == 101
    assert door.github.journal == ["look for box", "register box"]
    assert (door.clock.slept, door.said) == ([], [])


def test_a_lock_is_waited_for() -> None:
    """Two runs that share a machine without a concurrency group: the second waits, says once who
    has it, and is there within one look."""
    door = Door()
    holder = door.held_by(label_of(ANOTHER_RUN))
    door.clock.at(31, partial(door.github.delete, holder.id))
    assert door.take() == 102
    assert 31 <= door.clock.elapsed() <= 31 + LOOK_SECONDS
    assert door.said == ["box is in use: run 8 holds it. Waiting for it."]


def test_each_holder_is_told_once() -> None:
    """While one reason follows another, the user reads each."""
    door = Door()
    holder = door.held_by(label_of(ANOTHER_RUN))
    door.clock.at(10, partial(door.github.set, holder.id, busy=True))
    door.clock.at(20, door.github.registered.clear)
    door.take()
    assert [line.partition(": ")[2].partition(".")[0] for line in door.said] == [
        "run 8 holds it",
        "run 8 is running a job on it",
    ]


def test_a_dead_runs_lock_is_taken_over() -> None:
    """A run that was killed leaves its registration: as soon as it is over, it is deleted by its id
    and the name is ours (pain 1)."""
    door = Door()
    dead = door.held_by(label_of(ANOTHER_RUN))
    door.clock.at(5, partial(door.github.over.add, "8"))
    assert door.take() == 102
    assert list(door.github.registered) == [102]
    assert f"delete {dead.id}" in door.github.journal
    assert door.clock.elapsed() <= 5 + LOOK_SECONDS


def test_a_deadline_ends_the_wait_with_the_cure() -> None:
    """It says who has the machine, and how runs share one: nothing waits for ever."""
    door = Door()
    door.held_by(label_of(ANOTHER_RUN), busy=True)
    with pytest.raises(InUse) as caught:
        door.take()
    text = str(caught.value)
    assert text.startswith("box was in use until the deadline: run 8 is running a job on it.")
    for cure in ("concurrency group", "queue: max", "online-timeout-minutes", "Settings, Actions"):
        assert cure in text
    assert door.clock.elapsed() == 10 * MINUTE
    assert not [entry for entry in door.github.journal if entry.startswith(("register", "delete"))]


def test_a_lock_that_is_let_go_at_the_deadline_is_taken() -> None:
    """The last look is at the deadline itself."""
    door = Door()
    holder = door.held_by(label_of(ANOTHER_RUN))
    door.clock.at(10 * MINUTE, partial(door.github.delete, holder.id))
    assert door.take() == 102


def test_a_token_without_rights_is_not_waited_with() -> None:
    """Waiting cannot help: it fails at once, and not as "in use"."""
    door = Door()
    door.github.failing["look for"] = Forbidden("Bad credentials.")
    with pytest.raises(Forbidden):
        door.take()
    assert door.clock.slept == []


def test_a_registration_of_ours_makes_room() -> None:
    """A stop deletes the runner that its start registered, and has the name at once."""
    door = Door()
    mine = door.held_by(label_of(ANOTHER_JOB))
    taken = door.lock.try_take(mine.id)
    assert isinstance(taken, tuple)
    assert door.github.journal == [f"delete {mine.id}", "register box"]


def test_a_busy_registration_of_ours_makes_no_room() -> None:
    """A job has reached it: nothing is registered, and nothing deleted (pain 9)."""
    door = Door()
    mine = door.held_by(label_of(ME), busy=True)
    assert door.lock.try_take(mine.id) == BUSY
    assert list(door.github.registered) == [mine.id]
    assert "register box" not in door.github.journal


def test_a_registration_of_ours_that_is_gone_is_no_obstacle() -> None:
    """GitHub removes it after its job; whoever has the name by now keeps it."""
    door = Door()
    holder = door.held_by(label_of(ANOTHER_RUN))
    assert door.lock.try_take(holder.id + 50) == Held(why="run 8 holds it")
    assert list(door.github.registered) == [holder.id]


def test_a_holder_that_becomes_busy_while_it_is_removed_keeps_the_lock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that reaches the runner between the look and the removal is not killed (pain 9)."""
    door = Door()
    holder = door.held_by(label_of(ME))
    before(monkeypatch, door.github, "delete", partial(door.github.set, holder.id, busy=True))
    assert door.lock.try_take() == BUSY
    assert list(door.github.registered) == [holder.id]


def test_a_holder_that_lets_go_between_two_looks_is_no_holder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that was taken and is free by the time of the look is asked for again."""
    door = Door()
    holder = door.held_by(label_of(ANOTHER_RUN))
    before(monkeypatch, door.github, "runner_named", partial(door.github.delete, holder.id))
    assert isinstance(door.lock.try_take(), tuple)


def test_a_lock_that_changes_hands_each_time_is_not_asked_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is always a step behind says so after some tries, and can wait."""
    door = Door()
    door.held_by(label_of(ANOTHER_RUN))
    monkeypatch.setattr(door.github, "runner_named", lambda _name: None)
    assert door.lock.try_take() == Held(why="it changes hands")
    assert door.github.journal == ["register box"] * TRIES


def before(
    monkeypatch: pytest.MonkeyPatch, github: FakeGitHub, method: str, event: Callable[[], object]
) -> None:
    """Let something happen right before the next call of a method of GitHub's."""
    asked: Callable[[object], object] = getattr(github, method)

    def happen(argument: object) -> object:
        monkeypatch.setattr(github, method, asked)
        event()
        return asked(argument)

    monkeypatch.setattr(github, method, happen)


def test_a_lock_stands_as_long_as_its_registration() -> None:
    """Only a full answer says that it is lost; letting go twice is once."""
    door = Door()
    mine = door.take()
    assert door.lock.stands(mine)
    door.github.failing["runner"] = Unreachable("No answer.")
    with pytest.raises(Unreachable):
        door.lock.stands(mine)
    door.github.failing.clear()
    door.lock.let_go(mine)
    door.lock.let_go(mine)
    assert not door.lock.stands(mine)


def test_a_label_to_put_away_is_ours_and_no_jobs() -> None:
    """A stop's lock tells whose it is, so that it is taken over when the stop was killed, and no
    job can ask for its label."""
    one, other = label_to_put_away(ME), label_to_put_away(ME)
    mark = read_label(one)
    assert mark is not None
    assert (mark.run_id, mark.attempt, mark.key_mark) == ("7", "2", ME.key_mark())
    assert mark.starter == ME.starter
    assert one != other
