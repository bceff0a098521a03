"""What the tests of the dead man share: parts that a test sets, a service on loopback, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from monitor.deadman import DeadMan, LoopProbe
from monitor.model.alerts import ChannelStatus
from monitor.model.streams import StreamStatus


class Parts:
    """All that the dead man looks at, well until a test says otherwise."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.streams = [stream("", "mark_price"), stream("main", "user")]
        self.old: list[str] = []
        self.channel_rows: list[ChannelStatus] = [ChannelStatus(name="desk", kind="slack")]
        self.waiting_s = self.stalling_s = 0.0
        self.problem = ""
        self.probe = LoopProbe(self.clock_s)
        self.dead_man = DeadMan([self], self, self, self, self.probe, self.clock_s)

    def clock_s(self) -> float:
        return self.now_s

    def too_old(self) -> list[str]:
        return self.old

    def channels(self) -> list[ChannelStatus]:
        return self.channel_rows

    def waits_s(self) -> float:
        return self.waiting_s

    def stalled_s(self) -> float:
        return self.stalling_s

    async def check(self) -> None:
        """The store that has this problem."""


def stream(account: str, name: str, *, up: bool = True) -> StreamStatus:
    return StreamStatus(venue="binance_usdm", account=account, stream=name, up=up)


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Service:
    """Takes heartbeats at `url`; `answer` may be replaced."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, bytes]] = []
        self.answer: Answer = _thanks
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.calls.append((request.method, request.path, await request.read()))
        return await self.answer(request)


async def _thanks(_request: web.Request) -> web.Response:
    return web.Response(text="OK")


@contextlib.asynccontextmanager
async def service() -> AsyncIterator[Service]:
    one = Service()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/ping/5f0c-canary"
    try:
        yield one
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def task_of(work: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """The coroutine as a task that ends with the block; it must not have ended before."""
    task = asyncio.ensure_future(work)
    try:
        yield task
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"not within {seconds:g} s: {what}")
