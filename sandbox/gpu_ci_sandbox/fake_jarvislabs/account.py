"""The state of the stand-in for JarvisLabs: machines and what becomes of them, by a clock."""

from __future__ import annotations

import itertools
import secrets
import threading
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gpu_ci_sandbox.fake_jarvislabs import price_list
from gpu_ci_sandbox.fake_jarvislabs.disk import Disk
from gpu_ci_sandbox.fake_jarvislabs.machine_records import (
    TRANSITIONAL,
    Filesystem,
    Machine,
    MachineRecord,
    Script,
    Settings,
    SshKey,
)
from gpu_ci_sandbox.fake_jarvislabs.processes import Session, environment
from gpu_ci_sandbox.fake_jarvislabs.refusal import Refusal, not_found, refuse
from gpu_ci_sandbox.fake_jarvislabs.ssh_server import Door, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpu_ci_sandbox.fake_jarvislabs.machine_records import Kind

HEALTHY: Final = {"status": "Running", "error": "None", "code": "None"}
SMALLEST_DISK: Final = {"container": 20, "vm": 100, "cpu-vm": 100}
LARGEST_DISK: Final = 5000


class Account:
    """One account. Every method but `turn`, `close` and `reset` wants a turn to be held.

    At the beginning of a turn everything is done that the clock made due.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._loop = Loop()
        self._numbers = itertools.count(1)
        self.closed = False
        self._empty()

    def _empty(self) -> None:
        self.settings = Settings()
        self.machines: list[Machine] = []
        self.scripts: list[Script] = []
        self.ssh_keys: list[SshKey] = []
        self.filesystems: list[Filesystem] = []
        self._ids = itertools.count(400_101)
        self._came_up: list[Machine] = []

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Everything inside happens at once, as others see it."""
        due: list[Callable[[], None]] = []
        try:
            with self._lock:
                self._settle()
                due = self._hooks()
                yield
        finally:
            # Outside, since a hook may ask this stand-in something.
            for hook in due:
                hook()

    def reset(self) -> None:
        """End everything and forget it, the settings too."""
        with self._lock:
            for machine in self.machines:
                self._stop(machine)
                machine.disk.remove()
            self._empty()

    def close(self) -> None:
        """End everything; nothing starts any more."""
        with self._lock:
            self.closed = True
            for machine in self.machines:
                self._stop(machine)
        self._loop.stop()

    # what time does

    def _settle(self) -> None:
        now = self.settings.now()
        for machine in () if self.closed else tuple(self.machines):
            if machine.due is not None and now >= machine.due:
                self._arrive(machine, machine.due)
            self._open(machine)

    def _arrive(self, machine: Machine, now: float) -> None:
        """Let a machine leave its transitional state, at the moment when that was due."""
        left, machine.due = machine.state, None
        match left:
            case "Pausing":
                self._rest(machine, now)
            case "Destroying":
                machine.stop_billing(now)
                machine.disk.remove()
                self.machines.remove(machine)
            case "Resuming" if self.settings.fail_resume:
                self._break(machine)
            case _:
                self._come_up(machine, now)

    def _rest(self, machine: Machine, now: float) -> None:
        machine.state, machine.status_row = "Paused", {**HEALTHY, "status": "Paused"}
        machine.stop_billing(now)

    @staticmethod
    def _break(machine: Machine) -> None:
        machine.state = "Failed"
        machine.status_row = {
            "status": "Failed",
            "error": "The machine could not be started",
            "code": "500",
        }

    def _come_up(self, machine: Machine, now: float) -> None:
        machine.state, machine.status_row = "Running", dict(HEALTHY)
        machine.starts += 1
        machine.running_since = now
        machine.sandbox = f"{machine.disk.folder.name}-{machine.starts}-{secrets.token_hex(4)}"
        machine.url = f"https://{secrets.token_hex(8)}.notebooks.example/lab"
        machine.disk.boot(self._mounted(machine))
        machine.session = Session(machine.sandbox, machine.disk)
        machine.door = self._door(machine, now)
        machine.ssh_str = machine.door.command
        self._open(machine)
        self._run_script(machine, machine.session)
        self._came_up.append(machine)

    def _mounted(self, machine: Machine) -> Path | None:
        folders = {each.fs_id: each.folder for each in self.filesystems}
        return folders.get(machine.fs_id) if machine.fs_id is not None else None

    def _door(self, machine: Machine, now: float) -> Door:
        container = machine.kind == "container"
        home = machine.disk.root if container else machine.disk.home / "ubuntu"
        home.mkdir(exist_ok=True)
        env = environment(machine.sandbox, machine.name, self.settings.script_environment)
        return Door(
            user="root" if container else "ubuntu",
            keys="\n".join(key.ssh_key for key in self.ssh_keys),
            env={**env, "PATH": f"{machine.disk.programs}:{env['PATH']}"},
            home=home,
            disk=machine.disk,
            opens_at=now + self.settings.ssh_lag_seconds,
            loop=self._loop,
        )

    def _open(self, machine: Machine) -> None:
        """Let visitors in by SSH, if it is time."""
        door = machine.door
        if door and not door.opened and self.settings.now() >= door.opens_at:
            door.open()

    def _run_script(self, machine: Machine, session: Session) -> None:
        """Run what a container was started with; a VM takes a script and does not run it."""
        found = [script for script in self.scripts if script.id == machine.script_id]
        if machine.kind != "container" or not found:
            return
        machine.scripts.append(found[0].id)
        if self.settings.run_scripts:
            env = environment(machine.sandbox, machine.name, self.settings.script_environment)
            session.run(found[0].body, machine.script_args.split(), env)

    def _hooks(self) -> list[Callable[[], None]]:
        came_up, self._came_up = self._came_up, []
        hook = self.settings.on_running
        return [self._hook(hook, each.record(self.settings)) for each in came_up] if hook else []

    @staticmethod
    def _hook(hook: Callable[[MachineRecord], None], record: MachineRecord) -> Callable[[], None]:
        return lambda: hook(record)

    def _stop(self, machine: Machine) -> None:
        """End every process of a start, and its SSH."""
        session, door, machine.session, machine.door = machine.session, machine.door, None, None
        if door:
            door.shut()
        if session:
            session.end()
        if door:
            door.settle()

    def _set_out(self, machine: Machine, state: str) -> None:
        seconds: float = getattr(self.settings, f"{state.lower()}_seconds")
        machine.state, machine.due = state, self.settings.now() + seconds

    # machines

    def machine(self, machine_id: int, kind: Kind | None = None) -> Machine:
        """Return a machine by its id, if it is of that kind; raises Refusal."""
        for machine in self.machines:
            if machine.id == machine_id and kind in {None, machine.kind}:
                return machine
        raise not_found()

    def seen(self, machine_id: int) -> Machine:
        """Return a machine as the fetch by its id knows it; raises Refusal."""
        machine = self.machine(machine_id)
        if self.settings.now() < machine.hidden_until:
            raise not_found()
        return machine

    def add(self, **fields: Any) -> Machine:
        """Put a machine into the account, in whatever state."""
        disk = Disk(self._folder / f"machine-{next(self._numbers)}")
        disk.make()
        machine = Machine(id=next(self._ids), disk=disk, **fields)
        self.machines.append(machine)
        return machine

    def put(self, machine: Machine, state: str) -> None:
        """Let a machine be in a state, which it has just entered; raises ValueError."""
        now = self.settings.now()
        if state != "Paused":
            machine.billed_since = now
        match state:
            case "Running":
                self._come_up(machine, now)
            case "Paused":
                self._rest(machine, now)
            case "Failed":
                self._break(machine)
            case _ if state in TRANSITIONAL:
                self._set_out(machine, state)
            case _:
                raise ValueError(f"no machine is ever {state!r}")

    def create(self, **fields: Any) -> Machine:
        """Make a machine that comes to Running; raises Refusal."""
        wished = Machine(id=0, disk=Disk(self._folder), **fields)
        self._check(wished)
        machine = self.add(**fields)
        self._begin(machine, "Creating")
        return machine

    def resume(self, machine: Machine, **changes: Any) -> Machine:
        """Start a paused machine again, mostly under a new id; raises Refusal."""
        if machine.state != "Paused":
            raise refuse(
                HTTPStatus.BAD_REQUEST, f"Machine is {machine.state}: only Paused can be resumed"
            )
        if changes["hdd"] < machine.hdd:
            raise refuse(HTTPStatus.BAD_REQUEST, f"Storage can only grow from {machine.hdd}GB")
        self._check(replace(machine, **changes))
        for name, value in changes.items():
            setattr(machine, name, value)
        if not self.settings.keep_ids:
            machine.id = next(self._ids)
        self._begin(machine, "Resuming")
        return machine

    def _begin(self, machine: Machine, state: str) -> None:
        if not (self.settings.keep_ids and self.settings.stale_status):
            machine.status_row = None
        machine.billed_since = self.settings.now()
        machine.hidden_until = machine.billed_since + self.settings.hidden_seconds
        self._set_out(machine, state)

    def _check(self, wished: Machine) -> None:
        self._check_money()
        self._check_sold(wished)
        least = SMALLEST_DISK[wished.kind]
        if not least <= wished.hdd <= LARGEST_DISK:
            raise refuse(
                HTTPStatus.BAD_REQUEST, f"Storage must be between {least}GB and {LARGEST_DISK}GB"
            )
        if wished.kind != "container" and not self.ssh_keys:
            raise refuse(HTTPStatus.BAD_REQUEST, "VM instances require at least one SSH key")
        if wished.script_id is not None:
            self.script(wished.script_id)
        if wished.fs_id is not None and self.filesystem(wished.fs_id).region != wished.region:
            raise refuse(HTTPStatus.BAD_REQUEST, "The filesystem is in another region")
        self._check_free(wished)

    def _check_money(self) -> None:
        if self.settings.balance <= 0:
            raise refuse(
                self.settings.balance_status, "Insufficient balance. Please recharge your account."
            )

    @staticmethod
    def _check_sold(wished: Machine) -> None:
        types = price_list.sold_in(wished.region, wished.kind)
        if wished.gpu_type not in types:
            detail = {"message": "Choose a gpu_type that is offered here", "gpu_types": types}
            raise Refusal(HTTPStatus.BAD_REQUEST, {"detail": detail})
        spot = price_list.has_spot(wished.gpu_type, wished.region) and wished.kind == "container"
        if wished.is_spot and not spot:
            raise refuse(HTTPStatus.BAD_REQUEST, f"Spot is not offered for {wished.gpu_type} here")

    def _check_free(self, wished: Machine) -> None:
        free = price_list.free_gpus(self.settings, wished.gpu_type, wished.region)
        if wished.num_gpus <= free:
            return
        status = self.settings.capacity_status
        message = (
            f"No free {wished.gpu_type} GPUs are available in {wished.region}: no capacity. "
            "Try again later."
        )
        if status != HTTPStatus.OK:
            raise refuse(status, message)
        raise Refusal(status, self.settings.flagged(False, message=message))

    def pause(self, machine: Machine) -> None:
        """Take a machine that runs, or has failed, out of the bill; raises Refusal."""
        if self.settings.refuse_pause or machine.state not in {"Running", "Failed"}:
            message = f"Machine could not be paused: it is {machine.state}"
            raise Refusal(HTTPStatus.OK, self.settings.flagged(False, message=message))
        self.pause_by_hand(machine)

    def pause_by_hand(self, machine: Machine) -> None:
        """Pause a machine as a person or the spot market does, whatever it does just now."""
        self._stop(machine)
        self._set_out(machine, "Pausing")

    def destroy(self, machine: Machine) -> None:
        """Remove a machine and its disk for good, whatever it does just now."""
        self._stop(machine)
        if machine.state != "Destroying":
            self._set_out(machine, "Destroying")

    def start(self, machine: Machine) -> None:
        """Start a paused machine from the console, which passes no startup script."""
        self.resume(machine, hdd=machine.hdd, script_id=None, script_args="")

    # scripts, keys, filesystems

    def script(self, script_id: int) -> Script:
        """Return a startup script; raises Refusal."""
        for script in self.scripts:
            if script.id == script_id:
                return script
        raise not_found("Script")

    def add_script(self, name: str, body: str) -> Script:
        """Store one more script; raises Refusal if the account has as many as it may."""
        if len(self.scripts) >= self.settings.script_limit:
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                f"You can have at most {self.settings.script_limit} startup scripts. "
                "Remove one to add another.",
            )
        script = Script(id=next(self._ids), name=name, body=body)
        self.scripts.append(script)
        return script

    def add_ssh_key(self, key_name: str, ssh_key: str) -> None:
        """Store a public key for the machines that start from now on; raises Refusal."""
        if len(ssh_key.split()) not in {2, 3}:
            raise refuse(HTTPStatus.BAD_REQUEST, "Invalid SSH key")
        key_id = secrets.token_hex(8)
        self.ssh_keys.append(SshKey(key_id=key_id, key_name=key_name, ssh_key=ssh_key))

    def remove_ssh_key(self, key_id: str) -> None:
        """Forget a public key; raises Refusal."""
        kept = [key for key in self.ssh_keys if key.key_id != key_id]
        if len(kept) == len(self.ssh_keys):
            raise not_found("SSH key")
        self.ssh_keys = kept

    def filesystem(self, fs_id: int) -> Filesystem:
        """Return a filesystem; raises Refusal."""
        for filesystem in self.filesystems:
            if filesystem.fs_id == fs_id:
                return filesystem
        raise not_found("Filesystem")

    def add_filesystem(self, fs_name: str, storage: int, region: str) -> Filesystem:
        """Make an empty filesystem."""
        folder = self._folder / f"filesystem-{next(self._numbers)}"
        folder.mkdir(mode=0o755)
        made = Filesystem(
            fs_id=next(self._ids), fs_name=fs_name, storage=storage, region=region, folder=folder
        )
        self.filesystems.append(made)
        return made

    def grow_filesystem(self, fs_id: int, storage: int) -> Filesystem:
        """Make a filesystem larger, which mostly gives it a new id; raises Refusal."""
        found = self.filesystem(fs_id)
        if storage < found.storage:
            raise refuse(HTTPStatus.BAD_REQUEST, f"Storage can only grow from {found.storage}GB")
        found.storage = storage
        if not self.settings.keep_ids:
            found.fs_id = next(self._ids)
            for machine in self.machines:
                machine.fs_id = found.fs_id if machine.fs_id == fs_id else machine.fs_id
        return found

    def remove_filesystem(self, fs_id: int) -> None:
        """Forget a filesystem; raises Refusal."""
        self.filesystems.remove(self.filesystem(fs_id))
