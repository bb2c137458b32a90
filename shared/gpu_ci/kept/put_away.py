"""Puts a kept machine away, under its lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from gpu_ci.errors import (
    Busy,
    CloudError,
    GitHubError,
)
from gpu_ci.github.client import BUSY_PATIENCE
from gpu_ci.kept.lock import BUSY, Held
from gpu_ci.model.machine import State
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.github.client import Runner
    from gpu_ci.kept.lock import Lock
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Keeper


# How often to ask the cloud for the machine's state; on average an answer is half of this late.
LOOK_SECONDS: Final = 1.0


# How long a create or resume without an answer may still take effect.
LANDING_SECONDS: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class PutAway:
    """One way of leaving a kept machine: paused, or ended for good, and always under its lock.

    `mine` is the id of the registration that we already have, 0 if unknown. `landing` says that
    something may still be starting the machine, so one look at it is not enough. `keep` only lets
    the lock go. `trouble` takes what went wrong without stopping the work.
    """

    lock: Lock
    keeper: Keeper
    trouble: Callable[[str], None]
    how: Literal["pause", "terminate", "keep"] = "pause"
    mine: int = 0
    landing: bool = False

    def machine(self, deadline: Deadline) -> Machine | str:
        """Return the machine that was put away, or say why there was nothing to do.

        Raises CloudError, GitHubError: Busy when a job is running on the machine that was named.
        """
        for mine in (self.mine, 0):
            taken = self._taken(mine, deadline)
            if isinstance(taken, Held):
                return taken.why
            runner, _ = taken
            try:
                if done := self._under(runner, deadline):
                    return done
            finally:
                self._let_go(runner)
        return "it changes hands"

    def _let_go(self, runner: Runner) -> None:
        """Remove our registration; a failure must not hide what became of the machine."""
        try:
            self.lock.let_go(runner.id)
        except GitHubError as error:
            self.trouble(
                f"The registration {runner.name}, which locks the machine, could not be removed. "
                f"{error} Until it goes, with a later start or stop or under Settings, Actions, "
                "Runners, it may hold others up."
            )

    def _taken(self, mine: int, deadline: Deadline) -> tuple[Runner, str] | Held:
        """Take the lock; a runner of ours may be busy on GitHub for seconds after its job.

        Leaving a machine that may have to be put away is an error, never silence.
        """
        patience = Deadline.after(min(BUSY_PATIENCE, deadline.left()), deadline.clock)
        taken: tuple[Runner, str] | Held = BUSY
        for _ in every(LOOK_SECONDS, patience):
            taken = self.lock.try_take(mine)
            if not isinstance(taken, Held) or not taken.busy:
                break
        if isinstance(taken, Held) and taken.busy:
            raise Busy(f"{self.lock.name} is left: {taken.why}.", "Run stop again after the job.")
        if isinstance(taken, Held) and taken.unread:
            raise GitHubError(f"{self.lock.name} is left: {taken.why}")
        return taken

    def _under(self, held: Runner, deadline: Deadline) -> Machine | str:
        """Wait until it can be put away, then do so; "" if the lock was lost meanwhile."""
        if self.how == "keep":
            return "it is kept as it is"
        clock = deadline.clock
        landed_at = min(clock.now() + (LANDING_SECONDS if self.landing else 0), deadline.at)
        for _ in every(LOOK_SECONDS, deadline):
            machine, state = self.keeper.kept(self.lock.name) or (None, State.GONE)
            if state is State.PENDING:
                continue
            if machine and self._must_be_put_away(state):
                return self._put_away(machine, held)
            if clock.now() >= landed_at:
                return f"it is {state.value}" if machine else "no machine has this name"
        raise CloudError(
            f"{self.lock.name} was on its way to another state until the deadline.",
            "It is billed: look at it in the cloud's console, or run stop again.",
        )

    def _must_be_put_away(self, state: State) -> bool:
        kept = {State.PAUSED} if self.how == "pause" else set()
        return state not in kept | {State.ENDING, State.GONE}

    def _put_away(self, machine: Machine, held: Runner) -> Machine | str:
        if not self.lock.stands(held.id):
            return ""
        if self.how == "pause":
            self.keeper.pause(machine)
        else:
            self.keeper.release(machine)
        return machine
