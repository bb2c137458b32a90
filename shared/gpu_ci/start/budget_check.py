"""Checks, before anything is launched, that a start stays within its budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import BudgetUnknown, CloudError, GitHubError
from gpu_ci.github.client import Run
from gpu_ci.ledger.read_ledger import month_of, read_ledger, read_run
from gpu_ci.model.budget import Estimate, judge
from gpu_ci.model.machine import Machine
from gpu_ci.model.tags import IN_A_TERMINAL, Tags
from gpu_ci.providers import keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gpu_ci.github.history import History
    from gpu_ci.inputs.start_inputs import StartInputs
    from gpu_ci.ledger.read_ledger import LedgerLine, Unread
    from gpu_ci.model.budget import Span
    from gpu_ci.model.identity import Identity
    from gpu_ci.model.machine import Price
    from gpu_ci.providers import Candidate, Provider
    from gpu_ci.start.plan import StartPlan

# The share of the hour's requests that reading the ledger leaves to the run's other jobs.
SPARED: Final = 0.1
PRICE_CURE: Final = (
    "Allow the credentials to read prices (EC2: pricing:GetProducts, ec2:DescribeSpotPriceHistory), "
    "name other types under machine, or leave budget out."
)


@dataclass(frozen=True, kw_only=True)
class BudgetCheck:
    """One start with a budget, and where to look up what it may cost."""

    inputs: StartInputs
    plan: StartPlan
    provider: Provider
    history: History
    now: float

    @property
    def identity(self) -> Identity:
        return self.plan.identity

    def check(self, say: Callable[[str], None]) -> StartPlan:
        """Report how the start stays within its budget; return the plan without unpriced candidates.

        Raises OverBudget when it does not, and BudgetUnknown when that cannot be looked up: a
        budget that cannot be checked is no budget.
        """
        plan, price = self.priced(say)
        for line in judge(self.inputs.budget, self.estimate(price)):
            say(line)
        return plan

    def estimate(self, price: Price) -> Estimate:
        """Return what the start may cost at this price, and what comes on top."""
        machines = self.alive()  # first: what ends meanwhile is in the ledger, and counted twice
        own = [each for each in machines if each.tags.run_id == self.identity.run_id]
        spent = _in_one_currency(self._lines_of_run(), price, "run")
        estimate = Estimate(
            price=price,
            count=self.inputs.count,
            seconds=self.inputs.max_lifetime,
            run_others=spent + sum(self._most(each, price) for each in own),
        )
        if self.inputs.budget.month is None:
            return estimate
        spent = _in_one_currency(self._lines_of_month(), price, "month")
        going = sum(self._most(each, price) for each in machines)
        return replace(estimate, month_others=spent + going)

    def priced(self, say: Callable[[str], None]) -> tuple[StartPlan, Price]:
        """Return the plan with the candidates whose price is known, and the highest of the prices.

        A candidate without a price is often not sold here. Left out of the plan, it is never taken.
        """
        kept = self._kept()
        own = [self._price(kept)] if kept else []
        known = {each: self._price_of(each, kept) for each in self._ways(kept)}
        taken = {candidate: price for candidate, price in known.items() if price}
        for candidate in (each for each in known if each not in taken):
            say(f"{candidate} is left out: its price is not known, and there is a budget.")
        if not taken:
            raise self._nothing_priced()
        prices = [*own, *taken.values()]
        for price in prices:
            _same_currency(price, prices[0].currency, "The types differ in their currency")
        plan = replace(self.plan, candidates=tuple(taken))
        return plan, max(prices, key=lambda price: price.per_hour)

    def _kept(self) -> Machine | None:
        """Return the kept machine that the start would resume or take over."""
        name = self.plan.machine_name
        try:
            found = keeper(self.provider).kept(name) if name else None
        except CloudError as error:
            raise BudgetUnknown(f"What {name} costs cannot be looked up. {error}") from error
        return found[0] if found else None

    def _ways(self, kept: Machine | None) -> list[Candidate]:
        """Return the candidates that can be taken; one without a type needs an existing machine."""
        return [each for each in self.plan.candidates if each.type or kept]

    def _nothing_priced(self) -> BudgetUnknown:
        sought = ", ".join(str(each) for each in self.plan.candidates if each.type)
        if not sought:
            return BudgetUnknown(
                f"What {self.plan.machine_name} costs is not known: there is no such machine.",
                "Name the type to make it of under machine, or leave budget out.",
            )
        return BudgetUnknown(
            f"No price is known for {sought}, so none can be checked against the budget.",
            PRICE_CURE,
        )

    def _price_of(self, candidate: Candidate, kept: Machine | None) -> Price | None:
        """Return the price of the machine that the candidate would be.

        A kept machine stays where it is, and is resumed as another type if one is named. It may be
        up now and paused by then, so it is priced like one still to be made.
        """
        if kept is None:
            return self.provider.price(self._imagined(candidate))
        type_ = candidate.type or kept.type
        return self.provider.price(replace(kept, id="", type=type_, market=candidate.market))

    def _imagined(self, candidate: Candidate) -> Machine:
        return Machine(
            provider=self.provider.name,
            id="",
            tags=_no_tags(),
            region=candidate.region,
            zone=candidate.zone,
            type=candidate.type,
            market=candidate.market,
        )

    def _price(self, machine: Machine) -> Price:
        price = machine.price or self.provider.price(machine)
        if price is None:
            raise BudgetUnknown(
                f"The price of {machine.describe()} ({machine.type} {machine.market}) is not known, so "
                "it cannot be checked against the budget.",
                PRICE_CURE,
            )
        return price

    def alive(self) -> Sequence[Machine]:
        """Return the repository's machines in all regions: this run's, or all for a month's budget."""
        wanted = {"repository": self.identity.repository}
        if self.inputs.budget.month is None:
            wanted["run_id"] = self.identity.run_id
        try:
            return self.provider.find(wanted, [])
        except CloudError as error:
            raise BudgetUnknown(
                f"What else is running cannot be looked up, nor checked against the budget. {error}"
            ) from error

    def _most(self, machine: Machine, price: Price) -> float:
        """Return what a machine has cost, and may still cost until its own timers end it."""
        own = self._price(machine)
        _same_currency(own, price.currency, f"{machine.describe()} is billed in another currency")
        ends = machine.tags.expires_at or self.now + self.inputs.max_lifetime
        began = machine.launched_at or self.now
        return own.per_hour * max(0.0, max(ends, self.now) - began) / 3600

    def _lines_of_run(self) -> Sequence[LedgerLine]:
        """Return the lines of this run's stops; a start in a terminal has none."""
        number = self.identity.run_id
        if number == IN_A_TERMINAL or self.inputs.budget.run is None:
            return ()
        try:
            jobs = self.history.jobs(int(number))
            began = min((job.started_at for job in jobs if job.began), default=self.now)
            run = Run(
                id=int(number), attempt=1, status="in_progress", conclusion="", created_at=began
            )
            read = read_run(self.history, run, jobs)
        except GitHubError as error:
            raise _unreadable("What this run has cost so far", error) from error
        _refuse_unread(read.unreadable, "run")
        return read.lines

    def _lines_of_month(self) -> Sequence[LedgerLine]:
        ledger = read_ledger(self.history, month_of(self.now))
        if ledger.gap:
            raise _unreadable("What this month has cost so far", ledger.gap) from ledger.gap
        if ledger.cut:
            raise BudgetUnknown(
                f"The month has more than {ledger.runs} runs, too many to read for a budget.",
                "Leave the month out of budget, and look at its cost with `gpu-ci cost` instead.",
            )
        _refuse_unread(ledger.unreadable, "month")
        return ledger.lines


