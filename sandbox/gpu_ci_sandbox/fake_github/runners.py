"""Registrations of runners: how they come, are heard of, and vanish."""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Unpack

from gpu_ci_sandbox.fake_github.records import Label, Runner, RunnerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HOUR = 3600.0
DAY = 24 * HOUR
KEY_BYTES = 256
IMPLICIT_LABELS = ("self-hosted", "Linux", "X64")


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """How long GitHub waits, in seconds (None: for ever).

    `jit_unused`: a just-in-time registration that never connected (reports say 5 to 60 minutes).
    `jit_idle`: one that listens without a job (reports of 2 to 6 minutes; off unless asked for).
    `ephemeral_offline`, `offline`: registrations that do not connect (docs: 1 and 14 days).
    `silent`: a runner that stopped calling is shown offline; `lost`: its job is failed.
    `pickup`: a job handed out but not begun is queued again; `queued`: a job nobody took fails.
    `cancelling`: a cancelled job is ended although its runner did not say so.
    """

    jit_unused: float | None = HOUR
    jit_idle: float | None = None
    ephemeral_offline: float = DAY
    offline: float = 14 * DAY
    silent: float = 60.0
    lost: float = 600.0
    pickup: float = 60.0
    queued: float = DAY
    cancelling: float = 300.0


class NameTaken(Exception):
    """A runner of this name is registered in the scope already."""


class Runners:
    """All registrations. Not safe between threads: `GitHub` calls it in its own turn."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._runners: dict[int, Runner] = {}
        self._ids = itertools.count(1)
        self._label_ids = itertools.count(1)

    def all(self) -> list[Runner]:
        """Every registration, oldest first."""
        return list(self._runners.values())

    def of(self, scope: str) -> list[Runner]:
        """The registrations of a repository or an organisation, oldest first."""
        return [runner for runner in self._runners.values() if runner.scope == scope]

    def get(self, runner_id: int) -> Runner | None:
        return self._runners.get(runner_id)

    def named(self, scope: str, name: str) -> Runner | None:
        return next((runner for runner in self.of(scope) if runner.name == name), None)

    def by_secret(self, secret: str) -> Runner | None:
        return next((runner for runner in self.all() if runner.secret == secret), None)

    def register(
        self,
        scope: str,
        name: str,
        labels: Iterable[str],
        *,
        group_id: int = 1,
        jit: bool = False,
        ephemeral: bool = False,
    ) -> Runner:
        """Add a registration. Raises NameTaken."""
        if self.named(scope, name):
            raise NameTaken(name)
        runner = Runner(
            id=next(self._ids),
            name=name,
            scope=scope,
            labels=self._labels(labels),
            secret=secrets.token_urlsafe(KEY_BYTES),
            registered_at=self._clock(),
            group_id=group_id,
            jit=jit,
            ephemeral=ephemeral,
        )
        self._runners[runner.id] = runner
        return runner

    def reregister(self, runner: Runner, labels: Iterable[str], *, ephemeral: bool) -> Runner:
        """Replace labels and key of a registration and keep its id, as `--replace` does."""
        self._runners[runner.id] = replace(
            runner, labels=self._labels(labels), secret=secrets.token_urlsafe(KEY_BYTES)
        )
        return self.change(
            runner.id,
            ephemeral=ephemeral,
            registered_at=self._clock(),
            session=None,
            online=False,
        )

    def change(self, runner_id: int, **changes: Unpack[RunnerState]) -> Runner:
        """Store the registration with these fields changed."""
        self._runners[runner_id] = replace(self._runners[runner_id], **changes)
        return self._runners[runner_id]

    def remove(self, runner_id: int) -> None:
        """Forget a registration; one that is gone already is no error."""
        self._runners.pop(runner_id, None)

    def connect(self, runner: Runner, version: str) -> Runner:
        """The runner program has opened its session."""
        now = self._clock()
        return self.change(
            runner.id,
            online=True,
            os="Linux",
            version=version,
            session=secrets.token_hex(16),
            heard_at=now,
            idle_since=now,
        )

    def heard(self, runner: Runner) -> Runner:
        """The runner program has called."""
        return self.change(runner.id, online=True, heard_at=self._clock())

    def disconnect(self, runner: Runner) -> Runner:
        """The runner program has ended its session."""
        return self.change(runner.id, online=False, session=None, idle_since=None)

    def expire(self, lifetimes: Lifetimes) -> None:
        """Show silent runners offline and drop registrations that have outlived their time."""
        now = self._clock()
        for runner in self.all():
            if runner.online and now - (runner.heard_at or now) >= lifetimes.silent:
                self.change(runner.id, online=False)
            if not runner.busy and _expired(self._runners[runner.id], lifetimes, now):
                self.remove(runner.id)

    def _labels(self, names: Iterable[str]) -> tuple[Label, ...]:
        return tuple(Label(id=next(self._label_ids), name=name) for name in names)


def _expired(runner: Runner, lifetimes: Lifetimes, now: float) -> bool:
    if runner.jit and runner.heard_at is None:
        return _over(now - runner.registered_at, lifetimes.jit_unused)
    if runner.online:
        idle = now - (runner.idle_since or now)
        return runner.jit and _over(idle, lifetimes.jit_idle)
    unseen = now - (runner.heard_at or runner.registered_at)
    return _over(unseen, lifetimes.ephemeral_offline if runner.ephemeral else lifetimes.offline)


def _over(seconds: float, limit: float | None) -> bool:
    return limit is not None and seconds >= limit
