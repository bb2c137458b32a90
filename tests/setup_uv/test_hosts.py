"""Row 1.17 and pains 34 to 36, 40 and 41: the step as other users' on machines of all kinds."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.setup_uv.hosts import (
    MOUNT,
    NOBODY,
    NOBODY_KNOWS,
    SETPRIV,
    UNSHARE,
    UV_VERSION,
    WHERE,
    Done,
    Host,
    Machine,
    ended,
)
from tests.setup_uv.index import TARGET, Index, index, tarball

from gpu_ci.errors import NoFolder, NotVerified
from gpu_ci.setup_uv.host import find_libc

if TYPE_CHECKING:
    from collections.abc import Iterator


def cannot() -> str:
    """Say why hosts cannot be made here, "" if they can."""
    if os.geteuid() != 0:
        return "only root can become other users"
    if not (SETPRIV and UNSHARE and MOUNT):
        return "setpriv, unshare or mount is not here"
    command = [UNSHARE, "--mount", "--net", MOUNT, "--bind", "/var/tmp", "/var/tmp"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if why := cannot():
        pytest.skip(why)
    # Not in pytest's own folder, which is for root alone.
    with tempfile.TemporaryDirectory(prefix="gpu-ci-hosts-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        made = Machine.prepare(folder)
        if isinstance(made, str):
            pytest.skip(made)
        yield made


@pytest.fixture
def host(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Host]:
    made = machine.host(getattr(request, "param", NOBODY_KNOWS))
    yield made
    shutil.rmtree(made.folder)


def works(host: Host, **inputs: str) -> Done:
    """Run the step, and uv with what it left; nothing is written but where the summary says."""
    before = host.listing()
    done = host.step(**inputs)
    assert (done.exit_code, done.errors) == (0, []), done.log
    python_runs(host, done)
    named = folders_in(host, done.summary)
    strange = {
        path
        for path in host.listing() - before
        if not any(path.is_relative_to(each) or each.is_relative_to(path) for each in named)
    }
    assert not strange, done.summary
    return done


def folders_in(host: Host, summary: str) -> list[Path]:
    """Return the folders that a summary names, as they are called from outside."""
    [line] = [line for line in summary.splitlines() if line.startswith("Written to: ")]
    named = line.removeprefix("Written to: ").removesuffix(".").split(", ")
    own = (
        re.sub("^/tmp/gpu-ci-uv-", f"{host.folder}/slash-tmp/gpu-ci-uv-", each) for each in named
    )
    return [Path(re.sub("^/var/tmp/", f"{host.folder}/var-tmp/", each)) for each in own]


def python_runs(host: Host, done: Done) -> None:
    ran = host.later(done, "uv", "run", "--no-project", "python", "-c", WHERE)
    assert ran.stdout.startswith(f"{host.uid} True"), ran.stderr + done.log
    assert "warning" not in ran.stderr
    found = host.later(done, "sh", "-c", "command -v uv").stdout.strip()
    assert Path(found).resolve() == Path(done.outputs["uv-path"]).resolve()


# --- homes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "home"),
    [
        *((NOBODY_KNOWS, home) for home in (None, "/root", "/", "", "/root/x", "relative")),
        *((NOBODY, home) for home in (None, "/root")),
    ],
    indirect=["host"],
)
def test_without_a_home_all_is_in_the_tool_cache(host: Host, home: str | None) -> None:
    """No HOME, or one that is not the user's: uv works from the runner's tool cache (pain 34)."""
    del host.env["HOME"]
    if home is not None:
        host.env["HOME"] = home
    host.keeps()
    host.has_python()
    done = works(host)
    below = f"{host.folder}/tools/gpu-ci-uv-{host.uid}/"
    assert done.outputs["cache-dir"].startswith(below)
    assert done.variables["UV_PYTHON_INSTALL_DIR"].startswith(below)


@pytest.mark.parametrize("home", [None, "/root", "/"])
def test_home_is_taken_from_the_user_database(host: Host, home: str | None) -> None:
    """HOME is unset or root's: later steps get the user's own (pain 34, row 1.17)."""
    own = host.own(host.folder / "home")
    host.knows(own)
    del host.env["HOME"]
    if home is not None:
        host.env["HOME"] = home
    host.keeps()
    host.has_python()
    done = works(host)
    assert done.variables["HOME"] == str(own)
    assert done.outputs["cache-dir"] == f"{own}/.cache/uv"
    assert f"HOME is {home or 'unset'}" in done.log


def test_a_home_is_used_though_no_database_knows_the_user(host: Host) -> None:
    """A container's user without an entry has its HOME all the same, and keeps it (row 1.17)."""
    host.keeps()
    host.has_python()
    done = works(host)
    assert "HOME" not in done.variables
    assert done.outputs["cache-dir"] == f"{host.folder}/home/.cache/uv"
    again = works(host)
    assert f"uv {UV_VERSION} new in" in done.summary
    assert f"uv {UV_VERSION} kept in" in again.summary
    assert again.outputs["uv-path"] == done.outputs["uv-path"]


