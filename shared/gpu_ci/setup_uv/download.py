"""Downloads with retries, and trusts nothing before its checksum has been checked."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3

from gpu_ci.errors import NotFetched, NotVerified
from gpu_ci.runtime.clock import growing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpu_ci.runtime.clock import Deadline
    from gpu_ci.setup_uv.offered_file import Offer

TRIES: Final = 4
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
# A server may ask for a longer pause than ours, up to this; for more there are other sources.
LONGEST_PAUSE: Final = 30.0
PART: Final = 1 << 20
# Bytes; the list of all that uv has ever published has about four million.
LONGEST_LIST: Final = 64 << 20
LONGEST_SIDECAR: Final = 64 << 10
# Where the machine's own certificates are; a company's proxy signs with one of them.
BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
CURE: Final = (
    "Let this machine reach the Python package index or GitHub's releases (https_proxy is honoured), "
    "give `mirror`, or install uv on the machine: one on PATH that will do is used."
)
PASSING: Final = {408, 425, 429, 500, 502, 503, 504}
# A tarball must come as it is, but a server may mistake its compression for the transport's.
AS_IT_IS: Final = {"Accept-Encoding": "identity"}
ZIPPED: Final = {"Accept-Encoding": "gzip"}
FROM_THE_NETWORK: Final = (requests.RequestException, urllib3.exceptions.HTTPError)


@dataclass(kw_only=True)
class Fetcher:
    """One job's downloads; `asked` counts the requests, `came` the bytes of their answers."""

    job: Mapping[str, str]
    deadline: Deadline
    say: Callable[[str], None]
    asked: int = 0
    came: int = 0
    _session: requests.Session = field(default_factory=requests.Session)

    def fetch(self, offer: Offer, to: Path) -> None:
        """Download an offer. Raises NotFetched, NotVerified; OSError when it cannot be written."""
        wanted = offer.sha256 or self._sidecar(offer)
        if not wanted:
            raise NotVerified(
                f"No checksum is known for {shown(offer.url)}, so it was not downloaded.", CURE
            )
        got = self._insist(offer.url, lambda answer: self._store(answer, to), AS_IT_IS)
        if got != wanted:
            to.unlink()
            raise NotVerified(
                f"What came from {shown(offer.url)} has the SHA-256 {got} instead of {wanted}, so it was "
                "not used.",
                "Run it again. If that does not help, a proxy changes downloads, or checksum is not this "
                "file's.",
            )

    def json(self, url: str, headers: Mapping[str, str], key: str) -> list[Mapping[str, Any]]:
        """Return the objects in the list under a key of a JSON answer. Raises NotFetched."""
        found = self._insist(
            url,
            lambda answer: _listed(self._whole(answer, LONGEST_LIST), key),
            {**headers, **ZIPPED},
        )
        if isinstance(found, list):
            return [each for each in found if isinstance(each, dict)]
        raise NotFetched(f"{shown(url)} does not answer with an index in JSON (PEP 691).", CURE)

    def _sidecar(self, offer: Offer) -> str:
        """Return the checksum that a file next to the download has for it, "" if it has none."""
        if not offer.sidecar:
            return ""
        told = self._insist(
            offer.sidecar, lambda answer: self._whole(answer, LONGEST_SIDECAR), AS_IT_IS
        )
        text = told.decode(errors="replace")
        found = re.fullmatch(r"([0-9a-fA-F]{64})(?:[ \t]+\*?(\S+))?\s*", text)
        file = offer.url.rpartition("/")[2]
        return found[1].lower() if found and found[2] in {None, file} else ""

    def _insist(
        self, url: str, use: Callable[[requests.Response], Any], headers: Mapping[str, str]
    ) -> Any:
        """Ask and use the answer; try again as long as that may help. Raises NotFetched."""
        pauses = growing(0.5)
        for left in reversed(range(TRIES)):
            try:
                return self._once(url, use, headers)
            except FROM_THE_NETWORK as error:
                pause = max(next(pauses), _asked_pause(error))
                if not left or not _passes(error) or not self.deadline.allows(pause):
                    raise NotFetched(
                        f"{shown(url)} could not be downloaded: {_describe(error)}.", CURE
                    ) from None
                self.say(f"{shown(url)}: {_describe(error)}; trying again.")
                self.deadline.clock.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(
        self, url: str, use: Callable[[requests.Response], Any], headers: Mapping[str, str]
    ) -> Any:
        self.asked += 1
        answer = self._session.get(
            url,
            headers=headers,
            timeout=(CONNECT_SECONDS, min(READ_SECONDS, self.deadline.left() + 1)),
            stream=True,
            verify=self._bundle(),
        )
        with answer:
            answer.raise_for_status()
            try:
                return use(answer)
            finally:
                self.came += answer.raw.tell()

    def _bundle(self) -> str | bool:
        """Return the certificates to trust: the job's, the machine's, or those of the package."""
        named = (self.job.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
        readable = (path for path in (*named, *BUNDLES) if path and os.access(path, os.R_OK))
        return next((path for path in readable if Path(path).is_file()), True)

    def _store(self, answer: requests.Response, to: Path) -> str:
        digest = hashlib.sha256()
        with to.open("wb") as file:
            for part in self._parts(answer):
                digest.update(part)
                file.write(part)
        return digest.hexdigest()

    def _parts(self, answer: requests.Response) -> Iterator[bytes]:
        """Yield data as it arrives, so that the deadline holds even at a byte a minute."""
        while part := answer.raw.read1(PART, decode_content=False):
            if self.deadline.passed():
                raise requests.Timeout("it trickles")
            yield part

    def _whole(self, answer: requests.Response, most: int) -> bytes:
        """Return all of an answer, unzipped. Raises NotFetched if it has more than `most` bytes."""
        data = bytearray()
        for part in self._parts(answer):
            data += part
            if len(data) > most:
                break
        zipped = answer.headers.get("Content-Encoding", "").lower() == "gzip"
        found = _unzipped(data, most) if zipped and len(data) <= most else bytes(data)
        if len(found) > most:
            raise NotFetched(f"{shown(answer.url)} answers with more than {most} bytes.", CURE)
        return found


def shown(url: str) -> str:
    """Return an address without the password or the signature that may be in it."""
    return re.sub(r"(?<=//)[^/?#]*@|[?#].*", "", url)


def _unzipped(data: bytes | bytearray, most: int) -> bytes:
    """Return what was zipped, a byte more than `most` at most: a small answer can hold a huge one."""
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # gzip's own frame
    try:
        found = unzip.decompress(data, most + 1)
    except zlib.error as error:
        raise urllib3.exceptions.DecodeError(str(error)) from None
    if unzip.eof or len(found) > most:
        return found
    raise urllib3.exceptions.DecodeError("cut off")


def _listed(data: bytes, key: str) -> Any:
    with suppress(ValueError, AttributeError, RecursionError):
        return json.loads(data).get(key)
    return None


def _passes(error: Exception) -> bool:
    """Say whether trying again may help: not where the server says no, or the address is bad.

    Nor where a firewall swallows everything: by then the system itself has tried often, and another
    source may be in reach.
    """
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in PASSING
    hopeless = (ValueError, requests.TooManyRedirects, requests.ConnectTimeout)
    return not isinstance(error, hopeless)


def _asked_pause(error: Exception) -> float:
    """Return how many seconds the server asks us to wait, LONGEST_PAUSE at most."""
    if not isinstance(error, requests.HTTPError) or error.response is None:
        return 0.0
    told = error.response.headers.get("Retry-After", "")
    return min(float(told), LONGEST_PAUSE) if re.fullmatch(r"\d{1,9}", told) else 0.0


def _describe(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        with suppress(ValueError):
            return f"the server answered {status} ({HTTPStatus(status).phrase})"
        return f"the server answered {status}"
    return f"no whole answer ({type(error).__name__})"
