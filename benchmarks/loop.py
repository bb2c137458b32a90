"""Measures a start and a stop of the shipped actions on the stand-ins for GitHub and EC2.

How long after "online" a start returns, how many GitHub requests count, how long a stop takes as a
whole process, and how much memory the largest process of each needs.

    uv run --all-extras --group test benchmarks/loop.py [--runs 15] [--long]

`--long` adds a start whose machine boots for 60 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "shared"))

from gpu_ci.sandbox.aws import Aws  # noqa: E402 -- found through the line above
from gpu_ci.sandbox.world import World, open_world  # noqa: E402 -- the same

if TYPE_CHECKING:
    from gpu_ci.sandbox.step import Step


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One start and stop; times in seconds, memory in MiB."""

    boot: float
    return_after_online: float
    start_calls: int
    start_memory: float
    stop_seconds: float
    stop_calls: int
    stop_memory: float


def measure(folder: Path, aws: Aws, boot: float) -> Measured:
    aws.reset()
    with open_world(folder) as world:
        world.extra.update(aws.environment())
        online = _boots_in(world, aws, boot)
        start = world.begin("start", provider="ec2", machine="g4dn.xlarge")
        start_memory = _wait(start)
        returned = time.monotonic()
        started = start.result(10)
        if started.exit_code:
            raise SystemExit(started.log)
        start_calls = world.served.github.counted_calls
        began = time.monotonic()
        stop = world.begin("stop", provider="ec2", machine=started.outputs["machine"])
        stop_memory = _wait(stop)
        stop_seconds = time.monotonic() - began
        if stop.result(10).exit_code or aws.instances() or world.runner_names():
            raise SystemExit(stop.result(10).log)
        return Measured(
            boot=boot,
            return_after_online=returned - online[0],
            start_calls=start_calls,
            start_memory=start_memory,
            stop_seconds=stop_seconds,
            stop_calls=world.served.github.counted_calls - start_calls,
            stop_memory=stop_memory,
        )


def _boots_in(world: World, aws: Aws, seconds: float) -> list[float]:
    """Let machines boot for so long; return a list that will hold when a runner was online."""
    online: list[float] = []

    def boot(_instance_id: str, _script: str) -> None:
        runner = world.served.github.all_runners()[0]
        world.served.github.set_runner(runner.id, online=True)
        online.append(time.monotonic())

    aws.settings.boot_seconds = seconds
    aws.settings.on_boot = boot
    return online


def _wait(step: Step) -> float:
    """Wait for the step's process; return its peak memory in MiB.

    Read from /proc while it lives: what wait4 tells begins with the memory of this process.
    """
    peak = 0.0
    status = Path(f"/proc/{step.process.pid}/status")
    while step.process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]) / 1024)
        time.sleep(0.005)
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    # Spread over the pause between two looks, so that no run is lucky.
    boots = [3.0 + 0.8 * run / arguments.runs for run in range(arguments.runs)]
    boots += [60.0] if arguments.long else []
    with tempfile.TemporaryDirectory() as folder, Aws() as aws:
        measure(Path(folder), aws, 0.0)  # warm: the environment is there, the disk has been read
        results = [measure(Path(folder), aws, boot) for boot in boots]
    for result in results:
        print(json.dumps(asdict(result)))
    short = [result for result in results if result.boot < 60]
    for name in asdict(short[0]):
        values = [asdict(result)[name] for result in short]
        print(f"{name:20} median {statistics.median(values):8.2f}  max {max(values):8.2f}")


if __name__ == "__main__":
    main()
