"""The listening sockets. Not asyncio's own server: that accepts until no descriptor is left, and logs each that fails."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from monitor.web.connections import Connection, Connections

BACKLOG = 128
ACCEPTS_PER_TURN = 8  # of the event loop; ticks go on in between
REST_S = 0.25  # after an accept that failed: the connection stays in the queue, and would fail again at once
ABSENT = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # `localhost` is an address of IPv6 too, where that may be off


class Listener:
    """protocol: makes that of one connection. descriptors_page: a higher one is of the reserve for deliveries and venues."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol], connections: Connections, descriptors_page: int) -> None:
        self._protocol = protocol
        self._connections = connections
        self._descriptors_page = descriptors_page
        self._sockets: list[socket.socket] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._resting: asyncio.TimerHandle | None = None

    async def open(self, host: str, port: int) -> None:
        """Raises OSError where the address cannot be had."""
        infos = await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        absent: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(infos):
            try:
                sock = socket.create_server(address[:2], family=family, backlog=BACKLOG)
            except OSError as exc:
                if exc.errno not in ABSENT:
                    raise
                absent = exc
                continue
            sock.setblocking(False)
            self._sockets.append(sock)
        if absent is not None and not self._sockets:
            raise absent
        self._listen()

    def close(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
        for task in self._connecting:
            task.cancel()

    @property
    def port(self) -> int | None:
        return self._sockets[0].getsockname()[1] if self._sockets else None

    def _listen(self) -> None:
        self._resting = None
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:  # EMFILE above all
                self._rest(exc)
                return
            self._take(sock, address)

    def _take(self, sock: socket.socket, address: Any) -> None:
        # The system gives the lowest number that is free: a high one means that all below are in use.
        scarce = sock.fileno() >= self._descriptors_page
        connection = self._connections.admit(self._protocol(), str(address[0]), scarce=scarce)
        if connection is None:
            self._connections.log.warning("web_connection_refused", open=len(self._connections))
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._connect(sock, connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, sock: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, sock)
        except OSError:  # it has hung up already
            self._connections.forget(connection)
            sock.close()

    def _rest(self, exc: OSError) -> None:
        """Something is short: one connection ends, and new ones wait for a moment."""
        self._connections.log.warning("web_accept_failed", problem=os.strerror(exc.errno or 0), open=len(self._connections))
        self._connections.oust()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
        self._resting = self._loop.call_later(REST_S, self._listen)
