"""One line to GitHub's REST API: PyGithub's requester under our own rules for trying again.

PyGithub's default repeats a POST whose answer was lost and then shows only the 409 of the second;
it also sleeps for a rate limit as long as GitHub says. Here a POST is sent once, a GET or DELETE a
few times, and a limit that ends after our deadline fails at once.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests
from github.Requester import HTTPSRequestsConnectionClass, Requester, RequestsResponse

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
from gpu_ci.github.cures import LIMIT_CURE, NETWORK_CURE, ODD_CURE, TOKEN_TEXT_CURE, policy_cure
from gpu_ci.runtime.clock import growing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from github import Auth

    from gpu_ci.runtime.clock import Deadline

# https://docs.github.com/en/rest/about-the-rest-api/api-versions
API_VERSION: Final = "2026-03-10"
# An Enterprise Server answers 400 to a version that came out after it; this one they all know.
SERVER_API_VERSION: Final = "2022-11-28"
TRIES: Final = 4
REDIRECTS: Final = 3
MOVED: Final = {301, 302, 307, 308}
# Without a Retry-After, GitHub asks for at least a minute after a secondary limit.
# https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
UNTOLD_PAUSE: Final = 60.0
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A successful answer: what was asked, its JSON (None when empty), its headers, lower-case."""

    what: str
    data: Any = field(repr=False)  # it can be a secret
    headers: Mapping[str, str]

    def read(self, reader: Callable[[Any], T]) -> T:
        """Return what the reader makes of the JSON. Raises Unreachable if it is another shape."""
        with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
            return reader(self.data)
        raise Unreachable(f"{self.what}: GitHub answers this in another shape.", ODD_CURE)


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """What is left of a rate limit of so many requests, until then (seconds since the epoch)."""

    left: int
    of: int
    until: float

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Self | None:
        """Read what every answer tells; None where a server has no limits."""
        told = [headers.get(f"x-ratelimit-{name}", "") for name in ("remaining", "limit", "reset")]
        if not all(text.isdigit() for text in told):
            return None
        left, of, until = map(int, told)
        return cls(left=left, of=of, until=float(until))


