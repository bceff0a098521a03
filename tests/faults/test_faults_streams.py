"""Rows 1–5, 9–12, 35: streams that are silent, frozen, cut, closed or held, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
from faults_scene import Scene

PREMIUM = "/fapi/v1/premiumIndex"
FOR_EVER = 1_000_000


def no_prices_by_rest(scene: Scene) -> None:
    scene.exchange.fault("reject_rest", count=FOR_EVER, path=PREMIUM)


async def told_stale(scene: Scene, subject: str, since_s: float) -> None:
    """The notice of stale data, within 15 s of the last good event, whatever was told and ended before."""
    known = {m["id"] for m in scene.told("stale", subject=subject)}

    def told() -> bool:
        return any(m["id"] not in known and m["reason"] == "first" for m in scene.told("stale", subject=subject)) or any(
            i.key.subject == subject for i in scene.monitor.readout.incidents()
        )

    await scene.until(told, f"stale: {subject}", 20)
    assert scene.now_s() - since_s <= 15
    assert await scene.metric("margin_alerts_total", rule="stale")


async def told_fresh(scene: Scene, subject: str) -> None:
    await scene.until(lambda: (scene.told("stale", subject=subject) or [{}])[-1].get("reason") == "resolved", "its end is told")
    started = {m["incident"]["id"] for m in scene.told("stale", subject=subject, reason="first")}
    ended = {m["incident"]["id"] for m in scene.told("stale", subject=subject, reason="resolved")}
    assert started == ended, "each has its end"


async def test_row_01_open_socket_pings_answered_no_data(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("silence_stream")
        began = scene.now_s()
        await scene.until(lambda: not scene.stream("mark_price").up, "the silence is noticed", 10)
        assert await scene.metric("margin_stream_up", stream="mark_price") == 0
        asked = scene.rest.asked(PREMIUM)
        await scene.until(lambda: scene.rest.asked(PREMIUM) > asked + 1, "REST takes over", 10)
        await scene.until(lambda: scene.logged("stream_down", reason="silent"), "reconnect", 10)
        assert await scene.reconnects("silent", "mark_price") >= 1
        assert scene.logged("stream_lost", reason="silent")
        while scene.now_s() - began < 20:
            await scene.seconds(1)
            assert scene.pool().age_ms <= 10_000, "prices by REST keep the figures fresh"
        told = scene.told("stale", subject="mark price")
        assert {m["level"] for m in told} <= {"warning", "ok"}, "5 s without a price may be told; with prices by REST it ends"
        assert not [m for m in scene.monitor.readout.incidents() if m.key.subject == "mark price"]

        no_prices_by_rest(scene)
        began = scene.now_s()
        await told_stale(scene, "mark price", began)
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered()
        await told_fresh(scene, "mark price")


async def test_row_02_stall_before_the_first_frame(stage: Any) -> None:
    def silent(scene: Scene) -> None:
        scene.exchange.fault("silence_stream")
        no_prices_by_rest(scene)

    async with stage(before=silent, ready=False) as scene:
        took_s = await scene.until(lambda: scene.logged("stream_down", reason="no_first_frame"), "given up without a frame", 6)
        assert took_s <= 5.1
        assert await scene.reconnects("no_first_frame", "mark_price") >= 1
        status, text = await scene.page("-/ready")
        assert status == 503
        assert "mark_price" in text
        await scene.until(lambda: scene.told("stale", subject="mark price"), "what never came is stale after the grace", 30)
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered()


@pytest.mark.parametrize("route", ["market_route", "private_route"])
async def test_row_03_acknowledged_on_a_dead_route(stage: Any, route: str) -> None:
    """The old addresses without a route accept us and say nothing."""
    async with stage(settings={route: ""}, ready=False) as scene:
        if route == "market_route":
            await scene.until(lambda: scene.logged("stream_down", reason="no_first_frame"), "given up", 10)
            assert "/ (!markPrice@arr@1s)" in scene.logged("stream_down")[0]["detail"], "the error names the route"
            await scene.seconds(10)
            status, text = await scene.page("-/ready")
            assert (status, "mark_price" in text) == (503, True)
            assert await scene.metric("margin_stream_up", stream="mark_price") == 0
            assert await scene.reconnects("no_first_frame", "mark_price") >= 1
            assert not scene.told("health"), "figures come by REST: nothing is made up"
        else:
            await scene.until(lambda: scene.ready, "an account on which nothing happens looks like this too", 60)
            scene.exchange.transfer("USDT", "-100")
            await scene.until(lambda: scene.logged("stream_down", reason="deaf"), "a change that only REST shows", 60)
            assert "on / did not tell" in scene.logged("stream_down", reason="deaf")[0]["detail"]
            assert await scene.reconnects("deaf", "user") >= 1


async def test_row_04_the_same_event_time_for_ever(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("freeze_event_time")
        no_prices_by_rest(scene)
        began = scene.now_s()
        frames = scene.monitor.readout.counters()["binance_usdm"].frames["mark_price"]
        await scene.until(lambda: not scene.stream("mark_price").up, "frames come, but nothing new", 10)
        assert scene.monitor.readout.counters()["binance_usdm"].frames["mark_price"] > frames, "frames came all the time"
        await told_stale(scene, "mark price", began)
        await scene.until(lambda: scene.logged("stream_down", reason="silent"), "the connection is replaced", 10)
        assert await scene.reconnects("silent", "mark_price") >= 1
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered()
        await told_fresh(scene, "mark price")


async def test_row_05_one_symbol_dead_the_others_busy(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("silence_symbol", symbol="SUIUSDT")
        began = scene.now_s()
        await scene.until(lambda: scene.told("stale", pool="USD", reason="first"), "the pool that holds it is stale", 20)
        assert scene.now_s() - began <= 15
        assert scene.stream("mark_price").up, "the stream itself is well"
        assert (await scene.metric("margin_pool_data_age_seconds", pool="USD") or 0) >= 5
        assert not scene.told("stale", subject="mark price")
        assert scene.logged("alert", rule="stale", pool="USD")
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered(lambda: scene.told("stale", pool="USD", reason="resolved"))


async def test_row_09_planned_rotation_leaves_no_gap(stage: Any) -> None:
    """Each connection is replaced before the venue ends it, both deliver during the overlap, and nothing counts twice."""
    early = {"rotate_after_s": 10, "rotate_jitter_s": 1, "overlap_s": 2}
    async with stage(settings=early) as scene:
        sockets = 0
        for _ in range(40):
            scene.exchange.transfer("USDT", "1")
            await scene.seconds(1)
            sockets = max(sockets, len(scene.exchange.binance.hub.connections))
        assert sockets >= 3, "make before break"
        assert await scene.reconnects("rotation", "mark_price") >= 2
        assert await scene.reconnects("rotation", "user") >= 2
        assert not scene.logged("stream_down"), "never down"
        assert not scene.logged("stream_lost")
        assert not scene.told("stale")
        await scene.agreement("each transfer counted once")
        scene.fault_ends()
        await scene.recovered(scene.agrees)


async def test_row_10_a_storm_of_drops_is_met_with_growing_pauses(stage: Any) -> None:
    """A peer that accepts, says a little and drops: naive clients come back four to five times a second."""
    async with stage() as scene:
        no_prices_by_rest(scene)
        scene.streams.cut_after = 400  # the handshake passes, no frame does
        scene.streams.cut()
        began, dials = scene.now_s(), len(scene.streams.dialled_at)
        await scene.until(lambda: scene.told("stale", subject="mark price"), "told", 20)
        await scene.seconds(40 - (scene.now_s() - began))
        dialled = len(scene.streams.dialled_at) - dials
        assert 2 <= dialled <= 40, "two streams; a tight loop would have made hundreds"
        assert await scene.metric("margin_stream_reconnects_total", stream="mark_price")
        assert scene.logged("stream_down")
        scene.exchange.fault("clear")
        scene.streams.mend()
        scene.fault_ends()
        await scene.recovered(within_s=60)


async def test_row_10_attempts_of_all_streams_together_are_capped(stage: Any) -> None:
    """Without a cap there would be fifty a second. A busy machine takes some of them up late: hence the shorter window here."""
    cap = {"attempts_max": 6, "attempts_window_s": 6.0, "backoff_min_s": 0.01, "backoff_max_s": 0.02}
    async with stage(settings=cap) as scene:
        no_prices_by_rest(scene)
        scene.streams.refuse = True
        scene.streams.cut()
        await scene.until(lambda: len(scene.streams.dialled_at) >= 9, "some attempts", 60)
        at = scene.streams.dialled_at
        most = max(sum(start <= other < start + 4.0 for other in at) for start in at)
        assert most <= 6, "never more than the cap in any window"
        assert await scene.reconnects("network", "mark_price") >= 1
        assert scene.logged("stream_down", reason="network")
        await scene.until(lambda: scene.told("stale", subject="mark price"), "told", 60)
        scene.exchange.fault("clear")
        scene.streams.mend()
        scene.fault_ends()
        await scene.recovered(within_s=60)


async def test_row_11_close_1008_and_pongs(stage: Any) -> None:
    async with stage() as scene:
        hub = scene.exchange.binance.hub
        scene.exchange.clock(advance_ms=180_001)  # a ping is due
        await scene.until(lambda: all(c.ponged_ms >= c.pinged_ms > c.opened_ms for c in hub.connections), "pongs", 10)
        await scene.until(lambda: scene.healthy, "the jump of the clock is over", 60)

        told = len(scene.told("health"))
        scene.exchange.fault("kill_sockets", code=1008)
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down", reason="close_1008"), "seen")
        await scene.recovered()
        assert await scene.reconnects("close_1008", "mark_price") == 1
        assert await scene.reconnects("close_1008", "user") == 1
        assert len(scene.told("health")) == told, "a short gap is no loss"


@pytest.mark.parametrize("code", [1011, 1012, 1001, None])
async def test_row_12_other_closes_are_labelled_by_code(stage: Any, code: int | None) -> None:
    label = f"close_{code or 1006}"
    async with stage() as scene:
        scene.exchange.fault("kill_sockets", code=code)
        scene.fault_ends()
        await scene.until(lambda: len(scene.logged("stream_down", reason=label)) == 2, "both streams saw it")
        await scene.recovered()
        assert await scene.reconnects(label, "mark_price") == 1
        assert await scene.reconnects(label, "user") == 1
        assert not scene.told("health")


async def test_row_35_a_blackholed_peer_is_noticed_by_its_silence(stage: Any) -> None:
    """No RST, no FIN: the sockets stay open and REST hangs too."""
    async with stage() as scene:
        scene.rest.held = scene.streams.held = True
        began = scene.now_s()
        await scene.until(lambda: not scene.stream("mark_price").up, "the market stream is missed", 15)
        await scene.until(lambda: not scene.stream("user").up, "the user stream is missed", 15)
        assert scene.now_s() - began <= 15
        assert await scene.metric("margin_stream_up") == 0
        await told_stale(scene, "mark price", began)
        await scene.until(lambda: scene.logged("stream_down", reason="silent"), "the connection is given up", 15)
        assert await scene.reconnects("silent", "mark_price") == 1
        await scene.until(lambda: scene.monitor.readout.counters()["binance_usdm"].rest.get("timeout"), "REST times out", 60)
        assert await scene.rest_results("timeout") >= 1
        scene.rest.mend()
        scene.streams.mend()
        scene.fault_ends()
        await scene.recovered(within_s=60)
        await told_fresh(scene, "mark price")


async def test_flipped_bits_end_in_a_reconnect_or_in_a_refused_frame(stage: Any) -> None:
    """In no row of the catalogue, but what a bad path does beside swallowing: the figures stay the exchange's own."""
    async with stage() as scene:
        scene.streams.corrupt = 12
        await scene.until(lambda: scene.streams.corrupt == 0, "some chunks were spoilt")
        scene.fault_ends()
        await scene.recovered(within_s=60)
        await scene.agreement("no spoilt figure stays")
        assert not scene.told("health")
