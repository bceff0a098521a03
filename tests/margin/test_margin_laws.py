"""What holds for every book, whatever its numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import Book, books, pool_figures, pool_names
from pool_arrays import PoolArrays, arrays_of

from monitor.margin.levers import deposit_for_health, reduction_for_health

SMALL = books(legs_max=40)
PICKS = st.randoms(use_true_random=False)
OF_LEGS = {"symbol", "quantity", "entry", "mark", "leverage", "floors", "rates", "deductions", "slot"}
ROUNDING = 1e-13  # of the gross size of a pool's terms


def a_pool(book: Book, random: Random) -> tuple[str, PoolArrays]:
    """One pool of the book that has legs, and its arrays."""
    arrays = [(name, arrays_of(book, name)) for name in pool_names(book)]
    return random.choice([(name, pool) for name, pool in arrays if len(pool.quantity)])


def gross(pool: PoolArrays) -> float:
    turnover = np.abs(pool.quantity) * (pool.mark + pool.entry) * pool.slot_ask[pool.slot]
    return float(turnover.sum() + (np.abs(pool.slot_wallet) * pool.slot_ask).sum())


@given(book=SMALL, random=PICKS)
def test_the_order_of_assets_and_legs_is_irrelevant(book: Book, random: Random) -> None:
    _, pool = a_pool(book, random)
    slots = random.sample(range(len(pool.assets)), len(pool.assets))
    legs = random.sample(range(len(pool.quantity)), len(pool.quantity))
    mixed = replace(pool, **{name: getattr(pool, name)[legs] for name in OF_LEGS})
    by_slot = {name: getattr(pool, name)[slots] for name in ("slot_wallet", "slot_bid", "slot_ask", "slot_orders")}
    mixed = replace(mixed, slot=np.argsort(slots)[mixed.slot], symbol=1000 - mixed.symbol, **by_slot)
    was, now = pool.figures(), mixed.figures()
    slack = ROUNDING * gross(pool)
    assert now.equity == pytest.approx(was.equity, rel=0, abs=slack)
    assert now.requirement == pytest.approx(was.requirement, rel=0, abs=slack)
    prices, again = pool.prices()[legs], mixed.prices()
    for i in np.flatnonzero(~np.isnan(again)):
        at_price = replace(mixed, mark=np.where(mixed.symbol == mixed.symbol[i], prices[i], mixed.mark)).figures()
        assert at_price.equity - at_price.requirement == pytest.approx(
            0, abs=ROUNDING * max(gross(pool), at_price.notional.max())
        )
    assert np.isnan(again).tolist() == np.isnan(prices).tolist()


@given(book=SMALL, random=PICKS, doublings=st.integers(-20, 20))
def test_a_book_of_k_times_the_size_has_k_times_the_equity_and_the_same_risk(book: Book, random: Random, doublings: int) -> None:
    _, pool = a_pool(book, random)
    k = 2.0**doublings  # exact in binary, so that the law holds to the last bit
    scaled = {name: getattr(pool, name) * k for name in ("quantity", "floors", "deductions", "slot_wallet", "slot_orders")}
    was, now = pool.figures(), replace(pool, **scaled).figures()
    assert now.equity == k * was.equity
    assert now.requirement == k * was.requirement
    assert now.margin_ratio == was.margin_ratio
    np.testing.assert_array_equal(replace(pool, **scaled).prices(), pool.prices())


@given(book=SMALL, random=PICKS)
def test_health_at_the_liquidation_price_is_one(book: Book, random: Random) -> None:
    _, pool = a_pool(book, random)
    prices = pool.prices()
    i = random.randrange(len(prices))
    if math.isnan(prices[i]):
        now = pool.figures()
        assume(now.equity < now.requirement)
        # Under water without a price that helps: nor does any price of a wide search.
        for factor in np.geomspace(1e-3, 1e3, 61):
            there = moved(pool, i, pool.mark[i] * factor)
            assert there.figures().equity <= there.figures().requirement + ROUNDING * gross(there)
        return
    there = moved(pool, i, prices[i])
    got = there.figures()
    assert got.health == pytest.approx(1, abs=1e-9 + 10 * ROUNDING * gross(there) / got.requirement)


@given(book=SMALL, random=PICKS, amount=st.floats(1e-6, 1e9))
def test_more_collateral_never_lowers_health(book: Book, random: Random, amount: float) -> None:
    _, pool = a_pool(book, random)
    wallet = pool.slot_wallet.copy()
    wallet[random.randrange(len(wallet))] += amount
    was, now = pool.figures(), replace(pool, slot_wallet=wallet).figures()
    assert now.requirement == was.requirement
    assert now.equity >= was.equity


@given(book=SMALL, random=PICKS, target=st.floats(1.01, 5))
def test_a_deposit_by_the_lever_reaches_the_target_and_nothing_beyond(book: Book, random: Random, target: float) -> None:
    _, pool = a_pool(book, random)
    was = pool.figures()
    slot = random.randrange(len(pool.assets))
    amount = deposit_for_health(
        slot_equity=was.slot_equity,
        slot_bid=pool.slot_bid,
        slot_ask=pool.slot_ask,
        slot_index=slot,
        equity=was.equity,
        requirement=was.requirement,
        target=target,
    )
    assert (amount == 0) == (was.health >= target)
    wallet = pool.slot_wallet.copy()
    wallet[slot] += amount
    now = replace(pool, slot_wallet=wallet).figures()
    wanted = max(was.equity, target * was.requirement)
    assert now.equity == pytest.approx(wanted, rel=1e-12, abs=ROUNDING * gross(pool))


@given(book=SMALL, random=PICKS, target=st.floats(1.01, 5))
def test_a_reduction_by_the_lever_reaches_the_target_in_the_exact_book(book: Book, random: Random, target: float) -> None:
    name, pool = a_pool(book, random)
    was = pool.figures()
    i = random.randrange(len(pool.quantity))
    fraction = reduction_for_health(
        notional=was.notional,
        floors=pool.floors,
        rates=pool.rates,
        deductions=pool.deductions,
        ask=pool.slot_ask[pool.slot],
        equity=was.equity,
        requirement=was.requirement,
        target=target,
    )[i]
    closed = 1.0 if math.isnan(fraction) else fraction
    after = pool_figures(reduced(book, name, i, closed), name)
    slack = ROUNDING * float(after.gross)
    if math.isnan(fraction):
        assert after.equity <= target * float(after.maintenance) + slack, "closing all of it would have helped"
    elif fraction == 0:
        assert was.equity >= target * was.requirement
    else:
        assert 0 < fraction <= 1
        assert float(after.equity) == pytest.approx(target * float(after.maintenance), rel=1e-12, abs=slack)


def moved(pool: PoolArrays, leg: int, price: float) -> PoolArrays:
    """The pool with the symbol of this leg at another mark."""
    return replace(pool, mark=np.where(pool.symbol == pool.symbol[leg], price, pool.mark))


def reduced(book: Book, name: str, i: int, fraction: float) -> Book:
    """The book after a part of leg i of the pool was closed at the mark: its PnL is in the wallet."""
    closed = pool_figures(book, name).legs[i]
    left = 1 - Fraction(fraction)
    asset = book.margin_assets[closed.leg.symbol]
    realised = closed.pnl * (1 - left)
    leg = replace(
        closed.leg,
        quantity=str(Fraction(closed.leg.quantity) * left),
        isolated_wallet=str(Fraction(closed.leg.isolated_wallet) + (realised if closed.leg.isolated else 0)),
    )
    wallets = dict(book.wallets)
    if not leg.isolated:
        wallets[asset] = str(Fraction(wallets.get(asset, "0")) + realised)
    return replace(book, wallets=wallets, legs=tuple(leg if each == closed.leg else each for each in book.legs))
