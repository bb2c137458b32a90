"""Runs tests beside processes that keep every core busy, and counts what passes.

python benchmarks/under_load.py [--busy N] [--times K] [--log FOLDER] [PYTEST ARGUMENT …]

A test that waits for a fixed time, or gives a process a fixed time, fails here. The exit code is 0
only if every run is green. Each run writes its output to the folder.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
# It ends with its parent, whatever that dies of: a loop that outlives us would slow everybody down.
BUSY: Final = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(1_000_000):
        pass
"""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of pytest; `failed` names each test that failed or broke before it could."""

    exit_code: int
    seconds: float
    counts: Counter[str]
    failed: tuple[str, ...]
    load: float

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))
        return f"{counts or 'no tests'} in {self.seconds:.0f} s at a load of {self.load:.1f}"


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes busy meanwhile."""
    with ExitStack() as stack:
        for _ in range(count):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


def run_tests(arguments: Sequence[str], log: Path) -> Run:
    with tempfile.TemporaryDirectory(prefix="gpu-ci-load-") as folder:
        results = Path(folder, "results.xml")
        command = [sys.executable, "-m", "pytest", f"--junitxml={results}", *arguments]
        began = time.monotonic()
        with log.open("w") as output:
            done = subprocess.run(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        seconds, load = time.monotonic() - began, os.getloadavg()[0]
        cases = [*ET.parse(results).iter("testcase")] if results.exists() else []
    outcomes = {f"{case.get('classname')}::{case.get('name')}": outcome(case) for case in cases}
    return Run(
        exit_code=done.returncode,
        seconds=seconds,
        counts=Counter(outcomes.values()),
        failed=tuple(name for name, told in outcomes.items() if told in {"failed", "broken"}),
        load=load,
    )


def outcome(case: ET.Element) -> str:
    told = {"failure": "failed", "error": "broken", "skipped": "skipped"}
    return next((told[child.tag] for child in case if child.tag in told), "passed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--busy", type=int, default=10, help="how many processes (default: 10)")
    parser.add_argument("--times", type=int, default=1, help="how many runs (default: 1)")
    parser.add_argument("--log", type=Path, help="folder for the output (default: a new one)")
    options, arguments = parser.parse_known_args()
    folder: Path = options.log or Path(tempfile.mkdtemp(prefix="gpu-ci-under-load-"))
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    red: Counter[str] = Counter()
    green = 0
    with busy(options.busy):
        for number in range(1, options.times + 1):
            run = run_tests(arguments, folder / f"run-{number}.log")
            print(f"run {number}: exit code {run.exit_code}; {run}", flush=True)
            red.update(run.failed)
            green += run.exit_code == 0
    for name, times in red.most_common():
        print(f"red in {times} of {options.times}: {name}")
    print(f"{green} of {options.times} runs are green; their output is in {folder}")
    sys.exit(green != options.times)


if __name__ == "__main__":
    main()
