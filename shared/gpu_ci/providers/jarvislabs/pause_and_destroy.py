"""Pauses and destroys machines, and believes only what the machine's row says afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import CloudError, CloudUnreachable, NameShared, NotPermitted
from gpu_ci.model.machine import State
from gpu_ci.providers.jarvislabs.api import HOSTS, unknown_region
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.model.machine import Machine
    from gpu_ci.providers.jarvislabs.api import Api
    from gpu_ci.providers.jarvislabs.machine_rows import Instance, Instances
    from gpu_ci.runtime.clock import Clock

PAUSED_WITHIN: Final = 600.0
LOOK_SECONDS: Final = 0.6
PATIENT_AFTER: Final = 180.0
PATIENT_LOOK_SECONDS: Final = 3.0
# A pause that was accepted shows in the row by then; if not, it is asked for again.
SHOWS_WITHIN: Final = 15.0
# After so many answered refusals with the machine still up, asking again will not pause it.
REFUSALS: Final = 3
# A machine that one list misses, or has twice, may be changing its id.
ODD_FOR: Final = 5.0
# The vendor's client waits as long for what it has destroyed.
DESTROYED_WITHIN: Final = 20.0
ASK_AGAIN_TURNS: Final = 6
CONSOLE: Final = "https://jarvislabs.ai"


@dataclass
class _Progress:
    """What has happened in one pause so far; moments are in seconds since the epoch."""

    asked_at: float = 0.0
    asked: int = 0
    refused: int = 0
    odd_since: float = 0.0
    last: str = "unknown"
    trouble: CloudError | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """Ends what is billed for a machine."""

    api: Api
    clock: Clock
    instances: Instances

    def pause(self, machine: Machine) -> None:
        """Pause the machine of this name. Raises CloudError when it is not paused in time."""
        progress = _Progress()
        for _ in self._pace(PAUSED_WITHIN):
            if self._is_paused(machine, progress):
                return
        raise _not_paused(machine, progress)

    def pause_at_once(self, machine: Machine) -> None:
        """Have the pause accepted, and do not wait for it to happen."""
        found = self.instances.one(machine.name, machine.id)
        if found and found.state not in {State.PAUSED, State.ENDING}:
            self.instances.tell(found, "pause")

    def destroy(self, machine: Machine, found: Instance) -> None:
        """Destroy the machine of this row, by its id. Raises CloudError when it stays.

        The call has been seen to fail and to destroy all the same. So the row decides: as long as
        it shows the machine, the call is sent again.
        """
        trouble: CloudError | None = None
        for turn in every(LOOK_SECONDS, self._end_of_destroying()):
            if turn % ASK_AGAIN_TURNS == 0:
                trouble = self._trouble_destroying(found)
            if self._is_ending(found) or (self.api.hurried and trouble is None):
                return
            if isinstance(trouble, NotPermitted):
                raise trouble
        raise trouble or CloudUnreachable(
            f"JarvisLabs did not destroy {machine.describe()}: it is still {found.status}.",
            f"Destroy it at {CONSOLE}: it is billed.",
        )

    def _end_of_destroying(self) -> Deadline:
        return Deadline.after(0 if self.api.hurried else DESTROYED_WITHIN, self.clock)

    def _trouble_destroying(self, found: Instance) -> CloudError | None:
        if found.state is not State.ENDING:
            try:
                self.instances.tell(found, "destroy")
            except CloudError as error:
                return error
        return None

    def _is_ending(self, found: Instance) -> bool:
        left = [each for each in self.instances.all() if each.id == found.id]
        return not left or left[0].state is State.ENDING

    def _pace(self, seconds: float) -> Iterator[int]:
        """Yield often for the first minutes, as long as a pause should take, and then less often."""
        end = Deadline.after(seconds, self.clock)
        yield from every(
            LOOK_SECONDS, Deadline(min(end.at, self.clock.now() + PATIENT_AFTER), self.clock)
        )
        yield from every(PATIENT_LOOK_SECONDS, end)

    def _is_paused(self, machine: Machine, progress: _Progress) -> bool:
        """Look once, and ask for the pause if it is time to. Raises what waiting cannot cure."""
        try:
            found = self._row(machine)
        except CloudUnreachable as error:
            progress.trouble = error
            return False
        except NameShared:
            if self._is_settled(progress):
                raise
            return False
        if found is None:
            return self._is_settled(progress)
        progress.odd_since, progress.last = 0.0, found.status
        if found.state in {State.PAUSED, State.ENDING}:
            return True
        if found.region not in {"", *HOSTS}:
            raise unknown_region(found.region)
        if isinstance(progress.trouble, NotPermitted):
            raise progress.trouble
        if self._may_ask(found, progress):
            self._ask(found, progress)
        return False

    def _is_settled(self, progress: _Progress) -> bool:
        """Say whether the list has been odd for long enough to be believed."""
        progress.odd_since = progress.odd_since or self.clock.now()
        return self.clock.now() - progress.odd_since >= ODD_FOR

    def _row(self, machine: Machine) -> Instance | None:
        """Return the machine of this name; of its id, if somebody has renamed it."""
        found = self.instances.one(machine.name, machine.id)
        return found or next((each for each in self.instances.all() if each.id == machine.id), None)

    def _may_ask(self, found: Instance, progress: _Progress) -> bool:
        if found.state is State.PENDING:
            return False
        if progress.trouble and progress.refused >= REFUSALS:
            raise _refused(found, progress.trouble)
        if found.state is State.FAILED and progress.asked:
            if self.clock.now() - progress.asked_at > SHOWS_WITHIN:
                raise _failed(found, progress)
            return False
        return not progress.asked or self.clock.now() - progress.asked_at > SHOWS_WITHIN

    def _ask(self, found: Instance, progress: _Progress) -> None:
        """Ask for the pause; keep an error until the row has been read again, before believing it."""
        progress.asked, progress.asked_at = progress.asked + 1, self.clock.now()
        try:
            self.instances.tell(found, "pause")
            progress.trouble = None
        except CloudUnreachable as error:
            progress.trouble = error
        except CloudError as error:
            progress.trouble, progress.refused = error, progress.refused + 1


def _refused(found: Instance, trouble: CloudError) -> CloudError:
    return CloudError(
        f"{found.describe()} is {found.status}, and every pause was refused. {trouble}",
        f"Pause it at {CONSOLE}: it is billed until then.",
    )


def _failed(found: Instance, progress: _Progress) -> CloudError:
    said = f" {progress.trouble}" if progress.trouble else ""
    return CloudError(
        f"{found.describe()} is Failed, and a pause did not change that.{said}",
        f"Whether it is billed is not known. Look at it at {CONSOLE}: destroy it there, or ask the "
        "vendor's support if its files are needed.",
    )


def _not_paused(machine: Machine, progress: _Progress) -> CloudError:
    said = f" {progress.trouble}" if progress.trouble else ""
    minutes = PAUSED_WITHIN / 60
    return CloudError(
        f"{machine.describe()} is not paused after {minutes:g} minutes; it was {progress.last}.{said}",
        f"Pause it at {CONSOLE}: it is billed until then.",
    )