def test_without_home_and_tool_cache_the_databases_home_has_all(host: Host) -> None:
    """HOME is root's and the tool cache too: the second job finds all in the user's own (row 1.17)."""
    own = host.own(host.folder / "home")
    host.knows(own)
    host.own(host.folder / "tools", uid=0)
    host.env["HOME"] = "/root"
    host.keeps(own / ".cache")
    host.has_python()
    assert works(host).outputs["cache-dir"] == f"{own}/.cache/uv"
    assert f"uv {UV_VERSION} kept in" in works(host).summary


@pytest.mark.parametrize("host", [0], indirect=True)
def test_root_leaves_nothing_in_the_home_of_another(host: Host) -> None:
    """HOME is still the runner's after `sudo -E`: root's own is used, not that one (pain 41)."""
    home = host.own(host.folder / "home", uid=NOBODY_KNOWS)
    host.knows(home, uid=NOBODY_KNOWS)
    roots = host.own(host.folder / "root")
    host.knows(roots)
    host.keeps(host.folder / "tools")
    host.has_python()
    done = host.step()
    assert done.exit_code == 0, done.log
    assert done.variables.get("HOME") == str(roots), done.summary
    python_runs(host, done)
    assert list(home.iterdir()) == []


# --- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tools", ["read-only", "unset", "absent"])
def test_without_home_and_tool_cache_there_is_a_folder_of_the_users_own(
    host: Host, tools: str
) -> None:
    """RUNNER_TOOL_CACHE is read-only, unset or not there: /var/tmp has what stays (pain 34)."""
    del host.env["HOME"]
    match tools:
        case "read-only":
            (host.folder / "tools").chmod(0o555)
        case "unset":
            del host.env["RUNNER_TOOL_CACHE"]
        case _:
            host.env["RUNNER_TOOL_CACHE"] = "/proc/tools"
    host.keeps(host.folder / "temp")
    host.has_python()
    done = works(host)
    assert done.outputs["cache-dir"] == f"/var/tmp/gpu-ci-uv-{host.uid}/cache"


def test_another_users_folder_in_var_tmp_is_not_used(host: Host) -> None:
    """Whoever was first there could give us programs: /tmp is taken (pain 35)."""
    del host.env["HOME"], host.env["RUNNER_TOOL_CACHE"]
    host.own(host.folder / f"var-tmp/gpu-ci-uv-{host.uid}", uid=NOBODY).chmod(0o777)
    (host.folder / "var-tmp").chmod(0o1777)
    os.chown(host.folder / "var-tmp", 0, 0)
    host.keeps(host.folder / "temp")
    host.has_python()
    done = works(host)
    assert done.outputs["cache-dir"] == f"/tmp/gpu-ci-uv-{host.uid}/cache"
    assert f"is in /var/tmp/gpu-ci-uv-{host.uid}, another user's" in done.log


@pytest.mark.parametrize("mode", [0o755, 0o777])
@pytest.mark.parametrize("variable", ["UV_CACHE_DIR", "XDG_CACHE_HOME"])
def test_a_cache_of_another_user_is_left_alone(host: Host, mode: int, variable: str) -> None:
    """Its files could neither be linked nor trusted: the user's own is used, and why is said (pain 35)."""
    theirs = host.own(host.folder / "cache/uv", uid=NOBODY)
    host.own(theirs / "wheels-v5", uid=NOBODY).chmod(mode)
    theirs.chmod(mode)
    host.env[variable] = str(theirs if variable == "UV_CACHE_DIR" else theirs.parent)
    host.keeps()
    host.has_python()
    done = works(host)
    assert done.outputs["cache-dir"] == f"{host.folder}/home/.cache/uv"
    assert str(theirs) in done.log


