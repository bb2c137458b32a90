"""What a start asks for, and in which order. Pure; it is printed before money is spent."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_ci.providers import MARKETS, Candidate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_ci.inputs.start_inputs import StartInputs
    from gpu_ci.model.identity import Identity
    from gpu_ci.providers import Provider

# A kept machine has a type already.
KEPT_TYPE = ("",)


@dataclass(frozen=True, kw_only=True)
class StartPlan:
    """One start: who it is, how many machines it wants, and the candidates for each, best first.

    `nonce` is the random part of this start's labels, so that no other job can aim at them;
    `machine_name` is the kept machine's, "" for fresh ones.
    """

    identity: Identity
    count: int
    nonce: str
    machine_name: str = ""
    candidates: tuple[Candidate, ...]

    def label(self, name: str) -> str:
        """Return the label of the machine with this name: what `runs-on` waits for."""
        return self.identity.label(name, self.nonce)

    def token(self, name: str, candidate: Candidate) -> str:
        """Return the create call's idempotency token, a different one for each machine and candidate."""
        return hashlib.sha256(f"{self.label(name)}\n{candidate}".encode()).hexdigest()[:48]

    def lines(self) -> list[str]:
        """Return the plan in words, a line each."""
        machines = "one machine" if self.count == 1 else f"{self.count} machines, all or none"
        tries = [f"  {n}. {candidate}" for n, candidate in enumerate(self.candidates, 1)]
        name = self.machine_name or self.identity.name(0)
        head = f"{machines} for {self.identity.scope}, named {name}"
        if self.machine_name:
            tries = [
                "  resumed if it is paused, taken over if it runs for nobody",
                *self._if_absent(),
            ]
        return [head, *tries]

    def _if_absent(self) -> list[str]:
        made = [f"  made if it is absent: {each}" for each in self.candidates if each.type]
        return made or ["  not made if it is absent: no type is named"]


def plan_start(
    inputs: StartInputs, identity: Identity, provider: Provider, nonce: str
) -> StartPlan:
    """Decide what to ask for."""
    return StartPlan(
        identity=identity,
        count=inputs.count,
        nonce=nonce,
        machine_name=inputs.machine_name,
        candidates=candidates(
            inputs.machine
            or (KEPT_TYPE if inputs.machine_name else tuple(provider.default_machines)),
            [provider.split_region(text) for text in inputs.region or provider.default_regions],
            MARKETS[inputs.market],
        ),
    )


def candidates(
    types: Sequence[str], places: Sequence[tuple[str, str]], markets: Sequence[str]
) -> tuple[Candidate, ...]:
    """Order types first, then markets, then places: a type's spot offers everywhere come before
    its on-demand ones, and both come before the next type."""
    return tuple(
        Candidate(type=type_, region=region, zone=zone, market=market)
        for type_ in types
        for market in markets
        for region, zone in places or [("", "")]
    )
