"""The watch beside a GPU job: over when the job has a runner, and the run's end when none comes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes import REPOSITORY
from tests.github.desk import RUN
from tests.watchdog.scene import Scene, label_of, name_of

from gpu_ci.errors import JobFailed
from gpu_ci.watchdog.in_run import (
    ALONE_SECONDS,
    LAST_LOOK,
    LOOK_SECONDS,
    ONCE_SECONDS,
    OUTAGE_SECONDS,
)
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.faults import answer, drop, lose_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci_sandbox.fake_github.records import Conclusion
    from gpu_ci_sandbox.faults import Request, Rule

JOBS = r"/attempts/1/jobs"
CANCEL = r"/cancel$"
# Short waits take few looks.
SHORT = {"queue_minutes": "1"}


@pytest.fixture(autouse=True)
def own_job(scene: Scene) -> None:
    """The watch is a job of the run itself."""
    scene.own_job()


def picks_up(scene: Scene, job_id: int) -> Callable[[], object]:
    """Return the event of a runner that begins the job."""
    return lambda: scene.state.set_job(job_id, status="in_progress", runner_name="gpu-1")


# Once


@pytest.mark.parametrize(
    ("jobs", "queued", "seconds"),
    [
        ([{}], "1", 0),
        ([{}, {}], "2", 0),
        ([{"status": "in_progress", "runner_name": "gpu-1"}], "0", 0),
        ([{"conclusion": "skipped"}], "0", 0),
        ([{"status": "waiting"}], "0", ONCE_SECONDS),
        ([], "0", ONCE_SECONDS),
    ],
)
def test_once_tells_how_many_jobs_wait(
    scene: Scene, jobs: list[dict[str, Any]], queued: str, seconds: float
) -> None:
    """At once where it is clear; a machine for a job that nobody runs again would be for nothing."""
    for changes in jobs:
        job = scene.queue()
        if changes:
            scene.state.set_job(job.id, **changes)
    told = scene.watch(until="once")
    assert (told.code, told.outputs["queued"], told.seconds) == (0, queued, seconds)
    assert scene.posts() == []


@pytest.mark.parametrize("rule", [answer(502, times=None), drop(times=None)])
def test_once_takes_no_answer_for_none(scene: Scene, rule: Rule) -> None:
    """It goes on asking, and fails where GitHub does not answer for long."""
    scene.queue()
    scene.desk.add(replace(rule, path=JOBS))
    told = scene.watch(until="once")
    assert told.code == 13
    assert told.seconds >= OUTAGE_SECONDS


def test_once_outlasts_a_short_outage(scene: Scene) -> None:
    """The answer that comes at last counts."""
    scene.queue()
    scene.desk.add(answer(502, path=JOBS, times=4))
    told = scene.watch(until="once")
    assert (told.code, told.outputs["queued"]) == (0, "1")


# To the end


@pytest.mark.parametrize("limited", [False, True])
def test_a_watch_to_the_end_outlasts_outages_and_limits(scene: Scene, *, limited: bool) -> None:
    """The job goes on meanwhile, and must not fail by its watch."""
    job = scene.queue()
    scene.after(30, picks_up(scene, job.id))
    scene.after(7200, lambda: scene.state.set_job(job.id, conclusion="success"))
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(scene.clock.now()) + 3000)}
    refusal = answer(403, {"message": "API rate limit exceeded"}, headers=reset, path=JOBS)
    outage = answer(502, path=JOBS)
    rule = replace(refusal if limited else outage, times=None)
    scene.after(600, lambda: scene.desk.add(rule))
    scene.after(3000, scene.desk.hub.faults.clear)
    told = scene.watch(until="done")
    assert (told.code, told.outputs["over"]) == (0, "true")
    assert told.seconds >= 7200


def test_one_empty_answer_is_no_end(scene: Scene) -> None:
    """The job is there, and is waited for."""
    job = scene.queue()
    scene.after(30, picks_up(scene, job.id))
    scene.after(900, lambda: scene.state.set_job(job.id, conclusion="failure"))
    empty = answer(200, {"total_count": 0, "jobs": []}, path=JOBS)
    scene.after(100, lambda: scene.desk.add(empty))
    assert scene.watch(until="done").code == JobFailed.exit_code


def test_a_watch_to_the_end_of_nothing_ends(scene: Scene) -> None:
    """Where no job asks for the label there is nothing to stay for."""
    assert scene.watch(until="done", **SHORT).code == 0


@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out"])
def test_a_watch_to_the_end_fails_with_its_job(scene: Scene, conclusion: Conclusion) -> None:
    """GitHub re-runs what failed and what needs it: the watch, which can bring a machine again, has
    to fail with the job (pain 6)."""
    job = scene.queue()
    scene.after(30, picks_up(scene, job.id))
    scene.after(1830, lambda: scene.state.set_job(job.id, conclusion=conclusion))
    told = scene.watch(until="done")
    assert told.code == JobFailed.exit_code
    assert 1830 <= told.seconds <= 1830 + LAST_LOOK
    assert f"test ended as {conclusion}" in told.log
    assert scene.posts() == []


def test_a_watch_to_the_end_succeeds_with_its_job(scene: Scene) -> None:
    """And asks seldom: a job of six hours costs it some 180 requests, all counted."""
    job = scene.queue()
    scene.after(10, picks_up(scene, job.id))
    scene.after(6 * 3600, lambda: scene.state.set_job(job.id, conclusion="success"))
    assert scene.watch(until="done").code == 0
    assert len(scene.desk.calls("GET", JOBS)) <= 190


def test_a_watch_to_the_end_still_ends_a_wait(scene: Scene) -> None:
    """No runner comes: the run is cancelled as by any watch (row 1.13)."""
    scene.queue()
    told = scene.watch(until="done", **SHORT)
    assert (told.code, told.ended()) == (34, ("1", "0", "0"))


# Picked up


@pytest.mark.parametrize("seconds", [0, 1, 42, 59])
def test_a_watch_ends_within_seconds_of_the_pickup(scene: Scene, seconds: int) -> None:
    """With success and without a cancel, also one second before the limit (pain 2, row 1.13)."""
    job = scene.queue()
    scene.after(seconds, picks_up(scene, job.id))
    told = scene.watch(**SHORT)
    assert (told.code, told.ended()) == (0, ("0", "0", "0"))
    assert seconds <= told.seconds <= seconds + LOOK_SECONDS
    assert "Picked up: test on gpu-1." in told.log
    assert scene.posts() == []
    assert told.page == ""


@pytest.mark.parametrize(
    "end", [{"conclusion": "success"}, {"conclusion": "skipped"}, {"conclusion": "cancelled"}]
)
def test_a_job_that_is_over_waits_for_nothing(scene: Scene, end: dict[str, Any]) -> None:
    """A job of seconds, one that was skipped because its start failed, and a run that somebody
    cancelled: the watch stops looking (row 1.13)."""
    scene.state.set_job(scene.queue().id, **end)
    told = scene.watch()
    assert (told.code, told.seconds, scene.posts()) == (0, 0, [])


def test_looking_on_costs_no_rate_limit(scene: Scene) -> None:
    """While nothing changes each look is a 304: a watch of many minutes counts as many requests as
    things happen."""
    job = scene.queue()
    scene.after(600, picks_up(scene, job.id))
    assert scene.watch().code == 0
    assert len(scene.desk.calls("GET", JOBS)) == 1 + 600 / LOOK_SECONDS
    assert scene.state.counted_calls == 3  # its run, and its jobs twice


def test_a_pickup_between_the_two_looks_changes_nothing(scene: Scene) -> None:
    """The jobs are read again right before the cancel (row 1.13)."""
    job = scene.queue()
    scene.clock.sleep(60)

    def pick_up(number: int, phase: str, request: Request) -> None:
        if phase == "after" and len(scene.desk.calls("GET", JOBS)) == 1:
            picks_up(scene, job.id)()

    scene.desk.hub.faults.on_request(pick_up)
    assert scene.watch(**SHORT).code == 0
    assert scene.posts() == []


@pytest.mark.parametrize(("nth", "code"), [(2, 0), (3, 34)])
def test_nothing_is_waited_for_between_the_last_look_and_the_cancel(
    scene: Scene, nth: int, code: int
) -> None:
    """The list of runners may be slow to come: the jobs are read after it (row 1.13)."""
    job = scene.queue()
    slow = {"Retry-After": "30"}
    scene.desk.add(answer(403, {"message": "secondary"}, headers=slow, path=r"/runners\?", nth=nth))
    scene.after(75, picks_up(scene, job.id), must=nth == 2)
    cancelled: list[str] = []

    def note(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "POST":
            cancelled.append(scene.state.job(job.id).status)

    scene.desk.hub.faults.on_request(note)
    told = scene.watch(github_token=scene.desk.admin, **SHORT)
    assert (told.code, cancelled) == (code, ["queued"] if code else [])


def test_a_busy_runner_with_the_label_has_the_job(scene: Scene) -> None:
    """GitHub's list of jobs can lag behind its runners: who may see those does not cancel a job
    that has begun (row 1.13)."""
    job = scene.queue()
    scene.register(name_of(), label_of(), online=True, busy=True)
    scene.after(100, picks_up(scene, job.id))
    assert scene.watch(github_token=scene.desk.admin, **SHORT).code == 0
    assert scene.posts() == []


# Not picked up


def test_a_job_that_nobody_takes_ends_its_run(scene: Scene) -> None:
    """Its run is cancelled once, plainly, so that the stop job still runs; the step fails at once
    with 34, and label, age and next step are in annotation and summary (pain 2, row 1.13)."""
    job, stop = scene.queue(), scene.queue(name="stop", labels=("ubuntu-latest",), always=True)
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds, scene.posts()) == (34, 60, ["7 cancel"])
    assert scene.state.job(job.id).conclusion == "cancelled"
    assert scene.state.job(stop.id).status == "queued"
    [annotation] = [line for line in told.log.splitlines() if line.startswith("::error::")]
    for text in (annotation, told.page):
        assert "ob 'test' has waited 60 seconds for a runner with the label" in text
        assert label_of() in text.replace("\\", "")
        assert "Re-run all jobs" in text
    assert told.ended() == ("1", "0", "0")
    assert told.page.count("### Watchdog") == 1


def test_what_is_told_to_programs(scene: Scene) -> None:
    """The report says which run, why, since when and what was done, as JSON (pain 2)."""
    since = "2027-01-15T08:00:00Z"
    scene.queue()
    told = scene.watch(**SHORT)
    [found] = told.findings
    assert (told.report["scope"], told.report["dry_run"]) == ("run", False)
    assert (found["kind"], found["what"], found["since"]) == ("run", "run 7", since)
    assert (found["done"], found["acted"]) == ("the run is cancelled", True)
    assert label_of() in found["why"]


@pytest.mark.parametrize("state", ["no runner", "offline", "hangs"])
def test_the_message_knows_the_runner(scene: Scene, state: str) -> None:
    """A ghost that listens and takes nothing is told from a machine that is gone (pains 2, 21)."""
    scene.queue()
    if state != "no runner":
        scene.register(name_of(), label_of(), online=state == "hangs")
    words = {
        "no runner": "No runner has that label",
        "offline": f"{name_of()} has it and is offline",
        "hangs": f"{name_of()} has it, is online, and does not take the job",
    }
    told = scene.watch(github_token=scene.desk.admin, **SHORT)
    assert told.code == 34
    assert words[state] in told.log


def test_a_rerun_of_failed_jobs_is_ended_after_half_a_minute(scene: Scene) -> None:
    """The label is of attempt 1, whose machine was given back: nothing can come, and "Re-run all
    jobs" is what helps (pain 6)."""
    scene.state.set_run(RUN, attempt=2)
    scene.own_job()
    scene.queue(labels=(label_of(attempt=1),))
    told = scene.watch()
    assert (told.code, told.seconds, scene.posts()) == (34, 30, ["7 cancel"])
    assert "attempt 1's" in told.log
    assert "use 'Re-run all jobs'" in told.log


