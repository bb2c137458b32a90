"""Turns AWS's error answers into our errors, each with a cure and without private details.

The codes are those of "Error codes for the Amazon EC2 API" (EC2 Developer Guide, errors-overview).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from gpu_ci.errors import (
    CloudError,
    CloudUnreachable,
    NoCapacity,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SAID_AT_MOST = 400
BLOB = re.compile(r"Encoded authorization failure message:\s*(\S+)")
# Names of roles and users, account ids, keys, tokens: whatever AWS quotes ends up in a log.
PRIVATE = re.compile(r"arn:[^\s,;\"')]+|\d{12,}|\b(?:AKIA|ASIA)\w+|[\w+/=-]{40,}")
ACTION = re.compile(r"\b(?:not authorized to|permission to) perform:? ([a-z0-9-]+:[A-Za-z]+)")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An error answer of AWS, as botocore's ClientError holds it; `status` is HTTP's."""

    code: str
    message: str
    status: int


@dataclass(frozen=True)
class Kind:
    """What an error code means; `code` must match as a whole, `message` anywhere in AWS's text."""

    code: str
    error: type[CloudError]
    cure: str
    message: str = ""

    def fits(self, refusal: Refusal) -> bool:
        return (
            re.fullmatch(self.code, refusal.code) is not None
            and re.search(self.message, refusal.message, re.IGNORECASE) is not None
        )


