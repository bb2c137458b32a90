"""The story of a stop: of a kept machine, and of machines that tell no more than their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.fakes import (
    REPOSITORY,
    FakeClock,
    FakeGitHub,
    FakeKeeper,
    FakeOptions,
    FakeProvider,
    fakes_known,
    kept_env,
    nobodys,
    start_env,
)

from gpu_ci.errors import CloudUnreachable, StillThere, Unreachable
from gpu_ci.github.client import BUSY_PATIENCE, GitHub, Job
from gpu_ci.kept.put_away import LANDING_SECONDS
from gpu_ci.ledger.entry import Entry
from gpu_ci.ledger.split import Split
from gpu_ci.model.identity import Identity
from gpu_ci.model.machine import Machine, Price, State, to_handle
from gpu_ci.model.tags import read_name
from gpu_ci.providers import Candidate, Order
from gpu_ci.runtime.clock import Deadline
from gpu_ci.stop import PATIENCE, PAUSE_PATIENCE, stop
from gpu_ci.stop.run_times import Times
from gpu_ci_sandbox.action_step import read_commands

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gpu_ci.github.client import Runner

STARTER = Identity(
    repository=REPOSITORY,
    run_id="7",
    attempt="1",
    key="start.11",
    scope=f"repos/{REPOSITORY}",
    starter="11",
)
ANOTHER_RUN = replace(STARTER, run_id="8", starter="21")
NAME = STARTER.name(0)
LABEL = STARTER.label(NAME, "deadbeef")
AGE = 1000.0
# The outputs of a stop that knows nothing of times and costs.
UNSPLIT = dict.fromkeys(
    (
        "stopped", "billed-seconds", "boot-seconds", "work-seconds", "idle-seconds",
        "hosted-minutes", "cost",
    ),
    "",
)  # fmt: skip


class Untagged(FakeProvider):
    """A cloud without tags: its machines tell what their names do."""

    def find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:
        found = []
        for machine in self.machines.values():
            mark = read_name(machine.name)
            if mark and mark.fits(wanted):
                tags = replace(nobodys(machine.name), run_id=mark.run_id, attempt=mark.attempt)
                found.append(replace(machine, tags=tags))
        return found


class Scene:
    """A stop in the run's job 99, with its cloud and its GitHub, who share one journal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.clock = FakeClock()
        self.provider: FakeProvider = Untagged(FakeOptions(), {}, self.clock)
        self.github = FakeGitHub(Deadline.after(0, self.clock), self.provider.journal)
        self.github.run_jobs = [job(11, "completed"), job(99, "in_progress")]
        self.outputs, self.page = folder / "outputs", folder / "page"
        self.outputs.touch()
        monkeypatch.setenv("GITHUB_OUTPUT", str(self.outputs))
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(self.page))
        monkeypatch.setattr(GitHub, "connect", lambda *_args, **_named: self.github)
        self.run_times: tuple[Job, ...] | None = None
        monkeypatch.setattr("gpu_ci.stop.read_times", self.times)
        monkeypatch.setattr(
            "gpu_ci.stop.provider_class", lambda _name: lambda *_args: self.provider
        )

    def times(self, _github: GitHub, identity: Identity, clock: FakeClock) -> Times:
        """Return when the run's jobs ran, as GitHub would tell it; asked once, at the end."""
        self.github.journal.append("look at times")
        why = "" if self.run_times is not None else "GitHub does not tell."
        return Times(identity=identity, now=clock.now(), jobs=self.run_times, why=why)

    def keeper(self, state: State | None) -> FakeKeeper:
        """Let the cloud be one that keeps the machine `box`, in this state, or has none."""
        keeper = FakeKeeper(FakeOptions(), {}, self.clock)
        keeper.journal = self.github.journal
        if state:
            keeper.add("box", state)
        self.provider = keeper
        return keeper

    def machine(self, identity: Identity = STARTER) -> Machine:
        """Let a start's machine of a cloud without tags exist."""
        candidate = Candidate(type="small")
        tags = nobodys(identity.name(0))
        return self.provider.land(Order(candidate=candidate, tags=tags, token="", boot_script=""))

    def registration(
        self, name: str, identity: Identity = STARTER, *, busy: bool = False
    ) -> Runner:
        label = identity.label(identity.name(0), "deadbeef")
        runner = self.github.add(name, ["self-hosted", label])
        self.github.set(runner.id, busy=busy)
        return runner

    def handle(self, machine: Machine, runner_id: int, *, started: bool = True) -> str:
        """Return what start gave out when it had the machine up."""
        tags = replace(
            nobodys("box"),
            label=LABEL,
            scope=STARTER.scope,
            run_id=STARTER.run_id,
            attempt=STARTER.attempt,
            key=STARTER.key,
            runner_id=runner_id,
            starter="11",
        )
        began = self.clock.now() - AGE
        known = replace(machine, tags=tags, started=started, price=Price(per_hour=3.6))
        return to_handle([replace(known, launched_at=began if started else 0.0)])

    def stop(self, env: Mapping[str, str]) -> dict[str, str]:
        """Tell the story; return the step's outputs, also after a failure."""
        stop({**env, "GITHUB_JOB": "stop", "GPU_CI_CHECK_RUN_ID": "99"}, self.clock)
        return self.told()

    def told(self) -> dict[str, str]:
        return read_commands(self.outputs.read_text())

    def asked(self) -> list[str]:
        """Return what was asked, without the looks."""
        return [each for each in self.github.journal if not each.startswith(("look", "list"))]

    def state(self) -> State:
        assert isinstance(self.provider, FakeKeeper)
        found = self.provider.kept("box")
        return found[1] if found else State.GONE


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Scene]:
    with fakes_known():
        yield Scene(monkeypatch, tmp_path)


