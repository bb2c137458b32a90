"""The stand-in runner, from its archive to the end of its job, as a machine would use it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from tests.pace import PATIENCE, until

from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.rest import serve_github
from gpu_ci_sandbox.fake_github.state import GitHub
from gpu_ci_sandbox.fake_runner import archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci_sandbox.fake_github.records import Job
    from gpu_ci_sandbox.fake_github.rest import ServedGitHub

REPOSITORY = "octo/widgets"


@dataclass
class Machine:
    """A folder with the unpacked runner, and what was started in it."""

    folder: Path
    hub: ServedGitHub
    session: requests.Session
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def github(self) -> GitHub:
        return self.hub.github

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        return self.session.request(
            method,
            f"{self.hub.url}/repos/{REPOSITORY}/actions/{path}",
            timeout=10,
            **options,  # type: ignore[arg-type]  # passed through
        )

    def unpack(self) -> None:
        """Download, check and unpack as a boot script does."""
        said = self.ask("GET", "runners/downloads").json()[0]
        content = self.session.get(said["download_url"], timeout=10).content
        assert hashlib.sha256(content).hexdigest() == said["sha256_checksum"]
        subprocess.run(["tar", "-xzf", "-", "-C", self.folder], input=content, check=True)

    def jit(self, name: str = "gpu-1") -> str:
        sent = {"name": name, "runner_group_id": 1, "labels": ["gpu"]}
        made = self.ask("POST", "runners/generate-jitconfig", json=sent).json()
        return str(made["encoded_jit_config"])

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        allowed = {"RUNNER_ALLOW_RUNASROOT": "1", "PATH": os.environ["PATH"]}
        process = subprocess.Popen(
            [str(self.folder / command[0]), *command[1:]],
            env=allowed | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def run(self, **environment: str) -> subprocess.Popen[str]:
        return self.start("run.sh", ACTIONS_RUNNER_INPUT_JITCONFIG=self.jit(), **environment)

    def queue(self, script: str = "true", **environment: str) -> Job:
        run = self.github.start_run(REPOSITORY)
        return self.github.queue_job(run, "test", ["gpu"], script, env=environment)

    def job(self, job: Job) -> Job:
        return self.github.job(job.id)

    def online(self) -> None:
        until(lambda: any(runner.online for runner in self.github.all_runners()))

    def completed(self, job: Job) -> Job:
        until(lambda: self.job(job).completed)
        return self.job(job)

    def logged(self, job: Job, text: str) -> None:
        until(lambda: any(text in line for line in self.job(job).log))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    github = GitHub()
    github.add_repository(REPOSITORY)
    token = github.issue(credentials.classic(REPOSITORY))
    with serve_github(github) as hub, requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        made = Machine(tmp_path, hub, session)
        made.unpack()
        yield made
        for process in made.started:
            _end(process)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder outside pytest's own, which other users may not enter."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.communicate(timeout=PATIENCE)


def _output(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=PATIENCE)[0]


def _gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_archive_is_the_same_every_time() -> None:
    """Its bytes follow from its content, so that its checksum can be known in advance."""
    first = archive("x64").content
    archive.cache_clear()
    assert archive("x64").content == first


def test_from_registration_to_an_empty_list(machine: Machine) -> None:
    """JIT, online, one job, registration and config gone; the job's children do not survive."""
    runner = machine.run()
    machine.online()
    shown = machine.ask("GET", "runners").json()["runners"][0]
    assert (shown["status"], shown["os"], shown["version"]) == ("online", "Linux", "2.336.0")
    script = (
        'echo "in $PWD for $GITHUB_REPOSITORY: $EXTRA"\n'
        'echo "tracked $RUNNER_TRACKING_ID"\n'
        "sleep 600 & echo child $!\n"
        "tr '\\0' ' ' </proc/$PPID/cmdline; echo\n"
        "echo left-over ${ACTIONS_RUNNER_INPUT_JITCONFIG:-nothing}\n"
    )
    job = machine.completed(machine.queue(script, EXTRA="more"))
    output = _output(runner)
    assert runner.returncode == 0
    place = machine.folder / "_work/widgets/widgets"
    assert job.log[0] == f"in {place} for {REPOSITORY}: more"
    assert job.log[1].startswith("tracked github_")
    assert f"{machine.folder}/bin/Runner.Worker " in job.log[3]
    assert job.log[4] == "left-over nothing"
    until(lambda: _gone(int(job.log[2].split()[1])))
    assert (job.conclusion, job.runner_name) == ("success", "gpu-1")
    assert [step.name for step in job.steps] == ["Set up job", "Run script", "Complete job"]
    lines = ("√ Connected to GitHub", "Listening for Jobs", "Running job: test")
    assert all(line in output for line in lines)
    assert "Job test completed with result: Succeeded" in output
    assert machine.ask("GET", "runners").json() == {"total_count": 0, "runners": []}
    assert not (machine.folder / ".runner").exists()
    assert list((machine.folder / "_diag").glob("Runner_*.log"))


