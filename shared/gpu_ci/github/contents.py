"""A file of the repository at one commit, by GitHub's contents API.

https://docs.github.com/en/rest/repos/contents#get-repository-content
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from github import Auth

from gpu_ci.errors import Absent, BadInputs, Forbidden
from gpu_ci.github.transport import Line
from gpu_ci.inputs.reader import Reader
from gpu_ci.runtime.clock import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gpu_ci.github.transport import Answer

# How long an answer may take, in seconds, and how often it is asked for.
PATIENT: Final = (15, 4)
HURRIED: Final = (4, 2)
# The workflow's own token first, which is in every step; then the one for runners.
TOKENS: Final = ("GPU_CI_RUN_TOKEN", "INPUT_GITHUB_TOKEN")
CURE: Final = (
    "In a private repository the job needs `permissions: contents: read` to read the profile; a job "
    "with a `permissions` block has no right that is not named there."
)
NOBODY: Final = (
    "The profile has to be read from GitHub, and this step has no token. Give the job "
    "`permissions: contents: read`, or check out before this step."
)
NOT_THERE: Final = (
    "There is no {} at commit {}, and a profile is named. Commit the file (`gpu-ci init` writes one), "
    "or leave profile out."
)


def file_at(
    path: str,
    commit: str,
    *,
    env: Mapping[str, str],
    say: Callable[[str], None],
    most_bytes: int,
    hurried: bool = False,
) -> bytes:
    """Return a file of this repository at a commit; of a larger one, more bytes than it may have.

    Raises BadInputs when the repository is seen and has no such file there; Forbidden when no token
    of this step may read it; another GitHubError when that cannot be known.
    """
    api_url = _api_url(env)
    contents = f"/repos/{env['GITHUB_REPOSITORY']}/contents/"
    refused = Forbidden(NOBODY)
    for token in dict.fromkeys(filter(None, (env.get(name, "").strip() for name in TOKENS))):
        try:
            content = _read(_line(api_url, token, say, hurried), contents, path, commit)
            return _decoded(content, most_bytes)
        except Forbidden as error:
            refused = error
    raise refused


def _api_url(env: Mapping[str, str]) -> str:
    """Return the API's root. Raises BadInputs for it, and for a repository that has no name."""
    reader = Reader(env)
    api_url = reader.url("github-api-url", "https://api.github.com")
    reader.look_at_repository()
    reader.finish()
    return api_url


def _line(api_url: str, token: str, say: Callable[[str], None], hurried: bool) -> Line:
    timeout, tries = HURRIED if hurried else PATIENT
    return Line(
        api_url,
        Auth.Token(token),
        Deadline.after(timeout * tries),
        say,
        timeout=timeout,
        tries=tries,
        cures=dict.fromkeys((403, 404), CURE),
    )


def _read(line: Line, contents: str, path: str, commit: str) -> Answer:
    try:
        return line.get(contents + path, ref=commit)
    except Absent as error:
        if _sees(line, contents, commit):
            raise BadInputs([NOT_THERE.format(path, commit[:7])]) from None
        raise Forbidden(error.what, error.cure) from None


def _sees(line: Line, contents: str, commit: str) -> bool:
    """Say whether the token may see the commit: GitHub answers 404 to one that may not, too."""
    try:
        line.get(contents, ref=commit)
    except Absent:
        return False
    return True


def _decoded(answer: Answer, most_bytes: int) -> bytes:
    """Return the content. Of a file of more than 1 MiB GitHub sends none."""

    def decoded(data: Mapping[str, Any]) -> bytes:
        if int(data["size"]) > most_bytes:
            return b" " * (most_bytes + 1)  # what reads it says that it is too large
        return base64.b64decode(str(data["content"]))

    return answer.read(decoded)
