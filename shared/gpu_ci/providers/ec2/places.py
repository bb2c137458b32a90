"""Regions, zones and subnets: where a machine may be launched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import WrongHere

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.providers import Candidate
    from gpu_ci.providers.ec2.clients import Clients

REGION: Final = r"[a-z]{2,}(?:-[a-z]+)+-\d+"
OWN_ZONE: Final = re.compile(rf"{REGION}[a-z]")
# us-east-1b, or a local or wavelength zone: us-west-2-lax-1a, us-east-1-wl1-bos-wlz-1.
PLACE: Final = re.compile(rf"({REGION})([a-z]|-[a-z0-9-]+)?")


def split_region(text: str) -> tuple[str, str]:
    """Return (region, zone) for the name of a region or zone; other text counts as a region."""
    match = PLACE.fullmatch(text)
    if match is None or not match[2]:
        return text, ""
    return match[1], text


class Places:
    """Looks up places; the given subnets once per region."""

    def __init__(self, clients: Clients, subnets: Sequence[str]) -> None:
        self._clients = clients
        self._given = tuple(subnets)
        self._found: dict[str, dict[str, str]] = {}

    def subnet(self, candidate: Candidate, region: str) -> str:
        """Return the subnet to launch into, "" for the default VPC's.

        Raises WrongHere when subnets are given and none of them is in the candidate's place.
        """
        if not self._given:
            return ""
        by_zone = self._subnets_by_zone(region)
        zone = candidate.zone or next(iter(by_zone), "")
        if zone not in by_zone:
            raise WrongHere(
                f"None of the given subnets is in {candidate.zone or region}.",
                "Add one of that place to the option `subnets`, or leave the place out.",
            )
        return by_zone[zone]

    def other_zones(self, machine_type: str, region: str) -> list[str]:
        """Return the zones to try after the first choice: those of the given subnets but the first,
        or without subnets those that sell the type."""
        if self._given:
            return list(self._subnets_by_zone(region))[1:]
        answer = self._clients.ask(
            lambda: self._clients.ec2(region).describe_instance_type_offerings(
                LocationType="availability-zone",
                Filters=[{"Name": "instance-type", "Values": [machine_type]}],
            ),
            f"tell which zones sell {machine_type}",
            region,
        )
        names = (offer["Location"] for offer in answer["InstanceTypeOfferings"])
        # Local zones have no default subnet.
        return sorted(name for name in names if OWN_ZONE.fullmatch(name))

    def enabled_regions(self, asked_in: str) -> list[str]:
        """Return every region that the account may use."""
        answer = self._clients.ask(
            lambda: self._clients.ec2(asked_in).describe_regions(),
            "list the regions of the account",
            asked_in,
        )
        return [region["RegionName"] for region in answer["Regions"]]

    def _subnets_by_zone(self, region: str) -> dict[str, str]:
        """Return the first of the given subnets of each zone, in the order given."""
        if region not in self._found:
            zone_of = self._zone_of_each(region)
            by_zone: dict[str, str] = {}
            for subnet in self._given:
                if subnet in zone_of:
                    by_zone.setdefault(zone_of[subnet], subnet)
            self._found[region] = by_zone
        return self._found[region]

    def _zone_of_each(self, region: str) -> dict[str, str]:
        # By filter, not by id: the id of a subnet in another region would be an error.
        answer = self._clients.ask(
            lambda: self._clients.ec2(region).describe_subnets(
                Filters=[{"Name": "subnet-id", "Values": list(self._given)}]
            ),
            "look for the given subnets",
            region,
        )
        return {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in answer["Subnets"]}
