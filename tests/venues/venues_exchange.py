"""A scripted exchange on loopback: answers what a test says, remembers what it was asked, sends what a test gives it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import WSMsgType, web

from monitor.venues.base import AccountAccess
from monitor.venues.binance.settings import BinanceSettings


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


class Asked:
    """One request that the exchange got."""

    def __init__(self, request: web.Request, at: float) -> None:
        self.method = request.method
        self.path = request.path
        self.query = dict(request.query)
        self.query_string = request.query_string
        self.key = request.headers.get("X-MBX-APIKEY")
        self.at = at


Answer = Any  # JSON, or web.Response, or an (async) function of the request that returns one of these


class Exchange:
    """`answers[(method, path)]` is one answer, or a list that is used up from the front and whose last item stays."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer] = {}
        self.asked: list[Asked] = []
        self.market: list[web.WebSocketResponse] = []  # open connections, oldest first
        self.users: list[tuple[str, web.WebSocketResponse]] = []  # listen key, connection
        self.opened = {"market": 0, "user": 0}  # connections ever
        self.refuse_streams = False
        self.on_refused: Callable[[web.Request], None] = lambda _: None
        self.on_user_open: Callable[[web.WebSocketResponse], Awaitable[None]] | None = None
        self.url = ""
        self.used_weight = 1

    def count(self, method: str, path: str) -> int:
        return sum(1 for asked in self.asked if (asked.method, asked.path) == (method, path))

    async def send_market(self, data: Any, stream: str | None = None) -> None:
        text = json.dumps(data if stream is None else {"stream": stream, "data": data})
        for connection in list(self.market):
            with suppress(ConnectionError):
                await connection.send_str(text)

    async def send_user(self, data: Any) -> None:
        for _, connection in list(self.users):
            with suppress(ConnectionError):
                await connection.send_str(data if isinstance(data, str) else json.dumps(data))

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(Asked(request, time.monotonic()))
        answer = self.answers.get((request.method, request.path))
        if isinstance(answer, list) and answer and isinstance(answer[0], Step):
            step = answer.pop(0) if len(answer) > 1 else answer[0]
            answer = step.answer
        if callable(answer):
            answer = answer(request)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if answer is None:
            return web.json_response({"code": -1, "msg": "not scripted"}, status=404)
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.json_response(answer, headers={"X-MBX-USED-WEIGHT-1M": str(self.used_weight)})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_streams:
            self.on_refused(request)
            return web.Response(status=503)
        socket = web.WebSocketResponse(autoclose=True)
        await socket.prepare(request)
        key = request.match_info.get("key")
        kind = "market" if key is None else "user"
        self.opened[kind] += 1
        if key is None:
            self.market.append(socket)
        else:
            self.users.append((key, socket))
            if self.on_user_open is not None:
                await self.on_user_open(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            if key is None:
                self.market.remove(socket)
            else:
                self.users.remove((key, socket))
        return socket

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Exchange]:
        app = web.Application()
        app.router.add_get("/market/stream", self._stream)
        app.router.add_get("/private/ws/{key}", self._stream)
        app.router.add_route("*", "/{rest:.*}", self._rest)
        runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"{host}:{port}"
        try:
            yield self
        finally:
            for connection in [*self.market, *(socket for _, socket in self.users)]:
                await connection.close()
            await runner.cleanup()


