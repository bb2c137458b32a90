"""Who may do what: the tokens that the stand-in for GitHub knows, and the App that makes more."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import jwt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Kind = Literal["classic", "fine-grained", "job", "installation"]

# `repo` and `admin:org` of a classic token, in the words that the other kinds use.
SCOPES: Mapping[str, Mapping[str, str]] = {
    "repo": {"administration": "write", "actions": "write", "checks": "write", "contents": "write"},
    "admin:org": {"organization_self_hosted_runners": "write"},
}
LEVELS = {"read": 1, "write": 2}
DENIALS: Mapping[Kind, str] = {
    "classic": "Must have admin rights to Repository.",
    "fine-grained": "Resource not accessible by personal access token",
    "job": "Resource not accessible by integration",
    "installation": "Resource not accessible by integration",
}
JWT_SECONDS = 600
INSTALLATION_TOKEN_SECONDS = 3600


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A token with its rights; `repositories` None means every repository that there is."""

    token: str = field(repr=False)
    kind: Kind
    login: str = "octocat"
    permissions: Mapping[str, str] = field(default_factory=dict)
    repositories: frozenset[str] | None = None
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None

    def sees(self, repository: str) -> bool:
        """Whether the token was given access to the repository at all."""
        return self.repositories is None or repository in self.repositories

    def may(self, permission: str, level: str) -> bool:
        """Whether it has the permission at this level (`read` or `write`) or above."""
        return LEVELS.get(self.permissions.get(permission, ""), 0) >= LEVELS[level]

    @property
    def hourly_limit(self) -> int:
        """Requests an hour: 1,000 for a workflow's own token, 5,000 for others (GitHub's docs)."""
        return 1000 if self.kind == "job" else 5000


def classic(
    *repositories: str, scopes: Iterable[str] = ("repo",), admin: bool = True
) -> Credential:
    """A classic personal access token of somebody who is (or is not) admin of the repositories."""
    permissions = {
        name: level
        for scope in scopes
        for name, level in SCOPES.get(scope, {}).items()
        if admin or name in {"actions", "checks", "contents"}
    }
    return Credential(
        token=f"ghp_{secrets.token_hex(18)}",
        kind="classic",
        permissions={"metadata": "read"} | permissions,
        repositories=frozenset(repositories) or None,
        scopes=tuple(scopes),
    )


def fine_grained(*repositories: str, **permissions: str) -> Credential:
    """A fine-grained token, e.g. `fine_grained("o/r", administration="write")`."""
    return Credential(
        token=f"github_pat_{secrets.token_hex(36)}",
        kind="fine-grained",
        permissions={"metadata": "read"} | permissions,
        repositories=frozenset(repositories),
    )


def job_token(repository: str, **permissions: str) -> Credential:
    """A workflow's `GITHUB_TOKEN`; no `permissions:` block can give it administration."""
    if "administration" in permissions:
        raise ValueError("GITHUB_TOKEN never has the administration permission")
    return Credential(
        token=f"ghs_{secrets.token_hex(18)}",
        kind="job",
        login="github-actions[bot]",
        permissions={"metadata": "read"} | permissions,
        repositories=frozenset([repository]),
    )


@dataclass(frozen=True, kw_only=True)
class App:
    """A GitHub App with one installation; `public_key` is PEM, the private half stays outside."""

    id: int
    public_key: str
    installation_id: int
    account: str
    slug: str = "runners-app"
    permissions: Mapping[str, str] = field(default_factory=lambda: {"administration": "write"})
    repositories: frozenset[str] = frozenset()

    @property
    def client_id(self) -> str:
        return f"Iv23li{self.id:014d}"

    def token(
        self, *, now: float, permissions: Mapping[str, str], repositories: frozenset[str]
    ) -> Credential:
        """An installation token for one hour, in the stateless form that is not 40 long."""
        claims = json.dumps({"iss": self.id, "exp": int(now) + INSTALLATION_TOKEN_SECONDS})
        payload = base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=")
        return Credential(
            token=f"ghs_{self.id}_{secrets.token_hex(16)}.{payload}.{secrets.token_hex(32)}",
            kind="installation",
            login=f"{self.slug}[bot]",
            permissions={"metadata": "read"} | dict(permissions),
            repositories=repositories,
            expires_at=now + INSTALLATION_TOKEN_SECONDS,
        )


class InvalidJWT(Exception):
    """The App's signed assertion was refused; the message is GitHub's reason."""


def issuer(assertion: str) -> str:
    """The App that an assertion claims to be from, before its signature was looked at."""
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise InvalidJWT("A JSON web token could not be decoded") from error
    return str(claims.get("iss", ""))


def verify(assertion: str, app: App, now: float) -> None:
    """Check an RS256 assertion: signature, `iat` not in the future, `exp` at most 10 min away.

    Raises InvalidJWT. Source: GitHub's docs on generating a JSON web token for an App.
    """
    try:
        claims = jwt.decode(
            assertion,
            app.public_key,
            algorithms=["RS256"],
            # The times are judged below, by the clock of the stand-in.
            options={"verify_exp": False, "verify_iat": False, "require": ["iat", "exp", "iss"]},
        )
    except jwt.PyJWTError as error:
        raise InvalidJWT("A JSON web token could not be decoded") from error
    if claims["iat"] > now:
        raise InvalidJWT("'Issued at' claim ('iat') must not be in the future")
    if claims["exp"] <= now:
        raise InvalidJWT("'Expiration time' claim ('exp') must be in the future")
    if claims["exp"] > now + JWT_SECONDS:
        raise InvalidJWT("'Expiration time' claim ('exp') is too far in the future")
