"""Prints the figures of the house: how large it is, how its rooms hang together, how far a reader walks.

    uv run --all-extras --group test benchmarks/house.py [CHECKOUT [CHECKOUT]]

Of one checkout (default: this one), or of two side by side: `git worktree add /tmp/before COMMIT`.

A room is a file or a package directly under `gpu_ci`; the sandbox is none, wherever it lies. An arrow
leads from one room to another that it imports, also for its types alone; a circle is a set of rooms, or
of files, that all reach one another by arrows. A function's length is that of its `def`, with signature
and docstring and without decorators.

The walk of a story is that of a reader who follows the calls and opens each function once. The shipped
action runs as a process of its own against the stand-ins for GitHub and EC2: a start of a fresh machine,
the stop that gets its handle, and a watchdog's pass over the repository that finds nothing. A profiler
records each function of `gpu_ci` when it is entered for the first time. What runs while a module is
imported does not count, nor do lambdas and comprehensions. The main thread's walk comes first; what only
other threads enter is read after it. From the rooms of these functions, in this order:

* rooms: how many different ones there are;
* stays: how many there are when neighbours that are the same count once;
* climbs: moves to a room that was left before and that knows the room left now, directly or not;
* returns: all moves to a room that was left before, so stays less rooms.

The same a second time as a person counts it who knows the words: the rooms that every other room speaks
in (errors, the clock and the runner's commands, machines and tags) count once, when they are first met.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

ROOT: Final = Path(__file__).resolve().parents[1]
STORIES: Final = ("start", "stop", "watchdog")
STEP_SECONDS: Final = 120.0
# Long enough that a start looks at the machine and its boot log too, also beside other work.
BOOT_SECONDS: Final = 10.0
# Code objects of functions have this flag, those of modules and classes do not.
OPTIMIZED: Final = 1

# The rooms of words, by their names now and before.
WORDS: Final = {
    "errors", "model", "runtime",
    "actions", "aside", "cancellation", "identity", "machine", "waiting",
}  # fmt: skip

Arrows = dict[str, set[str]]


@dataclass(frozen=True, kw_only=True)
class House:
    """The library in a checkout, and beside it the sandbox, which was once a part of it."""

    checkout: Path

    @cached_property
    def library(self) -> dict[str, Path]:
        found = _modules(self.checkout / "shared", "gpu_ci")
        return {name: path for name, path in found.items() if not _in_sandbox(name)}

    @cached_property
    def sandbox(self) -> dict[str, Path]:
        inside = _modules(self.checkout / "shared", "gpu_ci")
        beside = _modules(self.checkout / "sandbox", "gpu_ci_sandbox")
        return beside | {name: path for name, path in inside.items() if _in_sandbox(name)}

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        return {name: ast.parse(path.read_text()) for name, path in self.library.items()}

    def lengths(self) -> list[int]:
        """Return the lines of each function, shortest first."""
        return sorted(
            (node.end_lineno or node.lineno) - node.lineno + 1
            for tree in self.trees.values()
            for node in ast.walk(tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        )

    @cached_property
    def file_arrows(self) -> Arrows:
        return {
            name: {
                each
                for node in ast.walk(tree)
                for each in self._imported(node)
                if each not in {name, "gpu_ci"}
            }
            for name, tree in self.trees.items()
        }

    def _imported(self, node: ast.AST) -> Iterator[str]:
        """Yield the library's modules that an import names; `from a import b` may mean `a.b`."""
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names if alias.name in self.library)
            case ast.ImportFrom(module=str(source)):
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    found = inner if inner in self.library else source
                    yield from (each for each in (found,) if each in self.library)
            case _:
                pass

    @cached_property
    def room_arrows(self) -> Arrows:
        arrows: Arrows = defaultdict(set)
        for name, known in self.file_arrows.items():
            arrows[room(name)] |= {room(each) for each in known}
        arrows.pop("", None)
        return {name: known - {name, ""} for name, known in arrows.items()}

    def twice(self) -> list[str]:
        """Return the module names that stand more than once, the sandbox's among them."""
        names = Counter(
            name.rpartition(".")[2] for name in (*self.library, *self.sandbox) if "." in name
        )
        return sorted(name for name, count in names.items() if count > 1)

    def lines(self, files: Iterable[Path]) -> int:
        return sum(len(path.read_text().splitlines()) for path in files)


def _modules(top: Path, package: str) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((top / package).rglob("*.py"))
    }


def _in_sandbox(name: str) -> bool:
    return name == "gpu_ci.sandbox" or name.startswith("gpu_ci.sandbox.")


def room(module: str) -> str:
    """Return the room of a module: the second part of its name."""
    return ".".join(module.split(".")[1:2])


