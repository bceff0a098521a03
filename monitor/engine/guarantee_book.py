"""The book of one venue with coin-margined futures: every account's legs, contracts and coins as columns.

A pool is one coin of an account. Between legs and pools stand *contracts*: the place where long and short of one contract
lie side by side, which locking needs.
"""

from collections.abc import Iterable

import numpy as np

from monitor.engine import moves
from monitor.engine.columns import BoolColumn, Columns, FloatColumn, IndexColumn
from monitor.engine.ledger import CoinLedger, Leg, RowKey, Told
from monitor.engine.market import FLAT, Market
from monitor.engine.moves import LISTS, Moves
from monitor.engine.pools import AccountPools, Inputs, PoolBook, Pools, relative_difference, sums
from monitor.margin import guarantee
from monitor.margin.guarantee_tables import FactorTables, LadderTables, lint_factors
from monitor.model.events import CoinBalance, CoinSnapshot, CoinUpdate, GuaranteeTables, Position

PLACES = 1e-12  # the venue prints 18; equal up to this is equal


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
        "factor_table": (np.intp, FactorTables.UNKNOWN),
        "ladder_table": (np.intp, 0),
        "profit_ratio": (np.float64, 0.0),  # not told: nothing of it may leave
        "pnl": (np.float64, 0.0),
        "net_notional": (np.float64, 0.0),
        "net": (np.float64, 0.0),
        "position_margin": (np.float64, 0.0),
        "total": (np.float64, 0.0),
        "same": (np.float64, 0.0),
        "cross": (np.float64, 0.0),
    }
    static: FloatColumn
    profit_real: FloatColumn
    frozen: FloatColumn
    leverage: FloatColumn
    told_factor: FloatColumn
    told_net: FloatColumn
    factor_table: IndexColumn
    ladder_table: IndexColumn
    profit_ratio: FloatColumn
    pnl: FloatColumn
    net_notional: FloatColumn
    net: FloatColumn
    position_margin: FloatColumn
    total: FloatColumn
    same: FloatColumn
    cross: FloatColumn


class CoinAccount(AccountPools):
    """Which rows of the book belong to one account."""

    def __init__(self, alias: str, place: int) -> None:
        super().__init__(alias, place)
        self.ledger = CoinLedger()
        self.legs: dict[Leg, int] = {}
        self.contracts: dict[str, int] = {}


