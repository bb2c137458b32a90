"""One line of the ledger: what a machine cost, as a sentence that people and programs read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.ledger.split import Split
from gpu_ci.model.machine import Price

if TYPE_CHECKING:
    from collections.abc import Sequence

# The annotations of this title are the ledger.
TITLE: Final = "gpu-ci cost"
# The runner keeps this many notices of a step, and cuts long ones (actions/runner, ExecutionContext).
MOST_NOTICES: Final = 8
_NUMBER: Final = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_SENTENCE: Final = re.compile(
    r"(?:\d+\.\d{4} [A-Z]+|unknown cost): "
    r"(?P<machine>[\w-]+) \((?P<type>[^(),]*), (?P<market>[\w-]+)\), "
    r"(?:(?P<seconds>\d{1,9}) s|an unknown time) at "
    rf"(?:(?P<per_hour>{_NUMBER}) (?P<currency>[A-Z]+)/h(?: \((?P<source>[^()]+)\))?|an unknown price)"
    r"(?:: boot (?P<boot>\d{1,9}) s, work (?P<work>\d{1,9}) s, idle (?P<idle>\d{1,9}) s)?",
    re.ASCII,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one machine cost: whole seconds at a price of six digits, both None where unknown."""

    machine: str
    type: str
    market: str
    seconds: int | None = None
    price: Price | None = None
    split: Split | None = None

    @classmethod
    def of(
        cls,
        *,
        machine: str,
        type_: str,
        market: str,
        seconds: float | None,
        price: Price | None,
        split: Split | None,
    ) -> Entry:
        """Make an entry whose sentence holds all of it."""
        return cls(
            machine=re.sub(r"[^\w-]", "-", machine, flags=re.ASCII),
            type=_plain(type_).replace(",", " "),
            market=market,
            seconds=None if seconds is None else max(0, round(seconds)),
            price=_rounded(price) if price else None,
            split=split,
        )

    @property
    def cost(self) -> float | None:
        """What it cost, in the currency of the price; None where price or time is unknown."""
        if self.price is None or self.seconds is None:
            return None
        return self.price.per_hour * self.seconds / 3600

    def __str__(self) -> str:
        time = "an unknown time" if self.seconds is None else f"{self.seconds} s"
        parts = f": {self.split}" if self.split else ""
        what = f"{self.machine} ({self.type}, {self.market})"
        return f"{self._cost_text}: {what}, {time} at {_price_text(self.price)}{parts}"

    @property
    def _cost_text(self) -> str:
        cost = self.cost
        return (
            f"{cost:.4f} {self.price.currency}"
            if self.price and cost is not None
            else "unknown cost"
        )

    @classmethod
    def read(cls, sentence: str) -> Entry | None:
        """Read a sentence; None if it is not one, or its figures contradict each other."""
        found = _SENTENCE.fullmatch(sentence)
        if found is None:
            return None
        entry = cls(
            machine=found["machine"],
            type=found["type"],
            market=found["market"],
            seconds=None if found["seconds"] is None else int(found["seconds"]),
            price=_read_price(found),
            split=_read_split(found),
        )
        adds_up = entry.split is None or entry.split.seconds == entry.seconds
        return entry if adds_up and str(entry) == sentence else None


def _read_price(found: re.Match[str]) -> Price | None:
    if found["per_hour"] is None:
        return None
    return Price(
        per_hour=float(found["per_hour"]), currency=found["currency"], source=found["source"] or ""
    )


def _read_split(found: re.Match[str]) -> Split | None:
    if found["boot"] is None:
        return None
    return Split(boot=int(found["boot"]), work=int(found["work"]), idle=int(found["idle"]))


def _price_text(price: Price | None) -> str:
    if price is None:
        return "an unknown price"
    source = f" ({price.source})" if price.source else ""
    return f"{price.per_hour:.6g} {price.currency}/h{source}"


def _rounded(price: Price) -> Price:
    return Price(
        per_hour=float(f"{price.per_hour:.6g}"),
        currency=re.sub(r"[^A-Z]", "", price.currency.upper()) or "USD",
        source=_plain(price.source),
    )


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[()]", " ", text).split())


def notices(entries: Sequence[Entry]) -> list[str]:
    """Return the texts of the annotations for these machines: one each as long as the runner keeps
    them all, beyond that several lines in one."""
    texts = [""] * min(len(entries), MOST_NOTICES)
    for number, entry in enumerate(entries):
        at = number % MOST_NOTICES
        texts[at] = f"{texts[at]}\n{entry}".strip()
    return texts


def read_notice(message: str) -> tuple[list[Entry], int]:
    """Return the entries of an annotation, and how many of its lines are not entries."""
    read = [Entry.read(line.strip()) for line in message.splitlines() if line.strip()]
    entries = [entry for entry in read if entry is not None]
    return entries, len(read) - len(entries)
