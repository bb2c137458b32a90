"""Tests how boot.sh is filled in and how its reports are read back."""

from __future__ import annotations

import gzip
import random
import subprocess
from base64 import b64encode
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_ci.boot.boot_log import PHASES, BootReport, read_log
from gpu_ci.boot.script import Boot, Place, Registration, RunnerBuild, render

# What is not text for a shell cannot be rendered; and a test below says so.
TEXT = st.text(
    st.characters(
        exclude_characters="\0", categories=("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co")
    ),
    max_size=40,
)
AWKWARD = st.sampled_from(
    [
        "'",
        "$(id)",
        "`id`",
        "a\n\nROOT=''\n",
        "\nvariables() { :; }\n",
        "\\",
        '"',
        "\r\n",
        "# no",
        "é",
    ]
)
ANY = st.one_of(TEXT, AWKWARD, st.tuples(TEXT, AWKWARD, TEXT).map("".join))
NAMES = st.from_regex(r"\AV_[A-Za-z0-9_]{0,9}\Z")

USUAL = Boot(
    place=Place(root="/opt/gpu-ci", console="/dev/console"),
    registration=Registration(name="gpu-ci-1", labels=("gpu-ci-1",), jit_config="config"),
    runners=(RunnerBuild(architecture="x64", url="https://x.test/runner", sha256="0" * 64),),
    pickup=900,
    idle=600,
    lifetime=21600,
    gpus=1,
)


def header(script: str) -> str:
    """Return the part of a script that holds the values."""
    return script[script.index("MACHINE=") : script.index("\ntick=")]


def in_shell(script: str, *names: str) -> list[str]:
    """Return what these variables hold once a shell has read the values."""
    asked = "".join(f'printf "%s\\0" "${name}"\n' for name in names)
    command = ["sh", "-c", f"{header(script)}\nvariables\n{asked}"]
    done = subprocess.run(command, capture_output=True, check=True, env={})
    return done.stdout.decode().split("\0")[:-1]


@given(setup=ANY, label=ANY, root=ANY, variables=st.dictionaries(NAMES, ANY, max_size=3))
def test_every_value_is_data(setup: str, label: str, root: str, variables: dict[str, str]) -> None:
    """Whatever text is given arrives in the shell as that text, and nothing of it is run."""
    given = replace(
        USUAL,
        place=Place(root=root, home=f"{root}/home/"),
        registration=replace(USUAL.registration, labels=(label, "b")),
        setup_script=setup,
        variables=tuple(variables.items()),
    )
    names = ("SETUP_SCRIPT", "LABELS", "ROOT", "USER_HOME", "MACHINE", "CONSOLE", *variables)
    home = f"{root}/home"  # without the slash: a link in its place must be seen as one
    expected = [setup, f"{label},b", root, home, "gpu-ci-1", "", *variables.values()]
    assert in_shell(render(given), *names) == expected


def test_every_blank_is_filled() -> None:
    """Each value that boot.sh names is given, with times in whole seconds, rounded up, never 0."""
    script = render(replace(USUAL, pickup=0, idle=0.2, lifetime=60.5))
    names = (
        "PICKUP",
        "IDLE",
        "LIFETIME",
        "GPUS",
        "ENDS_BY",
        "ACCOUNT",
        "USER_HOME",
        "RUNNERS",
        "JIT_CONFIG",
    )
    runner = f"x64 {'0' * 64} https://x.test/runner"
    expected = ["1", "1", "61", "1", "poweroff", "gpu-ci", "", runner, "config"]
    assert in_shell(script, *names) == expected


@pytest.mark.parametrize("name", ["", "1A", "A B", "A;id", "A=B", "$(id)", "A\n"])
def test_a_name_that_is_none(name: str) -> None:
    """A variable's name is not quoted, so it must be a name."""
    with pytest.raises(ValueError, match="not a name for an environment variable"):
        render(replace(USUAL, variables=((name, "x"),)))


def test_a_nul() -> None:
    """What a shell would cut short without a word is refused."""
    with pytest.raises(ValueError, match="NUL"):
        render(replace(USUAL, setup_script="echo \0"))