def job(number: int, status: str, *labels: str) -> Job:
    return Job(
        id=number,
        name=f"job {number}",
        status=status,
        conclusion="",
        labels=frozenset(labels),
        runner_name="",
    )


def test_a_machine_that_the_cloud_took_back_is_named(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stop succeeds, and says that the job did not fail by itself (pain 12)."""
    machine = scene.machine()
    scene.provider.states[machine.id] = State.GONE
    scene.provider.taken[machine.id] = "no Spot capacity"
    handle = to_handle([machine])
    assert scene.stop(start_env(provider="fake", handle=handle))["stopped"] == "1"
    told = capsys.readouterr().out
    assert f"Warning: {machine.describe()} was taken back by the cloud: no Spot capacity." in told


@pytest.mark.parametrize("state", [State.GONE, State.ENDING, State.PAUSED])
def test_a_machine_of_an_earlier_attempt_is_not_billed_again(
    scene: Scene, capsys: pytest.CaptureFixture[str], state: State
) -> None:
    """After "Re-run failed jobs" stop has the first attempt's handle still: what that cost was told
    then, and the hours since are nobody's."""
    machine = of_attempt_1(scene.machine())
    scene.provider.states[machine.id] = state
    told = scene.stop({**start_env(provider="fake", handle=to_handle([machine])), **SECOND})
    assert (told["stopped"], told["billed-seconds"]) == ("0", "0")
    assert "ended with attempt 1, whose stop reported what it cost" in capsys.readouterr().out


@pytest.mark.parametrize("known", [True, False])
def test_a_machine_of_an_earlier_attempt_that_lives_is_given_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """A stop that had failed is run again alone; nor is one left of which nothing can be known."""
    machine = of_attempt_1(scene.machine())
    if not known:
        monkeypatch.setattr(scene.provider, "state", no_answer)
    told = scene.stop({**start_env(provider="fake", handle=to_handle([machine])), **SECOND})
    assert told["stopped"] == "1"
    assert scene.provider.machines == {}


SECOND = {"GITHUB_RUN_ATTEMPT": "2"}


def of_attempt_1(machine: Machine) -> Machine:
    return replace(machine, tags=replace(machine.tags, attempt="1"))


def no_answer(_machine: Machine) -> State:
    raise CloudUnreachable("No answer.")


def of_handle(scene: Scene, *, started: bool = True, **inputs: str) -> dict[str, str]:
    """Return the environment of a stop that has the handle of the running machine `box`."""
    machine, _ = found(scene.keeper(State.RUNNING))
    handle = scene.handle(machine, scene.registration("box").id, started=started)
    return kept_env(machine_name="", handle=handle, **inputs)


def found(keeper: FakeKeeper) -> tuple[Machine, State]:
    known = keeper.kept("box")
    assert known is not None
    return known


def test_a_kept_machine_is_paused_and_its_bill_is_told(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the handle: since when it is billed, how dear, and what it costs while it is paused."""
    outputs = scene.stop(of_handle(scene))
    assert scene.asked() == ["delete 101", "register box", "pause box", "delete 102"]
    assert outputs == UNSPLIT | {"stopped": "1", "billed-seconds": "1000", "cost": "1.0000 USD"}
    end = "paused, its disk costs about 7.30 USD a month"
    assert f"box (m-1) is {end}: billed for 16 min 40 s, cost 1.0000 USD" in capsys.readouterr().out
    assert f"box is {end}." in scene.page.read_text()


@pytest.mark.parametrize("release", ["auto", "keep"])
def test_a_machine_that_start_found_running_stays_up(scene: Scene, release: str) -> None:
    """A person works on it: what start would undo is the registration alone."""
    outputs = scene.stop(of_handle(scene, started=False, release=release))
    assert scene.state() is State.RUNNING
    assert scene.github.registered == {}
    assert (outputs["stopped"], outputs["billed-seconds"]) == ("0", "0")


@pytest.mark.parametrize(("release", "state"), [("pause", State.PAUSED), ("terminate", State.GONE)])
def test_a_machine_that_start_found_running_is_put_away_when_that_is_said(
    scene: Scene, release: str, state: State
) -> None:
    """Said in words it is done; since when it runs nobody knows, so the bill says so."""
    outputs = scene.stop(of_handle(scene, started=False, release=release))
    assert scene.state() is state
    assert outputs == UNSPLIT | {"stopped": "1"}


def test_a_kept_machine_is_ended_when_that_is_said(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its handle, under its lock, with its bill; no disk is said to go on costing."""
    outputs = scene.stop(of_handle(scene, release="terminate"))
    assert scene.asked() == ["delete 101", "register box", "release m-1", "delete 102"]
    assert outputs["cost"] == "1.0000 USD"
    out = capsys.readouterr().out
    assert "box (m-1) is given back" in out
    assert "a month" not in out


@pytest.mark.parametrize("by", ["handle", "name"])
def test_a_kept_machine_is_kept_up_when_that_is_said(
    scene: Scene, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    """Only its lock goes, so that the next run takes it over; nothing is billed as ended."""
    env = of_handle(scene, release="keep")
    outputs = scene.stop(env if by == "handle" else kept_env(release="keep"))
    assert scene.state() is State.RUNNING
    assert scene.github.registered == {}
    assert outputs["stopped"] == "0"
    assert "box: it is kept as it is." in capsys.readouterr().out


def test_a_machine_that_paused_itself_is_told(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its idle time was over before the stop came: a success, and not looked for any longer."""
    env = of_handle(scene)
    scene.provider.states["m-1"] = State.PAUSED
    assert scene.stop(env)["stopped"] == "0"
    assert "box: it is paused." in capsys.readouterr().out
    assert scene.github.registered == {}
    assert scene.clock.slept == []


def test_a_machine_that_another_run_has_by_now_stays_up(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older run's stop comes late (resume of a paused machine: pain 24): no failure, and why it
    is left is told."""
    env = of_handle(scene)
    scene.github.registered.clear()
    other = scene.registration("box", ANOTHER_RUN)
    assert scene.stop(env)["stopped"] == "0"
    assert scene.state() is State.RUNNING
    assert list(scene.github.registered) == [other.id]
    assert "box: run 8 holds it." in capsys.readouterr().out


def test_a_handle_means_its_start_from_wherever_it_is_used(scene: Scene) -> None:
    """In a terminal too: its start died while it gave back, and what it had locked the machine with
    is taken, though its run goes on."""
    env = of_handle(scene)
    del env["GITHUB_RUN_ID"]
    scene.github.registered.clear()
    scene.registration("box", replace(STARTER, starter="11"))
    assert scene.stop(env)["stopped"] == "1"
    assert scene.state() is State.PAUSED
    assert scene.github.registered == {}


def test_a_handle_means_no_other_job_of_its_run(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lock is gone after its job, and another matrix leg has the machine by now: that leg's own
    stop comes, whatever the jobs seem to be doing."""
    env = of_handle(scene)
    scene.github.registered.clear()
    scene.registration("box", replace(STARTER, key="leg.2", starter="12"))
    assert scene.stop(env)["stopped"] == "0"
    assert scene.state() is State.RUNNING
    assert "box: another job of this run holds it." in capsys.readouterr().out


def test_a_job_on_a_kept_machine_is_not_killed(scene: Scene) -> None:
    """A stop that came too early fails after its patience, with the cure, and writes its outputs
    all the same (a working runner is killed: pain 9)."""
    env = of_handle(scene)
    scene.github.set(101, busy=True)
    with pytest.raises(StillThere, match=r"box is left: .* Run stop again after the job\."):
        scene.stop(env)
    assert scene.clock.elapsed() == BUSY_PATIENCE
    assert scene.state() is State.RUNNING
    assert scene.told()["stopped"] == "0"


def test_a_pause_that_fails_is_said_with_the_outputs(scene: Scene) -> None:
    """It may be billed still: the stop fails, its lock is let go, and its outputs are there."""
    env = of_handle(scene)
    scene.provider.failing["pause"] = CloudUnreachable("The cloud is down.")
    with pytest.raises(StillThere, match=r"Machine box may be running.*The cloud is down\."):
        scene.stop(env)
    assert scene.github.registered == {}
    nothing = dict.fromkeys(("boot-seconds", "work-seconds", "idle-seconds"), "0")
    told = UNSPLIT | nothing | {"stopped": "0", "billed-seconds": "0"}
    assert scene.told() == told


def test_a_killed_starts_machine_is_paused_by_its_name(scene: Scene) -> None:
    """The start said nothing, and its job is over: its lock is taken and the machine paused. Since
    when it was billed nobody knows, which is not zero (pain 1)."""
    scene.keeper(State.RUNNING)
    scene.registration("box")
    assert scene.stop(kept_env()) == UNSPLIT | {"stopped": "1"}
    assert scene.state() is State.PAUSED
    assert scene.github.registered == {}


def test_what_a_killed_start_asked_for_is_paused_when_it_lands(scene: Scene) -> None:
    """It was killed between the resume and its answer (pain 14): looked for some seconds more."""
    keeper = scene.keeper(State.PAUSED)
    scene.registration("box")
    scene.clock.at(LANDING_SECONDS - 1, lambda: keeper.set("box", State.PENDING))
    scene.clock.at(60, lambda: keeper.set("box", State.RUNNING))
    assert scene.stop(kept_env())["stopped"] == "1"
    assert scene.state() is State.PAUSED


@pytest.mark.parametrize(
    ("state", "why"), [(State.PAUSED, "it is paused"), (None, "no machine has this name")]
)
def test_a_name_without_anything_to_stop_is_told(
    scene: Scene, capsys: pytest.CaptureFixture[str], state: State | None, why: str
) -> None:
    """A run whose start failed at once: a success within seconds."""
    scene.keeper(state)
    assert scene.stop(kept_env())["stopped"] == "0"
    assert f"box: {why}." in capsys.readouterr().out
    assert scene.clock.elapsed() == LANDING_SECONDS


@pytest.mark.parametrize(
    ("jobs", "why"),
    [
        ([job(12, "queued", LABEL)], "box: job 'job 12' is queued and asks for its label."),
        ([job(11, "in_progress")], "box: job 'job 11', which started it, is still in_progress."),
    ],
)
def test_a_machine_that_its_run_needs_is_left(
    scene: Scene, capsys: pytest.CaptureFixture[str], jobs: list[Job], why: str
) -> None:
    """A stop by name asks what a stop by tags asks: a job that waits for the runner, and a start
    that goes on, keep it (pain 9)."""
    scene.keeper(State.RUNNING)
    scene.registration("box")
    scene.github.run_jobs = [*jobs, job(99, "in_progress")]
    assert scene.stop(kept_env())["stopped"] == "0"
    assert scene.state() is State.RUNNING
    assert list(scene.github.registered) == [101]
    assert why in capsys.readouterr().out


@pytest.mark.parametrize(("key", "stopped"), [("start.11", "1"), ("leg.2", "0")])
def test_a_key_names_the_start_whose_lock_is_meant(scene: Scene, key: str, stopped: str) -> None:
    """With a key no other job's machine is paused, whatever the jobs are doing."""
    scene.keeper(State.RUNNING)
    scene.registration("box")
    assert scene.stop(kept_env(key=key))["stopped"] == stopped
    assert (scene.state() is State.PAUSED) is (stopped == "1")


@pytest.mark.parametrize("by", ["handle", "name"])
def test_a_kept_machine_may_take_its_time(scene: Scene, by: str) -> None:
    """It has to wake before it can be paused: longer than a machine that is ended is waited for."""
    env = of_handle(scene) if by == "handle" else kept_env()
    keeper = scene.keeper(State.PENDING)
    scene.clock.at(5 * PATIENCE, lambda: keeper.set("box", State.RUNNING))
    assert scene.stop(env)["stopped"] == "1"
    assert scene.state() is State.PAUSED


def test_only_kept_machines_are_waited_for_so_long(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other stop is over sooner: what it waits for are outages."""
    deadlines: list[Deadline] = []

    def connect(*_args: object, deadline: Deadline, **_named: object) -> FakeGitHub:
        deadlines.append(deadline)
        return scene.github

    monkeypatch.setattr(GitHub, "connect", connect)
    for env in (start_env(), of_handle(scene)):
        scene.stop(env)
    assert [each.at - scene.clock.begin for each in deadlines] == [PATIENCE, PAUSE_PATIENCE]


def test_a_kept_machine_that_never_gets_there_is_said(scene: Scene) -> None:
    """The wait ends, with words and a lock that is free."""
    scene.keeper(State.PENDING)
    with pytest.raises(StillThere, match=r"box was on its way to another state"):
        scene.stop(kept_env())
    assert scene.clock.elapsed() == PAUSE_PATIENCE
    assert scene.github.registered == {}


def test_a_stop_of_a_run_leaves_kept_machines_to_their_own(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """It cannot know their names' clouds; whoever forgot the name reads which machine it is."""
    scene.keeper(State.RUNNING)
    scene.registration("box")
    scene.registration("other", ANOTHER_RUN)
    scene.stop(kept_env(machine_name=""))
    assert len(scene.github.registered) == 2
    out = capsys.readouterr().out
    assert "box is a kept machine: it needs a stop of its own, with machine-name." in out
    assert "other is" not in out


def test_machines_without_tags_are_found_by_their_names(scene: Scene) -> None:
    """Those of this run that nothing needs are given back with their registrations, and those of
    another run are left (pain 1)."""
    scene.machine()
    scene.machine(replace(STARTER, key="leg.2", starter="12"))
    scene.machine(ANOTHER_RUN)
    scene.registration(NAME)
    assert scene.stop(start_env())["stopped"] == "2"
    left = [machine.name for machine in scene.provider.machines.values()]
    assert left == [ANOTHER_RUN.name(0)]
    assert scene.github.registered == {}
    assert f"look for {NAME}" not in scene.github.journal


@pytest.mark.parametrize(
    ("jobs", "why"),
    [
        ([job(12, "queued", LABEL)], "job 'job 12' is queued and asks for its label"),
        ([job(11, "in_progress")], "job 'job 11', which started it, is still in_progress"),
    ],
)
def test_a_machine_without_tags_is_judged_by_its_registration(
    scene: Scene, capsys: pytest.CaptureFixture[str], jobs: list[Job], why: str
) -> None:
    """The label there tells which job started it; another that goes on does not matter (a working
    runner is killed: pain 9)."""
    scene.machine()
    scene.registration(NAME)
    scene.github.run_jobs = [*jobs, job(13, "in_progress", "gpu")]
    assert scene.stop(start_env())["stopped"] == "0"
    assert len(scene.provider.machines) == len(scene.github.registered) == 1
    assert f"{NAME} is left: {why}." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "stopped"), [((LABEL,), "0"), ((f"{NAME}r1-deadbeef",), "1"), ((), "1")]
)
def test_a_machine_without_tags_and_registration_is_judged_by_its_name(
    scene: Scene, labels: tuple[str, ...], stopped: str
) -> None:
    """It is registered before it is launched, so that its start is past that: only a job that asks
    for a label which begins with its name needs it, and no other that goes on (pain 9)."""
    scene.machine()
    scene.github.run_jobs = [job(13, "queued", *labels)]
    assert scene.stop(start_env())["stopped"] == stopped


@pytest.mark.parametrize(("key", "stopped"), [("start.11", "1"), ("leg.2", "0")])
def test_machines_without_tags_are_found_by_a_key(scene: Scene, key: str, stopped: str) -> None:
    """Names tell it too; what the jobs do is not asked then."""
    scene.machine()
    scene.github.run_jobs = [job(12, "queued", LABEL)]
    assert scene.stop(start_env(key=key))["stopped"] == stopped


def test_a_key_leaves_the_registrations_of_other_keys(scene: Scene) -> None:
    """No job is asked whether it needs them: an idle one is of a leg whose machine still waits for
    its job (a working runner is killed: pain 9)."""
    leg = replace(STARTER, key="leg.2", starter="12")
    scene.registration(NAME)
    scene.registration(leg.name(0), leg)
    scene.stop(start_env(key="start.11"))
    assert [runner.name for runner in scene.github.registered.values()] == [leg.name(0)]


def test_jobs_that_cannot_be_read_may_need_what_there_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a handle or a key all is left, and the stop fails (a working runner is killed: pain 9)."""

    def no_jobs(_run_id: str) -> list[Job]:
        raise Unreachable("GitHub is down.")

    scene.machine()
    scene.registration(NAME)
    monkeypatch.setattr(scene.github, "jobs", no_jobs)
    with pytest.raises(StillThere, match=r"1 machine\(s\) or registration\(s\) .* were left"):
        scene.stop(start_env())
    assert len(scene.provider.machines) == len(scene.github.registered) == 1


def test_a_handle_says_where_its_runner_is_registered(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an organisation too, which stop need not be given: elsewhere "absent" would mean nothing."""
    scopes: list[object] = []

    def connect(*_args: object, **named: object) -> FakeGitHub:
        scopes.append(named["scope"])
        return scene.github

    monkeypatch.setattr(GitHub, "connect", connect)
    machine = scene.machine()
    known = replace(machine, tags=replace(machine.tags, scope="orgs/octo"))
    scene.stop(start_env(provider="fake", handle=to_handle([known])))
    assert scopes == ["orgs/octo"]


def test_a_fresh_machine_is_kept_up_when_that_is_said(scene: Scene) -> None:
    """It loses its registration and nothing else: its own timers end it."""
    runner = scene.registration(NAME)
    machine = scene.machine()
    known = replace(machine, tags=replace(machine.tags, runner_id=runner.id))
    outputs = scene.stop(start_env(provider="fake", handle=to_handle([known]), release="keep"))
    assert outputs["stopped"] == "0"
    assert list(scene.provider.machines) == [machine.id]
    assert scene.github.registered == {}


def hosted(number: int, name: str, began: float, ended: float, *steps: str) -> Job:
    return Job(
        id=number,
        name=name,
        labels=frozenset({"ubuntu-latest"}),
        runner_name="GitHub Actions 3",
        runner_group="GitHub Actions",
        started_at=began,
        completed_at=ended,
        steps=("Set up job", *steps),
        status="completed" if ended else "in_progress",
        conclusion="success" if ended else "",
        current="" if ended else steps[-1],
    )


def timed(scene: Scene, step: str = "Run org/gpu-ci/action-stop@v1") -> None:
    """Let GitHub tell of a start of 130 s, a GPU job of 600 s on the machine, and this stop."""
    now = scene.clock.now()
    gpu = hosted(12, "test", now - 700, now - 100)
    on_box = replace(gpu, runner_name="box", runner_group="Default", labels=frozenset({LABEL}))
    scene.run_times = (
        hosted(11, "start", now - 1100, now - 970, "Run org/gpu-ci/action-start@v1"),
        on_box,
        hosted(99, "stop", now - 20, 0, step),
        hosted(13, "lint", now - 1100, now - 100, "Run ruff"),
    )


def test_a_bill_is_split_and_posted(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boot, work and idle add up to what is billed; the library's own hosted minutes are counted,
    3 of the start and 1 of the stop; the ledger gets a sentence that reads back as the same."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    timed(scene)
    outputs = scene.stop(of_handle(scene))
    parts = {"boot-seconds": "300", "work-seconds": "600", "idle-seconds": "100"}
    told = {"stopped": "1", "billed-seconds": "1000", "cost": "1.0000 USD", "hosted-minutes": "4"}
    assert outputs == parts | told
    out = capsys.readouterr().out
    (sentence,) = [
        line.removeprefix("::notice title=gpu-ci cost::")
        for line in out.splitlines()
        if line.startswith("::notice")
    ]
    entry = Entry.read(sentence)
    assert entry is not None
    assert (entry.machine, entry.seconds, entry.cost) == ("box", 1000, 1.0)
    assert entry.split == Split(boot=300, work=600, idle=100)
    assert "::warning" not in out
    assert "used 4 min of GitHub's runners" in scene.page.read_text()


@pytest.mark.parametrize(("state", "billed"), [(State.GONE, "900"), (State.RUNNING, "1000")])
def test_a_machine_that_ended_itself_is_billed_to_its_last_job(
    scene: Scene, state: State, billed: str
) -> None:
    """Of several machines one may be over hours before the stop, which waits for the others."""
    machine = scene.machine()
    scene.provider.states[machine.id] = state
    timed(scene)
    assert scene.run_times
    gone, *others = (replace(each) for each in scene.run_times if each.runner_name == "box")
    scene.run_times = (replace(gone, runner_name=machine.name), *others)
    began = scene.clock.now() - 1000
    handle = to_handle([replace(machine, launched_at=began, price=Price(per_hour=3.6))])
    told = scene.stop(start_env(provider="fake", handle=handle))
    assert (told["billed-seconds"], told["work-seconds"]) == (billed, "600")


@pytest.mark.parametrize(("age", "billed"), [(999.01, "1000"), (0.01, "1"), (1000.0, "1000")])
def test_a_begun_second_is_billed(scene: Scene, age: float, billed: str) -> None:
    """Whole seconds are shown and added up, and a sum that is too low is no bill."""
    machine = replace(scene.machine(), launched_at=scene.clock.now() - age)
    told = scene.stop(start_env(provider="fake", handle=to_handle([machine])))
    assert told["billed-seconds"] == billed


def test_times_are_asked_for_when_the_machine_is_given_back(scene: Scene) -> None:
    """A bill never keeps a machine: it is looked up once, after everything else."""
    scene.stop(of_handle(scene))
    journal = scene.github.journal
    assert journal.count("look at times") == 1
    assert journal[-1] == "look at times"
    assert "What the time was for is not known. GitHub does not tell." in scene.page.read_text()


def test_a_stop_that_finds_nothing_asks_for_no_times(scene: Scene) -> None:
    """There is nothing to split."""
    scene.stop(start_env(provider="fake", github_token="t"))
    assert "look at times" not in scene.github.journal


def test_a_stop_whose_step_has_another_name_says_what_follows(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger believes no step that it does not know, so whoever renamed it hears of it."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    timed(scene, step="Give the GPU back")
    scene.stop(of_handle(scene))
    assert "::warning::Budgets and `gpu-ci cost` do not count this stop" in capsys.readouterr().out


def test_a_kept_machine_that_runs_in_another_attempt_is_paused_without_a_guess(
    scene: Scene,
) -> None:
    """Since when it runs now its old handle does not tell: it may have been resumed for this one."""
    timed(scene)
    env = of_handle(scene) | {"GITHUB_RUN_ATTEMPT": "2"}
    outputs = scene.stop(env)
    assert (outputs["stopped"], outputs["billed-seconds"], outputs["work-seconds"]) == ("1", "", "")
    assert scene.state() is State.PAUSED


def test_a_machine_of_another_attempt_is_not_split(scene: Scene) -> None:
    """Its jobs are not among those of this attempt, so it would look idle."""
    timed(scene)
    machine = of_attempt_1(scene.machine())
    began = scene.clock.now() - 1000
    handle = to_handle([replace(machine, launched_at=began, price=Price(per_hour=3.6))])
    told = scene.stop({**start_env(provider="fake", handle=handle), **SECOND})
    assert (told["billed-seconds"], told["work-seconds"]) == ("1000", "")
