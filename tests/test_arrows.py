"""Who may know whom, who may sleep, and what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SHARED = ROOT / "shared"
PACKAGE = SHARED / "gpu_ci"
MODULES = {
    ".".join(path.relative_to(SHARED).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
PROVIDERS = [name for name in MODULES if name.startswith("gpu_ci.providers.")]
UV = [name for name in MODULES if name == "gpu_ci.uv" or name.startswith("gpu_ci.uv.")]
SANDBOX = [name for name in MODULES if name.startswith("gpu_ci.sandbox")]
PROFILES = [name for name in MODULES if name.startswith("gpu_ci.profiles.")]
INIT = [name for name in MODULES if name == "gpu_ci.init" or name.startswith("gpu_ci.init.")]
OUTSIDE = [name for name in MODULES if name not in SANDBOX]
# What the story of a start, a stop or a watchdog is made of, and no provider may know.
STORY = (
    "gpu_ci.actions", "gpu_ci.cli", "gpu_ci.cost", "gpu_ci.doctor", "gpu_ci.gate", "gpu_ci.gating",
    "gpu_ci.give_back", "gpu_ci.github", "gpu_ci.github_api", "gpu_ci.github_app", "gpu_ci.github_cures", "gpu_ci.inputs", "gpu_ci.keeping", "gpu_ci.lock",
    "gpu_ci.needs", "gpu_ci.online", "gpu_ci.plan", "gpu_ci.profiles", "gpu_ci.init",
    "gpu_ci.rental", "gpu_ci.report", "gpu_ci.sandbox", "gpu_ci.setup_uv", "gpu_ci.start",
    "gpu_ci.stop", "gpu_ci.uv", "gpu_ci.watchdog", "gpu_ci.watching",
)  # fmt: skip
# What setting uv up has nothing to do with: it rents nothing, and asks GitHub nothing.
RENTING = (
    "gpu_ci.boot", "gpu_ci.cost", "gpu_ci.doctor", "gpu_ci.gate", "gpu_ci.gating", "gpu_ci.give_back", "gpu_ci.github", "gpu_ci.github_api",
    "gpu_ci.github_app", "gpu_ci.identity", "gpu_ci.keeping", "gpu_ci.lock", "gpu_ci.machine",
    "gpu_ci.needs", "gpu_ci.online", "gpu_ci.plan", "gpu_ci.profiles", "gpu_ci.init", "gpu_ci.providers", "gpu_ci.rental",
    "gpu_ci.start", "gpu_ci.stop", "gpu_ci.watchdog", "gpu_ci.watching",
)  # fmt: skip
PURE = [
    f"gpu_ci.{name}"
    for name in (
        "cost.budget", "cost.days", "cost.entry", "cost.mermaid", "cost.split", "cost.table",
        "gating.verdict", "identity", "inputs", "machine", "needs", "plan", "report", "watching.findings",
        "watching.waits",
    )
]  # fmt: skip
INPUT_AND_OUTPUT = {
    "asyncio", "github", "http", "io", "os", "pathlib", "requests", "shutil", "signal", "socket",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
# What only some need, and the modules below which it may be loaded with them.
OPTIONAL = {
    "asyncssh": (),
    "boto3": (),
    "botocore": (),
    "flask": SANDBOX,
    "matplotlib": (),
    "packaging": UV,
    "werkzeug": SANDBOX,
    "yaml": (*SANDBOX, *PROFILES, *INIT),
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imported(node: ast.AST) -> list[str]:
    """Return the modules that one import statement names; `from a import b` may mean `a.b`."""
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            assert node.level == 0, "relative imports are not used here"
            source = node.module or ""
            return [source, *(f"{source}.{alias.name}" for alias in node.names)]
        case _:
            return []


def imports(module: str) -> set[str]:
    """Return every module that this one imports anywhere, also for its types alone."""
    return {name for node in ast.walk(tree(module)) for name in imported(node)}


def below(names: set[str], *tops: str) -> set[str]:
    """Return the names that are one of these modules or inside one."""
    return {name for name in names for top in tops if name == top or name.startswith(f"{top}.")}


def at_once(nodes: list[ast.stmt]) -> Iterator[str]:
    """Yield what is imported as soon as the module is, `if TYPE_CHECKING` left out."""
    for node in nodes:
        yield from imported(node)
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from at_once(node.orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                continue
            case _:
                inner = [
                    child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
                ]
                yield from at_once(inner)


def test_the_modules_are_found() -> None:
    """The checks below look at something."""
    assert "gpu_ci.providers.local" in PROVIDERS
    assert "gpu_ci.sandbox.step" in SANDBOX
    assert "gpu_ci.uv.fetching" in UV
    assert set(PURE) <= set(OUTSIDE)
    assert set(RENTING) <= set(MODULES)
    assert imports("gpu_ci.start") >= {"gpu_ci.github", "gpu_ci.rental.Rental"}


@pytest.mark.parametrize("module", ["gpu_ci.providers", *PROVIDERS])
def test_a_provider_knows_its_cloud_only(module: str) -> None:
    """Nothing of GitHub, and nothing of the story that it is part of."""
    assert below(imports(module), *STORY) == set()


@pytest.mark.parametrize("module", PROVIDERS)
def test_providers_do_not_know_each_other(module: str) -> None:
    """One cloud is one module or one package."""
    others = {name for name in PROVIDERS if name.split(".")[2] != module.split(".")[2]}
    assert below(imports(module), *others) == set()


@pytest.mark.parametrize("module", ["gpu_ci.github", "gpu_ci.github_api", "gpu_ci.github_app"])
def test_github_knows_no_provider(module: str) -> None:
    """They meet in the story, as strings and dataclasses."""
    stories = ("gpu_ci.rental", "gpu_ci.start", "gpu_ci.stop", "gpu_ci.watchdog", "gpu_ci.watching")
    assert below(imports(module), "gpu_ci.providers", *stories) == set()


@pytest.mark.parametrize("module", [name for name in MODULES if "gpu_ci.watching" in name])
def test_what_is_watched_knows_no_cloud(module: str) -> None:
    """Its parts meet in the story of a watchdog; there the providers are named, by their protocol
    alone, and nothing of a start or a stop is known."""
    stories = ("gpu_ci.cli", "gpu_ci.rental", "gpu_ci.start", "gpu_ci.stop", "gpu_ci.watchdog")
    assert below(imports(module), *PROVIDERS, *stories) == set()


@pytest.mark.parametrize("module", ["gpu_ci.setup_uv", *UV])
def test_setting_uv_up_rents_nothing(module: str) -> None:
    """It knows no cloud and not GitHub: it runs on a machine that somebody else has rented."""
    assert below(imports(module), *RENTING) == set()


@pytest.mark.parametrize("module", UV)
def test_the_parts_of_setting_uv_up_do_not_know_their_story(module: str) -> None:
    """They can be read and tested one by one."""
    assert below(imports(module), "gpu_ci.setup_uv", "gpu_ci.cli") == set()


def test_only_fetching_asks_the_network() -> None:
    """Where a uv comes from can be looked up in one file, and a second run has no need of it."""
    network = ("requests", "urllib3", "urllib.request", "http.client", "socket")
    story = ["gpu_ci.setup_uv", *UV]
    assert [name for name in story if below(imports(name), *network)] == ["gpu_ci.uv.fetching"]
    early = [name for name in story if "gpu_ci.uv.fetching" in set(at_once(tree(name).body))]
    assert early == []


@pytest.mark.parametrize("module", PURE)
def test_what_is_pure_does_no_input_and_output(module: str) -> None:
    """It computes from its arguments: it imports nothing that does more, and opens nothing."""
    assert below(set(at_once(tree(module).body)), *INPUT_AND_OUTPUT) == set()
    calls = (node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call))
    assert [
        call.id for call in calls if isinstance(call, ast.Name) and call.id in {"open", "print"}
    ] == []


@pytest.mark.parametrize("module", [name for name in OUTSIDE if name != "gpu_ci.waiting"])
def test_only_waiting_sleeps(module: str) -> None:
    """Everything else waits by a clock that a test can replace."""
    sleeps = [
        ast.unparse(node)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"time.sleep", "asyncio.sleep"}
    ]
    assert sleeps == []
    assert "time.sleep" not in imports(module)


def test_waiting_sleeps() -> None:
    """The one place is where it is said to be."""
    assert "time.sleep(" in MODULES["gpu_ci.waiting"].read_text()


@pytest.mark.parametrize("module", OUTSIDE)
def test_the_library_does_not_need_its_sandbox(module: str) -> None:
    """The stand-ins are no part of a start; only the demo of the terminal loads them."""
    allowed = (
        {
            "gpu_ci.sandbox.demo",
            "gpu_ci.sandbox.demo.demo",
            "gpu_ci.sandbox.serve",
            "gpu_ci.sandbox.serve.serve",
        }
        if module == "gpu_ci.cli"
        else set()
    )
    assert below(imports(module), "gpu_ci.sandbox") <= allowed


@pytest.mark.parametrize("package", OPTIONAL)
def test_what_only_some_need_is_loaded_late(package: str) -> None:
    """A step installs the SDK of its own provider alone, and no web server."""
    early = {name for name in MODULES if below(set(at_once(tree(name).body)), package)}
    assert early - set(OPTIONAL[package]) == set()


@pytest.mark.parametrize(
    "story", ["gpu_ci.gate", "gpu_ci.start", "gpu_ci.stop", "gpu_ci.watchdog", "gpu_ci.cli"]
)
def test_a_story_loads_no_package_that_it_may_lack(story: str) -> None:
    """Asked of a fresh interpreter, so that no import behind another one is missed."""
    script = f"import {story}, sys; print(*sorted({set(OPTIONAL)} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(SHARED)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert loaded.stdout.split() == []


@pytest.mark.parametrize("action", sorted(path.parent.name for path in ROOT.glob("action-*/*.py")))
def test_an_entry_file_is_short(action: str) -> None:
    """It tells the order of events and nothing else."""
    for entry in (ROOT / action).glob("*.py"):
        assert len(entry.read_text().splitlines()) <= 60


@pytest.mark.parametrize("module", MODULES)
def test_a_file_says_what_it_is(module: str) -> None:
    """Its first line is a sentence, and its name is no drawer for anything."""
    docstring = ast.get_docstring(tree(module)) or ""
    assert docstring.split("\n\n")[0].endswith(".")
    drawers = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
    assert module.rpartition(".")[2] not in drawers