@pytest.mark.parametrize("what", ["read-only bucket", "root's bucket", "root's lock"])
def test_a_cache_with_a_part_that_cannot_be_written_is_passed_over(host: Host, what: str) -> None:
    """`sudo uv` was here once: each bucket and the lock are tried, not the folder alone (pain 35)."""
    cache = host.own(host.folder / "home/.cache/uv")
    host.own(cache / "simple-v16")
    match what:
        case "read-only bucket":
            (cache / "simple-v16").chmod(0o555)
        case "root's bucket":
            host.own(cache / "archive-v0", uid=0).chmod(0o777)
        case _:
            (cache / ".lock").touch(mode=0o644)
    host.keeps()
    host.has_python()
    done = works(host)
    assert done.outputs["cache-dir"] == f"{host.folder}/tools/gpu-ci-uv-{host.uid}/cache"
    assert str(cache) in done.log


def test_a_disk_for_caches_that_is_roots_gets_a_folder_for_each_user(host: Host) -> None:
    """A volume's uppermost folder is often root's and open to all: the cache is below it (pain 35)."""
    disk = host.own(host.folder / "disk", uid=0)
    disk.chmod(0o1777)
    host.keeps()
    host.has_python()
    done = works(host, cache_local_path=str(disk))
    assert done.outputs["cache-dir"] == f"{disk}/gpu-ci-uv-{host.uid}"


def test_without_a_cache_that_stays_all_of_it_is_the_jobs(host: Host) -> None:
    """enable-cache: false leaves nothing behind that would grow (pain 38)."""
    host.keeps()
    host.has_python()
    done = works(host, enable_cache="false")
    assert done.outputs["cache-dir"] == f"{host.folder}/temp/gpu-ci-uv/cache"
    assert works(host, enable_cache="false").outputs["cache-hit"] == "false"


