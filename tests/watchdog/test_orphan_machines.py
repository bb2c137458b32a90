"""Machines, kept machines and registrations: nobody's are ended, somebody's are not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.fakes import REPOSITORY, tags
from tests.github.desk import RUN, RUNNERS
from tests.watchdog.scene import AGES, Scene, label_of, name_of, start_of

from gpu_ci.errors import CloudError, CloudUnreachable, NotPermitted
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate, Order
from gpu_ci.watchdog.leftovers import APART_SECONDS, PACE_SECONDS
from gpu_ci_sandbox.faults import answer, drop

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.model.machine import Machine
    from gpu_ci_sandbox.faults import Request, Rule

FAKE = {"providers": "fake"}
KEEPER = {"providers": "keeper", "machine_name": "box"}
GONE_RUN = 99


def releases(scene: Scene) -> list[str]:
    return [line for line in scene.cloud.journal if line.startswith("release")]


def pauses(scene: Scene) -> list[str]:
    return [line for line in scene.keeper.journal if line.startswith(("pause", "release"))]


# Machines that are nobody's


def overdue(scene: Scene) -> Machine:
    scene.run(11)
    scene.queue(11)
    return scene.machine(11, expires_at=int(scene.clock.now()) - 1)


def of_a_run_that_is_over(scene: Scene) -> Machine:
    scene.over(11)
    return scene.machine(11)


def of_no_run(scene: Scene) -> Machine:
    return scene.machine(GONE_RUN)


def of_an_earlier_attempt(scene: Scene) -> Machine:
    scene.run(11, attempt=2)
    return scene.machine(11, attempt=1)


def from_a_terminal_and_overdue(scene: Scene) -> Machine:
    return scene.machine(0, expires_at=int(scene.clock.now()) - 1)


NOBODYS: dict[str, tuple[Callable[[Scene], Machine], str]] = {
    "overdue": (overdue, "its lifetime ended at 2027-01-15T07:59:59Z"),
    "its run is over": (of_a_run_that_is_over, "run 11 is over"),
    "its run does not exist": (of_no_run, "run 99 does not exist"),
    "of an earlier attempt": (of_an_earlier_attempt, "attempt 1 of run 11 is over"),
    "of a terminal, overdue": (from_a_terminal_and_overdue, "its lifetime ended"),
}


@pytest.mark.parametrize(("arrange", "why"), NOBODYS.values(), ids=NOBODYS)
def test_a_machine_that_is_nobodys_is_released(
    scene: Scene, arrange: Callable[[Scene], Machine], why: str
) -> None:
    """After two readings a minute apart, its registration first and then the machine."""
    machine = arrange(scene)
    told = scene.sweep(**FAKE)
    assert (told.code, told.ended()) == (0, ("0", "1", "0"))
    assert told.seconds == APART_SECONDS + PACE_SECONDS
    [found] = told.findings
    assert (found["kind"], found["done"], found["acted"]) == ("machine", "released", True)
    assert machine.id in found["what"]
    assert why in found["why"]
    assert (scene.cloud.machines, scene.desk.names()) == ({}, [])


def test_the_registration_goes_before_the_machine(scene: Scene) -> None:
    """Else GitHub sends a job to a runner that is stopped already (pain 22)."""
    machine = of_no_run(scene)

    def note(number: int, phase: str, request: Request) -> None:
        if request.method == "DELETE" and phase == "after":
            scene.cloud.journal.append("registration deleted")

    scene.desk.hub.faults.on_request(note)
    scene.sweep(**FAKE)
    assert scene.cloud.journal[-2:] == ["registration deleted", f"release {machine.id}"]


def test_a_machine_without_a_registration_is_released(scene: Scene) -> None:
    """Its start was killed between the two, or GitHub dropped it."""
    of_no_run(scene)
    scene.state.runners.remove(1)
    assert scene.sweep(**FAKE).ended() == ("0", "1", "0")


def test_a_machine_of_a_cloud_without_tags(scene: Scene) -> None:
    """Where the name is all that is known, it is enough."""
    machine = scene.machine(GONE_RUN, label="", scope="", key="", starter="")
    scene.sweep(**FAKE)
    assert releases(scene) == [f"release {machine.id}"]


@pytest.mark.parametrize(
    "odd", [{"attempt": "x"}, {"attempt": ""}, {"run_id": "x"}, {"run_id": ""}]
)
def test_tags_that_somebody_edited_tell_nothing(scene: Scene, odd: dict[str, str]) -> None:
    """Its run cannot be looked at: hands off, and the other machine is released."""
    of_no_run(scene)
    scene.run(11)
    scene.queue(11)
    named = {"label": "x", "key": "start", "run_id": "11", "attempt": "1"}
    made = tags("edited", **{**named, **odd})
    order = Order(candidate=Candidate(type="small"), tags=made, token="", boot_script="")
    edited = scene.cloud.land(order)
    told = scene.sweep(**FAKE)
    assert told.code == 0
    assert list(scene.cloud.machines) == [edited.id]


# Machines that are somebody's, or may be (pain 9)


def needed(scene: Scene) -> None:
    scene.run(11)
    scene.queue(11)
    scene.machine(11)


def lifetime_not_over(scene: Scene) -> None:
    scene.run(11)
    scene.queue(11)
    scene.machine(11, expires_at=int(scene.clock.now()) + 3600)


def from_a_terminal(scene: Scene) -> None:
    scene.machine(0)


def waiting_for_approval(scene: Scene) -> None:
    scene.run(11)
    scene.queue(11, status="waiting")
    scene.machine(11)


SOMEBODYS = {
    "a job waits for it": needed,
    "its lifetime is not over": lifetime_not_over,
    "started by a person": from_a_terminal,
    "its run waits for an approval": waiting_for_approval,
}


@pytest.mark.parametrize("arrange", SOMEBODYS.values(), ids=SOMEBODYS)
def test_a_machine_that_is_somebodys_is_left(
    scene: Scene, arrange: Callable[[Scene], None]
) -> None:
    """Nothing is found, so nothing is waited for either."""
    arrange(scene)
    told = scene.sweep(**FAKE)
    assert (told.code, told.findings, told.seconds) == (0, [], 0)
    assert (releases(scene), scene.deleted()) == ([], [])


@pytest.mark.parametrize(
    "timeline",
    [
        [(-1, True)],
        [(30, True)],
        [(-1, True), (10, False), (50, True)],
        [(-1, True), (30, False)],
        [(59, True)],
    ],
    ids=["busy", "busy later", "busy, not, busy", "busy at first", "busy at last"],
)
def test_a_machine_whose_runner_works_is_left(
    scene: Scene, timeline: list[tuple[int, bool]]
) -> None:
    """Both readings have to show it idle: one `busy: false` in the middle of a job proves nothing,
    whatever its run and its lifetime say (pain 9)."""
    machine = scene.machine(GONE_RUN, expires_at=1)
    scene.state.set_runner(1, online=True, heard_at=scene.clock.now() + AGES)
    another = scene.machine(GONE_RUN + 1)
    for seconds, busy in timeline:
        if seconds < 0:
            scene.flip(machine.name, busy=busy)
        else:
            scene.after(seconds, lambda busy=busy: scene.flip(machine.name, busy=busy))
    told = scene.sweep(**FAKE)
    assert releases(scene) == [f"release {another.id}"]
    assert scene.deleted() == ["2"]
    assert told.code == 0


def test_a_machine_that_is_left_at_work_is_told(scene: Scene) -> None:
    """Overdue and busy is worth a notice: who looks sees why it is still there (pain 9)."""
    machine = scene.machine(GONE_RUN)
    scene.flip(machine.name, busy=True)
    told = scene.sweep(**FAKE)
    assert "its runner is running a job" in told.unseen
    assert machine.id in told.unseen


def test_a_job_that_names_the_runner_is_at_work(scene: Scene) -> None:
    """Also where the list of runners says idle: jobs know better (pain 9)."""
    machine = overdue(scene)
    job = scene.state.all_jobs()[0]
    scene.state.set_job(job.id, status="in_progress", runner_name=machine.name)
    told = scene.sweep(**FAKE)
    assert (told.findings, releases(scene), scene.deleted()) == ([], [], [])
    assert "job 'test' is running on it" in told.unseen


def test_a_job_that_has_ended_keeps_no_machine(scene: Scene) -> None:
    """Its name stays with the job for ever; other jobs of the run go on elsewhere."""
    machine = overdue(scene)
    job = scene.state.all_jobs()[0]
    scene.state.set_job(job.id, status="in_progress", runner_name=machine.name)
    scene.state.set_job(job.id, conclusion="success")
    scene.queue(11, "report", ("ubuntu-latest",))
    assert scene.sweep(**FAKE).ended() == ("0", "1", "0")


def test_a_job_that_comes_right_before_the_delete_saves_the_machine(scene: Scene) -> None:
    """GitHub's 422 means busy: hands off, and no error (pain 9, pain 22)."""
    machine = of_no_run(scene)

    def work(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "DELETE":
            scene.flip(machine.name, busy=True)

    scene.desk.hub.faults.on_request(work)
    told = scene.sweep(**FAKE)
    assert (told.code, told.ended(), releases(scene)) == (0, ("0", "0", "0"), [])
    assert list(told.done.values()) == ["left: its runner is running a job"]
    assert scene.desk.names() == [machine.name]


UNKNOWN = {
    "403": answer(403, {"message": "No."}, path=r"/runs/11$", times=None),
    "500": answer(500, {"message": "Oops"}, path=r"/runs/11$", times=None),
    "reset": drop(path=r"/runs/11$", times=None),
    "another shape": answer(200, [], path=r"/runs/11$", times=None),
    "500 at the second look": answer(
        500, {"message": "Oops"}, path=r"/runs/11$", nth=2, times=None
    ),
}


@pytest.mark.parametrize("rule", UNKNOWN.values(), ids=UNKNOWN)
def test_a_run_that_cannot_be_read_may_be_going_on(scene: Scene, rule: Rule) -> None:
    """Unknown is not over: hands off, and it is said; the other machine is released (pain 9)."""
    machine, other = of_a_run_that_is_over(scene), of_no_run(scene)
    scene.desk.add(rule)
    told = scene.sweep(**FAKE)
    assert releases(scene) == [f"release {other.id}"]
    assert machine.name in scene.desk.names()
    assert f"{machine.describe()}: whether it is needed is not known" in told.unseen


@pytest.mark.parametrize("path", [r"/jobs"])
@pytest.mark.parametrize("rule", [answer, drop])
def test_jobs_that_cannot_be_read_may_be_running(
    scene: Scene, path: str, rule: Callable[..., Rule]
) -> None:
    """An overdue machine of a run that goes on, whose jobs nobody can read, is left (pain 9)."""
    overdue(scene)
    more = (500, {"message": "Oops"}) if rule is answer else ()
    scene.desk.add(rule(*more, path=path, times=None))
    told = scene.sweep(**FAKE)
    assert (told.findings, releases(scene)) == ([], [])


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    ("status", "code"), [(403, 10), (500, 13)], ids=["not allowed", "an outage"]
)
def test_runners_that_cannot_be_listed_end_the_sweep(
    scene: Scene, nth: int, status: int, code: int
) -> None:
    """In the first look or in the second: who is busy is not known, so nothing is released, and the
    pass fails since providers were named (pain 9)."""
    of_no_run(scene)
    rule = answer(status, {"message": "No."}, path=rf"{RUNNERS}\?", nth=nth, times=None)
    scene.desk.add(rule)
    told = scene.sweep(**FAKE)
    assert (told.code, releases(scene), scene.deleted()) == (code, [], [])


