"""One profile out of the file: every value as the text that an input would have. Pure."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Final

import yaml

from gpu_ci.errors import BadInputs
from gpu_ci.profiles import yaml_nodes
from gpu_ci.profiles.keys import KEYS, OF_THE_STEP, SECRETS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
# How secrets begin that could pass for a value: GitHub's tokens, AWS key ids, PEM.
SECRET: Final = re.compile(
    r"\b(gh[opsur]_|github_pat_)\w{16}|\bA[KS]IA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY"
)
SECRET_NAME: Final = re.compile(r"token|secret|password|private-key|api-key|access-key|credential")
LEAKED: Final = (
    "holds what looks like a secret. Remove it and revoke it: the repository's history keeps it."
)
AN_EXPRESSION: Final = (
    "holds an expression, and expressions are not evaluated here. Give it as an input."
)


def read(data: bytes, name: str, named: str) -> Mapping[str, str]:
    """Return the values of one profile by their keys, none of them empty.

    `named` is the file's name in errors. Raises BadInputs with every problem of this profile; other
    profiles are not checked.
    """
    profiles = _profiles(data, named)
    if name not in profiles:
        raise BadInputs([_unknown("profile", name, profiles, f"{named} has")])
    given = yaml_nodes.entries(profiles[name], named, f"profile {name}")
    problems: list[str] = []
    values: dict[str, str] = {}
    for key, node in given.items():
        try:
            values[key] = _value(key, node, named)
        except BadInputs as bad:
            problems += bad.problems
    if problems:
        raise BadInputs(problems)
    return {key: value for key, value in values.items() if value.strip()}


def _profiles(data: bytes, named: str) -> Mapping[str, yaml.Node]:
    root = yaml_nodes.compose(data, named)
    if root is None:
        raise BadInputs([f"{named} is empty. Write `profiles:`, and below it a name for each."])
    top = yaml_nodes.entries(root, named, "the file")
    for key in set(top) - {"profiles"}:
        known = "The only key is `profiles`, with each profile by its name below it."
        raise yaml_nodes.bad(top[key], named, f"{key!r} is not known at the top. {known}")
    if "profiles" not in top:
        raise BadInputs([f"{named} has no `profiles:`."])
    return yaml_nodes.entries(top["profiles"], named, "profiles")


def _unknown(what: str, name: str, known: Iterable[str], there_are: str) -> str:
    near = difflib.get_close_matches(name, known := list(known), 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what} {name!r} is not known.{hint} {there_are}: {', '.join(known) or 'none'}."


def _value(key: str, node: yaml.Node, named: str) -> str:
    if key not in KEYS:
        raise yaml_nodes.bad(node, named, _refusal(key))
    text = _text(key, node, named)
    if SECRET.search(text):
        raise yaml_nodes.bad(node, named, f"{key} {LEAKED}")
    if "${{" in text:
        raise yaml_nodes.bad(node, named, f"{key} {AN_EXPRESSION}")
    return text


def _refusal(key: str) -> str:
    if key in OF_THE_STEP:
        return f"{key} belongs to one step, not to a machine. Give it as an input there."
    if key in SECRETS or SECRET_NAME.search(key):
        return (
            f"{key} is a secret, and no secret goes into a file. Store it under Settings, Secrets "
            "and variables, Actions, and hand it to the step."
        )
    return _unknown("key", key, KEYS, "Known are")


def _text(key: str, node: yaml.Node, named: str) -> str:
    """Return a value as an input has it: a list as lines, options as JSON."""
    value = yaml_nodes.plain(node, named)
    match node:
        case yaml.MappingNode() if KEYS[key].kind == "options":
            return json.dumps(value, separators=(",", ":"))
        case yaml.SequenceNode() if KEYS[key].kind == "several" and _are_scalars(node):
            return "\n".join(_written(item) for item in node.value)
        case yaml.ScalarNode():
            return _written(node)
        case _:
            held = {"options": "a mapping", "several": "a value or a list of values"}
            wanted = held.get(KEYS[key].kind, "one value")
            raise yaml_nodes.bad(node, named, f"{key} must be {wanted}.")


def _are_scalars(node: yaml.SequenceNode) -> bool:
    return all(isinstance(item, yaml.ScalarNode) for item in node.value)


def _written(node: yaml.ScalarNode) -> str:
    """Return a scalar as it is written: `no` is a word, and `010` a text; a null is empty."""
    is_null = node.style is None and node.tag == f"{yaml_nodes.YAML_TAG}null"
    return "" if is_null else str(node.value)
