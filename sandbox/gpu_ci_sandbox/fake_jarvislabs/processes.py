"""The processes of one start of a machine: started, recognised and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci_sandbox.fake_jarvislabs.disk import Disk

MARKER: Final = "GPU_CI_BOOT_SANDBOX"
SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How this machine reaches servers, which the stand-in's machines cannot know by themselves.
PASSED_ON: Final = ("http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROC: Final = Path("/proc")
STEP_SECONDS: Final = 0.01
KILL_SECONDS: Final = 10.0
# A process shows no environment while it becomes another program.
QUIET_LOOKS: Final = 2


def environment(sandbox: str, name: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return what a process of a machine sees: nothing of the job that runs this stand-in."""
    passed = {
        key: value
        for key, value in os.environ.items()
        if key in PASSED_ON or key.lower() in PASSED_ON or key.startswith("GPU_CI_BOOT_")
    }
    return {"PATH": SYSTEM_PATH, **passed, **extra, "MACHINE_NAME": name, MARKER: sandbox}


@dataclass
class Session:
    """What runs on a machine between its coming to Running and its stop.

    Processes are known by the mark in their environment, and by the sessions in which the first of
    them were started.
    """

    sandbox: str
    disk: Disk
    leaders: set[int] = field(default_factory=set)
    _scripts: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, body: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        """Run a startup script, as a container does at its start."""
        file = self.disk.root / "startup.sh"
        file.touch(mode=0o600)
        file.write_bytes(self.disk.localise(body.encode()))
        with self.disk.log.open("ab") as log:
            script = subprocess.Popen(
                ["bash", str(file), *arguments],
                env=env,
                cwd=self.disk.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._scripts.append(script)
        self.leaders.add(script.pid)

    def end(self) -> None:
        """Kill everything, as a container that is stopped; raises TimeoutError if it stays."""
        quiet, deadline = 0, time.monotonic() + KILL_SECONDS
        while quiet < QUIET_LOOKS:
            found = self._living()
            for pid in found:
                _kill(pid)
            for script in self._scripts:
                script.poll()
            quiet = 0 if found else quiet + 1
            if found and time.monotonic() > deadline:
                raise TimeoutError(f"processes of {self.sandbox} do not end: {found}")
            time.sleep(STEP_SECONDS)

    def _living(self) -> list[int]:
        mark = f"{MARKER}={self.sandbox}".encode()
        return [
            int(entry.name)
            for entry in PROC.iterdir()
            if entry.name.isdigit() and self._is_ours(entry, mark)
        ]

    def _is_ours(self, entry: Path, mark: bytes) -> bool:
        try:
            # state, parent, group, session
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if fields[0] in "ZX":
                return False
            return int(fields[3]) in self.leaders or mark in _environment(entry)
        except OSError:  # ended meanwhile
            return False


def _environment(entry: Path) -> list[bytes]:
    try:
        return (entry / "environ").read_bytes().split(b"\0")
    except PermissionError:  # another user's
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