@pytest.mark.parametrize("status", [403, 500])
def test_a_registration_that_cannot_be_deleted_keeps_its_machine(scene: Scene, status: int) -> None:
    """Whether a job came is not known then: exit code 40, and the others are released (pain 9)."""
    machine, other = of_no_run(scene), scene.machine(GONE_RUN + 1)
    scene.desk.add(answer(status, {"message": "No."}, method="DELETE", path="/1$", times=None))
    told = scene.sweep(**FAKE)
    assert (told.code, releases(scene)) == (40, [f"release {other.id}"])
    assert told.done[f"machine {machine.describe()}"] == "not ended"
    assert f"machine {machine.describe()} could not be ended." in told.log


def test_a_run_that_ends_between_the_looks_waits_for_the_next_pass(scene: Scene) -> None:
    """Only what both readings show: its own stop job has its minute."""
    needed(scene)
    of_no_run(scene)
    scene.after(30, lambda: scene.state.set_run(11, status="completed", conclusion="success"))
    told = scene.sweep(**FAKE)
    assert len(told.findings) == 1
    assert len(releases(scene)) == 1
    assert len(scene.sweep(**FAKE).findings) == 1


def test_a_machine_registered_elsewhere_is_left(scene: Scene) -> None:
    """Whether its runner is busy is known in its organisation only: it is said what to give."""
    scene.machine(GONE_RUN, scope="orgs/octo")
    told = scene.sweep(**FAKE)
    assert releases(scene) == []
    assert "give `organization`" in told.unseen


