"""A stand-in for EC2: moto, with what moto lacks of EC2's behaviour, behind the fault layer."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from werkzeug.test import run_wsgi_app
from werkzeug.wrappers import Request, Response

from gpu_ci_sandbox.faults import Faults, aws_error
from gpu_ci_sandbox.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

ACCOUNT = "123456789012"
REGION = "us-east-1"
# moto knows dozens, each of which takes it some 50 ms to make.
REGIONS = ("us-east-1", "us-west-2", "eu-west-1")
USER_DATA_LIMIT = 16384
# moto reads these when it is imported.
MOTO_SETTINGS = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # 1,301 of them make each look-up take seconds
    "MOTO_ENABLE_AMI_VALIDATION": "true",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
}
# The image that is there in every region: (id, architecture, name, day).
IMAGES = (
    (
        "ami-00000000000000001",
        "x86_64",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20260901",
        "2026-09-01",
    ),
    (
        "ami-00000000000000002",
        "x86_64",
        "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261001",
        "2026-10-01",
    ),
    (
        "ami-00000000000000003",
        "arm64",
        "Deep Learning ARM64 Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) 20261001",
        "2026-10-01",
    ),
)
PARAMETERS = {
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id": (
        "ami-00000000000000002"
    ),
}
XEN_TYPES = re.compile(r"(c4|m4|r4|g3|g3s|p2|p3)\.")
STATE_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48}
STATE = re.compile(r"<instanceState>.*?</instanceState>", re.DOTALL)
REASON = re.compile(r"<stateReason>.*?</stateReason>|<stateReason/>", re.DOTALL)
SCOPE = re.compile(r"Credential=[^/]+/\d+/([a-z0-9-]+)/([a-z0-9-]+)/")
XML = {"Content-Type": "text/xml;charset=UTF-8"}


@dataclass
class Settings:
    """How this EC2 behaves; seconds are counted by `now`.

    `hidden_seconds` is how long a new instance is unknown to every call but its own RunInstances;
    `page_size` is how many reservations an answer holds at most, whatever was asked for.
    `prices` are USD an hour by (type, region); `quotas` are vCPUs by quota code; `decoded` is what
    encoded authorization messages say; `down` are regions that cut every connection.
    """

    now: Callable[[], float] = time.monotonic
    boot_seconds: float = 0.0
    shutdown_seconds: float = 0.0
    hidden_seconds: float = 0.0
    page_size: int = 1000
    prices: dict[tuple[str, str], float] = field(
        default_factory=lambda: {("g4dn.xlarge", REGION): 0.526}
    )
    quotas: dict[str, float] = field(default_factory=dict)
    decoded: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=lambda: dict(PARAMETERS))
    down: set[str] = field(default_factory=set)
    on_boot: Callable[[str, str], None] | None = None
    on_terminate: Callable[[str], None] | None = None


@dataclass
class Launched:
    """One instance since its RunInstances; `reservation` is moto's and holds one instance."""

    region: str
    reservation: Any
    user_data: str
    at: float
    ended_at: float | None = None
    booting: threading.Timer | None = None

    @property
    def instance(self) -> Any:
        return self.reservation.instances[0]


