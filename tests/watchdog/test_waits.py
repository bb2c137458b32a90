"""Which jobs wait for a runner, since when, for how long they may, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.watchdog.scene import label_of

from gpu_ci.github.client import Job, Run, Runner
from gpu_ci.watchdog.waits import EARLIER_SECONDS, OURS, Rule, Wait, advice, fitting, is_taken

NOW = 1_800_000_000.0
RULE = Rule(labels=OURS, limit=900.0)
RUN = Run(
    id=7, attempt=1, status="queued", conclusion="", created_at=NOW - 9999, started_at=NOW - 9999
)
JOB = Job(
    id=31,
    name="test",
    status="queued",
    conclusion="",
    labels=frozenset({label_of(7)}),
    runner_name="",
    created_at=NOW - 1000,
    started_at=NOW - 1000,
)
RUNNER = Runner(id=1, name="r", online=False, busy=False, labels=JOB.labels | {"a100"})


@pytest.mark.parametrize(
    ("globs", "labels", "watched"),
    [
        (OURS, {"gpu-ci-7-1-x"}, True),
        (OURS, {"self-hosted", "GPU-CI-7-1-x"}, True),
        (OURS, {"ubuntu-latest"}, False),
        (OURS, {"my-gpu-ci-7"}, False),
        (("A100",), {"a100"}, True),
        (("a100",), {"a1000"}, False),
        (("a100", "h*"), {"H200"}, True),
        (("gpu-?",), {"gpu-1"}, True),
        (("*",), set[str](), False),
        ((), {"gpu-ci-7"}, False),
    ],
)
def test_a_job_is_watched_by_its_labels(
    globs: tuple[str, ...], labels: set[str], *, watched: bool
) -> None:
    """One label that fits is enough; globs take the whole label, and case does not count."""
    rule = Rule(labels=globs, limit=1)
    assert rule.watches(replace(JOB, labels=frozenset(labels))) is watched


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({}, True),
        ({"status": "in_progress"}, False),
        ({"status": "completed", "conclusion": "cancelled"}, False),
        ({"status": "waiting"}, False),
        ({"status": "pending"}, False),
        ({"status": "requested"}, False),
        ({"runner_name": "r"}, False),
        ({"attempt": 2}, False),
        ({"labels": frozenset({"ubuntu-latest"})}, False),
    ],
)
def test_only_a_queued_job_without_a_runner_waits(
    changes: dict[str, object], *, waits: bool
) -> None:
    """An approval (waiting), a concurrency group (pending) and a runner that was given the job
    already are no wait for a runner (the watchdog does harm: pain 4)."""
    assert bool(RULE.waits(RUN, [replace(JOB, **changes)])) is waits  # type: ignore[arg-type]  # fields


@pytest.mark.parametrize(
    ("job", "run", "held", "since"),
    [
        ({}, {}, 0, NOW - 1000),
        ({"started_at": NOW - 30}, {}, 0, NOW - 30),
        ({"created_at": NOW - 30}, {}, 0, NOW - 30),
        ({}, {"started_at": NOW - 30}, 0, NOW - 30),
        ({}, {}, NOW - 30, NOW - 30),
        ({"created_at": 0.0, "started_at": 0.0}, {}, 0, NOW - 9999),
    ],
)
def test_a_wait_begins_with_the_latest_of_what_is_told(
    job: dict[str, float], run: dict[str, float], held: float, since: float
) -> None:
    """Never with the run's creation, which a re-run keeps, and not before an approval was given
    (a watchdog cancelled its own re-runs: pain 4)."""
    told, of = replace(JOB, **job), replace(RUN, **run)  # type: ignore[arg-type]  # fields
    [wait] = RULE.waits(of, [told], {JOB.id: held, 99: NOW})
    assert wait.since == since


def test_a_wait_is_over_at_its_limit_and_not_a_second_before() -> None:
    """A job may wait for exactly as long as was said (pain 2)."""
    [wait] = RULE.waits(RUN, [JOB])
    over = [wait.is_over(wait.since + seconds) for seconds in (0, 899, 900, 901)]
    assert over == [False, False, True, True]


@pytest.mark.parametrize(
    ("label", "attempt", "earlier"),
    [
        (label_of(7, 1), 1, ""),
        (label_of(7, 1), 2, "1"),
        (label_of(7, 2), 2, ""),
        (label_of(7, 2), 10, "2"),
        (label_of(8, 1), 2, ""),
        (label_of(77, 1), 2, ""),
        ("gpu-ci-7-1-box", 2, ""),
        ("a100", 2, ""),
    ],
)
def test_a_label_of_an_earlier_attempt_gets_no_runner(
    label: str, attempt: int, earlier: str
) -> None:
    """After "Re-run failed jobs" the label is of the attempt whose machine was given back: waiting
    for long has no point; a label of another form, or of another run, proves nothing (pain 6)."""
    run = replace(RUN, attempt=attempt)
    [wait] = RULE.waits(run, [replace(JOB, labels=frozenset({label, "gpu-ci-x"}), attempt=attempt)])
    assert wait.earlier == earlier
    assert wait.limit == (EARLIER_SECONDS if earlier else 900)


@pytest.mark.parametrize(
    ("status", "patient", "limit"),
    [
        ("in_progress", True, 1800),
        ("queued", True, EARLIER_SECONDS),
        ("completed", True, EARLIER_SECONDS),
        ("in_progress", False, EARLIER_SECONDS),
    ],
)
def test_a_machine_that_is_brought_again_may_boot(
    status: str, *, patient: bool, limit: float
) -> None:
    """A job that goes on beside it may be the watch that brings a machine for "Re-run failed jobs":
    a pass over the repository then leaves it the time (pain 6)."""
    rule = replace(RULE, patient=patient)
    other = replace(JOB, id=32, status=status, attempt=2, labels=frozenset({"ubuntu-latest"}))
    [wait] = rule.waits(replace(RUN, attempt=2), [replace(JOB, attempt=2), other])
    assert (wait.earlier, wait.limit) == ("1", limit)


def test_a_machine_that_was_brought_again_is_given_the_whole_time() -> None:
    """What waited while the machine booted does not count, and its label is no stale one."""
    rule = replace(RULE, brought=NOW)
    [wait] = rule.waits(replace(RUN, attempt=2), [replace(JOB, attempt=2)])
    assert (wait.earlier, wait.since, wait.limit) == ("", NOW, 900)


def test_a_short_limit_is_not_made_longer_for_an_earlier_attempt() -> None:
    """Who allows ten seconds gets ten."""
    rule = Rule(labels=OURS, limit=10.0)
    [wait] = rule.waits(replace(RUN, attempt=2), [replace(JOB, attempt=2)])
    assert (wait.earlier, wait.limit) == ("1", 10)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (31, "31 seconds"),
        (119.4, "119 seconds"),
        (120, "2 minutes"),
        (900, "15 minutes"),
        (7199, "120 minutes"),
        (7200, "2 hours"),
        (86400, "24 hours"),
    ],
)
def test_a_wait_is_told_in_words(seconds: float, told: str) -> None:
    """Which job, how long, for which label, and whose that label was (pain 2)."""
    job = replace(JOB, labels=frozenset({"gpu-ci-b", "gpu-ci-a"}))
    wait = Wait(job=job, since=NOW - seconds, limit=900)
    text = f"job 'test' has waited {told} for a runner with the label gpu-ci-a, gpu-ci-b"
    assert wait.describe(NOW) == text
    assert replace(wait, earlier="1").describe(NOW) == f"{text}, which was attempt 1's"


def test_a_runner_fits_with_all_labels_in_any_case() -> None:
    """As GitHub hands out jobs."""
    job = replace(JOB, labels=frozenset({"GPU", "a100"}))
    fits = replace(RUNNER, labels=frozenset({"gpu", "A100", "linux"}))
    assert fitting(job, [fits, replace(RUNNER, labels=frozenset({"gpu"}))]) == [fits]


@pytest.mark.parametrize(
    ("label", "runner", "on_it", "taken"),
    [
        (label_of(7), {"busy": True}, "", True),
        (label_of(7), {"busy": True}, "r", False),
        (label_of(7), {"busy": True}, "s", True),
        (label_of(7), {"busy": False}, "", False),
        (label_of(7), {"busy": True, "labels": frozenset({"a100"})}, "", False),
        ("a100", {"busy": True}, "", False),
    ],
)
def test_a_busy_runner_with_an_unguessable_label_has_the_job(
    label: str, runner: dict[str, object], on_it: str, *, taken: bool
) -> None:
    """No other job can have brought it there, unless one of the run is seen to be on it; with a
    shared label it may be anybody's (picked up at the last moment: row 1.13)."""
    wait = Wait(job=replace(JOB, labels=frozenset({label})), since=0, limit=0)
    other = replace(JOB, id=32, status="in_progress", runner_name=on_it)
    seen = replace(RUNNER, **runner)  # type: ignore[arg-type]  # its fields
    assert is_taken(wait, [wait.job, *([other] if on_it else [])], [seen]) is taken


