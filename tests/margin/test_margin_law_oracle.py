"""The one main law: float arrays and exact fractions tell the same figures of any book."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Book, Pool, books, liquidation_marks, pool_figures, pools
from pool_arrays import Figures, arrays_of

# 2⁻⁵² for each of at most 300 terms, and a few more for each term's own products; of the sum of the terms' sizes.
ROUNDING = Fraction(1, 10**13)
PRICES_CHECKED = 2  # an exact search over all tiers is slow


@settings(max_examples=2 * settings().max_examples)
@given(book=books(), random=st.randoms(use_true_random=False))
def test_formulas_tell_what_exact_arithmetic_tells(book: Book, random: Random) -> None:
    with_legs = []
    for pool in pools(book).values():
        arrays = arrays_of(book, pool.name)
        check_figures(pool, arrays.figures())
        if pool.legs:
            with_legs.append((pool, arrays))
    for _ in range(PRICES_CHECKED):
        pool, arrays = random.choice(with_legs)
        i = random.randrange(len(pool.legs))
        check_price(book, pool, pool.legs[i].leg.symbol, arrays.prices()[i])


def check_figures(pool: Pool, got: Figures) -> None:
    for i, leg in enumerate(pool.legs):
        turnover = abs(leg.notional) + abs(Fraction(leg.leg.quantity)) * Fraction(leg.leg.entry)
        assert close(got.pnl[i], leg.pnl, turnover), f"PnL of {leg}"
        assert close(got.notional[i], abs(leg.notional), turnover), f"notional of {leg}"
        assert close(got.maintenance[i], leg.maintenance, turnover), f"maintenance margin of {leg}"
        assert close(got.initial[i], leg.initial, turnover), f"initial margin of {leg}"
    assert close(got.equity, pool.equity, pool.gross), "equity"
    assert close(got.requirement, pool.maintenance, pool.gross), "maintenance margin"
    assert close(got.initial_total, pool.initial, pool.gross + pool.initial), "initial margin"
    if pool.available is not None:
        assert close(got.available, pool.available, pool.gross + pool.initial), "available"
    if pool.health is None:
        assert math.isnan(got.health), "nothing required: no health"
        assert got.margin_ratio == 0, "nothing required: no risk"
    else:
        assert close(got.health * got.requirement, pool.equity, pool.gross), "health"
        if abs(pool.equity) > ROUNDING * pool.gross:  # nearer to 0 its sign is rounding
            if pool.margin_ratio is None:
                assert got.margin_ratio == math.inf, "no equity under a requirement"
            else:
                assert close(got.margin_ratio * got.equity, pool.maintenance, pool.gross), "margin ratio"


def check_price(book: Book, pool: Pool, symbol: str, got: float) -> None:
    """got is a root of the exact surplus, and no exact root is nearer to the mark."""
    mark = Fraction(book.marks[symbol])
    roots = [price for price in liquidation_marks(book, pool.name, symbol) if price > mark * ROUNDING]
    if math.isnan(got):
        assert not roots, f"{symbol} is liquidated at {[float(price) for price in roots]}"
        return
    price = Fraction(float(got))
    moved = pool_figures(replace(book, marks={**book.marks, symbol: str(price)}), pool.name)
    assert abs(moved.equity - moved.maintenance) <= ROUNDING * moved.gross, f"{symbol} at {got}: not liquidated there"
    for root in roots:
        assert min(root / mark, mark / root) <= min(price / mark, mark / price) * (1 + Fraction(1, 10**6)), (
            f"{symbol}: {float(root)} is nearer than {got}"
        )


def close(got: float, exact: Fraction, gross: Fraction) -> bool:
    return abs(Fraction(float(got)) - exact) <= ROUNDING * gross
