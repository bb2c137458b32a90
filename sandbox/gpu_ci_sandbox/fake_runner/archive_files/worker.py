"""Runs one job that it reads from its input and tells what happens as JSON lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
INTERRUPT_SECONDS = float(os.environ.get("STANDIN_RUNNER_PATIENCE", "7.5"))
TERMINATE_SECONDS = 2.5
# A process that outlives its step may hold the output open; nobody waits for it longer than this.
DRAIN_SECONDS = 0.5


def main() -> None:
    job = json.loads(sys.stdin.readline())
    worker = Worker(job)
    signal.signal(signal.SIGINT, worker.cancel)
    signal.signal(signal.SIGTERM, worker.cancel)
    worker.work()


class Worker:
    """One job: its folders, its environment, its steps, and what it leaves behind."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._tracking = f"github_{uuid.uuid4()}"
        self._process: subprocess.Popen[str] | None = None
        self._result = "success"
        self._cancelled = threading.Event()
        self._out = threading.Lock()
        name = job["env"].get("GITHUB_REPOSITORY", "").rpartition("/")[2] or "repository"
        self._work = ROOT / str(job["work_folder"])
        self._workspace = self._work / name / name
        self._temp = self._work / "_temp"

    def work(self) -> None:
        for folder in (self._workspace, self._temp):
            folder.mkdir(parents=True, exist_ok=True)
        self._hook("Set up runner", "ACTIONS_RUNNER_HOOK_JOB_STARTED")
        if self._result == "success":
            self._script()
        self._hook("Complete runner", "ACTIONS_RUNNER_HOOK_JOB_COMPLETED")
        self._begin_step("Complete job")
        self._clean_up()
        self._tell(result=self._result)

    def cancel(self, *_: object) -> None:
        """Interrupt the entry process; it is terminated and then killed if it stays."""
        if not self._cancelled.is_set():
            self._cancelled.set()
            threading.Thread(target=self._end_process, daemon=True).start()

    def _end_process(self) -> None:
        process = self._process
        for number, seconds in (
            (signal.SIGINT, INTERRUPT_SECONDS),
            (signal.SIGTERM, TERMINATE_SECONDS),
        ):
            if process is None or process.poll() is not None:
                return
            process.send_signal(number)
            _wait(process, seconds)
        for pid in self._tracked():
            _kill(pid)

    def _script(self) -> None:
        script = self._temp / f"{uuid.uuid4()}.sh"
        script.write_text(self._job["script"], encoding="utf-8")
        self._begin_step("Run script")
        self._run(["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)])

    def _hook(self, step: str, variable: str) -> None:
        path = os.environ.get(variable)
        if path:
            self._begin_step(step)
            self._run(["bash", "-e", path])

    def _run(self, command: list[str]) -> None:
        if self._cancelled.is_set():
            self._result = "cancelled"
            return
        self._process = subprocess.Popen(
            command,
            cwd=self._workspace,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        code = self._follow(self._process)
        if self._cancelled.is_set():
            self._result = "cancelled"
        elif code:
            self._tell(log=[f"##[error]Process completed with exit code {code}."])
            self._result = "failure"

    def _follow(self, process: subprocess.Popen[str]) -> int:
        if process.stdout is None:
            raise RuntimeError("the output of the process is a pipe")
        reader = threading.Thread(target=self._read, args=(process.stdout,), daemon=True)
        reader.start()
        code = process.wait()
        reader.join(DRAIN_SECONDS)
        return code

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._tell(log=[line.rstrip("\n")])

    def _environment(self) -> dict[str, str]:
        files = {
            f"GITHUB_{name}": str(self._empty_file(name))
            for name in ("ENV", "OUTPUT", "PATH", "STATE", "STEP_SUMMARY")
        }
        ours = {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self._workspace),
            "RUNNER_ARCH": "X64",
            "RUNNER_NAME": str(self._job["runner_name"]),
            "RUNNER_OS": "Linux",
            "RUNNER_TEMP": str(self._temp),
            "RUNNER_WORKSPACE": str(self._workspace.parent),
        }
        # The tracking id is left alone if a job has changed it: that is how a job lets go.
        return {
            **os.environ,
            **files,
            **ours,
            "RUNNER_TRACKING_ID": self._tracking,
            **self._job["env"],
        }

    def _empty_file(self, name: str) -> Path:
        path = self._temp / f"{name.lower()}_{uuid.uuid4()}"
        path.touch()
        return path

    def _clean_up(self) -> None:
        for pid in self._tracked():
            self._tell(log=[f"Terminate orphan process: pid ({pid})"])
            _kill(pid)

    def _tracked(self) -> list[int]:
        mark = f"RUNNER_TRACKING_ID={self._tracking}".encode()
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and mark in _environ(entry).split(b"\0")
        ]

    def _begin_step(self, name: str) -> None:
        self._tell(step=name, ended=self._result)

    def _tell(self, **event: object) -> None:
        with self._out:
            print(json.dumps(event), flush=True)


def _environ(entry: Path) -> bytes:
    try:
        return (entry / "environ").read_bytes()
    except OSError:  # another user's process, or one that has just ended
        return b""


def _wait(process: subprocess.Popen[str], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