OFFLINE, IDLE, BUSY = (
    RUNNER,
    replace(RUNNER, id=2, name="s", online=True),
    replace(RUNNER, id=3, name="t", online=True, busy=True),
)
FOREIGN = replace(RUNNER, id=4, name="f", online=True, labels=frozenset({"ubuntu"}))


@pytest.mark.parametrize(
    ("runners", "seen", "cure"),
    [
        (None, "not known: this token may not see runners", "Its machine has ended, or there"),
        ([], "No runner has that label", "Its machine has ended, or there never was one"),
        ([FOREIGN], "No runner has that label", "look at the log of the job that starts it"),
        ([OFFLINE], "r has it and is offline", "ended or lost its network: use 'Re-run all jobs'"),
        ([BUSY], "t has it and is busy", "takes one job: start one for each"),
        (
            [OFFLINE, BUSY],
            "r, t has it and is busy",
            "With runners of your own, raise queue-minutes",
        ),
        ([IDLE], "s has it, is online, and does not take the job", "whether its group may serve"),
        ([IDLE, BUSY], "s, t has it, is online, and does not take", "its group may serve"),
    ],
)
def test_what_is_said_of_runners_and_what_to_do(
    runners: list[Runner] | None, seen: str, cure: str
) -> None:
    """The next step depends on whether a runner is there, offline, busy or idle; one that is online
    and takes nothing hangs (pains 2 and 21)."""
    [wait] = RULE.waits(RUN, [JOB])
    assert seen in advice(wait, runners)
    assert cure in advice(wait, runners)


@pytest.mark.parametrize("runners", [None, [], [IDLE], [BUSY]])
def test_the_cure_for_an_earlier_attempt_is_one(runners: list[Runner] | None) -> None:
    """Whatever runners there are: the start job has to run again too (pain 6)."""
    [wait] = RULE.waits(replace(RUN, attempt=2), [replace(JOB, attempt=2)])
    assert advice(wait, runners).endswith(
        "'Re-run failed jobs' leaves the start job as it was, and the machine of attempt 1 was "
        "given back with it: use 'Re-run all jobs'."
    )
