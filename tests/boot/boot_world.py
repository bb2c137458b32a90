"""Boots machines for the tests: the boot script for real, on a runner archive of the tests' own."""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.pace import until

from gpu_ci.boot.boot_log import BootReport, read_log
from gpu_ci.boot.script import Boot, Place, Registration, RunnerBuild, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAKES = Path(__file__).parents[1] / "boot"
ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
SECRET = "eyJqaXQiOiJub3QtcmVhbCJ9"


def runner_archive() -> bytes:
    """Return the archive of the test's runner, laid out as the real one: no top folder."""
    names = {"run.sh": "run.sh", "config.sh": "config.sh", "worker.sh": "bin/Runner.Worker"}
    names["installdependencies.sh"] = "bin/installdependencies.sh"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for source, name in names.items():
            archive.add(FAKES / source, arcname=f"./{name}")
    return packed.getvalue()


class Downloads(BaseHTTPRequestHandler):
    """Serves one archive: `/whole`, `/cut` (half of it, the first time), `/absent` (404)."""

    server: Archive

    def do_HEAD(self) -> None:
        self.server.asked.append(f"HEAD {self.path}")
        self.send_response(HTTPStatus.OK)
        self.end_headers()

    def do_GET(self) -> None:
        asked_for = self.headers.get("Range", "")
        self.server.asked.append(f"GET {self.path} {asked_for}".strip())
        if self.path.endswith("/absent"):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        start = int(asked_for.removeprefix("bytes=").rstrip("-") or 0)
        body = self.server.archive[start:]
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked_for else HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        whole = len(self.server.archive)
        if asked_for:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        cut = self.path.endswith("/cut") and not start
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def log_message(self, *args: Any) -> None:
        """Say nothing: `asked` has it."""


class Archive(ThreadingHTTPServer):
    """A loopback server for the archive that also tells what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Downloads)
        self.archive = runner_archive()
        self.sha256 = hashlib.sha256(self.archive).hexdigest()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def served() -> Iterator[Archive]:
    """Serve an archive."""
    with Archive() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that any user may enter, which pytest's own are not."""
    made = Path(tempfile.mkdtemp(prefix="gpu-ci-boot-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def running(pid: str) -> bool:
    """Say whether a process is there and not a zombie."""
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def carries(pid: str, marker: bytes) -> bool:
    """Say whether a process was started with this variable."""
    try:
        return marker in Path("/proc", pid, "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def processes() -> list[str]:
    """Return the ids of all processes."""
    return [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]


@dataclass
class Machine:
    """One boot script at work, in a session of its own."""

    boot: Boot
    process: subprocess.Popen[bytes]

    @property
    def root(self) -> Path:
        return Path(self.boot.place.root)

    @property
    def runner(self) -> Path:
        return self.root / "runner"

    def log(self) -> str:
        path = self.root / "boot.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def report(self) -> BootReport:
        return read_log(self.log())

    def left(self) -> list[int]:
        """Return what still runs: its group, its session, and what carries its marker."""
        marker = f"GPU_CI_MACHINE={self.boot.registration.name}".encode()
        self.process.poll()
        return [int(pid) for pid in processes() if running(pid) and self._owns(pid, marker)]

    def _owns(self, pid: str, marker: bytes) -> bool:
        try:
            session = os.getsid(int(pid)) == self.process.pid
        except ProcessLookupError:
            return False
        return session or carries(pid, marker)

    def wait_for(self, happened: Callable[[], object]) -> None:
        until(happened, self.log)

    def ends(self) -> BootReport:
        """Wait until nothing is left, and return what was said."""
        # Twice, since the last process may hand over to a new one while they are counted.
        self.wait_for(lambda: not self.left() and not self.left())
        return self.report()

    def listening(self) -> None:
        self.wait_for(lambda: self.report().listening)

    def given(self) -> dict[str, str]:
        """Return the environment that the runner got."""
        pairs = (self.runner / "given.env").read_text().rstrip("\0").split("\0")
        return dict(pair.split("=", 1) for pair in pairs)

    def kill(self) -> None:
        while left := self.left():
            for pid in left:
                with_id(pid, signal.SIGKILL)
            self.process.wait()
            time.sleep(0.01)


def with_id(pid: int, number: signal.Signals) -> None:
    """Signal one process that may have ended meanwhile."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


@dataclass
class World:
    """Where machines are booted: an archive, a folder, programs that go before the real ones."""

    folder: Path
    archive: Archive
    machines: list[Machine] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        self.program("ldconfig", "echo libicuuc.so.72 libssl.so.3 libgssapi_krb5.so.2 libz.so.1")

    def program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def nvidia_smi(self, *answers: str) -> None:
        shutil.copy(FAKES / "nvidia-smi.sh", self.folder / "bin" / "nvidia-smi")
        for turn, answer in enumerate(answers, 1):
            (self.folder / "bin" / f"smi.{turn}").write_text(answer)

    def boot(self, fake: str = "listen hang", **changes: Any) -> Boot:
        """Return what a machine boots with; `fake` is what its runner does, see boot/run.sh."""
        name = f"gpu-ci-test-{uuid.uuid4().hex[:12]}"
        build = RunnerBuild(
            architecture=ARCHITECTURE, url=f"{self.archive.url}/whole", sha256=self.archive.sha256
        )
        usual = Boot(
            place=Place(root=str(self.folder / "root"), user="nobody", ends_by="exit"),
            registration=Registration(name=name, labels=(name,), jit_config=SECRET),
            runners=(build,),
            pickup=10,
            idle=10,
            lifetime=50,
            variables=(("FAKE_RUNNER", fake),),
        )
        return replace(usual, **changes)

    def start(self, boot: Boot, *, shell: str = "sh", user: str = "", **env: str) -> Machine:
        script = self.folder / f"boot-{len(self.machines)}.sh"
        script.write_bytes(render(boot).encode())
        script.chmod(0o600)
        if user:
            os.chown(script, pwd.getpwnam(user).pw_uid, -1)
        quick = {"TICK": "0.1", "PAUSE": "0", "HOLD": "0", "GRACE": "2", "TRIES": "2", "BEAT": "1"}
        quick |= {"TURN": "0", "START": str(self.folder / "start")}
        process = subprocess.Popen(
            [*shell.split(), str(script)],
            env={
                "PATH": f"{self.folder}/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                **{f"GPU_CI_BOOT_{name}": value for name, value in quick.items()},
                **env,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            user=user or None,
        )
        self.machines.append(Machine(boot, process))
        return self.machines[-1]

    def run(
        self, fake: str = "listen hang", *, env: dict[str, str] | None = None, **changes: Any
    ) -> Machine:
        return self.start(self.boot(fake, **changes), **(env or {}))


@contextmanager
def a_world() -> Iterator[World]:
    """Make a world, and leave none of its processes behind."""
    with open_folder() as folder, served() as archive:
        made = World(folder, archive)
        yield made
        for machine in made.machines:
            machine.kill()


def with_url(boot: Boot, url: str, sha256: str = "") -> Boot:
    build = boot.runners[0]
    return replace(boot, runners=(replace(build, url=url, sha256=sha256 or build.sha256),))


def phases(log: str) -> list[str]:
    """Return the phases in the order in which they were reported."""
    return [line.split()[4] for line in log.splitlines() if " phase " in line]
