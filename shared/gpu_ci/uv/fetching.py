"""Downloads with patience, and never trusts what came before its checksum was seen."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests

from gpu_ci.errors import NotFetched, NotVerified
from gpu_ci.waiting import growing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpu_ci.uv.offers import Offer
    from gpu_ci.waiting import Deadline

TRIES: Final = 4
CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 60.0
PART: Final = 1 << 20
# Where the machine's own certificates are; a company's proxy signs with one of them.
BUNDLES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
CURE: Final = (
    "Let this machine reach the Python package index or GitHub's releases (https_proxy is honoured), "
    "give `mirror`, or install uv on the machine: one on PATH that will do is used."
)
PASSING: Final = {408, 425, 429, 500, 502, 503, 504}


@dataclass(kw_only=True)
class Fetcher:
    """One job's downloads; `asked` counts the requests, `came` the bytes."""

    job: Mapping[str, str]
    deadline: Deadline
    say: Callable[[str], None]
    asked: int = 0
    came: int = 0
    _session: requests.Session = field(default_factory=requests.Session)

    def fetch(self, offer: Offer, to: Path) -> None:
        """Download an offer. Raises NotFetched, NotVerified; no file is left then."""
        wanted = offer.sha256 or (self._sidecar(offer.sidecar) if offer.sidecar else "")
        if not wanted:
            raise NotVerified(
                f"No checksum is known for {offer.url}, so it was not downloaded.", CURE
            )
        got = self._insist(offer.url, lambda answer: self._store(answer, to))
        if got == wanted:
            return
        to.unlink()
        raise NotVerified(
            f"What came from {offer.url} has the SHA-256 {got}, and must have {wanted}; it was not used.",
            "Run it again; if it stays so, a proxy changes downloads, or checksum is not this file's.",
        )

    def json(self, url: str, headers: Mapping[str, str], key: str) -> list[Mapping[str, Any]]:
        """Return the list under a key of a JSON answer. Raises NotFetched."""
        found = self._insist(url, lambda answer: _listed(answer, key), headers)
        if isinstance(found, list):
            return found
        raise NotFetched(f"{url} answers in another shape than that of an index (PEP 691).", CURE)

    def _sidecar(self, url: str) -> str:
        """Return the checksum that a file beside the download holds: the digest is its first word."""
        words = str(self._insist(url, lambda answer: answer.text)).split()
        first = words[0].lower() if words else ""
        return first if len(first) == 64 and not set(first) - set("0123456789abcdef") else ""  # noqa: PLR2004

    def _insist(
        self,
        url: str,
        use: Callable[[requests.Response], Any],
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask and use the answer, again while only time can help. Raises NotFetched."""
        pauses = growing(0.5, most=8.0)
        for left in reversed(range(TRIES)):
            try:
                return self._once(url, use, headers)
            except (requests.RequestException, OSError) as error:
                pause = next(pauses)
                if not left or not _passes(error) or not self.deadline.allows(pause):
                    raise NotFetched(
                        f"{url} could not be downloaded: {_told(error)}.", CURE
                    ) from None
                self.say(f"{url}: {_told(error)}; trying again.")
                self.deadline.clock.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def _once(
        self, url: str, use: Callable[[requests.Response], Any], headers: Mapping[str, str] | None
    ) -> Any:
        self.asked += 1
        answer = self._session.get(
            url,
            headers=headers,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            stream=True,
            verify=self._bundle(),
        )
        with answer:
            answer.raise_for_status()
            return use(answer)

    def _bundle(self) -> str | bool:
        named = (self.job.get(name, "") for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
        return next((path for path in (*named, *BUNDLES) if path and Path(path).is_file()), True)

    def _store(self, answer: requests.Response, to: Path) -> str:
        digest = hashlib.sha256()
        with to.open("wb") as file:
            for part in self._parts(answer):
                digest.update(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        return digest.hexdigest()

    def _parts(self, answer: requests.Response) -> Iterator[bytes]:
        for part in answer.iter_content(PART):
            self.came += len(part)
            yield part


def _listed(answer: requests.Response, key: str) -> Any:
    with suppress(ValueError, AttributeError):
        return answer.json().get(key)
    return None


def _passes(error: Exception) -> bool:
    """Say whether trying again may help: not where the disk is full or the server says no."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in PASSING
    return isinstance(error, requests.RequestException)


def _told(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return f"the server answered {status} ({HTTPStatus(status).phrase})"
    if isinstance(error, requests.RequestException):
        return f"no whole answer ({type(error).__name__})"
    return str(error.__class__.__name__ if not str(error) else error)
