"""A pass over the runs of a repository: who is ended, who is left alone, and what is said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.github.desk import RUN
from tests.watchdog.scene import LIMIT, Scene, label_of, name_of

from gpu_ci.watchdog import PASS_SECONDS
from gpu_ci.watchdog.stuck_runs import GRACE_SECONDS
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.faults import answer, drop, lose_answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu_ci_sandbox.faults import Request, Rule

CANCEL, FORCE = r"/cancel$", r"/force-cancel$"


def hears(scene: Scene, method: str, path: str, event: Callable[[], object]) -> None:
    """Let something happen right after the first such request."""
    done: list[int] = []

    def hook(number: int, phase: str, request: Request) -> None:
        if phase == "after" and request.method == method and path in request.path and not done:
            done.append(number)
            event()

    scene.desk.hub.faults.on_request(hook)


# Ended


def test_a_run_that_waits_too_long_is_cancelled(scene: Scene) -> None:
    """Once and plainly: the stop job goes on. Report and summary name job, label and age
    (pain 2)."""
    job = scene.stuck(11, name="nightly")
    stop = scene.queue(11, "stop", ("ubuntu-latest",), always=True)
    scene.clock.sleep(LIMIT)
    told = scene.sweep()
    assert (told.code, told.ended(), scene.posts()) == (0, ("1", "0", "0"), ["11 cancel"])
    assert scene.state.job(job.id).conclusion == "cancelled"
    assert scene.state.job(stop.id).status == "queued"
    [found] = told.findings
    assert (found["what"], found["done"], found["acted"]) == (
        "run 11 (nightly)",
        "cancelled",
        True,
    )
    assert found["since"] == "2027-01-15T08:00:01Z"
    assert f"has waited 15 minutes for a runner with the label {label_of(11)}" in found["why"]
    assert "No runner has that label." in found["advice"]
    assert "run 11 (nightly)" in told.page


def test_several_jobs_of_a_run_are_told_together(scene: Scene) -> None:
    """One cancel and one finding, which names those that wait longest first (pain 2)."""
    scene.run(11)
    scene.clock.sleep(61)
    scene.queue(11)
    begin = scene.clock.now()
    scene.clock.sleep(60)
    second = scene.queue(11, "second")
    scene.queue(11, "third")
    scene.state.set_job(second.id, created_at=begin - 30, started_at=begin - 30)
    scene.clock.sleep(LIMIT)
    [found] = scene.sweep().findings
    assert [part.split("'")[1] for part in found["why"].split("; ")] == ["second", "test", "third"]
    assert found["since"] == "2027-01-15T08:00:31Z"
    assert scene.posts() == ["11 cancel"]


@pytest.mark.parametrize("quirk", ["least-advanced", "begun"])
def test_a_run_is_found_whatever_status_it_shows(scene: Scene, quirk: Any) -> None:
    """Reports differ whether a run with a queued job is queued or in progress: the jobs decide."""
    scene.state.set_quirks(run_status=quirk)
    scene.stuck(11)
    scene.state.set_job(scene.queue(11, "build", ("x",)).id, status="in_progress")
    scene.clock.sleep(LIMIT)
    assert scene.sweep().done == {"run 11 (ci)": "cancelled"}


@pytest.mark.parametrize("status", ["waiting", "pending", "requested"])
def test_a_queued_job_beside_one_that_is_held_is_found(scene: Scene, status: str) -> None:
    """The run shows what its other job waits for, an approval for example."""
    scene.stuck(11, status=status)
    scene.clock.sleep(LIMIT)
    assert scene.sweep().done == {"run 11 (ci)": "cancelled"}


def test_a_rerun_of_failed_jobs_is_ended_in_the_next_pass(scene: Scene) -> None:
    """Its label is of attempt 1, whose machine was given back: it is ended however young it is, and
    told to use "Re-run all jobs" (pain 6)."""
    scene.run(11, attempt=2)
    scene.queue(11, labels=(label_of(11, 1),))
    scene.clock.sleep(31)
    told = scene.sweep()
    assert (told.code, scene.posts()) == (0, ["11 cancel"])
    assert "attempt 1's" in told.findings[0]["why"]
    assert "use 'Re-run all jobs'" in told.findings[0]["advice"]


def test_a_ghost_that_takes_nothing_is_named(scene: Scene) -> None:
    """Its runner listens, and the job waits all the same (pain 21)."""
    scene.stuck(11)
    scene.register(name_of(11), label_of(11), online=True)
    scene.clock.sleep(LIMIT)
    [found] = scene.sweep().findings
    assert f"{name_of(11)} has it, is online, and does not take the job." in found["advice"]


# Left alone


def as_it_is(scene: Scene) -> None:
    scene.run(11)


def young(scene: Scene) -> None:
    scene.stuck(11)
    scene.clock.sleep(LIMIT - 1)


def rerun(scene: Scene) -> None:
    scene.run(11)
    scene.clock.sleep(5 * 3600)
    scene.state.set_run(11, attempt=2, started_at=scene.clock.now())
    scene.queue(11)
    scene.clock.sleep(30)


def rerun_with_old_times(scene: Scene) -> None:
    scene.run(11)
    begin = scene.clock.now()
    scene.clock.sleep(5 * 3600)
    scene.state.set_run(11, attempt=2, started_at=scene.clock.now())
    scene.state.set_job(scene.queue(11).id, created_at=begin, started_at=begin)
    scene.clock.sleep(30)


def dead_run(scene: Scene) -> None:
    scene.stuck(11)
    scene.state.set_run(11, status="completed", conclusion="startup_failure")
    scene.clock.sleep(LIMIT)


def held(status: Any) -> Callable[[Scene], None]:
    def arrange(scene: Scene) -> None:
        scene.run(11)
        scene.queue(11, status=status)
        scene.clock.sleep(LIMIT)

    return arrange


def approved_late(scene: Scene) -> None:
    scene.run(11)
    job = scene.queue(11, status="waiting")
    scene.clock.sleep(LIMIT)
    scene.state.set_job(job.id, status="queued")
    scene.clock.sleep(LIMIT - 1)


def of_github(scene: Scene) -> None:
    scene.stuck(11, event="dynamic")
    scene.clock.sleep(LIMIT)


def of_another_label(scene: Scene) -> None:
    scene.run(11)
    scene.queue(11, labels=("self-hosted", "a100"))
    scene.clock.sleep(LIMIT)


def assigned(scene: Scene) -> None:
    scene.state.set_job(scene.stuck(11).id, runner_name="gpu-1")
    scene.clock.sleep(LIMIT)


def begun(scene: Scene) -> None:
    scene.state.set_job(scene.stuck(11).id, status="in_progress", runner_name="gpu-1")
    scene.clock.sleep(LIMIT)


def taken(scene: Scene) -> None:
    scene.stuck(11)
    scene.register(name_of(11), label_of(11), online=True, busy=True)
    scene.clock.sleep(LIMIT)


LEFT_ALONE = {
    "a run without jobs": as_it_is,
    "a second before the limit": young,
    "attempt 2 of a run that is five hours old": rerun,
    "attempt 2 whose job shows the times of attempt 1": rerun_with_old_times,
    "a job that is queued for ever in a run that is over": dead_run,
    "waiting for an approval": held("waiting"),
    "waiting for its concurrency group": held("pending"),
    "not yet queued": held("requested"),
    "approved less than the limit ago": approved_late,
    "GitHub's own, such as Dependabot's": of_github,
    "other labels": of_another_label,
    "given to a runner that has yet to begin": assigned,
    "in progress": begun,
    "on a busy runner that nobody else can have": taken,
}


@pytest.mark.parametrize("arrange", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_left_alone(scene: Scene, arrange: Callable[[Scene], None]) -> None:
    """What does not wait for a runner, or not for long, is not touched (the watchdog itself does
    harm: pain 4; row 1.13)."""
    arrange(scene)
    told = scene.sweep()
    assert (told.code, told.findings, scene.posts()) == (0, [], [])
    assert "Nothing waits too long, and nothing is left over." in told.log


def test_young_runs_cost_nothing(scene: Scene) -> None:
    """A first attempt that is younger than the limit cannot hold a wait that is over: its jobs are
    not read, so that many runs cost few requests (pain 4)."""
    for run_id in range(11, 31):
        scene.stuck(run_id)
    assert scene.sweep().findings == []
    assert scene.desk.calls("GET", "/jobs") == []


def test_labels_that_are_given_replace_ours(scene: Scene) -> None:
    """Who names labels watches those alone, in any case."""
    scene.stuck(11)
    scene.run(12)
    scene.queue(12, labels=("self-hosted", "A100-80GB"))
    scene.clock.sleep(LIMIT)
    assert list(scene.sweep(labels="a100-*").done) == ["run 12 (ci)"]


@pytest.mark.parametrize("remembers", [True, False])
def test_an_approval_that_was_seen_is_remembered(
    scene: Scene, tmp_path: Path, *, remembers: bool
) -> None:
    """Where GitHub keeps a job's older times, the pass that saw it wait for its approval tells the
    next ones, in cache-dir, since when it can have been queued (pain 4)."""
    begin, cache = scene.clock.now(), {"cache_dir": str(tmp_path / "cache") if remembers else ""}
    scene.run(11)
    job = scene.queue(11, status="waiting")
    scene.clock.sleep(3600)
    assert scene.sweep(**cache).findings == []
    scene.state.set_job(job.id, status="queued", started_at=begin)
    for _ in range(2 if remembers else 0):
        scene.clock.sleep(420)
        assert scene.sweep(**cache).findings == []
    scene.clock.sleep(60)
    assert scene.sweep(**cache).done == {"run 11 (ci)": "cancelled"}


# At the last moment


def test_a_job_that_is_picked_up_between_list_and_cancel_goes_on(scene: Scene) -> None:
    """Run and jobs are read again right before the cancel (row 1.13)."""
    job = scene.stuck(11)
    scene.clock.sleep(LIMIT)
    change = {"status": "in_progress", "runner_name": "gpu-1"}
    hears(scene, "GET", "/jobs", lambda: scene.state.set_job(job.id, **change))  # type: ignore[arg-type]  # its fields
    told = scene.sweep()
    assert (told.code, told.findings, scene.posts()) == (0, [], [])


@pytest.mark.parametrize("change", [{"status": "completed"}, {"attempt": 2}])
def test_a_run_that_ends_or_begins_anew_meanwhile_is_left(
    scene: Scene, change: dict[str, Any]
) -> None:
    """What was judged is not there any more (pain 5)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    hears(scene, "GET", "/jobs", lambda: scene.state.set_run(11, **change))
    told = scene.sweep()
    assert (told.code, told.findings, scene.posts()) == (0, [], [])


