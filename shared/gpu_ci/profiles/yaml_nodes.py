"""YAML as plain nodes with their lines: no objects are built from it, and nothing may repeat.

A key that comes twice is an error here, and so is an alias. Of two values one would be lost without
a word, and aliases of aliases grow without end.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, cast

import yaml

from gpu_ci.errors import BadInputs

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES: Final = 64 * 1024
YAML_TAG: Final = "tag:yaml.org,2002:"
JSON_TYPES: Final = (
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"|~|null|Null|NULL"), lambda _: None),
    (re.compile(r"[-+]?(0|[1-9][0-9]*)"), int),
    (re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?"), float),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader. It is used for nodes only, and refuses aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event: yaml.AliasEvent = self.peek_event()  # type: ignore[no-untyped-call]  # its stubs
            raise yaml.MarkedYAMLError(
                problem=f"the alias *{event.anchor} is not taken here: write out what it stands for",
                problem_mark=cast("yaml.error.Mark", event.start_mark),
            )
        return super().compose_node(parent, index)


def compose(data: bytes, named: str) -> yaml.Node | None:
    """Return the one document of a file, None if it is empty.

    Raises BadInputs, with the file's name and the line, if it is not YAML or too large.
    """
    if len(data) > MOST_BYTES:
        raise BadInputs([f"{named} is larger than {MOST_BYTES // 1024} KiB. Shorten it."])
    try:
        return _compose(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInputs([f"{named}, line {line}: this is not UTF-8. Save it as UTF-8."]) from None
    except RecursionError:
        raise BadInputs([f"{named} is nested too deeply. Write it flat."]) from None
    except yaml.reader.ReaderError as error:
        line = data.decode("utf-8-sig").count("\n", 0, error.position) + 1
        problem = f"YAML may not contain the character {error.character:#06x}"
        raise BadInputs([f"{named}, line {line}: {problem}. Remove it."]) from None
    except yaml.MarkedYAMLError as error:
        raise BadInputs([_in_words(error, named)]) from None


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        found = loader.get_single_node()
    finally:
        loader.dispose()
    return found if isinstance(found, yaml.Node) else None


def _in_words(error: yaml.MarkedYAMLError, named: str) -> str:
    line = error.problem_mark.line + 1 if error.problem_mark else 1
    problem = error.problem or "this is not YAML"
    cure = " YAML is indented by spaces, not tabs." if r"'\t'" in problem else ""
    return f"{named}, line {line}: {problem}.{cure}"


def line(node: yaml.Node) -> int:
    """Return the line, from 1, on which a node begins."""
    return int(node.start_mark.line) + 1


def bad(node: yaml.Node, named: str, problem: str) -> BadInputs:
    """Return the error for a problem with a node, with its line."""
    return BadInputs([f"{named}, line {line(node)}: {problem}"])


def entries(node: yaml.Node, named: str, what: str) -> Mapping[str, yaml.Node]:
    """Return the values of a mapping by their keys.

    `what` names the mapping in an error. Raises BadInputs if it is no mapping or repeats a key.
    """
    if not isinstance(node, yaml.MappingNode):
        raise bad(node, named, f"{what} must be `name: value` lines.")
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        where = f"{named}, line {line(key)}"
        if not isinstance(key, yaml.ScalarNode):
            raise BadInputs([f"{where}: a key must be a plain word."])
        if key.value in found:
            before = line(found[key.value])
            raise BadInputs([f"{where}: {key.value!r} is on line {before} already. Remove one."])
        found[key.value] = value
    return found


def plain(node: yaml.Node, named: str) -> Any:
    """Return a node as a JSON value; words such as `no` and `on` stay text.

    Raises BadInputs for a tag that stands for some program's object, and for a number that JSON
    cannot hold.
    """
    tag = node.tag.removeprefix(YAML_TAG)
    if not re.fullmatch(r"[a-z]+", tag):
        raise bad(node, named, f"the tag {node.tag!r} is not taken here. Remove it.")
    match node:
        case yaml.MappingNode():
            values = entries(node, named, "this")
            return {key: plain(value, named) for key, value in values.items()}
        case yaml.SequenceNode():
            return [plain(item, named) for item in node.value]
        case yaml.ScalarNode(value=text) if node.style is None:
            return _typed(node, text, named)
        case _:
            return node.value


def _typed(node: yaml.Node, text: str, named: str) -> Any:
    made = next((made for pattern, made in JSON_TYPES if pattern.fullmatch(text)), str)
    try:
        value = made(text)
    except ValueError:  # more digits than Python reads
        value = math.inf
    if isinstance(value, float) and not math.isfinite(value):
        cure = "Put it in quotes if it is a text."
        raise bad(node, named, f"this number is too large. {cure}")
    return value
