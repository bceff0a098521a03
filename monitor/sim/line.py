"""One socket's way out: frames wait in a queue, so that a slow reader holds up nobody."""

import asyncio
from collections import deque

from aiohttp import web

BACKLOG_MAX = 64 << 20  # characters or bytes


class Line:
    """Frames are sent in the order in which they were put. Who reads too slowly is cut off."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.idle = asyncio.Event()
        self.idle.set()
        self._request = request
        self._backlog: deque[str | bytes] = deque()
        self._backlog_size = 0
        self._more = asyncio.Event()

    def put(self, frame: str | bytes) -> None:
        if self._backlog_size > BACKLOG_MAX:
            self.abort()
            return
        self._backlog.append(frame)
        self._backlog_size += len(frame)
        self.idle.clear()
        self._more.set()

    async def write(self) -> None:
        """Send what is queued, until cancelled or the peer is gone."""
        try:
            while True:
                await self._more.wait()
                while self._backlog:
                    frame = self._backlog.popleft()
                    self._backlog_size -= len(frame)
                    await self.send(frame)
                self._more.clear()
                self.idle.set()
        except ConnectionError:
            return
        finally:
            self.idle.set()

    async def send(self, frame: str | bytes) -> None:
        """Text as a text frame, bytes as a binary one; a venue may mean something else by bytes."""
        if isinstance(frame, bytes):
            await self.socket.send_bytes(frame)
        else:
            await self.socket.send_str(frame)

    def abort(self) -> None:
        """Cut the line without a close frame."""
        if self._request.transport is not None:
            self._request.transport.abort()
