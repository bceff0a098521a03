"""HTX end to end, against a simulated exchange with arithmetic of its own: a crash, a settlement, a delivery, a tier change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest_e2e import Receiver, config_for, fetch, running, until

from monitor.app import Monitor
from monitor.model.alerts import Transition
from monitor.model.events import Event
from monitor.model.figures import PoolKey
from monitor.sim import SimExchange, SimHtxAccount, SimHtxPosition

FAST = 0.2
# The simulated time runs five times as fast, so the monitor looks more often; tables are reloaded each hour otherwise.
HURRIED = {"reload_s": 2.0, "last_quiet_s": 0.5, "takeover_s": 0.2, "settle_poll_s": 0.5}


def ledger(exchange: SimExchange, coin: str) -> dict[str, Any]:
    found: dict[str, Any] = exchange.ledger()["venues"]["htx_coin_futures"]["accounts"]["main"]["coins"][coin]
    return found


def close(ours: float | None, theirs: str | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return abs(ours - float(theirs)) <= 1e-9 * max(1.0, abs(float(theirs)))


def differences(monitor: Monitor, exchange: SimExchange, coin: str) -> list[str]:
    """Every figure of a coin that is not the exchange's own to 1e-9."""
    pool = monitor.readout.pool(PoolKey("htx_coin_futures", "main", coin))
    theirs = ledger(exchange, coin)
    if pool is None or pool.guarantee is None:
        return ["no pool"]
    ours = {
        "equity": pool.equity,
        "position_margin": pool.guarantee.used_margin,
        "locked_same": pool.guarantee.locked_same,
        "locked_cross": pool.guarantee.locked_cross,
        "adjust_factor": pool.guarantee.adjustment_factor,
        "guarantee_asset_ratio": pool.guarantee_asset_ratio,
        "available": pool.available,
        "withdrawable": pool.withdrawable,
        "margin_ratio": pool.margin_ratio,
    }
    wrong = [f"{name}: {value} is not {theirs[name]}" for name, value in ours.items() if not close(value, theirs[name])]
    legs = {(leg["contract_code"], {"buy": "LONG", "sell": "SHORT"}[leg["direction"]]): leg for leg in theirs["positions"]}
    held = {(position.symbol, position.side): position for position in pool.positions}
    if legs.keys() != held.keys():
        wrong.append(f"legs: {sorted(held)} are not {sorted(legs)}")
    wrong += [
        f"{leg}: PnL {held[leg].unrealized_pnl} is not {row['profit_unreal']}"
        for leg, row in legs.items()
        if leg in held and not close(held[leg].unrealized_pnl, row["profit_unreal"])
    ]
    return wrong


async def agree(monitor: Monitor, exchange: SimExchange, what: str, coins: tuple[str, ...] = ("BTC", "ETH")) -> None:
    """With the market at a stand, every figure becomes the exchange's own."""
    last: list[str] = []

    def equal() -> bool:
        last[:] = [f"{coin}: {problem}" for coin in coins for problem in differences(monitor, exchange, coin)]
        return not last

    try:
        await until(equal, what, 30)
    except BaseException:
        print("\n".join(last))
        raise


HTX = {
    "accounts": [
        {"name": "main", "venue": "htx_coin_futures", "api_key": {"env": "HTX_KEY"}, "api_secret": {"env": "HTX_SECRET"}}
    ]
}


async def test_figures_through_crash_settlement_delivery_and_a_tier_change(receiver: Receiver) -> None:
    async with (
        SimExchange("crash", 7, tick_seconds=FAST) as exchange,
        running(config_for(exchange, receiver, **HTX, venues={"htx_coin_futures": HURRIED}), exchange) as monitor,
    ):
        control = exchange.htx_control
        await until(lambda: monitor.readout.missing() == [], "ready")
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures at the start")

        exchange.clock(frozen=False)
        contract = next(leg["contract_code"] for leg in ledger(exchange, "BTC")["positions"] if leg["direction"] == "buy")
        control.order(contract, "sell", "close", 300)
        control.order(contract, "sell", "open", 200)
        control.transfer("BTC", "0.001")

        def said(level: str) -> list[dict[str, Any]]:
            return [m for m in receiver.webhook if m["rule"] == "health" and m["level"] == level and m["pool"] == "BTC"]

        await until(lambda: bool(said("warning") or said("high")), "the crash is told", 40)
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures in the crash")

        before = ledger(exchange, "BTC")["adjust_factor"]
        control.adjust_factors("BTC", ledger(exchange, "BTC")["leverage"], [(0, "0.25"), (100_000, "0.5")])
        exchange.clock(frozen=False)
        await until(lambda: ledger(exchange, "BTC")["adjust_factor"] != before, "another factor")
        await until(lambda: any(m["rule"] == "tier_change" for m in receiver.webhook), "the tier change is told")
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures under the new factor")

        exchange.clock(frozen=False)
        told = len(receiver.webhook)
        control.settlement("BTC", seconds=5)
        await asyncio.sleep(8 * FAST)
        await until(lambda: float(ledger(exchange, "BTC")["profit_real"]) == 0, "settled")
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures after the settlement")
        assert not [m for m in receiver.webhook[told:] if m["rule"] in ("reconcile", "stale", "mode_change")], "no incident"

        exchange.clock(frozen=False)
        weekly = min(leg["contract_code"] for leg in ledger(exchange, "BTC")["positions"])
        control.delivery("BTC", seconds=5)
        await until(lambda: weekly not in {leg["contract_code"] for leg in ledger(exchange, "BTC")["positions"]}, "delivered", 30)
        await asyncio.sleep(8 * FAST)
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures after the delivery")
        assert weekly not in {p.symbol for p in monitor.readout.pool(PoolKey("htx_coin_futures", "main", "BTC")).positions}

        _, text = await fetch(f"{monitor.server.url}metrics")
        ratio = monitor.readout.pool(PoolKey("htx_coin_futures", "main", "ETH")).guarantee_asset_ratio
        assert f'margin_pool_guarantee_asset_ratio{{account="main",pool="ETH",venue="htx_coin_futures"}} {ratio!r}' in text


