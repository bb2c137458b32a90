"""REST endpoints of self-hosted runners and runner groups, for repositories and organisations."""

from __future__ import annotations

import base64
import json
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import Blueprint, jsonify, request

from gpu_ci_sandbox.fake_github import shapes
from gpu_ci_sandbox.fake_github.access import (
    Refusal,
    body,
    github,
    invalid,
    not_found,
    organization,
    root,
)
from gpu_ci_sandbox.fake_github.access import repository as allowed_repository
from gpu_ci_sandbox.fake_github.pages import page
from gpu_ci_sandbox.fake_github.runners import NameTaken
from gpu_ci_sandbox.fake_runner import archive

if TYPE_CHECKING:
    from flask import Response
    from flask.typing import ResponseReturnValue

    from gpu_ci_sandbox.fake_github.records import Runner, RunnerGroup

runners = Blueprint("runners", __name__)

MAX_LABELS = 100
MAX_NAME = 64


REPOSITORY = "/repos/<owner>/<name>/actions"
ORGANIZATION = "/orgs/<org>/actions"


def _scope(level: str, owner: str = "", name: str = "", org: str = "") -> str:
    """The scope in the path, if the caller may do this to its runners."""
    if org:
        return organization(org, level)
    # Listing a repository's runners asks for administration, reading it included.
    return allowed_repository(owner, name, "administration", level).full_name


def _runner(runner_id: int, level: str, **path: str) -> Runner:
    scope = _scope(level, **path)
    found = github().runners.get(runner_id)
    if found is None or found.scope != scope:
        raise not_found()
    return found


@runners.get(f"{REPOSITORY}/runners")
@runners.get(f"{ORGANIZATION}/runners")
def list_runners(**path: str) -> Response:
    """`name` is an exact filter."""
    found = github().runners.of(_scope("read", **path))
    name = request.args.get("name")
    return page("runners", [each for each in found if name in {None, each.name}], shapes.runner)


@runners.get(f"{REPOSITORY}/runners/<int:runner_id>")
@runners.get(f"{ORGANIZATION}/runners/<int:runner_id>")
def get_runner(runner_id: int, **path: str) -> Response:
    return jsonify(shapes.runner(_runner(runner_id, "read", **path)))


@runners.delete(f"{REPOSITORY}/runners/<int:runner_id>")
@runners.delete(f"{ORGANIZATION}/runners/<int:runner_id>")
def delete_runner(runner_id: int, **path: str) -> ResponseReturnValue:
    """A busy runner stays."""
    found = _runner(runner_id, "write", **path)
    if found.busy:
        raise invalid(f"Runner {found.name} is currently running a job and cannot be deleted.")
    github().runners.remove(found.id)
    return "", HTTPStatus.NO_CONTENT


@runners.post(f"{REPOSITORY}/runners/generate-jitconfig")
@runners.post(f"{ORGANIZATION}/runners/generate-jitconfig")
def generate_jitconfig(**path: str) -> ResponseReturnValue:
    """No label is added to those that were asked for."""
    scope = _scope("write", **path)
    sent = _jit_request(scope)
    runner = _register(scope, sent)
    config = jit_config(runner, sent.get("work_folder", "_work"), root())
    made = {"runner": shapes.runner(runner), "encoded_jit_config": config}
    return made, HTTPStatus.CREATED


def _register(scope: str, sent: dict[str, Any]) -> Runner:
    try:
        return github().runners.register(
            scope,
            sent["name"],
            sent["labels"],
            group_id=sent["runner_group_id"],
            jit=True,
            ephemeral=True,
        )
    except NameTaken as taken:
        message = f"Already exists - A runner with the name {taken} already exists."
        raise Refusal(HTTPStatus.CONFLICT, message) from taken


def _jit_request(scope: str) -> dict[str, Any]:
    sent = body()
    missing = [name for name in ("name", "runner_group_id", "labels") if name not in sent]
    if missing:
        raise invalid("Invalid request.", *(f'"{name}" was not supplied.' for name in missing))
    wrong = [*_wrong_name(sent["name"]), *_wrong_labels(sent["labels"])]
    if wrong:
        raise invalid("Validation Failed", *wrong)
    if sent["runner_group_id"] not in _group_ids(scope):
        raise not_found()
    return sent


