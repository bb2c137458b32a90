"""What dead starts, stops and watchdogs leave behind: one pass over the repository ends it."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.conftest import BOX, HOUR, Box, made_by
from tests.pace import until

from gpu_ci.errors import Forbidden, NotPermitted, StillThere
from gpu_ci_sandbox.faults import answer
from gpu_ci_sandbox.world import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.e2e.conftest import Cloud, Stories

    from gpu_ci.model.tags import Tags
    from gpu_ci_sandbox.faults import Phase, Request

FRESH = {"machine_name": "", "machine": "L4"}
SECOND_REGION = "eu-west-1"
OVER = "over"
GOING = "going"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who a machine belongs to: the state of its run, and what its runner does.

    `told` is what a pass says of it where it is left although nobody seems to need it.
    """

    run: str = OVER
    busy: bool = False
    job_on_it: bool = False
    registered: bool = True
    region: str = "us-east-1"
    told: str = ""
    tags: Mapping[str, Any] = field(default_factory=dict)


# What names tell, so that every cloud has it; machines of the first table are ended.
NOBODYS = {
    "its run is over": Owner(),
    "its run is over, and so is its registration": Owner(registered=False),
    "its run was deleted": Owner(run="deleted"),
    "its attempt is over": Owner(run="run again"),
}
SOMEBODYS = {
    "its run goes on": Owner(run=GOING),
    "its run goes on, and its job too": Owner(run=GOING, busy=True),
    "its run is over, but its runner is busy": Owner(busy=True, told="is running a job"),
    "started from a terminal": Owner(run="none"),
    "another repository's": Owner(run="deleted", tags={"repository": "octo-org/other"}),
}
# What only tags tell.
PAST, FUTURE = 1_600_000_000, 4_000_000_000
NOBODYS_BY_TAGS = {
    "in a second region": Owner(region=SECOND_REGION),
    "overdue": Owner(run=GOING, tags={"expires_at": PAST}),
    "overdue, from a terminal": Owner(run="none", tags={"expires_at": PAST}),
}
SOMEBODYS_BY_TAGS = {
    "not overdue": Owner(run=GOING, tags={"expires_at": FUTURE}),
    "overdue and busy": Owner(
        run=GOING, busy=True, tags={"expires_at": PAST}, told="is running a job"
    ),
    "overdue, and a job says that it is busy": Owner(
        run=GOING, job_on_it=True, tags={"expires_at": PAST}, told="is running on it"
    ),
    "an organisation's runner": Owner(tags={"scope": "orgs/octo-org"}, told="orgs/octo-org"),
}


def test_machines_at_ec2(cloud: Cloud) -> None:
    """Machines of dead and deleted runs and overdue ones end in every region; one with a job, of
    another repository or of nobody is left (pains 1, 9)."""
    ended = {case: _owned(cloud, case, who) for case, who in (NOBODYS | NOBODYS_BY_TAGS).items()}
    left = {case: _owned(cloud, case, who) for case, who in (SOMEBODYS | SOMEBODYS_BY_TAGS).items()}
    for case, who in (NOBODYS | NOBODYS_BY_TAGS | SOMEBODYS | SOMEBODYS_BY_TAGS).items():
        tags = (ended | left)[case]
        cloud.launch(tags.as_mapping() | {"Name": tags.name}, who.region)
    cloud.launch({"Name": "alices-box"})
    assert cloud.sweep() == 0, cloud.told()
    _only_these_are_left(cloud, left, {"alices-box"})
    _told_of(cloud, ended, left, SOMEBODYS | SOMEBODYS_BY_TAGS)


def test_machines_at_jarvislabs(box: Box) -> None:
    """Where there are no tags the name tells the repository, the run and the attempt; machines
    with other names are nobody's business (pains 1, 9)."""
    ended = {case: _owned(box, case, who) for case, who in NOBODYS.items()}
    left = {case: _owned(box, case, who) for case, who in SOMEBODYS.items()}
    for tags in (ended | left).values():
        box.jarvislabs.add_machine(tags.name, "Running", gpu_type="L4")
    box.jarvislabs.add_machine("alices-box", "Running")
    assert box.sweep(machine_name="") == 0, box.told()
    _only_these_are_left(box, left, {"alices-box"})
    _told_of(box, ended, left, SOMEBODYS)


