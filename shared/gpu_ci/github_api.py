"""One line to GitHub's REST API: PyGithub's requester under our own rules for trying again.

PyGithub's default repeats a POST whose answer was lost and then shows only the 409 of the second;
it also sleeps for a rate limit as long as GitHub says. Here a POST is sent once, a GET or DELETE a
few times, and a limit that ends after our deadline fails at once.
"""

from __future__ import annotations

import json
import random
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote

import requests
from github.Requester import Requester

from gpu_ci.errors import (
    Absent,
    Busy,
    Conflict,
    Forbidden,
    GitHubError,
    Limited,
    Refused,
    Unreachable,
)
from gpu_ci.waiting import growing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from github import Auth

    from gpu_ci.waiting import Deadline

# https://docs.github.com/en/rest/about-the-rest-api/api-versions
API_VERSION: Final = "2026-03-10"
TRIES: Final = 4
# Without a Retry-After, GitHub asks for at least a minute after a secondary limit.
# https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
UNTOLD_PAUSE: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A successful answer: its JSON (None when empty) and its headers, lower-case."""

    status: int
    data: Any
    headers: Mapping[str, str]


@dataclass
class Line:
    """A connection with one credential.

    `deadline` bounds all waiting; `timeout` (seconds) each request; `counted` is how many requests
    counted against the rate limit (a 304 does not).
    """

    api_url: str
    auth: Auth.Auth | None
    deadline: Deadline
    say: Callable[[str], None] = print
    timeout: int = 15
    tries: int = TRIES
    counted: int = 0
    _etags: dict[str, tuple[str, Any]] = field(default_factory=dict)
    _local: threading.local = field(default_factory=threading.local)

    def hurry(self, deadline: Deadline) -> None:
        """From now on try once, and wait for an answer no longer than two seconds."""
        self.deadline, self.timeout, self.tries = deadline, 2, 1
        self._local = threading.local()

    def get(self, path: str, **query: str | int) -> Answer:
        """Read. An unchanged answer is asked for by its ETag and costs no rate limit."""
        url = path + (
            "?" + "&".join(f"{k}={_quoted(v)}" for k, v in query.items()) if query else ""
        )
        return self._send("GET", url, tries=self.tries)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send once: after Unreachable the caller must look what came of it."""
        return self._send("POST", path, body=body, tries=1)

    def delete(self, path: str) -> Answer:
        return self._send("DELETE", path, tries=self.tries)

    def _send(
        self, verb: str, url: str, *, body: Mapping[str, Any] | None = None, tries: int
    ) -> Answer:
        pauses = growing(0.5, most=8.0)
        while True:
            try:
                return self._once(verb, url, body)
            except Unreachable:
                tries -= 1
                # Jitter, so that many starts hit by one outage do not come back together.
                pause = next(pauses) * random.uniform(0.8, 1.2)  # noqa: S311 -- no secret depends on it
                if tries < 1 or not self.deadline.allows(pause):
                    raise
            except Limited as limited:
                pause = self._pause_for(limited)
            self.deadline.clock.sleep(pause)

    def _pause_for(self, limited: Limited) -> float:
        pause = max(1.0, limited.until - self.deadline.clock.now())
        if not self.deadline.allows(pause):
            raise limited
        at = time.strftime("%H:%M:%S", time.gmtime(limited.until))
        self.say(f"GitHub limits how often it may be asked; waiting until {at} UTC.")
        return pause

    def _once(self, verb: str, url: str, body: Mapping[str, Any] | None) -> Answer:
        known = self._etags.get(url) if verb == "GET" else None
        headers = {"Accept": "application/vnd.github+json"}
        if known:
            headers["If-None-Match"] = known[0]
        status, answer_headers, text = self._request(verb, url, headers, body)
        if known and status == HTTPStatus.NOT_MODIFIED:
            return Answer(status=200, data=known[1], headers=answer_headers)
        self.counted += 1
        if status >= HTTPStatus.BAD_REQUEST:
            self._refuse(verb, url, status, answer_headers, text)
        data = _parsed(verb, url, status, text)
        if verb == "GET" and "etag" in answer_headers:
            self._etags[url] = (answer_headers["etag"], data)
        return Answer(status=status, data=data, headers=answer_headers)

    def _request(
        self, verb: str, url: str, headers: dict[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, dict[str, str], str]:
        requester: Requester | None = getattr(self._local, "requester", None)
        if requester is None:
            requester = self._local.requester = self._new_requester()
        try:
            return requester.requestJson(verb, url, headers=headers, input=body)
        except (requests.RequestException, RuntimeError, ValueError) as error:
            raise Unreachable(
                f"{_what(verb, url)}: GitHub at {self.api_url} gave no answer "
                f"({type(error).__name__}).",
                "Look at https://www.githubstatus.com, and at the network and proxy of this machine.",
            ) from None  # the cause may hold the request's headers

    def _new_requester(self) -> Requester:
        """Return a requester of this thread's own: PyGithub keeps the request on the connection."""
        return Requester(
            auth=self.auth,
            base_url=self.api_url,
            timeout=self.timeout,
            user_agent="gpu-ci",
            per_page=100,
            verify=True,
            retry=0,
            pool_size=1,
            api_version=API_VERSION,
        )

    def _refuse(
        self, verb: str, url: str, status: int, headers: Mapping[str, str], text: str
    ) -> NoReturn:
        message = _message(text)
        what = f"{_what(verb, url)}: GitHub answered {status}, {message}"
        limited = self._limit(status, headers, message)
        if limited is not None:
            raise Limited(what, LIMIT_CURE, until=limited)
        raise _refusal(verb, status, what, message)

    def _limit(self, status: int, headers: Mapping[str, str], message: str) -> float | None:
        """Return until when a limit holds (seconds since the epoch), None if this is not one."""
        if status not in {HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}:
            return None
        now = self.deadline.clock.now()
        if headers.get("retry-after", "").isdigit():
            return now + float(headers["retry-after"])
        if headers.get("x-ratelimit-remaining") == "0":
            return float(headers.get("x-ratelimit-reset", now + UNTOLD_PAUSE))
        is_limit = status == HTTPStatus.TOO_MANY_REQUESTS or "rate limit" in message.lower()
        return now + UNTOLD_PAUSE if is_limit else None


LIMIT_CURE = (
    "The token has used up what GitHub allows it for now. Wait, or use a GitHub App's or another "
    "account's token, which has a limit of its own."
)


def _refusal(verb: str, status: int, what: str, message: str) -> GitHubError:
    match status:
        case 401 | 403:
            return Forbidden(what)
        case 404 | 410:
            return Absent(what)
        case 409:
            return Conflict(what)
        case 422 if verb == "DELETE" and "running a job" in message:
            return Busy(what)
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return Refused(what)
        case _:
            return Unreachable(what, "Look at https://www.githubstatus.com.")


def _parsed(verb: str, url: str, status: int, text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        raise Unreachable(
            f"{_what(verb, url)}: GitHub answered {status} with something that is not JSON."
        ) from None


def _message(text: str) -> str:
    """Return GitHub's own words for an error, shortened; never the whole body."""
    try:
        data = json.loads(text)
        said = str(data.get("message", "")) if isinstance(data, dict) else ""
    except ValueError:
        said = ""
    return f'"{said[:300]}".' if said else "without a reason."


def _what(verb: str, url: str) -> str:
    return f"{verb} {url.partition('?')[0]}"


def _quoted(value: str | int) -> str:
    return quote(str(value), safe="")
