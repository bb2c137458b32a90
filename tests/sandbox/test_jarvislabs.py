"""The stand-in for JarvisLabs: what its vendor's client does not show."""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.pace import PATIENCE, until

from gpu_ci_sandbox import faults as f
from gpu_ci_sandbox.fake_jarvislabs import REGIONS, JarvisLabs
from gpu_ci_sandbox.fake_jarvislabs.disk import Disk
from gpu_ci_sandbox.stopped_clock import Clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_ci_sandbox.fake_jarvislabs import MachineRecord

NOIDA, CHENNAI, EUROPE = REGIONS
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMuKBTK0TA1q9WmSNCwTJzZ9vFkg4ocIjfFCZT9+Wx3L test"


@dataclass
class Api:
    """Calls with the account's key, at the root or at one region's host."""

    jl: JarvisLabs
    session: requests.Session

    def __call__(self, method: str, path: str, host: str = "", **options: Any) -> requests.Response:
        address = f"{host or self.jl.url}/{path}"
        return self.session.request(method, address, timeout=10, **options)

    def create(self, name: str = "box", template: str = "pytorch", **fields: Any) -> Any:
        """Ask for a machine; the answer's body."""
        body = {"gpu_type": "A100", "num_gpus": 1, "hdd": 100, "region": NOIDA, "name": name}
        return self("POST", f"templates/{template}/create", json=body | fields).json()

    def resume(self, name: str = "box", **fields: Any) -> requests.Response:
        """Ask for it again, as it was."""
        machine = self.jl.machine(name)
        body = {"machine_id": machine.id, "gpu_type": machine.gpu_type, "num_gpus": 1}
        body |= {"hdd": machine.hdd, "name": name} | fields
        return self("POST", f"templates/{machine.template}/resume", json=body)

    def act(self, action: str, name: str = "box", **options: Any) -> requests.Response:
        """Pause or destroy it by the path for containers, unless another is given."""
        query = {"machine_id": self.jl.machine(name).id}
        return self("POST", f"misc/{action}", params=query, **options)

    def script(self, body: str, name: str = "boot") -> int:
        """Store a startup script; its id."""
        self("POST", "scripts/add", params={"name": name}, files={"script": ("startup.sh", body)})
        listed = self("GET", "scripts/").json()["script_meta"]
        return int(listed[-1]["script_id"])

    def status(self, name: str = "box") -> requests.Response:
        """The separate record of its state."""
        return self("GET", "misc/status", params={"machine_id": self.jl.machine(name).id})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jl(tmp_path: Path, clock: Clock) -> Iterator[JarvisLabs]:
    """An account whose time stands still, and in which every change takes a second."""
    with JarvisLabs(tmp_path / "machines") as served:
        configure(served, clock)
        yield served


def configure(jl: JarvisLabs, clock: Clock) -> None:
    jl.settings.now = clock
    for state in ("creating", "resuming", "pausing", "destroying"):
        setattr(jl.settings, f"{state}_seconds", 1)


@pytest.fixture
def api(jl: JarvisLabs) -> Iterator[Api]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {jl.environment()['JL_API_KEY']}"
        yield Api(jl, session)


def holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def marked(machine: MachineRecord) -> list[int]:
    """The living processes of the machine's last start."""
    mark = f"GPU_CI_BOOT_SANDBOX={machine.sandbox}".encode()
    return [pid for pid in map(int, filter(str.isdigit, names("/proc"))) if mark in environ(pid)]


def names(folder: str) -> list[str]:
    return [each.name for each in Path(folder).iterdir()]


def environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []


def ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# scripts and disks


def test_home_outlives_a_pause_and_shared_memory_does_not(
    jl: JarvisLabs, api: Api, clock: Clock
) -> None:
    """The script runs at each start that passes it, on the same /home (row 1.8)."""
    script = api.script(
        'echo "$MACHINE_NAME $1 $2" >>/home/runs\n'
        "ls /dev/shm/ >>/home/runs\n"
        "touch /dev/shm/left\n"
        "echo done >>/home/runs\n"
    )
    api.create(script_id=script, script_args="a b")
    runs = jl.machine("box").home / "runs"
    for seen in ("", "box a b\ndone\n"):
        clock.advance(1)
        assert jl.machine("box").status == "Running"
        until(partial(holds, runs, seen + "box a b\ndone\n"))
        api.act("pause")
        clock.advance(1)
        api.resume(script_id=str(script), script_args="a b")
    assert jl.machine("box").scripts == (script, script)


