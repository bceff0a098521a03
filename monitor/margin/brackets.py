"""Tiered maintenance margin: notional × rate − deduction, with the rate of the tier that the notional lies in.

Source: Binance help, "Leverage and margin of USDⓈ-M futures"; floor < notional ≤ cap, and the deduction makes the tiers meet.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.model.figures import Array
from monitor.model.instruments import BracketTable

Indices = NDArray[np.intp]

# 6 × 0.1 is 0.6000000000000001: a notional this near to a border is at the border, and belongs to the lower tier.
AT_BORDER = 1 + 1e-12


class TierTables:
    """All bracket tables as padded arrays; equal tables share a row, so ten thousand accounts cost one.

    Arrays have the shape (tables, tiers). A tier that a table does not have has the floor +inf.
    """

    def __init__(self) -> None:
        self._rows: dict[BracketTable, int] = {}
        self.tables: list[BracketTable] = []
        self.floors = np.empty((0, 1))
        self.rates = np.empty((0, 1))
        self.deductions = np.empty((0, 1))

    def row(self, table: BracketTable) -> int:
        """The row of this table; added when new."""
        known = self._rows.get(table)
        if known is not None:
            return known
        row = self._rows[table] = len(self.tables)
        self.tables.append(table)
        tiers = len(table.brackets)
        width = max(tiers, self.floors.shape[1])
        self.floors = _grown(self.floors, row + 1, width, np.inf)
        self.rates = _grown(self.rates, row + 1, width, np.nan)
        self.deductions = _grown(self.deductions, row + 1, width, np.nan)
        self.floors[row, :tiers] = [b.notional_floor for b in table.brackets]
        self.rates[row, :tiers] = [b.rate for b in table.brackets]
        self.deductions[row, :tiers] = [b.deduction for b in table.brackets]
        return row

    def tier(self, rows: Indices, notional: Array) -> Indices:
        """Tier index of each |notional|. Above the last cap the last tier holds: the venue still asks for its rate."""
        return tier_of(notional, self.floors[rows])

    def bounds(self, rows: Indices, tier: Indices) -> tuple[Array, Array]:
        """The notional interval (floor, cap] in which the tier holds; the ends are −inf and +inf."""
        low = np.where(tier == 0, -np.inf, self.floors[rows, tier] * AT_BORDER)
        last = tier + 1 >= self.floors.shape[1]
        high = np.where(last, np.inf, self.floors[rows, np.where(last, 0, tier + 1)] * AT_BORDER)
        return low, high


def tier_of(notional: Array, floors: Array) -> Indices:
    """Index of the tier with floor < notional ≤ next floor.

    notional: ≥ 0, shape (n,); floors: ascending, shape (n, tiers), padded with +inf. NaN and 0 give tier 0.
    """
    tier: Indices = (notional[:, None] > floors[:, 1:] * AT_BORDER).sum(axis=1)
    return tier


def maintenance_margin(notional: Array, rate: Array, deduction: Array) -> Array:
    """In the margin asset. notional: |quantity| × price; rate and deduction of its tier; any equal shapes."""
    return notional * rate - deduction


def leg_requirement(notional: Array, rate: Array, deduction: Array) -> Array:
    """`maintenance_margin` of a position; NaN where its tier asks for nothing or less: such a table cannot be right."""
    margin = maintenance_margin(notional, rate, deduction)
    return np.where((notional > 0) & (margin <= 0), np.nan, margin)


def lint(table: BracketTable) -> list[str]:
    """What is wrong with a table as one sentence each; a table with faults is used all the same, but said."""
    if not table.brackets:
        return [f"{table.symbol}: no brackets"]
    faults = []
    first = table.brackets[0]
    if first.notional_floor != 0 or first.deduction != 0:
        faults.append(
            f"{table.symbol}: begins at {first.notional_floor:g} with the deduction {first.deduction:g}, both should be 0"
        )
    faults += [
        f"{table.symbol}: rate {bracket.rate:g} of bracket {bracket.number} is no fraction between 0 and 1"
        for bracket in table.brackets
        if not 0 < bracket.rate <= 1
    ]
    for low, high in zip(table.brackets, table.brackets[1:], strict=False):
        border = high.notional_floor
        if border <= low.notional_floor:
            faults.append(f"{table.symbol}: floors do not ascend at bracket {high.number}")
        elif low.notional_cap != border:
            faults.append(f"{table.symbol}: bracket {low.number} ends at {low.notional_cap:g}, the next begins at {border:g}")
        if high.rate < low.rate:
            faults.append(f"{table.symbol}: the rate falls at bracket {high.number}")
        gap = border * (high.rate - low.rate) - (high.deduction - low.deduction)
        if abs(gap) > 1e-9 * max(1.0, border):
            faults.append(f"{table.symbol}: maintenance margin jumps by {gap:g} at bracket {high.number}")
    return faults


def _grown(array: Array, rows: int, width: int, fill: float) -> Array:
    grown = np.full((rows, width), fill)
    grown[: array.shape[0], : array.shape[1]] = array
    return grown
