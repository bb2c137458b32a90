"""Waits until every runner of a rental is online, and replaces a machine that will not come up.

If a job already waits for a runner, the runner takes it at once, and GitHub forgets the runner after
that job. So a runner that has had its job was online, even if nobody saw it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gpu_ci.boot.boot_log import read_log
from gpu_ci.errors import (
    Absent,
    BootFailed,
    CloudError,
    GitHubError,
    GpuUnusable,
    MachineEnded,
    NeverOnline,
    RegistrationLost,
    StartFailed,
    Unreachable,
)
from gpu_ci.model.machine import State
from gpu_ci.runtime.clock import every

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.boot.boot_log import BootReport
    from gpu_ci.runtime.clock import Deadline
    from gpu_ci.start.rental import Lease, Rental

# A look costs no rate limit while nothing changes (a 304); "online" is seen half of it late.
LOOK_SECONDS: Final = 0.8
# With several machines each is looked at less often: GitHub grants 900 requests a minute, of any
# kind, to all users of the token (rate limits for the REST API, secondary limits).
MOST_AT_ONCE: Final = 4
# The cloud is asked less often about the machine's state and its boot log.
MACHINE_LOOKS: Final = 6
GONE_SECONDS: Final = 5.0
REPLACEMENTS: Final = 2
# A boot script reports every 20 seconds; one that falls silent for this long is stuck.
SILENCE: Final = 300.0
# A runner whose job is over looks like this, and so does one that never came.
OVER: Final = (MachineEnded, RegistrationLost)
ENDS: Final = {State.FAILED: "failed", State.PAUSED: "was paused"}


@dataclass
class Watch:
    """What is known about one lease's boot."""

    phase: str = ""
    heard: int = 0  # by the machine's clock
    news: int = 0
    news_at: float = 0.0  # by ours
    tail: list[str] = field(default_factory=list)
    trouble: str = ""
    absent_at: float = 0.0

    def last_phase(self) -> str:
        return f"Its last phase was {self.phase}." if self.phase else "It reported no phase."

    def describe(self) -> str:
        return self.last_phase() + (f" Last trouble: {self.trouble}" if self.trouble else "")


def wait_online(rental: Rental, deadline: Deadline, launched: Callable[[], None]) -> None:
    """Return when every runner is online.

    Calls `launched` after replacing a machine, so that the outputs name the new one. Raises
    NeverOnline at the deadline, or what made the last replacement fail; GitHub's own errors if
    waiting cannot help.
    """
    watches = {lease.index: Watch() for lease in rental.leases}
    pace = LOOK_SECONDS * min(len(rental.leases), MOST_AT_ONCE)
    for turn in every(pace, deadline):
        for lease in rental.leases:
            if lease.online_at:
                continue
            try:
                _look(rental, lease, watches[lease.index], turn)
            except StartFailed as failure:
                if isinstance(failure, OVER) and _had_its_job(rental, lease):
                    lease.online_at = rental.clock.now()
                    continue
                _replace_or_raise(rental, lease, failure, deadline)
                watches[lease.index] = Watch()
                launched()
        if all(lease.online_at for lease in rental.leases):
            return
    raise _never_online(rental, watches)


def _look(rental: Rental, lease: Lease, watch: Watch, turn: int) -> None:
    if _is_online(rental, lease, watch):
        lease.online_at = rental.clock.now()
    elif turn % MACHINE_LOOKS == MACHINE_LOOKS - 1:
        _look_at_machine(rental, lease, watch)


def _is_online(rental: Rental, lease: Lease, watch: Watch) -> bool:
    try:
        return _ask(rental, lease, watch)
    except Absent:
        # Right after registering, GitHub may not know the runner everywhere yet.
        watch.absent_at = watch.absent_at or rental.clock.now()
        if rental.clock.now() - watch.absent_at < GONE_SECONDS:
            return False
        raise RegistrationLost(
            f"GitHub dropped the registration of {lease.name} before its runner was online.",
            "GitHub keeps an idle just-in-time runner only for minutes: set registration to token "
            "for machines that take longer to boot.",
        ) from None
    except Unreachable as error:
        watch.trouble = str(error)
        return False


def _had_its_job(rental: Rental, lease: Lease) -> bool:
    """Say whether a job of this run has used the runner; False if that cannot be read."""
    ours = {lease.label, *rental.inputs.labels}
    try:
        jobs = rental.github.jobs(rental.plan.identity.run_id)
    except GitHubError:
        return False
    return any(job.runner_name == lease.name and job.labels & ours for job in jobs)


def _ask(rental: Rental, lease: Lease, watch: Watch) -> bool:
    if not lease.runner_id:  # registered by token: GitHub knows it once config.sh has run
        found = rental.github.runner_named(lease.name)
        lease.runner_id = found.id if found else 0
        return bool(found and found.online)
    online = rental.github.runner(lease.runner_id).online
    watch.absent_at = 0.0
    return online


def _look_at_machine(rental: Rental, lease: Lease, watch: Watch) -> None:
    if lease.machine is None:
        return
    try:
        log = rental.provider.boot_log(lease.machine)
        state = rental.provider.state(lease.machine)
    except CloudError as error:
        watch.trouble = str(error)
        return
    report = read_log(log)
    _note_progress(rental, lease, watch, report)
    if report.failed:
        failed = GpuUnusable if report.phase == "gpu" else BootFailed
        raise failed(f"{lease.name}: {report.phase} failed: {report.failed}.", tail=watch.tail)
    if state not in {State.PENDING, State.RUNNING}:
        why = f" ({report.ended})" if report.ended else ""
        end = ENDS.get(state, "ended")
        what = f"{lease.name}: the machine {end}{why} before its runner was online. {watch.last_phase()}"
        raise MachineEnded(what, tail=watch.tail)
    # Some clouds show the log only now and then: silence counts only once it was seen live.
    if watch.news > MACHINE_LOOKS and rental.clock.now() - watch.news_at > SILENCE:
        what = f"{lease.name}: nothing heard for {SILENCE / 60:.0f} minutes. {watch.last_phase()}"
        raise BootFailed(what, tail=watch.tail)


def _note_progress(rental: Rental, lease: Lease, watch: Watch, report: BootReport) -> None:
    # A console can come back empty, and a machine's clock can be set back while it boots.
    watch.tail = report.tail.splitlines() or watch.tail
    if report.heard not in {0, watch.heard}:
        watch.heard, watch.news, watch.news_at = report.heard, watch.news + 1, rental.clock.now()
    if report.phase not in {"", watch.phase}:
        watch.phase = report.phase
        rental.say(f"{lease.name}: {report.phase}")


def _replace_or_raise(
    rental: Rental, lease: Lease, failure: StartFailed, deadline: Deadline
) -> None:
    """Launch another machine for this lease, or raise the failure after enough tries."""
    if not failure.another or lease.given_up >= REPLACEMENTS or deadline.passed():
        raise failure
    lease.given_up += 1
    rental.say(f"{failure} Trying another machine.")
    rental.replace(lease)


def _never_online(rental: Rental, watches: dict[int, Watch]) -> NeverOnline:
    late = [lease for lease in rental.leases if not lease.online_at]
    minutes = rental.inputs.online_timeout / 60
    stories = [
        f"{lease.name}: not online after {minutes:g} minutes. {watches[lease.index].describe()}"
        for lease in late
    ]
    return NeverOnline(
        " ".join(stories),
        "If the phases advance slowly, raise online-timeout-minutes or use an image with the "
        "drivers in it; if none was reported, check the machine's access to the internet.",
        tail=watches[late[0].index].tail,
    )
