"""One file that a source offers: what to download, and how to check it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One file with a uv in it. `sha256` is "" where only `sidecar`, the address of a file, has it."""

    version: str
    url: str
    sha256: str = ""
    sidecar: str = ""
