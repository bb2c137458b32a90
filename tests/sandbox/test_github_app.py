"""The way of a GitHub App: a signed assertion, its installation, a narrowed token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gpu_ci_sandbox.fake_github.credentials import App

if TYPE_CHECKING:
    from collections.abc import Callable

    import requests

    from gpu_ci_sandbox.fake_github.state import GitHub
    from gpu_ci_sandbox.stopped_clock import Clock

    Call = Callable[..., requests.Response]


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def app(github: GitHub, key: rsa.RSAPrivateKey) -> App:
    """An App that is installed for two repositories."""
    github.add_repository("octo/other")
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return github.install(
        App(
            id=77,
            public_key=public.decode(),
            installation_id=88,
            account="octo",
            permissions={"administration": "write", "actions": "read"},
            repositories=frozenset({"octo/widgets", "octo/other"}),
        )
    )


@pytest.fixture
def assertion(app: App, key: rsa.RSAPrivateKey, clock: Clock) -> Callable[..., str]:
    def sign(signer: rsa.RSAPrivateKey = key, **changes: Any) -> str:
        claims = {"iss": "77", "iat": int(clock.now) - 60, "exp": int(clock.now) + 540}
        return jwt.encode(claims | changes, signer, algorithm="RS256")

    return sign


ACCESS = "/app/installations/88/access_tokens"


def test_from_the_key_to_a_runner(assertion: Callable[..., str], call: Call) -> None:
    """Assertion, installation, token, registration; the token is not 40 long."""
    installation = call("GET", "installation", token=assertion()).json()
    assert installation["id"] == 88
    made = call("POST", ACCESS, token=assertion())
    assert made.status_code == 201
    assert made.json()["expires_at"] == "2026-11-20T01:00:00Z"
    token = made.json()["token"]
    assert token.startswith("ghs_77_")
    assert len(token) > 100
    jit = {"name": "x", "runner_group_id": 1, "labels": ["x"]}
    runner = call("POST", "actions/runners/generate-jitconfig", token=token, json=jit)
    assert runner.status_code == 201


def test_narrowed_token(assertion: Callable[..., str], call: Call) -> None:
    """Fewer repositories and fewer rights, and no more than those."""
    asked = {"repositories": ["widgets"], "permissions": {"actions": "read"}}
    made = call("POST", ACCESS, token=assertion(), json=asked).json()
    assert [each["full_name"] for each in made["repositories"]] == ["octo/widgets"]
    token = made["token"]
    assert call("GET", "actions/runs", token=token).status_code == 200
    assert call("GET", "actions/runners", token=token).status_code == 403
    assert call("GET", "/repos/octo/other", token=token).status_code == 404


@pytest.mark.parametrize(
    "asked",
    [
        {"repositories": ["unknown"]},
        {"permissions": {"contents": "read"}},
        {"permissions": {"actions": "write"}},
    ],
)
def test_nothing_is_widened(
    asked: dict[str, Any], assertion: Callable[..., str], call: Call
) -> None:
    """What the installation does not have cannot be asked for."""
    assert call("POST", ACCESS, token=assertion(), json=asked).status_code == 422


def test_installation_token_expires(
    assertion: Callable[..., str], call: Call, clock: Clock
) -> None:
    """After an hour it is bad (credentials expired by the time of stop, pain 11)."""
    token = call("POST", ACCESS, token=assertion()).json()["token"]
    clock.advance(3599)
    assert call("GET", "actions/runs", token=token).status_code == 200
    clock.advance(1)
    assert call("GET", "actions/runs", token=token).status_code == 401


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"exp": 1_795_132_800 + 601}, 401),
        ({"exp": 1_795_132_800}, 401),
        ({"iat": 1_795_132_800 + 1}, 401),
        ({"iss": "78"}, 404),
    ],
)
def test_claims_are_checked(
    change: dict[str, object], status: int, assertion: Callable[..., str], call: Call
) -> None:
    """Ten minutes at most, not from the future, from a known App."""
    assert call("GET", "installation", token=assertion(**change)).status_code == status


def test_signature_is_checked(assertion: Callable[..., str], call: Call) -> None:
    """Another key's signature is refused, and so is an assertion that is none."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert call("GET", "installation", token=assertion(other)).status_code == 401
    assert call("GET", "installation", token="eyJ.nonsense").status_code == 401
    assert call("GET", "installation").status_code == 401


def test_assertion_opens_nothing_else(assertion: Callable[..., str], call: Call) -> None:
    """The App itself has no access to repositories, and elsewhere it is not installed."""
    assert call("GET", "actions/runners", token=assertion()).status_code == 401
    elsewhere = call("GET", "/repos/octo/unknown/installation", token=assertion())
    assert elsewhere.status_code == 404
