"""A stand-in for JarvisLabs: machines that are created, resumed and paused, and really run scripts.

What it does is what is known of the real one from its client and from what others have seen; where
nothing is known, `Settings` chooses. There are no containers and no virtual machines here: a machine
is a folder and the processes that bear its mark.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

from gpu_ci_sandbox.fake_jarvislabs.account import Account
from gpu_ci_sandbox.fake_jarvislabs.endpoints import API_KEY, create_app
from gpu_ci_sandbox.fake_jarvislabs.machine_records import REGIONS, MachineRecord, Settings
from gpu_ci_sandbox.faults import Faults
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    from gpu_ci_sandbox.fake_jarvislabs.machine_records import SshKey

__all__ = ["REGIONS", "JarvisLabs", "MachineRecord", "Settings"]

TICK_SECONDS: Final = 0.05
DISK_GB: Final = 100


class JarvisLabs:
    """JarvisLabs on loopback: `with JarvisLabs(folder) as jl: … jl.url …`.

    `settings` says how it behaves, `faults` what goes wrong on the way to it.

    Machines live in `folder`. A startup script runs as a process of this machine, as the user that
    runs this; `/home/` and `/dev/shm/` at the beginning of a path in it, and in what comes in over
    SSH, are replaced by folders of the machine. Every folder here lets other users pass through,
    since a runner may be one; those above `folder` are the caller's to open.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)
        self._account = Account(folder.resolve())
        self.faults = Faults(create_app(self._account))
        self._server = Server(self.faults)
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._server.start()
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.stop()
        self._ticker.join()
        self._account.close()

    def _tick(self) -> None:
        """Let time act without a request, where it is the real one."""
        while not self._ended.wait(TICK_SECONDS):
            if self.settings.now is time.time:
                with self._account.turn():
                    continue

    @property
    def url(self) -> str:
        """The root that answers for every region, without a slash at its end."""
        return self._server.url

    @property
    def hosts(self) -> dict[str, str]:
        """The root of each region's own host, by the region's id."""
        return {region: f"{self.url}/{region}" for region in REGIONS}

    @property
    def settings(self) -> Settings:
        """How it behaves; may be changed at any time."""
        return self._account.settings

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to take this for JarvisLabs."""
        return {"JL_API_URL": self.url, "JL_API_KEY": API_KEY}

    def machines(self) -> Sequence[MachineRecord]:
        """Return what every machine is now, in the order in which they were made."""
        with self._account.turn():
            return [each.record(self.settings) for each in self._account.machines]

    def machine(self, name: str) -> MachineRecord:
        """Return the machine of this name; raises LookupError if there is not exactly one."""
        found = [each for each in self.machines() if each.name == name]
        if len(found) != 1:
            raise LookupError(f"{len(found)} machines are named {name!r}")
        return found[0]

    def add_machine(
        self,
        name: str,
        status: str = "Paused",
        *,
        template: str = "pytorch",
        gpu_type: str = "A100",
        region: str = REGIONS[0],
        **fields: Any,
    ) -> MachineRecord:
        """Make a machine as a user does in the console.

        It enters the state (Paused, Running, Failed or a transitional one) just now, and runs no
        script. Further fields are `num_gpus`, `hdd`, `is_spot`, `fs_id`, `vcpus`, `ram_gb`. Raises
        ValueError for another status.
        """
        with self._account.turn():
            fields = {"num_gpus": 1, "hdd": DISK_GB} | fields
            machine = self._account.add(
                name=name, template=template, gpu_type=gpu_type, region=region, **fields
            )
            self._account.put(machine, status)
            return machine.record(self.settings)

    def start_by_hand(self, name: str) -> None:
        """Resume a machine as a person does in the console: without a startup script.

        Raises `refusal.Refusal` where the API would refuse it.
        """
        self._act(name, "start")

    def pause_by_hand(self, name: str) -> None:
        """Pause a machine as a person does in the console, also where the API refuses to."""
        self._act(name, "pause_by_hand")

    def reclaim(self, name: str) -> None:
        """Pause a spot machine because somebody pays more."""
        self._act(name, "pause_by_hand")

    def _act(self, name: str, action: str) -> None:
        machine_id = self.machine(name).id
        with self._account.turn():
            getattr(self._account, action)(self._account.machine(machine_id))

    def scripts(self) -> dict[str, str]:
        """Return the account's startup scripts by their names, of which the last one counts."""
        with self._account.turn():
            return {each.name: each.body for each in self._account.scripts}

    def ssh_keys(self) -> Sequence[SshKey]:
        """Return the account's public keys."""
        with self._account.turn():
            return list(self._account.ssh_keys)

    def reset(self) -> None:
        """End every process; forget every machine, script, key, fault, setting and request."""
        self.faults.clear()
        self.faults.forget_requests()
        self._account.reset()
