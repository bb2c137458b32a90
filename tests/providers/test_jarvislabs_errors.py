"""JarvisLabs' answers: which class each is, what is asked again, and that no key gets out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ci.errors import (
    CloudError,
    CloudUnreachable,
    NoCapacity,
    NoSuchMachine,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)
from gpu_ci.providers.http import Call, message
from gpu_ci.providers.jarvislabs.api import HOSTS, Api
from gpu_ci.providers.jarvislabs.api_errors import refusal, succeeded
from gpu_ci_sandbox import faults as f

if TYPE_CHECKING:
    from tests.fakes import FakeClock

    from gpu_ci_sandbox.fake_jarvislabs import JarvisLabs as Cloud

VALIDATION = {"detail": [{"loc": ["body", "hdd"], "msg": "Field required", "type": "missing"}]}


@pytest.fixture
def api(jarvislabs: Cloud, clock: FakeClock) -> Api:
    return Api(jarvislabs.environment(), clock)


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (401, {"message": "Invalid token"}, NotPermitted, "settings/api-keys"),
        (403, {"message": "Not authenticated"}, NotPermitted, "settings/api-keys"),
        (403, {"message": "Insufficient balance."}, QuotaExceeded, '"Insufficient balance."'),
        (402, {}, QuotaExceeded, "Add funds"),
        (402, {"detail": "Pay first"}, QuotaExceeded, '"Pay first"'),
        (403, {"message": "Machine does not belong to this user"}, NotPermitted, "the account"),
        (403, {}, NotPermitted, "without a reason"),
        (404, {"message": "Machine not found"}, NoSuchMachine, "jarvislabs.ai"),
        (422, VALIDATION, WrongRequest, '"body.hdd: Field required"'),
        (422, {"detail": ["odd", {"msg": "odder"}, 3]}, WrongRequest, '"odd; odder"'),
        (400, {"message": "No free L4 GPUs in IN2 right now."}, NoCapacity, "further types"),
        (409, {"error": "out of stock"}, NoCapacity, "further types"),
        (400, {"error": {"message": "no capacity"}}, NoCapacity, "further types"),
        (400, {"error_message": "GPU not available"}, NoCapacity, "further types"),
        (400, {"detail": {"message": "Choose", "gpu_types": ["L4", "A30"]}}, WrongHere, "L4, A30"),
        (400, {"message": "Storage can only grow"}, WrongRequest, "disk-gb"),
        (200, {"success": False, "message": "No free H100 GPUs"}, NoCapacity, "other regions"),
        (200, {"success": False, "error": "None"}, WrongRequest, "without a reason"),
        (200, {"success": False, "detail": "Low balance"}, QuotaExceeded, "Add funds"),
        (302, {}, CloudUnreachable, "JL_API_URL"),
        (408, {}, CloudUnreachable, "again in a minute"),
        (429, {"message": "slow down"}, CloudUnreachable, "again in a minute"),
        (500, {"message": "no capacity in the database"}, CloudUnreachable, "again in a minute"),
        (503, "gateway", CloudUnreachable, "again in a minute"),
    ],
)
def test_every_shape_of_an_error(
    status: int, body: Any, expected: type[CloudError], words: str
) -> None:
    """Each answer is one class, with what was said and a cure (row 1.5)."""
    error = refusal("create m", status, body)
    assert isinstance(error, expected)
    assert words in str(error)
    assert f"did not create m: it answered {status}" in error.what
    assert error.cure


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"success": True}, True),
        ({"sucess": True}, True),
        ({"sucess": "True"}, True),
        ({"success": "true"}, True),
        ({"success": False}, False),
        ({"success": "False"}, False),
        ({"sucess": None}, False),
        ({}, None),
        ([], None),
    ],
)
def test_every_spelling_of_success(body: Any, expected: object) -> None:
    """The flag is misspelt in places, and is text in others."""
    assert succeeded(body) is expected


@given(
    st.recursive(
        st.none() | st.text() | st.integers() | st.just("None"),
        lambda each: (
            st.lists(each)
            | st.dictionaries(
                st.sampled_from(["message", "error", "detail", "msg", "loc", "gpu_types"]), each
            )
        ),
    )
)
def test_no_body_breaks_the_reading(body: Any) -> None:
    """Whatever an answer looks like, it is an error with one line of text and no traceback."""
    assert "\n" not in message(body)
    assert isinstance(refusal("do it", 400, body), CloudError)


def test_a_read_is_tried_again(api: Api, jarvislabs: Cloud, clock: FakeClock) -> None:
    """An outage of some seconds goes by unseen, with a second, two and four in between."""
    for rule in (f.drop(), f.answer(502, "bad"), f.garble()):
        jarvislabs.faults.add(rule)
    assert api.get("users/fetch", "list")["instances"] == []
    assert clock.slept == [1.0, 2.0, 4.0]


def test_a_read_is_given_up(api: Api, jarvislabs: Cloud) -> None:
    """Four tries, then it is said that nothing is known."""
    jarvislabs.faults.add(f.answer(500, {"message": "down"}, times=None))
    with pytest.raises(CloudUnreachable, match='answered 500, "down"'):
        api.get("users/fetch", "list")
    assert len(jarvislabs.faults.requests) == 4


def test_retry_after_is_honoured(api: Api, jarvislabs: Cloud, clock: FakeClock) -> None:
    """A limit is waited for as long as it says."""
    jarvislabs.faults.add(f.answer(429, "", headers={"Retry-After": "7"}))
    api.get("users/fetch", "list")
    assert clock.slept == [7.0]


def test_a_long_limit_is_an_error_at_once(api: Api, jarvislabs: Cloud, clock: FakeClock) -> None:
    """Nobody waits for an hour in a step that is paid by the minute."""
    jarvislabs.faults.add(f.answer(429, "", headers={"Retry-After": "3600"}))
    with pytest.raises(CloudUnreachable):
        api.get("users/fetch", "list")
    assert clock.slept == []


@pytest.mark.parametrize("rule", [f.drop(), f.lose_answer(), f.answer(503, ""), f.garble()])
def test_a_call_that_may_act_is_sent_once(api: Api, jarvislabs: Cloud, rule: f.Rule) -> None:
    """A POST is never repeated: the caller looks what came of it (row 1.6)."""
    jarvislabs.faults.add(rule)
    with pytest.raises(CloudUnreachable):
        api.send(
            Call(verb="POST", path="ssh/", doing="add", body={"ssh_key": "a b", "key_name": "n"})
        )
    assert len(jarvislabs.faults.requests) == 1


def test_a_truncated_answer_means_nothing(api: Api, jarvislabs: Cloud) -> None:
    """Half of a list is no list."""
    jarvislabs.faults.add(f.truncate(times=None))
    with pytest.raises(CloudUnreachable):
        api.get("users/fetch", "list")


@pytest.mark.parametrize("key", ["", "   "])
def test_a_missing_key_is_named(clock: FakeClock, jarvislabs: Cloud, key: str) -> None:
    """Without a key nothing is asked, and the secret to set is named."""
    with pytest.raises(NotPermitted, match="JL_API_KEY is not set"):
        Api({"JL_API_URL": jarvislabs.url, "JL_API_KEY": key}, clock).get("users/fetch", "list")
    assert not jarvislabs.faults.requests


@pytest.mark.parametrize("key", ["half\nhalf", "snow☃man"])
def test_a_broken_key_stays_out_of_the_error(clock: FakeClock, jarvislabs: Cloud, key: str) -> None:
    """A key with a line break in it is said to be broken, and is not shown."""
    with pytest.raises(NotPermitted, match="characters") as caught:
        Api({"JL_API_URL": jarvislabs.url, "JL_API_KEY": key}, clock).get("users/fetch", "list")
    assert "half" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_key_that_is_quoted_is_not_shown(api: Api, jarvislabs: Cloud) -> None:
    """Not even when JarvisLabs itself repeats it."""
    key = jarvislabs.environment()["JL_API_KEY"]
    jarvislabs.faults.add(f.answer(401, {"message": f"Invalid token {key}"}))
    with pytest.raises(NotPermitted, match=r"Invalid token \*\*\*") as caught:
        api.get("users/fetch", "list")
    assert key not in str(caught.value)


def test_the_key_is_not_in_what_is_shown_of_it(api: Api, jarvislabs: Cloud) -> None:
    """A traceback with its variables is no leak."""
    assert jarvislabs.environment()["JL_API_KEY"] not in repr(api)


def test_a_wrong_key_is_one_request(clock: FakeClock, jarvislabs: Cloud) -> None:
    """A refusal is not asked for again (row 1.5)."""
    wrong = Api({**jarvislabs.environment(), "JL_API_KEY": "wrong"}, clock)
    with pytest.raises(NotPermitted, match="Invalid token"):
        wrong.get("users/fetch", "list")
    assert len(jarvislabs.faults.requests) == 1


def test_a_redirect_is_not_followed(api: Api, jarvislabs: Cloud) -> None:
    """Nobody else gets the key."""
    elsewhere = {"Location": f"{jarvislabs.url}/elsewhere"}
    jarvislabs.faults.add(f.answer(302, "", headers=elsewhere))
    with pytest.raises(CloudUnreachable):
        api.get("users/fetch", "list")
    assert len(jarvislabs.faults.requests) == 1


def test_a_netrc_does_not_replace_the_key(
    jarvislabs: Cloud, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """A login of the machine's owner for the same host is not sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert Api(jarvislabs.environment(), clock).get("users/fetch", "list")["instances"] == []


