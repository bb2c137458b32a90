"""The commands in the documentation: they are understood, and do to the files what the page says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gpu_ci.cli import _parser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("action-*/README.md"), *ROOT.glob("docs/**/*.md")])
OURS = re.compile(
    r"(?:sh (?:../gpu-ci/)?shared/run|(?<!-)gpu-ci) +([a-z-]+ --.*|[a-z-]+$)", re.MULTILINE
)
SERVER = (ROOT / "docs" / "how-to" / "enterprise-server.md").read_text()
SEDS = re.findall(r"^(sed -i .*)$", SERVER, re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Return what a page gives our program to do, comments and pipes cut off."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ").replace(')"', "")
    return [re.split(r" [#|>]", found)[0].strip() for found in OURS.findall(text)]


WITH_COMMANDS = [page for page in PAGES if commands(page)]


def test_there_are_commands_to_look_at() -> None:
    """Those of the README among them."""
    assert "demo --provider jarvislabs" in commands(ROOT / "README.md")
    assert len(WITH_COMMANDS) > 5


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_understood(page: Path) -> None:
    """No flag has another name in the documentation."""
    ours = [command for command in commands(page) if command != "check"]
    assert [command for command in ours if not is_understood(command)] == []


def is_understood(command: str) -> bool:
    try:
        _parser().parse_args(shlex.split(command))
    except SystemExit as left:
        return left.code == 0  # of `--help`
    return True


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the workflows, in which the commands for Enterprise Server have been run."""
    folder = tmp_path / ".github" / "workflows"
    shutil.copytree(ROOT / ".github" / "workflows", folder)
    for sed in SEDS:
        subprocess.run(["bash", "-ec", sed], cwd=tmp_path, check=True, timeout=60)
    return folder


def test_on_enterprise_server_no_reference_is_left_that_it_does_not_know(copied: Path) -> None:
    """Each leads to the same file of the copy, and nothing else of the workflows has changed."""
    assert len(SEDS) == 2
    for file in copied.iterdir():
        before = (ROOT / ".github" / "workflows" / file.name).read_text()
        expected = re.sub(r"uses: \$/(.*)", r"uses: ORG/gpu-ci/\1@REF", before)
        assert file.read_text() == re.sub(r"^ *queue: max\n", "", expected, flags=re.MULTILINE)
        assert not re.search(r"^[^#\n]*uses: \$/", file.read_text(), re.MULTILINE)


def test_on_enterprise_server_the_workflows_are_still_sound(copied: Path) -> None:
    """By actionlint."""
    done = subprocess.run(
        ["actionlint", *copied.iterdir()], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_of_the_language_that_it_names(page: Path) -> None:
    """What is pasted can be read by what it is pasted for."""
    for language, text in re.findall(r"```(json|yaml)\n(.*?)```", page.read_text(), re.DOTALL):
        assert json.loads(text) if language == "json" else yaml.safe_load(text)
