"""Server-sent events over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from web.conftest import Serve
from web.view_in_memory import NOW_MS, MemoryView, a_pool, an_incident

from monitor.model.figures import PoolKey
from monitor.model.streams import StreamStatus
from monitor.web.events import INCIDENTS_MAX, STREAMS_MAX
from monitor.web.server import Server

MAIN = PoolKey("binance", "main", "USD")
OTHER = PoolKey("binance", "other", "USD")


class Ticks:
    """The events of one open connection."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.comments: list[str] = []

    async def next(self) -> dict[str, Any]:
        event = ""
        async with asyncio.timeout(10):
            while True:
                line = (await self._answer.content.readuntil(b"\n")).decode().rstrip("\n")
                if line.startswith(":"):
                    self.comments.append(line)
                elif line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    assert event == "tick"
                    tick: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return tick
                elif not line and self._answer.content.at_eof():
                    raise EOFError

    async def until(self, found: Any) -> dict[str, Any]:
        """The first tick of which `found` is true."""
        async with asyncio.timeout(10):
            while not found(tick := await self.next()):
                pass
        return tick


@asynccontextmanager
async def ticks_of(client: aiohttp.ClientSession, server: Server) -> AsyncIterator[Ticks]:
    async with client.get(server.url + "api/v1/events", read_bufsize=1 << 24) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield Ticks(answer)


@pytest.fixture
def view() -> MemoryView:
    return MemoryView([a_pool("main"), a_pool("other")])


async def test_first_everything_then_what_changed(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    view.incident_rows = [an_incident()]
    server = await serve(view, event_interval_s=0.02)
    async with ticks_of(client, server) as ticks:
        first = await ticks.next()
        assert ticks.comments, "a comment opens the stream, so that a proxy passes the headers on"
        assert first["all"] is True
        assert [pool["account"] for pool in first["pools"]] == ["main", "other"]
        assert first["incidents"][0]["id"] == "20251009-K3QF"
        assert (first["missing"], first["channels"], first["streams_total"]) == ([], [], 0)

        quiet = await ticks.next()
        assert quiet == {"now_ms": NOW_MS, "all": False, "pools": []}, "a sign of life, and nothing twice"

        view.change(OTHER, health=1.1, level=4)
        changed = await ticks.until(lambda tick: tick["pools"])
        assert [(pool["account"], pool["level"]) for pool in changed["pools"]] == [("other", "critical")]
        assert "incidents" not in changed

        view.incident_rows = []
        assert (await ticks.until(lambda tick: "incidents" in tick))["incidents"] == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"health": None}, "a figure becomes unknown"),
        ({"age_ms": None}, "an age becomes unknown"),
        ({"level": -1}, "only the level"),
        ({"age_ms": 4_000}, "data get older than they were"),
        ({"unit": "USDT"}, "another unit: all is sent anew"),
    ],
)
async def test_every_kind_of_change_is_told(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView, fields: dict[str, Any], why: str
) -> None:
    server = await serve(view, event_interval_s=0.02)
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        view.change(MAIN, **fields)
        tick = await ticks.until(lambda tick: tick["pools"])
        assert tick["pools"][0]["account"] == "main", why
        assert tick["all"] is ("unit" in fields)


