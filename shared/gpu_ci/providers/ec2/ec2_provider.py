"""Amazon EC2: machines launched by RunInstances, found again by their tags."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from gpu_ci.boot.script import Place
from gpu_ci.errors import CloudError, NoCapacity, QuotaExceeded, WrongRequest
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate, Check
from gpu_ci.providers.ec2 import ABOUT
from gpu_ci.providers.ec2.account_checks import check_quota, checked, credentials, dry_run, way_out
from gpu_ci.providers.ec2.clients import Clients, at_once
from gpu_ci.providers.ec2.image import Images
from gpu_ci.providers.ec2.instances import (
    ENDED_STATES,
    Instances,
    end_reason,
    is_interruption,
    machine_of,
)
from gpu_ci.providers.ec2.launch_request import Ec2Options, run_request
from gpu_ci.providers.ec2.places import Places, split_region
from gpu_ci.providers.ec2.prices import price_of
from gpu_ci.providers.ec2.quota import usage
from gpu_ci.runtime.clock import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gpu_ci.model.machine import Machine, Price
    from gpu_ci.providers import Order
    from gpu_ci.providers.about import About
    from gpu_ci.runtime.clock import Clock

# A machine that is ending still counts against the quota for about this long.
FREED_WITHIN_SECONDS: Final = 60.0
FREED_PAUSE_SECONDS: Final = 5.0
STATES: Final = {
    "pending": State.PENDING,
    "running": State.RUNNING,
    # Stopped by somebody else: the disk is still billed, and it may be started again.
    "stopping": State.RUNNING,
    "stopped": State.RUNNING,
    "shutting-down": State.ENDING,
    "terminated": State.GONE,
}


class Ec2:
    """The provider `ec2`; safe to use from several threads."""

    about: ClassVar[About] = ABOUT
    name: ClassVar[str] = ABOUT.name
    Options: ClassVar[type[Ec2Options]] = Ec2Options
    # The cheapest GPU that AWS sells in most regions: one T4.
    default_machines: Sequence[str] = ("g4dn.xlarge",)

    def __init__(self, options: Ec2Options, env: Mapping[str, str], clock: Clock) -> None:
        region = next(filter(None, map(env.get, ABOUT.region_variables)), "")
        self.default_regions: Sequence[str] = (region,) if region else ()
        self._options = options
        self._clock = clock
        self._clients = Clients(clock)
        self._images = Images(self._clients, options.image_owners)
        self._places = Places(self._clients, options.subnets)
        self._instances = Instances(self._clients, clock)

    def split_region(self, text: str) -> tuple[str, str]:
        return split_region(text)

    def zones(self, candidate: Candidate) -> Sequence[Candidate]:
        """The zones of the given subnets, else those that sell the type."""
        if candidate.zone:
            return ()
        region = self._region(candidate)
        names = self._places.other_zones(candidate.type, region)
        return [replace(candidate, region=region, zone=name) for name in names]

    def place(self, name: str) -> Place:  # noqa: ARG002 -- the same for every machine
        return Place(root="/opt/gpu-ci", console="/dev/console")

    def check(self, order: Order) -> Iterator[Check]:
        region = self._region(order.candidate)
        known = checked("credentials", lambda: credentials(self._clients, region))
        yield known
        if known.ok:
            yield from self._checks(order, region)

    def launch(self, order: Order) -> Machine:
        """Ask RunInstances for one machine.

        While a machine of ours in the region is ending, a quota error is waited out for a minute.
        """
        region = self._region(order.candidate)
        request = self._request(order, region)
        deadline = Deadline.after(FREED_WITHIN_SECONDS, self._clock)
        while True:
            try:
                return self._run(order, request, region)
            except QuotaExceeded as error:
                if not deadline.allows(FREED_PAUSE_SECONDS) or not self._frees_soon(region):
                    raise self._with_usage(error, order.candidate, region) from error.__cause__
            self._clock.sleep(FREED_PAUSE_SECONDS)

    def find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> Sequence[Machine]:
        return self._clients.within_hurry(
            lambda: self._find(wanted, regions) if regions else self._find_everywhere(wanted),
            "list the machines",
        )

    def state(self, machine: Machine) -> State:
        """Stopping and stopped count as RUNNING: the machine is not given back."""
        found = self._clients.within_hurry(
            lambda: self._instances.look_up(machine), f"tell the state of {machine.id}"
        )
        if found is None:
            return State.PENDING if self._instances.is_new(machine) else State.GONE
        return STATES[found["State"]["Name"]]

    def release(self, machine: Machine) -> None:
        """End it by TerminateInstances.

        "Not found" counts as gone only when the machine is not new. Raises NotPermitted also where
        somebody has switched termination protection on.
        """
        self._clients.within_hurry(
            lambda: self._instances.terminate(machine), f"confirm the end of {machine.id}"
        )

    def boot_log(self, machine: Machine) -> str:
        """The console's output, and why EC2 ended the machine if it did."""
        return self._clients.within_hurry(
            lambda: self._log(machine), f"show the console of {machine.id}"
        )

    def price(self, machine: Machine) -> Price | None:
        asked = Candidate(
            type=machine.type, region=machine.region, zone=machine.zone, market=machine.market
        )
        return price_of(self._clients, asked, self._clock.now())

    def taken_back(self, machine: Machine) -> str:
        """Return the StateReason of a spot machine that was interrupted.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
        """
        if machine.market != "spot":
            return ""
        try:
            found = self._clients.within_hurry(
                lambda: self._instances.look_up(machine), f"tell why {machine.id} ended"
            )
        except CloudError:  # nice to know, and no reason to fail
            return ""
        return end_reason(found) if found and is_interruption(found) else ""

    def hurry(self) -> None:
        self._clients.hurried = True

    def _region(self, candidate: Candidate) -> str:
        region = candidate.region or self._home_region()
        if not region:
            raise WrongRequest(
                "No region is known for EC2.",
                "Give the input `region`, or set AWS_REGION as "
                "aws-actions/configure-aws-credentials does.",
            )
        return region

    def _home_region(self) -> str:
        """Return the region of the environment, else of the profile in ~/.aws/config, else ""."""
        return next(iter(self.default_regions), "") or self._clients.profile_region()

    def _request(self, order: Order, region: str) -> dict[str, Any]:
        image = self._images.find(order.image, order.candidate.type, region)
        subnet = self._places.subnet(order.candidate, region)
        return run_request(order, self._options, image, subnet)

    def _run(self, order: Order, request: dict[str, Any], region: str) -> Machine:
        answer = self._clients.ask(
            lambda: self._clients.ec2(region).run_instances(**request),
            f"launch {order.candidate}",
            region,
        )
        (instance,) = answer["Instances"]
        if instance["State"]["Name"] in ENDED_STATES:
            raise _ended_at_launch(order, instance)
        return machine_of(instance, order.tags, region)

    def _frees_soon(self, region: str) -> bool:
        """Say whether a machine of ours is ending there, which still counts against the quota."""
        if self._clients.hurried:
            return False
        try:
            return bool(self._instances.tagged(region, {}, ("shutting-down",)))
        except CloudError:
            return False  # the quota error is the one to show

    def _with_usage(self, error: QuotaExceeded, candidate: Candidate, region: str) -> QuotaExceeded:
        known = usage(self._clients, candidate, region)
        return QuotaExceeded(f"{error.what} {known or ''}".strip(), error.cure)

    def _find_everywhere(self, wanted: Mapping[str, str]) -> list[Machine]:
        asked_in = self._home_region() or "us-east-1"
        return self._find(wanted, self._places.enabled_regions(asked_in))

    def _find(self, wanted: Mapping[str, str], regions: Sequence[str]) -> list[Machine]:
        return at_once([partial(self._instances.find, region, wanted) for region in regions])

    def _log(self, machine: Machine) -> str:
        found = self._instances.look_up(machine)
        console = self._instances.console(machine)
        if found is None or found["State"]["Name"] not in ENDED_STATES:
            return console
        return f"{console.rstrip()}\nEC2 ended the machine: {end_reason(found)}\n".lstrip()

    def _checks(self, order: Order, region: str) -> Iterator[Check]:
        wanted = order.candidate
        yield checked("image", lambda: str(self._images.find(order.image, wanted.type, region)))
        yield checked(
            "network",
            lambda: way_out(
                self._clients,
                region,
                self._places.subnet(wanted, region),
                public_ip=self._options.public_ip,
            ),
        )
        yield checked(
            "permission", lambda: dry_run(self._clients, self._request(order, region), region)
        )
        yield check_quota(self._clients, wanted, region)
        found = price_of(self._clients, replace(wanted, region=region), self._clock.now())
        yield Check(what="price", ok=True, detail=_describe(found))


def _describe(price: Price | None) -> str:
    if price is None:
        return "AWS does not tell"
    return f"{price.per_hour:g} {price.currency} an hour ({price.source})"


def _ended_at_launch(order: Order, instance: Any) -> CloudError:
    """Return the error for a machine that AWS ended while launching it, or long before."""
    reason = end_reason(instance)
    what = f"EC2 took the order for {order.candidate} and ended the machine at once: {reason}."
    if "Capacity" in reason or "Spot" in reason:
        return NoCapacity(what, "Name further types, regions or the other market.")
    if "VolumeLimitExceeded" in reason:
        return QuotaExceeded(what, "Ask for more EBS storage in Service Quotas.")
    return WrongRequest(
        what,
        "Check that the disk's KMS key may be used by these credentials, and the image; a machine "
        "that was ended before keeps its token, so start again.",
    )
