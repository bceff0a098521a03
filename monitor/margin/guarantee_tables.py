"""The two tables of HTX coin-margined futures: adjustment factor by net position, usable margin by equity.

Both are public, per coin and leverage, and change without notice. Sources: HTX API `contract_adjustfactor` and
`contract_ladder_margin`; help pages on tiered adjustment factors (360000293121) and on tiered margin.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.model.figures import Array
from monitor.model.instruments import FactorTable, LadderTable, LadderTier

Indices = NDArray[np.intp]

TIERED_MARGIN_LEVERAGE_MIN = 20.0  # below it all equity may serve as margin


NO_FACTORS = FactorTable("", math.nan, ())  # the factor is unknown
NO_LADDER = LadderTable("", math.nan, ())  # all equity is usable


class FactorTables:
    """All factor tables as padded arrays, shape (tables, tiers); equal tables share a row. Row 0 knows no factor.

    net_max: upper bound of each tier, +inf of the last one and of the padding; factors: NaN in the padding.
    """

    UNKNOWN = 0

    def __init__(self) -> None:
        self._rows: dict[FactorTable, int] = {}
        self.tables: list[FactorTable] = []
        self.net_max = np.empty((0, 1))
        self.factors = np.empty((0, 1))
        self.row(NO_FACTORS)

    def row(self, table: FactorTable) -> int:
        """The row of this table; added when new."""
        known = self._rows.get(table)
        if known is not None:
            return known
        row = self._rows[table] = len(self.tables)
        self.tables.append(table)
        # Beyond a closed last tier the last factor, the highest one, holds: the venue asks for no less than that.
        self.net_max = _with_row(self.net_max, [tier.net_max for tier in table.tiers[:-1]], np.inf, len(table.tiers))
        self.factors = _with_row(self.factors, [tier.factor for tier in table.tiers], np.nan)
        return row

    def tier(self, rows: Indices, net_contracts: Array) -> Indices:
        """Tier index of each net position, ≥ 0. A number between two tiers, which no whole one is, belongs to the upper."""
        tier: Indices = (net_contracts[:, None] > self.net_max[rows]).sum(axis=1)
        return tier

    def factor(self, rows: Indices, net_contracts: Array) -> Array:
        """Adjustment factor of each net position, a fraction; NaN if the table or the position is unknown."""
        return np.where(np.isnan(net_contracts), np.nan, self.factors[rows, self.tier(rows, net_contracts)])

    def bounds(self, rows: Indices, tier: Indices) -> tuple[Array, Array]:
        """The interval (low, high] of net contracts in which the tier holds; the ends are −inf and +inf."""
        low = np.where(tier == 0, -np.inf, self.net_max[rows, np.maximum(tier - 1, 0)])
        return low, self.net_max[rows, tier]


class LadderTables:
    """All ladder tables as padded arrays, shape (tables, tiers); equal tables share a row. Row 0 caps nothing.

    floors: equity at which each tier begins, +inf in the padding; usable: margin that this equity gives; slopes: usable
    margin per equity beyond it. The last, open tier grows by 1 / leverage (help page on tiered margin).
    """

    NO_CAP = 0

    def __init__(self) -> None:
        self._rows: dict[LadderTable, int] = {}
        self.tables: list[LadderTable] = []
        self.floors = np.empty((0, 1))
        self.usable = np.empty((0, 1))
        self.slopes = np.empty((0, 1))
        self.row(NO_LADDER)

    def row(self, table: LadderTable) -> int:
        """The row of this table, added when new; row 0 for one that the leverage makes idle."""
        known = self._rows.get(table)
        if known is not None:
            return known
        capped = bool(table.tiers) and table.leverage >= TIERED_MARGIN_LEVERAGE_MIN
        if not capped and self.tables:
            return self.NO_CAP
        row = self._rows[table] = len(self.tables)
        self.tables.append(table)
        self.floors = _with_row(self.floors, [tier.equity_min for tier in table.tiers] if capped else [0.0], np.inf)
        self.usable = _with_row(self.usable, [tier.usable_min for tier in table.tiers] if capped else [0.0], np.nan)
        self.slopes = _with_row(self.slopes, [_slope(tier, table) for tier in table.tiers] if capped else [1.0], np.nan)
        return row

    def cap(self, rows: Indices, equity: Array) -> Array:
        """How much of the equity may serve as margin, in the coin. Below the first tier that one's line goes on.

        It limits what may be opened; neither the guarantee-asset ratio nor liquidation knows of it.
        """
        tier = (equity[:, None] >= self.floors[rows, 1:]).sum(axis=1)
        cap: Array = self.usable[rows, tier] + (equity - self.floors[rows, tier]) * self.slopes[rows, tier]
        return cap


def lint_factors(table: FactorTable) -> list[str]:
    """What is wrong with a table as one sentence each; a table with faults is used all the same, but said."""
    name = f"{table.coin} {table.leverage:g}x adjustment factors"
    if not table.tiers:
        return [f"{name}: no tiers"]
    faults = []
    if table.tiers[0].net_min > 0:
        faults.append(f"{name}: begin at {table.tiers[0].net_min:g} contracts, should be 0")
    faults += [
        f"{name}: {tier.factor:g} of tier {tier.number} is no fraction above 0 and at most 1"
        for tier in table.tiers
        if not 0 < tier.factor <= 1
    ]
    for low, high in zip(table.tiers, table.tiers[1:], strict=False):
        if high.net_min != low.net_max + 1:
            faults.append(f"{name}: tier {low.number} ends at {low.net_max:g}, the next begins at {high.net_min:g}")
        if not low.net_max < high.net_max:
            faults.append(f"{name}: bounds do not ascend at tier {high.number}")
        if high.factor < low.factor:
            faults.append(f"{name}: the factor falls at tier {high.number}")
    if table.tiers[-1].net_max != math.inf:
        faults.append(f"{name}: the last tier ends at {table.tiers[-1].net_max:g}, should be open")
    return faults


def lint_ladder(table: LadderTable) -> list[str]:
    """As `lint_factors`."""
    name = f"{table.coin} {table.leverage:g}x margin ladder"
    if not table.tiers:
        return [f"{name}: no tiers"]
    faults = []
    first, last = table.tiers[0], table.tiers[-1]
    if first.equity_min != 0 or first.usable_min != 0:
        faults.append(f"{name}: begins at {first.equity_min:g} with {first.usable_min:g} usable, both should be 0")
    for number, tier in enumerate(table.tiers):
        if not tier.equity_min < tier.equity_max:
            faults.append(f"{name}: tier {number} is empty")
        elif not 0 < _slope(tier, table) <= 1:
            faults.append(f"{name}: tier {number} makes {_slope(tier, table):g} of the equity usable, no fraction up to 1")
    for number, (low, high) in enumerate(zip(table.tiers, table.tiers[1:], strict=False)):
        if (low.equity_max, low.usable_max) != (high.equity_min, high.usable_min):
            faults.append(
                f"{name}: tier {number} ends at {low.equity_max:g} with {low.usable_max:g} usable, "
                f"the next begins at {high.equity_min:g} with {high.usable_min:g}"
            )
    if last.equity_max != math.inf:
        faults.append(f"{name}: the last tier ends at {last.equity_max:g}, should be open")
    return faults


def _slope(tier: LadderTier, table: LadderTable) -> float:
    if math.isinf(tier.equity_max) or math.isinf(tier.usable_max):
        return 1 / table.leverage
    if tier.equity_max == tier.equity_min:
        return 0.0  # empty: `lint_ladder` says so
    return (tier.usable_max - tier.usable_min) / (tier.equity_max - tier.equity_min)


def _with_row(array: Array, values: Sequence[float], fill: float, tiers: int = 1) -> Array:
    """The array with one more row, and wide enough for it and for so many tiers."""
    rows, width = array.shape
    grown = np.full((rows + 1, max(width, tiers, len(values))), fill)
    grown[:rows, :width] = array
    grown[rows, : len(values)] = values
    return grown
