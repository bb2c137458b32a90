"""Uses a label up: of all runs that have seen it on a pull request, one may remove it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from github import Auth

from gpu_ci.errors import Absent, Unreachable
from gpu_ci.github.transport import Line
from gpu_ci.runtime.clock import Deadline, growing

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.runtime.clock import Clock

TRIES: Final = 4
SECONDS: Final = 60.0
CURE: Final = (
    "Give the job `permissions: pull-requests: write`. The token of a run that Dependabot began may "
    "only read unless the workflow says so."
)


def connect(api_url: str, token: str, clock: Clock, say: Callable[[str], None]) -> Line:
    """Return the line that asks with the job's own token, and sends each request once."""
    cures = dict.fromkeys((401, 403, 404), CURE)
    deadline = Deadline.after(SECONDS, clock)
    return Line(api_url, Auth.Token(token), deadline, say, tries=1, cures=cures)


def use_up(line: Line, repository: str, number: int, label: str) -> bool:
    """Remove a label from a pull request; False if another run has.

    Where an answer was lost and the label is gone at the next try, it was ours, as far as anybody
    can know. Raises GitHubError when it can neither be removed nor known to be gone.
    https://docs.github.com/en/rest/issues/labels#remove-a-label-from-an-issue
    """
    labels = f"/repos/{repository}/issues/{number}/labels"
    pauses, lost = growing(0.5), False
    for left in reversed(range(TRIES)):
        try:
            line.delete(f"{labels}/{quote(label, safe='')}")
        except Absent:
            line.get(labels)  # 404 is said to who may not, too; the list is there for all others
            return lost
        except Unreachable:
            lost, pause = True, next(pauses)
            if not left or not line.deadline.allows(pause):
                raise
        else:
            return True
        line.deadline.clock.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")
