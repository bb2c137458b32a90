"""EC2 over HTTP: what is asked for, and what comes of every way in which it goes wrong."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ci.errors import (
    CloudUnreachable,
    EnvironmentBroken,
    NoCapacity,
    NotPermitted,
    QuotaExceeded,
    WrongHere,
    WrongRequest,
)
from gpu_ci.model.machine import State
from gpu_ci.providers import Candidate, Check, Order
from gpu_ci.providers.ec2.ec2_provider import Ec2
from gpu_ci.providers.ec2.image import architecture
from gpu_ci.providers.ec2.launch_request import USER_DATA_LIMIT, Ec2Options, user_data
from gpu_ci.providers.ec2.places import split_region
from gpu_ci.providers.ec2.quota import quota_of
from gpu_ci_sandbox import faults as f

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes import FakeClock
    from tests.providers.conftest import Ec2World

    from gpu_ci_sandbox.fake_aws import Aws

PARAMETER = (
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
)
NO_CAPACITY = "We currently do not have sufficient g4dn.xlarge capacity in zones with support."


@pytest.fixture
def make(aws: Aws, clock: FakeClock) -> Callable[..., Ec2]:
    """Make the provider with some options."""
    return lambda **options: Ec2(Ec2Options(**options), aws.environment(), clock)


@pytest.fixture
def ec2(make: Callable[..., Ec2]) -> Ec2:
    return make()


@pytest.fixture
def order(ec2_world: Ec2World, aws: Aws) -> Order:
    aws.settings.boot_seconds = 0
    return ec2_world.order()


def runs(aws: Aws) -> list[dict[str, str]]:
    """The form of every RunInstances so far, dry runs aside."""
    forms = [call.form for call in aws.faults.requests if call.action == "RunInstances"]
    return [form for form in forms if "DryRun" not in form]


def actions(aws: Aws) -> list[str]:
    """What was asked, in order; JSON services by their method."""
    return [call.action or call.headers["x-amz-target"] for call in aws.faults.requests]


# What is asked for


def test_a_launch_is_two_calls(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A launch looks the image up and asks for the machine; nothing else costs time."""
    ec2.launch(order)
    assert actions(aws) == ["DescribeImages", "RunInstances"]


def test_what_run_instances_is_asked_for(ec2: Ec2, order: Order, aws: Aws) -> None:
    """One machine, tagged in the create call with its disk, that ends when it shuts down."""
    ec2.launch(order)
    (form,) = runs(aws)
    (instance,) = aws.instances()
    tags = order.tags.as_mapping() | {"Name": order.tags.name}
    assert {tag["key"]: tag["value"] for tag in instance.get_tags()} == tags
    assert (form["MinCount"], form["MaxCount"]) == ("1", "1")
    assert form["ClientToken"] == order.token
    assert form["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert (instance.metadata_options.http_tokens, form["MetadataOptions.HttpTokens"]) == (
        "required",
        "required",
    )
    assert form["MetadataOptions.HttpPutResponseHopLimit"] == "2"
    assert aws.user_data(instance.id) == order.boot_script
    assert not {"SubnetId", "Placement.AvailabilityZone", "KeyName"} & form.keys()
    (disk,) = instance.get_block_device_mapping
    volume = aws.backend().volumes[disk[1].volume_id]
    assert {tag["key"]: tag["value"] for tag in volume.get_tags()} == tags


def test_the_root_disk_ends_with_the_machine(ec2: Ec2, order: Order, aws: Aws) -> None:
    """The image says that its disk be kept; nothing that is billed may stay."""
    machine = ec2.launch(replace(order, disk_gb=100))
    (disk,) = aws.backend().volumes.values()
    assert (disk.size, disk.volume_type) == (100, "gp3")
    ec2.release(machine)
    assert not aws.backend().volumes


