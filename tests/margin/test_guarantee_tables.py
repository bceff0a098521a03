"""Adjustment factors by net position, and usable margin by equity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.margin.guarantee_tables import NO_FACTORS, NO_LADDER, FactorTables, LadderTables, lint_factors, lint_ladder
from monitor.model.instruments import FactorTable, FactorTier, LadderTable, LadderTier

INF, NAN = float("inf"), float("nan")
BTC_125X = FactorTable(
    "BTC", 125, (FactorTier(0, 0, 1999, 0.65), FactorTier(1, 2000, 14_999, 0.8), FactorTier(2, 15_000, INF, 0.85))
)
BTC_20X = LadderTable(
    "BTC",
    20,
    (
        LadderTier(0, 20, 0, 20),
        LadderTier(20, 80, 20, 50),
        LadderTier(80, 380, 50, 110),
        LadderTier(380, 980, 110, 170),
        LadderTier(980, INF, 170, INF),
    ),
)


@pytest.mark.parametrize(
    ("table", "net", "factor", "low", "high", "why"),
    [
        (BTC_125X, 0, 0.65, -INF, 1999, "a locked pair has no net position and still the first tier's factor"),
        (BTC_125X, 1999, 0.65, -INF, 1999, "max_size is inside"),
        (BTC_125X, 2000, 0.8, 1999, 14_999, "min_size is inside"),
        (BTC_125X, 1999.5, 0.8, 1999, 14_999, "between two whole numbers the stricter tier"),
        (BTC_125X, 15_000, 0.85, 14_999, INF, "the open tier"),
        (BTC_125X, 1e12, 0.85, 14_999, INF, "the open tier has no end"),
        (FactorTable("X", 5, (FactorTier(0, 0, 99, 0.1),)), 100, 0.1, -INF, INF, "beyond a closed end the last factor holds"),
        (FactorTable("X", 5, (FactorTier(0, 1, INF, 0.1),)), 0, 0.1, -INF, INF, "a table that begins at 1 covers 0"),
        (NO_FACTORS, 10, NAN, -INF, INF, "without a table the factor is unknown"),
        (BTC_125X, NAN, NAN, -INF, 1999, "of an unknown net position too"),
    ],
)
def test_factor(table: FactorTable, net: float, factor: float, low: float, high: float, why: str) -> None:
    tables = FactorTables()
    tables.row(FactorTable("WIDE", 1, tuple(FactorTier(i, i, i, 0.9) for i in range(7))))  # so that the others are padded
    rows, position = np.array([tables.row(table)]), np.array([net], np.float64)
    np.testing.assert_array_equal(tables.factor(rows, position), [factor], err_msg=why)
    below, above = tables.bounds(rows, tables.tier(rows, position))
    assert (below.tolist(), above.tolist()) == ([low], [high]), why


def test_equal_tables_share_a_row_and_the_first_is_unknown() -> None:
    tables, ladders = FactorTables(), LadderTables()
    assert tables.row(NO_FACTORS) == FactorTables.UNKNOWN == 0
    assert tables.row(BTC_125X) == tables.row(FactorTable("BTC", 125.0, tuple(BTC_125X.tiers))) == 1
    assert tables.row(FactorTable("BTC", 100, BTC_125X.tiers)) == 2
    assert ladders.row(NO_LADDER) == LadderTables.NO_CAP == 0
    assert ladders.row(BTC_20X) == ladders.row(LadderTable("BTC", 20.0, tuple(BTC_20X.tiers))) == 1
    assert ladders.row(LadderTable("BTC", 10, BTC_20X.tiers)) == ladders.row(LadderTable("BTC", 20, ())) == LadderTables.NO_CAP
    assert tables.tables[1] is BTC_125X
    assert ladders.tables[1] is BTC_20X


@given(borders=st.lists(st.integers(0, 50), unique=True, max_size=5), net=st.integers(0, 60))
def test_factor_holds_within_its_bounds(borders: list[int], net: int) -> None:
    borders.sort()
    starts = [0, *(border + 1 for border in borders)]
    tiers = [FactorTier(i, a, b, 0.1 + i / 10) for i, (a, b) in enumerate(zip(starts, [*borders, INF], strict=True))]
    tables = FactorTables()
    row = np.array([tables.row(FactorTable("X", 5, tuple(tiers)))])
    tier = tables.tier(row, np.array([float(net)]))
    low, high = tables.bounds(row, tier)
    assert tiers[int(tier[0])].net_min <= net <= tiers[int(tier[0])].net_max
    for other in range(61):
        same = tables.factor(row, np.array([float(other)])) == tables.factor(row, np.array([float(net)]))
        assert bool(same[0]) == bool(low[0] < other <= high[0]), f"{other} contracts"


@pytest.mark.parametrize(
    ("table", "equity", "cap", "why"),
    [
        (BTC_20X, 80, 50, "the venue's own example"),
        (BTC_20X, 0, 0, "nothing gives nothing"),
        (BTC_20X, 12.5, 12.5, "all of it in the first tier"),
        (BTC_20X, 20, 20, "tiers meet"),
        (BTC_20X, 50, 35, "half of what lies in the second"),
        (BTC_20X, 1980, 220, "the open tier grows by 1 / leverage"),
        (BTC_20X, -3, -3, "a debt is a debt"),
        (BTC_20X, NAN, NAN, "unknown equity"),
        (NO_LADDER, 1e6, 1e6, "without a table all equity is usable"),
        (NO_LADDER, NAN, NAN, "but not an unknown one"),
        (LadderTable("BTC", 10, BTC_20X.tiers), 80, 80, "below 20x tiered margin is idle, whatever table is sent"),
        (LadderTable("BTC", 20, ()), 80, 80, "an empty table is none"),
        (LadderTable("BTC", 20, BTC_20X.tiers[:1]), 30, 30, "a last tier that ends goes on with its own share"),
        (LadderTable("BTC", 50, (LadderTier(0, 20, 0, INF),)), 10, 0.2, "one open end makes the tier open"),
    ],
)
def test_usable_margin(table: LadderTable, equity: float, cap: float, why: str) -> None:
    tables = LadderTables()
    tables.row(LadderTable("WIDE", 20, tuple(LadderTier(i, i + 1, i, i + 1) for i in range(7))))
    got = tables.cap(np.array([tables.row(table)]), np.array([equity], np.float64))
    np.testing.assert_allclose(got, [cap], rtol=1e-15, err_msg=why)


@given(st.lists(st.floats(-100, 5000), min_size=2, max_size=20))
def test_cap_never_falls_and_never_exceeds_the_equity(equity: list[float]) -> None:
    tables = LadderTables()
    row = tables.row(BTC_20X)
    ordered = np.array(sorted(equity))
    cap = tables.cap(np.full(len(ordered), row), ordered)
    assert (np.diff(cap) >= -1e-12).all()
    assert (cap <= ordered + 1e-12).all()


@pytest.mark.parametrize(
    ("tiers", "faults", "why"),
    [
        (BTC_125X.tiers, [], "the published table is sound"),
        ((), ["no tiers"], "empty"),
        ((FactorTier(0, 1, INF, 0.1),), ["begin at 1"], "0 contracts have no tier"),
        ((FactorTier(0, 0, INF, 65),), ["no fraction"], "percent for a fraction"),
        ((FactorTier(0, 0, INF, 0.0),), ["no fraction"], "0 would never liquidate"),
        ((FactorTier(0, 0, 9, 0.1), FactorTier(1, 11, INF, 0.2)), ["ends at 9"], "a gap"),
        ((FactorTier(0, 0, 9, 0.1), FactorTier(1, 10, 8, 0.2)), ["do not ascend", "should be open"], "bounds in disorder"),
        ((FactorTier(0, 0, 9, 0.2), FactorTier(1, 10, INF, 0.1)), ["factor falls"], "more contracts for less"),
        ((FactorTier(0, 0, 9, 0.2),), ["should be open"], "no tier for 10 contracts"),
    ],
)
def test_faults_of_factors_are_said(tiers: tuple[FactorTier, ...], faults: list[str], why: str) -> None:
    said = lint_factors(FactorTable("BTC", 125, tiers))
    assert len(said) == len(faults), f"{why}: {said}"
    assert all(fault in sentence for fault, sentence in zip(faults, said, strict=True)), f"{why}: {said}"


@pytest.mark.parametrize(
    ("tiers", "faults", "why"),
    [
        (BTC_20X.tiers, [], "the published table is sound"),
        ((), ["no tiers"], "empty"),
        (BTC_20X.tiers[1:], ["begins at 20"], "no tier for little equity"),
        (BTC_20X.tiers[:1], ["should be open"], "no tier for much equity"),
        ((BTC_20X.tiers[0], *BTC_20X.tiers[2:]), ["ends at 20"], "a gap"),
        ((LadderTier(0, 50, 0, 60), LadderTier(50, INF, 60, INF)), ["usable"], "more usable than there is"),
        ((LadderTier(0, 0, 0, 0), LadderTier(0, INF, 0, INF)), ["is empty"], "a tier for nothing"),
    ],
)
def test_faults_of_ladders_are_said(tiers: tuple[LadderTier, ...], faults: list[str], why: str) -> None:
    table = LadderTable("BTC", 20, tiers)
    said = lint_ladder(table)
    assert len(said) == len(faults), f"{why}: {said}"
    assert all(fault in sentence for fault, sentence in zip(faults, said, strict=True)), f"{why}: {said}"
    LadderTables().row(table)  # used all the same
