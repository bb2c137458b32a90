"""Every way to fail has a sentence and an exit code."""

from __future__ import annotations

import inspect
import re

import pytest

from gpu_ci import errors
from gpu_ci.errors import (
    BadInputs,
    CloudError,
    GitHubError,
    GpuCiError,
    GpuUnusable,
    Limited,
    NoCapacity,
    SetupFailed,
    StartFailed,
)

CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, GpuCiError) and found.__module__ == errors.__name__
]
IN_THE_TREE = re.findall(r"[├└]── (\w+) +(\d+) ", errors.__doc__ or "")
GROUPS = (GpuCiError, GitHubError, CloudError, StartFailed, SetupFailed)


def test_the_tree_in_the_docstring_is_the_code() -> None:
    """Each class stands there with the exit code that it has; groups stand without one."""
    codes = {found.__name__: found.exit_code for found in CLASSES if found not in GROUPS}
    assert {name: int(code) for name, code in IN_THE_TREE} == codes


@pytest.mark.parametrize("found", CLASSES)
def test_an_exit_code_is_neither_success_nor_a_signal(found: type[GpuCiError]) -> None:
    """Scripts tell our failures from a shell's 126, 127 and 128 + signal."""
    assert 0 < found.exit_code < 126


@pytest.mark.parametrize("found", CLASSES)
def test_every_error_says_what_it_means(found: type[GpuCiError]) -> None:
    """Each class has a docstring of its own."""
    assert found.__doc__
    assert [other for other in CLASSES if other.__doc__ == found.__doc__] == [found]


def test_the_cause_and_the_cure_are_one_paragraph() -> None:
    """What happened stands first; without a cure there is no space behind it."""
    error = NoCapacity("Nothing is free.", "Try another region.")
    assert str(error) == "Nothing is free. Try another region."
    assert (error.what, error.cure) == ("Nothing is free.", "Try another region.")
    assert str(NoCapacity("Nothing is free.")) == "Nothing is free."


def test_bad_inputs_are_a_paragraph_each() -> None:
    """They can be shown apart."""
    assert str(BadInputs(["one", "two"])).split("\n\n") == ["one", "two"]


def test_errors_keep_what_a_caller_needs() -> None:
    """The end of a limit, and the end of a boot log that is not part of the message."""
    assert Limited("Asked too often.", until=5.0).until == 5.0
    failure = GpuUnusable("No GPU.", tail=["line 1", "line 2"])
    assert failure.tail == ("line 1", "line 2")
    assert str(failure) == "No GPU."


def test_another_machine_is_tried_only_where_it_can_help() -> None:
    """A bad GPU, a reclaimed machine, a lost registration; not a broken boot script."""
    again = {found.__name__ for found in CLASSES if getattr(found, "another", False)}
    assert again == {"GpuUnusable", "MachineEnded", "RegistrationLost"}
