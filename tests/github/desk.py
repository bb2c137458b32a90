"""Our client for GitHub in front of the stand-in: real HTTP, and time that passes only in sleep."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tests.fakes import REPOSITORY, FakeClock

from gpu_ci.github.client import GitHub
from gpu_ci.inputs.github_inputs import GitHubInputs
from gpu_ci.runtime.clock import Deadline
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.openapi import assert_valid_requests
from gpu_ci_sandbox.fake_github.rest import serve_github

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub as StandIn
    from gpu_ci_sandbox.faults import Request, Rule

RUNNERS = f"/repos/{REPOSITORY}/actions/runners"
RUN = 7
PATIENCE = 300.0
NOBODY = GitHubInputs(
    token="", app_id="", app_private_key="", api_url="", organization="", run_token=""
)


@dataclass(kw_only=True)
class Desk:
    """A stand-in with one repository and one run, and clients for it that share a clock."""

    clock: FakeClock
    state: StandIn
    hub: ServedGitHub
    admin: str
    said: list[str] = field(default_factory=list)
    masked: list[str] = field(default_factory=list)

    def client(
        self,
        token: str | None = None,
        *,
        scope: str = f"repos/{REPOSITORY}",
        patience: float = PATIENCE,
        **inputs: str,
    ) -> GitHub:
        """Connect with a token; None is that of an administrator. `inputs`: of `GitHubInputs`."""
        known = {"api_url": self.hub.url, "token": self.admin if token is None else token}
        return GitHub.connect(
            replace(NOBODY, **{**known, **inputs}),
            scope=scope,
            repository=REPOSITORY,
            deadline=Deadline.after(patience, self.clock),
            say=self.said.append,
            mask=self.masked.append,
        )

    def add(self, *rules: Rule) -> None:
        self.hub.faults.add(*rules)

    def calls(self, method: str | None = None, path: str = "") -> list[Request]:
        return self.hub.faults.calls(method, path)

    def names(self) -> list[str]:
        """Return the names of all registrations that there are."""
        return [runner.name for runner in self.state.all_runners()]


@contextmanager
def github_desk(*, now: float | None = None) -> Iterator[Desk]:
    """Serve a stand-in until the block ends; GitHub's description must allow all that was asked."""
    with serve_github() as hub, desk_at(hub, now=now) as desk:
        yield desk


@contextmanager
def desk_at(hub: ServedGitHub, *, now: float | None = None) -> Iterator[Desk]:
    """Make a stand-in that is served already new again, which is faster than to serve another."""
    clock = FakeClock() if now is None else FakeClock(now)
    hub.faults.clear()
    hub.faults.forget_requests()
    state = hub.github
    for known in (state.repositories, state.groups, state.credentials, state.apps):
        known.clear()
    state.clock = clock.now
    state.runner_tokens.clear()
    state.reset()
    state.add_repository(REPOSITORY)
    state.start_run(REPOSITORY, RUN)
    admin = state.issue(credentials.classic(REPOSITORY, scopes=("repo", "admin:org")))
    yield Desk(clock=clock, state=state, hub=hub, admin=admin)
    assert_valid_requests(hub.faults.requests)


def impatient(client: GitHub, seconds: float = 0.15) -> GitHub:
    """Wait in real time no longer than this for an answer, and ask once only."""
    for line in client._lines:
        line.timeout = seconds  # type: ignore[assignment]  # requests takes parts of a second too
        line.tries = 1
    return client


OPERATIONS: dict[str, Callable[[GitHub], object]] = {
    "runner_builds": lambda github: github.runner_builds(),
    "register": lambda github: github.register("gpu-ci-7-1-x", ["gpu-ci-7-1-x-nonce"]),
    "registration": lambda github: github.registration("gpu-ci-7-1-x", ["gpu"], ""),
    "runner": lambda github: github.runner(1),
    "runner_named": lambda github: github.runner_named("gpu-ci-7-1-x"),
    "runners": lambda github: github.runners(),
    "delete": lambda github: github.delete(1),
    "run": lambda github: github.run(str(RUN)),
    "jobs": lambda github: github.jobs(str(RUN)),
    "jobs_of_attempt": lambda github: github.jobs_of_attempt(str(RUN), "1"),
    "runs_that_are": lambda github: list(github.runs_that_are("queued")),
    "cancel": lambda github: github.cancel(str(RUN)),
    "force_cancel": lambda github: github.force_cancel(str(RUN)),
}
"""Every question that a start, a stop or a watchdog puts to GitHub."""
# What these are answered with is empty or not looked at, so that it cannot be of a wrong shape.
UNREAD = {"delete", "cancel", "force_cancel"}
