"""Rows 20, 21, 24–29 and 36: contents that no documentation allows, tables that change, symbols that end, storms."""

from __future__ import annotations

from typing import Any

import pytest
from faults_scene import Scene

MARKS = "!markPrice@arr@1s"
BRACKETS = "/fapi/v1/leverageBracket"
CONTRACTS = "/fapi/v1/exchangeInfo"


def send_mark(scene: Scene, text: str) -> None:
    """A frame to all readers of the mark prices, as it stands."""
    scene.exchange.binance.hub.send_text("market", MARKS, text)


def mark(scene: Scene, **fields: str) -> str:
    row = {"e": '"markPriceUpdate"', "E": str(scene.exchange.now_ms()), "s": '"BTCUSDT"', "p": '"100.0"', "st": "1"} | fields
    return "{" + ",".join(f'"{name}":{value}' for name, value in row.items()) + "}"


def send_user(scene: Scene, text: str) -> None:
    hub = scene.exchange.binance.hub
    for key in hub.streams("private"):
        hub.send_text("private", key, text)


def price_of(scene: Scene, symbol: str) -> float | None:
    return next(p.price for p in scene.pool().positions if p.symbol == symbol)


def refusals(scene: Scene) -> int:
    return sum(scene.monitor.readout.counters()["binance_usdm"].refused.values())


async def still_good(scene: Scene) -> None:
    """Nothing of it moved a figure, raised an alarm or ended a connection."""
    assert scene.agrees()
    assert not scene.told("health")
    assert not scene.logged("stream_down")
    scene.exchange.clock(frozen=False)
    scene.fault_ends()
    await scene.recovered()


async def test_row_20_a_settling_symbol_and_a_position_that_only_rest_can_end(stage: Any) -> None:
    """Its prices stop; its alert ends when REST says that the position is gone, and not before."""
    async with stage() as scene:
        contracts = scene.rest.asked(CONTRACTS)
        scene.exchange.status("SUIUSDT", "SETTLING")
        scene.exchange.fault("silence_symbol", symbol="SUIUSDT")
        send_mark(scene, "[" + mark(scene, s='"NEVERLISTEDUSDT"') + "]")  # a price of a symbol that nobody has named
        await scene.until(lambda: scene.rest.asked(CONTRACTS) > contracts, "the notice is followed", 20)
        await scene.until(lambda: scene.told("stale", pool="USD", level="warning"), "its price is old", 20)
        await scene.seconds(10)
        assert not scene.told("stale", pool="USD", reason="resolved"), "it is still held"
        scene.exchange.fault("drop_user_events", count=10)
        scene.exchange.order("SUIUSDT", "SELL", "160000")
        assert any(p.symbol == "SUIUSDT" for p in scene.pool().positions)
        scene.fault_ends()
        await scene.recovered(lambda: scene.told("stale", pool="USD", reason="resolved"), within_s=60)
        assert not any(p.symbol == "SUIUSDT" for p in scene.pool().positions), "by REST"
        assert await scene.metric("margin_pool_data_age_seconds", pool="USD") is not None
        assert scene.logged("alert", rule="stale", pool="USD", reason="resolved")
        assert not [m for m in scene.told("health") if m["level"] != "unknown"]


async def test_row_21_mark_price_zero_in_a_position_answer(stage: Any) -> None:
    """Neither a loss nor safety: the position keeps the price of the stream."""
    async with stage() as scene:
        before = scene.pool()
        asked = scene.rest.asked("/fapi/v3/positionRisk")
        scene.exchange.fault("zero_mark", count=3)
        for venue in scene.monitor.readout._venues:
            venue.request_snapshot("main")
        await scene.until(lambda: scene.rest.asked("/fapi/v3/positionRisk") > asked, "asked")
        await scene.seconds(5)
        after = scene.pool()
        assert after.health == pytest.approx(before.health, rel=1e-3)
        assert {p.symbol: p.price for p in after.positions} == pytest.approx({p.symbol: p.price for p in before.positions})
        assert (await scene.metric("margin_pool_level", pool="USD") or 0) >= 0
        assert not scene.told("health")
        assert not scene.told("reconcile")
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered()
        await scene.agreement("the exchange's own")


