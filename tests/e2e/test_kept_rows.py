"""What the hand-written template for JarvisLabs does, and where it was wrong: row by row."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
import requests
from tests.e2e.conftest import BOX, HOUR
from tests.pace import PATIENCE

from gpu_ci.errors import (
    CloudUnreachable,
    InUse,
    MachineEnded,
    NameShared,
    NeverOnline,
    NoCapacity,
    NoSuchMachine,
    NotPermitted,
    QuotaExceeded,
    StillThere,
    WrongRequest,
)
from gpu_ci_sandbox.faults import answer, lose_answer

if TYPE_CHECKING:
    from tests.e2e.conftest import Box

RESUME = r"/resume$"


def test_an_unknown_name(box: Box) -> None:
    """No such name is an error of its own, by the exact case of its letters (row 1.1)."""
    assert box.run("start", machine_name="gpu-bo") == NoSuchMachine.exit_code, box.told()
    assert box.run("start", machine_name=BOX.upper()) == NoSuchMachine.exit_code, box.told()
    assert box.left() == []


def test_a_shared_name(box: Box) -> None:
    """Two machines of the name are refused, with their ids (row 1.1)."""
    other = box.jarvislabs.add_machine(BOX)
    ids = [each.id for each in box.jarvislabs.machines()]
    assert box.run("start") == NameShared.exit_code, box.told()
    assert other.id in ids
    assert all(str(each) in box.told() for each in ids)
    assert box.left() == []


def test_a_paused_machine_is_resumed(box: Box) -> None:
    """One resume, whole, at the region's host; what it answers is the id (row 1.2)."""
    before = box.jarvislabs.machine(BOX)
    assert box.run("start") == 0, box.told()
    (resume,) = box.jarvislabs.faults.calls("POST", RESUME)
    body = json.loads(resume.body)
    assert body["machine_id"] == before.id
    assert (body["gpu_type"], body["num_gpus"], body["hdd"]) == ("A100", 1, before.hdd)
    assert (body["name"], body["duration"], body["is_spot"]) == (BOX, "hour", False)
    assert isinstance(body["script_id"], int)
    after = box.jarvislabs.machine(BOX)
    assert after.id != before.id
    assert box.output("machine-id") == str(after.id)
    assert box.output("started") == "true"


def test_a_running_machine_is_restarted(box: Box) -> None:
    """Without a way in, a machine that runs for nobody is paused and resumed (row 1.3)."""
    box.jarvislabs.start_by_hand(BOX)
    assert box.run("start") == 0, box.told()
    assert len(box.jarvislabs.faults.calls("POST", r"/pause\?")) == 1
    assert len(box.jarvislabs.faults.calls("POST", RESUME)) == 1
    assert "running already" in box.told()


def test_a_machine_on_its_way_is_waited_for(box: Box) -> None:
    """A start that meets it while it is pausing resumes it when it is paused (row 1.4)."""
    box.jarvislabs.settings.pausing_seconds = 1.0
    assert box.run("start") == 0, box.told()
    box.world.end_run()
    requests.post(
        f"{box.jarvislabs.url}/misc/pause",
        params={"machine_id": str(box.jarvislabs.machine(BOX).id)},
        headers=_bearer(box),
        timeout=PATIENCE,
    )
    assert box.status() == "Pausing"
    box.world.next_run()
    assert box.run("start") == 0, box.told()
    assert box.status() == "Running"


def test_a_machine_that_never_arrives(box: Box) -> None:
    """At the deadline the last state is named, and the machine is put away (row 1.4)."""
    assert box.run("start") == 0, box.told()
    box.jarvislabs.settings.now = box.now
    box.jarvislabs.settings.pausing_seconds = 1.5 * HOUR
    assert box.run("stop", handle=box.output("handle"), release="keep") == 0, box.told()
    requests.post(
        f"{box.jarvislabs.url}/misc/pause",
        params={"machine_id": str(box.jarvislabs.machine(BOX).id)},
        headers=_bearer(box),
        timeout=PATIENCE,
    )
    box.hour_passes_at("GET fetch", "after")  # when it has been seen to be pausing
    box.hour_passes_at("GET fetch", "before", nth=3)  # when it is waited for to be put away
    assert box.run("start") == MachineEnded.exit_code, box.told()
    assert "pending until the deadline" in box.told()
    assert box.left() == []


