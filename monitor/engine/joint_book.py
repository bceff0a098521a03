"""The book of one venue with linear contracts: every account's legs, collateral slots and pools as columns.

A *slot* is one margin asset inside one pool. In Multi-Assets mode a pool has many, valued at the collateral rates; a
single-asset or isolated pool has one, valued at 1. So one form of arithmetic (margin/joint.py) serves all modes.
"""

from collections.abc import Iterable

import numpy as np

from monitor.engine import moves
from monitor.engine.columns import Columns, FloatColumn, IndexColumn
from monitor.engine.ledger import Ledger, Leg, RowKey, Told
from monitor.engine.market import FLAT, UNIT, Market
from monitor.engine.moves import LISTS, Moves
from monitor.engine.pools import AccountPools, Inputs, PoolBook, Pools, Rows, relative_difference, sums
from monitor.margin import joint
from monitor.margin.brackets import TierTables, leg_requirement, lint
from monitor.model.events import AccountSnapshot, AccountUpdate, Brackets, LeverageChanged, Mode, Position
from monitor.model.instruments import BracketTable

USD = "USD"
UNKNOWN_ASSET = "?"  # margin asset of a symbol that the venue has not described: it has no rate, so its pool is unknown
NO_TABLE = BracketTable("", ())

# Of the venue's own maintenance margin. At the venue's own prices ours agrees to the last printed places: beyond this the
# brackets are others.
TABLES_OFF = 1e-4


class Legs(Columns):
    """One row per (account, symbol, side) ever held; flat rows point at the FLAT symbol, whose price is always there."""

    new_row = {  # noqa: RUF012
        "slot": (np.intp, 0),
        "symbol": (np.intp, FLAT),
        "table": (np.intp, 0),
        "tier": (np.intp, 0),
        "quantity": (np.float64, 0.0),
        "entry": (np.float64, 0.0),
        "leverage": (np.float64, np.nan),
        "rate": (np.float64, np.nan),
        "deduction": (np.float64, np.nan),
        "low": (np.float64, np.inf),  # the tier holds for low < notional ≤ high; an empty interval is looked up
        "high": (np.float64, -np.inf),
        "base_price": (np.float64, np.nan),  # from which its PnL is not yet booked as a move
    }
    slot: IndexColumn
    symbol: IndexColumn
    table: IndexColumn
    tier: IndexColumn
    quantity: FloatColumn
    entry: FloatColumn
    leverage: FloatColumn
    rate: FloatColumn
    deduction: FloatColumn
    low: FloatColumn
    high: FloatColumn
    base_price: FloatColumn


class Slots(Columns):
    """wallet and margins in the asset."""

    new_row = {  # noqa: RUF012
        "pool": (np.intp, 0),
        "rate_row": (np.intp, UNIT),
        "wallet": (np.float64, 0.0),
        "open_order_margin": (np.float64, 0.0),
        "pnl": (np.float64, 0.0),
        "maintenance": (np.float64, 0.0),
        "initial": (np.float64, 0.0),
        "equity": (np.float64, 0.0),
        "value": (np.float64, 0.0),  # equity in the pool's unit
        "base_equity": (np.float64, 0.0),  # these three: at the pool's last message
        "base_rate": (np.float64, np.nan),
        "base_index": (np.float64, np.nan),
    }
    pool: IndexColumn
    rate_row: IndexColumn
    wallet: FloatColumn
    open_order_margin: FloatColumn
    pnl: FloatColumn
    maintenance: FloatColumn
    initial: FloatColumn
    equity: FloatColumn
    value: FloatColumn
    base_equity: FloatColumn
    base_rate: FloatColumn
    base_index: FloatColumn


class AccountRows(AccountPools):
    """Which rows of the book belong to one account."""

    def __init__(self, alias: str, place: int) -> None:
        super().__init__(alias, place)
        self.ledger = Ledger()
        self.legs: dict[Leg, int] = {}
        self.slots: dict[tuple[str, str], int] = {}  # (pool name, asset)

    def leg_rows(self) -> Rows:
        return np.fromiter(self.legs.values(), np.intp, len(self.legs))

    def slot_rows(self) -> Rows:
        return np.fromiter(self.slots.values(), np.intp, len(self.slots))


