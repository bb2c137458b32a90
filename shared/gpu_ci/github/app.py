"""A GitHub App's token: made from its private key, good for an hour, narrowed to one scope."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gpu_ci.errors import Absent, EnvironmentBroken, Forbidden, Refused
from gpu_ci.github.cures import KEY_CURE, app_cures
from gpu_ci.github.transport import Line

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_ci.github.tokens import Credentials
    from gpu_ci.runtime.clock import Deadline


def installation_token(
    credentials: Credentials, scope: str, deadline: Deadline, say: Callable[[str], None]
) -> str:
    """Return a token of the App's installation, narrowed to what registering runners needs.

    https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app
    """
    app = Line(credentials.api_url, _assertions(credentials), deadline, say, cures=app_cures(scope))
    try:
        installation = app.get(f"/{scope}/installation").read(lambda data: int(data["id"]))
        tokens = f"/app/installations/{installation}/access_tokens"
        return app.post(tokens, _narrowed(scope), harmless=True).read(
            lambda data: secret(data["token"])
        )
    except (Absent, Refused) as error:
        raise Forbidden(error.what, error.cure) from None


def _assertions(credentials: Credentials) -> Callable[[], str]:
    """Return a function that signs as the App; each assertion is good for a few minutes."""
    try:
        from github import Auth  # noqa: PLC0415 -- it loads slowly, and few steps have an App
    except ImportError as error:
        raise EnvironmentBroken(
            "A GitHub App needs the package PyGithub, which is not installed.",
            "Install the extra `app`: pip install 'gpu-ci[app]', or uv sync --extra app.",
        ) from error
    # Secrets are often stored with escaped line ends.
    auth = Auth.AppAuth(credentials.app_id, credentials.app_private_key.replace("\\n", "\n"))
    with suppress(Exception):  # for whatever reason, a key that cannot sign is no use
        auth.create_jwt()
        return auth.create_jwt
    raise Forbidden("app-private-key is not an RSA private key in PEM form.", KEY_CURE)


def _narrowed(scope: str) -> dict[str, Any]:
    if scope.startswith("orgs/"):
        return {"permissions": {"organization_self_hosted_runners": "write"}}
    return {
        "permissions": {"administration": "write"},
        "repositories": [scope.rpartition("/")[2]],
    }


def secret(value: object) -> str:
    """Return an answer's secret as text. Raises ValueError if it is empty, which is as bad as none."""
    if not isinstance(value, str) or not value:
        raise ValueError("empty")
    return value
