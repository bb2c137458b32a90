"""A GitHub App instead of a token: its assertion, its installation, its narrowed token."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tests.fakes import REPOSITORY
from tests.github.desk import Desk, github_desk

from gpu_ci.errors import EnvironmentBroken, Forbidden, GitHubError, Limited, Unreachable
from gpu_ci_sandbox.fake_github.credentials import App
from gpu_ci_sandbox.faults import answer, drop, garble, lose_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci_sandbox.faults import Rule

APP_ID = "77"
NARROWED = {"permissions": {"administration": "write"}, "repositories": ["widgets"]}
TOKENS = "/app/installations/88/access_tokens"


def private_pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> str:
    """Return a private key as the file that GitHub gives out, or encrypted."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    pem, old = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(pem, old, encryption).decode()


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def key(rsa_key: rsa.RSAPrivateKey) -> str:
    return private_pem(rsa_key)


@pytest.fixture(scope="module")
def public(rsa_key: rsa.RSAPrivateKey) -> str:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    return rsa_key.public_key().public_bytes(serialization.Encoding.PEM, info).decode()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A stand-in that goes by the machine's time, since that is what assertions are dated with."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with github_desk(now=time.time()) as made:
        yield made


def install(desk: Desk, public: str, **changes: object) -> App:
    """Make the App known; it is installed on our repository and may administer it."""
    repositories = frozenset({REPOSITORY})
    known = {"id": 77, "public_key": public, "installation_id": 88, "account": "octo"}
    return desk.state.install(App(**{**known, "repositories": repositories, **changes}))  # type: ignore[arg-type]  # its fields


def test_app_registers_a_runner(desk: Desk, key: str, public: str) -> None:
    """The App's signed assertion gets a token for this repository and this right alone."""
    install(desk, public, permissions={"administration": "write", "contents": "write"})
    client = desk.client("", app_id=APP_ID, app_private_key=key)
    made, config = client.register("r", ["x"])
    assert made.name == "r"
    [asked] = desk.calls("POST", "access_tokens")
    assert json.loads(asked.body) == NARROWED
    token, masked = desk.masked
    assert masked == config
    credential = desk.state.credential(token)
    assert credential
    assert credential.permissions == {"metadata": "read", "administration": "write"}
    assert credential.repositories == frozenset({REPOSITORY})


def test_app_of_an_organisation(desk: Desk, key: str, public: str) -> None:
    """For an organisation the right to its runners is asked for, and no repository."""
    install(desk, public, permissions={"organization_self_hosted_runners": "write"})
    client = desk.client("", app_id=APP_ID, app_private_key=key, scope="orgs/octo")
    client.register("r", ["x"])
    [asked] = desk.calls("POST", "access_tokens")
    assert json.loads(asked.body) == {"permissions": {"organization_self_hosted_runners": "write"}}


def test_client_id(desk: Desk, key: str, public: str) -> None:
    """The App's client id is as good as its number."""
    app = install(desk, public)
    assert desk.client("", app_id=app.client_id, app_private_key=key).runners() == []


def test_key_on_one_line(desk: Desk, key: str, public: str) -> None:
    r"""A key whose line ends were stored as the two characters \n is a key all the same."""
    install(desk, public)
    one_line = key.replace("\n", "\\n")
    assert desk.client("", app_id=APP_ID, app_private_key=one_line).runners() == []


def test_token_is_preferred(desk: Desk, key: str) -> None:
    """With a token nothing is asked for the App."""
    assert desk.client(app_id=APP_ID, app_private_key=key).runners() == []
    assert desk.calls(path="/installation") == []


def refused(desk: Desk, key: str, *, scope: str = f"repos/{REPOSITORY}") -> Forbidden:
    with pytest.raises(Forbidden) as raised:
        desk.client("", app_id=APP_ID, app_private_key=key, scope=scope)
    assert key not in "".join(traceback.format_exception(raised.value))
    return raised.value


def test_key_of_another_app(desk: Desk, key: str, public: str) -> None:
    """A key that does not belong to the App is told from a missing installation (pain 17)."""
    install(desk, public)
    other = private_pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    assert "not a key of the App that app-id names" in refused(desk, other).cure


def test_app_that_nobody_knows(desk: Desk, key: str) -> None:
    """A wrong app-id is told with what to check (pain 17)."""
    error = refused(desk, key)
    assert "Integration not found" in error.what
    assert "Is app-id right, and is the App installed on octo/widgets?" in error.cure


