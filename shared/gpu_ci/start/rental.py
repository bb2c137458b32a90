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
    RegistrationLost,
    StillThere,
    WrongHere,
)
from gpu_ci.kept.bring_up import BringUp
from gpu_ci.kept.lock import Claim, Lock, label_to_put_away
from gpu_ci.kept.put_away import PutAway
from gpu_ci.model.tags import Tags
from gpu_ci.providers import Candidate, Order, keeper
from gpu_ci.release.give_back import Debt, Giver
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime.clock import Deadline
from gpu_ci.runtime.signals import BUDGET, Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
# The machine waits this much longer than the start does before it takes itself for forgotten.
PICKUP_MARGIN: Final = 120.0
NAMES_TRIED: Final = 5
# How long to look for a machine whose create call was not answered, when nobody is in a hurry.
SEARCH_SECONDS: Final = 20.0
# How long a failed start waits until its kept machine can be paused, and is.
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

    def debt(self, provider: Provider) -> Debt:
        """Return what has to be given back for this lease."""
        order = self.ordering
        return Debt(
            name=self.name,
            runner_id=self.runner_id,
            machine=self.machine,
            search_name=self.registering,
            search=_search(provider, order) if order else None,
        )


def _search(provider: Provider, order: Order) -> Callable[[], Sequence[Machine]]:
    regions = [order.candidate.region] if order.candidate.region else []
    return lambda: provider.find({"name": order.tags.name}, regions)


