"""A client for a cloud's JSON API: the key in a header, retries, time limits.

A provider describes its API in a `Service`, and calls `get` for what only reads and `send` for what
may change something. No error holds the key: an exception of the HTTP library, which holds the
request, is never the cause of one that is raised here.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gpu_ci.errors import (
    CloudUnreachable,
    NoSuchMachine,
    NotPermitted,
    QuotaExceeded,
    WrongRequest,
)
from gpu_ci.runtime.clock import aside, growing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from gpu_ci.errors import CloudError
    from gpu_ci.runtime.clock import Clock

T = TypeVar("T")
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
TRIES: Final = 4
# A rate limit that lasts longer than this is an error at once.
LONGEST_PAUSE: Final = 60.0
HURRY_SECONDS: Final = 2.0
# How many characters of a cloud's message an error shows.
SHOWN: Final = 300
BROKEN: Final = object()
"""The answer to a call whose text is not JSON."""


@dataclass(frozen=True, kw_only=True)
class Cures:
    """What to do about each kind of refusal, in the cloud's own words and addresses.

    network: for no answer. key: for a bad key. owner: for a key of another account. funds: for a
    balance or limit. machine: for a machine that is not there. request: for a request that the
    cloud does not take.
    """

    network: str
    key: str
    funds: str
    machine: str
    request: str
    owner: str = ""


@dataclass(frozen=True, kw_only=True)
class Service:
    """An API and how to call it.

    title: what people call the cloud, the subject of each error.
    root: its address, without a slash at the end.
    key_variable: the environment variable that holds the key.
    root_variable: the one that replaces `root`, for a proxy and for tests.
    header, scheme: the header that carries the key, and the word before it ("" for none).
    """

    title: str
    root: str
    key_variable: str
    root_variable: str
    cures: Cures
    header: str = "Authorization"
    scheme: str = "Bearer"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request; `doing` says in words what it is for: "list the machines".

    `region` is for an API with a host for each. `files` are sent as a form, by the field's name:
    (file name, content, media type); they may hold a registration, so they are never shown.
    """

    verb: str
    path: str
    doing: str
    region: str = ""
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    files: Mapping[str, tuple[str, bytes, str]] | None = field(default=None, repr=False)


class Passing(CloudUnreachable):
    """A failure that may pass in a moment; `after` is how many seconds the server asks us to wait."""

    def __init__(self, what: str, cure: str, *, after: float = 0.0) -> None:
        super().__init__(what, cure)
        self.after = after


@dataclass
class Line:
    """The API, used with one key; safe to use from several threads.

    `hurried` makes each call give up soon, after one try; see `within_hurry`. A provider overrides
    `root` where each region has its host, `is_success` and `refusal` where the status does not say
    it all.
    """

    service: Service
    env: Mapping[str, str] = field(repr=False)
    clock: Clock
    hurried: bool = False
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def get(
        self,
        path: str,
        doing: str,
        *,
        region: str = "",
        query: Mapping[str, str | int] | None = None,
    ) -> Any:
        """Read, and try again as long as no meaningful answer comes back."""
        call = Call(verb="GET", path=path, doing=doing, region=region, query=query or {})
        pauses = growing(1.0, most=4.0)
        for left in reversed(range(1 if self.hurried else TRIES)):
            try:
                return self.send(call)
            except Passing as trouble:
                pause = max(next(pauses), trouble.after)
                if not left or pause > LONGEST_PAUSE:
                    raise
            self.clock.sleep(pause)
        raise AssertionError("the last try raises")

    def send(self, call: Call) -> Any:
        """Send once, and return the JSON of the answer, None for an empty one.

        Raises CloudError. After CloudUnreachable nobody knows whether the call was carried out:
        look for its result, and never send it again blindly.
        """
        status, text, after = self._exchange(call)
        data = _parsed(text)
        if not self.is_success(status, data):
            raise self.refusal(call, status, _without(data, self._key()), after)
        if data is BROKEN:
            raise Passing(
                f"{self.service.title} did not {call.doing}: its answer is not JSON.",
                self.service.cures.network,
            )
        return data

    def is_success(self, status: int, data: Any) -> bool:  # noqa: ARG002 -- for an API that says it in the data
        """Say whether the call was carried out."""
        return status < HTTPStatus.MULTIPLE_CHOICES

    def refusal(self, call: Call, status: int, data: Any, after: float) -> CloudError:
        """Return the error for an answer that is not a success; the data does not hold the key."""
        return refusal(self.service, call.doing, status, data, after)

    def root(self, region: str) -> str:  # noqa: ARG002 -- for an API that has one for each region
        """Return the address of the API for a region, "" for any."""
        return self.given_root() or self.service.root

    def given_root(self) -> str:
        """Return the address that the environment gives, which answers for all regions, or ""."""
        return self.env.get(self.service.root_variable, "").strip().rstrip("/")

    def within_hurry(self, doing: Callable[[], T], what: str) -> T:
        """Return what the call returns; in a hurry, give up after two seconds."""
        if not self.hurried:
            return doing()
        with suppress(TimeoutError):
            return aside(doing, HURRY_SECONDS)
        raise CloudUnreachable(
            f"{self.service.title} did not {what} within {HURRY_SECONDS:g} s.",
            self.service.cures.machine,
        )

    def _exchange(self, call: Call) -> tuple[int, str, float]:
        import requests  # noqa: PLC0415 -- a provider that is not used loads nothing

        service = self.service
        try:
            reply = self._session().request(
                call.verb,
                f"{self.root(call.region)}/{call.path}",
                params=call.query,
                json=call.body,
                files=call.files,
                timeout=self._timeout(),
                allow_redirects=False,  # nobody else may get the key
            )
            text = reply.content.decode(errors="replace")
            return reply.status_code, text, _seconds(reply.headers.get("Retry-After"))
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
            failure: CloudError = WrongRequest(
                f"{service.root_variable} is not an address.",
                "Leave it out, or give the API's root with https://.",
            )
        except requests.RequestException as error:
            failure = Passing(
                f"{service.title} did not {call.doing}: {type(error).__name__}.",
                service.cures.network,
            )
        except ValueError:  # from http.client, with the header in its text
            failure = NotPermitted(
                f"{service.key_variable} has characters in it that no key has.", service.cures.key
            )
        raise failure  # out here it has no cause, which would hold the request and its key

    def _timeout(self) -> tuple[float, float]:
        """In a hurry, half of the time each: most tasks take a look and a call."""
        return (HURRY_SECONDS / 2,) * 2 if self.hurried else (CONNECT_SECONDS, READ_SECONDS)

    def _key(self) -> str:
        key = self.env.get(self.service.key_variable, "").strip()
        if not key:
            raise NotPermitted(f"{self.service.key_variable} is not set.", self.service.cures.key)
        return key

    def _session(self) -> requests.Session:
        """Return this thread's own session."""
        import requests  # noqa: PLC0415 -- a provider that is not used loads nothing

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        value = f"{self.service.scheme} {self._key()}".strip()
        session.auth = _Header(self.service.header, value)
        return session


