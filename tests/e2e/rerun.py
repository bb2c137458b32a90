"""Which jobs of a run GitHub runs again.

https://docs.github.com/en/actions/how-tos/manage-workflow-runs/re-run-workflows-and-jobs
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

FAILED = {"failure", "cancelled", "timed_out"}


def failed_again(jobs: Mapping[str, Any], conclusions: Mapping[str, str]) -> set[str]:
    """Return what "Re-run failed jobs" runs: what failed, and what needs that; never what it needed."""
    return with_dependents(jobs, {name for name in jobs if conclusions[name] in FAILED})


def with_dependents(jobs: Mapping[str, Any], names: AbstractSet[str]) -> set[str]:
    """Return jobs and all that need one of them: what re-running a single job runs."""
    found = set(names)
    while more := {name for name in jobs if needs(jobs[name]) & found} - found:
        found |= more
    return found


def needs(job: Mapping[str, Any]) -> set[str]:
    given = job.get("needs", [])
    return {given} if isinstance(given, str) else {*given}
