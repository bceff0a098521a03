"""The columns of all positions and assets say what the explanation of each pool says, and their parts make the whole."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from coin_world import CoinWorld
from coin_world import events_of as coin_events_of
from engine_world import World
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Book, books, events_of
from oracle_htx import CoinAccount, coin_accounts

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.events import Event
from monitor.model.figures import PoolFigures, PoolKey
from monitor.rules import RuleBook

NOW_MS = 1_700_000_000_000


def engine_of(accounts: Iterable[tuple[str, str, Iterable[Event]]]) -> Engine:
    """accounts: (venue, alias, what is told of it)."""
    accounts = [(venue, alias, list(events)) for venue, alias, events in accounts]
    engine = Engine([AccountSetup(venue, alias, RuleBook()) for venue, alias, _ in accounts])
    for _, _, events in accounts:
        for event in events:
            engine.step(event, NOW_MS)
    return engine


def near(one: float, other: float | None, size: float = 0.0) -> bool:
    """NaN is None. size: of the terms; a difference cannot be more exact than they are."""
    if other is None or math.isnan(one):
        return other is None and math.isnan(one)
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12 * size)


def check(engine: Engine) -> None:
    """Row by row against `figures`, and the sums against the pool."""
    positions, assets = engine.positions(), engine.assets()
    pools: dict[PoolKey, PoolFigures] = {}
    for key in {key for key, _, _ in positions.keys} | {key for key, _ in assets.keys}:
        found = engine.figures(key)
        assert found is not None
        pools[key] = found
    explained = {(key, p.symbol, p.side): p for key, pool in pools.items() for p in pool.positions}
    assert set(positions.keys) == explained.keys()
    assert len(positions.keys) == len(explained), "each leg once"
    required: dict[PoolKey, float] = defaultdict(float)
    for row, key in enumerate(positions.keys):
        leg, pool = explained[key], pools[key[0]]
        assert positions.units[row] == pool.unit
        assert near(positions.price[row], leg.price)
        assert near(positions.liquidation_price[row], leg.liquidation_price), key
        assert math.copysign(1, positions.notional[row]) == math.copysign(1, leg.quantity)
        required[key[0]] += positions.requirement[row]
    counted: dict[PoolKey, float] = defaultdict(float)
    for (key, _), equity in zip(assets.keys, assets.equity.tolist(), strict=True):
        counted[key] += equity
    for key, pool in pools.items():
        size = sum(abs(p.notional or 0) * 10 for p in pool.positions) + sum(abs(a.wallet) for a in pool.assets)
        frozen = 0.0
        if pool.guarantee is not None and pool.guarantee.adjustment_factor is not None:
            frozen = pool.guarantee.margin_frozen * pool.guarantee.adjustment_factor
        if pool.positions:
            assert near(required[key] + frozen, pool.requirement, size), (key, required[key], frozen)
        if pool.equity is not None:
            assert near(counted[key], pool.equity, 1e3 * size), (key, counted[key])


@given(accounts=st.lists(books(legs_max=12), min_size=1, max_size=4))
def test_linear_pools(accounts: list[Book]) -> None:
    """Accounts in one engine share its market and nothing else."""
    check(engine_of(("binance_usdm", f"a{i}", events_of(book, account=f"a{i}")) for i, book in enumerate(accounts)))


@settings(max_examples=max(50, settings().max_examples // 5))
@given(accounts=st.lists(coin_accounts(), min_size=1, max_size=3))
def test_coin_pools(accounts: list[list[CoinAccount]]) -> None:
    check(
        engine_of(
            ("htx_coin_futures", f"a{i}", [event for coin in coins for event in coin_events_of(coin, f"a{i}")])
            for i, coins in enumerate(accounts)
        )
    )


def test_amounts_of_a_linear_pool() -> None:
    world = World(wallets={"USDT": 1000.0, "BTC": 0.1})
    world.start(mark=20_100.0)
    world.rate("BTC", 20_000.0, haircut=0.05)
    world.rate("USDT", 0.99, haircut=0.01)
    positions, assets = world.engine.positions(), world.engine.assets()
    assert [(symbol, side) for _, symbol, side in positions.keys] == [("BTCUSDT", "BOTH")]
    np.testing.assert_allclose(positions.notional, [20_100 * 0.99], err_msg="at the index, before the haircut")
    np.testing.assert_allclose(positions.unrealized_pnl, [100 * 0.99 * 0.99], err_msg="USDT is owned: at bid")
    np.testing.assert_allclose(positions.requirement, [20_100 * 0.004 * 0.99 * 1.01], err_msg="asked for at ask")
    counted = {asset: equity for (_, asset), equity in zip(assets.keys, assets.equity.tolist(), strict=True)}
    assert counted == {"USDT": 1100 * 0.99 * 0.99, "BTC": 0.1 * 20_000 * 0.95}


def test_amounts_of_a_coin_pool() -> None:
    world = CoinWorld()
    world.start({"BTC260327": 500.0, "BTC260626": -200.0})
    positions = world.engine.positions()
    margins = np.array([0.5, 0.2])  # 100 USD × contracts ÷ 10,000 ÷ 10x; half of what locks across is freed
    np.testing.assert_allclose(positions.notional, [5.0, -2.0])
    np.testing.assert_allclose(positions.requirement, 0.2 * margins * (0.6 / 0.7))
    np.testing.assert_allclose(world.engine.assets().equity, [1.0])


def test_figures_that_are_too_old_are_none() -> None:
    world = World()
    world.start()
    assert not np.isnan(world.engine.positions().liquidation_price).any()
    world.seconds(100)
    positions, assets = world.engine.positions(), world.engine.assets()
    for column in (positions.price, positions.liquidation_price, positions.notional, positions.unrealized_pnl, assets.equity):
        assert len(column)
        assert np.isnan(column).all()


def test_only_what_is_held_has_a_row() -> None:
    world = World()
    assert world.engine.positions().keys == [], "nothing is told yet"
    assert world.engine.assets().keys == []
    world.start()
    world.snapshot(positions=())
    assert world.engine.positions().keys == [], "a flat leg is no position"
    assert [asset for _, asset in world.engine.assets().keys] == ["USDT"]
