"""Where profiles are read from: a commit that only people who may rent machines can write.

A pull request from a fork or from Dependabot may change the file, but its run reads the file of the
branch it is to be merged into. The file in the workspace is trusted only in runs that people with
write access started, and only on a machine that no earlier job has used.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import Absent, BadInputs
from gpu_ci.github.contents import file_at
from gpu_ci.github.tokens import Access
from gpu_ci.inputs.reader import Reader
from gpu_ci.profiles.yaml_nodes import MOST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE: Final = ".github/gpu-ci.yml"
DEPENDABOT: Final = "dependabot[bot]"
# Only people who may push to the repository trigger these, and they check out its own code.
# https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows
OWN_EVENTS: Final = {
    "push", "workflow_dispatch", "schedule", "merge_group", "repository_dispatch", "release",
}  # fmt: skip
OF_PULL_REQUESTS: Final = {
    "pull_request", "pull_request_review", "pull_request_review_comment", "pull_request_target",
}  # fmt: skip
# First the workflow's own token, which every step has; then the one for runners.
TOKENS: Final = ("GPU_CI_RUN_TOKEN", "INPUT_GITHUB_TOKEN")
NOT_THERE: Final = (
    "There is no {} at commit {}, and a profile is named. Commit the file (`gpu-ci init` writes one), "
    "or leave profile out."
)
UNREADABLE: Final = (
    "The event ({}) cannot be read from GITHUB_EVENT_PATH, so it is not known whose pull request this "
    "is, or which profile to trust. Leave profile out, and give the inputs themselves."
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The file's bytes; `told` says in words where they are from."""

    data: bytes
    told: str


def find(env: Mapping[str, str], say: Callable[[str], None], *, hurried: bool = False) -> Source:
    """Return the file; `hurried` waits for seconds, not a minute.

    Raises BadInputs when there is none, GitHubError when that is not known.
    """
    if env.get("GITHUB_ACTIONS") != "true":
        return _in_the_working_directory()
    read = partial(_at_github, env, say, hurried)
    base = _base_of_others(env)
    if base:
        return Source(data=read(base), told=f"{FILE} of the base ({base[:7]})")
    lying = _in_the_workspace(env)
    if lying:
        return Source(data=_bytes(lying), told=FILE)
    commit = env.get("GITHUB_SHA", "")
    if not commit:
        raise BadInputs(
            [f"{FILE} is not in the workspace, and GITHUB_SHA is not set. Check out first."]
        )
    return Source(data=read(commit), told=f"{FILE} ({commit[:7]})")


def _at_github(
    env: Mapping[str, str], say: Callable[[str], None], hurried: bool, commit: str
) -> bytes:
    reader = Reader(env)
    api_url = reader.url("github-api-url", "https://api.github.com")
    reader.look_at_repository()
    reader.finish()
    tokens = [env.get(name, "").strip() for name in TOKENS]
    access = Access(api_url=api_url, repository=env["GITHUB_REPOSITORY"], tokens=tokens, say=say)
    try:
        return file_at(access, FILE, commit, most_bytes=MOST_BYTES, hurried=hurried)
    except Absent:
        raise BadInputs([NOT_THERE.format(FILE, commit[:7])]) from None


def _base_of_others(env: Mapping[str, str]) -> str:
    """Return the base's commit in a pull request whose head is not trusted, else ""."""
    event = env.get("GITHUB_EVENT_NAME", "")
    if event not in OF_PULL_REQUESTS:
        return ""
    try:
        request = _payload(env)["pull_request"]
        if event != "pull_request_target" and _is_own(request, env):
            return ""
        commit = str(request["base"]["sha"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        commit = ""
    if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        return commit
    raise BadInputs([UNREADABLE.format(event)])


def _is_own(request: Mapping[str, Any], env: Mapping[str, str]) -> bool:
    head = request["head"]["repo"]  # null once a fork is deleted
    here = str(request["base"]["repo"]["full_name"]).lower()
    authors = {request["user"]["login"], env.get("GITHUB_ACTOR", "")}
    return bool(head) and str(head["full_name"]).lower() == here and DEPENDABOT not in authors


def _payload(env: Mapping[str, str]) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(Path(env["GITHUB_EVENT_PATH"]).read_bytes())
    return loaded


def _in_the_workspace(env: Mapping[str, str]) -> Path | None:
    """Return the file if it lies there and is this run's own."""
    event = env.get("GITHUB_EVENT_NAME", "")
    # Runs of `workflow_run`, `issue_comment` and the like may have checked out anybody's code.
    if event and event not in OWN_EVENTS | OF_PULL_REQUESTS:
        return None
    # On a machine that stays, an earlier job, anybody's, may have left it there.
    if env.get("RUNNER_ENVIRONMENT") == "self-hosted":
        return None
    file = Path(env.get("GITHUB_WORKSPACE", "") or "/nowhere", FILE)
    return file if file.is_file() else None


def _in_the_working_directory() -> Source:
    """Return the file of the repository that the terminal is in."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return Source(data=_bytes(folder / FILE), told=str(folder / FILE))
        if (folder / ".git").exists():
            break
    raise BadInputs(
        [f"There is no {FILE} in this repository. `gpu-ci init` writes one; or leave profile out."]
    )


def _bytes(file: Path) -> bytes:
    with file.open("rb") as stream:  # one byte over the limit shows that it is too large
        return stream.read(MOST_BYTES + 1)
