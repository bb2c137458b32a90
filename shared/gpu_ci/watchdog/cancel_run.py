"""Asks GitHub to cancel a run until it has taken that, and only while it is still to be cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpu_ci.errors import Conflict, Limited, Unreachable
from gpu_ci.runtime.clock import growing

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.runtime.clock import Deadline

TRIES: Final = 5
FIRST_PAUSE: Final = 2.0


def insist(ask: Callable[[], None], is_due: Callable[[], bool], deadline: Deadline) -> bool:
    """Ask, and again where that may help; False if it is not due any more after a pause.

    GitHub refuses (409) while a re-run is not queued yet; its outages and limits end. What was right
    before the pause need not be after it: a runner may have come. Raises GitHubError at last.
    """
    pauses = growing(FIRST_PAUSE, most=8 * FIRST_PAUSE)
    for left in reversed(range(TRIES)):
        try:
            ask()
        except (Conflict, Limited, Unreachable) as error:
            pause = next(pauses)
            if isinstance(error, Limited):
                pause = max(pause, error.until - deadline.clock.now())
            if not left or not deadline.allows(pause):
                raise
        else:
            return True
        deadline.clock.sleep(pause)
        if not is_due():
            return False
    raise AssertionError("unreachable: the last try returns or raises")