async def test_time_alone_changes_no_pool(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    """While nothing comes in, the age grows with the clock and the time of the data stands still."""
    server = await serve(view, event_interval_s=0.02)
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        view.figures = {key: a_pool(key.account, age_ms=5_800) for key in view.figures}
        view.clock_ms += 5_000
        tick = await ticks.until(lambda tick: tick["now_ms"] == NOW_MS + 5_000)
        assert tick["pools"] == []


async def test_pools_that_come_and_go(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view, event_interval_s=0.02)
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        del view.figures[MAIN]
        tick = await ticks.until(lambda tick: tick["all"])
        assert [pool["account"] for pool in tick["pools"]] == ["other"]
        view.put(a_pool("third"))
        tick = await ticks.until(lambda tick: tick["all"])
        assert [pool["account"] for pool in tick["pools"]] == ["other", "third"]


async def test_the_worst_of_too_much(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    view.stream_rows = [
        StreamStatus(venue="binance", account=f"a{i:03d}", stream="user", up=i != 140, down_reason="") for i in range(150)
    ]
    view.incident_rows = [an_incident(id=f"i{i}") for i in range(300)]
    server = await serve(view)
    async with ticks_of(client, server) as ticks:
        tick = await ticks.next()
    assert len(tick["streams"]) == STREAMS_MAX
    assert tick["streams"][0]["account"] == "a140", "what is down comes first"
    assert (tick["streams_total"], tick["streams_up"]) == (150, 149)
    assert [incident["id"] for incident in tick["incidents"]] == [f"i{i}" for i in range(INCIDENTS_MAX)]
    assert tick["incidents_total"] == 300


async def test_not_more_often_than_the_interval(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view, event_interval_s=0.2)
    loop = asyncio.get_running_loop()
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        start = loop.time()
        for step in range(3):
            view.change(MAIN, equity=float(step))
            await ticks.next()
        assert loop.time() - start >= 3 * 0.2 * 0.9


async def test_head_does_not_hang(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view)
    async with client.head(server.url + "api/v1/events") as answer:
        assert (answer.status, answer.content_type) == (200, "text/event-stream")


async def test_stop_lets_open_pages_go_at_once(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view, event_interval_s=60.0)
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        async with asyncio.timeout(1.5):
            await server.stop()
        with pytest.raises((EOFError, aiohttp.ClientError, asyncio.IncompleteReadError)):
            await ticks.next()


async def wait_for_status(client: aiohttp.ClientSession, server: Server, status: int) -> None:
    async with asyncio.timeout(10):
        while True:
            async with client.get(server.url + "api/v1/events") as answer:
                if answer.status == status:
                    return
            await asyncio.sleep(0.02)


async def test_too_many_pages_and_one_that_leaves(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view, event_interval_s=0.02, pages_max=1)
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        await wait_for_status(client, server, 503)
    await wait_for_status(client, server, 200)  # its place is free again


async def recv_or_end(connection: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 65_536)
    except ConnectionResetError:
        return b""


async def test_a_page_that_takes_nothing_is_dropped(serve: Serve, client: aiohttp.ClientSession) -> None:
    """It neither reads nor closes, like a laptop that was shut. Meanwhile others are served."""
    view = MemoryView([a_pool(f"desk-{i:04d}") for i in range(20_000)])  # 7 MB: more than the buffers of two sockets hold
    server = await serve(view, event_interval_s=0.02, send_timeout_s=0.3, pages_max=1)
    with socket.socket() as stuck, capture_logs() as logs:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", server.port))
        stuck.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wait_for_status(client, server, 503)
        async with client.get(server.url + "-/healthy") as answer:
            assert answer.status == 200
        await wait_for_status(client, server, 200)
        stuck.setblocking(False)
        received = 0
        async with asyncio.timeout(5):
            while chunk := await recv_or_end(stuck):
                received += len(chunk)
    assert received < 5_000_000, "the connection was cut, not emptied at leisure"
    assert "web_client_dropped" in [entry["event"] for entry in logs]


async def test_a_defect_in_a_stream_breaks_only_that_stream(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView
) -> None:
    server = await serve(view, event_interval_s=0.02)
    good = view.missing

    def broken() -> list[str]:
        raise RuntimeError("a defect")

    with capture_logs() as logs:
        async with ticks_of(client, server) as ticks:
            await ticks.next()
            view.missing = broken  # type: ignore[method-assign]
            with pytest.raises((EOFError, aiohttp.ClientError, asyncio.IncompleteReadError)):
                await ticks.until(lambda tick: False)
    assert "web_events_failed" in [entry["event"] for entry in logs]
    view.missing = good  # type: ignore[method-assign]
    async with ticks_of(client, server) as ticks:
        assert (await ticks.next())["all"] is True
