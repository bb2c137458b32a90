"""Gets the uv that is wanted: one that is there, else a kept one, else a download."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpu_ci.errors import NoFolder, NotFetched, NotVerified, SetupFailed
from gpu_ci.setup_uv.existing_uvs import Uv, ask_version, choose, on_path
from gpu_ci.setup_uv.installed import Kept
from gpu_ci.setup_uv.offers import Market, Pinned
from gpu_ci.setup_uv.version_wanted import exactly, read_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
    from gpu_ci.setup_uv.download import Fetcher
    from gpu_ci.setup_uv.folders import Folders
    from gpu_ci.setup_uv.host import Host
    from gpu_ci.setup_uv.offered_file import Offer
    from gpu_ci.setup_uv.version_wanted import Wanted


@dataclass(kw_only=True)
class Obtaining:
    """Gets one job its uv. `fetcher` makes what downloads, which is loaded only then; `own` is the
    folder of the environment that this program runs in, where a uv of its own may lie."""

    inputs: SetupUvInputs
    host: Host
    folders: Folders
    own: Path | None
    say: Callable[[str], None]
    fetcher: Callable[[], Fetcher]
    pinned: Pinned = field(default_factory=Pinned.read)

    def uv(self) -> tuple[Uv, Wanted]:
        """Return it, and what was wanted. Raises BadInputs, NotFetched, NotVerified, NoFolder."""
        wanted = read_wanted(self.inputs, self.pinned.version, self.host)
        present = [*on_path(self.host, self.folders.uvs.parent)]
        found = None if wanted.latest else self._here(wanted, present)
        found = found or self._downloaded(wanted, present)
        self._tell_shadowed(found, wanted, present)
        return found, wanted

    @property
    def _kept(self) -> Kept:
        """Return what is kept for this kind of machine: a home may be shared by several kinds."""
        return Kept(folder=self.folders.uvs / self.host.target)

    def _here(self, wanted: Wanted, present: list[Uv]) -> Uv | None:
        """Return one that needs no download: on PATH, kept, or our own.

        Where a checksum is given, only what came from a download with it will do.
        """
        if checksum := self.inputs.checksum:
            return self._kept.one(wanted.exact, checksum)
        return choose(wanted, present) or self._kept.newest(wanted) or self._own(wanted)

    def _own(self, wanted: Wanted) -> Uv | None:
        """Keep the uv that set this program up, if it will do: it was verified when it came."""
        path = self.own / f"uv-{self.pinned.version}" if self.own else None
        version = ask_version(path) if path and path.exists() else None
        if path is None or version is None or not wanted.allows(version):
            return None

        def fill(folder: Path) -> None:
            shutil.copy(path, folder / "uv")

        return self._kept.install(str(version), fill)

    def _downloaded(self, wanted: Wanted, present: list[Uv]) -> Uv:
        """Download it; where that fails, take the newest that is here and will do."""
        market, refused = self._market(), list[SetupFailed]()
        try:
            for offer in _offers(market, wanted, refused):
                with _noted(refused):
                    return self._taken(market.fetcher, offer, present)
        except (NotFetched, NoFolder) as error:
            refused.append(error)
        return self._newest_here(wanted, present, refused)

    def _market(self) -> Market:
        return Market(
            host=self.host,
            pinned=self.pinned,
            fetcher=self.fetcher(),
            mirror=self.inputs.mirror,
            checksum=self.inputs.checksum,
        )

    def _taken(self, fetcher: Fetcher, offer: Offer, present: list[Uv]) -> Uv:
        """Return what is offered, without a download if an index named a version that is here."""
        here = self._here(exactly(offer.version, "what is offered"), present)
        return here or self._fetched(fetcher, offer)

    def _fetched(self, fetcher: Fetcher, offer: Offer) -> Uv:
        from gpu_ci.setup_uv.unpacking import unpack  # noqa: PLC0415 -- a second run unpacks nothing

        def fill(folder: Path) -> None:
            download = folder.with_name("download")
            fetcher.fetch(offer, download)
            unpack(download, folder)

        uv = self._kept.install(offer.version, fill, self.inputs.checksum)
        self.say(
            f"uv {uv.version}: downloads {fetcher.came / 1e6:.1f} MB, requests {fetcher.asked}."
        )
        return uv

    def _newest_here(self, wanted: Wanted, present: list[Uv], refused: list[SetupFailed]) -> Uv:
        """Return the newest that will do, and say so. Raises the reason why there is none."""
        told = " ".join(dict.fromkeys(error.what for error in refused))
        if best := None if self.inputs.checksum else self._newest(wanted, present):
            self.say(f"{told} So uv {best.version} is used, which is here.")
            return best
        worst = next((each for each in refused if isinstance(each, NotVerified)), refused[-1])
        raise type(worst)(f"uv {wanted} cannot be had. {told}", worst.cure)

    def _newest(self, wanted: Wanted, present: list[Uv]) -> Uv | None:
        others = (self._kept.newest(wanted), self._own(wanted))
        here = [uv for uv in (*present, *others) if uv and wanted.allows(uv.version)]
        return max(here, key=lambda uv: uv.version, default=None)

    def _tell_shadowed(self, won: Uv, wanted: Wanted, present: list[Uv]) -> None:
        """Name the uvs that later steps would have found, had this one not gone before them."""
        for uv in present:
            if uv.path == won.path:
                return
            if uv.version != won.version:
                self.say(
                    f"uv {uv.version} {uv.where} is not what {wanted.source} wants ({wanted}): "
                    f"{won.path} goes before it."
                )


def _offers(market: Market, wanted: Wanted, refused: list[SetupFailed]) -> Iterator[Offer]:
    for source in market.sources(wanted):
        with _noted(refused):
            yield from source


@contextmanager
def _noted(refused: list[SetupFailed]) -> Iterator[None]:
    """Go on to the next source or offer after one that failed."""
    try:
        yield
    except (NotFetched, NotVerified) as error:
        refused.append(error)
