"""What stands around the pools: read once for all pages, told by row."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from time import perf_counter
from typing import Any

import aiohttp
from web.conftest import Serve
from web.test_web_events import ticks_of
from web.view_in_memory import NOW_MS, MemoryView, a_pool, an_incident

from monitor.model.streams import StreamStatus
from monitor.web.around import INCIDENTS_MAX, MISSING_MAX, STREAMS_MAX, AroundReader

PAGES = 8


def a_stream(account: str = "", stream: str = "user", **fields: Any) -> StreamStatus:
    return StreamStatus(
        venue="binance", account=account, stream=stream, **({"up": True, "first_data": True, "last_event_ms": NOW_MS} | fields)
    )


async def test_what_all_pages_share_is_asked_once(serve: Serve, client: aiohttp.ClientSession) -> None:
    """With 10,000 accounts `missing` takes 7.5 ms: not for each page, and not with each tick."""
    view = MemoryView([a_pool()])
    asked: dict[str, int] = dict.fromkeys(("missing", "streams", "incidents", "pools"), 0)

    def counting(name: str, answer: Any) -> Any:
        def ask() -> Any:
            asked[name] += 1
            return answer()

        return ask

    for name in asked:
        setattr(view, name, counting(name, getattr(view, name)))
    server = await serve(view, event_interval_s=0.02)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(ticks_of(client, server)) for _ in range(PAGES)]
        for _ in range(15):
            server.wake()
            await asyncio.gather(*(page.next() for page in pages))
        took_s = loop.time() - began_s
    assert asked["missing"] <= took_s + 1 + 1, asked  # and once for the page that reads before the first second is over
    assert asked["streams"] <= took_s + 1 + 1, asked
    assert asked["pools"] >= 10, "the test had ticks"
    assert asked["pools"] <= 3 * 15, "pages that tick together share one picture"


async def test_only_rows_that_changed_are_told(serve: Serve, client: aiohttp.ClientSession) -> None:
    view = MemoryView([a_pool()])
    view.stream_rows = [a_stream(f"a{i}") for i in range(3)]
    view.incident_rows = [an_incident(f"a{i}", id=f"i{i}") for i in range(3)]
    server = await serve(view, event_interval_s=0.02)
    async with ticks_of(client, server) as ticks:
        first = await ticks.next()
        assert first["stream_order"] == [f"binance/a{i}/user" for i in range(3)]
        assert [row["account"] for row in first["streams"]] == ["a0", "a1", "a2"]
        assert first["stream_times_ms"] == [NOW_MS] * 3
        assert first["incident_order"] == ["i0", "i1", "i2"]

        for stream in view.stream_rows:
            assert stream.last_event_ms is not None
            stream.last_event_ms += 1500
        view.incident_rows[1] = an_incident("a1", id="i1", value=1.17, worst_value=1.1)
        tick = await ticks.until(lambda tick: "stream_times_ms" in tick)
        assert tick["stream_times_ms"] == [NOW_MS + 1500] * 3
        assert not {"streams", "stream_order", "incidents", "incident_order"} & tick.keys(), "times and values move all the time"

        view.stream_rows[1].set_down("it hung up")
        view.incident_rows[2] = an_incident("a2", id="i2", messages=3)
        seen: dict[str, Any] = {}
        await ticks.until(lambda tick: seen.update(tick) or {"streams", "incidents"} <= seen.keys())
        assert [(row["account"], row["down_reason"]) for row in seen["streams"]] == [("a1", "it hung up")]
        assert seen["stream_order"] == ["binance/a1/user", "binance/a0/user", "binance/a2/user"], "what is down comes first"
        assert [(row["id"], row["messages"]) for row in seen["incidents"]] == [("i2", 3)]
        assert "incident_order" not in seen


async def test_a_row_that_comes_back_into_the_window_is_told_again() -> None:
    """The page forgets what is no longer in the order."""
    view, clock = MemoryView(), [0.0]
    reader = AroundReader(view, lambda: clock[0])
    told = None
    for incidents, rows, order in ((["i0", "i1"], 2, 2), (["i1"], 0, 1), (["i0", "i1"], 1, 2), (["i0", "i1"], 0, None)):
        view.incident_rows = [an_incident(id=one) for one in incidents]
        clock[0] += 1000
        around = reader.read()
        news = {name: json.loads(text) for name, text in around.news(told).items()}
        assert len(news.get("incidents", [])) == rows, incidents
        assert (len(news["incident_order"]) if "incident_order" in news else None) == order, incidents
        told = around


async def test_a_long_list_is_read_seldom() -> None:
    """What takes long takes no more than its share of the event loop."""
    view, clock = MemoryView(), [0.0]
    reads = []
    incidents = view.incidents

    def slow() -> Any:
        reads.append(clock[0])
        until_s = perf_counter() + 0.002
        while perf_counter() < until_s:
            pass
        return incidents()

    view.incidents = slow  # type: ignore[method-assign]
    reader = AroundReader(view, lambda: clock[0])
    for _ in range(1000):
        reader.read()
        clock[0] += 0.001
    assert len(reads) <= 10, "2 ms are its share of 100 ms"
    assert len(reads) > 1


async def test_the_windowed_status_is_cut_as_the_feed_is(serve: Serve, client: aiohttp.ClientSession) -> None:
    view = MemoryView([a_pool()])
    view.stream_rows = [a_stream(f"a{i:05d}", up=i != 9_999) for i in range(10_000)]
    view.incident_rows = [an_incident(id=f"i{i}") for i in range(300)]
    view.missing_words = [f"a{i}: no picture of the account yet" for i in range(10_000)]
    server = await serve(view)

    async def status(query: str) -> tuple[dict[str, Any], int]:
        async with client.get(server.url + "api/v1/status" + query) as answer:
            body = await answer.read()
            text = gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body
            return json.loads(text), len(text)

    window, size = await status("?rows=50")
    assert (len(window["streams"]), window["streams_total"], window["streams_up"]) == (STREAMS_MAX, 10_000, 9_999)
    assert window["streams"][0]["account"] == "a09999", "what is down comes first"
    assert (len(window["incidents"]), window["incidents_total"]) == (INCIDENTS_MAX, 300)
    assert (len(window["missing"]), window["missing_total"], window["ready"]) == (MISSING_MAX, 10_000, False)
    assert size < 130_000
    whole, _ = await status("")
    assert (len(whole["streams"]), len(whole["incidents"]), len(whole["missing"])) == (10_000, 300, 10_000), "this has all"
    assert [row["account"] for row in whole["streams"]] == [row.account for row in view.stream_rows]
