"""What the tests of the alerts share: a real receiver on loopback, clocks, and short ways to write transitions."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, Message, OutboxRow, Reason
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Cause, Incident, IncidentKey, Level, Lever, Transition, Worse
from monitor.model.figures import PoolFigures, PoolKey
from monitor.store import Store

T0 = 1_795_325_664_000  # 2026-11-22T05:34:24Z
MINUTE = 60_000
KEY = IncidentKey("binance_usdm", "main", "USD", "health")
FAST = {"connect_s": 1, "total_s": 1, "retry_min_s": 0.01, "retry_max_s": 0.05, "probe_s": 0.05, "fail_over_s": 10}

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Clock:
    """A wall clock in ms that stands still unless told."""

    def __init__(self, now_ms: int = T0) -> None:
        self.ms = now_ms

    def __call__(self) -> int:
        return self.ms


class Receiver:
    """A HTTP server on a free port. `answers[path]` answers each request; without one it takes everything."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], Any]] = []
        self.answers: dict[str, Answer] = {}
        self.base = ""
        self._news = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        async with self._news:
            self.got.append((request.path, dict(request.headers), body))
            self._news.notify_all()
        answer = self.answers.get(request.path)
        if answer is not None:
            return await answer(request)
        is_slack = request.path.startswith("/services/")  # takes a message with this word
        return web.Response(text="ok") if is_slack else web.json_response({"ok": True})

    def at(self, path: str) -> list[Any]:
        return [body for where, _, body in self.got if where == path]

    def ids(self, path: str) -> list[str]:
        return [headers["Idempotency-Key"] for where, headers, _ in self.got if where == path]

    async def until(self, condition: Callable[[], object], deadline_s: float = 10.0) -> None:
        """Waits for requests until the condition holds; fails at the deadline."""
        async with asyncio.timeout(deadline_s), self._news:
            await self._news.wait_for(lambda: bool(condition()))


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    one = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield one
    finally:
        await runner.cleanup()


def webhook(name: str, base: str, **more: Any) -> dict[str, Any]:
    return {"kind": "webhook", "name": name, "url": f"{base}/{name}", "allow_insecure": True, **more}


def settings(*channels: dict[str, Any], delivery: dict[str, Any] | None = None, **more: Any) -> AlertSettings:
    return AlertSettings.model_validate({"channels": channels, "delivery": FAST | (delivery or {}), **more})


async def open_store(path: Path | str = ":memory:") -> Store[IncidentRecord, OutboxRow]:
    return await Store.open(path, IncidentRecord, OutboxRow, now_ms=lambda: T0)


def desk(
    alert_settings: AlertSettings, store: Store[IncidentRecord, OutboxRow], clock: Callable[[], int], **more: Any
) -> AlertDesk:
    more.setdefault("figures_of", lambda key: None)
    return AlertDesk(alert_settings, store, now_ms=clock, rng=random.Random(1), **more)


@contextlib.asynccontextmanager
async def running(one: AlertDesk) -> AsyncIterator[AlertDesk]:
    task = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def eventually(condition: Callable[[], object], deadline_s: float = 10.0) -> None:
    """For what no request tells of: looks again at each turn of the loop."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  the thing waited for has no event
            await asyncio.sleep(0.001)


# ------------------------------------------------------------------ values


def crossing(level: Level, was: Level = Level.OK, at_ms: int = T0, key: IncidentKey = KEY, **more: Any) -> Transition:
    more.setdefault("summary", f"health went from {was.word} to {level.word}")
    more.setdefault("worse", Worse.DOWN)
    return Transition(key=key, level=level, was=was, at_ms=at_ms, **more)


def account(alias: str, rule: str = "health") -> IncidentKey:
    return IncidentKey("binance_usdm", alias, "USD", rule)


def figures(**more: Any) -> PoolFigures:
    values: dict[str, Any] = {
        "key": PoolKey("binance_usdm", "main", "USD"),
        "unit": "USD",
        "equity": 11_800.0,
        "requirement": 10_000.0,
        "initial_margin": None,
        "margin_ratio": 10_000.0 / 11_800.0,
        "health": 1.18,
        "available": None,
        "withdrawable": None,
        "age_ms": 412,
        "venue_equity": 11_790.0,
        "venue_requirement": 10_000.0,
    }
    return PoolFigures(**(values | more))


def incident(level: Level = Level.CRITICAL, **more: Any) -> Incident:
    values: dict[str, Any] = {
        "id": "20261122T053424-7KQMZ",
        "key": KEY,
        "level": level,
        "worst": level,
        "opened_ms": T0,
        "changed_ms": T0,
        "summary": "health 1.18 is at or below 1.20",
        "known_level": max(level, Level.OK),
        "messages": 1,
    }
    return Incident(**(values | more))


def message(level: Level = Level.CRITICAL, reason: Reason = Reason.FIRST, **more: Any) -> Message:
    about = more.pop("incident", None) or incident(level)
    values: dict[str, Any] = {"id": f"{about.id}.1", "told_level": Level.OK, "at_ms": T0}
    return Message(reason=reason, incident=about, **(values | more))


CAUSES = (Cause("position BTCUSDT", -812.4, "USD"), Cause("rate of BTC", -101.0, "USD"))
LEVERS = (Lever("send", 4310.001, "USDT", 1.5), Lever("send", 0.0470001, "BTC", 1.5))
