"""The line to GitHub: what it tries again, how long it waits, where it goes and what it keeps."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import pytest
from tests.fakes import REPOSITORY, FakeClock
from tests.github.desk import OPERATIONS, RUNNERS, UNREAD, Desk, desk_at, github_desk, impatient
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from gpu_ci.errors import (
    Absent,
    Conflict,
    Forbidden,
    GitHubError,
    Limited,
    Refused,
    Unreachable,
)
from gpu_ci.github.client import GitHub
from gpu_ci.github.transport import (
    API_VERSION,
    SERVER_API_VERSION,
    UNTOLD_PAUSE,
    Answer,
    Line,
    Reserve,
)
from gpu_ci.runtime.clock import Deadline
from gpu_ci_sandbox.fake_github import credentials
from gpu_ci_sandbox.fake_github.rest import serve_github
from gpu_ci_sandbox.faults import answer, drop, garble, hang, lose_answer, truncate
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIEnvironment

    from gpu_ci_sandbox.fake_github.rest import ServedGitHub
    from gpu_ci_sandbox.faults import Rule


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach loopback without the proxy of the machine that the tests run on."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def hub() -> Iterator[ServedGitHub]:
    with serve_github() as served:
        yield served


@pytest.fixture
def desk(hub: ServedGitHub) -> Iterator[Desk]:
    with desk_at(hub) as made:
        yield made


def line_to(desk: Desk, *, patience: float = 300.0) -> Line:
    deadline = Deadline.after(patience, desk.clock)
    return Line(desk.hub.url, desk.admin, deadline, desk.said.append)


def nobody(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    """An application for a server that is not asked."""
    raise AssertionError


# What is tried again


def test_get_outlives_an_outage(desk: Desk) -> None:
    """A GET is sent again after 502, a cut connection and broken JSON; pauses grow, with jitter."""
    desk.add(answer(502), drop(), garble())
    assert line_to(desk).get(RUNNERS).data["runners"] == []
    first, second, third = desk.clock.slept
    assert 0.5 <= first <= 0.6
    assert 1.0 <= second <= 1.2
    assert 2.0 <= third <= 2.4


def test_outage_ends_the_tries(desk: Desk) -> None:
    """A permanent 503 ends after four tries as Unreachable, with the place to look at."""
    desk.add(answer(503, times=None))
    with pytest.raises(Unreachable, match=r"answered 503.*githubstatus\.com"):
        line_to(desk).get(RUNNERS)
    assert len(desk.calls()) == 4


def test_no_pause_beyond_the_deadline(desk: Desk) -> None:
    """With no time left for a pause the first failure is the last."""
    desk.add(answer(503, times=None))
    with pytest.raises(Unreachable):
        line_to(desk, patience=0.4).get(RUNNERS)
    assert len(desk.calls()) == 1
    assert desk.clock.slept == []


@pytest.mark.parametrize("fault", [answer(502), drop(), lose_answer(), truncate(), garble()])
def test_post_is_sent_once(desk: Desk, fault: Rule) -> None:
    """A POST whose answer is lost is not repeated by the line (lost answer to a create, pain 14)."""
    desk.add(fault)
    with pytest.raises(Unreachable):
        line_to(desk).post(f"{RUNNERS}/registration-token")
    assert len(desk.calls()) == 1


def test_harmless_post_is_tried_again(desk: Desk) -> None:
    """A POST that may be repeated is (three 502, then 201: bursts at registration, pain 19)."""
    desk.add(answer(502, times=3))
    assert line_to(desk).post(f"{RUNNERS}/registration-token", harmless=True).data["token"]
    assert len(desk.calls()) == 4


def test_hurry(desk: Desk) -> None:
    """In a hurry there is one try, and an answer that takes longer than the timeout is not had."""
    line = line_to(desk)
    line.hurry(Deadline.after(5, desk.clock))
    assert (line.timeout, line.tries) == (2, 1)
    desk.add(answer(503, times=None))
    with pytest.raises(Unreachable):
        line.get(RUNNERS)
    assert len(desk.calls()) == 1


# Limits (pain 18)


@pytest.mark.parametrize("status", [403, 429])
def test_limit_beyond_the_deadline(desk: Desk, status: int) -> None:
    """A limit of 40 minutes fails a wait of 5 at once, with the reason and its end (pain 18)."""
    desk.state.set_remaining(0, reset_in=2400, status=403 if status == 403 else 429)
    with pytest.raises(Limited, match=r"rate limit exceeded.*ends at 08:40:00 UTC") as limited:
        line_to(desk, patience=300).get(RUNNERS)
    assert limited.value.until == desk.clock.now() + 2400
    assert desk.clock.slept == []
    assert len(desk.calls()) == 1


@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_limit_within_the_deadline(desk: Desk, verb: str) -> None:
    """A limit that ends in time is waited for, exactly, and said once (pain 18)."""
    desk.state.set_remaining(0, reset_in=200)
    line = line_to(desk, patience=300)
    runner = desk.state.register(REPOSITORY, "r", ["x"])
    asks = {
        "GET": lambda: line.get(RUNNERS),
        "POST": lambda: line.post(f"{RUNNERS}/registration-token"),
        "DELETE": lambda: line.delete(f"{RUNNERS}/{runner.id}"),
    }
    asks[verb]()
    assert desk.clock.slept == [200]
    assert desk.said == ["GitHub limits how often it may be asked; waiting until 08:03:20 UTC."]


@pytest.mark.parametrize("status", [403, 429])
def test_secondary_limit_that_says_how_long(desk: Desk, status: int) -> None:
    """Retry-After is obeyed, with 403 and with 429 (pain 18)."""
    desk.state.set_secondary(retry_after=17, status=403 if status == 403 else 429)
    line_to(desk).get(RUNNERS)
    assert desk.clock.slept == [17]


def test_secondary_limit_that_does_not_say(desk: Desk) -> None:
    """Without Retry-After it is a minute and a little jitter (pain 18)."""
    desk.state.set_secondary(retry_after=None)
    line_to(desk).get(RUNNERS)
    [slept] = desk.clock.slept
    assert UNTOLD_PAUSE <= slept <= 1.2 * UNTOLD_PAUSE


def test_limit_that_goes_on(desk: Desk) -> None:
    """A limit that says "now" again and again is asked ever less often, until the deadline."""
    desk.add(answer(429, {"message": "slow down"}, headers={"Retry-After": "0"}, times=None))
    with pytest.raises(Limited):
        line_to(desk, patience=100).get(RUNNERS)
    assert desk.clock.slept == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_limit_is_no_state(desk: Desk, operation: str) -> None:
    """No question takes a limit for an answer about what exists (pain 18)."""
    desk.state.set_remaining(0, reset_in=2400)
    with pytest.raises(Limited):
        OPERATIONS[operation](desk.client())


# Errors told apart (pain 13)

FAULTS: dict[str, tuple[Rule, type[GitHubError]]] = {
    "401": (answer(401, {"message": "Bad credentials"}, times=None), Forbidden),
    "403": (answer(403, {"message": "Must have admin rights"}, times=None), Forbidden),
    "403 empty": (answer(403, times=None), Forbidden),
    "404 everywhere": (answer(404, {"message": "Not Found"}, times=None), Forbidden),
    "404 of a web server": (answer(404, "<h1>Not Found</h1>", times=None), Unreachable),
    "404 empty": (answer(404, times=None), Unreachable),
    "429": (answer(429, {"message": "Too many"}, times=None), Limited),
    "500": (answer(500, {"message": "Server Error"}, times=None), Unreachable),
    "502": (answer(502, "<html>", times=None), Unreachable),
    "cut before": (drop(times=None), Unreachable),
    "cut after": (lose_answer(times=None), Unreachable),
    "half": (truncate(times=None), Unreachable),
    "broken JSON": (garble(times=None), Unreachable),
    "a portal's page": (answer(200, "<html>Please sign in</html>", times=None), Unreachable),
    "another object": (answer(200, {}, times=None), Unreachable),
    "a list": (answer(200, [1], times=None), Unreachable),
    "null": (answer(200, "null", times=None), Unreachable),
    "nothing": (answer(200, "", times=None), Unreachable),
    "moved away": (answer(301, headers={"Location": "http://other.test/"}, times=None), Refused),
}
# Nothing can be cut from an empty answer, and what is not read cannot have the wrong shape.
HARMLESS = {
    *((operation, fault) for operation in UNREAD for fault in ("another object", "a list")),
    *((operation, fault) for operation in UNREAD for fault in ("null", "nothing")),
    ("delete", "half"),
    ("delete", "broken JSON"),
    ("runner_builds", "another object"),  # read as a list of none, which is Refused
}
CASES = [
    (operation, fault)
    for operation in OPERATIONS
    for fault in FAULTS
    if (operation, fault) not in HARMLESS
]


@pytest.mark.parametrize(("operation", "fault"), CASES)
def test_no_error_is_an_answer(
    desk: Desk, operation: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every trouble with every question raises what it is, never "absent" (pain 13).

    And no secret is in the error, its traceback, what is said or what is logged at DEBUG.
    """
    caplog.set_level(logging.DEBUG)
    rule, kind = FAULTS[fault]
    desk.state.register(REPOSITORY, "gpu-ci-7-1-x", ["gpu-ci-7-1-x-nonce"])
    desk.add(rule)
    client = desk.client()
    with pytest.raises(GitHubError) as raised:
        OPERATIONS[operation](client)
    assert type(raised.value) is kind
    assert "GitHub" in str(raised.value)
    everything = "\n".join([told(raised.value), repr(client.line), *desk.said, caplog.text])
    assert not [secret for secret in secrets_of(desk) if secret in everything]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_answer_in_time(desk: Desk, operation: str) -> None:
    """A server that never answers is Unreachable for every question (pain 13)."""
    desk.add(hang(times=None))
    with pytest.raises(Unreachable, match="ReadTimeout"):
        OPERATIONS[operation](impatient(desk.client()))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_nobody_there(operation: str) -> None:
    """A refused connection is Unreachable, with the network and the proxy as places to look."""
    clock = FakeClock()
    with Server(nobody) as server:
        url = server.url
    github = GitHub(
        Line(url, "ghp_x", Deadline.after(300, clock)),
        scope=f"repos/{REPOSITORY}",
        repository=REPOSITORY,
    )
    with pytest.raises(Unreachable, match=r"ConnectionError.*proxy"):
        OPERATIONS[operation](github)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (409, Conflict), (422, Refused), (451, Refused), (408, Unreachable)],
)
def test_other_statuses(desk: Desk, status: int, kind: type[GitHubError]) -> None:
    """What GitHub understood and will not do is told from what it may not have got."""
    desk.add(answer(status, {"message": "No."}, times=None))
    with pytest.raises(GitHubError, match=rf'answered {status}, "No\."') as raised:
        line_to(desk).get(RUNNERS)
    assert type(raised.value) is kind