@dataclass(frozen=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    text: str = field(repr=False)


def _whole(data: Any) -> Any:
    return data


@dataclass
class Line:
    """A connection with one credential.

    `deadline` bounds all waiting; `timeout` (seconds) each request; `cures` is what to do about a
    refusal of this credential, by status; `counted` is how many requests counted against the rate
    limit (a 304 does not). `known` holds the answers that have an ETag, by address; several lines,
    and passes that follow each other, may share it. `spared` is the part of the hourly limit that
    reading leaves to others.
    """

    api_url: str
    auth: Auth.Auth | None = field(repr=False)
    deadline: Deadline
    say: Callable[[str], None] = print
    timeout: int = 15
    tries: int = TRIES
    cures: Mapping[int, str] = field(default_factory=dict)
    known: dict[str, Answer] = field(default_factory=dict)
    spared: float = 0.0
    counted: int = field(default=0, init=False)
    _reserve: Reserve | None = field(default=None, init=False)
    _was_free: bool = field(default=False, init=False)
    _local: threading.local = field(default_factory=threading.local, init=False)

    def hurry(self, deadline: Deadline) -> None:
        """From now on try once, and wait for an answer no longer than two seconds."""
        self.deadline, self.timeout, self.tries = deadline, 2, 1
        self._local = threading.local()

    def get(self, path: str, *, trim: Callable[[Any], Any] = _whole, **query: str | int) -> Answer:
        """Read. An unchanged answer is asked for by its ETag and costs no rate limit.

        `trim` makes the JSON smaller, before it is kept; the same for each request of an address.
        Raises Limited also when only what is spared for others is left of the limit.
        """
        url = path + (
            "?" + "&".join(f"{k}={_quoted(v)}" for k, v in query.items()) if query else ""
        )
        # What will be a 304 costs nothing; an ETag of another token's, though, makes none.
        if not (url in self.known and self._was_free):
            self._spare(url)
        return self._send("GET", url, tries=self.tries, trim=trim)

    def _spare(self, url: str) -> None:
        reserve, now = self._reserve, self.deadline.clock.now()
        if reserve and now < reserve.until and reserve.left < reserve.of * self.spared:
            ends = f"The hour ends at {_time_of_day(reserve.until)} UTC."
            what = f"{_what('GET', url)} was not asked: {reserve.left} of {reserve.of} requests"
            raise Limited(
                f"{what} are left for all others. {ends}", LIMIT_CURE, until=reserve.until
            )

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        harmless: bool = False,
        waits: bool = True,
    ) -> Answer:
        """Send once: after Unreachable the caller must look what came of it.

        `harmless` says that sending it twice does no harm; then it is tried again like a GET. Without
        `waits` a limit is an error at once: it is right to send it now or not at all.
        """
        tries = self.tries if harmless else 1
        return self._send("POST", path, body=body, tries=tries, waits=waits)

    def delete(self, path: str) -> Answer:
        return self._send("DELETE", path, tries=self.tries)

    def _send(
        self,
        verb: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        tries: int,
        trim: Callable[[Any], Any] = _whole,
        waits: bool = True,
    ) -> Answer:
        outages, limits = growing(0.5, most=8.0), growing(1.0, most=300.0)
        while True:
            try:
                return self._once(verb, url, body, trim)
            except Unreachable:
                tries -= 1
                pause = _jittered(next(outages))
                if tries < 1 or not self.deadline.allows(pause):
                    raise
            except Limited as limited:
                if not waits:
                    raise
                pause = self._pause_for(limited, next(limits))
            self.deadline.clock.sleep(pause)

    def _pause_for(self, limited: Limited, least: float) -> float:
        pause = max(least, limited.until - self.deadline.clock.now())
        if not self.deadline.allows(pause):
            raise limited
        until = _time_of_day(self.deadline.clock.now() + pause)
        self.say(f"GitHub limits how often it may be asked; waiting until {until} UTC.")
        return pause

    def _once(
        self, verb: str, url: str, body: Mapping[str, Any] | None, trim: Callable[[Any], Any]
    ) -> Answer:
        known = self.known.get(url) if verb == "GET" else None
        reply = self._request(verb, url, body, known.headers["etag"] if known else "")
        if known and reply.status == HTTPStatus.NOT_MODIFIED:
            return known  # with its headers: a 304 need not repeat the Link to the next page
        if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            self._refuse(verb, url, reply)
        what = _what(verb, url)
        answer = Answer(what=what, data=trim(_parsed(what, reply)), headers=reply.headers)
        if verb == "GET" and "etag" in reply.headers:
            self.known[url] = answer
        return answer

    def _request(self, verb: str, url: str, body: Mapping[str, Any] | None, etag: str) -> _Reply:
        """Send, and once more to where a renamed repository is now.

        A redirected request was not processed, so that is no second try, not even of a POST.
        https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api
        """
        headers = {"Accept": "application/vnd.github+json"}
        if etag:
            headers["If-None-Match"] = etag
        target = url
        for _ in range(REDIRECTS):
            reply = self._exchange(verb, target, headers, body)
            self._was_free = reply.status == HTTPStatus.NOT_MODIFIED
            self.counted += not self._was_free
            self._reserve = Reserve.read(reply.headers) or self._reserve
            if reply.status not in MOVED or "location" not in reply.headers:
                return reply
            target = self._within(_what(verb, url), reply.headers["location"])
        raise Refused(f"{_what(verb, url)}: GitHub sends us in a circle.", ODD_CURE)

    def _within(self, what: str, location: str) -> str:
        """Return the address if it is on this server; no other one may get the token."""
        there = urljoin(self.api_url, location)
        if urlsplit(there)[:2] != urlsplit(self.api_url)[:2]:
            raise Refused(
                f"{what}: GitHub at {self.api_url} sends us to another server.",
                "Correct github-api-url, or use the new name of what was renamed.",
            )
        return there

    def _exchange(
        self, verb: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> _Reply:
        requester, connection = self._requester()
        try:
            _, got, text = requester.requestJson(
                verb, url, headers=dict(headers), input=body, cnx=connection
            )
            return _Reply(connection.status, got, text)
        except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
            failure: GitHubError = Forbidden(
                "The token for GitHub has characters in it that no token has.",
                TOKEN_TEXT_CURE,
            )
        except (requests.RequestException, RuntimeError, ValueError) as error:
            failure = Unreachable(
                f"{_what(verb, url)}: GitHub at {self.api_url} gave no answer "
                f"({type(error).__name__}).",
                NETWORK_CURE,
            )
        raise failure  # out here it has no cause, which would hold the request and its token

    def _requester(self) -> tuple[Requester, _Connection]:
        """Return this thread's own: PyGithub keeps the request on the connection."""
        if not hasattr(self._local, "made"):
            self._local.made = self._new_requester(), _Connection(self.api_url, self.timeout)
        made: tuple[Requester, _Connection] = self._local.made
        return made

    def _new_requester(self) -> Requester:
        server = self.api_url.endswith("/api/v3")
        Requester.injectLogger(_SILENT)
        return Requester(
            auth=self.auth,
            base_url=self.api_url,
            timeout=self.timeout,
            user_agent="gpu-ci",
            per_page=100,
            verify=True,
            retry=0,
            pool_size=1,
            api_version=SERVER_API_VERSION if server else API_VERSION,
        )

    def _refuse(self, verb: str, url: str, reply: _Reply) -> NoReturn:
        message = _message(reply.text)
        said = f'"{message}".' if message else "without a reason."
        what = f"{_what(verb, url)}: GitHub answered {reply.status}, {said}"
        until = self._limit(reply, message)
        if until is not None:
            ends = f"The limit ends at {_time_of_day(until)} UTC."
            raise Limited(f"{what} {ends}", LIMIT_CURE, until=until)
        cure = policy_cure(reply.status, reply.headers, message)
        cure = cure or self.cures.get(reply.status, "")
        raise _refusal(verb, reply.status, message, what, cure)

    def _limit(self, reply: _Reply, message: str) -> float | None:
        """Return until when a limit holds (seconds since the epoch), None if this is not one."""
        if reply.status not in {HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}:
            return None
        now = self.deadline.clock.now()
        if reply.headers.get("retry-after", "").isdigit():
            return now + float(reply.headers["retry-after"])
        if reply.headers.get("x-ratelimit-remaining") == "0":
            return float(reply.headers.get("x-ratelimit-reset", now + UNTOLD_PAUSE))
        is_limit = reply.status == HTTPStatus.TOO_MANY_REQUESTS or "rate limit" in message.lower()
        return now + _jittered(UNTOLD_PAUSE) if is_limit else None


class _Connection(HTTPSRequestsConnectionClass):
    """What PyGithub sends through. It keeps the status to itself: PyGithub would follow a 301
    without its query, so that a search for one runner came back as a list of others, and sleep
    on a 202."""

    def __init__(self, api_url: str, timeout: int) -> None:
        root = urlsplit(api_url)
        port = root.port or (80 if root.scheme == "http" else 443)
        super().__init__(root.hostname or "", port, timeout=timeout, retry=0, pool_size=1)
        self.protocol = root.scheme
        self.status = 0

    def getresponse(self) -> RequestsResponse:
        response = super().getresponse()
        self.status, response.status = response.status, HTTPStatus.OK
        return response


# PyGithub logs whole answers at DEBUG; a just-in-time config is one.
_SILENT: Final = logging.Logger("silent", logging.CRITICAL + 1)  # noqa: LOG001 -- nobody shall find it


def _refusal(verb: str, status: int, message: str, what: str, cure: str) -> GitHubError:
    match status:
        case 401 | 403:
            return Forbidden(what, cure)
        case 404 | 410 if message:  # without one it is not GitHub that answers
            return Absent(what, cure)
        case 409:
            return Conflict(what, cure)
        case 422 if verb == "DELETE" and "running a job" in message:
            return Busy(what)
        case _ if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in {404, 408, 410}:
            return Refused(what, cure)
        case _:
            return Unreachable(what, ODD_CURE)


def _parsed(what: str, reply: _Reply) -> Any:
    if not reply.text:
        return None
    with suppress(ValueError):  # its error would hold the text
        return json.loads(reply.text)
    raise Unreachable(
        f"{what}: GitHub answered {reply.status} with something that is not JSON.", ODD_CURE
    )


def _message(text: str) -> str:
    """Return GitHub's own words for an error, on one line and shortened; never the whole body."""
    try:
        data = json.loads(text)
    except ValueError:
        return ""
    said = data.get("message") if isinstance(data, dict) else None
    return " ".join(str(said or "").split())[:300]


def _what(verb: str, url: str) -> str:
    return f"{verb} {urlsplit(url).path}"


def _quoted(value: str | int) -> str:
    return quote(str(value), safe="")


def _jittered(seconds: float) -> float:
    """Return a little more: many starts hit by one outage shall not come back together."""
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311 -- no secret depends on it


def _time_of_day(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))
