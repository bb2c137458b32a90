"""Machines as jobs find them: other users, odd homes, disks and networks, each in a folder of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.setup_uv.offers import Pinned
from gpu_ci_sandbox.action_step import FILES, read_commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
# One that stands in no user database, and one that does, with a home that is not there.
NOBODY_KNOWS: Final = 54321
NOBODY: Final = 65534
PROGRAMS: Final = (
    "cat", "chmod", "date", "env", "find", "getent", "grep", "head", "id", "ln", "ls", "mkdir", "mktemp", "mv",
    "rm", "sed", "sha256sum", "sh", "sleep", "sort", "tail", "tar", "uname",
)  # fmt: skip
# What the program itself imports of others.
PACKAGES: Final = (
    "actions-toolkit", "packaging", "requests", "urllib3", "idna", "certifi", "charset-normalizer",
)  # fmt: skip
UV_VERSION: Final = Pinned.read().version
WHERE: Final = "import os, sys; print(os.getuid(), sys.version_info >= (3, 11), sys.prefix)"


# By their paths: a host's PATH has little.
SETPRIV, UNSHARE, MOUNT, MKDIR, SH = (
    shutil.which(name) or "" for name in ("setpriv", "unshare", "mount", "mkdir", "sh")
)


# Where a namespace has what all hosts have in common while its own /tmp is put in place.
ASIDE: Final = "/mnt"


def as_user(uid: int) -> list[str]:
    """Return what a user's command is put behind. Up to its first exec root's rights last: hence sh."""
    become = [SETPRIV, f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*become, SH, "-c", 'exec "$@"', SH]


def link(source: str, to: str) -> None:
    """Put a file elsewhere without its bytes, where that can be."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copy2(source, to)


def open_copy(source: str, to: Path) -> None:
    """Copy a file for everybody: in an environment of `shared/run` all are for its own user alone."""
    shutil.copy(source, to)
    to.chmod(0o755)


