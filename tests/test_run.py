"""`shared/run`: from a bare shell to Python, whatever the machine and the job are like."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_ci.providers import PROVIDERS
from gpu_ci.providers.ec2 import service_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _pytest.mark import ParameterSet

ROOT = Path(__file__).parents[1]
FAKE_UV = (Path(__file__).parent / "fake_uv.sh").read_bytes()
PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
SHELLS = {"sh": ["sh"], "dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
TOOLS = [
    "cat",
    "chmod",
    "date",
    "env",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sha256sum",
    "sh",
    "sort",
    "tail",
    "uname",
]
REPORT = """\
import json, os, sys
print(json.dumps({
    "argv": sys.argv, "env": dict(os.environ), "executable": sys.executable, "pid": os.getpid(),
    "path": sys.path, "isolated": sys.flags.isolated, "utf8": sys.flags.utf8_mode,
    "unbuffered": sys.stdout.write_through, "cwd": os.getcwd(),
}))
"""


@functools.cache
def wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("uv-0.12.5.data/scripts/uv", FAKE_UV)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Downloads(ThreadingHTTPServer):
    """Where uv comes from: its wheels."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), DownloadsHandler)
        self.wheel: bytes | None = wheel()
        self.cut = False
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class DownloadsHandler(BaseHTTPRequestHandler):
    server: Downloads

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.wheel
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the parent's name
        """Say nothing: the tests read `asked`."""