@pytest.mark.parametrize("form", ["half_gzip", "bomb", "plain_text", "ping_huge"])
async def test_a_hostile_frame_costs_at_most_one_reconnect_and_moves_no_figure(receiver: Receiver, form: str) -> None:
    async with (
        SimExchange("calm", 7, tick_seconds=FAST, noise=0.0) as exchange,
        running(config_for(exchange, receiver, **HTX), exchange) as monitor,
    ):
        await until(lambda: monitor.readout.missing() == [], "ready")
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures")
        before = monitor.readout.pool(PoolKey("htx_coin_futures", "main", "BTC"))
        for path in ("/ws", "/ws_index", "/notification"):
            exchange.htx_control.fault("garbage", form=form, path=path)
        exchange.clock(frozen=False)
        await asyncio.sleep(10 * FAST)
        exchange.clock(frozen=True)
        await agree(monitor, exchange, "the same figures afterwards")
        after = monitor.readout.pool(PoolKey("htx_coin_futures", "main", "BTC"))
        assert after.equity == pytest.approx(before.equity, abs=1e-9)
        for stream in monitor.readout.streams():
            assert sum(stream.reconnects.values()) <= 1, stream


async def test_both_venues_side_by_side(receiver: Receiver) -> None:
    both = {
        "accounts": [
            *HTX["accounts"],
            {"name": "usdm", "venue": "binance_usdm", "api_key": {"env": "KEY"}, "api_secret": {"env": "SECRET"}},
        ]
    }
    async with SimExchange("calm", 7) as exchange, running(config_for(exchange, receiver, **both)) as monitor:
        await until(lambda: monitor.readout.missing() == [], "ready")
        keys = {(key.venue, key.pool) for key in monitor.readout.pools().keys}
        assert ("binance_usdm", "USD") in keys
        assert ("htx_coin_futures", "BTC") in keys


async def test_an_unknown_permission_is_said_and_not_taken_for_safe(receiver: Receiver, capsys: Any) -> None:
    accounts = [SimHtxAccount("main", coins={"BTC": 1}, may_ask_key=False)]
    async with SimExchange("calm", 7, htx_accounts=accounts) as exchange:
        async with running(config_for(exchange, receiver, **HTX)) as monitor:
            await until(lambda: monitor.readout.missing() == [], "ready")
        text = capsys.readouterr()
        assert "unknown" in (text.out + text.err).lower()


LOSING = SimHtxAccount(
    "main",
    coins={"BTC": "0.95"},
    leverages={"BTC": 20},
    positions=(SimHtxPosition("BTC_CW", "buy", 9000, "112000"), SimHtxPosition("BTC_CQ", "buy", 3, "106000")),
)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("", {}),
        ("reorder_pushes", {"count": 2}),
        ("duplicate_pushes", {"count": 2}),
        ("drop_pushes", {"count": 1, "event": "order.match"}),
        ("silence_topic", {"topic": "positions.btc"}),
    ],
    ids=["account-first", "legs-first", "twice", "account-lost", "legs-lost"],
)
async def test_row_30_closes_at_a_loss_show_only_true_states(receiver: Receiver, fault: str, options: dict[str, Any]) -> None:
    """Prices stand still: whatever is shown is an equity of before or after, and nobody is paged."""
    seen: list[float | None] = []
    venues = {"htx_coin_futures": {"last_quiet_s": 0.5, "takeover_s": 0.2}}
    async with (
        SimExchange("calm", 7, noise=0.0, htx_accounts=(LOSING,)) as exchange,
        running(config_for(exchange, receiver, **HTX, venues=venues), exchange) as monitor,
    ):
        exchange.htx_control.price("BTC", "104000")
        await until(lambda: monitor.readout.missing() == [], "ready")
        await agree(monitor, exchange, "the start", ("BTC",))
        step = monitor.engine.step

        def watched(event: Event, now_ms: int) -> list[Transition]:
            said = step(event, now_ms)
            pool = monitor.engine.figures(PoolKey("htx_coin_futures", "main", "BTC"))
            seen.append(pool.equity if pool else None)
            return said

        monitor.engine.step = watched  # type: ignore[method-assign]
        code = ledger(exchange, "BTC")["positions"][0]["contract_code"]
        for volume in (2500, 4000, 2500):
            before = float(ledger(exchange, "BTC")["equity"])
            if fault:
                exchange.htx_control.fault(fault, **options)
            seen.clear()
            exchange.htx_control.order(code, "sell", "close", volume)
            await agree(monitor, exchange, f"after the close of {volume}", ("BTC",))
            exchange.htx_control.fault("clear")
            after = float(ledger(exchange, "BTC")["equity"])
            assert after < before, "a fee"
            wrong = [equity for equity in seen if equity is None or not after - 1e-9 <= equity <= before + 1e-9]
            assert not wrong, f"not between {after} and {before}"

    owed = ("reconcile",) if fault in ("drop_pushes", "silence_topic") else ()  # a push that was lost is told as that
    assert [m for m in receiver.webhook if m["rule"] in {"health", "guarantee_asset_ratio", "reconcile"}.difference(owed)] == []