def test_the_script_without_its_comments() -> None:
    """The script starts with its interpreter, has no comments, and is one that sh can read."""
    script = render(USUAL)
    assert script.startswith("#!/bin/sh\n")
    assert [line for line in script.splitlines()[1:] if line.lstrip().startswith("#")] == []
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)


def test_it_fits_in_user_data() -> None:
    """Compressed, with a config of 4.2 kB, it leaves 5 of EC2's 16 kB to the user (pain 32)."""
    config = b64encode(random.Random(1).randbytes(3150)).decode()
    script = render(replace(USUAL, registration=replace(USUAL.registration, jit_config=config)))
    assert len(gzip.compress(script.encode())) < 11 * 1024


def test_a_log() -> None:
    """The last phase with its time, the last sign of life, and what the gate found."""
    report = read_log(
        "gpu-ci boot 100 phase network\n"
        "gpu-ci boot 120 beat network\n"
        "gpu-ci boot 130 phase gpu\n"
        "gpu-ci boot 140 gpu 1 x NVIDIA A10G, driver 550.54, 22 GiB free\n"
        "gpu-ci boot 150 beat gpu\n"
    )
    found = "1 x NVIDIA A10G, driver 550.54, 22 GiB free"
    assert report == BootReport(phase="gpu", since=130, heard=150, gpu=found, tail=report.tail)


def test_a_failure() -> None:
    """A failure has its phase and its reason, and the machine says why it ended."""
    report = read_log(
        "gpu-ci boot 7 failed gpu 1 of 2 GPUs\ngpu-ci boot 9 ended the boot has failed"
    )
    assert (report.phase, report.failed) == ("gpu", "1 of 2 GPUs")
    assert (report.heard, report.ended) == (9, "the boot has failed")
    assert read_log("gpu-ci boot 7 failed gpu no\ngpu-ci boot 8 failed user killed").failed == "no"


def test_a_console() -> None:
    """Colours, carriage returns, prefixes and the kernel's lines do not hide a report (pain 3)."""
    report = read_log(
        "boot 100 phase network\r\n"
        "\x1b[0;32m  OK  \x1b[0m] Reached target\x1b]0;title\x07\r"
        "[   12.3] cloud-init[812]: gpu-ci boot 110 beat download\r\r\n"
        "[   13.0] nvidia: module loaded\r\n"
        "\x1b[1mgpu-ci boot 120 phase li\x1b[0mbraries\r\n"
        "gpu-ci boot 130 phase garb[   14.0] led\r\n"
        "gpu-ci boot 140 lis"
    )
    assert (report.phase, report.since, report.heard) == ("libraries", 120, 130)
    assert "\x1b" not in report.tail
    assert report.tail.splitlines()[1] == "  OK  ] Reached target"


def test_the_last_boot_counts() -> None:
    """A failure of an earlier boot on the same console is over when a new one begins (pain 24)."""
    report = read_log(
        "gpu-ci boot 10 listening\n"
        "gpu-ci boot 20 failed gpu no\n"
        "gpu-ci boot 21 ended no\n"
        "gpu-ci boot 90 phase network\n"
    )
    assert report == BootReport(phase="network", since=90, heard=90, tail=report.tail)


def test_silence() -> None:
    """A log without a report says nothing of the machine but its own last 50 lines."""
    lines = [f"line {number}" for number in range(80)]
    assert read_log("\n".join(lines)) == BootReport(tail="\n".join(lines[-50:]))
    assert read_log("") == BootReport()


@given(st.text())
@example("\x1b]")
def test_any_text_can_be_read(text: str) -> None:
    """No console, however broken, breaks its reader."""
    assert read_log(text + "\ngpu-ci boot 5 listening").listening


@given(st.sampled_from(PHASES), st.integers(0, 10**10))
def test_each_phase_can_be_read(phase: str, at: int) -> None:
    """Every phase is read back as it is reported."""
    assert read_log(f"gpu-ci boot {at} phase {phase}").phase == phase


def test_the_phases_are_those_of_the_script() -> None:
    """The list of phases is the script's, in the script's order."""
    lines = render(USUAL).splitlines()
    assert tuple(line.split()[1] for line in lines if line.startswith("    phase ")) == PHASES