def test_other_repositories_machines_are_not_asked_for(scene: Scene) -> None:
    """The cloud is asked for those of this one alone, in the places that were named."""
    scene.machine(GONE_RUN, repository="octo/gadgets")
    asked: list[tuple[dict[str, str], list[str]]] = []
    find = scene.cloud.find

    def note(wanted: Any, regions: Any) -> Any:
        asked.append((dict(wanted), list(regions)))
        return find(wanted, regions)

    scene.patch.setattr(scene.cloud, "find", note)
    scene.sweep(region="here/here-a, there", **FAKE)
    assert asked
    assert asked == [({"repository": REPOSITORY}, ["here", "there"])] * len(asked)
    assert releases(scene) == []


# Clouds in trouble


def test_a_release_that_fails_is_told_and_the_rest_goes_on(scene: Scene) -> None:
    """Exit code 40, with the machine and the cloud's words."""
    machine = of_no_run(scene)
    over = of_a_run_that_is_over(scene)
    release, failing = scene.cloud.release, CloudUnreachable("No answer.", "Look there.")

    def broken(each: Machine) -> None:
        if each.id == machine.id:
            raise failing
        release(each)

    scene.patch.setattr(scene.cloud, "release", broken)
    told = scene.sweep(**FAKE)
    assert (told.code, told.ended()) == (40, ("0", "1", "0"))
    assert over.id not in scene.cloud.machines
    assert f"machine {machine.describe()} could not be ended. No answer. Look there." in told.log


