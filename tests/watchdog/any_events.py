"""What can happen around the watchdog: to runs, jobs, runners and machines. Each is data, so that it
can be drawn, told, and made to happen in the middle of a pass."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from hypothesis import strategies as st
from tests.watchdog.any_world import KEPT, LIFETIME, OTHER, label_of

from gpu_ci.model.machine import State
from gpu_ci.model.tags import read_label
from gpu_ci_sandbox.fake_github.runs import failed
from gpu_ci_sandbox.faults import answer, drop, garble, lose_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.watchdog.any_world import AnyWorld

    from gpu_ci.model.identity import Identity
    from gpu_ci_sandbox.fake_github.records import Run

T = TypeVar("T")
Whose = Literal["ours", "first", "foreign"]


class Event(Protocol):
    """One thing that happens. Numbers choose among what there is; without any, nothing happens."""

    @abstractmethod
    def happen(self, world: AnyWorld) -> None: ...


@dataclass(frozen=True)
class StartRun:
    """A run begins; GitHub's own ones are `dynamic`."""

    event: Literal["push", "dynamic"] = "push"

    def happen(self, world: AnyWorld) -> None:
        world.state.start_run("octo/widgets", event=self.event)


@dataclass(frozen=True)
class Queue:
    """A job is queued in a run: for our runner of this attempt or of the first, or for another."""

    run: int
    key: int = 0
    label: Literal["ours", "first", "foreign"] = "ours"
    status: Literal["queued", "waiting", "pending"] = "queued"
    always: bool = False

    def happen(self, world: AnyWorld) -> None:
        run = _chosen(self.run, world.runs(over=False))
        if run:
            labels = self._labels(world, run)
            world.state.queue_job(run, "test", labels, status=self.status, always=self.always)

    def _labels(self, world: AnyWorld, run: Run) -> list[str]:
        if self.label == "foreign":
            return ["self-hosted", "gpu"]
        attempt = 1 if self.label == "first" else run.attempt
        return [label_of(world.identity(run.id, attempt, self.key))]


@dataclass(frozen=True)
class Rent:
    """A start registers a runner and launches its machine, or dies between the two.

    `whose` may be another repository's, whose run does not exist here; one of a terminal, in no
    run; or ours in a scope that the passes are not told of.
    """

    run: int
    key: int = 0
    whose: Literal["ours", "other", "terminal", "elsewhere"] = "ours"
    machine: bool = True
    runner: bool = True
    overdue: bool = False

    def happen(self, world: AnyWorld) -> None:
        run = _chosen(self.run, world.runs())
        if run is None:
            return
        identity = self._identity(world, run)
        if self.runner:
            world.register(identity.scope, identity.name(0), label_of(identity))
        if self.machine:
            world.rent(identity, overdue=self.overdue)

    def _identity(self, world: AnyWorld, run: Run) -> Identity:
        match self.whose:
            case "other":
                return world.identity(900 + self.run, 1, self.key, repository=OTHER)
            case "terminal":
                return world.identity(0, 1, self.key)
            case "elsewhere":
                # Another key: no start registers the same name in two places.
                return world.identity(run.id, run.attempt, self.key + 2, scope=world.elsewhere)
            case _:
                return world.identity(run.id, run.attempt, self.key)


@dataclass(frozen=True)
class Come:
    """A runner comes online, and takes a job if there is one; one that hangs does not."""

    runner: int
    hangs: bool = False

    def happen(self, world: AnyWorld) -> None:
        runner = _chosen(self.runner, world.runners())
        if runner and not runner.busy:
            session = None if self.hangs else "open"
            world.state.set_runner(runner.id, online=True, session=session, heard_at=world.now)


@dataclass(frozen=True)
class Go:
    """A runner goes offline, whatever it does."""

    runner: int

    def happen(self, world: AnyWorld) -> None:
        runner = _chosen(self.runner, world.runners())
        if runner:
            world.state.set_runner(runner.id, online=False, session=None)


