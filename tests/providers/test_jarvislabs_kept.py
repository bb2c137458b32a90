"""Machines of JarvisLabs that are kept: found by name, resumed, paused, and believed only when read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci.errors import (
    CloudError,
    CloudUnreachable,
    InUse,
    NameShared,
    NoCapacity,
    NoSuchMachine,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate, keeper
from gpu_ci.providers.jarvislabs.api import HOSTS
from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions
from gpu_ci.providers.jarvislabs.pause_and_destroy import LOOK_SECONDS, PATIENT_LOOK_SECONDS
from gpu_ci.providers.jarvislabs.startup_text import starting
from gpu_ci_sandbox import faults as f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes import FakeClock
    from tests.providers.conftest import JarvisLabsWorld

    from gpu_ci.model.machine import Machine
    from gpu_ci.providers import Order
    from gpu_ci.providers.http import Call
    from gpu_ci.providers.jarvislabs.jarvislabs_provider import JarvisLabs
    from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs as Cloud
    from gpu_ci_sandbox.fake_jarvislabs import MachineRecord

NAME = "gpu-box"
RESUME = "/resume"
PAUSE = "misc/pause"


@pytest.fixture
def provider(jarvislabs_world: JarvisLabsWorld) -> JarvisLabs:
    return jarvislabs_world.provider()


@pytest.fixture
def order(jarvislabs_world: JarvisLabsWorld) -> Order:
    """An order for the kept machine, of whatever type it has."""
    order = jarvislabs_world.order(name=NAME)
    return replace(order, candidate=Candidate(type=""), kept=True)


def paused(jarvislabs: Cloud, **fields: Any) -> MachineRecord:
    return jarvislabs.add_machine(NAME, **({"gpu_type": "L4"} | fields))


def kept(provider: JarvisLabs) -> Machine:
    found = provider.kept(NAME)
    assert found
    return found[0]


def posts(cloud: Cloud, part: str) -> list[str]:
    """Where something was posted to, in order."""
    posted = [each for each in cloud.faults.requests if each.method == "POST" and part in each.path]
    return [each.path for each in posted]


def body_of(cloud: Cloud, part: str) -> dict[str, Any]:
    (body,) = [each.body for each in cloud.faults.requests if part in each.path]
    loaded: dict[str, Any] = json.loads(body)
    return loaded


# Finding it by its name


def test_it_is_a_keeper(provider: JarvisLabs) -> None:
    """It says so."""
    assert keeper(provider) is provider


def test_exactly_this_name(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """Exact and case-sensitive, and none is none (row 1.1)."""
    for name in ("GPU-box", "gpu-box2", "gpu-bo"):
        jarvislabs.add_machine(name)
    assert provider.kept(NAME) is None
    record = paused(jarvislabs)
    machine, state = provider.kept(NAME) or (None, None)
    assert machine
    assert (machine.id, machine.name, state) == (str(record.id), NAME, State.PAUSED)
    assert (machine.kept, machine.launched_at, machine.type) == (True, 0.0, "L4")
    assert machine.tags.run_id == ""


def test_a_shared_name(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """Two machines of one name are refused, with their ids (row 1.1)."""
    ids = [paused(jarvislabs).id, paused(jarvislabs).id]
    with pytest.raises(NameShared, match=rf"{ids[0]} .*{ids[1]} "):
        provider.kept(NAME)


def test_one_that_is_destroyed_shares_no_name(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """It is told while it is the only one, and does not count beside another."""
    jarvislabs.settings.destroying_seconds = 3600
    gone = paused(jarvislabs)
    provider.release(kept(provider))
    assert provider.kept(NAME) == (kept(provider), State.ENDING)
    there = paused(jarvislabs)
    assert kept(provider).id == str(there.id) != str(gone.id)


def test_no_list_is_no_absence(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """An outage is an error and never "there is no such machine"."""
    jarvislabs.faults.add(f.answer(503, "", times=None))
    with pytest.raises(CloudUnreachable):
        provider.kept(NAME)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Running", State.RUNNING),
        ("PAUSED", State.PAUSED),
        ("Failed", State.FAILED),
        ("Destroying", State.ENDING),
        ("Resuming", State.PENDING),
        ("Something", State.PENDING),
    ],
)
def test_its_state(provider: JarvisLabs, jarvislabs: Cloud, word: str, state: State) -> None:
    """In any case of letters; whatever is not known is on its way (row 1.4)."""
    row = {"machine_id": 7, "instance_name": NAME, "status": word}
    rows = {"success": True, "instances": [row]}
    jarvislabs.faults.add(f.answer(200, rows, path="users/fetch"))
    assert (provider.kept(NAME) or (None, None))[1] is state


# Resuming


def test_what_it_is_resumed_with(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """The whole body, from the row, with the script; the new id is the answer's (row 1.2)."""
    record = paused(jarvislabs, num_gpus=2, hdd=150)
    machine = kept(provider)
    clock.sleep(5)
    up = provider.resume(machine, order)
    (script_id,) = [script.id for script in jarvislabs._account.scripts]
    assert body_of(jarvislabs, RESUME) == {
        "machine_id": record.id,
        "gpu_type": "L4",
        "num_gpus": 2,
        "hdd": 150,
        "name": NAME,
        "is_spot": False,
        "duration": "hour",
        "http_ports": "",
        "script_id": script_id,
        "script_args": "",
        "fs_id": None,
        "arguments": "",
    }
    assert up.id == str(jarvislabs.machine(NAME).id) != machine.id
    assert (up.kept, up.started, up.launched_at) == (True, True, clock.now())
    assert (up.tags, up.region, up.type) == (order.tags, "india-noida-01", "L4")


