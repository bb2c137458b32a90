"""Where uv keeps what: the order of places, and what speaks against one."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gpu_ci.errors import NoFolder
from gpu_ci.inputs.setup_uv_inputs import SetupUvInputs
from gpu_ci.setup_uv import filesystems, folders
from gpu_ci.setup_uv.folders import Choosing, Folders, cache_refusal, private, refusal
from gpu_ci.setup_uv.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

UID = os.getuid()
OTHER = UID + 1
ROOT_ONLY = pytest.mark.skipif(UID != 0, reason="only root gives folders away")


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing outside of the test's folder is tried."""
    monkeypatch.setattr(folders, "TEMPORARY", (tmp_path / "var-tmp", tmp_path / "tmp"))


@pytest.fixture
def choose(tmp_path: Path) -> Callable[..., Folders]:
    """Choose with these variables of the job and inputs, for a user whose home is `home`."""

    def chosen(
        job: dict[str, str] | None = None, home: str | None = "home", **inputs: str
    ) -> Folders:
        for name in ("work", "home", "var-tmp", "tmp"):
            (tmp_path / name).mkdir(exist_ok=True)
        env = {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
        env["GITHUB_WORKSPACE"] = str(tmp_path / "work")
        where = tmp_path / home if home else None
        host = Host.read({"HOME": str(where or "/"), **(job or {})})
        host = replace(host, home=where, home_is_new=False)
        return Choosing(inputs=SetupUvInputs.read(env), host=host).folders()

    return chosen


def test_what_stays_goes_to_the_home(choose: Callable[..., Folders], tmp_path: Path) -> None:
    """With a home that can be written all is where uv itself would have it (row 1.17)."""
    chosen = choose()
    home = tmp_path / "home"
    assert chosen.cache == home / ".cache/uv"
    assert chosen.pythons == home / ".local/share/uv/python"
    assert chosen.tools == home / ".local/share/uv/tools"
    assert chosen.tool_bin == home / ".local/bin"
    assert chosen.uvs == home / ".local/share/uv/gpu-ci/versions"
    assert chosen.bin == home / ".local/share/uv/gpu-ci/bin"
    assert (chosen.cache_is_kept, chosen.cache_was_there, chosen.copies) == (True, False, False)
    assert chosen.notes == ()


def test_without_a_home_the_places_are_tried_in_order(
    choose: Callable[..., Folders], tmp_path: Path
) -> None:
    """Tool cache, /var/tmp, /tmp, and at last the job's own folder (pain 34)."""
    job = {"RUNNER_TOOL_CACHE": f"{tmp_path}/tools", "RUNNER_TEMP": f"{tmp_path}/temp"}
    own = f"gpu-ci-uv-{UID}/cache"
    places = [f"tools/{own}", f"var-tmp/{own}", f"tmp/{own}", "temp/gpu-ci-uv/cache"]
    for place in places:
        chosen = choose(job, home=None)
        assert chosen.cache == tmp_path / place
        assert chosen.cache_is_kept is not place.startswith("temp")
        chosen.cache.rmdir()
        chosen.cache.touch()  # what is a file there cannot be a folder
    with pytest.raises(NoFolder) as caught:
        choose(job, home=None)
    assert all(f"{tmp_path / place} " in caught.value.what for place in places)
    assert "RUNNER_TOOL_CACHE" in caught.value.cure


def test_the_home_that_a_container_gets_for_one_job_is_not_used(
    choose: Callable[..., Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/github/home is emptied with the job, and the tool cache is not."""
    monkeypatch.setattr(folders, "HOME_OF_A_CONTAINER", tmp_path / "home")
    chosen = choose({"RUNNER_TOOL_CACHE": f"{tmp_path}/tools"})
    assert chosen.cache == tmp_path / f"tools/gpu-ci-uv-{UID}/cache"


@pytest.mark.parametrize(
    ("told", "field", "place"),
    [
        ({"cache_local_path": "mine"}, "cache", "work/mine"),
        ({"UV_CACHE_DIR": "{}/a"}, "cache", "a"),
        ({"UV_CACHE_DIR": "a"}, "cache", "work/a"),
        ({"UV_CACHE_DIR": "{}/a", "cache_local_path": "{}/b"}, "cache", "b"),
        ({"XDG_CACHE_HOME": "{}/xdg"}, "cache", "xdg/uv"),
        ({"XDG_CACHE_HOME": "xdg"}, "cache", "home/.cache/uv"),
        ({"UV_PYTHON_INSTALL_DIR": "{}/p"}, "pythons", "p"),
        ({"XDG_DATA_HOME": "{}/xdg"}, "pythons", "xdg/uv/python"),
        ({"XDG_DATA_HOME": "{}/xdg"}, "uvs", "xdg/uv/gpu-ci/versions"),
        ({"UV_TOOL_DIR": "{}/t"}, "tools", "t"),
        ({"UV_TOOL_DIR": "{}/t", "tool_dir": "mine"}, "tools", "work/mine"),
        ({"UV_TOOL_BIN_DIR": "{}/t"}, "tool_bin", "t"),
        ({"UV_TOOL_BIN_DIR": "{}/t", "tool_bin_dir": "{}/u"}, "tool_bin", "u"),
        ({"XDG_BIN_HOME": "{}/x"}, "tool_bin", "x"),
    ],
)
def test_what_is_asked_for_comes_first(
    choose: Callable[..., Folders], tmp_path: Path, told: dict[str, str], field: str, place: str
) -> None:
    """The input, then uv's own variable, then the desktop's, then the usual place."""
    values = {name: text.format(tmp_path) for name, text in told.items()}
    job = {name: text for name, text in values.items() if name.isupper()}
    inputs = {name: text for name, text in values.items() if name.islower()}
    assert getattr(choose(job, **inputs), field) == tmp_path / place


@ROOT_ONLY
def test_root_makes_nothing_where_another_user_keeps_things(
    choose: Callable[..., Folders], tmp_path: Path
) -> None:
    """After `sudo -E` these variables are still that user's, who could not remove what root made (pain 41)."""
    (theirs := tmp_path / "theirs").mkdir()
    os.chown(theirs, OTHER, OTHER)
    names = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_BIN_HOME")
    chosen = choose(dict.fromkeys(names, f"{theirs}"))
    assert chosen.cache == tmp_path / "home/.cache/uv"
    assert list(theirs.iterdir()) == []


def test_a_cache_that_is_not_wanted_is_the_jobs(
    choose: Callable[..., Folders], tmp_path: Path
) -> None:
    """enable-cache: false takes the job's folder, and never claims a hit (pain 38)."""
    job = {"RUNNER_TEMP": f"{tmp_path}/temp"}
    (tmp_path / "temp/gpu-ci-uv/cache/wheels-v5").mkdir(parents=True)
    chosen = choose(job, enable_cache="false")
    assert chosen.cache == tmp_path / "temp/gpu-ci-uv/cache"
    assert (chosen.cache_is_kept, chosen.cache_was_there) == (False, False)


def test_a_cache_that_is_not_wanted_is_never_one_that_stays(
    choose: Callable[..., Folders], tmp_path: Path
) -> None:
    """Without a folder of the job's a new one is made each time; the home's is not touched (pain 38)."""
    made = [
        choose({"TMPDIR": f"{tmp_path}/own-tmp"}, enable_cache="false"),
        choose({"RUNNER_TEMP": "/proc/none"}, enable_cache="false", cache_local_path="mine"),
        choose(enable_cache="false"),
    ]
    assert [each.cache.parent.parent.name for each in made] == ["own-tmp", "tmp", "tmp"]
    assert made[1].cache != made[2].cache
    assert not any(each.cache_is_kept for each in made)
    assert not (tmp_path / "home/.cache").exists()


def test_without_a_place_for_a_cache_that_goes_there_is_none(
    choose: Callable[..., Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """enable-cache: false would rather fail than fill the home (pain 38)."""
    monkeypatch.setattr(folders, "TEMPORARY", (Path("/proc/none"),))
    with pytest.raises(NoFolder, match="No folder was found for the cache"):
        choose(enable_cache="false")
    assert not (tmp_path / "home/.cache").exists()


def test_a_cache_that_was_there_is_a_hit(choose: Callable[..., Folders], tmp_path: Path) -> None:
    """By its unpacked packages: without one nothing is spared."""
    (tmp_path / "home/.cache/uv/interpreter-v4").mkdir(parents=True)
    assert not choose().cache_was_there
    (tmp_path / "home/.cache/uv/archive-v0/a-wheel").mkdir(parents=True)
    assert choose().cache_was_there
    assert not choose({"RUNNER_ENVIRONMENT": "github-hosted"}).cache_is_kept


def on_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *points: str) -> None:
    lines = ["1 0 0:1 / / rw - ext4 d rw"]
    lines += [f"2 1 0:2 / {tmp_path / point} rw - nfs4 server:/ rw" for point in points]
    (tmp_path / "mountinfo").write_text("\n".join(lines))
    for function in ("is_networked", "mount_of", "can_link"):
        real = getattr(filesystems, function)
        monkeypatch.setattr(folders, function, partial(real, mounts=tmp_path / "mountinfo"))


def test_a_home_on_a_network_gives_way_to_this_machines_own_disk(
    choose: Callable[..., Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks fail on NFS: cache, Pythons and uv are where they do not, and why is said (pain 36)."""
    on_network(monkeypatch, tmp_path, "home")
    chosen = choose()
    own = tmp_path / f"var-tmp/gpu-ci-uv-{UID}"
    assert (chosen.cache, chosen.pythons) == (own / "cache", own / "data/python")
    assert not [*(tmp_path / "home").iterdir()]
    why = f"{tmp_path}/home/.cache/uv is on nfs4, where locks are slow or fail: it is not used for the cache."
    assert why in chosen.notes


def test_a_network_is_better_than_nothing(
    choose: Callable[..., Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all disks are a network's, the usual place is used, and that is said (pain 36)."""
    on_network(monkeypatch, tmp_path, "home", "var-tmp", "tmp")
    chosen = choose()
    assert chosen.cache == tmp_path / "home/.cache/uv"
    assert (
        f"{chosen.cache} is on nfs4, where locks are slow or fail: no other was found for the cache."
        in chosen.notes
    )
    assert chosen.copies  # the workspace is on another mount


@pytest.mark.parametrize(
    ("name", "field"),
    [("cache_local_path", "cache"), ("tool_dir", "tools"), ("tool_bin_dir", "tool_bin")],
)
def test_what_an_input_asks_for_is_used_on_a_network_too(
    choose: Callable[..., Folders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    field: str,
) -> None:
    """The user's word is stronger than a guess; what may go wrong there is said (pain 36)."""
    on_network(monkeypatch, tmp_path, "share")
    (asked := tmp_path / "share/mine").mkdir(parents=True)
    chosen = choose(**{name: str(asked)})
    assert getattr(chosen, field) == asked
    [note] = chosen.notes
    assert "/share/mine is on nfs4, where locks are slow or fail: an input names it for " in note


def test_venv_path_decides_whether_links_will_do(
    choose: Callable[..., Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv links into the environment, wherever that is (pain 36)."""
    asked: list[tuple[Path, Path]] = []

    def can_link(first: Path, second: Path) -> bool:
        asked.append((first, second))
        return True

    monkeypatch.setattr(folders, "can_link", can_link)
    choose()
    choose({"UV_PROJECT_ENVIRONMENT": "env"})
    choose({"UV_PROJECT_ENVIRONMENT": f"{tmp_path}/env"})
    choose(venv_path=f"{tmp_path}/venv", activate_environment="true")
    places = ["work", "work/env", "env", "venv"]
    assert [second for _, second in asked] == [tmp_path / place for place in places]


def test_a_home_that_is_not_used_is_said(tmp_path: Path) -> None:
    """Why uv's folders are not in HOME is in the log."""
    inputs = SetupUvInputs.read({"GITHUB_WORKSPACE": str(tmp_path)})
    host = replace(Host.read({}), home=None, home_is_new=False, job={"HOME": "/root"})
    [note] = Choosing(inputs=inputs, host=host).folders().notes
    assert note == "HOME is /root, not a home of this user's: no other is known."
    host = replace(host, home=tmp_path, home_is_new=True, job={})
    [note] = Choosing(inputs=inputs, host=host).folders().notes
    assert note == f"HOME is unset, not a home of this user's: it is {tmp_path} from now on."


# --- one folder ---------------------------------------------------------------------------------


def test_what_is_made_is_for_this_user_alone(tmp_path: Path) -> None:
    """Folders above it too, whatever the umask; the umask stays as it was (pain 35)."""
    usual = os.umask(0)
    try:
        assert refusal(tmp_path / "a/b", UID) == ""
        assert os.umask(0) == 0
    finally:
        os.umask(usual)
    modes = [each.stat().st_mode & 0o777 for each in (tmp_path / "a", tmp_path / "a/b")]
    assert modes == [0o700, 0o700]
    assert list((tmp_path / "a/b").iterdir()) == []


def test_a_folder_that_everybody_can_write_is_not_ours(tmp_path: Path) -> None:
    """Others could put programs for us in it (pain 35)."""
    tmp_path.chmod(0o777)
    assert refusal(tmp_path, UID) == "can be written by everybody"


@pytest.mark.parametrize(
    ("group", "others", "alone"),
    [
        ("ci", [], True),
        ("ci", ["ci"], True),
        ("root", [], True),
        ("ci", ["alice"], False),
        ("users", [], False),
        (None, [], False),
    ],
)
def test_a_folder_that_a_group_can_write_is_not_ours(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: str | None,
    others: list[str],
    *,
    alone: bool,
) -> None:
    """Nor what is in one; but a group of this user alone is nobody else, as umask 002 wants (pain 35)."""

    def found(gid: int) -> SimpleNamespace:
        if group is None:
            raise KeyError(gid)
        return SimpleNamespace(gr_name=group, gr_mem=others)

    monkeypatch.setattr(grp, "getgrgid", found)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="ci"))
    tmp_path.chmod(0o770)
    who = f"group {tmp_path.stat().st_gid}"
    above = f"is in {tmp_path}, where {who} may put another in its place"
    assert refusal(tmp_path, UID) == ("" if alone else f"can be written by {who}")
    assert refusal(tmp_path / "below", UID) == ("" if alone else above)


@ROOT_ONLY
def test_a_folder_of_another_user_is_not_ours(tmp_path: Path) -> None:
    """Even where we may write; root's is taken, as a disk's uppermost folder often is root's."""
    os.chown(tmp_path, OTHER, OTHER)
    assert refusal(tmp_path, UID) == f"belongs to another user ({OTHER})"
    assert refusal(tmp_path, OTHER) == ""
    os.chown(tmp_path, 0, 0)
    assert refusal(tmp_path, OTHER) == ""


@ROOT_ONLY
@pytest.mark.parametrize(
    ("owner", "mode", "below", "why"),
    [
        (0, 0o1777, UID, ""),
        (0, 0o1777, OTHER, "is in {0}/shared/own, which belongs to another user"),
        (0, 0o777, UID, "is in {0}/shared, where everybody may put another in its place"),
        (OTHER, 0o755, UID, ""),
        (OTHER, 0o777, UID, "is in {0}/shared, another user's, where everybody may write"),
        (OTHER, 0o777, None, "is in {0}/shared, another user's, where everybody may write"),
    ],
)
def test_what_others_could_replace_is_not_ours(
    tmp_path: Path, owner: int, mode: int, below: int | None, why: str
) -> None:
    """Whoever was first in /tmp, or owns what everybody writes in, could give us programs (pain 35)."""
    own = tmp_path / "shared/own"
    own.parent.mkdir()
    if below is not None:
        own.mkdir()
        os.chown(own, below, below)
    os.chown(own.parent, owner, owner)
    own.parent.chmod(mode)
    assert refusal(own / "cache", UID) == why.format(tmp_path)


@ROOT_ONLY
def test_a_link_that_another_user_left_is_not_followed(tmp_path: Path) -> None:
    """In /tmp a link of our folder's name may lead to a place of theirs (pain 35)."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "tmp/own").symlink_to(tmp_path / "theirs")
    os.chown(tmp_path / "tmp/own", OTHER, OTHER, follow_symlinks=False)
    assert "which belongs to another user" in refusal(tmp_path / "tmp/own/cache", UID)


def test_a_file_or_a_broken_path_is_no_folder(tmp_path: Path) -> None:
    """What cannot be made or written is refused in the system's own words, without a crash."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("link")
    assert refusal(tmp_path / "file", UID) == "cannot be written (File exists)"
    assert refusal(tmp_path / "file/a", UID) == "cannot be written (Not a directory)"
    assert refusal(tmp_path / "link/a", UID).startswith("cannot be written (")
    assert refusal(tmp_path / ("x" * 300), UID) == "cannot be written (File name too long)"


def test_a_disk_without_room_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds not even one uv is of no use; no folder is left there."""
    monkeypatch.setattr(folders, "ROOM", 1 << 62)
    assert refusal(tmp_path / "a", UID).startswith("has no room (")
    assert not (tmp_path / "a").exists()


def test_a_full_disk_shows_when_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Free blocks may not be for us, as with a quota: only writing tells."""

    def full(**_: object) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    assert refusal(tmp_path, UID) == f"cannot be written ({os.strerror(errno.EDQUOT)})"


def test_a_lock_that_cannot_be_opened_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo uv` leaves a lock that no later uv of ours could take (pain 35)."""
    (tmp_path / ".lock").touch()
    assert refusal(tmp_path, UID) == ""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != ".lock")
    assert refusal(tmp_path, UID) == "has a .lock of another user"


@ROOT_ONLY
def test_a_bucket_of_another_user_spoils_a_cache(tmp_path: Path) -> None:
    """Its files cannot be linked: the cache is refused, though its folder is ours (pain 35)."""
    (tmp_path / "archive-v0").mkdir()
    (tmp_path / "note-v1").touch()  # no bucket
    assert cache_refusal(tmp_path, UID) == ""
    os.chown(tmp_path / "archive-v0", OTHER, OTHER)
    assert cache_refusal(tmp_path, UID) == "holds archive-v0 of another user"


def test_the_umask_stays_when_making_fails() -> None:
    """A failure in between leaves the process as it was."""
    usual = os.umask(0o022)
    try:
        with pytest.raises(OSError, match="x"), private():
            raise OSError("x")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(usual)
