"""The ledger as tables, as a Mermaid chart and as a picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from tests.ledger.desk import DAY, NOON, entry

from gpu_ci.cost.days import by_part, by_type
from gpu_ci.cost.mermaid import charts, fenced
from gpu_ci.cost.plot import draw
from gpu_ci.cost.table import KIND_HEAD, RUN_HEAD, aligned, by_kind, by_run, money
from gpu_ci.errors import EnvironmentBroken
from gpu_ci.github.client import Run
from gpu_ci.ledger.read_ledger import Ledger, LedgerLine
from gpu_ci.model.machine import Price

if TYPE_CHECKING:
    from pathlib import Path

MONTH = NOON - 21.5 * DAY
INR = Price(per_hour=80.0, currency="INR")


def line(cost: float = 0.5, *, ago: float = 0.0, run: int = 1, **changed: Any) -> LedgerLine:
    made = Run(
        id=run,
        attempt=1,
        status="completed",
        conclusion="success",
        name=changed.pop("workflow", "gpu"),
        created_at=NOON - ago * DAY,
    )
    return LedgerLine(run=made, job="stop", entry=entry(cost, **changed), most_seconds=0.0)


def ledger(*lines: LedgerLine, since: float = MONTH) -> Ledger:
    return Ledger(since=since, lines=lines, runs=len(lines))


MIXED = ledger(
    line(1.0, run=2),
    line(2.0, run=2, type="L4", machine="b", split=None),
    line(4.0, run=1, ago=2, workflow="nightly"),
    line(run=1, ago=2, price=INR),
    line(run=1, ago=2, seconds=None, split=None),
)


def test_a_row_for_each_run() -> None:
    """Newest first; what is not known for every machine is not added up."""
    rows = by_run(MIXED)
    assert [row[:4] for row in rows] == [
        ("2026-11-22", "2", "gpu", "2"),
        ("2026-11-20", "1", "nightly", "1"),
        ("2026-11-20", "1", "gpu", "2"),
    ]
    assert rows[0][4:] == ("7200 s", "unknown", "unknown", "unknown", "3.0000 USD")
    assert rows[1][4:] == ("3600 s", "100 s", "3000 s", "500 s", "4.0000 USD")
    assert rows[2][-1] == "80.0000 INR + unknown for 1"


def test_a_row_for_each_type_and_workflow() -> None:
    """The dearest first."""
    assert [(row[0], row[2], row[-1]) for row in by_kind(MIXED)] == [
        ("g4dn.xlarge", "gpu", "80.0000 INR + 1.0000 USD + unknown for 1"),
        ("g4dn.xlarge", "nightly", "4.0000 USD"),
        ("L4", "gpu", "2.0000 USD"),
    ]


def test_sums_by_currency() -> None:
    """Dollars and rupees apart, and what is unknown said."""
    assert money(MIXED.lines) == "80.0000 INR + 7.0000 USD + unknown for 1"
    assert money([]) == "nothing"


def test_a_table_for_a_terminal() -> None:
    """Words to the left, figures to the right, no blanks at the end."""
    lines = aligned(RUN_HEAD, by_run(MIXED))
    assert len({line.index("USD") for line in lines[1:3]}) == 1
    assert [line for line in lines if line != line.rstrip()] == []
    assert aligned(KIND_HEAD, [])[0].split() == list(KIND_HEAD)


def test_days_without_a_gap() -> None:
    """A day on which nothing ran is there, with zero; each currency has a series of its own."""
    rupees, dollars = by_part(MIXED.lines, MONTH, NOON)
    assert (rupees.currency, dollars.currency) == ("INR", "USD")
    assert (len(dollars.names), dollars.names[0], dollars.names[-1]) == (
        22,
        "2026-11-01",
        "2026-11-22",
    )
    assert dollars.totals[-3:] == (4.0, 0.0, 3.0)
    assert set(dollars.amounts) == {"boot", "work", "idle", "not split"}
    _, kinds = by_type(MIXED.lines, MONTH, NOON)
    assert list(kinds.amounts) == ["g4dn.xlarge", "L4"]
    assert sum(kinds.totals) == pytest.approx(sum(dollars.totals))


def test_what_goes_far_back_is_told_by_months() -> None:
    """No more bars than can be told apart."""
    (series,) = by_part([line(ago=100), line()], NOON - 100 * DAY, NOON)
    assert series.names == ("2026-08", "2026-09", "2026-10", "2026-11")
    assert [round(each, 6) for each in series.totals] == [0.5, 0.0, 0.0, 0.5]


def test_a_chart_of_mermaid() -> None:
    """A bar for each day, with the sum in its title."""
    (chart,) = charts(ledger(line(1.0), line(0.5, ago=1), since=NOON - DAY), NOON, "GPU cost")
    assert chart.splitlines() == [
        "xychart-beta",
        '    title "GPU cost: 1.50 USD"',
        '    x-axis ["11-21", "11-22"]',
        '    y-axis "USD" 0 --> 1.1000',
        "    bar [0.5000, 1.0000]",
    ]
    assert fenced(chart) == f"```mermaid\n{chart}\n```"


@pytest.mark.parametrize("title", ['a"; b', "a\n```\nb", "a`b#quot;c", "x\\y"])
def test_what_others_named_is_no_mermaid(title: str) -> None:
    """Quotes, fences and codes in a name end neither the title nor the block."""
    (chart,) = charts(ledger(line()), NOON, title)
    assert len(chart.splitlines()) == 5
    assert re.fullmatch(r'    title "[^"`#;\\]+"', chart.splitlines()[1])


def test_nothing_spent_is_no_chart() -> None:
    """An empty chart is an error to Mermaid; free machines are a chart of zeros."""
    assert charts(ledger(), NOON, "x") == []
    (chart,) = charts(ledger(line(0.0)), NOON, "x")
    assert "0 --> 1.0000" in chart


def height(file: Path, made: Ledger) -> int:
    """Draw it; return how high the PNG is."""
    draw(made, NOON, "GPU cost", file)
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    return int.from_bytes(data[20:24], "big")


def test_a_picture(tmp_path: Path) -> None:
    """Whatever there is to draw: nothing, free machines, one day of many types, two currencies,
    of which each has axes of its own."""
    one_day = [line(0.1 + n / 900, run=n, type=f"type-{n % 9}") for n in range(30)]
    file = tmp_path / "cost.png"
    nothing = height(file, ledger())
    free = height(file, ledger(line(0.0), since=NOON))
    many = height(file, ledger(*one_day, since=NOON))
    two = height(file, ledger(*MIXED.lines, since=NOON - 2 * DAY))
    assert nothing < free == many
    assert two == 2 * many


def test_without_matplotlib_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that has it."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(EnvironmentBroken, match=r"gpu-ci\[plot\]"):
        draw(ledger(), NOON, "x", tmp_path / "cost.png")
