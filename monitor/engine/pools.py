"""What the books of all margin schemes share: pools as columns, which account has which, and how old their inputs are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from monitor.engine.columns import BoolColumn, Columns, FloatColumn, IndexColumn, IntColumn
from monitor.engine.market import NEVER, Market
from monitor.engine.moves import Moves
from monitor.model.figures import PoolKey

Rows = NDArray[np.intp]


class Pools(Columns):
    """Amounts in the pool's unit."""

    new_row = {  # noqa: RUF012
        "account": (np.intp, 0),
        "trust": (np.intp, 0),
        "equity": (np.float64, np.nan),
        "requirement": (np.float64, np.nan),
        "initial": (np.float64, np.nan),
        "used": (np.float64, 0.0),  # margin in use, where the requirement is a factor of it
        "factor": (np.float64, np.nan),
        "bound": (np.float64, np.nan),  # joint.withdrawable_bound now
        "bound_at_answer": (np.float64, np.nan),
        "venue_equity": (np.float64, np.nan),
        "venue_requirement": (np.float64, np.nan),
        "venue_withdrawable": (np.float64, np.nan),
        "answered_ms": (np.int64, NEVER),  # when the venue's own figures came
        "difference": (np.float64, np.nan),
        "differs_in_a_row": (np.int64, 0),
        "tables_off": (np.bool_, False),  # the venue's own requirement does not follow from the tables that we have
        "fresh_ms": (np.int64, NEVER),  # since when its oldest input is as it is
        "known_ms": (np.int64, NEVER),  # when all figures were last known
        "isolated": (np.bool_, False),
        "active": (np.bool_, False),  # holds a position or a wallet
        "ever_active": (np.bool_, False),  # since the start
        "based": (np.bool_, False),  # what moves it is booked: its next message tells it
        "may_improve": (np.bool_, True),  # trusted and fresh: only then does anything clear
        "blind": (np.bool_, False),  # so old that nothing is known
        "held_ms": (np.int64, NEVER),  # since when its alerts are held, as the venue settles
    }
    account: IndexColumn  # place of the account in JointBook.accounts
    trust: IndexColumn  # row of Trust: of what its pictures cover
    equity: FloatColumn
    requirement: FloatColumn
    initial: FloatColumn
    used: FloatColumn
    factor: FloatColumn
    bound: FloatColumn
    bound_at_answer: FloatColumn
    venue_equity: FloatColumn
    venue_requirement: FloatColumn
    venue_withdrawable: FloatColumn
    answered_ms: IntColumn
    difference: FloatColumn
    differs_in_a_row: IntColumn
    tables_off: BoolColumn
    fresh_ms: IntColumn
    known_ms: IntColumn
    isolated: BoolColumn
    active: BoolColumn
    ever_active: BoolColumn
    based: BoolColumn
    may_improve: BoolColumn
    blind: BoolColumn
    held_ms: IntColumn


class AccountPools:
    """Which pools of the book belong to one account."""

    def __init__(self, alias: str, place: int) -> None:
        self.alias = alias
        self.place = place
        self.pools: dict[str, int] = {}

    def pool_rows(self) -> Rows:
        return np.fromiter(self.pools.values(), np.intp, len(self.pools))


class Inputs(Struct, frozen=True):
    """When the inputs of pools were last seen: pool rows beside times, one for each input; and which pools hold anything."""

    priced: IndexColumn
    price_ms: IntColumn
    rated: IndexColumn
    rate_ms: IntColumn
    active: IndexColumn