def test_a_cloud_that_cannot_list_fails_the_pass(scene: Scene) -> None:
    """The other provider is swept; registrations are not, since a machine may stand behind them.

    What both looks met is said once.
    """
    scene.stuck(12)
    scene.clock.sleep(900)
    scene.over(11)
    scene.register(name_of(11), label_of(11))
    scene.keeper.failing["find"] = NotPermitted("Wrong key.", "Renew it.")
    other = of_no_run(scene)
    told = scene.sweep(providers="keeper, fake")
    assert (told.code, told.ended()) == (22, ("1", "1", "0"))
    assert releases(scene) == [f"release {other.id}"]
    assert name_of(11) in scene.desk.names()
    assert "::error::Wrong key. Renew it." in told.log
    assert told.log.count("Wrong key") == 1


# How much in one pass


def test_dry_run_ends_nothing(scene: Scene) -> None:
    """All three kinds are found and said."""
    machine = of_no_run(scene)
    scene.over(11)
    scene.register(name_of(11), label_of(11))
    scene.keeper.add("box", State.RUNNING)
    told = scene.sweep(dry_run="true", providers="fake, keeper", machine_name="box")
    assert (told.code, told.ended()) == (0, ("0", "0", "0"))
    assert told.done == {
        f"machine {machine.describe()}": "would be ended",
        "machine box": "would be ended",
        f"registration {name_of(11)}": "would be ended",
    }
    assert (releases(scene), pauses(scene), scene.deleted(), scene.posts()) == ([], [], [], [])


def test_runs_and_machines_share_max_actions(scene: Scene) -> None:
    """Cancels count first; registrations cost nothing."""
    scene.stuck(12)
    scene.clock.sleep(900)
    scene.over(11)
    scene.register(name_of(11), label_of(11))
    of_no_run(scene)
    scene.machine(GONE_RUN + 1)
    told = scene.sweep(max_actions="2", **FAKE)
    assert told.ended() == ("1", "1", "1")
    assert [done for done in told.done.values() if "max-actions" in done]
    assert len(scene.cloud.machines) == 1