@dataclass(frozen=True)
class Drop:
    """GitHub drops a registration that has long been idle."""

    runner: int

    def happen(self, world: AnyWorld) -> None:
        old = [r for r in world.runners() if not r.busy and world.now - r.registered_at > LIFETIME]
        runner = _chosen(self.runner, old)
        if runner:
            world.state.runners.remove(runner.id)


@dataclass(frozen=True)
class Begin:
    """A runner begins the job that it was handed."""

    job: int

    def happen(self, world: AnyWorld) -> None:
        job = _chosen(self.job, world.jobs("assigned"))
        if job:
            with world.state.turn():
                world.state.runs.begin(job)


@dataclass(frozen=True)
class PickUp:
    """A runner comes for a job that waits for one, and begins it."""

    job: int
    begins: bool = True

    def happen(self, world: AnyWorld) -> None:
        job = _chosen(self.job, world.jobs("queued"))
        if job is None:
            return
        name = job.labels[0].removesuffix("-0a1b2c3d")
        world.register(world.scope, name, *job.labels)
        for runner in world.runners():
            if runner.name == name and not runner.busy:
                world.state.set_runner(runner.id, online=True, session="s", heard_at=world.now)
        if self.begins:
            Begin(0).happen(world)


@dataclass(frozen=True)
class Reach:
    """A further job of a run reaches a runner of that run."""

    runner: int

    def happen(self, world: AnyWorld) -> None:
        runner = _chosen(self.runner, [each for each in world.runners() if not each.busy])
        mark = read_label(runner.labels[0].name) if runner else None
        runs = [run for run in world.runs(over=False) if mark and run.id == int(mark.run_id)]
        if runner and runs:
            world.state.queue_job(runs[0], "more", [runner.labels[0].name])
            world.state.set_runner(runner.id, online=True, session="open", heard_at=world.now)
            Begin(0).happen(world)


@dataclass(frozen=True)
class Finish:
    """A job ends, and its runner is free or gone."""

    job: int
    conclusion: Literal["success", "failure"] = "success"

    def happen(self, world: AnyWorld) -> None:
        running = [job for job in world.jobs("in_progress") if job.name != "watchdog"]
        job = _chosen(self.job, running)
        if job:
            with world.state.turn():
                world.state.finish(job, self.conclusion)


@dataclass(frozen=True)
class Approve:
    """A job need not wait for an approval or its turn any longer."""

    job: int

    def happen(self, world: AnyWorld) -> None:
        job = _chosen(self.job, world.jobs("waiting", "pending"))
        if job:
            world.state.set_job(job.id, status="queued")


@dataclass(frozen=True)
class End:
    """A run ends with its jobs, or only says so while they go on (or wait for ever)."""

    run: int
    says_so: bool = False

    def happen(self, world: AnyWorld) -> None:
        run = _chosen(self.run, world.runs(over=False))
        if run is None:
            return
        if not self.says_so:
            world.state.cancel(run, force=True)
        world.state.set_run(run.id, status="completed", conclusion="failure")


@dataclass(frozen=True)
class Rerun:
    """Somebody runs a run again: all of it, or what has failed."""

    run: int
    failed: bool = True

    def happen(self, world: AnyWorld) -> None:
        run = _chosen(self.run, world.runs(over=True))
        if run:
            with world.state.turn():
                world.state.runs.rerun(run, failed if self.failed else lambda _: True)


@dataclass(frozen=True)
class Delete:
    """Somebody deletes a run that is over."""

    run: int

    def happen(self, world: AnyWorld) -> None:
        run = _chosen(self.run, world.runs(over=True))
        if run:
            with world.state.turn():
                world.state.runs.delete(run)


@dataclass(frozen=True)
class Hold:
    """A start takes the lock of a kept machine and resumes it, or dies before that."""

    name: int
    run: int
    key: int = 0
    foreign: bool = False
    resumes: bool = True

    def happen(self, world: AnyWorld) -> None:
        name, run = KEPT[self.name], _chosen(self.run, world.runs(over=False))
        if run is None or world.holder(name):
            return
        label = label_of(world.identity(run.id, run.attempt, self.key))
        world.register(world.scope, name, "gpu" if self.foreign else label)
        if self.resumes:
            world.keeper.set(name, State.RUNNING)


