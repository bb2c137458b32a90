"""The handle from start to stop."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import tags

from gpu_ci.model.machine import Machine, Price, from_handle, to_handle
from gpu_ci.model.tags import Tags

exact = settings(derandomize=True, deadline=None, database=None)
numbers = st.floats(0, 1e12)
machines = st.builds(
    Machine,
    tags=st.builds(Tags),
    launched_at=numbers,
    kept=st.booleans(),
    started=st.booleans(),
    price=st.none() | st.builds(Price, per_hour=numbers),
)
HANDLE = json.loads(to_handle([Machine(provider="ec2", id="i-1", tags=tags())]))


@exact
@given(st.lists(machines, min_size=1, max_size=3))
def test_a_handle_comes_back_as_it_went(given_machines: list[Machine]) -> None:
    """Stop reads exactly the machines that start wrote."""
    assert from_handle(to_handle(given_machines)) == tuple(given_machines)


def test_a_handle_is_one_line() -> None:
    """It passes through outputs, `with:` and shells without harm to its lines."""
    assert "\n" not in to_handle([Machine(provider="ec2", id="i\n1", tags=tags())])


@exact
@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_garbage_is_a_value_error(text: str) -> None:
    """Whatever stands under `machine`, the one error is ValueError (no machines is no garbage)."""
    try:
        assert from_handle(text) == ()
    except ValueError:
        return


@pytest.mark.parametrize(
    "item",
    [
        5,
        None,
        {},
        "i-0abc",
        {"id": "i-1"},
        {**HANDLE, "tags": []},
        {**HANDLE, "provider": []},
        {**HANDLE, "id": 5},
        {**HANDLE, "launched_at": "yesterday"},
        {**HANDLE, "kept": "false"},
        {**HANDLE, "started": 0},
        {**HANDLE, "tags": {**HANDLE["tags"], "runner_id": "twelve"}},
        {**HANDLE, "price": 5},
        {**HANDLE, "price": {"per_hour": "cheap"}},
    ],
)
def test_almost_a_handle_is_a_value_error(item: object) -> None:
    """A field of another type is found while reading, not while releasing."""
    with pytest.raises(ValueError, match=r"\S"):
        from_handle(json.dumps(item))


def test_a_very_deep_text_is_a_value_error() -> None:
    """JSON that is nested beyond Python's stack is garbage like any other."""
    with pytest.raises(ValueError, match=r"\S"):
        from_handle("[" * 100_000)


def test_a_field_of_a_later_version_is_passed_over() -> None:
    """A stop of this version still reads the handle of a start that knows more."""
    later = {**HANDLE, "colour": "blue", "tags": {**HANDLE["tags"], "mood": "calm"}}
    assert from_handle(json.dumps(later)) == from_handle(json.dumps(HANDLE))


def test_a_handle_that_says_nothing_of_it_is_of_a_machine_that_start_made() -> None:
    """The handle of an earlier version: the machine is ended, not paused, and not left."""
    earlier = {name: value for name, value in HANDLE.items() if name not in {"kept", "started"}}
    (machine,) = from_handle(json.dumps(earlier))
    assert (machine.kept, machine.started) == (False, True)


@pytest.mark.parametrize(
    ("machine_id", "region", "told"),
    [("i-1", "x", "box (i-1 in x)"), ("i-1", "", "box (i-1)"), ("box", "x", "box")],
)
def test_a_machine_is_told_by_its_name_and_where_to_look(
    machine_id: str, region: str, told: str
) -> None:
    """A kept machine of a cloud without regions has a name and an id; one that has no id of its own
    is not named twice."""
    machine = Machine(provider="ec2", id=machine_id, tags=tags("box"), region=region)
    assert machine.describe() == told
