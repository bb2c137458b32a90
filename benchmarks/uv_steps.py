"""What setting uv up costs: a first and a second step on one machine, in time, requests and bytes.

python benchmarks/uv_steps.py [--theirs index.cjs] [--json FILE]

A step is what the runner starts. Releases are served on loopback, of the uv that is beside this
Python; what ours asks besides goes through a proxy on loopback, which counts. `--theirs` is the
bundle dist/setup/index.cjs of astral-sh/setup-uv, run by the `node` on PATH on the same releases.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import json
import os
import platform
import resource
import shutil
import socket
import socketserver
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uv as uv_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
UV = Path(uv_package.find_uv_bin())
TARGET = f"{platform.machine()}-unknown-linux-gnu"
BASH = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"]
SECOND_STEPS = 15
MB = 1e6
# The defaults of its action.yml that its bundle must be given, as the runner would.
THEIR_DEFAULTS = {
    "activate-environment": "false", "no-project": "false", "enable-cache": "auto",
    "restore-cache": "true", "save-cache": "true", "prune-cache": "false", "cache-python": "false",
    "ignore-nothing-to-cache": "false", "ignore-empty-workdir": "false", "quiet": "false",
    "download-from-astral-mirror": "true", "add-problem-matchers": "true",
    "resolution-strategy": "highest", "github-token": "none",
}  # fmt: skip


@dataclass
class Counts:
    """Requests (tunnels, where they are encrypted), and bytes that came."""

    requests: int = 0
    bytes: int = 0


class Releases(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder."""

    counts: Counts

    def do_GET(self) -> None:
        self.counts.requests += 1
        with contextlib.suppress(OSError):
            self.counts.bytes += Path(self.translate_path(self.path)).stat().st_size
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Be quiet: the steps' own time is measured."""


class Tunnels(socketserver.StreamRequestHandler):
    """A proxy for CONNECT, and for nothing else."""

    counts: Counts

    def handle(self) -> None:
        words = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        host, _, port = words[1].rpartition(":")
        self.counts.requests += 1
        with socket.create_connection((host, int(port)), timeout=30) as far:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            outwards = threading.Thread(target=_pass, args=[self.connection, far], daemon=True)
            outwards.start()
            self.counts.bytes += _pass(far, self.connection)


def _pass(source: socket.socket, to: socket.socket) -> int:
    total = 0
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            to.sendall(part)
            total += len(part)
        to.shutdown(socket.SHUT_WR)
    return total


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@dataclass(kw_only=True)
class World:
    """Releases and a proxy on loopback, and what was asked of them."""

    folder: Path
    version: str
    digest: str
    mirror: str
    proxy: str
    near: Counts = field(default_factory=Counts)
    far: Counts = field(default_factory=Counts)

    def spent(self) -> Counts:
        """Return what was asked since this was called last."""
        spent = Counts(
            self.near.requests + self.far.requests,
            self.near.bytes + self.far.bytes,
        )
        for each in (self.near, self.far):
            each.requests = each.bytes = 0
        return spent


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    version = subprocess.check_output([UV, "--version"], text=True).split()[1]
    archive = folder / "releases" / version / f"uv-{TARGET}.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        for name in ("uv", "uvx"):
            tar.add(UV.with_name(name), f"uv-{TARGET}/{name}")
    near, far = Counts(), Counts()
    handler = functools.partial(
        type("Counting", (Releases,), {"counts": near}), directory=str(folder / "releases")
    )
    releases = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    tunnels = socketserver.ThreadingTCPServer(
        ("127.0.0.1", 0), type("Counting", (Tunnels,), {"counts": far})
    )
    tunnels.daemon_threads = True
    with serving(releases), serving(tunnels):
        yield World(
            folder=folder,
            version=version,
            digest=hashlib.sha256(archive.read_bytes()).hexdigest(),
            mirror=f"http://127.0.0.1:{releases.server_address[1]}",
            proxy=f"http://127.0.0.1:{tunnels.server_address[1]}",
            near=near,
            far=far,
        )