@dataclass(frozen=True)
class Turn:
    """Somebody changes a kept machine that no run holds, in the cloud's console."""

    name: int
    state: State

    def happen(self, world: AnyWorld) -> None:
        if world.holder(KEPT[self.name]) is None:
            world.keeper.set(KEPT[self.name], self.state)


def _chosen(number: int, known: Sequence[T]) -> T | None:
    return known[number % len(known)] if known else None


few = st.integers(0, 3)
keys = st.integers(0, 1)
kept = st.integers(0, len(KEPT) - 1)
flags = st.booleans()
mostly = st.sampled_from([True, True, True, False])
queued = st.builds(
    Queue,
    few,
    keys,
    st.sampled_from(["ours", "ours", "ours", "first", "first", "foreign"]),
    st.sampled_from(["queued", "queued", "queued", "waiting", "pending"]),
    always=st.sampled_from([False, False, False, True]),
)
rented = st.builds(
    Rent,
    few,
    keys,
    st.sampled_from(["ours"] * 6 + ["other", "terminal", "elsewhere"]),
    machine=mostly,
    runner=mostly,
    overdue=st.sampled_from([False, False, True]),
)
come = st.builds(Come, few, hangs=flags)
started = st.builds(StartRun, st.sampled_from(["push", "push", "push", "dynamic"]))
held = st.builds(
    Hold, kept, few, keys, foreign=st.sampled_from([False] * 4 + [True]), resumes=flags
)
turned = st.builds(Turn, kept, st.sampled_from([State.RUNNING, State.PAUSED, State.PENDING]))
begun = st.builds(Begin, few)
reached = st.builds(Reach, few)
picked_up = st.builds(PickUp, few, begins=mostly)
ended = st.builds(End, few, says_so=flags)
rest = (
    st.builds(Rerun, few, failed=mostly),
    st.builds(Delete, few),
    st.builds(Finish, few, st.sampled_from(["success", "failure"])),
    st.builds(Approve, few),
    st.builds(Go, few),
    st.builds(Drop, few),
)
# What makes up a world, and what then changes in it.
beginnings = st.one_of(queued, queued, rented, rented, started, held, turned)
changes = st.one_of(
    *(picked_up, picked_up, picked_up, reached, reached, reached, come, begun, ended, ended),
    *(held, turned, queued, rented, *rest),
)

often = st.sampled_from([1, 2, 5, None])
nth = st.integers(1, 6)
verbs = st.sampled_from(["GET", "POST", "DELETE"])
asked_for = st.sampled_from([r"/runs\?", r"/jobs\?", r"/jobs\?", r"/runs/\d+$", "/runners"])
LIMITED = {"message": "You have exceeded a secondary rate limit."}
NOT_YET = {"message": "Cannot cancel a workflow re-run that has not yet queued."}
cancel_faults = st.one_of(
    st.builds(lambda times: answer(202, {}, path="/cancel$", times=times), often),
    st.builds(lambda times: answer(409, NOT_YET, path="cancel$", times=times), often),
    st.builds(lambda times: answer(502, path="cancel$", times=times), often),
)
other_faults = st.one_of(
    st.builds(
        lambda path, nth, times: answer(502, path=path, nth=nth, times=times), asked_for, nth, often
    ),
    st.builds(lambda verb, nth: drop(method=verb, nth=nth), verbs, nth),
    st.builds(lambda verb, nth: lose_answer(method=verb, nth=nth), verbs, nth),
    st.builds(lambda path, nth: garble(path=path, nth=nth), asked_for, nth),
    st.builds(lambda nth: answer(403, LIMITED, headers={"Retry-After": "60"}, nth=nth), nth),
    st.builds(lambda times: answer(500, method="DELETE", times=times), often),
)
faults = st.one_of(cancel_faults, other_faults)
