"""The JSON schema of `.github/gpu-ci.yml`, for editors; by the same code that reads the file. Pure."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.inputs.gate_inputs import REGION
from gpu_ci.profiles.keys import KEYS, Key
from gpu_ci.profiles.read_profile import NAME
from gpu_ci.providers import PROVIDERS, provider_class

if TYPE_CHECKING:
    from collections.abc import Mapping

SCALAR: Final = {"type": ["string", "number"]}
SEVERAL: Final = {"anyOf": [SCALAR, {"type": "array", "items": SCALAR}]}
# An editor sees a number, but a number in quotes counts too.
WHOLE: Final = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}]
}
MINUTES: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": "^[0-9]*[.]?[0-9]+$"},
    ]
}
# Keys that no action describes, since only the callable workflows use them.
OWN_DESCRIPTIONS: Final = {
    "aws-role": "Role of AWS that the callable workflows assume with the job's OIDC token.",
    "aws-region": f"Region in which they assume it. Default: `{REGION}`.",
}


def schema(descriptions: Mapping[str, str]) -> dict[str, Any]:
    """Return the schema; `descriptions` are those of the inputs, by their names."""
    told = {**OWN_DESCRIPTIONS, **descriptions}
    profile = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"description": told[name], **_held(key)} for name, key in KEYS.items()
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
    """Return the options of all providers. Each description says whose option it is."""
    found: dict[str, Any] = {}
    for provider in PROVIDERS:
        options = provider_class(provider).Options
        for field in fields(options):
            text = f"{provider}: {meaning(options, field.name)}"
            before = found.get(name := field.name.replace("_", "-"), {})
            text = f"{before['description']} {text}" if before else text
            found[name] = {"description": text, **_option(str(field.type))}
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


def meaning(options: type[Any], name: str) -> str:
    """Return what the docstring of a provider's options says of one."""
    text = inspect.getdoc(options) or ""
    found = re.search(rf"^{name}: (.*(?:\n(?!\w+: ).+)*)", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""
