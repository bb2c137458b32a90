"""The ledger by days, or by months where it goes far back: what charts are drawn from. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gpu_ci.ledger.read_ledger import LedgerLine

# More bars than these cannot be told apart.
MOST_DAYS: Final = 62


@dataclass(frozen=True, kw_only=True)
class Series:
    """What was spent in one currency: `names` of the spans without a gap, and for each key (a part
    of the time, or a machine type) as many amounts."""

    currency: str
    names: tuple[str, ...]
    amounts: Mapping[str, tuple[float, ...]]

    @property
    def totals(self) -> tuple[float, ...]:
        return tuple(sum(column) for column in zip(*self.amounts.values(), strict=True))


def by_part(lines: Sequence[LedgerLine], since: float, until: float) -> list[Series]:
    """Return for each currency what boot, work and idle time cost, or time that is not split."""
    return _series(lines, since, until, _parts)


def by_type(lines: Sequence[LedgerLine], since: float, until: float) -> list[Series]:
    """Return for each currency what machines of each type cost."""
    return _series(
        lines, since, until, lambda each: {each.entry.type or "unknown": each.entry.cost or 0.0}
    )


def _parts(line: LedgerLine) -> dict[str, float]:
    split, price, cost = line.entry.split, line.entry.price, line.entry.cost or 0.0
    if split is None or price is None:
        return {"not split": cost}
    seconds = {"work": split.work, "boot": split.boot, "idle": split.idle}
    return {part: price.per_hour * each / 3600 for part, each in seconds.items()}


def _series(
    lines: Sequence[LedgerLine],
    since: float,
    until: float,
    keys: Callable[[LedgerLine], dict[str, float]],
) -> list[Series]:
    spans = _spans(since, until)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for line in lines:
        if line.entry.price is None or line.entry.cost is None:
            continue
        name = _name(line.run.created_at, monthly=len(spans[0]) == len("2026-11"))
        for key, amount in keys(line).items():
            amounts = found.setdefault(line.entry.price.currency, {}).setdefault(key, {})
            amounts[name] = amounts.get(name, 0.0) + amount
    return [
        Series(
            currency=currency,
            names=spans,
            amounts={
                key: tuple(amounts.get(name, 0.0) for name in spans)
                for key, amounts in sorted(of.items(), key=lambda item: -sum(item[1].values()))
            },
        )
        for currency, of in sorted(found.items())
    ]


def _spans(since: float, until: float) -> tuple[str, ...]:
    first, last = _day(since), max(_day(until), _day(since))
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    monthly = len(days) > MOST_DAYS
    return tuple(dict.fromkeys(_name(day.timestamp(), monthly=monthly) for day in days))


def _day(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _name(moment: float, *, monthly: bool) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m" if monthly else "%Y-%m-%d")
