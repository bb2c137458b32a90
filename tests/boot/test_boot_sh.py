"""Runs the boot script for real, on a runner archive of its own, until no process is left."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.boot.boot_world import (
    SECRET,
    Machine,
    World,
    a_world,
    phases,
    processes,
    running,
    with_id,
    with_url,
)
from tests.pace import PATIENCE

from gpu_ci.boot.boot_log import BootReport, read_log
from gpu_ci.boot.script import Place, Registration
from gpu_ci_sandbox.world import forget_account

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = os.geteuid() == 0

needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made


# --- the way to a job ------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["sh", "bash --posix"])
def test_a_machine_does_one_job_and_ends(world: World, shell: str) -> None:
    """All phases pass in order, every report is on the console too, and nothing is left.

    The libraries are there, so no minute is spent on installing them.
    """
    console = world.folder / "console"
    world.nvidia_smi("0, NVIDIA A10G, 550.54.15, 4, 23028, GPU-1\n")
    boot = world.boot("listen job worker finished done", gpus=1, setup_script="echo 'set  up'")
    boot = replace(boot, place=replace(boot.place, console=str(console)))
    machine = world.start(boot, shell=shell)
    machine.listening()
    (machine.runner / "finish").touch()
    report = machine.ends()
    expected = ["network", "user", "download", "libraries", "setup", "gpu", "listen"]
    assert phases(machine.log()) == expected
    assert report.gpu == "1 x NVIDIA A10G, driver 550.54.15, 22 GiB free"
    assert (report.failed, report.ended) == ("", "the runner is done with its job")
    assert machine.process.returncode == 0
    assert "set  up\n" in machine.log()
    assert "installed the libraries" not in machine.log()
    reports = [line for line in machine.log().splitlines() if line.startswith("gpu-ci boot ")]
    assert console.read_text().splitlines() == reports


def test_the_runner_gets_a_clean_environment(world: World) -> None:
    """Nothing of the caller's environment reaches the runner, our values don't either."""
    callers = {"TOKEN": "x", "JIT_CONFIG": "x", "name": "x", "UID": "7", "SHELLOPTS": "posix"}
    callers |= {"AWS_SECRET_ACCESS_KEY": "x", "RUNNER_TRACKING_ID": "github_1", "TWO": "a\nROOT=b"}
    spoken = 'it\'s "$(id)" `id`\n\\ two'
    variables = (("FAKE_RUNNER", "listen"), ("SPOKEN", spoken), ("runner", "r"), ("user", "u"))
    machine = world.run(env=callers, variables=variables)
    machine.ends()
    given = machine.given()
    shells_own = {"PWD", "OLDPWD", "SHLVL", "_", "SHELLOPTS"}
    assert set(given) - shells_own == {
        "ACTIONS_RUNNER_INPUT_JITCONFIG",
        *("FAKE_RUNNER", "SPOKEN", "runner", "user"),
        *("HOME", "USER", "LOGNAME", "LANG", "PATH", "GPU_CI_MACHINE"),
    }
    assert given["ACTIONS_RUNNER_INPUT_JITCONFIG"] == SECRET
    assert given["SPOKEN"] == spoken
    assert given["GPU_CI_MACHINE"] == machine.boot.registration.name


@needs_root
def test_the_runner_is_not_root_and_hears_a_cancel(world: World) -> None:
    """The runner has its own user, a home that it may write, and does not ignore SIGINT."""
    machine = world.run("listen")
    machine.ends()
    status = (machine.runner / "given.status").read_text().split()
    nobody = str(pwd.getpwnam("nobody").pw_uid)
    assert status[status.index("Uid:") + 1 :][:4] == [nobody] * 4
    assert int(status[status.index("SigIgn:") + 1], 16) & 0b111 == 0
    assert status[status.index("Umask:") + 1] == "0022"
    assert Path(machine.given()["HOME"]).owner() == "nobody"
    assert machine.given()["USER"] == "nobody"


@needs_root
@pytest.mark.parametrize("broken", [["setpriv"], ["setpriv", "runuser"]])
def test_other_ways_to_become_the_user(world: World, broken: list[str]) -> None:
    """Where setpriv or runuser do not work, the next one hands over the same environment."""
    for name in broken:
        world.program(name, "exit 1")
    variables = (("FAKE_RUNNER", "listen"), ("SPOKEN", "a  'b'"))
    machine = world.run(variables=variables)
    assert machine.ends().failed == ""
    given = machine.given()
    assert (given["USER"], given["SPOKEN"]) == ("nobody", "a  'b'")
    assert given["ACTIONS_RUNNER_INPUT_JITCONFIG"] == SECRET
    assert (machine.runner / "given.env").owner() == "nobody"


@needs_root
def test_without_root_it_runs_as_itself(world: World) -> None:
    """Where the script is not root, no user is made and the runner works all the same."""
    (world.folder / "root").mkdir()
    shutil.chown(world.folder / "root", "nobody")
    machine = world.start(world.boot("listen"), user="nobody")
    report = machine.ends()
    assert (report.failed, report.listening) == ("", True)
    assert (machine.runner / "given.env").owner() == "nobody"


@needs_root
def test_a_missing_user_is_made(world: World) -> None:
    """A user that is missing is made with a home, and may not become root (pain 33)."""
    name = f"gpuci{uuid.uuid4().hex[:8]}"
    boot = world.boot("listen")
    machine = world.start(replace(boot, place=replace(boot.place, user=name)))
    try:
        report = machine.ends()
        assert report.failed == ""
        assert machine.given()["HOME"] == pwd.getpwnam(name).pw_dir
        assert Path(machine.given()["HOME"]).owner() == name
        groups = subprocess.run(["id", "-nG", name], capture_output=True, text=True, check=True)
        assert not {"sudo", "wheel", "root"} & set(groups.stdout.split())
    finally:
        forget_account(name)
        shutil.rmtree(f"/home/{name}", ignore_errors=True)


def test_a_disk_that_has_booted_before(world: World) -> None:
    """An older registration is gone, its work is the user's, the archive is kept (pain 24, 41)."""
    world.run("listen").ends()
    runner = world.folder / "root" / "runner"
    stale = (".runner_migrated", ".credentials", ".credentials_rsaparams", "finish")
    for name in (*stale, ".runner", "_work/left-behind"):
        (runner / name).write_text("old")
    (world.folder / "root" / "failed").touch()
    world.archive.asked.clear()
    report = world.run("listen").ends()
    assert (report.failed, report.listening) == ("", True)
    assert [name for name in stale if (runner / name).exists()] == []
    assert (runner / ".runner").read_text() == f"{SECRET}\n"
    assert (runner / "_work" / "left-behind").owner() == runner.owner()
    assert world.archive.asked == ["HEAD /whole"]


