"""What really happens on machines of JarvisLabs: startup scripts run, and boot scripts go in by SSH.

These run processes, so time is the real one here, and every machine is up in a moment.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncssh
import pytest
from tests.pace import assert_within, until

from gpu_ci.boot.script import Boot, Registration, RunnerBuild, render
from gpu_ci.errors import CloudError, CloudUnreachable, WrongRequest
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate, Order
from gpu_ci.providers.jarvislabs.jarvislabs_provider import JarvisLabs
from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions
from gpu_ci.providers.jarvislabs.ssh import Address, address_of, run_as_root
from gpu_ci.providers.jarvislabs.startup_text import starting, taking_over
from gpu_ci.runtime.clock import SYSTEM_CLOCK
from gpu_ci_sandbox import faults as f
from gpu_ci_sandbox.contract import tags_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci.model.machine import Machine
    from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs as Cloud

NAME = "gpu-box"
# Says on the machine's disk that it ran, how often, and in which session; then it goes on.
SCRIPT = """\
#!/bin/sh
echo $$ >>/home/gpu-ci/ran
ps -o sid= -p $$ >/home/gpu-ci/session
echo "gpu-ci boot 1 phase network" >>/home/gpu-ci/boot.log
exec sleep 60
"""


@pytest.fixture
def real(served_jarvislabs: Cloud) -> Iterator[Cloud]:
    """An empty account whose machines really run things, and take next to no time."""
    served_jarvislabs.reset()
    settings = served_jarvislabs.settings
    settings.creating_seconds = settings.resuming_seconds = settings.pausing_seconds = 0.01
    yield served_jarvislabs
    served_jarvislabs.reset()


@pytest.fixture(scope="module")
def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@dataclass
class User:
    """Somebody with this account, who may have a key for SSH."""

    cloud: Cloud
    env: dict[str, str] = field(default_factory=dict)

    def provider(self, template: str = "pytorch") -> JarvisLabs:
        env = self.cloud.environment() | self.env
        return JarvisLabs(JarvisLabsOptions(template=template), env, SYSTEM_CLOCK)


@pytest.fixture
def user(real: Cloud) -> User:
    return User(real)


@pytest.fixture
def key_user(real: Cloud, key: asyncssh.SSHKey) -> User:
    """One whose own key is on the account, with a comment."""
    public = f"{key.export_public_key().decode().strip()} somebody@somewhere"
    with real._account.turn():
        real._account.add_ssh_key("mine", public)
    return User(real, {"JL_SSH_KEY": key.export_private_key().decode()})


def order(script: str = SCRIPT) -> Order:
    return Order(
        candidate=Candidate(type="L4", region="india-noida-01"),
        tags=tags_of(name=NAME),
        token="t",
        boot_script=script,
        kept=True,
    )


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def runs(cloud: Cloud) -> list[str]:
    """The process of each boot script that has run on the machine."""
    return read(cloud.machine(NAME).home / "gpu-ci" / "ran").split()


def up(provider: JarvisLabs, script: str = SCRIPT) -> Machine:
    machine = provider.launch(order(script))
    until(lambda: provider.state(machine) is State.RUNNING)
    return machine


def known(provider: JarvisLabs) -> Machine:
    found = provider.kept(NAME)
    assert found
    return found[0]


# Containers


def test_a_container_boots_at_each_start(user: User, real: Cloud) -> None:
    """The boot script runs detached, in a session of its own, at the first start and the next."""
    provider = user.provider()
    machine = up(provider)
    until(lambda: len(runs(real)) == 1)
    home = real.machine(NAME).home / "gpu-ci"
    until(lambda: read(home / "session").strip() == runs(real)[0])
    assert (home / "start.sh").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o755
    assert read(home / "startup.log") == ""
    provider.pause(machine)
    provider.resume(known(provider), order())
    until(lambda: len(runs(real)) == 2)


def test_a_real_boot_script_fits(user: User, real: Cloud) -> None:
    """The whole boot script gets through, and fails by its own words for want of a runner."""
    provider = user.provider()
    build = RunnerBuild(architecture="none", url="http://127.0.0.1:9/runner.tgz", sha256="0" * 64)
    boot = Boot(
        place=provider.place(NAME),
        registration=Registration(name=NAME, labels=("x",), jit_config="a'b$c"),
        runners=(build,),
        pickup=60,
        idle=60,
        lifetime=60,
    )
    up(provider, render(boot))
    log = real.machine(NAME).home / "gpu-ci" / "boot.log"
    until(lambda: "there is no runner for" in read(log))


def test_the_startup_script_does_not_follow_links(user: User, real: Cloud) -> None:
    """What a job has put in the places of the next start is not written through."""
    provider = user.provider()
    machine = up(provider)
    until(lambda: runs(real))
    provider.pause(machine)
    record = real.machine(NAME)
    precious = record.home / "precious"
    precious.write_text("mine")
    (record.home / "gpu-ci" / "start.sh").unlink()
    (record.home / "gpu-ci" / "start.sh").symlink_to(precious)
    provider.resume(known(provider), order())
    until(lambda: len(runs(real)) == 2)
    assert precious.read_text() == "mine"


# Virtual machines


def test_a_virtual_machine_gets_its_boot_script_by_ssh(user: User, real: Cloud) -> None:
    """With a key of this run, that the account has only until the machine has it."""
    provider = user.provider("vm")
    machine = provider.launch(order())
    assert [each.key_name for each in real.ssh_keys()] == [f"gpu-ci.{NAME}"]
    assert "phase" not in "".join(real.scripts().values())
    until(lambda: provider.state(machine) is State.RUNNING and runs(real))
    assert real.ssh_keys() == []
    before = len(real.faults.requests)
    provider.state(machine)
    assert len(real.faults.requests) == before + 1
    assert len(runs(real)) == 1
    until(lambda: "phase network" in provider.boot_log(machine))
    provider.pause(machine)
    resumed = provider.resume(known(provider), order())
    until(lambda: provider.state(resumed) is State.RUNNING and len(runs(real)) == 2)


def test_ssh_that_comes_late(user: User, real: Cloud) -> None:
    """Running is not yet a way in: it is tried again, and each look is short."""
    real.settings.ssh_lag_seconds = 0.5
    provider = user.provider("vm")
    machine = up(provider)
    assert runs(real) == []
    assert provider.boot_log(machine) == ""
    until(lambda: provider.state(machine) is State.RUNNING and runs(real))


def test_a_key_of_the_user_is_used(key_user: User, real: Cloud) -> None:
    """Then no other key is made, and the one that is there, with its comment, is recognised."""
    provider = key_user.provider("vm")
    machine = up(provider)
    until(lambda: provider.state(machine) is State.RUNNING and runs(real))
    assert [each.key_name for each in real.ssh_keys()] == ["mine"]


def test_a_key_of_the_user_is_added(user: User, key: asyncssh.SSHKey, real: Cloud) -> None:
    """If the account does not have it, it gets it, once, also after a lost answer."""
    user.env["JL_SSH_KEY"] = key.export_private_key().decode()
    real.faults.add(f.lose_answer(method="POST", path="ssh/"))
    provider = user.provider("vm")
    machine = up(provider)
    provider.pause(machine)
    provider.resume(known(provider), order())
    assert [each.key_name for each in real.ssh_keys()] == ["gpu-ci"]


def test_an_old_key_makes_room(user: User, real: Cloud) -> None:
    """What a start that was killed has left is removed by the next."""
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGhvbWUgc3dlZXQgaG9tZSBzd2VldCBob21lISEh"
    with real._account.turn():
        real._account.add_ssh_key(f"gpu-ci.{NAME}", public)
        real._account.add_ssh_key("gpu-ci.other", public)
    user.provider("vm").launch(order())
    names = [each.key_name for each in real.ssh_keys()]
    assert sorted(names) == [f"gpu-ci.{NAME}", "gpu-ci.other"]
    assert [each.ssh_key for each in real.ssh_keys() if each.key_name.endswith(NAME)] != [public]


@pytest.mark.parametrize(
    "rule",
    [
        f.drop(method="POST", path="ssh/"),
        f.answer(200, {"success": True}, method="POST", path="ssh/"),
        f.answer(200, {"keys": []}, path="ssh/", times=None),
    ],
    ids=["dropped", "no key", "no list"],
)
def test_without_a_key_no_machine_is_made(user: User, real: Cloud, rule: f.Rule) -> None:
    """A virtual machine that lets nobody in would only be billed."""
    real.faults.add(rule)
    with pytest.raises((CloudUnreachable, WrongRequest), match="SSH key"):
        user.provider("vm").launch(order())
    assert not real.machines()


def test_a_key_that_is_none(user: User) -> None:
    """Said without quoting it."""
    user.env["JL_SSH_KEY"] = "-----BEGIN sesame-----"
    with pytest.raises(WrongRequest, match="JL_SSH_KEY is not a private key") as caught:
        user.provider("vm").launch(order())
    assert "sesame" not in str(caught.value)


def test_a_machine_that_does_not_take_its_script(user: User, real: Cloud) -> None:
    """It let us in and could not do it: said with what it said."""
    provider = user.provider("vm")
    machine = provider.launch(order())
    (real.machine(NAME).home / "gpu-ci").write_text("not a folder")
    with pytest.raises(CloudError, match="did not start its boot script over SSH"):
        until(lambda: provider.state(machine) is State.GONE)


# Adoption


def test_a_machine_that_somebody_started_is_adopted(key_user: User, real: Cloud) -> None:
    """The boot script runs; the machine was not ours, so it is not to be paused (row 1.3)."""
    real.add_machine(NAME, status="Running")
    provider = key_user.provider()
    machine = known(provider)
    adopted = provider.adopt(machine, order())
    assert adopted
    assert (adopted.id, adopted.kept, adopted.started) == (machine.id, True, False)
    assert adopted.launched_at == pytest.approx(SYSTEM_CLOCK.now(), abs=30)
    until(lambda: runs(real))
    again = provider.adopt(machine, order())
    assert again
    assert again.started is False


def test_a_machine_that_we_started_is_adopted(key_user: User, real: Cloud) -> None:
    """Its start has left a mark, so whoever takes it over pauses it (row 1.3)."""
    up(key_user.provider())
    until(lambda: runs(real))
    provider = key_user.provider()
    adopted = provider.adopt(known(provider), order("echo again >>/home/gpu-ci/ran\n"))
    assert adopted
    assert adopted.started is True
    until(lambda: "again" in runs(real))
    until(lambda: "phase network" in provider.boot_log(adopted))


@pytest.mark.parametrize("status", ["Paused", "Failed"])
def test_only_a_running_machine_is_adopted(key_user: User, real: Cloud, status: str) -> None:
    """There is nobody to talk to on another."""
    real.add_machine(NAME, status=status)
    provider = key_user.provider()
    assert provider.adopt(known(provider), order()) is None


def test_a_machine_that_does_not_know_the_key(
    user: User, key: asyncssh.SSHKey, real: Cloud
) -> None:
    """A key that came to the account later opens nothing: none, and not an error."""
    real.add_machine(NAME, status="Running")
    user.env["JL_SSH_KEY"] = key.export_private_key().decode()
    provider = user.provider()
    assert provider.adopt(known(provider), order()) is None
    assert provider.boot_log(known(provider)) == ""


def test_a_mark_that_a_job_has_made_is_none(key_user: User, real: Cloud) -> None:
    """A link in the mark's place proves nothing."""
    record = real.add_machine(NAME, status="Running")
    (record.shm / f"gpu-ci.{NAME}").symlink_to("/etc/passwd")
    provider = key_user.provider()
    adopted = provider.adopt(known(provider), order())
    assert adopted
    assert adopted.started is False


