"""The model world: a GitHub and one kept machine in memory, and the runs that share them.

The processes are the library's own code in greenlets. Whoever drives the world picks the next of
its `moves`; nothing else moves. Each process has a clock of its own, which only its sleeps advance.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from tests.lock_model.process import Process
from tests.lock_model.services import a_machine
from tests.lock_model.state import NAME, Box, Phase, Registered, WorkflowRun
from tests.lock_model.stories import start, stop

from gpu_ci.errors import Busy, CloudUnreachable, Conflict, GpuCiError, InUse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.lock_model.process import Seen
    from tests.lock_model.state import Setup

    from gpu_ci.github.client import Runner
    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Order

Move = tuple[str, int]
# A call of a killed process is answered to nobody; it lands within so many steps of the others.
LANDS_WITHIN: Final = 4
MOST_STOPS: Final = 4


class World:
    """Everything that is true at one moment, and what may happen next."""

    def __init__(self, setup: Setup, seen: Seen) -> None:
        self.setup, self.seen = setup, seen
        self.box = Box(phase=Phase.RUNNING if setup.by_hand else Phase.PAUSED)
        self.registered: dict[int, Registered] = {}
        self.changes, self.crashes, self.switches = 0, setup.crashes, setup.switches
        self.running: Process | None = None
        self.in_flight: tuple[str, Callable[[], object]] | None = None
        self.steps_in_flight = 0
        self.wrong = ""
        self.runs = {n: WorkflowRun(number=n) for n in range(1, setup.runs + 1)}
        self.processes: list[Process] = []
        for run in self.runs.values():
            self._begin(run, "start", start)

    # What processes ask for

    def register(self, process: Process, labels: Sequence[str]) -> Runner:
        if self.registered:
            raise Conflict(f"{NAME} is taken.")
        number = 100 * (self.processes.index(process) + 1) + process.registrations
        process.registrations += 1
        new = Registered(
            id=number, run=process.run.number, role=process.role, labels=frozenset(labels)
        )
        self.registered[number] = new
        self.changes += 1
        return new.runner()

    def delete(self, number: int) -> bool:
        if number not in self.registered:
            return False
        if self.registered[number].busy:
            raise Busy(f"Runner {number} is running a job.")
        del self.registered[number]
        self.changes += 1
        return True

    def resume(self, order: Order) -> Machine:
        if self.box.phase is not Phase.PAUSED:
            raise InUse(f"It is {self.box.phase.value}.")
        self.box.resumes += 1
        self.box.ours, self.box.boot = True, order.tags.runner_id
        self._turn(Phase.RESUMING)
        return a_machine(self.box.resumes, order.tags)

    def adopt(self, order: Order) -> Machine:
        if self.box.phase is not Phase.RUNNING:
            raise CloudUnreachable(f"It is {self.box.phase.value}.")
        if self.box.job:
            self.wrong = f"the machine is taken over while the job of run {self.box.job} runs on it"
        self.box.boot = order.tags.runner_id
        self.changes += 1
        return a_machine(self.box.resumes, order.tags, started=self.box.ours)

    def pause(self) -> Phase:
        """Accept a pause if it is running, refuse it otherwise; return how it is then."""
        if self.box.phase is Phase.RUNNING:
            if self.box.job:
                self.wrong = f"a pause is accepted while the job of run {self.box.job} runs on it"
            if self.box.boot in self.registered:
                self.registered[self.box.boot].online = False
            self.box.boot, self.box.ours = 0, False
            self._turn(Phase.PAUSING)
        return self.box.phase

    def _turn(self, phase: Phase) -> None:
        self.box.phase = phase
        self.changes += 1

    # What may happen next

    def moves(self) -> list[Move]:
        """Return every next step; where nothing else can move, time passes for one who sleeps."""
        if self.steps_in_flight >= LANDS_WITHIN:
            return [("land", 0)]
        if self._undisturbed():
            return self._of_running()
        steps = self._steps() + self._surroundings()
        if not steps and (asleep := [p for p in self.processes if not p.over]):
            first = min(asleep, key=lambda process: process.time)
            steps = [("go", self.processes.index(first))]
        return steps + self._crashes()

    def _undisturbed(self) -> bool:
        """Say whether only the running process may move, since it was disturbed often enough."""
        return self.switches == 0 and self.running is not None

    def _of_running(self) -> list[Move]:
        number = self.processes.index(cast("Process", self.running))
        crashes = [move for move in self._crashes() if move[1] == number]
        return [("go", number), *crashes]

    def _steps(self) -> list[Move]:
        return [
            ("go", n)
            for n, process in enumerate(self.processes)
            if not process.over and (not process.asleep or process.stirred) and self._in_turn(n)
        ]

    def _in_turn(self, number: int) -> bool:
        """Let the first run begin first, since they are all alike."""
        return self.processes[number - 1].begun if 0 < number < self.setup.runs else True

    def _surroundings(self) -> list[Move]:
        found: list[Move] = []
        if self.in_flight:
            found.append(("land", 0))
        if self.box.phase in {Phase.RESUMING, Phase.PAUSING}:
            found.append(("arrive", 0))
        if self._boots():
            found.append(("online", 0))
        for number, run in self.runs.items():
            if self._runner_for(run):
                found.append(("assign", number))
            if self.box.job == number:
                found.append(("finish", number))
            if run.again and not self.in_flight:
                found.append(("again", number))
        return found + [("drop", each.id) for each in self.registered.values() if each.over]

    def _boots(self) -> bool:
        booted = self.registered.get(self.box.boot)
        return self.box.phase is Phase.RUNNING and booted is not None and not booted.online

    def _runner_for(self, run: WorkflowRun) -> Registered | None:
        if run.job != "queued":
            return None
        runners = self.registered.values()
        return next((r for r in runners if r.online and not r.busy and run.label in r.labels), None)

    def _crashes(self) -> list[Move]:
        if not self.crashes:
            return []
        going = [
            (n, process)
            for n, process in enumerate(self.processes)
            if not process.over and self._in_turn(n)
        ]
        return [
            (kind, n)
            for n, process in going
            for kind in _ways_to_fail(process)
            if kind.partition(" ")[0] in self.setup.kinds
        ]

    def do(self, move: Move) -> None:
        """Take one step. `wrong` says if it must not have been possible."""
        kind, number = move
        self._switch(None if kind in ENVIRONMENT else self.processes[number])
        if kind in ENVIRONMENT:
            ENVIRONMENT[kind](self, number)
            return
        process = self.processes[number]
        self.crashes -= kind != "go"
        self.steps_in_flight += self.in_flight is not None
        process.go(kind)
        if process.over:
            self._ended(process)
        if process.over or process.asleep:
            self.running = None

    @property
    def settled(self) -> bool:
        """Say whether nothing is under way that takes seconds only, whoever sleeps for longer."""
        dropping = any(each.over for each in self.registered.values())
        return not self.in_flight and (self.setup.long_busy or not dropping)

    def _switch(self, process: Process | None) -> None:
        if self.running is not None and process is not self.running and self.switches:
            self.switches -= 1
        self.running = process

    def told(self, move: Move) -> str:
        """Say in words what a move is going to do."""
        kind, number = move
        if kind in ENVIRONMENT:
            return f"{kind} {number or ''}".strip()
        process = self.processes[number]
        how = "" if kind == "go" else f" [{kind}]"
        return f"run {process.run.number} {process.role}: {process.at}{how}"

    # What happens without being asked for

    def _land(self, _: int) -> None:
        assert self.in_flight is not None
        landing = self.in_flight[1]
        self.in_flight, self.steps_in_flight = None, 0
        with suppress(GpuCiError):  # there is nobody to hear that it was refused
            landing()

    def _arrive(self, _: int) -> None:
        resumed = self.box.phase is Phase.RESUMING
        self._turn(Phase.RUNNING if resumed else Phase.PAUSED)

    def _online(self, _: int) -> None:
        self.registered[self.box.boot].online = True
        self.changes += 1

    def _assign(self, number: int) -> None:
        run = self.runs[number]
        runner = self._runner_for(run)
        assert runner is not None
        if self.box.job:
            self.wrong = f"run {number} gets a job while that of run {self.box.job} runs on it"
        if (runner.run, runner.role) != (number, "start"):
            self.wrong = f"the job of run {number} runs on a runner that its start did not register"
        runner.busy, run.job, self.box.job = True, "in_progress", number
        self.changes += 1

    def _finish(self, number: int) -> None:
        self.box.job, self.runs[number].job = 0, "completed"
        for runner in self.registered.values():
            runner.over = runner.over or runner.busy
        self.changes += 1
        self._stop(self.runs[number])

    def _drop(self, number: int) -> None:
        del self.registered[number]
        self.changes += 1

    def _again(self, number: int) -> None:
        run = self.runs[number]
        run.again, run.status, run.attempt = False, "in_progress", run.attempt + 1
        self.changes += 1
        self._stop(run)

    def _stop(self, run: WorkflowRun) -> None:
        run.stops.append("")
        self._begin(run, "stop", stop)

    def _begin(self, run: WorkflowRun, role: str, story: Callable[[Process], str]) -> None:
        self.processes.append(Process(self, run, role, story))

    def _ended(self, process: Process) -> None:
        self.changes += 1
        run = process.run
        if process.role == "start":
            run.started = process.over
            if process.over == "well":
                run.job = "queued"
            else:
                self._stop(run)
            return
        run.stops[-1], run.status = process.over, "completed"
        run.again = process.over != "well" and len(run.stops) < MOST_STOPS

    def end(self) -> None:
        """End every process that is still there, so that nothing of it runs later."""
        for process in self.processes:
            process.end()
        self.processes.clear()

    # What is true

    def key(self) -> tuple[Any, ...]:
        """Return all that the future depends on; what a process knew is forgotten with it."""
        box = self.box
        return (
            (box.phase, box.boot, box.job, box.ours, self.crashes),
            (self.in_flight and self.in_flight[0], self.steps_in_flight),
            tuple((r.id, r.online, r.busy, r.over) for r in self.registered.values()),
            tuple(run.key() for run in self.runs.values()),
            tuple(process.over or process.key() for process in self.processes),
            self.switches is not None and (self.switches, self._running_number()),
        )

    def _running_number(self) -> int:
        return self.processes.index(self.running) if self.running else -1

    def left_over(self) -> str:
        """Say what is not as it must be when nothing moves any more."""
        for run in self.runs.values():
            if run.started == "well" and run.job != "completed":
                return f"the job of run {run.number} is {run.job} for ever"
            if run.stops[-1] != "well":
                return f"no stop of run {run.number} succeeds: {', '.join(run.stops)}"
        left = "".join(f"a registration of run {r.run} is left" for r in self.registered.values())
        return self._machine_left() or left

    def _machine_left(self) -> str:
        setup, phase = self.setup, self.box.phase
        if not setup.by_hand and phase is not Phase.PAUSED:
            return f"the machine is left {phase.value}"
        as_found = setup.by_hand and setup.way_in and setup.handle and not setup.crashes
        if as_found and phase is not Phase.RUNNING:
            return f"the machine that a person started is left {phase.value}"
        return ""


ENVIRONMENT: Final[dict[str, Callable[[World, int], None]]] = {
    "land": World._land,
    "arrive": World._arrive,
    "online": World._online,
    "assign": World._assign,
    "finish": World._finish,
    "drop": World._drop,
    "again": World._again,
}


def _ways_to_fail(process: Process) -> Iterator[str]:
    """Yield how the step that a process waits for can go wrong."""
    yield "kill"
    cancellable = process.role == "start" and not process.cancelled
    if cancellable:
        yield "cancel"
    if process.asleep and process.world.settled:
        yield "overslept"
    if not process.asleep and process.at != "exit":
        yield "unread" if process.at.startswith(("read run ", "read jobs")) else "failed"
    if process.writes:
        yield "lost"
        if cancellable:
            yield "cancel after"
    if process.at in {"register", "resume"}:
        yield "late"