def test_one_leg_of_a_matrix_that_is_stuck_ends_the_run(scene: Scene) -> None:
    """Eleven legs that run do not hide the twelfth (pain 2)."""
    for leg in range(12):
        job = scene.queue(name=f"test ({leg})", labels=(label_of(index=leg),))
        if leg != 5:
            scene.after(leg, picks_up(scene, job.id))
    told = scene.watch(**SHORT)
    assert (told.code, scene.posts()) == (34, ["7 cancel"])
    [found] = told.findings
    assert "test (5)" in found["why"]
    assert "test (4)" not in found["why"]


def test_a_matrix_is_watched_until_its_last_leg(scene: Scene) -> None:
    """Legs begin one after the other; the watch ends with the last of them."""
    for leg in range(3):
        job = scene.queue(name=f"test ({leg})", labels=(label_of(index=leg),))
        scene.after(leg * 20, picks_up(scene, job.id))
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds) == (0, 40)


def test_dry_run_says_what_it_would_do(scene: Scene) -> None:
    """Nothing is changed, and the step fails all the same: the job has not been picked up."""
    job = scene.queue()
    told = scene.watch(dry_run="true", **SHORT)
    assert (told.code, scene.posts(), told.ended()) == (34, [], ("0", "0", "0"))
    assert "would be cancelled" in told.log
    assert scene.state.job(job.id).status == "queued"


