"""One pass of a watchdog over a repository's runs and registrations."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.conftest import made_by

from gpu_ci.errors import Forbidden, StillThere
from gpu_ci_sandbox.faults import answer
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.conftest import Plain, Stories

    from gpu_ci_sandbox.fake_github.records import Run
    from gpu_ci_sandbox.faults import Phase, Request

HOURS_AGO = 5 * 3600.0
JUST_NOW = 30.0


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A run in which a job asks for a runner that does not come.

    `run` and `job` are fields of the sandbox's records, `attempt` that of the job's label; the run
    began `age` seconds ago, and the job was queued `queued` seconds ago. `beside` it another job of
    the run goes on.
    """

    age: float = HOURS_AGO
    queued: float = HOURS_AGO
    attempt: int = 1
    label: str = ""
    beside: bool = False
    repository: str = REPOSITORY
    run: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)


IN_VAIN = {
    "a runner that never comes": Queue(),  # pain 2
    "the other jobs of the run go on": Queue(beside=True),
    "failed jobs run again": Queue(run={"attempt": 2}, queued=60.0),  # pain 6
}
NOT_IN_VAIN = {
    "all jobs run again just now": Queue(run={"attempt": 2}, attempt=2, queued=JUST_NOW),
    "it began just now": Queue(age=JUST_NOW, queued=JUST_NOW),
    "it was queued just now": Queue(queued=JUST_NOW),
    "it waits for approval": Queue(job={"status": "waiting"}),
    "approval came just now": Queue(job={"started_at": JUST_NOW}),
    "it waits for its concurrency group": Queue(job={"status": "pending"}),
    "its runner has it": Queue(job={"status": "in_progress", "runner_name": "box"}),
    "GitHub made the job": Queue(run={"event": "dynamic"}),
    "the run is over, though a job is queued": Queue(
        run={"status": "completed", "conclusion": "startup_failure"}
    ),
    "somebody else's label": Queue(label="self-hosted"),
    "another repository's": Queue(repository="octo-org/other"),
}


def test_runs_that_wait_in_vain(plain: Plain) -> None:
    """A job whose runner never comes ends its run, after "Re-run failed jobs" within a minute; no
    job that waits for something else, and none that was queued just now (pains 2, 4, 6)."""
    plain.world.served.github.add_repository("octo-org/other")
    ended = {case: _queue(plain, case, queue) for case, queue in IN_VAIN.items()}
    left = {case: _queue(plain, case, queue) for case, queue in NOT_IN_VAIN.items()}
    before = {case: _shown(plain, run) for case, run in left.items()}
    assert plain.sweep() == 0, plain.told()
    assert {case: _shown(plain, run) for case, run in left.items()} == before
    assert {case: _shown(plain, run) for case, run in ended.items()} == dict.fromkeys(
        ended, ("completed", "cancelled")
    ), plain.told()
    assert plain.output("cancelled") == str(len(ended))
    _told(plain, ended)


def _told(plain: Plain, ended: Mapping[str, Run]) -> None:
    """Each run is named with its job, its label and what to do, in the report and the summary."""
    findings = json.loads(plain.output("report"))["findings"]
    for case, run in ended.items():
        (found,) = [each for each in findings if str(run.id) in each["what"]]
        assert f"job {case!r} has waited" in found["why"]
        assert (found["kind"], found["done"], found["acted"]) == ("run", "cancelled", True)
        assert found["since"]
        assert str(run.id) in plain.summary()
    again = next(each for each in findings if "failed jobs run again" in each["why"])
    assert "use 'Re-run all jobs'" in again["advice"]


def _queue(stories: Stories, case: str, queue: Queue) -> Run:
    github, now = stories.world.served.github, time.time()
    began: dict[str, Any] = {"created_at": now - queue.age, "started_at": now - queue.age}
    if queue.run.get("attempt"):
        began["started_at"] = now - queue.queued
    run = github.start_run(queue.repository, **began, **queue.run)
    if queue.beside:
        hosted = github.queue_job(run, "lint", ["ubuntu-latest"])
        github.set_job(hosted.id, status="in_progress", runner_name="Hosted Agent lint")
    label = queue.label or made_by(run.id, case, attempt=str(queue.attempt)).label
    job = github.queue_job(run, case, [label])
    changes = {"started_at": queue.queued, "created_at": queue.queued}
    changes |= {name: value for name, value in queue.job.items() if name in changes}
    moments = {name: now - ago for name, ago in changes.items()}
    github.set_job(job.id, **{**queue.job, **moments})
    return run


def _shown(stories: Stories, run: Run) -> tuple[str, str | None]:
    return stories.world.served.github.run_status(run.id)


# --- a cancel that does not cancel -----------------------------------------------------------------


def _stuck(plain: Plain, *, always: bool = True) -> Run:
    """Return a run whose only job waits in vain; a plain cancel spares `always` jobs."""
    return _queue(plain, "train", Queue(job={"always": always}))


def test_a_plain_cancel_that_changes_nothing(plain: Plain) -> None:
    """A cancel that GitHub took and that ends nothing is followed by one by force, which is asked
    again while GitHub breaks (pain 5)."""
    run, writes = _stuck(plain), plain.writes()
    plain.world.served.faults.add(answer(500, {}, path="force-cancel", times=1))
    assert plain.sweep() == 0, plain.told()
    assert writes == ["POST cancel", "POST force-cancel", "POST force-cancel"]
    assert _shown(plain, run) == ("completed", "cancelled")
    assert "cancelled by force" in plain.told()
    assert plain.output("cancelled") == "1"