def test_a_script_is_not_carried_over(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """A resume without it runs none."""
    api.create(script_id=api.script("true"))
    clock.advance(1)
    jl.pause_by_hand("box")
    clock.advance(1)
    api.resume()
    clock.advance(1)
    machine = jl.machine("box")
    assert (machine.status, machine.starts, len(machine.scripts)) == ("Running", 2, 1)


def test_the_script_sees_only_its_machine(
    jl: JarvisLabs, api: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the job's environment but how to reach servers, and what a test sets."""
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("GPU_CI_BOOT_TICK", "1")
    monkeypatch.setenv("https_proxy", "http://proxy.example")
    jl.settings.script_environment = {"EXTRA": "yes"}
    api.create(script_id=api.script("env >/home/part; mv /home/part /home/env"))
    clock.advance(1)
    machine = jl.machine("box")
    until((machine.home / "env").exists)
    seen = dict(line.split("=", 1) for line in (machine.home / "env").read_text().splitlines())
    assert {seen["GPU_CI_BOOT_TICK"], seen["EXTRA"]} == {"1", "yes"}
    assert (seen["https_proxy"], seen["MACHINE_NAME"]) == ("http://proxy.example", "box")
    assert seen["GPU_CI_BOOT_SANDBOX"] == machine.sandbox
    assert not seen.keys() & {"SECRET", "HOME", "VIRTUAL_ENV", "JL_API_KEY"}


def test_a_virtual_machine_takes_a_script_and_runs_none(
    jl: JarvisLabs, api: Api, clock: Clock
) -> None:
    """Without a word about it."""
    api("POST", "ssh/", json={"ssh_key": KEY, "key_name": "k"})
    assert "machine_id" in api.create(template="vm", script_id=api.script("touch /home/ran"))
    clock.advance(1)
    assert (jl.machine("box").status, jl.machine("box").scripts) == ("Running", ())
    assert not (jl.machine("box").home / "ran").exists()


def test_paths_are_pointed_into_the_disk(tmp_path: Path) -> None:
    """Where they begin a path, and only there."""
    disk = Disk(tmp_path / "d")
    home, shm = f"{disk.home}/".encode(), f"{disk.shm}/".encode()
    assert disk.localise(b"ROOT='/home/x/home/y'; cd /dev/shm/z") == (
        b"ROOT='" + home + b"x/home/y'; cd " + shm + b"z"
    )
    for untouched in (b"${root}/home/", b"https://host/home/", b"/homes/", b"cd /home", b"./home/"):
        assert disk.localise(untouched) == untouched


# processes

ENDS: dict[str, Callable[[JarvisLabs, Api], object]] = {
    "pause": lambda jl, api: api.act("pause"),
    "destroy": lambda jl, api: api.act("destroy"),
    "by hand": lambda jl, api: jl.pause_by_hand("box"),
    "reclaim": lambda jl, api: jl.reclaim("box"),
    "reset": lambda jl, api: jl.reset(),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_stopped_machine_has_no_processes(
    jl: JarvisLabs, api: Api, clock: Clock, end: str
) -> None:
    """Neither those of the script nor those that left its session or its environment."""
    script = api.script(
        "trap '' TERM HUP\n"
        "setsid sleep 300 &\n"
        "env -i sleep 300 &\n"
        "echo $! >/home/unmarked\n"
        "touch /home/ready\n"
        "wait\n"
    )
    api.create(script_id=script)
    clock.advance(1)
    machine = jl.machine("box")
    until((machine.home / "ready").exists)
    until(lambda: len(marked(machine)) == 2)
    unmarked = int((machine.home / "unmarked").read_text())
    ENDS[end](jl, api)
    assert marked(machine) == []
    assert ended(unmarked)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_users_processes_end_too(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """A runner is not root."""
    api.create(script_id=api.script("exec setpriv --reuid=65534 setsid sleep 300"))
    clock.advance(1)
    machine = jl.machine("box")
    until(lambda: any(Path(f"/proc/{pid}").stat().st_uid for pid in marked(machine)))
    api.act("pause")
    assert marked(machine) == []


def test_nothing_is_left_when_it_stops(tmp_path: Path, clock: Clock) -> None:
    """Neither a process nor a thread, whatever was going on."""
    before = set(threading.enumerate())
    with JarvisLabs(tmp_path / "machines") as jl, requests.Session() as session:
        configure(jl, clock)
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {jl.environment()['JL_API_KEY']}"
        api = Api(jl, session)
        api.create(script_id=api.script("sleep 300"))
        clock.advance(1)
        machine = jl.machine("box")
        until(lambda: marked(machine))
        api.create("late")
    assert marked(machine) == []
    assert {each for each in threading.enumerate() if each.is_alive()} <= before


# states, ids and time


def test_the_states_of_a_life(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """Each takes its time, is spelled as it is told to be, and the status is another record."""
    jl.settings.status_words["Creating"] = "creating"
    api.create()
    assert (jl.machine("box").status, api.status().status_code) == ("creating", 404)
    clock.advance(1)
    assert api.status().json() == {"status": "Running", "error": "None", "code": "None"}
    assert api.act("pause").json() == {"success": True}
    assert jl.machine("box").status == "Pausing"
    clock.advance(1)
    assert jl.machine("box").status == "Paused"
    api.resume()
    assert (jl.machine("box").status, api.status().status_code) == ("Resuming", 404)
    clock.advance(1)
    assert jl.machine("box").status == "Running"
    api.act("destroy")
    assert jl.machine("box").status == "Destroying"
    clock.advance(1)
    assert jl.machines() == []


@pytest.mark.parametrize(
    ("status", "then"),
    [
        ("Creating", "Running"),
        ("Resuming", "Running"),
        ("Pausing", "Paused"),
        ("Failed", "Failed"),
        ("Running", "Running"),
        ("Paused", "Paused"),
    ],
)
def test_a_machine_in_any_state(jl: JarvisLabs, clock: Clock, status: str, then: str) -> None:
    """A test may begin with what another has left; billed unless it is paused."""
    assert jl.add_machine("box", status).status == status
    clock.advance(1)
    assert jl.machine("box").status == then
    assert (jl.machine("box").billed_seconds == 1) is (status != "Paused")
    with pytest.raises(ValueError, match="ever 'Sleeping'"):
        jl.add_machine("other", "Sleeping")


def test_time_goes_on_by_itself(jl: JarvisLabs, api: Api) -> None:
    """With the real clock nobody has to ask for a machine to come up."""
    fresh = type(jl.settings)()
    came_up = threading.Event()
    jl.settings.on_running = lambda _: came_up.set()
    jl.settings.now, jl.settings.creating_seconds = fresh.now, 0.01
    api.create()
    assert came_up.wait(PATIENCE)


def test_a_resumed_machine_has_another_id(jl: JarvisLabs, api: Api) -> None:
    """The old id is unknown from then on, to every call."""
    old = jl.add_machine("box").id
    new = api.resume().json()["machine_id"]
    assert new != old
    assert api("GET", f"users/fetch/{new}").status_code == 200
    for call in (("GET", f"users/fetch/{old}"), ("POST", f"misc/pause?machine_id={old}")):
        assert api(*call).status_code == 404


def test_ids_may_be_kept(jl: JarvisLabs, api: Api) -> None:
    """Then the status may be that of the last start."""
    jl.settings.keep_ids = jl.settings.stale_status = True
    api.create()
    jl.reset()
    jl.settings.keep_ids = jl.settings.stale_status = True
    old = jl.add_machine("box").id
    assert api.resume().json()["machine_id"] == old
    assert api.status().json()["status"] == "Paused"


def test_a_fresh_machine_may_be_hidden(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """Unknown by its id for a while, though the list has it."""
    jl.settings.hidden_seconds = 5
    machine_id = api.create()["machine_id"]
    assert api("GET", f"users/fetch/{machine_id}").status_code == 404
    assert [m["machine_id"] for m in api("GET", "users/fetch").json()["instances"]] == [machine_id]
    clock.advance(5)
    assert api("GET", f"users/fetch/{machine_id}").json()["instance"]["status"] == "Running"


def test_billed_from_the_request_until_the_pause(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """Starting and pausing cost too, being paused does not, however late one looks (pain 14)."""
    api.create()
    clock.advance(60)
    assert jl.machine("box").billed_seconds == 60
    api.act("pause")
    clock.advance(1000)
    assert jl.machine("box").billed_seconds == 61
    api.resume()
    clock.advance(10)
    assert jl.machine("box").billed_seconds == 71


def test_a_failed_start_is_billed(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """Until somebody pauses it."""
    jl.add_machine("box")
    jl.settings.fail_resume = True
    api.resume()
    clock.advance(30)
    assert (jl.machine("box").status, jl.machine("box").billed_seconds) == ("Failed", 30)
    assert api.act("pause").json() == {"success": True}


def test_a_spot_machine_is_reclaimed(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """It is paused, keeps its files, and comes back on demand unless asked otherwise."""
    api.create(is_spot=True)
    clock.advance(1)
    (jl.machine("box").home / "file").touch()
    jl.reclaim("box")
    clock.advance(1)
    assert jl.machine("box").status == "Paused"
    api.resume()
    clock.advance(1)
    assert (jl.machine("box").status, jl.machine("box").is_spot) == ("Running", False)
    assert (jl.machine("box").home / "file").exists()


def test_a_person_starts_it(jl: JarvisLabs, clock: Clock) -> None:
    """Without a script, and under another id."""
    old = jl.add_machine("box")
    jl.start_by_hand("box")
    clock.advance(1)
    machine = jl.machine("box")
    assert (machine.status, machine.scripts, machine.starts) == ("Running", (), 1)
    assert machine.id != old.id


def test_the_hook_may_ask_the_stand_in(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """It gets the record, in place of a script, and holds nothing up."""
    seen: list[tuple[MachineRecord, int]] = []
    jl.settings.run_scripts = False
    jl.settings.on_running = lambda machine: seen.append((machine, len(jl.machines())))
    api.create(script_id=api.script("touch /home/ran"))
    clock.advance(1)
    machine = jl.machine("box")
    assert seen == [(machine, 1)]
    assert not (machine.home / "ran").exists()
    assert len(machine.scripts) == 1


# refusals


def test_who_does_not_say_who_it_is(jl: JarvisLabs, api: Api) -> None:
    """No key is another answer than a wrong one."""
    del api.session.headers["Authorization"]
    refused = api("GET", "users/fetch")
    assert (refused.status_code, refused.json()) == (403, {"message": "Not authenticated"})
    refused = api("GET", "users/fetch", headers={"Authorization": "Bearer x"})
    assert (refused.status_code, refused.json()) == (401, {"message": "Invalid token"})


def test_each_region_has_its_own_host(jl: JarvisLabs, api: Api) -> None:
    """Another region's knows the account, but neither its machines' states nor how to change them."""
    own, other = jl.hosts[NOIDA], jl.hosts[EUROPE]
    machine = jl.add_machine("box", "Running")
    query = {"machine_id": machine.id}
    assert api("GET", f"users/fetch/{machine.id}", other).status_code == 200
    assert api("GET", "misc/status", other, params=query).status_code == 404
    assert api("GET", "misc/status", own, params=query).status_code == 200
    assert api.act("pause", host=other).status_code == 404
    assert api.act("destroy", host=other).status_code == 404
    assert jl.machine("box").status == "Running"
    assert api.act("pause", host=own).status_code == 200
    body = {"gpu_type": "A100", "num_gpus": 1, "hdd": 100, "region": NOIDA, "name": "x"}
    assert api("POST", "templates/pytorch/create", other, json=body).status_code == 404


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ({"template": "pytorch"}, "misc"),
        ({"template": "vm"}, "templates/vm"),
        ({"template": "vm", "gpu_type": "CPU"}, "templates/vm/cpu"),
    ],
)
@pytest.mark.parametrize("action", ["pause", "destroy"])
def test_each_kind_has_its_own_paths(
    jl: JarvisLabs, api: Api, kind: dict[str, str], path: str, action: str
) -> None:
    """The other two do not know the machine."""
    machine = jl.add_machine("box", "Running", **kind)
    for other in {"misc", "templates/vm", "templates/vm/cpu"} - {path}:
        refused = api("POST", f"{other}/{action}", params={"machine_id": machine.id})
        assert refused.status_code == 404
    assert api("POST", f"{path}/{action}", params={"machine_id": machine.id}).status_code == 200
    assert jl.machine("box").status in {"Pausing", "Destroying"}


def test_only_what_runs_is_paused(jl: JarvisLabs, api: Api, clock: Clock) -> None:
    """Everything else is a false flag; destroying is possible at any time."""
    jl.add_machine("box")
    assert api.act("pause").json()["success"] is False
    api.resume()
    assert api.act("pause").json()["success"] is False
    clock.advance(1)
    assert api.act("pause").json()["success"] is True
    assert api.act("pause").json()["success"] is False
    assert api.act("destroy").json()["success"] is True


def test_only_what_is_paused_is_resumed(jl: JarvisLabs, api: Api) -> None:
    """And its disk only grows."""
    jl.add_machine("runs", "Running")
    assert api.resume("runs").status_code == 400
    jl.add_machine("box")
    assert "can only grow" in api.resume(hdd=50).json()["message"]
    assert api.resume(hdd=150).status_code == 200
    assert jl.machine("box").hdd == 150


@pytest.mark.parametrize("region", REGIONS)
def test_capacity_is_counted_by_type_and_region(jl: JarvisLabs, api: Api, region: str) -> None:
    """What is refused leaves nothing behind, and says which capacity is missing."""
    jl.settings.free["H200", NOIDA] = 1
    jl.settings.free["H200", EUROPE] = 0
    answer = api.create(gpu_type="H200", region=region, num_gpus=1)
    match region:
        case "india-noida-01":
            assert "machine_id" in answer
            assert "no capacity" in api.create(gpu_type="H200", num_gpus=2)["message"]
        case "europe-01":
            assert "No free H200" in answer["message"]
        case _:
            assert "H200" not in answer["detail"]["gpu_types"]
    assert len(jl.machines()) == (region == NOIDA)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"region": EUROPE, "gpu_type": "H100", "is_spot": True}, "Spot is not offered"),
        ({"template": "vm", "is_spot": True}, "Spot is not offered"),
        ({"hdd": 10}, "between 20GB and 5000GB"),
        ({"template": "vm", "hdd": 50}, "between 100GB and 5000GB"),
        ({"template": "vm"}, "at least one SSH key"),
        ({"script_id": 4711}, "Script not found"),
        ({"fs_id": 4711}, "Filesystem not found"),
        ({"template": "unheard-of"}, "Template not found"),
    ],
)
def test_what_cannot_be_made(jl: JarvisLabs, api: Api, fields: dict[str, Any], text: str) -> None:
    """It is refused with a reason, and nothing is made."""
    assert text in api.create(**fields)["message"]
    assert jl.machines() == []


@pytest.mark.parametrize(("name", "ok"), [("a" * 40, True), ("a" * 41, False), (" ", False)])
def test_the_length_of_a_name(jl: JarvisLabs, api: Api, name: str, ok: bool) -> None:
    """One to forty characters of it."""
    answer = api.create(name)
    assert ("machine_id" in answer) is ok
    assert ok or answer["detail"][0]["loc"] == ["body", "name"]


def test_an_answer_that_is_lost(jl: JarvisLabs, api: Api) -> None:
    """The machine is made all the same, which only the list shows (pain 16)."""
    jl.faults.add(f.lose_answer(method="POST", path="create"))
    with pytest.raises(requests.ConnectionError):
        api.create()
    assert [each.name for each in jl.machines()] == ["box"]


def test_a_reset_empties_everything(jl: JarvisLabs, api: Api) -> None:
    """The next test finds an account of its own."""
    api.script("true")
    api("POST", "ssh/", json={"ssh_key": KEY, "key_name": "k"})
    api.create()
    folder = jl.machine("box").home.parent
    jl.settings.balance = 0
    jl.reset()
    assert (jl.machines(), jl.scripts(), jl.ssh_keys()) == ([], {}, [])
    assert jl.settings.balance > 0
    assert not jl.faults.requests
    assert not folder.exists()


def test_others_pass_through_the_folders(jl: JarvisLabs) -> None:
    """A runner is another user than root."""
    home = jl.add_machine("box", "Running").home
    for folder in (home.parent.parent, home.parent, home):
        assert folder.stat().st_mode & 0o001
    listed = subprocess.run(
        ["ls", "-ld", str(home.parent / "shm")], capture_output=True, check=True
    )
    assert listed.stdout.startswith(b"drwxrwxrwt")
