"""Downloads that fail in every way that they do."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from tests.setup_uv.index import TARBALL, sha256, tarball

from gpu_ci.errors import NotFetched, NotVerified
from gpu_ci.setup_uv.download import shown
from gpu_ci.setup_uv.offered_file import Offer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.setup_uv.conftest import Machine

DATA = bytes(range(256)) * 1000


def offer(machine: Machine, path: str = "/file", **more: str) -> Offer:
    return Offer(version="9.1.0", url=f"{machine.index.root}{path}", **more)


@pytest.fixture
def to(machine: Machine) -> Path:
    machine.index.pages["/file"] = DATA
    return machine.root / "download"


def test_a_download_with_its_checksum_is_one_request(machine: Machine, to: Path) -> None:
    """What is known to be right needs nothing beside it, and its bytes are counted."""
    fetcher = machine.fetcher()
    fetcher.fetch(offer(machine, sha256=sha256(DATA)), to)
    assert to.read_bytes() == DATA
    assert (fetcher.asked, fetcher.came, machine.index.asked) == (1, len(DATA), ["/file"])
    assert machine.said == []


def test_a_wrong_checksum_is_refused_and_nothing_left(machine: Machine, to: Path) -> None:
    """The sentence has both checksums, and the file is gone."""
    with pytest.raises(NotVerified) as caught:
        machine.fetcher().fetch(offer(machine, sha256="ab" * 32), to)
    assert sha256(DATA) in str(caught.value)
    assert "ab" * 32 in str(caught.value)
    assert not to.exists()
    assert machine.index.asked == ["/file"]


def test_without_a_checksum_nothing_is_downloaded(machine: Machine, to: Path) -> None:
    """Unknown is refused before a byte is asked for."""
    with pytest.raises(NotVerified, match="No checksum is known"):
        machine.fetcher().fetch(offer(machine), to)
    assert machine.index.asked == []


@pytest.mark.parametrize(
    "told",
    ["{sum}  {file}\n", "{sum} *{file}\n", "{sum}\n", "{sum}", "{upper}  {file}\n"],
)
def test_the_file_beside_a_release_has_its_checksum(machine: Machine, told: str, to: Path) -> None:
    """The checksum may stand alone or with the name, in either case of letters."""
    data = tarball("9.1.0")
    text = told.format(sum=sha256(data), upper=sha256(data).upper(), file=TARBALL)
    path = machine.index.release("9.1.0", data, text)
    machine.fetcher().fetch(offer(machine, path, sidecar=f"{machine.index.root}{path}.sha256"), to)
    assert to.read_bytes() == data


@pytest.mark.parametrize(
    "told",
    [
        "",
        "\n",
        "<html>not found</html>",
        "0123",
        "{sum}0  {file}",
        "{sum}  uv-aarch64-unknown-linux-musl.tar.gz",
        "{sum}  {file}\n{sum}  other.tar.gz\n",
    ],
)
def test_an_odd_file_beside_a_release_is_no_checksum(machine: Machine, told: str, to: Path) -> None:
    """What is not exactly one checksum, of this file, is none: nothing is downloaded."""
    data = tarball("9.1.0")
    path = machine.index.release("9.1.0", data, told.format(sum=sha256(data), file=TARBALL) or " ")
    with pytest.raises(NotVerified, match="No checksum is known"):
        machine.fetcher().fetch(
            offer(machine, path, sidecar=f"{machine.index.root}{path}.sha256"), to
        )
    assert machine.index.asked == [f"{path}.sha256"]


def test_a_missing_file_beside_a_release_is_refused(machine: Machine, to: Path) -> None:
    """Without it the release is not asked for."""
    path = machine.index.release("9.1.0")
    del machine.index.pages[f"{path}.sha256"]
    with pytest.raises(NotFetched, match=r"\.sha256 could not be downloaded.*404 \(Not Found\)"):
        machine.fetcher().fetch(
            offer(machine, path, sidecar=f"{machine.index.root}{path}.sha256"), to
        )
    assert machine.index.asked == [f"{path}.sha256"]


@pytest.mark.parametrize(
    "faults",
    [
        ["reset", "reset"],
        ["cut"],
        ["cut", "reset", 503],
        [503, 502, 500],
        [429],
        [504, 408],
    ],
)
def test_what_passes_is_tried_again(machine: Machine, to: Path, faults: list[object]) -> None:
    """Resets, halves and busy servers cost a pause each, said in a line (pain 39)."""
    machine.index.faults["/file"] = list(faults)
    machine.fetcher().fetch(offer(machine, sha256=sha256(DATA)), to)
    assert to.read_bytes() == DATA
    assert machine.index.asked == ["/file"] * (len(faults) + 1)
    assert machine.clock.slept == [0.5, 1.0, 2.0][: len(faults)]
    assert len(machine.said) == len(faults)
    assert all("trying again" in line for line in machine.said)


@pytest.mark.parametrize("fault", ["reset", "cut", 503, 429])
def test_what_does_not_pass_ends(machine: Machine, to: Path, fault: object) -> None:
    """Four tries are enough, and the sentence says what came of the last."""
    machine.index.faults["/file"] = [fault] * 9
    with pytest.raises(
        NotFetched, match=r"could not be downloaded: (no whole|the server answered)"
    ):
        machine.fetcher().fetch(offer(machine, sha256=sha256(DATA)), to)
    assert len(machine.index.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 451, 501, 599])
def test_what_is_refused_is_not_tried_again(machine: Machine, to: Path, status: int) -> None:
    """A server that says no is asked once."""
    machine.index.faults["/file"] = [status]
    with pytest.raises(NotFetched, match=f"the server answered {status}"):
        machine.fetcher().fetch(offer(machine, sha256=sha256(DATA)), to)
    assert machine.index.asked == ["/file"]


def test_a_server_may_ask_for_a_longer_pause(machine: Machine, to: Path) -> None:
    """Retry-After in seconds is heeded, up to half a minute; a date is not."""
    machine.index.faults["/file"] = [
        (429, {"Retry-After": "7"}),
        (503, {"Retry-After": "86400"}),
        (429, {"Retry-After": "Sun, 22 Nov 2026 13:00:00 GMT"}),
    ]
    machine.fetcher().fetch(offer(machine, sha256=sha256(DATA)), to)
    assert machine.clock.slept == [7.0, 30.0, 2.0]


def test_tries_end_at_the_deadline(machine: Machine, to: Path) -> None:
    """A pause that would end after the deadline is not begun."""
    fetcher = machine.fetcher()
    machine.clock.time += 599
    machine.index.faults["/file"] = [503] * 9
    with pytest.raises(NotFetched, match="503"):
        fetcher.fetch(offer(machine, sha256=sha256(DATA)), to)
    assert machine.clock.slept == [0.5]
    assert len(machine.index.asked) == 2


def test_an_answer_that_trickles_ends_at_the_deadline(
    machine: Machine, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that would take hours is given up when its time is over."""
    monkeypatch.setattr("gpu_ci.setup_uv.download.PART", 1000)
    fetcher = machine.fetcher()
    monkeypatch.setattr(machine.clock, "now", iter_of_hours(machine))
    with pytest.raises(NotFetched, match=r"no whole answer \(Timeout\)"):
        fetcher.fetch(offer(machine, sha256=sha256(DATA)), to)
    assert machine.index.asked == ["/file"]