def test_a_run_that_is_deleted_meanwhile_is_no_error(scene: Scene) -> None:
    """The others are looked at all the same."""
    scene.stuck(11)
    scene.stuck(12)
    scene.clock.sleep(LIMIT)
    gone = scene.state.run(11)
    hears(scene, "GET", "/runs", lambda: scene.state.runs.delete(gone))
    told = scene.sweep()
    assert (told.code, told.done) == (0, {"run 12 (ci)": "cancelled"})


# A cancel that does not cancel (pain 5)


def test_a_run_that_ends_right_before_its_cancel(scene: Scene) -> None:
    """The 409 of a run that is completed is a success (pain 5)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)

    def end(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "POST":
            scene.state.set_job(scene.state.all_jobs()[0].id, conclusion="cancelled")

    scene.desk.hub.faults.on_request(end)
    told = scene.sweep()
    assert (told.code, scene.posts()) == (0, ["11 cancel"])


IGNORED = answer(202, {}, path=CANCEL, times=None)
NOT_YET = {"message": "Cannot cancel a workflow re-run that has not yet queued."}


@pytest.mark.parametrize(
    ("rules", "asked", "done"),
    [
        ([], ["cancel"], "cancelled"),
        ([IGNORED], ["cancel", "force-cancel"], "cancelled by force"),
        (
            [IGNORED, answer(500, {"message": "Oops"}, path=FORCE, times=2)],
            ["cancel", "force-cancel", "force-cancel", "force-cancel"],
            "cancelled by force",
        ),
        (
            [IGNORED, answer(409, NOT_YET, path=FORCE, times=2)],
            ["cancel", "force-cancel", "force-cancel", "force-cancel"],
            "cancelled by force",
        ),
        ([answer(409, NOT_YET, path=CANCEL, times=2)], ["cancel"] * 3, "cancelled"),
        ([drop(path=CANCEL)], ["cancel"] * 2, "cancelled"),
        ([lose_answer(path=CANCEL)], ["cancel"], "cancelled"),
    ],
    ids=[
        "plain",
        "ignored",
        "force 500 500 202",
        "force 409 409 202",
        "409 409 202",
        "reset",
        "lost",
    ],
)
def test_a_cancel_is_followed_until_the_job_waits_no_more(
    scene: Scene, rules: list[Rule], asked: list[str], done: str
) -> None:
    """Plain first, by force after a minute's grace, again while GitHub cannot; what is reported is
    what became of it (pain 5)."""
    job = scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(*rules)
    told = scene.sweep()
    assert (told.code, told.done) == (0, {"run 11 (ci)": done})
    assert scene.posts() == [f"11 {how}" for how in asked]
    assert scene.state.job(job.id).conclusion == "cancelled"
    grace = GRACE_SECONDS if "force-cancel" in asked else 0
    assert grace <= told.seconds <= grace + 30


def test_nothing_is_forced_without_its_grace(scene: Scene) -> None:
    """Force also kills the job that gives the machine back: a pass that has no time to wait leaves
    that to the next one, and says so (pain 5)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    slow = {"Retry-After": "470"}
    scene.desk.add(
        answer(403, {"message": "secondary"}, headers=slow, path="status=waiting"), IGNORED
    )
    told = scene.sweep()
    assert (told.code, scene.posts()) == (40, ["11 cancel"])
    assert told.done == {"run 11 (ci)": "cancelled, and not seen to end: the next pass looks again"}
    assert told.seconds <= PASS_SECONDS
    assert scene.sweep().done == {"run 11 (ci)": "cancelled by force"}


