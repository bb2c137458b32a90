"""JarvisLabs over HTTP: machines for one run, what is asked for, and what the account keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pytest

from gpu_ci.errors import (
    CloudUnreachable,
    NoCapacity,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate
from gpu_ci.providers.jarvislabs.api import HOSTS
from gpu_ci.providers.jarvislabs.options import JarvisLabsOptions
from gpu_ci.providers.jarvislabs.startup_scripts import script_name
from gpu_ci.providers.jarvislabs.startup_text import starting, taking_over
from gpu_ci_sandbox import faults as f

if TYPE_CHECKING:
    from tests.fakes import FakeClock
    from tests.providers.conftest import JarvisLabsWorld

    from gpu_ci.providers import Order
    from gpu_ci.providers.jarvislabs.jarvislabs_provider import JarvisLabs
    from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs as Cloud

CREATE = "templates/.*/create"


@pytest.fixture
def provider(jarvislabs_world: JarvisLabsWorld) -> JarvisLabs:
    return jarvislabs_world.provider()


@pytest.fixture
def order(jarvislabs_world: JarvisLabsWorld) -> Order:
    return jarvislabs_world.order()


def bodies(cloud: Cloud, path: str) -> list[dict[str, Any]]:
    """The JSON that was posted to such a path, in order."""
    posted = [each for each in cloud.faults.requests if each.method == "POST" and path in each.path]
    return [json.loads(each.body) for each in posted]


def asked(cloud: Cloud) -> list[str]:
    """What was asked, in order."""
    return [f"{each.method} {each.path}" for each in cloud.faults.requests]


# What is asked for


def test_what_a_machine_is_created_with(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """A complete body, with the name that find knows and the script's number as a number."""
    machine = provider.launch(order)
    (body,) = bodies(jarvislabs, "/create")
    (script,) = jarvislabs.scripts()
    assert script == f"gpu-ci.{machine.name}.octo.widgets"
    script_id = body.pop("script_id")
    assert isinstance(script_id, int)
    assert body == {
        "gpu_type": "L4",
        "num_gpus": 1,
        "hdd": 100,
        "region": "india-noida-01",
        "name": order.tags.name,
        "is_spot": False,
        "duration": "hour",
        "disk_type": "ssd",
        "http_ports": "",
        "script_args": "",
        "fs_id": None,
        "arguments": "",
    }
    provider.state(machine)
    jarvislabs.settings.now = lambda: machine.launched_at + 10
    assert jarvislabs.machine(machine.name).scripts == (script_id,)


def test_options_reach_the_request(
    jarvislabs_world: JarvisLabsWorld, order: Order, jarvislabs: Cloud
) -> None:
    """Template, GPUs, ports, disk and filesystem."""
    jarvislabs_world.options = JarvisLabsOptions(
        template="tensorflow", num_gpus=2, http_ports="8000", filesystem="data"
    )
    with jarvislabs._account.turn():
        made = jarvislabs._account.add_filesystem("data", 50, "india-noida-01")
        jarvislabs._account.add_filesystem("data", 50, "europe-01")
    jarvislabs_world.provider().launch(replace(order, disk_gb=200))
    (body,) = bodies(jarvislabs, "/create")
    assert asked(jarvislabs)[-1] == "POST /templates/tensorflow/create"
    assert (body["num_gpus"], body["http_ports"], body["hdd"]) == (2, "8000", 200)
    assert body["fs_id"] == made.fs_id


def test_a_filesystem_that_is_not_there_is_named(
    jarvislabs_world: JarvisLabsWorld, order: Order, jarvislabs: Cloud
) -> None:
    """Before anything is created, with those that there are."""
    with jarvislabs._account.turn():
        jarvislabs._account.add_filesystem("models", 50, "india-noida-01")
    jarvislabs_world.options = JarvisLabsOptions(filesystem="data")
    with pytest.raises(WrongRequest, match=r"'data' in india-noida-01.*models"):
        jarvislabs_world.provider().launch(order)
    assert not jarvislabs.machines()