def test_app_that_is_not_installed(desk: Desk, key: str, public: str) -> None:
    """An App that is not installed on this repository is told with its name (pain 17)."""
    install(desk, public, repositories=frozenset({"octo/other"}))
    assert "installed on octo/widgets?" in refused(desk, key).cure
    assert "installed on acme?" in refused(desk, key, scope="orgs/acme").cure


@pytest.mark.parametrize(
    ("scope", "right"),
    [
        (f"repos/{REPOSITORY}", "Administration: write"),
        ("orgs/octo", "organisation permission Self-hosted runners: write"),
    ],
)
def test_app_without_the_right(desk: Desk, key: str, public: str, scope: str, right: str) -> None:
    """An installation that lacks the right is told which one it needs (pain 17)."""
    install(desk, public, permissions={"contents": "read"})
    error = refused(desk, key, scope=scope)
    assert "answered 422" in error.what
    assert right in error.cure


@pytest.mark.parametrize("kind", ["text", "elliptic", "encrypted", "public", "cut"])
def test_key_that_is_none(
    desk: Desk, rsa_key: rsa.RSAPrivateKey, key: str, public: str, kind: str
) -> None:
    """What cannot sign is refused before anything is asked, and is not shown."""
    elliptic = ec.generate_private_key(ec.SECP256R1())
    keys = {
        "text": "hunter2",
        "elliptic": private_pem(elliptic),
        "encrypted": private_pem(rsa_key, b"hunter2"),
        "public": public,
        "cut": key[: len(key) // 2],
    }
    assert "not an RSA private key in PEM form" in refused(desk, keys[kind]).what
    assert desk.calls() == []


@pytest.mark.parametrize("fault", [answer(502), drop(), lose_answer(), garble()])
@pytest.mark.parametrize("path", ["/installation$", "/access_tokens$"])
def test_bursts_before_the_token(desk: Desk, key: str, public: str, path: str, fault: Rule) -> None:
    """Outages while the App gets its token are outlived: a second token does no harm (pain 19)."""
    install(desk, public)
    desk.add(type(fault)(**{**vars(fault), "path": path}))
    assert desk.client("", app_id=APP_ID, app_private_key=key).runners() == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (answer(503, times=None), Unreachable),
        (answer(429, times=None), Limited),
        (answer(200, {}, times=None), Unreachable),
        (answer(403, {"message": "This installation has been suspended"}, times=None), Forbidden),
    ],
)
def test_troubles_keep_their_kind(
    desk: Desk, key: str, public: str, fault: Rule, kind: type[GitHubError]
) -> None:
    """An outage or a limit is not told as a matter of rights (pain 13)."""
    install(desk, public)
    desk.add(fault)
    with pytest.raises(kind):
        desk.client("", app_id=APP_ID, app_private_key=key)


def test_without_its_package_the_extra_is_named(
    desk: Desk, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyGithub the error says what to install."""
    monkeypatch.setitem(sys.modules, "github", None)
    with pytest.raises(EnvironmentBroken, match=r"gpu-ci\[app\]"):
        desk.client("", app_id=APP_ID, app_private_key=key)


@pytest.mark.parametrize("content", [{"token": ""}, {"token": None}, {}])
def test_empty_token(desk: Desk, key: str, public: str, content: object) -> None:
    """A 201 without a token is Unreachable (pain 19)."""
    install(desk, public)
    desk.add(answer(201, content, path=TOKENS, times=None))
    with pytest.raises(Unreachable):
        desk.client("", app_id=APP_ID, app_private_key=key)


def test_nothing_secret_is_logged(
    desk: Desk, key: str, public: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither key nor assertion nor token is in the log at DEBUG or in what is said."""
    caplog.set_level(logging.DEBUG)
    install(desk, public)
    desk.client("", app_id=APP_ID, app_private_key=key).runners()
    everything = caplog.text + "".join(desk.said)
    assert "access_tokens" in everything
    assert desk.masked[0] not in everything
    assert "eyJ" not in everything
    assert key.splitlines()[1] not in everything


def test_token_that_has_ended(desk: Desk, key: str, public: str) -> None:
    """After its hour the App's token is answered 401, and the cure says how to get another."""
    install(desk, public)
    client = desk.client("", app_id=APP_ID, app_private_key=key, patience=9999)
    desk.clock.sleep(3601)
    with pytest.raises(Forbidden, match="with app-id and app-private-key each step makes its own"):
        client.runners()
