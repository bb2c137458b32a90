"""Finds the image to boot: by id, by the newest of a name, or by an SSM parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_ci.errors import WrongRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from types_boto3_ec2.type_defs import FilterTypeDef

    from gpu_ci.providers.ec2.clients import Clients

SSM = "ssm:"
ID = re.compile(r"ami-[0-9a-f]{8,17}")
# Graviton and Grace: g5g.xlarge, t4g.small, a1.large, p6e-gb200.36xlarge.
ARM_TYPE = re.compile(r"(a1|[a-z]+\d+[a-z]*g[a-z]*|[a-z0-9]+-gb\d+)\.")
# Names and search as in "Finding the ID of a DLAMI" (AWS Deep Learning AMIs Developer Guide,
# find-dlami-id). Ubuntu 24.04 is what GitHub's own ubuntu-latest runs.
DEFAULT_NAMES = {
    "x86_64": "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) ????????",
    "arm64": "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) ????????",
}
# Anybody may publish an image under any name, so a search by name always names the owners.
DEFAULT_OWNERS = ("amazon", "self")


@dataclass(frozen=True)
class Disk:
    """A disk of an image: its device name and its least size."""

    device: str
    gb: int


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image and its disks.

    `kept` are disks besides the root that would outlive the machine by default.
    """

    id: str
    name: str
    root: Disk
    kept: tuple[Disk, ...] = ()

    def __str__(self) -> str:
        return f"{self.id} {self.name}".strip()


def architecture(machine_type: str) -> str:
    """Return `arm64` or `x86_64`, by AWS's naming of instance types."""
    return "arm64" if ARM_TYPE.match(machine_type) else "x86_64"


class Images:
    """Looks images up, each once per region."""

    def __init__(self, clients: Clients, owners: Sequence[str]) -> None:
        self._clients = clients
        self._owners = tuple(owners) or DEFAULT_OWNERS
        self._found: dict[tuple[str, str, str], Image] = {}

    def find(self, wanted: str, machine_type: str, region: str) -> Image:
        """Return the image for `ami-…`, `ssm:/a/parameter`, a name with `*` and `?` (the newest),
        or "" (AWS's base image for deep learning with NVIDIA's driver and Docker).

        Raises WrongRequest when there is none, or when it has no EBS root disk.
        """
        key = (wanted, architecture(machine_type), region)
        if key not in self._found:
            self._found[key] = self._look(*key)
        return self._found[key]

    def _look(self, wanted: str, arch: str, region: str) -> Image:
        if ID.fullmatch(wanted):
            return self._by_id(wanted, region)
        if wanted.startswith(SSM):
            return self._by_id(self._parameter(wanted.removeprefix(SSM), region), region)
        return self._newest(wanted or DEFAULT_NAMES[arch], arch, region)

    def _by_id(self, image_id: str, region: str) -> Image:
        answer = self._clients.ask(
            lambda: self._clients.ec2(region).describe_images(ImageIds=[image_id]),
            f"find the image {image_id}",
            region,
        )
        if not answer["Images"]:
            raise WrongRequest(f"There is no image {image_id} in {region}.", "Check `image`.")
        return _image(answer["Images"][0])

    def _parameter(self, name: str, region: str) -> str:
        answer = self._clients.ask(
            lambda: self._clients.ssm(region).get_parameter(Name=name),
            f"read the SSM parameter {name}",
            region,
        )
        value = str(answer["Parameter"].get("Value", ""))
        if not ID.fullmatch(value):
            raise WrongRequest(
                f"The SSM parameter {name} in {region} holds no image id.",
                "AWS's own end in /ami-id, /image_id or the image's name.",
            )
        return value

    def _newest(self, name: str, arch: str, region: str) -> Image:
        filters: list[FilterTypeDef] = [
            {"Name": "name", "Values": [name]},
            {"Name": "architecture", "Values": [arch]},
            {"Name": "state", "Values": ["available"]},
        ]
        answer = self._clients.ask(
            lambda: self._clients.ec2(region).describe_images(
                Owners=list(self._owners), Filters=filters
            ),
            f"look for images named {name}",
            region,
        )
        if not answer["Images"]:
            raise WrongRequest(
                f"No image for {arch} in {region} is named {name!r} and owned by "
                f"{' or '.join(self._owners)}.",
                "Check `image` and the option `image-owners`; `*` stands for any text.",
            )
        return _image(max(answer["Images"], key=lambda image: image.get("CreationDate", "")))


def _image(found: Any) -> Image:
    if found.get("RootDeviceType", "ebs") != "ebs":
        raise WrongRequest(
            f"The image {found['ImageId']} has its root disk on instance store.",
            "Only images with an EBS root disk can be used.",
        )
    disks = {m["DeviceName"]: m["Ebs"] for m in found["BlockDeviceMappings"] if "Ebs" in m}
    root = found["RootDeviceName"]
    kept = [
        device
        for device, disk in disks.items()
        if device != root and disk.get("DeleteOnTermination") is False
    ]
    return Image(
        id=found["ImageId"],
        name=found.get("Name", ""),
        root=Disk(root, disks[root]["VolumeSize"]),
        kept=tuple(Disk(device, disks[device]["VolumeSize"]) for device in kept),
    )
