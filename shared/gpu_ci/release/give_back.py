"""Gives back what a start has made: the registration first, then the machine, each on its own.

One half's failure never stops the other; the error says what is left, and where to look.
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
class Holding:
    """One machine and its registration that we hold; either may be unknown or not exist.

    `label` and `starter` are those of its tags. `search_name` says that an answer was lost: a
    registration of `name` may exist. `search` asks the provider for machines whose create call was
    not answered. A kept machine is `put_away` instead, under its lock; `left` is why there was
    nothing to do. `ended` has the names of machines that were over before they were released;
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


def describe(holdings: Sequence[Holding]) -> str:
    """Return one line on what became of them."""
    machines = sum(len(holding.released) for holding in holdings)
    runners = sum(holding.removed for holding in holdings)
    left = "".join(f" {holding.name}: {holding.left}." for holding in holdings if holding.left)
    return f"Given back: {machines} machine(s), {runners} registration(s).{left}"


@dataclass(frozen=True, kw_only=True)
class Releaser:
    """Gives holdings back. `hurried` means that the process is being cancelled: no waiting, and both
    halves at once, since by now nothing is listening for the runner's jobs."""

    github: GitHub
    provider: Provider
    deadline: Deadline
    hurried: bool = False

    def give_back(self, holdings: Sequence[Holding]) -> None:
        """Give all back. Raises StillThere with every trouble at the end."""
        if self.hurried:
            halves = [(half, each) for each in holdings for half in self._halves(each)]
            _all_at_once([partial(half, holding) for half, holding in halves])
        elif len(holdings) == 1:  # in this thread, where a cancel can end the waiting
            self._in_order(holdings[0])
        else:
            _all_at_once([partial(self._in_order, holding) for holding in holdings])
        troubles = [trouble for holding in holdings for trouble in holding.troubles]
        if troubles:
            raise StillThere("\n\n".join(troubles))

    def _halves(self, holding: Holding) -> tuple[Callable[[Holding], object], ...]:
        """Return what can be done at the same time; a kept machine is touched only under its lock."""
        if holding.put_away:
            return (self._in_order,)
        return (self._remove_registration, self._release_machine)

    def _in_order(self, holding: Holding) -> None:
        if holding.put_away:
            self._put_away(holding, holding.put_away)
            return
        still_busy = self._remove_registration(holding)
        self._release_machine(holding)
        if still_busy:
            self._remove_registration(holding, last=True)

    def _put_away(self, holding: Holding, put_away: Callable[[Deadline], Machine | str]) -> None:
        try:
            done = put_away(self.deadline)
        except (CloudError, GitHubError) as error:
            holding.troubles.append(
                f"Machine {holding.name} may be running, and billed. {error} Look at it in "
                "the cloud's console, or run stop again."
            )
            return
        if isinstance(done, str):
            holding.left = done
        elif holding.machine:  # only the handle knows since when it is billed
            began, price = holding.machine.launched_at, holding.machine.price
            holding.released.append(replace(done, launched_at=began, price=price))
        else:
            holding.released.append(done)

    def _remove_registration(self, holding: Holding, *, last: bool = False) -> bool:
        """Remove the registration; return True if it is busy and should be tried once more."""
        try:
            runner_id = holding.runner_id
            if not runner_id and holding.search_name:
                # A request that a cancel cut short may still be landing.
                clock = self.deadline.clock
                patience = self.deadline if self.hurried else Deadline.after(0, clock)
                named = partial(self.github.runner_named, holding.name)
                runner = _landed(named, patience, Unreachable)
                runner_id = runner.id if runner else 0
            if runner_id:
                holding.removed += self._delete(runner_id)
        except Busy as busy:
            if last or self.hurried:
                holding.troubles.append(f"Runner {holding.name} could not be removed. {busy}")
            return True
        except GitHubError as error:
            holding.troubles.append(
                f"Runner {holding.name} could not be removed. {error} GitHub itself removes an unused "
                "runner after a day; until then it is listed under Settings, Actions, Runners."
            )
        return False

    def _delete(self, runner_id: int) -> bool:
        """Delete it, and check once that it is gone: jobs have been sent to deleted runners.

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

    def _release_machine(self, holding: Holding) -> None:
        try:
            machines: Sequence[Machine] = [holding.machine] if holding.machine else []
            if not machines and holding.search:
                machines = _landed(holding.search, self.deadline, CloudUnreachable) or []
            for machine in machines:
                # Read before the release: afterwards an end that was not ours may look like ours.
                if not self.hurried and self._is_over(machine):
                    holding.ended.add(machine.name)
                    if why := self.provider.taken_back(machine):
                        holding.taken.append(
                            f"{machine.describe()} was taken back by the cloud: {why}."
                        )
                self.provider.release(machine)
                holding.released.append(machine)
        except CloudError as error:
            where = holding.machine.describe() if holding.machine else holding.name
            holding.troubles.append(
                f"Machine {where} could not be given back. {error} Look for it in the cloud's "
                f"console by its name, {holding.name}; {self._ends_itself()}"
            )

    def _ends_itself(self) -> str:
        about = self.provider.about
        if about.ends_itself:
            return "it ends itself when its idle time is over."
        return (
            f"a machine at {about.title} cannot end itself, and is billed until a stop or the "
            "watchdog ends it."
        )

    def _is_over(self, machine: Machine) -> bool:
        try:
            return self.provider.state(machine) in {State.ENDING, State.GONE}
        except CloudError:  # the release itself will tell, and unknown is not over
            return False


def _all_at_once(tasks: Sequence[Callable[[], object]]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def _landed(
    search: Callable[[], T], deadline: Deadline, outage: type[CloudUnreachable | Unreachable]
) -> T | None:
    """Look, until time is up, for what an unanswered request may have made: it may still arrive,
    and the outage that lost the answer may go on."""
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