def test_message_is_one_short_line(desk: Desk) -> None:
    """GitHub's words are shown on one line and shortened: they could hold a runner's command."""
    desk.add(answer(400, {"message": "a\n::warning::b " + "x" * 999}))
    with pytest.raises(Refused) as raised:
        line_to(desk).get(RUNNERS)
    assert '"a ::warning::b x' in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


# Renamed and moved repositories

OLD = "/repos/octo/old/actions/runners"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_renamed_repository(desk: Desk, status: int) -> None:
    """Reads, deletes and creates follow a redirect on the same server, with query and body."""
    client = desk.client(scope="repos/octo/old")
    desk.state.register(REPOSITORY, "other", ["x"])
    mine = desk.state.register(REPOSITORY, "mine", ["x"])
    _move(desk, status)
    found = client.runner_named("mine")
    assert found
    assert found.id == mine.id
    client.delete(mine.id)
    made, _ = client.register("new", ["label"])
    assert made.labels == {"label"}
    assert desk.names() == ["other", "new"]
    assert client.counted == len(desk.calls())


def _move(desk: Desk, status: int) -> None:
    """Let everything of octo/old be answered with the same place of the repository's new name."""
    for tail in ("", "/generate-jitconfig", "/1", "/2"):
        query = "?name=mine&per_page=100&page=1" if tail == "" else ""
        there = f"{desk.hub.url}{RUNNERS}{tail}{query}"
        pattern = rf"^{OLD}{tail}($|\?)"
        desk.add(answer(status, headers={"Location": there}, path=pattern, times=None))