def test_a_run_that_ended_meanwhile_is_no_error_of_the_cancel(scene: Scene) -> None:
    """A 409 for a run that is completed is as good as a cancel (row 1.13)."""
    scene.queue()

    def end(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "POST":
            scene.state.set_run(RUN, status="completed", conclusion="cancelled")

    scene.desk.hub.faults.on_request(end)
    told = scene.watch(**SHORT)
    assert (told.code, scene.posts()) == (34, ["7 cancel"])
    assert "could not be cancelled" not in told.log


@pytest.mark.parametrize(
    ("rule", "asked"),
    [
        (answer(409, {"message": "has not been queued yet"}, path=CANCEL, times=2), 3),
        (answer(502, path=CANCEL, times=2), 3),
        (drop(path=CANCEL), 2),
        (lose_answer(path=CANCEL), 1),
    ],
    ids=["not queued yet", "502", "reset", "lost"],
)
def test_a_cancel_is_insisted_on(scene: Scene, rule: Rule, asked: int) -> None:
    """Cancel does not always cancel: what helps is to ask again, if it is still to be (pain 5)."""
    scene.queue()
    scene.desk.add(rule)
    told = scene.watch(**SHORT)
    assert (told.code, scene.posts()) == (34, ["7 cancel"] * asked)
    assert scene.shown(RUN) != ("queued", None)
    assert "could not be cancelled" not in told.log


def test_a_cancel_that_is_refused_is_told(scene: Scene) -> None:
    """Without actions: write the run waits on, and the message says both (pain 5)."""
    scene.queue()
    scene.desk.add(answer(403, {"message": "Resource not accessible"}, path=CANCEL, times=None))
    told = scene.watch(**SHORT)
    assert (told.code, told.ended()) == (34, ("0", "0", "0"))
    assert "::error::The run could not be cancelled, and keeps waiting." in told.log
    assert [each["done"] for each in told.findings] == ["not cancelled"]


# What is watched


def test_a_job_that_appears_late_is_watched(scene: Scene) -> None:
    """GitHub lists jobs when those that they need are over; its age counts from then."""
    scene.queue(name="build", labels=("ubuntu-latest",))
    scene.after(40, scene.queue)
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds) == (34, 100)


