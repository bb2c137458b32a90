"""Where each version can be had from, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.setup_uv.index import GNU, TARBALL, sha256

from gpu_ci.errors import NotFetched
from gpu_ci.setup_uv.offers import Market, Pinned, fits
from gpu_ci.setup_uv.version_wanted import parse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.setup_uv.conftest import Machine

    from gpu_ci.setup_uv.offered_file import Offer

PINNED = "9.5.0"
AARCH64 = "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"


def market(machine: Machine, **given: str) -> Market:
    return Market(host=machine.host(), pinned=machine.pinned(), fetcher=machine.fetcher(), **given)


def offered(machine: Machine, version: str, **given: str) -> list[Offer]:
    sources = market(machine, **given).sources(parse(version, "a test"))
    return [offer for source in sources for offer in source]


@pytest.mark.parametrize(
    ("platform", "hosts"),
    [
        (GNU, {("x86_64", "gnu")}),
        ("manylinux_2_28_aarch64", {("aarch64", "gnu")}),
        (AARCH64, {("aarch64", "gnu"), ("aarch64", "musl")}),
        ("musllinux_1_1_x86_64", {("x86_64", "musl")}),
        ("musllinux_1_1_i686", {("i686", "musl")}),
        ("macosx_11_0_arm64", set()),
        ("win_amd64", set()),
        ("linux_armv6l", set()),
    ],
)
def test_a_wheel_is_for_the_hosts_in_its_name(
    machine: Machine, platform: str, hosts: set[tuple[str, str]]
) -> None:
    """The platforms in a wheel's name decide: GNU or musl, and which machine."""
    url = f"https://files.example/ab/uv-9.1.0-py3-none-{platform}.whl"
    good = {
        (kind, libc)
        for kind in ("x86_64", "aarch64", "i686")
        for libc in ("gnu", "musl")
        if fits(url, replace(machine.host(), machine=kind, libc=libc))
    }
    assert good == hosts


def test_what_is_no_wheel_fits_nobody(machine: Machine) -> None:
    """An index lists sources and signatures too."""
    assert not fits("https://files.example/uv-9.1.0.tar.gz", machine.host())
    assert not fits(
        "https://files.example/uv-9.1.0-py3-none-manylinux_2_17_x86_64.whl.metadata", machine.host()
    )


@pytest.mark.parametrize("kind", ["x86_64", "aarch64"])
@pytest.mark.parametrize("libc", ["gnu", "musl"])
def test_the_lock_has_a_wheel_for_each_host(machine: Machine, kind: str, libc: str) -> None:
    """The project's own lock has a checksum for every kind of machine that is promised."""
    pinned = Pinned.read()
    host = replace(machine.host(), machine=kind, libc=libc)
    fitting = [(url, sum_) for url, sum_ in pinned.files if fits(url, host)]
    assert fitting
    assert all(f"/uv-{pinned.version}-" in url and len(sum_) == 64 for url, sum_ in fitting)
    assert pinned.index.startswith("https://")


def test_a_lock_without_uv_is_a_bug(tmp_path: Path) -> None:
    """The action cannot be released with a lock that pins no uv."""
    (tmp_path / "uv.lock").write_text('[[package]]\nname = "uvicorn"\nversion = "1.0"\n')
    with pytest.raises(AssertionError, match="has no uv"):
        Pinned.read(tmp_path / "uv.lock")


def test_an_exact_version_is_offered_without_a_request(machine: Machine) -> None:
    """The pinned wheel, then the release: only after them the index is asked."""
    machine.index.wheel(PINNED)
    sources = market(machine).sources(parse(PINNED, "a test"))
    pinned, release = next(next(sources)), next(next(sources))
    assert pinned.url.startswith(f"{machine.index.root}/pinned/")
    assert len(pinned.sha256) == 64
    assert release.url == f"{machine.index.root}/releases/{PINNED}/{TARBALL}"
    assert release.sidecar == f"{release.url}.sha256"
    assert machine.index.asked == []
    assert next(next(sources)).url.startswith(f"{machine.index.root}/files/")
    assert machine.index.asked == ["/simple/uv/"]


@pytest.mark.parametrize(
    ("version", "newest"),
    [("latest", "9.10.0"), ("9.9", "9.9.9"), ("<9.9", "9.8.7"), (">=9.8,<9.9", "9.8.7")],
)
def test_a_range_is_the_newest_that_fits(machine: Machine, version: str, newest: str) -> None:
    """Versions are compared as versions; other machines' files, pre-releases, and withdrawn ones do not count."""
    for each in ("9.8.7", "9.9.9", "9.10.0"):
        machine.index.wheel(each)
    machine.index.wheel("9.11.0", "musllinux_1_1_x86_64")
    machine.index.wheel("9.12.0rc1")
    machine.index.wheel("9.12.0.dev2")
    machine.index.wheel("9.9.10", yanked="it eats files")
    machine.index.wheel("9.8.8", yanked=True)
    (offer,) = offered(machine, version)
    assert offer.version == newest
    assert offer.sha256 == sha256(machine.index.pages[f"/files/uv-{newest}-py3-none-{GNU}.whl"])
    assert machine.index.asked == ["/simple/uv/"]