@pytest.mark.parametrize("kind", ["file", "list", "sidecar"])
def test_the_deadline_holds_for_what_has_come_so_far(
    machine: Machine, to: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """No whole part need have come: a byte a minute would keep a download going for days."""
    url = f"{machine.index.root}/file"
    fetcher = machine.fetcher()
    use: dict[str, Callable[[], object]] = {
        "file": lambda: fetcher.fetch(offer(machine, sha256=sha256(DATA)), to),
        "list": lambda: fetcher.json(url, {}, "files"),
        "sidecar": lambda: fetcher.fetch(offer(machine, "/other", sidecar=url), to),
    }
    machine.index.pages["/file"] = DATA[:1000]
    machine.index.faults["/file"] = ["stall"]
    machine.clock.time += 500
    monkeypatch.setattr(machine.clock, "now", iter_of_hours(machine))
    with pytest.raises(NotFetched, match=r"no whole answer \(Timeout\)"):
        use[kind]()


def test_a_list_and_a_sidecar_have_an_end(
    machine: Machine, to: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What never ends, or unzips to more than can be, does not fill the memory."""
    monkeypatch.setattr("gpu_ci.setup_uv.download.LONGEST_LIST", 1000)
    monkeypatch.setattr("gpu_ci.setup_uv.download.LONGEST_SIDECAR", 1000)
    url = f"{machine.index.root}/file"
    with pytest.raises(NotFetched, match="more than 1000 bytes"):
        machine.fetcher().fetch(offer(machine, "/other", sidecar=url), to)
    with pytest.raises(NotFetched, match="more than 1000 bytes"):
        machine.fetcher().json(url, {}, "files")
    machine.index.pages["/file"] = gzip.compress(bytes(100_000))
    machine.index.headers["/file"] = {"Content-Encoding": "gzip"}
    with pytest.raises(NotFetched, match="more than 1000 bytes"):
        machine.fetcher().json(url, {}, "files")


@pytest.mark.parametrize("data", [b"no gzip at all", gzip.compress(b"{}", mtime=0)[:-9]])
def test_a_list_that_cannot_be_unzipped_is_tried_again(machine: Machine, data: bytes) -> None:
    """A proxy that mixes up compressions costs a sentence, not a traceback."""
    machine.index.pages["/file"] = data
    machine.index.headers["/file"] = {"Content-Encoding": "gzip"}
    with pytest.raises(NotFetched, match=r"no whole answer \(DecodeError\)"):
        machine.fetcher().json(f"{machine.index.root}/file", {}, "files")
    assert len(machine.index.asked) == 4


def iter_of_hours(machine: Machine) -> object:
    """Return a clock's `now` of which each reading is a minute later."""

    def now() -> float:
        machine.clock.time += 60
        return machine.clock.time

    return now


def test_nobody_there_is_said(machine: Machine, to: Path) -> None:
    """No network is one sentence with the cure."""
    machine.index.root = "http://127.0.0.1:9"
    with pytest.raises(NotFetched, match=r"no whole answer \(ConnectionError\)\. Let this machine"):
        machine.fetcher().fetch(offer(machine, sha256=sha256(DATA)), to)


def test_a_firewall_that_swallows_everything_is_waited_for_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that cannot be connected to within the limit is left for the next one."""

    def get(*_: object, **__: object) -> object:
        raise requests.ConnectTimeout

    monkeypatch.setattr(requests.Session, "get", get)
    with pytest.raises(NotFetched, match="ConnectTimeout"):
        machine.fetcher().fetch(offer(machine, sha256="ab" * 32), machine.root / "download")
    assert machine.clock.slept == []


@pytest.mark.parametrize("url", ["http://", "http://[", "nothing", "http://a b/", "ftp://x/y"])
def test_an_address_that_is_none_is_asked_once(machine: Machine, to: Path, url: str) -> None:
    """What an index gave for an address is data: it is a sentence, whatever it is."""
    with pytest.raises(NotFetched, match="could not be downloaded"):
        machine.fetcher().fetch(Offer(version="9.1.0", url=url, sha256="ab" * 32), to)
    assert machine.said == []


def test_a_full_disk_is_not_the_networks_fault(machine: Machine, to: Path) -> None:
    """It is not tried again, and goes to whoever knows the folder."""
    with pytest.raises(OSError, match="No space left") as caught:
        machine.fetcher().fetch(offer(machine, sha256=sha256(DATA)), Path("/dev/full"))
    assert caught.value.errno == errno.ENOSPC
    assert machine.index.asked == ["/file"]


def test_a_tarball_is_stored_as_it_is(machine: Machine, to: Path) -> None:
    """A server that takes the file's own compression for the transport's changes nothing."""
    data = gzip.compress(DATA)
    machine.index.pages["/file"] = data
    machine.index.headers["/file"] = {"Content-Encoding": "gzip"}
    machine.fetcher().fetch(offer(machine, sha256=sha256(data)), to)
    assert to.read_bytes() == data


def test_a_compressed_list_is_read(machine: Machine) -> None:
    """Lists are long, and may come compressed; a half one is asked for again."""
    page = json.dumps({"files": [{"filename": "uv"}, 3]}).encode()
    machine.index.pages["/simple/uv/"] = gzip.compress(page)
    machine.index.headers["/simple/uv/"] = {"Content-Encoding": "gzip"}
    machine.index.faults["/simple/uv/"] = ["cut"]
    fetcher = machine.fetcher()
    url = f"{machine.index.root}/simple/uv/"
    assert fetcher.json(url, {}, "files") == [{"filename": "uv"}]
    assert fetcher.asked == 2


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_jobs_certificates_are_trusted(
    machine: Machine, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's proxy signs with a certificate that the job names; one that is not there is passed over."""
    monkeypatch.setattr("gpu_ci.setup_uv.download.BUNDLES", (str(machine.root / "machines.pem"),))
    machine.job[variable] = str(machine.root / "own.pem")
    assert machine.fetcher()._bundle() is True
    (machine.root / "machines.pem").touch()
    assert machine.fetcher()._bundle() == str(machine.root / "machines.pem")
    (machine.root / "own.pem").touch()
    assert machine.fetcher()._bundle() == machine.job[variable]


def test_a_password_in_an_address_is_never_told(machine: Machine, to: Path) -> None:
    """An index or a mirror may have one in its address: neither a line nor a sentence repeats it."""
    machine.index.root = machine.index.root.replace("://", "://me:hunter2@")
    machine.index.faults["/file"] = [503]
    with pytest.raises(NotVerified) as caught:
        machine.fetcher().fetch(offer(machine, sha256="ab" * 32), to)
    with pytest.raises(NotVerified) as unknown:
        machine.fetcher().fetch(offer(machine), to)
    assert machine.said
    assert "hunter2" not in "".join([*machine.said, str(caught.value), str(unknown.value)])
    assert shown("https://a.example:8443/x@y?signature=1#z") == "https://a.example:8443/x@y"


def test_it_waits_for_no_answer_for_ever(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has a time limit, which is never longer than what is left."""
    limits = []

    def get(*_: object, timeout: object, **__: object) -> object:
        limits.append(timeout)
        raise requests.ReadTimeout

    monkeypatch.setattr(requests.Session, "get", get)
    fetcher = machine.fetcher()
    for gone in (0, 580):
        machine.clock.time = machine.clock.begin + gone
        with pytest.raises(NotFetched):
            fetcher.fetch(offer(machine, sha256="ab" * 32), machine.root / "download")
    assert limits[0] == (10.0, 60.0)
    assert limits[4] == (10.0, 21.0)