class _Ec2:
    """WSGI middleware between the fault layer and moto: EC2's own behaviour."""

    def __init__(self, moto: WSGIApplication) -> None:
        self._moto = moto
        self._lock = threading.RLock()
        self._ready_regions: set[str] = set()
        self._answers: dict[tuple[str, str], tuple[str, str, bytes]] = {}
        self.settings = Settings()
        self.launched: dict[str, Launched] = {}
        self.consoles: dict[str, str] = {}

    def reset(self) -> None:
        from moto.moto_api._internal.models import (  # noqa: PLC0415 -- moto takes a second to load
            moto_api_backend,
        )

        with self._lock:
            for each in self.launched.values():
                _stop(each.booting)
            moto_api_backend.reset()
            self._ready_regions.clear()
            self._answers.clear()
            self.settings = Settings()
            self.launched = {}
            self.consoles = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with self._lock:
            return self._answer(environ)(environ, start_response)

    def _answer(self, environ: WSGIEnvironment) -> Response:
        request = Request(environ)
        body = request.get_data(cache=True)
        environ["wsgi.input"].seek(0)
        target = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if target in TARGETS:
            return TARGETS[target](self, json.loads(body))
        region, service = _scope(request)
        if region in self.settings.down:
            raise ConnectionAbortedError(f"{region} is down")
        if service == "ec2":
            self._settle(region)
        form = request.form.to_dict()
        environ["wsgi.input"].seek(0)
        action = ACTIONS.get(form.get("Action", ""))
        return action(self, environ, region, form) if action else self._ask_moto(environ)

    def _ask_moto(self, environ: WSGIEnvironment) -> Response:
        environ["wsgi.input"].seek(0)
        chunks, status, headers = run_wsgi_app(self._moto, environ, buffered=True)
        return Response(chunks, status, headers)

    # instances

    def run_instances(
        self, environ: WSGIEnvironment, region: str, form: Mapping[str, str]
    ) -> Response:
        """Make an instance, or repeat the answer to an earlier request with this token."""
        data = base64.b64decode(form.get("UserData", ""))
        if len(data) > USER_DATA_LIMIT:
            return _refuse("InvalidParameterValue", "User data is limited to 16384 bytes")
        token, asked = form.get("ClientToken", ""), json.dumps(form, sort_keys=True)
        known = self._answers.get((region, token)) if "DryRun" not in form else None
        if known is not None:
            return self._again(known, asked)
        response = self._ask_moto(environ)
        if response.status_code == 200 and "DryRun" not in form:  # noqa: PLR2004 -- HTTP's OK
            instance_id = self._note_launch(region, response.get_data(as_text=True), data)
            response.set_data(self._with_state(response.get_data(), instance_id))
            self._answers[region, token] = (asked, instance_id, response.get_data())
        return response

    def _again(self, known: tuple[str, str, bytes], asked: str) -> Response:
        first, instance_id, answer = known
        if first != asked:
            return _refuse(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in "
                "previous request(s).",
            )
        return Response(self._with_state(answer, instance_id), headers=XML)

    def _with_state(self, answer: bytes, instance_id: str) -> bytes:
        """Put the state of now into the answer of RunInstances."""
        instance = self.launched[instance_id].instance
        name, reason = instance.state, instance.state_reason
        now = (
            f"<instanceState><code>{STATE_CODES[name]}</code><name>{name}</name></instanceState>"
            f"<stateReason><code>{escape(reason.code)}</code>"
            f"<message>{escape(reason.message)}</message></stateReason>"
        )
        return STATE.sub(now, REASON.sub("", answer.decode())).encode()

    def _note_launch(self, region: str, answer: str, user_data: bytes) -> str:
        instance_id = answer.partition("<instanceId>")[2].partition("</instanceId>")[0]
        reservation = next(
            each
            for each in _backend(region).reservations.values()
            if each.instances[0].id == instance_id
        )
        text = (gzip.decompress(user_data) if user_data[:2] == b"\x1f\x8b" else user_data).decode()
        launched = Launched(region, reservation, text, self.settings.now())
        self.launched[instance_id] = launched
        self._settle(region)
        if self.settings.on_boot:
            timer = threading.Timer(
                self.settings.boot_seconds, self.settings.on_boot, (instance_id, text)
            )
            timer.daemon = True
            launched.booting = timer
            timer.start()
        return instance_id

    def terminate_instances(
        self, environ: WSGIEnvironment, _: str, form: Mapping[str, str]
    ) -> Response:
        response = self._ask_moto(environ)
        if response.status_code == 200 and "DryRun" not in form:  # noqa: PLR2004 -- HTTP's OK
            for name, instance_id in form.items():
                if name.startswith("InstanceId."):
                    self.end(instance_id)
        return response

    def describe_instances(
        self, environ: WSGIEnvironment, _: str, form: Mapping[str, str]
    ) -> Response:
        if "MaxResults" in form:
            most = min(int(form["MaxResults"]), self.settings.page_size)
            body = urlencode({**form, "MaxResults": str(most)}).encode()
            environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        return self._ask_moto(environ)

    def end(self, instance_id: str, code: str = "", message: str = "") -> None:
        """Note the end of an instance, which moto has terminated unless a reason is given."""
        with self._lock:
            launched = self.launched[instance_id]
            if launched.ended_at is not None:
                return
            if code:
                launched.instance.terminate()
                launched.instance.state_reason.code = code
                launched.instance.state_reason.message = f"{code}: {message or code}"
            launched.ended_at = self.settings.now()
            _stop(launched.booting)
            self._settle(launched.region)
        if self.settings.on_terminate:
            self.settings.on_terminate(instance_id)

    def forget(self, instance_id: str) -> None:
        """Know an instance no longer, as EC2 about an hour after its end."""
        with self._lock:
            launched = self.launched.pop(instance_id)
            _backend(launched.region).reservations.pop(launched.reservation.id, None)

    def _settle(self, region: str) -> None:
        """Bring moto's instances of a region to where they should be by now."""
        if region not in self._ready_regions:
            _make_images(region)
            self._ready_regions.add(region)
        now, shown = self.settings.now(), _backend(region).reservations
        for launched in (each for each in self.launched.values() if each.region == region):
            if now - launched.at < self.settings.hidden_seconds:
                shown.pop(launched.reservation.id, None)
            else:
                shown[launched.reservation.id] = launched.reservation
            self._set_state(launched, now)

    def _set_state(self, launched: Launched, now: float) -> None:
        state = launched.instance._state  # noqa: SLF001 -- moto has no way to delay a state
        if launched.ended_at is not None:
            ending = now - launched.ended_at < self.settings.shutdown_seconds
            state.name = "shutting-down" if ending else "terminated"
        elif state.name in {"pending", "running"}:
            booting = now - launched.at < self.settings.boot_seconds
            state.name = "pending" if booting else "running"
        state.code = STATE_CODES.get(state.name, state.code)

    # what moto answers otherwise or not at all

    def get_console_output(
        self, environ: WSGIEnvironment, region: str, form: Mapping[str, str]
    ) -> Response:
        instance_id = form["InstanceId"]
        launched = self.launched.get(instance_id)
        if launched is None or launched.reservation.id not in _backend(region).reservations:
            return self._ask_moto(environ)
        if form.get("Latest") == "true" and XEN_TYPES.match(launched.instance.instance_type):
            return _refuse(
                "UnsupportedOperation",
                "This instance type does not support retrieving the latest console logs.",
            )
        output = base64.b64encode(self.consoles.get(instance_id, "").encode()).decode()
        return _xml(
            "GetConsoleOutput",
            f"<instanceId>{instance_id}</instanceId><output>{output}</output>"
            f"<timestamp>{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.000Z}</timestamp>",
        )

    def decode_authorization_message(
        self, _: WSGIEnvironment, __: str, form: Mapping[str, str]
    ) -> Response:
        decoded = self.settings.decoded.get(form["EncodedMessage"])
        if decoded is None:
            return _refuse(
                "AccessDenied", "not authorized to perform: sts:DecodeAuthorizationMessage"
            )
        inner = f"<DecodedMessage>{escape(decoded)}</DecodedMessage>"
        return Response(
            '<DecodeAuthorizationMessageResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<DecodeAuthorizationMessageResult>{inner}</DecodeAuthorizationMessageResult>"
            "</DecodeAuthorizationMessageResponse>",
            headers=XML,
        )

    def get_products(self, asked: Mapping[str, Any]) -> Response:
        fields = {each["Field"]: each["Value"] for each in asked["Filters"]}
        price = self.settings.prices.get((fields["instanceType"], fields["regionCode"]))
        found = [] if price is None else [json.dumps(_product(price))]
        return _json({"FormatVersion": "aws_v1", "PriceList": found})

    def get_service_quota(self, asked: Mapping[str, Any]) -> Response:
        code = asked["QuotaCode"]
        if code not in self.settings.quotas:
            return _json({"__type": "NoSuchResourceException", "Message": "no such quota"}, 400)
        return _json({"Quota": {"QuotaCode": code, "Value": self.settings.quotas[code]}})

    def get_parameter(self, asked: Mapping[str, Any]) -> Response:
        value = self.settings.parameters.get(asked["Name"])
        if value is None:
            return _json({"__type": "ParameterNotFound", "message": asked["Name"]}, 400)
        return _json({"Parameter": {"Name": asked["Name"], "Type": "String", "Value": value}})

    def describe_regions(self, _: WSGIEnvironment, __: str, ___: Mapping[str, str]) -> Response:
        items = "".join(
            f"<item><regionName>{region}</regionName>"
            f"<regionEndpoint>ec2.{region}.amazonaws.com</regionEndpoint></item>"
            for region in REGIONS
        )
        return _xml("DescribeRegions", f"<regionInfo>{items}</regionInfo>")


