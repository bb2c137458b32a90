"""A budget, and whether a start stays within it. Pure."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from gpu_ci.errors import OverBudget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.model.machine import Price

EXAMPLES: Final = "write 5/run, 200/month, or both with a comma between"
# A sum of floats may be off by this much, far less than a cent.
ROUNDING: Final = 1e-6

Span = Literal["run", "month"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The most that a run and that a calendar month (UTC) may cost; None = no limit."""

    run: float | None = None
    month: float | None = None

    @property
    def limits(self) -> bool:
        return self.run is not None or self.month is not None

    @classmethod
    def read(cls, parts: tuple[str, ...]) -> Budget:
        """Read `5/run` and `200/month`. Raises ValueError that says what is wrong."""
        limits: dict[str, float] = {}
        for part in parts:
            found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,4})?) ?/ ?(run|month)", part, re.ASCII)
            if found is None:
                raise ValueError(f"{part!r} is no budget: {EXAMPLES}")
            if found[2] in limits:
                raise ValueError(f"there are two for the {found[2]}: {EXAMPLES}")
            limits[found[2]] = float(found[1])
        return cls(**limits)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What this start may cost at most, and what comes on top, in one currency.

    `seconds` is how long each of its `count` machines may live. `run_others` is what the run's
    other machines have cost and may still cost; `month_others` is the same for the repository since
    the month began, None if no limit asks for it.
    """

    price: Price
    count: int
    seconds: float
    run_others: float = 0.0
    month_others: float | None = None

    @property
    def start(self) -> float:
        return self.price.per_hour * self.count * self.seconds / 3600

    def total(self, span: Span) -> float:
        others = self.run_others if span == "run" else self.month_others or 0.0
        return self.start + others


def spans(budget: Budget) -> Iterator[tuple[Span, float]]:
    """Yield what is limited, and to how much."""
    if budget.run is not None:
        yield "run", budget.run
    if budget.month is not None:
        yield "month", budget.month


def judge(budget: Budget, estimate: Estimate) -> list[str]:
    """Return a line for each limit that holds. Raises OverBudget at the first that does not."""
    lines = []
    for span, limit in spans(budget):
        total = estimate.total(span)
        if total > limit + ROUNDING:
            raise OverBudget(
                f"{_describe(span, estimate)}: more than the budget of {_plain(limit)}/{span}.",
                _cure(span, limit, estimate),
            )
        lines.append(f"{_describe(span, estimate)}, within the budget of {_plain(limit)}/{span}.")
    return lines


def _describe(span: Span, estimate: Estimate) -> str:
    price, currency = estimate.price, estimate.price.currency
    machines = "a machine" if estimate.count == 1 else f"{estimate.count} machines"
    others = estimate.total(span) - estimate.start
    return (
        f"This start may cost {estimate.start:.2f} {currency} ({machines} at {price.per_hour:.4g} "
        f"{currency}/h{_source(price)} for {estimate.seconds / 60:g} minutes), and the rest "
        f"of the {span} {others:.2f} {currency}, {estimate.total(span):.2f} {currency} in all"
    )


def _source(price: Price) -> str:
    return f", {price.source}," if price.source else ""


def _plain(amount: float) -> str:
    return f"{amount:.4f}".rstrip("0").rstrip(".")


def _cure(span: Span, limit: float, estimate: Estimate) -> str:
    enough = math.ceil((estimate.total(span) - ROUNDING) * 100) / 100
    minutes = _minutes_within(limit - (estimate.total(span) - estimate.start), estimate)
    raised = f"a budget of {_plain(enough)}/{span} would pass"
    if minutes < 1:
        return f"No max-lifetime-minutes would pass; {raised}."
    return f"max-lifetime-minutes: {minutes} would pass, and {raised}."


def _minutes_within(left: float, estimate: Estimate) -> int:
    a_minute = estimate.price.per_hour * estimate.count / 60
    return math.floor((left + ROUNDING) / a_minute) if a_minute else 0
