"""One profile out of the file, and what is said of everything that it must not hold."""

from __future__ import annotations

import json
import textwrap
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_ci.errors import BadInputs
from gpu_ci.inputs.reader import input_names
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.profiles.keys import KEYS, OF_A_MACHINE, OF_A_STOP, OF_THE_STEP, SECRETS
from gpu_ci.profiles.read_profile import read

FILE = ".github/gpu-ci.yml"


def profile(text: str, name: str = "a") -> dict[str, str]:
    return dict(read(textwrap.dedent(text).encode(), name, FILE))


def refusals(data: str | bytes, name: str = "a") -> list[str]:
    with pytest.raises(BadInputs) as caught:
        read(textwrap.dedent(data).encode() if isinstance(data, str) else data, name, FILE)
    return list(caught.value.problems)


def test_every_value_becomes_the_text_that_an_input_has() -> None:
    """Lists are lines, options JSON, and a scalar is what is written: `no` is no `false`."""
    assert profile(
        """
        profiles:
          a:
            provider: ec2
            machine: [g4dn.xlarge, g5.xlarge]
            labels:
              - gpu
              - 12
            region: no
            disk-gb: 0200
            max-lifetime-minutes: 1.50
            provider-options: {public-ip: true, subnets: [a, no], volume-type: "1", x: 1, y: null}
            image: 2026-01-01
            setup-script: |
              echo 1
              echo 2
            aws-role: arn:aws:iam::1:role/x
            release: pause
            budget: 5/run, 200/month
            idle-minutes:
            market: ~
        """
    ) == {
        "provider": "ec2",
        "machine": "g4dn.xlarge\ng5.xlarge",
        "labels": "gpu\n12",
        "region": "no",
        "disk-gb": "0200",
        "max-lifetime-minutes": "1.50",
        "provider-options": '{"public-ip":true,"subnets":["a","no"],"volume-type":"1","x":1,"y":null}',
        "image": "2026-01-01",
        "setup-script": "echo 1\necho 2\n",
        "aws-role": "arn:aws:iam::1:role/x",
        "release": "pause",
        "budget": "5/run, 200/month",
    }


STARTS = input_names(StartInputs)


def test_each_input_of_a_start_is_a_key_or_is_not_on_purpose() -> None:
    """A new input is no key by chance: it is named for machines, for the step, or is a secret."""
    decided = [*OF_A_MACHINE, *OF_THE_STEP, *(name for name in SECRETS if name in STARTS)]
    assert sorted(decided) == sorted(STARTS)
    assert set(KEYS) == {*OF_A_MACHINE, "release", "aws-role", "aws-region"}


def test_a_stop_takes_neither_types_nor_regions_of_a_profile() -> None:
    """It has no input for types, and a `region` would hide what was started elsewhere."""
    assert sorted(OF_A_STOP) == [
        "app-id",
        "machine-name",
        "organization",
        "provider",
        "provider-options",
        "release",
    ]


def test_another_profile_may_be_wrong() -> None:
    """What is not asked for breaks nobody's run."""
    text = "profiles: {a: {provider: local}, b: {nonsense: 1}, c: 5}"
    assert profile(text) == {"provider": "local"}


def test_options_may_be_json_already() -> None:
    """As in the input."""
    text = 'profiles: {a: {provider-options: \'{"user": "x"}\'}}'
    assert json.loads(profile(text)["provider-options"]) == {"user": "x"}


def test_large_numbers_in_quotes_are_texts() -> None:
    """The cure of an error about them works, and what JSON can hold is a number still."""
    text = "profiles: {a: {provider-options: {x: '1e999', y: 1e9, z: -12}}}"
    assert profile(text)["provider-options"] == '{"x":"1e999","y":1000000000.0,"z":-12}'


