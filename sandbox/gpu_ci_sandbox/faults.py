"""What can go wrong between a client and a server, put in front of any WSGI application."""

from __future__ import annotations

import io
import json
import re
import threading
from dataclasses import asdict, dataclass, field, fields, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, Protocol, Unpack
from typing import TypedDict as Typed
from urllib.parse import parse_qs, unquote_plus
from xml.sax.saxutils import escape

from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Request as WSGIRequest
from werkzeug.wrappers import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

Kind = Literal["answer", "drop", "lose", "delay", "hang", "truncate", "garble", "late"]
Phase = Literal["before", "after"]

# A dict in the environ, in which the application notes whether the request "counts" against a
# rate limit.
NOTES = "gpu_ci.notes"
SECRET_HEADERS = {"authorization", "cookie", "x-amz-security-token", "proxy-authorization"}


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it came in; what its answer was is filled in when it is known.

    `status` stays None while it is under way and when the connection was dropped.
    `landed` says whether the application saw it.
    """

    number: int
    method: str
    path: str
    query: str = ""
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    landed: bool = False
    counts: bool = True
    fault: Kind | None = None

    @property
    def target(self) -> str:
        """Path and query, as on the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def form(self) -> dict[str, str]:
        """Fields of a form-encoded body, as the EC2 query protocol sends them."""
        return {name: values[-1] for name, values in parse_qs(self.body).items()}

    @property
    def action(self) -> str | None:
        """`Action` of an AWS query call, None for anything else."""
        return self.form.get("Action") if "Action=" in self.body else None


class Match(Typed, total=False):
    """Which requests a rule is for; what is left out matches everything.

    `method` is exact; `path` is a regular expression searched in path and query; `body` one
    searched in the body, both as sent and with its percent-encoding undone; `action` is the exact
    `Action` of an AWS query call. The rule passes over the first `nth` - 1 requests that match
    and then applies to `times` of them (None: to all that follow).
    """

    method: str | None
    path: str
    body: str
    action: str | None
    nth: int
    times: int | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A fault and the requests that it is for; made by the constructors of this module."""

    do: Kind
    method: str | None = None
    path: str = ""
    body: str = ""
    action: str | None = None
    nth: int = 1
    times: int | None = 1
    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    headers: Mapping[str, str] = field(default_factory=dict)
    content: str = ""
    seconds_before: float = 0.0
    seconds_after: float = 0.0

    def matches(self, request: Request) -> bool:
        """Whether the request is one of those that the rule is for, `nth` and `times` aside."""
        return (
            self.method in {None, request.method}
            and self.action in {None, request.action}
            and re.search(self.path, request.target) is not None
            and any(re.search(self.body, text) for text in _readings(request.body))
        )

    def applies_to(self, match: int) -> bool:
        """Whether the rule applies to the match of this number, counted from 1."""
        return match >= self.nth and (self.times is None or match < self.nth + self.times)


def _readings(body: str) -> tuple[str, str]:
    return body, unquote_plus(body)


def answer(
    status: int,
    content: object = "",
    *,
    headers: Mapping[str, str] | None = None,
    **match: Unpack[Match],
) -> Rule:
    """Answer in the application's place; `content` is sent as it is if text, else as JSON."""
    text = content if isinstance(content, str) else json.dumps(content)
    kind = "text/plain" if isinstance(content, str) else "application/json"
    sent = {"Content-Type": kind} | dict(headers or {})
    return Rule(do="answer", status=status, content=text, headers=sent, **match)


def drop(**match: Unpack[Match]) -> Rule:
    """Cut the connection before the application has seen the request."""
    return Rule(do="drop", **match)


def lose_answer(**match: Unpack[Match]) -> Rule:
    """Let the application process the request, then cut the connection without an answer."""
    return Rule(do="lose", **match)


def delay(*, before: float = 0.0, after: float = 0.0, **match: Unpack[Match]) -> Rule:
    """Wait so many seconds before the application sees the request, and before it is answered."""
    return Rule(do="delay", seconds_before=before, seconds_after=after, **match)


def hang(**match: Unpack[Match]) -> Rule:
    """Never answer; the application does not see the request. Ends when the server stops."""
    return Rule(do="hang", **match)


def truncate(**match: Unpack[Match]) -> Rule:
    """Send half of the application's answer, then cut the connection."""
    return Rule(do="truncate", **match)


def garble(**match: Unpack[Match]) -> Rule:
    """Send half of the application's answer as if it were whole: broken JSON, sound HTTP."""
    return Rule(do="garble", **match)


