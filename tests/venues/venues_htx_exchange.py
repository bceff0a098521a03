"""A scripted HTX on loopback: checks signatures by its own arithmetic, answers what a test says, sends what a test gives it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

from aiohttp import WSMsgType, web

from monitor.model.events import Event
from monitor.venues.base import AccountAccess
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.venue import HtxVenue

CODE = "BTC301227"
NEXT_CODE = "BTC310328"


class PlainSecret:
    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"


def access(alias: str = "main") -> AccountAccess:
    return AccountAccess(alias, PlainSecret(f"key-{alias}"), PlainSecret(f"secret-{alias}"))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def until(condition: Callable[[], Any], why: str, within_s: float = 5.0) -> None:
    """Waits for a condition, with a deadline; never sleeps for a fixed time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {why}")
        await asyncio.sleep(0.005)


def packed(message: Any) -> bytes:
    return gzip.compress(json.dumps(message).encode(), mtime=0)


# ------------------------------------------------------------------ what the venue says


def ok(data: Any) -> dict[str, Any]:
    return {"status": "ok", "data": data, "ts": now_ms()}


def refusal(code: int, text: str = "refused") -> dict[str, Any]:
    return {"status": "error", "err_code": code, "err_msg": text, "ts": now_ms()}


def contract(code: str = CODE, status: int = 1, kind: str = "quarter") -> dict[str, Any]:
    return {
        "symbol": code[:-6],
        "contract_code": code,
        "contract_type": kind,
        "contract_size": 100.0,
        "price_tick": 0.01,
        "delivery_date": f"20{code[-6:]}",
        "delivery_time": "1924588800000",
        "contract_status": status,
        "settlement_time": "1924588800000",
    }


def account_row(coin: str = "BTC", equity: float = 2.0, frozen: float = 0.0) -> dict[str, Any]:
    return {
        "symbol": coin,
        "margin_balance": equity,
        "margin_static": equity,
        "margin_position": 0.1,
        "margin_frozen": frozen,
        "margin_available": equity - 0.1,
        "profit_real": 0,
        "profit_unreal": 0,
        "risk_rate": 19.8,
        "withdraw_available": equity,
        "liquidation_price": None,
        "lever_rate": 10,
        "adjust_factor": 0.2,
    }


def empty_row(coin: str) -> dict[str, Any]:
    return account_row(coin, 0.0) | {"margin_position": 0, "margin_available": 0, "risk_rate": None, "withdraw_available": 0}


def leg(volume: float = 10, direction: str = "buy", code: str = CODE) -> dict[str, Any]:
    return {
        "symbol": code[:-6],
        "contract_code": code,
        "contract_type": "quarter",
        "volume": volume,
        "available": volume,
        "frozen": 0,
        "cost_open": 9000.0,
        "cost_hold": 10000.0 if volume else 0,
        "profit_unreal": 0,
        "profit_rate": 0,
        "profit": 0,
        "position_margin": 0.1,
        "lever_rate": 10,
        "direction": direction,
        "last_price": 10000.0,
    }