class PoolBook(ABC):
    """One venue's pools. A scheme adds what they are made of, and values them."""

    def __init__(self, market: Market, pools: Pools, accounts: Mapping[str, AccountPools]) -> None:
        self.market = market
        self.pools = pools
        self.pool_keys: list[PoolKey] = []
        self.accounts = accounts
        self.required = Moves()  # of the requirement, by pool row, in the pool's unit
        self.tables_doubted: set[str] = set()  # accounts whose tables are to be read again; whoever asks for that clears it
        self.compared: list[int] = []  # pools that an answer was compared with, see take_compared
        self.snapshots_wanted: set[tuple[str, str]] = set()  # (account, pool) of which a full picture is wanted soon; likewise

    @abstractmethod
    def revalue(self, account: Any = None) -> None:
        """All figures of all pools, or of one account's, from what is known now."""

    @abstractmethod
    def inputs(self) -> Inputs: ...

    def uses_prices(self) -> bool:
        """Whether the silence of the price feed says anything; the feed of a whole market is heard in any case."""
        return True

    @abstractmethod
    def uses_rates(self) -> bool:
        """Whether any pool is valued with rates of assets."""

    @abstractmethod
    def table_faults(self, account: Any) -> list[tuple[str, str]]:
        """(symbol or coin, what is wrong) of the venue's tables that the account's positions are under."""

    @abstractmethod
    def rows_older(self) -> int:
        """Rows of account events that were dropped, as newer ones were known."""

    @abstractmethod
    def available(self) -> FloatColumn:
        """For new orders, by pool."""

    @abstractmethod
    def withdrawable(self) -> FloatColumn:
        """What may leave the pool, by pool."""

    def add_pool(self, account: AccountPools, name: str, *, isolated: bool = False) -> int:
        row = account.pools[name] = self.pools.add(account=account.place, isolated=isolated)
        self.pool_keys.append(PoolKey(self.market.venue, account.alias, name))
        return row

    def take_compared(self) -> Rows:
        """The pools that the venue's own figures were compared with since the last call: an answer that is older than what is
        known, or says nothing of a pool, is none of it."""
        compared, self.compared = np.array(self.compared, np.intp), []
        return compared

    def compare_tables(self, row: int, *, off: bool) -> None:
        """After each answer of the venue. A mismatch is doubted once, until it has been mended."""
        if off and not self.pools.tables_off[row]:
            self.tables_doubted.add(self.pool_keys[row].account)
        self.pools.tables_off[row] = off

    def set_ages(self, rows_seen_ms: IntColumn, now_ms: int) -> FloatColumn:
        """Renews `fresh_ms`, `known_ms` and `active`; returns per pool how far an input lags behind its own market, in ms.

        rows_seen_ms: when the venue's rows of each pool were last sure. A pool that is unknown is as old as what was last known.
        """
        pools, market, inputs = self.pools, self.market, self.inputs()
        prices = _oldest(inputs.priced, inputs.price_ms, len(pools), now_ms)
        rates = _oldest(inputs.rated, inputs.rate_ms, len(pools), now_ms)
        pools.active[:] = False
        pools.active[inputs.active] = True
        pools.ever_active |= pools.active
        known = ~(np.isnan(pools.equity) | np.isnan(pools.requirement))
        pools.known_ms[known | (pools.known_ms == NEVER)] = now_ms
        fresh = np.minimum(np.minimum(prices, rates), pools.known_ms)
        pools.fresh_ms[:] = np.minimum(fresh, rows_seen_ms)
        lag = np.maximum(market.newest_price_ms() - prices, market.newest_rate_ms() - rates)
        return np.maximum(np.maximum(lag, 0), now_ms - pools.known_ms).astype(np.float64)


def sums(target: IndexColumn, values: FloatColumn, size: int, every: bool) -> FloatColumn:
    """Sum of the values by target row. For one account's rows out of many, adds instead of counting through all."""
    if every:
        counted: FloatColumn = np.bincount(target, values, size).astype(np.float64, copy=False)
        return counted
    out = np.zeros(size)
    np.add.at(out, target, values)
    return out


def relative_difference(own: float, venue: float, *, requirement: float, places: float = 1e-6) -> float:
    """Of the largest of the two and the requirement, so that an equity near 0 is not measured by itself. NaN if unknown.

    A difference of the venue's printed places does not count.
    """
    if abs(own - venue) <= places:
        return 0.0
    return float(abs(own - venue) / max(abs(venue), abs(own), requirement))


def _oldest(pool: IndexColumn, seen_ms: IntColumn, size: int, now_ms: int) -> IntColumn:
    """Per pool the oldest time; one that was never seen leaves its pool unknown, which has an age of its own."""
    oldest = np.full(size, now_ms, np.int64)
    np.minimum.at(oldest, pool, np.where(seen_ms == NEVER, now_ms, seen_ms))
    return oldest
