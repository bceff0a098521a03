"""The figures of coin-margined futures: what each pool is worth at given prices, by the tables that hold."""

from collections.abc import Iterable, Mapping

import numpy as np

from monitor.engine import guarantee_changes as changes
from monitor.engine.columns import BoolColumn, FloatColumn
from monitor.engine.guarantee_changes import TableChange
from monitor.engine.guarantee_columns import CoinLegs, CoinPools, Contracts
from monitor.engine.guarantee_pushes import PLACES, At, Pushes
from monitor.engine.ledger import CoinLedger, Leg
from monitor.engine.market import FLAT, Market
from monitor.engine.moves import Moves
from monitor.engine.pools import AccountPools, Inputs, PoolBook, sums
from monitor.margin import guarantee
from monitor.margin.guarantee_tables import TIERED_MARGIN_LEVERAGE_MIN, FactorTables, LadderTables, lint_factors
from monitor.model.events import GuaranteeTables


class CoinAccount(AccountPools):
    """Which rows of the book belong to one account."""

    def __init__(self, alias: str, place: int) -> None:
        super().__init__(alias, place)
        self.ledger = CoinLedger()
        self.legs: dict[Leg, int] = {}
        self.contracts: dict[str, int] = {}


class GuaranteeValues(PoolBook):
    """Columns of one venue and their values. How events write the columns is the book's."""

    pools: CoinPools
    accounts: dict[str, CoinAccount]

    def __init__(self, market: Market, accounts: Iterable[str]) -> None:
        super().__init__(market, CoinPools(), {alias: CoinAccount(alias, place) for place, alias in enumerate(accounts)})
        self.legs, self.contracts = CoinLegs(), Contracts()
        self.leg_keys: list[tuple[str, str, str]] = []  # (account, contract, side)
        self.moves = Moves()  # of the equity, by pool, in the coin
        self.pushes = Pushes(self.pools)
        self._pushed_prices: dict[int, tuple[int, dict[str, float]]] = {}  # of a pool's newest legs: their time, last prices
        self.factors, self.ladders = FactorTables(), LadderTables()
        self._faults: dict[int, list[str]] = {}  # by row of factors
        self._factor_rows: dict[tuple[str, float], int] = {}  # (coin, leverage)
        self._ladder_rows: dict[tuple[str, float], int] = {}
        self._profit_ratios: dict[str, float] = {}

    # -------------------------------------------------------------- tables

    def set_tables(self, event: GuaranteeTables) -> list[TableChange]:
        """Returns what changed; the first time that a table is told is no change."""
        changed: list[TableChange] = []
        for table in event.factors:
            known = len(self.factors.tables)
            row, key = self.factors.row(table), (table.coin, table.leverage)
            if row == known and (faults := lint_factors(table)):
                self._faults[row] = faults
            if (old := self._factor_rows.get(key, row)) != row:
                changed.append(changes.of_factors(self.factors.tables[old], table))
            self._factor_rows[key] = row
        for ladder in event.ladders:
            row, key = self.ladders.row(ladder), (ladder.coin, ladder.leverage)
            if (old := self._ladder_rows.get(key, row)) != row:
                changed.append(changes.of_ladders(self.ladders.tables[old], ladder))
            self._ladder_rows[key] = row
        for terms in event.terms:
            was = self._profit_ratios.get(terms.coin, terms.transfer_profit_ratio)
            if was != terms.transfer_profit_ratio:
                changed.append(changes.of_terms(terms.coin, was, terms.transfer_profit_ratio))
            self._profit_ratios[terms.coin] = terms.transfer_profit_ratio
        for row, pool in enumerate(self.pool_keys):
            self._place_tables(row, pool.pool)
        return changed

    def _place_tables(self, row: int, coin: str) -> None:
        key = (coin, float(self.pools.leverage[row]))
        self.pools.factor_table[row] = self._factor_rows.get(key, FactorTables.UNKNOWN)
        self.pools.ladder_table[row] = self._ladder_rows.get(key, 0)
        self.pools.profit_ratio[row] = self._profit_ratios.get(coin, 0.0)
        self._weigh_factor(row)

    def _weigh_factor(self, row: int) -> None:
        """Whether table and account name different factors of one net position; unknown while the legs are."""
        p = self.pools
        if not self.pushes.open(row):
            by_table = self.factors.factor(p.factor_table[row : row + 1], p.told_net[row : row + 1])[0]
            p.factor_off[row] = abs(by_table - p.told_factor[row]) > PLACES  # False if either is unknown

    def table_faults(self, account: CoinAccount) -> list[tuple[str, str]]:
        p = self.pools
        used = [(coin, int(p.factor_table[row])) for coin, row in account.pools.items() if p.used[row] > 0]
        return [(coin, fault) for coin, table in used for fault in self._faults.get(table, ())]

    # -------------------------------------------------------------- values

    def revalue(self, account: AccountPools | None = None) -> None:
        """Everything at once: coins are few, and one account's rows cost nearly as much as all."""
        self._value(self.market.symbols.price)

    def leg_figures(self, price: FloatColumn) -> tuple[FloatColumn, FloatColumn, FloatColumn]:
        """(notional, unrealised PnL, margin before locking) of every leg, in its coin; price: by symbol row."""
        legs = self.legs
        last = price[legs.symbol]
        notional = guarantee.notional(legs.face, legs.quantity, last)
        pnl = guarantee.unrealized_pnl(notional, legs.hold, last)
        return notional, pnl, guarantee.leg_margin(notional, self.pools.leverage[self.contracts.pool[legs.contract]])

    def at(self, pool: int, price: FloatColumn) -> At:
        """One pool by its legs, which explain the venue's figures or do not; price: by symbol row."""
        legs = np.flatnonzero((self.contracts.pool[self.legs.contract] == pool) & (self.legs.quantity != 0))
        notional, pnl, margin = (figure[legs] for figure in self.leg_figures(price))
        contracts, at = np.unique(self.legs.contract[legs], return_inverse=True)
        quantity, count = self.legs.quantity[legs], len(contracts)
        long, together = quantity > 0, np.zeros(count, np.intp)
        locked = guarantee.lock(
            sums(at, np.where(long, margin, 0.0), count, every=True),
            sums(at, np.where(long, 0.0, margin), count, every=True),
            together,
            1,
        )
        net = guarantee.net_contracts(
            sums(at, np.where(long, quantity, 0.0), count, every=True),
            sums(at, np.where(long, 0.0, -quantity), count, every=True),
            together,
            1,
        )
        return At(float(pnl.sum()), float(locked.margin[0]), float(np.abs(notional).sum()), float(net[0]))

    def _with(self, prices: Mapping[str, float]) -> FloatColumn:
        """Our last prices, but for these."""
        price = self.market.symbols.price.copy()
        for symbol, last in prices.items():
            row = self.market.symbol_rows.get(symbol, FLAT)
            if row != FLAT:
                price[row] = last
        return price

    def _value_positions(self, price: FloatColumn) -> None:
        legs, contracts, p = self.legs, self.contracts, self.pools
        notional, pnl, margin = self.leg_figures(price)
        long = legs.quantity > 0
        count = len(contracts)
        contracts.long_margin[:] = sums(legs.contract, np.where(long, margin, 0.0), count, every=True)
        contracts.short_margin[:] = sums(legs.contract, np.where(long, 0.0, margin), count, every=True)
        contracts.longs[:] = sums(legs.contract, np.where(long, legs.quantity, 0.0), count, every=True)
        contracts.shorts[:] = sums(legs.contract, np.where(long, 0.0, -legs.quantity), count, every=True)
        leg_pool = contracts.pool[legs.contract]
        p.pnl[:] = sums(leg_pool, pnl, len(p), every=True)
        p.net_notional[:] = sums(leg_pool, notional, len(p), every=True)
        p.net[:] = guarantee.net_contracts(contracts.longs, contracts.shorts, contracts.pool, len(p))
        locked = guarantee.lock(contracts.long_margin, contracts.short_margin, contracts.pool, len(p))
        p.total[:], p.same[:], p.cross[:], p.position_margin[:] = locked

    def _value(self, price: FloatColumn) -> None:
        self._value_positions(price)
        p = self.pools
        p.lead[:] = 0.0
        if self.pushes.any_open():
            self.pushes.lead()
        # The account's own factor holds while its net position is as it was told for; else, and if it was not told, the table.
        told = ~np.isnan(p.told_factor) & ((p.net == p.told_net) | (p.factor_table == FactorTables.UNKNOWN))
        by_table = self.factors.factor(p.factor_table, p.net)
        p.factor[:] = np.where(told, p.told_factor, by_table)
        # Where the two differ for one net position, one of them is old: the dearer holds until the tables were read again.
        p.factor[:] = np.where(p.factor_off, np.fmax(p.told_factor, by_table), p.factor)
        p.equity[:] = guarantee.margin_balance(p.static, p.pnl + p.lead)
        p.used[:] = p.position_margin + p.frozen
        p.initial[:] = p.used
        p.requirement[:] = guarantee.requirement(p.used, p.factor)

    def available(self) -> FloatColumn:
        """For new orders; below 0 by as much as is missing. NaN where the ladder that limits it is not known, or is old."""
        p = self.pools
        free = guarantee.available(self.ladders.cap(p.ladder_table, p.equity), p.position_margin, p.frozen)
        return np.where(self.without_ladder() | p.ladder_off, np.nan, free)

    def without_ladder(self) -> BoolColumn:
        """Pools that are under tiered margin of which the tiers are not known."""
        p = self.pools
        without: BoolColumn = (p.leverage >= TIERED_MARGIN_LEVERAGE_MIN) & (p.ladder_table == LadderTables.NO_CAP)
        return without

    def withdrawable(self) -> FloatColumn:
        """What may leave the coin's account."""
        p = self.pools
        return guarantee.transferable(p.static, p.profit_real, p.pnl, p.used, p.profit_ratio)

    def liquidation_factor(self) -> FloatColumn:
        """By which common factor all last prices of a pool move until it is liquidated; NaN: never."""
        p = self.pools
        return guarantee.liquidation_price_factor(p.equity, p.net_notional, p.position_margin, p.factor)

    def margin_after_delivery(self, leaving: BoolColumn) -> FloatColumn:
        """Position margin by pool without the contracts that are marked."""
        contracts = self.contracts
        return guarantee.margin_after_delivery(
            contracts.long_margin, contracts.short_margin, leaving, contracts.pool, len(self.pools)
        )

    # -------------------------------------------------------------- ages

    def inputs(self) -> Inputs:
        legs = self.legs
        held = legs.quantity != 0
        pool = self.contracts.pool[legs.contract[held]]
        nothing = np.zeros(0, np.intp)
        return Inputs(
            priced=pool,
            price_ms=self.market.symbols.seen_ms[legs.symbol[held]],
            rated=nothing,
            rate_ms=np.zeros(0, np.int64),
            active=np.concatenate((pool, np.flatnonzero(np.nan_to_num(self.pools.static) != 0))),
        )

    def uses_prices(self) -> bool:
        """Only contracts that are held are subscribed to."""
        return bool((self.legs.quantity != 0).any())

    def uses_rates(self) -> bool:
        return False
