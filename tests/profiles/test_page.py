"""The page about profiles says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from gpu_ci.profiles.keys import KEYS, OF_A_STOP, Key
from gpu_ci.profiles.read_profile import read
from gpu_ci.profiles.schema import described

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "profiles.md"
HOLDS = {
    "text": "a value",
    "whole": "a whole number",
    "minutes": "a number, decimals allowed",
    "several": "a value, or a list",
    "options": "a mapping, or JSON",
}


def holds(key: Key) -> str:
    return HOLDS.get(key.kind) or ", ".join(f"`{choice}`" for choice in key.choices)


def test_the_page_has_every_key() -> None:
    """With what it holds, and the meaning of action.yml."""
    section = PAGE.read_text().split("\n## The keys\n")[1]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    told = described(ROOT)
    assert rows == [f"| `{name}` | {holds(key)} | {told[name]} |" for name, key in KEYS.items()]


def test_the_page_says_what_a_stop_takes() -> None:
    """All of it and nothing else."""
    (sentence,) = re.findall(r"\*\*stop\*\* takes (.*?) of a profile", PAGE.read_text(), re.DOTALL)
    assert set(re.findall(r"`([\w-]+)`", sentence)) == set(OF_A_STOP)


def test_the_example_can_be_read() -> None:
    """Each of its profiles."""
    example = PAGE.read_text().split("```yaml\n")[1].split("```")[0].encode()
    assert read(example, "t4", "x")["region"] == "eu-west-1\nus-east-1"
    assert read(example, "a100", "x")["release"] == "pause"
