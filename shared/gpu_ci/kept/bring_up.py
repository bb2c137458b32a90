"""Brings a kept machine up for one run, under its lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import (
    CloudError,
    InUse,
    MachineEnded,
    NoCapacity,
    NoSuchMachine,
    WrongHere,
)
from gpu_ci.kept.put_away import LOOK_SECONDS
from gpu_ci.model.machine import State
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Candidate, Keeper, Order


# How often to retry a resume that found no capacity: others may let go of a GPU.
CAPACITY_SECONDS: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class BringUp:
    """One start's way to a running kept machine; it holds the lock.

    `order` makes the order for a candidate, `create` makes a machine that does not exist, `check`
    raises when the lock was lost.
    """

    keeper: Keeper
    name: str
    candidates: Sequence[Candidate]
    order: Callable[[Candidate], Order]
    create: Callable[[], Machine]
    check: Callable[[], None]
    note: Callable[[Candidate, str], None]
    deadline: Deadline

    def machine(self) -> Machine:
        """Return the machine, up with our boot script. Raises CloudError, MachineEnded."""
        last = "unknown"
        for _ in every(LOOK_SECONDS, self.deadline):
            found = self.keeper.kept(self.name)
            if found is None:
                return self._created()
            if up := self._step(*found):
                return up
            last = found[1].value
        raise MachineEnded(f"{self.name} was {last} until the deadline, and was not resumed.")

    def _step(self, machine: Machine, state: State) -> Machine | None:
        """Take the next step to bring the machine up; return it once it is up."""
        if state is not State.PENDING:
            self.check()
        match state:
            case State.PAUSED:
                return self._resumed(machine)
            case State.RUNNING:
                return self._adopted(machine)
            case State.FAILED:
                raise MachineEnded(
                    f"{self.name} has failed, and only a paused machine can be resumed.",
                    "Look at it in the cloud's console: pause it there, or remove it; with a type "
                    "under machine the next start makes it anew.",
                )
            case _:  # on its way from one state to another
                return None

    def _created(self) -> Machine:
        if not any(candidate.type for candidate in self.candidates):
            raise NoSuchMachine(
                f"No machine is named exactly {self.name!r} (upper and lower case matter).",
                "Correct machine-name, or name a type under machine to have one made.",
            )
        return self.create()

    def _resumed(self, machine: Machine) -> Machine | None:
        """Resume it as the first candidate that has capacity; None if none has any now."""
        refusal: CloudError | None = None
        for candidate in _ways(self.candidates):
            try:
                up = self.keeper.resume(machine, self.order(candidate))
            except InUse as error:  # no longer paused: look at it again
                self.note(candidate, str(error))
                return None
            except (NoCapacity, WrongHere) as error:
                refusal = error
                self.note(candidate, str(error))
            else:
                self.note(candidate, "resumed")
                return up
        if refusal and not self.deadline.allows(CAPACITY_SECONDS):
            raise refusal
        self.deadline.clock.sleep(CAPACITY_SECONDS)
        return None

    def _adopted(self, machine: Machine) -> Machine | None:
        """Take over a running machine: through a way in if there is one, else by pausing it."""
        candidate = self.candidates[0]
        adopted = self.keeper.adopt(machine, self.order(candidate))
        if adopted:
            self.note(candidate, "running already, taken over")
        else:
            self.note(candidate, "running already, nobody's by now: restarted")
            self.keeper.pause(machine)
        return adopted


def _ways(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates without their places: a kept machine cannot move."""
    return list(dict.fromkeys(replace(each, region="", zone="") for each in candidates))
