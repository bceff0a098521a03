"""Rows 6–8 and 16–19: what an account is told comes late, double, partly or not at all; the key that opens its stream ends."""

from __future__ import annotations

from typing import Any

import pytest
from faults_scene import USD, Scene

ACCOUNT = "/fapi/v3/account"
KEY = "/fapi/v1/listenKey"


BY_PUSH_ALONE = {"reconcile_s": 600, "order_refetch_s": 600}


async def user_stream_lives(scene: Scene) -> None:
    """A transfer arrives by push: no snapshot is asked for meanwhile."""
    before = scene.pool()
    wallet = next(row.wallet for row in before.assets if row.asset == "USDT")
    scene.exchange.transfer("USDT", "-17")

    def arrived() -> bool:
        return any(row.asset == "USDT" and row.wallet == pytest.approx(wallet - 17, abs=1e-6) for row in scene.pool().assets)

    await scene.until(arrived, "a push arrives", 10)


async def test_row_06_listen_key_expired_though_kept_alive(stage: Any) -> None:
    """Seen in the wild: the event comes twice. One reconnect with a new key, one full picture, nothing lost."""
    async with stage() as scene:
        posts = scene.rest.asked(KEY)
        scene.exchange.fault("drop_user_events", count=1)
        scene.exchange.transfer("USDT", "-50")  # in the gap: nobody pushes it
        pictures = scene.rest.asked(ACCOUNT)
        scene.exchange.fault("expire_listen_keys", copies=2)
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down", reason="listen_key_expired"), "seen", 10)
        await scene.recovered()
        assert await scene.reconnects("listen_key_expired", "user") == 1, "two events, one reconnect"
        assert scene.rest.asked(KEY) == posts + 1, "a new key"
        assert scene.rest.asked(ACCOUNT) > pictures, "a full picture"
        await user_stream_lives(scene)
        await scene.agreement("what happened in the gap is there")
        assert not scene.told("health")


async def test_row_06_two_expiries_in_ten_minutes_are_told(stage: Any) -> None:
    async with stage() as scene:
        for times in (1, 2):
            scene.exchange.fault("expire_listen_keys")
            await scene.until(lambda times=times: len(scene.logged("stream_down", reason="listen_key_expired")) == times, "seen")
            await scene.until(lambda: scene.healthy, "back")
        await scene.until(lambda: [m for m in scene.receiver.webhook if m["account"] == "main"], "an alert", 5)


