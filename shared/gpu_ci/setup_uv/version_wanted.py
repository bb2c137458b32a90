"""Which uv is wanted: by the input, by a file of the project, or the one that this action is tested with."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from gpu_ci.errors import BadInputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from packaging.version import Version

    from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
    from gpu_ci.setup_uv.host import Host

    Reader = Callable[[str], Iterable[str]]

LATEST: Final = "latest"
# The newest that the action itself has checksums for: the pinned one.
LATEST_KNOWN: Final = "latest-known"
EXACT: Final = re.compile(r"(?:===?\s*)?v?(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)")
SERIES: Final = re.compile(r"v?(\d+(?:\.\d+)?)(?:\.[xX*])?")
# npm's ranges, which the popular action takes too: ^0.9.3, ~0.9.
COMPATIBLE: Final = re.compile(r"([\^~])\s*v?(\d+)\.(\d+(?:\.\d+)?)")
# What uv takes for no in an environment variable.
NO: Final = {"", "0", "false", "f", "no", "n", "off"}
SYSTEM: Final = Path("/etc")
BETWEEN_COMPARISONS: Final = re.compile(r"(?<=[\dxX*])\s+(?=[<>=!~])")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """`specifier` is what is allowed, `exact` the version if only one is, and `source` who says so."""

    specifier: SpecifierSet
    source: str
    exact: str = ""
    latest: bool = False

    def allows(self, version: Version) -> bool:
        """Say whether a version will do; a pre-release only if it is asked for."""
        return self.specifier.contains(version, prereleases=bool(self.specifier.prereleases))

    def __str__(self) -> str:
        return self.exact or (LATEST if self.latest else str(self.specifier))


def read_wanted(inputs: SetupUvInputs, pinned: str, host: Host) -> Wanted:
    """Return what is wanted: by the input, `version-file`, uv's configuration, or the pinned one.

    Raises BadInputs for what cannot be read as a version, and for a checksum without an exact version.
    """
    wanted = _from_inputs(inputs, pinned) or _from_configuration_of(inputs.working_directory, host)
    wanted = wanted or parse(pinned, "this action")
    if inputs.checksum and not wanted.exact:
        raise _bad(
            f"checksum is for one exact version, and {wanted.source} wants {wanted}; give version as "
            "an exact one, such as 0.12.5."
        )
    return wanted


def parse(text: str, source: str) -> Wanted:
    """Read an exact version, a series (0.9, 0.9.x), a range (>=0.8,<0.10; ^0.9.3) or `latest`."""
    text = text.strip()
    if text == LATEST:
        return Wanted(specifier=SpecifierSet(), source=source, latest=True)
    if exact := EXACT.fullmatch(text):
        return exactly(exact[1], source)
    try:
        return Wanted(specifier=SpecifierSet(_range(text)), source=source)
    except InvalidSpecifier:
        raise _bad(
            f"{source} wants uv {text!r}, which is not a version: write an exact one (0.12.5), a range "
            "(>=0.12,<0.13) or latest."
        ) from None


def exactly(version: str, source: str) -> Wanted:
    """Want this version and no other."""
    return Wanted(specifier=SpecifierSet(f"=={version}"), source=source, exact=version)


def _bad(text: str) -> BadInputs:
    return BadInputs([text])


def _range(text: str) -> str:
    """Return a range as PEP 440 writes it."""
    if series := SERIES.fullmatch(text):
        return f"=={series[1]}.*"
    if found := COMPATIBLE.fullmatch(text):
        sign, major, rest = found.groups()
        same = major if sign == "^" and major != "0" else f"{major}.{rest.partition('.')[0]}"
        return f">={major}.{rest},=={same}.*"
    return BETWEEN_COMPARISONS.sub(",", text)


def _from_inputs(inputs: SetupUvInputs, pinned: str) -> Wanted | None:
    if inputs.version:
        text = pinned if inputs.version == LATEST_KNOWN else inputs.version
        return parse(text, "the input version")
    if not (file := inputs.folder("version-file")):
        return None
    if found := _from_file(file, _reader(file)):
        return found
    raise _bad(
        f"version-file: {file} names no version of uv, or cannot be read. It can be "
        f"{', '.join(VERSION_FILES)}, or a file of requirements (.txt, .in)."
    )


def _from_configuration_of(folder: Path, host: Host) -> Wanted | None:
    """Return what the first of uv's configurations that has a required-version asks for."""
    for file, settings in _configurations(folder, host):
        if required := _text(settings.get("required-version")):
            return parse(required, str(file))
    return None


