"""Uses a label up: of all runs that saw it on a pull request, only one can remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from gpu_ci.errors import Absent, Forbidden, Unreachable
from gpu_ci.github.cures import LABEL_CURE
from gpu_ci.runtime.clock import Deadline, growing

if TYPE_CHECKING:
    from gpu_ci.github.tokens import Access
    from gpu_ci.github.transport import Line
    from gpu_ci.runtime.clock import Clock

TRIES: Final = 4
SECONDS: Final = 60.0


def use_up(access: Access, number: int, label: str, clock: Clock) -> bool:
    """Remove a label from a pull request; return False if another run has.

    If an answer was lost and the label is gone at the next try, we take it that we removed it:
    nobody can know. Raises GitHubError when it can neither be removed nor known to be gone.
    https://docs.github.com/en/rest/issues/labels#remove-a-label-from-an-issue
    """
    deadline = Deadline.after(SECONDS, clock)
    cures = dict.fromkeys((401, 403, 404), LABEL_CURE)
    lines = access.lines(deadline, lambda _token: cures, tries=1)  # the tries are counted here
    if not lines:
        raise Forbidden("This step has no token.", LABEL_CURE)
    return _remove(lines[0], f"/repos/{access.repository}/issues/{number}/labels", label)


def _remove(line: Line, labels: str, label: str) -> bool:
    pauses, lost = growing(0.5), False
    for left in reversed(range(TRIES)):
        try:
            line.delete(f"{labels}/{quote(label, safe='')}")
        except Absent:
            line.get(labels)  # a token without the right gets 404 too; any other gets the list
            return lost
        except Unreachable:
            lost, pause = True, next(pauses)
            if not left or not line.deadline.allows(pause):
                raise
        else:
            return True
        line.deadline.clock.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")