@dataclass(kw_only=True)
class Tree:
    """A copy of the repository's `shared/run`, whose world is in `home`."""

    root: Path
    home: Path
    downloads: Downloads
    shell: list[str] = field(default_factory=lambda: ["sh"])
    env: dict[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    @property
    def kept(self) -> Path:
        return self.home / ".cache" / "gpu-ci"

    @property
    def log(self) -> list[str]:
        log = self.home / "uv.log"
        return log.read_text().splitlines() if log.exists() else []

    def command(self, *arguments: str | Path) -> list[str]:
        return [*self.shell, str(self.root / "shared/run"), *map(str, arguments)]

    def run(
        self, *arguments: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            check=False,
            env=self.env,
            cwd=cwd,
            capture_output=True,
            text=True,
        )

    def report(self, *arguments: str | Path, cwd: Path | None = None) -> dict[str, object]:
        """What Python saw when it was started so."""
        done = self.run(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            self.command(*arguments),
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test has left running."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def has(self, *tools: str) -> None:
        """Put programs of this machine on the tree's PATH."""
        for tool in tools:
            found = shutil.which(tool)
            assert found, f"{tool} is needed for this test"
            (self.bin / tool).symlink_to(found)

    def program(self, name: str, content: str | bytes) -> Path:
        """Put a program of our own on the tree's PATH."""
        path = self.bin / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(0o755)
        return path

    def has_uv(self) -> None:
        self.program("uv", FAKE_UV)


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Stops each stand-in uv in its `sync` until it is let go."""

    arrived: io.FileIO
    go: io.FileIO

    def wait(self) -> int:
        """The process id of the next uv that has arrived."""
        return int(self.arrived.readline())

    def release(self, number: int = 1) -> None:
        self.go.write(b"\n" * number)


@pytest.fixture
def downloads() -> Iterator[Downloads]:
    with Downloads() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def tree(tmp_path: Path, downloads: Downloads) -> Iterator[Tree]:
    made = Tree(root=tmp_path / "action", home=tmp_path / "home", downloads=downloads)
    made.bin.mkdir(parents=True)
    (made.root / "shared/gpu_ci").mkdir(parents=True)
    (made.root / "shared/run").write_text(local_script(tmp_path))
    (made.root / "shared/__main__.py").write_text(REPORT)
    (made.root / "start.py").write_text(REPORT)
    (made.root / "uv.lock").write_text(local_lock(downloads.url))
    made.has(*TOOLS)
    made.program("sleep", "#!/bin/sh\nexit 0\n")
    made.env = {
        "PATH": str(made.bin),
        "HOME": str(made.home),
        "FAKE_UV_LOG": str(made.home / "uv.log"),
        "FAKE_UV_PYTHON": str(PYTHON),
    }
    yield made
    made.end()


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


def local_script(tmp_path: Path) -> str:
    """`shared/run` with the outside world in `tmp_path`."""
    text = (ROOT / "shared/run").read_text()
    text = replaced(text, '"${TMPDIR-}" /tmp;', f'"${{TMPDIR-}}" {tmp_path}/tmp;')
    return replaced(text, "/lib/ld-musl-", f"{tmp_path}/ld-musl-")


def local_lock(url: str) -> str:
    """The real lock, whose uv is ours."""
    pattern = r'url = "[^"]*/uv-[\d.]+-py3-none-([^"]*\.whl)", hash = "sha256:[0-9a-f]*"'
    ours = rf'url = "{url}/wheels/\1", hash = "sha256:{sha256(wheel())}"'
    lock, count = re.subn(pattern, ours, (ROOT / "uv.lock").read_text())
    assert count > 4
    return lock


@pytest.fixture
def hold(tree: Tree) -> Iterator[Hold]:
    folder = tree.home / "hold"
    folder.mkdir()
    for name in ("arrived", "go"):
        os.mkfifo(folder / name)
    tree.env["FAKE_UV_HOLD"] = str(folder)
    with (
        os.fdopen(os.open(folder / "arrived", os.O_RDWR), "r+b", buffering=0) as arrived,
        os.fdopen(os.open(folder / "go", os.O_RDWR), "r+b", buffering=0) as go,
    ):
        yield Hold(arrived=arrived, go=go)


def shells() -> list[ParameterSet]:
    found = []
    for name, command in SHELLS.items():
        absent = pytest.mark.skipif(shutil.which(command[0]) is None, reason=f"no {name} here")
        found.append(pytest.param(command, id=name, marks=absent))
    return found


def stamps(tree: Tree) -> list[Path]:
    return list(tree.kept.glob("ready-*"))


# --- which Python becomes of the step ---------------------------------------------------------


@pytest.mark.parametrize("shell", shells())
def test_a_bare_machine_gets_everything_in_every_shell(tree: Tree, shell: list[str]) -> None:
    """With nothing set up, the first call fetches uv and runs the file; the second only runs it."""
    tree.shell = [shutil.which(shell[0]) or "", *shell[1:]]
    tree.has("curl", "unzip")
    first = tree.run(tree.root / "start.py", "a b", "*")
    assert first.returncode == 0, first.stderr
    assert first.stderr.splitlines() == [
        f"gpu-ci: setting up the Python environment (base) in {tree.kept}"
    ]
    asked = len(tree.log)
    second = tree.run(tree.root / "start.py", "a b", "*")
    assert (second.returncode, second.stderr) == (0, "")
    assert json.loads(second.stdout)["argv"][1:] == ["a b", "*"]
    assert len(tree.log) == asked, "the second call asked uv again"
    assert len(tree.downloads.asked) == 1


def test_python_is_isolated_and_takes_the_place_of_the_shell(tree: Tree) -> None:
    """One process from the step to Python: isolated, unbuffered, UTF-8, in the caller's folder."""
    tree.has_uv()
    tree.env["LC_ALL"] = "C.UTF-8"  # in the C locale Python would switch to UTF-8 by itself
    process = tree.start(tree.root / "start.py")
    seen = json.loads(process.communicate()[0])
    assert seen["pid"] == process.pid
    assert (seen["isolated"], seen["utf8"], seen["unbuffered"]) == (1, 1, True)
    assert seen["cwd"] == str(Path.cwd())


def test_a_cancel_reaches_python(tree: Tree) -> None:
    """SIGINT to the step's process is a KeyboardInterrupt in the entry file."""
    tree.has_uv()
    (tree.root / "start.py").write_text(
        "import os, time\n"
        # A pause would not end if the signal came just before it.
        "try:\n    print(os.getpid(), flush=True)\n    while True: time.sleep(0.02)\n"
        "except KeyboardInterrupt:\n    print('given back')\n"
    )
    process = tree.start(tree.root / "start.py")
    assert process.stdout
    assert int(process.stdout.readline()) == process.pid
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == "given back\n"


def test_the_users_checkout_does_not_shadow(tree: Tree, tmp_path: Path) -> None:
    """A json.py in the working folder, or a package on PYTHONPATH, is not imported."""
    tree.has_uv()
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "json.py").write_text("raise SystemExit('the user's json.py was imported')")
    tree.env["PYTHONPATH"] = str(checkout)
    seen = tree.report(tree.root / "start.py", cwd=checkout)
    assert seen["cwd"] == str(checkout)
    assert str(checkout) not in str(seen["path"])


def test_the_jobs_python_variables_do_not_leak(tree: Tree) -> None:
    """UV_*, PYTHON*, VIRTUAL_ENV and CONDA_* reach neither uv nor Python; certificates do."""
    tree.has_uv()
    leaks = ["PYTHONHOME", "PYTHONPATH", "UV_INDEX", "UV_EXCLUDE_NEWER", "UV_CACHE_DIR"]
    leaks += ["UV_PROJECT_ENVIRONMENT", "VIRTUAL_ENV", "CONDA_PREFIX"]
    stays = {"SSL_CERT_FILE": "/ca.pem", "https_proxy": "http://127.0.0.1:9", "INPUT_KEY": "a\nb=c"}
    tree.env |= dict.fromkeys(leaks, "/nowhere") | stays | {"LC_ALL": "C.UTF-8"}
    os_env = {os.fsencode(key): os.fsencode(value) for key, value in tree.env.items()}
    os_env[b"UV_ODD"] = b"\xff\xfe"
    command = tree.command(tree.root / "start.py")
    done = subprocess.run(command, env=os_env, capture_output=True, check=True)
    seen = json.loads(done.stdout)["env"]
    assert not {*leaks, "UV_ODD"} & set(seen)
    assert not [name for name in seen if name.startswith("UV_")]
    assert seen.items() >= stays.items()
    uv_env = (tree.home / "uv.log.env").read_text()
    assert "/nowhere" not in uv_env
    assert "SSL_CERT_FILE=/ca.pem" in uv_env


@pytest.mark.parametrize("again", [False, True], ids=["set up", "kept"])
def test_what_sets_uv_up_is_told_of_the_jobs_python_variables(tree: Tree, *, again: bool) -> None:
    """It alone gets them, as GPU_CI_JOB_*, just as the job had them; what is used here does not."""
    tree.has_uv()
    (tree.root / "setup_uv.py").write_text(REPORT)
    if again:
        tree.report(tree.root / "setup_uv.py")
    told = {"UV_INDEX": "a b'\"$(touch x)`\n;", "PYTHONHOME": "/nowhere", "CONDA_PREFIX": "/conda"}
    told |= {"UV_EMPTY": "", "VIRTUAL_ENV": "/venv\nUV_NO_VARIABLE=1"}
    tree.env |= told | {"GPU_CI_JOB_UV_STALE": "of another job", "GPU_CI_JOB_UV_INDEX": "stale"}
    seen = tree.report(tree.root / "setup_uv.py")["env"]
    assert isinstance(seen, dict)
    prefix = "GPU_CI_JOB_"
    job = {n.removeprefix(prefix): value for n, value in seen.items() if n.startswith(prefix)}
    assert job == told
    assert not [name for name in seen if name.startswith(("UV_", "PYTHON", "CONDA", "VIRTUAL"))]
    if not again:
        assert "of another job" not in (uv_env := (tree.home / "uv.log.env").read_text())
        assert "/nowhere" not in uv_env


def test_other_actions_are_told_nothing_of_them(tree: Tree) -> None:
    """A start has no use for the job's variables of Python, nor for the folder of what is kept."""
    tree.has_uv()
    tree.env |= {"UV_INDEX": "/nowhere", "GPU_CI_JOB_UV_STALE": "of another job"}
    seen = tree.report(tree.root / "start.py")["env"]
    assert isinstance(seen, dict)
    assert not [name for name in seen if name.startswith(("GPU_CI_JOB_", "GPU_CI_KEPT"))]


@pytest.mark.parametrize("named", ["setup_uv.py", "./setup_uv.py", "setup-uv"])
def test_what_sets_uv_up_has_few_packages_and_knows_where_they_are(tree: Tree, named: str) -> None:
    """One group of the lock, whatever provider is named; GPU_CI_KEPT is the folder that uv is kept in."""
    tree.has_uv()
    (tree.root / "setup_uv.py").write_text(REPORT)
    tree.env |= {"INPUT_PROVIDER": "ec2", "GPU_CI_KEPT": "/nowhere"}
    seen = tree.report(named, cwd=tree.root)["env"]
    assert isinstance(seen, dict)
    assert seen["GPU_CI_KEPT"] == str(tree.kept)
    [synced] = [line for line in tree.log if line.startswith("sync")]
    assert synced.endswith("--no-install-workspace --only-group setup-uv")


@pytest.mark.parametrize("arguments", [[], ["start", "--key", "x y"], ["no-such-command"]])
def test_what_is_no_file_goes_to_the_command_line(tree: Tree, arguments: list[str]) -> None:
    """Every word that is no .py file is a command of the command line, which knows the right ones."""
    tree.has_uv()
    seen = tree.report(*arguments)
    assert seen["argv"] == [str(tree.root / "shared"), *arguments]


def test_a_missing_file_is_named(tree: Tree) -> None:
    """A path that does not exist ends with its own exit code before anything is set up."""
    tree.has_uv()
    done = tree.run(tree.root / "gone.py")
    assert done.returncode == 75
    assert "gone.py" in done.stderr
    assert not tree.kept.exists()


def test_a_runner_shows_an_error_as_an_annotation(tree: Tree) -> None:
    """In a job, the paragraph is an error command, so that it stands in the run's summary."""
    tree.env["GITHUB_ACTIONS"] = "true"
    done = tree.run(tree.root / "gone.py")
    assert done.stderr.startswith("::error title=gpu-ci::There is no file ")


@pytest.mark.parametrize(
    ("env", "arguments", "extras"),
    [
        ({}, [], ""),
        ({"INPUT_PROVIDER": "ec2"}, ["start.py"], " --extra aws"),
        ({"INPUT_PROVIDER": "local"}, ["start.py"], ""),
        ({"INPUT_PROVIDER": "ec2-classic"}, ["start.py"], ""),
        ({"INPUT_PROVIDER": "jarvislabs"}, ["start.py"], " --extra jarvislabs"),
        ({"INPUT_PROVIDER": "not-jarvislabs"}, ["start.py"], ""),
        ({"INPUT_PROVIDERS": "jarvislabs,ec2"}, ["start.py"], " --extra aws --extra jarvislabs"),
        (
            {"INPUT_PROVIDERS": "ec2\nlocal jarvislabs"},
            ["start.py"],
            " --extra aws --extra jarvislabs",
        ),
        ({"INPUT_PROVIDERS": "ec2 local"}, ["start.py"], " --extra aws"),
        ({"INPUT_PROVIDER": "$(touch x)`; *"}, ["start.py"], ""),
        ({}, ["start", "--provider", "ec2"], " --extra aws"),
        ({}, ["stop", "--provider=ec2"], " --extra aws"),
        ({}, ["watchdog", "--providers=local,ec2"], " --extra aws"),
        ({}, ["start", "--key", "ec2"], ""),
        ({"INPUT_PROFILE": "a100"}, ["start.py"], " --extra aws --extra jarvislabs"),
        ({"INPUT_PROFILE": "a100", "INPUT_PROVIDER": "ec2"}, ["start.py"], " --extra aws"),
        ({"INPUT_PROFILE": "a100", "INPUT_PROVIDER": "local"}, ["start.py"], ""),
        ({"INPUT_PROFILE": "a100"}, ["gate"], ""),
        ({}, ["doctor", "--profile", "a100"], " --extra aws --extra jarvislabs"),
        ({}, ["stop", "--profile=a100"], " --extra aws --extra jarvislabs"),
        ({}, ["init", "--profile", "a100"], ""),
        ({"INPUT_APP_ID": "77"}, ["start.py"], " --extra app"),
        ({"INPUT_APP_ID": "77", "INPUT_PROVIDER": "ec2"}, ["stop.py"], " --extra aws --extra app"),
        ({}, ["watchdog", "--app-id", "77"], " --extra app"),
        ({}, ["stop", "--app-id=77", "--provider=ec2"], " --extra aws --extra app"),
        ({"INPUT_APP_ID": ""}, ["start.py"], ""),
        ({}, ["demo"], " --extra sandbox --extra aws"),
        ({}, ["sandbox"], " --extra sandbox --extra aws"),
    ],
)
def test_only_the_named_providers_packages_are_installed(
    tree: Tree, env: dict[str, str], arguments: list[str], extras: str
) -> None:
    """The extra of the provider that the inputs or arguments name, and no other; all where only a
    profile is named, since which provider that means stands in a file. That of an App with its id."""
    tree.has_uv()
    tree.env |= env
    shutil.copy(tree.root / "start.py", tree.root / "stop.py")
    paths = [str(tree.root / each) if each.endswith(".py") else each for each in arguments]
    tree.report(*paths)
    options = f"-q --project {tree.root} --frozen --no-default-groups --no-install-workspace"
    assert [line for line in tree.log if line.startswith("sync")] == [f"sync {options}{extras}"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_each_provider_gets_the_extra_that_it_declares(tree: Tree, provider: str) -> None:
    """The shell knows no more of providers than they say themselves."""
    tree.has_uv()
    tree.env["INPUT_PROVIDER"] = provider
    tree.report(tree.root / "start.py")
    assert extras_of(tree.log) == [each for each in (PROVIDERS[provider].extra,) if each]


def test_a_profile_alone_gets_the_extras_of_every_provider(tree: Tree) -> None:
    """Any of them may be meant; and what they declare is an extra of this package."""
    tree.has_uv()
    tree.env["INPUT_PROFILE"] = "a100"
    tree.report(tree.root / "start.py")
    declared = {about.extra for about in PROVIDERS.values()} - {""}
    assert set(extras_of(tree.log)) == declared
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert declared <= set(project["optional-dependencies"])


def extras_of(log: Sequence[str]) -> list[str]:
    (synced,) = [line for line in log if line.startswith("sync")]
    return re.findall(r"--extra (\S+)", synced)


def test_further_packages_are_installed_beside_the_pinned_ones(tree: Tree, tmp_path: Path) -> None:
    """A provider of one's own: from a file, with what uv.lock pins as constraints, and said so. The
    file's content is in the stamp: another content is another environment."""
    tree.has_uv()
    tree.env |= {"GPU_CI_REQUIREMENTS": "more packages.txt", "INPUT_PROVIDER": "ec2"}
    (tmp_path / "more packages.txt").write_text("acme==1\n")
    for content in ("acme==1\n", "acme==1\n", "acme==2\n"):
        (tmp_path / "more packages.txt").write_text(content)
        done = tree.run(tree.root / "start.py", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    added = [line for line in tree.log if line.startswith("pip install")]
    assert len(added) == len(stamps(tree)) == 2
    assert all(line.endswith(f"--requirements {tmp_path}/more packages.txt") for line in added)
    assert all("--constraints" in line for line in added)
    assert [line for line in tree.log if line.startswith("export") and "--extra aws" in line]
    assert f"adding the packages of {tmp_path}/more packages.txt" in done.stderr


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_a_requirements_file_that_is_not_there_is_refused(
    tree: Tree, tmp_path: Path, name: str
) -> None:
    """Exit code 76 and the cure, before anything is set up: never silently without it."""
    tree.has_uv()
    tree.env["GPU_CI_REQUIREMENTS"] = name
    done = tree.run(tree.root / "start.py", cwd=tmp_path)
    assert done.returncode == 76
    assert f"GPU_CI_REQUIREMENTS is {name}, and there is no such file" in done.stderr
    assert tree.log == []


def test_what_sets_uv_up_takes_no_further_packages(tree: Tree) -> None:
    """It runs on the rented machine, and knows no providers."""
    tree.has_uv()
    shutil.copy(tree.root / "start.py", tree.root / "setup_uv.py")
    tree.env["GPU_CI_REQUIREMENTS"] = "absent.txt"
    tree.report(tree.root / "setup_uv.py")
    assert [line for line in tree.log if line.startswith("pip")] == []


def test_a_gate_needs_no_packages_of_a_provider(tree: Tree) -> None:
    """It hands the provider's name on, and asks no cloud."""
    tree.has_uv()
    shutil.copy(tree.root / "start.py", tree.root / "gate.py")
    tree.env |= {"INPUT_PROVIDER": "ec2", "INPUT_PROFILE": "a100"}
    tree.report(tree.root / "gate.py")
    assert [line for line in tree.log if line.startswith("sync") and "--extra" in line] == []
    assert [line for line in tree.log if line.startswith("sync")] != []


def test_each_set_of_packages_has_its_own_environment(tree: Tree) -> None:
    """Steps for two providers do not undo each other's environment."""
    tree.has_uv()
    bare = tree.report("start")
    aws = tree.report("start", "--provider", "ec2")
    assert bare["executable"] != aws["executable"]
    assert tree.report("start")["executable"] == bare["executable"]
    assert tree.log.count("--version") == 2


# --- which uv ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", ["uv 0.9.0", "uv 0.12.5 (x86_64)", "uv 0.10.11", "uv 1.0.0-rc1"]
)
def test_a_recent_uv_on_path_is_used(tree: Tree, version: str) -> None:
    """Nothing is downloaded where a uv that can read the lock is there."""
    answer = f"#!/bin/sh\n[ $1 = --version ] && echo '{version}' && exit\n"
    tree.program("uv", answer.encode() + FAKE_UV.removeprefix(b"#!/bin/sh\n"))
    tree.report("start")
    assert tree.downloads.asked == []


@pytest.mark.parametrize("answer", ["echo uv 0.8.24", "echo uv 0.1", "echo hello", "exit 127"])
def test_an_unusable_uv_on_path_is_passed_over(tree: Tree, answer: str) -> None:
    """A uv that is too old or broken is ignored, and the pinned one fetched."""
    tree.program("uv", f"#!/bin/sh\n{answer}\n")
    tree.has("curl", "unzip")
    tree.report("start")
    assert len(tree.downloads.asked) == 1
    assert (tree.kept / "uv-0.12.5").read_bytes() == FAKE_UV


def test_gpu_ci_uv_comes_first(tree: Tree) -> None:
    """GPU_CI_UV is used before PATH; one that is none is refused with the cure."""
    tree.program("uv", "#!/bin/sh\nexit 1\n")
    tree.env["GPU_CI_UV"] = str(tree.program("mirrored-uv", FAKE_UV))
    tree.report("start")
    tree.env["GPU_CI_UV"] = "/nowhere/uv"
    done = tree.run("demo")
    assert done.returncode == 70
    assert "GPU_CI_UV is /nowhere/uv" in done.stderr
    assert tree.downloads.asked == []


def test_gpu_ci_python_chooses_the_version(tree: Tree) -> None:
    """A version that is asked for is the only one looked for, and has an environment of its own."""
    tree.has_uv()
    tree.env["GPU_CI_PYTHON"] = "3.12"
    tree.report("start")
    looked_for = [line.split()[-1] for line in tree.log if line.startswith("python find")]
    assert looked_for == ["3.12"]
    del tree.env["GPU_CI_PYTHON"]
    tree.report("start")
    assert len(stamps(tree)) == 2


def test_a_fetched_uv_is_kept(tree: Tree) -> None:
    """A second environment needs no second download; a broken kept uv is fetched again."""
    tree.has("curl", "unzip")
    tree.report("start")
    tree.report("demo")
    assert len(tree.downloads.asked) == 1
    (tree.kept / "uv-0.12.5").write_text("cut")
    tree.report("start", "--provider=ec2")
    assert len(tree.downloads.asked) == 2


@pytest.mark.parametrize(
    "tools",
    [
        ["curl", "unzip"],
        ["curl", "python3"],
        ["wget", "unzip"],
        ["wget", "python3"],
        ["python3"],
    ],
    ids=" ".join,
)
def test_any_of_curl_wget_and_python3_will_do(tree: Tree, tools: list[str]) -> None:
    """Whatever the machine has downloads and unpacks uv."""
    for tool in tools:
        tree.program("python3", f'#!/bin/sh\nexec {PYTHON} "$@"\n') if tool == "python3" else (
            tree.has(tool)
        )
    tree.report("start")
    assert len(tree.downloads.asked) == 1


def test_without_any_downloader_the_cure_is_said(tree: Tree) -> None:
    """No curl, wget or python3: exit code 70, and their names."""
    done = tree.run("start")
    assert done.returncode == 70
    assert "none of curl, wget and python3" in done.stderr


def test_without_anything_that_unpacks_the_cure_is_said(tree: Tree) -> None:
    """No unzip or python3: exit code 70 and their names, before anything is downloaded."""
    tree.has("curl")
    done = tree.run("start")
    assert done.returncode == 70
    assert "neither unzip nor python3" in done.stderr
    assert tree.downloads.asked == []


@pytest.mark.parametrize(
    ("machine", "libc", "wheel_tag"),
    [
        ("x86_64", "gnu", "manylinux_2_17_x86_64."),
        ("x86_64", "musl", "musllinux_1_1_x86_64.whl"),
        ("aarch64", "gnu", "manylinux_2_17_aarch64."),
        ("aarch64", "musl", "musllinux_1_1_aarch64.whl"),
    ],
)
def test_the_machines_own_uv_is_fetched(
    tree: Tree, tmp_path: Path, machine: str, libc: str, wheel_tag: str
) -> None:
    """Architecture and C library choose the wheel in the real lock."""
    (tree.bin / "uname").unlink()
    tree.program("uname", f"#!/bin/sh\ncase $1 in -m) echo {machine} ;; *) echo Linux ;; esac\n")
    if libc == "musl":
        (tmp_path / f"ld-musl-{machine}.so.1").touch()
    tree.has("curl", "unzip")
    tree.report("start")
    [asked] = tree.downloads.asked
    assert wheel_tag in asked


def test_an_unknown_machine_is_told_to_bring_uv(tree: Tree) -> None:
    """There is no pinned uv for every architecture: said so, not tried."""
    (tree.bin / "uname").unlink()
    tree.program("uname", "#!/bin/sh\necho riscv64\n")
    done = tree.run("start")
    assert done.returncode == 70
    assert "riscv64" in done.stderr


@pytest.mark.parametrize("how", ["cut", "forged"])
def test_a_cut_or_forged_download_is_refused(tree: Tree, how: str) -> None:
    """What has not the checksum of uv.lock is never run, however often it comes."""
    tree.has("curl", "unzip")
    tree.downloads.cut = how == "cut"
    tree.downloads.wheel = wheel() + b"forged" * (how == "forged")
    done = tree.run("start")
    # A cut one is noticed by the tool already.
    assert done.returncode == {"cut": 72, "forged": 73}[how]
    assert (f"What came from {tree.downloads.url}/" in done.stderr) == (how == "forged")
    assert tree.log == []
    tree.downloads.cut, tree.downloads.wheel = False, wheel()
    tree.report("start")


def test_no_network_ends_soon_with_the_reason(tree: Tree) -> None:
    """It is tried twice and no more; the message has the tool's own words."""
    tree.has("curl", "unzip")
    tree.downloads.wheel = None
    done = tree.run("start")
    assert done.returncode == 72
    assert "404" in done.stderr
    assert len(tree.downloads.asked) == 2
    assert list(tree.kept.iterdir()) == []


# --- where it is kept -------------------------------------------------------------------------


def unusable(folder: Path, how: str) -> None:
    """Make `folder/gpu-ci` one that must not be used."""
    folder.mkdir()
    kept = folder / "gpu-ci"
    match how:
        case "symlink":
            kept.symlink_to(folder)
        case "file":
            kept.touch()
        case "writable by others":
            kept.mkdir()
            kept.chmod(0o777)
        case "writable by the group":
            kept.mkdir()
            kept.chmod(0o770)
        case "parent writable by others":
            folder.chmod(0o777)
        case _:
            kept.mkdir()
            os.chown(kept, 65534, 65534)


@pytest.mark.parametrize(
    "how",
    [
        "symlink",
        "file",
        "writable by others",
        "writable by the group",
        "parent writable by others",
        pytest.param(
            "another owner",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away"),
        ),
    ],
)
def test_a_folder_that_another_user_can_write_is_not_used(
    tree: Tree, tmp_path: Path, how: str
) -> None:
    """Code is not run from a folder in which others could put it: the next one is taken."""
    tree.has_uv()
    unusable(tmp_path / "tools", how)
    tree.env["RUNNER_TOOL_CACHE"] = str(tmp_path / "tools")
    assert str(tree.report("start")["executable"]).startswith(str(tree.kept))


def test_the_first_writable_folder_is_used(tree: Tree, tmp_path: Path) -> None:
    """Tool cache, cache of the user, the job's folder, temporary folder (pain 34: HOME is wrong)."""
    tree.has_uv()
    for name in ("tools", "xdg", "job", "tmp"):
        (tmp_path / name).mkdir()
    tree.env["TMPDIR"] = str(tmp_path / "absent")
    tree.env["HOME"] = "/proc"
    uid = os.geteuid()
    assert f"{tmp_path}/tmp/gpu-ci-{uid}/" in str(tree.report("start")["executable"])
    for name, variable in (
        ("job", "RUNNER_TEMP"),
        ("xdg", "XDG_CACHE_HOME"),
        ("tools", "RUNNER_TOOL_CACHE"),
    ):
        tree.env[variable] = str(tmp_path / name)
        assert f"{tmp_path}/{name}/gpu-ci/" in str(tree.report("start")["executable"])


@pytest.mark.parametrize("home", [None, "", "/", "relative", "/proc/none"])
def test_a_missing_or_odd_home_does_not_matter(
    tree: Tree, tmp_path: Path, home: str | None
) -> None:
    """The temporary folder serves where HOME is unset, empty, / or gone (pain 34)."""
    tree.has_uv()
    (tmp_path / "tmp").mkdir()
    del tree.env["HOME"]
    if home is not None:
        tree.env["HOME"] = home
    assert str(tree.report("start")["executable"]).startswith(f"{tmp_path}/tmp/gpu-ci-")


@pytest.mark.parametrize("home", [None, "/", "/proc/none", "/proc"])
def test_the_user_database_knows_the_home(tree: Tree, tmp_path: Path, home: str | None) -> None:
    """HOME is unset or cannot be used: what is kept is kept in the user's own all the same (pain 34)."""
    tree.has_uv()
    (tmp_path / "known").mkdir()
    entry = f"user:x:{os.geteuid()}:0:A User,,,:{tmp_path}/known:/bin/sh"
    tree.program("getent", f'#!/bin/sh\n[ "$*" = "passwd {os.geteuid()}" ] && echo "{entry}"\n')
    del tree.env["HOME"]
    if home is not None:
        tree.env["HOME"] = home
    tree.env["RUNNER_TEMP"] = str(tmp_path)
    assert str(tree.report("start")["executable"]).startswith(f"{tmp_path}/known/.cache/gpu-ci/")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
@pytest.mark.parametrize("variable", ["HOME", "RUNNER_TOOL_CACHE", "XDG_CACHE_HOME", "RUNNER_TEMP"])
def test_root_makes_nothing_in_a_folder_of_another_user(
    tree: Tree, tmp_path: Path, variable: str
) -> None:
    """What root left there would keep that user from using it (pain 41)."""
    tree.has_uv()
    (tmp_path / "tmp").mkdir()
    (theirs := tmp_path / "theirs").mkdir()
    os.chown(theirs, 65534, 65534)
    tree.env |= {"HOME": "/proc", variable: str(theirs)}
    assert str(tree.report("start")["executable"]).startswith(f"{tmp_path}/tmp/gpu-ci-0/")
    assert list(theirs.iterdir()) == []


def test_no_folder_at_all_is_said(tree: Tree) -> None:
    """Exit code 71 and the variable to set."""
    tree.has_uv()
    tree.env["HOME"] = "/proc"
    done = tree.run("start")
    assert done.returncode == 71
    assert "Set XDG_CACHE_HOME" in done.stderr


def test_what_is_kept_is_private_and_the_steps_umask_stays(tree: Tree) -> None:
    """Others cannot write in what is kept, whatever the umask; Python sees the caller's umask."""
    tree.has_uv()
    (tree.root / "start.py").write_text("import os; print(oct(os.umask(0)))")
    command = ["sh", "-c", 'umask 0; exec "$@"', "-", *tree.command(tree.root / "start.py")]
    done = subprocess.run(command, env=tree.env, capture_output=True, text=True, check=True)
    assert done.stdout == "0o0\n"
    modes = {path: path.stat().st_mode & 0o077 for path in tree.kept.rglob("*")}
    assert not {path for path in modes if modes[path] and not path.is_symlink()}


def test_there_is_a_private_folder_for_what_a_provider_keeps(tree: Tree) -> None:
    """Where the provider ec2 looks for it, which makes none by itself."""
    tree.has_uv()
    prefix = Path(str(tree.report("start")["executable"])).parents[1]
    assert (prefix / service_models.FOLDER).stat().st_mode & 0o777 == 0o700


# --- again, at once, half-way -----------------------------------------------------------------


@pytest.mark.parametrize("damage", ["python", "environment", "stamp", "lock", "interpreter"])
def test_what_is_damaged_or_outdated_is_made_again(tree: Tree, damage: str) -> None:
    """A removed Python or environment, a cut stamp, a new lock: set up again, then warm again."""
    tree.has_uv()
    ours = tree.program("own-python", f'#!/bin/sh\nexec {PYTHON} "$@"\n')
    tree.env["FAKE_UV_PYTHON"] = str(ours)
    tree.report("start")
    [stamp] = stamps(tree)
    environment = tree.kept / stamp.read_text().split()[0]
    match damage:
        case "python":
            (environment / "bin/python").unlink()
        case "environment":
            shutil.rmtree(environment)
        case "stamp":
            stamp.write_text("")
        case "lock":
            (tree.root / "uv.lock").write_text(local_lock("http://127.0.0.1:1"))
        case _:
            ours.write_text(f'#!/bin/sh\n# upgraded\nexec {PYTHON} "$@"\n')
    assert tree.log.count("--version") == 1
    tree.report("start")
    tree.report("start")
    assert tree.log.count("--version") == 2


def test_twenty_at_once_share_one_environment(tree: Tree, hold: Hold) -> None:
    """Steps that race all run, and nobody's environment is taken away under them."""
    tree.has_uv()
    racing = [tree.start("start") for _ in range(20)]
    for _ in racing:
        hold.wait()
    hold.release(len(racing))
    answers = [process.communicate() for process in racing]
    assert [process.returncode for process in racing] == [0] * 20, answers
    used = {json.loads(out)["executable"] for out, _ in answers}
    assert {str(each / "bin/python") for each in tree.kept.glob("env.*")} == used
    [stamp] = stamps(tree)
    assert str(tree.kept / stamp.read_text().split()[0] / "bin/python") in used
    assert list(tree.kept.glob("scratch.*")) == []
    asked = len(tree.log)
    tree.report("start")
    assert len(tree.log) == asked


def test_a_killed_setup_is_repaired_by_the_next_call(tree: Tree, hold: Hold) -> None:
    """What a killed call left is not taken for an environment, and goes after a week."""
    tree.has_uv()
    process = tree.start("start")
    hold.wait()
    process.kill()
    process.wait()
    hold.release()
    process.communicate()
    [left] = tree.kept.glob("scratch.*")
    del tree.env["FAKE_UV_HOLD"]
    assert str(left) not in str(tree.report("start")["executable"])
    assert left.exists(), "it may belong to a call that still runs"
    os.utime(left, (0, 0))
    tree.report("demo")
    assert not left.exists()
    assert len(list(tree.kept.glob("env.*"))) == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancel_while_setting_up_ends_uv_too(
    tree: Tree, hold: Hold, number: signal.Signals, code: int
) -> None:
    """The step ends at once with the signal's code; uv is ended and nothing is left behind."""
    tree.has_uv()
    process = tree.start("start")
    uv = os.pidfd_open(hold.wait())
    try:
        process.send_signal(number)
        process.communicate()
        assert process.returncode == code
        assert select.select([uv], [], [], 10)[0], "uv still runs"
    finally:
        os.close(uv)
    assert list(tree.kept.iterdir()) == []


def test_a_failing_uv_is_one_paragraph(tree: Tree) -> None:
    """uv's own words, then ours, exit code 74, and no half environment."""
    failing = FAKE_UV.replace(b"set -eu\n", b"[ $1 != sync ] || { echo 'no wheel' >&2; exit 2; }\n")
    tree.program("uv", failing)
    done = tree.run("start")
    assert done.returncode == 74
    _, theirs, ours = done.stderr.splitlines()
    assert theirs == "no wheel"
    assert ours.startswith("gpu-ci: uv could not set the Python environment up")
    assert list(tree.kept.iterdir()) == []


# --- with the real uv -------------------------------------------------------------------------

OFFLINE_LOCK = """\
version = 1
revision = 3
requires-python = ">=3.11"

[[package]]
name = "offline"
version = "1"
source = { virtual = "." }
"""


def test_the_real_uv_takes_these_options(tree: Tree) -> None:
    """A real environment, without a network: its own site-packages and the machine's Python."""
    uv = Path(sys.executable).with_name("uv")
    tree.env["GPU_CI_UV"] = str(uv if uv.exists() else shutil.which("uv"))
    tree.env["PATH"] = f"{PYTHON.parent}:{tree.bin}"
    (tree.root / "uv.lock").write_text(OFFLINE_LOCK)
    (tree.root / "pyproject.toml").write_text(
        "[project]\nname = 'offline'\nversion = '1'\nrequires-python = '>=3.11'\n"
    )
    seen = tree.report(tree.root / "start.py")
    assert str(seen["executable"]).startswith(f"{tree.kept}/env.")
    assert f"{Path(str(seen['executable'])).parents[1]}/lib" in str(seen["path"])
    done = tree.run(tree.root / "start.py")
    assert (done.returncode, done.stderr) == (0, "")


def a_wheel(folder: Path) -> Path:
    """Make the wheel of a package `acme` with one module."""
    wheel_file = folder / "acme-1-py3-none-any.whl"
    files = {
        "acme.py": "",
        "acme-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme\nVersion: 1\n",
        "acme-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, "acme-1.dist-info/RECORD"))
    with zipfile.ZipFile(wheel_file, "w") as archive:
        for name, content in (files | {"acme-1.dist-info/RECORD": record}).items():
            archive.writestr(name, content)
    return wheel_file


@pytest.mark.parametrize("honest", [True, False])
def test_the_real_uv_honours_hashes_of_further_packages(
    tree: Tree, tmp_path: Path, honest: bool
) -> None:
    """A package is in the environment if it is the one that was pinned, and else there is none."""
    uv = Path(sys.executable).with_name("uv")
    tree.env["GPU_CI_UV"] = str(uv if uv.exists() else shutil.which("uv"))
    tree.env["PATH"] = f"{PYTHON.parent}:{tree.bin}"
    (tree.root / "uv.lock").write_text(OFFLINE_LOCK)
    (tree.root / "pyproject.toml").write_text(
        "[project]\nname = 'offline'\nversion = '1'\nrequires-python = '>=3.11'\n"
    )
    made = a_wheel(tmp_path)
    digest = sha256(made.read_bytes()) if honest else sha256(b"another")
    more = tmp_path / "requirements.txt"
    more.write_text(f"acme @ {made.as_uri()} --hash=sha256:{digest}\n")
    tree.env["GPU_CI_REQUIREMENTS"] = str(more)
    (tree.root / "start.py").write_text("import acme; print(acme.__file__)")
    done = tree.run(tree.root / "start.py")
    if honest:
        assert (done.returncode, done.stdout.startswith(f"{tree.kept}/env.")) == (0, True), done
    else:
        assert done.returncode == 74
        assert "acme" in done.stderr
        assert stamps(tree) == []


# --- check ------------------------------------------------------------------------------------


def checked(tree: Tree, *, lint: int, tests: int, arguments: Sequence[str] = ()) -> list[str]:
    """Run `check` with stand-in tools; what they were asked, and the exit code at the end."""
    (tree.root / "shared/check").write_text((ROOT / "shared/check").read_text())
    tree.has("git")
    said = tree.home / "said"
    tree.program("prek", f'#!/bin/sh\necho "prek $* $(git ls-files)" >>{said}\nexit {lint}\n')
    tree.program("python", f'#!/bin/sh\necho "python $*" >>{said}\nexit {tests}\n')
    tree.env["FAKE_UV_PYTHON"] = str(tree.bin / "python")
    done = tree.run("check", *arguments)
    return [*said.read_text().splitlines(), str(done.returncode)]


@pytest.mark.parametrize(
    ("lint", "tests", "code"), [(0, 0, "0"), (3, 0, "3"), (0, 1, "1"), (3, 1, "1"), (0, 5, "5")]
)
def test_check_runs_lint_and_tests_whatever_either_says(
    tree: Tree, lint: int, tests: int, code: str
) -> None:
    """Both always run, and a failure of either is in the exit code."""
    tree.has_uv()
    (tree.root / ".gitignore").write_text("*\n!start.py\n")
    said = checked(tree, lint=lint, tests=tests, arguments=["-k", "a b"])
    assert said == [
        "prek run --all-files start.py",
        "python -m pytest -n auto --dist worksteal -k a b",
        code,
    ]
    assert not (tree.root / ".git").exists()
    assert "--all-extras --group dev" in tree.log[-1]
