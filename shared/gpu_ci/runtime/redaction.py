"""Takes secrets out of a text before it is shown where nobody masks it.

The runner masks what it prints line by line, letter by letter: it does not recognize a secret with
Markdown's escapes in it, and a terminal masks nothing.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN: Final = "***"
# What may hold a secret that nobody has named: the user of an address (a proxy's), the query of a
# signed one, GitHub's tokens, and the headers that AWS repeats when a signature does not match.
_TELLING: Final = (
    (re.compile(r"(?<=://)[^/\s@]+(?=@)"), HIDDEN),
    (re.compile(r"\?[\w.%~-]+=[^\s'\"<>)]*"), f"?{HIDDEN}"),
    (re.compile(r"\b(?:gh[a-z]_|github_pat_)\w+"), HIDDEN),
    (
        re.compile(
            r"\b((?:proxy-)?authorization|x-amz-security-token|cookie)(['\"]?\s*[:=]\s*).*",
            re.IGNORECASE,
        ),
        rf"\1\2{HIDDEN}",
    ),
)
_known: set[str] = set()


def remember(secret: str) -> None:
    """Hide this secret from now on, whole and line by line, in every form that others write it in."""
    for part in (secret, *secret.splitlines()):
        _known.update(form for form in _forms(part.strip()) if form)


def redacted(text: str) -> str:
    """Return the text with *** for every secret that is known, and for what looks like one."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for pattern, instead in _TELLING:
        text = pattern.sub(instead, text)
    return text


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, as in an address, as in JSON, as Python shows it, and in base64."""
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]
    yield base64.b64encode(secret.encode(errors="surrogateescape")).decode()
