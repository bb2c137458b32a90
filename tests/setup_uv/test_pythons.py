"""The Python that was asked for, by a real uv and downloads from loopback."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uv as uv_package
from tests.processes import processes_with

from gpu_ci.errors import NoPython
from gpu_ci.setup_uv.pythons import chosen, fits, provide
from gpu_ci.setup_uv.run_uv import TOO_LONG, Commands, last_words

if TYPE_CHECKING:
    from collections.abc import Iterator

UV = Path(uv_package.find_uv_bin())
VERSION = platform.python_version()
SERIES = ".".join(VERSION.split(".")[:2])
NAME = f"python{SERIES}"
# What no interpreter needs to start, and to say who it is.
LEFT_OUT = {
    "__pycache__", "asyncio", "curses", "dbm", "distutils", "dist-packages", "ensurepip", "idlelib",
    "lib2to3", "multiprocessing", "pydoc_data", "site-packages", "sqlite3", "test", "tkinter",
    "turtledemo", "unittest", "wsgiref", "xmlrpc",
}  # fmt: skip


class Downloads(http.server.ThreadingHTTPServer):
    """Serves a folder, or nothing but a status, and notes what was asked for."""

    def __init__(self, folder: Path, status: int = 0) -> None:
        self.asked: list[str] = []
        self.status = status
        super().__init__(("127.0.0.1", 0), functools.partial(Answering, directory=str(folder)))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(http.server.SimpleHTTPRequestHandler):
    server: Downloads

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.status:
            self.send_error(self.server.status)
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with this very interpreter, packed as uv downloads them, and its checksum."""
    folder = tmp_path_factory.mktemp("downloads")
    with tarfile.open(folder / "cpython.tar.gz", "w:gz", compresslevel=1) as tar:
        tar.add(Path(sys._base_executable).resolve(), f"python/bin/{NAME}")  # type: ignore[attr-defined]  # no other name is documented
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"python/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, NAME
            tar.addfile(link)
        tar.add(_stdlib(), f"python/lib/{NAME}", filter=_needed)
    digest = hashlib.sha256((folder / "cpython.tar.gz").read_bytes()).hexdigest()
    (folder / "sha256").write_text(digest)
    return folder


def _stdlib() -> Path:
    base = {"installed_base": sys.base_prefix, "base": sys.base_prefix}
    return Path(sysconfig.get_path("stdlib", vars=base))


def _needed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = member.name.split("/")
    left_out = LEFT_OUT & {*parts} or any(part.startswith("config-") for part in parts)
    leads_out = member.issym() and member.linkname.startswith("/")  # Debian's, and uv refuses it
    return None if left_out or leads_out else member


@pytest.fixture
def downloads(standalone: Path, tmp_path: Path) -> Iterator[Downloads]:
    """Serve it on loopback."""
    server = Downloads(standalone)
    yield from serving(server)


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Downloads]:
    """Serve errors that may pass, as a network does that is not there."""
    yield from serving(Downloads(tmp_path, status=503))


def serving(server: Downloads) -> Iterator[Downloads]:
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def listing(server: Downloads, folder: Path, to: Path) -> Path:
    """Write what uv can download, as UV_PYTHON_DOWNLOADS_JSON_URL takes it."""
    machine = platform.machine()
    major, minor, patch = map(int, VERSION.split("+")[0].split("."))
    entry = {
        "name": "cpython", "arch": {"family": machine, "variant": None}, "os": "linux",
        "libc": "gnu", "major": major, "minor": minor, "patch": patch, "prerelease": "",
        "url": f"{server.url}/cpython.tar.gz", "sha256": (folder / "sha256").read_text(),
        "variant": None, "build": "20260101",
    }  # fmt: skip
    to.write_text(json.dumps({f"cpython-{VERSION}-linux-{machine}-gnu": entry}))
    return to