@needs_root
def test_a_planted_link_leads_root_nowhere(world: World) -> None:
    """A link that an earlier job left in place of its work folder changes nothing behind it."""
    world.run("listen").ends()
    treasure = world.folder / "treasure"
    treasure.mkdir(mode=0o700)
    work = world.folder / "root" / "runner" / "_work"
    work.rmdir()
    work.symlink_to(treasure)
    report = world.run("listen").ends()
    assert (report.failed, work.is_symlink()) == ("", False)
    assert (treasure.owner(), treasure.stat().st_mode & 0o777) == ("root", 0o700)


@contextmanager
def only(world: World, fetcher: str) -> Iterator[str]:
    """Yield a PATH with what the script needs, and one way to download."""
    tools = world.folder / "tools"
    tools.mkdir()
    for name in (
        *("sh", "bash", "cat", "chmod", "chown", "cut", "date", "df", "dirname", "env", "find"),
        *("grep", "gzip", "head", "id", "mkdir", "mv", "rm", "sed", "setpriv", "sha256sum"),
        *("sleep", "stat", "tail", "tar", "test", "timeout", "tr", "true", "uname", "wc"),
    ):
        (tools / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    found = sys.executable if fetcher == "python3" else shutil.which(fetcher)
    if found is None:
        pytest.skip(f"{fetcher} is not on this machine")
    (tools / fetcher).symlink_to(os.path.realpath(found))
    yield f"{world.folder}/bin:{tools}"


@pytest.mark.parametrize("fetcher", ["curl", "wget", "python3"])
def test_a_broken_download_goes_on(world: World, fetcher: str) -> None:
    """With any one of three programs a download that broke off is taken up where it broke."""
    boot = with_url(world.boot("listen"), f"{world.archive.url}/cut")
    with only(world, fetcher) as path:
        report = world.start(boot, PATH=path, GPU_CI_BOOT_TRIES="3").ends()
    assert report.failed == ""
    half = len(world.archive.archive) // 2
    assert world.archive.asked == ["HEAD /cut", "GET /cut", f"GET /cut bytes={half}-"]


@pytest.mark.parametrize("case", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_is_used_and_handed_on(world: World, case: str) -> None:
    """A proxy, in either case, serves the download; the runner finds it in both and in .env."""
    proxy = world.archive.url
    variables = (("FAKE_RUNNER", "listen"), (case, proxy), ("no_proxy", "10.0.0.1"))
    boot = with_url(world.boot(variables=variables), "http://runner.invalid/whole")
    machine = world.start(boot)
    assert machine.ends().failed == ""
    assert world.archive.asked[-1] == "GET http://runner.invalid/whole"
    given = machine.given()
    assert {given["http_proxy"], given["HTTP_PROXY"]} == {proxy}
    handed = (machine.runner / ".env").read_text()
    assert handed == f"http_proxy={proxy}\nno_proxy=10.0.0.1\n"


def test_a_proxy_of_the_environment(world: World) -> None:
    """A proxy that the machine itself is set up with is used, too, unless no_proxy says no."""
    dead = "http://127.0.0.1:9"
    machine = world.run("listen", env={"http_proxy": dead, "no_proxy": "127.0.0.1"})
    assert machine.ends().failed == ""
    assert machine.given()["HTTP_PROXY"] == dead


def test_registration_by_token(world: World) -> None:
    """With a token config.sh is told all but the token, which it finds in its environment."""
    registration = Registration(
        name=f"gpu-ci-test-{uuid.uuid4().hex[:8]}",
        labels=("a", "b c"),
        token=SECRET,
        url="https://github.test/o/r",
        group="gpu; id",
    )
    machine = world.run("listen", registration=registration)
    assert machine.ends().failed == ""
    assert (machine.runner / ".runner").read_text() == "\n"
    assert "ACTIONS_RUNNER_INPUT_TOKEN" not in machine.given()
    told = (machine.runner / "given.config").read_text().splitlines()
    assert SECRET not in told
    assert told[:6] == [
        *("--unattended", "--ephemeral", "--disableupdate", "--no-default-labels"),
        *("--work", "_work"),
    ]
    assert told[6:] == [
        *("--url", "https://github.test/o/r", "--name", registration.name),
        *("--labels", "a,b c", "--runnergroup", "gpu; id"),
    ]


@pytest.mark.parametrize("by", ["jit", "token"])
def test_the_secret_stays_out_of_sight(world: World, by: str) -> None:
    """No command line, log or console shows it, and only its owner can read what holds it."""
    boot = world.boot("listen", setup_script="env; set")
    jit, token = (SECRET, "") if by == "jit" else ("", SECRET)
    registration = replace(boot.registration, jit_config=jit, token=token)
    console = world.folder / "console"
    place = replace(boot.place, console=str(console))
    machine = world.start(replace(boot, registration=registration, place=place), shell="sh -x")
    seen = b""
    while machine.left():
        seen += b"".join(command_line(pid) for pid in processes())
    assert b"boot-0.sh" in seen
    assert SECRET.encode() not in seen
    for path in (machine.root / "boot.log", machine.root / "runner.log", console):
        assert SECRET not in path.read_text(), path
    ours = [path for path in machine.root.iterdir() if path.is_file() and path.suffix != ".gz"]
    assert {path.name for path in ours if path.stat().st_mode & 0o077} == set()


def command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


# --- failures --------------------------------------------------------------------------------------


def assert_failed(machine: Machine, phase: str, reason: str) -> BootReport:
    report = machine.ends()
    assert (report.phase, machine.process.returncode) == (phase, 1)
    assert reason in report.failed
    assert report.ended == "the boot has failed"
    return report


def test_no_network(world: World) -> None:
    """A host that does not answer is a failure of the network that names the address (pain 3)."""
    machine = world.start(with_url(world.boot(), "http://127.0.0.1:9/runner"))
    assert_failed(machine, "network", "http://127.0.0.1:9/runner does not answer: ")


def test_no_way_to_download(world: World) -> None:
    """A machine without any program to download with says so."""
    with only(world, "curl") as path:
        (world.folder / "tools" / "curl").unlink()
        machine = world.start(world.boot(), PATH=path)
        assert_failed(machine, "network", "neither curl nor wget nor python3")


def test_no_runner_for_this_architecture(world: World) -> None:
    """An architecture without an archive is named."""
    world.program("uname", "echo riscv64")
    assert_failed(world.run(), "network", "there is no runner for riscv64")


@needs_root
@pytest.mark.parametrize("user", ["root", "a b", "-x", "$(id)"])
def test_no_such_user(world: World, user: str) -> None:
    """The runner never runs as root, nor as a name that no user can have (pain 33)."""
    boot = world.boot()
    machine = world.start(replace(boot, place=replace(boot.place, user=user)))
    assert_failed(machine, "user", f"the runner cannot run as '{user}'")


@needs_root
def test_a_folder_that_the_user_may_not_enter(world: World) -> None:
    """A root below a folder that is closed to the runner's user is found before the download."""
    closed = world.folder / "closed"
    closed.mkdir(mode=0o700)
    boot = world.boot()
    machine = world.start(replace(boot, place=replace(boot.place, root=str(closed / "root"))))
    assert_failed(machine, "user", "can it enter the folders above?")


def test_an_absent_archive(world: World) -> None:
    """An archive that cannot be had fails after a few tries, with the server's word (pain 3)."""
    machine = world.start(with_url(world.boot(), f"{world.archive.url}/absent"))
    report = assert_failed(machine, "download", "cannot be fetched")
    assert "404" in report.failed
    assert world.archive.asked.count("GET /absent") == 2


def test_a_wrong_checksum(world: World) -> None:
    """An archive with another checksum is not even unpacked."""
    machine = world.start(with_url(world.boot(), f"{world.archive.url}/whole", "0" * 64))
    assert_failed(machine, "download", "its checksum is wrong")
    assert list(machine.runner.iterdir()) == []


def test_a_full_disk(world: World) -> None:
    """Too little disk is told in figures before anything is downloaded (pain 28)."""
    machine = world.run(env={"GPU_CI_BOOT_DISK_MIB": "1000000000"})
    assert_failed(machine, "download", "MiB free, and the runner needs 1000000000")


@needs_root
@pytest.mark.parametrize(("locked", "failed"), [(0, False), (3, False), (9, True)])
def test_missing_libraries(world: World, locked: int, failed: bool) -> None:
    """What the runner needs is installed as root, again while apt is locked (pain 3)."""
    world.program("ldconfig", "echo libssl.so.3 libz.so.1")
    (world.folder / "root").mkdir()
    (world.folder / "root" / "locked").write_text(str(locked))
    machine = world.run("listen", env={"GPU_CI_BOOT_TRIES": "4"})
    if failed:
        reason = "libicuuc libgssapi_krb5 cannot be installed: E: Could not get lock"
        assert_failed(machine, "libraries", reason)
    else:
        assert machine.ends().failed == ""
        assert "installed the libraries as 0\n" in machine.log()


def test_a_setup_script_that_fails(world: World) -> None:
    """The first command that fails ends the setup, with its code and last words (pain 3)."""
    script = "cd /\necho 'no such package: it'\\''s \"gone\"' >&2\n(exit 3)\necho later\n"
    machine = world.run(setup_script=script)
    reason = 'the setup script failed with code 3: no such package: it\'s "gone"'
    assert_failed(machine, "setup", reason)
    assert "later" not in machine.log()


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        ("old", "GitHub refuses this version of the runner: An error occurred: Runner version"),
        ("listen old hang", "GitHub refuses this version of the runner: "),
        ("root", "the runner was started as root: Must not run interactively with sudo"),
        ("icu", "a library that the runner needs is missing: Process terminated. Couldn't find"),
        ("gone", "stopped before it listened: The runner no longer exists on the server."),
    ],
)
def test_a_runner_that_does_not_listen(world: World, fake: str, reason: str) -> None:
    """Exit code 0 is not believed: the log tells why there is no runner (pain 3, 10, 33)."""
    report = world.run(fake).ends()
    assert report.phase == "listen"
    assert reason in report.failed


