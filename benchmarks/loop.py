"""Measures a start and a stop of the shipped actions on the stand-ins for GitHub and a cloud.

How long after "online" a start returns, how many GitHub requests count, how long a stop takes as a
whole process, and how much memory the largest process of each needs.

    uv run --all-extras --group test benchmarks/loop.py [--provider ec2] [--runs 15] [--long]

With `--provider jarvislabs` the machine is a paused one that is resumed and paused again, and how long
after "Paused" a stop returns is measured too. `--long` adds a start whose machine boots for 60 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "shared"), str(ROOT / "sandbox")]

from peak import wait  # noqa: E402 -- it stands beside this file

from gpu_ci_sandbox.fake_aws import Aws  # noqa: E402 -- found through the line above
from gpu_ci_sandbox.world import World, open_box, open_world  # noqa: E402 -- the same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One start and stop; times in seconds, memory in MiB."""

    boot: float
    return_after_online: float
    start_calls: int
    start_memory: float
    stop_seconds: float
    return_after_paused: float | None
    stop_calls: int
    stop_memory: float


@dataclass(kw_only=True)
class Cloud:
    """A provider's stand-in: what start and stop are told, and when a runner came online there.

    `is_put_away` says that the machine is not billed any more; asked while a stop runs, where that is
    cheap, and after it.
    """

    inputs: dict[str, str]
    machine: str
    is_put_away: Callable[[], bool]
    is_watched: bool
    online: list[float] = field(default_factory=list)


@contextmanager
def ec2(aws: Aws, world: World, boot: float) -> Iterator[Cloud]:
    """EC2, whose machine boots for so long and then has its runner online."""
    aws.reset()
    cloud = Cloud(
        inputs={"provider": "ec2"},
        machine="g4dn.xlarge",
        is_put_away=lambda: not aws.instances(),
        is_watched=False,
    )
    world.extra.update(aws.environment())
    aws.settings.boot_seconds = boot
    aws.settings.on_boot = lambda _instance_id, _script: _go_online(world, cloud)
    yield cloud


@contextmanager
def jarvislabs(world: World, boot: float) -> Iterator[Cloud]:
    """A paused machine of JarvisLabs, which is up and has its runner online after so long.

    It takes a second less to be paused again.
    """
    with open_box(world) as box:
        cloud = Cloud(
            inputs=box.inputs(),
            machine="A100",
            is_put_away=lambda: box.jarvislabs.machine(box.name).status == "Paused",
            is_watched=True,
        )
        settings = box.jarvislabs.settings
        settings.run_scripts = False
        settings.resuming_seconds, settings.pausing_seconds = boot, max(0.0, boot - 1)
        settings.on_running = lambda _machine: _go_online(world, cloud)
        box.jarvislabs.add_machine(box.name)
        yield cloud


def _go_online(world: World, cloud: Cloud) -> None:
    runner = world.served.github.all_runners()[0]
    world.served.github.set_runner(runner.id, online=True)
    cloud.online.append(time.monotonic())


def measure(world: World, cloud: Cloud, boot: float) -> Measured:
    start = world.begin("start", **cloud.inputs, machine=cloud.machine)
    start_memory, _ = wait(start)
    returned = time.monotonic()
    started = start.result(10)
    if started.exit_code:
        raise SystemExit(started.log)
    start_calls = world.served.github.counted_calls
    began = time.monotonic()
    stop = world.begin("stop", **cloud.inputs, handle=started.outputs["handle"])
    stop_memory, paused = wait(stop, cloud.is_put_away if cloud.is_watched else None)
    ended = time.monotonic()
    if stop.result(10).exit_code or not cloud.is_put_away() or world.runner_names():
        raise SystemExit(stop.result(10).log)
    return Measured(
        boot=boot,
        return_after_online=returned - cloud.online[0],
        start_calls=start_calls,
        start_memory=start_memory,
        stop_seconds=ended - began,
        return_after_paused=ended - paused if paused else None,
        stop_calls=world.served.github.counted_calls - start_calls,
        stop_memory=stop_memory,
    )


def rounds(provider: str, boots: Sequence[float]) -> list[Measured]:
    """Measure a start and a stop for each of these seconds of booting, each in a new world."""
    results = []
    with ExitStack() as stack:
        aws = stack.enter_context(Aws()) if provider == "ec2" else None
        for boot in boots:
            with tempfile.TemporaryDirectory() as folder, open_world(Path(folder)) as world:
                opened = ec2(aws, world, boot) if aws else jarvislabs(world, boot)
                with opened as cloud:
                    results.append(measure(world, cloud, boot))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--provider", choices=("ec2", "jarvislabs"), default="ec2")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    # Spread over the pause between two looks, so that no run is lucky.
    boots = [3.0 + 0.8 * run / arguments.runs for run in range(arguments.runs)]
    boots += [60.0] if arguments.long else []
    # The first one is to warm up: the environment is there, the disk has been read.
    results = rounds(arguments.provider, [boots[0], *boots])[1:]
    for result in results:
        print(json.dumps(asdict(result)))
    short = [asdict(result) for result in results if result.boot < 60]
    for name in short[0]:
        values = [result[name] for result in short]
        if None not in values:
            print(f"{name:20} median {statistics.median(values):8.2f}  max {max(values):8.2f}")


if __name__ == "__main__":
    main()
