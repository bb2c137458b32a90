"""`gpu-ci cost`, from the command line to what it prints."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes import REPOSITORY
from tests.ledger.desk import NOON, entry, limit_from, stopped

from gpu_ci import cli, cost
from gpu_ci.model.machine import Price
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.github.desk import Desk


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> None:
    """A terminal with a token, at the desk's time."""
    for name in list(os.environ):
        if name.startswith(("GITHUB_", "GH_", "INPUT_", "GPU_CI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GITHUB_TOKEN", desk.admin)
    monkeypatch.setattr(cost, "cost", partial(cost.cost, clock=desk.clock))


def run(desk: Desk, *flags: str) -> int:
    return cli.main(["cost", "--repository", REPOSITORY, "--github-api-url", desk.hub.url, *flags])


def test_the_month_is_shown(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """By run, by type and workflow, with sums."""
    stopped(desk, entry(1.0), name="nightly", ago=60.0)
    stopped(desk, entry(2.0, type="L4"))
    assert run(desk) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"GPU cost of {REPOSITORY} since 2026-11-01\n\nDay ")
    lines = [line.split() for line in out.splitlines()]
    assert [line[-2] for line in lines if line[:1] == ["2026-11-22"]] == ["2.0000", "1.0000"]
    assert [line[0] for line in lines if "on-demand" in line] == ["L4", "g4dn.xlarge"]
    assert "In all: 3.0000 USD, of 3 runs" in out


def test_a_month_without_a_machine(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Said in a line, with no empty tables and no chart."""
    assert run(desk, "--mermaid") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"GPU cost of {REPOSITORY} since 2026-11-01"
    assert "In all: nothing, of 1 runs (2 requests)." in out
    assert "xychart" not in out


def test_since_and_workflow_narrow_it(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The runs from that day on, of that name."""
    stopped(desk, entry(1.0), name="nightly", ago=40 * 86400.0)
    stopped(desk, entry(2.0), name="gpu")
    assert run(desk, "--since", "2026-10-01") == 0
    assert "In all: 3.0000 USD" in capsys.readouterr().out
    assert run(desk, "--since", "2026-10-01", "--workflow", "nightly") == 0
    assert "In all: 1.0000 USD, of 1 runs" in capsys.readouterr().out


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "2026-1-1", "01.11.2026"])
def test_a_day_is_written_as_one(desk: Desk, capsys: pytest.CaptureFixture[str], day: str) -> None:
    """And nothing is asked before it is."""
    assert run(desk, "--since", day) == 2
    assert f"--since is '{day}'" in capsys.readouterr().err
    assert desk.calls() == []


def test_json_for_programs(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures, every part, and whether they are complete."""
    rupees = entry(machine="a", price=Price(per_hour=80.0, currency="INR"))
    made, _ = stopped(desk, entry(1.0), rupees)
    assert run(desk, "--json") == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["totals"] == {"USD": 1.0, "INR": 80.0}
    assert (told["complete"], told["gaps"], told["since"]) == (True, [], "2026-11-01")
    machine = told["machines"][0]
    assert (machine["run"], machine["cost"], machine["job"]) == (made.id, 1.0, "stop")
    assert machine["split"] == {"boot": 100, "work": 3000, "idle": 500}
    assert machine["price"]["source"] == "AWS price list of 2026-11-20"


def test_a_chart_is_printed_and_added_to_the_summary(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is one: as a block that GitHub draws, with the table."""
    page = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    stopped(desk, entry(1.0))
    assert run(desk, "--mermaid") == 0
    assert "xychart-beta\n    title" in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith(f"### GPU cost of {REPOSITORY}")
    assert "```mermaid\nxychart-beta\n" in text
    assert "| g4dn.xlarge | on-demand | ci | 1 |" in text


def test_a_picture_is_drawn(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the same ledger, into the file that was named, up to now."""
    drawn: list[Any] = []
    monkeypatch.setattr(cost, "draw", lambda *given: drawn.append(given))
    stopped(desk, entry(1.0))
    assert run(desk, "--plot", str(tmp_path / "cost.png")) == 0
    ((ledger, until, title, file),) = drawn
    assert [line.entry.cost for line in ledger.lines] == [1.0]
    assert (until, file) == (NOON, tmp_path / "cost.png")
    assert title == f"GPU cost of {REPOSITORY} since 2026-11-01"


@pytest.mark.parametrize(
    ("place", "why"), [("missing/x.png", "there is no folder"), (".", "that is a folder")]
)
def test_a_picture_that_has_no_place_is_told_first(
    desk: Desk, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str, why: str
) -> None:
    """Before hundreds of requests are spent on it."""
    assert run(desk, "--plot", str(tmp_path / place)) == 2
    assert why in capsys.readouterr().err
    assert desk.calls() == []


def test_what_a_limit_cut_off_is_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """What was read is shown, and from when on it is missing, in JSON too; the hour of a primary
    limit is not waited for."""
    for number in reversed(range(10)):
        stopped(desk, entry(1.0, machine=f"m-{number}"), ago=number * 60.0)
    limit_from(desk, desk.state.runs.of(REPOSITORY)[4].id)
    assert run(desk, "--json") == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert not told["complete"]
    assert told["runs"] == 4
    assert "are not in it." in told["gaps"][0]
    assert told["gaps"][0] in shown.err
    assert desk.clock.now() == NOON


def test_nothing_at_all_is_a_failure(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """No empty table for a token that may not read."""
    desk.add(answer(403, {"message": "Resource not accessible"}, path="actions/runs", times=None))
    assert run(desk) == 10
    assert "`permissions: actions: read` and `checks: read`" in capsys.readouterr().err


def test_lines_of_another_version_are_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """The sum may lack something then."""
    stopped(desk, entry(1.0), "0.5 EUR for something")
    assert run(desk) == 0
    assert "1 line(s) of the ledger could not be understood." in capsys.readouterr().err
