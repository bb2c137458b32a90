"""Slips that the tests have to notice: the table fits the tree, and nearly every slip is noticed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MUTANTS = ROOT / "benchmarks" / "mutants.py"
# What the table is about; each has slips of its own.
COVERED = (
    "boot",
    "kept",
    "release",
    "start",
    "stop",
    "watchdog",
    "gate",
    "ledger",
    "cost",
    "github",
)


def mutants(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, MUTANTS, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def test_every_row_fits_its_file() -> None:
    """A row whose text has changed would be passed over in silence, and what it held with it."""
    done = mutants("--stale")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_table_is_about_all_that_money_hangs_on() -> None:
    rows = [line.split() for line in mutants("--list").stdout.splitlines()]
    assert [name for name, count in Counter(name for name, _ in rows).items() if count > 1] == []
    assert len(rows) >= 80
    rooms = {Path(path).parts[2] for _, path in rows if path.startswith("shared/")}
    assert set(COVERED) <= rooms


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nearly_every_slip_is_noticed(request: pytest.FixtureRequest) -> None:
    if "slow" not in str(request.config.getoption("-m")):
        pytest.skip("it runs hundreds of tests many times: sh shared/run check -m slow")
    done = mutants(timeout=7000)
    assert done.returncode == 0, done.stdout
