"""Where to get a uv, and the checksum that each file must have."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from packaging.version import InvalidVersion, Version

from gpu_ci.errors import EnvironmentBroken, NotFetched
from gpu_ci.setup_uv.offered_file import Offer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gpu_ci.setup_uv.download import Fetcher
    from gpu_ci.setup_uv.host import Host
    from gpu_ci.setup_uv.version_wanted import Wanted

# This project's lock, next to the library: what is pinned, with the index's own checksums.
LOCK: Final = Path(__file__).parents[3] / "uv.lock"
RELEASES: Final = "https://github.com/astral-sh/uv/releases/download"
# PEP 691: the index as JSON, with a SHA-256 for each file.
INDEX_JSON: Final = {"Accept": "application/vnd.pypi.simple.v1+json"}
# How a job names the index that it wants instead of the public one; the second is uv's older name.
OWN_INDEX: Final = ("UV_DEFAULT_INDEX", "UV_INDEX_URL")


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """The uv of this project's lock: its version, its index, its files with their checksums."""

    version: str
    index: str
    files: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, lock: Path = LOCK) -> Pinned:
        """Read the lock's entry, not as TOML: parsing the whole lock takes longer than all the rest.

        Raises EnvironmentBroken where there is no checkout around this package.
        """
        try:
            whole = lock.read_text()
        except OSError as error:
            raise EnvironmentBroken(
                f"{lock}, which says which uv is pinned, cannot be read: {error.strerror}.",
                "This needs a checkout of the repository: sh shared/run setup-uv.",
            ) from None
        entry = re.search(
            r'^name = "uv"\n.*?(?=^\[\[package\]\]|\Z)', whole, re.MULTILINE | re.DOTALL
        )
        text = entry[0] if entry else ""
        version = re.search(r'^version = "(.+?)"', text, re.MULTILINE)
        index = re.search(r'registry = "(.+?)"', text)
        if not version or not index:
            raise AssertionError(f"{lock} has no uv")
        files = re.findall(r'url = "([^"]+\.whl)", hash = "sha256:([0-9a-f]{64})"', text)
        return cls(version=version[1], index=index[1], files=tuple(files))

    def sha256(self, wheel: str) -> str:
        """Return the lock's checksum of a wheel, wherever it comes from, "" if it has none."""
        return next((sum_ for url, sum_ in self.files if url.endswith(f"/{wheel}")), "")


@dataclass(frozen=True, kw_only=True)
class Market:
    """All offers for one host; a mirror, where there is one, is the only source."""

    host: Host
    pinned: Pinned
    fetcher: Fetcher
    mirror: str = ""
    checksum: str = ""

    def sources(self, wanted: Wanted) -> Iterator[Iterator[Offer]]:
        """Yield the sources to try in turn, each with its offers, best first.

        An exact version needs no list of versions, unless the job has an index of its own: then the
        public sources may be out of reach. Taking an offer from a source raises NotFetched when its
        list cannot be read, or has nothing that fits.
        """
        for source in self._from_mirror(wanted) if self.mirror else self._from_all(wanted):
            yield self._as_promised(source)

    def _as_promised(self, source: Iterator[Offer]) -> Iterator[Offer]:
        """Yield what may match the checksum that the user gave, if any."""
        for offer in source:
            if not self.checksum:
                yield offer
            elif offer.sha256 in {"", self.checksum}:
                yield replace(offer, sha256=self.checksum)

    def _from_mirror(self, wanted: Wanted) -> Iterator[Iterator[Offer]]:
        if not wanted.exact:
            raise NotFetched(
                f"mirror has no list of versions, and {wanted} is not an exact one.",
                "Give version as an exact one, such as 0.12.5.",
            )
        yield self._release(self.mirror, wanted.exact)

    def _from_all(self, wanted: Wanted) -> Iterator[Iterator[Offer]]:
        if own := self._own_index():
            yield self._listed(wanted, own)
        if wanted.exact == self.pinned.version:
            yield self._pinned()
        if wanted.exact:
            yield self._release(RELEASES, wanted.exact)
        if own != self.pinned.index:
            yield self._listed(wanted, self.pinned.index)

    def _pinned(self) -> Iterator[Offer]:
        for url, sha256 in self.pinned.files:
            if fits(url, self.host):
                yield Offer(version=self.pinned.version, url=url, sha256=sha256)

    def _release(self, root: str, version: str) -> Iterator[Offer]:
        url = f"{root}/{version}/uv-{self.host.target}.tar.gz"
        yield Offer(version=version, url=url, sidecar=f"{url}.sha256")

    def _listed(self, wanted: Wanted, index: str) -> Iterator[Offer]:
        """Yield the newest version's wheels that fit."""
        fitting = [each for each in self._wheels(index) if self._will_do(wanted, *each)]
        if not fitting:
            raise NotFetched(
                f"The index has no uv {wanted} for {self.host.target}.", "Correct version."
            )
        newest = max(version for version, _ in fitting)
        for file in (file for version, file in fitting if version == newest):
            sha256 = self.pinned.sha256(file["filename"]) or _sha256(file)
            yield Offer(version=str(newest), url=file["url"], sha256=sha256)

    def _wheels(self, index: str) -> Iterator[tuple[Version, Mapping[str, Any]]]:
        """Yield each file of the index with its version, if it has one, and its whole address."""
        page = f"{index}/uv/"
        for file in self.fetcher.json(page, INDEX_JSON, "files"):
            version, url = _version(str(file.get("filename"))), _join(page, str(file.get("url")))
            if version and url:
                yield version, {**file, "url": url}

    def _will_do(self, wanted: Wanted, version: Version, file: Mapping[str, Any]) -> bool:
        """Say whether a file is one that we want; a yanked one only if it is named exactly (PEP 592)."""
        meant = bool(wanted.exact) or not file.get("yanked")
        return meant and wanted.allows(version) and fits(str(file["filename"]), self.host)

    def _own_index(self) -> str:
        """Return the index that the job names, "" if none; uv allows a name before its address."""
        told = next(filter(None, (self.host.job.get(name, "") for name in OWN_INDEX)), "")
        return re.sub(r"^[\w.-]+=", "", told).rstrip("/")


def fits(wheel: str, host: Host) -> bool:
    """Say whether a wheel is for this host, by the platforms in its name (PEP 425)."""
    name = wheel.rpartition("/")[2]
    if not name.endswith(".whl"):
        return False
    platforms = name.removesuffix(".whl").rpartition("-")[2].split(".")
    kind = "musllinux" if host.libc == "musl" else "manylinux"
    return any(each.startswith(kind) and each.endswith(f"_{host.machine}") for each in platforms)


def _version(wheel: str) -> Version | None:
    try:
        return Version(wheel.split("-")[1])
    except (InvalidVersion, IndexError):
        return None


def _join(page: str, url: str) -> str:
    """Return an address that may be relative to the page (PEP 691), "" if it is none."""
    try:
        return urljoin(page, url)
    except ValueError:
        return ""


def _sha256(file: Mapping[str, Any]) -> str:
    hashes = file.get("hashes")
    return str(hashes.get("sha256") or "").lower() if isinstance(hashes, dict) else ""
