"""What is not a success: the errors of the API, and the checks of what is sent to it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAME: Final = re.compile(r"[A-Za-z0-9 _-]{1,40}")
TRUTHS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer other than success."""

    status: int
    body: Mapping[str, Any]


def refuse(status: int, message: str) -> Refusal:
    """What the application itself says."""
    return Refusal(status, {"message": message})


def not_found(what: str = "Machine") -> Refusal:
    """What is said of an unknown id, of one of another kind, and of one of another region."""
    return refuse(HTTPStatus.NOT_FOUND, f"{what} not found")


@dataclass(frozen=True)
class Invalid(Exception):
    """A value of the wrong type; `kind` and `text` are pydantic's."""

    kind: str
    text: str


def number(value: Any) -> int:
    """Read an integer, also from text."""
    if isinstance(value, bool) or not re.fullmatch(r"-?\d+", str(value)):
        raise Invalid("int_parsing", "Input should be a valid integer, unable to parse string")
    return int(value)


def text(value: Any) -> str:
    """Read a text, which nothing else is taken for."""
    if not isinstance(value, str):
        raise Invalid("string_type", "Input should be a valid string")
    return value


def name(value: Any) -> str:
    """Read a machine's name."""
    if not text(value).strip() or not NAME.fullmatch(value):
        raise Invalid("string_pattern_mismatch", f"String should match pattern '^{NAME.pattern}$'")
    return text(value)


def truth(value: Any) -> bool:
    """Read a boolean, also from text."""
    if str(value).lower() not in TRUTHS:
        raise Invalid("bool_parsing", "Input should be a valid boolean, unable to interpret input")
    return TRUTHS[str(value).lower()]


@dataclass(frozen=True)
class Field:
    """One value that is asked for: how it is read, and what it is when it is left out or null."""

    name: str
    read: Callable[[Any], Any]
    default: Any = None
    required: bool = False


def wanted(name: str, read: Callable[[Any], Any]) -> Field:
    """A value that has to be there."""
    return Field(name, read, required=True)


def read(where: str, sent: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    """Return the fields of what was sent; raises Refusal with everything that is wrong."""
    values, wrong = {}, []
    for field in fields:
        value = sent.get(field.name)
        try:
            values[field.name] = _one(field, value)
        except Invalid as invalid:
            wrong.append(
                {
                    "type": invalid.kind,
                    "loc": [where, field.name],
                    "msg": invalid.text,
                    "input": value,
                }
            )
    if wrong:
        raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": wrong})
    return values


def _one(field: Field, value: Any) -> Any:
    if value is not None:
        return field.read(value)
    if field.required:
        raise Invalid("missing", "Field required")
    return field.default
