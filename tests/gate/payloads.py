"""Events as GitHub tells them: the variables of the runner and the payload, cut to what is of use.

The shapes follow https://docs.github.com/en/webhooks/webhook-events-and-payloads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REPOSITORY = "octo-org/science"
NUMBER = 12
MAINTAINER, CONTRIBUTOR, DEPENDABOT = "octocat", "stranger", "dependabot[bot]"


def user(login: str) -> dict[str, Any]:
    kind = "Bot" if login.endswith("[bot]") else "User"
    return {"login": login, "id": 1 + len(login), "type": kind, "site_admin": False}


def repository(full_name: str = REPOSITORY, *, fork: bool = False) -> dict[str, Any]:
    owner, _, name = full_name.partition("/")
    return {
        "id": 1296269 + len(full_name),
        "name": name,
        "full_name": full_name,
        "private": False,
        "owner": user(owner),
        "fork": fork,
        "default_branch": "main",
    }


def label(name: str) -> dict[str, Any]:
    return {
        "id": 208045946,
        "node_id": "MDU6TGFiZWwyMDgwNDU5NDY=",
        "url": f"https://api.github.com/repos/{REPOSITORY}/labels/x",
        "name": name,
        "description": None,
        "color": "ededed",
        "default": False,
    }


def pull_request(
    action: str = "opened",
    *labels: str,
    changed: str = "",
    source: str | None = REPOSITORY,
    branch: str = "feature",
    author: str = MAINTAINER,
    actor: str = "",
) -> dict[str, Any]:
    """A pull request event; `source` is the repository of its branch, None where it is deleted.

    Without `actor` the author has done it.
    """
    actor = actor or author
    payload: dict[str, Any] = {
        "action": action,
        "number": NUMBER,
        "pull_request": {
            "number": NUMBER,
            "state": "open",
            "title": "A change",
            "draft": False,
            "user": user(author),
            "labels": [label(each) for each in labels],
            "head": {
                "label": f"{(source or 'unknown/repository').partition('/')[0]}:{branch}",
                "ref": branch,
                "sha": "b" * 40,
                "repo": repository(source, fork=source != REPOSITORY) if source else None,
            },
            "base": {"ref": "main", "sha": "a" * 40, "repo": repository()},
        },
        "repository": repository(),
        "sender": user(actor),
    }
    if changed:
        payload["label"] = label(changed)
    ref = f"refs/pull/{NUMBER}/merge"
    return event("pull_request", payload, actor=actor, ref=ref, GITHUB_HEAD_REF=branch)


def push(ref: str = "refs/heads/main") -> dict[str, Any]:
    return event(
        "push", {"ref": ref, "before": "a" * 40, "after": "b" * 40, "deleted": False}, ref=ref
    )


def event(
    name: str,
    payload: Mapping[str, Any] | None = None,
    *,
    actor: str = MAINTAINER,
    ref: str = "refs/heads/main",
    **variables: str,
) -> dict[str, Any]:
    """The variables of an event; `payload` is under the key of that name."""
    return {
        "GITHUB_EVENT_NAME": name,
        "GITHUB_REF": ref,
        "GITHUB_ACTOR": actor,
        "GITHUB_TRIGGERING_ACTOR": actor,
        "GITHUB_RUN_ATTEMPT": "1",
        "GITHUB_REPOSITORY": REPOSITORY,
        **variables,
        "payload": {"repository": repository(), "sender": user(actor), **(payload or {})},
    }


def environment(told: Mapping[str, Any], folder: Path, **more: str) -> dict[str, str]:
    """Write the payload to a file and return the variables that point to it."""
    variables = {name: value for name, value in told.items() if name != "payload"}
    path = folder / "event.json"
    path.write_text(json.dumps(told["payload"]), encoding="utf-8")
    return {**variables, "GITHUB_EVENT_PATH": str(path), **more}


DISPATCH = event("workflow_dispatch", {"inputs": None, "workflow": ".github/workflows/gpu.yml"})
SCHEDULE = event("schedule", {"schedule": "7 3 * * 1"})
MERGE_GROUP = event(
    "merge_group",
    {
        "action": "checks_requested",
        "merge_group": {
            "head_ref": "refs/heads/gh-readonly-queue/main/pr-12-aaaa",
            "base_ref": "refs/heads/main",
        },
    },
    ref="refs/heads/gh-readonly-queue/main/pr-12-aaaa",
)
FORK = "stranger/science"
DEPENDABOT_OPENS = pull_request(author=DEPENDABOT, branch="dependabot/pip/numpy-3")
