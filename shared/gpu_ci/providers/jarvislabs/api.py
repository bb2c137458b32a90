"""One line to the JarvisLabs API: each region's host, the key, and what is tried again."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gpu_ci.errors import CloudError, CloudUnreachable, NotPermitted, WrongRequest
from gpu_ci.providers.jarvislabs.api_errors import KEY_CURE, Passing, refusal, succeeded
from gpu_ci.runtime.clock import aside, growing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import requests

    from gpu_ci.runtime.clock import Clock

T = TypeVar("T")
# One host a region; calls about a machine go to its own region's. (The vendor's client, 0.2.19.)
HOSTS: Final = {
    "india-noida-01": "https://backendn.jarvislabs.net",
    "india-chennai-01": "https://backendc.jarvislabs.net",
    "europe-01": "https://backendeu.jarvislabs.net",
}
HOME_REGION: Final = "india-noida-01"
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 30.0
TRIES: Final = 4
# A limit that is to last longer than this is an error at once.
LONGEST_PAUSE: Final = 60.0
HURRY_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request; `doing` says in words what for, `region` at whose host ("" for any)."""

    verb: str
    path: str
    doing: str
    region: str = ""
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    script: str | None = field(default=None, repr=False)  # holds a registration


@dataclass
class Api:
    """The API under one key; safe to use from several threads. `hurried`: see `within_hurry`."""

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
        """Read; tried again while nothing or nothing that means anything comes back."""
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
        """Send once, and return the JSON of the answer.

        Raises the errors of `jarvislabs.errors`. After CloudUnreachable it is not known whether
        the call was carried out.
        """
        status, text, after = self._exchange(call)
        data = _parsed(text)
        if status >= 300 or succeeded(data) is False:  # noqa: PLR2004 -- the first that is no success
            raise refusal(call.doing, status, _without(data, self._key()), after)
        if data is _BROKEN:
            raise Passing(f"JarvisLabs did not {call.doing}: its answer is not JSON.")
        return data

    def within_hurry(self, doing: Callable[[], T], what: str) -> T:
        """Return what the call returns; in a hurry, give up after two seconds."""
        if not self.hurried:
            return doing()
        with suppress(TimeoutError):
            return aside(doing, HURRY_SECONDS)
        raise CloudUnreachable(
            f"JarvisLabs did not {what} within {HURRY_SECONDS:g} s.",
            "Look for the machine by its name at https://jarvislabs.ai.",
        )

    def _exchange(self, call: Call) -> tuple[int, str, float]:
        import requests  # noqa: PLC0415 -- a provider that is not used loads nothing

        try:
            reply = self._session().request(
                call.verb,
                f"{self._root(call.region)}/{call.path}",
                params=call.query,
                json=call.body,
                files=_upload(call.script),
                timeout=self._timeout(),
                allow_redirects=False,  # nobody else may get the key
            )
            text = reply.content.decode(errors="replace")
            return reply.status_code, text, _seconds(reply.headers.get("Retry-After"))
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
            failure: CloudError = WrongRequest(
                "JL_API_URL is no address.", "Leave it out, or give the API's root with https://."
            )
        except requests.RequestException as error:
            failure = Passing(f"JarvisLabs did not {call.doing}: {type(error).__name__}.")
        except ValueError:  # from http.client, with the header in its text
            failure = NotPermitted("JL_API_KEY has characters in it that no key has.", KEY_CURE)
        raise failure  # out here it has no cause, which would hold the request and its key

    def _timeout(self) -> tuple[float, float]:
        """In a hurry, half of the time: most things take a look and a call."""
        return (HURRY_SECONDS / 2,) * 2 if self.hurried else (CONNECT_SECONDS, READ_SECONDS)

    def _root(self, region: str) -> str:
        """Return the root for a region, "" for any; JL_API_URL answers for all of them."""
        if (region or HOME_REGION) not in HOSTS:
            raise unknown_region(region)
        given = self.env.get("JL_API_URL", "").strip()
        return (given or HOSTS[region or HOME_REGION]).rstrip("/")

    def _key(self) -> str:
        key = self.env.get("JL_API_KEY", "").strip()
        if not key:
            raise NotPermitted("JL_API_KEY is not set.", KEY_CURE)
        return key

    def _session(self) -> requests.Session:
        """Return this thread's own."""
        import requests  # noqa: PLC0415 -- a provider that is not used loads nothing

        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        session.auth = _Bearer(self._key())
        return session


class _Bearer:
    """The key as a header. As `auth`, since a ~/.netrc would replace a plain header."""

    def __init__(self, key: str) -> None:
        self._header = f"Bearer {key}"

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._header
        return request


def unknown_region(region: str) -> WrongRequest:
    """Return the error for a region that no host is known of."""
    return WrongRequest(
        f"JarvisLabs has no region {region!r} that new calls go to.",
        f"Its regions are {', '.join(HOSTS)}; codes such as IN2 have changed their meaning and are "
        "not taken.",
    )


_BROKEN: Final = object()


def _parsed(text: str) -> Any:
    if not text.strip():
        return None
    with suppress(ValueError):
        return json.loads(text)
    return _BROKEN


def _without(data: Any, key: str) -> Any:
    """Return the same answer without the key, should it be quoted in it."""
    return data if data is _BROKEN else json.loads(json.dumps(data).replace(key, "***"))


def _upload(script: str | None) -> dict[str, tuple[str, bytes, str]] | None:
    return (
        None if script is None else {"script": ("startup.sh", script.encode(), "application/x-sh")}
    )


def _seconds(header: str | None) -> float:
    return float(header) if header and header.isdigit() else 0.0