@dataclass(kw_only=True)
class Rental:
    """All leases of one start. On any exception inside its `with`, everything is given back.

    A signal can also arrive in the first instruction of `__exit__`, before anything is caught
    there; the caller therefore calls `settle` again for `Cancelled`, which comes only once.
    `left` says that something could not be given back.
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

    def _bring_up(self, lease: Lease) -> Machine:
        """Take the kept machine's lock, then have the machine up."""
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
            check=partial(self._check, lock, lease),
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

    @staticmethod
    def _check(lock: Lock, lease: Lease) -> None:
        if not lock.stands(lease.runner_id):
            raise RegistrationLost(
                f"GitHub dropped the registration of {lease.name}, and with it the lock, before "
                "the machine was up.",
                "Run the job again; if it comes back, the machine takes longer to wake than GitHub "
                "keeps an idle just-in-time runner.",
            )

    def _create(self, lease: Lease, registration: Registration) -> Machine:
        """Get a machine from the first candidate that has one."""
        left = self._candidates_after(lease.candidate)
        while left:
            candidate = left.popleft()
            try:
                return self._order(lease, candidate, registration)
            except (NoCapacity, WrongHere) as refusal:
                self._note(lease, candidate, str(refusal))
                if not candidate.zone and isinstance(refusal, NoCapacity):
                    left.extendleft(reversed(self.provider.zones(candidate)))
        raise NoCapacity(
            f"None of the {len(self.tries)} ways tried to get a machine worked: "
            + "; ".join(f"{t.candidate}: {t.result.rstrip('.')}" for t in self.tries)
            + ".",
            "Name more types under machine, more regions under region, or another market.",
        )

    def replace(self, lease: Lease) -> Machine:
        """Give a machine that did not come up back, and launch another under a new name."""
        self._giver(hurried=False).give_back([self._debt(lease)])
        self.github.until(self.deadline)
        lease.machine, lease.runner_id, lease.replacement = None, 0, lease.replacement + 1
        return self.launch(lease)

    def _candidates_after(self, tried: Candidate | None) -> deque[Candidate]:
        """Return the plan's candidates, beginning behind the one whose machine did not come up."""
        left = deque(self.plan.candidates)
        if tried is not None and tried not in left:
            tried = replace(tried, zone="")
        if tried is not None and tried in left:
            left.rotate(-left.index(tried) - 1)
        return left

    def _register(self, lease: Lease) -> Registration:
        """Take the next free name; a name can be taken by a start of ours that was killed."""
        for _ in range(NAMES_TRIED):
            lease.name = self.plan.identity.name(lease.index, lease.replacement)
            lease.label = self.plan.label(lease.name)
            try:
                return self._register_as(lease)
            except Conflict:
                lease.registering = False
                lease.replacement += 1
        raise Conflict(
            f"{NAMES_TRIED} runners named like {lease.name} exist already.",
            "Starts of one job that share a key need different ones: set the input key.",
        )

    def _register_as(self, lease: Lease) -> Registration:
        labels = (lease.label, *self.inputs.labels)
        lease.registering = True
        if self.inputs.registration == "token":
            return self.github.registration(lease.name, labels, self.inputs.runner_group)
        with self.cancellation.held(ANSWER_GRACE):
            runner, config = self.github.register(lease.name, labels, self.group_id)
            lease.runner_id, lease.registering = runner.id, False
        return Registration(name=lease.name, labels=labels, jit_config=config)

    def _order(self, lease: Lease, candidate: Candidate, registration: Registration) -> Machine:
        order = self.order(lease, registration, candidate)
        lease.ordering = order
        try:
            with self.cancellation.held(ANSWER_GRACE):
                machine = lease.machine = self.provider.launch(order)
                lease.ordering, lease.candidate = None, candidate
        except CloudUnreachable:
            raise
        except Exception:
            lease.ordering = None
            raise
        self._note(lease, candidate, "launched")
        return machine

    def order(self, lease: Lease, registration: Registration, candidate: Candidate) -> Order:
        """Return what the provider is asked for."""
        boot = Boot(
            place=self.provider.place(lease.name),
            registration=registration,
            runners=self.builds,
            pickup=self.inputs.online_timeout + PICKUP_MARGIN,
            idle=self.inputs.idle,
            lifetime=self.inputs.max_lifetime,
            gpus=self.inputs.gpus,
            setup_script=self.inputs.setup_script,
        )
        return Order(
            candidate=candidate,
            tags=self._tags(lease),
            token=self.plan.token(lease.name, candidate),
            boot_script=render(boot),
            image=self.inputs.image,
            disk_gb=self.inputs.disk_gb,
            kept=bool(self.inputs.machine_name),
        )

    def _tags(self, lease: Lease) -> Tags:
        identity = self.plan.identity
        return Tags(
            name=lease.name,
            label=lease.label,
            repository=identity.repository,
            run_id=identity.run_id,
            attempt=identity.attempt,
            key=identity.key,
            scope=identity.scope,
            starter=identity.starter,
            runner_id=lease.runner_id,
            expires_at=int(self.clock.now() + self.inputs.max_lifetime),
        )

    def _note(self, lease: Lease, candidate: Candidate, result: str) -> None:
        self.tries.append(Try(name=lease.name, candidate=candidate, result=result))
        self.say(f"{candidate}: {result}")

    def settle(self, error: BaseException) -> None:
        """Give everything back, once. What could not be is added to the error as a note."""
        self.cancellation.finish()
        if self._settled:
            return
        debts = [self._debt(lease) for lease in self.leases]
        try:
            self._giver(hurried=isinstance(error, Cancelled)).give_back(debts)
        except StillThere as left:
            error.add_note(str(left))
            self.left = True
        self._settled = True
        if debts:
            self.say(_told(debts))

    def _debt(self, lease: Lease) -> Debt:
        if not self.inputs.machine_name:
            return lease.debt(self.provider)
        if lease.machine and not lease.machine.started:  # somebody else's, and left as it was found
            return Debt(name=lease.name, runner_id=lease.runner_id)
        debt = Debt(name=lease.name)
        debt.put_away = PutAway(
            lock=self.lock((label_to_put_away(self.plan.identity),)),
            keeper=keeper(self.provider),
            trouble=debt.troubles.append,
            mine=lease.runner_id,
            landing=lease.machine is None,
        ).machine
        return debt

    def _giver(self, *, hurried: bool) -> Giver:
        patience = PAUSE_SECONDS if self.inputs.machine_name else SEARCH_SECONDS
        deadline = Deadline.after(BUDGET - ANSWER_GRACE if hurried else patience, self.clock)
        if hurried:
            self.provider.hurry()
            self.github.hurry(deadline)
        else:
            self.github.until(deadline)
        return Giver(github=self.github, provider=self.provider, deadline=deadline, hurried=hurried)


def _told(debts: Sequence[Debt]) -> str:
    machines = sum(len(debt.released) for debt in debts)
    runners = sum(debt.removed for debt in debts)
    left = "".join(f" {debt.name}: {debt.left}." for debt in debts if debt.left)
    return f"Given back: {machines} machine(s), {runners} registration(s).{left}"
