"""The bodies of the create and resume calls, complete each time: what is left out is lost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import WrongHere, WrongRequest

if TYPE_CHECKING:
    from gpu_ci.providers import Candidate, Order
    from gpu_ci.providers.jarvislabs.machine_rows import Instance
    from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions

# The vendor's own default; a virtual machine cannot have less.
DISK_GB: Final = 100
NO_SPOT: Final = "europe-01"


def create_body(
    order: Order, options: JarvisLabsOptions, script_id: int | None, fs_id: int | None
) -> dict[str, Any]:
    """Return what a new machine is asked for with."""
    return {
        "gpu_type": order.candidate.type,
        "num_gpus": options.num_gpus or 1,
        "hdd": order.disk_gb or DISK_GB,
        "region": order.candidate.region,
        "disk_type": "ssd",
        "name": order.tags.name,
        "is_spot": order.candidate.market == "spot",
        "http_ports": options.http_ports,
        "script_id": script_id,
        "fs_id": fs_id,
        **_ALWAYS,
    }


def resume_body(
    instance: Instance,
    order: Order,
    options: JarvisLabsOptions,
    script_id: int | None,
    fs_id: int | None,
) -> dict[str, Any]:
    """Return what a paused machine is resumed with: its own, where nothing else is wanted."""
    common = {
        "machine_id": int(instance.id),
        "hdd": max(instance.disk_gb, order.disk_gb),  # it can only grow
        "name": instance.name,
    }
    if instance.kind == "cpu-vm":
        return {"num_cpus": 1, **common}
    return {
        **common,
        "gpu_type": order.candidate.type or instance.gpu_type,
        "num_gpus": options.num_gpus or instance.num_gpus,
        "is_spot": order.candidate.market == "spot",
        "http_ports": options.http_ports or instance.http_ports,
        "script_id": script_id,
        "fs_id": fs_id or instance.fs_id,
        **_ALWAYS,
    }


_ALWAYS: Final = {"duration": "hour", "script_args": "", "arguments": ""}


def refuse_name(name: str) -> None:
    """Raise WrongRequest for a name that JarvisLabs does not take (vendor's client 0.2.19)."""
    if not re.fullmatch(r"[A-Za-z0-9 _-]{1,40}", name) or not name.strip():
        raise WrongRequest(
            f"{name!r} is no name for a machine of JarvisLabs.",
            "Use 1 to 40 letters, digits, spaces, hyphens and underscores.",
        )


def refuse_spot(candidate: Candidate, kind: str) -> None:
    """Raise WrongHere where JarvisLabs has no spot market."""
    if candidate.market != "spot" or (kind == "container" and candidate.region != NO_SPOT):
        return
    raise WrongHere(
        f"JarvisLabs has no spot market for a {kind} in {candidate.region}.",
        f"It has one for containers only, and none in {NO_SPOT}.",
    )
