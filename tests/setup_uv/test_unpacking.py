"""What is taken out of a download."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.setup_uv.index import TARGET, script, tarball, wheel

from gpu_ci.errors import NotFetched
from gpu_ci.setup_uv.unpacking import unpack

if TYPE_CHECKING:
    from pathlib import Path

UV = script("9.1.0")
SCRIPTS = "uv-9.1.0.data/scripts"


def unpacked(tmp_path: Path, data: bytes) -> dict[str, bytes]:
    (tmp_path / "download").write_bytes(data)
    (tmp_path / "to").mkdir()
    unpack(tmp_path / "download", tmp_path / "to")
    return {each.name: each.read_bytes() for each in (tmp_path / "to").iterdir()}


def test_a_wheel_gives_both_programs(tmp_path: Path) -> None:
    """uv and uvx come out of a wheel, and can be run."""
    assert unpacked(tmp_path, wheel("9.1.0")) == {"uv": UV, "uvx": script("x9.1.0")}
    assert (tmp_path / "to" / "uv").stat().st_mode & 0o777 == 0o755


def test_a_release_gives_what_is_in_it(tmp_path: Path) -> None:
    """A release without uvx gives uv alone."""
    assert unpacked(tmp_path, tarball("9.1.0")) == {"uv": UV}


@pytest.mark.parametrize("pack", [wheel, tarball])
def test_members_elsewhere_are_passed_over(tmp_path: Path, pack: object) -> None:
    """No path in an archive leads out of the folder, or puts another uv in the place of the right one."""
    odd = ("/etc/uv", "../uv", "../../uvx", f"../uv-{TARGET}/uv", "uv", "evil/uv", "uv-x/../uv")
    right = f"{SCRIPTS}/uv" if pack is wheel else f"uv-{TARGET}/uv"
    members = dict.fromkeys((*odd, f"{SCRIPTS}/../uv", f"evil/{SCRIPTS}/uv"), b"evil")
    data = (wheel if pack is wheel else tarball)("9.1.0", {right: UV, **members})
    before = set(tmp_path.iterdir())
    assert unpacked(tmp_path, data) == {"uv": UV}
    assert set(tmp_path.iterdir()) - before == {tmp_path / "download", tmp_path / "to"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
)
def test_a_member_that_is_no_file_is_passed_over(tmp_path: Path, kind: bytes) -> None:
    """A link, a folder or a pipe of that name is no uv."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"uv-{TARGET}/uv")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(NotFetched, match="There is no uv in"):
        unpacked(tmp_path, stream.getvalue())


def test_a_wheel_with_one_program_twice_is_refused(tmp_path: Path) -> None:
    """Which of two would be the right one cannot be known."""
    with pytest.raises(NotFetched, match="not a whole archive"):
        unpacked(tmp_path, wheel("9.1.0", {f"{SCRIPTS}/uv": UV, "uv-9.data/scripts/uv": b"evil"}))


def broken(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :]


LARGE = bytes(range(256)) * 400


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>Sign in to the network</html>",
        wheel("9.1.0", {}),
        tarball("9.1.0", {}),
        wheel("9.1.0", {"uv-9.1.0.dist-info/RECORD": b""}),
        tarball("9.1.0")[:60],
        broken(wheel("9.1.0", {f"{SCRIPTS}/uv": LARGE})),
        tarball("9.1.0", {f"uv-{TARGET}/uv": LARGE})[:-100],
    ],
    ids=range(8),
)
def test_what_is_no_whole_archive_with_a_uv_is_said(tmp_path: Path, data: bytes) -> None:
    """An archive without uv, half of one or no archive at all is one clear sentence."""
    with pytest.raises(NotFetched, match=r"There is no uv in|not a whole archive"):
        unpacked(tmp_path, data)
