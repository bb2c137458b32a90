"""The ledger as tables: by run, and by machine type and workflow, with sums by currency. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

from gpu_ci.ledger.read_ledger import sums

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpu_ci.ledger.read_ledger import Ledger, LedgerLine

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
    """What several lines of the ledger add up to."""

    lines: list[LedgerLine] = field(default_factory=list)

    def cells(self) -> Row:
        """Return the machines, the seconds in all and for each part, and the cost."""
        entries = [line.entry for line in self.lines]
        splits = [entry.split for entry in entries if entry.split]
        seconds = sum(entry.seconds or 0 for entry in entries)
        parts = [sum(getattr(each, part) for each in splits) for part in ("boot", "work", "idle")]
        told = [f"{each} s" if len(splits) == len(entries) else "unknown" for each in parts]
        return (str(len(entries)), f"{seconds} s", *told, money(self.lines))


def money(lines: Sequence[LedgerLine]) -> str:
    """Return the known cost by currency, and for how many machines it is unknown."""
    known = [f"{amount:.4f} {currency}" for currency, amount in sorted(sums(lines).items())]
    unknown = sum(line.entry.cost is None for line in lines)
    lacking = [f"unknown for {unknown}"] if unknown else []
    return " + ".join(known + lacking) or "nothing"


def by_run(ledger: Ledger) -> list[Row]:
    """Return a row for each run that rented a machine, newest first."""
    groups = _grouped(ledger.lines, lambda line: line.run)
    return [
        (day(run.created_at), str(run.id), run.name, *group.cells())
        for run, group in groups.items()
    ]


def by_kind(ledger: Ledger) -> list[Row]:
    """Return a row for each machine type, market and workflow, the dearest first."""
    groups = _grouped(ledger.lines, _kind)
    rows = sorted(groups.items(), key=lambda item: -sum(sums(item[1].lines).values()))
    return [(*kind, *group.cells()) for kind, group in rows]


def _kind(line: LedgerLine) -> tuple[str, str, str]:
    return (line.entry.type or "unknown", line.entry.market, line.run.name)


def _grouped(lines: Iterable[LedgerLine], key: Callable[[LedgerLine], KeyT]) -> dict[KeyT, Sum]:
    groups: dict[KeyT, Sum] = {}
    for line in lines:
        groups.setdefault(key(line), Sum()).lines.append(line)
    return groups


def aligned(head: Row, rows: Sequence[Row]) -> list[str]:
    """Return the lines of a table for a terminal, with numbers aligned to the right."""
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