async def test_row_21_mark_price_zero_on_the_stream(stage: Any) -> None:
    """The price that is there stays, grows old, and is told as old."""
    async with stage() as scene:
        scene.exchange.fault("silence_symbol", symbol="SUIUSDT")
        price = price_of(scene, "SUIUSDT")
        for _ in range(10):
            send_mark(scene, "[" + mark(scene, s='"SUIUSDT"', p='"0.00000000"') + "]")
            await scene.seconds(1)
        assert price_of(scene, "SUIUSDT") == price
        await scene.until(lambda: scene.told("stale", pool="USD", level="critical"), "at last UNKNOWN", 80)
        assert await scene.metric("margin_pool_level", pool="USD") == -1
        assert scene.logged("alert", rule="stale", pool="USD", level="critical")
        assert await scene.refused("not_a_price") == 10
        assert len(scene.logged("frame_refused", reason="not_a_price")) == 1, "ten times counted, once said"
        assert {m["level"] for m in scene.told("health")} <= {"unknown"}
        scene.exchange.fault("clear")
        scene.fault_ends()
        await scene.recovered()


async def test_row_24_changed_brackets_are_read_and_told(stage: Any) -> None:
    async with stage(settings={"reload_debounce_s": 1}) as scene:
        rows = [(10_000, "0.02", 20), (100_000_000, "0.25", 4)]
        scene.exchange.brackets("BTCUSDT", rows)
        scene.fault_ends()
        await scene.recovered(lambda: scene.told("tier_change", subject="BTCUSDT"))
        text = scene.told("tier_change", subject="BTCUSDT")[0]["summary"]
        assert "→ 2.0000%" in text, "old and new rate"
        assert "health" in text
        assert await scene.metric("margin_alerts_total", rule="tier_change")
        assert scene.logged("alert", rule="tier_change", subject="BTCUSDT")
        await scene.agreement("the new maintenance margin")


async def test_row_24_changed_without_notice_a_mismatch_shows_it_and_the_reload_finds_it(stage: Any) -> None:
    async with stage(settings={"reload_s": 90}) as scene:
        scene.exchange.fault("silence_stream", stream="!contractInfo")
        asked = scene.rest.asked(BRACKETS)
        scene.exchange.brackets("BTCUSDT", [(10_000, "0.02", 20), (100_000_000, "0.25", 4)])
        await scene.until(lambda: scene.told("reconcile", pool="USD"), "the venue's own figures differ", 60)
        await scene.until(lambda: scene.rest.asked(BRACKETS) == asked + 1, "asked for at once, and once", 10)
        scene.fault_ends()
        await scene.recovered(lambda: scene.told("tier_change", subject="BTCUSDT"), within_s=120)
        await scene.until(lambda: scene.told("reconcile", pool="USD", reason="resolved"), "they agree again", 60)


async def test_row_24_a_mismatch_reloads_the_brackets(stage: Any) -> None:
    async with stage() as scene:
        scene.exchange.fault("silence_stream", stream="!contractInfo")
        asked = scene.rest.asked(BRACKETS)
        scene.exchange.brackets("BTCUSDT", [(10_000, "0.02", 20), (100_000_000, "0.25", 4)])
        await scene.until(lambda: scene.told("reconcile", pool="USD"), "the venue's own figures differ", 60)
        await scene.until(lambda: scene.rest.asked(BRACKETS) > asked, "reloaded", 20)


NUMBERS = (
    "nan",
    "infinity",
    "bare_nan",
    "negative",
    "zero",
    "empty",
    "null",
    "underscore",
    "full_width",
    "truncated",
    "not_json",
)


async def test_row_25_numbers_that_are_none(stage: Any) -> None:
    async with stage() as scene:
        await scene.agreement("before")
        for form in NUMBERS:
            before = refusals(scene)
            scene.exchange.fault("garbage", form=form)
            await scene.until(lambda before=before: refusals(scene) == before + 1, f"{form} is refused")
        assert await scene.refused("not_a_price") + await scene.refused("not_json") == len(NUMBERS)
        await still_good(scene)


async def test_row_25_one_bad_row_costs_only_itself(stage: Any) -> None:
    async with stage() as scene:
        await scene.agreement("before")
        btc, eth = price_of(scene, "BTCUSDT"), price_of(scene, "ETHUSDT")
        good = mark(scene, s='"ETHUSDT"', p='"3333.25"')
        not_a_number, full_width = mark(scene, p='"NaN"'), mark(scene, p='"１００"')
        send_mark(scene, f"[{not_a_number},{good},{full_width}]")
        await scene.until(lambda: price_of(scene, "ETHUSDT") == 3333.25, "the good row counts")
        assert eth != 3333.25
        assert price_of(scene, "BTCUSDT") == btc
        assert await scene.refused("not_a_price") == 2


