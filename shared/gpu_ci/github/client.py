"""What we ask of GitHub: runners, runs and jobs. Answers are typed, and failures are told apart.

Only a full answer says that something is absent. Forbidden, limited and unreachable are errors of
their own (see `gpu_ci.errors`), so no failure is ever taken for "already gone".
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gpu_ci.boot.script import Registration, RunnerBuild
from gpu_ci.errors import Absent, Conflict, Forbidden, Refused, Unreachable
from gpu_ci.github.app import installation_token, secret
from gpu_ci.github.cures import RUN_CURE, token_cures
from gpu_ci.github.listings import PAGE, filtered, moment, pages
from gpu_ci.github.tokens import Access, FirstThatMay, Lines
from gpu_ci.runtime.clock import growing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gpu_ci.github.tokens import Credentials
    from gpu_ci.github.transport import Answer, Line
    from gpu_ci.runtime.clock import Deadline

REGISTRATION_TRIES: Final = 4
LIST_TRIES: Final = 4
# For this long, an answer about the runners shows that the token may see them.
SIGHT_SECONDS: Final = 30.0
# A runner stays busy on GitHub for some seconds after its job has ended.
BUSY_PATIENCE: Final = 15.0
# The right that reading runs and jobs needs.
ACTIONS: Final = "actions"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A registration. `online` is GitHub's word for a runner that is listening."""

    id: int
    name: str
    online: bool
    busy: bool
    labels: frozenset[str]

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Runner:
        return cls(
            id=int(data["id"]),
            name=str(data["name"]),
            online=data["status"] == "online",
            busy=bool(data["busy"]),
            labels=frozenset(label["name"] for label in data["labels"]),
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a run. `runner_name` is "" while no runner has it.

    Times are in seconds since the epoch, 0 if unknown. While a job is queued, GitHub already fills
    `started_at`, with when the queueing began. `attempt` is the one that lists it: a re-run of
    failed jobs lists the others again.

    Only a `History` reads the rest: when it was over, its runner's group, the names of the steps
    that began, and in `current` the step in progress, as far as GitHub knows.
    """

    id: int
    name: str
    status: str
    conclusion: str
    labels: frozenset[str]
    runner_name: str
    attempt: int = 1
    created_at: float = 0.0
    started_at: float = 0.0
    completed_at: float = 0.0
    runner_group: str = ""
    steps: tuple[str, ...] = ()
    current: str = ""

    @property
    def over(self) -> bool:
        return self.status == "completed"

    @property
    def began(self) -> bool:
        """Whether a runner has had it."""
        return bool(self.runner_name and self.started_at)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Job:
        steps = data.get("steps") or ()
        going = (str(step["name"]) for step in steps if step.get("status") == "in_progress")
        return cls(
            id=int(data["id"]),
            name=str(data["name"]),
            status=str(data["status"]),
            conclusion=str(data.get("conclusion") or ""),
            labels=frozenset(data.get("labels") or ()),
            # Unassigned jobs have null, "" or 0 here.
            runner_name=str(data.get("runner_name") or ""),
            attempt=int(data.get("run_attempt") or 1),
            created_at=moment(data.get("created_at")),
            started_at=moment(data.get("started_at")),
            completed_at=moment(data.get("completed_at")),
            runner_group=str(data.get("runner_group_name") or ""),
            steps=tuple(str(step["name"]) for step in steps if _has_begun(step)),
            current=next(going, ""),
        )


def _has_begun(step: Mapping[str, Any]) -> bool:
    return (
        step.get("status") in {"in_progress", "completed"} and step.get("conclusion") != "skipped"
    )


@dataclass(frozen=True, kw_only=True)
class Run:
    """A workflow run; its status follows its least advanced job, so jobs decide, not this.

    `name` is its workflow's. `created_at`, of the first attempt, and `started_at`, of the latest,
    are in seconds since the epoch. Only a `History` knows that a run is `foreign`: its workflow is
    a fork's, and the author of the pull request wrote it.
    """

    id: int
    attempt: int
    status: str
    conclusion: str
    name: str = ""
    event: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    foreign: bool = False

    @property
    def over(self) -> bool:
        return self.status == "completed"

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Run:
        return cls(
            id=int(data["id"]),
            attempt=int(data.get("run_attempt") or 1),
            status=str(data.get("status") or ""),
            conclusion=str(data.get("conclusion") or ""),
            name=str(data.get("name") or data.get("path") or ""),
            event=str(data.get("event") or ""),
            created_at=moment(data["created_at"]),
            started_at=moment(data.get("run_started_at")),
        )


class GitHub(Lines):
    """A repository's or organisation's runners, and the repository's runs.

    `scope` is `repos/owner/name` or `orgs/name`. Runs are read with the job's own token first, if
    there is one: it has a rate limit of its own, and the other token need not read them. With
    `lasting` the other one comes first: an ETag works only for the token that got it.
    """

    def __init__(
        self,
        line: Line,
        *,
        scope: str,
        repository: str,
        run_line: Line | None = None,
        mask: Callable[[str], None] = lambda _secret: None,
        lasting: bool = False,
    ) -> None:
        cures = {403: RUN_CURE, 404: RUN_CURE}
        tokens = [run_line, line] if run_line else [line]
        lines = [replace(each, cures={**each.cures, **cures}) for each in tokens]
        super().__init__([line, *lines])
        self.line = line
        self.run_lines = lines[::-1] if lasting else lines
        self.scope = scope
        self.repository = repository
        self._runners = f"/{scope}/actions/runners"
        self._runs = f"/repos/{repository}/actions/runs"
        self._tokens = FirstThatMay(self.run_lines, self._runs, per_page=1)
        self._seen_at = float("-inf")
        self._mask = mask

    @classmethod
    def connect(
        cls,
        credentials: Credentials,
        *,
        scope: str,
        repository: str,
        deadline: Deadline,
        say: Callable[[str], None],
        mask: Callable[[str], None],
        lasting: bool = False,
    ) -> GitHub:
        """Make the client. A GitHub App is asked for a token of one hour, narrowed to this scope."""
        token = credentials.token or installation_token(credentials, scope, deadline, say)
        mask(token)
        access = Access(
            api_url=credentials.api_url,
            repository=repository,
            tokens=[credentials.run_token, token],
            say=say,
        )
        *own, line = access.lines(deadline, lambda each: token_cures(each, scope))
        return cls(
            line,
            scope=scope,
            repository=repository,
            run_line=own[0] if own else None,
            mask=mask,
            # An App's token is a new one each time, and may not read runs.
            lasting=lasting and bool(credentials.token),
        )

    # Runners

    def runner_builds(self) -> tuple[RunnerBuild, ...]:
        """Return the newest runner for Linux, per architecture.

        It needs the same right as registering, so it is the preflight too.
        https://docs.github.com/en/rest/actions/self-hosted-runners
        """
        builds = self._all(lambda: self.line.get(f"{self._runners}/downloads")).read(_linux_builds)
        if not builds:
            raise Refused("GitHub offers no runner for Linux here.")
        return builds

    def register(self, name: str, labels: Sequence[str], group_id: int = 1) -> tuple[Runner, str]:
        """Register a single-use runner; return it and its just-in-time config, a secret.

        If an answer is lost, the runner it may have registered is found by its name, recognised by
        its labels and deleted; then the request is sent again. Raises Conflict when the name belongs
        to another start.
        """
        body = {"name": name, "labels": list(labels), "runner_group_id": group_id}
        pauses = growing(0.5, most=4.0)
        for left in reversed(range(REGISTRATION_TRIES)):
            try:
                return self._masked(self._post("generate-jitconfig", body).read(_registered))
            except (Conflict, Unreachable) as error:
                if not self._drop_twin(name, frozenset(labels)) and isinstance(error, Conflict):
                    raise
                pause = next(pauses)
                if not left or not self.line.deadline.allows(pause):
                    raise
            self.line.deadline.clock.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _masked(self, registered: tuple[Runner, str]) -> tuple[Runner, str]:
        self._mask(registered[1])
        return registered

    def _drop_twin(self, name: str, labels: frozenset[str]) -> bool:
        """Delete what our request registered before its answer was lost.

        Return False if the name belongs to another start.
        """
        runner = self.runner_named(name)
        if runner is None:
            return True
        if not labels <= runner.labels or runner.online or runner.busy:
            return False
        self.delete(runner.id)
        return True

    def registration(self, name: str, labels: Sequence[str], group: str) -> Registration:
        """Return what `config.sh` needs instead of a just-in-time config: a token of one hour."""
        token = self._post("registration-token", harmless=True).read(_token)
        self._mask(token)
        return Registration(
            name=name,
            labels=tuple(labels),
            token=token,
            url=f"{_web_root(self.line.api_url)}/{self.scope.partition('/')[2]}",
            group=group,
        )

    def group_id(self, group: str) -> int:
        """Return the id of an organisation's runner group by its name."""
        found = dict(self._pages(f"/{self.scope}/actions/runner-groups", "runner_groups", _group))
        if group not in found:
            raise Refused(
                f"runner-group {group!r} does not exist in {self.scope}.",
                f"There are: {', '.join(found) or 'none'}.",
            )
        return found[group]

    def runner(self, runner_id: int) -> Runner:
        """Return a runner. Raises Absent when it has finished, expired or was deleted."""
        return self._one(lambda: self.line.get(f"{self._runners}/{runner_id}")).read(Runner.read)

    def runner_named(self, name: str) -> Runner | None:
        """Return the runner of this name, None if a full answer says that there is none."""
        # All pages: a server that does not know the filter answers with every runner.
        named = self._pages(self._runners, "runners", Runner.read, name=name)
        return next((runner for runner in named if runner.name == name), None)

    def runners(self) -> list[Runner]:
        """Return every runner of the scope, or raise: never a part.

        Between two pages the list can move up by one and hide a runner. So a list of several pages
        is read again until nothing new turns up; an unchanged page costs nothing.
        """
        found: dict[int, Runner] = {}
        for _ in range(LIST_TRIES):
            before = len(found)
            pages = self._pages(self._runners, "runners", Runner.read)
            found |= {runner.id: runner for runner in pages}
            if len(found) == before or len(found) < PAGE:
                break
        return list(found.values())

    def delete(self, runner_id: int) -> bool:
        """Delete a registration; False if it is gone already. Raises Busy while a job runs."""
        try:
            self._one(lambda: self.line.delete(f"{self._runners}/{runner_id}"))
        except Absent:
            return False
        return True

    def _one(self, ask: Callable[[], Answer]) -> Answer:
        """Ask about one runner. Raises Absent only if the token may see the others.

        GitHub also answers 404 to a token that may not see the repository. Every other token can
        read the list of runners, so that is asked for, unless an answer came lately.
        """
        try:
            answer = ask()
        except Absent:
            if self._now() - self._seen_at > SIGHT_SECONDS:
                self._all(lambda: self.line.get(self._runners, per_page=1))
            raise
        self._seen_at = self._now()
        return answer

    def _all(self, ask: Callable[[], Answer]) -> Answer:
        """Ask about the runners as a whole, which every scope has."""
        answer = _always_there(ask)
        self._seen_at = self._now()
        return answer

    def _post(self, what: str, body: Mapping[str, Any] | None = None, **how: bool) -> Answer:
        return self._all(lambda: self.line.post(f"{self._runners}/{what}", body, **how))

    def _pages(self, path: str, key: str, reader: Callable[[Any], T], **query: Any) -> Iterator[T]:
        def ask(**page: Any) -> Answer:
            return self._all(lambda: self.line.get(path, **query, **page))

        return pages(ask, key, reader)

    def _now(self) -> float:
        return self.line.deadline.clock.now()

    # Runs and jobs

    def run(self, run_id: str) -> Run:
        """Return a run. Raises Absent when it does not exist."""
        return self._tokens.ask(ACTIONS, lambda line: self._run(line, run_id))

    def _run(self, line: Line, run_id: str) -> Run:
        return line.get(f"{self._runs}/{run_id}").read(Run.read)

    def jobs(self, run_id: str) -> list[Job]:
        """Return all jobs of the run's latest attempt."""
        return self._jobs(f"{self._runs}/{run_id}/jobs", filter="latest")

    def jobs_of_attempt(self, run_id: str, attempt: str) -> list[Job]:
        """Return all jobs of one attempt, whatever came after it."""
        return self._jobs(f"{self._runs}/{run_id}/attempts/{attempt}/jobs")

    def _jobs(self, path: str, **query: str) -> list[Job]:
        jobs = pages(self._asking(path, _SMALL_JOBS, **query), "jobs", Job.read)
        return list({job.id: job for job in jobs}.values())

    def runs_that_are(self, status: str) -> Iterator[Run]:
        """Yield the runs of a status, newest first, page by page; those before an error count."""

        def read(until: str) -> Iterator[Run]:
            query = {"status": status} | ({"created": f"<={until}"} if until else {})
            asking = self._asking(self._runs, _SMALL_RUNS, **query)
            return pages(asking, "workflow_runs", Run.read)

        return filtered(read)

    def _asking(self, path: str, trim: Callable[[Any], Any], **query: str) -> Callable[..., Answer]:
        def ask(**page: int) -> Answer:
            return self._tokens.ask(
                ACTIONS, lambda line: line.get(path, trim=trim, **query, **page)
            )

        return ask

    def cancel(self, run_id: str) -> None:
        """Ask once for a cancel that lets `always()` jobs run; a run that is over is a success.

        It never waits: the cancel must be right at this moment.
        """
        self._cancel(run_id, "cancel")

    def force_cancel(self, run_id: str) -> None:
        """Cancel `always()` jobs too; for a run that a plain cancel did not end."""
        self._cancel(run_id, "force-cancel")

    def _cancel(self, run_id: str, how: str) -> None:
        def ask(line: Line) -> None:
            try:
                line.post(f"{self._runs}/{run_id}/{how}", waits=False)
            except Conflict:
                # 409 means completed, or a re-run that is not queued yet: only a look tells.
                if self._run(line, run_id).status != "completed":
                    raise

        self._tokens.ask(ACTIONS, ask, learns=False)  # a token that may not cancel may read


def _only(key: str, *names: str) -> Callable[[Any], Any]:
    """Return what cuts each item down to these fields: an answer is kept, and it is long."""

    def trim(data: Any) -> Any:
        with suppress(AttributeError, KeyError, TypeError):  # its reader says what is wrong
            return {key: [{name: item.get(name) for name in names} for item in data[key]]}
        return data

    return trim


_SMALL_JOBS: Final = _only(
    "jobs", "id", "name", "status", "conclusion", "labels", "runner_name", "run_attempt",
    "created_at", "started_at",
)  # fmt: skip
_SMALL_RUNS: Final = _only(
    "workflow_runs", "id", "run_attempt", "status", "conclusion", "name", "event", "created_at",
    "run_started_at",
)  # fmt: skip


def _always_there(ask: Callable[[], Answer]) -> Answer:
    """Ask for what every token with the right gets: a 404 means that this one lacks it."""
    try:
        return ask()
    except Absent as error:
        raise Forbidden(error.what, error.cure) from None


def _linux_builds(data: Any) -> tuple[RunnerBuild, ...]:
    return tuple(_build(item) for item in data if item["os"] == "linux")


def _build(item: Mapping[str, Any]) -> RunnerBuild:
    return RunnerBuild(
        architecture=str(item["architecture"]),
        url=str(item["download_url"]),
        sha256=str(item.get("sha256_checksum") or ""),
    )


def _group(data: Mapping[str, Any]) -> tuple[str, int]:
    return str(data["name"]), int(data["id"])


def _registered(data: Mapping[str, Any]) -> tuple[Runner, str]:
    return Runner.read(data["runner"]), secret(data["encoded_jit_config"])


def _token(data: Mapping[str, Any]) -> str:
    return secret(data["token"])


def _web_root(api_url: str) -> str:
    """Return where the web pages are: github.com, *.ghe.com, or the server of an /api/v3."""
    return api_url.replace("://api.", "://", 1).removesuffix("/api/v3")
