"""Server-sent events: what the page lives on.

Each client is told its window of the pools at first, then what has changed since its own last event: at once when there are
new figures, but not more often than the interval. So a slow client costs itself a lower rate and nobody else anything; one
that takes nothing at all is dropped. A `tick` is sent at least once a second, even when nothing changed: the page must be
able to tell a quiet market from a dead monitor.
"""

import asyncio
from typing import Any

import orjson
import structlog
from aiohttp import hdrs, web

from monitor.model.view import View
from monitor.web.answers import problem
from monitor.web.around import Around, AroundReader
from monitor.web.connections import SeldomLog
from monitor.web.pools import PoolReader, Wanted, pool_name
from monitor.web.status import PoolSnapshot, json_object

log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/event-stream"
QUIET_S = 1.0  # between two ticks at most


class EventFeed:
    """The handler of `/api/v1/events?rows=50&from=0&q=words`.

    interval_s: between two events of one client, at least. send_timeout_s: how long a client may take nothing.
    clients_max: beyond it 503.
    """

    def __init__(
        self,
        view: View,
        pools: PoolReader,
        seldom: SeldomLog,
        *,
        interval_s: float = 0.2,
        send_timeout_s: float = 10.0,
        clients_max: int = 32,
    ) -> None:
        self._seldom = seldom
        self._pools = pools
        self._around = AroundReader(view, asyncio.get_running_loop().time)
        self._interval_s = interval_s
        self._send_timeout_s = send_timeout_s
        self._clients_max = clients_max
        self._closed = asyncio.Event()
        self._news = asyncio.Event()
        self.clients = 0

    def wake(self) -> None:
        """There are new figures. Cheap, and may be called at any rate."""
        self._pools.renew()
        if self.clients:
            news, self._news = self._news, asyncio.Event()
            news.set()

    def close(self) -> None:
        """Lets all clients go."""
        self._closed.set()
        self._news.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = Wanted.of(request.query)
        except ValueError:
            return problem(400, "not a window of the pools", "?rows=50&from=0&q=words")
        if request.method == hdrs.METH_HEAD:
            return web.Response(content_type=CONTENT_TYPE)
        if self.clients >= self._clients_max or self._closed.is_set():
            return problem(503, "too many pages are open", "close some of them")
        self.clients += 1
        try:
            return await self._serve(request, _Client(self._pools, self._around, wanted))
        finally:
            self.clients -= 1

    async def _serve(self, request: web.Request, client: "_Client") -> web.StreamResponse:
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, "X-Accel-Buffering": "no"})
        try:
            await response.prepare(request)
            async with asyncio.timeout(self._send_timeout_s):
                await response.write(b": ticks of margin-monitor\nretry: 2000\n\n")
            while not self._closed.is_set():
                news = self._news  # taken before the figures are read: what comes while they are sent is not missed
                tick = await client.tick()
                async with asyncio.timeout(self._send_timeout_s):
                    await response.write(b"event: tick\ndata: %s\n\n" % tick)
                await self._pause(news)
        except ConnectionError:
            pass  # the page was closed
        except TimeoutError:
            self._seldom.info("web_client_dropped", reason="takes nothing", seconds=self._send_timeout_s)
            _abort(request)
        except Exception:
            log.exception("web_events_failed")
            _abort(request)  # a stream that has begun cannot end in a 500; the page sees the break and says so
        return response

    async def _pause(self, news: asyncio.Event) -> None:
        """The interval, then until there are news, but not longer than a second in all."""
        await _set_within(self._closed, self._interval_s)
        await _set_within(news, max(QUIET_S - self._interval_s, 0.0))


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class _Client:
    """What one client was told last."""

    def __init__(self, pools: PoolReader, around: AroundReader, wanted: Wanted) -> None:
        self._pools = pools
        self._around = around
        self._wanted = wanted
        self._snapshot: PoolSnapshot | None = None
        self._shown: set[int] = set()
        self._parts: dict[str, Any] = {}
        self._told: Around | None = None

    async def tick(self) -> bytes:
        snapshot = self._pools.snapshot()
        window = self._pools.window(snapshot, self._wanted)
        changes = None if self._snapshot is None else self._pools.changes(snapshot, self._snapshot)
        told = set() if changes is None else self._shown - changes.places
        self._snapshot, self._shown = snapshot, set(window.places)
        around = self._around.read()
        parts = {
            **window.summary(),
            "order": [pool_name(snapshot.keys[place]) for place in window.places],
        }
        news = {name: orjson.dumps(part) for name, part in parts.items() if self._parts.get(name) != part}
        news |= around.news(self._told)
        self._parts, self._told = parts, around
        if changes is not None and changes.moved:
            news["moved"] = orjson.dumps(changes.moved)
        rows = await self._pools.rows(snapshot, [place for place in window.places if place not in told])
        return json_object({"now_ms": b"%d" % snapshot.now_ms, "pools": orjson.dumps(rows), **news})


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