def _refuse_unread(lines: Sequence[Unread], span: Span) -> None:
    if lines:
        first, *others = lines
        more = f" (and {len(others)} more in the ledger)" if others else ""
        raise BudgetUnknown(
            f"A line from job {first.job!r} of run {first.run.id}{more} was written by another version "
            "of this library, or forged.",
            f"{_ledger_cure(span)} Use the same version of action-start and action-stop from now on.",
        )


def _in_one_currency(lines: Iterable[LedgerLine], price: Price, span: Span) -> float:
    total = 0.0
    for line in lines:
        most, hourly = line.most, line.entry.price
        if most is None or hourly is None:
            raise BudgetUnknown(
                f"The ledger does not say what an hour of {line.entry.machine} cost in run "
                f"{line.run.id}, job {line.job!r}.",
                _ledger_cure(span),
            )
        _same_currency(hourly, price.currency, f"Run {line.run.id} used another currency")
        total += most
    return total


def _ledger_cure(span: Span) -> str:
    """Return the cure for a line that stays in the ledger for good."""
    if span == "run":
        return "Begin a new run instead of another attempt, or leave `run` out of budget."
    return "Delete that run, and all its lines with it, or leave `month` out of budget."


def _same_currency(price: Price, currency: str, why: str) -> None:
    if price.currency != currency:
        raise BudgetUnknown(
            f"{why}: {price.currency} and {currency} cannot be added up for a budget.",
            "Use one currency in a month, or leave budget out.",
        )


def _unreadable(what: str, error: GitHubError) -> BudgetUnknown:
    return BudgetUnknown(
        f"{what} cannot be read, so it cannot be checked against the budget. {error}"
    )


def _no_tags() -> Tags:
    return Tags(name="", label="", repository="", run_id="", attempt="", key="", scope="")
