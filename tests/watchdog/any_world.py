"""A world for the watchdog's passes, and a judge that looks at the moment of each act of theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from unittest import mock

from tests.fakes import (
    REPOSITORY,
    FakeKeeper,
    FakeOptions,
    FakeProvider,
    fakes_known,
    tags,
)
from werkzeug.test import create_environ, run_wsgi_app

from gpu_ci.errors import CloudUnreachable, GpuCiError, Unreachable
from gpu_ci.github.transport import API_VERSION, Line, _Reply
from gpu_ci.inputs.reader import variable
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine, State
from gpu_ci.model.tags import our_label, read_label, read_name, repository_mark
from gpu_ci.watchdog import watchdog
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.runners import Lifetimes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.github.desk import Desk

    from gpu_ci.model.tags import Mark
    from gpu_ci_sandbox.fake_github.records import Job, Run, Runner
    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.faults import Phase, Request, Rule

OTHER = "octo/gadgets"
ORGANIZATION = "octo"
KEPT = ("box", "crate")
LIMIT = 900.0
EARLIER = 30.0
LIFETIME = 3600.0
WATCHDOG = "watchdog"
CLIENT = {"User-Agent": "gpu-ci", "X-GitHub-Api-Version": API_VERSION}
# GitHub's times are written in whole seconds.
ROUNDING = 1.0
# Nothing goes by itself but a job that its runner does not begin.
LASTING = Lifetimes(
    jit_unused=None,
    ephemeral_offline=1e12,
    offline=1e12,
    silent=1e12,
    lost=1e12,
    queued=1e12,
    cancelling=1e12,
)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """How one pass is asked for, and what goes wrong meanwhile: rules of the fault layer, methods of
    the clouds that fail, and how many requests are `left` of the hour."""

    dry_run: bool = False
    admin: bool = True
    providers: bool = True
    cache: bool = True
    labels: str = ""
    max_actions: int = 20
    faults: Sequence[Rule] = ()
    failing: Sequence[str] = ()
    left: int = 5000

    @property
    def globs(self) -> Sequence[str]:
        return (self.labels or "gpu-ci-*",)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a reading of a run's jobs showed: whether watched ones are queued, and are late."""

    at: float
    queued: bool
    late: bool


@dataclass(kw_only=True)
class Meanwhile:
    """Something that happens in a pass: as its so-and-so-manieth request arrives, or so many seconds
    after its so-and-so-manieth act, which is where it hurts most."""

    happen: Callable[[], object]
    request: int = 0
    act: int = 0
    seconds: float = 0.0


class Cloud(FakeProvider):
    """Machines of one run. `judge` is asked before each release."""

    judge: Callable[[Machine], None]

    def release(self, machine: Machine) -> None:
        self.judge(machine)
        super().release(machine)


class KeptCloud(FakeKeeper):
    """Kept machines. `judge` is asked before each pause."""

    judge: Callable[[Machine], None]

    def pause(self, machine: Machine) -> None:
        self.judge(machine)
        super().pause(machine)
        self.judge(machine)


