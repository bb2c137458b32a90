"""One command over SSH, within a time limit.

By asyncssh, because there one deadline holds for connecting, logging in and running, and because it
needs no package but `cryptography`. Everything it does here is over in seconds, so each command
is a connection of its own.
"""

from __future__ import annotations

import asyncio
import shlex
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import EnvironmentBroken, WrongRequest
from gpu_ci.providers.jarvislabs import ABOUT
from gpu_ci.runtime.clock import aside

if TYPE_CHECKING:
    from types import ModuleType

    from asyncssh import SSHKey

# For closing a connection whose other side is silent.
SLACK: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to log in to a machine."""

    host: str
    port: int
    user: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a command ended with: its exit code, and the text of both its outputs."""

    status: int
    text: str


def address_of(command: str) -> Address | None:
    """Read the vendor's `ssh -o … -p PORT USER@HOST`; None for anything else."""
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    logins = [word for word in words if "@" in word]
    port = next((after for word, after in pairwise(words) if word == "-p"), "22")
    if len(logins) != 1 or not port.isdigit():
        return None
    user, _, host = logins[0].rpartition("@")
    return Address(host=host, port=int(port), user=user)


def run_as_root(address: Address, key: SSHKey, script: str, seconds: float) -> Said | None:
    """Run a shell script on the machine as root; None where there is no way in, or no answer in
    time. Then it is not known whether the script has run."""
    shell = "sh" if address.user == "root" else "sudo -n sh"
    # Aside, because an event loop swallows a signal's exception that hits it inside a callback.
    with suppress(TimeoutError):
        return aside(
            lambda: asyncio.run(_within(address, key, shell, script, seconds)), seconds + SLACK
        )
    return None


async def _within(
    address: Address, key: SSHKey, command: str, script: str, seconds: float
) -> Said | None:
    try:
        return await asyncio.wait_for(_run(address, key, command, script), seconds)
    except (OSError, TimeoutError, asyncssh().Error):
        return None


async def _run(address: Address, key: SSHKey, command: str, script: str) -> Said:
    connecting = asyncssh().connect(
        address.host,
        port=address.port,
        username=address.user,
        client_keys=[key],
        # The machine's key is not known beforehand. Its address came from the vendor over TLS, and
        # what is sent holds one registration that works once and for a short time.
        known_hosts=None,
        config=None,
        agent_path=None,
        preferred_auth=["publickey"],
    )
    async with connecting as connection:
        done = await connection.run(command, input=script)
        return Said(status=done.returncode or 0, text=f"{done.stdout or ''}{done.stderr or ''}")


def new_key() -> SSHKey:
    """Make a key pair that only this process knows."""
    made: SSHKey = asyncssh().generate_private_key("ssh-ed25519")
    return made


def read_key(text: str) -> SSHKey:
    """Read a private key. Raises WrongRequest, which does not quote it."""
    package = asyncssh()
    with suppress(ValueError, package.Error):
        key: SSHKey = package.import_private_key(text.strip() + "\n")
        return key
    raise WrongRequest(
        "JL_SSH_KEY is not a private key, or has a passphrase.",
        "Pass the whole text of an OpenSSH private key without a passphrase, or leave it out.",
    )


def public_half(key: SSHKey) -> str:
    """Return the public key as one line, without a comment."""
    return " ".join(key.export_public_key().decode().split()[:2])


def asyncssh() -> ModuleType:
    """Load the package when SSH is first needed. Raises EnvironmentBroken."""
    try:
        import asyncssh as package  # noqa: PLC0415 -- few machines need it, and it is slow to load
    except ImportError as error:
        raise EnvironmentBroken(
            "SSH to a machine of JarvisLabs needs the package asyncssh, which is not installed.",
            ABOUT.install,
        ) from error
    return package
