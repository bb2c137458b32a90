"""Reads the runners of `.cirun.yml` as profiles.

https://docs.cirun.io/reference/yaml
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gpu_ci.errors import BadInputs
from gpu_ci.profiles import yaml_nodes

# A profile's values by their keys; several values are a list.
Profile = Mapping[str, str | list[str]]
PROVIDERS: Final = {"aws": "ec2"}
# The keys of a runner, and what they are called here.
KEYS: Final = {
    "instance_type": "machine",
    "machine_image": "image",
    "ami": "image",
    "region": "region",
    "labels": "labels",
}
READ: Final = {"name", "cloud", "preemptible", *KEYS}
MARKETS: Final = {
    (True,): "spot",
    (False,): "on-demand",
    (True, False): "spot-then-on-demand",
}
LABELS: Final = "labels are kept, but jobs no longer need them, and any job that asks for one may take the machine."


def read_cirun(data: bytes, named: str) -> tuple[dict[str, Profile], list[str]]:
    """Return the profiles by their names, and what was left out, in words.

    Raises BadInputs if there is no runner that a provider here offers.
    """
    profiles: dict[str, Profile] = {}
    notes: list[str] = []
    for number, runner in enumerate(_runners(data, named), 1):
        name = _name(runner, number, profiles)
        provider = PROVIDERS.get(str(runner.get("cloud", "")).lower())
        if provider is None:
            notes.append(f"{name} is left out: there is no provider for {runner.get('cloud')!r}.")
            continue
        profiles[name], left_out = _profile(runner, provider)
        notes += [f"{name}: {note}" for note in left_out]
    if not profiles:
        raise BadInputs([f"{named} has no runner that a provider here offers.", *notes])
    return profiles, notes


def _runners(data: bytes, named: str) -> list[Mapping[str, Any]]:
    root = yaml_nodes.compose(data, named)
    loaded = yaml_nodes.plain(root, named) if root else None
    runners = loaded.get("runners") if isinstance(loaded, dict) else None
    if not isinstance(runners, list) or not all(isinstance(each, dict) for each in runners):
        raise BadInputs([f"{named} has no list `runners:` of `name: value` lines."])
    return runners


def _name(runner: Mapping[str, Any], number: int, taken: Mapping[str, Profile]) -> str:
    """Return a profile's name that is not taken yet."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(runner.get("name") or "")).strip("-._")[:48]
    name = name or f"runner-{number}"
    return f"{name}-{number}" if name in taken else name


def _profile(runner: Mapping[str, Any], provider: str) -> tuple[Profile, list[str]]:
    profile: dict[str, str | list[str]] = {"provider": provider}
    notes = []
    for theirs, ours in KEYS.items():
        told = _texts(runner.get(theirs))
        if told:
            profile[ours] = told if told[1:] else told[0]
    market = _market(runner.get("preemptible"))
    if market:
        profile["market"] = market
    if "preemptible" in runner and not market:
        notes.append(f"preemptible is {runner['preemptible']!r}, taken as on-demand.")
    if _is_of_one_region(profile):
        notes.append("an image has another id in each region: give a name filter, or one region.")
    if "labels" in profile:
        notes.append(LABELS)
    unread = [key for key in runner if key not in READ]
    if unread:
        notes.append(f"{', '.join(unread)} left out.")
    return profile, notes


def _market(preemptible: Any) -> str:
    tried = tuple(preemptible) if isinstance(preemptible, list) else (preemptible,)
    known = [each for each in tried if isinstance(each, bool)]
    return MARKETS.get(tuple(known), "") if len(known) == len(tried) else ""


def _is_of_one_region(profile: Profile) -> bool:
    return isinstance(profile.get("region"), list) and str(profile.get("image")).startswith("ami-")


def _texts(value: Any) -> list[str]:
    """Return one value or a list of values as texts; anything else is dropped."""
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if isinstance(each, str | int | float) and str(each)]
