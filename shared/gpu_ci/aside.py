"""Calls in threads of their own, which do not keep the process alive: a signal need not wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def aside(call: Callable[[], T], seconds: float) -> T:
    """Return what the call returns, or raise what it raises. Raises TimeoutError after the time.

    A signal's exception comes out of the waiting, at once and whatever the call is doing.
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
