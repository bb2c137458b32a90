"""Machines that run already, taken over by SSH: the boot script and the runner are real processes."""

from __future__ import annotations

import os
import pwd
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest
import requests
from tests.boot.boot_world import carries, open_folder, processes, running, with_id
from tests.e2e.conftest import BOX, Box
from tests.pace import PATIENCE

from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs
from gpu_ci_sandbox.world import REPOSITORY, forget_account, open_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Zygote


@dataclass(kw_only=True)
class Real(Box):
    """A kept machine that really boots, as `account`, and a user whose key opens it."""

    key: asyncssh.SSHKey
    account: str

    def given(self) -> dict[str, str]:
        options = f'{{"user": "{self.account}"}}'
        return super().given() | {"provider-options": options}

    def environment(self) -> dict[str, str]:
        return super().environment() | {"JL_SSH_KEY": self.key.export_private_key().decode()}

    def starts(self) -> None:
        """Run a start that must succeed."""
        assert self.run("start") == 0, self.told()

    def stops(self, **inputs: str) -> None:
        """Run a stop with the handle; it must succeed."""
        assert self.run("stop", handle=self.output("handle"), **inputs) == 0, self.told()

    def does_a_job(self) -> str:
        """Queue a job for the label of the last start; return who ran it, and where."""
        github = self.world.served.github
        label = self.output("label")
        job = github.queue_job(self.world.run_id, "test", [label], 'echo "$HOME"; id -un')
        assert github.wait(lambda: github.job(job.id).completed, PATIENCE), self.told()
        done = github.job(job.id)
        assert (done.conclusion, done.runner_name) == ("success", BOX)
        return "\n".join(done.log)

    def calls_to(self, action: str) -> int:
        return len(self.jarvislabs.faults.calls("POST", rf"/{action}\b"))

    def listener(self) -> int:
        """Return the one process on the machine that listens for jobs."""
        mark = f"GPU_CI_BOOT_SANDBOX={self.jarvislabs.machine(BOX).sandbox}".encode()
        (pid,) = [int(pid) for pid in processes() if carries(pid, mark) and is_listener(pid)]
        return pid


def is_listener(pid: str) -> bool:
    try:
        return b"bin/Runner.Listener" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # ended meanwhile
        return False


@pytest.fixture
def account() -> Iterator[str]:
    """Who runs the jobs. A boot ends all processes of this user, so it is nobody else here."""
    if os.geteuid():
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    name = f"gpuci{uuid.uuid4().hex[:8]}"
    yield name
    forget_account(name)


@pytest.fixture
def real(tmp_path: Path, zygote: Zygote, account: str) -> Iterator[Real]:
    """A run and a machine that is paused; the user's key is on the account."""
    with (
        open_folder() as folder,
        open_world(tmp_path) as world,
        JarvisLabs(folder / "jarvislabs") as jarvislabs,
    ):
        made = Real(
            world=world,
            jarvislabs=jarvislabs,
            zygote=zygote,
            log=tmp_path / "log",
            key=asyncssh.generate_private_key("ssh-ed25519"),
            account=account,
        )
        jarvislabs.settings.script_environment = {
            "GPU_CI_BOOT_TICK": "0.2",
            "GPU_CI_BOOT_START": f"{jarvislabs.add_machine(BOX).shm}/start",
        }
        _add_key(made)
        yield made


def _add_key(real: Real) -> None:
    public = real.key.export_public_key().decode().strip()
    answer = requests.post(
        f"{real.jarvislabs.url}/ssh/",
        json={"ssh_key": public, "key_name": "mine"},
        headers={"Authorization": f"Bearer {real.environment()['JL_API_KEY']}"},
        timeout=PATIENCE,
    )
    assert answer.json() == {"success": True}


def test_a_machine_that_a_person_started(real: Real) -> None:
    """It is taken over as it is, its job runs on it, and stop leaves it running, unless stop is told
    to pause it (row 1.3)."""
    real.jarvislabs.start_by_hand(BOX)
    real.starts()
    assert real.output("started") == "false"
    assert "running already, taken over" in real.told()
    home = f"{real.jarvislabs.machine(BOX).home}/gpu-ci/home"
    assert real.does_a_job().splitlines()[-2:] == [home, real.account]
    real.stops()
    assert (real.status(), real.world.runner_names()) == ("Running", [])
    assert (real.calls_to("resume"), real.calls_to("pause")) == (0, 0)
    real.stops(release="pause")
    assert real.left() == []


def test_a_machine_that_we_had_left_running(real: Real) -> None:
    """Its runner never got a job and nobody stopped it. It is taken over as this library's, though
    the first boot and its listener hang, and stop pauses it (row 1.3)."""
    real.starts()
    assert real.output("started") == "true"
    listener = real.listener()
    with_id(listener, signal.SIGSTOP)
    _lose_registration(real)
    real.world.end_run()
    real.world.next_run()
    real.starts()
    assert real.output("started") == "true"
    assert (real.calls_to("resume"), real.calls_to("pause")) == (1, 0)
    assert not running(str(listener))
    real.does_a_job()
    real.stops()
    assert real.left() == []
    assert real.calls_to("pause") == 1


def _lose_registration(real: Real) -> None:
    """Do what GitHub does with a runner that has been idle for long."""
    (runner,) = real.world.served.github.all_runners()
    answer = requests.delete(
        f"{real.world.served.url}/repos/{REPOSITORY}/actions/runners/{runner.id}",
        headers={"Authorization": f"Bearer {real.world.token}"},
        timeout=PATIENCE,
    )
    assert answer.ok
