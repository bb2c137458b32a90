"""Sorts what JarvisLabs answers into the classes of `gpu_ci.errors`, each with its cure.

The API has no error codes: the status, a flag that says `success` or `sucess`, and English text in
one of several places. (Shapes as the vendor's client 0.2.19 reads them.)
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import (
    CloudUnreachable,
    NoCapacity,
    NoSuchMachine,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)

if TYPE_CHECKING:
    from gpu_ci.errors import CloudError

NETWORK_CURE: Final = (
    "Try again in a minute. If it stays so, look at the way out to the internet from here and at "
    "JarvisLabs' own news; JL_API_URL, if it is set, must be the API's root."
)
KEY_CURE: Final = (
    "Make a new one at https://jarvislabs.ai/settings/api-keys and keep it as a secret that the "
    "step passes on as JL_API_KEY."
)
OWNER_CURE: Final = "Use a key of the account that the machine belongs to."
BALANCE_CURE: Final = (
    "Add funds at https://jarvislabs.ai. At zero JarvisLabs pauses every machine and deletes data."
)
CAPACITY_CURE: Final = (
    "Name further types under machine, other regions or the other market, or try again later."
)
REQUEST_CURE: Final = "Correct the inputs machine, image, disk-gb or provider-options."
LISTED: Final = 300


class Passing(CloudUnreachable):
    """A trouble that may be over in a moment; `after` is how many seconds we are asked to wait."""

    def __init__(self, what: str, cure: str = NETWORK_CURE, *, after: float = 0.0) -> None:
        super().__init__(what, cure)
        self.after = after


def succeeded(data: Any) -> bool | None:
    """Read the flag of an answer, however it is spelt; None where there is none."""
    if not isinstance(data, dict):
        return None
    flags = [data[name] for name in ("success", "sucess") if name in data]
    return str(flags[0]).strip().lower() == "true" if flags else None


def rows(data: Any, name: str) -> list[dict[str, Any]]:
    """Return the list of this name in a successful answer, where everything else is no list at
    all: nothing must pass for an empty one. Raises TypeError."""
    listed = data.get(name) if isinstance(data, dict) else None
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise TypeError(f"{name} is not a list of objects")
    return listed


def message(data: Any) -> str:
    """Return the words of an error, on one line and shortened; "" where there are none."""
    if not isinstance(data, dict):
        return ""
    words = (_words(data.get(name)) for name in ("message", "error", "detail", "error_message"))
    return next(filter(None, words), "")[:LISTED]


def _words(said: Any) -> str:
    match said:
        case str():
            text = " ".join(said.split())
            return "" if text == "None" else text  # what an answer without an error says
        case list():
            return "; ".join(filter(None, map(_finding, said)))
        case dict():
            return _words(said.get("message"))
        case _:
            return ""


def _finding(item: Any) -> str:
    """Return one finding of a validation: where, and what is wrong with it."""
    if not isinstance(item, dict):
        return _words(item)
    where = ".".join(map(str, item.get("loc") or []))
    return f"{where}: {_words(item.get('msg'))}" if where else _words(item.get("msg"))


def refusal(doing: str, status: int, data: Any, after: float = 0.0) -> CloudError:
    """Return the error for an answer that is none of success; `doing` is what was asked for."""
    said = message(data)
    reason = f'"{said}"' if said else "without a reason"
    what = f"JarvisLabs did not {doing}: it answered {status}, {reason}."
    if _may_pass(status):
        return Passing(what, after=after)
    if types := _types(data):
        return WrongHere(what, f"Name one of {', '.join(types)} under machine, or another region.")
    return _by_words(what, said) or _by_status(what, status)


def _types(data: Any) -> list[str]:
    """Return the types that an answer offers instead of the one that was asked for."""
    detail = data.get("detail") if isinstance(data, dict) else None
    types = detail.get("gpu_types") if isinstance(detail, dict) else None
    return [str(each) for each in types] if isinstance(types, list) else []


def _may_pass(status: int) -> bool:
    passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in passing


# In this order: "insufficient balance" is no lack of machines.
_WORDS: Final[tuple[tuple[str, type[CloudError], str], ...]] = (
    (r"balance|insufficient (funds|credit)", QuotaExceeded, BALANCE_CURE),
    (r"not authenticated|invalid token|unauthori[sz]ed", NotPermitted, KEY_CURE),
    (r"does not belong", NotPermitted, OWNER_CURE),
    (
        r"capacity|no free|not available|unavailable|out of stock|stock|not enough gpus?",
        NoCapacity,
        CAPACITY_CURE,
    ),
)


def _by_words(what: str, said: str) -> CloudError | None:
    for pattern, error, cure in _WORDS:
        if re.search(pattern, said, re.IGNORECASE):
            return error(what, cure)
    return None


def _by_status(what: str, status: int) -> CloudError:
    match status:
        case 401:
            return NotPermitted(what, KEY_CURE)
        case 402:
            return QuotaExceeded(what, BALANCE_CURE)
        case 403:
            return NotPermitted(what, f"{KEY_CURE} {OWNER_CURE}")
        case 404:
            return NoSuchMachine(what, "Look for the machine at https://jarvislabs.ai.")
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return CloudUnreachable(what, NETWORK_CURE)  # sent elsewhere: not the API
        case _:
            return WrongRequest(what, REQUEST_CURE)
