"""Tier tables: where tiers meet, where they hold, and what is wrong with a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monitor.margin.brackets import TierTables, lint, maintenance_margin, tier_of
from monitor.model.instruments import Bracket, BracketTable

TWO = (Bracket(1, 0, 100, 0.01, 0, 50), Bracket(2, 100, 1000, 0.02, 1, 20))


@pytest.fixture(scope="module")
def venue_tables(shared: Path) -> list[BracketTable]:
    rows = json.loads((shared / "data" / "binance" / "leverage_brackets.json").read_text())
    return [
        BracketTable(
            row["symbol"],
            tuple(
                Bracket(b["bracket"], b["notionalFloor"], b["notionalCap"], b["maintMarginRatio"], b["cum"], b["initialLeverage"])
                for b in row["brackets"]
            ),
        )
        for row in rows
    ]


def test_the_venues_tables_are_sound_and_meet_at_every_border(venue_tables: list[BracketTable]) -> None:
    assert len(venue_tables) == 60
    tiers = TierTables()
    for table in venue_tables:
        assert lint(table) == []
        row = np.array([tiers.row(table)])
        for low, high in zip(table.brackets, table.brackets[1:], strict=False):
            border = np.array([high.notional_floor], float)
            above = border * (1 + 1e-11)
            assert tiers.tier(row, border) == low.number - 1, "the cap belongs to the tier below"
            assert tiers.tier(row, above) == high.number - 1
            below = maintenance_margin(border, np.array([low.rate]), np.array([low.deduction]))
            beyond = maintenance_margin(above, np.array([high.rate]), np.array([high.deduction]))
            assert beyond == pytest.approx(below, abs=1e-11 * border[0]), f"{table.symbol}: continuous at {border}"


@pytest.mark.parametrize(
    ("notional", "tier", "why"),
    [
        (0.0, 0, "flat"),
        (100.0, 0, "floor < notional ≤ cap: the border belongs to the tier below"),
        (100.00000000000001, 0, "the next float above the border is the border: 6 × 0.1 is 0.6000000000000001"),
        (100.000000001, 1, "the first figure that a venue could print above the border"),
        (1e12, 1, "above the last cap the last tier holds"),
        (float("nan"), 0, "unknown: the margin is NaN in any tier"),
    ],
)
def test_tier_of(notional: float, tier: int, why: str) -> None:
    assert tier_of(np.array([notional]), np.array([[0.0, 100.0, np.inf]])).tolist() == [tier], why


def test_equal_tables_share_a_row_and_rows_stay_where_they_are() -> None:
    tiers = TierTables()
    one = BracketTable("A", TWO)
    assert tiers.row(one) == 0
    longer = (*TWO, Bracket(3, 1000, 5000, 0.05, 31, 10))
    assert tiers.row(BracketTable("B", longer)) == 1
    assert tiers.row(BracketTable("A", TWO)) == 0
    assert tiers.floors.tolist() == [[0, 100, np.inf], [0, 100, 1000]], "padded to the longest"
    low, high = tiers.bounds(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]))
    assert low == pytest.approx(np.array([-np.inf, 100, 100, 1000]))
    assert high == pytest.approx(np.array([100, np.inf, 1000, np.inf]))


@pytest.mark.parametrize(
    ("brackets", "faults", "why"),
    [
        (TWO, [], "sound"),
        ((), ["A: no brackets"], "no figure can be computed with it"),
        (TWO[1:], ["A: begins at 100 with the deduction 1, both should be 0"], "its beginning is lost"),
        (
            (TWO[0], Bracket(2, 100, 1000, 0.02, 0, 20)),
            ["A: maintenance margin jumps by 1 at bracket 2"],
            "D17: a discontinuous row; the deduction column is lost (D1)",
        ),
        (
            (TWO[0], Bracket(2, 100, 1000, 0.005, -0.5, 20)),
            ["A: the rate falls at bracket 2"],
            "more position, less margin",
        ),
        ((TWO[0], Bracket(2, 200, 1000, 0.02, 2, 20)), ["A: bracket 1 ends at 100, the next begins at 200"], "a gap"),
        (
            (Bracket(1, 0, 100, 0.4, 0, 2), Bracket(2, 100, 1000, 1.5, 110, 1)),
            ["A: rate 1.5 of bracket 2 is no fraction between 0 and 1"],
            "a rate in percent",
        ),
        (
            (*TWO, Bracket(3, 100, 2000, 0.03, 2, 10)),
            ["A: floors do not ascend at bracket 3"],
            "a repeated tier",
        ),
    ],
)
def test_lint(brackets: tuple[Bracket, ...], faults: list[str], why: str) -> None:
    assert lint(BracketTable("A", brackets)) == faults, why
