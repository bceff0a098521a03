"""The real app on real sockets: the simulated exchange, the monitor, and a receiver in place of Slack and Telegram."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from monitor.app import Monitor
from monitor.config import Config, from_data
from monitor.sim.exchange import SimExchange


class Receiver:
    """Takes what Slack, Telegram and a webhook would get."""

    def __init__(self) -> None:
        self.slack: list[dict[str, Any]] = []
        self.telegram: list[dict[str, Any]] = []
        self.webhook: list[dict[str, Any]] = []
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/services/{path}", self._slack)
        app.router.add_post("/bot{token}/sendMessage", self._telegram)
        app.router.add_post("/hook", self._webhook)
        return app

    async def _slack(self, request: web.Request) -> web.Response:
        self.slack.append(await request.json())
        return web.Response(text="ok")

    async def _telegram(self, request: web.Request) -> web.Response:
        self.telegram.append(await request.json())
        return web.json_response({"ok": True, "result": {"message_id": len(self.telegram)}})

    async def _webhook(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert request.headers["Idempotency-Key"] == body["id"]
        self.webhook += body["alerts"]
        return web.Response(text="ok")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    runner = web.AppRunner(receiver.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


def config_for(exchange: SimExchange, receiver: Receiver, store: Path | str = ":memory:", **over: Any) -> Config:
    """The configuration of a user whose exchange and chat services live on loopback."""
    return from_data(*data_for(exchange, receiver, store, **over))


def data_for(
    exchange: SimExchange, receiver: Receiver, store: Path | str = ":memory:", **over: Any
) -> tuple[dict[str, Any], dict[str, str]]:
    """The same as what his file and his environment hold."""
    venues = exchange.first_line()["venues"]
    venue, coins = venues["binance_usdm"], venues.get("htx_coin_futures", {"api_key": "", "api_secret": ""})
    data: dict[str, Any] = {
        "accounts": [{"name": "main", "venue": "binance_usdm", "api_key": {"env": "KEY"}, "api_secret": {"env": "SECRET"}}],
        "venues": {name: {"rest": it["rest"], "spot": it["rest"], "streams": it["streams"]} for name, it in venues.items()},
        "web": {"listen": "127.0.0.1:0"},
        "store": {"path": str(store)},
        "alerts": {
            "channels": [
                {"kind": "slack", "name": "slack", "webhook_url": {"env": "SLACK"}, "allow_insecure": True},
                {
                    "kind": "telegram",
                    "name": "telegram",
                    "bot_token": {"env": "TELEGRAM"},
                    "chat_id": "1",
                    "base_url": receiver.url,
                    "allow_insecure": True,
                },
                {"kind": "webhook", "name": "webhook", "url": {"env": "HOOK"}, "allow_insecure": True},
            ]
        },
    }
    environ = {
        "KEY": venue["api_key"],
        "SECRET": venue["api_secret"],
        "HTX_KEY": coins["api_key"],
        "HTX_SECRET": coins["api_secret"],
        "SLACK": f"{receiver.url}/services/T000",
        "TELEGRAM": "1234567890:AAtestAAtestAAtestAAtestAAtestAAtest",
        "HOOK": f"{receiver.url}/hook",
    }
    return _merged(data, over), environ


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        merged[key] = _merged(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


@contextlib.asynccontextmanager
async def running(config: Config, exchange: SimExchange | None = None) -> AsyncIterator[Monitor]:
    """The monitor, started; on the exchange's clock if that is not the real one."""
    monitor = Monitor(config, clock=exchange)  # type: ignore[arg-type]  the exchange tells the time as a clock does
    task = asyncio.create_task(monitor.run())
    started = asyncio.create_task(monitor.started.wait())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if task.done():
        await task
    try:
        yield monitor
        assert not task.done(), task
    finally:
        monitor.end()
        async with asyncio.timeout(15):
            await task


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Waits for a condition, and says what it waited for in vain."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  whatever is waited for is in other parts, and in other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {seconds:g} s: {what}")


async def fetch(url: str) -> tuple[int, str]:
    async with ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()