def test_the_locks_checksum_goes_before_an_indexs(machine: Machine) -> None:
    """The pinned wheel must be the one that the lock knows, whichever index it comes from."""
    machine.index.wheel(PINNED, data=b"another wheel of that name")
    machine.index.wheel("9.1.0")
    machine.job["UV_DEFAULT_INDEX"] = f"{machine.index.root}/simple"
    assert [each.sha256 for each in offered(machine, "latest")] == [machine.pinned().files[0][1]]


def test_a_withdrawn_version_can_be_meant(machine: Machine) -> None:
    """Who names exactly a version that was withdrawn gets it, as with other installers."""
    machine.index.wheel("9.8.8", yanked=True)
    assert offered(machine, "9.8.8")[-1].url.startswith(f"{machine.index.root}/files/")


def test_addresses_may_be_relative_to_the_page(machine: Machine) -> None:
    """An index may write where a file is from its own page on (PEP 691)."""
    machine.index.wheel("9.1.0", url=f"../../files/uv-9.1.0-py3-none-{GNU}.whl#sha256=00")
    (offer,) = offered(machine, "latest")
    assert offer.url.startswith(f"{machine.index.root}/files/uv-9.1.0-")


@pytest.mark.parametrize(
    "files", ['"x"', '[1, null, "x"]', '[{}, {"filename": 7}]', '[{"filename": "uv"}]']
)
def test_an_odd_list_has_nothing(machine: Machine, files: str) -> None:
    """Whatever an index answers, it is a sentence and no traceback."""
    machine.index.pages["/simple/uv/"] = f'{{"files": {files}}}'.encode()
    with pytest.raises(
        NotFetched, match=r"has no uv latest for x86_64|does not answer with an index"
    ):
        offered(machine, "latest")


@pytest.mark.parametrize("page", [b"<html></html>", b"[]", b'{"files": 3}', b"{}", b"\xff"])
def test_a_page_that_is_no_list_is_said(machine: Machine, page: bytes) -> None:
    """An index without JSON, or a login page, is named as that."""
    machine.index.pages["/simple/uv/"] = page
    with pytest.raises(NotFetched, match="does not answer with an index"):
        offered(machine, "latest")


@pytest.mark.parametrize("hashes", [None, [], "x", {}, {"md5": "00"}, {"sha256": None}])
def test_a_file_without_a_checksum_has_none(machine: Machine, hashes: object) -> None:
    """What the index tells no SHA-256 of is offered without one, and so will be refused."""
    machine.index.wheel("9.1.0", hashes=hashes)
    assert [each.sha256 for each in offered(machine, "latest")] == [""]


def test_a_file_with_an_odd_address_is_passed_over(machine: Machine) -> None:
    """One bad line of a list does not hide the others."""
    machine.index.wheel("9.1.0")
    machine.index.wheel("9.2.0", url="http://[")
    assert [each.version for each in offered(machine, "latest")] == ["9.1.0"]


def test_nothing_that_fits_names_the_host(machine: Machine) -> None:
    """The sentence says for which machine there is none."""
    machine.index.wheel("9.1.0", "win_amd64")
    with pytest.raises(NotFetched, match="has no uv latest for x86_64-unknown-linux-gnu"):
        offered(machine, "latest")


@pytest.mark.parametrize("variable", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
@pytest.mark.parametrize("name", ["", "company="])
def test_the_jobs_own_index_is_asked_first(machine: Machine, variable: str, name: str) -> None:
    """A machine behind a company's index need not wait for the public sources."""
    machine.index.wheel("9.1.0")
    machine.index.pages["/own/uv/"] = machine.index.pages["/simple/uv/"]
    machine.job[variable] = f"{name}{machine.index.root}/own/"
    assert offered(machine, "latest")[0].version == "9.1.0"
    assert machine.index.asked[0] == "/own/uv/"
    offers = offered(machine, "9.1.0")
    assert [each.url.removeprefix(machine.index.root).split("/")[1] for each in offers] == [
        "files",
        "releases",
        "files",
    ]


def test_a_mirror_is_the_only_source(machine: Machine) -> None:
    """Where a mirror is given nobody else is asked, not even for the pinned version."""
    (offer,) = offered(machine, PINNED, mirror="http://mirror.example/uv")
    assert offer.url == f"http://mirror.example/uv/{PINNED}/{TARBALL}"
    assert offer.sidecar == f"{offer.url}.sha256"
    assert machine.index.asked == []


@pytest.mark.parametrize("version", ["latest", "9.1", ">=9"])
def test_a_mirror_needs_an_exact_version(machine: Machine, version: str) -> None:
    """A mirror has no list of versions, and says what to write."""
    with pytest.raises(NotFetched, match=r"mirror has no list of versions.*exact one"):
        offered(machine, version, mirror="http://mirror.example/uv")


def test_a_given_checksum_is_the_only_one(machine: Machine) -> None:
    """What has another checksum is not even offered, and no file beside the download is asked."""
    data = machine.index.pages[machine.index.wheel("9.1.0")]
    other = offered(machine, "9.1.0", checksum="ab" * 32)
    assert [(each.sha256, each.url.endswith(".tar.gz")) for each in other] == [("ab" * 32, True)]
    both = offered(machine, "9.1.0", checksum=sha256(data))
    assert [each.url.rpartition(".")[2] for each in both] == ["gz", "whl"]
