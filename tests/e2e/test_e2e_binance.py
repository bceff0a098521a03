"""The main job, end to end: a crash on the simulated exchange becomes a critical alert, and everything tells the same figure."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from conftest_e2e import Receiver, config_for, fetch, running, until
from prometheus_client.parser import text_string_to_metric_families

from monitor import app
from monitor.app import KeyRefusedError, Monitor
from monitor.model.figures import PoolKey
from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange

POOL = PoolKey("binance_usdm", "main", "USD")
FAST = 0.2  # real seconds per simulated second


def metric(text: str, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"no sample of {name} with {labels}")


def close(ours: float | None, theirs: str) -> bool:
    return ours is not None and abs(ours - float(theirs)) <= 1e-9 * max(1.0, abs(float(theirs)))


async def test_a_crash_becomes_a_critical_alert_with_the_right_figure(receiver: Receiver) -> None:
    async with (
        SimExchange("crash", 7, tick_seconds=FAST) as exchange,
        running(config_for(exchange, receiver), exchange) as monitor,
    ):
        await until(lambda: monitor.readout.missing() == [], "ready")

        def critical() -> list[dict[str, Any]]:
            return [m for m in receiver.webhook if m["rule"] == "health" and m["level"] == "critical"]

        await until(lambda: bool(critical()), "a critical message at the webhook", 40)
        message = critical()[0]
        assert message["value"] <= 1.2
        assert message["limit"] == 1.2
        assert message["figures"]["health"] == pytest.approx(message["value"])
        assert message["id"], "an id to merge by"

        def is_told(texts: list[str]) -> bool:  # a chat takes one message a second: the emergency may have overtaken it
            heads = [text.splitlines()[0] for text in texts]
            return any("health" in head and ("CRITICAL" in head or "EMERGENCY" in head) for head in heads)

        for chat in (receiver.slack, receiver.telegram):
            await until(lambda chat=chat: is_told([message["text"] for message in chat]), "the chats too")

        exchange.clock(frozen=True)  # the market stands still, so that figures of several readers belong to one moment
        await asyncio.sleep(2 * FAST)
        pool = monitor.readout.pool(POOL)
        assert pool is not None
        _, text = await fetch(f"{monitor.server.url}metrics")
        labels = {"venue": "binance_usdm", "account": "main", "pool": "USD"}
        assert metric(text, "margin_pool_health", **labels) == pool.health
        assert metric(text, "margin_pool_equity_usd", **labels) == pool.equity
        _, text = await fetch(f"{monitor.server.url}api/v1/status?pool=binance_usdm/main/USD")
        assert json.loads(text)["health"] == pool.health


async def test_the_exchanges_own_totals_agree_with_ours(receiver: Receiver) -> None:
    """Its arithmetic is its own: marks, brackets, rates, fills and funding, at full precision."""
    accounts = [
        SimAccount(
            "main",
            hedge=True,
            wallets={"USDT": 50_000, "USDC": -2_000, "BTC": "0.5", "ETH": 3},
            positions=[
                SimPosition("BTCUSDT", "2.5", side="LONG"),
                SimPosition("BTCUSDT", "-1.5", side="SHORT"),
                SimPosition("ETHUSDC", "-20", side="SHORT"),
                SimPosition("ETHBTC", "1.2", side="LONG"),
            ],
        )
    ]
    async with (
        SimExchange("calm", 11, accounts=accounts, tick_seconds=FAST) as exchange,
        running(config_for(exchange, receiver), exchange) as monitor,
    ):
        await until(lambda: monitor.readout.missing() == [], "ready")
        for symbol, side, quantity, leg in (
            ("SOLUSDT", "BUY", "300", "LONG"),
            ("BTCUSDT", "SELL", "1", "LONG"),
            ("ETHUSDC", "BUY", "5", "SHORT"),
        ):
            exchange.order(symbol, side, quantity, position_side=leg)
        exchange.funding()
        exchange.transfer("USDT", "-1234.5")
        exchange.clock(frozen=True)

        def ledger() -> dict[str, Any]:
            found: dict[str, Any] = exchange.ledger()["venues"]["binance_usdm"]
            return found

        def agrees() -> bool:
            pool, theirs = monitor.readout.pool(POOL), ledger()["accounts"]["main"]
            return (
                pool is not None
                and close(pool.equity, theirs["totals"]["equity"])
                and close(pool.requirement, theirs["totals"]["maintenance_margin"])
            )

        await exchange.step(1)
        await until(agrees, "the same equity and maintenance margin to 1e-9")
        pool, theirs = monitor.readout.pool(POOL), ledger()["accounts"]["main"]
        assert pool is not None
        legs = {(leg["symbol"], leg["side"]): leg for leg in theirs["positions"]}
        assert len(pool.positions) == 5
        for position in pool.positions:
            leg = legs[position.symbol, position.side]
            assert close(position.unrealized_pnl, leg["pnl"]), position
            assert close(position.maintenance_margin, leg["maintenance_margin"]), position
            assert position.bracket == leg["bracket"], position
        for asset in pool.assets:
            assert close(asset.wallet, theirs["assets"][asset.asset]["wallet"]), asset


@pytest.mark.parametrize("hedge", [False, True])
async def test_single_asset_cross_and_isolated_agree_too(receiver: Receiver, hedge: bool) -> None:
    side = "LONG" if hedge else "BOTH"
    accounts = [
        SimAccount(
            "main",
            multi_assets=False,
            hedge=hedge,
            wallets={"USDT": 20_000, "USDC": 9_000},
            positions=[
                SimPosition("BTCUSDT", "0.5", side=side),
                SimPosition("SOLUSDT", "100", side=side, isolated_wallet="3000"),
                SimPosition("ETHUSDC", "4", side=side),
            ],
        )
    ]
    async with (
        SimExchange("calm", 3, accounts=accounts, tick_seconds=FAST) as exchange,
        running(config_for(exchange, receiver), exchange) as monitor,
    ):
        await until(lambda: monitor.readout.missing() == [], "ready")
        names = {key.pool for key in monitor.readout.pools().keys}
        isolated = "SOLUSDT:LONG" if hedge else "SOLUSDT"
        assert names == {"USDT", "USDC", isolated}
        exchange.clock(frozen=True)
        await exchange.step(1)

        def agrees() -> bool:
            theirs = exchange.ledger()["venues"]["binance_usdm"]["accounts"]["main"]
            for asset in ("USDT", "USDC"):
                pool = monitor.readout.pool(PoolKey("binance_usdm", "main", asset))
                row = theirs["assets"][asset]
                if pool is None or not close(pool.requirement, row["cross_maintenance_margin"]):
                    return False
                if not close(pool.equity, str(float(row["cross_wallet"]) + float(row["cross_pnl"]))):
                    return False
            pool = monitor.readout.pool(PoolKey("binance_usdm", "main", isolated))
            leg = next(leg for leg in theirs["positions"] if leg["symbol"] == "SOLUSDT")
            return pool is not None and close(pool.positions[0].unrealized_pnl, leg["pnl"])

        await until(agrees, "the same figures to 1e-9")


async def test_a_key_that_could_move_money_is_refused(receiver: Receiver) -> None:
    accounts = [SimAccount("main", wallets={"USDT": 100}, rights={"enableWithdrawals": True})]
    async with SimExchange("calm", 7, accounts=accounts) as exchange:
        with pytest.raises(KeyRefusedError, match="main"):
            await Monitor(config_for(exchange, receiver)).run()
        config = config_for(exchange, receiver)
        allowed = config.model_copy(
            update={"accounts": tuple(a.model_copy(update={"allow_dangerous_key": True}) for a in config.accounts)}
        )
        async with running(allowed) as monitor:
            await until(lambda: monitor.readout.missing() == [], "ready although dangerous")


async def test_a_slow_check_of_keys_holds_up_nothing_but_still_counts(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange that does not answer one question must not keep the others waiting; what it says later is obeyed."""
    monkeypatch.setattr(app, "KEY_CHECK_S", 0.1)
    accounts = [SimAccount("main", wallets={"USDT": 100}, rights={"enableWithdrawals": True})]
    async with SimExchange("calm", 7, accounts=accounts) as exchange:
        exchange.fault("delay_rest", path="apiRestrictions", delay_ms=4000)
        monitor = Monitor(config_for(exchange, receiver))
        running_it = asyncio.create_task(monitor.run())
        await until(lambda: monitor.started.is_set() and monitor.readout.missing() == [], "ready before the answer")
        assert not running_it.done()
        with pytest.raises(KeyRefusedError, match="main"):
            await running_it


