"""The tables of coin-margined futures: legs, the contracts that they are of, and pools."""

import numpy as np

from monitor.engine.columns import BoolColumn, Columns, FloatColumn, IndexColumn, IntColumn
from monitor.engine.market import FLAT, NEVER
from monitor.engine.pools import Pools
from monitor.margin.guarantee_tables import FactorTables


class CoinLegs(Columns):
    """One row per (account, contract, side) ever held; flat rows point at the FLAT symbol."""

    new_row = {  # noqa: RUF012
        "contract": (np.intp, 0),
        "symbol": (np.intp, FLAT),
        "quantity": (np.float64, 0.0),  # contracts, short < 0
        "face": (np.float64, np.nan),
        "hold": (np.float64, np.nan),
        "base_price": (np.float64, np.nan),  # from which its PnL is not yet booked as a move
    }
    contract: IndexColumn
    symbol: IndexColumn
    quantity: FloatColumn
    face: FloatColumn
    hold: FloatColumn
    base_price: FloatColumn


class Contracts(Columns):
    """One row per (account, contract); margins in the coin, before locking."""

    new_row = {  # noqa: RUF012
        "pool": (np.intp, 0),
        "symbol": (np.intp, FLAT),
        "long_margin": (np.float64, 0.0),
        "short_margin": (np.float64, 0.0),
        "longs": (np.float64, 0.0),
        "shorts": (np.float64, 0.0),
    }
    pool: IndexColumn
    symbol: IndexColumn
    long_margin: FloatColumn
    short_margin: FloatColumn
    longs: FloatColumn
    shorts: FloatColumn


class CoinPools(Pools):
    """Amounts in the coin. `initial` is all margin in use; `used` the same, as the factor's base."""

    new_row = {  # noqa: RUF012
        **Pools.new_row,
        "static": (np.float64, np.nan),
        "profit_real": (np.float64, 0.0),
        "frozen": (np.float64, 0.0),
        "leverage": (np.float64, np.nan),
        "told_factor": (np.float64, np.nan),  # by the account itself
        "told_net": (np.float64, np.nan),  # for this net position
        "factor_off": (np.bool_, False),  # that is not what the table says of this net position
        "factor_table": (np.intp, FactorTables.UNKNOWN),
        "ladder_table": (np.intp, 0),
        "ladder_off": (np.bool_, False),  # the venue's own available margin does not follow from the ladder that we have
        "profit_ratio": (np.float64, 0.0),  # not told: nothing of it may leave
        "pnl": (np.float64, 0.0),
        "net_notional": (np.float64, 0.0),
        "net": (np.float64, 0.0),
        "position_margin": (np.float64, 0.0),
        "total": (np.float64, 0.0),
        "same": (np.float64, 0.0),
        "cross": (np.float64, 0.0),
        "legs_ms": (np.int64, NEVER),  # the venue's time of the newest legs
        "venue_pnl": (np.float64, np.nan),  # by its last push
        "venue_margin": (np.float64, np.nan),
        "pnl_gap": (np.float64, 0.0),  # venue's − ours when that came; 0: ours explains it
        "margin_gap": (np.float64, 0.0),
        "push_late": (np.bool_, False),  # that came long after its own time: prices may have moved since
        "gap_ms": (np.int64, NEVER),  # since when
        "asked_ms": (np.int64, NEVER),  # when a snapshot was last asked for because of it
        "pnl_off": (np.float64, 0.0),  # venue's − ours in the last snapshot: what we misread, which `reconcile` tells
        "margin_off": (np.float64, 0.0),
        "lead": (np.float64, 0.0),  # what the venue's word adds to the PnL of the legs now
        "base_lead": (np.float64, 0.0),  # of that, what is booked as a move
    }
    static: FloatColumn
    profit_real: FloatColumn
    frozen: FloatColumn
    leverage: FloatColumn
    told_factor: FloatColumn
    told_net: FloatColumn
    factor_off: BoolColumn
    factor_table: IndexColumn
    ladder_table: IndexColumn
    ladder_off: BoolColumn
    profit_ratio: FloatColumn
    pnl: FloatColumn
    net_notional: FloatColumn
    net: FloatColumn
    position_margin: FloatColumn
    total: FloatColumn
    same: FloatColumn
    cross: FloatColumn
    legs_ms: IntColumn
    venue_pnl: FloatColumn
    venue_margin: FloatColumn
    pnl_gap: FloatColumn
    margin_gap: FloatColumn
    push_late: BoolColumn
    gap_ms: IntColumn
    asked_ms: IntColumn
    pnl_off: FloatColumn
    margin_off: FloatColumn
    lead: FloatColumn
    base_lead: FloatColumn
