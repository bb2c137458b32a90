"""What we ask of GitHub: runners, runs and jobs. Every answer is typed, every failure told apart.

Only a full answer says that something is absent; forbidden, limited and unreachable are errors of
their own (see `gpu_ci.errors`), so that no trouble is ever taken for "already gone".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from github import Auth

from gpu_ci.boot import Registration, RunnerBuild
from gpu_ci.errors import (
    Absent,
    Conflict,
    Forbidden,
    Refused,
    Unreachable,
)
from gpu_ci.github_api import Line
from gpu_ci.waiting import growing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from gpu_ci.inputs import GitHubInputs
    from gpu_ci.waiting import Deadline

PAGE: Final = 100
REGISTRATION_TRIES: Final = 4
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
    """A job of a run. `runner_name` is "" while no runner has it."""

    id: int
    name: str
    status: str
    conclusion: str
    labels: frozenset[str]
    runner_name: str

    @property
    def over(self) -> bool:
        return self.status == "completed"

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Job:
        return cls(
            id=int(data["id"]),
            name=str(data["name"]),
            status=str(data["status"]),
            conclusion=str(data.get("conclusion") or ""),
            labels=frozenset(data.get("labels") or ()),
            # Unassigned jobs have null, "" or 0 here.
            runner_name=str(data.get("runner_name") or ""),
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """A workflow run; its status follows its least advanced job, so jobs decide, not this."""

    id: int
    attempt: int
    status: str
    conclusion: str

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Run:
        return cls(
            id=int(data["id"]),
            attempt=int(data.get("run_attempt") or 1),
            status=str(data.get("status") or ""),
            conclusion=str(data.get("conclusion") or ""),
        )


class GitHub:
    """A repository's or organisation's runners, and the repository's runs.

    `scope` is `repos/owner/name` or `orgs/name`. Runs are read with the job's own token first, if
    there is one: it has a rate limit of its own, and the other token need not read them.
    """

    def __init__(
        self, line: Line, *, scope: str, repository: str, run_line: Line | None = None
    ) -> None:
        self.line = line
        self.scope = scope
        self._runners = f"/{scope}/actions/runners"
        self._runs = f"/repos/{repository}/actions/runs"
        self._run_lines = [run_line, line] if run_line else [line]

    @classmethod
    def connect(
        cls,
        inputs: GitHubInputs,
        *,
        scope: str,
        repository: str,
        deadline: Deadline,
        say: Callable[[str], None],
        mask: Callable[[str], None],
    ) -> GitHub:
        """Make the client. A GitHub App is asked for a token of one hour, narrowed to this scope."""

        def line(token: str) -> Line:
            return Line(inputs.api_url, Auth.Token(token), deadline, say)

        token = inputs.token or _installation_token(inputs, scope, deadline, say)
        mask(token)
        run_line = line(inputs.run_token) if inputs.run_token else None
        return cls(line(token), scope=scope, repository=repository, run_line=run_line)

    @property
    def counted(self) -> int:
        """How many requests so far counted against a rate limit."""
        return sum(line.counted for line in {id(line): line for line in self._lines()}.values())

    def until(self, deadline: Deadline) -> None:
        """From now on wait for limits and outages no longer than this deadline."""
        for line in self._lines():
            line.deadline = deadline

    def hurry(self, deadline: Deadline) -> None:
        """From now on every call ends, with an answer or an error, within about two seconds."""
        for line in self._lines():
            line.hurry(deadline)

    def _lines(self) -> list[Line]:
        return [self.line, *self._run_lines]

    # Runners

    def runner_builds(self) -> tuple[RunnerBuild, ...]:
        """Return the newest runner for Linux, per architecture.

        It needs the same right as registering does, so this is the preflight too.
        https://docs.github.com/en/rest/actions/self-hosted-runners
        """
        try:
            data = self.line.get(f"{self._runners}/downloads").data
        except (Forbidden, Absent) as error:
            raise Forbidden(error.what, rights_cure(self.line, self.scope)) from None
        builds = tuple(_build(item) for item in data if item["os"] == "linux")
        if not builds:
            raise Refused("GitHub offers no runner for Linux here.")
        return builds

    def register(self, name: str, labels: Sequence[str], group_id: int = 1) -> tuple[Runner, str]:
        """Register a single-use runner; return it and its just-in-time config, a secret.

        A lost answer is resolved: what it may have registered is found by its name, recognised by
        its labels, deleted, and the request sent again. Raises Conflict when the name belongs to
        another start.
        """
        body = {"name": name, "labels": list(labels), "runner_group_id": group_id}
        pauses = growing(0.5, most=4.0)
        for left in reversed(range(REGISTRATION_TRIES)):
            try:
                data = self.line.post(f"{self._runners}/generate-jitconfig", body).data
                return _registered(data)
            except (Conflict, Unreachable) as error:
                if not self._drop_twin(name, frozenset(labels)) and isinstance(error, Conflict):
                    raise
                pause = next(pauses)
                if not left or not self.line.deadline.allows(pause):
                    raise
            self.line.deadline.clock.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _drop_twin(self, name: str, labels: frozenset[str]) -> bool:
        """Delete what a request of ours, whose answer was lost, has registered.

        Return False if the name is another's.
        """
        runner = self.runner_named(name)
        if runner is None:
            return True
        if runner.labels != labels or runner.online or runner.busy:
            return False
        self.delete(runner.id)
        return True

    def registration(self, name: str, labels: Sequence[str], group: str) -> Registration:
        """Return what `config.sh` needs instead of a just-in-time config: a token of one hour."""
        data = self.line.post(f"{self._runners}/registration-token").data
        return Registration(
            name=name,
            labels=tuple(labels),
            token=str(data["token"]),
            url=f"{_web_root(self.line.api_url)}/{self.scope.partition('/')[2]}",
            group=group,
        )

    def group_id(self, group: str) -> int:
        """Return the id of an organisation's runner group by its name."""
        found = {g["name"]: int(g["id"]) for g in self._all_groups()}
        if group not in found:
            raise Refused(
                f"runner-group {group!r} does not exist in {self.scope}.",
                f"There are: {', '.join(found) or 'none'}.",
            )
        return found[group]

    def _all_groups(self) -> Iterator[dict[str, Any]]:
        return _pages(self.line, f"/{self.scope}/actions/runner-groups", "runner_groups")

    def runner(self, runner_id: int) -> Runner:
        """Return a runner. Raises Absent when it has finished, expired or was deleted."""
        return Runner.read(self.line.get(f"{self._runners}/{runner_id}").data)

    def runner_named(self, name: str) -> Runner | None:
        """Return the runner of this name, None if a full answer says that there is none."""
        runners = self.line.get(self._runners, name=name, per_page=PAGE).data["runners"]
        return next((Runner.read(r) for r in runners if r["name"] == name), None)

    def runners(self) -> list[Runner]:
        """Return every runner of the scope, or raise: never a part."""
        found = map(Runner.read, _pages(self.line, self._runners, "runners"))
        return list({runner.id: runner for runner in found}.values())

    def delete(self, runner_id: int) -> None:
        """Delete a registration; one that is gone is a success. Raises Busy while a job runs."""
        try:
            self.line.delete(f"{self._runners}/{runner_id}")
        except Absent:
            return

    # Runs and jobs

    def run(self, run_id: str) -> Run:
        """Return a run. Raises Absent when it does not exist."""
        return self._reading(lambda line: Run.read(line.get(f"{self._runs}/{run_id}").data))

    def jobs(self, run_id: str) -> list[Job]:
        """Return all jobs of the run's latest attempt."""
        path = f"{self._runs}/{run_id}/jobs"
        return self._reading(
            lambda line: [Job.read(j) for j in _pages(line, path, "jobs", filter="latest")]
        )

    def cancel(self, run_id: str) -> None:
        """Ask for a cancel that lets `always()` jobs run; a run that is over is a success."""
        self._cancel(run_id, "cancel")

    def force_cancel(self, run_id: str) -> None:
        """Cancel `always()` jobs too; for a run that a plain cancel did not end."""
        self._cancel(run_id, "force-cancel")

    def _cancel(self, run_id: str, how: str) -> None:
        def ask(line: Line) -> None:
            try:
                line.post(f"{self._runs}/{run_id}/{how}")
            except Conflict:
                # 409 means completed, or a re-run that is not queued yet: only a look tells.
                if Run.read(line.get(f"{self._runs}/{run_id}").data).status != "completed":
                    raise

        self._reading(ask)

    def _reading(self, ask: Callable[[Line], T]) -> T:
        """Ask with the job's own token, and with the other one if that may not."""
        *first, last = self._run_lines
        for line in first:
            try:
                return ask(line)
            except (Forbidden, Absent):
                continue
        return ask(last)