def test_nothing_is_forced_that_cannot_be_seen(scene: Scene) -> None:
    """After the cancel nobody can read whether it helped: its stop job may be at work (pain 5)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(answer(500, {"message": "Oops"}, path="/11/jobs", nth=3, times=None))
    told = scene.sweep()
    assert (told.code, scene.posts()) == (40, ["11 cancel"])
    assert told.done == {"run 11 (ci)": "cancelled, and not seen to end: the next pass looks again"}
    assert told.ended() == ("0", "0", "0")


def test_what_no_force_ends_is_told_and_fails(scene: Scene) -> None:
    """Both cancels are accepted and nothing changes: exit code 40, what was tried and what is left
    to do; a pass never says "cancelled" of a run that waits on (pain 5)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(IGNORED, answer(202, {}, path=FORCE, times=None))
    told = scene.sweep()
    assert (told.code, told.ended()) == (40, ("0", "0", "0"))
    assert scene.posts() == ["11 cancel", "11 force-cancel"]
    assert told.done == {"run 11 (ci)": "cancelled by force, and a job is still queued"}
    assert "::error::Run 11 was cancelled by force, and a job is still queued." in told.log
    assert "Delete the run" in told.log


def test_a_force_that_is_refused_is_told(scene: Scene) -> None:
    """Exit code 40 with GitHub's words (pain 5)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(IGNORED, answer(422, {"message": "No way"}, path=FORCE, times=None))
    told = scene.sweep()
    assert (told.code, told.ended()) == (40, ("0", "0", "0"))
    assert "not cancelled by force either" in told.log
    assert '"No way"' in told.log


def test_a_cancel_that_is_refused_does_not_stop_the_others(scene: Scene) -> None:
    """One run that cannot be cancelled is told, with exit code 40; the rest is ended (pain 5)."""
    for run_id in (11, 12, 13):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    scene.desk.add(answer(403, {"message": "No."}, path=r"/12/cancel$", times=None))
    told = scene.sweep()
    assert (told.code, told.ended()) == (40, ("2", "0", "0"))
    assert told.done["run 12 (ci)"] == "not cancelled"
    assert "Run 12 could not be cancelled." in told.log


def test_one_grace_for_all(scene: Scene) -> None:
    """Many runs that do not end at once are waited for together, not one after the other."""
    for run_id in range(11, 17):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    scene.desk.add(IGNORED)
    told = scene.sweep()
    assert set(told.done.values()) == {"cancelled by force"}
    assert told.seconds < 2 * GRACE_SECONDS


def test_cancels_are_a_second_apart(scene: Scene) -> None:
    """GitHub asks that of whoever changes things, and slows down who does not."""
    for run_id in (11, 12, 13):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    asked: list[float] = []

    def note(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "POST":
            asked.append(scene.clock.now())

    scene.desk.hub.faults.on_request(note)
    scene.sweep()
    first, second, third = asked
    assert third - second >= 1
    assert second - first >= 1


def test_a_job_that_runs_on_after_the_cancel_needs_no_force(scene: Scene) -> None:
    """Only the job that waited counts: force would kill the stop job that gives the machine back
    (pain 5, row 1.13)."""
    scene.stuck(11)
    stop = scene.queue(11, "stop", ("ubuntu-latest",), always=True)
    scene.state.set_job(stop.id, status="in_progress", runner_name="hosted-2")
    scene.clock.sleep(LIMIT)
    assert scene.sweep().code == 0
    assert scene.posts() == ["11 cancel"]
    assert scene.state.job(stop.id).status == "in_progress"


# How much in one pass (pain 4)


def test_max_actions(scene: Scene) -> None:
    """Those that wait longest are ended, the rest is said to be left to the next pass (pain 4)."""
    scene.run(12)
    scene.stuck(13)
    scene.stuck(11)
    scene.clock.sleep(1)
    scene.queue(12)
    scene.clock.sleep(LIMIT)
    told = scene.sweep(max_actions="2")
    assert (told.code, scene.posts()) == (0, ["13 cancel", "11 cancel"])
    assert told.done["run 12 (ci)"].startswith("left for the next pass: max-actions")
    assert told.ended() == ("2", "0", "0")
    assert scene.sweep(max_actions="2").done == {"run 12 (ci)": "cancelled"}


@pytest.mark.parametrize("most", ["0", "20"])
def test_dry_run(scene: Scene, most: str) -> None:
    """All is found and said, nothing is changed (pain 4)."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    told = scene.sweep(dry_run="true", max_actions=most)
    assert (told.code, told.ended(), scene.posts(), scene.deleted()) == (0, ("0",) * 3, [], [])
    assert told.done == {"run 11 (ci)": "would be cancelled"}
    assert told.report["dry_run"] is True


