"""What stands before every REST endpoint: the caller's rights and the wording of refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from flask import current_app, g, request

from gpu_ci_sandbox.fake_github.credentials import DENIALS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci_sandbox.fake_github.credentials import Credential
    from gpu_ci_sandbox.fake_github.records import Repository
    from gpu_ci_sandbox.fake_github.state import GitHub

DOCS = "https://docs.github.com/rest"


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer other than success, in GitHub's shape of an error."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        named = {"errors": list(self.errors)} if self.errors else {}
        return {
            "message": self.message,
            "documentation_url": DOCS,
            "status": str(int(self.status)),
        } | named


def not_found() -> Refusal:
    """What GitHub says of everything that the caller may not even know of."""
    return Refusal(HTTPStatus.NOT_FOUND, "Not Found")


def invalid(message: str, *errors: str) -> Refusal:
    """The 422 of a request whose fields do not hold."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, message, errors=errors)


def github() -> GitHub:
    """The state behind the application that serves this request."""
    state: GitHub = current_app.extensions["github"]
    return state


def root() -> str:
    """The address that the caller used for this server."""
    return request.host_url.rstrip("/")


def bearer() -> str:
    """The token of the Authorization header, whichever of its schemes; empty without one."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() in {"bearer", "token"} else ""


def repository(owner: str, name: str, permission: str, level: str) -> Repository:
    """The repository, if the caller may do this to it; else the Refusal that GitHub would give."""
    found = github().repositories.get(f"{owner}/{name}")
    caller: Credential | None = g.credential
    if found is None or (found.private and not _sees(caller, found)):
        raise not_found()
    readable = not found.private and level == "read" and permission != "administration"
    if not readable:
        _require(caller, permission, level, sees=_sees(caller, found))
    return found


def organization(name: str, level: str) -> str:
    """The organisation, if the caller may do this to its runners."""
    if not github().groups_of(name):
        raise not_found()
    _require(g.credential, "organization_self_hosted_runners", level, sees=True)
    return name


def _sees(caller: Credential | None, found: Repository) -> bool:
    return caller is not None and caller.sees(found.full_name)


def _require(caller: Credential | None, permission: str, level: str, *, sees: bool) -> None:
    if caller is None:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "Requires authentication")
    if not sees or not caller.may(permission, level):
        accepted = {"x-accepted-github-permissions": f"{permission}={level}"}
        raise Refusal(HTTPStatus.FORBIDDEN, DENIALS[caller.kind], accepted)


def body() -> dict[str, Any]:
    """The JSON object that was sent; an empty body is an empty object."""
    if not request.get_data():
        return {}
    sent = request.get_json(force=True, silent=True)
    if not isinstance(sent, dict):
        raise Refusal(HTTPStatus.BAD_REQUEST, "Problems parsing JSON")
    return sent
