"""REST endpoints of a repository, of the rate limit and of a GitHub App's installation."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Blueprint, g, jsonify, request

from gpu_ci_sandbox.fake_github import credentials, shapes
from gpu_ci_sandbox.fake_github.access import (
    Refusal,
    bearer,
    body,
    github,
    invalid,
    not_found,
    root,
)
from gpu_ci_sandbox.fake_github.access import repository as allowed_repository
from gpu_ci_sandbox.fake_github.credentials import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Response
    from flask.typing import ResponseReturnValue

    from gpu_ci_sandbox.fake_github.credentials import App

apps = Blueprint("apps", __name__)


@apps.get("/repos/<owner>/<name>")
def get_repository(owner: str, name: str) -> Response:
    """`permissions.admin` says whether the caller may administer it."""
    found = allowed_repository(owner, name, "metadata", "read")
    admin = g.credential is not None and g.credential.may("administration", "write")
    rights = {"admin": admin, "push": admin, "pull": True}
    return jsonify(shapes.repository(found, root()) | {"permissions": rights})


@apps.get("/rate_limit")
def rate_limit() -> Response:
    """Free of charge; `rate` was dropped with version 2026-03-10."""
    window = g.window
    names = ("limit", "remaining", "used")
    core = {name: getattr(window, name) for name in names} | {"reset": int(window.reset_at)}
    resources = {"resources": {"core": core, "search": core}}
    dropped = request.headers.get("X-GitHub-Api-Version") == "2026-03-10"
    return jsonify(resources if dropped else resources | {"rate": core})


def _app() -> App:
    """The App whose signed assertion came with the request."""
    try:
        issuer = credentials.issuer(bearer())
        known = [each for each in github().apps if issuer in {str(each.id), each.client_id}]
        if not known:
            raise Refusal(HTTPStatus.NOT_FOUND, "Integration not found")
        credentials.verify(bearer(), known[0], github().clock())
    except credentials.InvalidJWT as error:
        raise Refusal(HTTPStatus.UNAUTHORIZED, str(error)) from error
    return known[0]


@apps.get("/repos/<owner>/<name>/installation")
def get_installation(owner: str, name: str) -> Response:
    app = _app()
    if f"{owner}/{name}" not in app.repositories:
        raise not_found()
    return jsonify(shapes.installation(app, root()))


@apps.get("/orgs/<org>/installation")
def get_org_installation(org: str) -> Response:
    app = _app()
    if org != app.account:
        raise not_found()
    return jsonify(shapes.installation(app, root()))


@apps.post("/app/installations/<int:installation_id>/access_tokens")
def create_token(installation_id: int) -> ResponseReturnValue:
    """Rights and repositories can be narrowed, never widened."""
    app = _app()
    if app.installation_id != installation_id:
        raise not_found()
    sent = body()
    named = _named(app, sent.get("repositories", []))
    made = app.token(
        now=github().clock(),
        permissions=_narrowed(app, sent.get("permissions")),
        repositories=named or app.repositories,
    )
    github().issue(made)
    narrowed = [github().repositories[name] for name in sorted(named)]
    return shapes.installation_token(made, narrowed, root()), HTTPStatus.CREATED


def _named(app: App, names: list[str]) -> frozenset[str]:
    named = frozenset(f"{app.account}/{name}" for name in names)
    if not named <= app.repositories:
        raise invalid(
            "There is at least one repository that does not exist or is not accessible to the "
            "parent installation."
        )
    return named


def _narrowed(app: App, asked: Mapping[str, str] | None) -> Mapping[str, str]:
    if asked is None:
        return app.permissions
    for name, level in asked.items():
        if LEVELS.get(level, 9) > LEVELS.get(app.permissions.get(name, ""), 0):
            raise invalid("The permissions requested are not granted to this installation.")
    return asked
