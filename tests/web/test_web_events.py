"""Server-sent events over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs
from web.conftest import Serve
from web.view_in_memory import NOW_MS, MemoryView, a_pool, a_position, an_incident

from monitor.model.figures import PoolKey
from monitor.model.streams import StreamStatus
from monitor.web.around import INCIDENTS_MAX, STREAMS_MAX
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
async def ticks_of(client: aiohttp.ClientSession, server: Server, query: str = "") -> AsyncIterator[Ticks]:
    async with client.get(server.url + "api/v1/events" + query, read_bufsize=1 << 24) as answer:
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
        assert first["order"] == ["binance/main/USD", "binance/other/USD"]
        assert [pool["account"] for pool in first["pools"]] == ["main", "other"]
        assert (first["total"], first["found"], first["levels"]) == (2, 2, {"ok": 2})
        assert first["incidents"][0]["id"] == "20251009-K3QF"
        assert (first["missing"], first["channels"], first["streams_total"]) == ([], [], 0)

        quiet = await ticks.next()
        assert quiet == {"now_ms": NOW_MS, "pools": []}, "a sign of life, and nothing twice"

        view.change(OTHER, health=1.1, level=4)
        changed = await ticks.until(lambda tick: tick["pools"])
        assert [(pool["account"], pool["level"]) for pool in changed["pools"]] == [("other", "critical")]
        assert "incidents" not in changed
        assert changed["moved"] == [["binance/other/USD", "ok", "critical"]]
        assert (changed["order"], changed["levels"]) == (["binance/other/USD", "binance/main/USD"], {"critical": 1, "ok": 1})

        view.incident_rows = []
        gone = await ticks.until(lambda tick: "incident_order" in tick)
        assert (gone["incident_order"], gone["incidents_total"], "incidents" in gone) == ([], 0, False)


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
        assert [pool["account"] for pool in tick["pools"]] == (["main", "other"] if "unit" in fields else ["main"]), why


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
        tick = await ticks.until(lambda tick: "order" in tick)
        assert (tick["order"], tick["total"]) == (["binance/other/USD"], 1)
        view.put(a_pool("third"))
        tick = await ticks.until(lambda tick: "order" in tick)
        assert tick["order"] == ["binance/other/USD", "binance/third/USD"]
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


async def test_at_once_but_not_more_often_than_the_interval(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView
) -> None:
    server = await serve(view, event_interval_s=0.2)
    loop = asyncio.get_running_loop()
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        began = loop.time()
        for step in range(3):
            view.change(MAIN, equity=float(step))
            server.wake()
            tick = await ticks.next()
            assert tick["pools"][0]["equity"] == step
        assert loop.time() - began >= 3 * 0.2 * 0.9
        await asyncio.sleep(0.25)
        view.change(MAIN, equity=77.0)
        began = loop.time()
        server.wake()
        assert (await ticks.next())["pools"][0]["equity"] == 77.0
        assert loop.time() - began < 0.15, "whoever waits is told at once"


async def test_a_sign_of_life_each_second(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    """The page says after five seconds without any that nothing comes."""
    server = await serve(view)
    loop = asyncio.get_running_loop()
    async with ticks_of(client, server) as ticks:
        await ticks.next()
        began = loop.time()
        assert (await ticks.next())["pools"] == []
        assert 0.9 < loop.time() - began < 3


async def test_news_while_a_tick_is_written_are_not_missed(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    """New figures come after a tick has read the old ones and before it is sent."""
    server = await serve(view, event_interval_s=0.01)
    incidents, loop = view.incidents, asyncio.get_running_loop()

    def late() -> Any:
        view.incidents = incidents  # type: ignore[method-assign]
        view.change(MAIN, equity=5.0)
        server.wake()
        return incidents()

    async with ticks_of(client, server) as ticks:
        await ticks.next()
        view.incidents = late  # type: ignore[method-assign]
        began = loop.time()
        server.wake()
        await ticks.until(lambda tick: any(pool["equity"] == 5.0 for pool in tick["pools"]))
        assert loop.time() - began < 0.5, "not only with the next sign of life"


@pytest.mark.parametrize(
    ("query", "accounts", "found", "why"),
    [
        ("", ["c", "d", "b", "a"], 4, "worst first, the nearer to liquidation first among the equal"),
        ("?rows=2", ["c", "d"], 4, "only so many"),
        ("?rows=2&from=2", ["b", "a"], 4, "from there on"),
        ("?from=4", [], 4, "beyond the end"),
        ("?q=ok", ["b", "a"], 2, "a level"),
        ("?q=BINANCE+/D/", ["d"], 1, "all words, in any case"),
        ("?q=crit", ["c"], 1, "the beginning of a level"),
        ("?q=nobody", [], 0, "nothing"),
    ],
)
async def test_a_window_of_the_pools(
    serve: Serve, client: aiohttp.ClientSession, query: str, accounts: list[str], found: int, why: str
) -> None:
    view = MemoryView(
        [a_pool("a"), a_pool("b", health=2.5), a_pool("c", health=1.15, level=4), a_pool("d", health=None, equity=None, level=-1)]
    )
    server = await serve(view)
    async with ticks_of(client, server, query) as ticks:
        first = await ticks.next()
    assert [pool["account"] for pool in first["pools"]] == accounts, why
    assert first["order"] == [f"binance/{account}/USD" for account in accounts]
    assert (first["total"], first["found"], list(first["levels"])) == (4, found, ["critical", "unknown", "ok"])


@pytest.mark.parametrize("query", ["?rows=0", "?rows=201", "?rows=x", "?from=-1", "?from=9999999", "?rows=1e3"])
@pytest.mark.parametrize("path", ["api/v1/events", "api/v1/status"])
async def test_no_such_window(serve: Serve, client: aiohttp.ClientSession, view: MemoryView, path: str, query: str) -> None:
    if path.endswith("status") and "rows" not in query:
        query += "&rows=1"
    server = await serve(view)
    async with client.get(server.url + path + query) as answer:
        assert answer.status == 400
        assert "?rows=50" in (await answer.json())["hint"]


async def test_the_nearest_liquidation_of_each_row(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    near, far = a_position("ETHUSDT", -2.0, price=3_000.0, liquidation_price=3_150.0, side="SHORT"), a_position()
    view.put(a_pool("main", positions=(far, near, a_position("XRPUSDT", liquidation_price=None))))
    view.put(a_pool("blind", level=-1, positions=(near,)))
    server = await serve(view)
    async with ticks_of(client, server) as ticks:
        rows = {pool["account"]: pool for pool in (await ticks.next())["pools"]}
    expected = {"symbol": "ETHUSDT", "side": "SHORT", "price": 3_000.0, "liquidation_price": 3_150.0, "distance": 0.05}
    assert rows["main"]["nearest"] == pytest.approx(expected)
    assert rows["other"]["nearest"] is None, "no position"
    assert rows["blind"]["nearest"] is None, "what is left of an unknown pool is old"
    async with client.get(server.url + "api/v1/status?rows=3&q=main") as answer:
        status = (
            json.loads(gzip.decompress(await answer.read())) if answer.headers.get("Content-Encoding") else await answer.json()
        )
    assert [(pool["account"], pool["nearest"]["symbol"]) for pool in status["pools"]] == [("main", "ETHUSDT")]
    assert (status["total"], status["found"], status["levels"]) == (3, 1, {"unknown": 1, "ok": 2})


async def test_bytes_with_ten_thousand_pools(serve: Serve, client: aiohttp.ClientSession, record_property: Any) -> None:
    """All pools and all streams of 10,000 accounts move with every tick, 100 incidents too; a page is told of its window."""
    view = MemoryView([a_pool(f"desk-{i:05d}", health=1.5 + i / 1000) for i in range(10_000)])
    view.table = view.pools()
    view.stream_rows = [StreamStatus(venue="binance", account=f"desk-{i:05d}", stream="user") for i in range(10_000)]
    server = await serve(view, event_interval_s=0.02)

    def move(n: int) -> None:
        assert view.table is not None
        view.table.equity[:] += 1.0
        for stream in view.stream_rows:
            stream.set_up(NOW_MS + 200 * n)
        view.incident_rows = [an_incident(f"desk-{i:05d}", id=f"i{i}", value=1.18 - n / 1000) for i in range(100)]
        server.wake()

    move(0)
    async with client.get(server.url + "api/v1/events", read_bufsize=1 << 24) as answer:
        sizes: list[int] = []
        times = 0
        async with asyncio.timeout(30):
            while times < 2:
                line = await answer.content.readuntil(b"\n")
                if line.startswith(b"data: "):
                    sizes.append(len(line))
                    times += b"stream_times_ms" in line
                    move(len(sizes))
    assert sizes[0] < 75_000, "the first"
    assert len(sizes) >= 3
    assert max(sizes[1:]) < 25_000, "all rows of the window changed"
    record_property("first_bytes", sizes[0])
    record_property("tick_bytes", max(sizes[1:]))
    print(f"\n10,000 pools and streams, 100 incidents: first event {sizes[0]} bytes, then at most {max(sizes[1:])}")


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
    view = MemoryView(
        [a_pool("x" * 40_000 + f"-{i:04d}") for i in range(200)]
    )  # 16 MB: more than the buffers of two sockets hold
    server = await serve(view, event_interval_s=0.02, send_timeout_s=0.3, pages_max=1)
    with socket.socket() as stuck, capture_logs() as logs:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", server.port))
        stuck.sendall(b"GET /api/v1/events?rows=200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
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
        assert len((await ticks.next())["pools"]) == 2
