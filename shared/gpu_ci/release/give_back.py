"""Gives back what a start has made: the registration first, then the machine, each on its own.

One half's failure never stops the other; what could not be given back is said, with where to look.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from gpu_ci.errors import (
    Absent,
    Busy,
    CloudError,
    CloudUnreachable,
    GitHubError,
    StillThere,
    Unreachable,
)
from gpu_ci.github.client import BUSY_PATIENCE
from gpu_ci.model.machine import State
from gpu_ci.runtime.clock import Deadline, every, growing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu_ci.github.client import GitHub
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Provider

T = TypeVar("T")
AT_ONCE: Final = 8


@dataclass(kw_only=True)
class Debt:
    """One machine and its registration, of which either may be unknown or not exist.

    `label` and `starter` are those of its tags. `search_name` says that an answer was lost: a
    registration of `name` may exist. `search` asks the provider for machines whose create call was
    not answered. A kept machine is `put_away` instead, under its lock; `left` is why there was
    nothing to do. `ended` are the names of machines that were over before they were released, and
    `taken` says which of them the cloud had taken back, and why.
    """

    name: str
    label: str = ""
    starter: str = ""
    runner_id: int = 0
    machine: Machine | None = None
    search_name: bool = False
    search: Callable[[], Sequence[Machine]] | None = None
    put_away: Callable[[Deadline], Machine | str] | None = None
    left: str = ""
    troubles: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    taken: list[str] = field(default_factory=list)
    released: list[Machine] = field(default_factory=list)
    removed: int = 0


@dataclass(frozen=True, kw_only=True)
class Giver:
    """Gives back debts. `hurried` means that the process is being cancelled: no waiting, and both
    halves at once, since by now nothing is listening for the runner's jobs."""

    github: GitHub
    provider: Provider
    deadline: Deadline
    hurried: bool = False

    def give_back(self, debts: Sequence[Debt]) -> None:
        """Give all back. Raises StillThere with every trouble at the end."""
        if self.hurried:
            _all_at_once([partial(half, debt) for debt in debts for half in self._halves(debt)])
        elif len(debts) == 1:  # in this thread, where a cancel can end the waiting
            self._in_order(debts[0])
        else:
            _all_at_once([partial(self._in_order, debt) for debt in debts])
        troubles = [trouble for debt in debts for trouble in debt.troubles]
        if troubles:
            raise StillThere("\n\n".join(troubles))

    def _in_order(self, debt: Debt) -> None:
        if debt.put_away:
            self._kept(debt, debt.put_away)
            return
        still_busy = self._runner(debt)
        self._machine(debt)
        if still_busy:
            self._runner(debt, last=True)

    def _halves(self, debt: Debt) -> tuple[Callable[[Debt], object], ...]:
        """Return what can be done at the same time; a kept machine is touched under its lock."""
        return (self._in_order,) if debt.put_away else (self._runner, self._machine)

    def _kept(self, debt: Debt, put_away: Callable[[Deadline], Machine | str]) -> None:
        try:
            done = put_away(self.deadline)
        except (CloudError, GitHubError) as error:
            debt.troubles.append(
                f"Machine {debt.name} may be running, and is billed then. {error} Look at it in "
                "the cloud's console, or run stop again."
            )
            return
        if isinstance(done, str):
            debt.left = done
        elif debt.machine:  # only the handle knows since when it is billed
            began, price = debt.machine.launched_at, debt.machine.price
            debt.released.append(replace(done, launched_at=began, price=price))
        else:
            debt.released.append(done)

    def _runner(self, debt: Debt, *, last: bool = False) -> bool:
        """Remove the registration; return True if it is busy and should be tried once more."""
        try:
            for runner_id in self._runner_ids(debt):
                debt.removed += self._delete(runner_id)
        except Busy as busy:
            if last or self.hurried:
                debt.troubles.append(f"Runner {debt.name} could not be removed. {busy}")
            return True
        except GitHubError as error:
            debt.troubles.append(
                f"Runner {debt.name} could not be removed. {error} GitHub itself removes an unused "
                "runner after a day; until then it stands under Settings, Actions, Runners."
            )
        return False

    def _runner_ids(self, debt: Debt) -> list[int]:
        if debt.runner_id:
            return [debt.runner_id]
        if not debt.search_name:
            return []
        # A request that a cancel cut short may still be landing.
        patience = self.deadline if self.hurried else Deadline.after(0, self.deadline.clock)
        runner = _landed(lambda: self.github.runner_named(debt.name), patience, Unreachable)
        return [runner.id] if runner else []

    def _delete(self, runner_id: int) -> bool:
        """Delete, and read once that it is gone: jobs were sent to runners already deleted.

        Return False if it was gone before, as a single-use runner is after its job.
        """
        patience = Deadline.after(0 if self.hurried else BUSY_PATIENCE, self.deadline.clock)
        for pause in growing(1.0, most=4.0):
            try:
                there = self.github.delete(runner_id)
                break
            except Busy:
                if not patience.allows(pause):
                    raise
            self.deadline.clock.sleep(pause)
        if self.hurried or not there:
            return there
        try:
            self.github.runner(runner_id)
        except Absent:
            return True
        raise Busy(f"GitHub still lists runner {runner_id} after deleting it.")

    def _machine(self, debt: Debt) -> None:
        try:
            for machine in self._machines(debt):
                self._note_end(debt, machine)
                self.provider.release(machine)
                debt.released.append(machine)
        except CloudError as error:
            where = debt.machine.told() if debt.machine else debt.name
            debt.troubles.append(
                f"Machine {where} could not be given back. {error} Look for it in the cloud's "
                f"console by its name, {debt.name}; where it can (not at JarvisLabs), it ends itself "
                "when its idle time is over."
            )

    def _note_end(self, debt: Debt, machine: Machine) -> None:
        """Note an end that was not ours, while the cloud still tells: afterwards it may show ours."""
        if self.hurried or not self._is_over(machine):
            return
        debt.ended.add(machine.name)
        if why := self.provider.taken_back(machine):
            debt.taken.append(f"{machine.told()} was taken back by the cloud: {why}.")

    def _is_over(self, machine: Machine) -> bool:
        try:
            return self.provider.state(machine) in {State.ENDING, State.GONE}
        except CloudError:  # the release itself will tell, and unknown is not over
            return False

    def _machines(self, debt: Debt) -> Sequence[Machine]:
        if debt.machine:
            return [debt.machine]
        if debt.search is None:
            return []
        return _landed(debt.search, self.deadline, CloudUnreachable) or []


def _all_at_once(tasks: Sequence[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def _landed(
    search: Callable[[], T], deadline: Deadline, outage: type[CloudUnreachable | Unreachable]
) -> T | None:
    """Look until time is up for what a request without an answer may have made: it may still be
    landing, and the outage that took the answer may not be over."""
    trouble: CloudUnreachable | Unreachable | None = None
    for _ in every(0.4, deadline):
        try:
            found = search()
        except outage as error:
            trouble = error
            continue
        if found:
            return found
        trouble = None
    if trouble:
        raise trouble
    return None