@dataclass(kw_only=True)
class AnyWorld:
    """GitHub, two clouds, and passes over them.

    `acts` are the acts of the current pass and `wrong` what none may do, in words.
    """

    desk: Desk
    scope: str
    folder: Path
    cloud: Cloud
    keeper: KeptCloud
    acts: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    asked: Pass = field(default_factory=Pass)
    run_id: int = 0
    busy_seen: frozenset[int] = frozenset()
    online_seen: frozenset[int] = frozenset()
    looks: dict[int, Look] = field(default_factory=dict)
    _arrived: int = 0
    _meanwhile: list[Meanwhile] = field(default_factory=list)
    _may: dict[bool, str] = field(default_factory=dict)

    @classmethod
    def at(cls, desk: Desk, folder: Path, *, organization: bool) -> AnyWorld:
        options = FakeOptions()
        world = cls(
            desk=desk,
            scope=f"orgs/{ORGANIZATION}" if organization else f"repos/{REPOSITORY}",
            folder=folder,
            cloud=Cloud(options, {}, desk.clock),
            keeper=KeptCloud(options, {}, desk.clock),
        )
        world.cloud.judge = world._judge_release
        world.keeper.judge = world._judge_pause
        world._open()
        return world

    def _open(self) -> None:
        self.state.lifetimes = LASTING
        self.state.set_quirks(run_status="least-advanced", carried_attempt="new")
        self.state.add_repository(OTHER)
        self.state.set_run(7, name=WATCHDOG, status="completed", conclusion="success")
        token = self.state.issue(credentials.job_token(REPOSITORY, actions="write"))
        self._may = {True: self.desk.admin, False: token}
        for name in KEPT:
            self.keeper.add(name, State.PAUSED)
        self.keeper.lasting = 5.0

    # What there is

    @property
    def state(self) -> GitHub:
        return self.desk.state

    @property
    def now(self) -> float:
        return self.desk.clock.now()

    @property
    def elsewhere(self) -> str:
        """The scope of runners that the passes are not told of."""
        repository, organization = f"repos/{REPOSITORY}", f"orgs/{ORGANIZATION}"
        return repository if self.scope == organization else organization

    def runs(self, *, over: bool | None = None) -> list[Run]:
        """This repository's runs but those of the watchdog, oldest first."""
        found = [run for run in self.state.runs.of(REPOSITORY)[::-1] if run.name != WATCHDOG]
        return [run for run in found if over in {None, self.is_over(run)}]

    def is_over(self, run: Run) -> bool:
        return self.state.run_status(run.id)[0] == "completed"

    def jobs(self, *statuses: str) -> list[Job]:
        """Jobs of these statuses, `assigned` among them, but those of the watchdog."""
        return [job for job in self.state.all_jobs() if _status(job) in statuses]

    def runners(self) -> list[Runner]:
        return self.state.all_runners()

    def holder(self, name: str) -> Runner | None:
        """The registration that locks a kept machine."""
        return self.state.runners.named(_place(self.scope), name)

    def identity(
        self, run_id: int, attempt: int, key: int, repository: str = REPOSITORY, scope: str = ""
    ) -> Identity:
        return Identity(
            repository=repository,
            run_id=str(run_id),
            attempt=str(attempt),
            key=f"key{key}",
            scope=scope or self.scope,
        )

    def register(self, scope: str, name: str, *labels: str) -> None:
        """Register a runner that is offline, unless the name is taken."""
        if self.state.runners.named(_place(scope), name) is None:
            self.state.register(_place(scope), name, labels)

    def rent(self, identity: Identity, *, overdue: bool) -> None:
        """Let the machine of a start run, unless it does already."""
        name = identity.name(0)
        if name in {machine.name for machine in self.cloud.machines.values()}:
            return
        machine = Machine(
            provider=self.cloud.name,
            id=f"m-{name}",
            launched_at=self.now,
            tags=tags(
                name,
                label=label_of(identity),
                repository=identity.repository,
                run_id=identity.run_id,
                attempt=identity.attempt,
                key=identity.key,
                scope=identity.scope,
                expires_at=int(self.now + (-ROUNDING if overdue else LIFETIME)),
            ),
        )
        self.cloud.machines[machine.id] = machine

    # What should be

    def late(self, run: Run) -> frozenset[int]:
        """The watched jobs that have waited for a runner for too long, and that none is seen to have."""
        if self.is_over(run):
            return frozenset()
        return frozenset(
            job.id
            for job in self.queued(run)
            if self._waited(run, job) >= self._limit(run, job) and job.id not in self.busy_seen
        )

    def queued(self, run: Run) -> list[Job]:
        """The watched jobs of the run that show as queued, some of them for ever in a dead run."""
        if run.event == "dynamic" or run.repository != REPOSITORY:
            return []
        jobs = self.state.runs.jobs(run.id, run.attempt)
        return [job for job in jobs if job.status == "queued" and _fits(job, self.asked.globs)]

    def _waited(self, run: Run, job: Job) -> float:
        return self.now + ROUNDING - max(job.created_at, job.started_at, run.started_at)

    def _limit(self, run: Run, job: Job) -> float:
        marks = [mark for mark in map(read_label, job.labels) if mark]
        before = [m for m in marks if int(m.run_id) == run.id and int(m.attempt) < run.attempt]
        return EARLIER if before else LIMIT

    def is_nobodys(self, mark: Mark) -> bool:
        """Whether the run's attempt that a name or a label tells of is over."""
        if mark.run_id == "0":
            return False
        run = self.state.runs.get(int(mark.run_id))
        if run is None or run.repository != REPOSITORY:
            return True
        return self.is_over(run) or run.attempt > int(mark.attempt)

    def may_release(self, machine: Machine) -> bool:
        """Whether nobody needs a machine, jobs on it aside."""
        if machine.tags.repository != REPOSITORY or machine.tags.scope != self.scope:
            return False
        mark = read_name(machine.name)
        overdue = self.now > machine.tags.expires_at
        return overdue or (mark is not None and self.is_nobodys(mark))

    def jobs_on(self, name: str) -> list[Job]:
        """The jobs that the runner of this name has, or was handed."""
        return [job for job in self.jobs("assigned", "in_progress") if job.runner_name == name]

    def is_busy(self, name: str) -> bool:
        shown = any(runner.busy for runner in self.runners() if runner.name == name)
        return shown or bool(self.jobs_on(name))

    # A pass

    def make_pass(self, asked: Pass, meanwhile: Iterable[Meanwhile] = ()) -> GpuCiError | None:
        """Make a pass and return how it failed, if it did. Other errors than ours are raised."""
        self._begin(asked, meanwhile)
        try:
            with fakes_known(), self._clouds_known(), straight_to(self.desk.hub):
                watchdog(self._env(asked), self.desk.clock)
        except GpuCiError as error:
            return error
        finally:
            self._end(asked)
        return None

    def _clouds_known(self) -> AbstractContextManager[object]:
        made = {each.name: lambda *_, each=each: each for each in (self.cloud, self.keeper)}
        return mock.patch("gpu_ci.watchdog.provider_class", made.__getitem__)

    def _begin(self, asked: Pass, meanwhile: Iterable[Meanwhile]) -> None:
        self.asked, self.acts, self.looks, self._arrived = asked, [], {}, 0
        self.busy_seen = self.online_seen = frozenset()
        self._meanwhile = list(meanwhile)
        run = self.state.start_run(REPOSITORY, name=WATCHDOG)
        self.run_id = run.id
        job = self.state.queue_job(run, WATCHDOG, ["ubuntu-latest"])
        self.state.set_job(job.id, status="in_progress")
        self.desk.hub.faults.clear()
        self.desk.add(*asked.faults)
        self.desk.hub.faults.on_request(self._on_request)
        self.state.set_remaining(asked.left, reset_in=1800)
        for provider in (self.cloud, self.keeper):
            provider.failing = {each: CloudUnreachable("No answer.") for each in asked.failing}

    def _end(self, asked: Pass) -> None:
        self.desk.hub.faults.clear()
        for provider in (self.cloud, self.keeper):
            provider.failing = {}
        for job in self.state.runs.jobs(self.run_id):
            self.state.set_job(job.id, conclusion="success")
        counted = {act for act in self.acts if not act.startswith(("delete", "lock", "force"))}
        if len(counted) > asked.max_actions:
            self._blame(f"more than max-actions: {sorted(counted)}")

    def _env(self, asked: Pass) -> dict[str, str]:
        inputs = {
            "scope": "repository",
            "github_api_url": self.desk.hub.url,
            "organization": ORGANIZATION if self.scope.startswith("orgs/") else "",
            "github_token": self._may[True] if asked.admin else "",
            "labels": asked.labels,
            "providers": "fake,keeper" if asked.providers else "",
            "machine_name": ",".join(KEPT) if asked.providers else "",
            "cache_dir": str(self.folder) if asked.cache else "",
            "dry_run": str(asked.dry_run).lower(),
            "max_actions": str(asked.max_actions),
        }
        return {variable(name): value for name, value in inputs.items()} | {
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(self.run_id),
            "GITHUB_RUN_ATTEMPT": "1",
            "GITHUB_JOB": WATCHDOG,
            "GPU_CI_RUN_TOKEN": self._may[False],
            "KEEPER_KEY": "k",
        }

    # The judge

    def _on_request(self, number: int, phase: Phase, request: Request) -> None:
        if phase == "after":
            self._note_look(request)
            return
        self._arrived += 1
        for each in [each for each in self._meanwhile if each.request == self._arrived]:
            each.happen()
        if request.method != "GET":
            self._judge_request(request)

    def _note_look(self, request: Request) -> None:
        """Remember what an answer shows. Between the last look and a cancel GitHub can hand a job out,
        and nobody can know: that the jobs were as they must be in the same instant is enough."""
        was_read = request.status in {200, 304} and request.fault is None
        if request.method == "GET" and request.path.endswith("/actions/runners"):
            self._note_runners(request, was_read=was_read)
        found = re.search(r"/runs/(\d+)/jobs$", request.path)
        run = self.state.runs.get(int(found[1])) if found else None
        if run and was_read:
            queued, late = bool(self.queued(run)), bool(self.late(run))
            self.looks[run.id] = Look(at=self.now, queued=queued, late=late)
        elif run:
            self.looks.pop(run.id, None)

    def _note_runners(self, request: Request, *, was_read: bool) -> None:
        runners = self.state.runners.of(_place(self.scope)) if was_read else []
        if not was_read or "name=" not in request.query:
            self.busy_seen = frozenset(each.job_id for each in runners if each.job_id is not None)
            self.online_seen = frozenset(each.id for each in runners if each.online)

    def _judge_request(self, request: Request) -> None:
        match request.method, request.path.split("/"):
            case "POST", [*_, run_id, "cancel" | "force-cancel" as how]:
                self._judge_cancel(request.path, int(run_id), how)
            case "DELETE", [*_, runner_id]:
                self._judge_delete(int(runner_id))
            case "POST", [*_, "generate-jitconfig"]:
                self._act(f"lock {request.body}")
            case _:
                self._blame(f"an unknown act: {request.method} {request.target}")

    def _judge_cancel(self, path: str, run_id: int, how: str) -> None:
        self._act(f"{how} {run_id}")
        run = self.state.runs.get(run_id)
        if f"/repos/{REPOSITORY}/" not in path or (run and run.repository != REPOSITORY):
            self._blame(f"{how} of another repository's run {run_id}")
        elif run and not self._is_asked_for(run, how):
            self._blame(f"{how} of run {run_id}, in which no watched job is late or queued")

    def _is_asked_for(self, run: Run, how: str) -> bool:
        look = self.looks.get(run.id)
        if how == "cancel":
            return bool(self.late(run) or (look and look.at == self.now and look.late))
        return bool(self.queued(run) or (look and look.at == self.now and look.queued))

    def _judge_delete(self, runner_id: int) -> None:
        """A runner that has a job is refused by GitHub itself; all others are gone hereafter."""
        self._act(f"delete {runner_id}")
        runner = self.state.runners.get(runner_id)
        if runner is None or runner.busy:
            return
        if self.jobs_on(runner.name):
            self._blame(f"removal of {runner.name}, which has a job")
        machine = next((m for m in self.cloud.machines.values() if m.name == runner.name), None)
        if runner.scope != _place(self.scope) or not self._may_remove(runner, machine):
            self._blame(f"removal of {runner.name} in {runner.scope}, which is somebody's")
        if runner.id in self.online_seen and runner.name not in KEPT and machine is None:
            self._blame(f"removal of {runner.name}, which is online")

    def _may_remove(self, runner: Runner, machine: Machine | None) -> bool:
        label = our_label([label.name for label in runner.labels])
        owner = read_label(label)
        if owner is None:
            return False
        ours = owner.repository_mark == repository_mark(REPOSITORY)
        if runner.name in KEPT:
            of_this_pass = owner.run_id == str(self.run_id)
            return (
                of_this_pass or self._is_over_for_lock(owner) or (ours and self.is_nobodys(owner))
            )
        mark = read_name(runner.name)
        if mark is None:
            return False
        return ours and (self.is_nobodys(mark) or (machine and self.may_release(machine)) is True)

    def _is_over_for_lock(self, owner: Mark) -> bool:
        """An organisation's run that is not here may be one of another repository: the label tells."""
        run = self.state.runs.get(int(owner.run_id))
        if run is None or run.repository != REPOSITORY:
            return owner.repository_mark == repository_mark(REPOSITORY)
        return self.is_over(run)

    def _judge_release(self, machine: Machine) -> None:
        self._act(f"release {machine.name}")
        if not self.may_release(machine):
            self._blame(f"release of {machine.name}, which is somebody's")
        if self.jobs_on(machine.name):
            self._blame(f"release of {machine.name} under its job")

    def _judge_pause(self, machine: Machine) -> None:
        self._act(f"pause {machine.name}")
        holder = self.holder(machine.name)
        labels = [label.name for label in holder.labels] if holder else []
        owner = read_label(our_label(labels))
        if owner is None or owner.run_id != str(self.run_id):
            self._blame(f"pause of {machine.name} without its lock")
        if self.jobs_on(machine.name):
            self._blame(f"pause of {machine.name} under its job")

    def _act(self, what: str) -> None:
        self.acts.append(what)
        clock = self.desk.clock
        for each in [each for each in self._meanwhile if each.act == len(self.acts)]:
            clock.at(clock.elapsed() + each.seconds, each.happen, must=False)
        if self.asked.dry_run:
            self._blame(f"an act of a dry run: {what}")

    def _blame(self, what: str) -> None:
        self.wrong.append(f"{what}, {self.desk.clock.elapsed():.0f} s after the beginning")

    # The end

    def calm(self) -> None:
        """Let nothing more happen, and all that is on its way arrive."""
        self.desk.clock._events.clear()
        for machine in self.keeper.machines.values():
            if self.keeper.state(machine) is State.PENDING:
                self.keeper.set(machine.name, State.RUNNING)

    def left_over(self) -> list[str]:
        """What is left that a pass should have ended."""
        runs = [f"run {run.id} waits" for run in self.runs() if self.late(run) - self._taken()]
        machines = [
            f"machine {machine.name} is nobody's"
            for machine in self.cloud.machines.values()
            if self.may_release(machine) and not self.is_busy(machine.name)
        ]
        kept = [f"machine {name} runs for no run" for name in KEPT if self._runs_for_nobody(name)]
        stale = [f"registration {each.name}" for each in self.runners() if self._is_stale(each)]
        return [*runs, *machines, *kept, *stale]

    def _taken(self) -> frozenset[int]:
        """Jobs for which a runner may be at work: a busy one has their label, and no other job."""
        busy = [
            runner
            for runner in self.runners()
            if runner.busy and runner.scope == _place(self.scope) and not self.jobs_on(runner.name)
        ]
        return frozenset(
            j.id for j in self.jobs("queued") if any(r.accepts(j.labels) for r in busy)
        )

    def _runs_for_nobody(self, name: str) -> bool:
        found = self.keeper.kept(name)
        holder = self.holder(name)
        if found is None or found[1] is not State.RUNNING or (holder and holder.busy):
            return False
        owner = read_label(our_label([each.name for each in holder.labels])) if holder else None
        return holder is None or (owner is not None and self._is_over_for_lock(owner))

    def _is_stale(self, runner: Runner) -> bool:
        machines = {machine.name for machine in self.cloud.machines.values()}
        mark, place = read_name(runner.name), _place(self.scope)
        if mark is None or runner.online or runner.busy or runner.name in machines:
            return False
        ours = mark.repository_mark == repository_mark(REPOSITORY) and runner.scope == place
        return ours and self.is_nobodys(mark)


