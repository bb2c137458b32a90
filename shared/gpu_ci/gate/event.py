"""The event that started a run, from the variables and the payload file that GitHub provides."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from gpu_ci.errors import EventUnreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

PULL_REQUEST: Final = "pull_request"
CURE: Final = (
    "In a workflow the runner sets GITHUB_EVENT_NAME and GITHUB_EVENT_PATH. In a container, or on a "
    "service that imitates GitHub, make sure that both reach this step."
)


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """A pull request at the moment of the event.

    `action` is what happened to it (opened, labeled, …). `changed` is the label that was added or
    removed, and `labels` are all that it has. `source` is the repository (owner/name) of its
    branch, "" if that is deleted.
    https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request
    """

    number: int
    action: str
    changed: str
    labels: tuple[str, ...]
    author: str
    source: str
    from_fork: bool

    def labelled(self, name: str) -> str:
        """Return the label as the pull request spells it, "" if it has no such label.

        GitHub ignores case in the names of labels.
        """
        return next((each for each in self.labels if name and same(each, name)), "")

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Raises AttributeError, KeyError, TypeError or ValueError for an unexpected shape."""
        pull = data["pull_request"]
        action, changed = str(data["action"]), str((data.get("label") or {}).get("name", ""))
        labels = [str(each["name"]) for each in pull["labels"]]
        head, base = pull["head"]["repo"], pull["base"]["repo"]
        # It is null once the head's repository is deleted.
        source = str(head["full_name"]) if head else ""
        return cls(
            number=int(pull["number"]),
            action=action,
            changed=changed,
            labels=tuple(dict.fromkeys([*labels, *([changed] if action == "labeled" else [])])),
            author=str((pull.get("user") or {}).get("login", "")),
            source=source,
            from_fork=not same(source, str(base["full_name"])),
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """What started the run: `name` as in `on:`, `ref` as in refs/heads/main, who did it, and which
    attempt of the run this is. `pull_request` is set only for events of that name."""

    name: str
    ref: str
    actor: str
    attempt: int
    default_branch: str
    pull_request: PullRequest | None

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Self:
        """Read the variables and the payload. Raises EventUnreadable."""
        name = env.get("GITHUB_EVENT_NAME", "")
        if not name:
            raise EventUnreadable(
                "GITHUB_EVENT_NAME is not set: nothing says what started this run.", CURE
            )
        payload = _payload(env.get("GITHUB_EVENT_PATH", ""))
        try:
            return cls(
                name=name,
                ref=env.get("GITHUB_REF", ""),
                actor=env.get("GITHUB_ACTOR", ""),
                attempt=int(env.get("GITHUB_RUN_ATTEMPT") or 1),
                default_branch=str((payload.get("repository") or {}).get("default_branch") or ""),
                pull_request=PullRequest.read(payload) if name == PULL_REQUEST else None,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EventUnreadable(
                f"The payload of {name} does not have GitHub's shape ({error!r}).", CURE
            ) from error


def same(one: str, other: str) -> bool:
    """Say whether two names of labels, people or repositories are the same to GitHub."""
    return one.casefold() == other.casefold()


def _payload(path: str) -> Mapping[str, Any]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EventUnreadable(f"The event's payload cannot be read ({error}).", CURE) from error
    if not isinstance(found, dict):
        raise EventUnreadable("The event's payload is not a JSON object.", CURE)
    return found