class GuaranteeBook(PoolBook):
    """Folds account events of one venue into columns and values them."""

    pools: CoinPools
    accounts: dict[str, CoinAccount]

    def __init__(self, market: Market, accounts: Iterable[str]) -> None:
        super().__init__(market, CoinPools(), {alias: CoinAccount(alias, place) for place, alias in enumerate(accounts)})
        self.legs, self.contracts = CoinLegs(), Contracts()
        self.leg_keys: list[tuple[str, str, str]] = []  # (account, contract, side)
        self.moves = Moves()  # of the equity, by pool, in the coin
        self.factors, self.ladders = FactorTables(), LadderTables()
        self._faults: dict[int, list[str]] = {}  # by row of factors
        self._factor_rows: dict[tuple[str, float], int] = {}  # (coin, leverage)
        self._ladder_rows: dict[tuple[str, float], int] = {}
        self._profit_ratios: dict[str, float] = {}

    # -------------------------------------------------------------- folding

    def set_tables(self, event: GuaranteeTables) -> set[str]:
        """Returns the coins whose tables or terms changed; the first time that one is told is no change."""
        changed = set()
        for table in event.factors:
            known = len(self.factors.tables)
            row, key = self.factors.row(table), (table.coin, table.leverage)
            if row == known and (faults := lint_factors(table)):
                self._faults[row] = faults
            if self._factor_rows.get(key, row) != row:
                changed.add(table.coin)
            self._factor_rows[key] = row
        for ladder in event.ladders:
            row, key = self.ladders.row(ladder), (ladder.coin, ladder.leverage)
            if self._ladder_rows.get(key, row) != row:
                changed.add(ladder.coin)
            self._ladder_rows[key] = row
        for terms in event.terms:
            if self._profit_ratios.get(terms.coin, terms.transfer_profit_ratio) != terms.transfer_profit_ratio:
                changed.add(terms.coin)
            self._profit_ratios[terms.coin] = terms.transfer_profit_ratio
        for row, pool in enumerate(self.pool_keys):
            if pool.pool in changed:
                self.pools.told_factor[row] = np.nan  # told under the old table
            self._place_tables(row, pool.pool)
        return changed

    def take_snapshot(self, event: CoinSnapshot, now_ms: int, why: str) -> dict[RowKey, Told]:
        """why: names what the picture shows to have changed. Returns the rows that it changed."""
        account = self.accounts[event.account]
        legs, changed = account.ledger.take_snapshot(event)
        for leg in legs:
            self._place(account, leg, why)
        self._place_balance(account, account.ledger.balances[event.balance.coin], why)
        self.pools.answered_ms[account.pools[event.balance.coin]] = now_ms
        self._reconcile(account, event)
        return changed

    def take_update(self, event: CoinUpdate) -> None:
        account = self.accounts[event.account]
        why = moves.why(event.reason)
        for leg in account.ledger.take_update(event):
            self._place(account, leg, why)
        for balance in event.balances:
            self._place_balance(account, account.ledger.balances[balance.coin], why)

    def replace_all(self) -> None:
        """After the venue described its contracts anew."""
        for account in self.accounts.values():
            for leg in account.ledger.positions:
                self._place(account, leg, LISTS)

    def _place(self, account: CoinAccount, leg: Leg, why: str) -> None:
        position = account.ledger.positions[leg]
        row = account.legs.get(leg)
        if row is None:
            row = account.legs[leg] = self.legs.add(contract=self._contract(account, position.symbol, position.margin_asset))
            self.leg_keys.append((account.alias, *leg))
        legs = self.legs
        instrument = self.market.instruments.get(position.symbol)
        if instrument is not None or np.isnan(legs.face[row]):  # a delivered contract keeps the face that it had
            legs.face[row] = np.nan if instrument is None else instrument.face
        self._book_leg(row, position, why)
        legs.quantity[row] = position.quantity
        legs.symbol[row] = self.market.symbol_row(position.symbol) if position.quantity else FLAT
        legs.hold[row] = position.entry_price if position.quantity else 1.0

    def _book_leg(self, row: int, position: Position, why: str) -> None:
        """A leg becomes another: what it earned until now was the price, and what its PnL jumps by is the event's."""
        legs, pool = self.legs, int(self.contracts.pool[self.legs.contract[row]])
        quantity, hold = float(legs.quantity[row]), float(legs.hold[row])
        if (quantity, hold if quantity else 0.0) == (position.quantity, position.entry_price if position.quantity else 0.0):
            return
        symbol = self.market.symbol_row(position.symbol)  # first: a new row renews the columns
        price = self.market.symbols.price[symbol]
        if np.isnan(price) or np.isnan(legs.face[row]):
            price = position.entry_price if position.quantity else hold
        what = f"{why} {self.pool_keys[pool].pool}"
        if quantity:
            self.moves.add(pool, self.leg_name(row), self.earned(row, price))
            self.moves.add(pool, what, -self._pnl(row, quantity, hold, price))
        self.moves.add(pool, what, self._pnl(row, position.quantity, position.entry_price, price))
        legs.base_price[row] = price

    def _pnl(self, row: int, contracts: float, cost: float, price: float) -> float:
        """Of so many contracts of the leg, in the coin."""
        if not contracts:
            return 0.0
        face = self.legs.face[row : row + 1]
        worth = guarantee.notional(face, np.array([contracts]), np.array([price]))
        return float(guarantee.unrealized_pnl(worth, np.array([cost]), np.array([price]))[0])

    def earned(self, row: int, price: float) -> float:
        """By the leg since what it earned was last booked, in the coin."""
        return self._pnl(row, float(self.legs.quantity[row]), float(self.legs.base_price[row]), price)

    def leg_name(self, row: int) -> str:
        """As a cause."""
        _, symbol, side = self.leg_keys[row]
        return f"position {symbol} {side}"

    def _contract(self, account: CoinAccount, symbol: str, coin: str) -> int:
        row = account.contracts.get(symbol)
        if row is None:
            pool = self._pool(account, coin)
            row = account.contracts[symbol] = self.contracts.add(pool=pool, symbol=self.market.symbol_row(symbol))
        return row

    def _pool(self, account: CoinAccount, coin: str) -> int:
        row = account.pools.get(coin)
        if row is None:
            row = self.add_pool(account, coin)
            self._place_tables(row, coin)
        return row

    def _place_balance(self, account: CoinAccount, balance: CoinBalance, why: str) -> None:
        row = self._pool(account, balance.coin)
        p = self.pools
        self.moves.add(row, f"{why} {balance.coin}", balance.margin_static - float(p.static[row]))
        p.static[row], p.profit_real[row], p.frozen[row] = balance.margin_static, balance.profit_real, balance.margin_frozen
        p.leverage[row] = balance.leverage
        self._place_tables(row, balance.coin)
        if balance.adjust_factor is not None:
            self._value_positions(self.market.symbols.price)
            p.told_factor[row], p.told_net[row] = balance.adjust_factor, p.net[row]
        if balance.venue_withdrawable is not None:
            p.venue_withdrawable[row] = balance.venue_withdrawable

    def _place_tables(self, row: int, coin: str) -> None:
        key = (coin, float(self.pools.leverage[row]))
        self.pools.factor_table[row] = self._factor_rows.get(key, FactorTables.UNKNOWN)
        self.pools.ladder_table[row] = self._ladder_rows.get(key, 0)
        self.pools.profit_ratio[row] = self._profit_ratios.get(coin, 0.0)

    # -------------------------------------------------------------- valuing

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
        # The account's own factor holds while its net position is as it was told for; else, and if it was not told, the table.
        told = ~np.isnan(p.told_factor) & ((p.net == p.told_net) | (p.factor_table == FactorTables.UNKNOWN))
        p.factor[:] = np.where(told, p.told_factor, self.factors.factor(p.factor_table, p.net))
        p.equity[:] = guarantee.margin_balance(p.static, p.pnl)
        p.used[:] = p.position_margin + p.frozen
        p.initial[:] = p.used
        p.requirement[:] = guarantee.requirement(p.used, p.factor)

    def available(self) -> FloatColumn:
        """For new orders; below 0 by as much as is missing."""
        p = self.pools
        return guarantee.available(self.ladders.cap(p.ladder_table, p.equity), p.position_margin, p.frozen)

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

    # -------------------------------------------------------------- the venue's own figures, and ages

    def _reconcile(self, account: CoinAccount, event: CoinSnapshot) -> None:
        """Compares with the venue's own figures at the very prices that the venue used."""
        balance, p = event.balance, self.pools
        row = account.pools[balance.coin]
        if balance.venue_equity is None or balance.venue_position_margin is None:
            return
        price = self.market.symbols.price.copy()
        for symbol, implied in event.implied_prices.items():
            symbol_row = self.market.symbol_rows.get(symbol, FLAT)
            if symbol_row != FLAT:
                price[symbol_row] = implied
        self._value(price)
        if balance.adjust_factor is not None and p.factor_table[row] != FactorTables.UNKNOWN:
            by_table = self.factors.factor(p.factor_table[row : row + 1], p.net[row : row + 1])[0]
            self.compare_tables(row, off=abs(by_table - balance.adjust_factor) > PLACES)
        p.venue_equity[row] = balance.venue_equity
        factor = p.factor[row] if balance.adjust_factor is None else balance.adjust_factor
        p.venue_requirement[row] = factor * (balance.venue_position_margin + balance.margin_frozen)
        required = float(np.nan_to_num(p.venue_requirement[row]))
        p.difference[row] = np.maximum(  # NaN if either is
            relative_difference(p.equity[row], balance.venue_equity, requirement=required, places=PLACES),
            relative_difference(p.position_margin[row], balance.venue_position_margin, requirement=required, places=PLACES),
        )

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

    def table_faults(self, account: CoinAccount) -> list[tuple[str, str]]:
        p = self.pools
        used = [(coin, int(p.factor_table[row])) for coin, row in account.pools.items() if p.used[row] > 0]
        return [(coin, fault) for coin, table in used for fault in self._faults.get(table, ())]

    def rows_older(self) -> int:
        return sum(account.ledger.rows_older for account in self.accounts.values())

    def uses_rates(self) -> bool:
        return False