# The first that fits counts.
KINDS = (
    Kind(
        "InsufficientFreeAddressesInSubnet",
        NoCapacity,
        "The subnet has no free address: add another one to the option `subnets`.",
    ),
    Kind(
        "SpotMaxPriceTooLow",
        NoCapacity,
        "The spot price is above the option `spot-max-price`: raise or drop it, or use the market "
        "`spot-then-on-demand`.",
    ),
    Kind(
        r"Insufficient\w*Capacity\w*|UnfulfillableCapacity|ReservationCapacityExceeded",
        NoCapacity,
        "AWS has none free there now. Name further types, regions or the other market.",
    ),
    Kind(
        "Unsupported|UnsupportedOperation|InvalidAvailabilityZone|InvalidZone.NotFound"
        "|InstanceTypeNotSupported|InvalidInstanceType.*|VolumeTypeNotAvailableInZone",
        WrongHere,
        "Check the spelling of the type and the zone, and that this place has it: "
        "`aws ec2 describe-instance-type-offerings --location-type availability-zone`.",
    ),
    Kind(
        "InvalidParameterValue|InvalidParameterCombination",
        WrongHere,
        "Check the spelling of the zone and of the type, and that this place has them.",
        message=r"availability zone|InstanceType",
    ),
    Kind(
        "MissingInput|InvalidInput",
        WrongHere,
        "The default VPC has no subnet in this zone: leave the zone out, or give the option "
        "`subnets`.",
        message="no default subnet",
    ),
    Kind(
        "RequestLimitExceeded|BandwidthLimitExceeded|Throttl.*|EC2Throttled.*|TooManyRequests.*"
        "|RequestThrottled.*|SlowDown|PriorRequestNotComplete",
        CloudUnreachable,
        "Too many calls in this account for now; try again in a minute.",
    ),
    Kind(
        r"\w*LimitExceeded|Max\w+Exceeded|ServiceQuotaExceeded\w*",
        QuotaExceeded,
        "Ask for more at https://console.aws.amazon.com/servicequotas, service Amazon EC2, in the "
        "same region, or use another market or type.",
    ),
    Kind(
        r"AuthFailure\.ServiceLinkedRoleCreationNotPermitted",
        NotPermitted,
        "The account has no role for spot yet. Somebody who is allowed to should run once: "
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    Kind(
        "ExpiredToken.*|RequestExpired|TokenRefreshRequired",
        NotPermitted,
        "The credentials are too old (or this machine's clock is wrong). Get new ones in the same "
        "job, right before this step, as with aws-actions/configure-aws-credentials.",
    ),
    Kind(
        "InvalidClientTokenId|UnrecognizedClientException|SignatureDoesNotMatch|AuthFailure"
        "|MissingAuthenticationToken|IncompleteSignature|InvalidIdentityToken|IDPRejectedClaim"
        "|InvalidAccessKeyId|NotSignedUp",
        NotPermitted,
        "AWS does not know these credentials, or the region is not enabled for the account. Check "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN with temporary ones), "
        "or the trust policy of the role for OIDC.",
    ),
    Kind(
        "PendingVerification|Blocked|AccountDisabled",
        NotPermitted,
        "AWS is checking this account or has blocked it; only AWS can change that. Verification "
        "mostly ends within hours; otherwise write to AWS Support.",
    ),
    Kind(
        "OptInRequired",
        NotPermitted,
        "Accept the terms of this image in the AWS Marketplace with this account, or enable the "
        "region.",
    ),
    Kind(
        "OperationNotPermitted",
        NotPermitted,
        "Switch termination protection off: aws ec2 modify-instance-attribute "
        "--no-disable-api-termination --instance-id …",
        message="terminat",
    ),
    Kind(
        r"UnauthorizedOperation|AccessDenied\w*|OperationNotPermitted|NotAuthorized\w*",
        NotPermitted,
        "Allow it in the IAM policy of these credentials; SECURITY.md lists the actions, with "
        "ec2:RunInstances and ec2:CreateTags for a launch.",
    ),
    Kind(
        "IdempotentParameterMismatch",
        CloudUnreachable,
        "An earlier request with this token was accepted with other parameters; look for its "
        "machine by the tags.",
    ),
    Kind(
        "InvalidParameterValue|InvalidParameterCombination|InvalidIamInstanceProfile.*|NoSuchEntity",
        WrongRequest,
        "The option `instance-profile` takes the name of an instance profile, which need not be "
        "the role's: aws iam list-instance-profiles-for-role --role-name …",
        message=r"iamInstanceProfile|instance profile",
    ),
    Kind(
        "InvalidAMIID.*|ParameterNotFound|InvalidAMIName.*",
        WrongRequest,
        "Image ids differ between regions: give a name filter or `ssm:` with a parameter instead, "
        "or leave `image` empty.",
    ),
    Kind(
        r"InvalidBlockDeviceMapping|InvalidSnapshot\..*",
        WrongRequest,
        "Raise `disk-gb` to at least what the image needs.",
    ),
    Kind(
        r"InvalidSubnet\w*\..*|InvalidGroup.*|InvalidSecurityGroup.*|InvalidSecurity\..*",
        WrongRequest,
        "Check the options `subnets` and `security-groups`: they must exist in this region and "
        "belong to one VPC.",
    ),
    Kind(
        r"VPCIdNotSpecified|DefaultVpc\w*|MissingInput",
        WrongRequest,
        "This region has no default VPC: give the option `subnets`, or make one with "
        "`aws ec2 create-default-vpc`.",
    ),
    Kind(r"InvalidKeyPair\..*", WrongRequest, "Check the option `key-name`, or leave it out."),
)

CREDENTIAL_ERRORS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "ProfileNotFound",
    "RefreshWithMFAUnsupportedError",
    "SSOError",
    "TokenRetrievalError",
}
USAGE_ERRORS = {
    "InvalidRegionError",
    "NoRegionError",
    "ParamValidationError",
    "UnknownEndpointError",
    "UnknownRegionError",
}


def refusal_of(error: BaseException | None) -> Refusal | None:
    """Return AWS's error answer, None when there was no answer."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict) or "Error" not in response:
        return None
    said = response["Error"]
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Refusal(
        code=said.get("Code", "").removeprefix("Client.").removeprefix("Server."),
        message=said.get("Message", ""),
        status=status,
    )


def code_of(error: BaseException | None) -> str:
    """Return AWS's error code, or "" where there is none."""
    refusal = refusal_of(error)
    return refusal.code if refusal else ""


