"""`/api/v1/history` over a real socket, with a real ring behind the server."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from web.conftest import Serve
from web.view_in_memory import NOW_MS, MemoryView, a_pool, an_unknown_pool

from monitor.history.ring import HistoryRing

PATH = "api/v1/history?pool=binance/main/USD"


@pytest.fixture
async def ring() -> AsyncIterator[HistoryRing]:
    """Two minutes of a pool, of which the second is unknown."""
    now_ms = NOW_MS - NOW_MS % 60_000
    clock = [now_ms - 120_000]
    one = await HistoryRing.open(None, now_ms=lambda: clock[0])
    while clock[0] < now_ms:
        pool = a_pool(equity=11_000.0) if clock[0] < now_ms - 60_000 else an_unknown_pool("main")
        one.take(MemoryView([pool]).pools(), clock[0])
        clock[0] += 1000
    clock[0] -= 1000
    yield one
    await one.close()


async def get(client: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with client.get(url) as answer:
        body = await answer.read()
        assert answer.content_type == "application/json"
        return answer.status, json.loads(gzip.decompress(body) if "Content-Encoding" in answer.headers else body)


async def test_columns_and_gaps(serve: Serve, client: aiohttp.ClientSession, ring: HistoryRing) -> None:
    server = await serve(MemoryView([a_pool()]), history=ring)
    status, chart = await get(client, f"{server.url}{PATH}&span=300")
    assert status == 200
    assert chart.keys() == {"venue", "account", "pool", "start_ms", "step_s", "health", "equity", "requirement"}
    assert (chart["venue"], chart["account"], chart["pool"]) == ("binance", "main", "USD")
    assert (chart["start_ms"], chart["step_s"]) == (NOW_MS - NOW_MS % 60_000 - 300_000, 1)
    assert chart["equity"] == [None] * 180 + [11_000.0] * 60 + [None] * 60, "unknown is null"
    assert chart["health"] == [None] * 180 + [2.75] * 60 + [None] * 60
    _, coarse = await get(client, f"{server.url}{PATH}&span=300&points=5")
    assert (coarse["step_s"], coarse["health"]) == (60, [None, None, None, 2.75, None])


async def test_a_chart_of_an_hour_is_small(serve: Serve, client: aiohttp.ClientSession, ring: HistoryRing) -> None:
    server = await serve(MemoryView([a_pool()]), history=ring)
    async with client.get(f"{server.url}{PATH}", headers={"Accept-Encoding": "identity"}) as answer:
        assert len(await answer.read()) < 40_000


@pytest.mark.parametrize(
    ("query", "status", "says", "why"),
    [
        ("", 400, "not a pool", "no pool"),
        ("?pool=binance/main", 400, "not a pool", "not three parts"),
        ("?pool=binance/main/USD&span=59", 400, "span", "less than a minute"),
        ("?pool=binance/main/USD&span=2592001", 400, "span", "more than is kept"),
        ("?pool=binance/main/USD&span=1e3", 400, "span", "not a whole number"),
        ("?pool=binance/main/USD&points=1", 400, "span", "not a line"),
        ("?pool=binance/main/USD&points=100000", 400, "span", "more than a screen has"),
        ("?pool=binance/nobody/USD", 404, "nothing is remembered", "no such pool"),
        ("?pool=binance/new/USD", 200, "", "a pool that came this second: an empty chart, not an error"),
    ],
)
async def test_what_is_asked_wrongly(
    serve: Serve, client: aiohttp.ClientSession, ring: HistoryRing, query: str, status: int, says: str, why: str
) -> None:
    server = await serve(MemoryView([a_pool(), a_pool("new")]), history=ring)
    got, answer = await get(client, f"{server.url}api/v1/history{query}")
    assert got == status, why
    assert says in answer.get("error", "")
    if status == 200:
        assert answer["health"] == []


async def test_without_a_history(serve: Serve, client: aiohttp.ClientSession) -> None:
    server = await serve(MemoryView([a_pool()]))
    status, answer = await get(client, f"{server.url}{PATH}")
    assert (status, answer["hint"]) == (404, "set history.enabled")
    _, detail = await get(client, f"{server.url}api/v1/status?pool=binance/main/USD")
    assert detail["history"] is False
    assert detail["limits"]["warning"] == 2.0
    assert (detail["levers"], detail["nearest"]) == ([], None)
