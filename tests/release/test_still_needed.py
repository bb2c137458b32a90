"""Whether something in a run still needs a machine."""

from __future__ import annotations

import pytest

from gpu_ci.github.client import Job, Runner
from gpu_ci.release.still_needed import Asker, why_needed

NAME = "gpu-ci-7-1-test-abcdef0123-0"
LABEL = f"{NAME}-nonce"
WAITING = ("queued", "waiting", "pending", "requested")
STARTER = "11"
STOPPER = Asker(check_run_id="99")


def job(number: int, status: str = "in_progress", *labels: str, runner: str = "") -> Job:
    return Job(
        id=number,
        name=f"job {number}",
        status=status,
        conclusion="success" if status == "completed" else "",
        labels=frozenset(labels),
        runner_name=runner,
    )


def runner(*, busy: bool) -> Runner:
    return Runner(id=5, name=NAME, online=True, busy=busy, labels=frozenset({LABEL}))


def why(*jobs: Job, starter: str = STARTER, asker: Asker = STOPPER, busy: bool = False) -> str:
    """Ask for a machine whose runner is registered."""
    return why_needed(LABEL, starter, jobs, runner(busy=busy), asker)


STARTED = job(11, "completed")
STOPPING = job(99)


def test_nothing_is_left_that_needs_it() -> None:
    """The starter and the GPU job are over, only the stop itself is running: free."""
    assert why(STARTED, job(12, "completed", LABEL), STOPPING) == ""


def test_a_busy_runner_is_needed() -> None:
    """Whatever the jobs seem to be: a working runner is not killed (pain 9)."""
    assert why(STARTED, job(12, "completed", LABEL), STOPPING, busy=True)


def test_a_job_on_the_runner_needs_it_though_it_looks_idle() -> None:
    """GitHub says busy: false for minutes into a job (a working runner is killed because it looked
    idle: pain 9); the job's own record of its runner counts, also under a shared label."""
    assert "on its runner" in why(STARTED, job(12, "in_progress", "gpu", runner=NAME), STOPPING)


@pytest.mark.parametrize("status", [*WAITING, "in_progress"])
def test_a_job_with_its_label_needs_it(status: str) -> None:
    """In every state before its end, also where an approval or a concurrency group holds it."""
    assert status in why(STARTED, job(12, status, LABEL), STOPPING)


@pytest.mark.parametrize("status", [*WAITING, "in_progress"])
def test_a_job_with_another_label_does_not(status: str) -> None:
    """Jobs of the run that run elsewhere keep no machine."""
    assert why(STARTED, job(12, status, f"{LABEL}0"), STOPPING) == ""


@pytest.mark.parametrize("status", [*WAITING, "in_progress"])
def test_its_starter_needs_it_until_it_is_over(status: str) -> None:
    """A start of another matrix leg that waits for its runner is not robbed of it."""
    assert "started it" in why(job(11, status), STOPPING)


def test_with_an_unknown_starter_any_other_job_counts() -> None:
    """What is not known counts as needed: its starter may be the job that is still going."""
    assert "not known" in why(job(13), STOPPING, starter="")
    assert why(job(13, "completed"), STOPPING, starter="") == ""


def test_a_starter_that_is_not_in_the_run_any_more_is_over() -> None:
    """A start of an earlier attempt is no job of the latest one."""
    assert why(job(13), STOPPING, starter="4") == ""


def test_without_a_registration_the_jobs_decide() -> None:
    """A runner that is gone is not busy; a queued job with its label still speaks for it."""
    assert why_needed(LABEL, STARTER, [STARTED, STOPPING], None, STOPPER) == ""
    assert why_needed(LABEL, STARTER, [job(12, "queued", LABEL)], None, STOPPER)


def test_a_registration_without_a_label_matches_no_job() -> None:
    """An empty label is not the label of jobs without labels."""
    assert why_needed("", STARTER, [job(12)], None, STOPPER) == ""


@pytest.mark.parametrize(
    ("asker", "counts"),
    [
        (Asker(check_run_id="99"), False),
        (Asker(check_run_id="99", runner_name="somebody"), False),
        (Asker(runner_name="hosted 3"), False),
        (Asker(check_run_id="98", runner_name="hosted 3"), True),
        (Asker(runner_name="hosted 4"), True),
        (Asker(), True),
    ],
)
def test_the_job_that_asks_does_not_count_itself(asker: Asker, *, counts: bool) -> None:
    """It knows itself by its check run, else by its runner; unknown, it counts as another job."""
    assert bool(why(job(99, runner="hosted 3"), starter="", asker=asker)) is counts


def test_the_job_that_asks_may_be_the_starter() -> None:
    """A stop step in the very job that started the machine gives it back."""
    assert why(job(11), asker=Asker(check_run_id="11")) == ""


def test_an_unassigned_job_is_not_the_asker() -> None:
    """A job without a runner is never taken for a stop that does not know its own."""
    assert Asker().is_job(job(12, "queued")) is False


@pytest.mark.parametrize(
    ("label", "needs_it"),
    [
        (LABEL, True),
        (f"{NAME}-11-deadbeef", True),
        (NAME, True),
        (f"{NAME}1-deadbeef", False),
        (f"{NAME}r1-deadbeef", False),
        (NAME.removesuffix("-0"), False),
        (f"x{LABEL}", False),
    ],
)
def test_a_name_stands_for_every_label_that_begins_with_it(label: str, *, needs_it: bool) -> None:
    """A cloud without tags tells a machine's name only; the machines beside it and those that
    replaced it have other names."""
    jobs = [job(12, "queued", label)]
    assert bool(why_needed(NAME, "0", jobs, None, STOPPER)) is needs_it


def test_a_whole_label_is_not_a_beginning() -> None:
    """A start that was repeated with another random part has another label."""
    assert why(job(12, "queued", f"{NAME}-other"), STARTED, STOPPING) == ""
