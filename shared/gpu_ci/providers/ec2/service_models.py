"""The parts of botocore's service models that this provider needs, kept for the next step.

botocore describes each service in JSON, EC2 in several megabytes. Reading that takes longer than all
calls of a stop. So the models are reduced to the operations that this provider calls, and the result
is kept in the environment that `shared/run` made, in a folder that it made for this.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from botocore.loaders import Loader
    from botocore.session import Session

# A client has no other methods. Services that are not named here keep all of theirs.
OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "ec2": frozenset(
        {
            "DescribeImages",
            "DescribeInstanceTypeOfferings",
            "DescribeInstanceTypes",
            "DescribeInstances",
            "DescribeRegions",
            "DescribeRouteTables",
            "DescribeSpotPriceHistory",
            "DescribeSubnets",
            "DescribeVpcs",
            "GetConsoleOutput",
            "RunInstances",
            "TerminateInstances",
        }
    ),
    "pricing": frozenset({"GetProducts"}),
    "service-quotas": frozenset({"GetServiceQuota"}),
    "ssm": frozenset({"GetParameter"}),
}
FOLDER: Final = "service-models"
# The services above, and those that credentials may come from, as endpoints.json names them.
ENDPOINTS: Final = frozenset(
    {"api.pricing", "ec2", "oidc", "portal.sso", "servicequotas", "ssm", "sts"}
)


def service_models(session: Session) -> Loader:
    """Return the component `data_loader` for this session."""
    from botocore import __version__, loaders  # noqa: PLC0415 -- loaded when AWS is first asked

    class Reduced(loaders.Loader):
        """Reads the kept models, else botocore's own, reduced. What a user has put in their place in
        ~/.aws/models or AWS_DATA_PATH is reduced too, but not kept."""

        def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 -- all types
            """Name all services; botocore opens 800 folders to see whether each has this type."""
            folders = filter(Path.is_dir, map(Path, self.search_paths))
            return sorted({entry.name for folder in folders for entry in folder.iterdir()})

        def load_data_with_path(self, name: str) -> tuple[Any, str]:
            reduce = _reduction(name)
            if reduce is None:
                return super().load_data_with_path(name)
            kept = _kept(f"{name} of botocore {__version__}")
            if kept and not self._is_replaced(name):
                with suppress(OSError, ValueError):  # not there yet: it is made below
                    return json.loads(kept.read_bytes()), self.BUILTIN_DATA_PATH
            data, path = super().load_data_with_path(name)
            reduced = reduce(data)
            if kept and self.is_builtin_path(path):
                _keep(kept, reduced)
            return reduced, path

        def _is_replaced(self, name: str) -> bool:
            others = (path for path in self.search_paths if path != self.BUILTIN_DATA_PATH)
            return any(self.file_loader.exists(f"{path}/{name}") for path in others)

    given = session.get_config_variable("data_path") or ""
    paths = [path for path in os.path.expandvars(given).split(os.pathsep) if path]
    return Reduced(extra_search_paths=[str(Path(path).expanduser()) for path in paths])


def _reduction(name: str) -> Callable[[Any], Any] | None:
    if name == "endpoints":
        return _reduced_endpoints
    service, _, rest = name.partition("/")
    if service in OPERATIONS and rest.endswith("/service-2"):
        return lambda model: reduced_model(model, OPERATIONS[service])
    return None


def reduced_model(model: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """Return a service's model with only these operations and every shape that they lead to."""
    operations = {name: told for name, told in model["operations"].items() if name in names}
    shapes: dict[str, Any] = {}
    found = [*_shape_names(operations)]
    while found:
        name = found.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            found += _shape_names(shapes[name])
    return {**model, "operations": operations, "shapes": shapes}


def _shape_names(part: Any) -> Iterator[str]:
    """Yield the shapes that a part of a model refers to: {"shape": NAME}, however deep."""
    if isinstance(part, dict):
        if isinstance(part.get("shape"), str):
            yield part["shape"]
        for each in part.values():
            yield from _shape_names(each)
    elif isinstance(part, list):
        for each in part:
            yield from _shape_names(each)


def _reduced_endpoints(data: Mapping[str, Any]) -> dict[str, Any]:
    partitions = [
        {
            **partition,
            "services": {
                name: service
                for name, service in partition["services"].items()
                if name in ENDPOINTS
            },
        }
        for partition in data["partitions"]
    ]
    return {**data, "partitions": partitions}


def _kept(what: str) -> Path | None:
    """Return the file to keep this in, None where there is no place for it."""
    folder = Path(sys.prefix) / FOLDER
    if not folder.is_dir():
        return None
    asked = repr([what, sorted(ENDPOINTS), [(k, sorted(v)) for k, v in OPERATIONS.items()]])
    name = hashlib.sha256(asked.encode()).hexdigest()
    return folder / f"{name}.json"


def _keep(file: Path, data: Any) -> None:
    """Write the file in one step. Without it the next step is only slower."""
    with suppress(OSError):
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as stream:
            json.dump(data, stream, separators=(",", ":"))
        Path(stream.name).replace(file)
