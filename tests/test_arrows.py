"""Who may know whom, who may sleep, and what is loaded when."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
SHARED = ROOT / "shared"
SANDBOX = ROOT / "sandbox"
# The rooms of the library, from the ground up, and the rooms that each may know.
GROUND = {"errors"}
WORLDS = GROUND | {"runtime", "model", "boot"}
ROOMS: Final[Mapping[str, set[str]]] = {
    "errors": set(),
    "runtime": GROUND,
    "model": GROUND,
    "boot": GROUND,
    "providers": WORLDS,
    "inputs": WORLDS | {"providers"},
    "github": WORLDS,
    "profiles": WORLDS | {"providers", "inputs", "github"},
    "ledger": WORLDS | {"github"},
    "release": WORLDS | {"providers", "github"},
    "kept": WORLDS | {"providers", "github", "release"},
    # The stories: none knows another.
    "start": WORLDS | {"providers", "inputs", "github", "profiles", "ledger", "release", "kept"},
    "stop": WORLDS | {"providers", "inputs", "github", "profiles", "ledger", "release", "kept"},
    "watchdog": WORLDS | {"providers", "inputs", "github", "release", "kept"},
    "gate": WORLDS | {"inputs", "github", "profiles"},
    "setup_uv": GROUND | {"runtime", "inputs"},
    "cost": GROUND | {"runtime", "inputs", "github", "ledger"},
    "init": GROUND | {"providers", "profiles"},
    "cli": GROUND | {"runtime", "inputs", "start", "stop", "watchdog", "setup_uv", "cost", "init"},
}
PURE = {
    f"gpu_ci.{name}"
    for name in (
        "cost.days", "cost.mermaid", "cost.table", "gate.verdict", "inputs.github_inputs",
        "inputs.reader", "inputs.start_inputs", "inputs.stop_inputs", "inputs.watchdog_inputs",
        "ledger.entry", "ledger.split", "model.budget", "model.identity", "model.machine",
        "model.tags", "release.still_needed", "start.plan", "start.summary",
        "watchdog.report", "watchdog.waits",
    )
}  # fmt: skip
INPUT_AND_OUTPUT = {
    "asyncio", "github", "http", "io", "os", "pathlib", "requests", "shutil", "signal", "socket",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
# What only some need, and the rooms that may load it at once.
OPTIONAL: Final[Mapping[str, set[str]]] = {
    "asyncssh": set(),
    "boto3": set(),
    "botocore": set(),
    "flask": set(),
    "github": set(),
    "matplotlib": set(),
    "packaging": {"setup_uv"},
    "werkzeug": set(),
    "yaml": {"profiles", "init"},
}


def _modules(top: Path) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(top.rglob("*.py"))
    }


MODULES = {name: path for name, path in _modules(SHARED).items() if name.startswith("gpu_ci")}
STAND_INS = _modules(SANDBOX)


def room(module: str) -> str:
    """Return the room of a module: the second part of its name."""
    return ".".join(module.split(".")[1:2])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


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


def imports(path: Path) -> set[str]:
    """Return every module that a file imports anywhere, also for its types alone."""
    return {name for node in ast.walk(tree(path)) for name in imported(node)}


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


def loaded(path: Path) -> set[str]:
    return set(at_once(tree(path).body))


def test_every_room_is_in_the_table() -> None:
    """The table is the whole house, and every room stands above those that it may know."""
    assert {room(name) for name in MODULES} - {""} == set(ROOMS)
    built: set[str] = set()
    for name, known in ROOMS.items():
        assert known <= built, name
        built.add(name)


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_knows_only_the_rooms_of_the_table(name: str) -> None:
    """Also for its types alone: so nothing goes round in a circle."""
    files = [path for module, path in MODULES.items() if room(module) == name]
    known = {room(each) for path in files for each in below(imports(path), "gpu_ci")}
    assert known - {"", name} <= ROOMS[name]


@pytest.mark.parametrize("name", ROOMS)
def test_the_parts_of_a_story_do_not_know_it(name: str) -> None:
    """They can be read and tested one by one: `gpu_ci.start` knows its plan, not the other way round."""
    own = f"gpu_ci.{name}"
    parts = [path for module, path in MODULES.items() if module.startswith(f"{own}.")]
    up = {
        f"{path.name} imports {alias.name} from {own}"
        for path in parts
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module == own
        for alias in node.names
        if f"{own}.{alias.name}" not in MODULES
    }
    # A provider's own package knows the contract, which is in the package of all providers.
    assert name == "providers" or up == set()


def test_providers_do_not_know_each_other() -> None:
    """One cloud is one module or one package."""
    clouds = {name for name in MODULES if name.startswith("gpu_ci.providers.")}
    shared_by_all = {
        f"gpu_ci.providers.{name}" for name in ("about", "defaults", "entry_points", "http")
    }
    for name in clouds - shared_by_all:
        own = ".".join(name.split(".")[:3])
        others = {each for each in clouds - shared_by_all if ".".join(each.split(".")[:3]) != own}
        assert below(imports(MODULES[name]), *others) == set(), name


def test_only_fetching_asks_the_network_for_a_uv() -> None:
    """Where a uv comes from can be looked up in one file, and a second run has no need of it."""
    network = ("requests", "urllib3", "urllib.request", "http.client", "socket")
    story = {name: path for name, path in MODULES.items() if room(name) == "setup_uv"}
    asking = [name for name, path in story.items() if below(imports(path), *network)]
    assert asking == ["gpu_ci.setup_uv.download"]
    assert [name for name, path in story.items() if asking[0] in loaded(path)] == []


def test_what_is_pure_does_no_input_and_output() -> None:
    """It computes from its arguments: it imports nothing that does more, and opens nothing."""
    assert set(MODULES) >= PURE
    for name in PURE:
        assert below(loaded(MODULES[name]), *INPUT_AND_OUTPUT) == set(), name
        calls = (node.func for node in ast.walk(tree(MODULES[name])) if isinstance(node, ast.Call))
        names = {call.id for call in calls if isinstance(call, ast.Name)}
        assert names & {"open", "print"} == set(), name


def test_only_the_clock_sleeps() -> None:
    """Everything else waits by a clock that a test can replace."""
    sleeping = {
        name
        for name, path in MODULES.items()
        for node in ast.walk(tree(path))
        if (
            isinstance(node, ast.Attribute) and ast.unparse(node) in {"time.sleep", "asyncio.sleep"}
        )
        or "time.sleep" in imported(node)
    }
    assert sleeping == {"gpu_ci.runtime.clock"}


def test_the_library_does_not_need_its_sandbox() -> None:
    """The stand-ins are a package of their own; only the terminal's demo loads them, when it is called."""
    asking = {name for name, path in MODULES.items() if below(imports(path), "gpu_ci_sandbox")}
    assert asking == {"gpu_ci.cli"}
    assert below(loaded(MODULES["gpu_ci.cli"]), "gpu_ci_sandbox") == set()


