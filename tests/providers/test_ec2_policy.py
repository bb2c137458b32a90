"""The policies that the documentation gives a role for EC2: what the code asks, and no more."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci.errors import CloudError
from gpu_ci.providers import Candidate
from gpu_ci.providers.ec2 import clients
from gpu_ci.providers.ec2.ec2_provider import Ec2
from gpu_ci.providers.ec2.launch_request import Ec2Options
from gpu_ci_sandbox import faults as f

if TYPE_CHECKING:
    from tests.fakes import FakeClock
    from tests.providers.conftest import Ec2World

    from gpu_ci.providers import Order
    from gpu_ci_sandbox.fake_aws import Aws

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ec2.md"
# Rights that AWS asks for beside a call, not calls.
BESIDES = {"ec2:CreateTags", "iam:PassRole", "iam:CreateServiceLinkedRole"}
# Answered to everybody; no policy has to name it.
FREE = {"sts:GetCallerIdentity"}


def policy(name: str) -> dict[str, Any]:
    """Return the policy that stands behind a comment of the page."""
    text = PAGE.read_text()
    (found,) = re.findall(rf"<!-- policy: {name} -->\n```json\n(.*?)```", text, re.DOTALL)
    loaded: dict[str, Any] = json.loads(found)
    return loaded


def actions(name: str) -> set[str]:
    told = [statement["Action"] for statement in policy(name)["Statement"]]
    return {action for each in told for action in ([each] if isinstance(each, str) else each)}


def asked_for() -> set[str]:
    """Return what the page says of single options."""
    (sentence,) = re.findall(
        r"^Some features need one more right: .*?\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    return set(re.findall(r"`(\w+:\w+)`", sentence))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every action that is asked of AWS, in the words of a policy."""
    made: set[str] = set()
    session_of = clients._new_session

    def record(**call: Any) -> None:
        model = call["model"]
        made.add(f"{model.service_model.signing_name}:{model.name}")

    def recorded() -> Any:
        session = session_of()
        session.register("before-call", record)
        return session

    monkeypatch.setattr(clients, "_new_session", recorded)
    return made


def live_through(provider: Ec2, order: Order) -> None:
    """Do all that start, stop and the watchdog ask of a provider."""
    provider.zones(order.candidate)
    machine = provider.launch(order)
    provider.price(machine)
    provider.state(machine)
    provider.boot_log(machine)
    assert [found.id for found in provider.find({"run_id": order.tags.run_id}, [])] == [machine.id]
    provider.release(machine)


def refused_for(*denied: str) -> f.Rule:
    """Answer these calls as AWS does when the policy does not allow them."""
    names = "|".join(action.partition(":")[2] for action in denied)
    return f.aws_error(
        "UnauthorizedOperation",
        "You are not authorized. Encoded authorization failure message: blob",
        status=403,
        body=rf"Action=({names})&",
        times=None,
    )


def test_the_policies_are_what_the_code_asks(
    calls: set[str], ec2_world: Ec2World, aws: Aws, clock: FakeClock
) -> None:
    """Over a whole life, on both markets, with `doctor`, a quota, a missing right and each option:
    every call is allowed by one of the policies, and nothing is allowed that is never called."""
    provider, order = Ec2(Ec2Options(), aws.environment(), clock), ec2_world.order()
    live_through(provider, order)
    spot = ec2_world.order(1)
    live_through(
        provider,
        replace(spot, candidate=Candidate(type="g4dn.xlarge", region="us-east-1", market="spot")),
    )
    list(provider.check(order))
    subnet = next(iter(aws.backend().subnets["us-east-1a"]))
    picky = Ec2(Ec2Options(subnets=(subnet,)), aws.environment(), clock)
    list(picky.check(order))
    with suppress(CloudError):
        provider.launch(replace(ec2_world.order(2), image="ssm:/no/such/parameter"))
    aws.faults.add(refused_for("ec2:RunInstances"))
    with suppress(CloudError):
        provider.launch(ec2_world.order(3))
    allowed = actions("least") | actions("better") | asked_for()
    assert calls - FREE == allowed - BESIDES


def test_the_least_policy_is_enough(
    calls: set[str], ec2_world: Ec2World, aws: Aws, clock: FakeClock
) -> None:
    """With every other call refused a machine is still rented, looked at, found and given back."""
    aws.faults.add(refused_for(*actions("better")))
    live_through(Ec2(Ec2Options(), aws.environment(), clock), ec2_world.order())
    assert calls - actions("least") <= actions("better")
    assert aws.instances() == []


def test_what_ends_machines_is_narrowed_to_the_repositorys_own() -> None:
    """Neither a launch without our tag nor the end of a machine without it is allowed."""
    statements = {each["Sid"]: each for each in policy("least")["Statement"]}
    for sid, key in (("Launch", "aws:RequestTag"), ("GiveBack", "aws:ResourceTag")):
        wanted = {f"{key}/gpu-ci:repository": "OWNER/REPOSITORY"}
        assert statements[sid]["Condition"] == {"StringEquals": wanted}
    assert statements["TagWhatIsLaunched"]["Condition"] == {
        "StringEquals": {"ec2:CreateAction": "RunInstances"}
    }


def test_the_tag_of_the_policy_is_the_one_that_a_launch_sets(
    ec2_world: Ec2World, aws: Aws, clock: FakeClock
) -> None:
    """Were it called otherwise, AWS would refuse every launch."""
    Ec2(Ec2Options(), aws.environment(), clock).launch(ec2_world.order())
    (instance,) = aws.instances()
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    assert tags["gpu-ci:repository"] == ec2_world.order().tags.repository