REFUSALS = {
    "false flag": ({"success": False, "message": "Something broke"}, 200, WrongRequest),
    "misspelt false flag": ({"sucess": "False", "error": "Something broke"}, 200, WrongRequest),
    "error in a dictionary": ({"error": {"message": "Something broke"}}, 500, CloudUnreachable),
    "bad key": ({"message": "Invalid token"}, 401, NotPermitted),
    "no balance": ({"message": "Insufficient balance"}, 403, QuotaExceeded),
    "invalid": (
        {"detail": [{"loc": ["body", "hdd"], "msg": "Something broke", "type": "x"}]},
        422,
        WrongRequest,
    ),
    "no capacity": ({"message": "No free A100 GPUs available"}, 400, NoCapacity),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_resume(box: Box, name: str) -> None:
    """Each way to refuse is red with its cause, and leaves nothing (row 1.5)."""
    body, status, error = REFUSALS[name]
    box.jarvislabs.faults.add(answer(status, body, path=RESUME, times=None))
    box.hour_passes_at("POST resume", "after")
    assert box.run("start") == error.exit_code, box.told()
    text = json.dumps(body)
    (cause,) = re.findall(r"Something broke|Invalid token|Insufficient balance|No free", text)
    assert cause in box.told()
    assert box.left() == []


def test_a_lost_answer_to_a_resume(box: Box) -> None:
    """It is looked up by its name and used; there is no second resume (row 1.6, pain 25)."""
    box.jarvislabs.faults.add(lose_answer(path=RESUME))
    assert box.run("start") == 0, box.told()
    assert len(box.jarvislabs.faults.calls("POST", RESUME)) == 1
    assert box.output("machine-id") == str(box.jarvislabs.machine(BOX).id)


def test_one_script_for_all_runs(box: Box) -> None:
    """Made once, then updated in place: never one per run (row 1.7)."""
    bodies = []
    for _ in range(3):
        assert box.run("start") == 0, box.told()
        (body,) = box.jarvislabs.scripts().values()
        bodies.append(body)
        assert box.run("stop", handle=box.output("handle")) == 0, box.told()
        box.world.end_run()
        box.world.next_run()
    assert len(set(bodies)) == 3
    assert len(box.jarvislabs.faults.calls("POST", "scripts/add")) == 1


def test_the_registration_is_nobody_elses(box: Box) -> None:
    """Its config is masked and in no output, its label holds a random part (rows 1.9, 1.11)."""
    assert box.run("start") == 0, box.told()
    (runner,) = box.world.served.github.all_runners()
    label = box.output("label")
    assert runner.name == BOX
    assert label in {each.name for each in runner.labels}
    assert re.fullmatch(rf"gpu-ci-{box.world.run_id}-1-.*-[0-9a-f]{{8}}", label)
    (script,) = box.jarvislabs.scripts().values()
    (config,) = re.findall(r"^JIT_CONFIG='?([^'\s]+)", script, re.MULTILINE)
    assert config not in box.log.with_suffix(".output").read_text()
    assert config not in box.told()


def test_a_runner_that_never_comes(box: Box) -> None:
    """Listed but offline is not online: at the deadline it fails and is paused (row 1.10)."""
    box.jarvislabs.settings.on_running = None
    box.hour_passes_at("POST resume", "after")
    assert box.run("start") == NeverOnline.exit_code, box.told()
    assert box.left() == []


def test_a_stop_of_what_is_paused(box: Box) -> None:
    """A second stop is green and calls no pause (row 1.12)."""
    assert box.run("start") == 0, box.told()
    handle = box.output("handle")
    assert box.run("stop", handle=handle) == 0, box.told()
    assert box.run("stop", handle=handle) == 0, box.told()
    assert len(box.jarvislabs.faults.calls("POST", r"/pause\?")) == 1
    assert box.left() == []


def test_a_stop_whose_pause_is_not_answered(box: Box) -> None:
    """An error is read back before it is believed (row 1.12, pain 25)."""
    assert box.run("start") == 0, box.told()
    box.jarvislabs.faults.add(lose_answer(path=r"/pause\?"))
    assert box.run("stop", handle=box.output("handle")) == 0, box.told()
    assert box.left() == []


def test_a_stop_of_what_is_not_there(box: Box) -> None:
    """A machine that somebody destroyed is a success that says so (row 1.12)."""
    assert box.run("start") == 0, box.told()
    handle = box.output("handle")
    requests.post(
        f"{box.jarvislabs.url}/misc/destroy",
        params={"machine_id": str(box.jarvislabs.machine(BOX).id)},
        headers=_bearer(box),
        timeout=PATIENCE,
    )
    assert box.run("stop", handle=handle) == 0, box.told()
    assert re.search("no machine has this name|it is ending", box.told())
    assert box.world.runner_names() == []


def test_the_bill(box: Box) -> None:
    """Stop says how long it was billed, what that cost, and what the disk goes on to cost."""
    assert box.run("start") == 0, box.told()
    assert box.run("stop", handle=box.output("handle"), machine_name=BOX) == 0, box.told()
    assert re.search(r"paused, its disk costs about 10\.22 USD a month: billed for", box.told())
    assert float(box.output("cost").removesuffix(" USD")) > 0
    assert box.output("stopped") == "1"


def test_the_doctor(box: Box) -> None:
    """Key, balance, machine, lock and scripts are looked at, and nothing is changed."""
    assert box.run("start", dry_run="true") == 0, box.told()
    lines = [line for line in box.told().splitlines() if line.startswith(("ok", "FAIL"))]
    assert all(line.startswith("ok") for line in lines), box.told()
    assert f"{BOX}: free" in box.told()
    assert [call for call in box.calls() if not call.startswith("GET")] == []


def test_the_doctor_sees_who_has_the_machine(box: Box) -> None:
    """A lock of another run is a failed check with its cure."""
    assert box.run("start") == 0, box.told()
    holder = box.world.run_id
    box.world.next_run()
    assert box.run("start", dry_run="true") == 3, box.told()
    assert f"FAIL Lock: {BOX}: run {holder} holds it A start would wait" in box.told()


def test_a_run_of_a_fork(box: Box) -> None:
    """Without secrets: one clear sentence, and nobody is asked anything (row 1.15, pain 47)."""
    box.world.token = ""
    env = box.env("start") | {"JL_API_KEY": ""}
    box.zygote.fork("start", env, box.log)
    assert box.zygote.wait() == 2
    (line,) = [line for line in box.told().splitlines() if line.strip()]
    assert "pull request from a fork" in line
    assert "JL_API_KEY and github-token" in line
    assert box.calls() == []


def test_an_odd_branch(box: Box) -> None:
    """A branch's name is data that nothing here reads (row 1.16)."""
    env = box.env("start") | {
        "GITHUB_HEAD_REF": 'a";id;"$(id)`id`',
        "GITHUB_REF": "refs/heads/a;id",
    }
    box.zygote.fork("start", env, box.log)
    assert box.zygote.wait() == 0, box.told()
    assert "uid=" not in box.told()


# --- what the template turns green -----------------------------------------------------------------


def test_a_failed_resume_is_red(box: Box) -> None:
    """The template's client returns the error and its step is green; here it is red."""
    box.jarvislabs.faults.add(
        answer(400, {"message": "No free A100 GPUs"}, path=RESUME, times=None)
    )
    assert old_start(box) == "completed"
    assert box.status() == "Paused"
    box.hour_passes_at("POST resume", "after")
    assert box.run("start") == NoCapacity.exit_code, box.told()


def test_a_refused_pause_is_red(box: Box) -> None:
    """The template prints "completed" and the machine is billed on; here stop fails and says it."""
    assert box.run("start") == 0, box.told()
    box.jarvislabs.settings.refuse_pause = True
    assert old_stop(box) == "completed"
    assert box.status() == "Running"
    assert box.run("stop", handle=box.output("handle")) == StillThere.exit_code, box.told()
    assert f"Machine {BOX} may be running" in box.told()
    box.jarvislabs.settings.refuse_pause = False
    assert box.run("stop") == 0, box.told()
    assert box.status() == "Paused"


def test_a_stop_while_it_resumes_pauses(box: Box) -> None:
    """The template pauses only what says Running; here the stop waits for it, and pauses it."""
    box.jarvislabs.settings.resuming_seconds = 1.5
    box.kill_at("POST resume", "after", 9)
    assert box.run("start") == -9
    assert box.status() == "Resuming"
    assert old_stop(box) == "completed"
    assert box.status() == "Resuming"
    box.all_well_again()
    box.start_job_is_over()
    assert box.run("stop") == 0, box.told()
    assert box.left() == []


def test_a_second_run_does_not_pause_the_firsts_machine(box: Box) -> None:
    """The template's second run fails on "Running", and its stop pauses the first one's machine;
    here the second waits, and its stop leaves what another run holds (row 1.14)."""
    assert box.run("start") == 0, box.told()
    first, label = box.world.run_id, box.output("label")
    github = box.world.served.github
    job = github.queue_job(first, "test", [label])
    (runner,) = github.all_runners()
    github.set_runner(runner.id, job_id=job.id)
    github.set_job(job.id, status="in_progress", runner_name=BOX)
    box.world.next_run()
    box.hour_passes_at("GET runners", "after", nth=3)
    assert box.run("start") == InUse.exit_code, box.told()
    assert f"run {first} is running a job on it" in box.told()
    assert box.run("stop") == 0, box.told()
    assert box.status() == "Running"
    assert box.world.runner_names() == [BOX]
    assert old_stop(box) == "completed"
    assert box.status() in {"Pausing", "Paused"}, "the template would have paused it"


def old_start(box: Box) -> str:
    """Do what the template's start does: resume, and believe in it."""
    machine = box.jarvislabs.machine(BOX)
    assert machine.status != "Running", "it raises then"
    body = {"machine_id": machine.id, "gpu_type": "A100", "num_gpus": 1, "hdd": 100, "name": BOX}
    body |= {"is_spot": False, "duration": "hour", "script_id": None, "script_args": ""}
    body |= {"http_ports": "", "fs_id": None, "arguments": ""}
    requests.post(
        f"{box.jarvislabs.url}/templates/pytorch/resume",
        json=body,
        headers=_bearer(box),
        timeout=PATIENCE,
    )
    return "completed"


def old_stop(box: Box) -> str:
    """Do what the template's stop does: pause what says Running, and believe in it."""
    machine = box.jarvislabs.machine(BOX)
    if machine.status == "Running":
        requests.post(
            f"{box.jarvislabs.url}/misc/pause",
            params={"machine_id": str(machine.id)},
            headers=_bearer(box),
            timeout=PATIENCE,
        )
    return "completed"


def _bearer(box: Box) -> dict[str, str]:
    return {"Authorization": f"Bearer {box.jarvislabs.environment()['JL_API_KEY']}"}