def test_failing_job(machine: Machine) -> None:
    """A script that fails makes the job fail, and run.sh still exits 0."""
    job = machine.queue("echo before; false; echo never")
    runner = machine.run()
    done = machine.completed(job)
    assert done.log == ("before", "##[error]Process completed with exit code 1.")
    assert [step.conclusion for step in done.steps] == ["success", "failure", "failure"]
    assert "completed with result: Failed" in _output(runner)
    assert (done.conclusion, runner.returncode) == ("failure", 0)


def test_hooks(machine: Machine, tmp_path: Path) -> None:
    """The hooks surround the job; the second runs before the job is reported complete."""
    for name in ("started", "completed"):
        (tmp_path / f"{name}.sh").write_text(f"echo {name}\n")
    job = machine.queue("echo job")
    machine.run(
        ACTIONS_RUNNER_HOOK_JOB_STARTED=str(tmp_path / "started.sh"),
        ACTIONS_RUNNER_HOOK_JOB_COMPLETED=str(tmp_path / "completed.sh"),
    )
    assert machine.completed(job).log == ("started", "job", "completed")


def test_failing_hook(machine: Machine, tmp_path: Path) -> None:
    """A first hook that fails fails the job before its script has run."""
    (tmp_path / "hook.sh").write_text("exit 3\n")
    job = machine.queue("echo job")
    machine.run(ACTIONS_RUNNER_HOOK_JOB_STARTED=str(tmp_path / "hook.sh"))
    done = machine.completed(job)
    assert done.conclusion == "failure"
    assert "job" not in done.log


def test_settings_of_the_folder(machine: Machine) -> None:
    """`.env` reaches the job."""
    (machine.folder / ".env").write_text("FROM_FILE=yes=really\n")
    job = machine.queue("echo $FROM_FILE")
    machine.run()
    assert machine.completed(job).log == ("yes=really",)


@pytest.mark.parametrize("trapped", [{}, {"RUNNER_MANUALLY_TRAP_SIG": "1"}])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_an_idle_runner(
    number: signal.Signals, trapped: dict[str, str], machine: Machine
) -> None:
    """It disconnects and ends; the registration stays, offline (pain 15)."""
    runner = machine.run(**trapped)
    machine.online()
    if trapped:
        os.kill(runner.pid, number)
    else:
        os.killpg(runner.pid, number)
    until(lambda: not any(each.online for each in machine.github.all_runners()))
    _output(runner)
    assert [each.name for each in machine.github.all_runners()] == ["gpu-1"]


def test_signal_during_a_job(machine: Machine) -> None:
    """The job is interrupted and reported cancelled, then the runner goes."""
    job = machine.queue("trap 'echo heard; exit 1' INT; echo ready; while :; do sleep 0.05; done")
    runner = machine.run()
    machine.logged(job, "ready")
    os.killpg(runner.pid, signal.SIGTERM)
    done = machine.completed(job)
    assert done.conclusion == "cancelled"
    _output(runner)
    assert machine.github.all_runners() == []


