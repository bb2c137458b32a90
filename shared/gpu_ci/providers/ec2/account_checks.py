"""Looks at an account before anything is rented: credentials, network, rights, quota."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpu_ci.errors import CloudError, WrongRequest
from gpu_ci.providers import Check
from gpu_ci.providers.ec2.aws_errors import code_of
from gpu_ci.providers.ec2.clients import BRIEF
from gpu_ci.providers.ec2.quota import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.providers import Candidate
    from gpu_ci.providers.ec2.clients import Clients


def checked(what: str, look: Callable[[], str]) -> Check:
    """Return the check of one thing; `look` returns the detail or raises a CloudError."""
    try:
        return Check(what=what, ok=True, detail=look())
    except CloudError as error:
        return Check(what=what, ok=False, detail=error.what, cure=error.cure)


def credentials(clients: Clients, region: str) -> str:
    """Say who AWS takes us for, without the account's id."""
    answer = clients.ask(
        lambda: clients.sts(region).get_caller_identity(), "tell who we are", region, BRIEF
    )
    return "known to AWS as " + str(answer["Arn"]).rsplit(":", 1)[-1]


def dry_run(clients: Clients, request: dict[str, Any], region: str) -> str:
    """Ask AWS whether it would launch. Raises the error that a launch would end with."""
    try:
        clients.ask(
            lambda: clients.ec2(region).run_instances(**request, DryRun=True),
            "allow a launch",
            region,
        )
    except CloudError as error:
        if code_of(error.__cause__) != "DryRunOperation":
            raise
    return "RunInstances is allowed (dry run)"


def way_out(clients: Clients, region: str, subnet: str, *, public_ip: bool) -> str:
    """Say how a machine gets to the internet: it needs a way out, and no way in.

    Raises WrongRequest when there is no way out.
    """
    if not subnet:
        return _default_vpc(clients, region)
    found = clients.ask(
        lambda: clients.ec2(region).describe_subnets(SubnetIds=[subnet]),
        f"describe {subnet}",
        region,
        BRIEF,
    )["Subnets"][0]
    way = _default_route(clients, region, subnet, found["VpcId"])
    if way.startswith("igw-") and not (public_ip or found.get("MapPublicIpOnLaunch")):
        raise WrongRequest(
            f"{subnet} reaches the internet through {way}, but gives machines no public address.",
            "Set the option `public-ip` to true, or let the subnet assign addresses.",
        )
    if not way:
        raise WrongRequest(
            f"{subnet} has no route to the internet, so the runner cannot reach GitHub.",
            "Add a default route to an internet gateway or a NAT gateway, or use another subnet.",
        )
    return f"{subnet} in {found['AvailabilityZone']}, out through {way}"


def check_quota(clients: Clients, candidate: Candidate, region: str) -> Check:
    """Compare the quota for the type with its usage, as far as AWS tells."""
    known = usage(clients, candidate, region)
    if known is None or known.limit is None:
        return Check(what="quota", ok=True, detail="AWS does not tell; a launch will show it")
    cure = "Ask for more at https://console.aws.amazon.com/servicequotas, service Amazon EC2."
    ok = known.fits is not False and known.limit > 0
    return Check(what="quota", ok=ok, detail=str(known), cure="" if ok else cure)


def _default_vpc(clients: Clients, region: str) -> str:
    answer = clients.ask(
        lambda: clients.ec2(region).describe_vpcs(
            Filters=[{"Name": "is-default", "Values": ["true"]}]
        ),
        "look for the default VPC",
        region,
        BRIEF,
    )
    if not answer["Vpcs"]:
        raise WrongRequest(
            f"{region} has no default VPC.",
            "Give the option `subnets`, or make one: aws ec2 create-default-vpc.",
        )
    return "the default VPC"


def _default_route(clients: Clients, region: str, subnet: str, vpc: str) -> str:
    """Return the id of the gateway of the default route, "" where there is none."""
    own = _routes(clients, region, "association.subnet-id", subnet)
    main = own or _routes(clients, region, "vpc-id", vpc, main=True)
    for route in main:
        if route.get("DestinationCidrBlock") == "0.0.0.0/0" and route.get("State") != "blackhole":
            keys = ("GatewayId", "NatGatewayId", "TransitGatewayId", "NetworkInterfaceId")
            return next((str(route[key]) for key in keys if route.get(key)), "a gateway")
    return ""


def _routes(
    clients: Clients, region: str, field: str, value: str, *, main: bool = False
) -> list[Any]:
    filters = {field: value} | ({"association.main": "true"} if main else {})
    answer = clients.ask(
        lambda: clients.ec2(region).describe_route_tables(
            Filters=[{"Name": name, "Values": [wanted]} for name, wanted in filters.items()]
        ),
        "list routes",
        region,
        BRIEF,
    )
    return [route for table in answer["RouteTables"] for route in table["Routes"]]
