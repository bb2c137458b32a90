"""The page of errors: read from the code, with causes and cures that belong together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.reference import loaded

from gpu_ci.github.cures import KEY_CURE
from gpu_ci.providers.ec2.aws_errors import KINDS
from gpu_ci.providers.ec2.launch_request import user_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page() -> str:
    text: str = loaded().errors_page()
    return text


def test_a_text_stands_beside_its_own_cure(page: str) -> None:
    """A cure that several modules name alike is that of the module which imports it."""
    says = "app-private-key is not an RSA private key in PEM form."
    assert f"| {says} | {KEY_CURE} |" in page


def test_what_an_error_says_is_found_by_its_beginning(page: str) -> None:
    """With numbers and names in it, the text still stands there around them."""
    with pytest.raises(Exception, match="boot script") as caught:
        user_data("".join(chr(0x4E00 + number) for number in range(20000)))
    pattern = re.sub(r"\b\d+\b", "…", str(caught.value.what))  # type: ignore[attr-defined]  # ours
    assert f"| {pattern} | {caught.value.cure} |" in page  # type: ignore[attr-defined]  # ours


def test_every_code_of_aws_that_is_known_stands_there(page: str) -> None:
    """Each with its cure, and what is said of all others."""
    assert [kind.cure for kind in KINDS if kind.cure not in page] == []
    assert page.count("| AWS: ") - page.count("| AWS: anything else |") == len(KINDS)


def test_what_fails_before_python_stands_there(page: str) -> None:
    """Every exit code that the comment of shared/run names."""
    script = (ROOT / "shared" / "run").read_text()
    codes = re.findall(r"^#   (7\d)  ", script, re.MULTILINE)
    assert len(codes) > 3
    assert [code for code in codes if f"| `{code}` | " not in page] == []


def test_no_text_of_the_code_breaks_the_table(page: str) -> None:
    """Each row has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