def test_cancelled_run_is_interrupted_then_terminated(machine: Machine) -> None:
    """SIGINT comes first, SIGTERM to who ignores it (clean-up never runs on cancel, pain 7)."""
    job = machine.queue(
        "trap 'echo interrupted' INT; trap 'echo terminated; exit 1' TERM; echo ready\n"
        "while :; do sleep 0.05; done"
    )
    machine.run(STANDIN_RUNNER_PATIENCE="0.3")
    machine.logged(job, "ready")
    assert machine.ask("POST", f"runs/{job.run_id}/cancel").status_code == 202
    done = machine.completed(job)
    assert done.conclusion == "cancelled"
    assert [line for line in done.log if line.endswith("ed")] == ["interrupted", "terminated"]


def test_killed_worker_fails_the_job(machine: Machine) -> None:
    """A job whose worker dies has failed."""
    job = machine.queue("kill -9 $PPID; sleep 30")
    machine.run()
    assert machine.completed(job).conclusion == "failure"


def test_registration_deleted_while_idle(machine: Machine) -> None:
    """The runner notices, cleans up its config and exits 0."""
    runner = machine.run()
    machine.online()
    machine.ask("DELETE", f"runners/{machine.github.all_runners()[0].id}")
    assert "no longer exists on the server" in _output(runner)
    assert runner.returncode == 0
    assert not (machine.folder / ".runner").exists()


def test_registration_deleted_before_it_connects(machine: Machine) -> None:
    """A config whose registration is gone fails, and run.sh still exits 0 (pain 3)."""
    config = machine.jit()
    machine.ask("DELETE", f"runners/{machine.github.all_runners()[0].id}")
    runner = machine.start("run.sh", "--jitconfig", config)
    assert "Failed to create a session" in _output(runner)
    assert runner.returncode == 0


def test_not_as_root(machine: Machine) -> None:
    """As root it refuses, and run.sh exits 0 all the same."""
    if os.getuid() != 0:
        pytest.skip("only root is refused")
    runner = machine.start("run.sh", RUNNER_ALLOW_RUNASROOT="")
    assert "Must not run interactively with sudo" in _output(runner)
    config = machine.start("config.sh", RUNNER_ALLOW_RUNASROOT="")
    assert "Must not run with sudo" in _output(config)
    assert (runner.returncode, config.returncode) == (0, 1)


