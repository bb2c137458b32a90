"""How long a step takes from its shell to the first line of its Python file, warm and cold.

python benchmarks/startup.py [--json FILE]

A step is what the runner starts: `bash --noprofile --norc -e -o pipefail` on a script of one line.
Warm: the environment stands (median of 20). Cold: nothing is kept (median of 3), or only uv and
its cache are. Cold runs fetch from the network, so they say as much about it as about us.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
FIRST_LINE = "import time; print(time.time_ns())"
IMPORTS = "import time, requests, botocore.session; print(time.time_ns())"
BASH = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Milliseconds until the first line: the median, the least, the most, of `runs`."""

    name: str
    runs: int
    median: float
    least: float
    most: float


def until_first_line(command: list[str], env: dict[str, str]) -> float:
    """Milliseconds from before the process exists to the line that prints the time."""
    begun = time.time_ns()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return (int(done.stdout) - begun) / 1e6


def measure(name: str, runs: int, once: Callable[[], float]) -> Result:
    times = [once() for _ in range(runs)]
    median = statistics.median(times)
    return Result(name=name, runs=runs, median=median, least=min(times), most=max(times))


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Where the scripts are and in which environment they run."""

    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def env(self) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if name != "RUNNER_TOOL_CACHE"}
        return outer | {"XDG_CACHE_HOME": str(self.cache), "INPUT_PROVIDER": "ec2"}

    def write(self, name: str, code: str) -> Path:
        path = self.folder / f"{name}.py"
        path.write_text(code + "\n")
        return path

    def step(self, entry: Path) -> float:
        script = self.folder / "step.sh"
        script.write_text(f'exec sh "{ROOT}/shared/run" "{entry}"\n')
        return until_first_line([*BASH, str(script)], self.env)

    def bare(self, entry: Path) -> float:
        return until_first_line([str(self.python), "-I", str(entry)], self.env)

    @property
    def python(self) -> Path:
        [stamp] = (self.cache / "gpu-ci").glob("ready-aws-*")
        return stamp.parent / stamp.read_text().split()[0] / "bin/python"

    def forget(self, *patterns: str) -> None:
        for pattern in patterns:
            found = list((self.cache / "gpu-ci").glob(pattern))
            subprocess.run(["rm", "-rf", *found], check=True)


def warm(steps: Steps) -> list[Result]:
    first, imports = steps.write("first", FIRST_LINE), steps.write("imports", IMPORTS)
    steps.step(first)
    steps.bare(imports)
    return [
        measure("bare interpreter", 20, lambda: steps.bare(first)),
        measure("warm step", 20, lambda: steps.step(first)),
        measure("bare interpreter, imports", 20, lambda: steps.bare(imports)),
        measure("warm step, imports", 20, lambda: steps.step(imports)),
    ]


def cold(steps: Steps) -> list[Result]:
    first = steps.write("first", FIRST_LINE)

    def after_forgetting(*patterns: str) -> float:
        steps.forget(*patterns)
        return steps.step(first)

    return [
        measure("cold, uv and its cache kept", 3, lambda: after_forgetting("env.*", "ready-*")),
        measure("cold, uv kept", 3, lambda: after_forgetting("env.*", "ready-*", "cache")),
        measure("cold, nothing kept", 3, lambda: after_forgetting("*")),
    ]


def table(results: list[Result]) -> str:
    rows = [f"{'':28} {'median':>8} {'least':>8} {'most':>8}  ms, runs"]
    rows += [
        f"{each.name:28} {each.median:8.1f} {each.least:8.1f} {each.most:8.1f}  {each.runs}"
        for each in results
    ]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Times a step's way to Python.")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = Steps(folder=Path(folder))
        results = [*warm(steps), *cold(steps)]
    print(table(results))
    machine = {"python": sys.version.split()[0], "cpus": os.cpu_count()}
    figures = {"machine": machine, "results": [asdict(each) for each in results]}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    else:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
