"""What is written into the repository is up to date, and is written whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from tests.reference import loaded

from gpu_ci.profiles.keys import KEYS, OF_A_STOP

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
PAGE = "docs/profiles.md"


@pytest.fixture
def reference() -> ModuleType:
    return loaded()


def test_nothing_is_stale(reference: ModuleType) -> None:
    """The READMEs' tables, the keys of a profile and the schema: `python docs/reference.py write`."""
    found = {path: (ROOT / path).read_text() for path in reference.written()}
    assert found == reference.written()


def test_what_somebody_has_changed_by_hand_is_written_anew(reference: ModuleType) -> None:
    """And nothing beside it."""
    text = (ROOT / PAGE).read_text()
    row = next(line for line in text.splitlines() if line.startswith("| `market`"))
    assert reference.written({PAGE: text.replace(row, "")})[PAGE] == text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<!-- keys: begin -->", ""),
        ("<!-- keys: end -->", "<!-- keys: end --> <!-- more: begin --><!-- more: end -->"),
        ("<!-- keys: end -->", "<!-- keys: end --> <!-- keys: begin --><!-- keys: end -->"),
    ],
)
def test_a_table_without_its_place_is_an_error(reference: ModuleType, old: str, new: str) -> None:
    """It would else be out of date for ever, or stand there twice."""
    text = (ROOT / PAGE).read_text()
    assert old in text
    with pytest.raises(reference.NoPlace):
        reference.written({PAGE: text.replace(old, new)})


def test_the_command_says_what_is_stale_and_writes_it(
    reference: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`check` changes nothing and fails; after `write` it succeeds."""
    (tmp_path / "a.md").write_text("old")
    (tmp_path / "b.md").write_text("same")
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(reference, "written", lambda: {"a.md": "new", "b.md": "same"})
    codes = [reference.main([command]) for command in ("check", "write", "check", "wrote")]
    assert (codes, (tmp_path / "a.md").read_text()) == ([1, 0, 0, 2], "new")
    assert capsys.readouterr().out == "a.md\na.md\n"


def names(text: str, block: str) -> list[str]:
    """Return what the first cells of a table name."""
    (table,) = re.findall(rf"<!-- {block}: begin -->(.*?)<!-- {block}: end -->", text, re.DOTALL)
    return re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)


@pytest.mark.parametrize("action", sorted(p.parent.name for p in ROOT.glob("action-*/action.yml")))
def test_a_readme_has_every_input_and_output(reference: ModuleType, action: str) -> None:
    """In the order of action.yml."""
    told = yaml.safe_load((ROOT / action / "action.yml").read_text())
    text = reference.written()[f"{action}/README.md"]
    for block in ("inputs", "outputs"):
        assert names(text, block) == list(told[block])


def test_the_page_has_every_key_and_what_a_stop_takes(reference: ModuleType) -> None:
    """All of it and nothing else."""
    text = reference.written()[PAGE]
    assert names(text, "keys") == list(KEYS)
    (sentence,) = re.findall(r"\*\*stop\*\* takes (.*?) of a profile", text, re.DOTALL)
    assert re.findall(r"`([\w-]+)`", sentence) == list(OF_A_STOP)


def test_a_default_has_a_column_of_its_own(reference: ModuleType) -> None:
    """A value as code, whether action.yml or a description has it, and words as they are."""
    text = reference.written()["action-start/README.md"]
    for line in (
        "| `online-timeout-minutes` | How long the runner may take to come online. | `15` |",
        "| `disk-gb` | Size of the root disk. | the image's |",
        "| `dry-run` | Only plan and check; nothing is rented. | `false` |",
    ):
        assert line in text