def test_relative_redirect(desk: Desk) -> None:
    """A redirect without a server's name is on this server."""
    desk.add(answer(307, headers={"Location": RUNNERS}, path=OLD))
    assert line_to(desk).get(OLD).data["total_count"] == 0


@pytest.mark.parametrize("verb", ["get", "post", "delete"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_another_server_gets_nothing(desk: Desk, verb: str, status: int) -> None:
    """A redirect to another server is refused, and nothing is sent there, least of all a token."""
    path = RUNNERS + {"get": "", "post": "/registration-token", "delete": "/1"}[verb]
    with github_desk() as other:
        desk.add(answer(status, headers={"Location": other.hub.url + path}, times=None))
        with pytest.raises(Refused, match="another server"):
            getattr(line_to(desk), verb)(path)
        assert other.calls() == []


@pytest.mark.parametrize(
    "location", ["//evil", "https://127.0.0.1/", "ftp://x/", "http://127.0.0.1@evil"]
)
def test_odd_redirects(desk: Desk, location: str) -> None:
    """A location that is none, or that only resembles this server, is refused."""
    desk.add(answer(301, headers={"Location": location}, times=None))
    with pytest.raises(Refused, match="another server"):
        line_to(desk).get(RUNNERS)
    assert len(desk.calls()) == 1


def test_redirect_to_no_address(desk: Desk) -> None:
    """A location that cannot be read is an answer that means nothing."""

    def app(environ: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        start("307 Temporary Redirect", [("Location", "http://[")])
        return []

    with Server(app) as server, pytest.raises(Unreachable, match="ValueError"):
        desk.client(api_url=server.url).runners()


def test_redirect_in_a_circle(desk: Desk) -> None:
    """A redirect to itself ends after three requests."""
    desk.add(answer(301, headers={"Location": desk.hub.url + RUNNERS}, times=None))
    with pytest.raises(Refused, match="in a circle"):
        line_to(desk).get(RUNNERS)
    assert len(desk.calls()) == 3


# Conditional requests


def test_unchanged_answers_are_free(desk: Desk) -> None:
    """A look at an unchanged runner is a 304 and counts nothing; a change is seen at once."""
    runner = desk.state.register(REPOSITORY, "r", ["x"])
    client = desk.client()
    assert [client.runner(runner.id).online for _ in range(5)] == [False] * 5
    assert [request.status for request in desk.calls()] == [200, 304, 304, 304, 304]
    assert client.counted == desk.state.counted_calls == 1
    desk.state.set_runner(runner.id, online=True)
    assert client.runner(runner.id).online
    assert client.counted == desk.state.counted_calls == 2


def test_unchanged_page_keeps_its_link(desk: Desk) -> None:
    """A 304 without a Link still has a next page: no part is taken for the whole (pain 20)."""
    for number in range(150):
        desk.state.register(REPOSITORY, f"r{number}", ["x"])
    client = desk.client()
    assert len(client.runners()) == 150
    desk.add(answer(304, times=None))
    assert len(client.runners()) == 150


def test_etags_are_per_credential(desk: Desk) -> None:
    """What one token was answered is never sent as known by another."""
    other = desk.state.issue(credentials.classic(REPOSITORY))
    for token in (desk.admin, other):
        desk.client(token).runner_named("x")
    assert [request.status for request in desk.calls()] == [200, 200]
    assert all("if-none-match" not in request.headers for request in desk.calls())


def test_deleted_is_not_unchanged(desk: Desk) -> None:
    """A runner whose answer is known by its ETag, and that is then gone, is absent."""
    runner = desk.state.register(REPOSITORY, "r", ["x"])
    client = desk.client()
    client.runner(runner.id)
    desk.state.runners.remove(runner.id)
    with pytest.raises(Absent):
        client.runner(runner.id)


def test_an_answer_is_trimmed_before_it_is_kept(desk: Desk) -> None:
    """What is shared is what was made of it, also when it is unchanged."""
    known: dict[str, Answer] = {}
    for _ in range(2):
        line = line_to(desk)
        line.known = known
        assert line.get(RUNNERS, trim=lambda data: data["total_count"]).data == 0
    assert [answer.data for answer in known.values()] == [0]
    assert [request.status for request in desk.calls()] == [200, 304]


def test_only_reads_are_kept(desk: Desk) -> None:
    """The answer to a POST is never taken for that to the next one."""
    line = line_to(desk)
    desk.add(answer(201, {"token": "A"}, headers={"ETag": '"1"'}))
    line.post(f"{RUNNERS}/registration-token")
    assert line.known == {}
    desk.add(answer(200, {"runners": []}))
    line.get(RUNNERS)
    assert line.known == {}  # without an ETag it cannot be asked for again


# What is spared for others


def test_reading_ends_at_the_reserve(desk: Desk) -> None:
    """With a fifth spared, nothing new is read once less than a fifth is left; what changes something
    is asked all the same, and in the next hour everything is (rate limits: pain 18)."""
    desk.state.set_remaining(1000, reset_in=2400)
    line = line_to(desk)
    line.spared = 0.2
    line.get(RUNNERS)
    with pytest.raises(Limited, match=r"999 of 5000 .*left for all others.*08:40:00") as limited:
        line.get(RUNNERS, page=2)
    assert limited.value.until == desk.clock.now() + 2400
    assert desk.clock.slept == []
    line.post(f"{RUNNERS}/registration-token")
    desk.clock.sleep(2400)
    line.get(RUNNERS, page=2)
    assert [request.status for request in desk.calls()] == [200, 201, 200]


def test_what_is_free_needs_no_reserve(desk: Desk) -> None:
    """An unchanged answer costs nothing, so it is asked for while such questions are seen to be
    free: the ETags of another token's answers would all be paid for."""
    line = line_to(desk)
    line.get(RUNNERS)
    line.get(RUNNERS)
    line.spared = 0.2
    desk.state.set_remaining(900)
    for _ in range(3):
        line.get(RUNNERS)
    assert desk.state.limits.window(desk.admin, 5000).remaining == 900
    desk.state.register(REPOSITORY, "r", ["x"])
    line.get(RUNNERS)
    with pytest.raises(Limited):
        line.get(RUNNERS)
    assert [request.status for request in desk.calls()] == [200, *[304] * 4, 200]


def test_without_a_part_to_spare_all_is_used(desk: Desk) -> None:
    """A start and a stop use what there is."""
    desk.state.set_remaining(2)
    line = line_to(desk)
    line.get(RUNNERS)
    line.get(RUNNERS, page=2)
    assert len(desk.calls()) == 2


@pytest.mark.parametrize(
    ("headers", "read"),
    [
        ({}, None),
        ({"x-ratelimit-remaining": "5", "x-ratelimit-limit": "10"}, None),
        (
            {
                "x-ratelimit-remaining": "5",
                "x-ratelimit-limit": "10",
                "x-ratelimit-reset": "1800000000",
            },
            Reserve(left=5, of=10, until=1_800_000_000.0),
        ),
        (
            {
                "x-ratelimit-remaining": "-1",
                "x-ratelimit-limit": "many",
                "x-ratelimit-reset": "soon",
            },
            None,
        ),
    ],
)
def test_what_is_left_of_a_limit_is_read(headers: dict[str, str], read: Reserve | None) -> None:
    """An Enterprise Server without limits tells nothing, and nothing is spared there."""
    assert Reserve.read(headers) == read


# Where requests go


def test_requests_are_ours_to_know(desk: Desk) -> None:
    """Every request says who asks, and in which version of the API."""
    line_to(desk).get(RUNNERS)
    [request] = desk.calls()
    assert request.headers["user-agent"] == "gpu-ci"
    assert request.headers["x-github-api-version"] == API_VERSION
    assert request.headers["accept"] == "application/vnd.github+json"


def test_enterprise_server(desk: Desk) -> None:
    """A root with /api/v3 keeps it in every path and sends a version that each server knows."""
    seen: list[tuple[str, str]] = []

    def note(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        seen.append((environ["SCRIPT_NAME"], environ["HTTP_X_GITHUB_API_VERSION"]))
        return desk.hub.faults(environ, start)

    with Server(DispatcherMiddleware(nobody, {"/api/v3": note})) as server:
        client = desk.client(api_url=f"{server.url}/api/v3")
        made = client.registration("r", ["x"], "")
        assert client.runners() == []
    assert seen == [("/api/v3", SERVER_API_VERSION)] * 2
    assert made.url == f"{server.url}/{REPOSITORY}"
    desk.hub.faults.forget_requests()


@pytest.mark.parametrize("spelling", ["http_proxy", "HTTP_PROXY"])
def test_proxy(desk: Desk, monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    """The proxy of the environment is used, in both spellings."""
    monkeypatch.setenv(spelling, desk.hub.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = desk.client(api_url="http://github.test")
    assert client.runners() == []
    [request] = desk.calls()
    assert request.headers["host"] == "github.test"


def test_dead_proxy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is not there is named as a place to look, its password is not shown."""
    with Server(nobody) as server:
        url = server.url
    monkeypatch.setenv("http_proxy", url.replace("//", "//me:hunter2@"))
    with pytest.raises(Unreachable, match=r"ProxyError.*proxy of this machine") as raised:
        desk.client(api_url="http://github.test").runners()
    assert "hunter2" not in told(raised.value)


def test_netrc_is_not_read(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .netrc on the machine does not replace the token."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password wrong\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert desk.client().runners() == []


# Secrets stay where they are


def told(error: BaseException) -> str:
    """Return everything that may be printed of an error."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error.__context__)


def test_no_secret_is_told_of_success(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The just-in-time config and the registration token are in no log at DEBUG, nor in a repr."""
    caplog.set_level(logging.DEBUG)
    for name in ("urllib3", "requests"):
        caplog.set_level(logging.DEBUG, logger=name)
    client = desk.client()
    _, config = client.register("r", ["x"])
    registration = client.registration("r", ["x"], "")
    answered = client.line.post(f"{RUNNERS}/registration-token")
    everything = caplog.text + repr(client.line) + repr(answered)
    assert "POST" in caplog.text
    for secret in (config, registration.token, answered.data["token"], *secrets_of(desk)):
        assert secret not in everything


def secrets_of(desk: Desk) -> list[str]:
    """Return every secret that the stand-in knows by now."""
    runners = [runner.secret for runner in desk.state.all_runners()]
    return [desk.admin, *desk.state.credentials, *desk.state.runner_tokens, *runners]


@pytest.mark.parametrize("token", ["ghp_abc\ndef", "ghp_abc\u200b", "ghp_“quoted”"])
def test_token_that_is_none(desk: Desk, token: str) -> None:
    """A token with a line end, a hidden blank or curly quotes is Forbidden at once, and not shown."""
    with pytest.raises(Forbidden, match="Copy it again") as raised:
        desk.client(token).runners()
    assert "ghp_" not in told(raised.value)
    assert desk.clock.slept == []