def circles(arrows: Arrows) -> list[list[str]]:
    """Return the sets of two and more that all reach one another."""
    reached = {name: _reached(name, arrows) for name in arrows}
    found = {
        tuple(sorted({name} | {each for each in reached[name] if name in reached.get(each, ())}))
        for name in arrows
        if name in reached[name]
    }
    return [list(each) for each in sorted(found)]


def _reached(name: str, arrows: Arrows) -> set[str]:
    seen: set[str] = set()
    ahead = list(arrows.get(name, ()))
    while ahead:
        each = ahead.pop()
        if each not in seen:
            seen.add(each)
            ahead += arrows.get(each, ())
    return seen


# The walk


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A reader's way through a story, as the rooms entered one after the other."""

    stays: Sequence[str]
    climbs: int

    @classmethod
    def of(cls, entries: Iterable[str], arrows: Arrows) -> Walk:
        """Follow the rooms of the functions that a story enters."""
        stays = [name for name, _ in groupby(entries)]
        return cls._along(stays, arrows)

    def knowing_the_words(self, arrows: Arrows) -> Walk:
        """Return the walk of a reader who looks a word up once."""
        met: set[str] = set()
        kept = list[str]()
        for name in self.stays:
            if name not in met & WORDS:
                kept.append(name)
            met.add(name)
        return self._along([name for name, _ in groupby(kept)], arrows)

    @classmethod
    def _along(cls, stays: Sequence[str], arrows: Arrows) -> Walk:
        above = {name: _reached(name, arrows) for name in arrows}
        climbs = sum(
            left in above[entered] and entered in stays[:number]
            for number, (left, entered) in enumerate(pairwise(stays))
        )
        return cls(stays=stays, climbs=climbs)

    @property
    def rooms(self) -> int:
        return len(set(self.stays))

    def __str__(self) -> str:
        returns = len(self.stays) - self.rooms
        return f"{self.rooms} / {len(self.stays)} / {self.climbs} / {returns}"


@dataclass(kw_only=True)
class Tracer:
    """Records the first entry into each function of the library, thread by thread."""

    package: Path
    seen: dict[int, dict[tuple[str, str, int], str]] = field(default_factory=dict)

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(self._start):
            return
        if not code.co_flags & OPTIMIZED or code.co_name.startswith("<"):
            return
        own = self.seen.setdefault(threading.get_ident(), {})
        key = (code.co_filename, code.co_name, code.co_firstlineno)
        if key not in own and not self._is_import(frame):
            file = Path(code.co_filename).relative_to(self.package)
            own[key] = file.parts[0].removesuffix(".py")

    @cached_property
    def _start(self) -> str:
        return f"{self.package}{os.sep}"

    def _is_import(self, frame: FrameType) -> bool:
        """Say whether a module of the library is being imported, and calls this."""
        above = frame.f_back
        while above:
            code = above.f_code
            if code.co_name == "<module>" and code.co_filename.startswith(self._start):
                return True
            above = above.f_back
        return False

    def entries(self) -> list[str]:
        """Return the rooms of what the main thread entered, then of what only other threads did."""
        entered = self.seen.pop(threading.main_thread().ident or 0, {})
        for own in sorted(self.seen.values(), key=lambda each: next(iter(each))):
            entered |= {key: entry for key, entry in own.items() if key not in entered}
        return list(entered.values())


def trace(checkout: Path, entry: Path, file: Path) -> None:
    """Run an action's entry file as Python would, and write down what it entered."""
    tracer = Tracer(package=checkout / "shared" / "gpu_ci")
    sys.argv = [str(entry)]
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    try:
        runpy.run_path(str(entry), run_name="__main__")
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        file.write_text(json.dumps(tracer.entries()))


