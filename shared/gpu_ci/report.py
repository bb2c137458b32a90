"""What a start and a stop tell: the lines of the log and the job's summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.actions import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.machine import Machine, Price
    from gpu_ci.rental import Lease, Rental

HOURS_A_MONTH: Final = 730


def start_summary(rental: Rental) -> str:
    """Return the job summary of a start, whatever came of it."""
    leases, tries = rental.leases, rental.tries
    parts = [f"### GPU runner: {_result(rental)}"]
    rows = [_lease_row(lease, lease.machine) for lease in leases if lease.machine]
    if rows:
        head = ("Machine", "Type", "Where", "Market", "Online after", "Price")
        parts.append(table(head, rows))
    if len(tries) > len(rows):
        tried = ("For", "Asked for", "Result")
        parts.append(table(tried, [(t.name, t.candidate, t.result) for t in tries]))
    return "\n\n".join(parts)


def _result(rental: Rental) -> str:
    if rental.leases and all(lease.online_at for lease in rental.leases):
        return "online"
    return "failed, and not all could be given back" if rental.left else "failed, nothing is left"


def _lease_row(lease: Lease, machine: Machine) -> tuple[str, ...]:
    where, online = machine.zone or machine.region, _online_after(lease, machine)
    return (machine.name, machine.type, where, machine.market, online, price_text(machine.price))


def _online_after(lease: Lease, machine: Machine) -> str:
    if not lease.online_at:
        return "never"
    began = machine.launched_at  # 0 for one that was running already
    return f"{lease.online_at - began:.0f} s" if began else "unknown"


def price_text(price: Price | None) -> str:
    """Return the price an hour in words, "unknown" where no source told."""
    return f"{price.per_hour:.4g} {price.currency}/h" if price else "unknown"


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a machine cost: from its launch to its release, at the price an hour if that is known.

    `seconds` is None where nobody knows since when it runs; `paused` says that it is kept, and
    `upkeep` what it costs then, None where that is not known.
    Clouds round up by rules of their own; this does not.
    """

    machine: Machine
    seconds: float | None
    price: Price | None
    paused: bool = False
    upkeep: Price | None = None

    @property
    def cost(self) -> float | None:
        if self.price is None or self.seconds is None:
            return None
        return self.price.per_hour * self.seconds / 3600

    @property
    def cost_text(self) -> str:
        cost = self.cost
        return "unknown" if cost is None or not self.price else f"{cost:.4f} {self.price.currency}"

    @property
    def duration_text(self) -> str:
        return "an unknown time" if self.seconds is None else duration(self.seconds)

    @property
    def end_text(self) -> str:
        """Return what became of the machine, and what it goes on to cost if it is kept."""
        if self.upkeep is None:
            return "paused" if self.paused else "given back"
        month = self.upkeep.per_hour * HOURS_A_MONTH
        return f"paused, its disk costs about {month:.2f} {self.upkeep.currency} a month"


def bill_lines(bills: Sequence[Bill], removed: int) -> list[str]:
    """Return what a stop says in the log."""
    lines = [
        f"{bill.machine.told()} is {bill.end_text}: billed for "
        f"{bill.duration_text}, cost {bill.cost_text} ({price_text(bill.price)})."
        for bill in bills
    ]
    return [*(lines or ["No machine was left to give back."]), f"Registrations removed: {removed}."]


def total_seconds(bills: Sequence[Bill]) -> str:
    """Return the sum of the billed seconds, "" unless all are known."""
    known = [bill.seconds for bill in bills if bill.seconds is not None]
    return f"{sum(known):.0f}" if len(known) == len(bills) else ""


def total_cost(bills: Sequence[Bill]) -> str:
    """Return the sum of the costs, "" unless every price is known and in one currency."""
    known = [bill.price for bill in bills if bill.price and bill.cost is not None]
    currencies = {price.currency for price in known} | ({""} if len(known) < len(bills) else set())
    if len(currencies) != 1 or "" in currencies:
        return ""
    return f"{sum(bill.cost or 0.0 for bill in bills):.4f} {currencies.pop()}"


def stop_summary(bills: Sequence[Bill], removed: int) -> str:
    """Return the job summary of a stop."""
    if not bills:
        return f"### GPU runner: no machine was left, {removed} registration(s) removed"
    head = ("Machine", "Type", "Market", "Billed", "Price", "Cost")
    rows = [
        (
            bill.machine.name,
            bill.machine.type,
            bill.machine.market,
            bill.duration_text,
            price_text(bill.price),
            bill.cost_text,
        )
        for bill in bills
    ]
    kept = [f"{bill.machine.name} is {bill.end_text}." for bill in bills if bill.paused]
    return "\n\n".join(["### GPU runner: given back", table(head, rows), *kept])


def duration(seconds: float) -> str:
    """Return seconds as 4 min 03 s, or 59 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
