"""A machine for one test, with an index on loopback and no uv that is not asked for."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from tests.fakes import FakeClock
from tests.setup_uv.index import GNU, Index, index, script, sha256, wheel

from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.runtime.clock import Deadline
from gpu_ci.setup_uv import offers, version_wanted
from gpu_ci.setup_uv.download import Fetcher
from gpu_ci.setup_uv.folders import Folders
from gpu_ci.setup_uv.host import Host
from gpu_ci.setup_uv.obtain import Obtaining
from gpu_ci.setup_uv.offers import Pinned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpu_ci.setup_uv.existing_uvs import Uv
    from gpu_ci.setup_uv.version_wanted import Wanted

PINNED = "9.5.0"


@dataclass(kw_only=True)
class Machine:
    """A machine: its folders below `root`, what its PATH is, what was said, and its index."""

    root: Path
    index: Index
    path: list[str] = field(default_factory=list)
    job: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    clock: FakeClock = field(default_factory=FakeClock)
    own: Path | None = None
    fetchers: list[Fetcher] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def kept(self) -> Path:
        return self.data / "gpu-ci" / "versions" / self.host().target

    def host(self) -> Host:
        job = {"PATH": ":".join(self.path), "HOME": str(self.root), **self.job}
        return replace(Host.read(job), machine="x86_64", libc="gnu", job=job)

    def folders(self) -> Folders:
        return Folders(
            cache=self.root / "cache",
            pythons=self.data / "python",
            tools=self.data / "tools",
            tool_bin=self.data / "tool-bin",
            bin=self.data / "gpu-ci" / "bin",
            uvs=self.data / "gpu-ci" / "versions",
            cache_is_kept=True,
            cache_was_there=False,
            copies=False,
        )

    def fetcher(self) -> Fetcher:
        deadline = Deadline.after(600, self.clock)
        self.fetchers.append(Fetcher(job=self.job, deadline=deadline, say=self.said.append))
        return self.fetchers[-1]

    def inputs(self, **inputs: str) -> SetupUvInputs:
        given = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
        workspace = self.root / "workspace"
        workspace.mkdir(exist_ok=True)
        return SetupUvInputs.read({"GITHUB_WORKSPACE": str(workspace), **given})

    def obtain(self, **inputs: str) -> tuple[Uv, Wanted]:
        """Run the whole way to a uv, as the action does."""
        return Obtaining(
            inputs=self.inputs(**inputs),
            host=self.host(),
            folders=self.folders(),
            own=self.own,
            say=self.said.append,
            fetcher=self.fetcher,
            pinned=self.pinned(),
        ).uv()

    def pinned(self) -> Pinned:
        """Return what is pinned: in the index, but in no list of it unless a test puts it there."""
        name = f"uv-{PINNED}-py3-none-{GNU}.whl"
        self.index.pages.setdefault(f"/pinned/{name}", wheel(PINNED))
        file = (f"{self.index.root}/pinned/{name}", sha256(wheel(PINNED)))
        return Pinned(version=PINNED, index=f"{self.index.root}/simple", files=(file,))

    def install(self, version: str, folder: str = "conda/bin", text: bytes | None = None) -> Path:
        """Put a uv and a Python into a folder on PATH, as conda does; return the uv."""
        place = self.root / folder
        place.mkdir(parents=True)
        for name in ("uv", "uvx", "python"):
            program(place / name, script(version) if text is None else text)
        self.path.append(str(place))
        return place / "uv"


def program(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def served() -> Iterator[Index]:
    with index() as found:
        yield found


@pytest.fixture
def machine(tmp_path: Path, served: Index, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(offers, "RELEASES", f"{served.root}/releases")
    monkeypatch.setattr(version_wanted, "SYSTEM", tmp_path / "etc")
    return Machine(root=tmp_path, index=served)
