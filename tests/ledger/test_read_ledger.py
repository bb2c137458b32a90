"""What of the annotations of a month is believed, and what reading them costs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes import REPOSITORY
from tests.ledger.desk import DAY, NOON, STOP, add_job, entry, history, limit_from, stopped

from gpu_ci.errors import Forbidden, Limited, Unreachable
from gpu_ci.ledger.entry import TITLE
from gpu_ci.ledger.read_ledger import month_of, read_ledger, sums
from gpu_ci.model.machine import Price
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.annotations import Annotation
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from tests.github.desk import Desk

    from gpu_ci.ledger.entry import Entry
    from gpu_ci.ledger.read_ledger import Ledger

MONTH = month_of(NOON)
OURS = "gpu-ci-7-1-test-0123456789-0"


def read(desk: Desk, **how: Any) -> Ledger:
    return read_ledger(history(desk), MONTH, **how)


def several(desk: Desk, count: int, each: float = 1.0) -> None:
    """Let there be so many stops, a minute apart; m-0 is the newest."""
    for number in reversed(range(count)):
        stopped(desk, entry(each, machine=f"m-{number}"), ago=number * 60)


def spent(desk: Desk) -> dict[str, float]:
    return sums(read(desk).lines)


def test_a_month_is_read(desk: Desk) -> None:
    """Every stop since the first, newest run first, with the run that it belongs to."""
    stopped(desk, entry(1.0), ago=DAY, name="gpu")
    stopped(desk, entry(2.0, machine="a"), entry(3.0, machine="b"))
    stopped(desk, entry(50.0), ago=22 * DAY)
    ledger = read(desk)
    assert ledger.complete
    assert [line.entry.cost for line in ledger.lines] == [2.0, 3.0, 1.0]
    assert [line.run.name for line in ledger.lines] == ["ci", "ci", "gpu"]
    assert sums(ledger.lines) == {"USD": 6.0}
    assert sums(read(desk, workflow="gpu").lines) == {"USD": 1.0}


def test_a_month_without_runs(desk: Desk) -> None:
    """Nothing was spent, and that is known."""
    desk.state.reset()
    ledger = read(desk)
    assert (ledger.complete, ledger.runs, ledger.lines) == (True, 0, ())
    assert month_of(NOON) == NOON - 21 * DAY - DAY / 2


def test_a_price_in_another_currency_is_added_up_apart(desk: Desk) -> None:
    """Rupees are no dollars; an unknown cost is in no sum."""
    rupees = entry(machine="a", price=Price(per_hour=80.0, currency="INR"))
    stopped(desk, entry(1.0), rupees, entry(machine="b", price=None))
    assert spent(desk) == {"USD": 1.0, "INR": 80.0}


@pytest.mark.parametrize(
    "forged",
    [
        {"steps": ("Run tests",)},
        {"job": {"labels": [f"{OURS}-deadbeef"], "runner_name": OURS}},
        {"job": {"labels": ["gpu"], "runner_name": OURS}},
        {"event": "pull_request", "fork": "mallory/widgets"},
        {"event": "pull_request_review", "fork": "mallory/widgets"},
        {"title": "gpu-ci costs"},
        {"title": ""},
    ],
)
def test_what_a_stop_cannot_have_left_is_not_believed(desk: Desk, forged: dict[str, Any]) -> None:
    """A test prints `::notice title=gpu-ci cost::…`, on the GPU or off it; a pull request of a fork
    brings a workflow of its own, with a step of any name. Neither blocks a budget nor frees it."""
    stopped(desk, entry(1.0))
    stopped(desk, entry(1_000_000.0), "forged", **forged)
    assert spent(desk) == {"USD": 1.0}
    assert read(desk).unreadable == ()


def test_a_step_that_was_skipped_has_left_nothing(desk: Desk) -> None:
    """What the job's other steps print is not its word."""
    _, job = stopped(desk, entry(9.0))
    skipped = [replace(each, conclusion="skipped") for each in job.steps]
    desk.state.set_job(job.id, steps=tuple(skipped))
    assert spent(desk) == {}


@pytest.mark.parametrize("event", ["pull_request_target", "workflow_run", "push"])
def test_what_the_repository_itself_runs_counts_whoever_caused_it(desk: Desk, event: str) -> None:
    """Its workflow is the repository's own, so its stops are, and their costs are real."""
    stopped(desk, entry(1.0), event=event, fork="mallory/widgets")
    assert spent(desk) == {"USD": 1.0}


def test_a_pull_request_of_the_repository_itself_counts(desk: Desk) -> None:
    """Who may push a branch has the secrets, too."""
    stopped(desk, entry(1.0), event="pull_request")
    assert spent(desk) == {"USD": 1.0}


