"""Runs the uv that won as later steps will run it: with the same folders and nothing foreign."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

# For what downloads nothing; an interpreter on a slow disk needs some seconds to answer.
QUICK_SECONDS: Final = 60.0
# Of the 7.5 s between the runner's first signal and its second.
GRACE_SECONDS: Final = 4.0
TOO_LONG: Final = 124  # as timeout(1) has it


@dataclass(frozen=True, kw_only=True)
class Commands:
    """A uv, the environment that it gets, and the folder that it works in.

    A signal that ends this process ends the uv too, with all that it has started.
    """

    path: Path
    env: Mapping[str, str]
    folder: Path

    def having(self, variables: Mapping[str, str], *without: str) -> Commands:
        """Return the same uv with other variables, and without some."""
        merged = {**self.env, **variables}
        return replace(self, env={name: merged[name] for name in merged if name not in without})

    def run(
        self, *arguments: str, seconds: float = QUICK_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run a command and keep what it says; the caller looks at the result.

        A command that takes longer is ended, and counts as failed.
        """
        with self._started(arguments, stderr=subprocess.PIPE) as child:
            try:
                out, err = child.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                _end(child)
                late = f"it took longer than {seconds:.0f} s"
                return subprocess.CompletedProcess(arguments, TOO_LONG, "", late)
        return subprocess.CompletedProcess(arguments, child.returncode, out, err)

    def ask(self, python: str | Path, code: str) -> subprocess.CompletedProcess[str]:
        """Run code in an interpreter itself, isolated from the user's settings, as `run` does.

        Raises OSError if it cannot be started.
        """
        return replace(self, path=self.folder / python).run("-I", "-c", code)

    def show(self, *arguments: str, say: Callable[[str], None]) -> int:
        """Run a command and pass on each line that it says; return its exit code.

        It has no time limit but the job's: it may have to compile.
        """
        with self._started(arguments, stderr=subprocess.STDOUT) as child:
            for line in child.stdout or ():
                say(line.rstrip("\n"))
            return child.wait()

    @contextmanager
    def _started(self, arguments: tuple[str, ...], stderr: int) -> Iterator[subprocess.Popen[str]]:
        """Start it in a process group of its own, so that what it starts can be ended with it."""
        with subprocess.Popen(
            [self.path, *arguments],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            errors="replace",
            process_group=0,
        ) as child:
            try:
                yield child
            except BaseException:
                _end(child)
                raise


def _end(child: subprocess.Popen[str]) -> None:
    """End a command and its children: politely, so that locks and scratch files go, then by force."""
    _signal(child, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(GRACE_SECONDS)
    _signal(child, signal.SIGKILL)


def _signal(child: subprocess.Popen[str], signum: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signum)


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return why a command failed, on one line, without a password that an address may hold."""
    text = " ".join(done.stderr.split()) or f"it ended with {done.returncode}"
    return without_passwords(text).removeprefix("error: ")[:400].rstrip(".")


def without_passwords(text: str) -> str:
    """Return a text without the users and passwords that its addresses may hold."""
    return re.sub(r"//[^/\s]+@", "//", text)
