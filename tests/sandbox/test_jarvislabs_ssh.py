"""SSH into the machines of the stand-in for JarvisLabs."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest
import requests

from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs
from gpu_ci_sandbox.stopped_clock import Clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci_sandbox.fake_jarvislabs import MachineRecord


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519", comment="test")


@pytest.fixture
def jl(tmp_path: Path, clock: Clock, key: asyncssh.SSHKey) -> Iterator[JarvisLabs]:
    """An account with one key."""
    with JarvisLabs(tmp_path / "machines") as served:
        served.settings.now = clock
        add_key(served, key)
        yield served


def add_key(jl: JarvisLabs, key: asyncssh.SSHKey) -> None:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            f"{jl.url}/ssh/",
            json={"ssh_key": key.export_public_key().decode().strip(), "key_name": "k"},
            headers={"Authorization": f"Bearer {jl.environment()['JL_API_KEY']}"},
            timeout=10,
        )
    assert answer.json() == {"success": True}


def reach(machine: MachineRecord) -> tuple[int, str]:
    """Take port and user out of the command that the API gives."""
    found = re.fullmatch(
        r"ssh -o StrictHostKeyChecking=no -p (\d+) (\w+)@127\.0\.0\.1", machine.ssh_str
    )
    assert found
    return int(found[1]), found[2]


def connect(machine: MachineRecord, key: asyncssh.SSHKey, user: str = "") -> Any:
    """Connect as ssh would with this key alone."""
    port, own = reach(machine)
    return asyncssh.connect(
        "127.0.0.1",
        port,
        username=user or own,
        client_keys=[key],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


def ask(
    machine: MachineRecord, key: asyncssh.SSHKey, command: str | None, stdin: str = ""
) -> tuple[int | None, str, str]:
    """Run one command; its exit code, output and errors."""

    async def run() -> Any:
        async with connect(machine, key) as connection:
            return await connection.run(command, input=stdin)

    done = asyncio.run(run())
    return done.exit_status, done.stdout, done.stderr


def test_a_command_on_a_virtual_machine(jl: JarvisLabs, key: asyncssh.SSHKey) -> None:
    """Input goes in, exit code and both outputs come back, sudo runs what it is given."""
    machine = jl.add_machine("vm", "Running", template="vm")
    assert reach(machine)[1] == "ubuntu"
    code, out, err = ask(
        machine,
        key,
        "sudo -n -E sh -s; cat /home/ubuntu/boot; echo $MACHINE_NAME >&2; exit 7",
        "echo '/home/ubuntu is home' >/home/ubuntu/boot\nid -un\n",
    )
    assert code == 7
    assert out.splitlines()[1] == f"{machine.home}/ubuntu is home"
    assert err == "vm\n"
    assert (machine.home / "ubuntu" / "boot").exists()


def test_a_shell_without_a_command(jl: JarvisLabs, key: asyncssh.SSHKey) -> None:
    """What is written to it is run; a container's user is root."""
    machine = jl.add_machine("box", "Running")
    assert reach(machine)[1] == "root"
    assert ask(machine, key, None, "echo $USER; kill -KILL $$\n")[:2] == (137, "root\n")


def test_whose_key_it_is(jl: JarvisLabs, key: asyncssh.SSHKey, clock: Clock) -> None:
    """Only the account's, as they were at the start, and only for the machine's user."""
    machine = jl.add_machine("vm", "Running", template="vm")
    later = asyncssh.generate_private_key("ssh-ed25519")
    add_key(jl, later)
    for wrong in ((later, ""), (key, "root")):
        with pytest.raises(asyncssh.PermissionDenied):
            asyncio.run(_enter(machine, *wrong))
    jl.pause_by_hand("vm")
    clock.advance(1)
    jl.start_by_hand("vm")
    clock.advance(1)
    again = jl.machine("vm")
    assert ask(again, later, "true")[0] == 0
    assert again.ssh_str != machine.ssh_str


async def _enter(machine: MachineRecord, key: asyncssh.SSHKey, user: str) -> None:
    async with connect(machine, key, user):
        pass


def test_ssh_may_come_later_than_running(
    jl: JarvisLabs, key: asyncssh.SSHKey, clock: Clock
) -> None:
    """Until then the port is told and refuses."""
    jl.settings.ssh_lag_seconds = 30
    machine = jl.add_machine("vm", "Running", template="vm")
    with pytest.raises(ConnectionRefusedError), socket.socket() as visitor:
        visitor.connect(("127.0.0.1", reach(machine)[0]))
    clock.advance(30)
    assert ask(jl.machine("vm"), key, "true")[0] == 0


def test_a_pause_ends_what_was_started_over_ssh(jl: JarvisLabs, key: asyncssh.SSHKey) -> None:
    """The connection is cut and the process is gone, also one that was left behind."""
    machine = jl.add_machine("vm", "Running", template="vm")
    started = ask(machine, key, "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!")
    left_behind = int(started[1])

    async def visit() -> int | None:
        async with connect(machine, key) as connection:
            process = await connection.create_process("echo ready; exec sleep 300")
            await process.stdout.readline()
            await asyncio.to_thread(jl.pause_by_hand, "vm")
            await process.wait_closed()
            status: int | None = process.exit_status
            return status

    assert asyncio.run(visit()) is None
    assert not _runs(left_behind)
    with pytest.raises(ConnectionRefusedError), socket.socket() as visitor:
        visitor.connect(("127.0.0.1", reach(machine)[0]))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
