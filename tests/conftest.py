"""How the whole suite is run."""

from __future__ import annotations

import os
import signal

from gpu_ci.sandbox.aws import MOTO_SETTINGS

# moto reads these when it is imported, by whichever test comes first.
os.environ.update(MOTO_SETTINGS)
# A shell's background jobs ignore SIGINT, and what they start would too; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core for `-n auto`: most tests wait rather than compute."""
    return 2 * len(os.sched_getaffinity(0))
