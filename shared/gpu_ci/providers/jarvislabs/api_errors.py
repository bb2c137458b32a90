"""Turns JarvisLabs' answers into the errors of `gpu_ci.errors`, each with its cure.

The API has no error codes: the status, a flag that says `success` or `sucess`, and English text in
one of several places. (Shapes as the vendor's client 0.2.19 reads them.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import NoCapacity, NotPermitted, QuotaExceeded, WrongHere
from gpu_ci.providers.http import (
    Cures,
    Passing,
    Service,
    by_status,
    may_pass,
    message,
    refused,
)

if TYPE_CHECKING:
    from gpu_ci.errors import CloudError

NETWORK_CURE: Final = (
    "Try again in a minute. If that does not help, check this machine's way to the internet and "
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
MACHINE_CURE: Final = "Look for the machine by its name at https://jarvislabs.ai."
REQUEST_CURE: Final = "Correct the inputs machine, image, disk-gb or provider-options."
SERVICE: Final = Service(
    title="JarvisLabs",
    root="https://backendn.jarvislabs.net",
    key_variable="JL_API_KEY",
    root_variable="JL_API_URL",
    cures=Cures(
        network=NETWORK_CURE,
        key=KEY_CURE,
        owner=OWNER_CURE,
        funds=BALANCE_CURE,
        machine=MACHINE_CURE,
        request=REQUEST_CURE,
    ),
)


def succeeded(data: Any) -> bool | None:
    """Read the flag of an answer, however it is spelt; None where there is none."""
    if not isinstance(data, dict):
        return None
    flags = [data[name] for name in ("success", "sucess") if name in data]
    return str(flags[0]).strip().lower() == "true" if flags else None


def rows(data: Any, name: str) -> list[dict[str, Any]]:
    """Return the list of this name in a successful answer. Raises TypeError for anything else,
    which must not pass for an empty list."""
    listed = data.get(name) if isinstance(data, dict) else None
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise TypeError(f"{name} is not a list of objects")
    return listed


def refusal(doing: str, status: int, data: Any, after: float = 0.0) -> CloudError:
    """Return the error for an answer that is not a success; `doing` is what was asked for."""
    what = refused(SERVICE, doing, status, data)
    if may_pass(status):
        return Passing(what, NETWORK_CURE, after=after)
    if types := _types(data):
        return WrongHere(what, f"Name one of {', '.join(types)} under machine, or another region.")
    return _by_words(what, message(data)) or by_status(what, status, SERVICE.cures)


def _types(data: Any) -> list[str]:
    """Return the types that an answer offers instead of the one that was asked for."""
    detail = data.get("detail") if isinstance(data, dict) else None
    types = detail.get("gpu_types") if isinstance(detail, dict) else None
    return [str(each) for each in types] if isinstance(types, list) else []


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
