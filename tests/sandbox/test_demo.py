"""The demo: two runs on a machine that is kept, told in short, with nothing left."""

from __future__ import annotations

import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from tests.processes import processes_with

from gpu_ci.errors import EnvironmentBroken
from gpu_ci_sandbox import demo as module
from gpu_ci_sandbox.action_step import Result
from gpu_ci_sandbox.demo import Loop, demo
from gpu_ci_sandbox.fake_github.records import Job
from gpu_ci_sandbox.timeline import DemoFailed
from gpu_ci_sandbox.world import forget_account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci_sandbox.timeline import Timeline
    from gpu_ci_sandbox.world import Box, World

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that the runner, which is another user, can reach."""
    with tempfile.TemporaryDirectory(prefix="gpu-ci-demo-test-") as name:
        Path(name).chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv("TMPDIR", name)
        yield Path(name)


def users() -> list[str]:
    return [entry.pw_name for entry in pwd.getpwall()]


def boxes(text: str) -> set[str]:
    return set(re.findall(r"gpu-box-[0-9a-f]+", text))


def test_a_kept_machine_is_used_twice(
    open_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second run finds what the first has made; both are told, and nothing is left."""
    demo(provider="jarvislabs")
    told = capsys.readouterr().out
    (name,) = boxes(told)
    maker, finder = re.findall(r"Run (\d+), job start: ", told)
    assert maker != finder
    assert told.index("Made an environment") < told.index(f"Found the environment of run {maker} ")
    assert len(re.findall(r"Ready to work after \d+ ms\.", told)) == 2
    assert len(set(re.findall(r"is online on machine (\d+),", told))) == 2
    assert told.count(f"{name}: Paused, 0 registrations.") == 2
    assert told.count("is paused, its disk costs about 10.22 USD a month: billed for") == 2
    assert told.count("### GPU runner: online") == told.count("### GPU runner: given back") == 2
    assert "add-mask" not in told
    assert name not in users()
    assert list(open_folder.iterdir()) == []


def test_an_interrupted_demo_leaves_nothing(open_folder: Path) -> None:
    """Ctrl-C while the job runs ends the machine, and removes its files and its user."""
    with subprocess.Popen(
        [sys.executable, "-I", "-u", str(SHARED), "demo", "--provider", "jarvislabs"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        seen = next((line for line in process.stdout if "picked up by" in line), "")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    (name,) = boxes(seen)
    assert process.returncode == 128 + signal.SIGINT, rest
    assert processes_with(name) == []
    assert name not in users()
    assert list(open_folder.iterdir()) == []


def test_an_account_that_stays_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the demo made and cannot remove is an error that says how to; none is no error."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/bin/false")
    monkeypatch.setattr("gpu_ci_sandbox.world.FORGET_SECONDS", 0.0)
    forget_account("gpu-box-stays")
    monkeypatch.setattr(pwd, "getpwall", lambda: [SimpleNamespace(pw_name="gpu-box-stays")])
    with pytest.raises(EnvironmentBroken, match="userdel gpu-box-stays"):
        forget_account("gpu-box-stays")


LOG = "Found the environment of run {run} on /home: nothing to make."


@pytest.mark.parametrize(
    ("log", "machine_ids", "trouble"),
    [
        ("Made an environment.", ("1", "2"), "did not find what the first one had left"),
        (LOG.format(run=9), ("1", "2"), "did not find what the first one had left"),
        (LOG.format(run=1), ("1", "1"), "it was not resumed"),
        (LOG.format(run=1), ("1", "2"), ""),
    ],
)
def test_a_second_run_that_found_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, log: str, machine_ids: tuple[str, str], trouble: str
) -> None:
    """The demo is green only if the machine was resumed with what the first run had made."""
    loops = [_loop(run, machine_id, log) for run, machine_id in enumerate(machine_ids, 1)]

    def run(_world: World, _box: Box, _timeline: Timeline, _does: str) -> Loop:
        return loops.pop(0)

    monkeypatch.setattr(module, "_kept_run", run)
    if not trouble:
        demo(provider="jarvislabs")
        return
    with pytest.raises(DemoFailed, match=trouble):
        demo(provider="jarvislabs")


def _loop(run: int, machine_id: str, log: str) -> Loop:
    outputs = {"machine-id": machine_id}
    result = Result(exit_code=0, outputs=outputs, dropped=(), summary="", log="", masks=())
    job = Job(
        id=run,
        run_id=run,
        attempt=1,
        name="test",
        labels=("gpu",),
        script="",
        created_at=0.0,
        started_at=0.0,
        log=(log,),
    )
    return Loop(started=result, job=job, stopped=replace(result, outputs={}))