def test_a_cancel_by_force_that_changes_nothing(plain: Plain) -> None:
    """What is queued still is said to be, and the pass fails (pain 5)."""
    run = _stuck(plain)
    plain.world.served.faults.add(answer(202, {}, path="force-cancel", times=None))
    assert plain.sweep() == StillThere.exit_code, plain.told()
    assert "cancelled by force, and a job is still queued" in plain.told()
    assert _shown(plain, run)[0] == "queued"
    assert plain.output("cancelled") == "0"


# What happens when the cancel of a run that was stuck at the first look is about to be asked for.
MEANWHILE: dict[str, Mapping[str, Any]] = {
    "a runner took it": {"status": "in_progress", "runner_name": "box"},
    "it was cancelled": {"conclusion": "cancelled"},
}


@pytest.mark.parametrize("what", MEANWHILE)
def test_a_run_that_goes_on_at_the_last_moment(plain: Plain, what: str) -> None:
    """The jobs are read again right before the cancel (pains 2, 5)."""
    run, writes = _stuck(plain, always=False), plain.writes()
    github = plain.world.served.github
    looks: list[int] = []

    def meanwhile(number: int, at: Phase, request: Request) -> None:
        if at == "after" and request.path.endswith(f"{run.id}/jobs"):
            looks.append(number)
            if len(looks) == 1:
                (job,) = [job for job in github.all_jobs() if job.run_id == run.id]
                github.set_job(job.id, **MEANWHILE[what])

    plain.world.served.faults.on_request(meanwhile)
    assert plain.sweep() == 0, plain.told()
    assert looks
    assert writes == []
    assert plain.output("cancelled") == "0"


def test_a_run_that_ends_as_it_is_cancelled(plain: Plain) -> None:
    """GitHub says 409 of a run that is over: that is a success (pain 5)."""
    run = _stuck(plain)
    github = plain.world.served.github

    def ends(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.path.endswith("/cancel"):
            (job,) = [job for job in github.all_jobs() if job.run_id == run.id]
            github.set_job(job.id, conclusion="success")

    plain.world.served.faults.on_request(ends)
    assert plain.sweep() == 0, plain.told()
    assert [request.status for request in plain.world.served.faults.calls("POST")] == [409]
    assert _shown(plain, run) == ("completed", "success")


# --- what bounds a pass ----------------------------------------------------------------------------


def test_a_dry_run_and_few_actions(plain: Plain) -> None:
    """With dry-run nothing is changed; with max-actions the longest wait is ended, the other is left
    to the next pass, and both are told (pain 4)."""
    waits = {"longest": Queue(), "shorter": Queue(queued=HOURS_AGO / 2)}
    runs = [_queue(plain, case, queue) for case, queue in waits.items()]
    writes = plain.writes()
    assert plain.sweep(dry_run="true") == 0, plain.told()
    assert writes == []
    assert plain.output("cancelled") == "0"
    assert plain.told().count("would be cancelled") == 2
    assert plain.sweep(max_actions="1") == 0, plain.told()
    assert [_shown(plain, run)[0] for run in runs] == ["completed", "queued"]
    assert "left for the next pass: max-actions is reached" in plain.told()
    assert plain.sweep() == 0, plain.told()
    assert [_shown(plain, run)[0] for run in runs] == ["completed", "completed"]


def test_the_jobs_own_token(plain: Plain) -> None:
    """It sees the queue and no runner: the queue is swept and the rest is said not to be seen, which
    is an error only where machines were to be looked at."""
    run = _stuck(plain, always=False)
    assert plain.sweep(github_token="") == 0, plain.told()
    assert _shown(plain, run) == ("completed", "cancelled")
    assert "GITHUB_TOKEN never may" in plain.told()
    run = _stuck(plain, always=False)
    code = plain.sweep(github_token="", providers="local")
    assert code == Forbidden.exit_code, plain.told()
    assert _shown(plain, run) == ("completed", "cancelled")


# --- registrations ---------------------------------------------------------------------------------


def test_dead_registrations(plain: Plain) -> None:
    """Among 250 dead registrations only those of this repository's ended runs go, whether the run
    was deleted or is over; foreign, online and busy ones stay (pain 15)."""
    github = plain.world.served.github
    over = [_over(plain) for _ in range(8)]
    ours = [made_by(run_id, f"gone-{run_id}") for run_id in [*over, 77, 78]]
    going = made_by(plain.world.run_id, "going")
    other = made_by(over[0], "other", repository="octo-org/other")
    online, busy = made_by(over[1], "online"), made_by(over[2], "busy")
    for tags in (*ours, going, other, online, busy):
        github.register(REPOSITORY, tags.name, [tags.label])
    by_name = {runner.name: runner.id for runner in github.all_runners()}
    github.set_runner(by_name[online.name], online=True)
    github.set_runner(by_name[busy.name], job_id=4711)
    foreign = [f"old-box-{n}" for n in range(230)]
    foreign += [f"gpu-ci-{over[0]}-1-x-{n}" for n in range(6)]
    for name in foreign:
        github.register(REPOSITORY, name, [name])
    assert plain.sweep() == 0, plain.told()
    left = {going.name, other.name, online.name, busy.name, *foreign}
    assert set(plain.world.runner_names()) == left
    assert plain.output("removed") == str(len(ours))


def _over(plain: Plain) -> int:
    """Return the id of a run that is over."""
    github = plain.world.served.github
    run = github.start_run(REPOSITORY)
    github.set_job(github.queue_job(run, "build", ["ubuntu-latest"]).id, conclusion="success")
    return run.id
