"""The stand-in for JarvisLabs as the vendor's own client sees it, unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jarvislabs  # type: ignore[import-untyped]  # it ships no types
import jarvislabs.constants  # type: ignore[import-untyped]  # it ships no types
import jarvislabs.instances  # type: ignore[import-untyped]  # it ships no types
import pytest

from gpu_ci_sandbox import faults as f
from gpu_ci_sandbox.fake_jarvislabs import REGIONS, JarvisLabs
from gpu_ci_sandbox.stopped_clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMuKBTK0TA1q9WmSNCwTJzZ9vFkg4ocIjfFCZT9+Wx3L test"
NOIDA, CHENNAI, EUROPE = REGIONS


@pytest.fixture
def jl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JarvisLabs]:
    """An account in which nothing takes time, and whose regions the client finds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("POLL_INTERVAL_S", "FETCH_RETRY_INTERVAL_S"):
        monkeypatch.setattr(jarvislabs.instances, name, 0.01)
    with JarvisLabs(tmp_path / "machines") as served:
        for region, host in served.hosts.items():
            monkeypatch.setitem(jarvislabs.constants.REGION_URLS, region, host)
        for state in ("creating", "resuming", "pausing", "destroying"):
            setattr(served.settings, f"{state}_seconds", 0)
        yield served


@pytest.fixture
def client(jl: JarvisLabs) -> Iterator[jarvislabs.Client]:
    with jarvislabs.Client(jl.environment()["JL_API_KEY"]) as made:
        yield made


