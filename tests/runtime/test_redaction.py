"""What is shown where nobody masks holds no secret, however others have written it down."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

import pytest

from gpu_ci.runtime.redaction import redacted, remember

SECRET = 's3cret/+"key\\_'
# Put together here, so that nothing in this file looks like a token to those who look for them.
TOKEN = "ghs_" + "16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps({"token": SECRET}),
        repr([SECRET]),
        repr(SECRET.encode()),
        base64.b64encode(SECRET.encode()).decode(),
    ],
)
def test_a_known_secret_is_hidden_in_every_form(written: str) -> None:
    """As it is, in an address, in JSON, as Python shows it, and in a header."""
    remember(f" {SECRET}\n")
    shown = redacted(f"a {written} b")
    assert re.fullmatch(r"a \W*(?:token\W+)?b?\W*\*\*\*\W* b", shown), shown


def test_each_line_of_a_secret_is_one() -> None:
    """A key is often shown in part; its blank lines are no secret."""
    remember("first line\n\n  second line\n")
    assert redacted("x second line y\n\nfirst line") == "x *** y\n\n***"


def test_a_secret_within_another_does_not_give_it_away() -> None:
    """The longest goes first."""
    remember("abc")
    remember("abc-def")
    assert redacted("abc-def abc") == "*** ***"


def test_nothing_is_known_of_what_is_empty() -> None:
    """An unset variable hides no text."""
    for empty in ("", "  ", "\n"):
        remember(empty)
    assert redacted("a text\n") == "a text\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("proxy http://me:pw@proxy:3128/ failed", "proxy http://***@proxy:3128/ failed"),
        ("with url: /a/b?sig=x%2Fy&se=1 (Caused by", "with url: /a/b?*** (Caused by"),
        ("<https://b.s3/x?X-Amz-Signature=ab>", "<https://b.s3/x?***>"),
        (f"token {TOKEN}.", "token ***."),
        (f"token github_pat_{TOKEN}_x", "token ***"),
        ("{'Authorization': 'Basic eDp5', 'Accept': 1}", "{'Authorization': ***"),
        (
            "host:x\nx-amz-security-token:IQoJ/b3 JpZ2\n\nend",
            "host:x\nx-amz-security-token:***\n\nend",
        ),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    """Also one that no variable of ours carries: a proxy's, a signed address', the cloud's own."""
    assert redacted(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Is it here? Look at https://github.com/octo/widgets/settings.",
        "Runner gpu-ci-7-1-x (id 12) of octo/widgets@main: 422, name is taken.",
        "Nothing is free for g5.xlarge us-east-1 spot. See user@example.org.",
    ],
)
def test_plain_words_stay(text: str) -> None:
    """Nothing is hidden that a reader needs."""
    assert redacted(text) == text
