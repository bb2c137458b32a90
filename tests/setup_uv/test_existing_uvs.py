"""What counts as a uv that is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version
from tests.pace import assert_within, until
from tests.processes import processes_with
from tests.setup_uv.conftest import program
from tests.setup_uv.index import script

from gpu_ci.setup_uv import existing_uvs
from gpu_ci.setup_uv.existing_uvs import ask_version, choose, on_path
from gpu_ci.setup_uv.installed import link
from gpu_ci.setup_uv.version_wanted import parse

if TYPE_CHECKING:
    from tests.setup_uv.conftest import Machine

    from gpu_ci.setup_uv.existing_uvs import Uv


def there(machine: Machine) -> list[Uv]:
    return list(on_path(machine.host(), machine.folders().uvs.parent))


def found(machine: Machine) -> list[str]:
    return [str(uv.version) for uv in there(machine)]


@pytest.mark.parametrize(
    ("says", "version"),
    [
        ("uv 0.9.3 (abc1234 2026-01-02)", "0.9.3"),
        ("uv 0.9.3", "0.9.3"),
        ("uv 0.9.3+17 (abc1234 2026-01-02)", "0.9.3+17"),
        ("uv 1.0.0rc1", "1.0.0rc1"),
    ],
)
def test_a_uv_says_its_version(tmp_path: Path, says: str, version: str) -> None:
    """The second word is the whole version: a pre-release is not taken for its release."""
    program(tmp_path / "uv", f'#!/bin/sh\necho "{says}"\n'.encode())
    assert ask_version(tmp_path / "uv") == Version(version)


@pytest.mark.parametrize(
    "text",
    [
        b"#!/bin/sh\necho Usage: something else\n",
        b"#!/bin/sh\necho uv\n",
        b"#!/bin/sh\necho uv is not installed here\n",
        b"#!/bin/sh\necho uvicorn 0.9.3\n",
        b"#!/bin/sh\necho uv 0.9.3\nexit 3\n",
        b"#!/bin/sh\necho uv 0.9.3 >&2\n",
        b"#!/bin/sh\nprintf 'uv \\377\\376 x'\n",
        b"#!/nowhere/sh\n",
        b"\x7fELF of another machine",
        b"",
    ],
)
def test_what_is_no_uv_is_passed_over(tmp_path: Path, text: bytes) -> None:
    """A program of that name that says something else, fails or does not run is no uv."""
    program(tmp_path / "uv", text)
    assert ask_version(tmp_path / "uv") is None


@pytest.mark.parametrize(
    "text",
    [
        "sleep 600",
        "echo uv 0.9.3; sleep 600",
        "sleep 600 & echo uv 0.9.3; wait",
        "sleep 600 & printf uv",
        "while :; do echo uv 0.9.3; done",
    ],
)
def test_a_uv_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A step does not wait for a broken wrapper, nor leave its children."""
    monkeypatch.setattr(existing_uvs, "ANSWER_SECONDS", 0.2)
    monkeypatch.setenv("GPU_CI_TEST_MARK", str(tmp_path))
    program(tmp_path / "uv", f"#!/bin/sh\n{text}\n".encode())
    begin = time.monotonic()
    assert ask_version(tmp_path / "uv") is None
    assert_within(10.0, time.monotonic() - begin)
    # A killed one takes a moment to go.
    until(lambda: not processes_with(f"GPU_CI_TEST_MARK={tmp_path}"))


def test_path_is_read_in_its_order_by_absolute_path(machine: Machine) -> None:
    """All are found, a folder that is named twice once, each by the path that PATH has."""
    first = machine.install("9.1.0", "one")
    machine.install("9.2.0", "two")
    machine.path += [str(machine.root / "one"), "/nowhere", ""]
    uvs = there(machine)
    assert [str(uv.version) for uv in uvs] == ["9.1.0", "9.2.0"]
    assert uvs[0].path == first
    assert str(machine.root / "one") in uvs[0].where


def test_a_relative_entry_of_path_is_passed_over(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `bin` or an empty entry means depends on the folder: a checkout could put a uv there."""
    machine.install("9.1.0", "bin")
    monkeypatch.chdir(machine.root / "bin")
    machine.path = [".", "", "../bin"]
    assert found(machine) == []


def test_a_former_steps_folders_are_not_the_machines(machine: Machine) -> None:
    """The folders that this action put on PATH are not taken for a uv that the machine has."""
    machine.install("9.1.0")
    (uv,) = there(machine)
    links = link(uv, machine.folders().bin)
    machine.path = [str(links), *machine.path]
    assert [uv.path for uv in there(machine)] == [uv.path]
    (machine.root / "other-name").symlink_to(machine.data)
    machine.path[0] = str(machine.root / "other-name" / links.relative_to(machine.data))
    assert found(machine) == ["9.1.0"]


def test_a_uv_in_an_environment_is_not_the_machines(machine: Machine) -> None:
    """A uv that may be synced or cleared away is not used; one beside a checkout's files is."""
    machine.install("9.1.0", "workspace/.venv/bin")
    machine.install("9.2.0", "workspace/tools")
    machine.install("9.3.0", "elsewhere/.venv/bin")
    for folder in ("workspace", "elsewhere"):
        (machine.root / folder / ".venv" / "pyvenv.cfg").touch()
    assert found(machine) == ["9.2.0"]


def test_an_environment_may_lie_elsewhere(machine: Machine) -> None:
    """A project's environment that is a link to a larger disk is the project's all the same."""
    machine.install("9.1.0", "large-disk/env/bin")
    (machine.root / "large-disk" / "env" / "pyvenv.cfg").touch()
    venv = machine.inputs().working_directory / ".venv"
    venv.symlink_to(machine.root / "large-disk" / "env")
    machine.path = [str(venv / "bin")]
    assert found(machine) == []


def test_a_folder_and_a_file_that_cannot_be_run_are_no_uv(machine: Machine) -> None:
    """Something of that name is not yet a program."""
    machine.install("9.1.0", "one").chmod(0o644)
    (machine.root / "two" / "uv").mkdir(parents=True)
    machine.path.append(str(machine.root / "two"))
    assert found(machine) == []


def test_the_first_that_will_do_is_chosen(machine: Machine) -> None:
    """PATH's own order decides, not the version."""
    for number in (7, 5, 6):
        machine.install(f"9.{number}.0", f"at{number}")
    uvs = there(machine)
    chosen = choose(parse(">=9.5,<9.7", "a test"), uvs)
    assert str(chosen and chosen.version) == "9.5.0"
    assert choose(parse("<9", "a test"), uvs) is None


def test_a_link_to_a_uv_is_one(machine: Machine) -> None:
    """Tools link their programs: the link's own path is used."""
    target = machine.install("9.1.0", "opt/uv")
    (machine.root / "bin").mkdir()
    (machine.root / "bin" / "uv").symlink_to(target)
    machine.path = [str(machine.root / "bin")]
    (uv,) = there(machine)
    assert uv.path == Path(machine.path[0], "uv")
    assert uv.uvx is None


def test_a_uv_of_another_machine_does_not_run(tmp_path: Path) -> None:
    """A program for another kind of machine or with another libc cannot say its version."""
    program(tmp_path / "uv", b"#!/lib/ld-of-another-libc.so.1\n" + script("9.1.0"))
    assert ask_version(tmp_path / "uv") is None