@pytest.fixture
def quiet(jl: JarvisLabs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client never waits between two tries of a request."""
    monkeypatch.setattr("jarvislabs.transport.time.sleep", lambda _: None)


def test_a_container_lives_and_dies(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """Create, get, list, pause, resume under a new id, destroy."""
    made = client.instances.create(gpu_type="A100", name="gpu one", region=NOIDA, storage=60)
    assert (made.name, made.status, made.template) == ("gpu one", "Running", "pytorch")
    assert (made.gpu_type, made.num_gpus, made.storage_gb) == ("A100", 1, 60)
    assert (made.region, made.ram, made.is_spot) == (NOIDA, 32, False)
    assert made.cost == pytest.approx(0.89 + 60 * 0.00014)
    assert client.instances.get(made.machine_id) == client.instances.list()[0]
    assert client.instances.pause(made.machine_id)
    assert jl.machine("gpu one").status == "Paused"
    resumed = client.instances.resume(made.machine_id, gpu_type="H100", storage=80)
    assert resumed.machine_id != made.machine_id
    assert (resumed.status, resumed.gpu_type, resumed.storage_gb) == ("Running", "H100", 80)
    assert resumed.ssh_command != made.ssh_command
    assert resumed.url != made.url
    with pytest.raises(jarvislabs.NotFoundError):
        client.instances.get(made.machine_id)
    assert client.instances.destroy(resumed.machine_id)
    assert client.instances.list() == []


def test_a_virtual_machine(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """It has paths of its own, a user who is not root, and wants a key."""
    with pytest.raises(jarvislabs.ValidationError, match="SSH key"):
        client.instances.create(gpu_type="A100", template="vm", name="vm", region=NOIDA)
    client.ssh_keys.add(KEY, "laptop")
    made = client.instances.create(gpu_type="A100", template="vm", name="vm", region=NOIDA)
    assert (made.template, made.status) == ("vm", "Running")
    assert (made.ssh_command or "").endswith(" ubuntu@127.0.0.1")
    client.instances.pause(made.machine_id)
    resumed = client.instances.resume(made.machine_id)
    assert client.instances.destroy(resumed.machine_id)
    assert [call.path.split("/", 2)[2] for call in jl.faults.calls("POST", "templates")] == [
        f"templates/vm/{action}" for action in ("create", "pause", "resume", "destroy")
    ]


def test_a_machine_without_a_gpu(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """The smallest plan is taken, and another at the resume."""
    client.ssh_keys.add(KEY, "laptop")
    made = client.instances.create(template="vm", cpu=True, name="cpu")
    assert (made.gpu_type, made.template, made.region) == ("CPU", "vm", NOIDA)
    assert (made.cores, made.ram) == (2, 8)
    client.instances.pause(made.machine_id)
    resumed = client.instances.resume(made.machine_id, vcpus=4, ram=16)
    assert (resumed.cores, resumed.ram) == (4, 16)
    assert client.instances.destroy(resumed.machine_id)


def test_rename(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """A name may be there twice."""
    jl.add_machine("one")
    machine = jl.add_machine("two")
    assert client.instances.rename(machine.id, "one")
    assert [each.name for each in client.instances.list()] == ["one", "one"]
    with pytest.raises(LookupError, match="2 machines"):
        jl.machine("one")


def test_startup_scripts(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """Added, listed, updated in place and removed; no more than three of them (one account's limit)."""
    client.scripts.add("echo one\n", "boot")
    [listed] = client.scripts.list()
    assert (listed.script_name, jl.scripts()) == ("boot", {"boot": "echo one\n"})
    client.scripts.update(listed.script_id, b"echo two\n")
    assert client.scripts.list() == [listed]
    assert jl.scripts() == {"boot": "echo two\n"}
    client.scripts.add("true", "second")
    client.scripts.add("true", "third")
    with pytest.raises(jarvislabs.APIError, match="at most 3 startup scripts"):
        client.scripts.add("true", "fourth")
    client.scripts.remove(listed.script_id)
    assert sorted(jl.scripts()) == ["second", "third"]
    with pytest.raises(jarvislabs.NotFoundError, match="Script"):
        client.scripts.update(listed.script_id, "true")


def test_ssh_keys(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """Added without being told the id, listed, removed."""
    assert client.ssh_keys.add(KEY, "laptop")
    [listed] = client.ssh_keys.list()
    assert (listed.ssh_key, listed.key_name) == (KEY, "laptop")
    assert [key.key_id for key in jl.ssh_keys()] == [listed.key_id]
    assert client.ssh_keys.remove(listed.key_id)
    assert client.ssh_keys.list() == []
    with pytest.raises(jarvislabs.NotFoundError):
        client.ssh_keys.remove(listed.key_id)


def test_the_account(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """Balance, currency, user, counters and templates."""
    jl.settings.balance = 12.5
    jl.add_machine("paused")
    jl.add_machine("running", "Running", template="vm")
    assert client.account.balance().balance == 12.5
    assert client.account.currency() == "USD"
    jl.settings.currency = "INR"
    assert client.account.currency() == "INR"
    assert client.account.user_info().user_id
    metrics = client.account.resource_metrics()
    assert (metrics.running_instances, metrics.paused_instances) == (0, 1)
    assert (metrics.running_vms, metrics.paused_vms) == (1, 0)
    assert {"pytorch", "vm"} <= {each.id for each in client.account.templates()}


def test_the_catalogue(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """Types by region and kind, with what is free of them and what they cost."""
    jl.settings.free["H100", NOIDA] = 3
    rows = client.account.gpu_availability()
    assert {each.gpu_type for each in rows} >= {"L4", "A100", "A100-80GB", "H100", "RTX5000"}
    found = {(each.gpu_type, each.region, each.workload_type): each for each in rows}
    container = found["H100", NOIDA, "container"]
    assert (container.effective_num_free_devices, container.spot_free_devices) == (3, 3)
    assert (container.price_per_hour, container.spot_price) == (2.69, 1.19)
    assert found["H100", EUROPE, "container"].spot_price is None
    assert ("RTX5000", NOIDA, "vm") not in found


def test_filesystems(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """Made, grown under a new id, attached, removed."""
    fs_id = client.filesystems.create("data", 100, region=NOIDA)
    grown = client.filesystems.edit(fs_id, 200)
    assert grown != fs_id
    [listed] = client.filesystems.list()
    assert (listed.fs_id, listed.storage, listed.region) == (grown, 200, NOIDA)
    made = client.instances.create(gpu_type="A100", name="with fs", region=NOIDA, fs_id=grown)
    assert made.fs_id == grown
    assert (jl.machine("with fs").home / "jl_fs").is_dir()
    assert client.filesystems.remove(grown)
    assert client.filesystems.list() == []


def test_the_wrong_key(jl: JarvisLabs) -> None:
    """It is told apart from everything else."""
    with (
        jarvislabs.Client("wrong") as stranger,
        pytest.raises(jarvislabs.AuthError, match="Invalid token"),
    ):
        stranger.instances.list()


@pytest.mark.parametrize("status", [402, 403])
def test_no_money(jl: JarvisLabs, client: jarvislabs.Client, status: int) -> None:
    """Both ways of refusing it are understood, for a create and for a resume."""
    jl.settings.balance, jl.settings.balance_status = 0, status
    with pytest.raises(jarvislabs.InsufficientBalanceError, match="Insufficient balance"):
        client.instances.create(gpu_type="A100", name="poor", region=NOIDA)
    with pytest.raises(jarvislabs.InsufficientBalanceError):
        client.instances.resume(jl.add_machine("paused").id)


@pytest.mark.parametrize("status", [200, 400, 409])
def test_no_capacity(jl: JarvisLabs, client: jarvislabs.Client, status: int) -> None:
    """The catalogue says it before a create; a resume is refused, and the machine stays paused."""
    jl.settings.free["A100", NOIDA], jl.settings.capacity_status = 0, status
    with pytest.raises(jarvislabs.ValidationError, match="No free A100"):
        client.instances.create(gpu_type="A100", name="none", region=NOIDA)
    with pytest.raises(jarvislabs.APIError, match="No free A100"):
        client.instances.resume(jl.add_machine("paused").id)
    assert jl.machine("paused").status == "Paused"


@pytest.mark.parametrize("action", ["get", "pause", "resume", "destroy"])
def test_an_unknown_machine(client: jarvislabs.Client, action: str) -> None:
    """Every action names it."""
    call: Callable[[int], Any] = getattr(client.instances, action)
    with pytest.raises(jarvislabs.NotFoundError, match="4711"):
        call(4711)


def test_what_does_not_validate(client: jarvislabs.Client) -> None:
    """The shape of the error is one that the client takes apart."""
    with pytest.raises(jarvislabs.APIError, match="machine_id: Field required") as refused:
        client._transport.request("GET", "misc/status")
    assert refused.value.status_code == 422
    with pytest.raises(jarvislabs.APIError, match=r"gpu_type: .* valid string.*hdd: .* integer"):
        client._transport.request(
            "POST",
            "templates/pytorch/create",
            json={"gpu_type": 5, "num_gpus": 1, "hdd": "x", "region": NOIDA, "name": "n"},
        )
    with pytest.raises(jarvislabs.APIError, match="Invalid machine_name"):
        client._transport.request(
            "PUT", "machines/machine_name", params={"machine_id": 1, "machine_name": "ä"}
        )


def test_a_start_that_fails(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """The status says so, and why."""
    jl.settings.fail_resume = True
    with pytest.raises(jarvislabs.APIError, match="could not be started"):
        client.instances.resume(jl.add_machine("paused").id)
    assert jl.machine("paused").status == "Failed"


def test_a_pause_that_is_refused(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """A false flag in a good answer is a failure."""
    jl.settings.refuse_pause = True
    machine = jl.add_machine("running", "Running")
    with pytest.raises(jarvislabs.APIError, match="could not be paused"):
        client.instances.pause(machine.id)
    assert jl.machine("running").status == "Running"


@pytest.mark.parametrize("flag", ["success", "sucess"])
@pytest.mark.parametrize("as_text", [False, True])
def test_each_spelling_of_success(
    jl: JarvisLabs, client: jarvislabs.Client, flag: Any, as_text: bool
) -> None:
    """The client understands them all; its model of the list wants the right spelling."""
    jl.settings.flag, jl.settings.flag_as_text = flag, as_text
    machine = jl.add_machine("running", "Running")
    said = client._transport.request("GET", f"users/fetch/{machine.id}")
    assert {key: said[key] for key in said.keys() - {"instance"}} == {
        flag: "True" if as_text else True
    }
    assert client.instances.get(machine.id).name == "running"
    assert client.instances.pause(machine.id)
    jl.settings.refuse_pause = True
    with pytest.raises(jarvislabs.APIError):
        client.instances.pause(machine.id)


def test_a_machine_that_is_not_fetched_at_once(jl: JarvisLabs, client: jarvislabs.Client) -> None:
    """The client looks again while there is no status, and while the id is unknown."""
    clock = Clock()
    jl.settings.now, jl.settings.creating_seconds, jl.settings.hidden_seconds = clock, 4, 8
    jl.faults.on_request(lambda _, phase, __: clock.advance(phase == "before"))
    made = client.instances.create(gpu_type="L4", name="late", region=CHENNAI)
    assert made.status == "Running"
    assert {call.status for call in jl.faults.calls("GET", "misc/status")} == {404, 200}
    assert {call.status for call in jl.faults.calls("GET", "users/fetch")} == {404, 200}


def test_a_server_that_fails_now_and_then(
    jl: JarvisLabs, client: jarvislabs.Client, quiet: None
) -> None:
    """Questions are asked again, commands are not."""
    machine = jl.add_machine("running", "Running")
    jl.faults.add(f.answer(502, path="users/fetch"), f.answer(502, path="misc/pause"))
    assert client.instances.get(machine.id).name == "running"
    with pytest.raises(jarvislabs.APIError):
        client.instances.pause(machine.id)
    assert len(jl.faults.calls("POST", "misc/pause")) == 1
