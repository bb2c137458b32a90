"""The repository's machine profiles, for this machine: what only a cloud knows is left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from gpu_ci_sandbox.act.runnable_steps import LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = ".github/gpu-ci.yml"
OF_A_CLOUD: Final = LEFT_OUT | {"gpus", "provider-options"}


def for_this_machine(text: str) -> str:
    """Return the file with every profile's provider `local`; one that is wrong stays as it is."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    profiles = loaded.get("profiles") if isinstance(loaded, dict) else None
    if not isinstance(profiles, dict):
        return text
    # JSON is YAML, and quotes whatever needs it.
    made = {name: _profile(given) for name, given in profiles.items()}
    return json.dumps({**loaded, "profiles": made}, indent=1)


def _profile(given: Any) -> Any:
    return _local(given) if isinstance(given, dict) else given


def _local(given: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in given.items() if key not in OF_A_CLOUD}
    return {**kept, **({"provider": "local"} if "provider" in given else {})}