def straight_to(hub: ServedGitHub) -> AbstractContextManager[object]:
    """Let clients call the stand-in's application: without sockets a world costs a third."""

    def exchange(
        line: Line, verb: str, url: str, headers: Mapping[str, str], body: object
    ) -> _Reply:
        environ = create_environ(
            url,
            hub.url,
            method=verb,
            headers={
                **headers,
                **CLIENT,
                "Authorization": f"Bearer {line.token}",
            },
            **({} if body is None else {"json": body}),
        )
        try:
            chunks, status, got = run_wsgi_app(hub.faults, environ, buffered=True)
        except ConnectionError as error:
            raise Unreachable(f"{verb} {url}: no answer.") from error
        text = b"".join(chunks).decode()
        return _Reply(int(status[:3]), {name.lower(): value for name, value in got.items()}, text)

    return mock.patch.object(Line, "_exchange", exchange)


def label_of(identity: Identity) -> str:
    """The label of a start's runner, the same whenever it is asked for."""
    return identity.label(identity.name(0), "0a1b2c3d")


def _status(job: Job) -> str:
    return "assigned" if job.status == "queued" and job.runner_id is not None else job.status


def _fits(job: Job, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(label, glob) for label in job.labels for glob in globs)


def _place(scope: str) -> str:
    """The stand-in's name of a scope."""
    return scope.partition("/")[2]
