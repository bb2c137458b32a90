"""Machine: the handle that start hands to stop, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from gpu_ci.model.tags import Tags

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T", bound="Tags | Machine | Price")


class State(Enum):
    """What the provider says about a machine; an error instead of an answer is never a state."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"  # only its disk is billed; it can be resumed
    FAILED = "failed"  # the cloud gave up on it; whether it is billed is not known
    ENDING = "ending"  # no longer billed, not yet gone
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Price:
    """What an hour costs; `source` says where the figure comes from, and its day."""

    per_hour: float
    currency: str = "USD"
    source: str = ""


def price_text(price: Price | None) -> str:
    """Return the price an hour in words, "unknown" if no source has it."""
    return f"{price.per_hour:.4g} {price.currency}/h" if price else "unknown"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One rented machine.

    `launched_at` is in seconds since the epoch, by the provider's clock if it gives it, 0 if
    nobody does. `kept` says that it has a name of its own and is paused rather than ended;
    `started` is False for a kept machine that somebody else had started and that was taken over.
    """

    provider: str
    id: str
    tags: Tags
    region: str = ""
    zone: str = ""
    type: str = ""
    market: str = "on-demand"
    launched_at: float = 0.0
    kept: bool = False
    started: bool = True
    price: Price | None = None

    @property
    def name(self) -> str:
        return self.tags.name

    def describe(self) -> str:
        """Return the machine as a log names it."""
        place = f" in {self.region}" if self.region else ""
        return self.name if self.id == self.name else f"{self.name} ({self.id}{place})"


def to_handle(machines: Sequence[Machine]) -> str:
    """Return the JSON that `action-stop` takes: an object, or a list for several machines.

    It holds no account id, no address and no secret: GitHub drops outputs that contain a mask.
    """
    handles = [asdict(machine) for machine in machines]
    return json.dumps(handles[0] if len(handles) == 1 else handles, separators=(",", ":"))


def from_handle(text: str) -> tuple[Machine, ...]:
    """Read what `to_handle` wrote. Raises ValueError when it is something else."""
    try:
        loaded = json.loads(text)
        return tuple(_machine(item) for item in (loaded if isinstance(loaded, list) else [loaded]))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a machine handle: {error}") from error


def _machine(item: dict[str, Any]) -> Machine:
    price = item.get("price")
    parts = {"tags": _read(Tags, item["tags"]), "price": _read(Price, price) if price else None}
    return _read(Machine, item | parts)


def _read(kind: type[T], item: dict[str, Any]) -> T:
    """Make a dataclass of the fields that it knows. Raises TypeError for a value of another type."""
    known = [field for field in fields(kind) if field.name in item]
    for field in known:
        if not isinstance(item[field.name], _JSON_TYPES.get(str(field.type), object)):
            raise TypeError(f"{field.name} is not of type {field.type}")
    return kind(**{field.name: item[field.name] for field in known})


_JSON_TYPES = {"str": str, "int": int, "float": int | float, "bool": bool}