@dataclass(kw_only=True)
class Machine:
    """A self-hosted machine without a uv: what its steps are, and what it keeps."""

    name: str
    world: World
    command: Sequence[str]
    inputs: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return self.world.folder / self.name.replace(" ", "-")

    def step(self, *before: str) -> float:
        """Run one; return its seconds."""
        begun = time.perf_counter()
        done = subprocess.run(
            [*before, *self.command], env=self._env(), capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise SystemExit(f"{self.name}: {done.returncode}\n{done.stdout}{done.stderr}")
        return seconds

    def _env(self) -> dict[str, str]:
        places = {
            "HOME": "home", "RUNNER_TEMP": "temp", "RUNNER_TOOL_CACHE": "tools",
            "GITHUB_WORKSPACE": "workspace",
        }  # fmt: skip
        files = ("ENV", "PATH", "OUTPUT", "STATE", "STEP_SUMMARY")
        for place in places.values():
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        for file in files:
            (self.folder / file).write_text("")
        return {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "GITHUB_ACTIONS": "true",
            "RUNNER_ENVIRONMENT": "self-hosted",
            **{name: str(self.folder / place) for name, place in places.items()},
            **{f"GITHUB_{file}": str(self.folder / file) for file in files},
            **self.inputs,
        }


def ours(world: World, name: str, **inputs: str) -> Machine:
    script = world.folder / "step.sh"
    script.write_text(f'exec sh "{ROOT}/shared/run" "{ROOT}/action-setup-uv/setup_uv.py"\n')
    given = {f"INPUT_{each.upper()}": value for each, value in inputs.items()}
    given |= {"https_proxy": world.proxy, "no_proxy": "127.0.0.1"}
    return Machine(name=name, world=world, command=[*BASH, str(script)], inputs=given)


def theirs(world: World, bundle: Path, name: str, **inputs: str) -> Machine:
    entry = {
        "platform": TARGET, "variant": "default", "archive_format": "tar.gz",
        "url": f"{world.mirror}/{world.version}/uv-{TARGET}.tar.gz", "sha256": world.digest,
    }  # fmt: skip
    listed = json.dumps({"version": world.version, "artifacts": [entry]})
    (world.folder / "releases/uv.ndjson").write_text(listed + "\n")
    given = THEIR_DEFAULTS | {"manifest-file": f"{world.mirror}/uv.ndjson"} | inputs
    node = shutil.which("node") or "node"
    machine = Machine(name=name, world=world, command=[node, str(bundle)], inputs={})
    given["working-directory"] = str(machine.folder / "workspace")
    machine.inputs = {f"INPUT_{each.upper()}": value for each, value in given.items()}
    return machine


@dataclass(frozen=True, kw_only=True)
class Result:
    """Seconds, requests and bytes of a first step; of those after it the median, the most, and
    what each took on average."""

    name: str
    first: float
    first_requests: int
    first_bytes: int
    second: float
    second_most: float
    second_cpu: float
    second_requests: float
    without_network: bool | None


def measure(machine: Machine) -> Result:
    machine.world.spent()
    first = machine.step()
    spent = machine.world.spent()
    before = cpu_of_children()
    seconds = [machine.step() for _ in range(SECOND_STEPS)]
    cpu = cpu_of_children() - before
    later = machine.world.spent()
    return Result(
        name=machine.name,
        first=first,
        first_requests=spent.requests,
        first_bytes=spent.bytes,
        second=statistics.median(seconds),
        second_most=max(seconds),
        second_cpu=cpu / SECOND_STEPS,
        second_requests=later.requests / SECOND_STEPS,
        without_network=works_without_network(machine),
    )


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def works_without_network(machine: Machine) -> bool | None:
    """Say whether a step works where there is not even loopback; None where that needs root."""
    alone = ["unshare", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        return None
    try:
        machine.step(*alone)
    except SystemExit:
        return False
    return True


def machines(world: World, bundle: Path | None) -> Iterator[Machine]:
    exact = {"version": world.version, "checksum": world.digest}
    yield ours(world, "ours")
    yield ours(world, "ours, from a mirror", mirror=world.mirror, **exact)
    if bundle:
        yield theirs(world, bundle, "theirs, an exact version", **exact)
        yield theirs(world, bundle, "theirs, the latest", version="latest")


def table(results: Sequence[Result]) -> str:
    head = f"{'':26} {'first s':>8} {'requests':>9} {'MB':>6} {'second s':>9} {'most':>6} {'cpu':>6} {'requests':>9}  offline"
    rows = [
        f"{each.name:26} {each.first:8.2f} {each.first_requests:9} {each.first_bytes / MB:6.1f} "
        f"{each.second:9.3f} {each.second_most:6.3f} {each.second_cpu:6.3f} {each.second_requests:9.0f}  {each.without_network}"
        for each in results
    ]
    return "\n".join([head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description="What setting uv up costs.")
    parser.add_argument("--theirs", type=Path, help="the other action's dist/setup/index.cjs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, world(Path(name)) as here:
        results = [measure(each) for each in machines(here, arguments.theirs)]
    print(table(results))
    about = {"python": sys.version.split()[0], "cpus": os.cpu_count()}
    figures = {"machine": about, "results": [asdict(each) for each in results]}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    else:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
