"""What the stand-in for JarvisLabs sells: GPUs, CPU machines, templates, and their prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpu_ci_sandbox.fake_jarvislabs.machine_records import CPU, REGIONS

if TYPE_CHECKING:
    from gpu_ci_sandbox.fake_jarvislabs.machine_records import Machine, Settings

NOIDA, CHENNAI, EUROPE = REGIONS
# The price for an hour that an account in rupees sees for a dollar.
RUPEES: Final = 85.0
PLENTY: Final = 8
DISK_PER_GB_HOUR: Final = 0.00014
TEMPLATES: Final = (
    "pytorch", "fastai", "automatic", "axolotl", "comfyui", "fooocus", "ollama",
    "ollama_serverless", "tensorflow", "vllm", "vm",
)  # fmt: skip
# (vCPUs, GB, USD an hour)
CPU_PLANS: Final = ((2, 8, 0.06), (4, 16, 0.12), (8, 32, 0.24))
CPU_REGIONS: Final = (NOIDA, CHENNAI)


@dataclass(frozen=True)
class Gpu:
    """A type in a region. Prices are USD an hour for one GPU; `spot` None is not sold."""

    type: str
    region: str
    price: float
    spot: float | None
    vram: str
    kinds: tuple[str | None, ...] = ("container",)


# Prices of August 2026 as public catalogues showed them;
# those of the RTX5000, of Europe's H100 and of the CPU plans are made up.
GPUS: Final = (
    Gpu("L4", NOIDA, 0.44, 0.29, "24GB", ("container", "vm")),
    Gpu("RTX5000", NOIDA, 0.39, 0.25, "16GB"),
    Gpu("A30", NOIDA, 0.41, 0.29, "24GB"),
    Gpu("A100", NOIDA, 0.89, 0.79, "40GB", ("container", "vm")),
    Gpu("A100-80GB", NOIDA, 1.49, 0.89, "80GB", (None,)),
    Gpu("H100", NOIDA, 2.69, 1.19, "80GB", ("container", "vm")),
    Gpu("H200", NOIDA, 3.99, 1.99, "141GB", ("container", "vm")),
    Gpu("L4", CHENNAI, 0.44, 0.29, "24GB", ("container", "vm")),
    Gpu("RTX-PRO6000", CHENNAI, 1.89, 0.99, "96GB"),
    Gpu("A100-80GB", CHENNAI, 1.49, 0.89, "80GB"),
    Gpu("H100", EUROPE, 2.99, None, "80GB", ("container", "vm")),
    Gpu("H200", EUROPE, 3.99, None, "141GB", ("container", "vm")),
)


def server_meta(settings: Settings) -> dict[str, Any]:
    """Return the catalogue."""
    return {
        "server_meta": [_row(settings, gpu, kind) for gpu in GPUS for kind in gpu.kinds],
        "cpu_meta": {"combinations": [_plan(settings, *plan) for plan in CPU_PLANS]},
        "currency": settings.currency,
    }


def _row(settings: Settings, gpu: Gpu, kind: str | None) -> dict[str, Any]:
    free = free_gpus(settings, gpu.type, gpu.region)
    rate = RUPEES if settings.currency == "INR" else 1.0
    spot = None if gpu.spot is None or kind == "vm" else gpu.spot * rate
    return {
        "gpu_type": gpu.type,
        "region": gpu.region,
        "vram": gpu.vram,
        "arc": "Ampere",
        "cpus_per_gpu": 7,
        "ram_per_gpu": 32,
        "price_per_hour": gpu.price * rate,
        "spot_price": spot,
        "num_free_devices": free,
        "effective_num_free_devices": free,
        "spot_num_free_devices": 0 if spot is None else free,
        "workload_type": kind,
        "num_gpus": PLENTY,
        "spot_only_server": False,
        "reserved_pricing": None,
    }


def _plan(settings: Settings, vcpus: int, ram_gb: int, price: float) -> dict[str, Any]:
    regions = {region: free_gpus(settings, CPU, region) > 0 for region in CPU_REGIONS}
    return {
        "vcpus": vcpus,
        "ram_gb": ram_gb,
        "price_per_hour": price * (RUPEES if settings.currency == "INR" else 1.0),
        "available": any(regions.values()),
        "regions": regions,
    }


def free_gpus(settings: Settings, gpu_type: str, region: str) -> int:
    """Return how many of a type are free in a region; CPU machines are a type too."""
    return settings.free.get((gpu_type, region), PLENTY)


def sold_in(region: str, kind: str) -> list[str]:
    """Return the types that a region has for containers or for VMs."""
    if kind == "cpu-vm":
        return [CPU] if region in CPU_REGIONS else []
    return [gpu.type for gpu in GPUS if gpu.region == region and {kind, None} & {*gpu.kinds}]


def has_spot(gpu_type: str, region: str) -> bool:
    """Whether the type is sold on the spot market there."""
    return any(gpu.spot for gpu in GPUS if (gpu.type, gpu.region) == (gpu_type, region))


def cost(settings: Settings, machine: Machine) -> float:
    """Return the price of an hour of this machine with its disk, in the account's currency."""
    rate = RUPEES if settings.currency == "INR" else 1.0
    return (_compute(machine) + machine.hdd * DISK_PER_GB_HOUR) * rate


def _compute(machine: Machine) -> float:
    if machine.gpu_type == CPU:
        plans = {(vcpus, ram): price for vcpus, ram, price in CPU_PLANS}
        return plans.get((machine.vcpus, machine.ram_gb), 0.0)
    for gpu in GPUS:
        if (gpu.type, gpu.region) == (machine.gpu_type, machine.region):
            spot = machine.is_spot and gpu.spot is not None
            return (gpu.spot or 0.0 if spot else gpu.price) * machine.num_gpus
    return 0.0


def frameworks() -> dict[str, Any]:
    """Return the templates."""
    return {"frameworks": [{"id": each, "title": each.capitalize()} for each in TEMPLATES]}
