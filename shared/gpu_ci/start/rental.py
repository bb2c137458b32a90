"""What one start makes, step by step, so that all of it can be given back at any moment."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from gpu_ci.boot.script import Boot, Registration, render
from gpu_ci.errors import (
    CloudUnreachable,
    Conflict,
    NoCapacity,
    StillThere,
    WrongHere,
)
from gpu_ci.kept.bring_up import BringUp
from gpu_ci.kept.lock import Claim, Lock, label_to_put_away
from gpu_ci.kept.put_away import PutAway
from gpu_ci.model.tags import Tags
from gpu_ci.providers import Candidate, Order, keeper
from gpu_ci.release.give_back import Holding, Releaser, describe
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime.clock import Deadline
from gpu_ci.runtime.signals import BUDGET, Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.boot.script import RunnerBuild
    from gpu_ci.github.client import GitHub
    from gpu_ci.inputs.start_inputs import StartInputs
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Provider
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.runtime.signals import Cancellation
    from gpu_ci.start.plan import StartPlan

# How long a cancelled process waits for the answer to a call that may have created something.
ANSWER_GRACE: Final = 2.0
# The machine waits this much longer than the start does before it assumes that it was forgotten.
PICKUP_MARGIN: Final = 120.0
NAMES_TRIED: Final = 5
# How long to look for a machine whose create call got no answer, unless the run is cancelled.
SEARCH_SECONDS: Final = 20.0
# How long a failed start may take to pause its kept machine, which may have to come up first.
PAUSE_SECONDS: Final = 600.0


@dataclass(frozen=True, kw_only=True)
class Try:
    """One candidate that was asked for, and what came of it."""

    name: str
    candidate: Candidate
    result: str


@dataclass(kw_only=True)
class Lease:
    """One machine that the plan wants, on its way from a name to a listening runner.

    `replacement` numbers the names used so far, `given_up` counts the machines that did not come up.
    `registering` and `ordering` are set during a call whose answer may get lost.
    """

    index: int
    name: str = ""
    label: str = ""
    replacement: int = 0
    given_up: int = 0
    candidate: Candidate | None = None
    runner_id: int = 0
    machine: Machine | None = None
    registering: bool = False
    ordering: Order | None = None
    online_at: float = 0.0


@dataclass(kw_only=True)
class Rental:
    """All leases of one start. On any exception inside its `with`, everything is given back.

    A signal can also arrive in the first instruction of `__exit__`, before anything there can
    catch it. So the caller calls `settle` again for `Cancelled`, which is raised only once.
    `ending` says that everything is being given back, `left` that something is not.
    """

    inputs: StartInputs
    plan: StartPlan
    provider: Provider
    github: GitHub
    builds: tuple[RunnerBuild, ...]
    cancellation: Cancellation
    deadline: Deadline
    say: Callable[[str], None]
    leases: list[Lease] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    group_id: int = 1
    ending: bool = False
    left: bool = False
    _settled: bool = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if error is None:
            self.cancellation.finish()
        else:
            self.settle(error)

    @property
    def clock(self) -> Clock:
        return self.deadline.clock

    @property
    def machines(self) -> list[Machine]:
        return [lease.machine for lease in self.leases if lease.machine]

    def launch(self, lease: Lease) -> Machine:
        """Register a runner and bring a machine up for it: the kept one, or a fresh one."""
        if lease not in self.leases:
            self.leases.append(lease)
        if self.inputs.machine_name:
            return self._bring_up(lease)
        return self._create(lease, self._register(lease))

    def replace(self, lease: Lease) -> Machine:
        """Give back a machine that did not come up, and launch another under a new name."""
        self._releaser(hurried=False).give_back([self._holding(lease)])
        self.github.until(self.deadline)
        lease.machine, lease.runner_id, lease.replacement = None, 0, lease.replacement + 1
        return self.launch(lease)

    def _register(self, lease: Lease) -> Registration:
        """Register under the next free name; a start that was killed may still have one."""
        for _ in range(NAMES_TRIED):
            lease.name = self.plan.identity.name(lease.index, lease.replacement)
            lease.label = self.plan.label(lease.name)
            labels = (lease.label, *self.inputs.labels)
            lease.registering = True
            if self.inputs.registration == "token":
                return self.github.registration(lease.name, labels, self.inputs.runner_group)
            try:
                with self.cancellation.held(ANSWER_GRACE):
                    runner, config = self.github.register(lease.name, labels, self.group_id)
                    lease.runner_id, lease.registering = runner.id, False
            except Conflict:
                lease.registering = False
                lease.replacement += 1
            else:
                return Registration(name=lease.name, labels=labels, jit_config=config)
        raise Conflict(
            f"{NAMES_TRIED} runners named like {lease.name} exist already.",
            "Each start of a job needs a key of its own: set the input key.",
        )

    def _create(self, lease: Lease, registration: Registration) -> Machine:
        """Get a machine from the first candidate that has one."""
        left = self._candidates_after(lease.candidate)
        while left:
            candidate = left.popleft()
            order = lease.ordering = self.order(lease, registration, candidate)
            try:
                with self.cancellation.held(ANSWER_GRACE):
                    machine = lease.machine = self.provider.launch(order)
                    lease.ordering, lease.candidate = None, candidate
            except CloudUnreachable:
                raise  # there may be a machine: keep the order noted, so that it is searched for
            except (NoCapacity, WrongHere) as refusal:
                lease.ordering = None
                self._note(lease, candidate, str(refusal))
                if not candidate.zone and isinstance(refusal, NoCapacity):
                    left.extendleft(reversed(self.provider.zones(candidate)))
            except Exception:
                lease.ordering = None
                raise
            else:
                self._note(lease, candidate, "launched")
                return machine
        raise NoCapacity(
            f"None of the {len(self.tries)} ways tried to get a machine worked: "
            + "; ".join(f"{t.candidate}: {t.result.rstrip('.')}" for t in self.tries)
            + ".",
            "Name more types under machine, more regions under region, or another market.",
        )

    def _candidates_after(self, tried: Candidate | None) -> deque[Candidate]:
        """Return the plan's candidates, starting after the one whose machine did not come up."""
        left = deque(self.plan.candidates)
        if tried is not None and tried not in left:
            tried = replace(tried, zone="")
        if tried is not None and tried in left:
            left.rotate(-left.index(tried) - 1)
        return left

    def _bring_up(self, lease: Lease) -> Machine:
        """Take the kept machine's lock, then bring the machine up."""
        identity = self.plan.identity
        lease.name = self.inputs.machine_name
        lease.label = self.plan.label(identity.name(lease.index, lease.replacement))
        labels = (lease.label, *self.inputs.labels)
        lock, lease.registering = self.lock(labels), True
        runner, config = lock.take(self.deadline, self.say)
        lease.runner_id, lease.registering = runner.id, False
        registration = Registration(name=lease.name, labels=labels, jit_config=config)
        lease.machine = BringUp(
            keeper=keeper(self.provider),
            name=lease.name,
            candidates=self.plan.candidates,
            order=partial(self.order, lease, registration),
            create=partial(self._create, lease, registration),
            check=partial(lock.require, lease.runner_id),
            note=partial(self._note, lease),
            deadline=self.deadline,
        ).machine()
        return lease.machine

    def lock(self, labels: tuple[str, ...]) -> Lock:
        """Return the lock of the kept machine; its registration will have these labels."""
        identity = self.plan.identity
        asker = Asker(check_run_id=identity.starter)
        claim = Claim(github=self.github, identity=identity, asker=asker)
        name = self.inputs.machine_name
        return Lock(
            github=self.github, name=name, labels=labels, claim=claim, group_id=self.group_id
        )

    def order(self, lease: Lease, registration: Registration, candidate: Candidate) -> Order:
        """Return what to ask the provider for."""
        identity, inputs = self.plan.identity, self.inputs
        tags = Tags(
            name=lease.name,
            label=lease.label,
            repository=identity.repository,
            run_id=identity.run_id,
            attempt=identity.attempt,
            key=identity.key,
            scope=identity.scope,
            starter=identity.starter,
            runner_id=lease.runner_id,
            expires_at=int(self.clock.now() + inputs.max_lifetime),
        )
        boot = Boot(
            place=self.provider.place(lease.name),
            registration=registration,
            runners=self.builds,
            pickup=inputs.online_timeout + PICKUP_MARGIN,
            idle=inputs.idle,
            lifetime=inputs.max_lifetime,
            gpus=inputs.gpus,
            setup_script=inputs.setup_script,
        )
        return Order(
            candidate=candidate,
            tags=tags,
            token=self.plan.token(lease.name, candidate),
            boot_script=render(boot),
            image=inputs.image,
            disk_gb=inputs.disk_gb,
            kept=bool(inputs.machine_name),
        )

    def _note(self, lease: Lease, candidate: Candidate, result: str) -> None:
        self.tries.append(Try(name=lease.name, candidate=candidate, result=result))
        self.say(f"{candidate}: {result}")

    def settle(self, error: BaseException) -> None:
        """Give everything back, once. Add a note to the error about what could not be given back."""
        self.cancellation.finish()
        if self._settled:
            return
        self.ending = self.left = True
        holdings = [self._holding(lease) for lease in self.leases]
        try:
            self._releaser(hurried=isinstance(error, Cancelled)).give_back(holdings)
            self.left = False
        except StillThere as left:
            error.add_note(str(left))
        self._settled = True
        if holdings:
            self.say(describe(holdings))

    def _holding(self, lease: Lease) -> Holding:
        """Return what to give back for a lease, going by what it has noted so far."""
        if self.inputs.machine_name:
            return self._kept_holding(lease)
        order = lease.ordering
        search = None
        if order:
            regions = [order.candidate.region] if order.candidate.region else []
            search = partial(self.provider.find, {"name": order.tags.name}, regions)
        return Holding(
            name=lease.name,
            runner_id=lease.runner_id,
            machine=lease.machine,
            search_name=lease.registering,
            search=search,
        )

    def _kept_holding(self, lease: Lease) -> Holding:
        if lease.machine and not lease.machine.started:  # somebody else's, and left as it was found
            return Holding(name=lease.name, runner_id=lease.runner_id)
        holding = Holding(name=lease.name)
        holding.put_away = PutAway(
            lock=self.lock((label_to_put_away(self.plan.identity),)),
            keeper=keeper(self.provider),
            trouble=holding.troubles.append,
            mine=lease.runner_id,
            landing=lease.machine is None,
        ).machine
        return holding

    def _releaser(self, *, hurried: bool) -> Releaser:
        patience = PAUSE_SECONDS if self.inputs.machine_name else SEARCH_SECONDS
        deadline = Deadline.after(BUDGET - ANSWER_GRACE if hurried else patience, self.clock)
        if hurried:
            self.provider.hurry()
            self.github.hurry(deadline)
        else:
            self.github.until(deadline)
        return Releaser(
            github=self.github, provider=self.provider, deadline=deadline, hurried=hurried
        )