def test_a_refused_token(world: World) -> None:
    """What config.sh says last is the reason."""
    boot = world.boot()
    registration = replace(boot.registration, jit_config="", token="bad", url="https://x.test/o/r")
    machine = world.start(replace(boot, registration=registration))
    assert_failed(machine, "listen", "config.sh failed: Http response code: NotFound")


GOOD = "0, NVIDIA A10G, 550.54.15, 4, 23028, GPU-1\n"
GPU_FAULTS = {
    "says nothing": "",
    "the driver finds no GPU": "No devices were found\n",
    "the driver is not loaded: NVIDIA-SMI has failed": "NVIDIA-SMI has failed because it couldn't "
    "communicate with the NVIDIA driver.\n",
    "the driver and its library have different versions": "Failed to initialize NVML: "
    "Driver/library version mismatch\n",
    "a GPU is broken: 0, NVIDIA A10G, 550.54.15, ERR!": GOOD.replace(" 4,", " ERR!,"),
    "a GPU is broken: 0, [Unknown Error]": "0, [Unknown Error], 550, 4, 23028, GPU-1\n",
    "a GPU is broken: 0, NVIDIA A10G, 550.54.15, [N/A]": GOOD.replace(" 4,", " [N/A],"),
    "1 of 2 GPUs are here": GOOD,
    "something uses 20000 of 23028 MiB of GPU 1 already": GOOD
    + "1, NVIDIA A10G, 550.54.15, 20000, 23028, GPU-2\n",
}