def _wrong_name(name: object) -> list[str]:
    good = isinstance(name, str) and name.strip() and len(name) <= MAX_NAME
    return [] if good else [f"name must be a string of 1 to {MAX_NAME} characters"]


def _wrong_labels(labels: object) -> list[str]:
    good = (
        isinstance(labels, list)
        and 1 <= len(labels) <= MAX_LABELS
        and all(isinstance(label, str) and label.strip() for label in labels)
    )
    return [] if good else [f"labels must be an array of 1 to {MAX_LABELS} names"]


def _group_ids(scope: str) -> set[int]:
    return {1} | {group.id for group in github().groups_of(scope)}


def jit_config(runner: Runner, work_folder: str, url: str) -> str:
    """The config of a runner program, of the published shape: base64 of a JSON object of files."""
    files = runner_files(runner, work_folder, url)
    encoded = {name: _base64(json.dumps(content)) for name, content in files.items()}
    return _base64(json.dumps(encoded))


def runner_files(runner: Runner, work_folder: str, url: str) -> dict[str, dict[str, Any]]:
    """What the runner program keeps in its folder: who it is, and its key."""
    # As long as a 2048 bit RSA key would be, since machines limit what they take at boot.
    key = {part: secrets.token_urlsafe(128) for part in ("p", "q", "dp", "dq", "inverseQ")}
    key["modulus"] = secrets.token_urlsafe(256)
    return {
        ".runner": {
            "agentId": runner.id,
            "agentName": runner.name,
            "disableUpdate": True,
            "ephemeral": runner.ephemeral,
            "poolId": runner.group_id,
            "poolName": github().group_of(runner).name,
            "serverUrl": url,
            "gitHubUrl": f"{url}/{runner.scope}",
            "workFolder": work_folder,
        },
        ".credentials": {
            "scheme": "OAuth",
            "data": {"clientId": str(runner.id), "authorizationUrl": f"{url}/_runner"},
        },
        ".credentials_rsaparams": key | {"d": runner.secret, "exponent": "AQAB"},
    }


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@runners.post(f"{REPOSITORY}/runners/registration-token")
@runners.post(f"{ORGANIZATION}/runners/registration-token")
def registration_token(**path: str) -> ResponseReturnValue:
    return _token(_scope("write", **path))


@runners.post(f"{REPOSITORY}/runners/remove-token")
@runners.post(f"{ORGANIZATION}/runners/remove-token")
def remove_token(**path: str) -> ResponseReturnValue:
    return _token(_scope("write", **path))


def _token(scope: str) -> ResponseReturnValue:
    made = github().runner_token(scope)
    shape = {"token": made.token, "expires_at": shapes.timestamp(made.expires_at)}
    return shape, HTTPStatus.CREATED


@runners.get(f"{REPOSITORY}/runners/downloads")
@runners.get(f"{ORGANIZATION}/runners/downloads")
def downloads(**path: str) -> Response:
    """The stand-in runner, under both architectures that machines have."""
    _scope("read", **path)
    return jsonify([_download(architecture) for architecture in ("x64", "arm64")])


def _download(architecture: str) -> dict[str, str]:
    built = archive(architecture)
    return {
        "os": "linux",
        "architecture": architecture,
        "download_url": f"{root()}/_runner/archive/{built.filename}",
        "filename": built.filename,
        "sha256_checksum": built.sha256,
    }


@runners.get(f"{ORGANIZATION}/runner-groups")
def list_groups(org: str) -> Response:
    """`visible_to_repository` takes the bare name of a repository of the organisation."""
    groups = github().groups_of(organization(org, "read"))
    asked = request.args.get("visible_to_repository")
    if asked is not None:
        groups = [each for each in groups if _visible(each, f"{org}/{asked}")]
    return page("runner_groups", groups, lambda each: shapes.runner_group(each, root()))


def _visible(group: RunnerGroup, repository: str) -> bool:
    return group.visibility != "selected" or repository in group.repositories


@runners.get(f"{ORGANIZATION}/runner-groups/<int:group_id>")
def get_group(org: str, group_id: int) -> Response:
    for group in github().groups_of(organization(org, "read")):
        if group.id == group_id:
            return jsonify(shapes.runner_group(group, root()))
    raise not_found()
