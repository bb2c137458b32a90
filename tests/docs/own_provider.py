"""The files of the page about a cloud of one's own, and what installs their package."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "how-to" / "own-provider.md"
FILES: Final = dict(
    re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", PAGE.read_text(), re.DOTALL)
)
MODULE: Final = FILES["gpu_ci_acme/__init__.py"]
TEST: Final = FILES["tests/test_acme.py"]
SECONDS: Final = 400


def save(folder: Path) -> None:
    """Save every file of the page, as its reader does."""
    for name, content in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def install(folder: Path) -> None:
    """Give the package in the folder the metadata that an installer would make of its pyproject."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n{name} = {value}\n" for group, e in groups for name, value in e.items()]
    (info / "entry_points.txt").write_text("".join(lines))


def python(
    folder: Path, arguments: Sequence[str], *paths: Path
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with these on its path, and nothing of this process' environment."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            "PYTHONPATH": ":".join(map(str, paths)),
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )


def passed(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many tests passed; all must have."""
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    (count,) = re.findall(r"(\d+) passed", done.stdout.splitlines()[-1])
    return int(count)
