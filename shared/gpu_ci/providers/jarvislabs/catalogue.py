"""What JarvisLabs sells where, what it costs, and whether one is free."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_ci.errors import CloudUnreachable, NoCapacity, WrongHere
from gpu_ci.model.machine import Price
from gpu_ci.providers.jarvislabs.api_errors import CAPACITY_CURE, NETWORK_CURE, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.providers import Candidate
    from gpu_ci.providers.jarvislabs.api import Api


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One row of the catalogue, for one market. `kind` is "" where it holds for both kinds.

    `price` is per hour and GPU; it and `free` (GPUs) are None where the row does not tell.
    """

    type: str
    region: str
    kind: str
    market: str
    price: float | None
    free: int | None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to look for: a number of GPUs of a candidate's type, in a container or a VM."""

    candidate: Candidate
    kind: str
    gpus: int = 1

    def __str__(self) -> str:
        return f"{self.gpus} x {self.candidate}" if self.gpus > 1 else str(self.candidate)


class Catalogue:
    """`misc/server_meta`; it differs between regions' hosts, so the region's own is asked."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def offers(self, region: str) -> tuple[list[Offer], str]:
        """Return all offers and the account's currency. Raises CloudError."""
        doing = "tell what it sells"
        data = self._api.get("misc/server_meta", doing, region=region)
        try:
            offers = [offer for row in rows(data, "server_meta") for offer in _offers(row)]
        except (KeyError, TypeError, ValueError):
            raise CloudUnreachable(
                f"JarvisLabs did not {doing}: the list has another shape.", NETWORK_CURE
            ) from None
        return offers, str(data.get("currency") or "USD").upper()

    def demand(self, wanted: Wanted) -> int | None:
        """Return how many GPUs are free, None where the catalogue does not tell.

        Raises WrongHere where the type is not sold like this, NoCapacity where too few are free.
        """
        offers, _ = self.offers(wanted.candidate.region)
        fitting = _fitting(offers, wanted)
        if not fitting:
            raise _not_sold(offers, wanted)
        if any(offer.free is None for offer in fitting):
            return None
        free = max(offer.free or 0 for offer in fitting)
        if free < wanted.gpus:
            raise NoCapacity(f"JarvisLabs has no {wanted} free: {free} GPUs are.", CAPACITY_CURE)
        return free

    def price(self, wanted: Wanted, now: float) -> Price | None:
        """Return the cheapest fitting offer, in the account's currency."""
        offers, currency = self.offers(wanted.candidate.region)
        prices = [offer.price for offer in _fitting(offers, wanted) if offer.price is not None]
        if not prices:
            return None
        day = time.strftime("%Y-%m-%d", time.gmtime(now))
        source = f"JarvisLabs' catalogue of {day}"
        return Price(per_hour=min(prices) * wanted.gpus, currency=currency, source=source)


def _offers(row: dict[str, Any]) -> list[Offer]:
    common = {
        "type": str(row["gpu_type"]),
        "region": str(row["region"]),
        "kind": str(row.get("workload_type") or ""),
    }
    spot = Offer(
        market="spot",
        price=_figure(row.get("spot_price")),
        free=_count(row.get("spot_num_free_devices")),
        **common,
    )
    if row.get("spot_only_server"):
        return [spot]
    # A buyer at the full price gets the GPUs of spot machines, so they count as free here.
    regular = Offer(
        market="on-demand",
        price=_figure(row.get("price_per_hour")),
        free=_count(row.get("effective_num_free_devices")),
        **common,
    )
    return [regular] if spot.price is None else [regular, spot]


def _figure(value: Any) -> float | None:
    """Return a price; a price of zero is one that is not known."""
    return float(value) if value is not None and float(value) > 0 else None


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def _fitting(offers: Sequence[Offer], wanted: Wanted) -> list[Offer]:
    asked = wanted.candidate
    return [
        offer
        for offer in offers
        if (offer.type, offer.region, offer.market) == (asked.type, asked.region, asked.market)
        and offer.kind in {"", wanted.kind}
    ]


def _not_sold(offers: Sequence[Offer], wanted: Wanted) -> WrongHere:
    asked = wanted.candidate
    same = [offer for offer in offers if offer.market == asked.market]
    same = [offer for offer in same if offer.kind in {"", wanted.kind}]
    here = sorted({offer.type for offer in same if offer.region == asked.region})
    where = sorted({offer.region for offer in same if offer.type == asked.type})
    return WrongHere(
        f"JarvisLabs does not sell {asked.type!r} {asked.market} as a {wanted.kind} in {asked.region}.",
        f"It sells {', '.join(here) or 'nothing'} there, and {asked.type} in "
        f"{', '.join(where) or 'no region'}; types are spelt as it spells them.",
    )