def test_lines_that_are_no_entries_are_counted(desk: Desk) -> None:
    """A stop of another version is not taken for one without cost; negative amounts mean nothing."""
    minus = str(entry(1.0)).replace("1.0000", "-1.0000").replace("at 1 USD", "at -1 USD")
    run, job = stopped(desk, f"{entry(1.0)}\n{minus}\nhello")
    ledger = read(desk)
    assert sums(ledger.lines) == {"USD": 1.0}
    assert [(each.run.id, each.job) for each in ledger.unreadable] == [(run.id, job.name)] * 2


def test_every_attempt_counts_once(desk: Desk) -> None:
    """A re-run's stop is another one; a job that a re-run of failed jobs only lists again is not."""
    run, job = stopped(desk, entry(1.0, machine="box"))
    add_job(desk, run, name="test", steps=(), conclusion="failure")
    desk.state.runs.rerun(desk.state.run(run.id), lambda each: each.conclusion == "failure")
    (carried,) = [
        each for each in desk.state.all_jobs() if each.attempt == 2 and each.name == "stop"
    ]
    desk.state.annotate(carried.id, desk.state.annotations[job.id][0])
    assert carried.id != job.id
    assert spent(desk) == {"USD": 1.0}
    later = add_job(desk, desk.state.run(run.id), started_at=NOON + 600.0)
    desk.state.annotate(later.id, desk.state.annotations[job.id][0])
    assert spent(desk) == {"USD": 2.0}


@pytest.mark.parametrize("conclusion", ["skipped", "startup_failure", "action_required"])
def test_a_run_in_which_nothing_began_is_not_looked_into(desk: Desk, conclusion: str) -> None:
    """It costs no request; an earlier attempt of it would."""
    run = desk.state.start_run(REPOSITORY, status="completed", conclusion=conclusion)
    read(desk)
    assert desk.calls(path=f"runs/{run.id}/") == []
    desk.state.set_run(run.id, attempt=2)
    read(desk)
    assert len(desk.calls(path=f"runs/{run.id}/")) == 1


def test_three_hundred_runs_are_that_many_requests(desk: Desk) -> None:
    """One for each hundred runs, one for each run, one for each stop: 603 for 300."""
    desk.state.reset()
    several(desk, 300, 0.01)
    ledger = read(desk)
    assert (ledger.complete, ledger.runs, len(ledger.lines)) == (True, 300, 300)
    assert desk.state.counted_calls == 603
    assert sums(ledger.lines)["USD"] == pytest.approx(3.0)