@pytest.mark.parametrize("reason", GPU_FAULTS)
def test_a_gpu_that_is_not_well(world: World, reason: str) -> None:
    """Each fault has its words, whatever nvidia-smi's exit code is (pain 23)."""
    world.nvidia_smi(GPU_FAULTS[reason])
    machine = world.run(gpus=2)
    assert_failed(machine, "gpu", reason)
    assert not (machine.runner / "given.env").exists()


def test_no_driver(world: World) -> None:
    """A machine without nvidia-smi has no driver, and says so (pain 23)."""
    with only(world, "curl") as path:
        machine = world.start(world.boot(gpus=1), PATH=path)
        assert_failed(machine, "gpu", "nvidia-smi is not here: the image has no NVIDIA driver")


def test_a_driver_that_loads_late(world: World) -> None:
    """A GPU that is well at the fourth look is good (pain 23)."""
    faults = list(GPU_FAULTS.values())
    world.nvidia_smi(*faults[:3], GOOD + GOOD.replace("0,", "1,", 1).replace(" 4,", " 1028,"))
    report = world.run("listen", gpus=2, env={"GPU_CI_BOOT_TRIES": "4"}).ends()
    assert (report.failed, report.gpu) == ("", "2 x NVIDIA A10G, driver 550.54.15, 21 GiB free")


