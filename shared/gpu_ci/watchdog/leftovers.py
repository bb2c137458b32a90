"""Ends leftovers: only what two readings, some time apart, both show to be nobody's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from gpu_ci.errors import CloudError, GitHubError
from gpu_ci.watchdog.report import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.runtime.clock import Deadline
    from gpu_ci.watchdog.report import Kind, Report

# A runner can look idle for a moment in the middle of its work.
APART_SECONDS: Final = 60.0
# GitHub asks for a second between requests that change something (best practices of the REST API).
PACE_SECONDS: Final = 1.0


class HandsOff(Exception):
    """It may be somebody's after all; the text says whose."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something that seems to be nobody's.

    `key` tells it apart from all others. `end` ends it and says how, or raises HandsOff. If it
    `costs`, it uses up one of the actions of a pass.
    """

    kind: Kind
    key: str
    what: str
    why: str
    end: Callable[[], str]
    since: float = 0.0
    costs: bool = True


class Source(Protocol):
    """Where leftovers come from."""

    def look(self) -> Sequence[Leftover]:
        """Return what seems to be nobody's right now, and leave out what cannot be known."""


def sweep(sources: Sequence[Source], report: Report, deadline: Deadline) -> None:
    """Look twice, and end what both readings show, in the order of the sources."""
    first = {each.key for source in sources for each in source.look()}
    if not first:
        return
    if not deadline.allows(APART_SECONDS):
        report.note_unseen("What may be left over was seen only once: time was up.")
        return
    deadline.clock.sleep(APART_SECONDS)
    for source in sources:
        for each in source.look():
            if each.key in first:
                _end(each, report, deadline)


def _end(each: Leftover, report: Report, deadline: Deadline) -> None:
    if report.dry_run:
        _note(each, report, "would be ended")
    elif deadline.passed():
        _note(each, report, "left for the next pass: time is up")
    elif each.costs and not report.may_act():
        _note(each, report, "left for the next pass: max-actions is reached")
    else:
        _try(each, report)
        deadline.clock.sleep(PACE_SECONDS)


def _try(each: Leftover, report: Report) -> None:
    try:
        _note(each, report, each.end(), acted=True)
    except HandsOff as reason:
        _note(each, report, f"left: {reason}")
    except (CloudError, GitHubError) as error:
        _note(each, report, "not ended")
        report.troubles.append(f"{each.what} could not be ended. {error}")


def _note(each: Leftover, report: Report, done: str, *, acted: bool = False) -> None:
    found = Finding(
        kind=each.kind, what=each.what, why=each.why, since=each.since, done=done, acted=acted
    )
    report.findings.append(found)