# What cannot be read (pain 4)


def many(scene: Scene) -> None:
    """Let there be 232 runs: of those on the first page 11 is stuck, of those on the third 10."""
    scene.stuck(10)
    scene.state.start_runs("octo/widgets", 150, {}, event="dynamic")
    job = scene.state.start_runs("octo/widgets", 1, {"test": [label_of(11)]})
    scene.state.set_run(job[0].id, name="eleven")
    scene.state.start_runs("octo/widgets", 80, {}, event="dynamic")
    scene.clock.sleep(LIMIT)


LIMITED_403 = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1800009999"}


@pytest.mark.parametrize(
    "rule",
    [
        answer(403, {"message": "rate limit"}, headers=LIMITED_403, path="page=3", times=None),
        answer(403, {"message": "Forbidden"}, path="page=3", times=None),
        answer(502, path="page=3", times=None),
        drop(path="page=3", times=None),
        answer(200, "<html>", path="page=3", times=None),
    ],
    ids=["limit", "forbidden", "502", "reset", "portal"],
)
def test_a_listing_that_breaks_off_is_acted_upon(scene: Scene, rule: Rule) -> None:
    """A failure on the third page: what stood on the first two is judged, and it is said that it was
    a part (a 403 killed the sweep: pain 4)."""
    many(scene)
    scene.desk.add(rule)
    told = scene.sweep()
    assert [each["done"] for each in told.findings] == ["cancelled"]
    assert "(eleven)" in told.findings[0]["what"]
    assert "Some of the runs that are queued" in told.unseen
    assert "::notice::Some of the runs that are queued" in told.log
    assert told.code == 0


