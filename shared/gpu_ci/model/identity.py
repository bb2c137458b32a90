"""Who this start is: repository, run, attempt and key give the names and labels. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_ci.model.tags import IN_A_TERMINAL, key_mark, run_prefix, slug

if TYPE_CHECKING:
    from collections.abc import Mapping


# GitHub takes 64 characters for a runner's name; JarvisLabs takes 40 for an instance's.
NAME_LIMIT = 40


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The start that rents the machines.

    `repository` is `owner/name`; `run_id` and `attempt` are the workflow run's; `key` distinguishes
    the starts of one run; `starter` is the check run id of the job that starts, if the runner gives
    it; `scope` is where runners are registered (`repos/owner/name` or `orgs/name`).
    """

    repository: str
    run_id: str
    attempt: str
    key: str
    scope: str
    starter: str = ""

    @classmethod
    def from_environment(
        cls, env: Mapping[str, str], *, key: str = "", organization: str = ""
    ) -> Identity:
        """Read it from the runner's default variables and those that our action.yml sets."""
        repository = env.get("GITHUB_REPOSITORY", "")
        starter = env.get("GPU_CI_CHECK_RUN_ID", "")
        parts = (env.get("GITHUB_JOB", "terminal"), env.get("GPU_CI_JOB_INDEX", ""), starter)
        return cls(
            repository=repository,
            run_id=env.get("GITHUB_RUN_ID", "") or IN_A_TERMINAL,
            attempt=env.get("GITHUB_RUN_ATTEMPT", "") or "1",
            key=key or ".".join(part for part in parts if part),
            scope=f"orgs/{organization}" if organization else f"repos/{repository}",
            starter=starter,
        )

    def name(self, index: int, replacement: int = 0) -> str:
        """Return the name of the index-th machine and of its runner, the same for every try.

        A machine that replaces a bad one gets the next `replacement`.
        """
        stem = f"{run_prefix(self.run_id)}{self.attempt}-"
        tail = f"{self.key_mark()}{index}" + (f"r{replacement}" if replacement else "")
        room = max(0, NAME_LIMIT - len(stem) - len(tail))
        return stem + (slug(self.key)[:room].strip("-") or "x") + tail

    def label(self, name: str, nonce: str) -> str:
        """Return a label that no other job can aim at; `nonce` is eight random hexadecimal digits."""
        return "-".join(part for part in (name, self.starter, nonce) if part)

    def key_mark(self) -> str:
        """Return the part of the names that distinguishes the starts of one run."""
        return key_mark(self.repository, self.key)