def test_as_an_ordinary_user(machine: Machine, open_folder: Path) -> None:
    """Started by root for somebody else, the job runs as that user."""
    if os.getuid() != 0:
        pytest.skip("only root can start it for another user")
    machine.folder = open_folder
    machine.unpack()
    subprocess.run(["chown", "-R", "nobody", str(machine.folder)], check=True)
    process = subprocess.Popen(
        [
            str(shutil.which("runuser", path=f"{os.environ['PATH']}:/usr/sbin")),
            "-u",
            "nobody",
            "--",
            str(machine.folder / "run.sh"),
        ],
        env={"PATH": "/usr/bin:/bin", "ACTIONS_RUNNER_INPUT_JITCONFIG": machine.jit()},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    machine.started.append(process)
    assert machine.completed(machine.queue("id -un")).log == ("nobody",)
    _output(process)


def _configure(machine: Machine, *more: str) -> subprocess.Popen[str]:
    token = machine.ask("POST", "runners/registration-token").json()["token"]
    address = f"{machine.hub.url}/{REPOSITORY}"
    return machine.start(
        "config.sh", "--unattended", "--url", address, "--name", "box", "--labels", "gpu", *more,
        ACTIONS_RUNNER_INPUT_TOKEN=token,
    )  # fmt: skip


def test_registration_token_with_ephemeral(machine: Machine) -> None:
    """config.sh adds GitHub's own labels; an ephemeral runner is gone after its job."""
    config = _configure(machine, "--ephemeral")
    assert "√ Runner successfully added" in _output(config)
    labels = [label.name for label in machine.github.all_runners()[0].labels]
    assert labels == ["self-hosted", "Linux", "X64", "gpu"]
    runner = machine.start("run.sh")
    assert machine.completed(machine.queue()).conclusion == "success"
    _output(runner)
    assert machine.github.all_runners() == []


def test_persistent_runner_takes_one_job_after_another(machine: Machine) -> None:
    """Without --ephemeral it stays; config.sh remove takes its registration away."""
    _output(_configure(machine, "--no-default-labels"))
    runner = machine.start("run.sh")
    for _ in range(2):
        assert machine.completed(machine.queue()).conclusion == "success"
    os.killpg(runner.pid, signal.SIGINT)
    _output(runner)
    assert [label.name for label in machine.github.all_runners()[0].labels] == ["gpu"]
    token = machine.ask("POST", "runners/remove-token").json()["token"]
    assert "removed" in _output(machine.start("config.sh", "remove", "--token", token))
    assert machine.github.all_runners() == []


def test_configured_twice(machine: Machine) -> None:
    """A folder is configured once; a name is taken unless it is replaced, and keeps its id."""
    _output(_configure(machine))
    assert "already configured" in _output(_configure(machine))
    first = machine.github.all_runners()[0]
    (machine.folder / ".runner").unlink()
    assert "A runner exists with the same name box" in _output(_configure(machine))
    assert "successfully" in _output(_configure(machine, "--replace"))
    assert [each.id for each in machine.github.all_runners()] == [first.id]


def test_bad_registration_token(machine: Machine) -> None:
    """A token that is not good registers nothing."""
    address = f"{machine.hub.url}/{REPOSITORY}"
    config = machine.start("config.sh", "--unattended", "--url", address, "--token", "A0")
    assert "Invalid configuration" in _output(config)
    assert machine.github.all_runners() == []


def test_session_of_a_killed_runner(machine: Machine) -> None:
    """After kill -9 the session stays for a while, and the next start waits for its end."""
    _output(_configure(machine))
    first = machine.start("run.sh")
    machine.online()
    os.killpg(first.pid, signal.SIGKILL)
    second = machine.start("run.sh", STANDIN_RUNNER_RETRY="0.1")
    assert second.stdout
    assert "already exists" in second.stdout.readline()
    machine.github.lifetimes = replace(machine.github.lifetimes, silent=0.2)
    assert machine.completed(machine.queue()).conclusion == "success"


def test_switch_deprecated(machine: Machine) -> None:
    """The line of a runner that is too old (pain 10), and its exit code if asked for."""
    name = "ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE"
    runner = machine.run(STANDIN_RUNNER_DEPRECATED="1", **{name: "1"})
    assert "is deprecated and cannot receive messages" in _output(runner)
    assert runner.returncode == 7


@pytest.mark.parametrize(("moment", "seen"), [("start", False), ("online", True)])
def test_switch_exit(moment: str, seen: bool, machine: Machine) -> None:
    """It dies before it connects or as soon as it is online; run.sh hides it (pain 3)."""
    runner = machine.run(STANDIN_RUNNER_EXIT=moment)
    assert ("√ Connected to GitHub" in _output(runner)) is seen
    assert runner.returncode == 0


def test_switch_hang_with_a_job(machine: Machine) -> None:
    """A job that was taken and not begun is queued again after its time."""
    job = machine.queue()
    machine.run(STANDIN_RUNNER_HANG="job")
    until(lambda: machine.job(job).runner_id is not None)
    machine.github.lifetimes = replace(machine.github.lifetimes, pickup=0.3)
    until(lambda: machine.job(job).runner_id is None)
    assert machine.job(job).status == "queued"


def test_switch_hang_without_registration(machine: Machine) -> None:
    """It stays alive although its registration is gone."""
    runner = machine.run(STANDIN_RUNNER_HANG="gone")
    machine.online()
    machine.ask("DELETE", f"runners/{machine.github.all_runners()[0].id}")
    with pytest.raises(subprocess.TimeoutExpired):
        runner.wait(0.5)


def test_installdependencies(machine: Machine) -> None:
    """It needs root and nothing else."""
    process = machine.start("bin/installdependencies.sh")
    _output(process)
    assert process.returncode == (0 if os.getuid() == 0 else 1)