ACTIONS = {
    "DescribeInstances": _Ec2.describe_instances,
    "DescribeRegions": _Ec2.describe_regions,
    "RunInstances": _Ec2.run_instances,
    "TerminateInstances": _Ec2.terminate_instances,
    "GetConsoleOutput": _Ec2.get_console_output,
    "DecodeAuthorizationMessage": _Ec2.decode_authorization_message,
}
TARGETS = {
    "GetProducts": _Ec2.get_products,
    "GetServiceQuota": _Ec2.get_service_quota,
    "GetParameter": _Ec2.get_parameter,
}


class Aws:
    """EC2 on loopback: `with Aws() as aws: … aws.url …`; one per process, as moto's state is.

    `settings` says how it behaves, `faults` what goes wrong on the way to it.
    """

    def __init__(self) -> None:
        os.environ.update(MOTO_SETTINGS)
        from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 -- moto takes a second to load
            DomainDispatcherApplication,
            create_backend_app,
        )

        self._ec2 = _Ec2(DomainDispatcherApplication(create_backend_app))
        self.faults = Faults(self._ec2)
        self._server = Server(self.faults)
        self._ec2.reset()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def settings(self) -> Settings:
        return self._ec2.settings

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to take this for AWS."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def instances(self, *, live: bool = True) -> list[Any]:
        """Return moto's instances of all regions, `live` only those not ending or ended.

        They have `id`, `instance_type`, `region_name`, `tags`, `metadata_options` and so on.
        """
        return [
            each.instance
            for each in self._ec2.launched.values()
            if not (live and each.ended_at is not None)
        ]

    def user_data(self, instance_id: str) -> str:
        """Return the boot script that the instance was launched with, unpacked."""
        return self._ec2.launched[instance_id].user_data

    def set_console(self, instance_id: str, text: str) -> None:
        """Let the console of an instance show this text."""
        self._ec2.consoles[instance_id] = text

    def end(self, instance_id: str, code: str, message: str = "") -> None:
        """End an instance as something other than TerminateInstances does.

        Codes are those of EC2's StateReason: `Client.InstanceInitiatedShutdown`,
        `Server.SpotInstanceTermination` …
        """
        self._ec2.end(instance_id, code, message)

    def forget(self, instance_id: str) -> None:
        """Know an instance no longer."""
        self._ec2.forget(instance_id)

    def backend(self, region: str = REGION) -> Any:
        """Return moto's EC2 of a region, to make subnets and the like in it."""
        return _backend(region)

    def reset(self) -> None:
        """Forget every instance, fault, setting and request."""
        self.faults.clear()
        self.faults.forget_requests()
        self._ec2.reset()


