"""A file of the repository at one commit, by GitHub's contents API.

https://docs.github.com/en/rest/repos/contents#get-repository-content
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import Forbidden
from gpu_ci.github.cures import CONTENTS_CURE, NO_CHECKOUT_CURE
from gpu_ci.github.tokens import FirstThatMay
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.github.tokens import Access
    from gpu_ci.github.transport import Answer
    from gpu_ci.runtime.clock import Clock

# How long an answer may take, in seconds, and how often to ask for it.
PATIENT: Final = (15, 4)
HURRIED: Final = (4, 2)


def file_at(
    access: Access,
    path: str,
    commit: str,
    *,
    most_bytes: int,
    hurried: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> bytes:
    """Return a file of the repository at a commit; if it is too large, more than `most_bytes`.

    Raises Absent when the repository can be seen and has no such file there; Forbidden when no
    token may read it; another GitHubError when that cannot be known.
    """
    timeout, tries = HURRIED if hurried else PATIENT
    lines = access.lines(
        Deadline.after(timeout * tries, clock),
        lambda _token: dict.fromkeys((403, 404), CONTENTS_CURE),
        timeout=timeout,
        tries=tries,
    )
    if not lines:
        raise Forbidden(
            f"{path} has to be read from GitHub, and this step has no token.", NO_CHECKOUT_CURE
        )
    contents = f"/repos/{access.repository}/contents/"
    tokens = FirstThatMay(lines, contents, ref=commit)
    answer = tokens.ask("contents", lambda line: line.get(contents + path, ref=commit))
    return _decoded(answer, most_bytes)


def _decoded(answer: Answer, most_bytes: int) -> bytes:
    """Return the content. GitHub sends none if the file has more than 1 MiB."""

    def decoded(data: Mapping[str, Any]) -> bytes:
        if int(data["size"]) > most_bytes:
            return b" " * (most_bytes + 1)  # its reader says that it is too large
        return base64.b64decode(str(data["content"]))

    return answer.read(decoded)
