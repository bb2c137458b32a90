"""What a start and a stop do, on the model world: the library's own code but for what only prints."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Final, cast

from tests.fakes import REPOSITORY, start_env
from tests.lock_model.services import ModelGitHub, ModelKeeper
from tests.lock_model.state import NAME

from gpu_ci.boot.script import RunnerBuild
from gpu_ci.errors import GpuCiError
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.model.identity import Identity
from gpu_ci.providers import Candidate, Keeper
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime.clock import Deadline
from gpu_ci.runtime.signals import Cancellation, Cancelled
from gpu_ci.start.plan import StartPlan
from gpu_ci.start.rental import Lease, Rental
from gpu_ci.start.until_online import wait_online
from gpu_ci.stop import PAUSE_PATIENCE, give_back
from gpu_ci.stop.find_holdings import Search

if TYPE_CHECKING:
    from tests.lock_model.process import Process

BUILDS: Final = (RunnerBuild(architecture="x64", url="http://127.0.0.1:9/r", sha256="0"),)


def start(process: Process) -> str:
    """Do what a start does (`gpu_ci.start`) but for what only prints; return how it ended."""
    rental = _rental(process)
    try:
        with rental:
            _rent(process, rental)
    except Cancelled as cancelled:
        rental.settle(cancelled)
        return "cancelled"
    except GpuCiError:
        return "failed"
    return "well"


def _rental(process: Process) -> Rental:
    return Rental(
        inputs=_start_inputs(),
        plan=_plan(process.run.number),
        provider=cast("Keeper", ModelKeeper(process)),
        github=ModelGitHub(process),
        builds=BUILDS,
        cancellation=Cancellation(),
        deadline=Deadline.after(_start_inputs().online_timeout, process),
        say=_unheard,
    )


def _rent(process: Process, rental: Rental) -> None:
    def put_out() -> None:
        process.run.handle = rental.machines[0]
        process.run.label = rental.machines[0].tags.label

    rental.launch(Lease(index=0))
    put_out()
    wait_online(rental, rental.deadline, put_out)
    process.pass_by("exit")


def stop(process: Process) -> str:
    """Do what a stop does (`gpu_ci.stop`) but for what only prints; return how it ended."""
    run, given = process.run, _stop_inputs()
    if process.world.setup.handle and run.handle:
        given = replace(given, handle=(run.handle,))
    identity = _identity(run.number, run.attempt, "stop", 1 + len(run.stops))
    search = Search(
        inputs=given,
        identity=identity,
        provider=cast("Keeper", ModelKeeper(process)),
        github=ModelGitHub(process),
        deadline=Deadline.after(PAUSE_PATIENCE, process),
        asker=Asker(check_run_id=identity.starter),
    )
    give_back(search, search.holdings())
    process.pass_by("exit")
    return "troubled" if search.troubles else "well"


@cache
def _start_inputs() -> StartInputs:
    # No provider that keeps machines can be named without its SDK; the model brings its own.
    return replace(StartInputs.read(start_env()), machine_name=NAME)


@cache
def _stop_inputs() -> StopInputs:
    return replace(StopInputs.read(start_env()), machine_name=NAME)


@cache
def _plan(number: int) -> StartPlan:
    identity = _identity(number, 1, "start", 0)
    return StartPlan(identity=identity, count=1, nonce="deadbeef", candidates=(Candidate(type=""),))


@cache
def _identity(number: int, attempt: int, job: str, place: int) -> Identity:
    return Identity.from_environment(
        {
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": str(number),
            "GITHUB_RUN_ATTEMPT": str(attempt),
            "GITHUB_JOB": job,
            "GPU_CI_CHECK_RUN_ID": str(number * 10 + place),
        }
    )


def _unheard(_: str) -> None:
    """Nobody reads along."""
