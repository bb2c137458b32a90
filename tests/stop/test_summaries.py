"""What a start and a stop tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.fakes import World, tags

from gpu_ci.ledger.split import Split
from gpu_ci.model.machine import Machine, Price, price_text
from gpu_ci.providers import Candidate
from gpu_ci.start.rental import Lease, Try
from gpu_ci.start.summary import start_summary
from gpu_ci.stop.bill import (
    Bill,
    bill_lines,
    duration,
    stop_summary,
    total_cost,
    total_part,
    total_seconds,
)

MACHINE = Machine(
    provider="ec2",
    id="i-1",
    tags=tags("gpu-ci-7-1-x"),
    region="us-east-1",
    type="g5.xlarge",
    market="spot",
    launched_at=1000.0,
    price=Price(per_hour=0.52614),
)


def bill(seconds: float | None, price: Price | None) -> Bill:
    return Bill(machine=MACHINE, seconds=seconds, price=price)


HALF_AN_HOUR = bill(1800, Price(per_hour=1.0))
FREE = bill(60, None)
EUROS = bill(3600, Price(per_hour=2.0, currency="EUR"))
SINCE_WHENEVER = bill(None, Price(per_hour=1.0))
BOX = replace(MACHINE, id="m-1", tags=tags("box"), region="", kept=True)
PAUSED = Bill(
    machine=BOX, seconds=1800, price=Price(per_hour=1.0), paused=True, upkeep=Price(per_hour=0.01)
)


def lease(online_at: float = 0.0) -> Lease:
    return Lease(index=0, name=MACHINE.name, machine=MACHINE, online_at=online_at)


def tried(result: str) -> Try:
    return Try(name=MACHINE.name, candidate=Candidate(type="a", region="x"), result=result)


def summary(leases: list[Lease], tries: list[Try], *, left: bool = False) -> str:
    rental = World.of().rental
    rental.leases, rental.tries, rental.left = leases, tries, left
    return start_summary(rental)


def test_a_summary_names_the_machine_and_its_price() -> None:
    """One line a machine: what, where, which market, how fast, how dear."""
    text = summary([lease(1042.4)], [tried("launched")])
    assert text.startswith("### GPU runner: online\n\n| Machine | Type | Where |")
    assert text.endswith("| gpu-ci-7-1-x | g5.xlarge | us-east-1 | spot | 42 s | 0.5261 USD/h |")


def test_a_summary_of_a_failure_lists_every_candidate_that_was_tried() -> None:
    """A table of tries, so that one sees what to change (no capacity: pain 8)."""
    text = summary([Lease(index=0)], [tried("none | free"), tried("not sold")])
    assert "| gpu-ci-7-1-x | a x on-demand | none \\| free |" in text
    assert "| gpu-ci-7-1-x | a x on-demand | not sold |" in text


def test_a_start_without_trouble_lists_no_tries() -> None:
    """A table that repeats the first is left out; a machine that never came says so."""
    text = summary([lease()], [tried("launched")])
    assert "Asked for" not in text
    assert "| never |" in text


def test_a_start_that_did_nothing_has_a_summary() -> None:
    """Also where the first call failed."""
    assert summary([], []) == "### GPU runner: failed, nothing is left"


def test_a_summary_says_when_something_is_left() -> None:
    """It never claims that all was given back when it was not."""
    assert "not all could be given back" in summary([lease()], [tried("launched")], left=True)


def test_the_zone_is_told_where_it_is_known() -> None:
    """It is narrower than the region."""
    zoned = replace(MACHINE, zone="us-east-1b")
    text = summary([Lease(index=0, machine=zoned)], [])
    assert "| us-east-1b |" in text


@pytest.mark.parametrize(
    ("bills", "cost"),
    [
        ([HALF_AN_HOUR], "0.5000 USD"),
        ([HALF_AN_HOUR, HALF_AN_HOUR], "1.0000 USD"),
        ([EUROS], "2.0000 EUR"),
        ([HALF_AN_HOUR, EUROS], ""),
        ([HALF_AN_HOUR, FREE], ""),
        ([FREE], ""),
        ([SINCE_WHENEVER], ""),
        ([HALF_AN_HOUR, SINCE_WHENEVER], ""),
        ([PAUSED, HALF_AN_HOUR], "1.0000 USD"),
        ([], ""),
    ],
)
def test_a_sum_is_told_only_when_it_is_known(bills: list[Bill], cost: str) -> None:
    """An unknown price is not zero, and dollars are not added to euros."""
    assert total_cost(bills) == cost


def test_a_bill_in_words() -> None:
    """How long and how dear, with the price it comes from; unknown is said."""
    lines = bill_lines([HALF_AN_HOUR, FREE], removed=1)
    assert lines == [
        "gpu-ci-7-1-x (i-1 in us-east-1) is given back: billed for 30 min 00 s, cost 0.5000 USD (1 USD/h).",
        "gpu-ci-7-1-x (i-1 in us-east-1) is given back: billed for 1 min 00 s, cost unknown (unknown).",
        "Registrations removed: 1.",
    ]


def test_nothing_left_is_said_too() -> None:
    """A second stop finds nothing, and says so instead of keeping silent."""
    assert bill_lines([], removed=0)[0] == "No machine was left to give back."
    assert "no machine was left" in stop_summary([], removed=0)


def test_a_stop_has_a_table_of_bills() -> None:
    """A line for each machine."""
    rows = stop_summary([HALF_AN_HOUR, FREE], removed=2).splitlines()[4:]
    parts = "unknown | unknown | unknown"
    assert rows == [
        f"| gpu-ci-7-1-x | g5.xlarge | spot | 30 min 00 s | {parts} | 1 USD/h | 0.5000 USD |",
        f"| gpu-ci-7-1-x | g5.xlarge | spot | 1 min 00 s | {parts} | unknown | unknown |",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (243, "4 min 03 s"), (3600, "60 min 00 s")],
)
def test_durations_in_words(seconds: float, text: str) -> None:
    """Whole seconds, never 60 of them beside a minute."""
    assert duration(seconds) == text


def test_a_price_in_words() -> None:
    """With its currency and unit; unknown is not free."""
    assert price_text(Price(per_hour=0.0)) == "0 USD/h"
    assert price_text(None) == "unknown"


def test_a_machine_that_was_taken_over_has_no_time_to_boot() -> None:
    """Nobody knows since when it runs: that is said, and no time since the epoch is shown."""
    taken_over = replace(BOX, launched_at=0.0, started=False)
    one = Lease(index=0, name="box", machine=taken_over, online_at=1_800_000_000.0)
    assert summary([one], [tried("taken over")]).splitlines()[4] == (
        "| box | g5.xlarge |  | spot | unknown | 0.5261 USD/h |"
    )
    one.online_at = 0.0
    assert "| never |" in summary([one], [tried("taken over")])


@pytest.mark.parametrize(
    ("bills", "seconds"),
    [
        ([HALF_AN_HOUR], "1800"),
        ([HALF_AN_HOUR, EUROS, FREE], "5460"),
        ([SINCE_WHENEVER], ""),
        ([HALF_AN_HOUR, SINCE_WHENEVER], ""),
        ([], "0"),
    ],
)
def test_billed_seconds_are_told_only_when_all_are_known(bills: list[Bill], seconds: str) -> None:
    """A sum that leaves a machine out would be believed."""
    assert total_seconds(bills) == seconds


def test_a_machine_of_unknown_age_has_no_cost() -> None:
    """A stop that finds a kept machine by its name does not know since when it is billed."""
    assert SINCE_WHENEVER.cost is None
    assert bill_lines([SINCE_WHENEVER], removed=0)[0] == (
        "gpu-ci-7-1-x (i-1 in us-east-1) is given back: billed for an unknown time, "
        "cost unknown (1 USD/h)."
    )
    row = stop_summary([SINCE_WHENEVER], removed=0).splitlines()[-1]
    assert row.endswith("| an unknown time | unknown | unknown | unknown | 1 USD/h | unknown |")


def test_nothing_costs_nothing() -> None:
    """A price of zero and a time of zero are known, unlike none."""
    assert bill(0, Price(per_hour=1.0)).cost == 0
    assert bill(60, Price(per_hour=0.0)).cost_text == "0.0000 USD"


@pytest.mark.parametrize(
    ("paused", "upkeep", "text"),
    [
        (False, None, "given back"),
        (True, None, "paused"),
        (True, Price(per_hour=0.01), "paused, its disk costs about 7.30 USD a month"),
        (True, Price(per_hour=0.0), "paused, its disk costs about 0.00 USD a month"),
        (
            True,
            Price(per_hour=1.0, currency="INR"),
            "paused, its disk costs about 730.00 INR a month",
        ),
    ],
)
def test_what_a_paused_machine_goes_on_to_cost_is_told(
    paused: bool,
    upkeep: Price | None,
    text: str,
) -> None:
    """A kept machine is not free while it is paused; where no source tells how dear, nothing is
    made up."""
    one = Bill(machine=BOX, seconds=60, price=None, paused=paused, upkeep=upkeep)
    assert one.end_text == text
    assert bill_lines([one], removed=0)[0].startswith(f"box (m-1) is {text}: billed for 1 min")


def test_a_summary_names_what_is_kept() -> None:
    """Below the table of bills, a sentence for each paused machine and none for the others."""
    lines = stop_summary([PAUSED, HALF_AN_HOUR], removed=0).splitlines()
    assert lines[-2:] == ["", "box is paused, its disk costs about 7.30 USD a month."]
    assert lines[4].startswith("| box | g5.xlarge | spot | 30 min 00 s | ")
    assert stop_summary([HALF_AN_HOUR], removed=0).splitlines()[-1].startswith("| gpu-ci-7-1-x |")


SPLIT = replace(
    HALF_AN_HOUR,
    price=Price(per_hour=1.0, source="AWS price list of 2026-11-20"),
    split=Split(boot=90, work=1600, idle=110),
)


def test_a_bill_says_what_the_time_was_for_and_whose_price_it_is() -> None:
    """In the log and in the summary, with the day of the price."""
    (line, _) = bill_lines([SPLIT], removed=0)
    parts = "boot 90 s, work 1600 s, idle 110 s"
    assert f"billed for 30 min 00 s ({parts}), cost 0.5000 USD" in line
    assert line.endswith("(1 USD/h, AWS price list of 2026-11-20).")
    row = stop_summary([SPLIT], removed=0, hosted=4).splitlines()[4]
    assert "| 1 min 30 s | 26 min 40 s | 1 min 50 s | 1 USD/h, AWS price list of" in row


def test_the_summary_tells_hosted_minutes_or_why_nothing_is_known() -> None:
    """Minutes, not money: what they cost depends on the account. Nothing is made up."""
    told = stop_summary([SPLIT], removed=0, hosted=4)
    assert told.endswith("used 4 min of GitHub's runners so far.")
    told = stop_summary([HALF_AN_HOUR], removed=0, why="403,\n\nno right.")
    assert told.endswith("What the time was for is not known. 403, no right.")
    assert "GitHub's runners" not in told


@pytest.mark.parametrize(
    ("bills", "boot"), [([SPLIT], "90"), ([SPLIT, SPLIT], "180"), ([SPLIT, HALF_AN_HOUR], "")]
)
def test_parts_are_added_up_only_when_all_are_known(bills: list[Bill], boot: str) -> None:
    """As with cost and time."""
    assert total_part(bills, "boot") == boot
