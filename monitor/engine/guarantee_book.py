"""The book of one venue with coin-margined futures: every account's legs, contracts and coins as columns.

A pool is one coin of an account. Between legs and pools stand *contracts*: the place where long and short of one contract
lie side by side, which locking needs.
"""

from collections.abc import Iterable

import numpy as np

from monitor.engine import moves
from monitor.engine.guarantee_pushes import EXACT, OWN_MARGIN_MS, PLACES, SIBLING_MS, At, tells
from monitor.engine.guarantee_values import CoinAccount, GuaranteeValues
from monitor.engine.ledger import Leg, RowKey, Told
from monitor.engine.market import FLAT, NEVER
from monitor.engine.moves import LISTS
from monitor.engine.pools import relative_difference
from monitor.margin import guarantee
from monitor.model.events import CoinBalance, CoinSnapshot, CoinUpdate, Position


class GuaranteeBook(GuaranteeValues):
    """Folds account events of one venue into columns."""

    # -------------------------------------------------------------- folding

    def expect(self, account: CoinAccount, coins: Iterable[str]) -> None:
        """The account holds something in these: each is a pool, though nothing of it is known yet."""
        for coin in coins:
            self._pool(account, coin)

    def take_snapshot(self, event: CoinSnapshot, now_ms: int, why: str) -> dict[RowKey, Told]:
        """why: names what the picture shows to have changed. Returns the rows that it changed."""
        account, balance = self.accounts[event.account], event.balance
        legs, changed = account.ledger.take_snapshot(event)
        moved = [self._place(account, leg, why) for leg in legs]
        row, p = self._pool(account, balance.coin), self.pools
        taken = account.ledger.balances[balance.coin] is balance
        if taken:
            self._place_balance(account, balance, why)
        p.answered_ms[row] = now_ms
        if taken and all(account.ledger.positions[leg].version_ms <= event.as_of_ms for leg in legs):
            p.legs_ms[row] = event.as_of_ms
            self.pushes.clear(row)
            self._reconcile(row, event)
            self.compared.append(row)
        elif any(moved) or self.pushes.open(row):
            self._compare(account, balance.coin, now_ms, taken=taken, exact=True)
        return changed

    def take_update(self, event: CoinUpdate, now_ms: int) -> None:
        account, p = self.accounts[event.account], self.pools
        why = moves.why(event.reason)
        before = dict(account.ledger.balances)
        coins, legs = account.ledger.take_update(event)
        touched = dict.fromkeys([*(account.ledger.positions[leg].margin_asset for leg in legs), *coins])
        figures = {coin: self._figures(account, coin) for coin in touched}
        moved = {account.ledger.positions[leg].margin_asset for leg in legs if self._place(account, leg, why)}
        for coin in coins:
            self._place_balance(account, account.ledger.balances[coin], why)
        for coin in touched:
            row, balance = self._pool(account, coin), account.ledger.balances.get(coin)
            newest_ms = max((leg.version_ms for leg in event.positions if leg.margin_asset == coin), default=NEVER)
            if newest_ms >= p.legs_ms[row] and newest_ms != NEVER:
                p.legs_ms[row] = newest_ms
                self._pushed_prices[row] = (newest_ms, event.implied_prices)
            was = before.get(coin) if coin in coins else balance
            changed = coin in moved or _amounts(was) != _amounts(balance)
            before_it = figures[coin] if coin in moved else None
            self._compare(account, coin, now_ms, taken=coin in coins, exact=changed, before=before_it)

    def look(self, now_ms: int) -> bool:
        """What the venue pushed half: frames that did not come in time. Returns whether any figure may have moved."""
        rows = self.pushes.overdue(now_ms).tolist()
        for row in rows:
            key = self.pool_keys[row]
            own = self.at(row, self.market.symbols.price)
            alone = self._alone(row)
            by_prices = not alone and self.pushes.by_prices(row, own)
            if self.pushes.ask(row, now_ms, at_once=not by_prices):
                self.snapshots_wanted.add((key.account, key.pool))
            if by_prices:
                self.pushes.clear(row)
                self._tie(row, own)
            if alone and now_ms - self.pools.gap_ms[row] >= OWN_MARGIN_MS:
                self.pools.margin_gap[row], self.pools.told_net[row] = 0.0, np.nan
        return bool(rows)

    def replace_all(self) -> None:
        """After the venue described its contracts anew."""
        for account in self.accounts.values():
            for leg in account.ledger.positions:
                self._place(account, leg, LISTS)

    def _place(self, account: CoinAccount, leg: Leg, why: str) -> bool:
        """Returns whether the leg is another than it was."""
        position = account.ledger.positions[leg]
        row = account.legs.get(leg)
        if row is None:
            row = account.legs[leg] = self.legs.add(contract=self._contract(account, position.symbol, position.margin_asset))
            self.leg_keys.append((account.alias, *leg))
        legs = self.legs
        instrument = self.market.instruments.get(position.symbol)
        if instrument is not None or np.isnan(legs.face[row]):  # a delivered contract keeps the face that it had
            legs.face[row] = np.nan if instrument is None else instrument.face
        moved = self._book_leg(row, position, why)
        legs.quantity[row] = position.quantity
        legs.symbol[row] = self.market.symbol_row(position.symbol) if position.quantity else FLAT
        legs.hold[row] = position.entry_price if position.quantity else 1.0
        return moved

    def _book_leg(self, row: int, position: Position, why: str) -> bool:
        """A leg becomes another: what it earned until now was the price, and what its PnL jumps by is the event's."""
        legs, pool = self.legs, int(self.contracts.pool[self.legs.contract[row]])
        quantity, hold = float(legs.quantity[row]), float(legs.hold[row])
        if (quantity, hold if quantity else 0.0) == (position.quantity, position.entry_price if position.quantity else 0.0):
            return False
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
        return True

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
        if balance.venue_withdrawable is not None:
            p.venue_withdrawable[row] = balance.venue_withdrawable

    def rows_older(self) -> int:
        return sum(account.ledger.rows_older for account in self.accounts.values())

    # -------------------------------------------------------------- the venue's own figures

    def _figures(self, account: CoinAccount, coin: str) -> tuple[float, float, float] | None:
        """(PnL, position margin, factor) that the pool was last valued with."""
        row, p = account.pools.get(coin), self.pools
        return None if row is None else (float(p.pnl[row] + p.lead[row]), float(p.position_margin[row]), float(p.factor[row]))

    def _alone(self, row: int) -> bool:
        """The pool has legs that are newer than its account."""
        key = self.pool_keys[row]
        balance = self.accounts[key.account].ledger.balances.get(key.pool)
        return balance is not None and bool(self.pools.legs_ms[row] > balance.version_ms)

    def _compare(
        self,
        account: CoinAccount,
        coin: str,
        now_ms: int,
        *,
        taken: bool,
        exact: bool,
        before: tuple[float, float, float] | None = None,
    ) -> None:
        """Our legs with the venue's own figures. taken: the coin's account row is new; exact: something changed that has two
        frames; before: of the pool, where legs of it changed."""
        row, p, pushes = account.pools[coin], self.pools, self.pushes
        balance = account.ledger.balances.get(coin)
        if balance is None or not (taken or exact or pushes.open(row)):
            return
        alone, whole = self._alone(row), bool(p.legs_ms[row] == balance.version_ms)
        own = self.at(row, self._with(self._pushed_prices[row][1] if whole and row in self._pushed_prices else {}))
        if not tells(balance):
            pushes.clear(row)
            if not alone:
                self._tie(row, own)
            return
        if taken or not alone:
            late = now_ms + self.market.clock_offset_ms - balance.version_ms > SIBLING_MS
            pushes.heard(row, balance, late=late)
        elif before is None:
            return
        elif not pushes.open(row):
            pushes.stay(row, before[0], before[1])
        pushes.weigh(row, own, now_ms, exact=not whole and (exact or pushes.young(row, now_ms)), news=exact)
        if taken or not alone:
            self._tie(row, own)
        elif before is not None and not np.isnan(before[2]):
            p.told_factor[row], p.told_net[row] = before[2], own.net

    def _tie(self, row: int, own: At) -> None:
        """The account's own factor is that of the legs that it has now."""
        key, p = self.pool_keys[row], self.pools
        balance = self.accounts[key.account].ledger.balances[key.pool]
        p.told_factor[row] = np.nan if balance.adjust_factor is None else balance.adjust_factor
        p.told_net[row] = own.net
        self._weigh_factor(row)
        self._weigh_ladder(row, balance)
        if not self.pushes.open(row):
            self.compare_tables(row, off=bool(p.factor_off[row] or p.ladder_off[row]))

    def _weigh_ladder(self, row: int, balance: CoinBalance) -> None:
        """Whether the venue's available margin follows from its own equity by the ladder that we have; no price is in that."""
        p, equity, margin, told = self.pools, balance.venue_equity, balance.venue_position_margin, balance.venue_available
        if equity is None or margin is None or told is None or self.without_ladder()[row]:
            p.ladder_off[row] = False
            return
        cap = float(self.ladders.cap(p.ladder_table[row : row + 1], np.array([equity]))[0])
        p.ladder_off[row] = abs(cap - margin - balance.margin_frozen - told) > EXACT * max(abs(cap), abs(equity)) + PLACES

    def _reconcile(self, row: int, event: CoinSnapshot) -> None:
        """Compares with the venue's own figures at the very prices that the venue used."""
        balance, p = event.balance, self.pools
        price = self._with(event.implied_prices)
        own = self.at(row, price)
        self.pushes.misread(row, balance, own)
        self._tie(row, own)
        if balance.venue_equity is None or balance.venue_position_margin is None:
            return
        self._value(price)
        p.venue_equity[row] = balance.venue_equity
        factor = p.factor[row] if balance.adjust_factor is None else balance.adjust_factor
        p.venue_requirement[row] = factor * (balance.venue_position_margin + balance.margin_frozen)
        required = float(np.nan_to_num(p.venue_requirement[row]))
        p.difference[row] = np.maximum(  # NaN if either is
            relative_difference(p.equity[row], balance.venue_equity, requirement=required, places=PLACES),
            relative_difference(p.position_margin[row], balance.venue_position_margin, requirement=required, places=PLACES),
        )


def _amounts(balance: CoinBalance | None) -> tuple[float, float] | None:
    """What an account row has beside prices and legs."""
    return None if balance is None else (balance.margin_static, balance.margin_frozen)