class _Header:
    """The key as a header. As `auth`, since a ~/.netrc would replace a plain header."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


def refusal(service: Service, doing: str, status: int, data: Any, after: float = 0.0) -> CloudError:
    """Return the error for an answer that is not a success, by its status."""
    what = refused(service, doing, status, data)
    if may_pass(status):
        return Passing(what, service.cures.network, after=after)
    return by_status(what, status, service.cures)


def refused(service: Service, doing: str, status: int, data: Any) -> str:
    """Say what the cloud did not do, and what it gave as the reason."""
    said = message(data)
    reason = f'"{said}"' if said else "without a reason"
    return f"{service.title} did not {doing}: it answered {status}, {reason}."


def may_pass(status: int) -> bool:
    """Say whether the same call may succeed in a moment."""
    passing = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in passing


def by_status(what: str, status: int, cures: Cures) -> CloudError:
    """Return the error for a status that will not pass; `what` is its first sentence."""
    match status:
        case 401:
            return NotPermitted(what, cures.key)
        case 402:
            return QuotaExceeded(what, cures.funds)
        case 403:
            return NotPermitted(what, f"{cures.key} {cures.owner}".strip())
        case 404:
            return NoSuchMachine(what, cures.machine)
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return CloudUnreachable(what, cures.network)  # a redirect: this is not the API
        case _:
            return WrongRequest(what, cures.request)


def message(data: Any) -> str:
    """Return the words of an error, on one line and shortened; "" where there are none."""
    if not isinstance(data, dict):
        return ""
    words = (_words(data.get(name)) for name in ("message", "error", "detail", "error_message"))
    return next(filter(None, words), "")[:SHOWN]


def _words(said: Any) -> str:
    match said:
        case str():
            text = " ".join(said.split())
            return "" if text == "None" else text  # what an answer without an error says
        case list():
            return "; ".join(filter(None, map(_finding, said)))
        case dict():
            return _words(said.get("message"))
        case _:
            return ""


def _finding(item: Any) -> str:
    """Return one finding of a validation: where, and what is wrong with it."""
    if not isinstance(item, dict):
        return _words(item)
    where = ".".join(map(str, item.get("loc") or []))
    return f"{where}: {_words(item.get('msg'))}" if where else _words(item.get("msg"))


def _parsed(text: str) -> Any:
    if not text.strip():
        return None
    with suppress(ValueError):
        return json.loads(text)
    return BROKEN


def _without(data: Any, key: str) -> Any:
    """Return the same answer without the key, in case the cloud quotes it."""
    return data if data is BROKEN else json.loads(json.dumps(data).replace(key, "***"))


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 0.0
