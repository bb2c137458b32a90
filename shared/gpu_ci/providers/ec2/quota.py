"""Which of the account's quotas a type counts against, and how much of it is left."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_ci.errors import CloudError
from gpu_ci.providers.ec2.clients import BRIEF

if TYPE_CHECKING:
    from gpu_ci.providers import Candidate
    from gpu_ci.providers.ec2.clients import Clients

STANDARD = r"([acdhimrtz]|im|is)\d"


@dataclass(frozen=True)
class Quota:
    """A quota of Service Quotas for a group of types; `types` is a regular expression."""

    types: str
    market: str
    code: str
    name: str


# "Amazon EC2 instance type quotas" and "Spot Instance quotas" (EC2 User Guide).
QUOTAS = (
    Quota(r"(g|gr|vt)\d", "on-demand", "L-DB2E81BA", "Running On-Demand G and VT instances"),
    Quota(r"(g|gr|vt)\d", "spot", "L-3819A6DF", "All G and VT Spot Instance Requests"),
    Quota(r"p\d", "on-demand", "L-417A185B", "Running On-Demand P instances"),
    Quota(r"p[234]", "spot", "L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"),
    Quota(r"p\d", "spot", "L-C4BD4855", "All P5 Spot Instance Requests"),
    Quota(
        STANDARD,
        "on-demand",
        "L-1216C47A",
        "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    ),
    Quota(
        STANDARD,
        "spot",
        "L-34B43A08",
        "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A quota and what counts against it, in vCPUs; None where AWS does not say."""

    quota: Quota
    region: str
    limit: float | None
    used: int | None
    asked: int | None

    @property
    def fits(self) -> bool | None:
        """Whether one more machine would fit; None where that is not known."""
        if self.limit is None or self.used is None or self.asked is None:
            return None
        return self.used + self.asked <= self.limit

    def __str__(self) -> str:
        asked, used, limit = (
            "?" if n is None else f"{n:g}" for n in (self.asked, self.used, self.limit)
        )
        return (
            f"Quota {self.quota.code} ({self.quota.name}) in {self.region}: "
            f"{asked} vCPUs asked for, {used} of {limit} in use."
        )


def quota_of(machine_type: str, market: str) -> Quota | None:
    """Return the quota that a type counts against, None for types that we don't know."""
    return next(
        (q for q in QUOTAS if q.market == market and re.match(q.types, machine_type)),
        None,
    )


def usage(clients: Clients, candidate: Candidate, region: str) -> Usage | None:
    """Return the quota of a candidate and its usage, as far as AWS tells.

    None for a type whose quota we don't know. Missing rights raise nothing.
    """
    quota = quota_of(candidate.type, candidate.market)
    if quota is None:
        return None
    return Usage(
        quota=quota,
        region=region,
        limit=_limit(clients, quota, region),
        used=_used(clients, quota, region),
        asked=_asked(clients, candidate.type, region),
    )


def _limit(clients: Clients, quota: Quota, region: str) -> float | None:
    try:
        answer = clients.ask(
            lambda: clients.quotas(region).get_service_quota(
                ServiceCode="ec2", QuotaCode=quota.code
            ),
            f"tell the quota {quota.code}",
            region,
            BRIEF,
        )
    except CloudError:
        return None
    return answer["Quota"].get("Value")


def _asked(clients: Clients, machine_type: str, region: str) -> int | None:
    request: dict[str, Any] = {"InstanceTypes": [machine_type]}
    try:
        answer = clients.ask(
            lambda: clients.ec2(region).describe_instance_types(**request),
            f"describe {machine_type}",
            region,
            BRIEF,
        )
    except CloudError:
        return None
    types = answer["InstanceTypes"]
    return types[0].get("VCpuInfo", {}).get("DefaultVCpus") if types else None


def _used(clients: Clients, quota: Quota, region: str) -> int | None:
    """Return the vCPUs of the machines that count, None when AWS does not tell for one of them."""
    states = ["pending", "running", "shutting-down", "stopping"]
    try:
        answer = clients.ask(
            lambda: clients.ec2(region).describe_instances(
                Filters=[{"Name": "instance-state-name", "Values": states}], MaxResults=1000
            ),
            "list the machines in use",
            region,
            BRIEF,
        )
    except CloudError:
        return None
    instances = [i for r in answer["Reservations"] for i in r["Instances"]]
    if answer.get("NextToken"):
        return None
    return _vcpus([i for i in instances if _counts(i, quota)])


def _counts(instance: Any, quota: Quota) -> bool:
    return quota_of(instance["InstanceType"], instance.get("InstanceLifecycle", "on-demand")) == (
        quota
    )


def _vcpus(instances: list[Any]) -> int | None:
    total = 0
    for instance in instances:
        options = instance.get("CpuOptions")
        if not options:
            return None
        total += int(options["CoreCount"]) * int(options["ThreadsPerCore"])
    return total
