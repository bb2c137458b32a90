"""Limits in seconds that follow the machine: what it does slowly, it may do slowly in a test too."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# What every process of ours does before it can do anything, and the seconds that this takes at most
# on a machine with nothing else to do.
NO_OP: Final = (sys.executable, "-I", "-c", "import email.message, http.client, json, ssl")
AT_REST: Final = 0.15
FRESH_SECONDS: Final = 10.0
# The slowest counts: what was too late may have met a load that comes and goes.
MEASURED: Final = 3
# Nobody promises anything here: it only ends the test of what hangs, with a message.
PATIENCE: Final = 500.0
STEP: Final = 0.02


@dataclass
class Pace:
    """What was measured last; `slowness` is how many times slower than at rest the machine is."""

    slowness: float = 1.0
    fresh_until: float = 0.0

    def measure(self) -> float:
        began = time.monotonic()
        subprocess.run(NO_OP, check=True)
        self.slowness = max(1.0, (time.monotonic() - began) / AT_REST)
        self.fresh_until = time.monotonic() + FRESH_SECONDS
        return self.slowness


PACE: Final = Pace()


def slowness() -> float:
    """Return how many times slower than at rest this machine was within the last seconds."""
    return PACE.slowness if time.monotonic() < PACE.fresh_until else PACE.measure()


def assert_within(promised: float, took: float) -> None:
    """Fail if something took longer than the seconds promised, or their multiple on a slow machine."""
    if took >= promised:
        slowest = max(PACE.slowness, *(PACE.measure() for _ in range(MEASURED)))
        told = (
            f"took {took:.1f} s, not {promised:g}, on a machine that is {slowest:.1f} times slower"
        )
        assert took < promised * slowest, told


def until(holds: Callable[[], object], told: Callable[[], str] = str) -> None:
    """Wait until something holds that needs no more than time; `told` says what there is instead."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s:\n{told()}"
        time.sleep(STEP)
