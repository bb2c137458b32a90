"""Finds a filesystem by its name: a machine is given its current number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_ci.errors import CloudUnreachable, WrongRequest
from gpu_ci.providers.jarvislabs.api_errors import NETWORK_CURE

if TYPE_CHECKING:
    from gpu_ci.providers.jarvislabs.api import Api


def filesystem_id(api: Api, name: str, region: str) -> int | None:
    """Return the id of the region's filesystem of this name, None for no name.

    Raises CloudError; WrongRequest where there is none.
    """
    if not name:
        return None
    found = _here(api, region)
    if name not in found:
        raise WrongRequest(
            f"There is no filesystem {name!r} in {region}.",
            f"There are: {', '.join(sorted(found)) or 'none'}. A filesystem serves its own region "
            "only.",
        )
    return found[name]


def _here(api: Api, region: str) -> dict[str, int]:
    doing = "list the filesystems"
    data = api.get("filesystem/list", doing)
    try:
        here = [row for row in data if row.get("region") in {region, None}]
        return {str(row["fs_name"]): int(row["fs_id"]) for row in here}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise CloudUnreachable(
            f"JarvisLabs did not {doing}: the list has another shape.", NETWORK_CURE
        ) from None
