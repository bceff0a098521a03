"""Server-sent events: what the page lives on.

Each client is told everything at first, then at most once per interval what has changed since its own last event. So a slow
client costs itself a lower rate and nobody else anything; one that takes nothing at all is dropped. A `tick` is sent even
when nothing changed: the page must be able to tell a quiet market from a dead monitor.
"""

import asyncio
from collections.abc import Sequence

import orjson
import structlog
from aiohttp import hdrs, web

from monitor.model.streams import StreamStatus
from monitor.model.view import View
from monitor.web.answers import gathered, problem
from monitor.web.status import PoolSnapshot, channel_rows, incident_rows, json_array, json_object, stream_rows

log = structlog.get_logger(__name__)

CONTENT_TYPE = "text/event-stream"
STREAMS_MAX = 100  # per tick, those that are down first; /api/v1/status has all
INCIDENTS_MAX = 200  # per tick, the worst; /api/v1/alerts has all


class EventFeed:
    """The handler of `/api/v1/events`.

    interval_s: between two events of one client. send_timeout_s: how long a client may take nothing. clients_max: then 503.
    """

    def __init__(self, view: View, *, interval_s: float = 1.0, send_timeout_s: float = 10.0, clients_max: int = 32) -> None:
        self._view = view
        self._interval_s = interval_s
        self._send_timeout_s = send_timeout_s
        self._clients_max = clients_max
        self._closing = asyncio.Event()
        self.clients = 0

    def close(self) -> None:
        """Lets all clients go."""
        self._closing.set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == hdrs.METH_HEAD:
            return web.Response(content_type=CONTENT_TYPE)
        if self.clients >= self._clients_max or self._closing.is_set():
            return problem(503, "too many pages are open", "close some of them")
        self.clients += 1
        try:
            return await self._serve(request)
        finally:
            self.clients -= 1

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: CONTENT_TYPE, "X-Accel-Buffering": "no"})
        client = _Client(self._view)
        try:
            await response.prepare(request)
            async with asyncio.timeout(self._send_timeout_s):
                await response.write(b": ticks of margin-monitor\nretry: 2000\n\n")
            while not self._closing.is_set():
                tick = await client.tick()
                async with asyncio.timeout(self._send_timeout_s):
                    await response.write(b"event: tick\ndata: %s\n\n" % tick)
                await self._pause()
        except ConnectionError:
            pass  # the page was closed
        except TimeoutError:
            log.info("web_client_dropped", reason="takes nothing", seconds=self._send_timeout_s)
            _abort(request)
        except Exception:
            log.exception("web_events_failed")
            _abort(request)  # a stream that has begun cannot end in a 500; the page sees the break and says so
        return response

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(self._interval_s):
                await self._closing.wait()
        except TimeoutError:
            pass


class _Client:
    """What one client was told last."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._pools: PoolSnapshot | None = None
        self._parts: dict[str, bytes] = {}

    async def tick(self) -> bytes:
        view = self._view
        pools = PoolSnapshot(view)
        rows = None if self._pools is None else pools.changed_since(self._pools)
        self._pools = pools
        streams, incidents, missing = view.streams(), view.incidents(), view.missing()
        parts = {
            "missing": orjson.dumps(missing),
            "streams": orjson.dumps(stream_rows(_down_first(streams)[:STREAMS_MAX])),
            "streams_total": b"%d" % len(streams),
            "streams_up": b"%d" % sum(stream.up for stream in streams),
            "incidents": orjson.dumps(incident_rows(incidents[:INCIDENTS_MAX])),
            "incidents_total": b"%d" % len(incidents),
            "channels": orjson.dumps(channel_rows(view.channels())),
        }
        news = {name: text for name, text in parts.items() if self._parts.get(name) != text}
        self._parts = parts
        return json_object(
            {
                "now_ms": b"%d" % pools.now_ms,
                "all": b"true" if rows is None else b"false",  # true: a pool that is not among these is gone
                "pools": json_array(await gathered(pools.pieces(rows), b",")),
                **news,
            }
        )


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _down_first(streams: Sequence[StreamStatus]) -> list[StreamStatus]:
    return sorted(streams, key=lambda stream: (stream.up, stream.venue, stream.account, stream.stream))
