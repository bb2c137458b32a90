"""The options of EC2, and the parameters of RunInstances. Pure."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import WrongRequest

if TYPE_CHECKING:
    from gpu_ci.providers import Order
    from gpu_ci.providers.ec2.image import Image

# "User data is limited to 16 KB, in raw form, before it is base64-encoded" (EC2 User Guide,
# user-data).
USER_DATA_LIMIT: Final = 16384


@dataclass(frozen=True, kw_only=True)
class Ec2Options:
    """What `provider-options` may hold.

    subnets: ids of subnets, the first of each zone is used; default the default VPC's.
    security_groups: ids; no inbound rule is needed, HTTPS must get out; default the VPC's own.
    public_ip: give machines in `subnets` a public address where the subnet itself does not.
    instance_profile: for the job's own use of AWS; its name, not the role's.
    image_owners: whose images a search by name may find; default `amazon` and `self`.
    volume_type: of the root disk.
    encrypted: encrypt the root disk, where a policy of the account asks for it.
    spot_max_price: in USD an hour; default the on-demand price.
    key_name: key pair for logging in by SSH when something must be looked at.
    tags: more tags, as `key=value`, for billing or for policies of the account.
    """

    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    public_ip: bool = False
    instance_profile: str = ""
    image_owners: tuple[str, ...] = ()
    volume_type: str = "gp3"
    encrypted: bool = False
    spot_max_price: str = ""
    key_name: str = ""
    tags: tuple[str, ...] = ()


def run_request(order: Order, options: Ec2Options, image: Image, subnet: str) -> dict[str, Any]:
    """Return the parameters of RunInstances for an order; the same order gives the same request.

    An empty subnet leaves the network to the default VPC. Raises WrongRequest when the boot script
    is too big or the disk too small.
    """
    return {
        "ImageId": image.id,
        "InstanceType": order.candidate.type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": order.token,
        "UserData": user_data(order.boot_script),
        "InstanceInitiatedShutdownBehavior": "terminate",
        # Two hops, so that containers on a bridge network can use the instance profile too.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": _disks(order, options, image),
        "TagSpecifications": _tags(order, options),
        **_network(order, options, subnet),
        **_market(order, options),
        **_access(options),
    }


def user_data(boot_script: str) -> bytes:
    """Return the script as EC2 takes it, compressed only when it must be (cloud-init unpacks it).

    Raises WrongRequest when it is too big even so.
    """
    plain = boot_script.encode()
    if len(plain) <= USER_DATA_LIMIT:
        return plain
    packed = gzip.compress(plain, mtime=0)  # no time in it: the same order is the same request
    if len(packed) > USER_DATA_LIMIT:
        raise WrongRequest(
            f"The boot script has {len(plain)} bytes, {len(packed)} compressed; "
            f"EC2 takes {USER_DATA_LIMIT}.",
            "Shorten `setup-script`: let it fetch long parts from a repository or a bucket, or "
            "put them into the image.",
        )
    return packed


def _disks(order: Order, options: Ec2Options, image: Image) -> list[dict[str, Any]]:
    """Return the root disk, and the image's other disks so that they end with the machine."""
    if 0 < order.disk_gb < image.root.gb:
        raise WrongRequest(
            f"`disk-gb` is {order.disk_gb}, but {image} needs {image.root.gb}.",
            "Raise it, or leave it out for the image's own size.",
        )
    root: dict[str, Any] = _ends_with_machine(order.disk_gb or image.root.gb)
    root["VolumeType"] = options.volume_type
    if options.encrypted:
        root["Encrypted"] = True
    others = [
        {"DeviceName": disk.device, "Ebs": _ends_with_machine(disk.gb)} for disk in image.kept
    ]
    return [{"DeviceName": image.root.device, "Ebs": root}, *others]


def _ends_with_machine(gb: int) -> dict[str, Any]:
    return {"VolumeSize": gb, "DeleteOnTermination": True}


def _tags(order: Order, options: Ec2Options) -> list[dict[str, Any]]:
    extra = dict(tag.partition("=")[::2] for tag in options.tags)
    tags = {**extra, "Name": order.tags.name, **order.tags.as_mapping()}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    carriers = ["instance", "volume"]
    if order.candidate.market == "spot":
        carriers.append("spot-instances-request")
    return [{"ResourceType": carrier, "Tags": pairs} for carrier in carriers]


def _network(order: Order, options: Ec2Options, subnet: str) -> dict[str, Any]:
    groups = list(options.security_groups)
    if subnet and options.public_ip:
        interface: dict[str, Any] = {
            "DeviceIndex": 0,
            "SubnetId": subnet,
            "AssociatePublicIpAddress": True,
            "DeleteOnTermination": True,
        }
        return {"NetworkInterfaces": [interface | ({"Groups": groups} if groups else {})]}
    request: dict[str, Any] = {"SecurityGroupIds": groups} if groups else {}
    if subnet:
        return request | {"SubnetId": subnet}
    if order.candidate.zone:
        return request | {"Placement": {"AvailabilityZone": order.candidate.zone}}
    return request


def _market(order: Order, options: Ec2Options) -> dict[str, Any]:
    if order.candidate.market != "spot":
        return {}
    spot = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
    if options.spot_max_price:
        spot["MaxPrice"] = options.spot_max_price
    return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": spot}}


def _access(options: Ec2Options) -> dict[str, Any]:
    access: dict[str, Any] = {"KeyName": options.key_name} if options.key_name else {}
    profile = options.instance_profile
    if profile:
        access["IamInstanceProfile"] = {"Arn" if profile.startswith("arn:") else "Name": profile}
    return access
