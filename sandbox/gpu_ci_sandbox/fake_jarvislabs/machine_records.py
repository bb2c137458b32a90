"""What the stand-in for JarvisLabs knows of an account, and how it should behave."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu_ci_sandbox.fake_jarvislabs.disk import Disk
    from gpu_ci_sandbox.fake_jarvislabs.processes import Session
    from gpu_ci_sandbox.fake_jarvislabs.ssh_server import Door

REGIONS: Final = ("india-noida-01", "india-chennai-01", "europe-01")
TRANSITIONAL: Final = ("Creating", "Resuming", "Pausing", "Destroying")
CPU: Final = "CPU"
VM: Final = "vm"

Kind = Literal["container", "vm", "cpu-vm"]


@dataclass
class Settings:
    """How this JarvisLabs behaves; seconds are counted by `now`.

    With another `now` than `time.time` nothing happens by itself: what is due happens when the next
    request or call comes. `creating_seconds` and so on are how long a machine is in that state.
    `status_words` spells states that are neither Running, Paused nor Failed. `keep_ids`: a resumed
    machine (and an edited filesystem) keeps its id. `hidden_seconds` is how long after a create or
    resume the machine is in the list, but unknown by its id. `stale_status`: a machine that keeps
    its id has the last start's `misc/status` while it resumes, not none.
    `free` are GPUs by (type, region), for containers, VMs and spot alike; what is not in it is
    plenty; machines that run take nothing away. `capacity_status` is what a refusal for want of
    GPUs comes with (200: a false flag), `balance_status` that for want of money (402 or 403).
    `flag` is how success is spelled, `flag_as_text` whether it is "True" instead of true.
    `refuse_pause`: pausing answers with a false flag. `fail_resume`: resuming ends in Failed.
    `run_scripts`: startup scripts run; `script_environment` is what they see as well.
    `on_running` is called with the machine's record when it has come to Running.
    """

    now: Callable[[], float] = time.time
    creating_seconds: float = 0.2
    resuming_seconds: float = 0.2
    pausing_seconds: float = 0.1
    destroying_seconds: float = 0.1
    status_words: dict[str, str] = field(
        default_factory=lambda: {word: word for word in TRANSITIONAL}
    )
    keep_ids: bool = False
    hidden_seconds: float = 0.0
    stale_status: bool = False
    free: dict[tuple[str, str], int] = field(default_factory=dict)
    capacity_status: int = 400
    balance: float = 100.0
    balance_status: int = 403
    flag: Literal["success", "sucess"] = "success"
    flag_as_text: bool = False
    refuse_pause: bool = False
    fail_resume: bool = False
    currency: Literal["USD", "INR"] = "USD"
    script_limit: int = 3
    run_scripts: bool = True
    script_environment: dict[str, str] = field(default_factory=dict)
    ssh_lag_seconds: float = 0.0
    on_running: Callable[[MachineRecord], None] | None = None

    def flagged(self, success: bool, **fields: Any) -> dict[str, Any]:
        """Return an answer that says in this account's spelling whether it is a success."""
        return {self.flag: str(success) if self.flag_as_text else success, **fields}


@dataclass(frozen=True, kw_only=True)
class MachineRecord:
    """A machine as it is at one moment, with what the API does not tell.

    `starts` is how often it came to Running; `scripts` are the ids of the startup scripts that ran,
    in order; `sandbox` names its last start and stands in the environment of all its processes as
    GPU_CI_BOOT_SANDBOX; `home` and `shm` are its /home and /dev/shm, `log` is what its scripts
    printed.
    """

    id: int
    name: str
    status: str
    template: str
    gpu_type: str
    num_gpus: int
    hdd: int
    region: str
    is_spot: bool
    fs_id: int | None
    script_args: str
    starts: int
    scripts: tuple[int, ...]
    billed_seconds: float
    sandbox: str
    ssh_str: str
    home: Path
    shm: Path
    log: Path


@dataclass(kw_only=True)
class Machine:
    """A machine of the account; `due` is when its state ends, `state` is in our own spelling."""

    id: int
    name: str
    template: str
    gpu_type: str
    num_gpus: int
    hdd: int
    region: str
    disk: Disk
    state: str = "Creating"
    due: float | None = None
    is_spot: bool = False
    fs_id: int | None = None
    vcpus: int = 8
    ram_gb: int = 32
    http_ports: str = ""
    script_id: int | None = None
    script_args: str = ""
    hidden_until: float = 0.0
    status_row: dict[str, str] | None = None
    starts: int = 0
    scripts: list[int] = field(default_factory=list)
    billed_before: float = 0.0
    billed_since: float | None = None
    running_since: float = 0.0
    sandbox: str = ""
    url: str = ""
    ssh_str: str = ""
    session: Session | None = None
    door: Door | None = None

    @property
    def kind(self) -> Kind:
        """What decides which paths of the API are for it."""
        if self.template != VM:
            return "container"
        return "cpu-vm" if self.gpu_type == CPU else "vm"

    def billed(self, now: float) -> float:
        """Return the seconds from each accepted start to the end of it."""
        return self.billed_before + (0 if self.billed_since is None else now - self.billed_since)

    def stop_billing(self, now: float) -> None:
        """Bill nothing more until the next start."""
        self.billed_before, self.billed_since = self.billed(now), None

    def record(self, settings: Settings) -> MachineRecord:
        """Return what it is now."""
        return MachineRecord(
            id=self.id,
            name=self.name,
            status=settings.status_words.get(self.state, self.state),
            template=self.template,
            gpu_type=self.gpu_type,
            num_gpus=self.num_gpus,
            hdd=self.hdd,
            region=self.region,
            is_spot=self.is_spot,
            fs_id=self.fs_id,
            script_args=self.script_args,
            starts=self.starts,
            scripts=tuple(self.scripts),
            billed_seconds=self.billed(settings.now()),
            sandbox=self.sandbox,
            ssh_str=self.ssh_str,
            home=self.disk.home,
            shm=self.disk.shm,
            log=self.disk.log,
        )


@dataclass(kw_only=True)
class Script:
    """A startup script of the account."""

    id: int
    name: str
    body: str


@dataclass(frozen=True, kw_only=True)
class SshKey:
    """A public key of the account."""

    key_id: str
    key_name: str
    ssh_key: str


@dataclass(kw_only=True)
class Filesystem:
    """A disk that several machines of a region can have below /home/jl_fs, in a folder of ours."""

    fs_id: int
    fs_name: str
    storage: int
    region: str
    folder: Path
