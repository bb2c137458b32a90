"""The inputs of action-gate: defaults, `none`, and every problem at once."""

from __future__ import annotations

import pytest
from tests.fakes import REPOSITORY

from gpu_ci.errors import BadInputs
from gpu_ci.inputs.gate_inputs import BOTS, GateInputs
from gpu_ci.inputs.reader import variable


def read(**given: str) -> GateInputs:
    named = {variable(name): value for name, value in given.items()}
    return GateInputs.read({"GITHUB_REPOSITORY": REPOSITORY, **named})


def test_nothing_needs_to_be_said() -> None:
    """The usual names hold, and an empty text is what was left out (a called workflow passes it)."""
    inputs = read()
    assert (inputs.label, inputs.skip_label, inputs.bots) == ("run-gpu-ci", "skip-gpu-ci", BOTS)
    assert (inputs.forks, inputs.keep_label, inputs.branches) == ("fail", False, ())
    assert inputs == read(**dict.fromkeys(("label", "skip-label", "bots", "forks"), ""))


def test_none_means_none() -> None:
    """No label to ask with, none to skip with, nobody's pull requests to leave out."""
    inputs = read(**{"label": "none", "skip-label": "none", "bots": "none"})
    assert (inputs.label, inputs.skip_label, inputs.bots) == ("", "", ())


def test_a_provider_is_named_without_its_secrets() -> None:
    """The gate holds no key of a cloud, and needs none."""
    assert read(provider="jarvislabs").provider == "jarvislabs"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"label": "x" * 51}, "label is 'xxx"),
        ({"label": "a\nb"}, "one line of at most 50 characters"),
        ({"label": ".."}, "label is '..'"),
        ({"skip-label": "x" * 51}, "skip-label is 'xxx"),
        ({"label": "GPU", "skip-label": "gpu"}, "label and skip-label are both 'GPU'"),
        ({"keep-label": "yes"}, "keep-label is 'yes'; it must be true or false"),
        ({"forks": "run"}, "forks is 'run'; it must be one of fail, skip"),
        ({"provider": "gcp"}, "provider is 'gcp'; it must be one of"),
        ({"machine-name": "a b"}, "machine-name is 'a b'"),
        ({"aws-role": "arn role"}, "aws-role is 'arn role'"),
        ({"aws-region": "us-east-1, eu-west-1"}, "one region of AWS"),
        ({"github-api-url": "github.com"}, "github-api-url is 'github.com'"),
    ],
)
def test_what_cannot_be_used(given: dict[str, str], words: str) -> None:
    """Each is named with what it should be."""
    with pytest.raises(BadInputs) as caught:
        read(**given)
    assert len(caught.value.problems) == 1
    assert words in caught.value.problems[0]


def test_all_problems_at_once() -> None:
    """Nobody has to run it once for each."""
    with pytest.raises(BadInputs) as caught:
        GateInputs.read({"INPUT_FORKS": "x", "INPUT_PROVIDER": "y"})
    assert [text.split()[0] for text in caught.value.problems] == [
        "forks",
        "provider",
        "GITHUB_REPOSITORY",
    ]
