"""What GitHub remembers of past runs, to read costs from: runs, all their jobs, annotations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from gpu_ci.github.client import ACTIONS, Job, Run
from gpu_ci.github.cures import HISTORY_CURE
from gpu_ci.github.listings import filtered, pages, written
from gpu_ci.github.tokens import FirstThatMay, Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gpu_ci.github.client import GitHub
    from gpu_ci.github.transport import Answer, Line
    from gpu_ci.runtime.clock import Deadline

# Events whose runs take the workflow from the pull request; from a fork they have no secrets.
# https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
OF_THE_PULL_REQUEST: Final = {
    "pull_request", "pull_request_review", "pull_request_review_comment",
}  # fmt: skip
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What a step of a job left on its check run, by a command."""

    title: str
    message: str

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Annotation:
        return cls(title=str(data.get("title") or ""), message=str(data.get("message") or ""))


class History(Lines):
    """Reads runs and jobs whole, and keeps no answer; safe between threads."""

    def __init__(self, lines: Sequence[Line], repository: str) -> None:
        super().__init__(lines)
        self._repository = f"/repos/{repository}"
        self._runs = f"{self._repository}/actions/runs"
        self._tokens = FirstThatMay(lines, self._runs, per_page=1)

    @classmethod
    def beside(cls, github: GitHub, deadline: Deadline) -> Self:
        """Make one that reads with this client's tokens for runs, on its own lines, to its own deadline."""
        cures = {403: HISTORY_CURE, 404: HISTORY_CURE}
        lines = [
            replace(line, deadline=deadline, cures={**line.cures, **cures}, known={})
            for line in github.run_lines
        ]
        return cls(lines, github.repository)

    def runs(self, since: float) -> Iterator[Run]:
        """Yield the runs that were created since then, newest first, page by page."""
        first = written(since)

        def read(until: str) -> Iterator[Run]:
            created = f"{first}..{until}" if until else f">={first}"
            return self._pages(ACTIONS, self._runs, "workflow_runs", _run, created=created)

        return filtered(read)

    def jobs(self, run_id: int) -> list[Job]:
        """Return the jobs of all attempts of a run."""
        path = f"{self._runs}/{run_id}/jobs"
        return list(self._pages(ACTIONS, path, "jobs", Job.read, filter="all"))

    def jobs_of_attempt(self, run_id: str, attempt: str) -> list[Job]:
        """Return the jobs of one attempt."""
        path = f"{self._runs}/{run_id}/attempts/{attempt}/jobs"
        return list(self._pages(ACTIONS, path, "jobs", Job.read))

    def annotations(self, job_id: int) -> list[Annotation]:
        """Return what a job's steps left, at most 10 of a kind per step.

        A job's id is that of its check run.
        https://docs.github.com/en/rest/checks/runs#list-check-run-annotations
        """
        path = f"{self._repository}/check-runs/{job_id}/annotations"
        return list(self._pages("checks", path, "", Annotation.read))

    def _pages(
        self, right: str, path: str, key: str, reader: Callable[[Any], T], **query: str
    ) -> Iterator[T]:
        def ask(**page: Any) -> Answer:
            return self._tokens.ask(right, lambda line: _once(line, path, **query, **page))

        return pages(ask, key, reader)


def _once(line: Line, path: str, **query: Any) -> Answer:
    answer = line.get(path, **query)
    line.known.clear()  # each address is read once, and thousands of answers are long
    return answer


def _run(data: Mapping[str, Any]) -> Run:
    own, head = data["repository"]["full_name"], (data.get("head_repository") or {})
    foreign = data.get("event") in OF_THE_PULL_REQUEST and head.get("full_name") != own
    return replace(Run.read(data), foreign=foreign)