def test_a_failed_machine_is_kept_for_a_while(world: World) -> None:
    """The console of a failed machine can be read before it ends."""
    machine = world.start(world.boot("gone"), GPU_CI_BOOT_HOLD="2")
    machine.ends()
    (told,) = [line for line in machine.log().splitlines() if " failed " in line]
    _, _, failed_at, *_ = told.split()
    assert time.time() - int(failed_at) >= 2


# --- the end ---------------------------------------------------------------------------------------


def test_not_picked_up(world: World) -> None:
    """A machine whose runner does not listen in time ends itself."""
    assert world.run("hang", pickup=2).ends().ended == "no runner listened within 2 s"


@pytest.mark.parametrize("fake", ["listen escape hang", "diag escape hang"])
def test_idle(world: World, fake: str) -> None:
    """A runner without a job ends, with a child of its that left the session."""
    report = world.run(fake, idle=1).ends()
    assert (report.listening, report.ended) == (True, "no job came for 1 s")


def test_lifetime_ends_even_a_job(world: World) -> None:
    """The absolute lifetime holds for a machine at work."""
    report = world.run("listen worker hang", lifetime=3, idle=1).ends()
    assert report.ended == "it has lived for its 3 s"


def test_a_runner_that_ignores_a_request_to_end(world: World) -> None:
    """It is killed after a while, and all that it left with it."""
    report = world.run("deaf listen escape hang", idle=1).ends()
    assert report.ended == "no job came for 1 s"


