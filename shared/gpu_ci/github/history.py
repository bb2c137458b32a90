"""What GitHub remembers of a repository's runs that costs are read from: runs, jobs, annotations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from github import Auth

from gpu_ci.errors import Absent, Forbidden, GitHubError, Limited, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gpu_ci.github.transport import Answer, Line
    from gpu_ci.runtime.clock import Deadline

PAGE: Final = 100
MOST_PAGES: Final = 500
# A listing with a filter ends after so many runs.
# https://docs.github.com/en/rest/actions/workflow-runs
MOST_FILTERED: Final = 1000
CURE: Final = (
    "Give the job `permissions: actions: read` and `checks: read`, or use a token that may read "
    "actions and checks."
)
CURES: Final = {
    401: "The token is wrong, revoked or out of date.",
    403: CURE,
    404: CURE,
}
# Events whose runs take the workflow from the pull request, and from a fork have no secrets.
# https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
OF_THE_PULL_REQUEST: Final = {
    "pull_request", "pull_request_review", "pull_request_review_comment",
}  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A workflow run; `created_at` is of its first attempt, in seconds since the epoch.

    `foreign` says that its workflow is a fork's: whoever opened the pull request wrote it.
    """

    id: int
    workflow: str
    created_at: float
    attempt: int = 1
    conclusion: str = ""
    foreign: bool = False

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Run:
        own, head = data["repository"]["full_name"], (data.get("head_repository") or {})
        return cls(
            id=int(data["id"]),
            workflow=str(data.get("name") or data.get("path") or ""),
            created_at=moment(data["created_at"]),
            attempt=int(data.get("run_attempt") or 1),
            conclusion=str(data.get("conclusion") or ""),
            foreign=data.get("event") in OF_THE_PULL_REQUEST and head.get("full_name") != own,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of any attempt, with the names of the steps that began; times are as a run's, 0 unknown.

    `attempt` is the one that lists it: a re-run of failed jobs lists the others again.
    `current` is the step that is in progress, as far as GitHub has heard; `began` says that a
    runner has had the job.
    """

    id: int
    name: str
    labels: frozenset[str]
    runner_name: str = ""
    runner_group: str = ""
    started_at: float = 0.0
    completed_at: float = 0.0
    steps: tuple[str, ...] = ()
    current: str = ""
    attempt: int = 1

    @property
    def began(self) -> bool:
        return bool(self.runner_name and self.started_at)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Job:
        steps = data.get("steps") or ()
        going = (str(step["name"]) for step in steps if step.get("status") == "in_progress")
        return cls(
            id=int(data["id"]),
            name=str(data["name"]),
            labels=frozenset(data.get("labels") or ()),
            runner_name=str(data.get("runner_name") or ""),
            runner_group=str(data.get("runner_group_name") or ""),
            started_at=moment(data.get("started_at")),
            completed_at=moment(data.get("completed_at")),
            steps=tuple(str(step["name"]) for step in steps if _has_begun(step)),
            current=next(going, ""),
            attempt=int(data.get("run_attempt") or 1),
        )


def _has_begun(step: Mapping[str, Any]) -> bool:
    return (
        step.get("status") in {"in_progress", "completed"} and step.get("conclusion") != "skipped"
    )


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What a command of a job's step left on its check run."""

    title: str
    message: str

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Annotation:
        return cls(title=str(data.get("title") or ""), message=str(data.get("message") or ""))


class Books:
    """Reads with each of several credentials until one may; safe between threads."""

    def __init__(self, lines: Sequence[Line], repository: str) -> None:
        self._lines = lines
        self._repository = f"/repos/{repository}"
        self._refused: set[tuple[int, str]] = set()

    @classmethod
    def beside(cls, line: Line, repository: str, run_token: str, deadline: Deadline) -> Self:
        """Read with the job's own token, if there is one, and else by this line's credential."""
        other = replace(line, deadline=deadline, cures=CURES, known={})
        own = replace(other, auth=Auth.Token(run_token), known={}) if run_token else None
        return cls([own, other] if own else [other], repository)

    def hurry(self, deadline: Deadline) -> None:
        """From now on every request is sent once, and waits for an answer at most two seconds."""
        for line in self._lines:
            line.hurry(deadline)

    def spare(self, part: float) -> None:
        """From now on leave this part of each hourly limit to others."""
        for line in self._lines:
            line.spared = part

    @property
    def counted(self) -> int:
        """How many requests so far counted against a rate limit."""
        return sum(line.counted for line in self._lines)

    def runs(self, since: float) -> Iterator[Run]:
        """Yield the runs that were created since then, newest first, page by page."""
        known: set[int] = set()
        first, last = written(since), ""
        while True:
            page = list[Run]()
            for run in self._runs(f"{first}..{last}" if last else f">={first}"):
                page.append(run)
                if run.id not in known:
                    known.add(run.id)
                    yield run
            before, last = last, written(page[-1].created_at) if page else ""
            if len(page) < MOST_FILTERED or last == before:
                return

    def _runs(self, created: str) -> Iterator[Run]:
        path = f"{self._repository}/actions/runs"
        return self._pages("runs", path, _under("workflow_runs", Run.read), created=created)

    def jobs(self, run_id: int) -> list[Job]:
        """Return the jobs of all attempts of a run."""
        path = f"{self._repository}/actions/runs/{run_id}/jobs"
        return list(self._pages("jobs", path, _under("jobs", Job.read), filter="all"))

    def jobs_of_attempt(self, run_id: str, attempt: str) -> list[Job]:
        """Return the jobs of one attempt."""
        path = f"{self._repository}/actions/runs/{run_id}/attempts/{attempt}/jobs"
        return list(self._pages("jobs", path, _under("jobs", Job.read)))

    def annotations(self, job_id: int) -> list[Annotation]:
        """Return what a job's steps left, at most 10 of a kind a step.

        A job's id is that of its check run.
        https://docs.github.com/en/rest/checks/runs#list-check-run-annotations
        """
        path = f"{self._repository}/check-runs/{job_id}/annotations"
        return list(self._pages("checks", path, lambda data: [Annotation.read(x) for x in data]))

    def _pages(
        self, right: str, path: str, reader: Callable[[Any], list[T]], **query: str
    ) -> Iterator[T]:
        for page in range(1, MOST_PAGES + 1):
            answer = self._ask(right, path, page=page, **query)
            items = answer.read(reader)
            yield from items
            if not items or 'rel="next"' not in answer.headers.get("link", ""):
                return
        raise Unreachable(f"GitHub gives more than {MOST_PAGES} pages of {path}.")

    def _ask(self, right: str, path: str, **query: Any) -> Answer:
        """Ask with the first credential that may; each is told only once that it may not."""
        refusal: GitHubError | None = None
        for number, line in enumerate(self._lines):
            if (number, right) in self._refused and number + 1 < len(self._lines):
                continue
            try:
                return _once(line, path, **query)
            except Forbidden as error:
                self._refused.add((number, right))
                refusal = error
            except (Absent, Limited) as error:
                refusal = error
        if refusal is None:
            raise AssertionError("unreachable: there is at least one line, and it was asked")
        raise refusal


def _once(line: Line, path: str, **query: Any) -> Answer:
    answer = line.get(path, **query, per_page=PAGE)
    line.known.clear()  # each address is read once, and thousands of answers are long
    return answer


def _under(key: str, reader: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda data: [reader(item) for item in data[key]]


def moment(text: object) -> float:
    """Return GitHub's written time in seconds since the epoch, 0 where there is none."""
    return datetime.fromisoformat(str(text)).timestamp() if text else 0.0


def written(seconds: float) -> str:
    """Return a moment as GitHub writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
