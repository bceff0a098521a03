"""What the pools of coin-margined futures are made of, all at once and as columns."""

import numpy as np

from monitor.engine.columns import FloatColumn
from monitor.engine.guarantee_book import GuaranteeBook
from monitor.model.workings import AssetTable, PositionTable


def positions(book: GuaranteeBook) -> PositionTable:
    """In the order of the book. What locking frees is taken off all legs of a pool alike; what orders freeze is no leg's."""
    legs, p, symbols = book.legs, book.pools, book.market.symbols
    rows = np.flatnonzero(legs.quantity)
    pool = book.contracts.pool[legs.contract[rows]]
    price = symbols.price[legs.symbol[rows]]
    notional, pnl, margin = (figure[rows] for figure in book.leg_figures(symbols.price))
    charged = np.full(len(p), np.nan)
    np.divide(p.position_margin, p.total, out=charged, where=p.total > 0)

    def known(figures: FloatColumn) -> FloatColumn:
        return np.where(p.blind[pool], np.nan, figures)

    return PositionTable(
        keys=[(book.pool_keys[of], *book.leg_keys[row][1:]) for of, row in zip(pool, rows, strict=True)],
        units=[book.pool_keys[of].pool for of in pool],
        price=known(price),
        liquidation_price=known(book.liquidation_factor()[pool] * price),
        notional=known(notional),
        unrealized_pnl=known(pnl),
        requirement=known(p.factor[pool] * margin * charged[pool]),
    )


def assets(book: GuaranteeBook) -> AssetTable:
    """The coin of each pool that holds any."""
    p = book.pools
    rows = np.flatnonzero(p.active | (np.nan_to_num(p.equity) != 0))
    return AssetTable(
        keys=[(book.pool_keys[row], book.pool_keys[row].pool) for row in rows],
        units=[book.pool_keys[row].pool for row in rows],
        equity=np.where(p.blind[rows], np.nan, p.equity[rows]),
    )
