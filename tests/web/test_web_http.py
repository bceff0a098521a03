"""Every path, asked over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import socket
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from web.conftest import Serve
from web.view_in_memory import HOSTILE, NOW_MS, MemoryView, a_pool, a_position, an_asset, an_incident, an_unknown_pool

from monitor.metrics import Metrics
from monitor.model.alerts import ChannelStatus, Level
from monitor.model.streams import StreamStatus
from monitor.web.server import STATIC, Server, ServerSettings

PATHS = ["/", "/static/app.js", "/static/app.css", "/static/icon.svg", "/metrics", "/-/healthy", "/-/ready"]
PATHS += ["/api/v1/status", "/api/v1/alerts"]


@pytest.fixture
def view() -> MemoryView:
    view = MemoryView([a_pool(positions=(a_position(),), assets=(an_asset(),)), an_unknown_pool("blind", age_ms=None)])
    view.stream_rows = [StreamStatus(venue="binance", account="", stream="mark_price", up=True, last_event_ms=NOW_MS - 300)]
    view.channel_rows = [ChannelStatus(name="desk-slack", kind="slack", results={"sent": 12})]
    view.incident_rows = [an_incident(), an_incident("blind", Level.UNKNOWN, id="20251009-QQQQ", known_level=Level.HIGH)]
    view.crossings = {("health", "critical"): 3}
    return view


async def get_json(client: aiohttp.ClientSession, url: str, status: int = 200) -> Any:
    async with client.get(url) as answer:
        body = await answer.read()
        assert answer.status == status, body
        assert answer.content_type == "application/json"
        return json.loads(gzip.decompress(body) if answer.headers.get("Content-Encoding") == "gzip" else body)


@pytest.mark.parametrize("path", PATHS)
async def test_every_path_answers_get_and_head_with_the_same_headers(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView, path: str
) -> None:
    server = await serve(view)
    async with client.get(server.url[:-1] + path) as answer:
        assert answer.status == 200
        assert await answer.read()
        headers = answer.headers
    async with client.head(server.url[:-1] + path) as answer:
        assert answer.status == 200
        assert await answer.read() == b""
        assert answer.headers["Content-Type"] == headers["Content-Type"]


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/api/v1/events", "/-/reload"])
async def test_security_headers_are_on_every_answer(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView, path: str
) -> None:
    server = await serve(view)
    async with client.get(server.url[:-1] + path) as answer:
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "margin-monitor"
        assert "Set-Cookie" not in answer.headers
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed", "why"),
    [
        ("POST", "/", 405, "GET, HEAD", "the page is only read"),
        ("PUT", "/api/v1/status", 405, "GET, HEAD", "so is the API"),
        ("DELETE", "/api/v1/alerts", 405, "GET, HEAD", "nothing is deleted over HTTP"),
        ("POST", "/metrics", 405, "GET, HEAD", "metrics are only read"),
        ("OPTIONS", "/api/v1/status", 405, "GET, HEAD", "no preflight is ever answered"),
        ("TRACE", "/", 405, "GET, HEAD", "TRACE would echo headers"),
        ("GET", "/-/reload", 405, "POST", "an image tag must not reload"),
        ("POST", "/-/reload", 403, None, "off by default"),
        ("GET", "/nothing", 404, None, "no such path"),
        ("GET", "/static/../server.py", 404, None, "there is no folder to climb out of"),
        ("GET", "/static/", 404, None, "no listing"),
        ("GET", "/%ff%fe", 404, None, "a path that is not UTF-8"),
        ("POST", "/nothing", 404, None, "no such path for any method"),
    ],
)
async def test_methods(
    serve: Serve, view: MemoryView, method: str, path: str, status: int, allowed: str | None, why: str
) -> None:
    server = await serve(view)
    answer = await raw(server, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition("\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} "), f"{why}: {answer}"
    assert json.loads(body)["error"]
    if allowed is not None:
        assert f"\r\nAllow: {allowed}" in head


async def raw(server: Server, request: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request.encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def test_ready_says_what_is_missing_and_healthy_does_not_care(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView
) -> None:
    server = await serve(view)
    view.missing_words = ["mark prices of binance", "snapshot of main"]
    assert await get_json(client, server.url + "-/ready", 503) == {"ready": False, "missing": view.missing_words}
    assert await get_json(client, server.url + "-/healthy") == {"healthy": True}
    view.missing_words = []
    assert await get_json(client, server.url + "-/ready") == {"ready": True, "missing": []}


async def test_healthy_says_when_a_restart_would_help(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    hangs: list[str] = []
    server = await serve(view, hangs=lambda: hangs)
    assert await get_json(client, server.url + "-/healthy") == {"healthy": True}
    hangs.append("the last tick was done before 31 s")
    assert await get_json(client, server.url + "-/healthy", 503) == {"healthy": False, "hangs": hangs}


async def test_status_has_everything_and_unknown_is_null(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view)
    status = await get_json(client, server.url + "api/v1/status")
    assert status["version"] == "0.1.0"
    assert status["now_ms"] == NOW_MS
    assert status["ready"] is True
    known, unknown = status["pools"]
    assert known == {
        "venue": "binance",
        "account": "main",
        "pool": "USD",
        "unit": "USD",
        "level": "ok",
        "equity": 12_000.0,
        "requirement": 4_000.0,
        "margin_ratio": 1 / 3,
        "health": 3.0,
        "guarantee_asset_ratio": None,
        "available": 4_000.0,
        "withdrawable": 3_900.0,
        "reconcile_difference": 0.0002,
        "as_of_ms": NOW_MS - 800,
    }
    assert unknown["level"] == "unknown"
    assert {name for name, value in unknown.items() if value is None} == known.keys() - {
        "venue",
        "account",
        "pool",
        "unit",
        "level",
    }
    assert status["streams"][0]["stream"] == "mark_price"
    assert status["channels"][0]["results"] == {"sent": 12}
    assert [incident["level"] for incident in status["incidents"]] == ["critical", "unknown"]
    assert status["incidents"][1]["known_level"] == "high"


async def test_infinite_figures_are_null(serve: Serve, client: aiohttp.ClientSession) -> None:
    view = MemoryView([a_pool(margin_ratio=math.inf, health=-0.5)])
    view.incident_rows = [an_incident(value=math.inf, worst_value=math.nan)]
    server = await serve(view)
    status = await get_json(client, server.url + "api/v1/status")
    assert status["pools"][0]["margin_ratio"] is None
    assert status["pools"][0]["health"] == -0.5
    assert status["incidents"][0]["value"] is None
    detail = await get_json(client, server.url + "api/v1/status?pool=binance/main/USD")
    assert detail["margin_ratio"] is None


async def test_one_pool_with_its_workings(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view)
    detail = await get_json(client, server.url + "api/v1/status?pool=binance/main/USD")
    assert detail["level"] == "ok"
    assert detail["venue_equity"] == 12_001.5
    (position,) = detail["positions"]
    assert (position["symbol"], position["bracket"], position["maintenance_rate"]) == ("BTCUSDT", 1, 0.004)
    assert position["liquidation_distance"] == pytest.approx(-0.1)
    (asset,) = detail["assets"]
    assert (asset["asset"], asset["bid"], asset["ask"]) == ("USDT", 0.9997, 0.9999)
    blind = await get_json(client, server.url + "api/v1/status?pool=binance/blind/USD")
    assert blind["unknown"] == ["no price of ETHUSDT"]
    assert blind["trusted"] is False


@pytest.mark.parametrize(
    ("fields", "distance", "why"),
    [
        ({"price": 50_000.0, "liquidation_price": 60_000.0}, 0.2, "a short is liquidated above"),
        ({"price": None}, None, "no price, no distance"),
        ({"liquidation_price": None}, None, "none"),
        ({"price": 0.0}, None, "a price of 0 is no price, and no division by it"),
    ],
)
async def test_distance_to_liquidation(
    serve: Serve, client: aiohttp.ClientSession, fields: dict[str, Any], distance: float | None, why: str
) -> None:
    server = await serve(MemoryView([a_pool(positions=(a_position(**fields),))]))
    detail = await get_json(client, server.url + "api/v1/status?pool=binance/main/USD")
    assert detail["positions"][0]["liquidation_distance"] == (None if distance is None else pytest.approx(distance)), why


@pytest.mark.parametrize(
    ("text", "status", "why"),
    [
        ("binance/nobody/USD", 404, "no such pool"),
        ("binance", 400, "not three parts"),
        ("binance/main", 400, "not three parts"),
        ("//", 400, "empty parts"),
        ("", 400, "empty"),
        ("a/b/c/d/e", 404, "slashes belong to the account"),
    ],
)
async def test_no_such_pool(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView, text: str, status: int, why: str
) -> None:
    server = await serve(view)
    async with client.get(server.url + "api/v1/status", params={"pool": text}) as answer:
        assert answer.status == status, why
        assert "error" in await answer.json()


async def test_a_hostile_alias_is_only_text(serve: Serve, client: aiohttp.ClientSession) -> None:
    server = await serve(MemoryView([a_pool(HOSTILE + "/x")]))
    status = await get_json(client, server.url + "api/v1/status")
    assert status["pools"][0]["account"] == HOSTILE + "/x"
    async with client.get(server.url + "api/v1/status", params={"pool": f"binance/{HOSTILE}/x/USD"}) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json", "a browser must not take it for a page"
    async with client.get(server.url + "metrics") as answer:
        body = gzip.decompress(await answer.read()).decode()
        assert list(parse_text(body))
        assert "<img" not in body


async def test_alerts(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    server = await serve(view)
    alerts = await get_json(client, server.url + "api/v1/alerts")
    assert [incident["id"] for incident in alerts["incidents"]] == ["20251009-K3QF", "20251009-QQQQ"]
    first = alerts["incidents"][0]
    assert (first["rule"], first["worse"], first["value"], first["worst_value"]) == ("health", "down", 1.18, 1.16)
    assert alerts["totals"] == [{"rule": "health", "level": "critical", "count": 3}]


@pytest.mark.parametrize(
    ("accept", "openmetrics", "why"),
    [
        ("", False, "nothing asked for"),
        ("*/*", False, "anything: the older format is understood by more"),
        ("text/plain;version=0.0.4;q=0.5", False, "an old Prometheus"),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3", True, "a Prometheus of today"),
        ("Application/OpenMetrics-Text", True, "media types know no case"),
        ("application/openmetrics-text;q=0, text/plain", False, "weight 0 is a refusal"),
    ],
)
async def test_format_of_metrics(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView, accept: str, openmetrics: bool, why: str
) -> None:
    server = await serve(view)
    async with client.get(server.url + "metrics", headers={"Accept": accept, "Accept-Encoding": "identity"}) as answer:
        text = (await answer.read()).decode()
        kind = answer.headers["Content-Type"]
    assert kind.startswith("application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain; version=0.0.4"), why
    families = {family.name for family in (parse_openmetrics if openmetrics else parse_text)(text)}
    assert {"margin_pool_health", "margin_tick_seconds", "process_resident_memory_bytes"} <= families


@pytest.mark.parametrize(
    ("accepted", "compressed", "why"),
    [
        ("gzip", True, "asked for"),
        ("deflate, GZIP;q=0.8", True, "in a list, any case"),
        ("gzip;q=0", False, "refused by weight"),
        ("gzip;q=0.000", False, "refused by weight, written long"),
        ("identity", False, "not asked for"),
        ("", False, "nothing asked for"),
    ],
)
@pytest.mark.parametrize("pools", [1, 1_000])
async def test_compression(
    serve: Serve, client: aiohttp.ClientSession, accepted: str, compressed: bool, why: str, pools: int
) -> None:
    server = await serve(MemoryView([a_pool(f"desk-{i}") for i in range(pools)]))
    async with client.get(server.url + "metrics", headers={"Accept-Encoding": accepted}) as answer:
        body = await answer.read()
        assert (answer.headers.get("Content-Encoding") == "gzip") is compressed, why
        assert "Accept-Encoding" in answer.headers["Vary"]
    text = (gzip.decompress(body) if compressed else body).decode()
    assert text.count("margin_pool_health{") == pools


async def test_reload_when_it_is_on(serve: Serve, client: aiohttp.ClientSession, view: MemoryView) -> None:
    errors: list[str] = []
    called = 0

    async def reload() -> list[str]:
        nonlocal called
        called += 1
        return errors

    server = await serve(view, reload=reload)
    async with client.post(server.url + "-/reload") as answer:
        assert (answer.status, await answer.json()) == (200, {"reloaded": True, "errors": []})
    errors.append("config.yaml:3:1: unknown key")
    async with client.post(server.url + "-/reload") as answer:
        assert (answer.status, await answer.json()) == (422, {"reloaded": False, "errors": errors})
    assert called == 2


async def test_a_defect_is_a_500_without_details_and_the_server_goes_on(
    serve: Serve, client: aiohttp.ClientSession, view: MemoryView
) -> None:
    server = await serve(view)

    def broken() -> list[str]:
        raise RuntimeError("secret-7f3a")

    view.missing = broken  # type: ignore[method-assign]
    async with client.get(server.url + "-/ready") as answer:
        assert answer.status == 500
        assert "secret-7f3a" not in await answer.text()
    assert await get_json(client, server.url + "-/healthy") == {"healthy": True}


async def test_headers_that_are_too_long_are_refused(serve: Serve, view: MemoryView) -> None:
    server = await serve(view)
    answer = await raw(server, f"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {'x' * 20_000}\r\n\r\n")
    assert answer.startswith(("HTTP/1.0 400 ", "HTTP/1.1 400 "))


async def test_an_address_in_use_is_an_error_and_stop_is_still_clean(view: MemoryView) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(view, Metrics(view, version="1"), ServerSettings(port=taken.getsockname()[1]))
        with pytest.raises(OSError):
            await server.start()
        await server.stop()
    await server.stop()


async def test_port_and_url_are_real(serve: Serve, view: MemoryView) -> None:
    one, other = await serve(view), await serve(view)
    assert one.port not in (0, other.port)
    assert one.url == f"http://127.0.0.1:{one.port}/"


def test_every_file_of_the_page_is_served_with_its_type() -> None:
    assert {"index.html", "app.js", "app.css", "icon.svg", "vendor/uPlot.iife.min.js"} <= STATIC.keys()
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for name, kind in STATIC.items():
        assert kind.startswith(kinds.get(name[name.rindex(".") :], "text/plain")), "with nosniff a browser runs nothing else"
