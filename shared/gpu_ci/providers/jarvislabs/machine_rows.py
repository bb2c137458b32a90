"""Reads what JarvisLabs says about its machines, leniently, and finds a machine again."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from gpu_ci.errors import CloudUnreachable, NameShared, NoSuchMachine, WrongRequest
from gpu_ci.model.machine import Machine, State
from gpu_ci.model.tags import Tags
from gpu_ci.providers.http import Call
from gpu_ci.providers.jarvislabs.api_errors import (
    NETWORK_CURE,
    REQUEST_CURE,
    refusal,
    rows,
    succeeded,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.providers.jarvislabs.api import Api

Kind = Literal["container", "vm", "cpu-vm"]
# Each kind has endpoints of its own (vendor's client 0.2.19).
ENDPOINTS: Final[dict[Kind, str]] = {
    "container": "misc",
    "vm": "templates/vm",
    "cpu-vm": "templates/vm/cpu",
}
# Any other word is a transition between these.
STATES: Final = {
    "running": State.RUNNING,
    "paused": State.PAUSED,
    "failed": State.FAILED,
    "destroying": State.ENDING,
}


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One row of `users/fetch`; `status` in the vendor's spelling, `disk_gb` 0 if not told.

    `ssh` is the command that the vendor offers for logging in, "" while there is none.
    """

    id: str
    name: str
    status: str
    template: str = ""
    gpu_type: str = ""
    num_gpus: int = 1
    disk_gb: int = 0
    region: str = ""
    is_spot: bool = False
    fs_id: int | None = None
    http_ports: str = ""
    ssh: str = ""

    @property
    def state(self) -> State:
        return STATES.get(self.status.lower(), State.PENDING)

    @property
    def kind(self) -> Kind:
        if self.template != "vm":
            return "container"
        return "cpu-vm" if self.gpu_type == "CPU" else "vm"

    @property
    def market(self) -> str:
        return "spot" if self.is_spot else "on-demand"

    def describe(self) -> str:
        """Return the machine as an error names it."""
        return f"{self.name} ({self.id} in {self.region or 'an unknown region'})"


class Instances:
    """The account's machines. Every answer is complete or a CloudError."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def all(self) -> list[Instance]:
        """List the machines of all regions; one answer has them all, whichever host is asked."""
        doing = "list the machines"
        data = self._api.get("users/fetch", doing)
        with suppress(KeyError, TypeError, ValueError):
            if succeeded(data):
                return [read(row) for row in rows(data, "instances")]
        raise CloudUnreachable(
            f"JarvisLabs did not {doing}: the list has another shape.", NETWORK_CURE
        )

    def named(self, name: str) -> list[Instance]:
        """Return those that have exactly this name; the service lets several have one."""
        return [each for each in self.all() if each.name == name]

    def one(self, name: str, known_id: str = "") -> Instance | None:
        """Return the machine of this name; of several, the one with this id if it is up.

        A paused one of this id may be what is left of a machine whose id has just changed. One that
        is being destroyed does not count if there is another. Raises NameShared.
        """
        same = self.named(name)
        alive = [each for each in same if each.state is not State.ENDING] or same[:1]
        known = [each for each in alive if each.id == known_id and each.state is not State.PAUSED]
        if len(alive) > 1 and not known:
            raise _shared(name, alive)
        return next(iter(known or alive), None)

    def by_id(self, machine_id: str) -> Instance | None:
        """Return the machine of this id, None if there is none.

        Asking for one machine has been seen to fail for machines that exist: the list decides.
        """
        if machine_id.isdigit():
            doing = f"tell the state of {machine_id}"
            with suppress(NoSuchMachine, WrongRequest, KeyError, TypeError, ValueError):
                return read(self._api.get(f"users/fetch/{machine_id}", doing)["instance"])
        return next((each for each in self.all() if each.id == machine_id), None)

    def tell(self, instance: Instance, action: Literal["pause", "destroy"]) -> None:
        """Send a machine this call, once, at its region's host. Raises CloudError."""
        self._api.send(
            Call(
                verb="POST",
                path=f"{ENDPOINTS[instance.kind]}/{action}",
                doing=f"{action} {instance.describe()}",
                region=instance.region,
                query={"machine_id": instance.id},
            )
        )


def read(row: dict[str, Any]) -> Instance:
    """Read a row. Numbers come as text too, and older rows lack fields. Raises ValueError."""
    return Instance(
        id=str(int(row["machine_id"])),
        name=str(row["instance_name"] or ""),
        status=str(row["status"] or ""),
        template=str(row.get("framework") or row.get("template") or ""),
        gpu_type=str(row.get("gpu_type") or ""),
        num_gpus=_number(row.get("num_gpus")) or 1,
        disk_gb=_number(row.get("hdd")),
        region=str(row.get("region") or ""),
        is_spot=str(row.get("is_spot")).lower() in {"true", "1"},
        fs_id=_number(row.get("fs_id")) or None,
        http_ports=str(row.get("http_ports") or ""),
        ssh=str(row.get("ssh_str") or ""),
    )


def _number(value: Any) -> int:
    """Return the number that a value begins with (`100`, `"100GB"`), 0 if with no number."""
    found = re.match(r"\s*(\d+)", str(value))
    return int(found[1]) if found else 0


def machine_of(
    instance: Instance,
    tags: Tags,
    *,
    launched_at: float = 0.0,
    kept: bool = False,
    started: bool = True,
) -> Machine:
    """Return the handle for a row."""
    return Machine(
        provider="jarvislabs",
        id=instance.id,
        tags=tags,
        region=instance.region,
        type=instance.gpu_type,
        market=instance.market,
        launched_at=launched_at,
        kept=kept,
        started=started,
    )


def only_name(name: str, run_id: str = "", attempt: str = "") -> Tags:
    """Return the tags of a machine as far as a cloud without tags knows them."""
    return Tags(
        name=name, label="", repository="", run_id=run_id, attempt=attempt, key="", scope=""
    )


def new_id(doing: str, answer: Any) -> str:
    """Return the id in the answer to a create or resume call.

    An answer without one that says why raises that refusal, and nothing was made; any other raises
    CloudUnreachable.
    """
    given = answer.get("machine_id") if isinstance(answer, dict) else None
    if given and str(given).isdigit():
        return str(given)
    if isinstance(answer, dict) and any(answer.get(key) for key in ("message", "error", "detail")):
        raise refusal(doing, 200, answer)
    raise CloudUnreachable(
        f"JarvisLabs did not {doing}: its answer names no machine.", REQUEST_CURE
    )


def _shared(name: str, found: Sequence[Instance]) -> NameShared:
    ids = ", ".join(f"{each.id} ({each.status} in {each.region})" for each in found)
    return NameShared(
        f"{len(found)} machines are named {name!r}: {ids}.",
        "Rename or remove all but one at https://jarvislabs.ai: which one is meant is not known.",
    )
