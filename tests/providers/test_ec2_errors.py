"""EC2's error codes: which class each is, what cures it, and that nothing private gets out."""

from __future__ import annotations

import re

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ReadTimeoutError,
)
from hypothesis import given
from hypothesis import strategies as st

from gpu_ci.errors import (
    CloudError,
    CloudUnreachable,
    NoCapacity,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)
from gpu_ci.providers.ec2.aws_errors import KINDS, may_pass, public, sort

URL = "https://ec2.us-east-1.amazonaws.com/"


def client_error(code: str, message: str = "", status: int = 400) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {
                "HTTPStatusCode": status,
                "RequestId": "",
                "HTTPHeaders": {},
                "RetryAttempts": 0,
                "HostId": "",
            },
        },
        "RunInstances",
    )


@pytest.mark.parametrize(
    ("code", "message", "status", "expected", "cure"),
    [
        ("InsufficientInstanceCapacity", "", 500, NoCapacity, "further types"),
        ("InsufficientHostCapacity", "", 500, NoCapacity, "further types"),
        ("InsufficientReservedInstanceCapacity", "", 500, NoCapacity, "further types"),
        ("InsufficientCapacityOnOutpost", "", 500, NoCapacity, "further types"),
        ("InsufficientCapacity", "", 500, NoCapacity, "further types"),
        ("InsufficientFreeAddressesInSubnet", "", 400, NoCapacity, "subnets"),
        ("UnfulfillableCapacity", "", 500, NoCapacity, "further types"),
        ("SpotMaxPriceTooLow", "", 400, NoCapacity, "spot-max-price"),
        ("Server.InsufficientInstanceCapacity", "", 500, NoCapacity, "further types"),
        ("Unsupported", "not supported in your requested zone", 400, WrongHere, "offerings"),
        ("UnsupportedOperation", "", 400, WrongHere, "offerings"),
        ("InvalidAvailabilityZone", "", 400, WrongHere, "zone"),
        ("InvalidInstanceType", "", 400, WrongHere, "spelling"),
        ("InvalidParameterValue", "Invalid value 'g9' for InstanceType.", 400, WrongHere, "type"),
        ("InvalidParameterValue", "Invalid availability zone: [x]", 400, WrongHere, "zone"),
        ("InvalidInput", "No default subnet for availability zone: 'x'", 400, WrongHere, "subnets"),
        ("VcpuLimitExceeded", "", 400, QuotaExceeded, "servicequotas"),
        ("InstanceLimitExceeded", "", 400, QuotaExceeded, "servicequotas"),
        ("MaxSpotInstanceCountExceeded", "", 400, QuotaExceeded, "servicequotas"),
        ("VolumeLimitExceeded", "", 400, QuotaExceeded, "servicequotas"),
        ("UnauthorizedOperation", "", 403, NotPermitted, "IAM policy"),
        ("AccessDeniedException", "", 400, NotPermitted, "IAM policy"),
        ("AuthFailure", "", 401, NotPermitted, "AWS_ACCESS_KEY_ID"),
        ("InvalidClientTokenId", "", 403, NotPermitted, "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "", 403, NotPermitted, "AWS_SECRET_ACCESS_KEY"),
        ("InvalidIdentityToken", "", 400, NotPermitted, "trust policy"),
        ("ExpiredToken", "", 403, NotPermitted, "new ones"),
        ("ExpiredTokenException", "", 400, NotPermitted, "new ones"),
        ("RequestExpired", "", 400, NotPermitted, "clock"),
        ("OptInRequired", "", 401, NotPermitted, "Marketplace"),
        ("PendingVerification", "", 400, NotPermitted, "Verification"),
        ("Blocked", "", 400, NotPermitted, "Support"),
        (
            "AuthFailure.ServiceLinkedRoleCreationNotPermitted",
            "",
            403,
            NotPermitted,
            "create-service-linked-role --aws-service-name spot.amazonaws.com",
        ),
        ("OperationNotPermitted", "may not be terminated", 400, NotPermitted, "api-termination"),
        ("InvalidAMIID.NotFound", "", 400, WrongRequest, "differ between regions"),
        ("InvalidAMIID.Malformed", "", 400, WrongRequest, "differ between regions"),
        ("InvalidSubnetID.NotFound", "", 400, WrongRequest, "subnets"),
        ("InvalidGroup.NotFound", "", 400, WrongRequest, "security-groups"),
        ("InvalidKeyPair.NotFound", "", 400, WrongRequest, "key-name"),
        ("InvalidBlockDeviceMapping", "", 400, WrongRequest, "disk-gb"),
        ("VPCIdNotSpecified", "No default VPC", 400, WrongRequest, "create-default-vpc"),
        (
            "InvalidParameterValue",
            "Value (x) for parameter iamInstanceProfile.name is invalid.",
            400,
            WrongRequest,
            "list-instance-profiles-for-role",
        ),
        ("InvalidParameterValue", "something else", 400, WrongRequest, "inputs"),
        ("SomethingNewInTheYear2030", "", 400, WrongRequest, "inputs"),
        ("RequestLimitExceeded", "", 503, CloudUnreachable, "minute"),
        ("Throttling", "", 400, CloudUnreachable, "minute"),
        ("InternalError", "", 500, CloudUnreachable, "again"),
        ("Unavailable", "", 503, CloudUnreachable, "again"),
        ("IdempotentParameterMismatch", "", 400, CloudUnreachable, "tags"),
    ],
)
def test_codes(code: str, message: str, status: int, expected: type[CloudError], cure: str) -> None:
    """Each code is one class of error, with a cure for it (pain 8, pain 30, pain 33)."""
    error = sort(client_error(code, message, status), "launch a machine", "us-east-1")
    assert type(error) is expected
    assert cure in error.cure
    assert "did not launch a machine in us-east-1" in error.what


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("InsufficientInstanceCapacity", 500, False),
        ("InternalError", 500, True),
        ("Unavailable", 503, True),
        ("RequestLimitExceeded", 503, True),
        ("Throttling", 400, True),
        ("VcpuLimitExceeded", 400, False),
        ("UnauthorizedOperation", 403, False),
        ("IdempotentParameterMismatch", 400, False),
        ("InvalidAMIID.NotFound", 400, False),
    ],
)
def test_what_is_asked_again(code: str, status: int, *, expected: bool) -> None:
    """Only what may pass in a moment is asked again; no capacity does not, though it is a 500."""
    assert may_pass(client_error(code, "", status)) is expected


