"""Looks at an account before anything is rented: key, balance, name, what is free, script slots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import CloudError, CloudUnreachable, QuotaExceeded
from gpu_ci.model.machine import State
from gpu_ci.providers import Check
from gpu_ci.providers.jarvislabs.api_errors import BALANCE_CURE, NETWORK_CURE
from gpu_ci.providers.jarvislabs.startup_scripts import place_of, places, refuse_foreign, slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_ci.providers import Order
    from gpu_ci.providers.jarvislabs.api import Api
    from gpu_ci.providers.jarvislabs.catalogue import Catalogue, Wanted
    from gpu_ci.providers.jarvislabs.machine_rows import Instance, Instances
    from gpu_ci.providers.jarvislabs.startup_scripts import Scripts

RESUMABLE: Final = {State.PAUSED, State.RUNNING, State.PENDING}


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """One order, looked at from every side, without spending anything."""

    api: Api
    instances: Instances
    catalogue: Catalogue
    scripts: Scripts
    order: Order

    def key_and_balance(self) -> Check:
        """Say whether the key is known to JarvisLabs and the account has money left."""
        return _checked("balance", self._balance)

    def rest(self, wanted: Callable[[Instance | None], Wanted]) -> Iterator[Check]:
        """Look at the rest; `wanted` says what must be free, for a machine or a new one."""
        name = self.order.tags.name
        yield _checked("machine name", self._name)
        yield _checked("startup script", self._script)
        yield _checked("capacity", lambda: self._free(wanted(self.instances.one(name))))

    def _balance(self) -> str:
        doing = "tell the balance"
        data = self.api.get("users/balance", doing)
        try:
            left = sum(float(data.get(name) or 0) for name in ("balance", "grants"))
        except (AttributeError, TypeError, ValueError):
            raise CloudUnreachable(f"JarvisLabs did not {doing}.", NETWORK_CURE) from None
        if left <= 0:
            raise QuotaExceeded(f"The account's balance is {left:g}.", BALANCE_CURE)
        return f"the key is good, {left:g} left"

    def _name(self) -> str:
        found = self.instances.one(self.order.tags.name)
        if found is None:
            return f"no machine is named {self.order.tags.name} so far"
        if found.state not in RESUMABLE:
            raise CloudError(
                f"{found.describe()} is {found.status}.",
                "Look at it at https://jarvislabs.ai: only a paused machine can be resumed.",
            )
        return f"{found.describe()} is {found.status}"

    def _script(self) -> str:
        tags, scripts = self.order.tags, self.scripts.all()
        refuse_foreign(tags.name, places(scripts, tags.name) - {place_of(tags.scope)})
        return slots(scripts)

    def _free(self, wanted: Wanted) -> str:
        free = self.catalogue.demand(wanted)
        _, currency = self.catalogue.offers(wanted.candidate.region)
        told = "an unknown number of" if free is None else str(free)
        return f"{wanted}: {told} GPUs free; prices are in {currency}"


def _checked(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what=what, ok=True, detail=look())
    except CloudError as error:
        return Check(what=what, ok=False, detail=error.what, cure=error.cure)