def _owned(stories: Stories, key: str, who: Owner) -> Tags:
    """Have a run in that state, and the registration of a machine that it made."""
    github = stories.world.served.github
    run_id = _run(stories, who.run)
    tags = made_by(run_id, key, **who.tags)
    if who.registered and tags.repository == REPOSITORY:
        runner = github.register(REPOSITORY, tags.name, [tags.label], online=True)
        if who.busy:
            github.set_runner(runner.id, job_id=4711)
    if who.job_on_it:
        job = github.queue_job(run_id, "train", [tags.label])
        github.set_job(job.id, status="in_progress", runner_name=tags.name)
    return tags


def _run(stories: Stories, state: str) -> int:
    """Return the id of a run in this state, 0 for none."""
    if state == "none":
        return 0
    github = stories.world.served.github
    run = github.start_run(REPOSITORY)
    job = github.queue_job(run, "build", ["ubuntu-latest"])
    github.set_job(job.id, status="in_progress", runner_name="Hosted Agent build")
    if state == "run again":
        github.set_run(run.id, attempt=2)
    elif state != GOING:
        github.set_job(job.id, conclusion="success")
    if state == "deleted":
        with github.turn():
            github.runs.delete(run)
    return run.id


def _only_these_are_left(stories: Cloud | Box, left: Mapping[str, Tags], others: set[str]) -> None:
    cases = {tags.name: case for case, tags in left.items()}
    names = {cases.get(name, name) for name in stories.machine_names()}
    assert names == left.keys() | others, stories.told()
    registered = {cases.get(name, name) for name in stories.world.runner_names()}
    assert registered == left.keys() - {"another repository's"}


def _told_of(
    stories: Stories,
    ended: Mapping[str, Tags],
    left: Mapping[str, Tags],
    owners: Mapping[str, Owner],
) -> None:
    """The outputs count what was done, and the report tells what was left, and why."""
    report = json.loads(stories.output("report"))
    assert stories.output("released") == str(len(ended))
    assert stories.output("cancelled") == "0"
    told = [each["what"] for each in report["findings"] if each["done"] == "released"]
    assert all(any(tags.name in what for what in told) for tags in ended.values()), told
    for case in (case for case, who in owners.items() if who.told):
        (why,) = [text for text in report["unseen"] if left[case].name in text]
        assert owners[case].told in why


# --- the money -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A way to rent a machine: the world that it needs, its inputs, and the call that costs."""

    world: str
    call: str
    inputs: Mapping[str, str]


LAUNCHES = {
    "ec2": Launch(world="cloud", call="RunInstances", inputs={"gpus": "0"}),
    "jarvislabs": Launch(world="box", call="POST create", inputs=FRESH),
    "jarvislabs, kept": Launch(world="box", call="POST resume", inputs={}),
}


@pytest.mark.parametrize("phase", ["before", "after"])
@pytest.mark.parametrize("way", LAUNCHES)
def test_a_killed_start(request: pytest.FixtureRequest, way: str, phase: Phase) -> None:
    """A start killed at the call that costs, no stop ever, and the run ends (pain 1): one pass, and
    nothing is billed or registered; what a second run uses beside it is not touched."""
    launch = LAUNCHES[way]
    stories: Cloud | Box = request.getfixturevalue(launch.world)
    second = _owned(stories, "second", Owner(run=GOING, busy=True))
    _rent(stories, second)
    killed_at = stories.kill_at(launch.call, phase, signal.SIGKILL)
    assert stories.run("start", **launch.inputs) == -signal.SIGKILL, stories.told()
    assert killed_at
    stories.all_well_again()
    stories.world.end_run()
    _comes_to_rest(stories)
    assert stories.sweep() == 0, stories.told()
    assert stories.machine_names() == {second.name}
    assert stories.world.runner_names() == [second.name], stories.told()


def _rent(stories: Cloud | Box, tags: Tags) -> None:
    if isinstance(stories, Box):
        stories.jarvislabs.add_machine(tags.name, "Running", gpu_type="L4")
    else:
        stories.launch(tags.as_mapping() | {"Name": tags.name})


def _comes_to_rest(stories: Cloud | Box) -> None:
    """A kept machine on its way between two states is left to the next pass."""
    if isinstance(stories, Box):
        until(lambda: stories.status() in {"Running", "Paused"})


