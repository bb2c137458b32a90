"""The order of events of a watchdog."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import EnvironmentBroken, Forbidden, GitHubError, JobFailed, StillThere
from gpu_ci.github.client import GitHub, Run
from gpu_ci.inputs.reader import CARRY_SECRETS
from gpu_ci.inputs.watchdog_inputs import WatchdogInputs
from gpu_ci.model.identity import Identity
from gpu_ci.model.tags import our_label, run_prefix
from gpu_ci.providers import keeper, provider_class
from gpu_ci.release.still_needed import Asker
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline
from gpu_ci.runtime.signals import Cancellation
from gpu_ci.watchdog.cache import Cache
from gpu_ci.watchdog.cancel_own_run import OwnRun
from gpu_ci.watchdog.dead_registrations import Registrations
from gpu_ci.watchdog.idle_kept_machines import KeptMachines
from gpu_ci.watchdog.in_run import Watch
from gpu_ci.watchdog.leftovers import sweep
from gpu_ci.watchdog.orphan_machines import Machines
from gpu_ci.watchdog.owners import Sight
from gpu_ci.watchdog.report import Report
from gpu_ci.watchdog.stuck_runs import RunSweep
from gpu_ci.watchdog.waits import OURS, Rule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci.github.client import Job, Runner
    from gpu_ci.providers import Provider
    from gpu_ci.runtime.clock import Clock
    from gpu_ci.watchdog.leftovers import Source

# A pass ends after so many seconds, whatever GitHub and the clouds do; the next one goes on.
PASS_SECONDS: Final = 480.0
# What reading leaves of a token's hourly limit. All workflows of the repository share that of the
# job's own token: a watchdog that used it up would fail them all.
SPARED: Final = 0.2
WELL: Final = {"success", "skipped", "neutral"}
UNSEEN: Final = (
    "Machines and registrations were not looked at: runners could not be seen, and without that "
    "nobody knows which are busy."
)
UNSEEN_CURE: Final = (
    "Set `github-token` to a token that may administer runners; GITHUB_TOKEN never may."
)


def watchdog(env: Mapping[str, str], clock: Clock = SYSTEM_CLOCK) -> None:
    """End what nothing else ends. In one run, that is the wait for a runner that does not come; in a
    repository, all such waits and the machines and registrations that are left over.

    Raises NeverPickedUp when it has ended its own run, StillThere when something could not be ended,
    and other errors when a part of the work could not be done at all.
    """
    workflow_commands.mask_secrets(env, CARRY_SECRETS)
    inputs = WatchdogInputs.read(env)
    with Cancellation() as cancellation:
        dog = Watchdog.connect(inputs, env, clock, cancellation)
        try:
            dog.watch_run() if inputs.scope == "run" else dog.sweep_repository()
        finally:
            dog.publish()
        dog.judge()


@dataclass(kw_only=True)
class Watchdog:
    """One watchdog: its inputs, the worlds that it looks at, and what it has found."""

    inputs: WatchdogInputs
    identity: Identity
    asker: Asker
    github: GitHub
    providers: Mapping[str, Provider]
    clock: Clock
    cancellation: Cancellation
    report: Report
    blind: bool = False
    published: str = ""

    @classmethod
    def connect(
        cls,
        inputs: WatchdogInputs,
        env: Mapping[str, str],
        clock: Clock,
        cancellation: Cancellation,
    ) -> Watchdog:
        identity = Identity.from_environment(env, organization=inputs.github.organization)
        github = GitHub.connect(
            inputs.github,
            scope=identity.scope,
            repository=identity.repository,
            deadline=Deadline.after(PASS_SECONDS, clock),
            say=workflow_commands.say,
            mask=workflow_commands.mask,
            lasting=inputs.scope == "repository",
        )
        return cls(
            inputs=inputs,
            identity=identity,
            asker=Asker(check_run_id=identity.starter, runner_name=env.get("RUNNER_NAME", "")),
            github=github,
            providers={
                name: provider_class(name)(options, env, clock)
                for name, options in inputs.provider_options.items()
            },
            clock=clock,
            cancellation=cancellation,
            report=Report(
                scope=inputs.scope, dry_run=inputs.dry_run, actions_left=inputs.max_actions
            ),
            # The job's own token can never see runners, so it is not tried.
            blind=bool(inputs.github.token) and inputs.github.token == inputs.github.run_token,
        )

    # One run

    def watch_run(self) -> None:
        """Watch this run's attempt until each watched job has a runner, or is over.

        Raises NeverPickedUp after it has cancelled the run for a job that waited too long, and
        JobFailed if it was to stay for a job and that job failed.
        """
        watch = self._watch()
        if self.inputs.until == "once":
            workflow_commands.output("queued", str(watch.waiting()))
        elif late := watch.until_picked_up():
            self.cancellation.finish()
            OwnRun(
                run_id=self.identity.run_id,
                github=self.github,
                clock=self.clock,
                report=self.report,
                watch=watch,
                publish=self.publish,
            ).end(late)
        elif self.inputs.until == "done":
            jobs = watch.until_over()
            workflow_commands.output("over", "true")
            fail_with(jobs)

    def _watch(self) -> Watch:
        """Return the watch over this run's attempt, by the user's labels or by ours."""
        run_id, attempt = self.identity.run_id, int(self.identity.attempt)
        run = Run(id=int(run_id), attempt=attempt, status="in_progress", conclusion="")
        with suppress(GitHubError):  # the watch goes on asking, and reports what it meets
            found = self.github.run(run_id)
            run = found if found.attempt == attempt else run
        labels = self.inputs.labels
        if not labels:
            prefix = run_prefix(run_id)
            ours = [r for r in self.runners() or () if our_label(r.labels).startswith(prefix)]
            labels = (*OURS, *sorted({label for runner in ours for label in runner.labels}))
        # A watch that stays to the end is in the job that brings the machine of a re-run.
        brought = self.clock.now() if self.inputs.until == "done" else 0.0
        return Watch(
            github=self.github,
            run=run,
            rule=Rule(labels=labels, limit=self.inputs.queue, brought=brought),
            asker=self.asker,
            clock=self.clock,
            runners=self.runners,
        )

    def runners(self) -> Sequence[Runner] | None:
        """Return all runners, None where they cannot be seen; the reason is noted once."""
        if self.blind:
            return None
        try:
            return self.github.runners()
        except GitHubError as error:
            self.blind = isinstance(error, Forbidden)
            self.report.note_unseen(f"Runners: {error}")
            return None

    # A repository

    def sweep_repository(self) -> None:
        """Make one pass: runs first, then machines, then registrations."""
        cache = Cache.load(self.inputs.cache_dir, self.identity.repository)
        self.github.share(cache.answers)
        deadline = Deadline.after(PASS_SECONDS, self.clock)
        labels = self.inputs.labels or OURS
        try:
            self.github.spare(SPARED)
            RunSweep(
                github=self.github,
                rule=Rule(labels=labels, limit=self.inputs.queue, patient=True),
                report=self.report,
                cache=cache,
                deadline=deadline,
                runners=self.runners,
            ).sweep()
            self.github.spare(SPARED)
            self._sweep_leftovers(deadline)
            self.report.whole = True
        finally:
            try:
                cache.save()
            except EnvironmentBroken as error:
                self.report.failures.append(error)

    def _sweep_leftovers(self, deadline: Deadline) -> None:
        """Sweep machines and registrations if runners can be seen: nothing else says who is busy.

        A workflow that names providers relies on this, so there it is an error, elsewhere a notice.
        """
        if self.blind and self.providers:
            self.report.failures.append(Forbidden(UNSEEN, UNSEEN_CURE))
        elif not self.providers and self.runners() is None:
            self.report.note_unseen(f"{UNSEEN} {UNSEEN_CURE}")
        else:
            try:
                sweep(self._sources(deadline), self.report, deadline)
            except GitHubError as error:
                self.report.failures.append(error)

    def _sources(self, deadline: Deadline) -> list[Source]:
        """Return the sources of leftovers, in the order in which those are ended."""

        def sight() -> Sight:
            runners = self.github.runners()
            return Sight(github=self.github, identity=self.identity, runners=runners)

        machines = Machines(
            github=self.github,
            identity=self.identity,
            providers=self.providers,
            regions=self.inputs.region,
            sight=sight,
            clock=self.clock,
            report=self.report,
        )
        kept = [
            KeptMachines(
                github=self.github,
                identity=self.identity,
                keeper=keeper(provider),
                names=self.inputs.machine_name,
                asker=self.asker,
                deadline=deadline,
                report=self.report,
            )
            for provider in self.providers.values()
            if provider.about.keeps
        ]
        registrations = Registrations(
            github=self.github,
            identity=self.identity,
            sight=sight,
            machines=lambda: machines.named,
            resting=lambda: {name for each in kept for name in each.resting},
            report=self.report,
        )
        return [machines, *kept, registrations]

    # What came of it

    def publish(self) -> None:
        """Say what was found and done, to people and to programs; again only if there is news."""
        report = self.report
        news = workflow_commands.as_json(report.as_json())
        if news == self.published:
            return
        self.published = news
        for line in report.lines() if report.scope == "repository" else ():
            workflow_commands.say(line)
        for text in report.unseen:
            workflow_commands.notice(text)
        if report.findings or report.scope == "repository":
            workflow_commands.summary(report.summary())
        workflow_commands.output("cancelled", str(report.ended("run")))
        workflow_commands.output("released", str(report.ended("machine")))
        workflow_commands.output("removed", str(report.ended("registration")))
        workflow_commands.output("report", news)

    def judge(self) -> None:
        """Raise an error if something could not be ended, or could not be looked at."""
        if self.report.troubles:
            told = [*self.report.troubles, *map(str, self.report.failures)]
            raise StillThere("\n\n".join(told))
        if self.report.failures:
            first, *more = self.report.failures
            for other in more:
                first.add_note(str(other))
            raise first


def fail_with(jobs: Sequence[Job]) -> None:
    """Raise JobFailed if one of these jobs has not ended well.

    GitHub's "Re-run failed jobs" runs failed jobs and those that need them, never the jobs that they
    need. So the job that can bring the machine again has to fail along with the job that wants it.
    """
    failed = [f"{job.name} ended as {job.conclusion}" for job in jobs if job.conclusion not in WELL]
    if failed:
        raise JobFailed(
            f"{'; '.join(failed)}.",
            "This watch fails with it, so that 'Re-run failed jobs' runs both and brings a machine again.",
        )
