"""Measures passes of the shipped watchdog over a large repository on the stand-in for GitHub.

How many runs in which a job waits for nothing it finds, how many GitHub requests count, how much
memory it needs and how long it takes; first with nothing known, then with nothing changed.

    uv run --all-extras --group test benchmarks/watchdog_pass.py [--size RUNS,ACTIVE,STUCK …]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "shared"), str(ROOT / "sandbox")]

from peak import wait  # noqa: E402 -- it stands beside this file

from gpu_ci_sandbox.world import REPOSITORY, World, open_world  # noqa: E402 -- found through the line above

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci_sandbox.fake_github.records import JobState

SIZES = ("1000,100,20", "10000,100,20", "10000,1000,20")
LABEL = "gpu-ci-17-1-test-0123456789-0-deadbeef"
HOURS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One pass; `calls` are those that count against a rate limit, memory is in MiB."""

    runs: int
    active: int
    stuck: int
    doing: str
    found: int
    ended: int
    calls: int
    calls_for_each_active: float
    memory: float
    seconds: float


def fill(world: World, runs: int, active: int, stuck: int) -> None:
    """Let there be so many runs since yesterday; all that are active are old enough to look into.

    A third of those that are well wait for an approval, the others have a runner.
    """
    github, now = world.served.github, time.time()
    old: JobState = {"created_at": now - 5 * HOURS, "started_at": now - 5 * HOURS}
    jobs = {"start": ["ubuntu-latest"], "test": [LABEL], "stop": ["ubuntu-latest"]}
    well = active - stuck

    def add(count: int, labels: dict[str, list[str]], state: JobState) -> None:
        moment = now - 5 * HOURS
        github.start_runs(
            REPOSITORY, count, labels, {**old, **state}, created_at=moment, started_at=moment
        )

    add(runs - active, jobs, {"status": "completed", "conclusion": "success"})
    add(well // 3, jobs, {"status": "waiting"})
    add(well - well // 3, jobs, {"status": "in_progress", "runner_name": "a runner"})
    add(stuck, {"test": [LABEL]}, {"status": "queued"})


def measure(world: World, size: Sequence[int], doing: str, **inputs: str) -> Measured:
    before, began = world.served.github.counted_calls, time.monotonic()
    cache = str(world.folder / "cache")
    step = world.begin(
        "watchdog", scope="repository", github_token=world.token, cache_dir=cache, **inputs
    )
    memory, _ = wait(step)
    seconds = time.monotonic() - began
    result = step.result(10)
    if result.exit_code:
        raise SystemExit(result.log)
    calls = world.served.github.counted_calls - before
    runs, active, stuck = size
    return Measured(
        runs=runs,
        active=active,
        stuck=stuck,
        doing=doing,
        found=len(json.loads(result.outputs["report"])["findings"]),
        ended=int(result.outputs["cancelled"]),
        calls=calls,
        calls_for_each_active=calls / active,
        memory=memory,
        seconds=seconds,
    )


def passes(size: Sequence[int]) -> list[Measured]:
    """Look only, look again with nothing changed, end what is stuck, and look once more."""
    with tempfile.TemporaryDirectory() as folder, open_world(Path(folder)) as world:
        fill(world, *size)
        measure(world, (1, 1, 0), "warming up", labels="none", queue_minutes="10080")
        (world.folder / "cache").rename(world.folder / "other")
        return [
            measure(world, size, "first look", dry_run="true"),
            measure(world, size, "nothing changed", dry_run="true"),
            measure(world, size, "ends what is stuck", max_actions=str(size[2])),
            measure(world, size, "afterwards"),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", nargs="*", default=SIZES, metavar="RUNS,ACTIVE,STUCK")
    for text in parser.parse_args().size:
        for measured in passes([int(part) for part in text.split(",")]):
            print(json.dumps(asdict(measured)), flush=True)


if __name__ == "__main__":
    main()