def picture(coin: str = "BTC", equity: float = 2.0, legs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return account_row(coin, equity) | {"positions": [leg()] if legs is None else legs}


def push(topic: str, event: str, rows: list[dict[str, Any]], ts: int | None = None) -> dict[str, Any]:
    return {"op": "notify", "topic": topic, "event": event, "ts": ts or now_ms(), "uid": "1", "data": rows}


def trade(price: float, code: str = CODE, ts: int | None = None) -> dict[str, Any]:
    at = ts or now_ms()
    row = {"amount": 2, "ts": at, "id": 1, "price": price, "direction": "buy", "quantity": 0.1}
    return {"ch": f"market.{code}.trade.detail", "ts": at, "tick": {"id": 1, "ts": at, "data": [row]}}


def kline(topic: str, close: str, ts: int | None = None) -> dict[str, Any]:
    at = ts or now_ms()
    values = {"open": close, "high": close, "low": close, "amount": "0", "vol": "0", "count": "0"}
    return {"ch": topic, "ts": at, "tick": {"id": at // 60_000 * 60, "close": close, **values}}


# ------------------------------------------------------------------ the exchange


class Asked:
    """One request that the exchange got."""

    def __init__(self, request: web.Request, body: dict[str, Any]) -> None:
        self.method = request.method
        self.path = request.path
        self.query = dict(request.query)
        self.body = body
        self.at = time.monotonic()


class Line:
    """One open socket and all that the client said on it."""

    def __init__(self, path: str, socket: web.WebSocketResponse) -> None:
        self.path = path
        self.socket = socket
        self.said: list[dict[str, Any]] = []
        self.topics: set[str] = set()
        self.key = ""  # of the account, once authenticated

    async def send(self, message: Any) -> None:
        with suppress(ConnectionError):
            await self.socket.send_bytes(message if isinstance(message, bytes) else packed(message))


Answer = Any  # JSON, web.Response, or an (async) function of the Asked that returns one of these


class Exchange:
    """`answers[path]`: one answer. `pushes`: what the venue sends on a topic right after its confirmation."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[Asked] = []
        self.lines: list[Line] = []  # ever opened, oldest first
        self.log: list[str] = []  # order of the facts: "sub accounts.*", "POST /api/…"
        self.secrets = {"key-main": "secret-main", "key-second": "secret-second"}
        self.pushes: dict[str, Callable[[Line], Awaitable[None]]] = {}
        self.before_ack: dict[str, Any] = {}  # message sent before the confirmation of a topic
        self.refuse_auth: int | None = None
        self.headers: dict[str, str] = {}
        self.url = ""
        self.host = ""

    def count(self, path: str) -> int:
        return sum(1 for asked in self.asked if asked.path == path)

    def open(self, path: str) -> list[Line]:
        return [line for line in self.lines if line.path == path and not line.socket.closed]

    def ever(self, path: str, key: str | None = None) -> int:
        return sum(1 for line in self.lines if line.path == path and (key is None or line.key == key))

    def user(self, key: str = "key-main") -> Line:
        return next(line for line in reversed(self.lines) if line.key == key)

    def notices(self) -> Line:
        return next(line for line in reversed(self.lines) if "public.*.contract_info" in line.topics)

    async def send(self, path: str, message: Any) -> None:
        for line in self.open(path):
            await line.send(message)

    # -------------------------------------------------------------- REST

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request, await request.json() if request.can_read_body else {})
        self.asked.append(asked)
        self.log.append(f"{asked.method} {asked.path}")
        if "Signature" in request.query_string and not self._signed(request):
            return web.json_response(refusal(12008, "Verification failure"))
        answer = self.answers.get(request.path)
        if callable(answer):
            answer = answer(asked)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if answer is None:
            return web.json_response(refusal(1030, "not scripted"))
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(text=json.dumps(answer), content_type="text/plain", headers=self.headers)  # as the venue does

    def _signed(self, request: web.Request) -> bool:
        """The raw query, without the signature at its end, as the venue documents it: sorted by ASCII."""
        query, _, given = request.raw_path.partition("?")[2].rpartition("&Signature=")
        if query.split("&") != sorted(query.split("&")):
            return False
        key = request.query.get("AccessKeyId", "")
        return quote(self._signature(request.method, request.path, query, key), safe="") == given

    def _signature(self, method: str, path: str, query: str, key: str) -> str:
        text = "\n".join([method, self.host, path, query])
        secret = self.secrets.get(key, "unknown")
        return base64.b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha256)).decode()

    # -------------------------------------------------------------- sockets

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        line = Line(request.path, socket)
        self.lines.append(line)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    said = json.loads(message.data)
                    line.said.append(said)
                    await (self._notification(line, said) if request.path == "/notification" else self._market(line, said))
        finally:
            await socket.close()
        return socket

    async def _market(self, line: Line, said: dict[str, Any]) -> None:
        if (topic := said.get("sub")) is not None:
            line.topics.add(topic)
            if topic in self.before_ack:
                await line.send(self.before_ack[topic])
            await line.send({"id": said["id"], "status": "ok", "subbed": topic, "ts": now_ms()})
            await self._pushed(line, topic)
        elif (topic := said.get("unsub")) is not None:
            line.topics.discard(topic)
            await line.send({"id": said["id"], "status": "ok", "unsubbed": topic, "ts": now_ms()})

    async def _notification(self, line: Line, said: dict[str, Any]) -> None:
        if said["op"] == "auth":
            names = ("AccessKeyId", "SignatureMethod", "SignatureVersion", "Timestamp")
            query = "&".join(f"{name}={quote(said[name], safe='')}" for name in names)
            good = self._signature("GET", "/notification", query, said["AccessKeyId"]) == said["Signature"]
            code = self.refuse_auth if self.refuse_auth is not None else (0 if good else 2003)
            if not code:
                line.key = said["AccessKeyId"]
            await line.send({"op": "auth", "type": "api", "err-code": code, "ts": now_ms(), "data": {"user-id": "1"}})
        elif said["op"] == "sub":
            topic = said["topic"]
            if not topic.startswith("public.") and not line.key:
                await line.send({"op": "sub", "topic": topic, "cid": said["cid"], "err-code": 2002, "ts": now_ms()})
                return
            line.topics.add(topic)
            self.log.append(f"sub {topic}")
            if topic in self.before_ack:
                await line.send(self.before_ack[topic])
            await line.send({"op": "sub", "topic": topic, "cid": said["cid"], "err-code": 0, "ts": now_ms()})
            await self._pushed(line, topic)

    async def _pushed(self, line: Line, topic: str) -> None:
        if (send := self.pushes.get(topic)) is not None:
            await send(line)


def script(exchange: Exchange) -> None:
    """An account with 2 BTC and one long leg, one contract, prices, no ladder."""
    answers = exchange.answers
    answers["/api/v1/timestamp"] = lambda _: {"status": "ok", "ts": now_ms()}
    answers["/api/v1/contract_contract_info"] = lambda _: ok([contract()])
    tiers = [{"ladder": 0, "min_size": 0, "max_size": None, "adjust_factor": 0.2}]
    answers["/api/v1/contract_adjustfactor"] = lambda _: ok([{"symbol": "BTC", "list": [{"lever_rate": 10, "ladders": tiers}]}])
    answers["/api/v1/contract_ladder_margin"] = lambda _: ok([])
    terms = {"contract_code": "BTC", "real_time_settlement": 1, "transfer_profit_ratio": 0.5}
    answers["/api/v1/contract_query_elements"] = lambda _: ok([terms])
    answers["/api/v1/contract_index"] = lambda _: ok([{"symbol": "BTC", "index_price": 10000.5, "index_ts": now_ms()}])
    answers["/api/v1/contract_account_info"] = lambda _: ok([account_row(), empty_row("ETH")])
    answers["/api/v1/contract_account_position_info"] = lambda asked: ok([picture(asked.body["symbol"])])
    answers["/market/trade"] = lambda asked: last_trade(asked, 10000.0, 1_600_000_000_000)
    answers["/index/market/history/mark_price_kline"] = lambda _: ok([{"id": now_ms() // 60_000 * 60, "close": "10001.5"}])


def last_trade(asked: Asked, price: float, ts: int) -> dict[str, Any]:
    """Price as text and the alias as symbol, as the venue does."""
    row = {"amount": "4", "quantity": "0.01", "ts": ts, "id": 1, "price": str(price), "direction": "buy", "symbol": "BTC_CQ"}
    tick = {"data": [row], "id": now_ms(), "ts": now_ms()}
    return {"ch": f"market.{asked.query['symbol']}.trade.detail", "status": "ok", "tick": tick, "ts": now_ms()}


@asynccontextmanager
async def serve(exchange: Exchange) -> AsyncIterator[Exchange]:
    app = web.Application()
    for path in ("/ws", "/ws_index", "/notification"):
        app.router.add_get(path, exchange._socket)
    app.router.add_route("*", "/{path:.*}", exchange._rest)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    exchange.url, exchange.host = f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"
    try:
        yield exchange
    finally:
        await runner.cleanup()


def quick(exchange: Exchange, **changes: Any) -> HtxSettings:
    """The live rules in tenths of seconds."""
    values: dict[str, Any] = {
        "rest": exchange.url,
        "spot": exchange.url,
        "streams": exchange.url.replace("http", "ws"),
        "backoff_min_s": 0.01,
        "backoff_max_s": 0.05,
        "retry_min_s": 0.01,
        "retry_max_s": 0.02,
        "fallback_s": 0.1,
        "reload_debounce_s": 0.02,
        "settle_poll_s": 0.05,
        "takeover_s": 0.05,
        "unavailable_pause_s": 0.1,
        "auth_retry_s": 0.1,
        "close_timeout_s": 0.2,
    }
    return HtxSettings(**(values | changes))


class Running:
    """A venue under test with all that it emitted."""

    def __init__(self, venue: HtxVenue, events: list[Event]) -> None:
        self.venue = venue
        self.events = events

    def of(self, kind: type[Any], **fields: Any) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind) and all(getattr(e, name) == is_ for name, is_ in fields.items())]

    def status(self, stream: str) -> Any:
        return next(status for status in self.venue.streams if status.stream == stream)

    def prices(self, kind: Any, symbol: str) -> list[Any]:
        return [row for e in self.events if getattr(e, "kind", None) is kind for row in e.rows if row.symbol == symbol]


@asynccontextmanager
async def running(
    exchange: Exchange, *, aliases: tuple[str, ...] = ("main",), bug_ends: bool = True, **changes: Any
) -> AsyncIterator[Running]:
    """The venue runs; an exception out of `run` is a bug, and fails the test."""
    events: list[Event] = []
    venue = HtxVenue(quick(exchange, **changes), [access(alias) for alias in aliases], events.append, now_ms)
    task = asyncio.create_task(venue.run())
    try:
        yield Running(venue, events)
        if bug_ends and task.done():
            task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
