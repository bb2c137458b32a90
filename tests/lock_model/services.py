"""GitHub and the machine of the model world, as one process may ask for them: a call is a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from tests.fakes import tags
from tests.lock_model.state import NAME, Phase

from gpu_ci.boot.script import Place
from gpu_ci.errors import Absent, CloudError
from gpu_ci.github.client import GitHub, Job, Run, Runner
from gpu_ci.model.machine import Machine, State
from gpu_ci.providers.about import About
from gpu_ci.runtime.clock import Deadline, every

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lock_model.process import Process

    from gpu_ci.model.tags import Tags
    from gpu_ci.providers import Order

STATES: Final = {
    Phase.PAUSED: State.PAUSED,
    Phase.RUNNING: State.RUNNING,
    Phase.RESUMING: State.PENDING,
    Phase.PAUSING: State.PENDING,
}


class ModelGitHub(GitHub):
    """The registrations, runs and jobs of the world, as one process may ask for them."""

    def __init__(self, process: Process) -> None:  # no line: what is not modelled here must fail
        self.process, self.world = process, process.world

    def until(self, deadline: Deadline) -> None:
        """No call waits."""

    def hurry(self, deadline: Deadline) -> None:
        self.process.hurried = True

    def register(self, name: str, labels: Sequence[str], group_id: int = 1) -> tuple[Runner, str]:
        runner = self.process.ask(
            "register", lambda: self.world.register(self.process, labels), writes=True
        )
        return runner, "a-jit-config"

    def runner(self, runner_id: int) -> Runner:
        return self.process.ask(f"read runner {runner_id}", lambda: self._runner(runner_id))

    def _runner(self, runner_id: int) -> Runner:
        if runner_id not in self.world.registered:
            raise Absent(f"Runner {runner_id} is not there.")
        return self.world.registered[runner_id].runner()

    def runner_named(self, name: str) -> Runner | None:
        return self.process.ask("read holder", self._holder)

    def _holder(self) -> Runner | None:
        return next((each.runner() for each in self.world.registered.values()), None)

    def delete(self, runner_id: int) -> bool:
        return self.process.ask(
            f"delete runner {runner_id}", lambda: self.world.delete(runner_id), writes=True
        )

    def run(self, run_id: str) -> Run:
        return self.process.ask(f"read run {run_id}", lambda: self._read_run(int(run_id)))

    def _read_run(self, number: int) -> Run:
        run = self.world.runs[number]
        return Run(id=number, attempt=run.attempt, status=run.status, conclusion="")

    def jobs(self, run_id: str) -> list[Job]:
        return self.process.ask(f"read jobs {run_id}", self.world.runs[int(run_id)].jobs)


class ModelKeeper:
    """The machine of the world, as one process may use it: what a start or a stop asks a `Keeper`."""

    about: ClassVar[About] = About(name="model", title="Model", ends_itself=False, keeps=True)
    name: ClassVar[str] = about.name

    def __init__(self, process: Process) -> None:
        self.process, self.world = process, process.world
        self.default_machines: Sequence[str] = ()
        self.default_regions: Sequence[str] = ()

    def split_region(self, text: str) -> tuple[str, str]:
        return text, ""

    def place(self, name: str) -> Place:
        return Place(root="/opt/gpu-ci")

    def boot_log(self, machine: Machine) -> str:
        return ""

    def hurry(self) -> None:
        self.process.hurried = True

    def kept(self, name: str) -> tuple[Machine, State] | None:
        state = self.process.ask("look", lambda: STATES[self.world.box.phase])
        return a_machine(self.world.box.resumes, tags(NAME)), state

    def state(self, machine: Machine) -> State:
        return self.process.ask("look", lambda: STATES[self.world.box.phase])

    def resume(self, machine: Machine, order: Order) -> Machine:
        return self.process.ask("resume", lambda: self.world.resume(order), writes=True)

    def adopt(self, machine: Machine, order: Order) -> Machine | None:
        if not self.world.setup.way_in:
            return None
        return self.process.ask("adopt", lambda: self.world.adopt(order), writes=True)

    def pause(self, machine: Machine) -> None:
        """Ask until it is paused: more often than any provider does, which is the worst."""
        for _ in every(1.0, Deadline.after(600.0, self.process)):
            phase = self.process.ask("pause", self.world.pause, writes=True)
            accepted = phase is Phase.PAUSING and self.process.hurried
            if phase is Phase.PAUSED or accepted:
                return
        raise CloudError("It is not paused in time.")


def a_machine(resumes: int, tags: Tags, *, started: bool = True) -> Machine:
    """Return the handle of the machine, whose id is another after each resume."""
    number = f"m-{resumes}"
    return Machine(provider="model", id=number, tags=tags, kept=True, started=started)
