"""The ledger: the lines that stops left on their check runs, and which of them are trusted.

Anybody who can write a workflow or run code in a job can print an annotation with any title. So a
line counts only if a step of action-stop may have printed it: its job has such a step and ran on no
rented machine, and the run's workflow is the repository's own. No amount can be negative. So a
forged line lowers the sum only if it claims less for a machine that is in the same run's lines.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import GitHubError
from gpu_ci.ledger.entry import TITLE, Entry, read_notice
from gpu_ci.ledger.split import on_our_machine, uses
from gpu_ci.model.tags import read_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gpu_ci.github.client import Job, Run
    from gpu_ci.github.history import History
    from gpu_ci.model.tags import Mark

MOST_RUNS: Final = 5000
AT_ONCE: Final = 8
BATCH: Final = 100
STOP: Final = "action-stop"
# Runs in which no job has begun.
NOTHING_RAN: Final = {"skipped", "startup_failure", "action_required"}


@dataclass(frozen=True, kw_only=True)
class LedgerLine:
    """An entry and where it stands. If the entry has no time, `most_seconds` is how long the machine
    can have been billed: since its attempt began."""

    run: Run
    job: str
    entry: Entry
    most_seconds: float

    @property
    def most(self) -> float | None:
        """The most that it can have cost; None if the price is unknown."""
        if self.entry.cost is not None or self.entry.price is None:
            return self.entry.cost
        return self.entry.price.per_hour * self.most_seconds / 3600

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Its place among several lines for one machine, of which the lowest counts: the one that
        knows most, then the shortest, since later stops found the machine already gone."""
        seconds = self.entry.seconds
        known = self.most_seconds if seconds is None else seconds
        return (seconds is None, self.entry.price is None, known)


@dataclass(frozen=True, kw_only=True)
class Unread:
    """Where a line stands that is trusted and makes no sense."""

    run: Run
    job: str


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The lines of the runs since a moment, newest run first.

    `runs` is how many runs were read; `gap` is why older ones were not, None if all were.
    `unreadable` says where each line stands that is trusted and makes no sense.
    """

    since: float
    lines: tuple[LedgerLine, ...] = ()
    runs: int = 0
    unreadable: tuple[Unread, ...] = ()
    gap: GitHubError | None = None
    oldest: float = 0.0
    cut: bool = False

    @property
    def complete(self) -> bool:
        return self.gap is None and not self.cut


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What one run has."""

    run: Run
    lines: tuple[LedgerLine, ...] = ()
    unreadable: tuple[Unread, ...] = ()


def month_of(now: float) -> float:
    """Return when the calendar month of a moment began, in UTC."""
    day = datetime.fromtimestamp(now, UTC)
    return day.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def read_ledger(
    history: History, since: float, *, workflow: str = "", most_runs: int = MOST_RUNS
) -> Ledger:
    """Read the ledger of the runs that were created since then, newest first.

    What was read before an error is kept, and the error becomes the ledger's gap.
    """
    done: list[_Read] = []
    gap: GitHubError | None = None
    runs = (run for run in history.runs(since) if workflow in {"", run.name})
    try:
        for each in _all(history, islice(runs, most_runs)):
            done.append(each)  # noqa: PERF402 -- what was read before an error is kept
    except GitHubError as error:
        gap = error
    return Ledger(
        since=since,
        lines=tuple(line for each in done for line in each.lines),
        runs=len(done),
        unreadable=tuple(line for each in done for line in each.unreadable),
        gap=gap,
        oldest=done[-1].run.created_at if done else 0.0,
        cut=gap is None and len(done) == most_runs,
    )


def _all(history: History, runs: Iterator[Run]) -> Iterator[_Read]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while batch := list(islice(runs, BATCH)):
            yield from pool.map(lambda run: _of_run(history, run), batch)


def _of_run(history: History, run: Run) -> _Read:
    if run.foreign or (run.attempt == 1 and run.conclusion in NOTHING_RAN):
        return _Read(run=run)
    return read_run(history, run, history.jobs(run.id))


def read_run(history: History, run: Run, jobs: Sequence[Job]) -> _Read:
    """Read what the stops of one run left. Raises GitHubError.

    A machine that several stops report counts once, unless it is a kept one: that may have been
    rented several times under one name. A re-run of failed jobs lists the others again, under new
    ids and with their old times.
    """
    attempts = _Attempts.of(run, jobs)
    found: dict[tuple[str, ...], LedgerLine] = {}
    unreadable: list[Unread] = []
    for job in filter(is_stop, jobs):
        entries, odd = _entries(history, job.id)
        unreadable += [Unread(run=run, job=job.name)] * odd
        for entry in entries:
            mark = read_name(entry.machine)
            seconds = attempts.most_seconds(job, mark)
            line = LedgerLine(run=run, job=job.name, entry=entry, most_seconds=seconds)
            own = (entry.machine,) if mark else (job.name, str(job.started_at), str(entry))
            found[own] = min(found.get(own, line), line, key=lambda each: each.rank)
    return _Read(run=run, lines=tuple(found.values()), unreadable=tuple(unreadable))


@dataclass(frozen=True, kw_only=True)
class _Attempts:
    """Which attempt of a run each job is of, by its name and start, and when the attempts began."""

    run: Run
    of_job: Mapping[tuple[str, float], int]
    began: Mapping[int, float]

    @classmethod
    def of(cls, run: Run, jobs: Iterable[Job]) -> _Attempts:
        """Read them off the jobs. A job that a later attempt lists again is of the first one."""
        of_job: dict[tuple[str, float], int] = {}
        began: dict[int, float] = {}
        for job in sorted((job for job in jobs if job.began), key=lambda job: job.attempt):
            attempt = of_job.setdefault((job.name, job.started_at), job.attempt)
            began[attempt] = min(began.get(attempt, job.started_at), job.started_at)
        return cls(run=run, of_job=of_job, began=began)

    def most_seconds(self, stop: Job, mark: Mark | None) -> float:
        """Return how long a machine that the stop reports can have existed: since its attempt began
        if it names one of this run, else since the stop's attempt began."""
        own = mark is not None and mark.run_id == str(self.run.id)
        attempt = int(mark.attempt) if mark and own else self.of_job[stop.name, stop.started_at]
        began = self.began.get(attempt, self.run.created_at)
        return max(0.0, (stop.completed_at or stop.started_at) - began)


def is_stop(job: Job) -> bool:
    """Say whether the lines that the job left are trusted."""
    return job.began and uses(job, STOP) and not on_our_machine(job)


def _entries(history: History, job_id: int) -> tuple[list[Entry], int]:
    notices = [note for note in history.annotations(job_id) if note.title == TITLE]
    read = [read_notice(note.message) for note in notices]
    return [entry for entries, _ in read for entry in entries], sum(odd for _, odd in read)


def sums(lines: Sequence[LedgerLine]) -> dict[str, float]:
    """Return what is known to have been spent, by currency."""
    total: dict[str, float] = {}
    for line in lines:
        price, cost = line.entry.price, line.entry.cost
        if price is not None and cost is not None:
            total[price.currency] = total.get(price.currency, 0.0) + cost
    return total
