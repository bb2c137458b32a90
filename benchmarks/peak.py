"""Waits for a step's process and tells its peak memory; shared by the benchmarks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci_sandbox.action_step import Step


def wait(step: Step, happened: Callable[[], bool] | None = None) -> tuple[float, float]:
    """Wait for the step's process; return its peak memory in MiB, and when something happened.

    The memory is read from /proc while it lives: what wait4 tells begins with that of this process.
    """
    peak, at = 0.0, 0.0
    status = Path(f"/proc/{step.process.pid}/status")
    while step.process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) / 1024)
        if happened and not at and happened():
            at = time.monotonic()
        time.sleep(0.005)
    return peak, at
