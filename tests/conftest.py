"""How the whole suite is run."""

from __future__ import annotations

import os


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core for `-n auto`: most tests wait rather than compute."""
    return 2 * len(os.sched_getaffinity(0))