def test_more_runs_than_a_filtered_list_has_are_all_read(desk: Desk) -> None:
    """GitHub ends a filtered list after 1,000: it goes on with those that are older."""
    desk.state.reset()
    for number in reversed(range(1003)):
        began = NOON - 60.0 * (number // 4)
        desk.state.start_run(
            REPOSITORY, created_at=began, started_at=began, status="completed", conclusion="skipped"
        )
    ledger = read(desk)
    assert (ledger.runs, ledger.complete) == (1003, True)


def test_a_cut_is_told(desk: Desk) -> None:
    """No more runs than asked for, and it says so."""
    several(desk, 3)
    ledger = read(desk, most_runs=2)
    assert (ledger.runs, ledger.cut, ledger.complete) == (2, True, False)


def test_a_rate_limit_keeps_what_was_read(desk: Desk) -> None:
    """The newest runs stay, without a gap among them; where it ends is known, and why."""
    several(desk, 20)
    limit_from(desk, desk.state.runs.of(REPOSITORY)[7].id)
    ledger = read_ledger(history(desk, patience=5.0), MONTH)
    assert isinstance(ledger.gap, Limited)
    assert (ledger.complete, ledger.runs) == (False, 7)
    names = [line.entry.machine for line in ledger.lines]
    assert names == [f"m-{number}" for number in range(7)]
    assert ledger.oldest == NOON - 6 * 60


def test_an_outage_is_no_end_of_the_ledger(desk: Desk) -> None:
    """What GitHub does not answer is a gap, never nothing."""
    stopped(desk, entry(1.0))
    desk.add(answer(502, "bad gateway", path="annotations", times=None))
    ledger = read_ledger(history(desk, patience=5.0), MONTH)
    assert isinstance(ledger.gap, Unreachable)
    assert (ledger.runs, ledger.complete) == (0, False)


def test_the_jobs_own_token_is_asked_first(desk: Desk) -> None:
    """It has a rate limit of its own; where it may not, the other one is asked, and it no more."""
    several(desk, 3)
    own = desk.state.issue(credentials.job_token(REPOSITORY, actions="read"))
    reader = history(desk, run_token=own)
    runs = list(reader.runs(MONTH))
    job = reader.jobs(runs[0].id)[0].id
    assert left(desk, desk.admin) == 5000
    assert reader.annotations(job)
    assert (left(desk, own), left(desk, desk.admin)) == (997, 4999)
    assert reader.annotations(job)
    assert left(desk, own) == 997


def left(desk: Desk, token: str) -> int:
    """Return how many requests this token has left of its hour."""
    limit = desk.state.credentials[token].hourly_limit
    return desk.state.limits.window(token, limit).remaining


def test_a_token_without_the_right_is_told_which(desk: Desk) -> None:
    """Not the right over runners, which has nothing to do with it."""
    stopped(desk, entry(1.0))
    poor = desk.state.issue(credentials.fine_grained(REPOSITORY, actions="read"))
    gap = read_ledger(history(desk, poor), MONTH).gap
    assert isinstance(gap, Forbidden)
    assert "`checks: read`" in str(gap)


def test_annotations_are_read_to_the_last_page(desk: Desk) -> None:
    """A job with several steps may have more than a hundred."""
    _, job = stopped(desk)
    for number in range(150):
        note = Annotation(level="warning", title="x", message=f"{number}")
        desk.state.annotate(job.id, note)
    desk.state.annotate(
        job.id, Annotation(level="notice", title="gpu-ci cost", message=str(entry()))
    )
    assert spent(desk) == {"USD": 0.5}


@pytest.mark.parametrize("later_first", [False, True])
def test_a_machine_counts_once_in_a_run(desk: Desk, later_first: bool) -> None:
    """A stop by key and one by handle, or a re-run, tell of it again: who came first knows best."""
    told = [entry(), entry(seconds=7200, split=None), entry(seconds=None, split=None)]
    run, _ = stopped(desk)
    for each in reversed(told) if later_first else told:
        job = add_job(desk, run)
        desk.state.annotate(job.id, Annotation(level="notice", title=TITLE, message=str(each)))
    assert [line.entry for line in read(desk).lines] == [told[0]]


@pytest.mark.parametrize("lesser", [entry(9.0, price=None), entry(9.0, seconds=None, split=None)])
def test_of_two_lines_the_one_that_tells_a_cost_counts(desk: Desk, lesser: Entry) -> None:
    """However short the other one's time is: it must not block a budget."""
    stopped(desk, lesser, entry(1.0), lesser, job={"completed_at": NOON + 1})
    assert [line.entry for line in read(desk).lines] == [entry(1.0)]


def test_a_kept_machine_counts_as_often_as_it_was_rented(desk: Desk) -> None:
    """Its name is the same each time."""
    run, _ = stopped(desk, entry(1.0, machine="box"))
    later = add_job(desk, run, name="stop again")
    note = Annotation(level="notice", title=TITLE, message=str(entry(2.0, machine="box")))
    desk.state.annotate(later.id, note)
    assert spent(desk) == {"USD": 3.0}
    stopped(desk, entry(4.0))
    stopped(desk, entry(8.0))
    assert spent(desk) == {"USD": 15.0}


@pytest.mark.parametrize("of_attempt", ["1", "2", "kept"])
def test_an_unknown_time_counts_from_the_attempt_that_it_is_of(desk: Desk, of_attempt: str) -> None:
    """Not from the run's creation days ago, unless the machine is of then; jobs that the re-run only
    lists again are no beginning of it."""
    run, _ = stopped(desk, ago=3 * DAY)
    add_job(desk, run, name="test", steps=(), conclusion="failure")
    desk.state.runs.rerun(desk.state.run(run.id), lambda each: each.conclusion == "failure")
    name = {"kept": "box"}.get(of_attempt, f"gpu-ci-{run.id}-{of_attempt}-test-0123456789-0")
    again = desk.state.run(run.id)
    add_job(desk, again, name="start", steps=(), started_at=NOON - 50, completed_at=NOON)
    stop = add_job(desk, again, name="late stop", started_at=NOON, completed_at=NOON + 50)
    left = entry(36.0, machine=name, seconds=None, split=None)
    desk.state.annotate(stop.id, Annotation(level="notice", title=TITLE, message=str(left)))
    (line,) = read(desk).lines
    assert line.most_seconds == (3 * DAY + 50 if of_attempt == "1" else 100)


def test_a_machine_of_unknown_time_is_billed_no_longer_than_its_run(desk: Desk) -> None:
    """A budget counts it from the run's beginning to the end of the stop's job."""
    stopped(desk, entry(36.0, seconds=None, split=None), job={"completed_at": NOON + 100})
    (line,) = read(desk).lines
    assert line.entry.cost is None
    assert line.most == pytest.approx(1.0)
    assert STOP == "Run org/gpu-ci/action-stop@v1"
