"""What the desk says of its outbox: how long messages wait, and whether its senders try."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from alerts.alerts_kit import KEY, T0, Clock, desk, open_store, receiver, running, settings, webhook
from deadman_kit import until

from monitor.model.alerts import Level, Transition


def crossing() -> Transition:
    return Transition(key=KEY, level=Level.WARNING, was=Level.OK, at_ms=T0, summary="health 1.9 is at or below 2.00")


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


async def test_nobody_sends_so_it_stalls() -> None:
    seconds = Seconds()
    async with receiver() as there:
        one = desk(settings(webhook("hook", there.base)), await open_store(), Clock(), clock_s=seconds)
        assert (one.waits_s(), one.stalled_s()) == (0.0, 0.0)
        await one.handle([crossing()])
        seconds.s += 400
        assert one.waits_s() == pytest.approx(400)
        assert one.stalled_s() == pytest.approx(400), "due, and its sender does not run"


async def test_a_receiver_that_is_out_makes_it_wait_but_not_stall() -> None:
    seconds = Seconds()

    async def out(request: web.Request) -> web.Response:
        seconds.s += 400
        return web.Response(status=503)

    async with receiver() as there:
        there.answers["/hook"] = out
        slow = {"retry_min_s": 60, "retry_max_s": 60}
        one = desk(settings(webhook("hook", there.base), delivery=slow), await open_store(), Clock(), clock_s=seconds)
        async with running(one):
            await one.handle([crossing()])
            await until(lambda: one.channels()[0].results.get("retry"), "tried once")
            assert one.waits_s() >= 400
            assert one.stalled_s() == 0.0, "the next attempt is not due"
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("status", "headers", "result", "why"),
    [
        (429, {"Retry-After": "3000"}, "retry", "the receiver asked for patience"),
        (404, {}, "failed", "the channel is broken, which is told by itself"),
    ],
)
async def test_what_is_known_about_does_not_count(status: int, headers: dict[str, str], result: str, why: str) -> None:
    seconds = Seconds()

    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers)

    async with receiver() as there:
        there.answers["/hook"] = refuse
        slow = {"retry_min_s": 60, "retry_max_s": 60, "probe_s": 3600}
        one = desk(settings(webhook("hook", there.base), delivery=slow), await open_store(), Clock(), clock_s=seconds)
        async with running(one):
            await one.handle([crossing()])
            await until(lambda: one.channels()[0].results.get(result), "tried once")
            seconds.s += 2000
            assert one.waits_s() == 0.0, why
            assert one.stalled_s() == 0.0, why
