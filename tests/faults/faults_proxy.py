"""A chaos proxy: TCP between the monitor and the simulated exchange, that cuts, holds, delays, resets and spoils on order."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close() sends RST instead of FIN
_REQUEST = re.compile(rb"(?:^|\r\n\r\n)(GET|POST|PUT|DELETE) (/[^ ?]*)")


class ChaosProxy:
    """Forwards bytes both ways, unless told otherwise. Set the attributes at any time; `mend` ends all faults.

    held: half open. Connections are accepted and stay, nothing passes and nobody is told (a blackholed peer).
    delay_s: each chunk towards the client waits so long. cut_after: bytes to a client after which its connection is reset.
    reset_on: a request that holds these bytes is answered by a reset. refuse: connections are reset as they come.
    corrupt: in so many chunks to come towards the client one bit is flipped. tls: speaks TLS with clients.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flow = asyncio.Event()
        self._flow.set()
        self.dialled_at: list[float] = []  # loop time of each connection
        self.requests: list[tuple[float, str, str]] = []  # (loop time, method, path) of each HTTP request
        self.delay_s = 0.0
        self.cut_after: int | None = None
        self.reset_on: bytes = b""
        self.refuse = False
        self.corrupt = 0
        self.corrupted = 0
        self.tls: ssl.SSLContext | None = None
        self.port = 0

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def listen(self) -> None:
        """On the same port as before, if it listened before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    @property
    def held(self) -> bool:
        return not self._flow.is_set()

    @held.setter
    def held(self, on: bool) -> None:
        if on:
            self._flow.clear()
        else:
            self._flow.set()

    # ------------------------------------------------------------------ faults

    def cut(self) -> int:
        """Resets every connection; returns how many."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            _reset(writer)
        return len(writers)

    def mend(self) -> None:
        self.delay_s, self.cut_after, self.reset_on, self.refuse, self.corrupt = 0.0, None, b"", False, 0
        self.held = False

    def asked(self, path: str, since: float = 0.0) -> int:
        """How many requests to this path came since a loop time."""
        return sum(of == path and at >= since for at, _, of in self.requests)

    # ------------------------------------------------------------------ one connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self.dialled_at.append(loop.time())
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if self.refuse:
                _reset(writer)
                return
            await self._flow.wait()
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            try:
                await self._forward(reader, writer, up_reader, up_writer)
            finally:
                up_writer.transport.abort()
                with contextlib.suppress(OSError):
                    await up_writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        ways = [asyncio.ensure_future(self._up(reader, up_writer, writer)), asyncio.ensure_future(self._down(up_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _up(self, reader: asyncio.StreamReader, up_writer: asyncio.StreamWriter, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            now = asyncio.get_running_loop().time()
            self.requests += [(now, method.decode(), path.decode()) for method, path in _REQUEST.findall(chunk)]
            if self.reset_on and self.reset_on in chunk:
                _reset(writer)
                return
            await self._flow.wait()
            up_writer.write(chunk)
            await up_writer.drain()

    async def _down(self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while chunk := await up_reader.read(_CHUNK):
            await self._flow.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.corrupt and len(chunk) > 64:
                self.corrupt -= 1
                self.corrupted += 1
                middle = len(chunk) // 2
                chunk = chunk[:middle] + bytes([chunk[middle] ^ 0x20]) + chunk[middle + 1 :]
            if self.cut_after is not None and passed + len(chunk) > self.cut_after:
                writer.write(chunk[: self.cut_after - passed])
                await writer.drain()
                _reset(writer)
                return
            passed += len(chunk)
            writer.write(chunk)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