@pytest.mark.parametrize("inputs", [FAKE, KEEPER], ids=["fresh", "kept"])
def test_what_was_found_is_ended_with_the_reserve(scene: Scene, inputs: dict[str, str]) -> None:
    """Reading leaves a fifth of the limit to others; what both looks have shown is ended all the
    same, since a machine that is left bills on."""
    of_no_run(scene)
    scene.keeper.add("box", State.RUNNING)
    scene.after(30, lambda: scene.state.set_remaining(900, token=scene.desk.admin))
    told = scene.sweep(**inputs)
    assert (told.code, told.ended()[1]) == (0, "1")


# Kept machines


@pytest.mark.parametrize(
    ("holder", "why"),
    [
        (None, "it runs for no run"),
        (GONE_RUN, "it runs, and the run that held it is over"),
        (11, "it runs, and the run that held it is over"),
    ],
    ids=["nobody", "a run that does not exist", "a run that is over"],
)
def test_a_kept_machine_that_is_free_is_paused(scene: Scene, holder: int | None, why: str) -> None:
    """Under its lock, which is gone afterwards; one that a person runs by hand counts as free, since
    it has no registration."""
    scene.over(11)
    scene.keeper.add("box", State.RUNNING)
    if holder:
        scene.register("box", label_of(holder))
    told = scene.sweep(**KEEPER)
    assert (told.code, told.ended(), pauses(scene)) == (0, ("0", "1", "0"), ["pause box"])
    [found] = told.findings
    assert (found["what"], found["why"], found["done"]) == ("machine box", why, "paused")
    assert scene.desk.names() == []
    assert len(scene.desk.calls("POST", "generate-jitconfig")) >= 1


def test_the_lock_is_held_while_a_machine_is_paused(scene: Scene) -> None:
    """A start that comes at this moment gets a 409 and waits."""
    scene.keeper.add("box", State.RUNNING)
    held: list[list[str]] = []
    pause = scene.keeper.pause

    def note(machine: Machine) -> None:
        held.append(scene.desk.names())
        pause(machine)

    scene.patch.setattr(scene.keeper, "pause", note)
    scene.sweep(**KEEPER)
    assert held == [["box"]]


def run_that_goes_on(scene: Scene) -> None:
    scene.run(11)
    scene.queue(11)
    scene.register("box", label_of(11))


def busy_holder(scene: Scene) -> None:
    scene.register("box", label_of(GONE_RUN), online=True, busy=True)


def foreign_runner(scene: Scene) -> None:
    scene.register("box", "self-hosted")


def unreadable_run(scene: Scene) -> None:
    scene.over(11)
    scene.register("box", label_of(11))
    scene.desk.add(answer(500, {"message": "Oops"}, path=r"/runs/11$", times=None))


HELD: dict[str, tuple[Callable[[Scene], None], str]] = {
    "a run that goes on": (run_that_goes_on, ""),
    "a job is running on it": (busy_holder, ""),
    "a runner that is not ours": (foreign_runner, ""),
    "a run that cannot be read": (unreadable_run, "Machine box is left"),
}


@pytest.mark.parametrize(("arrange", "said"), HELD.values(), ids=HELD)
def test_a_kept_machine_that_is_held_is_left(
    scene: Scene, arrange: Callable[[Scene], None], said: str
) -> None:
    """Whoever holds the registration holds the machine; unknown means held (pain 9)."""
    scene.keeper.add("box", State.RUNNING)
    arrange(scene)
    told = scene.sweep(**KEEPER)
    assert (told.findings, pauses(scene), scene.desk.names()) == ([], [], ["box"])
    assert said in told.unseen


@pytest.mark.parametrize("needed", [True, False])
def test_a_kept_machine_of_the_watchdogs_own_run(scene: Scene, *, needed: bool) -> None:
    """Its jobs tell, the watchdog's own left out, whatever key the start had."""
    scene.keeper.add("box", State.RUNNING)
    scene.own_job()
    scene.register("box", label_of())
    if needed:
        scene.queue()
    scene.sweep(**KEEPER)
    assert pauses(scene) == ([] if needed else ["pause box"])


@pytest.mark.parametrize("seconds", [30, 59])
def test_a_kept_machine_that_is_taken_between_the_looks_is_left(scene: Scene, seconds: int) -> None:
    """A start has taken the lock meanwhile: its run goes on."""
    scene.keeper.add("box", State.RUNNING)
    scene.after(seconds, lambda: run_that_goes_on(scene))
    told = scene.sweep(**KEEPER)
    assert (told.findings, pauses(scene), scene.desk.names()) == ([], [], ["box"])


