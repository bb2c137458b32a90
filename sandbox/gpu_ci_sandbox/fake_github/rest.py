"""The stand-in for GitHub as an application: what every request passes, and how it is served."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, g, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from gpu_ci_sandbox.fake_github.access import Refusal, bearer, github
from gpu_ci_sandbox.fake_github.control import control
from gpu_ci_sandbox.fake_github.limits import ANONYMOUS_LIMIT
from gpu_ci_sandbox.fake_github.rest_apps import apps
from gpu_ci_sandbox.fake_github.rest_checks import checks
from gpu_ci_sandbox.fake_github.rest_contents import contents
from gpu_ci_sandbox.fake_github.rest_labels import labels
from gpu_ci_sandbox.fake_github.rest_runners import runners
from gpu_ci_sandbox.fake_github.rest_runs import runs
from gpu_ci_sandbox.fake_github.runner_service import service
from gpu_ci_sandbox.fake_github.state import GitHub
from gpu_ci_sandbox.faults import NOTES, Faults
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from flask import Response
    from flask.typing import ResponseReturnValue

VERSIONS = ("2022-11-28", "2026-03-10")
FREE = {"/rate_limit"}


def create_app(state: GitHub) -> Flask:
    """The REST API, the runner service under `/_runner/` and the control under `/_sandbox/`."""
    app = Flask("github", static_folder=None)
    app.extensions["github"] = state
    for blueprint in (apps, checks, contents, labels, runners, runs, service, control):
        app.register_blueprint(blueprint)
    app.before_request(_enter)
    app.after_request(_leave)
    app.register_error_handler(Refusal, _refuse)
    app.register_error_handler(HTTPException, _refuse_route)
    app.wsgi_app = _Turns(app.wsgi_app, state)  # type: ignore[method-assign]  # flask's own way
    return app


class _Turns:
    """Lets one request at a time act on the state; a long poll gives its turn away meanwhile."""

    def __init__(self, app: WSGIApplication, state: GitHub) -> None:
        self._app = app
        self._state = state

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._state.turn():
            return self._app(environ, start_response)


def _private() -> bool:
    return request.path.startswith(("/_runner/", "/_sandbox/"))


def _enter() -> ResponseReturnValue | None:
    g.notes = request.environ.get(NOTES, {})
    g.notes["counts"] = False
    if _private():
        return None
    _check_headers()
    _authenticate()
    _check_limits()
    return None


def _check_headers() -> None:
    if not request.headers.get("User-Agent"):
        raise Refusal(HTTPStatus.FORBIDDEN, "Please make sure your request has a User-Agent header")
    version = request.headers.get("X-GitHub-Api-Version", VERSIONS[0])
    if version not in VERSIONS:
        raise Refusal(HTTPStatus.BAD_REQUEST, f'"{version}" is not a supported version.')
    g.version = version


def _authenticate() -> None:
    token = bearer()
    g.credential = github().credential(token) if token else None
    g.token = token
    # An App's assertion is another each second, but its caller is the same.
    g.payer = token if g.credential else ""
    # An App's assertion is looked at by the few endpoints that take one.
    assertion = token.startswith("eyJ") and request.path.endswith(
        ("/installation", "/access_tokens")
    )
    sent = "Authorization" in request.headers
    if sent and g.credential is None and not assertion:
        raise Refusal(HTTPStatus.UNAUTHORIZED, "Bad credentials")


def _check_limits() -> None:
    limit = g.credential.hourly_limit if g.credential else ANONYMOUS_LIMIT
    g.window = github().limits.window(g.payer, limit)
    if request.path in FREE:
        return
    _check_secondary()
    if g.window.remaining <= 0:
        who = f"user ID {limit}" if g.credential else request.remote_addr
        raise Refusal(github().limits.status, f"API rate limit exceeded for {who}.")
    github().limits.count(g.payer, limit)
    g.notes["counts"] = True


def _check_secondary() -> None:
    refusal = github().limits.take_secondary()
    if refusal is None:
        return
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    message = (
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    )
    raise Refusal(refusal.status, message, headers)


def _leave(response: Response) -> Response:
    if _private():
        return response
    if "version" in g:
        response.headers["X-GitHub-Api-Version-Selected"] = g.version
    if request.method == "GET" and response.status_code == HTTPStatus.OK:
        response = _conditional(response)
    if "window" in g:
        response.headers.update(github().limits.window(g.payer, g.window.limit).headers)
    if g.get("credential") and g.credential.kind == "classic":
        response.headers["X-OAuth-Scopes"] = ", ".join(g.credential.scopes)
    return response


def _conditional(response: Response) -> Response:
    """Turn an answer that the caller has already into a 304, which GitHub does not count."""
    digest = hashlib.sha256(response.get_data() + g.token.encode()).hexdigest()
    response.headers["ETag"] = f'W/"{digest}"'
    response.headers["Cache-Control"] = "private, max-age=60, s-maxage=60"
    if f'"{digest}"' not in request.headers.get("If-None-Match", ""):
        return response
    if g.notes["counts"] and g.credential:
        github().limits.give_back(g.payer)
        g.notes["counts"] = False
    response.status_code = HTTPStatus.NOT_MODIFIED
    response.set_data(b"")
    return response


def _refuse(refusal: Refusal) -> Response:
    response = jsonify(refusal.body)
    response.status_code = refusal.status
    response.headers.update(refusal.headers)
    return response


def _refuse_route(error: HTTPException) -> Response:
    if isinstance(error, NotFound | MethodNotAllowed):
        return _refuse(Refusal(HTTPStatus.NOT_FOUND, "Not Found"))
    return _refuse(Refusal(error.code or HTTPStatus.INTERNAL_SERVER_ERROR, error.name))


@dataclass(frozen=True, kw_only=True)
class ServedGitHub:
    """A stand-in that answers at `url`, with its state and the faults in front of it."""

    url: str
    github: GitHub
    faults: Faults


@contextmanager
def serve_github(state: GitHub | None = None, *, port: int = 0) -> Iterator[ServedGitHub]:
    """Serve a stand-in for GitHub on loopback until the block ends."""
    state = state or GitHub()
    faults = Faults(create_app(state))
    with Server(faults, port=port) as server:
        yield ServedGitHub(url=server.url, github=state, faults=faults)