async def test_row_26_integers_past_64_bits(stage: Any) -> None:
    """A time or a size that fits no integer is refused; an id is a text, whatever its length."""
    huge = "9" * 40
    async with stage() as scene:
        await scene.agreement("before")
        send_mark(scene, f"[{mark(scene, E=huge)}]")
        await scene.until(lambda: refusals(scene) == 1, "a time of 40 digits")
        send_mark(scene, f"[{mark(scene, p=huge)}]")
        await scene.until(lambda: refusals(scene) == 2, "a price of 40 digits")
        assert await scene.metric("margin_frames_refused_total") == 2
        frames = scene.monitor.readout.counters()["binance_usdm"].frames
        seen = sum(frames.values())
        now = scene.exchange.now_ms()
        order = f'"s":"BTCUSDT","i":{huge},"t":{huge},"c":"{huge}","X":"NEW","x":"NEW","o":"LIMIT","S":"BUY","q":"1","p":"1"'
        send_user(scene, f'{{"e":"ORDER_TRADE_UPDATE","E":{now},"T":{now},"o":{{{order}}}}}')
        await scene.until(lambda: sum(frames.values()) + refusals(scene) > seen + 2, "an order with such ids")
        await still_good(scene)


async def test_row_27_duplicate_keys_the_last_wins(stage: Any) -> None:
    async with stage() as scene:
        await scene.agreement("before")
        scene.exchange.clock(advance_ms=1)
        row = mark(scene, s='"SOLUSDT"', p='"1.0"').replace("}", ',"p":"190.5"}')
        send_mark(scene, f"[{row}]")
        await scene.until(lambda: price_of(scene, "SOLUSDT") == 190.5, "the last of two")
        assert not await scene.metric("margin_frames_refused_total"), "it is no fault"
        await scene.exchange.step(1)
        await scene.agreement("the next frame sets it right")
        await still_good(scene)


async def test_row_28_very_deep_json(stage: Any) -> None:
    async with stage() as scene:
        await scene.agreement("before")
        scene.exchange.fault("garbage", form="deep")
        send_user(scene, "[" * 50_000)
        send_mark(scene, '[{"e":' * 20_000)
        await scene.until(lambda: refusals(scene) == 3, "refused, all three")
        assert await scene.metric("margin_frames_refused_total") == 3
        await still_good(scene)


async def test_row_29_a_huge_frame(stage: Any) -> None:
    """3 MiB, beyond the library's own limit, is read; what is larger than 4 MiB ends the connection with 1009, counted."""
    async with stage() as scene:
        padding = " " * (3 << 20)
        price = price_of(scene, "SOLUSDT")
        scene.exchange.clock(frozen=True)
        scene.exchange.clock(advance_ms=1)
        row = mark(scene, s='"SOLUSDT"', p='"190.5"')
        send_mark(scene, f"[{row}{padding}]")
        await scene.until(lambda: price_of(scene, "SOLUSDT") == 190.5, "3 MiB are read", 30)
        assert price != 190.5
        scene.exchange.clock(frozen=False)
        scene.exchange.fault("garbage", form="huge")
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down", reason="close_1009"), "6 MiB are not", 30)
        await scene.recovered()
        assert await scene.reconnects("close_1009", "mark_price") == 1
        assert not scene.told("health")


async def test_row_36_a_storm_of_events_ends_in_the_newest_state(stage: Any) -> None:
    """A thousand market frames and three hundred account events at once: the newest price wins, no account event is lost."""
    async with stage(settings={"reconcile_s": 600, "order_refetch_s": 600}) as scene:
        scene.exchange.clock(frozen=True)
        began = scene.now_s()
        for i in range(300):
            scene.exchange.transfer("USDT", "-1" if i % 3 else "1.5")
            scene.exchange.price("SOLUSDT", f"{190 + i / 100:.2f}")
            scene.exchange.price("BTCUSDT", f"{97_000 + i}")
            if i % 10 == 0:
                scene.exchange.order("SOLUSDT", "BUY", "1")
        scene.fault_ends()
        await scene.recovered(scene.agrees)
        assert scene.now_s() - began < 60
        assert price_of(scene, "BTCUSDT") == 97_299
        assert price_of(scene, "SOLUSDT") == 192.99
        assert not scene.logged("stream_down"), "nobody was cut for being slow"
        assert (await scene.metric("margin_frames_total", stream="mark_price") or 0) >= 600
        assert refusals(scene) == 0
        assert not scene.told("stale")


async def test_row_36_a_slow_path_delays_but_loses_nothing(stage: Any) -> None:
    """Each chunk comes 2 s late: late is not silent, and what piled up is folded in its order."""
    async with stage(settings={"reconcile_s": 600}) as scene:
        scene.streams.delay_s = 2
        for _ in range(10):
            scene.exchange.transfer("USDT", "-10")
            await scene.seconds(1)
        scene.streams.mend()
        scene.fault_ends()
        await scene.recovered()
        await scene.agreement("all ten counted once")
        assert not scene.logged("stream_down")
        assert await scene.metric("margin_stream_up") == 3
