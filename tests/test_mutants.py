"""Slips that the tests have to notice: the table fits the tree, and nearly every slip is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

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


ROW: Final[dict[str, str | list[str]]] = {
    "path": "shared/gpu_ci/kept/lock.py",
    "tests": ["tests/kept/test_lock.py::test_a_free_lock_is_taken_at_once"],
    "old": "for _ in range(TRIES):",
    "new": "for _ in range(1):",
}


def table(
    folder: Path, changed: Mapping[str, str | list[str]] | None = None, rows: int = 1
) -> Path:
    """Write a table of the same slip again and again."""
    row = {key: json.dumps(value) for key, value in (ROW | dict(changed or {})).items()}
    head = f"[[file]]\npath = {row['path']}\ntests = {row['tests']}\n"
    slips = (
        f'[[file.mutant]]\nname = "slip-{number}"\nold = {row["old"]}\nnew = {row["new"]}\n'
        for number in range(rows)
    )
    written = folder / "table.toml"
    written.write_text(head + "".join(slips))
    return written


@pytest.mark.parametrize(
    "changed",
    [
        {"old": "for _ in range(TRIALS):"},
        {"old": "    "},
        {"new": ROW["old"]},
        {"path": "shared/gpu_ci/kept/locks.py"},
        {"tests": []},
        {"tests": ["tests/kept/test_locks.py"]},
        {"tests": ["tests/kept/test_lock.py::test_a_free_lock_is_taken"]},
    ],
    ids=["gone", "twice", "no-change", "no-file", "no-tests", "no-test-file", "no-test"],
)
def test_a_row_that_does_not_fit_is_named(
    tmp_path: Path, changed: dict[str, str | list[str]]
) -> None:
    only = ("--only", "slip-0", "--stale")
    assert mutants("--table", str(table(tmp_path)), *only).returncode == 0
    done = mutants("--table", str(table(tmp_path, changed)), *only)
    assert done.returncode == 1
    assert "slip-0" in done.stdout


@pytest.mark.parametrize(("rows", "code"), [(79, 1), (80, 0)])
def test_a_table_that_is_too_short_fails(tmp_path: Path, rows: int, code: int) -> None:
    done = mutants("--table", str(table(tmp_path, rows=rows)), "--stale")
    assert done.returncode == code, done.stdout


@pytest.mark.parametrize(
    ("test", "code", "word"),
    [
        ("test_a_lock_that_changes_hands_each_time_is_not_asked_for_without_end", 0, "killed"),
        ("test_a_free_lock_is_taken_at_once", 1, "survived"),
    ],
)
def test_a_slip_that_no_test_notices_fails(tmp_path: Path, test: str, code: int, word: str) -> None:
    """In a real copy of the tree, with one slip: each is more than the twentieth that may survive."""
    given = table(tmp_path, {"tests": [f"tests/kept/test_lock.py::{test}"]})
    done = mutants("--table", str(given), "--only", "slip-0", timeout=300)
    assert (done.returncode, done.stdout.split()[0]) == (code, word), done.stdout


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