def commands(folder: Path, **variables: str) -> Commands:
    """Return uv on a machine with nothing of its own, and no Python but what `PATH` has."""
    env = {
        "HOME": str(folder),
        "PATH": "/nowhere",
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_INSTALL_DIR": str(folder / "pythons"),
        **variables,
    }
    return Commands(path=UV, env=env, folder=folder)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a PATH's folder with this interpreter, the machine's own."""
    folder = tmp_path / "usr-bin"
    folder.mkdir()
    (folder / NAME).symlink_to(Path(sys._base_executable).resolve())  # type: ignore[attr-defined]  # see above
    return folder


def test_uvs_own_python_is_installed_once_and_kept(
    tmp_path: Path, downloads: Downloads, standalone: Path
) -> None:
    """The first job downloads it, with its checksum; the second finds it, and asks nobody."""
    said: list[str] = []
    table = listing(downloads, standalone, tmp_path / "list.json")
    uv = commands(tmp_path, UV_PYTHON_DOWNLOADS_JSON_URL=str(table))
    first = provide(SERIES, uv, said.append)
    second = provide(SERIES, uv, said.append)
    assert (first.version, first.why) == (VERSION, "installed by uv")
    assert (second.path, second.why) == (first.path, "kept by uv")
    assert Path(first.path).is_relative_to(tmp_path / "pythons")
    assert downloads.asked == ["/cpython.tar.gz"]
    answer = subprocess.run([first.path, "-c", "print(1)"], capture_output=True, check=True)
    assert answer.stdout == b"1\n"
    assert said == []


def test_a_download_with_a_wrong_checksum_is_not_used(
    tmp_path: Path, downloads: Downloads, standalone: Path
) -> None:
    """An interpreter is run by all later steps: one that was changed on its way is refused."""
    table = listing(downloads, standalone, tmp_path / "list.json")
    table.write_text(table.read_text().replace((standalone / "sha256").read_text(), "0" * 64))
    uv = commands(tmp_path, UV_PYTHON_DOWNLOADS_JSON_URL=str(table), UV_HTTP_RETRIES="0")
    with pytest.raises(NoPython, match=r"(?i)hash mismatch"):
        provide(SERIES, uv, print)
    assert not [*(tmp_path / "pythons").glob("cpython-*")]


def test_the_machines_own_is_used_at_once_where_there_is_no_network(
    tmp_path: Path, refusing: Downloads, here: Path
) -> None:
    """uv's own is tried once, not for ten seconds, when one that will do is here (pain 40)."""
    said: list[str] = []
    uv = commands(tmp_path, PATH=str(here), UV_PYTHON_INSTALL_MIRROR=refusing.url)
    found = provide(SERIES, uv, said.append)
    assert (found.version, found.why) == (VERSION, "the machine's own")
    assert len(refusing.asked) == 1
    assert f"uv has not installed Python {SERIES}" in said[0]
    assert "the machine's own is used" in said[0]


def test_without_one_here_the_download_is_tried_again(tmp_path: Path, refusing: Downloads) -> None:
    """A passing error alone is no reason to fail, and in the end there is one clear sentence."""
    uv = commands(tmp_path, UV_PYTHON_INSTALL_MIRROR=refusing.url, UV_HTTP_RETRIES="1")
    with pytest.raises(NoPython, match=f"Python {SERIES} is not on this machine") as caught:
        provide(SERIES, uv, print)
    assert len(refusing.asked) == 2
    assert "UV_PYTHON_INSTALL_MIRROR" in caught.value.cure
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "preference", [{"UV_PYTHON_PREFERENCE": "only-system"}, {"UV_NO_MANAGED_PYTHON": "1"}]
)
def test_a_job_that_prefers_the_machines_own_gets_it(
    tmp_path: Path, refusing: Downloads, here: Path, preference: dict[str, str]
) -> None:
    """Then nothing is downloaded."""
    mirror = refusing.url
    uv = commands(tmp_path, PATH=str(here), UV_PYTHON_INSTALL_MIRROR=mirror, **preference)
    assert provide(SERIES, uv, print).why == "the machine's own"
    assert refusing.asked == []


def test_a_preference_for_uvs_own_is_no_error(
    tmp_path: Path, downloads: Downloads, standalone: Path
) -> None:
    """uv refuses its options beside UV_MANAGED_PYTHON; the variable is taken out of their way."""
    table = listing(downloads, standalone, tmp_path / "list.json")
    uv = commands(tmp_path, UV_PYTHON_DOWNLOADS_JSON_URL=str(table), UV_MANAGED_PYTHON="1")
    assert provide(SERIES, uv, print).why == "installed by uv"


def test_a_path_is_taken_as_it_is(tmp_path: Path, here: Path) -> None:
    """uv takes one too; it is the machine's, even where uv's own are preferred."""
    found = provide(str(here / NAME), commands(tmp_path), print)
    assert (found.version, found.why) == (VERSION, "the machine's own")