def test_nothing_to_watch_in_a_run_where_nothing_goes_on(scene: Scene) -> None:
    """After a minute alone it ends with success and says what it looked for."""
    told = scene.watch()
    assert (told.code, told.seconds, scene.posts()) == (0, ALONE_SECONDS, [])
    assert "::warning::No job of this run asks for a label like gpu-ci-*" in told.log


def test_nothing_to_watch_while_other_jobs_go_on(scene: Scene) -> None:
    """A watched job may still come from them: it is waited for as long as a job may wait."""
    scene.queue(name="build", labels=("ubuntu-latest",))
    told = scene.watch(queue_minutes="3")
    assert (told.code, told.seconds, scene.posts()) == (0, 180, [])
    assert "::warning::No job of this run asks" in told.log


def test_a_run_without_any_job_is_not_watched_for_ever(scene: Scene) -> None:
    """An empty list is an answer too."""
    scene.desk.add(answer(200, {"total_count": 0, "jobs": []}, path=JOBS, times=None))
    told = scene.watch()
    assert (told.code, told.seconds) == (0, ALONE_SECONDS)


@pytest.mark.parametrize("status", ["waiting", "pending"])
def test_an_approval_is_no_wait_for_a_runner(scene: Scene, status: str) -> None:
    """A job that waits for people or for its turn is left to the scheduled watchdog (pain 4)."""
    scene.queue(status=status)
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds, scene.posts()) == (0, 60, [])
    assert f"::warning::No longer watched: test is {status}." in told.log