@pytest.mark.parametrize("fake", ["listen gone", "listen escape gone"])
def test_a_runner_that_github_dropped(world: World, fake: str) -> None:
    """A listener that exits without a job ends the machine at once, whatever it left (pain 21)."""
    machine = world.run(fake)
    report = machine.ends()
    said = "the runner stopped without a job: The runner no longer exists on the server."
    assert (report.failed, report.ended) == ("", said)
    assert machine.process.returncode == 0


@pytest.mark.parametrize("fake", ["listen worker finished", "listen job finished done"])
def test_a_long_job_is_not_idle(world: World, fake: str) -> None:
    """A job that takes longer than `idle` is not ended, by either of its two signs (pain 9)."""
    machine = world.run(fake, idle=1)
    machine.listening()
    time.sleep(2.5)
    assert machine.report().ended == ""
    assert running(str(machine.process.pid))
    (machine.runner / "finish").touch()
    assert machine.ends().ended != ""


def test_a_listener_that_stays_after_its_job_is_idle(world: World) -> None:
    """A single-use runner that hangs after its job does not keep the machine (pain 21)."""
    report = world.run("listen job done hang", idle=1).ends()
    assert report.ended == "no job came for 1 s"


def test_the_script_is_killed_in_a_phase(world: World) -> None:
    """Heartbeats tell the phase; when the script is killed in it the watcher ends the machine."""
    machine = world.run(setup_script="setsid sleep 600 &\nsleep 600")
    machine.wait_for(lambda: " beat setup" in machine.log())
    with_id(machine.process.pid, signal.SIGKILL)
    report = machine.ends()
    assert (report.phase, report.failed) == ("setup", "the boot script was killed")
    assert report.ended == "the boot has failed"


def test_the_script_is_killed_beside_its_runner(world: World) -> None:
    """A killed script leaves the timers in force: the runner stays until it is idle."""
    machine = world.run(idle=2)
    machine.listening()
    with_id(machine.process.pid, signal.SIGKILL)
    assert machine.ends().ended == "no job came for 2 s"


def test_the_watcher_is_killed(world: World) -> None:
    """A killed watcher is replaced at the next phase."""
    go_on = world.folder / "go-on"
    machine = world.run(idle=1, setup_script=f"while ! [ -e {go_on} ]; do sleep 0.05; done")
    machine.wait_for(lambda: " phase setup" in machine.log())
    watcher = int((machine.root / "boot.claim.1").read_text().splitlines()[1].split()[0])
    with_id(watcher, signal.SIGKILL)
    go_on.touch()
    assert machine.ends().ended == "no job came for 1 s"


def test_the_watcher_is_killed_during_the_job(world: World) -> None:
    """Without a watcher the machine ends all the same, as soon as its job has."""
    machine = world.run("listen worker finished")
    machine.listening()
    watcher = int((machine.root / "boot.claim.1").read_text().splitlines()[1].split()[0])
    with_id(watcher, signal.SIGKILL)
    (machine.runner / "finish").touch()
    assert machine.ends().ended.startswith("the runner stopped without a job")


def test_no_folder_at_all(world: World) -> None:
    """Where nothing can be written the timers run all the same, and the console tells why."""
    console = world.folder / "console"
    (world.folder / "file").touch()
    place = Place(root=str(world.folder / "file" / "root"), user="nobody", console=str(console))
    machine = world.start(world.boot(place=replace(place, ends_by="exit")))
    machine.ends()
    report = read_log(console.read_text())
    assert "cannot be made" in report.failed
    assert (report.phase, report.ended) == ("user", "the boot has failed")


def test_told_to_end(world: World) -> None:
    """SIGTERM to the group ends everything, even what has left the group."""
    machine = world.run("listen escape hang")
    machine.listening()
    os.killpg(machine.process.pid, signal.SIGTERM)
    assert machine.ends().ended == "it was told to end"


