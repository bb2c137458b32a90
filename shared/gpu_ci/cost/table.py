"""The ledger as tables: by run, and by machine type and workflow, with sums by currency. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from gpu_ci.ledger.read_ledger import sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpu_ci.ledger.read_ledger import Ledger, Posting

RUN_HEAD: Final = ("Day", "Run", "Workflow", "Machines", "Billed", "Boot", "Work", "Idle", "Cost")
KIND_HEAD: Final = (
    "Type",
    "Market",
    "Workflow",
    "Machines",
    "Billed",
    "Boot",
    "Work",
    "Idle",
    "Cost",
)

Row = tuple[str, ...]
KeyT = TypeVar("KeyT")


@dataclass(kw_only=True)
class Sum:
    """What several postings come to; `unknown` counts those whose cost or time is not known."""

    postings: list[Posting] = field(default_factory=list)

    def cells(self) -> Row:
        """Return the machines, the seconds in all and for each part, and the cost."""
        entries = [posting.entry for posting in self.postings]
        splits = [entry.split for entry in entries if entry.split]
        seconds = sum(entry.seconds or 0 for entry in entries)
        parts = [sum(getattr(each, part) for each in splits) for part in ("boot", "work", "idle")]
        told = [f"{each} s" if len(splits) == len(entries) else "unknown" for each in parts]
        return (str(len(entries)), f"{seconds} s", *told, money(self.postings))


def money(postings: Sequence[Posting]) -> str:
    """Return the known cost by currency, and of how many machines it is not known."""
    known = [f"{amount:.4f} {currency}" for currency, amount in sorted(sums(postings).items())]
    unknown = sum(posting.entry.cost is None for posting in postings)
    lacking = [f"unknown for {unknown}"] if unknown else []
    return " + ".join(known + lacking) or "nothing"


def by_run(ledger: Ledger) -> list[Row]:
    """Return a row for each run that rented a machine, newest first."""
    groups = _grouped(ledger.postings, lambda posting: posting.run)
    return [
        (day(run.created_at), str(run.id), run.name, *group.cells())
        for run, group in groups.items()
    ]


def by_kind(ledger: Ledger) -> list[Row]:
    """Return a row for each machine type, market and workflow, the dearest first."""
    groups = _grouped(ledger.postings, _kind)
    rows = sorted(groups.items(), key=lambda item: -sum(sums(item[1].postings).values()))
    return [(*kind, *group.cells()) for kind, group in rows]


def _kind(posting: Posting) -> tuple[str, str, str]:
    return (posting.entry.type or "unknown", posting.entry.market, posting.run.name)


def _grouped(postings: Iterable[Posting], key: Callable[[Posting], KeyT]) -> dict[KeyT, Sum]:
    groups: dict[KeyT, Sum] = {}
    for posting in postings:
        groups.setdefault(key(posting), Sum()).postings.append(posting)
    return groups


def aligned(head: Row, rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table for a terminal; what counts is to the right."""
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    numbers = head.index("Machines")
    return [
        "  ".join(
            cell.rjust(width) if at >= numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def day(moment: float) -> str:
    """Return the day of a moment, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
