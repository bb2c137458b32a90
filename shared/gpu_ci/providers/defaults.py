"""The answers of a plain provider, for a class that has no better ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpu_ci.model.machine import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci.model.machine import Machine, Price
    from gpu_ci.model.tags import Tags
    from gpu_ci.providers import Candidate

# A cloud may not list a machine that it has just made.
YOUNG_SECONDS: Final = 120.0


class Defaults:
    """The answers to `Provider` of a cloud that has no zones and tells neither price nor log."""

    default_regions: Sequence[str] = ()

    def split_region(self, text: str) -> tuple[str, str]:
        return text, ""

    def zones(self, candidate: Candidate) -> Sequence[Candidate]:  # noqa: ARG002 -- the Protocol's
        return ()

    def boot_log(self, machine: Machine) -> str:  # noqa: ARG002 -- the Protocol's
        return ""

    def price(self, machine: Machine) -> Price | None:  # noqa: ARG002 -- the Protocol's
        return None

    def taken_back(self, machine: Machine) -> str:  # noqa: ARG002 -- the Protocol's
        return ""

    def hurry(self) -> None:
        """For a provider that never waits longer than two seconds."""


def has(tags: Tags, wanted: Mapping[str, str]) -> bool:
    """Say whether these fields of the tags have exactly these values, as `find` compares them."""
    return all(str(getattr(tags, field)) == value for field, value in wanted.items())


def unlisted(machine: Machine, now: float) -> State:
    """Return the state of a machine that the cloud does not list: one just made may still come."""
    return State.PENDING if now - machine.launched_at < YOUNG_SECONDS else State.GONE
