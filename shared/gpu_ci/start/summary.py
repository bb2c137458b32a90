"""The job summary of a start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_ci.model.machine import price_text
from gpu_ci.runtime.workflow_commands import table

if TYPE_CHECKING:
    from gpu_ci.model.machine import Machine
    from gpu_ci.start.rental import Lease, Rental


def start_summary(rental: Rental) -> str:
    """Return the job summary of a start, whatever came of it."""
    leases, tries = rental.leases, rental.tries
    parts = [f"### GPU runner: {_result(rental)}"]
    rows = [_lease_row(lease, lease.machine) for lease in leases if lease.machine]
    if rows:
        head = ("Machine", "Type", "Where", "Market", "Online after", "Price")
        parts.append(table(head, rows))
    if len(tries) > len(rows):
        tried = ("For", "Asked for", "Result")
        parts.append(table(tried, [(t.name, t.candidate, t.result) for t in tries]))
    return "\n\n".join(parts)


def _result(rental: Rental) -> str:
    online = rental.leases and all(lease.online_at for lease in rental.leases)
    if online and not rental.ending:
        return "online"
    return "failed, and not all could be given back" if rental.left else "failed, nothing is left"


def _lease_row(lease: Lease, machine: Machine) -> tuple[str, ...]:
    where, online = machine.zone or machine.region, _online_after(lease, machine)
    return (machine.name, machine.type, where, machine.market, online, price_text(machine.price))


def _online_after(lease: Lease, machine: Machine) -> str:
    if not lease.online_at:
        return "never"
    began = machine.launched_at  # 0 for one that was running already
    return f"{lease.online_at - began:.0f} s" if began else "unknown"