def rights_cure(line: Line, scope: str) -> str:
    """Return what a token needs that may administer the runners of this scope."""
    token = getattr(line.auth, "token", "")
    organization = scope.startswith("orgs/")
    for prefix, cure in TOKEN_CURES[organization].items():
        if token.startswith(prefix):
            return cure
    return " ".join(dict.fromkeys(TOKEN_CURES[organization].values()))


_CLASSIC = {
    False: "A classic token (ghp_) needs the scope `repo`, and its owner must be an administrator "
    "of the repository.",
    True: "A classic token (ghp_) needs the scope `admin:org`.",
}
_FINE_GRAINED = {
    False: "A fine-grained token (github_pat_) needs Administration: write, with this repository "
    "selected, and the organisation's approval where it asks for one.",
    True: "A fine-grained token (github_pat_) needs the organisation permission Self-hosted "
    "runners: write.",
}
_APP = {
    False: "The workflow's own GITHUB_TOKEN (ghs_) can never administer runners. A GitHub App's "
    "token needs Administration: write, and the App must be installed on this repository.",
    True: "The workflow's own GITHUB_TOKEN (ghs_) can never administer runners. A GitHub App's "
    "token needs the organisation permission Self-hosted runners: write.",
}
# https://docs.github.com/en/rest/actions/self-hosted-runners (who may call what)
TOKEN_CURES: Final = {
    organization: {
        "ghs_": _APP[organization],
        "github_pat_": _FINE_GRAINED[organization],
        "ghp_": _CLASSIC[organization],
    }
    for organization in (False, True)
}