class JointBook(PoolBook):
    """Folds account events of one venue into columns and values them."""

    accounts: dict[str, AccountRows]

    def __init__(self, market: Market, accounts: Iterable[str]) -> None:
        super().__init__(market, Pools(), {alias: AccountRows(alias, place) for place, alias in enumerate(accounts)})
        self.legs, self.slots = Legs(), Slots()
        self.leg_keys: list[tuple[str, str, str]] = []  # (account, symbol, side)
        self.slot_assets: list[str] = []
        self.tiers = TierTables()
        self.tiers.row(NO_TABLE)
        self.moves = Moves()  # of the equity, by slot, in the asset
        self._unreconciled: dict[str, AccountSnapshot] = {}  # by account: what could not be compared, for want of our own inputs
        self._faults: dict[int, list[str]] = {}  # by row of tiers
        self._tables: dict[str, dict[str, int]] = {}  # account ("": all) -> symbol -> row of tiers

    # -------------------------------------------------------------- folding

    def set_brackets(self, event: Brackets) -> list[tuple[str, str, BracketTable]]:
        """Returns (account, symbol, old table) for each leg held whose table changed."""
        tables = self._tables.setdefault(event.account, {})
        changed = []
        symbols = set()
        for table in event.tables:
            known = len(self.tiers.tables)
            row = self.tiers.row(table)
            if row == known and (faults := lint(table)):
                self._faults[row] = faults
            if tables.get(table.symbol) != row:
                tables[table.symbol] = row
                symbols.add(table.symbol)
        for account in self.accounts.values() if not event.account else [self.accounts[event.account]]:
            for (symbol, side), leg in account.legs.items():
                if symbol in symbols:
                    before = int(self.legs.table[leg])
                    self._place(account, (symbol, side), LISTS)
                    held = self.legs.quantity[leg] != 0
                    if held and before and before != self.legs.table[leg]:
                        changed.append((account.alias, symbol, self.tiers.tables[before]))
        return changed

    def take_snapshot(self, event: AccountSnapshot, now_ms: int, why: str) -> dict[RowKey, Told]:
        """why: names what the picture shows to have changed. Returns the rows that it changed."""
        account = self.accounts[event.account]
        changed = account.ledger.take_snapshot(event)
        self._place_all(account, why)
        told = [account.pools[venue.pool] for venue in event.figures if venue.pool in account.pools]
        self.pools.answered_ms[told] = now_ms
        self._reconcile(account, event)
        return changed

    def take_update(self, event: AccountUpdate) -> None:
        account = self.accounts[event.account]
        if account.ledger.mode is None:
            return  # nothing is known of how to pool it: the snapshot to come has it all
        self._unreconciled.pop(event.account, None)  # its rows have moved on
        assets, legs = account.ledger.take_update(event)
        why, wallets = moves.why(event.reason), self._wallets(account)
        for leg in legs:
            self._place(account, leg, why)
        for asset in assets:
            self._place_wallet(account, asset)
        self._book_wallets(account, wallets, why)

    def take_leverage(self, event: LeverageChanged) -> None:
        account = self.accounts[event.account]
        for leg in account.ledger.take_leverage(event):
            self._place(account, leg, LISTS)

    def replace_all(self) -> None:
        """After the venue described its contracts or assets anew."""
        for account in self.accounts.values():
            if account.ledger.mode is not None:
                self._place_all(account, LISTS)

    def _place_all(self, account: AccountRows, why: str) -> None:
        rows, wallets = account.slot_rows(), self._wallets(account)
        self.slots.wallet[rows] = 0.0  # what the ledger no longer names is empty
        self.slots.open_order_margin[rows] = 0.0
        for leg in account.ledger.positions:
            self._place(account, leg, why)
        for asset in account.ledger.balances:
            self._place_wallet(account, asset)
        self._book_wallets(account, wallets, why)
        for asset, margin in account.ledger.open_order_margins.items():
            if margin:
                slot = self._slot(account, self._cross_pool(account, asset), asset)
                self.slots.open_order_margin[slot] = margin

    def _wallets(self, account: AccountRows) -> dict[int, float]:
        rows = account.slot_rows()
        return dict(zip(rows.tolist(), self.slots.wallet[rows].tolist(), strict=True))

    def _book_wallets(self, account: AccountRows, before: dict[int, float], why: str) -> None:
        for row, wallet in self._wallets(account).items():
            self.moves.add(row, f"{why} {self.slot_assets[row]}", wallet - before.get(row, 0.0))

    def _place(self, account: AccountRows, leg: Leg, why: str) -> None:
        """Writes one leg of the ledger into its row."""
        position = account.ledger.positions[leg]
        row = account.legs.get(leg)
        if row is None:
            row = account.legs[leg] = self.legs.add()
            self.leg_keys.append((account.alias, *leg))
        legs = self.legs
        asset = position.margin_asset or self.market.margin_asset(position.symbol) or UNKNOWN_ASSET
        pool = isolated_pool(position) if position.isolated else self._cross_pool(account, asset)
        slot = self._slot(account, pool, asset, isolated=position.isolated)
        self._book_leg(row, slot, position, why)
        if legs.slot[row] != slot and legs.quantity[row]:
            self._leave(account, int(legs.slot[row]))
        legs.slot[row] = slot
        legs.symbol[row] = self.market.symbol_row(position.symbol) if position.quantity else FLAT
        legs.quantity[row] = position.quantity
        legs.entry[row] = position.entry_price
        legs.leverage[row] = account.ledger.leverages.get(position.symbol, np.nan) if position.quantity else 1.0
        legs.table[row] = self._table(account.alias, position.symbol) if position.quantity else 0
        legs.low[row], legs.high[row] = np.inf, -np.inf
        if not position.quantity:
            legs.rate[row] = legs.deduction[row] = 0.0
            legs.low[row], legs.high[row] = -np.inf, np.inf
        if position.isolated:
            self.slots.wallet[slot] = position.isolated_wallet

    def _book_leg(self, row: int, slot: int, position: Position, why: str) -> None:
        """A leg becomes another: what it earned until now was the price, and what its PnL jumps by is the event's."""
        legs = self.legs
        quantity, entry, left = float(legs.quantity[row]), float(legs.entry[row]), int(legs.slot[row])
        if (quantity, entry, left) == (position.quantity, position.entry_price, slot):
            return
        symbol = self.market.symbol_row(position.symbol)  # first: a new row renews the columns
        price = self.market.symbols.price[symbol]
        if np.isnan(price):
            price = position.entry_price if position.quantity else entry
        if quantity:
            self.moves.add(left, self.leg_name(row), quantity * (price - legs.base_price[row]))
            self.moves.add(left, f"{why} {self.slot_assets[left]}", -quantity * (price - entry))
        if position.quantity:
            jump = position.quantity * (price - position.entry_price)
            self.moves.add(slot, f"{why} {self.slot_assets[slot]}", jump)
        legs.base_price[row] = price

    def leg_name(self, row: int) -> str:
        """As a cause."""
        _, symbol, side = self.leg_keys[row]
        return f"position {symbol}" if side == "BOTH" else f"position {symbol} {side}"

    def _leave(self, account: AccountRows, slot: int) -> None:
        """A leg moved to another pool (its margin type changed): the isolated wallet that it leaves is gone with it."""
        if self.pools.isolated[self.slots.pool[slot]]:
            self.slots.wallet[slot] = 0.0

    def _place_wallet(self, account: AccountRows, asset: str) -> None:
        balance = account.ledger.balances[asset]
        multi = account.ledger.mode is Mode.MULTI_ASSETS
        wallet = balance.wallet if multi else balance.cross_wallet
        info = self.market.asset_infos.get(asset)
        if multi and info is not None and not info.margin_available:
            wallet = 0.0  # not collateral: it counts for nothing in joint margin
        pool = self._cross_pool(account, asset)
        if wallet or (pool, asset) in account.slots:
            slot = self._slot(account, pool, asset)  # first: a new row renews the columns
            self.slots.wallet[slot] = wallet

    def _cross_pool(self, account: AccountRows, asset: str) -> str:
        return USD if account.ledger.mode is Mode.MULTI_ASSETS else asset

    def _slot(self, account: AccountRows, pool: str, asset: str, *, isolated: bool = False) -> int:
        slot = account.slots.get((pool, asset))
        if slot is None:
            pool_row = account.pools.get(pool)
            if pool_row is None:
                pool_row = self.add_pool(account, pool, isolated=isolated)
            joint_margin = pool == USD and account.ledger.mode is Mode.MULTI_ASSETS
            unit_rate = UNIT if asset != UNKNOWN_ASSET else self.market.asset_row(UNKNOWN_ASSET)
            rate_row = self.market.asset_row(asset) if joint_margin else unit_rate
            slot = account.slots[pool, asset] = self.slots.add(pool=pool_row, rate_row=rate_row)
            self.slot_assets.append(asset)
        return slot

    def _table(self, alias: str, symbol: str) -> int:
        own = self._tables.get(alias, {}).get(symbol)
        return own if own is not None else self._tables.get("", {}).get(symbol, 0)

    def bracket_table(self, leg: int) -> BracketTable:
        return self.tiers.tables[int(self.legs.table[leg])]

    # -------------------------------------------------------------- valuing

    def revalue(self, account: AccountRows | None = None) -> None:
        """All figures of all pools, or of one account's, from the prices and rates of now."""
        if account is None:
            self._value(slice(None), slice(None), slice(None), self.market.symbols.price)
        elif account.pools:
            self._value(account.leg_rows(), account.slot_rows(), account.pool_rows(), self.market.symbols.price)

    def leg_figures(self, rows: Rows | slice, price: FloatColumn) -> tuple[FloatColumn, FloatColumn, FloatColumn]:
        """(unrealised PnL, maintenance margin, |notional|) per leg, in its margin asset; price: by symbol row."""
        legs = self.legs
        quantity = legs.quantity[rows]
        mark = price[legs.symbol[rows]]
        notional = np.abs(quantity * mark)
        outside = (notional <= legs.low[rows]) | (notional > legs.high[rows])
        if outside.any():
            self._settle_tiers(np.arange(len(legs))[rows][outside], notional[outside])
        pnl = joint.unrealized_pnl(quantity, mark, legs.entry[rows])
        return pnl, leg_requirement(notional, legs.rate[rows], legs.deduction[rows]), notional

    def _settle_tiers(self, rows: Rows, notional: FloatColumn) -> None:
        """Looks up the tier of the few legs whose notional left the interval of theirs."""
        legs, tables = self.legs, self.legs.table[rows]
        tier = self.tiers.tier(tables, notional)
        legs.tier[rows] = tier
        legs.rate[rows] = self.tiers.rates[tables, tier]
        legs.deduction[rows] = self.tiers.deductions[tables, tier]
        legs.low[rows], legs.high[rows] = self.tiers.bounds(tables, tier)

    def _value(self, legs: Rows | slice, slots: Rows | slice, pools: Rows | slice, price: FloatColumn) -> None:
        pnl, maintenance, notional = self.leg_figures(legs, price)
        leg_slot = self.legs.slot[legs]
        s, p = self.slots, self.pools
        every = isinstance(slots, slice)
        s.pnl[slots] = sums(leg_slot, pnl, len(s), every)[slots]
        s.maintenance[slots] = sums(leg_slot, maintenance, len(s), every)[slots]
        initial = joint.initial_margin(notional, self.legs.leverage[legs])
        s.initial[slots] = sums(leg_slot, initial, len(s), every)[slots] + s.open_order_margin[slots]
        equity = s.wallet[slots] + s.pnl[slots]
        s.equity[slots] = equity
        rate_row = s.rate_row[slots]
        bid, ask = self.market.assets.bid[rate_row], self.market.assets.ask[rate_row]
        value = joint.asset_value(equity, bid, ask)
        s.value[slots] = value
        wallet = joint.margin_value(s.wallet[slots], joint.rate_used(equity, bid, ask))
        pool = s.pool[slots]
        total = len(p)
        p.equity[pools] = sums(pool, value, total, every)[pools]
        p.requirement[pools] = sums(pool, joint.margin_value(s.maintenance[slots], ask), total, every)[pools]
        p.initial[pools] = sums(pool, joint.margin_value(s.initial[slots], ask), total, every)[pools]
        wallets = sums(pool, wallet, total, every)[pools]
        p.bound[pools] = joint.withdrawable_bound(wallets, p.equity[pools], p.initial[pools], p.requirement[pools])

    # -------------------------------------------------------------- the venue's own figures

    def reconcile_late(self) -> None:
        """Compares what waited for brackets, rates or instruments."""
        for alias, event in list(self._unreconciled.items()):
            self._reconcile(self.accounts[alias], event)

    def ended_pools(self, account: AccountRows, event: AccountSnapshot) -> Rows:
        """Pools that a full picture no longer has: an isolated position that was closed, or those of another mode."""
        named = {venue.pool for venue in event.figures}
        rows = [row for name, row in account.pools.items() if name not in named and self.pools.requirement[row] == 0]
        return np.array(rows, np.intp)

    def _reconcile(self, account: AccountRows, event: AccountSnapshot) -> None:
        """Compares with the venue's own figures at the very prices that the venue used, so that time does not differ."""
        self._unreconciled[account.alias] = event
        price = self.market.symbols.price.copy()
        for symbol, implied in event.implied_prices.items():
            row = self.market.symbol_rows.get(symbol, FLAT)
            if row != FLAT:
                price[row] = implied
        self._value(account.leg_rows(), account.slot_rows(), account.pool_rows(), price)
        p = self.pools
        told = [account.pools[venue.pool] for venue in event.figures if venue.pool in account.pools]
        self.compared += told
        for venue in event.figures:
            row = account.pools.get(venue.pool, -1)
            if row < 0:
                continue
            p.venue_equity[row], p.venue_requirement[row] = venue.equity, venue.maintenance_margin
            p.venue_withdrawable[row] = np.nan if venue.withdrawable is None else venue.withdrawable
            p.bound_at_answer[row] = p.bound[row]
            required = venue.maintenance_margin
            p.difference[row] = np.maximum(  # NaN if either is: `max` would lose it
                relative_difference(p.equity[row], venue.equity, requirement=required),
                relative_difference(p.requirement[row], required, requirement=required),
            )
            self.compare_tables(row, off=abs(p.requirement[row] - required) > TABLES_OFF * max(required, p.requirement[row]))
        rows = account.pool_rows()
        p.bound_at_answer[rows[p.isolated[rows]]] = np.nan
        if not np.isnan(p.difference[told]).any():
            del self._unreconciled[account.alias]

    def withdrawable(self) -> FloatColumn:
        """The venue's own answer, carried on by the figures that move it; an isolated pool's follows from the figures alone.

        An answer of 0 does not say how far below 0 it was: from there the documented bound is the most that it can be.
        """
        p = self.pools
        carried = p.venue_withdrawable + (p.bound - p.bound_at_answer)
        carried = np.where(p.venue_withdrawable > 0, carried, np.minimum(carried, p.bound))
        return np.maximum(0.0, np.where(p.isolated, p.bound, carried))

    def available(self) -> FloatColumn:
        """For new orders. NaN for an isolated pool: orders use the cross wallet."""
        return np.where(self.pools.isolated, np.nan, joint.available(self.pools.equity, self.pools.initial))

    # -------------------------------------------------------------- ages

    def inputs(self) -> Inputs:
        legs, slots, market = self.legs, self.slots, self.market
        held = legs.quantity != 0
        held_pool = slots.pool[legs.slot[held]]
        rated = (slots.rate_row != UNIT) & ((slots.equity != 0) | (slots.maintenance != 0))
        return Inputs(
            priced=held_pool,
            price_ms=market.symbols.seen_ms[legs.symbol[held]],
            rated=slots.pool[rated],
            rate_ms=market.assets.seen_ms[slots.rate_row[rated]],
            active=np.concatenate((held_pool, slots.pool[slots.wallet != 0])),
        )

    def table_faults(self, account: AccountRows) -> list[tuple[str, str]]:
        if not self._faults:
            return []
        legs = self.legs
        held = sorted({(symbol, int(legs.table[row])) for (symbol, _), row in account.legs.items() if legs.quantity[row]})
        return [(symbol, fault) for symbol, table in held for fault in self._faults.get(table, ())]

    def rows_older(self) -> int:
        return sum(account.ledger.rows_older for account in self.accounts.values())

    def uses_rates(self) -> bool:
        """The index feed matters only where an account is in joint margin."""
        return bool((self.slots.rate_row != UNIT).any())


def isolated_pool(position: Position) -> str:
    """Pool name of an isolated leg."""
    return position.symbol if position.side == "BOTH" else f"{position.symbol}:{position.side}"
