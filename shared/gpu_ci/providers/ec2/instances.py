"""Existing instances: lists them by tags, describes them, ends them, reads their consoles."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.errors import CloudError, CloudUnreachable, WrongHere, WrongRequest
from gpu_ci.model.machine import Machine
from gpu_ci.model.tags import Tags, tag_key
from gpu_ci.providers.ec2.aws_errors import is_unknown_instance, public
from gpu_ci.providers.ec2.clients import HURRY_SECONDS, Clients
from gpu_ci.runtime.clock import Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gpu_ci.runtime.clock import Clock

# For this long AWS may answer "not found" for a machine that it has just made.
NEWNESS_SECONDS: Final = 120.0
UNKNOWN_PAUSE_SECONDS: Final = 3.0
HURRIED_PAUSE_SECONDS: Final = 0.3
LIVE_STATES: Final = ("pending", "running", "stopping", "stopped")
# "You stop incurring charges for an instance as soon as its state changes to shutting-down"
# (EC2 User Guide, ec2-instance-lifecycle).
ENDED_STATES: Final = ("shutting-down", "terminated")


class Instances:
    """Asks EC2 about instances, and ends them."""

    def __init__(self, clients: Clients, clock: Clock) -> None:
        self._clients = clients
        self._clock = clock

    def find(self, region: str, wanted: Mapping[str, str]) -> list[Machine]:
        """Return our live machines in a region whose tags have exactly these values."""
        machines = []
        for instance in self.tagged(region, wanted, LIVE_STATES):
            tags = tags_of(instance)
            if tags and all(str(getattr(tags, name)) == want for name, want in wanted.items()):
                machines.append(machine_of(instance, tags, region))
        return machines

    def tagged(self, region: str, wanted: Mapping[str, str], states: Sequence[str]) -> list[Any]:
        """Return the instances with our tags, from all pages; an empty page may not be the last."""
        filters = [
            {"Name": "tag-key", "Values": [tag_key("name")]},
            {"Name": "instance-state-name", "Values": list(states)},
            *({"Name": f"tag:{tag_key(f)}", "Values": [_literal(v)]} for f, v in wanted.items()),
        ]
        request: dict[str, Any] = {"Filters": filters, "MaxResults": 100}
        found: list[Any] = []
        while True:
            answer = self._describe(region, request, "list the machines")
            found += _instances(answer)
            if not answer.get("NextToken"):
                return found
            request["NextToken"] = answer["NextToken"]

    def look_up(self, machine: Machine) -> Any:
        """Return the instance as EC2 describes it, None when EC2 does not know it."""
        try:
            request = {"InstanceIds": [machine.id]}
            answer = self._describe(machine.region, request, f"describe {machine.id}")
        except CloudError as error:
            if is_unknown_instance(error):
                return None
            raise
        return next(iter(_instances(answer)), None)

    def is_new(self, machine: Machine) -> bool:
        """Say whether EC2 may not know the machine everywhere yet."""
        return self._clock.now() - machine.launched_at < NEWNESS_SECONDS

    def terminate(self, machine: Machine) -> None:
        """End the machine; "not found" counts as gone only when it is not new."""
        pause = HURRIED_PAUSE_SECONDS if self._clients.hurried else UNKNOWN_PAUSE_SECONDS
        deadline = self._patience_with_unknown(machine)
        while True:
            try:
                return self._terminate_once(machine)
            except CloudError as error:
                if not is_unknown_instance(error):
                    raise
                if not self.is_new(machine):
                    return None  # it was known for longer than that, and now it is gone
                if not deadline.allows(pause):
                    raise CloudUnreachable(
                        f"EC2 does not know {machine.id} in {machine.region} yet, though it has "
                        "just made it.",
                        "Release it again in two minutes; its tags find it.",
                    ) from error
            self._clock.sleep(pause)

    def console(self, machine: Machine) -> str:
        """Return what the console shows, "" while there is nothing."""
        try:
            return self._console(machine, latest=True)
        except (WrongHere, WrongRequest) as error:
            if is_unknown_instance(error):
                return ""
        # Types before Nitro only keep what the console said soon after the boot.
        return self._console(machine, latest=False)

    def _terminate_once(self, machine: Machine) -> None:
        answer = self._clients.ask(
            lambda: self._clients.ec2(machine.region).terminate_instances(InstanceIds=[machine.id]),
            f"end {machine.id}",
            machine.region,
        )
        now = answer["TerminatingInstances"][0]["CurrentState"]["Name"]
        if now not in ENDED_STATES:
            raise CloudUnreachable(
                f"EC2 took the request to end {machine.id} in {machine.region}, but it is {now}.",
                "Release it again.",
            )

    def _patience_with_unknown(self, machine: Machine) -> Deadline:
        if self._clients.hurried:
            return Deadline.after(HURRY_SECONDS, self._clock)
        # Until just after "not found" starts to mean gone.
        until = machine.launched_at + NEWNESS_SECONDS + 2 * UNKNOWN_PAUSE_SECONDS
        return Deadline(until, self._clock)

    def _describe(self, region: str, request: dict[str, Any], doing: str) -> Any:
        return self._clients.ask(
            lambda: self._clients.ec2(region).describe_instances(**request), doing, region
        )

    def _console(self, machine: Machine, *, latest: bool) -> str:
        ask = partial(self._clients.ec2(machine.region).get_console_output, InstanceId=machine.id)
        answer = self._clients.ask(
            partial(ask, Latest=True) if latest else ask,
            f"show the console of {machine.id}",
            machine.region,
        )
        return answer.get("Output", "")


def machine_of(instance: Any, tags: Tags, region: str) -> Machine:
    return Machine(
        provider="ec2",
        id=instance["InstanceId"],
        tags=tags,
        region=region,
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        type=instance["InstanceType"],
        market=instance.get("InstanceLifecycle", "on-demand"),
        launched_at=instance["LaunchTime"].timestamp(),
    )


def tags_of(instance: Any) -> Tags | None:
    return Tags.from_mapping({tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])})


def is_interruption(instance: Any) -> bool:
    """Say whether AWS took a spot machine back."""
    code: str = (instance.get("StateReason") or {}).get("Code", "")
    return code.startswith("Server.SpotInstance")


def end_reason(instance: Any) -> str:
    """Return why an instance has ended, or ended at once, in AWS's words."""
    reason = instance.get("StateReason", {})
    return public(reason.get("Message") or reason.get("Code") or "without a reason")


def _instances(answer: Any) -> list[Any]:
    return [i for reservation in answer["Reservations"] for i in reservation["Instances"]]


def _literal(value: str) -> str:
    """Return a filter's value that matches at least this text: `*`, `?`, `\\` are EC2's own."""
    return re.sub(r"[*?\\]", "?", value)
