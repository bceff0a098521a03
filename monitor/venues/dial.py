"""How a stream's connection is opened, how often that may be tried, and what it is called when one ends."""

import asyncio
import logging
import random
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from yarl import URL

from monitor.venues.network import Names

# The library logs request lines at DEBUG, and ours hold listen keys. What matters we learn from its exceptions.
_SILENT_LOGGER = logging.Logger("websockets.silent", level=logging.CRITICAL + 1)


class StreamEnded(Exception):  # noqa: N818  the end of a connection is no error: each one ends
    """A connection's life is over. `reason` is one of a few fixed words (a metric label), `detail` is for people."""

    def __init__(self, reason: str, detail: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s  # at least this long before the next try


class StreamLimits(Struct, frozen=True, kw_only=True):
    """Periods in seconds."""

    open_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    ping_interval_s: float = 5.0
    ping_timeout_s: float = 8.0
    frame_bytes_max: int = 4 << 20
    backoff_min_s: float = 0.5
    backoff_max_s: float = 30.0
    settle_s: float = 30.0  # a connection that lived this long clears the back-off
    rotate_after_s: float = 23 * 3600.0
    rotate_jitter_s: float = 1800.0
    overlap_s: float = 2.0


class AttemptBudget:
    """At most `limit` connection attempts in any `window_s`, over all streams that share an address.

    A tenth is kept for the streams that serve every account: ten thousand that come back at once must not keep them waiting.
    """

    def __init__(self, limit: int, window_s: float) -> None:
        self._limit = limit
        self._limit_of_one = limit - limit // 10
        self._window_s = window_s
        self._at: deque[float] = deque()

    async def take(self, *, for_all: bool = False) -> None:
        """Returns in the moment in which an attempt may be made, and counts it. for_all: it serves every account."""
        limit = self._limit if for_all else self._limit_of_one
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            while self._at and self._at[0] <= now - self._window_s:
                self._at.popleft()
            if len(self._at) < limit:
                self._at.append(now)
                return
            free_at = self._at[len(self._at) - limit] + self._window_s
            await asyncio.sleep(free_at - now + random.uniform(0, self._window_s / self._limit))


class Dialler:
    """Opens the streams of one venue."""

    def __init__(self, limits: StreamLimits, names: Names, attempts: AttemptBudget, tls: ssl.SSLContext | None) -> None:
        self._limits = limits
        self._names = names
        self._attempts = attempts
        self._tls = tls

    @asynccontextmanager
    async def open(self, url: str, *, for_all: bool = False) -> AsyncIterator[ClientConnection]:
        """An open connection; `wss:` is never tried without TLS. What fails in the dial is a StreamEnded.

        for_all: the stream serves every account.
        """
        await self._attempts.take(for_all=for_all)  # here, not before the listen key is had: what counts is when we knock
        try:
            connection = await self._connect(url)
            try:
                yield connection
            finally:
                await _close(connection)
        except InvalidStatus as exc:
            status = exc.response.status_code
            raise StreamEnded(f"http_{status // 100}xx", f"the stream's address answered HTTP {status}") from None
        except ssl.SSLError as exc:
            raise StreamEnded("tls", f"TLS failed: {exc.reason or type(exc).__name__}") from None
        except socket.gaierror:
            raise StreamEnded("dns", "the stream's host name was not resolved") from None
        except (TimeoutError, OSError, WebSocketException) as exc:  # TimeoutError first in meaning, but it is an OSError too
            reason = "timeout" if isinstance(exc, TimeoutError) else "network"
            raise StreamEnded(reason, f"could not connect: {type(exc).__name__}") from None

    async def _connect(self, url: str) -> ClientConnection:
        limits, to = self._limits, URL(url)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.open_timeout_s
        sock = await self._names.connect(to.host or "", to.port or 0, limits.open_timeout_s)
        return await _Connect(  # which owns the socket from here on; TLS asks for the name in the URL, whatever its address
            url,
            sock=sock,
            ssl=self._tls if to.scheme == "wss" else None,
            logger=_SILENT_LOGGER,
            compression=None,  # the venues send none worth its memory per connection
            max_size=limits.frame_bytes_max,
            open_timeout=max(0.0, deadline - loop.time()),
            close_timeout=limits.close_timeout_s,
            ping_interval=limits.ping_interval_s,
            ping_timeout=limits.ping_timeout_s,
        )


async def _close(connection: ClientConnection) -> None:
    """The closing handshake, in a task of its own.

    Where ours is being cancelled (a rotation, a reload), Python before 3.11.3 turns the library's time-out for a peer that does
    not answer into a CancelledError, and the socket would stay open (python/cpython#102780).
    """
    closing = asyncio.create_task(connection.close())
    try:
        await asyncio.wait([closing])
    finally:
        connection.transport.abort()  # nothing where it is closed; else we are cancelled once more and wait for nobody
    closing.result()


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception:
        """No redirect is followed: the address holds a listen key."""
        return exc