async def test_all_sockets_killed_and_everything_comes_back(receiver: Receiver) -> None:
    async with (
        SimExchange("calm", 7, tick_seconds=FAST) as exchange,
        running(config_for(exchange, receiver), exchange) as monitor,
    ):
        await until(lambda: monitor.readout.missing() == [], "ready")
        exchange.fault("kill_sockets")
        await until(lambda: any(stream.reconnects for stream in monitor.readout.streams()), "the gap was seen")
        await until(
            lambda: all(stream.up for stream in monitor.readout.streams()) and not monitor.readout.missing(),
            "all streams are back",
        )
        exchange.order("SOLUSDT", "BUY", "7")
        await until(
            lambda: any(p.symbol == "SOLUSDT" and p.quantity % 1 == 0 for p in monitor.readout.pool(POOL).positions), "live"
        )


async def test_row_6_each_forced_order_and_margin_call_is_sent_once(receiver: Receiver) -> None:
    """As the venue sends them: one client id for all auto-deleveraging, and all of it within a millisecond."""
    accounts = [SimAccount("main", wallets={"USDT": 50_000}, positions=[SimPosition("BTCUSDT", "1")])]
    async with SimExchange("calm", 7, accounts=accounts, noise=0.0) as exchange:
        config = config_for(exchange, receiver, alerts={"delivery": {"summary_above": 100}})
        async with running(config) as monitor:
            await until(lambda: monitor.readout.missing() == [], "ready")
            (stream,) = exchange.binance.hub.streams("private")
            at = {"E": 1_700_000_000_001, "T": 1_700_000_000_000}

            def order(number: int | None, **more: Any) -> dict[str, Any]:
                names = {"s": "BTCUSDT", "S": "SELL", "q": "0.1", "c": "adl_autoclose", "x": "NEW", "i": number}
                return {"e": "ORDER_TRADE_UPDATE", **at, "o": names | more}

            calls = [{"e": "MARGIN_CALL", **at, "p": [{"s": "BTCUSDT", "ps": "BOTH", "pa": pa}]} for pa in ("1", "0.9")]
            nameless = [order(None, c="", x="CALCULATED", q=q) for q in ("0.2", "0.3")]
            once = [order(1), order(2), order(3, c="delivery_autoclose-7"), *calls, *nameless]
            for frame in [*once, *once, order(1, x="TRADE"), order(2, x="TRADE")]:
                exchange.binance.hub.send_text("private", stream, json.dumps(frame))

            def sent(messages: list[dict[str, Any]]) -> list[str]:
                return sorted(one["summary"] for one in messages if one["rule"] == "venue_call")

            await until(lambda: len(sent(receiver.webhook)) >= len(once), "all of them at the webhook")
            await until(lambda: len(receiver.telegram) >= len(once) and len(receiver.slack) >= len(once), "and at the chats")
            assert sent(receiver.webhook) == sorted(
                [
                    "auto-deleveraging order of the venue: sell 0.1 BTCUSDT, order 1",
                    "auto-deleveraging order of the venue: sell 0.1 BTCUSDT, order 2",
                    "delivery order of the venue: sell 0.1 BTCUSDT, order 3",
                    "liquidation order of the venue: sell 0.2 BTCUSDT",
                    "liquidation order of the venue: sell 0.3 BTCUSDT",
                    "margin call of the venue: BTCUSDT BOTH 0.9 at mark ?, maintenance margin ?",
                    "margin call of the venue: BTCUSDT BOTH 1 at mark ?, maintenance margin ?",
                ]
            )
            assert len({one["incident"]["id"] for one in receiver.webhook}) == len(once)


async def test_a_restart_pages_nothing_twice_and_still_tells_the_end(receiver: Receiver, tmp_path: Any) -> None:
    store = tmp_path / "state" / "store.sqlite3"
    async with SimExchange("calm", 7, tick_seconds=FAST, noise=0.0) as exchange:
        config = config_for(exchange, receiver, store)

        def health(level: str) -> list[dict[str, Any]]:
            return [m for m in receiver.webhook if m["rule"] == "health" and m["level"] == level]

        async with running(config, exchange) as monitor:
            await until(lambda: monitor.readout.missing() == [], "ready")
            equity = monitor.readout.pool(POOL).equity
            exchange.transfer("USDT", str(-0.55 * equity))
            await until(lambda: bool(health("critical") or health("high") or health("emergency")), "it is told")
        told = len([m for m in receiver.webhook if m["rule"] == "health"])
        async with running(config, exchange) as monitor:
            await until(lambda: monitor.readout.missing() == [], "ready again")
            await asyncio.sleep(1)
            assert len([m for m in receiver.webhook if m["rule"] == "health"]) == told, "nothing is paged twice"
            exchange.transfer("USDT", str(0.9 * equity))
            await until(lambda: bool(health("ok")), "its end is told once")
        assert len(health("ok")) == 1
