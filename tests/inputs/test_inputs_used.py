"""What a user can write has an effect: each input that is read is used by the action's own story."""

from __future__ import annotations

import ast
import inspect
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from gpu_ci.inputs.gate_inputs import GateInputs
from gpu_ci.inputs.github_inputs import GitHubInputs
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.inputs.watchdog_inputs import WatchdogInputs

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(__file__).parents[2] / "shared" / "gpu_ci"
# The rooms that use what was read. `self.inputs` and `rental.inputs` count as `inputs` does.
USERS: dict[type[Any], tuple[str, ...]] = {
    GateInputs: ("gate",),
    GitHubInputs: ("github", "start", "stop", "watchdog"),
    SetupUvInputs: ("setup_uv",),
    StartInputs: ("start",),
    StopInputs: ("stop",),
    WatchdogInputs: ("watchdog",),
}
# What takes the name of an input and looks its folder up: of SetupUvInputs, and of its chooser.
NAMING = {"folder", "_asked"}
# `gpu_ci.profiles` uses it before anything is read, and the options are by the providers' names.
OTHERWISE: dict[type[Any], set[str]] = {
    **{inputs: {"profile"} for inputs in (GateInputs, StartInputs, StopInputs)},
    WatchdogInputs: {"providers"},
}


def used(trees: list[ast.Module]) -> Iterator[str]:
    """Yield the attributes of what is called inputs, and the inputs that a call names in words."""
    for node in (node for tree in trees for node in ast.walk(tree)):
        match node:
            case ast.Attribute(value=owner, attr=name) if is_inputs(owner):
                yield name
            case ast.Call(
                func=ast.Attribute(attr=called), args=[ast.Constant(value=str(name)), *_]
            ):
                if called in NAMING:
                    yield name.replace("-", "_")
            case _:
                pass


def is_inputs(owner: ast.expr) -> bool:
    """Say whether it is `inputs`, `x.inputs`, or the part of them that is GitHub's, its credentials."""
    name = ast.unparse(owner).removesuffix(".github").split(".")[-1]
    return name in {"inputs", "credentials"}


def behind(inputs: type[Any], names: set[str]) -> set[str]:
    """Return the fields that the used properties of the inputs themselves read."""
    found: set[str] = set()
    for name in names:
        if isinstance(member := inspect.getattr_static(inputs, name, None), property):
            source = ast.parse(dedent(inspect.getsource(member.fget or property)))
            nodes = [node for node in ast.walk(source) if isinstance(node, ast.Attribute)]
            found |= {node.attr for node in nodes if ast.unparse(node.value) == "self"}
    return found


def unused(inputs: type[Any], trees: list[ast.Module]) -> list[str]:
    names = set(used(trees))
    known = names | behind(inputs, names) | OTHERWISE.get(inputs, set())
    return [field.name for field in fields(inputs) if field.name not in known]


@pytest.mark.parametrize("inputs", USERS)
def test_each_input_that_is_read_is_used(inputs: type[Any]) -> None:
    """One that nobody uses would be taken, checked, documented, and do nothing."""
    files = [path for room in USERS[inputs] for path in (PACKAGE / room).rglob("*.py")]
    assert unused(inputs, [ast.parse(path.read_text()) for path in files]) == []


def test_an_input_that_nobody_uses_is_found() -> None:
    """Only what is taken from inputs counts, by attribute, by property or by name."""
    text = "machine.provider, self.inputs.version, inputs.keeps_cache, inputs.folder('tool-dir')"
    found = unused(SetupUvInputs, [ast.parse(text)])
    assert not {"version", "enable_cache", "tool_dir"} & set(found)
    assert {"sync", "checksum", "tool_bin_dir"} <= set(found)
