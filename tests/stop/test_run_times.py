"""When the jobs of a run ran, as a stop asks it once everything is given back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.fakes import REPOSITORY, tags
from tests.github.desk import RUN
from tests.ledger.desk import NOON, STOP, add_job

from gpu_ci.ledger.split import Split
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine
from gpu_ci.release.still_needed import Asker
from gpu_ci.stop.run_times import RENAMED, Times, read_times
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from tests.github.desk import Desk

NAME = "gpu-ci-7-1-test-0123456789-0"
IDENTITY = Identity(
    repository=REPOSITORY, run_id=str(RUN), attempt="1", key="test", scope=f"repos/{REPOSITORY}"
)
MACHINE = Machine(provider="ec2", id="i-1", tags=tags(NAME))


def times(desk: Desk) -> Times:
    return read_times(desk.client(), IDENTITY, desk.clock)


def test_one_listing_tells_all(desk: Desk) -> None:
    """The job on the machine, and the library's own on GitHub's runners; one request."""
    run = desk.state.run(RUN)
    known = {"started_at": NOON - 700, "completed_at": NOON - 60}
    add_job(desk, run, name="test", runner_name=NAME, labels=["gpu"], steps=(), **known)
    add_job(desk, run)
    found = times(desk)
    assert found.split(MACHINE, 800.0, found.now) == Split(boot=100, work=640, idle=60)
    assert (found.hosted, found.why) == (1, "")
    assert len(desk.calls()) == 1


@pytest.mark.parametrize(
    ("seconds", "tags_"),
    [(None, {}), (800.0, {"run_id": "8"}), (800.0, {"attempt": "2"})],
)
def test_what_is_not_among_these_jobs_is_not_split(
    desk: Desk, seconds: float | None, tags_: dict[str, str]
) -> None:
    """A machine of another run or attempt, or one that nobody knows the age of."""
    machine = replace(MACHINE, tags=replace(MACHINE.tags, **tags_))  # type: ignore[arg-type]  # strings alone
    found = times(desk)
    assert found.split(machine, seconds, found.now) is None


def test_a_machine_that_was_over_ended_with_its_last_job(desk: Desk) -> None:
    """What another machine did does not count; without a job on it nobody knows better than now."""
    run = desk.state.run(RUN)
    for name, ended in ((NAME, 60), (NAME, 300), ("another", 10)):
        known = {"started_at": NOON - 700, "completed_at": NOON - ended}
        add_job(desk, run, name="test", runner_name=name, labels=["gpu"], steps=(), **known)
    found = times(desk)
    assert (found.end_of(NAME), found.end_of("a third")) == (NOON - 60, found.now)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_what_cannot_be_read_is_said(desk: Desk, status: int) -> None:
    """Never raised, and asked for once."""
    desk.add(answer(status, {"message": "no"}, path="attempts", times=None))
    found = times(desk)
    assert (found.hosted, found.split(MACHINE, 800.0, found.now)) == (None, None)
    assert f"GitHub answered {status}" in found.why
    assert len(desk.calls(path="attempts")) == 1
    assert desk.clock.slept == []


def test_the_jobs_own_token_may_read_what_the_other_may_not(desk: Desk) -> None:
    """It needs `actions: read` alone."""
    poor = desk.state.issue(credentials.fine_grained(REPOSITORY, administration="write"))
    own = desk.state.issue(credentials.job_token(REPOSITORY, actions="read"))
    assert read_times(desk.client(poor, run_token=own), IDENTITY, desk.clock).jobs == ()
    alone = read_times(desk.client(poor), IDENTITY, desk.clock)
    assert "`permissions: actions: read`" in alone.why


def test_a_limit_is_not_waited_for(desk: Desk) -> None:
    """Nobody waits an hour for a bill."""
    desk.state.set_remaining(0, token=desk.admin)
    assert "limit" in times(desk).why
    assert desk.clock.slept == []


def test_a_stop_knows_whether_it_will_be_known(desk: Desk) -> None:
    """By its own job's steps, where it can find itself."""
    run = desk.state.run(RUN)
    names = ((STOP,), ("Give back",), ("Set up job", STOP), ())
    jobs = [add_job(desk, run, steps=each) for each in names]
    for job in jobs[:3]:
        going = replace(job.steps[-1], completed_at=None, conclusion=None)
        desk.state.set_job(job.id, steps=(*job.steps[:-1], going))
    late = add_job(desk, run, steps=("Set up job",))
    found = times(desk)
    told = [found.renamed(Asker(check_run_id=str(job.id))) for job in (*jobs, late)]
    assert told == ["", RENAMED, "", "", ""]
    assert found.renamed(Asker()) == ""
