"""One connection's conversation: frames in by the pump, heartbeat answers and requests out by a task of their own."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from monitor.venues.dial import StreamEnded
from monitor.venues.stream import Watch, pump, until_ended


class Outgoing:
    """What is to be sent on one connection. Requests are paced; of heartbeat answers only the newest waits, and it goes first."""

    def __init__(self, requests_per_s: float, timeout_s: float) -> None:
        self._spacing_s = 1 / requests_per_s
        self._timeout_s = timeout_s
        self._pong: str | None = None
        self._requests: deque[str] = deque()
        self._changed = asyncio.Event()

    def pong(self, text: str) -> None:
        self._pong = text
        self._changed.set()

    def request(self, text: str) -> None:
        self._requests.append(text)
        self._changed.set()

    async def send_all(self, connection: ClientConnection) -> None:
        """Until the connection closes, which the pump tells."""
        loop = asyncio.get_running_loop()
        request_at = loop.time()
        try:
            while True:
                self._changed.clear()
                if self._pong is not None:
                    text, self._pong = self._pong, None
                    await self._send(connection, text)
                elif self._requests and loop.time() >= request_at:
                    await self._send(connection, self._requests.popleft())
                    request_at = loop.time() + self._spacing_s
                else:
                    await self._wait(request_at if self._requests else None)
        except ConnectionClosed:
            return

    async def _send(self, connection: ClientConnection, text: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send(text)
        except TimeoutError:
            raise StreamEnded("send_timeout", f"the venue took nothing from us for {self._timeout_s:.0f} s") from None

    async def _wait(self, until: float | None) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            pass


async def converse(
    connection: ClientConnection,
    outgoing: Outgoing,
    receive: Callable[[bytes], bool],
    watch: Watch,
    *others: Coroutine[Any, Any, None],
) -> NoReturn:
    """Until the connection's end: raises StreamEnded. `receive` returns whether it was new data; `others` may end it too."""
    await until_ended(pump(connection, receive, watch), outgoing.send_all(connection), *others)
