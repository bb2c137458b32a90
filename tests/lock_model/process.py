"""One process of the library in a greenlet: it stops at each call and each sleep for its turn."""

from __future__ import annotations

import signal
import sys
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from greenlet import (  # type: ignore[import-untyped]  # it brings no types
    GreenletExit,
    getcurrent,
    greenlet,
)

from gpu_ci.errors import CloudUnreachable, GpuCiError, Unreachable
from gpu_ci.github.client import Job, Run, Runner
from gpu_ci.kept.put_away import PutAway
from gpu_ci.model.machine import Machine
from gpu_ci.release.give_back import Holding
from gpu_ci.runtime.signals import Cancelled
from gpu_ci.start.rental import Lease, Rental
from gpu_ci.start.until_online import MACHINE_LOOKS, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from tests.lock_model.state import WorkflowRun
    from tests.lock_model.world import World

T = TypeVar("T")
OVERSLEPT: Final = 3600.0
CLOUD_CALLS: Final = {"look", "resume", "adopt", "pause"}


class Seen:
    """Numbers for what processes of all schedules were told and remember, so that it compares fast."""

    def __init__(self) -> None:
        self.remembered: dict[int, int] = {}
        self._numbers: dict[Any, int] = {}

    def number(self, what: Any) -> int:
        return self._numbers.setdefault(what, len(self._numbers) + 1)


class Process:
    """A start or a stop. It waits at each call and each sleep until it is told how to go on."""

    def __init__(
        self, world: World, run: WorkflowRun, role: str, story: Callable[[Process], str]
    ) -> None:
        self.world, self.run, self.role = world, run, role
        self.at, self.writes, self.slept_at = "", False, -1
        self.time = 0.0
        self.over, self.cancelled, self.hurried = "", False, False
        self.registrations = 0
        self.past, self.base, self.round = 0, 0, list[Any]()
        self._greenlet = greenlet(self._live)
        self._story = story
        self._greenlet.switch()

    @property
    def asleep(self) -> bool:
        return self.slept_at >= 0

    @property
    def begun(self) -> bool:
        """Say whether it has taken its first step."""
        return bool(self.base or self.round or self.over)

    @property
    def stirred(self) -> bool:
        """Say whether a sleep may end now: in a hurry, time passes more quickly than all else."""
        return self.hurried or self.slept_at < self.world.changes

    def ask(self, call: str, effect: Callable[[], T], *, writes: bool = False) -> T:
        """Make one call: wait for the turn, then do it in one step."""
        how = self._wait(call, writes=writes)
        self._stumble(how, ("failed", "unread"), "cancel")
        if how == "late":
            self.world.in_flight = (f"{self.run.number} {self.role} {call}", effect)
            raise GreenletExit
        result = self._done(call, effect)
        self._stumble(how, ("lost",), "cancel after")
        return result

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept_at = self.world.changes
        how = self._wait("sleep")
        self.slept_at = -1
        self._stumble(how, (), "cancel")
        self.time += OVERSLEPT if how == "overslept" else seconds
        self._end_round(how)

    def pass_by(self, place: str) -> None:
        """Wait where nothing is called, but where a crash matters."""
        self._stumble(self._wait(place), (), "cancel")

    def go(self, how: str) -> None:
        """Take the next step, well or not."""
        if how in {"cancel", "cancel after"}:
            self.cancelled = True
        if how in {"kill", "late"}:
            self.over = "killed"
        if how == "kill":
            self._greenlet.throw(GreenletExit)
        else:
            self._greenlet.switch(how)

    def key(self) -> tuple[Any, ...]:
        """Return all that its future depends on: what it has been told so far."""
        return (self.base, *self.round, self.asleep and self.stirred)

    def end(self) -> None:
        """Leave nothing that would run later."""
        self.over = self.over or "killed"
        self._greenlet.throw(GreenletExit)
        del self._greenlet

    def _live(self) -> None:
        outcome = self._story(self)
        self.over = self.over or outcome

    def _wait(self, at: str, *, writes: bool = False) -> str:
        if self.over == "killed":
            raise GreenletExit
        self.at, self.writes = at, writes
        parent = getcurrent().parent
        assert parent is not None
        return str(parent.switch())

    def _stumble(self, how: str, lost: tuple[str, ...], cancelled: str) -> None:
        """Raise what this step is to end in, if it is to end so now."""
        if how not in (*lost, cancelled):
            return
        self.round.append(how)
        if how == cancelled:
            raise Cancelled(signal.SIGINT)
        cloud = self.at.partition(" ")[0] in CLOUD_CALLS
        raise (CloudUnreachable if cloud else Unreachable)(f"{self.at} was not answered.")

    def _done(self, call: str, effect: Callable[[], T]) -> T:
        try:
            result = effect()
        except GpuCiError as error:
            self.round.append((call, type(error).__name__))
            raise
        self.round.append((call, _plain(result)))
        return result

    def _end_round(self, how: str) -> None:
        """Note what it knows by now: all that it was told, or only what it remembers of that."""
        seen = self.world.seen
        self.past = seen.number((self.past, *self.round, how))
        self.round = []
        if self.world.setup.exact:
            self.base = self.past
            return
        if self.past not in seen.remembered:  # reading the stack takes long
            memory = (self.registrations, *_remembered(sys._getframe(2)))
            seen.remembered[self.past] = seen.number(memory)
        self.base = seen.remembered[self.past]


def _remembered(frame: FrameType | None) -> Iterator[object]:
    """Yield where the library's code stands and what it holds; times are not among it."""
    while frame is not None and frame.f_code is not Process._live.__code__:
        yield frame.f_code
        yield frame.f_lasti
        for name, value in frame.f_locals.items():
            yield value % MACHINE_LOOKS if name == "turn" else name != "_" and _held(value)
        frame = frame.f_back


def _held(value: object) -> object:
    """Return a value in a form that can be compared, as far as it can change anything."""
    if value is None or isinstance(value, str | int | Enum):
        return value
    parts = _parts(value)
    return type(value) if parts is None else tuple(map(_held, parts))


def _parts(value: object) -> Iterable[object] | None:
    match value:
        case Machine():
            return (value.tags.runner_id, value.started)
        case Rental():
            return (value.leases, value._settled)
        case Lease() | Holding() | Watch() | Runner() | PutAway():
            return [getattr(value, field.name) for field in fields(value)]
        case list() | tuple():
            return value
        case dict():
            return value.values()
        case _:
            return None


def _plain(result: object) -> object:
    """Return what a process has learned from an answer."""
    match result:
        case Runner():
            return (result.id, result.online, result.busy)
        case Run():
            return result.status
        case Machine():
            return result.started
        case list():
            return tuple((job.id, job.status) for job in result if isinstance(job, Job))
        case _:
            return result