def test_another_machine_is_left_alone(world: World) -> None:
    """A machine whose name begins with this one's goes on when this one ends."""
    boot = world.boot(idle=1)
    longer = replace(boot.registration, name=boot.registration.name + "-1")
    other = replace(boot, registration=longer, idle=30)
    other = replace(other, place=replace(boot.place, root=str(world.folder / "other")))
    stays = world.start(other)
    stays.listening()
    world.start(boot).ends()
    assert running(str(stays.process.pid))
    assert stays.report().ended == ""


def test_only_one_at_a_time(world: World) -> None:
    """A second script for the same folder is refused and does not disturb the first."""
    first = world.run()
    first.listening()
    second = world.run()
    assert second.process.wait(PATIENCE) == 75
    assert not second.left()
    assert first.left()
    assert phases(first.log()).count("network") == 1


# --- powering off ----------------------------------------------------------------------------------


@dataclass
class Power:
    """Stand-ins for what powers a machine off, which write down what they are asked."""

    world: World

    def works(self, *names: str) -> None:
        for name in ("shutdown", "poweroff", "systemctl", "systemd-run", "usermod", "addgroup"):
            says = f'echo "{name} $*" >>{self.world.folder}/asked'
            self.world.program(name, says if name in names else f"{says}; exit 1")

    def start(self) -> Machine:
        """Boot a machine that powers off; sysrq is a plain file."""
        boot = self.world.boot("listen", lifetime=40)
        boot = replace(boot, place=replace(boot.place, ends_by="poweroff"))
        env = {
            "GPU_CI_BOOT_SYSRQ": str(self.world.folder / "sysrq"),
            "GPU_CI_BOOT_INSTANCE": str(self.instance),
        }
        return self.world.start(boot, GPU_CI_BOOT_PATIENCE="300", **env)

    @property
    def instance(self) -> Path:
        """Where cloud-init would keep the machine's id."""
        return self.world.folder / "instance-id"

    def asked(self) -> list[str]:
        path = self.world.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


def test_powering_off(world: World) -> None:
    """The last word is said before the power goes, and the lifetime has a second timer."""
    power = Power(world)
    power.works("shutdown", "systemctl", "systemd-run")
    machine = power.start()
    machine.wait_for(lambda: "shutdown -h now" in power.asked())
    assert machine.report().ended.startswith("the runner stopped without a job")
    timer = "systemd-run --unit=gpu-ci-lifetime --on-active=100 shutdown -h now"
    machine.wait_for(lambda: timer in power.asked())
    machine.wait_for(lambda: any("apt-daily.timer" in line for line in power.asked()))
    assert not [line for line in power.asked() if line.startswith("poweroff")]
    assert not (world.folder / "sysrq").exists()


def test_a_reboot_is_the_end(world: World) -> None:
    """User data runs once, so a machine that its job reboots would have no timers: it ends instead.
    A machine made from its disk is another one, and boots."""
    power = Power(world)
    power.works("shutdown", "systemctl", "systemd-run")
    power.instance.write_text("i-0123\n")
    machine = power.start()
    unit = machine.root / "gpu-ci-rebooted.service"
    machine.wait_for(lambda: f"systemctl enable {unit}" in power.asked())
    machine.wait_for(lambda: "shutdown -h now" in power.asked())  # and then nothing for minutes
    start = unit.read_text().partition("ExecStart=")[2].partition("\n")[0].split()
    env = {"PATH": f"{world.folder}/bin:/usr/bin:/bin"}
    (world.folder / "asked").unlink()
    power.instance.write_text("i-4567\n")
    subprocess.run(start, env=env, check=True)
    assert power.asked() == []
    power.instance.write_text("i-0123\n")
    subprocess.run(start, env=env, check=True)
    assert power.asked() == ["shutdown -h now"]


def test_powering_off_by_the_last_way(world: World) -> None:
    """Where shutdown and poweroff fail, the kernel is asked."""
    power = Power(world)
    power.works()
    machine = power.start()
    machine.wait_for((world.folder / "sysrq").exists)
    order = [line for line in power.asked() if line.startswith(("shutdown", "poweroff"))]
    assert order[:2] == ["shutdown -h now", "poweroff -f"]
    assert (world.folder / "sysrq").read_text() == "o\n"