def test_the_input_is_no_option(tmp_path: Path) -> None:
    """What the user wrote is data, even if it looks like an option of uv."""
    with pytest.raises(NoPython, match=r"Python --help is not on this machine"):
        provide("--help", commands(tmp_path), print)


def test_without_a_version_uv_chooses_by_the_project(tmp_path: Path, here: Path) -> None:
    """What it takes is told, and nothing is downloaded for it."""
    uv = commands(tmp_path, PATH=str(here), UV_PYTHON_PREFERENCE="only-system")
    found = chosen(uv, None)
    assert found is not None
    assert found.version == VERSION
    (tmp_path / ".python-version").write_text("3.99\n")
    assert chosen(uv, None) is None


def test_uv_says_whether_an_environment_fits(tmp_path: Path, here: Path) -> None:
    """By uv's own reading of a version: a series, a range, a full one."""
    uv = commands(tmp_path, PATH=str(here), UV_PYTHON_PREFERENCE="only-system")
    subprocess.run([UV, "venv", "-q", "env"], env=uv.env, cwd=tmp_path, check=True)
    asked = (SERIES, VERSION, f">={SERIES}", "3.99", "<3.9")
    assert [fits(each, tmp_path / "env", uv) for each in asked] == [True, True, True, False, False]


def test_an_environment_fits_the_path_that_it_was_made_of(tmp_path: Path, here: Path) -> None:
    """`python find` gives such a path back; the Python behind both is the same one, or is not."""
    uv = commands(tmp_path, PATH=str(here), UV_PYTHON_PREFERENCE="only-system")
    subprocess.run([UV, "venv", "-q", "env"], env=uv.env, cwd=tmp_path, check=True)
    assert fits(str(here / NAME), tmp_path / "env", uv)
    assert fits(f"usr-bin/{NAME}", tmp_path / "env", uv)
    assert not fits("/nowhere/python3", tmp_path / "env", uv)


def test_a_failure_of_uv_is_not_taken_for_no_python(tmp_path: Path) -> None:
    """Each later uv would meet it too, such as a version of uv that the project refuses."""
    (tmp_path / "uv.toml").write_text('required-version = "==0.0.1"\n')
    with pytest.raises(NoPython, match=r"uv cannot say which Python .*==0\.0\.1"):
        chosen(commands(tmp_path), None)


def test_an_older_uv_is_not_asked_for_what_it_does_not_know(tmp_path: Path, here: Path) -> None:
    """`--no-bin` came with 0.8."""
    told = "echo \"error: unexpected argument '--no-bin' found\" >&2; exit 2"
    find = f"[ -e installed ] && echo {here / NAME} || exit 2"
    path = script(
        tmp_path,
        f'case "$2 $*" in find*) {find} ;; *--no-bin*) {told} ;; *) touch installed ;; esac',
    )
    uv = Commands(path=path, env={**os.environ}, folder=tmp_path)
    assert provide(SERIES, uv, print).why == "installed by uv"


def script(folder: Path, text: str) -> Path:
    path = folder / "uv"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_uv_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """No step hangs for hours (pain 37), and no process is left."""
    path = script(tmp_path, "sleep 600 & sleep 600")
    uv = Commands(path=path, env={**os.environ, "HANGS_IN": str(tmp_path)}, folder=tmp_path)
    done = uv.run("python", "list", seconds=0.2)
    assert done.returncode == TOO_LONG
    assert last_words(done) == "it took longer than 0 s"
    assert soon_gone(f"HANGS_IN={tmp_path}") == []


def soon_gone(text: str) -> list[str]:
    """Return the processes that are left a moment after they were ended."""
    for _ in range(100):
        if not (left := processes_with(text)):
            return []
        time.sleep(0.01)
    return left


def test_no_password_of_an_address_is_told() -> None:
    """A mirror's address may hold one."""
    done = subprocess.CompletedProcess(
        [], 2, "", "error: no answer\n from https://me:pw@host/a.gz."
    )
    assert last_words(done) == "no answer from https://host/a.gz"


def test_a_python_that_cannot_be_started_is_one_sentence(tmp_path: Path) -> None:
    """What uv names may be there and be for another machine."""
    program = tmp_path / "python"
    program.write_bytes(b"not for this machine")
    program.chmod(0o755)
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho {program}\n")
    uv.chmod(0o755)
    commands_of = Commands(path=uv, env={}, folder=tmp_path)
    with pytest.raises(NoPython, match="does not say which Python it is"):
        chosen(commands_of, None)
