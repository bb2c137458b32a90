"""Ways into machines: the keys that the account has, and the boot scripts that go in over SSH.

The vendor's startup scripts run in containers only. A virtual machine takes the account's public
keys at its start, and its boot script is sent as soon as it lets one in, which can be minutes after
it is Running.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import CloudError, CloudUnreachable, WrongRequest
from gpu_ci.providers.http import Call
from gpu_ci.providers.jarvislabs import ssh
from gpu_ci.providers.jarvislabs.api_errors import NETWORK_CURE
from gpu_ci.providers.jarvislabs.startup_text import BOOT_LOG, STARTED_BY_US, starting, taking_over

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncssh import SSHKey

    from gpu_ci.providers.jarvislabs.api import Api
    from gpu_ci.providers.jarvislabs.machine_rows import Instance

# A wait for a runner looks at its machine in between, so each step is short.
STEP_SECONDS: Final = 1.8
ADOPT_SECONDS: Final = 10.0
LOG_LINES: Final = 200
OUR_KEY: Final = "gpu-ci"


@dataclass
class _Guest:
    """A virtual machine that waits for its boot script, or has it."""

    script: str
    key: SSHKey
    sent: bool = False


class Access:
    """What is known of ways in. `JL_SSH_KEY`, a private key, is used where it is given."""

    def __init__(self, api: Api, env: Mapping[str, str]) -> None:
        self._api = api
        self._given = env.get("JL_SSH_KEY", "")
        self._guests: dict[str, _Guest] = {}
        self._sending = threading.Lock()

    def prepare(self, name: str, boot_script: str) -> None:
        """Let the virtual machine that is about to start take a key of ours. Raises CloudError."""
        if self._given:
            key = ssh.read_key(self._given)
            self._add(OUR_KEY, key)
        else:
            key = ssh.new_key()
            self.forget(name)
            self._add(_key_name(name), key)
        self._guests[name] = _Guest(starting(name, boot_script), key)

    def forget(self, name: str) -> None:
        """Remove from the account what `prepare` made for the machine. Raises CloudError."""
        for row in self._keys():
            if row.get("key_name") == _key_name(name):
                self._remove(str(row["key_id"]))

    def advance(self, instance: Instance) -> None:
        """Send a running virtual machine its boot script if it has none, in one short step.

        Calling it twice sends it once. Raises CloudError if the machine let us in and did not take it.
        """
        guest = self._guests.get(instance.name)
        if guest is None or guest.sent or not self._sending.acquire(blocking=False):
            return
        try:
            self._send(instance, guest)
        finally:
            self._sending.release()

    def adopt(self, instance: Instance, boot_script: str) -> bool | None:
        """Start a boot script on a machine that runs already, by the given key.

        Return whether this library had started the machine; None where there is no way in.
        """
        address = ssh.address_of(instance.ssh)
        if not self._given or address is None:
            return None
        script = taking_over(instance.name, boot_script)
        said = ssh.run_as_root(address, ssh.read_key(self._given), script, ADOPT_SECONDS)
        if said is None or said.status:
            return None
        return STARTED_BY_US in said.text

    def is_known(self, name: str) -> bool:
        """Say whether there may be a way into the machine of this name."""
        return bool(self._given) or name in self._guests

    def boot_log(self, instance: Instance) -> str:
        """Return the end of the boot log, "" where there is no way in or no log yet."""
        address, key = ssh.address_of(instance.ssh), self._key(instance.name)
        if address is None or key is None:
            return ""
        said = ssh.run_as_root(address, key, f"tail -n {LOG_LINES} {BOOT_LOG}", STEP_SECONDS)
        return said.text if said and not said.status else ""

    def _key(self, name: str) -> SSHKey | None:
        guest = self._guests.get(name)
        if guest:
            return guest.key if guest.sent else None
        return ssh.read_key(self._given) if self._given else None

    def _send(self, instance: Instance, guest: _Guest) -> None:
        address = ssh.address_of(instance.ssh)
        said = ssh.run_as_root(address, guest.key, guest.script, STEP_SECONDS) if address else None
        if said is None:
            return
        if said.status:
            raise CloudError(
                f"{instance.describe()} did not start its boot script over SSH: it ended with "
                f"{said.status}, {said.text.strip()[-300:]!r}.",
                "The user of its image must be root, or be allowed to use sudo without a password.",
            )
        guest.sent = True
        if not self._given:
            self.forget(instance.name)

    def _add(self, name: str, key: SSHKey) -> None:
        """Make sure that the account has the key. Its own list decides, not the answer."""
        public = ssh.public_half(key)
        if self._has(public):
            return
        doing = f"add the SSH key {name}"
        body = {"ssh_key": public, "key_name": name}
        trouble: CloudError | None = None
        try:
            self._api.send(Call(verb="POST", path="ssh/", doing=doing, body=body))
        except CloudUnreachable as error:
            trouble = error
        if not self._has(public):
            raise trouble or WrongRequest(
                f"JarvisLabs did not {doing}, and did not say why.",
                "Add it yourself at https://jarvislabs.ai/settings/ssh-keys.",
            )

    def _has(self, public: str) -> bool:
        return any(str(row.get("ssh_key")).split()[:2] == public.split() for row in self._keys())

    def _keys(self) -> list[dict[str, Any]]:
        doing = "list the SSH keys"
        data = self._api.get("ssh/", doing)
        if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
            raise CloudUnreachable(f"JarvisLabs did not {doing}.", NETWORK_CURE)
        return data

    def _remove(self, key_id: str) -> None:
        doing = f"remove the SSH key {key_id}"
        self._api.send(Call(verb="DELETE", path=f"ssh/{key_id}", doing=doing))


def _key_name(machine: str) -> str:
    return f"{OUR_KEY}.{machine}"