def land_late(seconds: float, **match: Unpack[Match]) -> Rule:
    """Cut the connection now and let the application process the request `seconds` later."""
    return Rule(do="late", seconds_after=seconds, **match)


def aws_error(code: str, message: str, *, status: int = 400, **match: Unpack[Match]) -> Rule:
    """Answer as EC2 does when it refuses (capacity errors come with status 500)."""
    content = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        "</Error></Errors><RequestID>00000000-0000-4000-8000-000000000000</RequestID></Response>"
    )
    return answer(status, content, headers={"Content-Type": "text/xml;charset=UTF-8"}, **match)


class Hook(Protocol):
    """Called in the request's thread; the request waits for it, so it may kill somebody first."""

    def __call__(self, number: int, phase: Phase, request: Request, /) -> None: ...


class Faults:
    """WSGI middleware that logs every request and applies the first rule that fires.

    Its own routes, for other processes: `/_sandbox/faults` (POST a rule or a list of rules, GET,
    DELETE) and `/_sandbox/requests` (GET, DELETE). Nothing under `/_sandbox/` is logged or harmed.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._matches: dict[int, int] = {}
        self._requests: list[Request] = []
        self._hooks: list[Hook] = []
        self._stopping = threading.Event()

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    def calls(self, method: str | None = None, path: str = "") -> list[Request]:
        """The logged requests with this method whose path and query match the expression."""
        probe = Rule(do="drop", method=method, path=path)
        return [request for request in self.requests if probe.matches(request)]

    def add(self, *rules: Rule) -> None:
        """Rules are asked in the order in which they were added; the first that fires wins."""
        with self._lock:
            self._rules += rules

    def on_request(self, hook: Hook) -> None:
        """Call the hook before the application sees a request and again when its fate is known.

        A request that lands late has its "after" twice: when it was dropped, and when it landed.
        """
        self._hooks.append(hook)

    def clear(self) -> None:
        """Forget rules and hooks; the log stays."""
        with self._lock:
            self._rules.clear()
            self._matches.clear()
            self._hooks.clear()

    def forget_requests(self) -> None:
        """Empty the log; numbers start again at 1."""
        with self._lock:
            self._requests.clear()

    def stop(self) -> None:
        """Let go of every request that is held back; late ones that have not landed never will."""
        self._stopping.set()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] in CONTROLS:
            return CONTROLS[environ["PATH_INFO"]](self, WSGIRequest(environ))(
                environ, start_response
            )
        if environ["PATH_INFO"].startswith("/_sandbox/"):
            return self._app(environ, start_response)
        return self._faulty(environ)(environ, start_response)

    def _faulty(self, environ: WSGIEnvironment) -> Response:
        body = _buffer(environ)
        request = self._log(environ, body)
        self._call_hooks("before", request)
        rule = self._firing(request)
        call = _Call(self._app, environ, body, self._stopping)
        call.when_late = lambda: self._done(request, rule, call, None)
        try:
            return self._done(request, rule, call, DOINGS[rule.do](rule, call))
        except ConnectionError:
            self._done(request, rule, call, None)
            raise

    def _log(self, environ: WSGIEnvironment, body: bytes) -> Request:
        with self._lock:
            request = _request(len(self._requests) + 1, environ, body)
            self._requests.append(request)
        return request

    def _firing(self, request: Request) -> Rule:
        with self._lock:
            for index, rule in enumerate(self._rules):
                if rule.matches(request):
                    self._matches[index] = self._matches.get(index, 0) + 1
                    if rule.applies_to(self._matches[index]):
                        return rule
        return PASS

    def _done(
        self, request: Request, rule: Rule, call: _Call, response: Response | None
    ) -> Response:
        known = replace(
            request,
            status=response.status_code if response else None,
            landed=call.landed,
            counts=call.notes.get("counts", True),
            fault=None if rule is PASS else rule.do,
        )
        with self._lock:
            if request.number <= len(self._requests):  # else the log was emptied in between
                self._requests[request.number - 1] = known
        self._call_hooks("after", known)
        return response or Response()

    def _call_hooks(self, phase: Phase, request: Request) -> None:
        for hook in list(self._hooks):
            hook(request.number, phase, request)

    def rules(self) -> list[dict[str, Any]]:
        """The rules as plain data, each with `hits`, the number of requests that it was for."""
        with self._lock:
            return [
                asdict(rule) | {"hits": self._matches.get(index, 0)}
                for index, rule in enumerate(self._rules)
            ]


class _Call:
    """One request on its way to the application, which it may reach now, later or never."""

    def __init__(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        body: bytes,
        stopping: threading.Event,
    ) -> None:
        self.notes: dict[str, bool] = {}
        self.landed = False
        self.when_late: Callable[[], object] = lambda: None
        self._app = app
        self._environ = environ | {NOTES: self.notes}
        self._body = body
        self._stopping = stopping

    def land(self) -> Response:
        self.landed = True
        self._environ["wsgi.input"] = io.BytesIO(self._body)
        chunks, status, headers = run_wsgi_app(self._app, self._environ, buffered=True)
        return Response(chunks, status, headers)

    def wait(self, seconds: float | None) -> None:
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError("the server stops")

    def land_after(self, seconds: float) -> None:
        if not self._stopping.wait(seconds):
            self.land()
            self.when_late()


def _answer(rule: Rule, _: _Call) -> Response:
    return Response(rule.content, rule.status, dict(rule.headers))


def _drop(_: Rule, __: _Call) -> Response:
    raise ConnectionAbortedError("dropped before the application saw the request")


def _lose(_: Rule, call: _Call) -> Response:
    call.land()
    raise ConnectionAbortedError("dropped after the application had processed the request")


def _delay(rule: Rule, call: _Call) -> Response:
    if rule.seconds_before:
        call.wait(rule.seconds_before)
    response = call.land()
    if rule.seconds_after:
        call.wait(rule.seconds_after)
    return response


def _hang(_: Rule, call: _Call) -> Response:
    call.wait(None)
    raise ConnectionAbortedError("never answered")


def _truncate(_: Rule, call: _Call) -> Response:
    response = call.land()
    whole = response.get_data()
    response.set_data(whole[: len(whole) // 2])
    response.headers["Content-Length"] = str(len(whole))
    return response


def _garble(_: Rule, call: _Call) -> Response:
    response = call.land()
    response.set_data(response.get_data()[: len(response.get_data()) // 2])
    return response


def _late(rule: Rule, call: _Call) -> Response:
    threading.Thread(target=call.land_after, args=(rule.seconds_after,), daemon=True).start()
    raise ConnectionAbortedError("dropped; it will land later")


DOINGS: Mapping[Kind, Callable[[Rule, _Call], Response]] = {
    "answer": _answer,
    "drop": _drop,
    "lose": _lose,
    "delay": _delay,
    "hang": _hang,
    "truncate": _truncate,
    "garble": _garble,
    "late": _late,
}
PASS = Rule(do="delay")


def _buffer(environ: WSGIEnvironment) -> bytes:
    return WSGIRequest(environ).get_data(cache=False)


def _request(number: int, environ: WSGIEnvironment, body: bytes) -> Request:
    seen = WSGIRequest(environ)
    headers = {name.lower(): value for name, value in seen.headers.items()}
    return Request(
        number=number,
        method=seen.method,
        path=seen.path,
        query=seen.query_string.decode(),
        body=body.decode(errors="replace"),
        headers={name: headers[name] for name in headers.keys() - SECRET_HEADERS},
    )


def _rules_control(faults: Faults, request: WSGIRequest) -> Response:
    if request.method == "POST":
        posted = request.get_json()
        try:
            faults.add(
                *(_rule(each) for each in (posted if isinstance(posted, list) else [posted]))
            )
        except (KeyError, TypeError, re.error) as error:
            return _json({"message": f"not a rule: {error}"}, HTTPStatus.UNPROCESSABLE_ENTITY)
    elif request.method == "DELETE":
        faults.clear()
    return _json(faults.rules())


def _requests_control(faults: Faults, request: WSGIRequest) -> Response:
    if request.method == "DELETE":
        faults.forget_requests()
    return _json([asdict(each) | {"action": each.action} for each in faults.requests])


CONTROLS: Mapping[str, Callable[[Faults, WSGIRequest], Response]] = {
    "/_sandbox/faults": _rules_control,
    "/_sandbox/requests": _requests_control,
}


def _rule(posted: Mapping[str, Any]) -> Rule:
    unknown = posted.keys() - {each.name for each in fields(Rule)}
    if unknown or posted["do"] not in DOINGS:
        raise TypeError(f"unknown: {sorted(unknown) or posted['do']}")
    rule = Rule(**posted)
    re.compile(rule.path)
    re.compile(rule.body)
    return rule


def _json(content: object, status: int = HTTPStatus.OK) -> Response:
    return Response(json.dumps(content), status, content_type="application/json")