def test_the_image_is_the_template(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """The input `image` names a template, and one that is unknown is a mistake in it."""
    provider.launch(replace(order, image="fastai"))
    assert asked(jarvislabs)[-1] == "POST /templates/fastai/create"
    unknown = replace(order, image="../misc/x", tags=replace(order.tags, name="other"))
    with pytest.raises(WrongRequest, match=r"'\.\./misc/x' the name of a template"):
        provider.launch(unknown)


def test_a_region_goes_to_its_own_host(
    jarvislabs_world: JarvisLabsWorld, order: Order, jarvislabs: Cloud, monkeypatch: Any
) -> None:
    """Create and destroy are sent to the host of the machine's region."""
    for region, url in jarvislabs.hosts.items():
        monkeypatch.setitem(HOSTS, region, url)
    del jarvislabs_world.env["JL_API_URL"]
    provider = jarvislabs_world.provider()
    there = Candidate(type="L4", region="india-chennai-01")
    provider.release(provider.launch(replace(order, candidate=there)))
    posts = [line for line in asked(jarvislabs) if "create" in line or "destroy" in line]
    assert posts == [
        "POST /india-chennai-01/templates/pytorch/create",
        "POST /india-chennai-01/misc/destroy",
    ]


def test_regions(provider: JarvisLabs, order: Order) -> None:
    """All regions by default, ids only, and none means the first."""
    assert provider.default_regions == ("india-noida-01", "india-chennai-01", "europe-01")
    wrong = replace(order, candidate=replace(order.candidate, region="IN2"))
    with pytest.raises(WrongRequest, match="'IN2'"):
        provider.launch(wrong)
    with pytest.raises(WrongRequest, match="'IN1'"):
        provider.find({}, ["IN1"])
    anywhere = replace(order, candidate=replace(order.candidate, region=""))
    assert provider.launch(anywhere).region == "india-noida-01"


@pytest.mark.parametrize("name", ["x" * 41, "a.b", " ", "naïve"])
def test_a_name_that_it_does_not_take(provider: JarvisLabs, order: Order, name: str) -> None:
    """Refused here, with the rule."""
    with pytest.raises(WrongRequest, match="1 to 40 letters"):
        provider.launch(replace(order, tags=replace(order.tags, name=name)))


# Markets and capacity


def test_spot(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """A spot machine is asked for as one, and found as one."""
    spot = replace(order, candidate=replace(order.candidate, market="spot"))
    assert provider.launch(spot).market == "spot"
    assert bodies(jarvislabs, "/create")[0]["is_spot"] is True
    assert [each.market for each in provider.find({}, [])] == ["spot"]


@pytest.mark.parametrize(("region", "image"), [("europe-01", "pytorch"), ("india-noida-01", "vm")])
def test_no_spot_there(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, region: str, image: str
) -> None:
    """Neither in Europe nor for virtual machines: the next candidate may do."""
    candidate = Candidate(type="H100", region=region, market="spot")
    with pytest.raises(WrongHere, match="no spot market"):
        provider.launch(replace(order, candidate=candidate, image=image))
    assert bodies(jarvislabs, "/create") == []


def test_what_is_not_sold_there(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """A type that the region does not have is told with those that it has."""
    with pytest.raises(WrongHere, match=r"'L4' on-demand.*H100, H200 there, and L4 in india-che"):
        provider.launch(replace(order, candidate=Candidate(type="L4", region="europe-01")))
    assert bodies(jarvislabs, "/create") == []


def test_nothing_free(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """The catalogue is asked first: no create call, and nothing left behind (row 1.5)."""
    jarvislabs.settings.free["L4", "india-noida-01"] = 0
    with pytest.raises(NoCapacity, match="0 GPUs are"):
        provider.launch(order)
    assert bodies(jarvislabs, "/create") == []
    assert not jarvislabs.scripts()


def test_what_spot_holds_counts_as_free(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """On-demand goes by the devices that could be taken from spot machines, spot by its own."""
    row = {
        "gpu_type": "L4",
        "region": "india-noida-01",
        "price_per_hour": 0.44,
        "spot_price": 0.29,
        "num_free_devices": 0,
        "effective_num_free_devices": 1,
        "spot_num_free_devices": 0,
        "workload_type": None,
    }
    jarvislabs.faults.add(f.answer(200, {"server_meta": [row]}, path="server_meta", times=2))
    assert provider.launch(order).id
    spot = replace(order, candidate=replace(order.candidate, market="spot"))
    with pytest.raises(NoCapacity):
        provider.launch(replace(spot, tags=replace(order.tags, name="other")))


@pytest.mark.parametrize("status", [400, 409, 200])
def test_taken_in_the_last_moment(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, status: int
) -> None:
    """A create call may still find nothing; then its script is not left behind (row 1.5)."""
    refusal = {"success": False, "message": "No free L4 GPUs in IN2 right now."}
    jarvislabs.faults.add(f.answer(status, refusal, path=CREATE))
    with pytest.raises(NoCapacity, match="No free L4"):
        provider.launch(order)
    assert not jarvislabs.scripts()


def test_without_a_catalogue_it_is_tried(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """The catalogue spares a call and decides nothing that the call would not."""
    jarvislabs.faults.add(f.answer(500, "", path="server_meta", times=None))
    assert provider.launch(order).id
    assert provider.price(provider.launch(order)) is None


@pytest.mark.parametrize("status", [402, 403])
def test_no_balance(provider: JarvisLabs, order: Order, jarvislabs: Cloud, status: int) -> None:
    """An empty account is a quota, with JarvisLabs' own words (row 1.5)."""
    jarvislabs.settings.balance = 0
    jarvislabs.settings.balance_status = status
    with pytest.raises(QuotaExceeded, match=r"Insufficient balance\. Please recharge"):
        provider.launch(order)


# Answers that are lost


@pytest.mark.parametrize(
    "rule",
    [
        f.lose_answer(path=CREATE),
        f.truncate(path=CREATE),
        f.garble(path=CREATE),
    ],
    ids=lambda rule: rule.do,
)
def test_an_answer_that_is_lost(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, rule: f.Rule
) -> None:
    """The machine is found by its name, and the create call is not sent again (pain 14)."""
    jarvislabs.faults.add(rule)
    machine = provider.launch(order)
    assert [str(each.id) for each in jarvislabs.machines()] == [machine.id]
    assert asked(jarvislabs).count("POST /templates/pytorch/create") == 1


def test_a_call_that_lands_late(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """It is looked for over some seconds, through an outage."""
    jarvislabs.faults.add(f.drop(path=CREATE))
    jarvislabs.faults.add(f.answer(503, "", path="users/fetch", nth=2, times=4))
    add = jarvislabs.add_machine
    sleep = clock.sleep

    def late(seconds: float) -> None:
        sleep(seconds)
        if len(clock.slept) == 5:
            add(order.tags.name, status="Running", gpu_type="L4")

    clock.sleep = late  # type: ignore[method-assign]  # time passes, and the call lands
    assert provider.launch(order).id == str(jarvislabs.machine(order.tags.name).id)


def test_a_call_that_never_lands(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """After ten seconds it is said that nobody knows (row 1.6)."""
    jarvislabs.faults.add(f.drop(path=CREATE))
    with pytest.raises(CloudUnreachable, match=r"not known: no machine of that name.*billed"):
        provider.launch(order)
    assert sum(clock.slept) == pytest.approx(10, abs=1)
    assert bodies(jarvislabs, "/create")  # sent, once
    assert len(bodies(jarvislabs, "/create")) == 1


def test_an_answer_without_a_machine(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """No id in the answer is a failure: with a reason a refusal, without one unknown."""
    jarvislabs.faults.add(f.answer(200, {"success": True}, path=CREATE))
    with pytest.raises(CloudUnreachable, match="names no machine"):
        provider.launch(order)
    jarvislabs.faults.add(f.answer(200, {"message": "no capacity"}, path=CREATE))
    with pytest.raises(NoCapacity):
        provider.launch(order)


def test_in_a_hurry_it_is_looked_for_once(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """A cancelled process does not wait for a machine to show."""
    provider.hurry()
    jarvislabs.faults.add(f.drop(path=CREATE))
    with pytest.raises(CloudUnreachable):
        provider.launch(order)
    assert clock.slept == []


def test_a_failed_machine_is_not_the_same_order(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """A machine of the name that never came up does not stand for a new one."""
    jarvislabs.add_machine(order.tags.name, status="Failed", gpu_type="L4")
    provider.launch(order)
    assert len(jarvislabs.machines()) == 2


# Startup scripts


def test_one_script_for_a_machine(
    provider: JarvisLabs, jarvislabs_world: JarvisLabsWorld, order: Order, jarvislabs: Cloud
) -> None:
    """Created when absent, updated in place when it differs, never a second one (row 1.7)."""
    scripts = provider._scripts
    first = scripts.put("m", "repos/octo/widgets", "one")
    assert scripts.put("m", "repos/octo/widgets", "one") == first
    assert scripts.put("m", "repos/octo/widgets", "two") == first
    another = jarvislabs_world.provider()._scripts
    assert another.put("m", "repos/Octo/Widgets", "three") == first
    assert jarvislabs.scripts() == {"gpu-ci.m.octo.widgets": "three"}
    sent = [line for line in asked(jarvislabs) if line.startswith("POST")]
    assert sent == ["POST /scripts/add", "POST /scripts/update", "POST /scripts/update"]


def test_a_script_is_known_by_its_whole_name(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """Names that contain it, or differ in case, are others' (row 1.7)."""
    others = ("gpu-ci.machine.octo.widgets-old", "gpu-ci.Machine.octo.widgets")
    with jarvislabs._account.turn():
        for name in others:
            jarvislabs._account.add_script(name, "theirs")
    foreign = "machine is used by octo.widgets-old too"
    with pytest.raises(NotPermitted, match=foreign):
        provider._scripts.put("machine", "repos/octo/widgets", "ours")
    with jarvislabs._account.turn():
        jarvislabs._account.scripts.pop(0)
    provider._scripts.put("machine", "repos/octo/widgets", "ours")
    assert jarvislabs.scripts() == {
        "gpu-ci.Machine.octo.widgets": "theirs",
        "gpu-ci.machine.octo.widgets": "ours",
    }


@pytest.mark.parametrize("path", ["scripts/add", "scripts/update"])
def test_a_lost_answer_makes_no_second_script(
    provider: JarvisLabs, jarvislabs: Cloud, path: str
) -> None:
    """What was added is found by its name; what was updated is updated again (row 1.7)."""
    if path == "scripts/update":
        provider._scripts.put("m", "orgs/octo", "one")
    jarvislabs.faults.add(f.lose_answer(path=path))
    provider._scripts.put("m", "orgs/octo", "two")
    assert jarvislabs.scripts() == {"gpu-ci.m.octo": "two"}
    assert len(jarvislabs._account.scripts) == 1


def test_a_script_that_was_not_added(provider: JarvisLabs, jarvislabs: Cloud) -> None:
    """Whether it came or only seemed to: without it no machine is started."""
    jarvislabs.faults.add(f.drop(path="scripts/add"))
    jarvislabs.faults.add(f.answer(200, {"success": True}, path="scripts/add"))
    for _ in range(2):
        with pytest.raises(CloudUnreachable, match="add the startup script"):
            provider._scripts.put("m", "orgs/octo", "two")
    assert jarvislabs.scripts() == {}


@pytest.mark.parametrize(
    "rule", [None, f.answer(403, {"message": "Limit reached"}, path="scripts/add")]
)
def test_no_slot_for_a_script(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, rule: f.Rule | None
) -> None:
    """The error names the scripts that there are, and which could go, however it is refused."""
    with jarvislabs._account.turn():
        for name in ("mine", "yours", "gpu-ci.gone.octo"):
            jarvislabs._account.add_script(name, "x")
    if rule:
        jarvislabs.faults.add(rule)
    with pytest.raises(QuotaExceeded, match=r"mine \(\d+\), yours.*gpu-ci\.gone.*machine is gone"):
        provider.launch(order)
    assert not jarvislabs.machines()


def test_a_script_that_is_refused_for_another_reason(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """With room left, a refused key is a refused key."""
    jarvislabs.faults.add(f.answer(401, {"message": "Invalid token"}, path="scripts/add"))
    with pytest.raises(NotPermitted, match="settings/api-keys"):
        provider.launch(order)


def test_another_repository_uses_the_machine(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """Its runs' lock is not this repository's: refused before anything, with both cures."""
    with jarvislabs._account.turn():
        jarvislabs._account.add_script(script_name(order.tags.name, "repos/octo/other"), "x")
    with pytest.raises(NotPermitted, match=r"octo\.other too.*`organization` in both.*remove"):
        provider.launch(order)
    assert bodies(jarvislabs, "/create") == []


def test_the_boot_script_is_embedded_as_it_is(order: Order) -> None:
    """Quotes, dollars and a line that looks like the end of it all get through."""
    script = "#!/bin/sh\necho '$HOME' \"`id`\" $((1)) \\\\\nGPU_CI_END_0\n"
    for text in (starting("m", script), taking_over("m", script)):
        assert f"<<'GPU_CI_END_1'\n{script}GPU_CI_END_1\n" in text


def test_the_key_is_not_in_what_the_machine_gets(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud
) -> None:
    """A machine must never have the key of the account."""
    provider.launch(order)
    (text,) = jarvislabs.scripts().values()
    assert jarvislabs.environment()["JL_API_KEY"] not in text
    assert order.boot_script in text


# Finding and releasing


def test_only_ours_are_found(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """People's machines and kept ones are not among them, nor what is being destroyed."""
    for name in (
        "gpu-box",
        "gpu-ci-box",
        "gpu-ci-77-1-test-zzzzzzzzzz-0",
        " gpu-ci-77-1-a-abc1230123-0",
    ):
        jarvislabs.add_machine(name)
    machine = provider.launch(order)
    assert [each.id for each in provider.find({}, [])] == [machine.id]
    assert [each.id for each in provider.find({}, ["europe-01"])] == []
    jarvislabs.settings.destroying_seconds = 3600
    provider.release(machine)
    assert provider.find({}, []) == []
    assert provider.state(machine) is State.ENDING


def test_a_twin_is_found_too(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """Should a name be there twice, both are found, so that both can be given back."""
    machine = provider.launch(order)
    jarvislabs.add_machine(order.tags.name, status="Running")
    assert len(provider.find({"name": order.tags.name}, [])) == 2
    provider.release(machine)
    clock.sleep(1)
    (left,) = jarvislabs.machines()
    assert str(left.id) != machine.id


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"success": True},
        {"success": True, "instances": {}},
        {"instances": []},
        {"success": True, "instances": [{}]},
        [],
        "null",
    ],
)
def test_a_list_of_another_shape_is_no_list(
    provider: JarvisLabs, jarvislabs: Cloud, content: object
) -> None:
    """It must never pass for "there is no machine"."""
    jarvislabs.faults.add(f.answer(200, content, path="users/fetch", times=None))
    with pytest.raises(CloudUnreachable):
        provider.find({}, [])


def test_rows_are_read_leniently(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """Numbers as text, fields that are missing, and the misspelt flag."""
    row = {"machine_id": "17", "instance_name": order.tags.name, "status": "running"}
    rows = {"sucess": "True", "instances": [{**row, "num_gpus": "2", "hdd": "100GB"}]}
    jarvislabs.faults.add(f.answer(200, rows, path="users/fetch", times=None))
    (machine,) = provider.find({}, [])
    assert (machine.id, machine.region, machine.type) == ("17", "", "")
    assert provider.state(machine) is State.RUNNING


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Running", State.RUNNING),
        ("RUNNING", State.RUNNING),
        ("paused", State.PAUSED),
        ("Failed", State.FAILED),
        ("destroying", State.ENDING),
        ("Creating", State.PENDING),
        ("Booting", State.PENDING),
        ("", State.PENDING),
    ],
)
def test_every_status(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, word: str, state: State
) -> None:
    """Whatever is no known end is on its way."""
    machine = provider.launch(order)
    row = {"machine_id": int(machine.id), "instance_name": machine.name, "status": word}
    jarvislabs.faults.add(f.answer(200, {"success": True, "instance": row}, path="users/fetch/"))
    assert provider.state(machine) is state


def test_a_machine_that_only_the_list_knows(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """Asked for by its id it can be unknown and there: the list decides."""
    jarvislabs.settings.hidden_seconds = 3600
    machine = provider.launch(order)
    clock.sleep(300)
    assert provider.state(machine) is State.RUNNING


def test_a_young_machine_is_not_gone(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """For two minutes after its launch it may just not be known yet."""
    machine = provider.launch(order)
    jarvislabs.reset()
    jarvislabs.settings.now = clock.now
    assert provider.state(machine) is State.PENDING
    clock.sleep(121)
    assert provider.state(machine) is State.GONE


@pytest.mark.parametrize(
    ("rule", "posts"),
    [
        (f.lose_answer(path="misc/destroy"), 1),
        (f.drop(path="misc/destroy"), 2),
        (f.answer(200, {"success": False, "message": "odd"}, path="misc/destroy"), 2),
        (f.answer(200, {"success": True}, path="misc/destroy"), 2),
        (f.answer(200, {"success": False, "message": "odd"}, path="scripts/", times=None), 1),
    ],
    ids=["lost", "dropped", "false flag", "only said", "script"],
)
def test_a_destroy_with_trouble(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, rule: f.Rule, posts: int
) -> None:
    """The row decides whether it has ended, and while it has not, it is asked for again."""
    machine = provider.launch(order)
    jarvislabs.faults.add(rule)
    provider.release(machine)
    sent = [line for line in asked(jarvislabs) if "destroy" in line]
    assert sent == ["POST /misc/destroy"] * posts
    assert provider.state(machine) in {State.ENDING, State.GONE, State.PENDING}
    assert provider.find({}, []) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f.answer(403, {"message": "Machine does not belong to this user"}), NotPermitted),
        (f.answer(500, {"message": "oops"}), CloudUnreachable),
        (f.answer(200, {"success": True}), CloudUnreachable),
    ],
)
def test_a_destroy_that_does_not_happen(
    provider: JarvisLabs,
    order: Order,
    jarvislabs: Cloud,
    answer: f.Rule,
    expected: type[Exception],
) -> None:
    """A machine that is still there after some time is an error."""
    machine = provider.launch(order)
    jarvislabs.faults.add(replace(answer, path="destroy", times=None))
    with pytest.raises(expected, match="destroy"):
        provider.release(machine)
    assert len(jarvislabs.machines()) == 1


def test_a_destroy_in_a_hurry(
    provider: JarvisLabs, order: Order, jarvislabs: Cloud, clock: FakeClock
) -> None:
    """What was accepted is enough, even if the row does not show it yet; an error is not."""
    machine = provider.launch(order)
    provider.hurry()
    jarvislabs.faults.add(f.answer(200, {"success": True}, path="destroy"))
    provider.release(machine)
    jarvislabs.faults.add(f.answer(500, "", path="destroy"))
    with pytest.raises(CloudUnreachable):
        provider.release(machine)
    assert clock.slept == []


def test_release_tidies_up(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """The script's slot is free again; other machines' scripts stay."""
    machine = provider.launch(order)
    with jarvislabs._account.turn():
        jarvislabs._account.add_script(f"gpu-ci.{machine.name}0.octo.widgets", "x")
    provider.release(machine)
    assert list(jarvislabs.scripts()) == [f"gpu-ci.{machine.name}0.octo.widgets"]


# Prices and checks


@pytest.mark.parametrize(
    "case",
    [
        ("on-demand", 0, "USD", 0.44),
        ("spot", 0, "USD", 0.29),
        ("on-demand", 2, "USD", 0.88),
        ("on-demand", 0, "INR", 0.44 * 85),
    ],
)
def test_the_price(
    jarvislabs_world: JarvisLabsWorld,
    order: Order,
    jarvislabs: Cloud,
    case: tuple[str, int, Literal["USD", "INR"], float],
) -> None:
    """Of the type, the market and all GPUs, in the account's currency, with its day."""
    market, gpus, currency, expected = case
    jarvislabs.settings.currency = currency
    jarvislabs_world.options = JarvisLabsOptions(num_gpus=gpus)
    provider = jarvislabs_world.provider()
    wanted = replace(order, candidate=replace(order.candidate, market=market))
    price = provider.price(provider.launch(wanted))
    assert price
    assert price.per_hour == pytest.approx(expected)
    assert price.currency == currency
    assert price.source.startswith("JarvisLabs' catalogue of 20")


@pytest.mark.parametrize(("template", "known"), [("pytorch", True), ("vm", False)])
def test_the_price_of_what_is_not_made_yet(
    jarvislabs_world: JarvisLabsWorld, order: Order, template: str, known: bool
) -> None:
    """Of the kind that the options ask for: a type that is sold as a container only has none as a
    virtual machine (what a budget asks before anything is made)."""
    jarvislabs_world.options = JarvisLabsOptions(template=template)
    provider = jarvislabs_world.provider()
    made = provider.launch(replace(order, candidate=replace(order.candidate, type="L4")))
    imagined = replace(made, id="", type="RTX5000", region="india-noida-01")
    assert (provider.price(imagined) is not None) == known


@pytest.mark.parametrize(
    ("status", "gpus", "resumed"), [("Paused", 8, 3.52), ("Running", 8, 3.52), ("Paused", 0, 0.44)]
)
def test_the_price_of_what_would_be_resumed(
    jarvislabs_world: JarvisLabsWorld,
    jarvislabs: Cloud,
    status: str,
    gpus: int,
    resumed: float,
) -> None:
    """With as many GPUs as are asked for, also of one that is up and may be paused until then; what
    there is costs what it has."""
    jarvislabs.add_machine("gpu-box", status, gpu_type="L4")
    jarvislabs_world.options = JarvisLabsOptions(num_gpus=gpus)
    provider = jarvislabs_world.provider()
    found = provider.kept("gpu-box")
    assert found
    prices = [provider.price(each) for each in (found[0], replace(found[0], id=""))]
    assert [price and price.per_hour for price in prices] == pytest.approx([0.44, resumed])


def test_the_price_of_what_is_not_sold(provider: JarvisLabs, order: Order) -> None:
    """Unknown is none, not nought."""
    machine = replace(provider.launch(order), type="B999")
    assert provider.price(machine) is None


def test_all_is_well(provider: JarvisLabs, order: Order) -> None:
    """A preflight tells balance, name, scripts, and what is free in which currency."""
    checks = {check.what: check for check in provider.check(order)}
    assert all(check.ok for check in checks.values())
    assert checks["balance"].detail == "the key is good, 100 left"
    assert checks["machine name"].detail.startswith("no machine is named")
    assert checks["startup script"].detail.startswith("0 startup scripts")
    assert checks["capacity"].detail.endswith("8 GPUs free; prices are in USD")


def test_a_bad_key_ends_the_preflight(jarvislabs_world: JarvisLabsWorld, order: Order) -> None:
    """One check that fails, with the cure."""
    jarvislabs_world.env["JL_API_KEY"] = "wrong"
    (check,) = jarvislabs_world.provider().check(order)
    assert not check.ok
    assert "settings/api-keys" in check.cure


def test_what_a_preflight_finds(provider: JarvisLabs, order: Order, jarvislabs: Cloud) -> None:
    """No money; a shared name; a failed machine; a foreign script; nothing free: each by its name."""
    jarvislabs.settings.balance = -1
    assert [check.ok for check in provider.check(order)] == [False]
    jarvislabs.settings.balance = 5
    jarvislabs.settings.free["L4", "india-noida-01"] = 0
    jarvislabs.add_machine(order.tags.name, status="Failed", gpu_type="L4")
    with jarvislabs._account.turn():
        jarvislabs._account.add_script(script_name(order.tags.name, "repos/octo/other"), "x")
    failed = {check.what: check for check in provider.check(order) if not check.ok}
    assert list(failed) == ["machine name", "startup script", "capacity"]
    assert all(check.cure for check in failed.values())
    jarvislabs.add_machine(order.tags.name)
    shared = {check.what: check.detail for check in provider.check(order) if not check.ok}
    assert "2 machines are named" in shared["machine name"]
