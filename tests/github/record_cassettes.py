"""Every call of our client, and how it is recorded as it goes over the wire."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import vcr
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.fakes import REPOSITORY
from tests.github.desk import RUN, Desk

from gpu_ci.boot.script import Registration
from gpu_ci.errors import Absent, Busy, Conflict, Forbidden, GitHubError, Limited
from gpu_ci.github.client import Job, Run, Runner
from gpu_ci_sandbox.fake_github.credentials import App

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vcr.request import Request

    from gpu_ci.github.client import GitHub

API = "https://api.github.com"
SECRET = "a-secret-was-here"
SECRET_FIELDS = re.compile(r'("(?:encoded_jit_config|token)": ?)"[^"]*"')
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
CHECKSUM = re.compile(r"\b[0-9a-f]{64}\b")
# What our client sends on purpose, and what it reads of an answer.
REQUEST_HEADERS = {"accept", "content-type", "if-none-match", "user-agent", "x-github-api-version"}
ANSWER_HEADERS = {"content-type", "etag", "link", "retry-after", "x-ratelimit-remaining"}
NAME, LABEL = "gpu-ci-7-1-x", "gpu-ci-7-1-x-nonce"
SCOPE = f"repos/{REPOSITORY}"
LISTED = Runner(id=1, name=NAME, online=False, busy=False, labels=frozenset({LABEL}))


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of the client: the state before it, the call, and what it gives.

    An error that it raises is given as its class.
    """

    ask: Callable[[GitHub], object]
    gives: object = None
    before: Callable[[Desk], object] = lambda desk: None
    scope: str = SCOPE
    token: str | None = None
    app: bool = False

    def connect_and_ask(self, desk: Desk, api_url: str, token: str | None = None) -> object:
        """Return what the call gives, or the kind of error that it raises."""
        app_id, key = ("77", _key()) if self.app else ("", "")
        token = "" if self.app else self.token or token
        try:
            return self.ask(
                desk.client(
                    token, scope=self.scope, api_url=api_url, app_id=app_id, app_private_key=key
                )
            )
        except GitHubError as error:
            return type(error)


