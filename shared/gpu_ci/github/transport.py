"""One line to GitHub's REST API, with retry rules of our own.

An ordinary client that repeats a POST after a lost answer shows only the 409 of the second; one that
sleeps for a rate limit sleeps as long as GitHub says. Here a POST is sent once, a GET or DELETE a few
times, and a limit that ends after our deadline fails at once.
"""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import requests

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

    from gpu_ci.runtime.clock import Deadline

# https://docs.github.com/en/rest/about-the-rest-api/api-versions
API_VERSION: Final = "2026-03-10"
# An Enterprise Server answers 400 to a version newer than itself; they all know this one.
SERVER_API_VERSION: Final = "2022-11-28"
TRIES: Final = 4
# How long a request waits for its answer in a process that may be killed soon.
HURRY_SECONDS: Final = 2
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
        raise Unreachable(f"{self.what}: GitHub's answer has an unexpected shape.", ODD_CURE)


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """What is left of a rate limit `of` so many requests, `until` then (seconds since the epoch)."""

    left: int
    of: int
    until: float

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Self | None:
        """Read it from the headers that every answer has; None if the server has no limits."""
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

    `token` is the credential, or makes one for each request. `deadline` bounds all waiting, `timeout`
    (seconds) each request. `cures` is what to do about a refusal of this credential, by status.
    `counted` is how many requests counted against the rate limit (a 304 does not). `known` holds the
    answers that have an ETag, by address; several lines, and passes that follow each other, may
    share it. `spared` is the part of the hourly limit that reading leaves to others.
    """

    api_url: str
    token: str | Callable[[], str] = field(repr=False)
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
        self.deadline, self.timeout, self.tries = deadline, HURRY_SECONDS, 1
        self._local = threading.local()

    def get(self, path: str, *, trim: Callable[[Any], Any] = _whole, **query: str | int) -> Answer:
        """Read. A known answer is asked for by its ETag; if unchanged, it costs no rate limit.

        `trim` makes the JSON smaller before it is kept; it must be the same for each request of an
        address. Raises Limited also when only the part that is spared for others is left.
        """
        asked = "&".join(f"{name}={_quoted(value)}" for name, value in sorted(query.items()))
        url = f"{path}?{asked}" if asked else path
        # A 304 costs nothing; but an ETag that another token got brings none.
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
        """Send once: after Unreachable the caller must check what came of it.

        `harmless` says that sending it twice does no harm, so it is retried like a GET. Without
        `waits` a limit is an error at once: it has to be sent now or not at all.
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
        """Send, and follow a redirect to where a renamed repository is now.

        A redirected request was not processed, so this is no retry, not even of a POST.
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
        raise Refused(f"{_what(verb, url)}: GitHub redirects us in a circle.", ODD_CURE)

    def _within(self, what: str, location: str) -> str:
        """Return the address if it is on this server; no other one may get the token."""
        there = urljoin(self.api_url, location)
        if urlsplit(there)[:2] != urlsplit(self.api_url)[:2]:
            raise Refused(
                f"{what}: GitHub at {self.api_url} redirects us to another server.",
                "Correct github-api-url, or use the new name of what was renamed.",
            )
        return there

    def _exchange(
        self, verb: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> _Reply:
        try:
            reply = self._session().request(
                verb,
                self.api_url + url if url.startswith("/") else url,
                headers={**headers, "Authorization": f"Bearer {self._credential()}"},
                json=body,
                timeout=self.timeout,
                allow_redirects=False,
            )
            got = {name.lower(): value for name, value in reply.headers.items()}
            # JSON is UTF-8; guessing the encoding costs more than the request.
            return _Reply(reply.status_code, got, reply.content.decode(errors="replace"))
        except (requests.exceptions.InvalidHeader, UnicodeEncodeError):
            failure: GitHubError = Forbidden(
                "The token for GitHub has characters that no token can have.",
                TOKEN_TEXT_CURE,
            )
        except (requests.RequestException, ValueError) as error:
            failure = Unreachable(
                f"{_what(verb, url)}: GitHub at {self.api_url} gave no answer "
                f"({type(error).__name__}).",
                NETWORK_CURE,
            )
        raise failure  # out here it has no cause: that would hold the request and its token

    def _credential(self) -> str:
        return self.token if isinstance(self.token, str) else self.token()

    def _session(self) -> requests.Session:
        """Return this thread's own: a session is not safe to share."""
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.auth = _as_it_is  # with none at all it would look for one in .netrc
            server = self.api_url.endswith("/api/v3")
            session.headers["User-Agent"] = "gpu-ci"
            session.headers["X-GitHub-Api-Version"] = SERVER_API_VERSION if server else API_VERSION
            self._local.session = session
        made: requests.Session = self._local.session
        return made

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


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _refusal(verb: str, status: int, message: str, what: str, cure: str) -> GitHubError:
    match status:
        case 401 | 403:
            return Forbidden(what, cure)
        case 404 | 410 if message:  # without one, GitHub is not what answered
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
    """Return a little more, so that many starts hit by one outage do not come back together."""
    return seconds * random.uniform(1.0, 1.2)  # noqa: S311 -- no secret depends on it


def _time_of_day(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))
