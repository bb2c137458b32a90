"""Asks GitHub to cancel a run until it has taken that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpu_ci.errors import Conflict
from gpu_ci.waiting import growing

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.waiting import Deadline

TRIES: Final = 5


def insist(ask: Callable[[], None], deadline: Deadline) -> None:
    """Ask, and again while GitHub says that the run cannot be cancelled yet.

    It says so of a re-run that is not queued yet (409). Raises GitHubError when it goes on.
    """
    pauses = growing(2.0, most=16.0)
    for left in reversed(range(TRIES)):
        try:
            return ask()
        except Conflict:
            pause = next(pauses)
            if not left or not deadline.allows(pause):
                raise
            deadline.clock.sleep(pause)
    return None
