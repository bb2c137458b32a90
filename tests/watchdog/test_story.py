"""The order of events of a watchdog: who may what, what is told, and how it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.fakes import REPOSITORY
from tests.github.desk import desk_at
from tests.watchdog.scene import LIMIT, Scene, label_of, name_of

from gpu_ci.errors import CloudUnreachable, Unexpected
from gpu_ci.model.machine import State
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.faults import answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub

GONE_RUN = 99
NOT_LOOKED_AT = "Machines and registrations were not looked at"


# Who may what


def test_the_jobs_own_token_watches_the_queue(scene: Scene) -> None:
    """It can never see runners: the queue is swept, a notice says what was not, and the pass is a
    success; runners are not even asked for."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.register(name_of(GONE_RUN), label_of(GONE_RUN))
    told = scene.sweep(github_token=scene.job_token)
    assert (told.code, told.ended()) == (0, ("1", "0", "0"))
    assert f"::notice::{NOT_LOOKED_AT}" in told.log
    assert "GITHUB_TOKEN never may" in told.unseen
    assert scene.desk.calls("GET", "/runners") == []


def test_a_token_without_the_right_is_noticed(scene: Scene) -> None:
    """One that only GitHub knows not to see runners is asked once."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    least = scene.state.issue(credentials.fine_grained(REPOSITORY, actions="write"))
    told = scene.sweep(github_token=least)
    assert (told.code, told.ended()) == (0, ("1", "0", "0"))
    assert NOT_LOOKED_AT in told.unseen
    assert len(scene.desk.calls("GET", "/runners")) == 1


@pytest.mark.parametrize("token", ["the job's", "another"])
def test_who_names_providers_needs_the_right(scene: Scene, token: str) -> None:
    """The queue is swept first; then the pass fails with 10 and what the token lacks, since money
    was to be saved; no machine is touched."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.machine(GONE_RUN)
    least = scene.state.issue(credentials.fine_grained(REPOSITORY, actions="write"))
    given = scene.job_token if token == "the job's" else least
    told = scene.sweep(providers="fake", github_token=given)
    assert (told.code, told.ended()) == (10, ("1", "0", "0"))
    assert f"::error::{NOT_LOOKED_AT}" in told.log
    assert len(scene.desk.calls("GET", "/runners")) == (0 if token == "the job's" else 1)
    assert len(scene.cloud.machines) == 1


def test_runners_that_cannot_be_seen_just_now(scene: Scene) -> None:
    """An outage of that one list is said, and is no reason to leave the queue alone."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(answer(500, {"message": "Oops"}, path="/runners", times=None))
    told = scene.sweep()
    assert (told.code, told.done) == (0, {"run 11 (ci)": "cancelled"})
    assert "Runners: GET" in told.unseen


def test_the_reserve_ends_the_look_at_machines(scene: Scene) -> None:
    """A token that has only its last fifth left is not read with any further: the stuck run is
    ended, and the pass fails as limited since machines could not be looked at."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.machine(GONE_RUN)
    scene.state.set_remaining(1000, token=scene.desk.admin)
    told = scene.sweep(providers="fake")
    assert (told.code, told.ended()) == (12, ("1", "0", "0"))
    assert "are left for all others" in told.log


def test_an_administrator_needs_no_job_token(scene: Scene) -> None:
    """In a terminal there is only one."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.machine(GONE_RUN)
    scene.of_runner = {"GPU_CI_RUN_TOKEN": ""}
    assert scene.sweep(providers="fake").ended() == ("1", "1", "0")


@pytest.fixture
def of_today(
    hub: ServedGitHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Scene]:
    """A scene that begins now: an App's assertions are dated with the machine's own time."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with desk_at(hub, now=time.time()) as desk:
        yield Scene(desk=desk, folder=tmp_path, patch=monkeypatch, capsys=capsys)


