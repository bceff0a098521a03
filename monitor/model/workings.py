"""What all pools are made of, as columns, for readers that want every position or asset at once; NaN is unknown."""

from msgspec import Struct

from monitor.model.figures import Array, PoolKey


class PositionTable(Struct, frozen=True, kw_only=True):
    """The open legs of all pools. Amounts in the unit of their pool; the arrays are the reader's own."""

    keys: list[tuple[PoolKey, str, str]]  # (pool, symbol, side)
    units: list[str]
    price: Array  # what margin is computed with, in the quote currency
    liquidation_price: Array  # NaN also where no price of it liquidates the pool
    notional: Array  # signed like the quantity, before any haircut
    unrealized_pnl: Array  # with the haircut: wallets of the pool and these make its equity
    requirement: Array  # its part of the equity at which liquidation starts


class AssetTable(Struct, frozen=True, kw_only=True):
    """The collateral of all pools that hold any. Amounts in the unit of their pool."""

    keys: list[tuple[PoolKey, str]]  # (pool, asset)
    units: list[str]
    equity: Array  # what it counts for, with the PnL of the positions margined in it: those of a pool make its equity
