"""A clock, a provider and a GitHub in memory, for tests of what stands between them.

Both write what they are asked to one journal, so that a test can see the order of events.
"""

from __future__ import annotations

import heapq
import itertools
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

from gpu_ci.boot.script import Place, Registration, RunnerBuild
from gpu_ci.errors import Absent, Busy, Conflict, NameShared
from gpu_ci.github.client import GitHub, Job, Run, Runner
from gpu_ci.github.transport import Line
from gpu_ci.inputs.reader import variable
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine, Price, State
from gpu_ci.model.tags import Tags
from gpu_ci.providers import PROVIDERS, Candidate, Check, Keeper, Order, Provider
from gpu_ci.providers.about import About, Secret
from gpu_ci.runtime.clock import Deadline
from gpu_ci.runtime.signals import Cancellation
from gpu_ci.start.plan import plan_start
from gpu_ci.start.rental import Rental

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

REPOSITORY = "octo/widgets"


@dataclass(order=True)
class Planned:
    """An event of a clock; `number` tells it from every other one, of whichever clock."""

    time: float
    number: int
    seconds: float
    happen: Callable[[], object] = field(compare=False)


class FakeClock:
    """Time that passes only when somebody sleeps; events planned with `at` happen on the way.

    `awaited` are the events of all clocks that still have to happen.
    """

    awaited: ClassVar[list[Planned]] = []
    _numbers: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.begin = self.time = now
        self.slept: list[float] = []
        self._events: list[Planned] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        until = self.time + seconds
        while self._events and self._events[0].time <= until:
            event = heapq.heappop(self._events)
            self.time = event.time
            if event in self.awaited:
                self.awaited.remove(event)
            event.happen()
        self.time = until

    def at(self, seconds: float, event: Callable[[], object], *, must: bool = True) -> None:
        """Let something happen so many seconds after the clock's beginning.

        A test that ends before it fails, unless it says that the event does not have to happen.
        """
        planned = Planned(self.begin + seconds, next(self._numbers), seconds, event)
        heapq.heappush(self._events, planned)
        if must:
            self.awaited.append(planned)

    def elapsed(self) -> float:
        return self.time - self.begin


@contextmanager
def nothing_missed() -> Iterator[None]:
    """Fail at the end if an event that has to happen has not.

    Where nobody waits for a machine that lands later, "none is left" is true and proves nothing.
    """
    try:
        yield
        missed = [event.seconds for event in FakeClock.awaited]
        assert not missed, f"The test ended before what it had planned for these seconds: {missed}"
    finally:
        FakeClock.awaited.clear()


@dataclass(frozen=True, kw_only=True)
class FakeOptions:
    """It has none."""


class FakeProvider(Provider):
    """Machines in a dictionary. A failure put into `failing` is raised by the method of that name
    until it is taken out; `refusals` are raised by one launch each."""

    about: ClassVar[About] = About(
        name="fake", title="Fake", class_path=f"{__name__}:FakeProvider", ends_itself=True
    )
    name: ClassVar[str] = about.name
    Options: ClassVar[type[Any]] = FakeOptions

    def __init__(self, options: FakeOptions, env: Mapping[str, str], clock: FakeClock) -> None:
        self.clock = clock
        self.default_machines: Sequence[str] = ("small", "large")
        self.default_regions: Sequence[str] = ("here", "there")
        self.journal: list[str] = []
        self.machines: dict[str, Machine] = {}
        self.orders: list[Order] = []
        self.logs: dict[str, str] = {}
        self.taken: dict[str, str] = {}
        self.states: dict[str, State] = {}
        self.failing: dict[str, Exception] = {}
        self.refusals: list[Exception] = []
        self.hurried = False
        self.skew = 0
        self._ids = itertools.count(1)

    def split_region(self, text: str) -> tuple[str, str]:
        region, _, zone = text.partition("/")
        return region, zone

    def zones(self, candidate: Candidate) -> Sequence[Candidate]:
        return () if candidate.zone else [replace(candidate, zone=f"{candidate.region}-a")]

    def place(self, name: str) -> Place:
        return Place(root="/opt/gpu-ci")

    def check(self, order: Order) -> Iterator[Check]:
        yield Check(what="Everything", ok=True)

    def launch(self, order: Order) -> Machine:
        self._asked("launch", str(order.candidate))
        self.orders.append(order)
        if self.refusals:
            raise self.refusals.pop(0)
        return self.land(order)

    def land(self, order: Order) -> Machine:
        """Let the machine of an order exist, also when its answer is lost."""
        machine = Machine(
            provider=self.name,
            id=f"m-{next(self._ids)}",
            tags=order.tags,
            region=order.candidate.region,
            type=order.candidate.type,
            launched_at=self.clock.now(),
            kept=order.kept,
        )
        self.machines[machine.id] = machine
        return machine

    def find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:
        self._asked("find", ",".join(wanted.values()))
        return [
            machine
            for machine in self.machines.values()
            if not machine.kept
            and all(str(getattr(machine.tags, name)) == value for name, value in wanted.items())
        ]

    def state(self, machine: Machine) -> State:
        if machine.id not in self.machines:
            return State.GONE
        return self.states.get(machine.id, State.RUNNING)

    def release(self, machine: Machine) -> None:
        self._asked("release", machine.id)
        self.machines.pop(machine.id, None)

    def boot_log(self, machine: Machine) -> str:
        if "boot_log" in self.failing:
            raise self.failing["boot_log"]
        return self.logs.get(machine.id, "")

    def price(self, machine: Machine) -> Price | None:
        return Price(per_hour=0.5)

    def taken_back(self, machine: Machine) -> str:
        return self.taken.get(machine.id, "")

    def hurry(self) -> None:
        self.hurried = True

    def report(self, machine_id: str, line: str) -> None:
        """Let a boot script say something now, by the machine's clock, which may be skewed."""
        line = f"gpu-ci boot {self.clock.now() + self.skew:.0f} {line}\n"
        self.logs[machine_id] = self.logs.get(machine_id, "") + line

    def _asked(self, method: str, what: str) -> None:
        self.journal.append(f"{method} {what}")
        if method in self.failing:
            raise self.failing[method]