def find_uv() -> Path | None:
    """Return the uv of this project's own lock."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        return None
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return Path(found) if told.startswith(f"uv {UV_VERSION}") else None


def find_python(folder: Path) -> Path | None:
    """Return a Python that every user of this machine can run: as it is, or put into the folder."""
    own = Path(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}")
    others = (Path(each, "python3") for each in ("/usr/bin", "/usr/local/bin"))
    for python in (own, *others):
        if _runs(python):
            return python.resolve()
    return moved if _runs(moved := _moved(own, folder / "python")) else None


def _runs(python: Path) -> bool:
    command = [*as_user(NOBODY_KNOWS), str(python), "-I", "-c", WHERE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    return done.stdout.startswith(f"{NOBODY_KNOWS} True")


def _moved(python: Path, to: Path) -> Path:
    library = Path(sys.base_prefix, "lib")
    (to / "bin").mkdir(parents=True)
    link(str(python.resolve()), str(to / "bin" / python.name))
    shutil.copytree(
        library / python.name,
        to / "lib" / python.name,
        copy_function=link,
        ignore=shutil.ignore_patterns("site-packages", "test", "idlelib", "config-*", "tkinter"),
    )
    for each in library.glob("libpython*"):
        link(str(each), str(to / "lib" / each.name))
    return to / "bin" / python.name


@dataclass(kw_only=True)
class Machine:
    """What all hosts have in common, readable by everybody: the action, a uv, a Python, packages."""

    folder: Path
    uv: Path
    python: Path
    hosts: int = 0

    @classmethod
    def prepare(cls, folder: Path) -> Machine | str:
        """Return the machine, or why there can be none here."""
        if not (found := find_uv()):
            return f"there is no uv {UV_VERSION} here"
        if not (python := find_python(folder)):
            return "this Python cannot be run by another user, nor be moved"
        open_copy(str(found), folder / "uv")
        machine = cls(folder=folder, uv=folder / "uv", python=python)
        machine._copy_action()
        machine._copy_packages()
        return machine

    @property
    def version(self) -> str:
        """Return the Python's, all of it."""
        command = [
            str(self.python),
            "-I",
            "-c",
            "import platform; print(platform.python_version())",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    @property
    def action(self) -> Path:
        return self.folder / "action"

    def _copy_action(self) -> None:
        for name in ("shared", "action-setup-uv"):
            without = shutil.ignore_patterns("__pycache__", "sandbox")
            shutil.copytree(ROOT / name, self.action / name, ignore=without)
        for name in ("uv.lock", "pyproject.toml"):
            shutil.copy(ROOT / name, self.action / name)
        self._compile(self.action / "shared/gpu_ci")

    def _compile(self, folder: Path) -> None:
        """Do it here, as the hosts' users may not write beside these files."""
        command = [str(self.python), "-I", "-m", "compileall", "-q", str(folder)]
        subprocess.run(command, check=True)

    def _copy_packages(self) -> None:
        for package in PACKAGES:
            for file in distribution(package).files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    to = self.folder / "packages" / file
                    to.parent.mkdir(parents=True, exist_ok=True)
                    open_copy(str(file.locate()), to)
        self._compile(self.folder / "packages")

    def host(self, uid: int) -> Host:
        self.hosts += 1
        host = Host(machine=self, folder=self.folder / f"host-{self.hosts}", uid=uid)
        host.make()
        return host


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a step left for the runner."""

    exit_code: int
    log: str
    outputs: Mapping[str, str]
    variables: Mapping[str, str]
    path: tuple[str, ...]
    summary: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.log.splitlines() if line.startswith("::error")]


@dataclass(kw_only=True)
class Host:
    """One job's machine. `mounts` are commands of root's before each step, in namespaces of its own;
    without `sees_loopback` it has no network at all."""

    machine: Machine
    folder: Path
    uid: int
    env: dict[str, str] = field(default_factory=dict)
    mounts: list[str] = field(default_factory=list)
    sees_loopback: bool = False

    def make(self) -> None:
        """Make what a runner's machine has, all of it this user's."""
        (self.folder / "bin").mkdir(parents=True)
        for name in ("home", "work", "temp", "tools", "tmp", "var-tmp"):
            self.own(self.folder / name)
        for name in PROGRAMS:
            (self.folder / "bin" / name).symlink_to(shutil.which(name) or f"/no/{name}")
        common, own_tmp = self.machine.folder, self.own(self.folder / "slash-tmp", uid=0)
        own_tmp.chmod(0o1777)
        (own_tmp / common.name).mkdir()
        self.mounts = [
            f"{MOUNT} --bind {common} {ASIDE}",
            f"{MOUNT} --bind {own_tmp} /tmp",
            f"{MOUNT} --bind {ASIDE} {common}",
            f"{MOUNT} --bind {self.folder}/var-tmp /var/tmp",
        ]
        self.env = {
            "PATH": str(self.folder / "bin"),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "RUNNER_TOOL_CACHE": str(self.folder / "tools"),
            "RUNNER_ENVIRONMENT": "self-hosted",
            "GITHUB_WORKSPACE": str(self.folder / "work"),
            "GITHUB_ACTIONS": "true",
            "LC_ALL": "C.UTF-8",
        }

    def own(self, path: Path, uid: int | None = None) -> Path:
        """Make a folder that belongs to this user, or to another."""
        path.mkdir(exist_ok=True, parents=True)
        os.chown(path, *[self.uid if uid is None else uid] * 2)
        return path

    def own_all(self, folder: Path) -> None:
        """Give a folder and all in it to this user."""
        for each in (folder, *folder.rglob("*")):
            os.chown(each, self.uid, self.uid, follow_symlinks=False)

    def has_python(self) -> None:
        for name in ("python", "python3"):
            (self.folder / "bin" / name).symlink_to(self.machine.python)

    def has_conda(self, version: str = "", uv: Path | None = None) -> Path:
        """Put conda's folder first on PATH, with a Python and a uv in it."""
        conda = self.folder / "conda"
        (conda / "bin").mkdir(parents=True)
        (conda / "bin/python").symlink_to(self.machine.python)
        if uv:
            (conda / "bin/uv").symlink_to(uv)
        else:
            (conda / "bin/uv").write_text(f"#!/bin/sh\necho uv {version}\n")
            (conda / "bin/uv").chmod(0o755)
        self.env["PATH"] = f"{conda}/bin:{self.env['PATH']}"
        return conda

    def knows(self, home: Path, uid: int | None = None) -> None:
        """Have the user database name a home of this user's, or of another's, whatever it named.

        All of /etc is put in place: a mount over the file alone ends when somebody on this machine,
        as another test does, adds a user, which puts a new file in its place.
        """
        etc, others = self.folder / "etc", self.folder / "etc-of-all"
        if not etc.exists():
            etc.mkdir()
            others.mkdir()
            for each in Path("/etc").iterdir():
                (etc / each.name).symlink_to(others / each.name)
            self._write_users(Path("/etc/passwd").read_text())
            self.mounts += [f"{MOUNT} --bind /etc {others}", f"{MOUNT} --bind {etc} /etc"]
        number = self.uid if uid is None else uid
        line = f"user{number}:x:{number}:{number}::{home}:/bin/sh\n"
        self._write_users(line + (etc / "passwd").read_text())  # the first line of a user counts

    def _write_users(self, lines: str) -> None:
        (self.folder / "etc/passwd").unlink()
        (self.folder / "etc/passwd").write_text(lines)

    def keeps(self, *parents: Path, uv: Path | None = None) -> None:
        """Leave what an earlier job's `shared/run` kept: the environment, its stamp, and its uv."""
        defaults = (self.folder / name for name in ("tools", "home/.cache", "temp"))
        week = self.folder / f"tmp/gpu-ci-{self.uid}" / time.strftime("%Y-%U")
        for kept in (*(each / "gpu-ci" for each in parents or defaults), week):
            for each in (kept.parent, kept):
                self.own(each)
                each.chmod(0o700)
            self._keep(kept)
            link(str(uv or self.machine.uv), str(kept / f"uv-{UV_VERSION}"))

    def _keep(self, kept: Path) -> None:
        python = self.machine.python
        packages = self.own(kept / "env.kept") / "lib" / python.name / "site-packages"
        for each in (packages.parent, kept / "env.kept/bin"):
            each.mkdir(parents=True)
        packages.symlink_to(self.machine.folder / "packages")
        (kept / "env.kept/bin/python").symlink_to(python)
        (kept / "env.kept/pyvenv.cfg").write_text(f"home = {python.parent}\n")
        locked = b"".join((self.machine.action / n).read_bytes() for n in ("uv.lock", "shared/run"))
        stamp = kept / f"ready-uv-{hashlib.sha256(locked).hexdigest()}"
        stamp.write_text(f"env.kept {python.stat().st_ino}-{python.stat().st_size}\n")

    def fills_tmp(self) -> None:
        """Put a full disk at /tmp, with nothing there but what all hosts have in common."""
        common = self.machine.folder
        self.mounts += [
            f"{MOUNT} -t tmpfs -o size=1m,mode=1777 none /tmp",
            f"{MKDIR} {common}",
            f"{MOUNT} --bind {ASIDE} {common}",
        ]

    def command(self, *words: str | Path) -> list[str]:
        """Return the command as this user's, in this machine's own namespaces."""
        script = "; ".join((*self.mounts, 'exec "$@"'))
        network = [] if self.sees_loopback else ["--net"]
        namespaces = [UNSHARE, "--mount", *network, SH, "-euc", script, "sh"]
        return [*namespaces, *as_user(self.uid), *map(str, words)]

    def begin(self, files: Path, **inputs: str) -> subprocess.Popen[str]:
        """Start the action's step, whose files for the runner are in a folder of its own."""
        self.own(files)
        named = {name: str(files / name) for name in FILES}
        for path in map(Path, named.values()):
            path.touch()
            os.chown(path, self.uid, self.uid)
        given = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
        action = self.machine.action
        return subprocess.Popen(
            self.command("sh", action / "shared/run", action / "action-setup-uv/setup_uv.py"),
            env={**self.env, **named, **given},
            cwd=self.folder / "work",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def step(self, **inputs: str) -> Done:
        """Run the action's step."""
        files = self.folder / f"files-{len(list(self.folder.glob('files-*')))}"
        return ended(self.begin(files, **inputs), files)

    def later(self, done: Done, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command as a later step of the job: with all that the step has told the runner."""
        path = ":".join([*reversed(done.path), self.env["PATH"]])
        return subprocess.run(
            self.command(*words),
            env={**self.env, **done.variables, "PATH": path},
            cwd=self.folder / "work",
            capture_output=True,
            text=True,
            check=False,
        )

    def listing(self) -> set[Path]:
        """Return all paths that a user could have written, but for the runner's own files."""
        return set(self._walk(self.folder))

    def _walk(self, folder: Path) -> Iterator[Path]:
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith("files-")]
            yield from (Path(parent, name) for name in (*folders, *files))


def ended(process: subprocess.Popen[str], files: Path) -> Done:
    """Wait for a step's end and read what it left, as the runner does."""
    try:
        log, _ = process.communicate(timeout=60)
    finally:
        process.kill()  # one that has ended is not touched
    told = {name: (files / name).read_text() for name in FILES}
    return Done(
        exit_code=process.returncode,
        log=log,
        outputs=read_commands(told["GITHUB_OUTPUT"]),
        variables=read_commands(told["GITHUB_ENV"]),
        path=tuple(told["GITHUB_PATH"].splitlines()),
        summary=told["GITHUB_STEP_SUMMARY"],
    )