def _configurations(folder: Path, host: Host) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield those that uv itself merges: the project's nearest, the user's, and one of the system's.

    Or the one that UV_CONFIG_FILE names, or none with UV_NO_CONFIG: see uv's documentation,
    "Configuration files".
    """
    if named := host.job.get("UV_CONFIG_FILE", ""):
        yield from _there([folder / named])
    elif host.job.get("UV_NO_CONFIG", "").lower() in NO:
        for files in (_of_project(folder), _of_user(host), _of_system(host)):
            yield from islice(_there(files), 1)


def _there(files: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files that configure uv, with what they say; a pyproject.toml need not."""
    for file in files:
        settings = _settings(file)
        if isinstance(settings, dict):
            yield file, settings


def _settings(file: Path) -> object:
    try:
        read = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    return _table(read, "tool").get("uv") if file.name == "pyproject.toml" else read


def _of_project(folder: Path) -> Iterator[Path]:
    for parent in (folder, *folder.parents):
        yield from (parent / "uv.toml", parent / "pyproject.toml")


def _of_user(host: Host) -> Iterator[Path]:
    told = Path(host.job.get("XDG_CONFIG_HOME", ""))
    if told.is_absolute():
        yield told / "uv" / "uv.toml"
    elif host.home:
        yield host.home / ".config" / "uv" / "uv.toml"


def _of_system(host: Host) -> Iterator[Path]:
    told = host.job.get("XDG_CONFIG_DIRS", "") or str(SYSTEM / "xdg")
    for folder in filter(None, told.split(":")):
        yield Path(folder, "uv", "uv.toml")
    yield SYSTEM / "uv" / "uv.toml"


def _reader(file: Path) -> Reader:
    return VERSION_FILES.get(file.name, _from_requirements)


def _from_file(file: Path, reader: Reader) -> Wanted | None:
    """Return what a file says of uv, None if it is not there or says nothing."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = next(filter(None, reader(text)), "")
    return parse(found, str(file)) if found else None


def _from_configuration(text: str) -> Iterator[str]:
    yield _text(_toml(text).get("required-version"))


def _from_pyproject(text: str) -> Iterator[str]:
    read = _toml(text)
    yield _text(_table(read, "tool", "uv").get("required-version"))
    groups = (_table(read, "dependency-groups"), _table(read, "project", "optional-dependencies"))
    yield from _of_requirements(_table(read, "project").get("dependencies"))
    for group in (group for table in groups for group in table.values()):
        yield from _of_requirements(group)


def _from_tool_versions(text: str) -> Iterator[str]:
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    yield from (words[1] for words in lines if len(words) > 1 and words[0] == "uv")


def _from_requirements(text: str) -> Iterator[str]:
    """Yield what a file for pip asks for; comments, options and continued lines are dropped."""
    yield from _of_requirements(
        [re.split(r"\s+(?:#|--|\\)", line)[0] for line in text.splitlines()]
    )


def _of_requirements(lines: object) -> Iterator[str]:
    from packaging.requirements import (  # noqa: PLC0415 -- 10 ms that most jobs do not need
        InvalidRequirement,
        Requirement,
    )

    for line in filter(_text, lines if isinstance(lines, list) else ()):
        try:
            found = Requirement(line.strip())
        except InvalidRequirement:
            continue
        if found.name.lower() == "uv":
            yield str(found.specifier)


def _from_lock(text: str) -> Iterator[str]:
    for name, version in re.findall(LOCKED, text, re.MULTILINE):
        if name == "uv":
            yield version


def _toml(text: str) -> dict[str, Any]:
    """Return what a file holds, nothing if it is broken: uv itself warns and goes on then."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _table(read: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        found = read.get(name)
        read = found if isinstance(found, dict) else {}
    return read


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# The first lines of a package in uv.lock; a lock is long, and parsing all of it takes a second.
LOCKED: Final = r'^name = "([^"]+)"\nversion = "([^"]+)"$'
VERSION_FILES: Final[dict[str, Reader]] = {
    "uv.toml": _from_configuration,
    "pyproject.toml": _from_pyproject,
    ".tool-versions": _from_tool_versions,
    "uv.lock": _from_lock,
}