def _installation_token(
    inputs: GitHubInputs, scope: str, deadline: Deadline, say: Callable[[str], None]
) -> str:
    """Return a token of the App's installation, narrowed to what registering runners needs.

    https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
    """
    try:
        app = Line(
            inputs.api_url, Auth.AppAuth(inputs.app_id, inputs.app_private_key), deadline, say
        )
        installation = app.get(f"/{scope}/installation").data["id"]
        data = app.post(f"/app/installations/{installation}/access_tokens", _narrowed(scope)).data
    except (Forbidden, Absent, Refused) as error:
        raise Forbidden(
            error.what, "Is the App installed here? " + _APP[scope[:5] == "orgs/"]
        ) from None
    except ValueError as error:
        raise Forbidden(
            "app-private-key is not a private key in PEM form.",
            "Pass the whole file that GitHub gave out, with its BEGIN and END lines.",
        ) from error
    return str(data["token"])


def _narrowed(scope: str) -> dict[str, Any]:
    kind, _, name = scope.partition("/")
    if kind == "orgs":
        return {"permissions": {"organization_self_hosted_runners": "write"}}
    return {
        "permissions": {"administration": "write"},
        "repositories": [name.partition("/")[2]],
    }


def _build(item: Mapping[str, Any]) -> RunnerBuild:
    return RunnerBuild(
        architecture=str(item["architecture"]),
        url=str(item["download_url"]),
        sha256=str(item.get("sha256_checksum") or ""),
    )


def _registered(data: Any) -> tuple[Runner, str]:
    """Read the answer of generate-jitconfig; an empty one is as good as none."""
    config = data.get("encoded_jit_config") if isinstance(data, dict) else None
    if not config:
        raise Unreachable("GitHub answered a registration without a just-in-time config.")
    return Runner.read(data["runner"]), str(config)


def _pages(line: Line, path: str, key: str, **query: str) -> Iterator[dict[str, Any]]:
    """Yield the items of every page; the pages end where GitHub links no next one.

    `total_count` is not trusted: it can be more than the pages give.
    """
    page = 1
    while True:
        answer = line.get(path, **query, per_page=PAGE, page=page)
        yield from answer.data[key]
        if 'rel="next"' not in answer.headers.get("link", "") or not answer.data[key]:
            return
        page += 1


def _web_root(api_url: str) -> str:
    """Return where the web pages are: github.com, or the server whose API ends in /api/v3."""
    if api_url == "https://api.github.com":
        return "https://github.com"
    return api_url.removesuffix("/api/v3")