# --- a kept machine that a second run uses ---------------------------------------------------------


def _killed_start_and_a_second_run(box: Box) -> None:
    """Have a first run's start killed when its machine was resuming, and its run end."""
    box.kill_at("POST resume", "after", signal.SIGKILL)
    assert box.run("start") == -signal.SIGKILL, box.told()
    box.all_well_again()
    box.world.end_run()
    _comes_to_rest(box)
    box.world.next_run()


def test_a_kept_machine_is_paused_once_it_is_nobodys(box: Box) -> None:
    """A pass beside every step of a second run, which took the machine over, leaves it alone; when
    that run is over too without a stop, the next pass pauses it (row 1.14, pain 1)."""
    _killed_start_and_a_second_run(box)
    assert box.run("start") == 0, box.told()
    label, job = box.output("label"), _job_on_the_box(box)
    for _ in ("queued", "in_progress"):
        _nothing_is_done(box, label)
        _hand_to_the_box(box, job)
    (runner,) = box.world.served.github.all_runners()
    box.world.served.github.set_runner(runner.id, job_id=None, online=False)
    box.world.end_run()
    assert box.sweep() == 0, box.told()
    assert (box.output("released"), box.output("cancelled")) == ("1", "0")
    assert box.left() == []


def test_a_pass_while_a_second_run_starts(box: Box) -> None:
    """It holds the machine as soon as it has the lock, whatever state the machine is in
    (row 1.14)."""
    _killed_start_and_a_second_run(box)
    box.jarvislabs.settings.resuming_seconds = 0.7
    box.forget_calls()
    start = box.begin("start")
    until(lambda: "POST resume" in box.calls())
    assert box.sweep() == 0, box.told()
    assert box.zygote.wait(start) == 0, box.told()
    assert box.output("released") == "0"
    assert box.status() == "Running"


def test_two_runs_and_passes_beside_them(box: Box) -> None:
    """The second run waits for the machine of the first one, and gets it when that is over; passes
    beside both never take it from either (row 1.14)."""
    assert box.run("start") == 0, box.told()
    first, label = box.world.run_id, box.output("label")
    _hand_to_the_box(box, _job_on_the_box(box))
    box.world.next_run()
    box.forget_calls()
    second = box.begin("start")
    until(lambda: "GET runners" in box.calls())
    _nothing_is_done(box, label)
    _end_job_of(box, first)
    assert box.zygote.wait(second) == 0, box.told()
    _nothing_is_done(box, box.output("label"))


def _job_on_the_box(box: Box) -> int:
    """Queue the job that asks for the runner of the last start; its start is over."""
    box.start_job_is_over()
    github = box.world.served.github
    return github.queue_job(box.world.run_id, "train", [box.output("label")]).id


def _hand_to_the_box(box: Box, job_id: int) -> None:
    github = box.world.served.github
    (runner,) = github.all_runners()
    github.set_runner(runner.id, job_id=job_id)
    github.set_job(job_id, status="in_progress", runner_name=BOX)


def _end_job_of(box: Box, run_id: int) -> None:
    """The job ends, with it its single-use runner, and the run."""
    github = box.world.served.github
    with github.turn():
        github.runners.remove(github.runners.all()[0].id)
    for job in github.all_jobs():
        if job.run_id == run_id:
            github.set_job(job.id, conclusion="success")


def _nothing_is_done(box: Box, label: str) -> None:
    """A pass leaves the machine to the runner with this label."""
    writes = box.writes()
    assert box.sweep() == 0, box.told()
    assert writes == []
    (runner,) = box.world.served.github.all_runners()
    assert [each.name for each in runner.labels] == [label]
    assert box.status() == "Running"


# --- passes that die, and two at once --------------------------------------------------------------

# Every call of a pass that changes something, in order: a test below holds the list complete. What is
# there when one is about to land is what there is when the one before it has landed.
WRITES = (
    "POST cancel",
    "POST force-cancel",
    "DELETE *",  # the registration of a machine
    "POST destroy",
    "POST generate-jitconfig",  # the lock of the kept machine, which a dead run has
    "DELETE *",
    "POST generate-jitconfig",
    "POST pause",
    "DELETE *",  # the lock again
    "DELETE *",  # a registration without a machine
)