# Machines that let nobody in


@pytest.fixture
def silence() -> Iterator[Address]:
    """A way in that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        yield Address(host=host, port=port, user="root")


def test_a_silent_machine_costs_no_more_than_its_time(
    silence: Address, key: asyncssh.SSHKey
) -> None:
    """Whoever waits for a runner goes on after a short step."""
    began = time.monotonic()
    assert run_as_root(silence, key, "true\n", 0.2) is None
    assert_within(2.0, time.monotonic() - began)


def test_a_signal_ends_the_waiting(silence: Address, key: asyncssh.SSHKey) -> None:
    """A cancel is not swallowed by what SSH is doing (clean-up never runs on cancel: pain 7)."""

    class Stopped(BaseException):
        """Like the exception that a cancel raises: no Exception."""

    def stop(_signum: int, _frame: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Stopped):
            run_as_root(silence, key, "true\n", 20)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


# Texts


def test_a_start_that_is_repeated_is_one(tmp_path: Path) -> None:
    """Sent again after a lost answer, the same boot script does not start twice."""
    script = starting(NAME, "echo once >>$ROOT_OF_TEST/ran\n")
    script = script.replace("/home/", f"{tmp_path}/").replace("/dev/shm/", f"{tmp_path}/")
    env = f"ROOT_OF_TEST={tmp_path}"
    for _ in range(2):
        assert os.spawnlp(os.P_WAIT, "env", "env", env, "sh", "-c", script) == 0
    until(lambda: read(tmp_path / "ran"))
    assert read(tmp_path / "ran") == "once\n"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            "ssh -o StrictHostKeyChecking=no -p 11014 root@sshb.jarvislabs.ai",
            Address(host="sshb.jarvislabs.ai", port=11014, user="root"),
        ),
        ("ssh ubuntu@203.0.113.7", Address(host="203.0.113.7", port=22, user="ubuntu")),
        ("", None),
        ("ssh", None),
        ("ssh -p x root@h", None),
        ("ssh 'root@h", None),
        ("None", None),
    ],
)
def test_the_way_in_is_read(command: str, expected: Address | None) -> None:
    """Of what the vendor shows for copying, host, port and user."""
    assert address_of(command) == expected


def test_taking_over_leaves_no_mark() -> None:
    """Whoever takes a machine over has not started it."""
    assert '>"$mark"' in starting(NAME, "true\n")
    assert '>"$mark"' not in taking_over(NAME, "true\n")


@pytest.mark.parametrize("text", [starting(NAME, "true\n"), taking_over(NAME, "true\n")])
def test_what_starts_a_boot_script_is_sound(text: str) -> None:
    """Plain sh without a complaint but for `-O`, which every sh in use knows."""
    done = subprocess.run(
        ["shellcheck", "-e", "SC3067", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)