def test_an_approval_in_time_is_watched_from_then(scene: Scene) -> None:
    """Its wait begins when it was given, also where GitHub keeps the older times (pain 4)."""
    job, old = scene.queue(status="waiting"), scene.clock.now() - 999
    scene.after(38, lambda: scene.state.set_job(job.id, status="queued", started_at=old))
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds) == (34, 95)


def test_a_job_that_is_held_again_is_looked_at_for_as_long_anew(scene: Scene) -> None:
    """The time in which nobody waits begins when the last job stops waiting."""
    job = scene.queue()
    scene.after(50, lambda: scene.state.set_job(job.id, status="pending"))
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds, scene.posts()) == (0, 105, [])


@pytest.mark.parametrize("known_by", ["check run", "runner"])
def test_the_watch_does_not_watch_itself(scene: Scene, known_by: str) -> None:
    """Whatever the globs: its own job would always count as picked up."""
    if known_by == "runner":
        scene.of_runner = {"RUNNER_NAME": "hosted-1"}
    told = scene.watch(labels="*")
    assert (told.code, told.seconds) == (0, ALONE_SECONDS)
    assert "No job of this run asks for a label like *" in told.log


@pytest.mark.parametrize(("token", "watched"), [("admin", True), ("job", False)])
def test_labels_of_this_runs_runners_are_watched(
    scene: Scene, token: str, *, watched: bool
) -> None:
    """A job that asks only for a further label of a machine of this run is watched where the token
    may see the runners; other runs' runners add nothing."""
    scene.register("box", label_of(), "a100", online=True, busy=True)
    scene.register("other", label_of(8), "ubuntu-latest", online=True)
    scene.queue(labels=("a100",))
    scene.queue(name="hosted", labels=("ubuntu-latest",))
    given = {"admin": scene.desk.admin, "job": scene.job_token}[token]
    told = scene.watch(github_token=given, **SHORT)
    assert told.code == (34 if watched else 0)
    assert scene.posts() == (["7 cancel"] if watched else [])
    assert "'hosted'" not in told.log


def test_a_token_that_may_not_see_runners_is_noticed(scene: Scene) -> None:
    """The job is watched all the same; runners are asked for once."""
    scene.queue()
    least = scene.state.issue(credentials.fine_grained(REPOSITORY, actions="write"))
    told = scene.watch(github_token=least, **SHORT)
    assert (told.code, scene.posts()) == (34, ["7 cancel"])
    assert "::notice::Runners: " in told.log
    assert len(scene.desk.calls("GET", "/runners")) == 1


def test_labels_that_are_given_replace_the_others(scene: Scene) -> None:
    """Who says what is watched means that alone."""
    scene.queue()
    scene.queue(name="other", labels=("A100",))
    told = scene.watch(labels="h100, a1*", **SHORT)
    assert (told.code, told.findings[0]["why"].split("'")[1]) == (34, "other")
    assert "'test'" not in told.log


def test_other_attempts_are_not_looked_at(scene: Scene) -> None:
    """A watch that goes on while somebody re-runs the run ends only what its own attempt left."""
    job = scene.queue()
    scene.state.set_job(job.id, conclusion="failure")

    def again(number: int, phase: str, request: Request) -> None:
        if phase == "before" and number == 1:
            scene.state.set_run(RUN, attempt=2)
            scene.queue(labels=(label_of(attempt=2),))

    scene.desk.hub.faults.on_request(again)
    assert scene.watch(**SHORT).code == 0
    assert scene.posts() == []


# GitHub in trouble