def test_a_kept_machine_that_is_taken_at_the_last_moment_is_left(scene: Scene) -> None:
    """Between the second look and our own registration: the 409 tells."""
    scene.keeper.add("box", State.RUNNING)

    def take(number: int, phase: str, request: Request) -> None:
        if phase == "before" and "jitconfig" in request.path and not scene.desk.names():
            run_that_goes_on(scene)

    scene.desk.hub.faults.on_request(take)
    told = scene.sweep(**KEEPER)
    assert (told.code, pauses(scene), scene.desk.names()) == (0, [], ["box"])
    assert told.done == {"machine box": "left: run 11 holds it"}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.PAUSED, ""),
        (State.PENDING, ""),
        (State.ENDING, ""),
        (State.FAILED, "Machine box is failed at keeper."),
        (None, "Machine box is gone at keeper."),
    ],
)
def test_a_kept_machine_that_does_not_run(scene: Scene, state: State | None, said: str) -> None:
    """Nothing is to be done; one that has failed or is not there is worth a word."""
    if state:
        scene.keeper.add("box", state)
    told = scene.sweep(**KEEPER)
    assert (told.code, told.findings, pauses(scene), told.unseen) == (0, [], [], said)


def test_several_kept_machines(scene: Scene) -> None:
    """Each by its own name; what one cloud says about one does not stop the others."""
    for name in ("box", "crate", "crate", "chest"):
        scene.keeper.add(name, State.RUNNING)
    told = scene.sweep(providers="keeper", machine_name="box, crate\nchest")
    assert told.done == {"machine box": "paused", "machine chest": "paused"}
    assert "Machine crate: 2 machines are named crate." in told.unseen


def test_a_pause_that_fails_is_told(scene: Scene) -> None:
    """Exit code 40; the lock is let go, so that a start can take the machine."""
    scene.keeper.add("box", State.RUNNING)
    scene.keeper.failing["pause"] = CloudError("No.", "Look there.")
    told = scene.sweep(**KEEPER)
    assert (told.code, told.ended(), scene.desk.names()) == (40, ("0", "0", "0"), [])
    assert "machine box could not be ended. No. Look there." in told.log


def test_time_is_up(scene: Scene) -> None:
    """What a pass has no time for is left to the next one, and said."""
    for name in ("box", "crate"):
        scene.keeper.add(name, State.RUNNING)
    scene.keeper.lasting = 500.0
    told = scene.sweep(providers="keeper", machine_name="box, crate")
    assert told.done == {
        "machine box": "paused",
        "machine crate": "left for the next pass: time is up",
    }
    assert pauses(scene) == ["pause box"]


# Registrations (pain 15)


def test_of_250_dead_registrations_only_ours_go(scene: Scene) -> None:
    """Those of this repository's runs that are over, offline and without a machine: foreign names,
    online ones, busy ones, those of runs that go on and of other repositories stay (pain 15)."""
    scene.over(11)
    scene.run(12)
    scene.queue(12)
    dead = [name_of(11, index=index) for index in range(60)]
    for index, name in enumerate(dead):
        scene.register(name, label_of(11, index=index))
    lost = start_of(GONE_RUN).name(0)
    scene.register(lost, label_of(GONE_RUN))
    staying = [_stays(scene, number) for number in range(189)]
    told = scene.sweep()
    assert (told.code, told.ended()) == (0, ("0", "0", "61"))
    assert scene.desk.names() == staying
    assert len(scene.deleted()) == 61


def _stays(scene: Scene, number: int) -> str:
    """Register one that is not to be removed, of one kind or another; return its name."""
    index = 100 + number
    ours = name_of(11, index=index), label_of(11, index=index)
    theirs = replace(start_of(11), repository="octo/gadgets")
    other = theirs.name(index), theirs.label(theirs.name(index), "deadbeef")
    goes_on = name_of(12, index=index), label_of(12, index=index)
    kinds: tuple[tuple[tuple[str, str], dict[str, bool]], ...] = (
        ((f"build-box-{number}", "self-hosted"), {}),
        ((f"gpu-ci-box-{number}", "gpu-ci-box"), {}),
        ((ours[0], "self-hosted"), {}),
        (ours, {"online": True}),
        (ours, {"busy": True}),
        (other, {}),
        (goes_on, {}),
    )
    (name, label), state = kinds[number % len(kinds)]
    scene.register(name, label, **state)
    return name


