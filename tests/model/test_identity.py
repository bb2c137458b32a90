"""Names, tags and keys of a start."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_ci.model.identity import NAME_LIMIT, Identity
from gpu_ci.model.tags import (
    Mark,
    Tags,
    our_label,
    read_label,
    read_name,
    repository_mark,
    run_prefix,
    slug,
)

exact = settings(derandomize=True, deadline=None, database=None)
keys = st.text(max_size=100)
identities = st.builds(
    Identity,
    repository=st.sampled_from(["octo/widgets", "Octo/Wid.gets_2"]),
    run_id=st.integers(1, 10**12 - 1).map(str),  # today's have eleven digits
    attempt=st.integers(1, 99).map(str),
    key=keys,
    scope=st.just("repos/octo/widgets"),
)
ONE = Identity(repository="o/r", run_id="7", attempt="1", key="test.3", scope="repos/o/r")


@exact
@given(identities, st.integers(0, 49), st.integers(0, 9))
def test_a_name_fits_every_provider(identity: Identity, index: int, replacement: int) -> None:
    """Whatever the key: at most 40 characters, lower-case letters, digits and single hyphens."""
    name = identity.name(index, replacement)
    assert len(name) <= NAME_LIMIT
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)


@exact
@given(identities, st.integers(0, 49))
def test_a_name_tells_its_run_and_key(identity: Identity, index: int) -> None:
    """A stop finds a start's registrations by the run's prefix and the key's mark."""
    name = identity.name(index)
    assert name.startswith(run_prefix(identity.run_id))
    assert identity.key_mark() in name
    assert name == replace(identity).name(index)


@exact
@given(identities, st.integers(0, 49), st.integers(0, 9))
def test_a_name_tells_its_repository(identity: Identity, index: int, replacement: int) -> None:
    """Whatever run and key: a registration in an organisation, and a machine in a cloud without
    tags, are known to be this repository's (dead registrations pile up: pain 15)."""
    mark = read_name(identity.name(index, replacement))
    assert mark is not None
    assert mark.repository_mark == repository_mark(identity.repository)
    assert mark.repository_mark != repository_mark(f"{identity.repository}x")
    assert re.fullmatch(r"[0-9a-f]{4}", mark.repository_mark)


@exact
@given(keys, keys)
def test_keys_that_differ_give_other_names(key: str, other: str) -> None:
    """Two starts of one run never share a name, also where their keys look alike once slugged."""
    names = {replace(ONE, key=key).name(0), replace(ONE, key=other).name(0)}
    assert len(names) == len({key, other})


def test_every_machine_of_a_start_has_its_own_name() -> None:
    """Indexes, replacements, attempts and runs all tell names apart."""
    others = [ONE, replace(ONE, attempt="2"), replace(ONE, run_id="71")]
    names = [one.name(index, again) for one in others for index in range(50) for again in range(5)]
    assert len(set(names)) == len(names)


def test_one_run_is_not_the_prefix_of_another() -> None:
    """A stop of run 7 leaves the machines of run 71 alone."""
    assert not replace(ONE, run_id="71").name(0).startswith(run_prefix("7"))


@exact
@given(st.text())
def test_a_slug_is_plain(text: str) -> None:
    """A slug has lower-case letters, digits and single hyphens inside, and stays itself."""
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(text))
    assert slug(slug(text)) == slug(text)


def test_slug_keeps_what_can_be_read() -> None:
    """Words stay legible."""
    assert slug("Test (CUDA 12.4, py3.11)") == "test-cuda-12-4-py3-11"


@exact
@given(tags=st.builds(Tags, runner_id=st.integers(0), expires_at=st.integers(0)))
def test_tags_come_back_as_they_went(tags: Tags) -> None:
    """What a provider stores as strings is read back equal, and foreign tags don't disturb."""
    stored = tags.as_mapping() | {"Name": "x", "gpu-ci:colour": "blue"}
    assert all(isinstance(value, str) for value in stored.values())
    assert Tags.from_mapping(stored) == tags


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"Name": "somebody else's"},
        {"gpu-ci:name": "x"},
        {f"gpu-ci:{name}": "x" for name in ("name", "label", "repository", "run-id")},
    ],
)
def test_tags_of_others_are_not_ours(stored: dict[str, str]) -> None:
    """A machine without our whole set of tags is nobody we may release."""
    assert Tags.from_mapping(stored) is None


def test_a_broken_number_makes_tags_unreadable() -> None:
    """Tags that somebody edited are not guessed at."""
    stored = Tags(
        name="n", label="l", repository="o/r", run_id="7", attempt="1", key="k", scope="s"
    ).as_mapping()
    assert Tags.from_mapping(stored | {"gpu-ci:runner-id": "twelve"}) is None


def test_the_job_its_index_and_its_check_run_are_the_key() -> None:
    """Without a key, matrix legs and doubly called workflows are told apart by the runner's words."""
    env = {
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_RUN_ID": "7",
        "GITHUB_RUN_ATTEMPT": "2",
        "GITHUB_JOB": "start",
        "GPU_CI_JOB_INDEX": "3",
        "GPU_CI_CHECK_RUN_ID": "99",
    }
    identity = Identity.from_environment(env)
    assert (identity.key, identity.starter, identity.attempt) == ("start.3.99", "99", "2")
    assert identity.scope == "repos/o/r"
    assert Identity.from_environment(env, key="mine", organization="octo").key == "mine"
    assert Identity.from_environment(env, organization="octo").scope == "orgs/octo"