@pytest.mark.parametrize(
    ("error", "expected", "again"),
    [
        (EndpointConnectionError(endpoint_url=URL, error="refused"), CloudUnreachable, True),
        (ConnectTimeoutError(endpoint_url=URL, error="timeout"), CloudUnreachable, True),
        (ReadTimeoutError(endpoint_url=URL, error="timeout"), CloudUnreachable, True),
        (NoCredentialsError(), NotPermitted, False),
        (NoRegionError(), WrongRequest, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_answer(error: Exception, expected: type[CloudError], *, again: bool) -> None:
    """Without an answer the state is unknown, unless nothing was asked."""
    assert type(sort(error, "launch", "us-east-1")) is expected
    assert may_pass(error) is again


private = st.one_of(
    st.from_regex(r"arn:aws:iam::[0-9]{12}:(role|user)/[A-Za-z]{1,20}", fullmatch=True),
    st.from_regex(r"[0-9]{12}", fullmatch=True),
    st.from_regex(r"(AKIA|ASIA)[A-Z0-9]{16}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9+/]{40,400}", fullmatch=True),
    st.from_regex(r"Encoded authorization failure message: [\w-]{9,60}", fullmatch=True),
)


@given(
    st.sampled_from([kind.code.split("|")[0] for kind in KINDS] + ["NotInTheTable"]),
    st.lists(st.one_of(private, st.text(alphabet="abc :.", max_size=20)), max_size=6),
    st.sampled_from([400, 403, 500, 503]),
)
def test_nothing_private_gets_out(code: str, parts: list[str], status: int) -> None:
    """No account id, ARN, key or encoded message of AWS's words is in ours."""
    said = str(sort(client_error(code, " ".join(parts), status), "launch", "us-east-1"))
    assert not re.search(r"\d{12}|arn:|\bA[KS]IA[A-Z0-9]|Encoded auth", said)
    assert not re.search(r"[A-Za-z0-9+/]{40}", said.replace(URL, ""))


@given(st.text(max_size=2000))
def test_words_are_kept_short(text: str) -> None:
    """A message is one line that fits a log."""
    said = public(text)
    assert len(said) <= 400
    assert "\n" not in said


def test_a_decoded_message_that_is_not_json_is_no_second_error() -> None:
    """Explaining an error never hides it."""
    message = "perform: ec2:RunInstances Encoded authorization failure message: abc"
    refused = client_error("UnauthorizedOperation", message, 403)
    assert isinstance(sort(refused, "launch", "us-east-1", lambda _: "<html>"), NotPermitted)