def _backend(region: str) -> Any:
    from moto.ec2.models import ec2_backends  # noqa: PLC0415 -- moto takes a second to load

    return ec2_backends[ACCOUNT][region]


def _make_images(region: str) -> None:
    from moto.ec2.models.amis import Ami  # noqa: PLC0415 -- moto takes a second to load

    backend = _backend(region)
    for image_id, architecture, name, day in IMAGES:
        backend.amis[image_id] = Ami(
            backend,
            image_id,
            name=name,
            owner_id="898082745236",
            owner_alias="amazon",
            public=True,
            architecture=architecture,
            virtualization_type="hvm",
            root_device_type="ebs",
            creation_date=datetime.fromisoformat(day),
        )


def _scope(request: Request) -> tuple[str, str]:
    """Return (region, service) that a request is signed for."""
    scope = SCOPE.search(request.headers.get("Authorization", ""))
    return (scope[1], scope[2]) if scope else (REGION, "")


def _stop(timer: threading.Timer | None) -> None:
    if timer:
        timer.cancel()


def _refuse(code: str, message: str) -> Response:
    rule = aws_error(code, message)
    return Response(rule.content, rule.status, dict(rule.headers))


def _xml(action: str, inner: str) -> Response:
    return Response(
        f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>00000000-0000-4000-8000-000000000000</requestId>{inner}</{action}Response>",
        headers=XML,
    )


def _json(content: object, status: int = 200) -> Response:
    return Response(json.dumps(content), status, content_type="application/x-amz-json-1.1")


def _product(price: float) -> dict[str, Any]:
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}}
    offer = {"effectiveDate": "2026-11-01T00:00:00Z", "priceDimensions": {"A.B.C": dimension}}
    return {
        "product": {"productFamily": "Compute Instance"},
        "terms": {"OnDemand": {"A.B": offer}},
        "publicationDate": "2026-11-20T10:00:00Z",
    }
