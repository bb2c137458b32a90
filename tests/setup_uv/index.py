"""A package index, a mirror and a page of releases on loopback, with faults to order."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import socket
import struct
import tarfile
import threading
import zipfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TARGET: Final = "x86_64-unknown-linux-gnu"
TARBALL: Final = f"uv-{TARGET}.tar.gz"
GNU: Final = "manylinux_2_17_x86_64.manylinux2014_x86_64"


def script(version: str) -> bytes:
    """Return a program that says that it is this uv."""
    return f'#!/bin/sh\necho "uv {version} (a stand-in)"\n'.encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(version: str, programs: Mapping[str, bytes] | None = None) -> bytes:
    """Return a wheel with a uv and a uvx of this version, or with these members."""
    scripts = f"uv-{version}.data/scripts"
    usual = {f"{scripts}/uv": script(version), f"{scripts}/uvx": script(f"x{version}")}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in (usual if programs is None else programs).items():
            archive.writestr(zipfile.ZipInfo(name), data)  # the same bytes each time
    return stream.getvalue()


def tarball(version: str, programs: Mapping[str, bytes] | None = None) -> bytes:
    """Return a release's archive with a uv of this version, or with these members."""
    usual = {f"uv-{TARGET}/uv": script(version)}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in (usual if programs is None else programs).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(stream.getvalue(), mtime=0)  # the same bytes each time


@dataclass
class Index:
    """What it serves by path, what goes wrong first at a path, and every path that was asked for.

    A fault is a status, `reset` (the connection), `cut` (half of the answer), `stall` (half, and
    no end), or headers with a status.
    """

    root: str = ""
    pages: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)

    def wheel(self, version: str, platform: str = GNU, **more: Any) -> str:
        """List a wheel, and serve it; return its path. `data` is another content of the file."""
        name = f"uv-{version}-py3-none-{platform}.whl"
        data = more.pop("data", wheel(version))
        self.pages[f"/files/{name}"] = data
        url = f"{self.root}/files/{name}"
        listed = {"filename": name, "url": url, "hashes": {"sha256": sha256(data)}, "yanked": False}
        self.files.append(listed | more)
        self.pages["/simple/uv/"] = json.dumps({"files": self.files}).encode()
        return f"/files/{name}"

    def release(self, version: str, data: bytes | None = None, sidecar: str | None = None) -> str:
        """Serve a release's archive with its checksum beside it; return its path."""
        path = f"/releases/{version}/{TARBALL}"
        self.pages[path] = tarball(version) if data is None else data
        told = f"{sha256(self.pages[path])}  {TARBALL}\n" if sidecar is None else sidecar
        self.pages[f"{path}.sha256"] = told.encode()
        return path


@contextmanager
def index() -> Iterator[Index]:
    """Serve one until the end of the block."""
    served = Index()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, served)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.root = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()


def answer(request: BaseHTTPRequestHandler, served: Index) -> None:
    served.asked.append(request.path)
    faults = served.faults[request.path]
    fault = faults.pop(0) if faults else None
    data = served.pages.get(request.path)
    if fault == "reset":
        reset(request.connection)
    elif isinstance(fault, tuple):
        reply(request, fault[0], b"", fault[1])
    elif isinstance(fault, int) or data is None:
        reply(request, fault or 404, b"<html>not what you asked for</html>", {})
    else:
        told = {"Content-Length": str(len(data)), **served.headers.get(request.path, {})}
        half = fault in {"cut", "stall"}
        reply(request, 200, data[: len(data) // 2] if half else data, told)
        if fault == "stall":
            request.connection.recv(1)  # until the other side has had enough


def reply(
    request: BaseHTTPRequestHandler, status: int, data: bytes, headers: Mapping[str, str]
) -> None:
    request.close_connection = True
    request.send_response(status)
    for name, value in {"Connection": "close", **headers}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(data)


def reset(connection: socket.socket) -> None:
    """End a connection without a word, as a broken proxy does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
