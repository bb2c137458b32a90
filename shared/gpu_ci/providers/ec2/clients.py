"""boto3 clients, made when first needed, with their retries and time limits."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gpu_ci.errors import CloudUnreachable, EnvironmentBroken
from gpu_ci.providers.ec2 import ABOUT
from gpu_ci.providers.ec2.aws_errors import may_pass, sort
from gpu_ci.providers.ec2.service_models import service_models
from gpu_ci.runtime.clock import Aside, Deadline, aside, growing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from botocore.session import Session
    from types_boto3_ec2 import EC2Client
    from types_boto3_pricing import PricingClient
    from types_boto3_service_quotas import ServiceQuotasClient
    from types_boto3_ssm import SSMClient

    from gpu_ci.runtime.clock import Clock

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one attempt may take, in seconds, and how many there may be."""

    connect: float
    read: float
    attempts: int


CALM = Patience(connect=5, read=20, attempts=5)
BRIEF = Patience(connect=2, read=4, attempts=1)
HURRIED = Patience(connect=1, read=1.5, attempts=1)
HURRY_SECONDS: Final = 2.0
# No call is tried again after this many seconds, whatever attempts are left.
RETRIES_END_AFTER: Final = 45.0


class Clients:
    """Every call to AWS goes through here; safe to use from several threads.

    botocore's own retries are off: AWS answers "no capacity" with status 500, which botocore would
    ask again for a minute. Credentials, profiles, OIDC and AWS_ENDPOINT_URL are left to botocore.
    """

    def __init__(self, clock: Clock) -> None:
        self.hurried = False
        self._clock = clock
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._made: dict[tuple[str, str, Patience], Any] = {}

    def ec2(self, region: str) -> EC2Client:
        client: EC2Client = self._client("ec2", region, self._patience)
        return client

    def ssm(self, region: str) -> SSMClient:
        client: SSMClient = self._client("ssm", region, self._patience)
        return client

    def pricing(self) -> PricingClient:
        """Return a client for the price list, which only a few regions serve; us-east-1 does."""
        client: PricingClient = self._client("pricing", "us-east-1", BRIEF)
        return client

    def quotas(self, region: str) -> ServiceQuotasClient:
        client: ServiceQuotasClient = self._client("service-quotas", region, BRIEF)
        return client

    def sts(self, region: str) -> Any:
        return self._client("sts", region, BRIEF)

    def profile_region(self) -> str:
        """Return the region of the profile in AWS's own configuration file, or ""."""
        return self.ask(
            lambda: str(self._open_session().get_config_variable("region") or ""),
            "name a region",
            "",
        )

    def ask(
        self, call: Callable[[], T], doing: str, region: str, patience: Patience | None = None
    ) -> T:
        """Return what the call returns, asking again where that may help.

        Only for calls that may be sent twice. Raises a CloudError.
        """
        refusals = _botocore_errors()
        for pause in self._pauses(patience or self._patience):
            try:
                return call()
            except refusals as error:
                if pause is None or not may_pass(error):
                    raise sort(error, doing, region, self._decoder(region)) from error
                self._clock.sleep(pause)
        raise AssertionError("the last pause is None")

    def within_hurry(self, call: Callable[[], T], doing: str) -> T:
        """Return what the call returns; in a hurry, give up after HURRY_SECONDS.

        Sockets have time limits of their own; looking up a name or fetching credentials does not.
        """
        if not self.hurried:
            return call()
        with suppress(TimeoutError):
            return aside(call, HURRY_SECONDS)
        raise CloudUnreachable(
            f"AWS did not {doing} within {HURRY_SECONDS:g} s.",
            "Look for the machine by its tags.",
        )

    def _pauses(self, patience: Patience) -> Iterator[float | None]:
        """Yield the seconds to wait after each attempt, None after the last."""
        deadline = Deadline.after(RETRIES_END_AFTER, self._clock)
        for pause in islice(growing(0.5, most=4), patience.attempts - 1):
            if not deadline.allows(pause):
                break
            yield pause
        yield None

    @property
    def _patience(self) -> Patience:
        return HURRIED if self.hurried else CALM

    def _client(self, service: str, region: str, patience: Patience) -> Any:
        session = self._open_session()
        if self.hurried:
            patience = HURRIED
        with self._lock:  # making clients is the one thing that botocore's threads must not share
            key = (service, region, patience)
            if key not in self._made:
                made: Callable[..., Any] = session.create_client
                self._made[key] = made(
                    service, region_name=region or None, config=_config(patience)
                )
            return self._made[key]

    def _open_session(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = _new_session()
            return self._session

    def _decoder(self, region: str) -> Callable[[str], str]:
        """Return a function that decodes an authorization message, if these credentials may do that."""

        def decode(blob: str) -> str:
            if self.hurried:
                return ""
            try:
                answer = self.sts(region).decode_authorization_message(EncodedMessage=blob)
            except _botocore_errors():
                return ""  # the error that is being explained is the one to show
            return str(answer.get("DecodedMessage", ""))

        return decode


def at_once(calls: Sequence[Callable[[], Sequence[T]]]) -> list[T]:
    """Make all calls at the same time and return all results; the first error ends it.

    The threads don't keep the process alive: a signal must not wait for them.
    """
    asked = [Aside(call) for call in calls]
    for each in asked:
        each.start()
    for each in asked:
        each.join()
    return list(chain.from_iterable(each.result() for each in asked))


def _botocore_errors() -> tuple[type[Exception], ...]:
    try:
        from botocore.exceptions import (  # noqa: PLC0415 -- loaded when AWS is first asked
            BotoCoreError,
            ClientError,
        )
        from botocore.parsers import (  # noqa: PLC0415 -- loaded when AWS is first asked
            ResponseParserError,
        )
    except ImportError as error:
        raise EnvironmentBroken(
            "The provider ec2 needs the package boto3, which is not installed.",
            ABOUT.install,
        ) from error
    return (BotoCoreError, ClientError, ResponseParserError)


def _new_session() -> Session:
    # boto3's session makes its clients with this one, and loads what transfers to S3 need too.
    import botocore.session  # noqa: PLC0415 -- loaded when AWS is first asked

    session = botocore.session.get_session()
    session.register_component("data_loader", service_models(session))
    return session


def _config(patience: Patience) -> Any:
    from botocore.config import Config  # noqa: PLC0415 -- loaded when AWS is first asked

    return Config(
        connect_timeout=patience.connect,
        read_timeout=patience.read,
        retries={"total_max_attempts": 1},
        user_agent_extra="gpu-ci",
    )
