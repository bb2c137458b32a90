"""Gets the uv that is wanted: one that is there, else a kept one, else a download."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gpu_ci.errors import NotFetched, NotVerified
from gpu_ci.uv.keeping import Kept, unpack
from gpu_ci.uv.offers import Market, Pinned
from gpu_ci.uv.present import Uv, ask_version, choose, on_path
from gpu_ci.uv.wanted import read_wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpu_ci.uv.fetching import Fetcher
    from gpu_ci.uv.folders import Folders
    from gpu_ci.uv.host import Host
    from gpu_ci.uv.inputs import SetupUvInputs
    from gpu_ci.uv.offers import Offer
    from gpu_ci.uv.wanted import Wanted


@dataclass(kw_only=True)
class Obtaining:
    """One job's way to its uv. `fetcher` makes what downloads, which is loaded only then; `own` is
    the folder of the environment that this program runs in, where a uv of its own may lie."""

    inputs: SetupUvInputs
    host: Host
    folders: Folders
    own: Path | None
    say: Callable[[str], None]
    fetcher: Callable[[], Fetcher]
    pinned: Pinned = field(default_factory=Pinned.read)

    def uv(self) -> tuple[Uv, Wanted]:
        """Return it, and what was wanted. Raises BadInputs, NotFetched, NotVerified."""
        wanted = read_wanted(self.inputs, self.pinned.version)
        there = [*on_path(self.host, self.folders.uvs.parent)]
        found = None if wanted.latest or self.inputs.checksum else self._there(wanted, there)
        found = found or self._downloaded(wanted, there)
        self._tell_shadowed(found, wanted, there)
        return found, wanted

    def _there(self, wanted: Wanted, on_path: list[Uv]) -> Uv | None:
        return choose(wanted, on_path) or choose(wanted, self._kept().all()) or self._own(wanted)

    def _kept(self) -> Kept:
        return Kept(folder=self.folders.uvs)

    def _own(self, wanted: Wanted) -> Uv | None:
        """Keep the uv that set this program up, if it will do: it was verified when it came."""
        path = self.own / f"uv-{self.pinned.version}" if self.own else None
        version = ask_version(path) if path and path.exists() else None
        if path is None or version is None or not wanted.allows(version):
            return None

        def fill(folder: Path) -> None:
            shutil.copy(path, folder / "uv")

        return self._kept().install(str(version), fill)

    def _downloaded(self, wanted: Wanted, on_path: list[Uv]) -> Uv:
        """Download it; where that fails, take the newest that is there and will do."""
        market = Market(
            host=self.host,
            pinned=self.pinned,
            fetcher=self.fetcher(),
            mirror=self.inputs.mirror,
            checksum=self.inputs.checksum,
        )
        refused: list[NotFetched | NotVerified] = []
        try:
            for offer in market.offers(wanted):
                with noted(refused):
                    return self._bought(market, offer)
        except NotFetched as error:
            refused.append(error)
        return self._second_best(wanted, on_path, refused)

    def _bought(self, market: Market, offer: Offer) -> Uv:
        def fill(folder: Path) -> None:
            download = folder.with_name("download")
            market.fetcher.fetch(offer, download)
            unpack(download, folder)

        return self._kept().one(offer.version) or self._kept().install(offer.version, fill)

    def _second_best(
        self, wanted: Wanted, on_path: list[Uv], refused: list[NotFetched | NotVerified]
    ) -> Uv:
        told = " ".join(dict.fromkeys(error.what for error in refused))
        best = None if self.inputs.checksum else self._there(wanted, on_path)
        if best is None:
            raise type(refused[-1])(f"uv {wanted} cannot be had. {told}", refused[-1].cure)
        self.say(f"{told} So uv {best.version} is used, which is here.")
        return best

    def _tell_shadowed(self, won: Uv, wanted: Wanted, on_path: list[Uv]) -> None:
        """Name the uvs that later steps would have found, had this one not gone before them."""
        for uv in on_path:
            if uv.path != won.path and not wanted.allows(uv.version):
                self.say(f"uv {uv.version} {uv.where} is not {wanted}: {won.path} goes before it.")


@contextmanager
def noted(refused: list[NotFetched | NotVerified]) -> Iterator[None]:
    """Go on to the next offer after one that failed."""
    try:
        yield
    except (NotFetched, NotVerified) as error:
        refused.append(error)