@pytest.mark.parametrize("package", OPTIONAL)
def test_what_only_some_need_is_loaded_late(package: str) -> None:
    """A step installs the SDK of its own provider alone, and no web server."""
    early = {room(name) for name, path in MODULES.items() if below(loaded(path), package)}
    assert early <= OPTIONAL[package]


@pytest.mark.parametrize("story", ["gate", "start", "stop", "watchdog", "cli"])
def test_a_story_loads_no_package_that_it_may_lack(story: str) -> None:
    """Asked of a fresh interpreter, so that no import behind another one is missed."""
    may_lack = {*OPTIONAL, "gpu_ci_sandbox"}
    script = f"import gpu_ci.{story}, sys; print(*sorted({may_lack} & set(sys.modules)))"
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(SHARED)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.stdout.split() == []


@pytest.mark.parametrize("action", sorted(path.parent.name for path in ROOT.glob("action-*/*.py")))
def test_an_entry_file_is_short(action: str) -> None:
    """It names the story and nothing else."""
    for entry in (ROOT / action).glob("*.py"):
        assert len(entry.read_text().splitlines()) <= 60


def test_no_name_stands_twice() -> None:
    """A file's name says what it is, wherever it is read."""
    names = Counter(
        name.rpartition(".")[2] for name in (*MODULES, *STAND_INS) if name.count(".") > 0
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_a_file_says_what_it_is() -> None:
    """Its first line is a sentence, and its name is no drawer for anything."""
    drawers = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
    for name, path in {**MODULES, **STAND_INS}.items():
        docstring = ast.get_docstring(tree(path)) or ""
        assert docstring.split("\n\n")[0].endswith("."), name
        assert name.rpartition(".")[2] not in drawers