@cache
def _key() -> str:
    """Return a private key made for this process; nothing that is recorded depends on it."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, old = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return made.private_bytes(pem, old, serialization.NoEncryption()).decode()


def _install(desk: Desk) -> None:
    """Install an App that has the key."""
    private = serialization.load_pem_private_key(_key().encode(), None)
    pem, info = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    public = private.public_key().public_bytes(pem, info).decode()
    repositories = frozenset({REPOSITORY})
    app = App(
        id=77, public_key=public, installation_id=88, account="octo", repositories=repositories
    )
    desk.state.install(app)


def _twice(client: GitHub) -> object:
    client.runner(1)
    return client.runner(1)


def _registered(desk: Desk) -> None:
    desk.state.register(REPOSITORY, NAME, [LABEL])


def _busy(desk: Desk) -> None:
    _registered(desk)
    desk.state.set_runner(1, job_id=5)


def _queued(desk: Desk) -> None:
    desk.state.queue_job(RUN, "test", [LABEL])


def _over(desk: Desk) -> None:
    desk.state.set_run(RUN, status="completed", conclusion="success")


ORGANISATION = "orgs/octo"
JOB = 34_000_000_001
# Every time in a cassette is this one: 2026-11-22T00:00:00Z.
THEN = 1_795_305_600.0
QUEUED = Job(
    id=JOB,
    name="test",
    status="queued",
    conclusion="",
    labels=frozenset({LABEL}),
    runner_name="",
    created_at=THEN,
    started_at=THEN,
)
WAITING = Run(
    id=RUN,
    attempt=1,
    status="queued",
    conclusion="",
    name="ci",
    event="push",
    created_at=THEN,
    started_at=THEN,
)
TOKEN = Registration(
    name=NAME, labels=(LABEL,), token=SECRET, url=f"https://github.com/{REPOSITORY}"
)
CALLS = {
    "runner_builds": Call(
        ask=lambda github: [build.architecture for build in github.runner_builds()],
        gives=["x64", "arm64"],
    ),
    "register": Call(ask=lambda github: github.register(NAME, [LABEL]), gives=(LISTED, SECRET)),
    "register_in_organisation": Call(
        ask=lambda github: github.register(NAME, [LABEL], 1),
        gives=(LISTED, SECRET),
        scope=ORGANISATION,
    ),
    "register_name_taken": Call(
        before=lambda desk: desk.state.register(REPOSITORY, NAME, ["another-label"]),
        ask=lambda github: github.register(NAME, [LABEL]),
        gives=Conflict,
    ),
    "registration": Call(ask=lambda github: github.registration(NAME, [LABEL], ""), gives=TOKEN),
    "group_id": Call(ask=lambda github: github.group_id("Default"), gives=1, scope=ORGANISATION),
    "runner": Call(before=_registered, ask=lambda github: github.runner(1), gives=LISTED),
    "runner_unchanged": Call(before=_registered, ask=_twice, gives=LISTED),
    "runner_absent": Call(ask=lambda github: github.runner(1), gives=Absent),
    "runner_named": Call(
        before=_registered, ask=lambda github: github.runner_named(NAME), gives=LISTED
    ),
    "runners": Call(before=_registered, ask=lambda github: github.runners(), gives=[LISTED]),
    "delete": Call(before=_registered, ask=lambda github: github.delete(1), gives=True),
    "delete_absent": Call(ask=lambda github: github.delete(1), gives=False),
    "delete_busy": Call(before=_busy, ask=lambda github: github.delete(1), gives=Busy),
    "run": Call(ask=lambda github: github.run(str(RUN)), gives=WAITING),
    "runs_that_are": Call(
        before=_queued, ask=lambda github: [*github.runs_that_are("queued")], gives=[WAITING]
    ),
    "jobs_of_attempt": Call(
        before=_queued, ask=lambda github: github.jobs_of_attempt(str(RUN), "1"), gives=[QUEUED]
    ),
    "jobs": Call(before=_queued, ask=lambda github: github.jobs(str(RUN)), gives=[QUEUED]),
    "cancel": Call(before=_queued, ask=lambda github: github.cancel(str(RUN))),
    "cancel_too_late": Call(before=_over, ask=lambda github: github.cancel(str(RUN))),
    "force_cancel": Call(before=_queued, ask=lambda github: github.force_cancel(str(RUN))),
    "app_token": Call(before=_install, ask=lambda github: github.scope, gives=SCOPE, app=True),
    "bad_token": Call(ask=lambda github: github.runner_builds(), gives=Forbidden, token="unknown"),
    "limited": Call(
        before=lambda desk: desk.state.set_secondary(retry_after=3600),
        ask=lambda github: github.runner_builds(),
        gives=Limited,
    ),
}


def recorder() -> vcr.VCR:
    """Record nothing by itself; a request matches by all of its line, its body and its version."""
    made = vcr.VCR(
        record_mode="none",
        match_on=["method", "uri", "raw_body", "known"],
        decode_compressed_response=True,
    )
    made.register_matcher("known", _same_headers)
    return made


def _same_headers(one: Request, other: Request) -> None:
    first, second = (
        {k: v for k, v in r.headers.items() if k.lower() in REQUEST_HEADERS} for r in (one, other)
    )
    assert first == second


@contextmanager
def recording(path: Path, url: str) -> Iterator[None]:
    """Record what is sent to this address, as if it were GitHub's, without what is secret."""
    made = recorder().use_cassette(
        path,
        record_mode="all",
        before_record_request=lambda request: _request(request, url),
        before_record_response=lambda response: _answer(response, url),
    )
    with made:
        yield


def _request(request: Request, url: str) -> Request:
    request.uri = request.uri.replace(url, API)
    kept = {k: v for k, v in request.headers.items() if k.lower() in REQUEST_HEADERS}
    request.headers = {k: _clean(str(v), url) for k, v in kept.items()}
    return request


def _answer(response: dict[str, Any], url: str) -> dict[str, Any]:
    kept = {k: v for k, v in response["headers"].items() if k.lower() in ANSWER_HEADERS}
    return {
        "status": response["status"],
        "headers": {k: [_clean(each, url) for each in v] for k, v in kept.items()},
        "body": {"string": _clean(_compact(response["body"]["string"]), url).encode()},
    }


def _compact(body: bytes) -> str:
    """Return JSON without blanks: a page of runners is long enough as it is."""
    text = body.decode()
    return json.dumps(json.loads(text)) if text.strip() else text


def _clean(text: str, url: str) -> str:
    """Take out what is secret, and what is another at each recording."""
    text = SECRET_FIELDS.sub(rf'\1"{SECRET}"', text.replace(url, API))
    return MOMENT.sub("2026-11-22T00:00:00Z", CHECKSUM.sub("0" * 64, text))
