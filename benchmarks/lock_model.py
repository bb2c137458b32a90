"""Looks further than the tests do for an order of events that breaks the lock of a kept machine.

    uv run --all-extras --group test benchmarks/lock_model.py [--walks 20000] [--most 1000000] [--long]

Prints how many states and schedules were looked at, by kind of crash, and fails with the schedule
if one is wrong. `--most` ends a search after so many schedules. `--long` adds what takes an hour:
every order of three runs, and of two with any crash.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "shared"), str(ROOT / "sandbox")]
# By hand: some installed packages bring a package of this name, which would come first.
sys.modules["tests"] = ModuleType("tests")
sys.modules["tests"].__path__ = [str(ROOT / "tests")]

from tests.lock_model.search import Found, explore, walk  # noqa: E402 -- found through the lines above
from tests.lock_model.state import CRASHES, Setup  # noqa: E402 -- the same

if TYPE_CHECKING:
    from collections.abc import Iterator


def setups(*, long: bool) -> Iterator[tuple[str, Setup]]:
    """Yield what is searched completely, each with a name."""
    yield "two runs", Setup()
    yield "two runs, told apart by all they saw", Setup(exact=True)
    yield "three runs, undisturbed between sleeps", Setup(runs=3, switches=0)
    for kind in CRASHES:
        yield f"two runs, one {kind}, disturbed once", Setup(crashes=1, kinds=(kind,), switches=1)
    for way_in in (False, True):
        name = "two runs, handles, one crash, undisturbed"
        setup = Setup(crashes=1, handle=True, way_in=way_in, switches=0)
        yield name + (", taken over" if way_in else ""), setup
    if long:
        yield "three runs", Setup(runs=3)
        for kind in CRASHES:
            yield f"two runs, one {kind}", Setup(crashes=1, kinds=(kind,))


def walks(number: int) -> Found:
    """Follow so many random schedules of three runs with crashes."""
    for seed in range(number):
        found = walk(Setup(runs=3, crashes=3, kinds=KINDS), seed)
        if found.wrong:
            return found
    return Found(schedules=number)


# Two crashes at once may hide a machine: one that kills, and one that keeps its lock from being read.
KINDS = tuple(kind for kind in CRASHES if kind not in {"unread", "late"})


def tell(name: str, found: Found, seconds: float) -> None:
    """Print a line, and the schedule if it is wrong."""
    verdict = found.wrong or ("holds" if found.complete else "holds so far, not all was looked at")
    print(f"{name}: {found.states} states, {found.schedules} schedules, {seconds:.0f} s: {verdict}")
    for step in found.story:
        print(f"    {step}")
    sys.stdout.flush()


def main() -> int:
    """Search all, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walks", type=int, default=20000)
    parser.add_argument("--most", type=int, default=10**6)
    parser.add_argument("--long", action="store_true")
    given = parser.parse_args()
    wrong = 0
    for name, setup in setups(long=given.long):
        began = time.monotonic()
        found = explore(setup, given.most)
        tell(name, found, time.monotonic() - began)
        wrong += bool(found.wrong)
    began = time.monotonic()
    found = walks(given.walks)
    tell("three runs, random, up to three crashes", found, time.monotonic() - began)
    return int(bool(wrong or found.wrong))


if __name__ == "__main__":
    sys.exit(main())
