"""The stand-in for EC2 behaves as EC2 where moto does not."""

from __future__ import annotations

import base64
import threading
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.pace import PATIENCE

if TYPE_CHECKING:
    from tests.fakes import FakeClock

    from gpu_ci_sandbox.fake_aws import Aws

RUN = {
    "ImageId": "ami-00000000000000002",
    "InstanceType": "g4dn.xlarge",
    "MinCount": "1",
    "MaxCount": "1",
}


def ask(aws: Aws, action: str, **parameters: str) -> str:
    """Send one query as botocore does; return the answer's body, also of a refusal."""
    scope = "Credential=k/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=x"
    request = urllib.request.Request(
        aws.url,
        data=urllib.parse.urlencode(
            {"Action": action, "Version": "2016-11-15", **parameters}
        ).encode(),
        headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            body = refusal.read()
    return body.decode()


def test_a_token_is_one_instance(aws: Aws) -> None:
    """The same token with the same parameters is the same instance, with its state of now."""
    first = ask(aws, "RunInstances", ClientToken="t", **RUN)
    (instance,) = aws.instances()
    ask(aws, "TerminateInstances", **{"InstanceId.1": instance.id})
    again = ask(aws, "RunInstances", ClientToken="t", **RUN)
    assert instance.id in first
    assert instance.id in again
    assert ("<name>running</name>" in first, "<name>terminated</name>" in again) == (True, True)


def test_a_token_with_other_parameters_is_refused(aws: Aws) -> None:
    """Changing a parameter under a token is an error, and makes nothing."""
    ask(aws, "RunInstances", ClientToken="t", **RUN)
    refused = ask(aws, "RunInstances", ClientToken="t", **RUN | {"InstanceType": "g5.xlarge"})
    assert "IdempotentParameterMismatch" in refused
    assert len(aws.instances()) == 1


def test_a_refused_request_uses_no_token(aws: Aws) -> None:
    """A token whose request was refused may be used again."""
    unknown = RUN | {"ImageId": "ami-0123456789abcdef0"}
    assert "InvalidAMIID" in ask(aws, "RunInstances", ClientToken="t", **unknown)
    assert "instanceId" in ask(aws, "RunInstances", ClientToken="t", **RUN)


@pytest.mark.parametrize(("size", "taken"), [(16384, True), (16385, False)])
def test_user_data_has_a_limit(aws: Aws, size: int, *, taken: bool) -> None:
    """16 kB before base64, and not one more (pain 32)."""
    data = base64.b64encode(b"#" * size).decode()
    ask(aws, "RunInstances", UserData=data, **RUN)
    assert bool(aws.instances()) is taken


def test_a_hidden_instance(aws: Aws, clock: FakeClock) -> None:
    """A new instance is unknown by id and in lists for a while (pain 31)."""
    aws.settings.hidden_seconds = 10
    ask(aws, "RunInstances", **RUN)
    (instance,) = aws.instances()
    by_id = {"InstanceId.1": instance.id}
    for action in ("DescribeInstances", "TerminateInstances"):
        assert "InvalidInstanceID.NotFound" in ask(aws, action, **by_id)
    assert "InvalidInstanceID.NotFound" in ask(aws, "GetConsoleOutput", InstanceId=instance.id)
    assert instance.id not in ask(aws, "DescribeInstances")
    clock.sleep(11)
    assert instance.id in ask(aws, "DescribeInstances", **by_id)


def test_states_take_their_time(aws: Aws, clock: FakeClock) -> None:
    """Pending while it boots, shutting-down while it ends."""
    aws.settings.boot_seconds = aws.settings.shutdown_seconds = 5
    seen = []
    ask(aws, "RunInstances", **RUN)
    (instance,) = aws.instances()
    for _ in range(2):
        ask(aws, "DescribeInstances")
        seen.append(instance.state)
        clock.sleep(6)
    ask(aws, "TerminateInstances", **{"InstanceId.1": instance.id})
    for _ in range(2):
        ask(aws, "DescribeInstances")
        seen.append(instance.state)
        clock.sleep(6)
    assert seen == ["pending", "running", "shutting-down", "terminated"]


def test_boot_runs_what_the_test_wants(aws: Aws) -> None:
    """After its boot an instance calls back with its user data, and once more at its end."""
    booted, told = threading.Event(), []

    def on_boot(instance_id: str, script: str) -> None:
        told.append(("boot", instance_id, script))
        booted.set()

    aws.settings.boot_seconds = 0.05
    aws.settings.on_boot = on_boot
    aws.settings.on_terminate = lambda instance_id: told.append(("end", instance_id, ""))
    ask(aws, "RunInstances", UserData=base64.b64encode(b"echo hello").decode(), **RUN)
    (instance,) = aws.instances()
    assert booted.wait(PATIENCE)
    ask(aws, "TerminateInstances", **{"InstanceId.1": instance.id})
    ask(aws, "TerminateInstances", **{"InstanceId.1": instance.id})
    assert told == [("boot", instance.id, "echo hello"), ("end", instance.id, "")]


def test_an_instance_that_ends_before_it_has_booted(aws: Aws) -> None:
    """What is ended before its boot never calls back."""
    aws.settings.boot_seconds = 3600
    aws.settings.on_boot = lambda _, __: None
    ask(aws, "RunInstances", **RUN)
    (instance,) = aws.instances()
    booting = aws._ec2.launched[instance.id].booting
    assert booting is not None
    ask(aws, "TerminateInstances", **{"InstanceId.1": instance.id})
    booting.join(5)
    assert not booting.is_alive()


def test_reset_forgets_all(aws: Aws) -> None:
    """After reset there are no instances, tokens, settings or requests."""
    aws.settings.prices.clear()
    ask(aws, "RunInstances", ClientToken="t", **RUN)
    aws.reset()
    assert aws.instances(live=False) == []
    assert aws.faults.requests == ()
    assert aws.settings.prices
    ask(aws, "RunInstances", ClientToken="t", **RUN | {"InstanceType": "g5.xlarge"})
    assert len(aws.instances()) == 1
