"""The lock of a kept machine: the one registration that has the machine's name.

GitHub answers 409 to a second registration of a name, so only one can have it. A start holds it
from before it touches the machine until the runner's job is over, when GitHub removes it; a stop
holds it while it pauses. A registration whose run is over, or that nothing in our own run needs, is
deleted by its id, and the name is taken.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import Absent, Busy, Conflict, GitHubError, InUse, RegistrationLost
from gpu_ci.model.tags import IN_A_TERMINAL, our_label, read_label, repository_mark
from gpu_ci.release.still_needed import why_needed
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.github.client import GitHub, Runner
    from gpu_ci.model.identity import Identity
    from gpu_ci.model.tags import Mark
    from gpu_ci.release.still_needed import Asker

# How often to look whether the holder has let go; a look is free while nothing changes (a 304).
LOOK_SECONDS: Final = 2.0
# How often the lock may change hands while we try to take it, before we wait.
TRIES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Held:
    """Somebody else has the lock, and why they keep it.

    `busy` is a runner of our own run whose job GitHub has not yet seen end; `unread` says that we
    could not read whether the holder still needs the lock.
    """

    why: str
    busy: bool = False
    unread: bool = False


BUSY: Final = Held(why="a job of this run is running on it", busy=True)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Who asks for the lock, and how to judge its holder.

    `any_key` is a stop without a key: it may take what its run no longer needs.
    """

    github: GitHub
    identity: Identity
    asker: Asker
    any_key: bool = False

    def held(self, holder: Runner | None) -> Held | None:
        """Return why the holder keeps the lock, None if it can be taken; unknown means held."""
        if holder is None:
            return None
        label = our_label(holder.labels)
        mark = read_label(label)
        if mark is None:
            return Held(
                why=f"runner {holder.id}, which this library did not register, has the name"
            )
        try:
            if mark.run_id == self.identity.run_id:
                return self._held_by_us(mark, label, holder)
            return self._held_by_another(mark, holder)
        except GitHubError as error:
            what = (
                f"run {mark.run_id} holds it, and whether that run is over cannot be read: {error}"
            )
            return Held(why=what, unread=True)

    def _held_by_another(self, mark: Mark, holder: Runner) -> Held | None:
        if holder.busy:
            return Held(why=f"run {mark.run_id} is running a job on it")
        return None if self._is_over(mark) else Held(why=f"run {mark.run_id} holds it")

    def _held_by_us(self, mark: Mark, label: str, holder: Runner) -> Held | None:
        older = int(mark.attempt) < int(self.identity.attempt)
        if older or self.any_key:
            jobs = self.github.jobs(mark.run_id)
            # It may seem busy for a while after its job: the jobs decide, and BUSY is worth a wait.
            if needed := why_needed(label, mark.starter, jobs, None, self.asker):
                return Held(why=needed)
        elif mark.key_mark != self.identity.key_mark():
            return Held(why="another job of this run holds it")
        return BUSY if holder.busy else None

    def _is_over(self, mark: Mark) -> bool:
        try:
            return self.github.run(mark.run_id).status == "completed"
        except Absent:  # deleted, or in another repository of the organisation
            ours = mark.repository_mark == repository_mark(self.identity.repository)
            return mark.run_id != IN_A_TERMINAL and ours


def label_to_put_away(identity: Identity) -> str:
    """Return a label for a registration that is only a lock: no job has it, no runner comes."""
    return identity.label(identity.name(0), secrets.token_hex(4))


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The right to touch a kept machine; `labels` are what the registration gets."""

    github: GitHub
    name: str
    labels: tuple[str, ...]
    claim: Claim
    group_id: int = 1

    def take(self, deadline: Deadline, say: Callable[[str], None]) -> tuple[Runner, str]:
        """Wait until the lock is ours; return the registration and its just-in-time config.

        Raises InUse at the deadline.
        """
        why = ""
        for _ in every(LOOK_SECONDS, deadline):
            holder = self.github.runner_named(self.name)
            taken = self.claim.held(holder) or self.try_take()
            if not isinstance(taken, Held):
                return taken
            if taken.why != why:
                why = taken.why
                say(f"{self.name} is in use: {why}. Waiting for it.")
        raise InUse(
            f"{self.name} was in use until the deadline: {why}.",
            "Runs that share a machine take turns: give their workflow a concurrency group with "
            "queue: max, or this start more online-timeout-minutes; a registration that nobody "
            "needs can be removed under Settings, Actions, Runners.",
        )

    def try_take(self, mine: int = 0) -> tuple[Runner, str] | Held:
        """Return the registration and its config, or why somebody else keeps the lock.

        `mine` is the id of a registration of ours that is to make room, 0 if there is none.
        """
        if mine and not self._removed(mine):
            return BUSY
        for _ in range(TRIES):
            try:
                return self.github.register(self.name, self.labels, self.group_id)
            except Conflict:
                holder = self.github.runner_named(self.name)
            if held := self.claim.held(holder):
                return held
            if holder:
                self._removed(holder.id)
        return Held(why="it changes hands")

    def stands(self, runner_id: int) -> bool:
        """Say whether we still have the lock: GitHub drops runners that are idle for long."""
        try:
            self.github.runner(runner_id)
        except Absent:
            return False
        return True

    def require(self, runner_id: int) -> None:
        """Raise RegistrationLost unless the lock still stands."""
        if not self.stands(runner_id):
            raise RegistrationLost(
                f"GitHub dropped the registration of {self.name}, and with it the lock, before "
                "the machine was up.",
                "Run the job again; if it comes back, the machine takes longer to wake than GitHub "
                "keeps an idle just-in-time runner.",
            )

    def let_go(self, runner_id: int) -> None:
        """Remove our registration; one that is gone is a success."""
        self.github.delete(runner_id)

    def _removed(self, runner_id: int) -> bool:
        """Remove a registration; False if a job has reached its runner."""
        try:
            self.github.delete(runner_id)
        except Busy:
            return False
        return True