@pytest.mark.parametrize("url", ["nonsense://x", "http://[::1"])
def test_a_wrong_root_is_named(clock: FakeClock, url: str) -> None:
    """A misspelt JL_API_URL is an error of its own."""
    with pytest.raises(WrongRequest, match="JL_API_URL"):
        Api({"JL_API_URL": url, "JL_API_KEY": "k"}, clock).get("users/fetch", "list")


@pytest.mark.parametrize("region", HOSTS)
def test_a_region_has_a_host_of_its_own(
    clock: FakeClock, jarvislabs: Cloud, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without JL_API_URL a call about a machine goes to its region's host."""
    monkeypatch.setitem(HOSTS, region, jarvislabs.hosts[region])
    api = Api({"JL_API_KEY": jarvislabs.environment()["JL_API_KEY"]}, clock)
    api.get("users/fetch", "list", region=region)
    assert jarvislabs.faults.requests[0].path == f"/{region}/users/fetch"


@pytest.mark.parametrize("region", ["IN2", "india-01"])
def test_an_unknown_region_is_refused(api: Api, region: str) -> None:
    """Codes have changed their meaning, so ids only."""
    with pytest.raises(WrongRequest, match=f"{region}.*india-noida-01"):
        api.get("misc/server_meta", "look", region=region)
