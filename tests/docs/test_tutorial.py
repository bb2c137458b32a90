"""The tutorial: each of its commands does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
FILES = re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", TEXT, re.DOTALL)
# `sh shared/run` is this environment's Python on the same code; setting it up has tests of its own.
HERE = f"""\
sh() {{ shift; "{sys.executable}" -I -X utf8 "{ROOT}/shared" "$@"; }}
"""
SECONDS = 110


def repository(folder: Path) -> dict[str, str]:
    """Make a repository to clone; return what leads git there from the address of the real one."""
    subprocess.run(["git", "init", "-q", folder], check=True, timeout=SECONDS)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/org/gpu-ci",
    }


def run(script: str, folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-ec", HERE + script],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the reader has saved the page's files."""
    for name, content in FILES:
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_page_has_no_other_commands() -> None:
    """Each of the five has its test; that of a kept machine is tests/sandbox/test_demo.py."""
    assert len(COMMANDS) == 5
    assert COMMANDS[3] == "sh shared/run demo --provider jarvislabs\n"


def test_the_loop_is_seen_in_a_clone(tmp_path: Path) -> None:
    """From nothing to "nothing is left", as a stranger does it."""
    done = run(COMMANDS[0], tmp_path, repository(tmp_path / "origin"))
    assert (done.returncode, "Nothing is left: 0 machines" in done.stdout) == (0, True), done


def test_the_workflow_of_the_page_runs(folder: Path) -> None:
    """The one call, with the six jobs that the page names."""
    done = run(COMMANDS[1], folder, {})
    assert done.returncode == 0, done
    for job in ("gate", "loop / start", "loop / test", "loop / watch", "loop / stop", "result"):
        assert f"success     gpu / {job}" in done.stdout


def test_the_broken_workflow_leaves_nothing(folder: Path) -> None:
    """What the page says of it comes true, in every job."""
    done = run(COMMANDS[2], folder, {})
    assert done.returncode != 0
    assert "Left: 0 machines, 0 registrations." in done.stdout, done
    for job, state in (("test", "failure"), ("watch", "failure"), ("stop", "success")):
        assert f"{state}     gpu / loop / {job}" in done.stdout


def test_the_workflow_is_written_by_questions(tmp_path: Path) -> None:
    """Where nobody is there to answer, it says what to give instead."""
    done = run(COMMANDS[4], tmp_path, {})
    assert "Nobody can be asked" in done.stderr
