"""The open connections of the page: how many there may be, which of them has to go, and when one has had its time.

Whoever reaches the port can open connections before any token is asked for, and each costs a descriptor that a delivery or a
venue may need. So there are few of them, and one that wants in takes the place of the one that has been idle for longest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import structlog

CONNECTIONS_MAX = 256
CONNECTIONS_MIN = 4  # so many the page may have whatever the others take
LOG_S = 60.0  # between two lines about the same

log = structlog.get_logger(__name__)


def connections_max(descriptors: int) -> int:
    """A quarter of the descriptors that the process may have, and never many."""
    return max(CONNECTIONS_MIN, min(CONNECTIONS_MAX, descriptors // 4))


class SeldomLog:
    """A line a minute for what a hostile client can bring about at any rate; `times` counts those since the last line."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._logged_s: dict[str, float] = {}
        self._times: Counter[str] = Counter()

    def warning(self, event: str, **fields: Any) -> None:
        self._write(log.warning, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(log.info, event, fields)

    def _write(self, write: Callable[..., Any], event: str, fields: dict[str, Any]) -> None:
        now_s = self._clock_s()
        self._times[event] += 1
        if event not in self._logged_s or now_s - self._logged_s[event] >= LOG_S:
            write(event, times=self._times.pop(event), **fields)
            self._logged_s[event] = now_s


class Connection(asyncio.Protocol):
    """One connection, around the protocol of the HTTP server: what that does not tell, whether bytes flow, is seen here."""

    def __init__(self, inner: asyncio.Protocol, address: str, table: Connections) -> None:
        self.inner = inner
        self.address = address
        self.streams = False  # an event stream lives long, and drops by itself a client that does not read
        self.since_s = table.clock_s()  # when it last began or ended something
        self._table = table
        self._transport: asyncio.Transport | None = None
        self._handling = False
        self._head_since_s: float | None = self.since_s  # a new connection is there to ask something
        self._paused_s: float | None = None
        self._unsent = 0

    @property
    def busy(self) -> bool:
        return self._handling or self._paused_s is not None

    def handles(self, now: bool) -> None:
        """A request's head has come, or its answer is written out."""
        self._handling = now
        self._head_since_s = None
        self.since_s = self._table.clock_s()

    def overdue(self, now_s: float, *, head_s: float, send_s: float) -> bool:
        """Whether a head has taken too long, or the client has taken nothing of its answer for too long."""
        if self._paused_s is not None and not self.streams:
            unsent = self.unsent_bytes()
            if unsent < self._unsent:
                self._paused_s = now_s
            self._unsent = unsent
            return now_s - self._paused_s > send_s
        return self._head_since_s is not None and now_s - self._head_since_s > head_s

    def unsent_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        self._table.forget(self)
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # not every event loop's is one by its type
        self.inner.connection_made(transport)
        if self not in self._table:
            self._transport.abort()  # it had to go before it had come

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.forget(self)
        self._transport = None
        self.inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._handling and self._head_since_s is None:
            self._head_since_s = self._table.clock_s()
        self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def pause_writing(self) -> None:
        self._paused_s, self._unsent = self._table.clock_s(), self.unsent_bytes()
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self._paused_s = None
        self.inner.resume_writing()


class Connections:
    """All of them. maximum: at once. clock_s: of the event loop. head_s, send_s: see `Connection.overdue`."""

    def __init__(self, maximum: int, clock_s: Callable[[], float], *, head_s: float, send_s: float) -> None:
        self.clock_s = clock_s
        self.log = SeldomLog(clock_s)
        self._maximum = maximum
        self._head_s, self._send_s = head_s, send_s
        self._open: dict[asyncio.Protocol, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, connection: Connection) -> bool:
        return self._open.get(connection.inner) is connection

    def admit(self, inner: asyncio.Protocol, address: str, *, scarce: bool = False) -> Connection | None:
        """A new one; another makes room where there are too many. None: nobody can be asked to go.

        scarce: the process is short of descriptors: there shall be no more than now, unless there are very few.
        """
        maximum = CONNECTIONS_MIN if scarce else self._maximum
        if len(self._open) >= maximum and not self.oust():
            return None
        connection = self._open[inner] = Connection(inner, address, self)
        return connection

    def oust(self) -> bool:
        """Ends the idlest connection of the address that holds most of them; a busy one only where all are, a stream never."""
        held = Counter(one.address for one in self._open.values())
        candidates = [one for one in self._open.values() if not one.streams]
        if not candidates:
            return False
        self.log.warning("web_connections_full", open=len(self._open), hint="the idlest is closed for each new one")
        min(candidates, key=lambda one: (one.busy, -held[one.address], one.since_s)).abort()
        return True

    def sweep(self) -> None:
        """Ends those that have had their time. To be called about once a second."""
        now_s = self.clock_s()
        for one in [*self._open.values()]:
            if one.overdue(now_s, head_s=self._head_s, send_s=self._send_s):
                self.log.info("web_connection_timed_out", client=one.address, open=len(self._open))
                one.abort()

    @contextlib.contextmanager
    def handling(self, inner: asyncio.Protocol, *, streams: bool) -> Iterator[None]:
        """While a request of that connection is handled."""
        one = self._open.get(inner)
        if one is None:
            yield
            return
        one.handles(True)
        one.streams = streams
        try:
            yield
        finally:
            one.handles(False)
            one.streams = False

    def unsent_bytes(self) -> int:
        """What all clients together have not taken yet."""
        return sum(one.unsent_bytes() for one in self._open.values())

    def forget(self, connection: Connection) -> None:
        if connection in self:
            del self._open[connection.inner]