def test_a_disk_smaller_than_the_image_is_refused_here(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A disk that cannot hold the image is an error that says how big it must be."""
    with pytest.raises(WrongRequest, match=r"`disk-gb` is 8.*needs 15"):
        ec2.launch(replace(order, disk_gb=8))
    assert runs(aws) == []


def test_spot_is_asked_for_once_and_ends(make: Callable[..., Ec2], order: Order, aws: Aws) -> None:
    """A spot machine is requested one-time, so that AWS does not start another after it."""
    spot = replace(order, candidate=replace(order.candidate, market="spot"))
    machine = make(spot_max_price="0.25").launch(spot)
    (form,) = runs(aws)
    options = "InstanceMarketOptions.SpotOptions."
    assert machine.market == "spot"
    assert form["InstanceMarketOptions.MarketType"] == "spot"
    assert form[f"{options}SpotInstanceType"] == "one-time"
    assert form[f"{options}InstanceInterruptionBehavior"] == "terminate"
    assert form[f"{options}MaxPrice"] == "0.25"
    assert form["TagSpecification.3.ResourceType"] == "spot-instances-request"


def test_options_reach_the_request(make: Callable[..., Ec2], order: Order, aws: Aws) -> None:
    """Each option does what its line says."""
    backend = aws.backend()
    vpc = backend.get_default_vpc()
    group = backend.create_security_group("ci", "for CI", vpc_id=vpc.id)
    subnet = _subnets(aws)["us-east-1b"]
    provider = make(
        subnets=(subnet,),
        security_groups=(group.id,),
        public_ip=True,
        volume_type="gp2",
        encrypted=True,
        key_name="mine",
        tags=("team=vision", "cost-center=a=b"),
    )
    machine = provider.launch(order)
    (form,) = runs(aws)
    (instance,) = aws.instances()
    tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
    assert machine.zone == "us-east-1b"
    assert instance.subnet_id == subnet
    assert form["NetworkInterface.1.AssociatePublicIpAddress"] == "true"
    assert form["NetworkInterface.1.SecurityGroupId.1"] == group.id
    assert form["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp2"
    assert form["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert form["KeyName"] == "mine"
    assert (tags["team"], tags["cost-center"]) == ("vision", "a=b")


def test_a_profile_that_does_not_exist_is_explained(
    make: Callable[..., Ec2], order: Order, aws: Aws
) -> None:
    """An instance profile is not its role: the error says how to find its name (pain 33)."""
    message = "Value (my-role) for parameter iamInstanceProfile.name is invalid."
    aws.faults.add(f.aws_error("InvalidParameterValue", message, action="RunInstances"))
    with pytest.raises(WrongRequest, match="list-instance-profiles-for-role"):
        make(instance_profile="my-role").launch(order)
    assert runs(aws)[0]["IamInstanceProfile.Name"] == "my-role"


# The boot script


def test_a_long_boot_script_is_packed(ec2: Ec2, order: Order, aws: Aws) -> None:
    """30 kB that compress well pass, and arrive whole (pain 32)."""
    script = "#!/bin/sh\n" + "echo the same line again and again\n" * 900
    ec2.launch(replace(order, boot_script=script))
    assert len(script) > 30_000
    assert aws.user_data(aws.instances()[0].id) == script


def test_a_boot_script_too_long_is_refused_here(ec2: Ec2, order: Order, aws: Aws) -> None:
    """What does not compress below 16 kB is an error before the call, with the cure (pain 32)."""
    noise = random.Random(1).randbytes(20_000).hex()
    with pytest.raises(WrongRequest, match=r"(?s)EC2 takes 16384.*setup-script"):
        ec2.launch(replace(order, boot_script=noise))
    assert runs(aws) == []


def test_the_limit_is_ec2s(aws: Aws, ec2: Ec2, order: Order) -> None:
    """Exactly 16 kB go as they are; one more is packed, and the stand-in refuses what is more."""
    full = "#" * USER_DATA_LIMIT
    assert user_data(full) == full.encode()
    assert gzip.decompress(user_data(full + "#")) == (full + "#").encode()
    ec2.launch(replace(order, boot_script=full))
    assert len(aws.instances()) == 1


@given(st.text(max_size=200))
def test_the_same_script_is_the_same_user_data(text: str) -> None:
    """The same order must be the same request, or EC2 refuses its token: no time is packed in."""
    packed = user_data(text + "x" * USER_DATA_LIMIT + "x")
    assert gzip.decompress(packed).decode().startswith(text)
    assert packed[4:8] == bytes(4)


# Images


def test_the_default_image_is_the_newest_for_the_architecture(
    ec2: Ec2, order: Order, aws: Aws
) -> None:
    """Without `image`: AWS's newest base image, for ARM where the type is ARM."""
    ec2.launch(order)
    ec2.launch(
        replace(order, token="arm", candidate=Candidate(type="g5g.xlarge", region="us-east-1"))
    )
    assert [form["ImageId"][-1] for form in runs(aws)] == ["2", "3"]


@pytest.mark.parametrize(
    ("image", "last"),
    [
        ("ami-00000000000000001", "1"),
        ("Deep Learning Base * (Ubuntu 24.04) 202609*", "1"),
        (f"ssm:{PARAMETER}", "2"),
    ],
)
def test_an_image_is_an_id_a_name_or_a_parameter(
    ec2: Ec2, order: Order, aws: Aws, image: str, last: str
) -> None:
    """`image` takes an id, a name filter (the newest), or an SSM parameter."""
    ec2.launch(replace(order, image=image))
    assert runs(aws)[0]["ImageId"][-1] == last


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("ami-0123456789abcdef0", "InvalidAMIID.NotFound"),
        ("no such name *", "No image for x86_64 in us-east-1 is named 'no such name \\*'"),
        ("ssm:/no/such", "ParameterNotFound"),
        ("ssm:/holds/text", "holds no image id"),
    ],
)
def test_an_image_that_is_not_there(
    ec2: Ec2, order: Order, aws: Aws, image: str, said: str
) -> None:
    """A wrong image stops the start, and says what was looked for."""
    aws.settings.parameters["/holds/text"] = "hello"
    with pytest.raises(WrongRequest, match=said):
        ec2.launch(replace(order, image=image))
    assert runs(aws) == []


