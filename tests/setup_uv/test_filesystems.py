"""Kinds of file systems, by what the kernel says of mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpu_ci.setup_uv.filesystems import Mount, can_link, is_networked, mount_of, nearest


def mounts(tmp_path: Path, *entries: tuple[str, str]) -> Path:
    """Return a file such as /proc/self/mountinfo with a mount for each (point, kind)."""
    file = tmp_path / "mountinfo"
    lines = [
        f"{number} 1 0:{number} / {point} rw,relatime shared:{number} - {kind} source rw\n"
        for number, (point, kind) in enumerate(entries, 20)
    ]
    file.write_text("".join(lines))
    return file


def test_the_nearest_mount_counts(tmp_path: Path) -> None:
    """A folder is on the mount that is nearest above it, whether it exists or not."""
    file = mounts(tmp_path, ("/", "ext4"), (str(tmp_path), "xfs"), (f"{tmp_path}/data", "nfs4"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data2").mkdir()
    assert mount_of(tmp_path / "data/a/b", file) == Mount(point=f"{tmp_path}/data", kind="nfs4")
    assert mount_of(tmp_path / "data2/a", file).kind == "xfs"
    assert mount_of(Path("/"), file).kind == "ext4"


def test_the_later_of_two_on_one_point_counts(tmp_path: Path) -> None:
    """An automounter's own mount is hidden by the one that it makes."""
    file = mounts(tmp_path, ("/", "ext4"), (str(tmp_path), "autofs"), (str(tmp_path), "nfs"))
    assert is_networked(tmp_path / "home", file)


def test_odd_names_are_read(tmp_path: Path) -> None:
    r"""A blank in a mount's point stands there as \040."""
    (tmp_path / "my data").mkdir()
    file = mounts(tmp_path, ("/", "ext4"), (f"{tmp_path}/my\\040data", "cifs"))
    assert mount_of(tmp_path / "my data", file).kind == "cifs"


def test_a_link_is_followed(tmp_path: Path) -> None:
    """A home that is a link to a network's disk is on that disk."""
    (tmp_path / "far").mkdir()
    (tmp_path / "home").symlink_to("far")
    file = mounts(tmp_path, ("/", "ext4"), (f"{tmp_path}/far", "nfs4"))
    assert is_networked(tmp_path / "home/.cache", file)


@pytest.mark.parametrize(
    ("kind", "networked"),
    [
        ("nfs", True),
        ("nfs4", True),
        ("lustre", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("fuse.some-bucket", True),
        ("fuse.fuse-overlayfs", False),
        ("overlay", False),
        ("tmpfs", False),
        ("ext4", False),
    ],
)
def test_networks_file_systems_are_known(tmp_path: Path, kind: str, *, networked: bool) -> None:
    """Where locks fail is known by its type (pain 36)."""
    assert is_networked(tmp_path, mounts(tmp_path, ("/", kind))) is networked


@pytest.mark.parametrize("text", [None, "", "cut\n", "1 2 3 4 /\n"])
def test_without_a_readable_list_nothing_is_claimed(tmp_path: Path, text: str | None) -> None:
    """No /proc, or lines of another shape: no kind, and links are tried where devices agree."""
    file = tmp_path / "mountinfo"
    if text is not None:
        file.write_text(text)
    assert mount_of(tmp_path, file).kind == ""
    assert can_link(tmp_path, tmp_path / "a", file)


def test_links_need_one_mount(tmp_path: Path) -> None:
    """One device that is mounted twice, as in a container, is two for links (pain 36)."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    file = mounts(tmp_path, ("/", "ext4"), (f"{tmp_path}/a", "ext4"))
    assert can_link(tmp_path / "b", tmp_path / "c/d", file)
    assert not can_link(tmp_path / "a", tmp_path / "b", file)


def test_links_need_one_device(tmp_path: Path) -> None:
    """Two devices are told apart without any list of mounts."""
    assert not can_link(tmp_path, Path("/proc"), mounts(tmp_path))


def test_a_folder_that_may_not_be_seen_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below root's home nobody else may look: the nearest is that home itself, and no crash."""
    (tmp_path / "home/x").mkdir(parents=True)
    real = os.path.exists

    def exists(path: Path) -> bool:
        return not str(path).startswith(f"{tmp_path}/home/") and real(path)

    monkeypatch.setattr(os.path, "exists", exists)
    assert nearest(tmp_path / "home/x/y") == tmp_path / "home"
