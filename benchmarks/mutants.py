"""Makes the slips of mutants.toml one at a time, and sees whether the tests notice.

    uv run --all-extras --group test benchmarks/mutants.py [--only NAME ...] [--list | --stale]
        [--table FILE]

Each mutant is one change of one file, in a copy of the tree. The tests that should notice it run until
the first one fails; before, all of them are run without a change, since a test that fails anyway notices
nothing. The exit code is 1 if the table has fewer than 80 rows, if a row does not fit its file any more, if the
tests fail without a change, or if fewer than 95 % of the mutants are killed. `--stale` only looks at the
table.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
TABLE: Final = Path(__file__).with_suffix(".toml")
GOAL: Final = 0.95
LEAST: Final = 80
WORKERS: Final = 2
# A mutant may wait for ever; no test that is named here takes a quarter of that.
TEST_SECONDS: Final = 60
# pytest's exit codes.
PASSED: Final = 0
FAILED: Final = 1

Outcome = Literal["killed", "survived", "stale", "broken"]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One slip: `old` in the file becomes `new`, and one of the tests is to fail."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def fits(self, root: Path) -> bool:
        """Say whether the old text stands exactly once in the file, and the tests are there."""
        return (
            bool(self.tests)
            and self.old != self.new
            and (root / self.path).is_file()
            and (root / self.path).read_text().count(self.old) == 1
            and all(_is_there(root, test) for test in self.tests)
        )


def _is_there(root: Path, test: str) -> bool:
    """Say whether the file is there, and the function in it if one is named."""
    file, _, function = test.partition("::")
    begin = f"\ndef {function}(" if function else ""
    return (root / file).is_file() and begin in (root / file).read_text()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a mutant, and the last lines that the tests printed."""

    mutant: Mutant
    outcome: Outcome
    seconds: float = 0.0
    said: str = ""


def read_table(table: Path = TABLE) -> list[Mutant]:
    """Return the rows, in their order. Raises KeyError for a row that lacks something."""
    return [
        Mutant(
            name=row["name"],
            path=file["path"],
            old=row["old"],
            new=row["new"],
            tests=tuple(dict.fromkeys([*row.get("tests", ()), *file["tests"]])),
        )
        for file in tomllib.loads(table.read_text())["file"]
        for row in file["mutant"]
    ]


def stale(mutants: Sequence[Mutant], root: Path = ROOT) -> list[str]:
    """Return the names of the rows that do not fit the tree."""
    return [mutant.name for mutant in mutants if not mutant.fits(root)]


def copy_tree(folder: Path) -> Path:
    """Copy what git knows of, and what is new, without the history."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():  # not one that is deleted and not committed yet
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def run_tests(folder: Path, tests: Sequence[str], *options: str) -> tuple[int, str]:
    """Run tests in a copy; return pytest's exit code and the end of what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [*command, f"--timeout={TEST_SECONDS}", *options, *tests],
        cwd=folder,
        # Two changes within a second may leave a file as large as it was: no bytecode is kept.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, "\n".join(done.stdout.splitlines()[-12:])


def try_one(folder: Path, mutant: Mutant) -> Result:
    """Make the slip in a copy of the tree, run its tests, and take it back."""
    if not mutant.fits(folder):
        return Result(mutant=mutant, outcome="stale")
    file, began = folder / mutant.path, time.monotonic()
    text = file.read_text()
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        code, said = run_tests(folder, mutant.tests, "-x")
    finally:
        file.write_text(text)
    # Anything but a test that fails, such as a module that cannot be imported, is no slip.
    outcomes: dict[int, Outcome] = {PASSED: "survived", FAILED: "killed"}
    outcome = outcomes.get(code, "broken")
    return Result(mutant=mutant, outcome=outcome, seconds=time.monotonic() - began, said=said)


def try_all(mutants: Sequence[Mutant], workers: int) -> Iterator[Result]:
    """Yield what comes of each mutant, in their order. Raises SystemExit where tests fail anyway."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as top:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(workers):
            folders.put(copy_tree(Path(top) / str(number)))
        _refuse_red(Path(top) / "0", mutants)

        def in_a_copy(mutant: Mutant) -> Result:
            folder = folders.get()
            try:
                return try_one(folder, mutant)
            finally:
                folders.put(folder)

        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(in_a_copy, mutants)


def _refuse_red(folder: Path, mutants: Sequence[Mutant]) -> None:
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    code, said = run_tests(folder, tests, f"-n{WORKERS}")
    if code != PASSED:
        raise SystemExit(f"The tests fail without any change:\n{said}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants")
    parser.add_argument("--list", action="store_true", help="print the names, and run nothing")
    parser.add_argument("--stale", action="store_true", help="only look whether each row fits")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--table", type=Path, default=TABLE, help="another table than mutants.toml")
    arguments = parser.parse_args()
    known = read_table(arguments.table)
    mutants = [each for each in known if arguments.only is None or each.name in arguments.only]
    if unknown := set(arguments.only or ()) - {each.name for each in known}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    if arguments.list:
        print(*(f"{each.name:48} {each.path}" for each in mutants), sep="\n")
        return 0
    if arguments.only is None and len(known) < LEAST:
        print(f"The table has {len(known)} rows; it is to have at least {LEAST}.")
        return 1
    if old := stale(mutants):
        print(f"These rows do not fit their files any more: {', '.join(old)}.")
        return 1
    return 0 if arguments.stale else _report(try_all(mutants, arguments.workers), len(mutants))


def _report(results: Iterator[Result], count: int) -> int:
    """Print each result as it comes, and the sum; return the exit code."""
    killed, broken = 0, []
    for result in results:
        killed += result.outcome == "killed"
        print(f"{result.outcome:8} {result.seconds:5.0f} s  {result.mutant.name}", flush=True)
        if result.outcome in {"broken", "stale"}:
            broken.append(result.mutant.name)
            print(result.said)
    print(f"{killed} of {count} killed: {killed / count:.1%}")
    if broken:
        print(f"No slips: {', '.join(broken)}.")
    return int(bool(broken) or killed < GOAL * count)


if __name__ == "__main__":
    sys.exit(main())
