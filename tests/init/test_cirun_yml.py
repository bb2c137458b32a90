"""`.cirun.yml` as profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpu_ci.errors import BadInputs
from gpu_ci.init.cirun_yml import LABELS, read_cirun
from gpu_ci.init.file_texts import profiles_text
from gpu_ci.profiles.read_profile import read

if TYPE_CHECKING:
    from tests.init.conftest import Checkout

CIRUN = """
runners:
  - name: aws-gpu-runner
    cloud: aws
    instance_type: g4dn.xlarge
    machine_image: ami-067a4ba2816407ee9
    region: eu-west-1
    preemptible:
      - true
      - false
    labels:
      - cirun-aws-gpu
  - name: big one
    cloud: aws
    instance_type: [g5.xlarge, p3.2xlarge]
    region: [us-east-1, us-east-2]
    preemptible: true
    extra_config: {subnet_id: x}
  - name: gcp-runner
    cloud: gcp
    gpu: nvidia-tesla-t4
  - cloud: aws
    ami: ami-1
    region: [a, b]
    preemptible: [false, true]
"""
READ = {
    "aws-gpu-runner": {
        "provider": "ec2",
        "machine": "g4dn.xlarge",
        "image": "ami-067a4ba2816407ee9",
        "region": "eu-west-1",
        "labels": "cirun-aws-gpu",
        "market": "spot-then-on-demand",
    },
    "big-one": {
        "provider": "ec2",
        "machine": ["g5.xlarge", "p3.2xlarge"],
        "region": ["us-east-1", "us-east-2"],
        "market": "spot",
    },
    "runner-4": {"provider": "ec2", "image": "ami-1", "region": ["a", "b"]},
}


def test_every_runner_that_can_be_had_is_a_profile() -> None:
    """Type, image, region, market and labels; the rest is said."""
    profiles, notes = read_cirun(CIRUN.encode(), ".cirun.yml")
    assert profiles == READ
    assert notes == [
        f"aws-gpu-runner: {LABELS}",
        "big-one: extra_config left out.",
        "gcp-runner is left out: there is no provider for 'gcp'.",
        "runner-4: preemptible is [False, True], taken as on-demand.",
        "runner-4: an image has another id in each region: give a name filter, or one region.",
    ]


def test_what_is_written_of_it_is_read_again() -> None:
    """By the code that a start uses."""
    written = profiles_text(read_cirun(CIRUN.encode(), "x")[0]).encode()
    assert read(written, "big-one", "x")["region"] == "us-east-1\nus-east-2"
    assert all(read(written, name, "x")["provider"] == "ec2" for name in READ)


@pytest.mark.parametrize(
    ("preemptible", "market"),
    [
        ("true", "spot"),
        ("false", "on-demand"),
        ("[true, false]", "spot-then-on-demand"),
        ("[true]", "spot"),
        ("[]", None),
        ("maybe", None),
    ],
)
def test_preemptible_is_the_market(preemptible: str, market: str | None) -> None:
    """A list is what is tried one after the other."""
    text = f"runners: [{{name: a, cloud: aws, preemptible: {preemptible}}}]"
    profiles, _ = read_cirun(text.encode(), "x")
    assert profiles["a"].get("market") == market


def test_two_runners_of_one_name_are_two_profiles() -> None:
    """None is lost."""
    text = "runners: [{name: a, cloud: aws}, {name: a, cloud: aws}]"
    assert list(read_cirun(text.encode(), "x")[0]) == ["a", "a-2"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "x has no list `runners:` of `name: value` lines."),
        ("runners: 5", "x has no list `runners:` of `name: value` lines."),
        ("runners: [5]", "x has no list `runners:` of `name: value` lines."),
        ("runners: []", "x has no runner that a provider here offers."),
        ("a: &a [*a]", "x, line 1: the alias *a is not taken here: write out what it stands for."),
        (
            "runners: [{name: g, cloud: gcp}]",
            "x has no runner that a provider here offers.\n\ng is left out: there is no provider for 'gcp'.",
        ),
    ],
)
def test_a_file_without_a_runner_is_refused(text: str, words: str) -> None:
    """In words, with the line where there is one."""
    with pytest.raises(BadInputs) as caught:
        read_cirun(text.encode(), "x")
    assert str(caught.value) == words


def test_a_file_that_is_there_is_taken(checkout: Checkout) -> None:
    """Only the command is left to ask; the first runner is used, the others are named."""
    checkout.put(".cirun.yml", CIRUN)
    checkout.init(answers=["pytest"])
    assert checkout.said[0] == "Read .cirun.yml: aws-gpu-runner, big-one, runner-4."
    assert "profile: aws-gpu-runner" in checkout.workflow
    assert (
        "The workflow uses aws-gpu-runner; there are also: big-one, runner-4."
        in (checkout.said[-1])
    )


def test_flags_outrank_a_file_that_happens_to_be_there(checkout: Checkout) -> None:
    """Who names a machine wants that one."""
    checkout.put(".cirun.yml", CIRUN)
    checkout.init(provider="jarvislabs", yes=True)
    assert "ec2" not in checkout.profiles


def test_another_file_and_another_profile_can_be_named(checkout: Checkout) -> None:
    """A name that is not in it is refused with those that are."""
    checkout.put("old.yml", CIRUN)
    source = str(checkout.root / "old.yml")
    checkout.init(source=source, profile="big-one", yes=True)
    assert "profile: big-one" in checkout.workflow
    with pytest.raises(BadInputs, match=r"--profile is 'x'; .* has: aws-gpu-runner, big-one"):
        checkout.init(source=source, profile="x", yes=True, force=True)