def test_images_are_looked_up_once(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Each further candidate of a region costs one call, not two."""
    ec2.launch(order)
    ec2.launch(replace(order, token="second"))
    assert actions(aws) == ["DescribeImages", "RunInstances", "RunInstances"]


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("g4dn.xlarge", "x86_64"),
        ("g6e.12xlarge", "x86_64"),
        ("gr6.4xlarge", "x86_64"),
        ("p5en.48xlarge", "x86_64"),
        ("p6-b200.48xlarge", "x86_64"),
        ("g5g.xlarge", "arm64"),
        ("p6e-gb200.36xlarge", "arm64"),
        ("c7gn.large", "arm64"),
        ("im4gn.large", "arm64"),
        ("a1.large", "arm64"),
    ],
)
def test_architectures_by_type(type_: str, expected: str) -> None:
    """The name of a type tells which images it runs."""
    assert architecture(type_) == expected


# Places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("us-east-1", ("us-east-1", "")),
        ("us-east-1b", ("us-east-1", "us-east-1b")),
        ("us-gov-west-1a", ("us-gov-west-1", "us-gov-west-1a")),
        ("ap-southeast-2c", ("ap-southeast-2", "ap-southeast-2c")),
        ("us-west-2-lax-1a", ("us-west-2", "us-west-2-lax-1a")),
        ("us-east-1-wl1-bos-wlz-1", ("us-east-1", "us-east-1-wl1-bos-wlz-1")),
        ("nonsense", ("nonsense", "")),
    ],
)
def test_zones_name_their_region(text: str, expected: tuple[str, str]) -> None:
    """What a user writes under `region` may be a region or any kind of zone."""
    assert split_region(text) == expected


@given(
    st.from_regex(r"[a-z]{2}(-[a-z]{3,9}){1,3}-[1-9]", fullmatch=True),
    st.sampled_from("abcdef"),
)
def test_every_region_and_zone_splits(region: str, letter: str) -> None:
    """Any region is itself, any of its zones is in it."""
    assert split_region(region) == (region, "")
    assert split_region(region + letter) == (region, region + letter)


def test_a_zone_is_asked_for(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A zone goes into the request, and has nothing narrower to try."""
    here = replace(order, candidate=replace(order.candidate, zone="us-east-1c"))
    assert ec2.launch(here).zone == "us-east-1c"
    assert runs(aws)[0]["Placement.AvailabilityZone"] == "us-east-1c"
    assert list(ec2.zones(here.candidate)) == []


def test_zones_are_those_that_sell_the_type(ec2: Ec2, aws: Aws) -> None:
    """After "no capacity" the zones of the region that sell the type are tried (pain 8)."""
    wanted = Candidate(type="p4de.24xlarge", region="us-east-1", market="spot")
    assert list(ec2.zones(wanted)) == [
        replace(wanted, zone="us-east-1b"),
        replace(wanted, zone="us-east-1c"),
    ]


def test_subnets_give_the_zones(make: Callable[..., Ec2], order: Order, aws: Aws) -> None:
    """With subnets: the first at once, then one per further zone, in the order given (pain 8)."""
    subnets = _subnets(aws)
    given_ = (subnets["us-east-1c"], subnets["us-east-1a"], "subnet-00000000")
    provider = make(subnets=given_)
    assert provider.launch(order).zone == "us-east-1c"
    (other,) = provider.zones(order.candidate)
    assert provider.launch(replace(order, candidate=other, token="other")).zone == "us-east-1a"
    assert [form["SubnetId"] for form in runs(aws)] == list(given_[:2])


def test_no_subnet_of_that_region(make: Callable[..., Ec2], order: Order, aws: Aws) -> None:
    """Subnets belong to a region: the next candidate may be in theirs."""
    provider = make(subnets=(_subnets(aws)["us-east-1a"],))
    there = replace(order, candidate=replace(order.candidate, region="us-west-2"))
    with pytest.raises(WrongHere, match="us-west-2"):
        provider.launch(there)


def test_without_a_region_the_cure_is_named(aws: Aws, order: Order, clock: FakeClock) -> None:
    """No region anywhere is an error of the request, not of the SDK."""
    nowhere = replace(order, candidate=Candidate(type="g4dn.xlarge"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_DEFAULT_REGION")
        with pytest.raises(WrongRequest, match="AWS_REGION"):
            Ec2(Ec2Options(), {}, clock).launch(nowhere)


def test_aws_region_comes_first(aws: Aws, clock: FakeClock) -> None:
    """AWS_REGION wins over AWS_DEFAULT_REGION, as in AWS's newer SDKs; botocore reads only one."""
    env = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}
    assert Ec2(Ec2Options(), env, clock).default_regions == ("eu-west-1",)


# What goes wrong with a launch


def test_no_capacity_is_asked_once(ec2: Ec2, order: Order, aws: Aws, clock: FakeClock) -> None:
    """No capacity comes with status 500 and yet is not asked again: the next zone is (pain 8)."""
    refusal = f.aws_error(
        "InsufficientInstanceCapacity", NO_CAPACITY, status=500, action="RunInstances", times=None
    )
    aws.faults.add(refusal)
    with pytest.raises(NoCapacity, match=r"launch g4dn\.xlarge us-east-1 on-demand"):
        ec2.launch(order)
    assert (len(runs(aws)), clock.slept) == (1, [])


def test_each_candidate_has_its_own_token(ec2: Ec2, order: Order, aws: Aws) -> None:
    """The same token with other parameters is refused by EC2: find tells what is there (pain 8)."""
    ec2.launch(order)
    elsewhere = replace(order, candidate=replace(order.candidate, zone="us-east-1b"))
    with pytest.raises(CloudUnreachable, match="IdempotentParameterMismatch"):
        ec2.launch(elsewhere)
    ec2.launch(replace(elsewhere, token="another"))
    assert len(aws.instances()) == 2


@pytest.mark.parametrize(
    "fault",
    [
        f.lose_answer(action="RunInstances"),
        f.truncate(action="RunInstances"),
        f.garble(action="RunInstances"),
        f.drop(action="RunInstances"),
        f.aws_error("RequestLimitExceeded", "Rate exceeded", status=503, action="RunInstances"),
        f.aws_error("InternalError", "An internal error", status=500, action="RunInstances"),
        f.answer(502, "<html>bad gateway</html>", action="RunInstances"),
    ],
    ids=lambda rule: f"{rule.do}-{rule.status}",
)
def test_a_passing_fault_ends_as_one_machine(
    ec2: Ec2, order: Order, aws: Aws, fault: f.Rule
) -> None:
    """Asked again with the same token, a lost or broken answer makes no twin (pain 14)."""
    aws.faults.add(fault)
    machine = ec2.launch(order)
    assert [instance.id for instance in aws.instances()] == [machine.id]
    assert len(runs(aws)) == 2


def test_an_answer_that_never_comes(ec2: Ec2, order: Order, aws: Aws, clock: FakeClock) -> None:
    """When every answer is lost, the error says that there may be a machine, and find tells."""
    aws.faults.add(f.lose_answer(action="RunInstances", times=None))
    with pytest.raises(CloudUnreachable, match="Check the network"):
        ec2.launch(order)
    (found,) = ec2.find({"name": order.tags.name}, ["us-east-1"])
    assert found.id == aws.instances()[0].id
    assert len(runs(aws)) == 5
    assert sum(clock.slept) < 10


def test_a_machine_that_ended_at_once(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A launch that AWS accepts and ends in the same breath is an error, not a machine."""
    first = ec2.launch(order)
    aws.end(first.id, "Server.InsufficientInstanceCapacity")
    with pytest.raises(NoCapacity, match="ended the machine at once"):
        ec2.launch(order)


def test_a_token_whose_machine_was_ended(ec2: Ec2, order: Order) -> None:
    """The token of a machine that was released brings that machine back, ended: say so."""
    ec2.release(ec2.launch(order))
    with pytest.raises(WrongRequest, match="start again"):
        ec2.launch(order)


# Quota


def test_a_quota_is_named_with_what_is_used(ec2: Ec2, order: Order, aws: Aws) -> None:
    """The quota's code and name, region, limit and use are in the message (pain 30)."""
    aws.settings.quotas["L-DB2E81BA"] = 0.0
    aws.faults.add(_vcpu_limit())
    with pytest.raises(QuotaExceeded) as caught:
        ec2.launch(order)
    expected = (
        "Quota L-DB2E81BA (Running On-Demand G and VT instances) in us-east-1: "
        "4 vCPUs asked for, 0 of 0 in use."
    )
    assert expected in str(caught.value)
    assert "servicequotas" in caught.value.cure
    assert len(runs(aws)) == 1


def test_a_quota_whose_service_does_not_answer(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Without the right to read quotas, the quota is named all the same (pain 30)."""
    spot = replace(order, candidate=replace(order.candidate, market="spot"))
    message = "Max spot instance count exceeded"
    aws.faults.add(
        f.aws_error("MaxSpotInstanceCountExceeded", message, action="RunInstances"),
        f.drop(action="DescribeInstanceTypes"),
    )
    with pytest.raises(QuotaExceeded, match=r"L-3819A6DF.*\? vCPUs asked for, 0 of \? in use"):
        ec2.launch(spot)


def test_a_quota_is_waited_for_while_one_of_ours_ends(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """Our own ending machine still counts: the launch waits for it, a little (pain 30)."""
    aws.settings.shutdown_seconds = 30
    ec2.release(ec2.launch(order))
    aws.faults.add(_vcpu_limit(times=3))
    machine = ec2.launch(replace(order, token="next"))
    assert [instance.id for instance in aws.instances()] == [machine.id]
    assert clock.slept == [5.0, 5.0, 5.0]


def test_a_quota_is_not_waited_for_without_end(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """The wait for an ending machine ends after a minute (pain 30)."""
    aws.settings.shutdown_seconds = 3600
    ec2.release(ec2.launch(order))
    aws.faults.add(_vcpu_limit(times=None))
    with pytest.raises(QuotaExceeded):
        ec2.launch(replace(order, token="next"))
    assert 50 <= sum(clock.slept) <= 60


@pytest.mark.parametrize(
    ("type_", "market", "code"),
    [
        ("g4dn.xlarge", "on-demand", "L-DB2E81BA"),
        ("gr6.4xlarge", "spot", "L-3819A6DF"),
        ("p4d.24xlarge", "on-demand", "L-417A185B"),
        ("p3.2xlarge", "spot", "L-7212CCBC"),
        ("p5.48xlarge", "spot", "L-C4BD4855"),
        ("t3.micro", "on-demand", "L-1216C47A"),
        ("trn1.2xlarge", "on-demand", None),
        ("inf2.xlarge", "spot", None),
    ],
)
def test_quotas_by_type(type_: str, market: str, code: str | None) -> None:
    """A type counts against the quota of its group; groups that we don't know have none."""
    quota = quota_of(type_, market)
    assert (quota and quota.code) == code


# Rights and credentials


def test_a_missing_right_is_named(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Where AWS lets us decode its message, the cure names action and resource (pain 33)."""
    arn = "arn:aws:iam::123456789012:role/gpu"
    context = {"action": "iam:PassRole", "resource": arn, "principal": {"arn": arn}}
    aws.settings.decoded["blob-1"] = json.dumps({"allowed": False, "context": context})
    aws.faults.add(_unauthorized("blob-1"))
    with pytest.raises(NotPermitted) as caught:
        ec2.launch(order)
    assert caught.value.cure == (
        "Allow `iam:PassRole` on `role/gpu` in the IAM policy of these credentials."
    )
    assert "blob" not in str(caught.value)
    assert "123456789012" not in str(caught.value)


def test_a_missing_right_that_may_not_be_decoded(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Without that right the action is taken from AWS's words, and the blob is left out."""
    aws.faults.add(_unauthorized("Zm9v" * 50))
    with pytest.raises(NotPermitted) as caught:
        ec2.launch(order)
    assert "Allow `ec2:RunInstances`" in caught.value.cure
    assert "Zm9v" not in str(caught.value)


def test_expired_credentials(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A stop with credentials of an hour ago says what is wrong and where (pain 11)."""
    machine = ec2.launch(order)
    message = "The security token included in the request is expired"
    aws.faults.add(f.aws_error("RequestExpired", message, action="TerminateInstances"))
    with pytest.raises(NotPermitted, match=rf"end {machine.id} in us-east-1.*same job"):
        ec2.release(machine)


def test_no_credentials_at_all(
    aws: Aws, order: Order, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without credentials the error says how a job gets them (pain 33)."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NotPermitted, match="configure-aws-credentials"):
        Ec2(Ec2Options(), {}, clock).launch(order)


def test_a_profile_of_that_name_is_not_there(
    aws: Aws, order: Order, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt AWS_PROFILE is an error about credentials, not a traceback."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(NotPermitted, match="nobody"):
        Ec2(Ec2Options(), {}, clock).launch(order)


def test_without_boto3_the_extra_is_named(
    aws: Aws, order: Order, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the SDK the error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "botocore.exceptions", None)
    with pytest.raises(EnvironmentBroken, match=r"gpu-ci\[aws\]"):
        Ec2(Ec2Options(), {}, clock).launch(order)


# New machines, and machines that are gone


def test_a_new_machine_that_ec2_does_not_know_yet(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """Not found in the first two minutes is not gone: pending, and no log yet (pain 31)."""
    aws.settings.hidden_seconds = 20
    machine = ec2.launch(order)
    assert ec2.state(machine) is State.PENDING
    assert ec2.boot_log(machine) == ""
    clock.sleep(21)
    assert ec2.state(machine) is State.RUNNING


def test_release_of_a_machine_that_is_not_known_yet(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """Not found, three times, then ended: a new machine is not left behind (pain 31)."""
    aws.settings.hidden_seconds = 8
    machine = ec2.launch(order)
    ec2.release(machine)
    assert aws.instances() == []
    assert clock.slept == [3.0, 3.0, 3.0]


def test_release_of_a_machine_that_never_becomes_known(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """Not found for two minutes is gone (pain 31)."""
    machine = ec2.launch(order)
    aws.forget(machine.id)
    ec2.release(machine)
    assert 115 < sum(clock.slept) < 130
    assert ec2.state(machine) is State.GONE


def test_in_a_hurry_a_machine_that_is_not_known_yet_is_an_error(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """With seconds left, "not known yet" is neither gone nor waited for long (pain 31)."""
    aws.settings.hidden_seconds = 60
    machine = ec2.launch(order)
    ec2.hurry()
    with pytest.raises(CloudUnreachable, match="does not know"):
        ec2.release(machine)
    assert sum(clock.slept) < 2


def test_in_a_hurry_a_release_is_one_call(ec2: Ec2, order: Order, aws: Aws) -> None:
    """On cancel one TerminateInstances goes out, and nothing else."""
    machine = ec2.launch(order)
    aws.faults.forget_requests()
    ec2.hurry()
    ec2.release(machine)
    assert actions(aws) == ["TerminateInstances"]


def test_in_a_hurry_no_quota_is_waited_for(
    ec2: Ec2, order: Order, aws: Aws, clock: FakeClock
) -> None:
    """With seconds left, a quota error is reported at once, whatever is ending."""
    aws.settings.shutdown_seconds = 3600
    ec2.release(ec2.launch(order))
    ec2.hurry()
    aws.faults.add(_vcpu_limit(times=None))
    with pytest.raises(QuotaExceeded):
        ec2.launch(replace(order, token="next"))
    assert clock.slept == []


def test_in_a_hurry_nothing_is_asked_again(ec2: Ec2, order: Order, aws: Aws) -> None:
    """With seconds left, an error is reported at once."""
    machine = ec2.launch(order)
    ec2.hurry()
    aws.faults.add(f.drop(action="TerminateInstances"))
    with pytest.raises(CloudUnreachable):
        ec2.release(machine)


def test_the_states_of_a_machine(ec2: Ec2, order: Order, aws: Aws, clock: FakeClock) -> None:
    """Pending, running, ending (no longer billed), gone."""
    aws.settings.boot_seconds = 10
    aws.settings.shutdown_seconds = 10
    machine = ec2.launch(order)
    seen = [ec2.state(machine)]
    clock.sleep(11)
    seen.append(ec2.state(machine))
    ec2.release(machine)
    seen.append(ec2.state(machine))
    clock.sleep(11)
    seen.append(ec2.state(machine))
    assert seen == [State.PENDING, State.RUNNING, State.ENDING, State.GONE]


def test_a_stopped_machine_is_still_ours(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A machine that somebody stopped still has a disk that is billed: find shows it."""
    machine = ec2.launch(order)
    aws.backend().stop_instances([machine.id])
    assert ec2.state(machine) is State.RUNNING
    assert list(ec2.find({}, ["us-east-1"])) == [machine]


def test_termination_protection_is_explained(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A machine that may not be ended is an error with the command that allows it."""
    machine = ec2.launch(order)
    message = "The instance may not be terminated. Modify its 'disableApiTermination' attribute."
    aws.faults.add(f.aws_error("OperationNotPermitted", message, action="TerminateInstances"))
    with pytest.raises(NotPermitted, match="no-disable-api-termination"):
        ec2.release(machine)


# Finding


def test_find_reads_every_page(ec2: Ec2, order: Order, aws: Aws) -> None:
    """EC2 may spread its answer over pages as it likes; all are read."""
    aws.settings.page_size = 2
    for number in range(5):
        tags = replace(order.tags, name=f"gpu-ci-{number}")
        ec2.launch(replace(order, tags=tags, token=f"t{number}"))
    aws.faults.forget_requests()
    assert len({machine.id for machine in ec2.find({"run_id": "77"}, ["us-east-1"])}) == 5
    assert len(actions(aws)) == 3


def test_find_looks_in_every_region(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Without regions, all that are enabled are asked, and each machine knows its own."""
    machines = [
        ec2.launch(replace(order, candidate=Candidate(type="g4dn.xlarge", region=region)))
        for region in ("us-east-1", "eu-west-1")
    ]
    found = ec2.find({"run_id": "77"}, [])
    assert sorted(m.region for m in found) == ["eu-west-1", "us-east-1"]
    assert {m.id for m in found} == {m.id for m in machines}
    assert list(ec2.find({"run_id": "77"}, ["us-west-2"])) == []


def test_find_tells_the_market(ec2: Ec2, order: Order) -> None:
    """A spot machine is found as one, so that stop reckons its cost right."""
    spot = replace(order, candidate=replace(order.candidate, market="spot"))
    ec2.launch(spot)
    assert [machine.market for machine in ec2.find({}, ["us-east-1"])] == ["spot"]


def test_find_passes_over_what_is_not_ours(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A machine without our tags, or with broken ones, is never ours to end."""
    machine = ec2.launch(order)
    aws.backend().create_tags([machine.id], {"gpu-ci:runner-id": "twelve"})
    assert list(ec2.find({}, ["us-east-1"])) == []


def test_find_in_a_region_that_may_not_be_asked(ec2: Ec2, aws: Aws) -> None:
    """A region that refuses is an error of that class, with its name."""
    aws.faults.add(f.aws_error("AuthFailure", "not able to validate", action="DescribeInstances"))
    with pytest.raises(NotPermitted, match="us-west-2"):
        ec2.find({}, ["us-west-2"])


# Looking


def test_the_console_is_read(ec2: Ec2, order: Order, aws: Aws) -> None:
    """What the boot script wrote to the console comes back."""
    machine = ec2.launch(order)
    aws.set_console(machine.id, "gpu-ci: network\ngpu-ci: grün\n")
    assert ec2.boot_log(machine) == "gpu-ci: network\ngpu-ci: grün\n"


def test_the_console_of_an_old_type(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Types that don't show the latest output show what they have."""
    machine = ec2.launch(replace(order, candidate=Candidate(type="m4.large", region="us-east-1")))
    aws.set_console(machine.id, "gpu-ci: network\n")
    assert ec2.boot_log(machine) == "gpu-ci: network\n"


def test_the_log_says_why_a_machine_ended(ec2: Ec2, order: Order, aws: Aws) -> None:
    """A machine that AWS took away says so at the end of its log."""
    machine = ec2.launch(order)
    aws.set_console(machine.id, "gpu-ci: listen\n")
    aws.end(machine.id, "Server.SpotInstanceTermination", "no Spot capacity")
    assert ec2.boot_log(machine).splitlines() == [
        "gpu-ci: listen",
        "EC2 ended the machine: Server.SpotInstanceTermination: no Spot capacity",
    ]


def test_prices_have_a_source(ec2: Ec2, order: Order) -> None:
    """The price list's figure for on-demand and the market's for spot, each with its day."""
    machine = ec2.launch(order)
    listed = ec2.price(machine)
    market = ec2.price(replace(machine, market="spot"))
    assert listed is not None
    assert market is not None
    assert (listed.per_hour, listed.currency) == (0.526, "USD")
    assert listed.source == "AWS price list of 2026-11-20"
    assert market.per_hour > 0
    assert market.source.startswith("EC2 spot price of ")


def spot_history(*points: tuple[str, int, float]) -> str:
    """What AWS answers: a zone, a day of November and a price each."""
    items = (
        f"<item><availabilityZone>us-east-1{zone}</availabilityZone><spotPrice>{price}</spotPrice>"
        f"<timestamp>2026-11-{day:02}T00:00:00.000Z</timestamp></item>"
        for zone, day, price in points
    )
    return (
        "<DescribeSpotPriceHistoryResponse><spotPriceHistorySet>"
        f"{''.join(items)}</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>"
    )


def test_a_spot_price_without_a_zone_is_the_dearest_zones(ec2: Ec2, order: Order, aws: Aws) -> None:
    """The newest of each zone, whichever zone's is newest of all, and whatever it was before."""
    machine = replace(ec2.launch(order), market="spot", zone="")
    told = spot_history(("a", 22, 0.2), ("b", 21, 0.3), ("c", 19, 0.1), ("c", 18, 0.9))
    aws.faults.add(f.answer(200, told, body="DescribeSpotPriceHistory"))
    price = ec2.price(machine)
    assert price is not None
    assert (price.per_hour, price.source) == (0.3, "EC2 spot price of 2026-11-21")


@pytest.mark.parametrize(
    "fault",
    [
        f.drop(body="ServiceCode", times=None),
        f.answer(200, {"FormatVersion": "aws_v1", "PriceList": ["{}"]}, body="ServiceCode"),
        f.answer(400, {"__type": "AccessDeniedException"}, body="ServiceCode"),
    ],
    ids=["silent", "odd", "denied"],
)
def test_a_price_that_is_not_told_is_none(
    ec2: Ec2, order: Order, aws: Aws, fault: f.Rule, clock: FakeClock
) -> None:
    """Whatever goes wrong with a price is no reason to fail, nor to wait."""
    machine = ec2.launch(order)
    aws.faults.add(fault)
    assert ec2.price(machine) is None
    assert ec2.price(replace(machine, type="g99.xlarge")) is None
    assert clock.slept == []


@pytest.mark.parametrize(
    ("market", "code", "told"),
    [
        ("spot", "Server.SpotInstanceTermination", True),
        ("spot", "Client.InstanceInitiatedShutdown", False),
        ("spot", "", False),
        ("on-demand", "Server.SpotInstanceTermination", False),
    ],
)
def test_a_spot_interruption_is_told_from_other_ends(
    ec2: Ec2, order: Order, aws: Aws, market: str, code: str, *, told: bool
) -> None:
    """Its job did not fail by itself (pain 12)."""
    machine = replace(ec2.launch(order), market=market)
    if code:
        aws.end(machine.id, code, "no Spot capacity")
    assert ("no Spot capacity" in ec2.taken_back(machine)) is told


def test_an_interruption_that_cannot_be_asked_for_is_none(ec2: Ec2, order: Order, aws: Aws) -> None:
    """It is good to know, and no reason to fail a stop."""
    machine = replace(ec2.launch(order), market="spot")
    aws.faults.add(f.aws_error("UnauthorizedOperation", "no", action="DescribeInstances"))
    assert ec2.taken_back(machine) == ""


# Checking


def test_a_healthy_account(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Doctor looks at credentials, image, network, rights, quota and price, and all is well."""
    aws.settings.quotas["L-DB2E81BA"] = 8.0
    checks = list(ec2.check(order))
    assert [(check.what, check.ok) for check in checks] == [
        ("credentials", True),
        ("image", True),
        ("network", True),
        ("permission", True),
        ("quota", True),
        ("price", True),
    ]
    assert "0 of 8 in use" in checks[4].detail
    assert aws.instances() == []


def test_a_right_that_is_missing_shows_before_money_is_spent(
    ec2: Ec2, order: Order, aws: Aws
) -> None:
    """The dry run finds what IAM would refuse (pain 33)."""
    aws.faults.add(_unauthorized("x"))
    found = _checks(ec2, order)["permission"]
    assert not found.ok
    assert "ec2:RunInstances" in found.cure


def test_a_quota_of_zero_shows_before_a_launch(ec2: Ec2, order: Order, aws: Aws) -> None:
    """New accounts have no GPU quota at all (pain 30)."""
    aws.settings.quotas["L-DB2E81BA"] = 0.0
    found = _checks(ec2, order)["quota"]
    assert not found.ok
    assert "L-DB2E81BA" in found.detail
    assert "servicequotas" in found.cure


def test_credentials_that_are_unknown_end_the_check(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Nothing else can be asked without credentials."""
    message = "The security token included in the request is invalid."
    aws.faults.add(f.aws_error("InvalidClientTokenId", message, status=403, times=None))
    (found,) = ec2.check(order)
    assert (found.what, found.ok) == ("credentials", False)
    assert "AWS_ACCESS_KEY_ID" in found.cure


def test_a_subnet_without_a_way_out(make: Callable[..., Ec2], order: Order, aws: Aws) -> None:
    """A runner that cannot reach GitHub never comes online; the check says why."""
    backend = aws.backend()
    vpc = backend.create_vpc("10.9.0.0/16")
    subnet = backend.create_subnet(vpc.id, "10.9.0.0/24", availability_zone="us-east-1a")
    found = _checks(make(subnets=(subnet.id,)), order)["network"]
    assert not found.ok
    assert "no route to the internet" in found.detail


@pytest.mark.parametrize("public_ip", [True, False])
def test_a_public_subnet_needs_a_public_address(
    make: Callable[..., Ec2], order: Order, aws: Aws, *, public_ip: bool
) -> None:
    """An internet gateway serves machines with a public address only."""
    backend = aws.backend()
    vpc = backend.create_vpc("10.9.0.0/16")
    subnet = backend.create_subnet(vpc.id, "10.9.0.0/24", availability_zone="us-east-1a")
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, vpc.id)
    table = backend.create_route_table(vpc.id)
    backend.create_route(table.id, "0.0.0.0/0", None, gateway_id=gateway.id)
    backend.associate_route_table(table.id, subnet_id=subnet.id)
    found = _checks(make(subnets=(subnet.id,), public_ip=public_ip), order)["network"]
    assert found.ok is public_ip
    assert gateway.id in found.detail
    assert public_ip or "public-ip" in found.cure


def test_a_region_without_a_default_vpc(ec2: Ec2, order: Order, aws: Aws) -> None:
    """Accounts may have no default VPC: then subnets must be named."""
    ec2.find({}, ["us-east-1"])  # moto makes the region
    aws.faults.add(
        f.answer(
            200,
            '<DescribeVpcsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><vpcSet/>'
            "</DescribeVpcsResponse>",
            action="DescribeVpcs",
        )
    )
    found = _checks(ec2, order)["network"]
    assert not found.ok
    assert "subnets" in found.cure


def _subnets(aws: Aws) -> dict[str, str]:
    found = aws.backend().get_default_subnets()
    return {zone: subnet.id for zone, subnet in found.items()}


def _checks(provider: Ec2, order: Order) -> dict[str, Check]:
    return {check.what: check for check in provider.check(order)}


def _vcpu_limit(*, times: int | None = 1) -> f.Rule:
    message = (
        "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the "
        "instance bucket that the specified instance type belongs to."
    )
    return f.aws_error("VcpuLimitExceeded", message, action="RunInstances", times=times)


def _unauthorized(blob: str) -> f.Rule:
    message = (
        "You are not authorized to perform this operation. User: "
        "arn:aws:sts::123456789012:assumed-role/ci/run is not authorized to perform: "
        "ec2:RunInstances on resource: arn:aws:ec2:us-east-1:123456789012:instance/* because no "
        "identity-based policy allows the ec2:RunInstances action. "
        f"Encoded authorization failure message: {blob}"
    )
    return f.aws_error("UnauthorizedOperation", message, status=403, action="RunInstances")