class FakeKeeper(FakeProvider, Keeper):
    """Machines with names of their own, whose ids change when they are resumed.

    `way_in` says whether a running machine can be adopted, and `ours` whether this library started
    it; `lasting` is how long a pause takes.
    """

    about: ClassVar[About] = About(
        name="keeper",
        title="Keeper",
        class_path=f"{__name__}:FakeKeeper",
        ends_itself=True,
        keeps=True,
        secrets={"KEEPER_KEY": Secret(words="a key", required=True)},
    )
    name: ClassVar[str] = about.name

    def __init__(self, options: FakeOptions, env: Mapping[str, str], clock: FakeClock) -> None:
        super().__init__(options, env, clock)
        self.way_in = True
        self.ours = True
        self.lasting = 0.0

    def add(self, name: str, state: State) -> Machine:
        """Let a machine of this name exist since yesterday."""
        order = Order(
            candidate=Candidate(type="old"), tags=tags(name), token="", boot_script="", kept=True
        )
        machine = replace(self.land(order), launched_at=self.clock.begin - 86400)
        self.machines[machine.id], self.states[machine.id] = machine, state
        return machine

    def set(self, name: str, state: State) -> None:
        """Let every machine of this name be in this state from now on."""
        for machine in self._named(name):
            self.states[machine.id] = state

    def kept(self, name: str) -> tuple[Machine, State] | None:
        self._asked("look at", name)
        match self._named(name):
            case []:
                return None
            case [machine]:
                return replace(machine, tags=nobodys(name), launched_at=0.0), self.state(machine)
            case several:
                raise NameShared(f"{len(several)} machines are named {name}.")

    def resume(self, machine: Machine, order: Order) -> Machine:
        self._asked("resume", f"{machine.id} as {order.candidate}")
        assert self.state(machine) is State.PAUSED, "only a paused machine is resumed"
        self.orders.append(order)
        if self.refusals:
            raise self.refusals.pop(0)
        old = self.machines.pop(machine.id)
        up = self.land(order)
        self.machines[up.id] = replace(up, type=up.type or old.type)
        return self.machines[up.id]

    def adopt(self, machine: Machine, order: Order) -> Machine | None:
        self._asked("adopt", machine.id)
        assert self.state(machine) is State.RUNNING, "only a running machine is adopted"
        self.orders.append(order)
        if not self.way_in:
            return None
        began = self.clock.now() if self.ours else 0.0
        return replace(machine, tags=order.tags, launched_at=began, started=self.ours)

    def pause(self, machine: Machine) -> None:
        self._asked("pause", machine.name)
        if self.lasting:
            self.clock.sleep(self.lasting)
        self.set(machine.name, State.PAUSED)

    def upkeep(self, machine: Machine) -> Price | None:
        return Price(per_hour=0.01)

    def _named(self, name: str) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.name == name]


