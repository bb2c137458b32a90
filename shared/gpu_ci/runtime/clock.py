"""The only place that sleeps: a clock that tests can replace, deadlines, and pauses that grow."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


class Clock(Protocol):
    """Time as the library sees it."""

    def now(self) -> float:
        """Return seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Pause; a signal's exception ends it early."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))


SYSTEM_CLOCK: Clock = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment (seconds since the epoch) after which waiting has no point."""

    at: float
    clock: Clock = SYSTEM_CLOCK

    @classmethod
    def after(cls, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Deadline:
        return cls(clock.now() + seconds, clock)

    def left(self) -> float:
        """Return the seconds left, never less than zero."""
        return max(0.0, self.at - self.clock.now())

    def passed(self) -> bool:
        return self.left() <= 0

    def allows(self, pause: float) -> bool:
        """Say whether a pause of so many seconds ends before the deadline."""
        return self.clock.now() + pause < self.at


def growing(first: float, factor: float = 2.0, most: float = 30.0) -> Iterator[float]:
    """Yield pauses in seconds: `first`, then `factor` times longer each, at most `most`."""
    pause = first
    while True:
        yield min(pause, most)
        pause *= factor


def every(seconds: float, deadline: Deadline) -> Iterator[int]:
    """Yield 0 at once, then 1, 2 … every `seconds`, until the deadline has passed.

    The last turn comes at the deadline itself, so that what happened in the last pause is seen.
    """
    turn = 0
    while True:
        yield turn
        if deadline.passed():
            return
        deadline.clock.sleep(min(seconds, deadline.left()))
        turn += 1


def aside(call: Callable[[], T], seconds: float) -> T:
    """Return what the call returns, or raise what it raises. Raises TimeoutError after the time.

    A signal's exception ends the wait at once, whatever the call is doing.
    """
    thread = Aside(call)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done within {seconds:g} s")
    return thread.result()


class Aside(threading.Thread, Generic[T]):
    """A call in its own thread, and what came of it."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._results: list[T] = []
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._results.append(self._call())
        except Exception as error:  # noqa: BLE001 -- it is raised again in the thread that asks
            self._error = error

    def result(self) -> T:
        """Return what the call returned, or raise what it raised; for when it is over."""
        if self._error is not None:
            raise self._error
        return self._results[0]
