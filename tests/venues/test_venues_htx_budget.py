"""The venue's limits, in a loop whose time jumps: when a call may be made, to the millisecond."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from warping import WarpedClock, WarpingLoop

from monitor.venues.base import Fault, VenueError
from monitor.venues.htx.budget import Budget
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.signing import Scope

START_MS = 1_750_006_800_000


class Calls:
    """A budget of 24 private calls per 3 s, and when each call was admitted."""

    def __init__(self) -> None:
        clock = WarpedClock(START_MS)
        self.began_s = asyncio.get_running_loop().time()
        self.budget = Budget(HtxSettings(), clock.now_ms)

    async def call(self, alias: str) -> float:
        await self.budget.admit(Scope.PRIVATE, alias)
        return round(asyncio.get_running_loop().time() - self.began_s, 3)

    async def calls(self, alias: str, count: int) -> list[float]:
        return sorted(await asyncio.gather(*(self.call(alias) for _ in range(count))))


def in_virtual_time(test: Callable[[Calls], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await test(Calls())

    with asyncio.Runner(loop_factory=WarpingLoop) as runner:
        runner.run(run())


def test_calls_are_spread_over_windows() -> None:
    async def test(c: Calls) -> None:
        assert await c.calls("main", 50) == [0.0] * 24 + [3.0] * 24 + [6.0] * 2

    in_virtual_time(test)


def test_row_33_two_keys_of_one_user_share_one_budget() -> None:
    """48 of the 36 calls that the venue allows, before."""

    async def test(c: Calls) -> None:
        for alias in ("main", "second"):
            c.budget.identify(alias, "63628520")
        c.budget.identify("third", "7")
        both = await asyncio.gather(*(c.calls(alias, 24) for alias in ("main", "second")))
        assert sorted(at for each in both for at in each) == [0.0] * 24 + [3.0] * 24
        assert await c.call("third") == 3.0, "another user's"
        c.budget.pause(Scope.PRIVATE, "main", {"ratelimit-reset": "500"}, 0)
        with pytest.raises(VenueError) as caught:
            await c.call("second")
        assert caught.value.reason is Fault.RATE_LIMIT, "a pause is of both"

    in_virtual_time(test)


def test_row_33_what_was_asked_before_the_user_is_known_counts() -> None:
    async def test(c: Calls) -> None:
        waiting: list[Awaitable[list[float]]] = [c.calls("main", 20), c.calls("second", 20)]
        assert [await some for some in waiting] == [[0.0] * 20] * 2
        for alias in ("main", "second"):
            c.budget.identify(alias, "63628520")
        assert await c.call("main") == 3.0

    in_virtual_time(test)


def test_row_33_what_the_venue_says_remains_is_not_exceeded() -> None:
    """Another key of an unknown user, or another program, asks in the same name."""

    async def test(c: Calls) -> None:
        assert await c.call("main") == 0.0
        c.budget.observe(Scope.PRIVATE, "main", {"ratelimit-remaining": "2", "ratelimit-reset": "1200"}, 0)
        assert await c.calls("main", 5) == [0.0, 0.0, 1.2, 1.2, 1.2]

    in_virtual_time(test)
