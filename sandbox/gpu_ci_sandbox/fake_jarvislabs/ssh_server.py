"""SSH into the machines of the stand-in: one port a machine, served by a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

    import asyncssh

    from gpu_ci_sandbox.fake_jarvislabs.disk import Disk

CHUNK: Final = 1 << 16
WAIT_SECONDS: Final = 10.0
# What a shell adds to the number of the signal that ended a process.
SIGNALLED: Final = 128


class Loop:
    """An event loop in a thread, there from the first use until `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something to its end. Raises what it raises."""
        asyncio.run_coroutine_threadsafe(work, self._running()).result(WAIT_SECONDS)

    def stop(self) -> None:
        """End the thread; what was opened in it has been closed."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop and thread:
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
                self._thread.start()
            return self._loop


@dataclass
class Door:
    """The SSH server of one start of a machine, for `user` with the keys that were known then.

    It has its port at once, and refuses connections until it is opened. The server behind it is
    made when somebody comes, since its library takes a moment to load.
    """

    user: str
    keys: str
    env: Mapping[str, str]
    home: Path
    disk: Disk
    opens_at: float
    loop: Loop
    opened: bool = False
    _socket: socket.socket = field(default_factory=socket.socket)
    _ready: Future[None] = field(default_factory=Future)
    _acceptor: asyncssh.SSHAcceptor | None = None
    _connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._socket.bind(("127.0.0.1", 0))

    @property
    def command(self) -> str:
        """What the API calls `ssh_str`."""
        port = self._socket.getsockname()[1]
        return f"ssh -o StrictHostKeyChecking=no -p {port} {self.user}@127.0.0.1"

    def open(self) -> None:
        """Take connections from now on."""
        self.opened = True
        self._socket.listen()
        self._socket.setblocking(False)
        self.loop.run(self._watch())

    def shut(self) -> None:
        """Cut every connection and take no more; what runs behind them goes on."""
        if self.opened:
            self.loop.run(self._shut())
        self._socket.close()

    def settle(self) -> None:
        """Wait until nothing is left of the visits, whose processes have been ended."""
        if self.opened:
            self.loop.run(self._settle())

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._first_visit)

    def _first_visit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._keep(self._listen())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _listen(self) -> None:
        import asyncssh  # noqa: PLC0415 -- it takes a moment to load

        self._acceptor = await asyncssh.listen(
            sock=self._socket,
            server_factory=self._entrance,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=lambda visit: self._keep(self._serve(visit)),
            encoding=None,
        )

    def _entrance(self) -> asyncssh.SSHServer:
        import asyncssh  # noqa: PLC0415 -- it takes a moment to load

        door = self

        class Entrance(asyncssh.SSHServer):
            """Lets in who has one of the keys and asks for the machine's user."""

            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self._connection = conn
                door._connections.add(conn)

            def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncssh's
                door._connections.discard(self._connection)

            def begin_auth(self, username: str) -> bool:
                if username == door.user and door.keys:
                    known = asyncssh.import_authorized_keys(door.keys)
                    self._connection.set_authorized_keys(known)
                return True

        return Entrance()

    async def _serve(self, visit: asyncssh.SSHServerProcess[bytes]) -> None:
        words = ("-c", visit.command) if visit.command else ("-s",)
        process = await asyncio.create_subprocess_exec(
            "sh",
            *(self.disk.localise(word.encode()) for word in words),
            cwd=self.home,
            env={**self.env, "HOME": str(self.home), "USER": self.user},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._keep(self._feed(visit, process))
        # As sshd: until the pipes are closed too, which a background process may hold.
        await asyncio.gather(
            _drain(process.stdout, visit.stdout), _drain(process.stderr, visit.stderr)
        )
        code = await process.wait()
        with suppress(OSError):  # the visitor has left
            visit.exit(code if code >= 0 else SIGNALLED - code)

    async def _feed(
        self, visit: asyncssh.SSHServerProcess[bytes], process: asyncio.subprocess.Process
    ) -> None:
        """Pass its input on line by line, since a path must not be cut in two."""
        import asyncssh  # noqa: PLC0415 -- it takes a moment to load

        pipe = process.stdin
        if pipe is None:
            return
        # The process may end, or the visitor leave, before all is read.
        with suppress(OSError, asyncssh.Error):
            while line := await visit.stdin.readline():
                pipe.write(self.disk.localise(line))
                await pipe.drain()
        pipe.close()

    async def _shut(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        for connection in list(self._connections):
            connection.abort()
        if self._acceptor:
            self._acceptor.close()

    async def _settle(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=WAIT_SECONDS / 2)


async def _drain(pipe: asyncio.StreamReader | None, channel: asyncssh.SSHWriter[bytes]) -> None:
    """Pass everything on; what nobody listens to any more is read all the same."""
    while pipe is not None and (chunk := await pipe.read(CHUNK)):
        with suppress(OSError):
            channel.write(chunk)
            await channel.drain()
