"""Serves a WSGI application on loopback from a thread, with connections that stay open."""

from __future__ import annotations

import io
import socket
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from werkzeug.exceptions import InternalServerError
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler
from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    from werkzeug.datastructures import Headers

# The accept loop looks for its end this often: it bounds how long `stop` takes.
POLL_SECONDS = 0.02
# What a handler that is still inside the application gets before it is left to its daemon thread.
GRACE_SECONDS = 0.2
BODILESS = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}


@runtime_checkable
class Stoppable(Protocol):
    """An application that has to let its waiting requests go when the server stops."""

    def stop(self) -> None:
        """End every wait; called once, before the connections are cut."""


class _Handler(WSGIRequestHandler):
    """Reads the whole body before the application runs, so that a connection can be used again."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:  # the client is gone, or `stop` has cut the connection
            self.close_connection = True
        finally:
            self.server.closed(self.connection)

    def run_wsgi(self) -> None:
        try:
            environ = self._buffered_environ()
            self._send(environ, *_answer(self.server.app, environ))
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 -- werkzeug's signature
        """Stay quiet: the requests are in the fault layer's log."""

    def _buffered_environ(self) -> WSGIEnvironment:
        environ = self.make_environ()
        if environ.get("wsgi.input_terminated"):
            body = environ["wsgi.input"].read()
        else:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        return environ

    def _send(self, environ: WSGIEnvironment, body: bytes, status: str, headers: Headers) -> None:
        code = int(status.split(" ", 1)[0])
        bodiless = code in BODILESS or environ["REQUEST_METHOD"] == "HEAD"
        self.send_response(code, status.partition(" ")[2])
        if not bodiless:
            headers.setdefault("Content-Length", len(body))
            # A body that is shorter than it says can only be told from its end.
            self.close_connection |= headers["Content-Length"] != str(len(body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if not bodiless:
            self.wfile.write(body)
        self.wfile.flush()


def _answer(app: WSGIApplication, environ: WSGIEnvironment) -> tuple[bytes, str, Headers]:
    try:
        chunks, status, headers = run_wsgi_app(app, environ, buffered=True)
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 -- a server survives what an application raises
        environ["wsgi.errors"].write(f"{environ['PATH_INFO']}: {error!r}\n")
        chunks, status, headers = run_wsgi_app(InternalServerError(), environ, buffered=True)
    return b"".join(chunks), status, headers


class _Listener(ThreadedWSGIServer):
    """Knows its open connections, so that stopping does not wait for idle clients."""

    def __init__(self, app: WSGIApplication, port: int) -> None:
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__("127.0.0.1", port, app, _Handler)

    def opened(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)
            self._changed.notify_all()

    def cut(self) -> None:
        with self._changed:
            for connection in self._open:
                _hang_up(connection)
            self._changed.wait_for(lambda: not self._open, GRACE_SECONDS)


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was first


class Server:
    """`with Server(app) as server: … server.url …`; HTTP/1.1 on 127.0.0.1, one thread a connection.

    `port` 0 lets the system choose. An application with a `stop` method (`faults.Faults`) is stopped
    first, so that requests which it holds back do not hold the server.
    """

    def __init__(self, app: WSGIApplication, *, port: int = 0) -> None:
        self._app = app
        self._listener = _Listener(app, port)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(POLL_SECONDS,), daemon=True
        )

    @property
    def port(self) -> int:
        """The port that it listens on, known before it starts."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The root, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Begin to answer; connections made before are kept by the system until then."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer nothing more and cut every connection; returns in well under a second."""
        if isinstance(self._app, Stoppable):
            self._app.stop()
        self._listener.shutdown()
        self._listener.cut()
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
