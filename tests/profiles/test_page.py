"""The page about profiles says what the code does."""

from __future__ import annotations

from pathlib import Path

from gpu_ci.profiles.read_profile import read

PAGE = Path(__file__).parents[2] / "docs" / "profiles.md"


def test_the_example_can_be_read() -> None:
    """Each of its profiles."""
    example = PAGE.read_text().split("```yaml\n")[1].split("```")[0].encode()
    assert read(example, "t4", "x")["region"] == "eu-west-1\nus-east-1"
    assert read(example, "a100", "x")["release"] == "pause"