@pytest.mark.parametrize("number", range(len(WRITES)), ids=lambda n: f"{n + 1} {WRITES[n]}")
def test_a_killed_pass(box: Box, number: int) -> None:
    """A pass that is killed when one of its calls has landed (pains 1, 5): the next one ends what
    is left, and nothing else. Only the lock of a machine that is paused already may stand: it costs
    nothing, and a start takes it over."""
    left = _everything_at_once(box)
    killed_at = box.kill_at(
        WRITES[number], "after", signal.SIGKILL, WRITES[: number + 1].count(WRITES[number])
    )
    assert box.sweep() == -signal.SIGKILL, box.told()
    assert killed_at
    box.all_well_again()
    _comes_to_rest(box)
    assert box.sweep() == 0, box.told()
    if WRITES[number] == "POST pause":
        assert box.run("start") == 0, box.told()
        assert box.run("stop", handle=box.output("handle")) == 0, box.told()
    _all_is_ended_but(box, left)


@pytest.mark.parametrize("call", ["DELETE *", "TerminateInstances"])
def test_a_killed_pass_at_ec2(cloud: Cloud, call: str) -> None:
    """The same where machines are terminated."""
    nobodys, used = _owned(cloud, "fresh", Owner()), _owned(cloud, "used", Owner(run=GOING))
    for tags in (nobodys, used):
        _rent(cloud, tags)
    killed_at = cloud.kill_at(call, "after", signal.SIGKILL)
    assert cloud.sweep(region="us-east-1") == -signal.SIGKILL, cloud.told()
    assert killed_at
    cloud.all_well_again()
    assert cloud.sweep(region="us-east-1") == 0, cloud.told()
    assert cloud.machine_names() == {used.name}
    assert cloud.world.runner_names() == [used.name]


def test_two_passes_at_once(box: Box) -> None:
    """Whatever each of them gets to first: both end, and together they end all and nothing else."""
    left = _everything_at_once(box)
    passes = [box.begin_sweep() for _ in range(2)]
    codes = [box.zygote.wait(each) for each in passes]
    assert codes == [0, 0], box.told()
    box.watches_are_over()
    _all_is_ended_but(box, left)


def test_the_writes_above_are_all(box: Box) -> None:
    """The list that the kill points come from is what a pass really does."""
    left, writes = _everything_at_once(box), box.writes()
    assert box.sweep() == 0, box.told()
    assert writes == [*WRITES]
    _all_is_ended_but(box, left)


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a pass must not touch, and the run that it must end."""

    machine: Tags
    stuck: int


def _everything_at_once(box: Box) -> Left:
    """Make one of each thing that a pass ends, and a machine that it must not end."""
    github = box.world.served.github
    box.jarvislabs.settings.resuming_seconds = 0.02
    for key, rented in {"fresh": True, "gone": False}.items():
        tags = _owned(box, key, Owner())
        if rented:
            _rent(box, tags)
    (*_, gone) = github.all_runners()
    github.set_runner(gone.id, online=False)
    dead = made_by(_run(box, OVER), "kept")
    github.register(REPOSITORY, BOX, [dead.label])
    box.jarvislabs.start_by_hand(BOX)
    _comes_to_rest(box)
    used = _owned(box, "used", Owner(run=GOING, busy=True))
    _rent(box, used)
    stuck = github.start_run(REPOSITORY, started_at=time.time() - HOUR)
    job = github.queue_job(stuck, "train", [made_by(stuck.id, "stuck").label], always=True)
    github.set_job(job.id, created_at=stuck.started_at, started_at=stuck.started_at)
    return Left(machine=used, stuck=stuck.id)


def _all_is_ended_but(box: Box, left: Left) -> None:
    assert box.machine_names() == {left.machine.name}, box.told()
    assert box.world.runner_names() == [left.machine.name], box.told()
    assert box.world.served.github.run_status(left.stuck) == ("completed", "cancelled")


# --- hands off -------------------------------------------------------------------------------------


def test_the_registration_goes_first(cloud: Cloud) -> None:
    """No job is sent to a machine that is just being ended: its registration is deleted before it,
    and when GitHub says that a job has come, both stay (pain 22)."""
    idle = _owned(cloud, "idle", Owner())
    taken = _owned(cloud, "taken", Owner())
    for tags in (idle, taken):
        _rent(cloud, tags)
    github, writes = cloud.world.served.github, cloud.writes()
    runners = {runner.name: runner.id for runner in github.all_runners()}

    def a_job_comes(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.method == "DELETE":
            github.set_runner(runners[taken.name], job_id=4711)

    cloud.world.served.faults.on_request(a_job_comes)
    assert cloud.sweep(region="us-east-1") == 0, cloud.told()
    assert sorted(writes) == ["DELETE *", "DELETE *", "TerminateInstances"]
    assert writes[-1] == "TerminateInstances" or writes[:2] == ["DELETE *", "TerminateInstances"]
    assert cloud.machine_names() == {taken.name}
    assert cloud.world.runner_names() == [taken.name]
    assert "left: its runner is running a job" in cloud.told()


def test_a_kept_machine_to_which_a_job_comes(box: Box) -> None:
    """The same of a kept one: the lock is taken before the pause, and a job that has come keeps it
    (pain 22)."""
    dead = made_by(_run(box, OVER), "kept")
    box.world.served.github.register(REPOSITORY, BOX, [dead.label], online=True)
    box.jarvislabs.start_by_hand(BOX)
    _comes_to_rest(box)
    (runner,) = box.world.served.github.all_runners()

    def a_job_comes(_number: int, at: Phase, request: Request) -> None:
        if at == "before" and request.method == "DELETE":
            box.world.served.github.set_runner(runner.id, job_id=4711)

    box.world.served.faults.on_request(a_job_comes)
    assert box.sweep() == 0, box.told()
    assert box.status() == "Running"
    assert box.world.runner_names() == [BOX]
    assert box.output("released") == "0"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What happens between the two readings of a machine that was idle: a job comes, or from then on
    requests to a path are refused; and the exit code of the pass."""

    job: bool = False
    refused: str = ""
    exit_code: int = 0


