"""The JSON shapes of GitHub's REST API, version 2026-03-10, filled from records."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpu_ci_sandbox.fake_github.credentials import App, Credential
    from gpu_ci_sandbox.fake_github.records import Job, Repository, Run, Runner, RunnerGroup, Step
    from gpu_ci_sandbox.fake_github.runs import Runs

Shape = dict[str, Any]

REPOSITORY_LINKS = {
    "archive": "{archive_format}{/ref}",
    "assignees": "assignees{/user}",
    "blobs": "git/blobs{/sha}",
    "branches": "branches{/branch}",
    "collaborators": "collaborators{/collaborator}",
    "comments": "comments{/number}",
    "commits": "commits{/sha}",
    "compare": "compare/{base}...{head}",
    "contents": "contents/{+path}",
    "contributors": "contributors",
    "deployments": "deployments",
    "downloads": "downloads",
    "events": "events",
    "forks": "forks",
    "git_commits": "git/commits{/sha}",
    "git_refs": "git/refs{/sha}",
    "git_tags": "git/tags{/sha}",
    "hooks": "hooks",
    "issue_comment": "issues/comments{/number}",
    "issue_events": "issues/events{/number}",
    "issues": "issues{/number}",
    "keys": "keys{/key_id}",
    "labels": "labels{/name}",
    "languages": "languages",
    "merges": "merges",
    "milestones": "milestones{/number}",
    "notifications": "notifications{?since,all,participating}",
    "pulls": "pulls{/number}",
    "releases": "releases{/id}",
    "stargazers": "stargazers",
    "statuses": "statuses/{sha}",
    "subscribers": "subscribers",
    "subscription": "subscription",
    "tags": "tags",
    "teams": "teams",
    "trees": "git/trees{/sha}",
}
USER_LINKS = (
    "followers",
    "following",
    "gists",
    "starred",
    "subscriptions",
    "organizations",
    "repos",
    "events",
    "received_events",
)


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(seconds)


def _node(kind: str, number: int) -> str:
    return base64.b64encode(f"{kind}{number}".encode()).decode()


def runner(record: Runner) -> Shape:
    """`runner`; the version is null until the program has connected."""
    return {
        "id": record.id,
        "name": record.name,
        "os": record.os,
        "status": "online" if record.online else "offline",
        "busy": record.busy,
        "runner_group_id": record.group_id,
        "ephemeral": record.ephemeral,
        "version": record.version,
        "labels": [
            {"id": label.id, "name": label.name, "type": label.type} for label in record.labels
        ],
    }


def runner_group(record: RunnerGroup, root: str) -> Shape:
    """`runner-groups-org`."""
    address = f"{root}/orgs/{record.organization}/actions/runner-groups/{record.id}"
    selected = (
        {"selected_repositories_url": f"{address}/repositories"}
        if record.visibility == "selected"
        else {}
    )
    return selected | {
        "id": record.id,
        "name": record.name,
        "visibility": record.visibility,
        "default": record.id == 1,
        "runners_url": f"{address}/runners",
        "hosted_runners_url": f"{address}/hosted-runners",
        "inherited": False,
        "allows_public_repositories": record.allows_public_repositories,
        "restricted_to_workflows": False,
        "selected_workflows": [],
        "workflow_restrictions_read_only": False,
    }


# A page of runs holds the same few users and repositories hundreds of times.
@lru_cache
def user(login: str, root: str, kind: str = "User") -> Shape:
    """`simple-user`."""
    address = f"{root}/users/{login}"
    number = 1 + sum(login.encode())
    links = {f"{link}_url": f"{address}/{link}" for link in USER_LINKS}
    return links | {
        "login": login,
        "id": number,
        "node_id": _node("User", number),
        "avatar_url": f"{root}/avatars/{login}",
        "gravatar_id": "",
        "url": address,
        "html_url": f"{root}/{login}",
        "type": kind,
        "site_admin": False,
    }


@lru_cache
def minimal_repository(record: Repository, root: str) -> Shape:
    """`minimal-repository`, the part of a repository that other shapes hold."""
    address = f"{root}/repos/{record.full_name}"
    links = {f"{name}_url": f"{address}/{path}" for name, path in REPOSITORY_LINKS.items()}
    return links | {
        "id": record.id,
        "node_id": _node("Repository", record.id),
        "name": record.name,
        "full_name": record.full_name,
        "owner": user(record.owner, root, "Organization"),
        "private": record.private,
        "visibility": "private" if record.private else "public",
        "html_url": f"{root}/{record.full_name}",
        "description": None,
        "fork": False,
        "url": address,
    }


def repository(record: Repository, root: str) -> Shape:
    """`full-repository`."""
    web = f"{root}/{record.full_name}"
    counts = ("forks", "open_issues", "watchers")
    counted = ("stargazers", "subscribers", "network", *counts)
    features = ("issues", "projects", "wiki", "pages", "discussions", "downloads")
    numbers = dict.fromkeys((*counts, *(f"{each}_count" for each in counted), "size"), 0)
    flags = dict.fromkeys((*(f"has_{each}" for each in features), "archived", "disabled"), False)
    times = dict.fromkeys(("created_at", "updated_at", "pushed_at"), timestamp(record.created_at))
    empty = dict.fromkeys(("mirror_url", "homepage", "language", "license"))
    addresses = {"git_url": web, "ssh_url": web, "clone_url": f"{web}.git", "svn_url": web}
    whole = minimal_repository(record, root) | numbers | flags | times | empty | addresses
    return whole | {"default_branch": "main"}


def workflow_id(path: str) -> int:
    """A number for a workflow file, the same for all of its runs."""
    return 1 + zlib.crc32(path.encode())


def run(record: Run, runs: Runs, of: Repository, root: str, attempt: int | None = None) -> Shape:
    """`workflow-run`, as of the latest attempt or of an earlier one."""
    address = f"{root}/repos/{record.repository}/actions/runs/{record.id}"
    links = ("jobs", "logs", "artifacts", "cancel", "rerun")
    shown = attempt or record.attempt
    workflow = workflow_id(record.path)
    return {f"{link}_url": f"{address}/{link}" for link in links} | {
        "id": record.id,
        "name": record.name,
        "node_id": _node("WorkflowRun", record.id),
        "check_suite_id": record.id,
        "check_suite_node_id": _node("CheckSuite", record.id),
        "check_suite_url": f"{root}/repos/{record.repository}/check-suites/{record.id}",
        "head_branch": record.branch,
        "head_sha": record.sha,
        "path": record.path,
        "display_title": record.name,
        "run_number": record.number,
        "run_attempt": shown,
        "previous_attempt_url": f"{address}/attempts/{shown - 1}" if shown > 1 else None,
        "referenced_workflows": [],
        "event": record.event,
        "status": runs.status(record, attempt),
        "conclusion": runs.conclusion(record, attempt),
        "workflow_id": workflow,
        "workflow_url": f"{root}/repos/{record.repository}/actions/workflows/{workflow}",
        "url": address,
        "html_url": f"{root}/{record.repository}/actions/runs/{record.id}",
        "pull_requests": [],
        "created_at": timestamp(record.created_at),
        "updated_at": timestamp(record.updated_at),
        "run_started_at": timestamp(record.started_at),
        "actor": user(record.actor, root),
        "triggering_actor": user(record.actor, root),
        "head_commit": _commit(record),
        "repository": minimal_repository(of, root),
        "head_repository": minimal_repository(_head(record, of), root),
    }


def _head(record: Run, of: Repository) -> Repository:
    return replace(of, id=of.id + 1, full_name=record.fork) if record.fork else of


def _commit(record: Run) -> Shape:
    person = {"name": record.actor, "email": f"{record.actor}@example.com"}
    return {
        "id": record.sha,
        "tree_id": record.sha,
        "message": record.name,
        "timestamp": timestamp(record.created_at),
        "author": person,
        "committer": person,
    }


def job(record: Job, of: Run, root: str) -> Shape:
    """`job`; who runs it is null, and steps are empty, until it was picked up."""
    actions = f"{root}/repos/{of.repository}/actions"
    begun = record.assigned_at is None
    return {
        "id": record.id,
        "run_id": record.run_id,
        "run_url": f"{actions}/runs/{record.run_id}",
        "run_attempt": record.shown_attempt or record.attempt,
        "node_id": _node("CheckRun", record.id),
        "head_sha": of.sha,
        "head_branch": of.branch,
        "workflow_name": of.name,
        "url": f"{actions}/jobs/{record.id}",
        "html_url": f"{root}/{of.repository}/actions/runs/{record.run_id}/job/{record.id}",
        "check_run_url": f"{root}/repos/{of.repository}/check-runs/{record.id}",
        "status": record.status,
        "conclusion": record.conclusion,
        "name": record.name,
        "created_at": timestamp(record.created_at),
        "started_at": timestamp(record.started_at),
        "completed_at": _moment(record.completed_at),
        "labels": list(record.labels),
        "runner_id": record.runner_id if begun else None,
        "runner_name": record.runner_name if begun else None,
        "runner_group_id": record.group_id if begun else None,
        "runner_group_name": record.group_name if begun else None,
        "steps": [_step(step) for step in record.steps],
    }


def _step(record: Step) -> Shape:
    return {
        "number": record.number,
        "name": record.name,
        "status": "in_progress" if record.completed_at is None else "completed",
        "conclusion": record.conclusion,
        "started_at": timestamp(record.started_at),
        "completed_at": _moment(record.completed_at),
    }


def installation(app: App, root: str) -> Shape:
    """`installation`."""
    times = dict.fromkeys(("created_at", "updated_at"), timestamp(0))
    empty = dict.fromkeys(("single_file_name", "suspended_by", "suspended_at"))
    account = user(app.account, root, "Organization")
    return (times | empty) | {
        "id": app.installation_id,
        "account": account,
        "repository_selection": "selected",
        "access_tokens_url": f"{root}/app/installations/{app.installation_id}/access_tokens",
        "repositories_url": f"{root}/installation/repositories",
        "html_url": f"{root}/organizations/{app.account}/settings/installations",
        "app_id": app.id,
        "app_slug": app.slug,
        "client_id": app.client_id,
        "target_id": account["id"],
        "target_type": "Organization",
        "permissions": dict(app.permissions),
        "events": [],
    }


def installation_token(made: Credential, narrowed: Iterable[Repository], root: str) -> Shape:
    """`installation-token`; names the repositories only if it was narrowed to some."""
    named = [repository(each, root) for each in narrowed]
    return ({"repositories": named} if named else {}) | {
        "token": made.token,
        "expires_at": timestamp(made.expires_at or 0),
        "permissions": dict(made.permissions),
        "repository_selection": "selected",
    }
