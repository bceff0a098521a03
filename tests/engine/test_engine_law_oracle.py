"""The engine against exact fractions, through events alone: random books of 1 to 300 legs in all modes, tiers crossed."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Book, Pool, books, events_of, pools

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.figures import PoolFigures, PoolKey
from monitor.rules import RuleBook

# Of the sum of the sizes of all terms; a difference of terms cannot be more exact than they are.
TOLERANCE = Fraction(1, 10**12)


@settings(max_examples=2 * settings().max_examples)
@given(book=books(), other=books(legs_max=20))
def test_engine_tells_what_exact_arithmetic_tells(book: Book, other: Book) -> None:
    """A second account in the same engine changes nothing of the first."""
    engine = Engine([AccountSetup("binance_usdm", name, RuleBook()) for name in ("other", "main")])
    for event in events_of(other, account="other", at_ms=1_600_000_000_000):
        engine.step(event, 1_600_000_000_000)
    for event in events_of(book):
        engine.step(event, 1_700_000_000_000)
    for name, exact in pools(book).items():
        got = engine.figures(PoolKey("binance_usdm", "main", name))
        assert got is not None, name
        check(exact, got)


def check(exact: Pool, got: PoolFigures) -> None:
    def near(figure: float | None, wanted: Fraction, size: Fraction = exact.gross) -> bool:
        return figure is not None and abs(Fraction(figure) - wanted) <= TOLERANCE * size

    assert near(got.equity, exact.equity), (got.equity, float(exact.equity))
    assert near(got.requirement, exact.maintenance)
    assert near(got.initial_margin, exact.initial, exact.gross + exact.initial)
    if exact.available is None:
        assert got.available is None
    else:
        assert near(got.available, exact.available, exact.gross + exact.initial)
    if exact.health is None:
        assert got.health is None
        assert got.margin_ratio == 0
    else:
        assert got.health is not None
        assert math.isclose(got.health * float(exact.maintenance), float(exact.equity), abs_tol=float(TOLERANCE * exact.gross))
    assert {(leg.leg.symbol, leg.leg.side) for leg in exact.legs if Fraction(leg.leg.quantity)} == {
        (position.symbol, position.side) for position in got.positions
    }
    by_leg = {(position.symbol, position.side): position for position in got.positions}
    for leg in exact.legs:
        position = by_leg[leg.leg.symbol, leg.leg.side]
        turnover = abs(leg.notional) + abs(Fraction(leg.leg.quantity)) * Fraction(leg.leg.entry)
        assert near(position.unrealized_pnl, leg.pnl, turnover)
        assert near(position.notional, leg.notional, turnover)
        assert near(position.maintenance_margin, leg.maintenance, turnover)
        assert position.bracket == leg.tier + 1


@settings(max_examples=max(50, settings().max_examples // 10))
@given(book=books(legs_max=30), random=st.randoms(use_true_random=False))
def test_order_and_repetition_of_events_do_not_matter(book: Book, random: object) -> None:
    """The descriptions of the market may come in any order and twice; the account's picture may come before or after them."""
    events = events_of(book)
    shuffled = events + events[: len(events) // 2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    straight, mixed = (Engine([AccountSetup("binance_usdm", "main", RuleBook())]) for _ in range(2))
    for event in events:
        straight.step(event, 1_700_000_000_000)
    for event in shuffled:
        mixed.step(event, 1_700_000_000_000)
    for event in events:  # symbols that were named after their price get it with the next frame
        if type(event).__name__ in ("Prices", "AssetRates"):
            mixed.step(event, 1_700_000_000_000)
    for name, exact in pools(book).items():
        key = PoolKey("binance_usdm", "main", name)
        one, two = straight.figures(key), mixed.figures(key)
        assert one is not None
        assert two is not None
        assert math.isclose(one.equity or 0, two.equity or 0, abs_tol=float(TOLERANCE * exact.gross))
        assert math.isclose(one.requirement or 0, two.requirement or 0, abs_tol=float(TOLERANCE * exact.gross))