def walk_all(checkout: Path) -> dict[str, Any]:
    """Run the three stories of a checkout in a new world; this process has loaded no other one."""
    sys.path[:0] = [str(checkout / "shared"), str(checkout / "sandbox")]
    if (checkout / "sandbox").is_dir():
        aws, world = "gpu_ci_sandbox.fake_aws", "gpu_ci_sandbox.world"
    else:
        aws, world = "gpu_ci.sandbox.aws", "gpu_ci.sandbox.world"
    open_aws = __import__(aws, fromlist=["Aws"]).Aws
    open_world = __import__(world, fromlist=["open_world"]).open_world
    with (
        tempfile.TemporaryDirectory() as folder,
        open_aws() as cloud,
        open_world(Path(folder)) as made,
    ):
        return Steps(checkout=checkout, folder=Path(folder), cloud=cloud, world=made).run()


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of one world. Its stand-ins are the checkout's own, so that they are not typed here."""

    checkout: Path
    folder: Path
    cloud: Any
    world: Any

    def run(self) -> dict[str, Any]:
        self._lead_to_tracer()
        github = self.world.served.github
        self.world.extra.update(self.cloud.environment())
        self.cloud.settings.boot_seconds = BOOT_SECONDS
        self.cloud.settings.on_boot = lambda _instance_id, _script: github.set_runner(
            github.all_runners()[0].id, online=True
        )
        token = self.world.token
        start = self._step("start", provider="ec2", machine="g4dn.xlarge")
        handle = self._named("stop", "handle", "machine")
        self._step(
            "stop", provider="ec2", **{handle: start.outputs[self._output("start", "handle")]}
        )
        self._step(
            "watchdog",
            scope="repository",
            providers="ec2",
            region="us-east-1",
            github_token=token,
        )
        return {story: json.loads((self.folder / story).read_text()) for story in STORIES}

    def _lead_to_tracer(self) -> None:
        """Let `sh shared/run ENTRY` in a step become this file, with the Python that runs it."""
        programs = self.folder / "programs"
        programs.mkdir()
        shell = programs / "sh"
        shell.write_text(
            '#!/bin/bash\nexec "$HOUSE_PYTHON" "$HOUSE" --trace "$HOUSE_CHECKOUT" "$2" '
            '"$HOUSE_FOLDER/$(basename "$2" .py)"\n'
        )
        shell.chmod(0o755)
        self.world.extra |= {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOUSE": str(Path(__file__).resolve()),
            "HOUSE_PYTHON": sys.executable,
            "HOUSE_CHECKOUT": str(self.checkout),
            "HOUSE_FOLDER": str(self.folder),
        }

    def _step(self, action: str, **inputs: str) -> Any:
        step = self.world.begin(action, **inputs)
        result = step.result(STEP_SECONDS)
        if result.exit_code:
            raise SystemExit(f"{action}: {result.log}")
        return result

    def _named(self, action: str, name: str, older: str) -> str:
        text = (self.checkout / f"action-{action}" / "action.yml").read_text()
        return name if f"\n  {name}:\n" in text else older

    def _output(self, action: str, name: str) -> str:
        return self._named(action, name, "machine")


def walks(house: House) -> dict[str, Walk]:
    """Return the walk of each story of a checkout, taken in a fresh process."""
    command = [sys.executable, __file__, "--walk", str(house.checkout)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return {story: Walk.of(entries, house.room_arrows) for story, entries in found.items()}


def figures(checkout: Path) -> dict[str, str]:
    """Return each figure of a checkout by its name, as Markdown."""
    house = House(checkout=checkout)
    lengths = house.lengths()
    p90 = lengths[int(len(lengths) * 0.9)]
    longest = f"{statistics.median(lengths):g} / {p90} / {lengths[-1]}"
    rooms, files = circles(house.room_arrows), circles(house.file_arrows)
    led = sum(len(known) for known in house.room_arrows.values())
    sizes = {
        "rooms": str(len(house.room_arrows)),
        "arrows between rooms": str(led),
        "circles of rooms": _counted([_circle(each) for each in rooms]),
        "circles of files": _counted([_circle(each) for each in files]),
        "files, lines": f"{len(house.library)}, {house.lines(house.library.values()):,}",
        "functions": f"{len(lengths):,}",
        "lines of a function: median / p90 / longest": longest,
        "sandbox: files, lines": f"{len(house.sandbox)}, {house.lines(house.sandbox.values()):,}",
        "module names that stand twice": _counted(house.twice()),
    }
    taken = walks(house)
    all_of_it = {f"{story}: rooms / stays / climbs / returns": f"{w}" for story, w in taken.items()}
    arrows = house.room_arrows
    by_hand = {
        f"{story}, each word once": f"{w.knowing_the_words(arrows)}" for story, w in taken.items()
    }
    return sizes | all_of_it | by_hand


def _circle(names: Sequence[str]) -> str:
    return " ".join(name.removeprefix("gpu_ci.") for name in names)


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)}: {', '.join(names)}" if names else "0"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--walk", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trace", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trace:
        trace(*arguments.trace)
    elif arguments.walk:
        print(json.dumps(walk_all(arguments.walk.resolve())))
    else:
        columns = [figures(each.resolve()) for each in arguments.checkouts]
        heads = ("before", "now")[-len(columns) :]
        print("| |", *(f"{head} |" for head in heads))
        print("|" + "---|" * (len(columns) + 1))
        for name in columns[0]:
            print(f"| {name} |", *(f"{column[name]} |" for column in columns))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
