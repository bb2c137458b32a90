"""Which uv is wanted: by the input, by a file of the project, or the one that this action is tested with."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from gpu_ci.errors import BadInputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from packaging.version import Version

    from gpu_ci.uv.inputs import SetupUvInputs

LATEST: Final = "latest"
EXACT: Final = re.compile(r"(?:==)?v?(\d+\.\d+\.\d+)")
SERIES: Final = re.compile(r"(\d+(?:\.\d+)?)(?:\.[x*])?")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`specifier` is what is allowed, `exact` the version if only one is, and `source` who says so."""

    specifier: SpecifierSet
    source: str
    exact: str = ""
    latest: bool = False

    def allows(self, version: Version) -> bool:
        """Say whether a version will do; a pre-release only if it is asked for."""
        return self.specifier.contains(version)

    def __str__(self) -> str:
        return self.exact or (LATEST if self.latest else str(self.specifier))


def read_wanted(inputs: SetupUvInputs, pinned: str) -> Wanted:
    """Return what is wanted: the input, `version-file`, `uv.toml`, `pyproject.toml`, or the pinned one.

    Raises BadInputs for what cannot be read as a version.
    """
    if inputs.version:
        return parse(inputs.version, "the input version")
    if file := inputs.folder("version-file"):
        if found := _from_file(file):
            return found
        raise BadInputs([f"version-file: {file} names no version of uv, or cannot be read."])
    for name in ("uv.toml", "pyproject.toml"):
        if found := _from_file(inputs.working_directory / name):
            return found
    return parse(pinned, "the one that this action pins")


def parse(text: str, source: str) -> Wanted:
    """Read an exact version, a series (0.9, 0.9.x), a range (>=0.8,<0.10) or `latest`."""
    text = text.strip()
    if text in {LATEST, "latest-known"}:
        return Wanted(specifier=SpecifierSet(), source=source, latest=True)
    if exact := EXACT.fullmatch(text):
        return Wanted(specifier=SpecifierSet(f"=={exact[1]}"), source=source, exact=exact[1])
    if series := SERIES.fullmatch(text):
        return Wanted(specifier=SpecifierSet(f"=={series[1]}.*"), source=source)
    try:
        return Wanted(specifier=SpecifierSet(text), source=source)
    except InvalidSpecifier:
        raise BadInputs(
            [f"{source} is {text!r}; write a version (0.12.5), a range (>=0.12,<0.13) or latest."]
        ) from None


def _from_file(file: Path) -> Wanted | None:
    """Return what a file says of uv, None if it is not there or says nothing."""
    reader = READERS.get(file.name, _from_requirements if file.suffix in {".txt", ".in"} else None)
    try:
        text = file.read_text() if reader else ""
    except (OSError, UnicodeDecodeError):
        return None
    found = next(iter(reader(text)), "") if reader else ""
    return parse(found, str(file.name)) if found else None


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _from_uv_toml(text: str) -> Iterator[str]:
    yield _text(_toml(text).get("required-version"))


def _from_pyproject(text: str) -> Iterator[str]:
    tool = _toml(text).get("tool")
    uv = tool.get("uv") if isinstance(tool, dict) else None
    yield _text(uv.get("required-version") if isinstance(uv, dict) else None)


def _from_tool_versions(text: str) -> Iterator[str]:
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    yield from (words[1] for words in lines if len(words) > 1 and words[0] == "uv")


def _from_requirements(text: str) -> Iterator[str]:
    for line in text.splitlines():
        try:
            found = Requirement(line.partition(" #")[0].strip())
        except InvalidRequirement:
            continue
        if found.name == "uv" and found.specifier:
            yield str(found.specifier)


def _from_lock(text: str) -> Iterator[str]:
    packages = _toml(text).get("package", [])
    yield from (each["version"] for each in packages if each.get("name") == "uv")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


READERS: Final[dict[str, Callable[[str], Iterator[str]]]] = {
    "uv.toml": _from_uv_toml,
    "pyproject.toml": _from_pyproject,
    ".tool-versions": _from_tool_versions,
    "uv.lock": _from_lock,
}
