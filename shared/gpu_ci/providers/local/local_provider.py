"""This machine as a provider: a "machine" is a folder and the processes that carry its name.

For trying things out, and for machines that you own. The processes outlive the job that started them: a
runner (and `act`) ends the children of a job, so they get a session and an environment of their
own. Needs Linux: processes are recognised by their environment in /proc.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from gpu_ci.boot.script import Place
from gpu_ci.errors import CloudUnreachable, NotPermitted, WrongRequest
from gpu_ci.model.machine import Machine, Price, State
from gpu_ci.model.tags import Tags
from gpu_ci.providers import Check, Order
from gpu_ci.providers.defaults import Defaults, has
from gpu_ci.providers.local import ABOUT
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpu_ci.providers.about import About
    from gpu_ci.runtime.clock import Clock

MARKER: Final = "GPU_CI_MACHINE"
# What the boot script may know of the job that starts it: no secret, nothing of its tools.
PASSED_ON: Final = (
    "PATH", "LANG", "LC_ALL", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY",
    "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE",
)  # fmt: skip
SHELL: Final = "/bin/sh"
YOUNG_SECONDS: Final = 2.0
TERM_SECONDS: Final = 1.0
KILL_SECONDS: Final = 2.0
PROC: Final = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class LocalOptions:
    """What `provider-options` may hold.

    directory: where machines live; default /var/lib/gpu-ci, or ~/.local/state/gpu-ci without root.
    user: the account that the runner gets when started as root; made when it is missing.
    """

    directory: str = ""
    user: str = "gpu-ci"


class Local(Defaults):
    """Runners on this machine. It has one type, `local`, and no regions."""

    about: ClassVar[About] = ABOUT
    name: ClassVar[str] = ABOUT.name
    Options: ClassVar[type[LocalOptions]] = LocalOptions

    def __init__(self, options: LocalOptions, env: Mapping[str, str], clock: Clock) -> None:
        self.default_machines: Sequence[str] = ("local",)
        self._user = options.user
        self._env = env
        self._clock = clock
        self._folders = _state_folder(options.directory, env) / "machines"

    def place(self, name: str) -> Place:
        return Place(root=str(self._folder(name) / "runner"), user=self._user, ends_by="exit")

    def check(self, order: Order) -> Iterator[Check]:
        type_ = order.candidate.type
        yield Check(
            what="Machine type",
            ok=type_ in self.default_machines,
            detail=type_,
            cure="This provider has one type: leave machine empty.",
        )
        yield Check(
            what="Processes",
            ok=(PROC / "self" / "environ").exists(),
            detail=f"{PROC} is there",
            cure="The local provider needs Linux.",
        )
        nearest = next(p for p in [self._folders, *self._folders.parents] if p.exists())
        yield Check(
            what="Folder",
            ok=os.access(nearest, os.W_OK),
            detail=str(self._folders),
            cure='Name one that you may write: provider-options: {"directory": "…"}.',
        )

    def launch(self, order: Order) -> Machine:
        if order.candidate.type not in self.default_machines:
            raise WrongRequest(
                f"machine {order.candidate.type!r} is not known to the local provider.",
                "It has one type: leave machine empty.",
            )
        self._remove_old()
        folder = self._folder(order.tags.name)
        if not self._create(folder, order):
            return self._same_order(folder, order)
        self._boot(folder, order.tags.name)
        return self._read(folder)

    def find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:  # noqa: ARG002 -- the Protocol's
        machines = [self._read(folder) for folder in self._all()]
        return [
            machine
            for machine in machines
            if has(machine.tags, wanted) and self.state(machine) is not State.GONE
        ]

    def state(self, machine: Machine) -> State:
        if not self._folder(machine.name).exists():
            return State.GONE
        if _processes(machine.name):
            return State.RUNNING
        # A process shows no environment while it is being made.
        young = self._clock.now() - machine.launched_at < YOUNG_SECONDS
        return State.PENDING if young else State.GONE

    def release(self, machine: Machine) -> None:
        self._end(machine.name, signal.SIGTERM, TERM_SECONDS)
        if not self._end(machine.name, signal.SIGKILL, KILL_SECONDS):
            raise CloudUnreachable(
                f"Processes of {machine.name} do not end: {_processes(machine.name)}.",
                "Look at them with ps; another user's need that user or root.",
            )
        shutil.rmtree(self._folder(machine.name), ignore_errors=True)

    def boot_log(self, machine: Machine) -> str:
        folder = self._folder(machine.name)
        logs = (folder / "boot.log", folder / "runner" / "boot.log")
        return "".join(log.read_text(errors="replace") for log in logs if log.exists())

    def price(self, machine: Machine) -> Price | None:  # noqa: ARG002 -- the Protocol's
        return Price(per_hour=0.0, source="a machine of your own")

    def _folder(self, name: str) -> Path:
        return self._folders / name

    def _create(self, folder: Path, order: Order) -> bool:
        """Make the machine's folder with its tags in one step; False if it exists.

        The folder is readable for its user only through `runner`, which the boot script makes.
        """
        draft = folder.with_name(f".{folder.name}.{os.getpid()}")
        try:
            draft.mkdir(mode=0o711, parents=True)
            record = {
                "token": order.token,
                "launched_at": self._clock.now(),
                "type": order.candidate.type,
                "tags": asdict(order.tags),
            }
            (draft / "machine.json").write_text(json.dumps(record))
            script = draft / "boot.sh"
            script.touch(mode=0o600)
            script.write_text(order.boot_script)
            draft.rename(folder)
        except PermissionError as error:
            raise NotPermitted(
                f"{self._folders} may not be written: {error}.",
                'Name another folder: provider-options: {"directory": "…"}.',
            ) from None
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            if not folder.exists():
                raise
            return False
        return True

    def _same_order(self, folder: Path, order: Order) -> Machine:
        if self._record(folder)["token"] != order.token:
            raise WrongRequest(
                f"A machine named {folder.name} is here already.",
                "A start of the same job and key was killed: run stop first, or set key.",
            )
        return self._read(folder)

    def _boot(self, folder: Path, name: str) -> None:
        env = {key: self._env[key] for key in PASSED_ON if key in self._env}
        env |= {key: value for key, value in self._env.items() if key.startswith("GPU_CI_BOOT_")}
        log = str(folder / "boot.log")
        # Not subprocess: nobody waits for this process, it outlives us.
        os.posix_spawn(
            SHELL,
            [SHELL, "-c", 'cd "$1" && exec "$0" boot.sh', SHELL, str(folder)],
            {**env, MARKER: name},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )

    def _end(self, name: str, signum: signal.Signals, seconds: float) -> bool:
        """Signal every process of the machine until none is left; False if some still are."""
        for _ in every(0.05, Deadline.after(seconds, self._clock)):
            processes = _processes(name)
            if not processes:
                return True
            for pid in processes:
                _kill(pid, signum)
        return False

    def _remove_old(self) -> None:
        """Remove what is left of machines that ended by themselves long ago."""
        for folder in self._all():
            machine = self._read(folder)
            overdue = machine.tags.expires_at < self._clock.now()
            if overdue and self.state(machine) is State.GONE:
                shutil.rmtree(folder, ignore_errors=True)

    def _all(self) -> list[Path]:
        return sorted(path.parent for path in self._folders.glob("[!.]*/machine.json"))

    @staticmethod
    def _record(folder: Path) -> dict[str, object]:
        record: dict[str, object] = json.loads((folder / "machine.json").read_text())
        return record

    def _read(self, folder: Path) -> Machine:
        record = json.loads((folder / "machine.json").read_text())
        tags = Tags(**record["tags"])
        return Machine(
            provider=self.name,
            id=tags.name,
            tags=tags,
            region="local",
            type=record["type"],
            launched_at=record["launched_at"],
        )


def _state_folder(given: str, env: Mapping[str, str]) -> Path:
    if given:
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/gpu-ci")
    home = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME", "/")) / ".local" / "state")
    return Path(home) / "gpu-ci"


def _processes(name: str) -> list[int]:
    """Return the ids of all living processes that carry the machine's name in their environment."""
    mark = f"{MARKER}={name}".encode()
    found = []
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environ = (folder / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if mark in environ.split(b"\0"):
            found.append(int(folder.name))
    return found


def _kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return
