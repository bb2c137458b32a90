"""Asks GitHub to cancel a run until it accepts, as long as the cancel is still due."""

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
    """Ask, and ask again where that may help; return False if it is no longer due after a pause.

    GitHub refuses (409) while a re-run is not queued yet; its outages and limits end. What was right
    before a pause may be wrong after it: a runner may have come. Raises GitHubError in the end.
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
