"""Providers of other packages, which are found by their entry points.

`name = "module:Class"` in the group `gpu_ci.providers` makes the class a provider of that name. The
names of the providers in this package cannot be taken: they are looked up first.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import EnvironmentBroken
from gpu_ci.providers.about import About

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.metadata import EntryPoint

GROUP: Final = "gpu_ci.providers"
KINDS: Final = (".dist-info", ".egg-info")


def installed() -> Mapping[str, Sequence[EntryPoint]]:
    """Return the entry points of other packages by provider name; none of them is loaded yet."""
    return _installed(tuple(sys.path))


def load(name: str) -> type[Any]:
    """Load the class of a provider of another package. Raises KeyError and EnvironmentBroken."""
    offers = installed()[name]
    if len(offers) > 1:
        whose = " and ".join(sorted(_package(each) for each in offers))
        raise EnvironmentBroken(
            f"The provider {name} is offered by {whose}.", "Keep one of these packages installed."
        )
    (offer,) = offers
    try:
        found = offer.load()
    except Exception as error:  # a module may raise anything while it is loaded
        raise _broken(name, offer, f"{type(error).__name__}: {error}") from error
    about = getattr(found, "about", None)
    if not isinstance(about, About):
        raise _broken(name, offer, "it has no `about`, which must be an About")
    if about.name != name:
        raise _broken(name, offer, f"its `about` has the name {about.name!r}")
    provider: type[Any] = found
    return provider


@lru_cache(maxsize=1)
def _installed(path: tuple[str, ...]) -> Mapping[str, Sequence[EntryPoint]]:
    # Reading every package's metadata takes some 50 ms, and hardly anybody has such a package.
    if not any(map(_has_group, path)):
        return {}
    from importlib.metadata import entry_points  # noqa: PLC0415 -- the same

    found: dict[str, list[EntryPoint]] = {}
    for each in entry_points(group=GROUP):
        found.setdefault(each.name, []).append(each)
    return found


def _has_group(folder: str) -> bool:
    """Say whether a package in the folder has the group; archives and missing paths have none."""
    if not Path(folder).is_dir() or not os.access(folder or ".", os.R_OK | os.X_OK):
        return False
    names = os.listdir(folder or ".")  # noqa: PTH208 -- objects for each package cost a millisecond
    infos = [name for name in names if name.endswith(KINDS)]
    files = [Path(folder, info, "entry_points.txt") for info in infos]
    return any(GROUP.encode() in file.read_bytes() for file in files if file.is_file())


def _package(offer: EntryPoint) -> str:
    return offer.dist.name if offer.dist else offer.value


def _broken(name: str, offer: EntryPoint, why: str) -> EnvironmentBroken:
    return EnvironmentBroken(
        f"The provider {name} of the package {_package(offer)} ({offer.value}) cannot be loaded: "
        f"{why}.",
        f"Correct its entry point in the group {GROUP}, or install what it needs as well "
        "(GPU_CI_REQUIREMENTS names a requirements file).",
    )