def test_it_is_resumed_as_another_type(
    jarvislabs_world: JarvisLabsWorld, order: Order, jarvislabs: Cloud
) -> None:
    """Type, GPUs, ports and market as ordered; the disk only grows; spot has to be said again."""
    paused(jarvislabs, hdd=150, is_spot=True)
    jarvislabs_world.options = JarvisLabsOptions(num_gpus=4, http_ports="80")
    provider = jarvislabs_world.provider()
    spot = replace(order, candidate=Candidate(type="A100", market="spot"), disk_gb=120)
    up = provider.resume(kept(provider), spot)
    body = body_of(jarvislabs, RESUME)
    assert (body["gpu_type"], body["num_gpus"], body["hdd"]) == ("A100", 4, 150)
    assert (body["is_spot"], body["http_ports"]) == (True, "80")
    assert (up.type, up.market) == ("A100", "spot")
    assert provider.state(up) is State.PENDING


def test_what_the_machine_has_is_kept(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """Ports and filesystem are sent again, or they might be lost."""
    with jarvislabs._account.turn():
        data = jarvislabs._account.add_filesystem("data", 50, "india-noida-01")
    paused(jarvislabs, fs_id=data.fs_id)
    with jarvislabs._account.turn():
        jarvislabs._account.machines[0].http_ports = "6006"
    provider.resume(kept(provider), order)
    body = body_of(jarvislabs, RESUME)
    assert (body["fs_id"], body["http_ports"]) == (data.fs_id, "6006")


@pytest.mark.parametrize("region", ["india-chennai-01", "europe-01"])
def test_it_is_resumed_where_it_is(
    jarvislabs_world: JarvisLabsWorld,
    order: Order,
    jarvislabs: Cloud,
    region: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At its region's host, whatever region was wished; pause too (row 1.2)."""
    for each, url in jarvislabs.hosts.items():
        monkeypatch.setitem(HOSTS, each, url)
    del jarvislabs_world.env["JL_API_URL"]
    paused(jarvislabs, region=region, gpu_type="H100" if region == "europe-01" else "L4")
    provider = jarvislabs_world.provider()
    wished = replace(order, candidate=Candidate(type="", region="india-noida-01"))
    provider.pause(provider.resume(kept(provider), wished))
    assert posts(jarvislabs, RESUME) == [f"/{region}/templates/pytorch/resume"]
    assert posts(jarvislabs, PAUSE) == [f"/{region}/misc/pause"]


@pytest.mark.parametrize(
    "case",
    [
        ("pytorch", "L4", "misc"),
        ("vm", "L4", "templates/vm"),
        ("vm", "CPU", "templates/vm/cpu"),
    ],
)
def test_each_kind_has_its_paths(
    jarvislabs_world: JarvisLabsWorld,
    order: Order,
    jarvislabs: Cloud,
    case: tuple[str, str, str],
) -> None:
    """Containers, virtual machines, and those without a GPU (row 1.12)."""
    template, gpu_type, path = case
    paused(jarvislabs, template=template, gpu_type=gpu_type, **_plan(gpu_type))
    provider = jarvislabs_world.provider()
    up = provider.resume(kept(provider), order)
    provider.pause(up)
    assert posts(jarvislabs, RESUME) == [
        f"/templates/{'vm/cpu' if gpu_type == 'CPU' else template}/resume"
    ]
    assert posts(jarvislabs, "/pause") == [f"/{path}/pause"]
    provider.release(kept(provider))
    assert posts(jarvislabs, "/destroy") == [f"/{path}/destroy"]


def _plan(gpu_type: str) -> dict[str, int]:
    return {"vcpus": 4, "ram_gb": 16} if gpu_type == "CPU" else {}


@pytest.mark.parametrize(
    "rule",
    [f.lose_answer(path=RESUME), f.truncate(path=RESUME), f.garble(path=RESUME)],
    ids=lambda rule: rule.do,
)
def test_a_resume_whose_answer_is_lost(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, rule: f.Rule
) -> None:
    """It is looked up by its name, with its new id, and not resumed again (row 1.6)."""
    before = paused(jarvislabs)
    jarvislabs.faults.add(rule)
    up = provider.resume(kept(provider), order)
    assert up.id == str(jarvislabs.machine(NAME).id) != str(before.id)
    assert len(posts(jarvislabs, RESUME)) == 1


def test_a_resume_that_never_lands(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """Still paused after fifteen seconds of looking: said so, and asked once (row 1.6)."""
    paused(jarvislabs)
    jarvislabs.faults.add(f.drop(path=RESUME))
    with pytest.raises(CloudUnreachable, match=r"not known: gpu-box is not up"):
        provider.resume(kept(provider), order)
    assert sum(clock.slept) == pytest.approx(15, abs=1)
    assert len(posts(jarvislabs, RESUME)) == 1


@pytest.mark.parametrize(
    "case",
    [
        (200, {"success": False, "message": "No free L4 GPUs"}, NoCapacity),
        (200, {"sucess": "False", "error": "odd"}, WrongRequest),
        (400, {"message": "no capacity"}, NoCapacity),
        (401, {"message": "Invalid token"}, NotPermitted),
        (403, {"message": "Insufficient balance"}, QuotaExceeded),
        (403, {"message": "Machine does not belong to this user"}, NotPermitted),
        (404, {"message": "Machine not found"}, NoSuchMachine),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}, WrongRequest),
        (500, {"message": "oops"}, CloudUnreachable),
        (200, {"success": True}, CloudUnreachable),
    ],
)
def test_a_resume_that_fails(
    provider: JarvisLabs,
    order: Order,
    jarvislabs: Cloud,
    case: tuple[int, object, type[CloudError]],
) -> None:
    """Every way to say no is an error of its class, and the machine is still paused (row 1.5)."""
    status, content, expected = case
    paused(jarvislabs)
    jarvislabs.faults.add(f.answer(status, content, path=RESUME))
    with pytest.raises(expected):
        provider.resume(kept(provider), order)
    assert jarvislabs.machine(NAME).status == "Paused"
    assert len(posts(jarvislabs, RESUME)) == 1


def test_an_error_is_read_back(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """A resume that was answered with an error, and happened, is a resume (row 1.5)."""
    paused(jarvislabs)
    machine = kept(provider)
    jarvislabs.faults.add(f.answer(400, {"message": "odd"}, path=RESUME))
    send = provider._api.send

    def send_and_land(call: Call) -> Any:
        try:
            return send(call)
        finally:
            if call.path.endswith(RESUME):
                jarvislabs.start_by_hand(NAME)

    provider._api.send = send_and_land  # type: ignore[method-assign]  # it happens all the same
    assert provider.resume(machine, order).id == str(jarvislabs.machine(NAME).id)


def test_an_error_that_cannot_be_read_back(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """Then nobody knows whether the machine is up."""
    paused(jarvislabs)
    machine = kept(provider)
    jarvislabs.faults.add(f.answer(400, {"message": "no capacity"}, path=RESUME))
    jarvislabs.faults.add(f.answer(503, "", path="users/fetch", nth=2, times=None))
    with pytest.raises(CloudUnreachable, match="its row cannot be read"):
        provider.resume(machine, order)


def test_nothing_is_free_for_it(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """Told by the catalogue, before a script is sent."""
    jarvislabs.settings.free["L4", "india-noida-01"] = 0
    paused(jarvislabs)
    with pytest.raises(NoCapacity):
        provider.resume(kept(provider), order)
    assert not jarvislabs.scripts()
    assert posts(jarvislabs, RESUME) == []


def test_its_own_type_need_not_be_on_sale(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """What the catalogue does not list may still be resumed; spot and other types may not."""
    paused(jarvislabs)
    machine = kept(provider)
    catalogue = {"success": True, "server_meta": []}
    jarvislabs.faults.add(f.answer(200, catalogue, path="server_meta", times=None))
    for other in (Candidate(type="", market="spot"), Candidate(type="A100")):
        with pytest.raises(WrongHere):
            provider.resume(machine, replace(order, candidate=other))
    assert provider.resume(machine, order).id


@pytest.mark.parametrize("status", ["Running", "Failed"])
def test_it_is_not_paused_any_more(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, status: str
) -> None:
    """Only a paused machine is resumed; nothing is sent to another (row 1.4)."""
    record = paused(jarvislabs, status=status)
    with pytest.raises(InUse, match=f"{record.id} .* is {status}, though"):
        provider.resume(kept(provider), order)
    assert posts(jarvislabs, "") == []


def test_it_is_gone(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """One that was removed or renamed meanwhile is an error of its own (row 1.1)."""
    paused(jarvislabs)
    machine = kept(provider)
    jarvislabs.reset()
    jarvislabs.settings.now = clock.now
    for act in (provider.resume, provider.adopt):
        with pytest.raises(NoSuchMachine, match="'gpu-box' any more"):
            act(machine, order)


def test_run_after_run_is_one_script(
    provider: JarvisLabs, jarvislabs_world: JarvisLabsWorld, order: Order, jarvislabs: Cloud
) -> None:
    """Run after run the same script is updated, as the room for them is small (row 1.7)."""
    paused(jarvislabs)
    for turn in range(4):
        each = jarvislabs_world.provider()
        up = each.resume(kept(each), replace(order, boot_script=f"echo {turn}\n"))
        each.pause(up)
    assert jarvislabs.scripts() == {"gpu-ci.gpu-box.octo.widgets": starting(NAME, "echo 3\n")}
    assert len(jarvislabs.machine(NAME).scripts) == 4


def test_it_is_made_when_there_is_none(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """With a type it is created under its name; without one that is missing."""
    with pytest.raises(WrongRequest, match="'gpu-box'"):
        provider.launch(order)
    machine = provider.launch(replace(order, candidate=Candidate(type="L4")))
    assert (machine.kept, machine.name) == (True, NAME)
    assert jarvislabs.machine(NAME).gpu_type == "L4"
    assert provider.find({}, []) == []


def test_it_is_resumed_again_in_the_same_run(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """Paused under a start, it is resumed with the script that is there already."""
    paused(jarvislabs)
    provider.resume(kept(provider), order)
    jarvislabs.reclaim(NAME)
    provider.pause(kept(provider))
    provider.resume(kept(provider), order)
    assert posts(jarvislabs, "scripts/") == ["/scripts/add"]


# Pausing


def test_paused_is_success(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """A paused machine is left alone, at once (row 1.12)."""
    paused(jarvislabs)
    provider.pause(kept(provider))
    assert posts(jarvislabs, "") == []


def test_pause_is_read_back(provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock) -> None:
    """It returns within a second after the row says Paused, and not before (row 1.12)."""
    jarvislabs.settings.pausing_seconds = 30
    paused(jarvislabs, status="Running")
    machine, began = kept(provider), clock.now()
    provider.pause(machine)
    assert jarvislabs.machine(NAME).status == "Paused"
    assert 30 <= clock.now() - began <= 31
    assert posts(jarvislabs, PAUSE) == ["/misc/pause"]


@pytest.mark.parametrize("words", ["Resuming", "Booting", "something new"])
def test_it_waits_for_a_machine_on_its_way(
    provider: JarvisLabs,
    order: Order,
    jarvislabs: Cloud,
    clock: FakeClock,
    words: str,
) -> None:
    """A machine that is resuming cannot be paused: it is waited for, then paused (row 1.12)."""
    jarvislabs.settings.resuming_seconds = 240
    jarvislabs.settings.status_words["Resuming"] = words
    paused(jarvislabs)
    began = clock.now()
    provider.pause(provider.resume(kept(provider), order))
    assert jarvislabs.machine(NAME).status == "Paused"
    assert 240 <= clock.now() - began <= 245
    assert posts(jarvislabs, PAUSE) == ["/misc/pause"]
    assert set(clock.slept) >= {LOOK_SECONDS, PATIENT_LOOK_SECONDS}


def test_a_new_id_is_followed_by_name(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """A handle with the id of before is good enough (row 1.12)."""
    paused(jarvislabs)
    before = kept(provider)
    after = provider.resume(before, order)
    assert before.id != after.id
    provider.pause(before)
    assert jarvislabs.machine(NAME).status == "Paused"
    assert provider.state(before) is provider.state(after) is State.PAUSED


@pytest.mark.parametrize(
    "rule",
    [
        f.lose_answer(path=PAUSE),
        f.answer(500, {"message": "oops"}, path=PAUSE),
        f.answer(200, {"success": False, "message": "odd"}, path=PAUSE),
        f.drop(path=PAUSE),
        f.answer(503, "", path="users/fetch", nth=3, times=6),
    ],
    ids=["lost", "500", "false flag", "dropped", "outage"],
)
def test_a_pause_with_trouble(provider: JarvisLabs, jarvislabs: Cloud, rule: f.Rule) -> None:
    """An error is not believed, and asked again where the row says that nothing came of it
    (row 1.12)."""
    paused(jarvislabs, status="Running")
    jarvislabs.faults.add(rule)
    provider.pause(kept(provider))
    assert jarvislabs.machine(NAME).status == "Paused"


def test_a_success_is_not_believed(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """A pause that was answered with success, and did not happen, is asked for again."""
    paused(jarvislabs, status="Running")
    jarvislabs.faults.add(f.answer(200, {"success": True}, path=PAUSE))
    provider.pause(kept(provider))
    assert jarvislabs.machine(NAME).status == "Paused"
    assert len(posts(jarvislabs, PAUSE)) == 2


def test_it_cannot_be_paused(provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock) -> None:
    """Refused three times, each a quarter of a minute after the other: it is said, with the state
    and the last answer (row 1.12)."""
    jarvislabs.settings.refuse_pause = True
    paused(jarvislabs, status="Running")
    began = clock.now()
    with pytest.raises(CloudError, match=r"is Running, and every pause was refused.*not be paused"):
        provider.pause(kept(provider))
    assert len(jarvislabs.faults.calls("POST", PAUSE)) == 3
    assert clock.now() - began <= 45


def test_it_is_never_paused(provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock) -> None:
    """Accepted and never done: after ten minutes it is said, with the last state (row 1.12)."""
    paused(jarvislabs, status="Running")
    jarvislabs.faults.add(f.answer(200, {"success": True}, path=PAUSE, times=None))
    began = clock.now()
    with pytest.raises(CloudError, match=r"after 10 minutes; it was Running"):
        provider.pause(kept(provider))
    assert 600 <= clock.now() - began <= 605


def test_a_key_that_may_not(provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock) -> None:
    """A refused key is told as soon as the row was read again."""
    paused(jarvislabs, status="Running")
    denied = {"message": "Machine does not belong to this user"}
    jarvislabs.faults.add(f.answer(403, denied, path=PAUSE, times=None))
    with pytest.raises(NotPermitted, match="does not belong"):
        provider.pause(kept(provider))
    assert sum(clock.slept) <= 2


def test_a_missing_machine_is_success(
    provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """Gone is not billed; but it must be missing for some seconds (row 1.12)."""
    paused(jarvislabs)
    machine = kept(provider)
    jarvislabs.reset()
    jarvislabs.settings.now = clock.now
    provider.pause(machine)
    assert 5 <= sum(clock.slept) <= 6


def test_a_machine_that_reappears_is_paused(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """One list without it, as while its id changes, is not the end of it."""
    paused(jarvislabs, status="Running")
    machine = kept(provider)
    nothing = {"success": True, "instances": []}
    jarvislabs.faults.add(f.answer(200, nothing, path="users/fetch", times=4))
    provider.pause(machine)
    assert jarvislabs.machine(NAME).status == "Paused"


def test_a_renamed_machine_is_paused(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """Somebody gave it another name: it is still what we started, by its id."""
    paused(jarvislabs, status="Running")
    machine = kept(provider)
    with jarvislabs._account.turn():
        jarvislabs._account.machines[0].name = "mine now"
    provider.pause(machine)
    assert jarvislabs.machine("mine now").status == "Paused"


def test_what_is_left_of_an_old_id(
    provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """Beside a paused row of the id that we know, another of the name is not overlooked."""
    paused(jarvislabs)
    machine = kept(provider)
    paused(jarvislabs, status="Running")
    with pytest.raises(CloudError, match="2 machines are named"):
        provider.pause(machine)
    assert posts(jarvislabs, PAUSE) == []


def test_a_failed_machine_gets_one_pause(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """It may help; otherwise a person has to look (row 1.12)."""
    paused(jarvislabs, status="Failed")
    provider.pause(kept(provider))
    assert jarvislabs.machine(NAME).status == "Paused"
    jarvislabs.reset()
    jarvislabs.settings.refuse_pause = True
    paused(jarvislabs, status="Failed")
    with pytest.raises(CloudError, match=r"is Failed, and a pause did not change that.*support"):
        provider.pause(kept(provider))
    assert len(posts(jarvislabs, PAUSE)) == 1


def test_a_region_without_a_host(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """A machine in a region that is gone is an error at once, not after ten minutes."""
    row = {"machine_id": 7, "instance_name": NAME, "status": "Running", "region": "india-01"}
    rows = {"success": True, "instances": [row]}
    jarvislabs.faults.add(f.answer(200, rows, path="users/fetch", times=None))
    with pytest.raises(WrongRequest, match="india-01"):
        provider.pause(kept(provider))


@pytest.mark.parametrize(
    ("script", "refused"),
    [
        ("gpu-ci.gpu-box.octo.other", True),
        ("gpu-ci.gpu-box.octo.widgets", False),
        ("gpu-ci.gpu-box.octo", False),
        ("gpu-ci.gpu-box2.octo.other", False),
    ],
)
@pytest.mark.parametrize("hurried", [False, True])
def test_a_machine_of_others_is_not_paused(
    jarvislabs_world: JarvisLabsWorld,
    jarvislabs: Cloud,
    script: str,
    *,
    refused: bool,
    hurried: bool,
) -> None:
    """A stop that knows only the name, and a start that is cancelled, must not pause what another
    repository uses."""
    paused(jarvislabs, status="Running")
    with jarvislabs._account.turn():
        jarvislabs._account.add_script(script, "x")
    jarvislabs_world.env["GITHUB_REPOSITORY"] = "Octo/widgets"
    provider = jarvislabs_world.provider()
    machine = kept(provider)
    if hurried:
        provider.hurry()
    if refused:
        with pytest.raises(NotPermitted, match=r"octo\.other too"):
            provider.pause(machine)
    else:
        provider.pause(machine)
    assert (jarvislabs.machine(NAME).status == "Running") is refused


def test_a_virtual_machine_tells_who_uses_it_too(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """It runs no startup script; one that does nothing has the name that keeps others away, and
    goes with the machine."""
    paused(jarvislabs, template="vm")
    provider.resume(kept(provider), order)
    ((name, body),) = jarvislabs.scripts().items()
    assert name == "gpu-ci.gpu-box.octo.widgets"
    assert order.boot_script not in body
    elsewhere = replace(order, tags=replace(order.tags, scope="repos/octo/other"))
    provider.pause(kept(provider))
    with pytest.raises(NotPermitted, match=r"octo\.widgets too"):
        provider.resume(kept(provider), elsewhere)
    provider.release(kept(provider))
    assert jarvislabs.scripts() == {}


def test_a_virtual_machine_needs_no_slot_for_a_script(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """Where the account has no room for one, it starts all the same."""
    paused(jarvislabs, template="vm")
    jarvislabs.settings.script_limit = 0
    provider.resume(kept(provider), order)
    assert jarvislabs.machine(NAME).status != "Paused"


def test_a_machine_of_others_is_not_taken_over(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """By SSH neither: another repository's job may be running on it."""
    paused(jarvislabs, status="Running")
    with jarvislabs._account.turn():
        jarvislabs._account.add_script("gpu-ci.gpu-box.octo.other", "x")
    with pytest.raises(NotPermitted, match=r"octo\.other too"):
        provider.adopt(kept(provider), order)


def test_a_pause_in_a_hurry(provider: JarvisLabs, jarvislabs: Cloud, clock: FakeClock) -> None:
    """It returns when the pause was accepted, and waits for nothing."""
    jarvislabs.settings.pausing_seconds = 30
    paused(jarvislabs, status="Running")
    machine = kept(provider)
    provider.hurry()
    provider.pause(machine)
    assert clock.slept == []
    assert jarvislabs.machine(NAME).status == "Pausing"


def test_in_a_hurry_keeping_ends_too(
    provider: JarvisLabs, jarvislabs: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call about a kept machine outlasts a cancel, even if nobody answers."""
    monkeypatch.setattr("gpu_ci.providers.http.HURRY_SECONDS", 0.3)
    paused(jarvislabs, status="Running")
    machine = kept(provider)
    provider.hurry()
    jarvislabs.faults.add(f.hang(times=None))
    calls: list[Callable[[], object]] = [
        lambda: provider.pause(machine),
        lambda: provider.kept(NAME),
    ]
    for call in calls:
        with pytest.raises(CloudUnreachable):
            call()
    assert provider.upkeep(machine) is None


# Adopting, ending, and what it costs


def test_without_a_key_nothing_is_adopted(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """No way in: the caller restarts the machine."""
    paused(jarvislabs, status="Running")
    assert provider.adopt(kept(provider), order) is None
    assert posts(jarvislabs, "") == []


def test_a_kept_machine_can_be_ended(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """With its script, also by a handle from before the last resume."""
    paused(jarvislabs)
    before = kept(provider)
    provider.resume(before, order)
    provider.release(before)
    clock.sleep(1)
    assert not jarvislabs.machines()
    assert not jarvislabs.scripts()


def test_a_kept_machine_that_is_gone(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """Two minutes after its resume it is believed to be gone."""
    paused(jarvislabs)
    up = provider.resume(kept(provider), order)
    jarvislabs.reset()
    jarvislabs.settings.now = clock.now
    assert provider.state(up) is State.PENDING
    clock.sleep(121)
    assert provider.state(up) is State.GONE


def test_upkeep_is_the_disks(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """The disk is billed while the machine is paused."""
    paused(jarvislabs, hdd=200)
    price = provider.upkeep(kept(provider))
    assert price
    assert price.per_hour == pytest.approx(0.028)
    assert (price.currency, "200 GB" in price.source) == ("USD", True)
    jarvislabs.reset()
    assert provider.upkeep(replace(kept_machine(provider), id="9")) is None


def kept_machine(provider: JarvisLabs) -> Machine:
    """A handle of a machine that is not there."""
    from gpu_ci.model.machine import Machine
    from gpu_ci_sandbox.contract import tags_of

    return Machine(provider=provider.name, id="1", tags=tags_of(name=NAME), kept=True)