TURNS = {
    "a job has come": Turn(job=True),
    "runners cannot be listed": Turn(refused=r"actions/runners\?", exit_code=Forbidden.exit_code),
    "its run cannot be read": Turn(refused=r"actions/runs/\d+$"),
    "machines cannot be listed": Turn(refused="users/fetch", exit_code=NotPermitted.exit_code),
}
TURNED = "it has happened"


@pytest.mark.parametrize("what", TURNS)
def test_one_idle_reading_is_not_enough(box: Box, what: str) -> None:
    """A machine that looked idle once is left when the second reading shows a job, or cannot be
    had (pain 9)."""
    turn, tags = TURNS[what], _owned(box, "fresh", Owner())
    _rent(box, tags)
    (runner,) = box.world.served.github.all_runners()
    seen: list[str] = []

    def between(_number: int, at: Phase, request: Request) -> None:
        """Registrations, which need the runners again, are read last."""
        if at != "after" or seen[-1:] == [TURNED]:
            return
        seen.append(box.name(request))
        if seen[-1] != "GET runners" or "GET fetch" not in seen:
            return
        seen.append(TURNED)
        if turn.job:
            box.world.served.github.set_runner(runner.id, job_id=4711)
        for faults in box.all_faults() if turn.refused else ():
            faults.add(answer(403, {"message": "No"}, path=turn.refused, times=None))

    for faults in box.all_faults():
        faults.on_request(between)
    writes = box.writes()
    assert box.sweep(machine_name="") == turn.exit_code, box.told()
    assert seen[-1] == TURNED
    assert writes == []
    assert box.machine_names() == {tags.name}


def test_a_machine_that_cannot_be_ended(box: Box) -> None:
    """It is said, with the machine's name, and the pass fails; what comes after it is done."""
    tags = _owned(box, "fresh", Owner())
    _rent(box, tags)
    box.jarvislabs.start_by_hand(BOX)
    _comes_to_rest(box)
    box.jarvislabs.faults.add(answer(401, {"message": "Invalid token"}, path="destroy", times=None))
    assert box.sweep() == StillThere.exit_code, box.told()
    assert f"machine {tags.name}" in box.told()
    assert "could not be ended" in box.told()
    assert (box.status(), box.output("released")) == ("Paused", "1")