class Step:
    """One item of a scripted sequence."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def steps(*answers: Answer) -> list[Step]:
    return [Step(answer) for answer in answers]


def refusal(status: int, code: int, msg: str = "refused", **headers: str) -> Callable[[web.Request], web.Response]:
    return lambda _: web.json_response(
        {"code": code, "msg": msg}, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def quick(exchange: Exchange, **changes: Any) -> BinanceSettings:
    """Settings for tests: the same rules, in tenths of seconds."""
    defaults: dict[str, Any] = {
        "rest": f"http://{exchange.url}",
        "spot": f"http://{exchange.url}",
        "streams": f"ws://{exchange.url}",
        "first_frame_s": 2,
        "fault_s": 2,
        "silence_s": 3,
        "backoff_min_s": 0.02,
        "backoff_max_s": 0.1,
        "close_timeout_s": 0.2,
        "overlap_s": 0.05,
        "rotate_jitter_s": 0,
        "fallback_s": 0.2,
        "snapshot_pause_s": 0,
        "order_debounce_s": 0.05,
        "order_refetch_s": 0,
        "reload_debounce_s": 0.05,
        "takeover_s": 0.1,
        "retry_min_s": 0.01,
        "retry_max_s": 0.02,
        "auth_retry_s": 0.3,
        "reconcile_s": 30,
    }
    return BinanceSettings(**(defaults | changes))


# ------------------------------------------------------------------ documented answers of a small account


def mark_frame(event_time_ms: int, price: str = "50000.0", symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    return [
        {
            "e": "markPriceUpdate",
            "E": event_time_ms,
            "s": symbol,
            "p": price,
            "i": price,
            "P": price,
            "r": "0.0001",
            "T": event_time_ms,
        }
    ]


def index_frame(event_time_ms: int) -> list[dict[str, Any]]:
    return [
        {
            "e": "assetIndexUpdate",
            "E": event_time_ms,
            "s": "USDTUSD",
            "i": "1.0",
            "b": "0.0001",
            "a": "0.0001",
            "B": "0.9999",
            "A": "1.0001",
            "q": "0.0001",
            "g": "0.0001",
            "Q": "0.9999",
            "G": "1.0001",
        }
    ]


def account_answer(wallet: str = "1000", amount: str = "0.01", updated_ms: int = 1) -> dict[str, Any]:
    zero = "0.00000000"
    return {
        "totalInitialMargin": "50",
        "totalMaintMargin": "2",
        "totalMarginBalance": wallet,
        "availableBalance": "900",
        "maxWithdrawAmount": "900",
        "assets": [
            {
                "asset": "USDT",
                "walletBalance": wallet,
                "unrealizedProfit": zero,
                "marginBalance": wallet,
                "maintMargin": "2",
                "initialMargin": "50",
                "positionInitialMargin": "50",
                "openOrderInitialMargin": zero,
                "crossWalletBalance": wallet,
                "crossUnPnl": zero,
                "availableBalance": "900",
                "maxWithdrawAmount": "900",
                "updateTime": updated_ms,
            }
        ],
        "positions": [
            {
                "symbol": "BTCUSDT",
                "positionSide": "BOTH",
                "positionAmt": amount,
                "unrealizedProfit": zero,
                "isolatedMargin": "0",
                "notional": "500",
                "isolatedWallet": "0",
                "initialMargin": "50",
                "maintMargin": "2",
                "updateTime": updated_ms,
            }
        ],
    }


def risk_answer(amount: str = "0.01", updated_ms: int = 1) -> list[dict[str, Any]]:
    return [
        {
            "symbol": "BTCUSDT",
            "positionSide": "BOTH",
            "positionAmt": amount,
            "entryPrice": "50000",
            "markPrice": "50000",
            "unRealizedProfit": "0",
            "liquidationPrice": "0",
            "isolatedMargin": "0",
            "notional": "500",
            "marginAsset": "USDT",
            "isolatedWallet": "0",
            "initialMargin": "50",
            "maintMargin": "2",
            "updateTime": updated_ms,
        }
    ]


def script_account(exchange: Exchange) -> None:
    """Everything that a healthy exchange answers to the adapter."""
    exchange.answers |= {
        ("GET", "/fapi/v1/time"): lambda _: {"serverTime": now_ms()},
        ("GET", "/sapi/v1/account/info"): {"vipLevel": 0, "isFutureEnabled": True, "isPortfolioMarginRetailEnabled": False},
        ("GET", "/fapi/v1/exchangeInfo"): {
            "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [
                {
                    "symbol": "BTCUSDT",
                    "marginAsset": "USDT",
                    "status": "TRADING",
                    "contractType": "PERPETUAL",
                    "deliveryDate": 4133404800000,
                }
            ],
        },
        ("GET", "/fapi/v1/premiumIndex"): lambda _: [{"symbol": "BTCUSDT", "markPrice": "49000.5", "time": now_ms()}],
        ("GET", "/fapi/v1/assetIndex"): lambda _: [
            {"symbol": "USDTUSD", "time": now_ms(), "index": "1", "bidRate": "0.9999", "askRate": "1.0001"}
        ],
        ("GET", "/fapi/v1/leverageBracket"): [
            {
                "symbol": "BTCUSDT",
                "brackets": [
                    {
                        "bracket": 1,
                        "initialLeverage": 125,
                        "notionalCap": 50000,
                        "notionalFloor": 0,
                        "maintMarginRatio": 0.004,
                        "cum": 0,
                    }
                ],
            }
        ],
        ("GET", "/fapi/v1/accountConfig"): {"multiAssetsMargin": True, "dualSidePosition": False},
        ("GET", "/fapi/v1/symbolConfig"): [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 10}],
        ("GET", "/fapi/v3/account"): account_answer(),
        ("GET", "/fapi/v3/positionRisk"): risk_answer(),
        ("POST", "/fapi/v1/listenKey"): {"listenKey": "first"},
        ("PUT", "/fapi/v1/listenKey"): {"listenKey": "first"},
    }
