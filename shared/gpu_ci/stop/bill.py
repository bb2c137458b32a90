"""What a stop reports about each machine: lines in the log and in the job's summary."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final, Literal

from gpu_ci.ledger.entry import Entry
from gpu_ci.model.machine import price_text
from gpu_ci.providers import keeper
from gpu_ci.runtime.workflow_commands import table
from gpu_ci.stop.find_holdings import HOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.ledger.split import Split
    from gpu_ci.model.machine import Machine, Price
    from gpu_ci.stop.find_holdings import Search
    from gpu_ci.stop.run_times import Times


HOURS_A_MONTH: Final = 730


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What a machine cost: from its launch to its release, at the price an hour if that is known.

    `seconds` is None if nobody knows when it began to run, `split` if nobody knows what the
    seconds were for. `paused` says that it is kept; `upkeep` is what it then costs, None if
    unknown. Clouds round up by rules of their own; this does not.
    """

    machine: Machine
    seconds: float | None
    price: Price | None
    split: Split | None = None
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
    def entry(self) -> Entry:
        """Return its entry in the ledger."""
        machine = self.machine
        return Entry.of(
            machine=machine.name,
            type_=machine.type,
            market=machine.market,
            seconds=self.seconds,
            price=self.price,
            split=self.split,
        )

    @property
    def price_text(self) -> str:
        """Return the price with its source and day."""
        source = f", {self.price.source}" if self.price and self.price.source else ""
        return f"{price_text(self.price)}{source}"

    @property
    def duration_text(self) -> str:
        return "an unknown time" if self.seconds is None else duration(self.seconds)

    @property
    def end_text(self) -> str:
        """Return what became of the machine, and what it still costs if it is kept."""
        if self.upkeep is None:
            return "paused" if self.paused else "given back"
        month = self.upkeep.per_hour * HOURS_A_MONTH
        return f"paused, its disk costs about {month:.2f} {self.upkeep.currency} a month"


def make_bill(search: Search, machine: Machine, times: Times | None, *, ended: bool) -> Bill:
    """Return the bill of a machine that was given back; `ended` says that it was over before."""
    began, now = machine.launched_at, times.now if times else search.deadline.clock.now()
    if times and ended:
        now = times.end_of(machine.name)
    paused = machine.kept and HOW[search.inputs.release] == "pause"
    # Whole seconds, rounded up, as they are shown: the ledger adds up to the same sum.
    seconds = float(max(0, ceil(now - began))) if began else None
    # As its handle describes it: a kept machine itself knows no more than its name.
    given = (each for each in search.inputs.handle if each.name == machine.name)
    return Bill(
        machine=machine,
        seconds=seconds,
        split=times.split(next(given, machine), seconds, now) if times else None,
        price=machine.price or search.provider.price(machine),
        paused=paused,
        upkeep=keeper(search.provider).upkeep(machine) if paused else None,
    )


def bill_lines(bills: Sequence[Bill], removed: int) -> list[str]:
    """Return a stop's lines for the log."""
    lines = [
        f"{bill.machine.describe()} is {bill.end_text}: billed for "
        f"{bill.duration_text}{_parts(bill)}, cost {bill.cost_text} ({bill.price_text})."
        for bill in bills
    ]
    return [*(lines or ["No machine was left to give back."]), f"Registrations removed: {removed}."]


def _parts(bill: Bill) -> str:
    return f" ({bill.split})" if bill.split else ""


def total_part(bills: Sequence[Bill], part: Literal["boot", "work", "idle"]) -> str:
    """Return the sum of one part of the billed time, "" unless all are split."""
    known = [getattr(bill.split, part) for bill in bills if bill.split]
    return f"{sum(known)}" if len(known) == len(bills) else ""


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


def stop_summary(
    bills: Sequence[Bill], removed: int, *, hosted: int | None = None, why: str = ""
) -> str:
    """Return the job summary of a stop.

    `hosted` is how many minutes of GitHub's own runners this library's jobs used so far; `why`
    says why nothing is known about the run's jobs.
    """
    if not bills:
        return f"### GPU runner: no machine was left, {removed} registration(s) removed"
    head = ("Machine", "Type", "Market", "Billed", "Boot", "Work", "Idle", "Price", "Cost")
    parts = ["### GPU runner: given back", table(head, [_bill_row(bill) for bill in bills])]
    parts += [f"{bill.machine.name} is {bill.end_text}." for bill in bills if bill.paused]
    if hosted is not None:
        parts.append(
            f"The library's own jobs of this run used {hosted} min of GitHub's runners so far."
        )
    if why:
        parts.append(f"What the time was for is not known. {_on_one_line(why)}")
    return "\n\n".join(parts)


def _bill_row(bill: Bill) -> tuple[str, ...]:
    machine, of = bill.machine, bill.split
    parts = (duration(of.boot), duration(of.work), duration(of.idle)) if of else ("unknown",) * 3
    money = (bill.price_text, bill.cost_text)
    return (machine.name, machine.type, machine.market, bill.duration_text, *parts, *money)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def duration(seconds: float) -> str:
    """Return seconds as 4 min 03 s, or 59 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
