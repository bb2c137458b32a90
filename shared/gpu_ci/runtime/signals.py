"""Turns the runner's signals into one exception, and holds it back while an answer is on its way.

On cancel the runner sends SIGINT, 7.5 s later SIGTERM, and 2.5 s later it kills. What was rented
must be given back within the first of these: the first signal raises `Cancelled`, the later ones
are only noted.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds from the first signal until the last call is made, which may take two more. The next job
# must find what is not given back by then.
BUDGET = 5.0


class Cancelled(BaseException):
    """The run was cancelled. Not an Exception: nothing but the clean-up may catch it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"cancelled by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Cancellation:
    """The signals of this process. A context manager, for the main thread."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._grace = 0.0
        self._over = False

    def __enter__(self) -> Self:
        self._before = {signum: signal.signal(signum, self._on_signal) for signum in SIGNALS}
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def held(self, grace: float) -> Iterator[None]:
        """Let a call that may create something get its answer: a signal waits `grace` seconds."""
        self._grace = grace
        try:
            yield
        finally:
            self._grace = 0.0
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._raise_if_received()

    def finish(self) -> None:
        """From now on signals change nothing: the clean-up is under way, or nothing needs one."""
        self._over = True

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received = signum
            if self._grace:
                signal.setitimer(signal.ITIMER_REAL, self._grace)
            else:
                self._raise_if_received()

    def _on_alarm(self, _signum: int, _frame: FrameType | None) -> None:
        self._raise_if_received()

    def _raise_if_received(self) -> None:
        if self._received is not None and not self._over:
            self._over = True
            raise Cancelled(self._received)
