"""What an input is when it is left out, as its description shows it to people and editors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# A value stands in backticks; words say who fills it in where the code has no value of its own.
FORM = re.compile(r"(?:(?!Default).)*(?<! )(?: Default: (?:`(?P<value>[^`]+)`|[^`]+)\.)?")


def shown_default(spec: Mapping[str, Any]) -> str:
    """Return the value in `default:`, or the one that the description ends with; "" for neither."""
    default = spec.get("default", "")
    if default != "":
        return str(default).lower() if isinstance(default, bool) else str(default)
    found = FORM.fullmatch(description(spec))
    return (found and found["value"]) or ""


def description(spec: Mapping[str, Any]) -> str:
    return " ".join(str(spec["description"]).split())


def is_in_form(spec: Mapping[str, Any]) -> bool:
    """Say whether a description shows a default at its end or not at all, and none twice."""
    text = description(spec)
    return "Default" not in text if spec.get("default", "") != "" else bool(FORM.fullmatch(text))