def test_a_workspace_of_another_user_is_no_hindrance(host: Host) -> None:
    """A checkout that root left is not written in (pain 41)."""
    work = host.own(host.folder / "work", uid=0)
    (work / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n")
    host.keeps()
    host.has_python()
    works(host)


# --- disks --------------------------------------------------------------------------------------


def a_wheel(folder: Path) -> Path:
    """Return a wheel with one file in it."""
    wheel = folder / "one-1-py3-none-any.whl"
    info = {"METADATA": "Metadata-Version: 2.1\nName: one\nVersion: 1\n"}
    info["WHEEL"] = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info["RECORD"] = "".join(f"one-1.dist-info/{name},,\n" for name in (*info, "RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("one.py", "")
        for name, text in info.items():
            archive.writestr(f"one-1.dist-info/{name}", text)
    return wheel


@pytest.fixture
def elsewhere(host: Host, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder from which nothing can be linked into the workspace."""
    if request.param == "mount":
        behind = host.own(host.folder / "behind")
        folder = host.own(host.folder / "mounted")
        host.mounts.append(f"{MOUNT} --bind {behind} {folder}")
        yield folder
        return
    shared = Path("/dev/shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < 70_000_000:
        pytest.skip("there is no second file system with room here")
    with tempfile.TemporaryDirectory(dir=shared) as name:
        yield host.own(Path(name))


@pytest.mark.parametrize("elsewhere", ["file system", "mount"], indirect=True)
def test_from_another_disk_uv_copies_without_a_word(host: Host, elsewhere: Path) -> None:
    """Links between disks fail: UV_LINK_MODE is copy then, and uv does not warn (pain 36)."""
    host.keeps()
    host.has_python()
    done = works_elsewhere(host, elsewhere)
    assert done.variables["UV_LINK_MODE"] == "copy"
    install = ("uv", "pip", "install", "--offline", "--reinstall", a_wheel(host.folder))
    assert host.later(done, "uv", "venv", "-q").returncode == 0
    quiet = host.later(done, *install)
    assert (quiet.returncode, "warning" in quiet.stderr) == (0, False), quiet.stderr
    loud = host.later(done, "env", "-u", "UV_LINK_MODE", *install)
    assert "warning: Failed to hardlink" in loud.stderr


def works_elsewhere(host: Host, cache: Path) -> Done:
    done = host.step(cache_local_path=str(cache))
    assert done.outputs["cache-dir"] == str(cache), done.log
    python_runs(host, done)
    return done


def test_on_one_disk_uv_links(host: Host) -> None:
    """UV_LINK_MODE is left alone where links will do."""
    host.keeps()
    host.has_python()
    assert "UV_LINK_MODE" not in works(host).variables


def full(host: Host, *folders: Path, mode: int = 0o700) -> None:
    """Put a full disk where each of these folders is."""
    options = f"size=1m,nr_inodes=1,mode={mode:o},uid={host.uid},gid={host.uid}"
    host.mounts += [f"{MOUNT} -t tmpfs -o {options} none {each}" for each in folders]


def test_a_full_disk_is_passed_over(host: Host) -> None:
    """The home has no room: the tool cache has, and why is said."""
    full(host, host.folder / "home")
    host.keeps()
    host.has_python()
    done = works(host)
    assert done.outputs["cache-dir"] == f"{host.folder}/tools/gpu-ci-uv-{host.uid}/cache"
    assert "has no room" in done.log


def test_full_disks_everywhere_are_one_sentence(host: Host) -> None:
    """Nothing has room: one error that names each folder, what is wrong with it, and the cure."""
    host.keeps()
    places = [host.folder / name for name in ("home", "tools", "temp")]
    host.fills_tmp()
    full(host, *places)
    full(host, Path("/var/tmp"), mode=0o1777)
    done = host.step()
    assert (done.exit_code, len(done.errors)) == (62, 1), done.log
    assert not [
        place for place in (*places, "/var/tmp", "/tmp") if f"{place}/" not in done.errors[0]
    ]
    assert "has no room" in done.errors[0]
    assert "Make room" in done.errors[0]


# --- what else is on the machine ----------------------------------------------------------------


def test_condas_older_uv_is_named_and_outranked(host: Host) -> None:
    """A uv before ours on PATH that will not do: said, and later steps get ours (pain 40)."""
    conda = host.has_conda("0.9.3")
    host.keeps()
    done = works(host)
    assert f"{conda}/bin" in done.log
    assert "0.9.3" in done.log
    assert not done.outputs["uv-path"].startswith(str(conda))


def test_condas_newer_uv_is_used_and_nothing_else_of_conda(host: Host) -> None:
    """A uv that will do is used where it is; what goes before PATH has no Python in it."""
    conda = host.has_conda(uv=host.machine.uv)
    host.keeps()
    done = works(host, version=f">={UV_VERSION}")
    assert done.outputs["uv-path"] == f"{conda}/bin/uv"
    first = {each.name for folder in done.path for each in Path(folder).iterdir()}
    assert first <= {"uv", "uvx"}


def foreign(host: Host) -> dict[str, str]:
    return {
        "CONDA_PREFIX": str(host.folder / "conda"),
        "VIRTUAL_ENV": "/gone/venv",
        "PYTHONPATH": str(host.own(host.folder / "modules")),
        "PYTHONHOME": "/gone/python",
    }


def test_what_the_machine_set_does_not_mislead_uv(host: Host) -> None:
    """A foreign VIRTUAL_ENV, CONDA_PREFIX, PYTHONPATH and a broken PYTHONHOME are emptied (pain 40)."""
    host.env |= (told := foreign(host))
    (host.folder / "modules/json.py").write_text("raise SystemExit('of the machine')")
    host.keeps()
    host.has_python()
    done = works(host)
    assert {name: done.variables.get(name) for name in told} == dict.fromkeys(told, "")
    assert not [value for value in told.values() if value not in done.summary]
    ran = host.later(done, "uv", "run", "--no-project", "python", "-c", "import json; print(1)")
    assert (ran.stdout, ran.stderr) == ("1\n", "")


def test_what_the_workflow_set_stays(host: Host) -> None:
    """The same variables are left alone where the workflow's own `env` has them."""
    told = foreign(host)
    host.env |= told | {f"GPU_CI_ENV_{name}": value for name, value in told.items()}
    host.keeps()
    host.has_python()
    done = host.step()
    assert done.exit_code == 0, done.log
    assert not set(told) & set(done.variables)


def test_without_any_python_of_the_machines_uvs_own_is_used(host: Host) -> None:
    """No python3, curl or wget on PATH: a Python that uv keeps will do (pain 40)."""
    python = host.machine.python
    below = f"cpython-{host.machine.version}-linux-{os.uname().machine}-gnu"
    kept = host.folder / "home/.local/share/uv/python" / below
    (kept / "bin").mkdir(parents=True)
    for name in (python.name, "python"):
        (kept / "bin" / name).symlink_to(python)
    host.own_all(host.folder / "home")
    host.keeps()
    done = works(host)
    assert not shutil.which("python3", path=host.env["PATH"])
    assert host.later(done, "uv", "python", "find").stdout.startswith(f"{kept}/")


def test_nothing_to_get_uv_from_is_one_sentence(host: Host) -> None:
    """No uv, nothing kept and no network: one error with the cure, and nothing for later steps."""
    host.keeps()
    for each in host.folder.rglob(f"uv-{UV_VERSION}"):
        each.unlink()
    done = host.step(mirror="http://127.0.0.1:9")
    assert (done.exit_code, len(done.errors)) == (60, 1), done.log
    assert not done.path


# --- at once ------------------------------------------------------------------------------------


def test_two_at_once_twenty_times(host: Host) -> None:
    """Two jobs of one user that set the first uv up together: one makes it, both have it."""
    made = host.own(host.folder / "made")
    small = host.folder / "small-uv"
    script = SLOW_WHEN_NEW.format(version=UV_VERSION, made=made, uv=host.machine.uv)
    small.write_text(script)
    small.chmod(0o755)
    host.keeps(uv=small)
    host.has_python()
    for number in range(1, 21):
        shutil.rmtree(host.folder / "home/.local", ignore_errors=True)
        files = [host.folder / f"files-{number}-{each}" for each in "ab"]
        both = [(host.begin(each), each) for each in files]
        done = [ended(*each) for each in both]
        assert [each.exit_code for each in done] == [0, 0], [each.log for each in done]
        [path] = {each.outputs["uv-path"] for each in done}
        assert Path(path).read_bytes() == small.read_bytes()
        assert len(list(made.iterdir())) == number
    python_runs(host, done[-1])


# A uv that is asked who it is before it is in its place notes that, and is not quick about it, so
# that the other job comes meanwhile.
SLOW_WHEN_NEW = """#!/bin/sh
case $0 in
*/.new-*) mktemp {made}/XXXXXX >/dev/null && sleep 0.1 ;;
esac
[ "$1" = --version ] || exec {uv} "$@"
echo uv {version}
"""


# --- downloads ----------------------------------------------------------------------------------

NEWER: Final = "9.9.9"


def program(machine: Machine) -> bytes:
    """Return a uv that says that it is newer, and does all else as the one that is here."""
    lines = ("#!/bin/sh", f'[ "$1" != --version ] || {{ echo uv {NEWER}; exit; }}')
    return "\n".join((*lines, f'exec {machine.uv} "$@"', "")).encode()


@pytest.fixture
def mirrored(host: Host) -> Iterator[tuple[Host, Index, str]]:
    """A host that sees a mirror on loopback, and the path of the release that is there."""
    if find_libc() != "gnu" or platform.machine() != "x86_64":
        pytest.skip("the mirror has a release for x86_64 with glibc only")
    host.keeps()
    host.has_python()
    host.sees_loopback = True
    with index() as served:
        uv = {f"uv-{TARGET}/uv": program(host.machine)}
        yield host, served, served.release(NEWER, tarball(NEWER, uv))


def test_a_download_that_is_cut_in_half(mirrored: tuple[Host, Index, str]) -> None:
    """It is asked for again, and what came first is not used (pain 39)."""
    host, served, path = mirrored
    served.faults[path] = ["cut"]
    done = works(host, version=NEWER, mirror=f"{served.root}/releases")
    assert done.outputs["uv-version"] == NEWER
    assert served.asked.count(path) == 2


def test_a_wrong_checksum(mirrored: tuple[Host, Index, str]) -> None:
    """One sentence names both checksums, and nothing of it is kept (pain 39)."""
    host, served, path = mirrored
    served.pages[f"{path}.sha256"] = b"0" * 64
    done = host.step(version=NEWER, mirror=f"{served.root}/releases")
    assert (done.exit_code, len(done.errors)) == (NotVerified.exit_code, 1), done.log
    assert "0" * 64 in done.errors[0]
    assert not list(host.folder.glob(f"home/.local/share/uv/gpu-ci/**/{NEWER}*/uv"))


def test_a_disk_that_fills_up_while_a_uv_is_kept(mirrored: tuple[Host, Index, str]) -> None:
    """It looked large enough: one sentence names the folder and the reason (pain 28)."""
    host, served, _ = mirrored
    large = program(host.machine) + b"\0" * 80_000_000
    served.release(NEWER, tarball(NEWER, {f"uv-{TARGET}/uv": large}))
    share = host.own(host.folder / "home/.local/share")
    host.own(share.parent)
    host.mounts.append(f"{MOUNT} -t tmpfs -o size=70m,uid={host.uid},mode=700 none {share}")
    done = host.step(version=NEWER, mirror=f"{served.root}/releases")
    assert (done.exit_code, len(done.errors)) == (NoFolder.exit_code, 1), done.log
    assert "No space left on device" in done.errors[0]