def test_all_pages_are_read(scene: Scene) -> None:
    """Without a failure the run on the third page is ended as well."""
    many(scene)
    assert sorted(scene.sweep().done.values()) == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (answer(500, {"message": "Oops"}, path=r"/runs\?", times=None), 13),
        (answer(403, {"message": "Forbidden"}, path=r"/runs\?", times=None), 10),
    ],
)
def test_runs_that_cannot_be_listed_at_all_fail_the_pass(
    scene: Scene, rule: Rule, code: int
) -> None:
    """A watchdog that sees nothing does not say that all is well."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(rule)
    told = scene.sweep()
    assert (told.code, told.findings, scene.posts()) == (code, [], [])
    assert "Nothing waits too long" not in told.log + told.page


def test_a_run_whose_jobs_cannot_be_read_is_said(scene: Scene) -> None:
    """The others are judged; nothing is said of runs that were read."""
    for run_id in (11, 12, 13):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    scene.desk.add(answer(500, {"message": "Oops"}, path="/12/jobs", times=None))
    told = scene.sweep()
    assert told.done == {"run 11 (ci)": "cancelled", "run 13 (ci)": "cancelled"}
    assert "Jobs of run 12" in told.unseen
    assert "newer" not in told.unseen


def test_a_limit_ends_the_reading_of_jobs(scene: Scene) -> None:
    """What was read before is acted upon, what is newer is said to be unread (pain 4)."""
    for run_id in (11, 12, 13):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    scene.desk.add(
        answer(403, {"message": "limit"}, headers=LIMITED_403, path="/12/jobs", times=None)
    )
    told = scene.sweep()
    assert (told.code, told.done) == (0, {"run 11 (ci)": "cancelled"})
    assert "Jobs of run 12 and of newer runs" in told.unseen
    assert scene.desk.calls("GET", "/13/jobs") == []


def test_a_fifth_of_the_limit_is_left_to_others(scene: Scene) -> None:
    """The job's own token is every workflow's of the repository: reading ends at a fifth of it, what
    was read until then is acted upon, and it is said where it ended."""
    for run_id in range(11, 17):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    scene.state.set_remaining(208, token=scene.job_token)
    told = scene.sweep(github_token=scene.job_token)
    assert told.done == {f"run {run_id} (ci)": "cancelled" for run_id in (11, 12, 13)}
    assert scene.desk.calls("GET", "/14/jobs") == []
    assert "and of newer runs" in told.unseen
    assert "are left for all others" in told.unseen
    assert told.code == 0


def test_another_token_reads_on(scene: Scene) -> None:
    """Before the reading ends, the token that was given as well is used: its limit is its own."""
    for run_id in range(11, 17):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    scene.state.set_remaining(208, token=scene.job_token)
    told = scene.sweep()
    assert len(told.done) == 6
    assert (told.code, told.unseen) == (0, "")


def test_more_runs_than_a_listing_gives(scene: Scene) -> None:
    """A listing with a filter ends after a thousand: it goes on with those that are older, and the
    oldest run, which waits longest, is found (pain 20)."""
    scene.stuck(11)
    for number in (500, 600):
        scene.clock.sleep(10)
        scene.state.start_runs("octo/widgets", number, {}, event="dynamic")
    scene.clock.sleep(LIMIT)
    assert scene.sweep(github_token=scene.job_token).done == {"run 11 (ci)": "cancelled"}


def test_a_pass_has_an_end(scene: Scene) -> None:
    """Limits that end soon are waited for, but no longer than a pass may take."""
    for run_id in (11, 12, 13):
        scene.stuck(run_id)
    scene.clock.sleep(LIMIT)
    slow = {"Retry-After": "200"}
    scene.desk.add(answer(403, {"message": "secondary"}, headers=slow, path="/12/jobs", times=None))
    told = scene.sweep()
    assert told.done == {"run 11 (ci)": "cancelled"}
    assert "Jobs of run 12 and of newer runs" in told.unseen
    assert told.seconds <= PASS_SECONDS


def test_the_watchdogs_own_run_is_one_like_all(scene: Scene) -> None:
    """A watchdog that is called within the workflow of the GPU job ends that too."""
    scene.own_job()
    scene.queue()
    scene.clock.sleep(LIMIT)
    assert scene.sweep().done == {f"run {RUN} (ci)": "cancelled"}


def test_a_token_with_actions_alone_is_enough(scene: Scene) -> None:
    """The queue is watched with the least rights that there are."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    least = scene.state.issue(credentials.fine_grained("octo/widgets", actions="write"))
    told = scene.sweep(github_token=least)
    assert (told.code, told.done) == (0, {"run 11 (ci)": "cancelled"})
    assert "this token may not see runners" in told.findings[0]["advice"]