@pytest.mark.parametrize(
    "rule",
    [
        answer(500, path=JOBS, nth=3, times=20),
        drop(path=JOBS, nth=3, times=20),
        answer(200, "<html>", path=JOBS, nth=3, times=20),
    ],
    ids=["500", "reset", "portal"],
)
@pytest.mark.parametrize("picked_up", [True, False])
def test_an_outage_is_borne(scene: Scene, rule: Rule, *, picked_up: bool) -> None:
    """Twenty answers that mean nothing end neither the watch nor the run; what is true when GitHub
    is back is what counts (pains 2 and 4)."""
    job = scene.queue()
    scene.desk.add(rule)
    if picked_up:
        scene.after(30, picks_up(scene, job.id))
    told = scene.watch(**SHORT)
    assert told.code == (0 if picked_up else 34)
    assert scene.posts() == ([] if picked_up else ["7 cancel"])


def test_an_outage_without_end_is_told(scene: Scene) -> None:
    """After ten minutes without an answer the watch fails as unreachable, and cancels nothing."""
    scene.queue()
    scene.desk.add(answer(503, path=JOBS, nth=2, times=None))
    told = scene.watch(**SHORT)
    assert (told.code, scene.posts()) == (13, [])
    assert OUTAGE_SECONDS <= told.seconds <= OUTAGE_SECONDS + 60
    assert "answered 503" in told.log


def test_a_rate_limit_is_waited_for(scene: Scene) -> None:
    """A limit that ends in minutes delays the verdict, and is not asked against (pain 18)."""
    scene.queue()
    scene.after(30, lambda: scene.state.set_remaining(0, reset_in=400, token=scene.job_token))
    scene.after(31, lambda: scene.queue(name="other", labels=("x",)))  # no 304 any more
    told = scene.watch(**SHORT)
    assert (told.code, scene.posts()) == (34, ["7 cancel"])
    assert 430 <= told.seconds <= 440
    assert len(scene.desk.calls("GET", JOBS)) < 15


def test_a_rate_limit_that_is_too_long_is_told(scene: Scene) -> None:
    """An hour is not slept away on a hosted runner: it fails at once with the limit's end."""
    scene.queue()
    scene.state.set_remaining(0, reset_in=3000, token=scene.job_token)
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds, scene.posts()) == (12, 0, [])
    assert "ends at 08:50:00 UTC" in told.log


def test_a_token_that_may_not_read_runs_is_told(scene: Scene) -> None:
    """Without the right it says which one is missing, at once."""
    scene.queue()
    scene.desk.add(answer(403, {"message": "Resource not accessible"}, path=JOBS, times=None))
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds, scene.posts()) == (10, 0, [])
    assert "actions: read" in told.log


# The cancel ends the watch too


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_cancel_that_comes_back_does_not_lose_the_words(
    scene: Scene, number: signal.Signals
) -> None:
    """The runner interrupts this very step because of the cancel that it asked for: label, age and
    advice are told all the same, and the exit code stays 34 (pain 2)."""
    scene.queue()

    def interrupt(_number: int, phase: str, request: Request) -> None:
        if phase == "after" and request.method == "POST":
            os.kill(os.getpid(), number)

    scene.desk.hub.faults.on_request(interrupt)
    told = scene.watch(**SHORT)
    assert (told.code, told.ended()) == (34, ("1", "0", "0"))
    assert label_of() in told.log
    assert "### Watchdog" in told.page


def test_all_is_told_before_the_cancel_is_asked_for(scene: Scene) -> None:
    """Who is killed by it has said everything: log, summary page and outputs (pain 2)."""
    scene.queue()
    at_the_cancel: list[tuple[str, str]] = []

    def look(_number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "POST":
            page, outputs = scene.folder / "page", scene.folder / "outputs"
            at_the_cancel.append((page.read_text(), outputs.read_text()))

    scene.desk.hub.faults.on_request(look)
    assert scene.watch(**SHORT).code == 34
    [(page, outputs)] = at_the_cancel
    assert "has waited 60 seconds" in page
    assert '"acted":true' in outputs


def test_a_cancel_by_somebody_else_ends_the_watch(scene: Scene) -> None:
    """While it waits, a signal ends it at once and nothing is cancelled (row 1.13: it stops looking
    when the run ends)."""
    scene.queue()
    scene.after(20, lambda: os.kill(os.getpid(), signal.SIGINT))
    told = scene.watch(**SHORT)
    assert (told.code, told.seconds, scene.posts()) == (130, 20, [])