async def test_row_07_expiry_event_with_a_string_timestamp(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("expire_listen_keys", time_as_text=True)
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down", reason="listen_key_expired"), "a control event is never dropped")
        await scene.recovered()
        assert await scene.reconnects("listen_key_expired", "user") == 1
        assert scene.monitor.readout.counters()["binance_usdm"].refused == {}
        await user_stream_lives(scene)
        assert not scene.told("stale")


async def test_row_08_keep_alive_fails_by_resets(stage: Any) -> None:
    quick = {"keep_alive_s": 10, "keep_alive_retry_s": 1, "retry_min_s": 0.02, "retry_max_s": 0.05, "reconcile_s": 600}
    async with stage(settings=quick) as scene:
        scene.rest.reset_on = KEY.encode()  # neither extended nor opened anew
        await scene.until(lambda: scene.logged("listen_key_extension_failed", reason="network"), "tried again soon", 30)
        await scene.until(lambda: scene.logged("stream_down", reason="listen_key_lost"), "then the key is given up", 60)
        assert await scene.reconnects("listen_key_lost", "user") == 1
        assert await scene.metric("margin_stream_up", stream="user") == 0
        assert not scene.pool().trusted, "the rows are not sure"
        asked = scene.rest.asked(ACCOUNT)
        took_s = await scene.until(lambda: scene.rest.asked(ACCOUNT) >= asked + 5, "REST each 4 s in its place", 30)
        assert took_s >= 12, "in its place, not in a loop"
        assert scene.stream("mark_price").up
        assert await scene.rest_results("network") >= 1
        told = len(scene.told("stale", subject="account"))
        assert told <= 2, "rows that are polled are not old: no message comes and goes with each poll"
        scene.exchange.fault("reject_rest", count=1_000_000, path=ACCOUNT)
        await scene.until(lambda: len(scene.told("stale", subject="account")) > told, "without REST they are", 30)
        assert (await scene.metric("margin_pool_data_age_seconds", pool="USD") or 0) >= 5
        scene.exchange.fault("clear")
        scene.rest.mend()
        scene.fault_ends()
        await scene.recovered(within_s=60)
        await user_stream_lives(scene)


async def test_row_16_account_events_out_of_order(stage: Any) -> None:
    """Reversed on the way: the later state stays, whatever comes last."""
    async with stage(settings=BY_PUSH_ALONE) as scene:
        pictures = scene.rest.asked(ACCOUNT)
        scene.exchange.fault("reorder_user_events", count=3)
        for amount in ("-300", "70", "-11"):
            scene.exchange.transfer("USDT", amount)
            await scene.seconds(1)
        await scene.agreement("transfers in reverse")
        scene.exchange.clock(frozen=False)
        scene.exchange.fault("reorder_user_events", count=5)
        for side, quantity in (("BUY", "10"), ("BUY", "30"), ("SELL", "5")):
            scene.exchange.order("SOLUSDT", side, quantity)
            await scene.seconds(1)
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.agreement("orders in reverse")
        await scene.recovered(scene.agrees)
        assert scene.rest.asked(ACCOUNT) == pictures, "no picture set it right"
        assert await scene.metric("margin_pool_equity_usd", pool="USD") == scene.pool().equity
        assert not scene.logged("stream_down")
        assert not scene.told("reconcile")


async def test_row_16_market_frames_out_of_order(stage: Any) -> None:
    async with stage() as scene:
        await scene.agreement("before")
        price = next(p.price for p in scene.pool().positions if p.symbol == "BTCUSDT")
        hub, now = scene.exchange.binance.hub, scene.exchange.now_ms()
        for late_ms, late in ((5_000, "1.00"), (500, "2.00")):
            hub.send_text(
                "market",
                "!markPrice@arr@1s",
                f'[{{"e":"markPriceUpdate","E":{now - late_ms},"s":"BTCUSDT","p":"{late}","st":1}}]',
            )
        frames = scene.monitor.readout.counters()["binance_usdm"].frames
        seen = frames["mark_price"]
        await scene.until(lambda: frames["mark_price"] >= seen + 2, "both came")
        assert next(p.price for p in scene.pool().positions if p.symbol == "BTCUSDT") == price, "older is dropped"
        assert scene.agrees()
        assert not scene.told("health")


async def test_row_16_older_rows_are_counted(stage: Any) -> None:
    async with stage(settings=BY_PUSH_ALONE) as scene:
        scene.exchange.fault("reorder_user_events", count=2)
        scene.exchange.transfer("USDT", "-300")
        await scene.seconds(1)
        scene.exchange.transfer("USDT", "70")
        await scene.agreement("the later state stays")
        assert (await scene.metric("margin_events_dropped_total", reason="older_account_row") or 0) >= 1


async def test_row_17_duplicate_events(stage: Any) -> None:
    async with stage(settings=BY_PUSH_ALONE) as scene:
        scene.exchange.fault("duplicate_user_events", count=20)
        frames = scene.monitor.readout.counters()["binance_usdm"].frames
        before = sum(frames.values())
        scene.exchange.transfer("USDT", "-300")
        scene.exchange.order("SOLUSDT", "BUY", "25")
        scene.exchange.order("SOLUSDT", "SELL", "40")
        scene.exchange.funding()
        scene.fault_ends()
        await scene.agreement("the state of a single delivery")
        await scene.recovered(scene.agrees)
        assert sum(frames.values()) > before + 4
        assert await scene.metric("margin_pool_equity_usd", pool="USD") == scene.pool().equity
        assert not scene.told("reconcile")
        assert not scene.logged("stream_down")


async def test_row_18_a_partial_update_is_merged(stage: Any) -> None:
    async with stage(settings=BY_PUSH_ALONE) as scene:
        held = {(p.symbol, p.side) for p in scene.pool().positions}
        pictures = scene.rest.asked(ACCOUNT)
        scene.exchange.transfer("USDC", "-100")  # its update names one asset and no position
        await scene.agreement("everything else is as it was")
        assert {(p.symbol, p.side) for p in scene.pool().positions} == held
        assert scene.rest.asked(ACCOUNT) == pictures, "by the push alone"
        assert not scene.told("reconcile")


async def test_row_18_a_lost_update_is_found_by_rest_and_repaired(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("drop_user_events", count=10)
        scene.exchange.transfer("USDT", "-9000")
        scene.exchange.transfer("BTC", "-0.01")
        began = scene.now_s()
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down", reason="deaf"), "the stream is caught", 60)
        assert scene.now_s() - began <= 60
        assert await scene.reconnects("deaf", "user") == 1
        await scene.recovered(within_s=60)
        await scene.agreement("rebased")
        assert (await scene.metric("margin_reconcile_relative_difference", pool="USD") or 0.0) < 1e-6


async def test_row_18_a_lost_update_is_told(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("drop_user_events", count=1)
        scene.exchange.transfer("USDT", "-20000")  # 10 % of the equity
        scene.exchange.fault("clear")
        await scene.until(lambda: scene.logged("stream_down", reason="deaf"), "the stream is caught", 60)
        await scene.until(lambda: scene.told("reconcile"), "told", 5)


async def test_row_19_events_during_the_fetch_of_the_picture(stage: Any) -> None:
    """They are held back, and what is newer than the picture is replayed on top of it."""
    async with stage(settings=BY_PUSH_ALONE) as scene:
        for path in (ACCOUNT, "/fapi/v3/positionRisk"):
            scene.exchange.fault("delay_rest", count=2, path=path, delay_ms=700)
        scene.exchange.fault("stale_rest", count=4)  # and when they come, the answers are those of before
        scene.exchange.fault("kill_sockets")
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down"), "cut")
        hub = scene.exchange.binance.hub
        await scene.until(lambda: hub.streams("private"), "the stream is back before the picture", 30)
        assert scene.stream("user").up is False
        scene.exchange.transfer("USDT", "-123.25")
        scene.exchange.order("SOLUSDT", "SELL", "55")
        scene.exchange.transfer("USDT", "-1")
        await scene.recovered()
        await scene.agreement("the old picture and the newer events make the whole")
        assert await scene.reconnects("close_1006", "user") == 1
        assert not scene.told("reconcile")


async def test_row_19_an_old_picture_does_not_undo_a_newer_event(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("stale_rest", count=8)
        await scene.seconds(1)
        scene.exchange.transfer("USDT", "-500")
        await scene.agreement("by the push")
        scene.exchange.clock(frozen=False)
        asked = scene.rest.asked(ACCOUNT)
        for venue in scene.monitor.readout._venues:
            venue.request_snapshot("main")
        await scene.until(lambda: scene.rest.asked(ACCOUNT) > asked, "an answer of before")
        await scene.agreement("still the newer state")
        assert scene.monitor.readout.pool(USD) is not None
        scene.exchange.fault("clear")