def test_an_app_sweeps_runners_and_the_jobs_token_the_queue(of_today: Scene) -> None:
    """The App's token is narrowed to runners; runs are read and cancelled with the job's own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    scene, pem = of_today, serialization.Encoding.PEM
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    public = key.public_key().public_bytes(pem, info).decode()
    scene.state.install(
        credentials.App(
            id=77,
            public_key=public,
            installation_id=88,
            account="octo",
            repositories=frozenset({REPOSITORY}),
        )
    )
    scene.stuck(11)
    since = time.time() - LIMIT - 60
    scene.state.set_run(11, started_at=since)
    [job] = scene.state.all_jobs()
    scene.state.set_job(job.id, created_at=since, started_at=since)
    scene.over(12)
    scene.machine(12)
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    told = scene.sweep(
        github_token="", app_id="77", app_private_key=private.decode(), providers="fake"
    )
    assert (told.code, told.ended()) == (0, ("1", "1", "0"))


# What is told


def test_a_pass_that_finds_nothing(scene: Scene) -> None:
    """One sentence, in log and summary, and outputs that programs can read."""
    told = scene.sweep()
    assert (told.code, told.ended(), told.seconds) == (0, ("0", "0", "0"), 0)
    assert told.report == {
        "scope": "repository",
        "dry_run": False,
        "findings": [],
        "unseen": [],
    }
    for text in (told.log, told.page):
        assert "Nothing waits too long, and nothing is left over." in text


def test_a_pass_that_finds_everything(scene: Scene) -> None:
    """Runs, machines, kept machines and registrations, in this order, in log, table and JSON."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.over(12)
    scene.register(name_of(12), label_of(12))
    machine = scene.machine(GONE_RUN)
    scene.keeper.add("box", State.RUNNING)
    told = scene.sweep(providers="fake, keeper", machine_name="box")
    things = ["run 11 (ci)", f"machine {machine.describe()}", "machine box"]
    things.append(f"registration {name_of(12)}")
    assert [each["what"] for each in told.findings] == things
    assert told.ended() == ("1", "2", "1")
    rows = [line for line in told.page.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == ["What", "---", *things]
    for thing in things:
        assert f"{thing}: " in told.log


def test_a_name_in_the_summary_is_text(scene: Scene) -> None:
    """Whoever names jobs and workflows writes no Markdown and no HTML there, and no command of the
    runner's in the log."""
    scene.run(11, name="<img src=x>|\n::warning::x")
    scene.queue(11, "`a` [b](c)")
    scene.clock.sleep(LIMIT)
    told = scene.sweep()
    assert r"\<img src=x\>\|" in told.page
    assert r"\`a\` \[b\](c)" in told.page
    assert not [line for line in told.log.splitlines() if line.startswith("::warning::")]


def test_nothing_secret_is_told(scene: Scene) -> None:
    """Tokens are masked before anything prints, and are in no word of it."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(answer(403, {"message": "No."}, path=r"/cancel$", times=None))
    told = scene.sweep()
    masks = [line for line in told.log.splitlines() if line.startswith("::add-mask::")]
    rest = told.log.replace("\n".join(masks), "") + told.page + str(dict(told.outputs))
    for secret in (scene.desk.admin, scene.job_token):
        assert f"::add-mask::{secret}" in masks
        assert secret not in rest
    assert told.log.startswith("::add-mask::")


def test_a_terminal_gets_words(scene: Scene) -> None:
    """Outside of a runner there is neither a summary nor a command."""
    for name in ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        scene.patch.delenv(name)
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    told = scene.sweep(github_token=scene.job_token)
    assert "run 11 (ci): job 'test' has waited" in told.log
    assert NOT_LOOKED_AT in told.log
    assert "::" not in told.log


# How it ends


def test_several_troubles_are_all_told(scene: Scene) -> None:
    """What could not be ended outranks what could not be looked at, and hides none of it."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)
    scene.desk.add(answer(403, {"message": "No."}, path=r"/cancel$", times=None))
    scene.cloud.failing["find"] = CloudUnreachable("No answer.", "Look there.")
    told = scene.sweep(providers="fake")
    assert told.code == 40
    assert "::error::Run 11 could not be cancelled." in told.log
    assert "::error::No answer. Look there." in told.log


def test_the_first_of_several_failures_is_the_exit_code(scene: Scene, tmp_path: Path) -> None:
    """The others are told as well."""
    (tmp_path / "file").touch()
    scene.cloud.failing["find"] = CloudUnreachable("No answer.", "Look there.")
    told = scene.sweep(providers="fake", cache_dir=str(tmp_path / "file"))
    assert told.code == 24
    assert "::error::No answer. Look there." in told.log
    assert "::error::cache-dir" in told.log


def test_a_bug_is_no_silence(scene: Scene) -> None:
    """What was found until then is told, and the traceback shows."""
    scene.stuck(11)
    scene.clock.sleep(LIMIT)

    def broken(*_given: object) -> None:
        raise ZeroDivisionError

    scene.patch.setattr(scene.cloud, "find", broken)
    told = scene.sweep(providers="fake")
    assert told.code == Unexpected.exit_code
    assert "run 11 (ci): job 'test' has waited" in told.log
    assert "Nothing waits too long" not in told.log
    assert "ZeroDivisionError" in told.log


def test_bad_inputs_end_before_anything_is_asked(scene: Scene) -> None:
    """Exit code 2, each problem its own annotation."""
    told = scene.sweep(queue_minutes="soon", max_actions="-1")
    assert (told.code, scene.desk.calls()) == (2, [])
    assert told.log.count("::error::") == 2
