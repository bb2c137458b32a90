"""The JSON schema of `.github/gpu-ci.yml`, for editors; by the same code that reads the file.

`PYTHONPATH=shared python -m gpu_ci.profiles.schema > gpu-ci.schema.json` writes it anew.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from gpu_ci.profiles.keys import KEYS, Key
from gpu_ci.profiles.read_profile import NAME
from gpu_ci.providers import PROVIDERS, provider_class

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[3]
SCALAR: Final = {"type": ["string", "number"]}
SEVERAL: Final = {"anyOf": [SCALAR, {"type": "array", "items": SCALAR}]}
# An editor reads a number, but in quotes it is one as well.
WHOLE: Final = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}]
}
MINUTES: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": "^[0-9]*[.]?[0-9]+$"},
    ]
}
OWN_DESCRIPTIONS: Final = {
    "aws-role": "Role of AWS that the callable workflows assume with the job's OIDC token.",
    "aws-region": "Region in which they assume it. Default - us-east-1.",
}


def schema(descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema; `descriptions` are those of the inputs, by their names."""
    profile = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"description": descriptions[name], **_held(key)} for name, key in KEYS.items()
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpu-ci machine profiles",
        "description": "`.github/gpu-ci.yml`: inputs of the actions, by the name of a machine.",
        "type": "object",
        "additionalProperties": False,
        "required": ["profiles"],
        "properties": {
            "profiles": {
                "description": "Each profile by its name, which the input `profile` gives.",
                "type": "object",
                "propertyNames": {"pattern": f"^{NAME}$"},
                "additionalProperties": profile,
            }
        },
    }


def _held(key: Key) -> dict[str, Any]:
    match key.kind:
        case "choice":
            return {"enum": list(key.choices)}
        case "several":
            return SEVERAL
        case "whole":
            return WHOLE
        case "minutes":
            return MINUTES
        case "options":
            return {"anyOf": [{"type": "string"}, _options()]}
        case "text":
            return SCALAR


def _options() -> dict[str, Any]:
    """Return what any provider's options may be; which are whose, each description says."""
    found: dict[str, Any] = {}
    for provider in PROVIDERS:
        options = provider_class(provider).Options
        for field in fields(options):
            meaning = f"{provider}: {_meaning(options, field.name)}"
            before = found.get(name := field.name.replace("_", "-"), {})
            meaning = f"{before['description']} {meaning}" if before else meaning
            found[name] = {"description": meaning, **_option(str(field.type))}
    return {"type": "object", "additionalProperties": False, "properties": found}


def _option(annotation: str) -> dict[str, Any]:
    types: dict[str, dict[str, Any]] = {
        "str": {"type": "string"},
        "bool": {"type": "boolean"},
        "int": {"type": "integer"},
        "tuple[str, ...]": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
        },
    }
    return types[annotation]


def _meaning(options: type[Any], name: str) -> str:
    """Return what the docstring of a provider's options says of one."""
    text = inspect.getdoc(options) or ""
    found = re.search(rf"^{name}: (.*(?:\n(?!\w+: ).+)*)", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def described(root: Path = ROOT) -> dict[str, str]:
    """Return what action.yml says of each key; of stop's only what start has not."""
    found = dict(OWN_DESCRIPTIONS)
    for action in ("action-stop", "action-start"):
        inputs = yaml.safe_load((root / action / "action.yml").read_text())["inputs"]
        found |= {name: " ".join(spec["description"].split()) for name, spec in inputs.items()}
    return found


def written(root: Path = ROOT) -> str:
    """Return the schema's file."""
    return json.dumps(schema(described(root)), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(written())
