"""Rows 22, 23, 30, 31, and 1, 11, 32, 35 once more: the other venue, with gzip frames, heartbeats of its own, and settlements."""

from __future__ import annotations

from typing import Any

import pytest
from faults_scene import BTC, HTX, Scene

from monitor.sim.refused import RefusedError

QUICK = {"reload_s": 10}


def ledger(scene: Scene, coin: str = "BTC") -> dict[str, Any]:
    found: dict[str, Any] = scene.exchange.ledger()["venues"][HTX]["accounts"]["main"]["coins"][coin]
    return found


def held(scene: Scene) -> dict[tuple[str, str], float]:
    return {(p.symbol, p.side): abs(p.quantity) for p in scene.pool(BTC).positions}


def agrees(scene: Scene) -> bool:
    pool, theirs = scene.monitor.readout.pool(BTC), ledger(scene)
    if pool is None or pool.equity is None or pool.guarantee_asset_ratio is None:
        return False
    legs = {(leg["contract_code"], {"buy": "LONG", "sell": "SHORT"}[leg["direction"]]) for leg in theirs["positions"]}
    return (
        pool.equity == pytest.approx(float(theirs["equity"]), rel=1e-9)
        and pool.guarantee_asset_ratio == pytest.approx(float(theirs["guarantee_asset_ratio"]), rel=1e-9)
        and held(scene).keys() == legs
    )


async def agreement(scene: Scene, what: str) -> None:
    """Leaves the clock stopped."""
    scene.exchange.clock(frozen=True)
    await scene.until(lambda: agrees(scene), what, 60)


def opened(scene: Scene, contract: str, volume: int) -> bool:
    """An order, unless the delivery is still going on."""
    try:
        scene.exchange.htx_control.order(contract, "buy", "open", volume)
    except RefusedError:
        return False
    return True


def trades_at(scene: Scene, prices: dict[str, float]) -> None:
    """Trades that the exchange tells of although it settles."""
    now = scene.exchange.now_ms()
    for connection in scene.exchange.htx.hub.connections:
        if connection.path == "/ws":
            for code, price in prices.items():
                trade = {"amount": 2, "ts": now, "id": now, "price": price, "direction": "sell", "quantity": 0.1}
                connection.tell({"ch": f"market.{code}.trade.detail", "ts": now, "tick": {"id": now, "ts": now, "data": [trade]}})


def transferred(scene: Scene, amount: float) -> bool:
    """Into the purse, unless the settlement is still going on."""
    try:
        scene.exchange.htx_control.transfer("BTC", f"{amount:.8f}")
    except RefusedError:
        return False
    return True


def refusals_by_reason(scene: Scene) -> dict[str, int]:
    return scene.monitor.readout.counters()[HTX].refused


async def test_row_22_delivery_rolls_the_contracts_over(stage: Any) -> None:
    """The weekly contract ends and another takes its alias: by code they stay two, and the new one is read without a restart."""
    async with stage(venue=HTX, settings=QUICK) as scene:
        before = {contract.code for contract in scene.exchange.htx.market.coins["BTC"].contracts}
        weekly = min(leg["contract_code"] for leg in ledger(scene)["positions"])
        scene.exchange.htx_control.delivery("BTC", seconds=5)
        await scene.until(lambda: weekly not in {leg["contract_code"] for leg in ledger(scene)["positions"]}, "delivered", 60)
        scene.fault_ends()
        await scene.recovered(lambda: weekly not in {symbol for symbol, _ in held(scene)} and scene.healthy, within_s=60)
        await scene.until(lambda: opened(scene, "BTC_NW", 7), "trading goes on", 60)
        listed = {leg["contract_code"] for leg in ledger(scene)["positions"]} - before
        assert len(listed) == 1, "a contract that was not there when the monitor started"
        await scene.until(lambda: (next(iter(listed)), "LONG") in held(scene), "the new contract", 60)
        await scene.until(lambda: scene.healthy and scene.pool(BTC).equity is not None, "its price is known", 60)
        await scene.until(lambda: scene.logged("settlement_over", coin="BTC"), "the delivery is over", 60)
        await agreement(scene, "its own price, not that of the one before it")
        assert await scene.metric("margin_pool_equity_usd", pool="BTC")
        assert not [m for m in scene.told("stale", pool="BTC") if m["level"] == "unknown"]
        assert not scene.told("reconcile")
        assert scene.logged("settlement_begins", coin="BTC")