def test_a_registration_whose_machine_lives_goes_with_it(scene: Scene) -> None:
    """Never before it: a machine that boots is offline too."""
    needed(scene)
    told = scene.sweep(**FAKE)
    assert (told.findings, scene.deleted()) == ([], [])
    scene.state.set_run(11, status="completed", conclusion="success")
    assert scene.sweep(**FAKE).ended() == ("0", "1", "0")
    assert scene.desk.names() == []


def test_the_registration_of_a_kept_machine_is_its_lock(scene: Scene) -> None:
    """It has the machine's name, and whoever wants the machine takes it over."""
    scene.over(11)
    scene.register("box", label_of(11))
    assert (scene.sweep().findings, scene.desk.names()) == ([], ["box"])


def test_a_registration_that_comes_to_life_stays(scene: Scene) -> None:
    """Between the two looks, and between the last look and the delete (pain 9)."""
    scene.over(11)
    for index in range(3):
        scene.register(name_of(11, index=index), label_of(11, index=index))
    scene.after(30, lambda: scene.state.set_runner(1, online=True, heard_at=scene.clock.now()))

    def work(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "DELETE" and request.path.endswith("/2"):
            scene.flip(name_of(11, index=1), busy=True)

    scene.desk.hub.faults.on_request(work)
    told = scene.sweep()
    assert (told.code, told.ended()) == (0, ("0", "0", "1"))
    assert told.done[f"registration {name_of(11, index=1)}"] == "left: it is running a job"
    assert len(scene.desk.names()) == 2


def test_a_registration_that_goes_by_itself_is_no_error(scene: Scene) -> None:
    """Somebody's stop was quicker."""
    scene.over(11)
    scene.register(name_of(11), label_of(11))

    def stop(number: int, phase: str, request: Request) -> None:
        if phase == "before" and request.method == "DELETE":
            scene.state.runners.remove(1)

    scene.desk.hub.faults.on_request(stop)
    assert scene.sweep().code == 0


def test_a_registration_that_cannot_be_deleted_is_told(scene: Scene) -> None:
    """Exit code 40, and the others go."""
    scene.over(11)
    for index in range(2):
        scene.register(name_of(11, index=index), label_of(11, index=index))
    scene.desk.add(answer(403, {"message": "No."}, method="DELETE", path="/1$", times=None))
    told = scene.sweep()
    assert (told.code, told.ended()) == (40, ("0", "0", "1"))
    assert scene.desk.names() == [name_of(11)]


def test_a_registration_of_a_run_that_cannot_be_read_stays(scene: Scene) -> None:
    """Unknown is not over."""
    scene.over(11)
    scene.register(name_of(11), label_of(11))
    scene.desk.add(answer(500, {"message": "Oops"}, path=r"/runs/11$", times=None))
    told = scene.sweep()
    assert (told.code, told.findings) == (0, [])
    assert f"{name_of(11)}: whether it is needed is not known" in told.unseen


def test_organisations_runners_of_other_repositories_stay(scene: Scene) -> None:
    """Its runners are registered with the organisation: ours are told by the mark in their names."""
    ours, theirs = start_of(GONE_RUN), replace(start_of(GONE_RUN), repository="octo/gadgets")
    for start in (ours, theirs):
        name = start.name(0)
        scene.state.register("octo", name, [start.label(name, "deadbeef")])
    told = scene.sweep(organization="octo")
    assert told.ended() == ("0", "0", "1")
    assert scene.desk.names() == [theirs.name(0)]


def test_the_runs_of_a_repository_are_asked_for_once_a_look(scene: Scene) -> None:
    """Many registrations of one run cost one request, and the second look costs none."""
    scene.over(11)
    for index in range(30):
        scene.register(name_of(11, index=index), label_of(11, index=index))
    scene.sweep(dry_run="true")
    assert len(scene.desk.calls("GET", r"/runs/11$")) == 2
    assert RUN != 11
    assert scene.state.counted_calls == 5 + 1 + 1  # listings, runners, the run
