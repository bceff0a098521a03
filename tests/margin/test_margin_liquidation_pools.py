"""Liquidation prices of many pools at once are those of each pool alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.margin.liquidation import liquidation_prices

TIERS = 4


def random_pools(seed: int, sizes: list[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arguments but `slot_pool`, and the pool of each leg. Symbols and flat legs recur; some inputs are unknown."""
    random = np.random.default_rng(seed)
    pools, n = len(sizes), sum(sizes)
    pool = np.repeat(np.arange(pools), sizes)
    slots = 2 * pools
    symbol = random.integers(0, 4, n)
    floors = np.sort(random.uniform(0, 5_000, (n, TIERS)), axis=1)
    floors[:, 0] = 0.0
    rates = np.sort(random.uniform(0.004, 0.3, (n, TIERS)), axis=1)
    deductions = np.cumsum(np.diff(rates, axis=1, prepend=rates[:, :1]) * floors, axis=1)
    return {
        "symbol": symbol,
        "quantity": random.choice([0.0, -20.0, -1.5, 0.7, 3.0, 40.0], n),
        "entry": random.uniform(80, 120, n),
        "mark": np.where(random.random(4) < 0.1, np.nan, random.uniform(80, 120, 4))[symbol],
        "floors": floors,
        "rates": rates,
        "deductions": deductions,
        "slot": 2 * pool + symbol % 2,
        "slot_wallet": random.uniform(-100, 900, slots),
        "slot_bid": np.where(random.random(slots) < 0.05, np.nan, 0.95),
        "slot_ask": np.full(slots, 1.05),
    }, pool


@given(seed=st.integers(0, 2**32 - 1), sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12), shuffled=st.booleans())
def test_pools_do_not_touch_each_other(seed: int, sizes: list[int], shuffled: bool) -> None:
    inputs, pool = random_pools(seed, sizes)
    order = np.random.default_rng(seed).permutation(len(pool)) if shuffled else np.arange(len(pool))
    legs = {name: rows[order] for name, rows in inputs.items() if not name.startswith("slot_")}
    slots = {name: rows for name, rows in inputs.items() if name.startswith("slot_")}
    together = liquidation_prices(**legs, **slots, slot_pool=np.repeat(np.arange(len(sizes)), 2))
    for number in range(len(sizes)):
        own = pool[order] == number
        alone = {name: rows[own] for name, rows in legs.items()}
        alone["slot"] = alone["slot"] - 2 * number
        expected = liquidation_prices(**alone, **{name: rows[2 * number : 2 * number + 2] for name, rows in slots.items()})
        np.testing.assert_allclose(together[own], expected, rtol=1e-12)


def test_the_law_is_not_empty() -> None:
    """Of the random pools a good part has prices, and some have none."""
    inputs, _ = random_pools(7, [6] * 200)
    prices = liquidation_prices(**inputs, slot_pool=np.repeat(np.arange(200), 2))
    assert 0.2 < np.isfinite(prices).mean() < 0.9


@pytest.mark.parametrize("slot_pool", [None, np.array([3])])
def test_one_pool_needs_no_number(slot_pool: np.ndarray | None) -> None:
    price = liquidation_prices(
        symbol=np.array([0]),
        quantity=np.array([1.0]),
        entry=np.array([100.0]),
        mark=np.array([100.0]),
        floors=np.zeros((1, 1)),
        rates=np.full((1, 1), 0.01),
        deductions=np.zeros((1, 1)),
        slot=np.array([0]),
        slot_wallet=np.array([5.0]),
        slot_bid=np.ones(1),
        slot_ask=np.ones(1),
        slot_pool=slot_pool,
    )
    np.testing.assert_allclose(price, [95 / 0.99])
