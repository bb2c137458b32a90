"""Where a uv can be had from, and which checksum what comes must have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.version import InvalidVersion, Version

from gpu_ci.errors import NotFetched

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gpu_ci.uv.fetching import Fetcher
    from gpu_ci.uv.host import Host
    from gpu_ci.uv.wanted import Wanted

# A lock of this project, beside the library: what is pinned, with the index's own checksums.
LOCK: Final = Path(__file__).parents[3] / "uv.lock"
RELEASES: Final = "https://github.com/astral-sh/uv/releases/download"
# PEP 691: the index as JSON, with a SHA-256 for each file.
INDEX_JSON: Final = {"Accept": "application/vnd.pypi.simple.v1+json"}


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One file with a uv in it. `sha256` is "" where only `sidecar`, the address of a file, has it."""

    version: str
    url: str
    sha256: str = ""
    sidecar: str = ""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """The uv of this project's lock: its version, its files with their checksums, its index."""

    version: str
    index: str
    files: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, lock: Path = LOCK) -> Pinned:
        """Read the lock's entry; not as TOML, of which parsing all would take longer than all else."""
        entry = re.search(
            r'^name = "uv"\n.*?(?=^\[\[package\]\]|\Z)', lock.read_text(), re.MULTILINE | re.DOTALL
        )
        text = entry[0] if entry else ""
        version = re.search(r'^version = "(.+?)"', text, re.MULTILINE)
        index = re.search(r'registry = "(.+?)"', text)
        if not version or not index:
            raise AssertionError(f"{lock} has no uv")
        files = re.findall(r'url = "([^"]+\.whl)", hash = "sha256:([0-9a-f]{64})"', text)
        return cls(version=version[1], index=index[1], files=tuple(files))


@dataclass(frozen=True, kw_only=True)
class Market:
    """All offers for one host; a mirror, where there is one, is the only source."""

    host: Host
    pinned: Pinned
    fetcher: Fetcher
    mirror: str = ""
    checksum: str = ""

    def offers(self, wanted: Wanted) -> Iterator[Offer]:
        """Yield the ways to get it, best first. An exact version needs no list of versions.

        Raises NotFetched when a list is needed and cannot be had, or has nothing that fits.
        """
        if wanted.exact:
            yield from self._exact(wanted.exact)
        if not self.mirror:
            yield from self._listed(wanted)
        elif not wanted.exact:
            raise NotFetched(
                f"mirror has no list of versions, and {wanted} is no exact one.",
                "Give version as an exact one, such as 0.12.5.",
            )

    def _exact(self, version: str) -> Iterator[Offer]:
        if version == self.pinned.version and not self.mirror and not self.checksum:
            wheels = (each for each in self.pinned.files if fits(each[0], self.host))
            yield from (Offer(version=version, url=u, sha256=digest) for u, digest in wheels)
        root = self.mirror or RELEASES
        url = f"{root}/{version}/uv-{self.host.target}.tar.gz"
        sidecar = "" if self.checksum else f"{url}.sha256"
        yield Offer(version=version, url=url, sha256=self.checksum, sidecar=sidecar)

    def _listed(self, wanted: Wanted) -> Iterator[Offer]:
        """Yield the newest wheel that fits."""
        files = [each for each in self._index() if fits(str(each.get("url")), self.host)]
        found = [(version, each) for each in files if (version := _version(each))]
        allowed = [each for each in found if wanted.allows(each[0]) and not each[1].get("yanked")]
        if not allowed:
            raise NotFetched(
                f"The index has no uv {wanted} for {self.host.target}.", "Correct version."
            )
        version, file = max(allowed, key=lambda each: each[0])
        digest = self.checksum or str((file.get("hashes") or {}).get("sha256") or "")
        yield Offer(version=str(version), url=str(file["url"]), sha256=digest)

    def _index(self) -> list[Mapping[str, Any]]:
        told = (self.host.job.get(name, "") for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"))
        root = next((each for each in told if each), self.pinned.index).rstrip("/")
        return self.fetcher.json(f"{root}/uv/", INDEX_JSON, "files")


def fits(url: str, host: Host) -> bool:
    """Say whether a wheel is for this host, by the platform in its name (PEP 425)."""
    name = url.rpartition("/")[2].partition("#")[0]
    if not name.endswith(".whl"):
        return False
    platforms = name.removesuffix(".whl").rpartition("-")[2].split(".")
    kind = "musllinux" if host.libc == "musl" else "manylinux"
    return any(each.startswith(kind) and each.endswith(f"_{host.machine}") for each in platforms)


def _version(file: Mapping[str, Any]) -> Version | None:
    parts = str(file.get("filename") or "").split("-")
    try:
        return Version(parts[1])
    except (InvalidVersion, IndexError):
        return None