def is_unknown_instance(error: CloudError) -> bool:
    """Say whether AWS does not know the instance: it is gone, or too new to be known everywhere."""
    return code_of(error.__cause__).startswith("InvalidInstanceID")


def may_pass(error: Exception) -> bool:
    """Say whether the same call may succeed in a moment: throttled, 5xx, or no sound answer.

    AWS answers "no capacity" with 500 too; that does not pass in a moment.
    """
    refusal = refusal_of(error)
    if refusal is None:
        return _kind_of_silence(error) is CloudUnreachable
    kind = _kind(refusal)
    if kind is None:
        return refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return kind.error is CloudUnreachable and kind.code != "IdempotentParameterMismatch"


def sort(
    error: Exception, doing: str, region: str, decode: Callable[[str], str] = lambda _: ""
) -> CloudError:
    """Return our error for one of botocore's.

    `doing` completes "AWS did not …"; `decode` turns an encoded authorization message into JSON,
    or "" where that is not allowed.
    """
    where = f" in {region}" if region else ""
    refusal = refusal_of(error)
    if refusal is None:
        return _silence(error, f"AWS did not {doing}{where}")
    kind = _kind(refusal) or _default(refusal)
    missing = _missing_right(refusal, decode) if kind.error is NotPermitted else ""
    cure = f"Allow {missing} in the IAM policy of these credentials." if missing else kind.cure
    return kind.error(f"AWS did not {doing}{where}: {refusal.code}. {_said(refusal)}", cure)


def public(text: str) -> str:
    """Return what AWS said without ARNs, account ids, keys, encoded blobs; shortened."""
    flat = " ".join(BLOB.sub("", text).split())
    return PRIVATE.sub("…", flat)[:SAID_AT_MOST].strip()


def _said(refusal: Refusal) -> str:
    said = public(refusal.message)
    return said if not said or said.endswith((".", "…")) else f"{said}."


def _kind(refusal: Refusal) -> Kind | None:
    return next((kind for kind in KINDS if kind.fits(refusal)), None)


def _default(refusal: Refusal) -> Kind:
    if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Kind("", CloudUnreachable, "Try again; see https://health.aws.amazon.com.")
    return Kind("", WrongRequest, "Check the inputs and provider-options of this step.")


def _missing_right(refusal: Refusal, decode: Callable[[str], str]) -> str:
    """Return the action that is not allowed (and on what), or "" where AWS does not tell."""
    blob = BLOB.search(refusal.message)
    try:
        decoded = json.loads(decode(blob[1]) or "{}") if blob else {}
        action = str(decoded["context"]["action"])
        resource = str(decoded["context"]["resource"]).rsplit(":", 1)[-1]
        return f"`{public(action)}` on `{public(resource)}`"
    except (KeyError, TypeError, ValueError):
        told = ACTION.search(refusal.message)
        return f"`{told[1]}`" if told else ""


def _kind_of_silence(error: Exception) -> type[CloudError]:
    names = {base.__name__ for base in type(error).__mro__}
    if names & CREDENTIAL_ERRORS:
        return NotPermitted
    return WrongRequest if names & USAGE_ERRORS else CloudUnreachable


def _silence(error: Exception, what: str) -> CloudError:
    name = type(error).__name__
    # A ResponseParserError quotes the whole answer that it could not read.
    found = f"{what}: {name}. {'' if name == 'ResponseParserError' else public(str(error))}".strip()
    match _kind_of_silence(error):
        case kind if kind is NotPermitted:
            cure = (
                "Put credentials into the environment before this step, as with "
                "aws-actions/configure-aws-credentials, or choose a profile with AWS_PROFILE."
            )
        case kind if kind is WrongRequest:
            cure = "Check the region and the inputs of this step."
        case kind:
            cure = "Check the network, and that a region of this name exists; then try again."
    return kind(found, cure)
