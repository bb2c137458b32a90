"""Checks everything a start needs, without spending anything: one line each, with the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_ci.boot.script import Registration
from gpu_ci.errors import GpuCiError
from gpu_ci.providers import Check
from gpu_ci.runtime import workflow_commands
from gpu_ci.start.rental import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.start.rental import Rental


class NotWell(GpuCiError):
    """At least one check failed; each was printed with its cure."""

    exit_code = 3


def examine(rental: Rental) -> None:
    """Print a line for each check. Raises NotWell when one failed."""
    failed = 0
    for check in _checks(rental):
        failed += not check.ok
        mark, cure = ("ok  ", "") if check.ok else ("FAIL", f" {check.cure}")
        workflow_commands.say(f"{mark} {check.what}: {check.detail}{cure}")
    if failed:
        raise NotWell(f"{failed} of the checks failed.", "Each line above names its cure.")


def _checks(rental: Rental) -> Iterator[Check]:
    builds = ", ".join(build.architecture for build in rental.builds)
    yield Check(
        what="GitHub", ok=True, detail=f"may register runners in {rental.github.scope} ({builds})"
    )
    own_name = rental.plan.identity.name(0)
    lease = Lease(index=0, name=rental.inputs.machine_name or own_name)
    lease.label = rental.plan.label(own_name)
    yield _lock(rental) if rental.inputs.machine_name else _name_is_free(rental)
    registration = Registration(name=lease.name, labels=(lease.label,), jit_config="x" * 4200)
    seen = set()
    for candidate in rental.plan.candidates:
        if (candidate.type, candidate.region) not in seen:
            seen.add((candidate.type, candidate.region))
            yield from rental.provider.check(rental.order(lease, registration, candidate))


def _name_is_free(rental: Rental) -> Check:
    name = rental.plan.identity.name(0)
    taken = rental.github.runner_named(name)
    return Check(
        what="Runner name",
        ok=taken is None,
        detail=f"{name} is {'free' if taken is None else 'taken'}",
        cure="Another start has the same key, or one was killed: set key, or run stop first.",
    )


def _lock(rental: Rental) -> Check:
    name = rental.inputs.machine_name
    holder = rental.github.runner_named(name)
    held = rental.lock(()).claim.held(holder)
    return Check(
        what="Lock",
        ok=held is None,
        detail=f"{name}: {held.why if held else 'free'}",
        cure="A start would wait for it; a registration that nobody needs can be removed under "
        "Settings, Actions, Runners.",
    )
