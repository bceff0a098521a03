"""What pools are made of: series per position and per collateral asset."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.metrics.series import Series
from monitor.model.figures import Array, PoolKey
from monitor.model.view import View

Rates = Mapping[tuple[str, str], float]  # USD per unit by (venue, asset), where it is known

DISTANCE = "margin_position_liquidation_distance_ratio"
LEFT_OUT = "margin_positions_left_out"
HELP = {
    DISTANCE: "Move of the price that liquidates the pool: -0.1 is a fall by 10 %. Binance: of this price alone; "
    "HTX: of all prices of the coin together.",
    "margin_position_notional_usd": "Value of the position, short < 0, before any haircut.",
    "margin_position_unrealized_pnl_usd": "What it adds to the equity of the pool.",
    "margin_position_maintenance_margin_usd": "Its part of the equity at which liquidation starts.",
    "margin_asset_equity_usd": "What the asset counts for, PnL included: those of a pool make its equity.",
    LEFT_OUT: "Open positions without series of their own, for their account has more than metrics.positions_max.",
}
_POSITION_LABELS = ("account", "pool", "side", "symbol", "venue")  # sorted, as prometheus_client writes them
_ASSET_LABELS = ("account", "asset", "pool", "venue")


class Workings:
    """amounts: False leaves out all but the distances. positions_max: of an account; its largest by margin."""

    def __init__(self, view: View, *, amounts: bool, positions_max: int) -> None:
        self._view = view
        self._amounts = amounts
        self._positions_max = positions_max
        self._positions = self._assets = Series(())

    def read(self, rates: Rates) -> Iterator[bytes]:
        """Reads the view at once; the families are written as they are asked for."""
        if not self._positions_max:
            return iter(())
        return self._write(*self._of_positions(rates), *self._of_assets(rates))

    def _write(
        self, positions: Series, by_position: dict[str, Array], left_out: int, assets: Series, by_asset: dict[str, Array]
    ) -> Iterator[bytes]:
        for series, columns in ((positions, by_position), (assets, by_asset)):
            for name, values in columns.items():
                yield series.gauge(name, HELP[name], values)
        yield Series([()]).gauge(LEFT_OUT, HELP[LEFT_OUT], np.array([float(left_out)]))

    def _of_positions(self, rates: Rates) -> tuple[Series, dict[str, Array], int]:
        table = self._view.positions()
        kept = largest([(key.venue, key.account) for key, _, _ in table.keys], table.requirement, self._positions_max)
        keys = [table.keys[row] for row in kept]
        labels = [(key.account, key.pool, side, symbol, key.venue) for key, symbol, side in keys]
        self._positions = self._positions.of(labels, _POSITION_LABELS)
        columns = {DISTANCE: (table.liquidation_price / table.price - 1)[kept]}
        if self._amounts:
            usd = usd_per_unit([key for key, _, _ in keys], [table.units[row] for row in kept], rates)
            columns |= {
                "margin_position_notional_usd": table.notional[kept] * usd,
                "margin_position_unrealized_pnl_usd": table.unrealized_pnl[kept] * usd,
                "margin_position_maintenance_margin_usd": table.requirement[kept] * usd,
            }
        return self._positions, columns, len(table.keys) - len(kept)

    def _of_assets(self, rates: Rates) -> tuple[Series, dict[str, Array]]:
        if not self._amounts:
            return self._assets, {}
        table = self._view.assets()
        self._assets = self._assets.of([(key.account, asset, key.pool, key.venue) for key, asset in table.keys], _ASSET_LABELS)
        usd = usd_per_unit([key for key, _ in table.keys], table.units, rates)
        return self._assets, {"margin_asset_equity_usd": table.equity * usd}


def largest(groups: Sequence[tuple[str, str]], sizes: Array, at_most: int) -> NDArray[np.intp]:
    """Rows of the largest of each group, in their order; one whose size is unknown goes first."""
    rows = np.arange(len(groups))
    if max(Counter(groups).values(), default=0) <= at_most:
        return rows
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    group = np.array([number[of] for of in groups])
    order = np.lexsort((-np.nan_to_num(sizes, nan=np.inf), group))
    first = np.searchsorted(group[order], group[order])
    kept: NDArray[np.intp] = np.sort(order[rows - first < at_most])
    return kept


def usd_per_unit(keys: Sequence[PoolKey], units: Sequence[str], rates: Rates) -> Array:
    """NaN where no index of the unit is known: an amount in another unit must not pass as dollars."""
    usd = [1.0 if unit == "USD" else rates.get((key.venue, unit), np.nan) for key, unit in zip(keys, units, strict=True)]
    return np.array(usd, np.float64)