KNOWN = ", ".join(KEYS)
WORDS = [
    ("profiles: {a100: {}}", [f"profile 'a' is not known. {FILE} has: a100."]),
    (
        "profiles: {aa: {}, b: {}}",
        [f"profile 'a' is not known. Did you mean aa? {FILE} has: aa, b."],
    ),
    ("profiles: {}", [f"profile 'a' is not known. {FILE} has: none."]),
    (
        "profiles: {a: {machin: x}}",
        [
            f"{FILE}, line 1: key 'machin' is not known. Did you mean machine? Known are: {KNOWN}.",
        ],
    ),
    (
        """
        profiles:
          a:
            github-token: x
            hf-token: x
            key: x
        """,
        [
            (
                f"{FILE}, line 4: github-token is a secret, and no secret goes into a file. Store it under "
                "Settings, Secrets and variables, Actions, and hand it to the step."
            ),
            (
                f"{FILE}, line 5: hf-token is a secret, and no secret goes into a file. Store it under "
                "Settings, Secrets and variables, Actions, and hand it to the step."
            ),
            f"{FILE}, line 6: key belongs to one step, not to a machine. Give it as an input there.",
        ],
    ),
    (
        "profiles: {a: {image: [x], machine: {x: y}, labels: [[x]], provider-options: [x]}}",
        [
            f"{FILE}, line 1: image must be one value.",
            f"{FILE}, line 1: machine must be a value or a list of values.",
            f"{FILE}, line 1: labels must be a value or a list of values.",
            f"{FILE}, line 1: provider-options must be a mapping.",
        ],
    ),
    (
        "profiles: {a: {image: '${{ inputs.image }}'}}",
        [
            (
                f"{FILE}, line 1: image holds an expression, and expressions are not evaluated here. Give it as an "
                "input."
            ),
        ],
    ),
    (
        "profiles:\n  a:\n    gpus: 1\n    gpus: 2",
        [f"{FILE}, line 4: 'gpus' is on line 3 already. Remove one."],
    ),
    (
        "profiles:\n  a: {}\n  b: {}\n  a: {}",
        [f"{FILE}, line 4: 'a' is on line 2 already. Remove one."],
    ),
    (
        "profiles: {a: {provider-options: {x: {y: 1, y: 2}}}}",
        [f"{FILE}, line 1: 'y' is on line 1 already. Remove one."],
    ),
    (
        "x: &x [1, 2]\ny: &y [*x, *x]\nprofiles: {a: {labels: *y}}",
        [f"{FILE}, line 2: the alias *x is not taken here: write out what it stands for."],
    ),
    ("- profiles", [f"{FILE}, line 1: the file must be `name: value` lines."]),
    ("profiles: [a]", [f"{FILE}, line 1: profiles must be `name: value` lines."]),
    ("profiles: {a: x}", [f"{FILE}, line 1: profile a must be `name: value` lines."]),
    ("profiles: {a: {? [x] : y}}", [f"{FILE}, line 1: a key must be a plain word."]),
    ("", [f"{FILE} is empty. Write `profiles:`, and below it a name for each."]),
    ("# nothing", [f"{FILE} is empty. Write `profiles:`, and below it a name for each."]),
    ("{}", [f"{FILE} has no `profiles:`."]),
    (
        "a: {provider: ec2}",
        [
            (
                f"{FILE}, line 1: 'a' is not known at the top. The only key is `profiles`, with each profile by "
                "its name below it."
            )
        ],
    ),
    (
        "profiles:\n\ta: {}",
        [
            (
                f"{FILE}, line 2: found character '\\t' that cannot start any token. YAML is indented by "
                "spaces, not tabs."
            )
        ],
    ),
    ("a: 1\n---\nb: 1", [f"{FILE}, line 2: but found another document."]),
    (
        "profiles: {a: {image: !x y}}",
        [f"{FILE}, line 1: the tag '!x' is not taken here. Remove it."],
    ),
    ("a: 1\nb: \x01", [f"{FILE}, line 2: YAML may not contain the character 0x0001. Remove it."]),
    *(
        (
            f"profiles:\n  a:\n    provider-options:\n      x: {number}",
            [
                f"{FILE}, line 4: this number is too large. Put it in quotes if it is a text.",
            ],
        )
        for number in ("9" * 5000, "1e999", "-1e999", "9" * 400 + ".5")
    ),
    (b"a: 1\nb: \xff", [f"{FILE}, line 2: this is not UTF-8. Save it as UTF-8."]),
    (b"a" * 5_000_000, [f"{FILE} is larger than 64 KiB. Shorten it."]),
    (b"[" * 60_000, [f"{FILE} is nested too deeply. Write it flat."]),
]


@pytest.mark.parametrize(("data", "words"), WORDS, ids=range(len(WORDS)))
def test_what_is_wrong_is_said_with_its_line(data: str | bytes, words: list[str]) -> None:
    """A plain error each, all of one profile's at once, and no traceback of a parser."""
    assert refusals(data) == words


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_" + "a" * 36,
        "github_pat_" + "A1" * 20,
        "AKIA" + "A" * 16,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
    ],
)
def test_a_secret_in_a_value_is_refused_and_not_repeated(secret: str) -> None:
    """Under whatever key it stands; also inside of options and lists."""
    for value in (secret, {"user": secret}, [secret]):
        key = {str: "image", dict: "provider-options", list: "labels"}[type(value)]
        (problem,) = refusals(json.dumps({"profiles": {"a": {key: value}}}))
        assert "looks like a secret" in problem
        assert secret not in problem


def test_no_object_is_made_of_a_tag() -> None:
    """A file cannot run anything in the program that reads it."""
    (problem,) = refusals("profiles: {a: {image: !!python/object/apply:os.system ['exit 1']}}")
    assert "is not taken here" in problem


@given(st.binary(max_size=200) | st.text(alphabet="ab: -{}[]&*!|>\n\t'\"#?,%@`~", max_size=200))
def test_whatever_is_in_the_file_is_an_answer_or_a_plain_error(data: bytes | str) -> None:
    """No other exception gets out."""
    raw = data.encode(errors="ignore") if isinstance(data, str) else data
    with suppress(BadInputs):
        read(b"profiles:\n  a:\n    " + raw, "a", FILE)
