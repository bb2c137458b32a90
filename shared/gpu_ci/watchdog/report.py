"""What a watchdog found and did, as a table for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from gpu_ci.runtime.workflow_commands import table

if TYPE_CHECKING:
    from gpu_ci.errors import GpuCiError

# An output may have 1 MiB, and nobody reads on for longer.
MOST_TOLD: Final = 500
Kind = Literal["run", "machine", "registration"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that should not be.

    `since` is in seconds since the epoch, 0 if unknown. `done` says in words what became of it,
    `acted` whether it was ended, and `advice`, in sentences, what people can do.
    """

    kind: Kind
    what: str
    why: str
    done: str
    since: float = 0.0
    acted: bool = False
    advice: str = ""


@dataclass(kw_only=True)
class Report:
    """What one watchdog reports.

    `unseen` is what it could not look at; `troubles` is what should have been ended and was not;
    `failures` are errors that kept it from a whole part of its work. `actions_left` bounds how many
    runs and machines it may still end; `whole` is set when all was looked at that can be.
    """

    scope: str
    dry_run: bool
    actions_left: int
    findings: list[Finding] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    failures: list[GpuCiError] = field(default_factory=list)
    whole: bool = False

    def may_act(self) -> bool:
        """Take one of the actions that are left, if there is one."""
        self.actions_left -= 1
        return self.actions_left >= 0

    def note_unseen(self, text: str) -> None:
        """Note what could not be seen, or is left to others; once, however often it is met."""
        if text not in self.unseen:
            self.unseen.append(text)

    def ended(self, kind: Kind) -> int:
        """Return how many of this kind were ended."""
        return sum(finding.acted for finding in self.findings if finding.kind == kind)

    def as_json(self) -> dict[str, Any]:
        """Return what the output `report` holds."""
        told = [_as_json(finding) for finding in self.findings[:MOST_TOLD]]
        return {
            "scope": self.scope,
            "dry_run": self.dry_run,
            "findings": told,
            "unseen": [*self.unseen, *map(str, self.failures)],
        }

    def lines(self) -> list[str]:
        """Return it for the log, a line for each finding."""
        return [_line(each) for each in self.findings] or [self._nothing()]

    def _nothing(self) -> str:
        if self.whole and not self.failures:
            return "Nothing waits too long, and nothing is left over."
        return "Nothing was found in what could be looked at."

    def summary(self) -> str:
        """Return it for the job's summary page."""
        parts = ["### Watchdog"]
        rows = [_row(each) for each in self.findings[:MOST_TOLD]]
        parts.append(table(("What", "Why", "Since", "Done"), rows) if rows else self.lines()[0])
        if len(self.findings) > MOST_TOLD:
            parts.append(f"And {len(self.findings) - MOST_TOLD} more, which are in the log.")
        told = [*self.unseen, *self.troubles, *map(str, self.failures)]
        parts += [table(("Not seen, or not done",), [(text,) for text in told])] if told else []
        return "\n\n".join(parts)


def _line(finding: Finding) -> str:
    return f"{finding.what}: {finding.why}: {finding.done}. {finding.advice}".strip()


def _row(finding: Finding) -> tuple[str, ...]:
    why = f"{finding.why}. {finding.advice}" if finding.advice else finding.why
    return finding.what, why, moment(finding.since), finding.done


def _as_json(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"since": moment(finding.since)}


def moment(seconds: float) -> str:
    """Return a moment as people and programs read it, "" for 0."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""