class FakeGitHub(GitHub):
    """Registrations in a dictionary; `failing` and `journal` are as the provider's.

    `over` holds the runs that are completed.
    """

    def __init__(self, deadline: Deadline, journal: list[str] | None = None) -> None:
        line = Line("http://127.0.0.1:9", "", deadline)
        super().__init__(line, scope=f"repos/{REPOSITORY}", repository=REPOSITORY)
        self.journal = [] if journal is None else journal
        self.registered: dict[int, Runner] = {}
        self.failing: dict[str, Exception] = {}
        self.run_jobs: list[Job] = []
        self.over: set[str] = set()
        self._ids = itertools.count(101)

    def register(self, name: str, labels: Sequence[str], group_id: int = 1) -> tuple[Runner, str]:
        self._asked("register", name)
        if any(runner.name == name for runner in self.registered.values()):
            raise Conflict(f"{name} is taken.")
        return self.add(name, labels), "a-jit-config"

    def registration(self, name: str, labels: Sequence[str], group: str) -> Registration:
        self._asked("ask for a token for", name)
        return Registration(name=name, labels=tuple(labels), token="a-token", group=group)

    def add(self, name: str, labels: Sequence[str]) -> Runner:
        """Let a registration exist, offline and not busy."""
        runner = Runner(
            id=next(self._ids), name=name, online=False, busy=False, labels=frozenset(labels)
        )
        self.registered[runner.id] = runner
        return runner

    def set(self, runner_id: int, *, online: bool = True, busy: bool = False) -> None:
        runner = self.registered[runner_id]
        self.registered[runner_id] = replace(runner, online=online, busy=busy)

    def runner(self, runner_id: int) -> Runner:
        if "runner" in self.failing:
            raise self.failing["runner"]
        if runner_id not in self.registered:
            raise Absent(f"runner {runner_id} is not there.")
        return self.registered[runner_id]

    def runner_named(self, name: str) -> Runner | None:
        self._asked("look for", name)
        return next((r for r in self.registered.values() if r.name == name), None)

    def runners(self) -> list[Runner]:
        self._asked("list", "runners")
        return list(self.registered.values())

    def jobs(self, run_id: str) -> list[Job]:
        self._asked("list", f"jobs of {run_id}")
        return self.run_jobs

    def run(self, run_id: str) -> Run:
        self._asked("look at", f"run {run_id}")
        status = "completed" if run_id in self.over else "in_progress"
        return Run(id=int(run_id), attempt=1, status=status, conclusion="")

    def delete(self, runner_id: int) -> bool:
        self._asked("delete", str(runner_id))
        if runner_id in self.registered and self.registered[runner_id].busy:
            raise Busy(f"Runner {runner_id} is running a job.")
        return self.registered.pop(runner_id, None) is not None

    def _asked(self, method: str, what: str) -> None:
        self.journal.append(f"{method} {what}")
        if method in self.failing:
            raise self.failing[method]


def fakes_known() -> AbstractContextManager[object]:
    """Let the inputs name the providers of this file, as `fake` and `keeper`."""
    made = (FakeProvider, FakeKeeper)
    return mock.patch.dict(PROVIDERS, {one.name: one.about for one in made})


def kept_env(**inputs: str) -> dict[str, str]:
    """Return the environment of a step that names the kept machine `box`."""
    given = {"provider": "keeper", "machine_name": "box", **inputs}
    return start_env(**given) | {"KEEPER_KEY": "k"}


def start_env(**inputs: str) -> dict[str, str]:
    """Return the environment of a start's step; `disk_gb="1"` is the input `disk-gb`."""
    given = {"provider": "local", "github_token": "ghp_x", **inputs}
    env = {"GITHUB_REPOSITORY": REPOSITORY, "GITHUB_RUN_ID": "7", "GITHUB_JOB": "start"}
    return env | {variable(name): value for name, value in given.items()}


def tags(name: str = "gpu-ci-7-1-x", **values: Any) -> Tags:
    """Return the tags of a machine of this name."""
    known = {"repository": REPOSITORY, "run_id": "7", "attempt": "1", "key": "start"}
    known |= {"label": f"{name}-nonce", "scope": f"repos/{REPOSITORY}", "starter": "11"}
    return Tags(**{**known, "name": name, **values})


def nobodys(name: str) -> Tags:
    """Return what a cloud without tags tells of a machine: its name."""
    return Tags(name=name, label="", repository="", run_id="", attempt="", key="", scope="")


@dataclass(kw_only=True)
class World:
    """A start in memory: its clock, provider and GitHub share one journal."""

    clock: FakeClock
    provider: FakeProvider
    github: FakeGitHub
    rental: Rental
    said: list[str]

    @classmethod
    def of(cls, **inputs: str) -> World:
        clock, env = FakeClock(), start_env(**inputs)
        return cls._of(env, FakeProvider(FakeOptions(), env, clock), clock)

    @classmethod
    def kept(cls, **inputs: str) -> tuple[World, FakeKeeper]:
        """Return a start of the kept machine `box`, and its provider."""
        clock, env = FakeClock(), kept_env(**inputs)
        keeper = FakeKeeper(FakeOptions(), env, clock)
        return cls._of(env, keeper, clock), keeper

    @classmethod
    def _of(cls, env: Mapping[str, str], provider: FakeProvider, clock: FakeClock) -> World:
        said = list[str]()
        with fakes_known():
            start_inputs = StartInputs.read(env)
        deadline = Deadline.after(start_inputs.online_timeout, clock)
        github = FakeGitHub(deadline, provider.journal)
        rental = Rental(
            inputs=start_inputs,
            plan=plan_start(start_inputs, Identity.from_environment(env), provider, "deadbeef"),
            provider=provider,
            github=github,
            builds=(RunnerBuild(architecture="x64", url="http://127.0.0.1:9/r", sha256="0"),),
            cancellation=Cancellation(),
            deadline=deadline,
            say=said.append,
        )
        return cls(clock=clock, provider=provider, github=github, rental=rental, said=said)