async def test_row_23_a_settlement_holds_alerts_for_a_while_and_then_says_unknown(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 min in life, 30 s here; the settlement itself lasts longer."""
    monkeypatch.setattr("monitor.engine.scheme.HOLD_MAX_MS", 30_000)
    async with stage(venue=HTX, settings=QUICK) as scene:
        pool = scene.pool(BTC)
        surplus = float(ledger(scene)["equity"]) - 1.7 * (pool.requirement or 0.0)
        scene.exchange.htx_control.transfer("BTC", f"{-surplus:.8f}")
        await scene.until(lambda: scene.told("health", pool="BTC", level="warning"), "an open alert")
        scene.exchange.htx_control.settlement("BTC", seconds=70)
        began = scene.now_s()
        await scene.until(lambda: scene.logged("settlement_begins", coin="BTC"), "the monitor knows of it", 20)
        prices = {p.symbol: p.price or 0.0 for p in scene.pool(BTC).positions}
        trades_at(scene, {symbol: 0.98 * price for symbol, price in prices.items()})  # a state in between
        await scene.until(lambda: (scene.pool(BTC).health or 9) < 1.5, "the figure itself shows it", 20)
        await scene.seconds(3)
        trades_at(scene, prices)
        await scene.until(lambda: scene.told("health", pool="BTC", level="unknown"), "UNKNOWN after the hold", 60)
        assert scene.now_s() - began >= 25, "held before"
        assert await scene.metric("margin_pool_level", pool="BTC") == -1
        assert scene.logged("alert", rule="health", level="unknown")
        assert [m["level"] for m in scene.told("health", pool="BTC")] == ["warning", "unknown"], "no state in between"
        await scene.until(lambda: float(ledger(scene)["profit_real"]) == 0, "settled", 120)
        await scene.until(lambda: transferred(scene, surplus), "transfers go again", 60)
        scene.fault_ends()
        await scene.recovered(lambda: scene.told("health", pool="BTC", reason="resolved"), within_s=90)
        await agreement(scene, "the settled figures")


async def test_row_23_a_short_settlement_raises_nothing(stage: Any) -> None:
    async with stage(venue=HTX, settings=QUICK) as scene:
        scene.exchange.htx_control.settlement("BTC", seconds=5)
        await scene.until(lambda: float(ledger(scene)["profit_real"]) == 0, "settled", 60)
        scene.fault_ends()
        await scene.recovered(lambda: scene.healthy and agrees(scene) is not None, within_s=60)
        await agreement(scene, "the settled figures")
        assert scene.receiver.webhook == []


@pytest.mark.parametrize("form", ["half_gzip", "bomb", "plain_text", "bad_checksum"])
async def test_row_30_hostile_frames(stage: Any, form: str) -> None:
    """One is counted and skipped; five in 10 s end the connection, once."""
    async with stage(venue=HTX) as scene:
        scene.exchange.htx_control.fault("garbage", form=form)
        await scene.until(lambda: sum(refusals_by_reason(scene).values()) >= 1, "refused")
        await scene.seconds(3)
        assert not scene.logged("stream_down"), "one frame ends nothing"
        scene.exchange.htx_control.fault("garbage", form=form, count=5)
        scene.fault_ends()
        await scene.until(lambda: scene.logged("stream_down", reason="hostile_frames"), "five do")
        await scene.recovered()
        assert await scene.reconnects("hostile_frames", "last_price") == 1
        assert (await scene.metric("margin_frames_refused_total") or 0) >= 5
        await agreement(scene, "no figure moved")
        assert not scene.told("health")


async def test_row_31_heartbeats_are_answered_whatever_else_comes(stage: Any) -> None:
    """The venue drops who leaves five pings unanswered: under a flood of trades every ping is answered."""
    async with stage(venue=HTX) as scene:
        hub = scene.exchange.htx.hub
        for _ in range(40):
            for _ in range(20):
                scene.exchange.htx_control.fault("garbage", form="unknown_topic")
            await scene.seconds(1)
            assert max(connection.unanswered for connection in hub.connections) <= 2
        assert not scene.logged("stream_down")
        assert await scene.metric("margin_stream_up") == len(scene.monitor.readout.streams())
        assert not scene.told("stale")


async def test_row_31_a_venue_that_hears_no_pong_hangs_up_and_is_dialled_again(stage: Any) -> None:
    async with stage(venue=HTX) as scene:
        scene.exchange.htx.hub.pong_grace_s = 0.2
        scene.exchange.htx_control.fault("deaf_to_pongs")
        await scene.until(lambda: scene.logged("stream_down", reason="close_1006"), "dropped", 60)
        scene.exchange.fault("clear")
        scene.exchange.htx_control.fault("clear")
        scene.fault_ends()
        await scene.recovered()
        assert (await scene.metric("margin_stream_reconnects_total", reason="close_1006") or 0) >= 1


async def test_row_01_htx_open_socket_without_data(stage: Any) -> None:
    async with stage(venue=HTX) as scene:
        for path in ("market_trade_detail", "swap_open_interest"):  # prices by REST are out as well
            scene.exchange.htx_control.fault("reject_rest", count=1_000_000, path=path, status=503)
        scene.exchange.htx_control.fault("reject_rest", count=1_000_000, path="/market/", status=503)
        scene.exchange.htx_control.fault("reject_rest", count=1_000_000, path="/index/", status=503)
        scene.exchange.htx_control.fault("silence_topic")
        scene.exchange.htx_control.fault("silence_heartbeats")
        began = scene.now_s()
        await scene.until(lambda: scene.told("stale"), "told", 30)
        assert scene.now_s() - began <= 30
        await scene.until(lambda: scene.logged("stream_down", reason="silent"), "given up", 100)
        assert (await scene.metric("margin_stream_reconnects_total", reason="silent") or 0) >= 1
        scene.exchange.htx_control.fault("clear")
        scene.fault_ends()
        await scene.recovered(within_s=60)
        await agreement(scene, "the venue's own figures")


async def test_row_32_htx_maintenance(stage: Any) -> None:
    async with stage(venue=HTX) as scene:
        scene.exchange.htx_control.fault("maintenance")
        await scene.until(lambda: scene.told("stale"), "told", 60)
        assert await scene.rest_results("unavailable") >= 1
        assert (await scene.metric("margin_stream_reconnects_total") or 0) >= 1
        status, _ = await scene.page("-/healthy")
        assert status == 200
        await scene.seconds(30)
        by_key = {(m["rule"], m["pool"], m["subject"]) for m in scene.receiver.webhook}
        assert len({m["incident"]["id"] for m in scene.receiver.webhook}) == len(by_key), "one incident each"
        scene.exchange.htx_control.fault("clear")
        scene.fault_ends()
        await scene.recovered(within_s=90)
        await agreement(scene, "the venue's own figures")


async def test_row_35_htx_blackholed_peer(stage: Any) -> None:
    async with stage(venue=HTX) as scene:
        scene.rest.held = scene.streams.held = True
        began = scene.now_s()
        await scene.until(lambda: scene.told("stale"), "told", 20)
        assert scene.now_s() - began <= 15
        await scene.until(lambda: scene.logged("stream_down", reason="silent"), "given up", 100)
        assert (await scene.metric("margin_stream_reconnects_total", reason="silent") or 0) >= 1
        scene.rest.mend()
        scene.streams.mend()
        scene.fault_ends()
        await scene.recovered(within_s=60)
        await agreement(scene, "the venue's own figures")
