"""When a sign of life is given, and when not: each row takes one thing away and says why."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from deadman_kit import Parts, stream, task_of, until

from monitor.deadman import LoopProbe, Reason
from monitor.model.alerts import ChannelStatus


def broken(name: str) -> ChannelStatus:
    return ChannelStatus(name=name, kind="slack", broken="http_404")


@pytest.mark.parametrize(
    ("change", "unwell", "hangs", "why"),
    [
        ({}, set(), set(), "all is well"),
        (
            {"streams": [stream("main", "user", up=False)]},
            {"stream_down"},
            set(),
            "blind to an account; a restart gives no sight",
        ),
        ({"streams": [stream("", "mark_price", up=False)]}, {"stream_down"}, set(), "blind to the market: the same"),
        ({"old": ["the mark price feed"]}, {"data_too_old"}, set(), "a dead exchange must not restart us for ever"),
        ({"waiting_s": 44.0}, set(), set(), "a message may wait, but not so long that the last heartbeat is a minute old"),
        ({"waiting_s": 45.0}, {"outbox_stuck"}, set(), "nobody hears us; the receiver may be out, which no restart repairs"),
        ({"stalling_s": 300.0, "waiting_s": 300.0}, {"outbox_stuck"}, {"outbox_stuck"}, "the sender hangs: a restart helps"),
        ({"stalling_s": 299.0}, set(), set(), "a sender may be slow"),
        ({"channel_rows": [broken("a"), broken("b")]}, {"channels_broken"}, set(), "nobody hears us, until a person mends it"),
        ({"channel_rows": [broken("a"), ChannelStatus(name="b", kind="slack")]}, set(), set(), "the other one hears of it"),
        ({"channel_rows": []}, set(), set(), "without channels nobody wants to hear anything but the heartbeat"),
        ({"problem": "disk is full"}, {"store_at_risk"}, set(), "a restart would forget"),
        ({"now_s": 1004.9}, set(), set(), "the last tick was 4.9 s ago"),
        ({"now_s": 1005.0}, {"loop_slow"}, {"loop_slow"}, "no tick for 5 s"),
    ],
)
def test_what_counts(change: dict[str, Any], unwell: set[str], hangs: set[str], why: str) -> None:
    parts = Parts()
    for name, value in change.items():
        setattr(parts, name, value)
    assert set(parts.dead_man.unwell()) == unwell, why
    assert set(parts.dead_man.hangs()) == hangs, why


def test_a_tick_makes_it_well_again() -> None:
    parts = Parts()
    parts.now_s += 60
    assert parts.dead_man.hangs() == {Reason.LOOP_SLOW: "the last tick was done before 60 s"}
    parts.dead_man.ticked()
    assert parts.dead_man.hangs() == {}


def test_the_words_name_a_few_of_many() -> None:
    parts = Parts()
    parts.streams = [stream(f"a{n}", "user", up=False) for n in range(10_000)]
    text = parts.dead_man.unwell()[Reason.STREAM_DOWN]
    assert text == "binance_usdm a0 user, binance_usdm a1 user, binance_usdm a2 user and 9997 more"


async def test_the_probe_measures_a_blocked_loop() -> None:
    probe = LoopProbe()
    async with task_of(probe.run()):
        await asyncio.sleep(0)  # it sleeps from now on
        time.sleep(1.2)  # noqa: ASYNC251  the fault itself
        assert probe.lag_s >= 0.6, "overdue while it has not woken up yet"
        lagging = probe.worst_lag_s
        await until(lambda: probe.lag_s < lagging, "it is over")
        assert probe.worst_lag_s >= lagging, "kept for the next scrape"


async def test_a_lagging_loop_is_unwell_though_it_ticks() -> None:
    parts = Parts()
    async with task_of(parts.probe.run()):
        await asyncio.sleep(0)
        parts.now_s += 2.6  # the probe wanted to wake 2.1 s ago
        parts.dead_man.ticked()
        assert set(parts.dead_man.hangs()) == {Reason.LOOP_SLOW}