def test_a_terminal_has_an_identity_too() -> None:
    """Outside a workflow there is no run: the key tells starts apart."""
    identity = Identity.from_environment({"GITHUB_REPOSITORY": "o/r"})
    assert (identity.run_id, identity.attempt, identity.key) == ("0", "1", "terminal")


# Keys whose slugs look like the parts of a name or of a label.
odd_keys = st.lists(
    st.sampled_from(
        [
            "abcdef",
            "123456",
            "0",
            "0r1",
            "12345678901",
            "deadbeef",
            "12345678",
            "gpu-ci-7-1",
            "-",
            "",
        ]
    ),
    max_size=5,
).map("-".join)
odd_identities = st.builds(
    replace,
    identities,
    key=odd_keys | keys,
    starter=st.just("") | st.integers(1, 10**12).map(str) | st.just("123456"),
)
nonces = st.text("0123456789abcdef", min_size=8, max_size=8) | st.just("12345678")


@exact
@given(odd_identities, st.integers(0, 49), st.integers(0, 12))
def test_a_name_is_read_back(identity: Identity, index: int, replacement: int) -> None:
    """Whatever the key, a cloud without tags tells the run, the attempt and the key's mark by the
    machine's name."""
    expected = Mark(run_id=identity.run_id, attempt=identity.attempt, key_mark=identity.key_mark())
    assert read_name(identity.name(index, replacement)) == expected


@exact
@given(odd_identities, st.integers(0, 49), st.integers(0, 12), nonces)
def test_a_label_is_read_back(identity: Identity, index: int, replacement: int, nonce: str) -> None:
    """So does a registration's label, and it tells the job that started it where the runner did;
    no name is taken for a label."""
    name = identity.name(index, replacement)
    label = identity.label(name, nonce)
    assert read_label(label) == Mark(
        run_id=identity.run_id,
        attempt=identity.attempt,
        key_mark=identity.key_mark(),
        starter=identity.starter,
    )
    assert our_label(["self-hosted", "gpu", name, label]) == label
    assert read_label(name) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "box",
        "gpu-ci-7-1",
        "gpu-ci-7-1-x-abcdef0123",
        "gpu-ci-7-1-x-abcdef-0",
        "gpu-ci-7-1-abcdef0123-0",
        "gpu-ci-7-1-x-abcdef012g-0",
        "gpu-ci-7-x-abcdef0123-0",
        "GPU-CI-7-1-x-abcdef0123-0",
        "my-gpu-ci-7-1-x-abcdef0123-0",
        "gpu-ci-7-1-x-abcdef0123-0\n",
    ],
)
def test_other_names_are_nobodys(text: str) -> None:
    """What this library did not make is not read as if it had, as a name or within a label."""
    assert read_name(text) is None
    assert read_label(f"{text}-deadbeef") is None
    assert our_label([text, f"{text}-deadbeef", "gpu-ci-7-1-x-abcdef0123-0"]) == ""


@pytest.mark.parametrize("end", ["", "-deadbee", "-deadbeeg", "-DEADBEEF", "-x-deadbeef"])
def test_a_name_without_eight_digits_is_no_label(end: str) -> None:
    """The random part is what tells a label of ours from a name that a person wrote."""
    assert read_label(f"gpu-ci-7-1-x-abcdef0123-0{end}") is None


def test_a_label_begins_with_its_name_and_tells_its_starter() -> None:
    """It can be read; without a check run nothing stands in its place."""
    assert replace(ONE, starter="99").label("n-0", "5eed1234") == "n-0-99-5eed1234"
    assert ONE.label("n-0", "5eed1234") == "n-0-5eed1234"


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        ({}, True),
        ({"run_id": "7"}, True),
        ({"run_id": "71"}, False),
        ({"run_id": "7", "attempt": "1"}, True),
        ({"attempt": "2"}, False),
        ({"repository": "o/r", "run_id": "7", "key": "test.3"}, True),
        ({"repository": "o/r", "run_id": "7", "key": "test.4"}, False),
        ({"repository": "o/r", "run_id": "7", "key": ""}, False),
        ({"repository": "o/other", "run_id": "7", "key": "test.3"}, False),
        ({"repository": "o/r"}, True),
        ({"repository": "o/other", "run_id": "7"}, False),
    ],
)
def test_a_mark_fits_the_tags_that_its_machine_would_have(
    wanted: dict[str, str], *, fits: bool
) -> None:
    """A cloud without tags is asked like one that has them: the name tells the repository, and a
    key counts together with it."""
    mark = read_name(ONE.name(0))
    assert mark is not None
    asked = dict(wanted)
    assert mark.fits(asked) is fits
    assert asked == wanted


def test_a_mark_is_not_asked_for_what_it_cannot_tell() -> None:
    """A guess would release a machine of somebody else's."""
    mark = read_name(ONE.name(0))
    assert mark is not None
    with pytest.raises(KeyError):
        mark.fits({"starter": "11"})
