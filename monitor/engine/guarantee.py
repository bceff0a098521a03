"""HTX coin-margined delivery futures inside the engine: how its events move the book, and what is said about them."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from monitor.engine import guarantee_changes, guarantee_workings, moves
from monitor.engine.gauge import Verdict
from monitor.engine.guarantee_book import GuaranteeBook
from monitor.engine.guarantee_explain import GuaranteeExplainer
from monitor.engine.guarantee_values import CoinAccount
from monitor.engine.judge import Judge
from monitor.engine.market import NEVER, Market
from monitor.engine.pools import Rows
from monitor.engine.scheme import AccountSetup, Scheme
from monitor.engine.unheard import Standing
from monitor.margin.guarantee import guarantee_asset_ratio
from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.events import (
    CoinsHeld,
    CoinSnapshot,
    CoinUpdate,
    GuaranteeTables,
    Instruments,
    PriceKind,
    Prices,
    Settlement,
    StreamUp,
)
from monitor.model.figures import Array
from monitor.model.workings import AssetTable, PositionTable
from monitor.rules import RuleBook

MINUTE_MS = 60_000
FACTOR = "adjustment factor"


class _Terms(NamedTuple):
    """Of a coin: what its requirement is computed with beside its margin."""

    leverage: float
    net: float
    factor: float


class GuaranteeScheme(Scheme):
    """Inverse contracts margined in their coin; margin by the last price."""

    price_feed = "last price"
    pictures_by_pool = True
    book: GuaranteeBook

    def __init__(
        self, name: str, accounts: Sequence[AccountSetup], venue_rules: RuleBook, restored: MutableMapping[IncidentKey, Incident]
    ) -> None:
        super().__init__(name, accounts, venue_rules, restored)
        self.market = Market(name)
        self.book = GuaranteeBook(self.market, [account.alias for account in accounts])
        self.judge = Judge(self.book, self.rules, restored)
        self.explain = GuaranteeExplainer(self.book)
        self._settling_ms: dict[tuple[str, str], int] = {}  # (account, coin) that settles, since when

    def folds(self) -> dict[type, Callable[[Any], list[Transition]]]:
        return {
            Prices: self._prices,
            Instruments: self._instruments,
            GuaranteeTables: self._tables,
            Settlement: self._settlement,
            CoinsHeld: self._coins,
            CoinSnapshot: self._snapshot,
            CoinUpdate: self._update,
        }

    def guarantee_asset_ratio(self) -> Array:
        p = self.book.pools
        return guarantee_asset_ratio(p.equity, p.used, p.factor)

    def positions(self) -> PositionTable:
        return guarantee_workings.positions(self.book)

    def assets(self) -> AssetTable:
        return guarantee_workings.assets(self.book)

    def _detail(self, verdict: Verdict) -> str:
        """Of an input that is old: that the coin settles."""
        since_ms = int(self.book.pools.held_ms[verdict.pool]) if verdict.pool >= 0 else NEVER
        if verdict.key.rule != "stale" or verdict.level <= Level.OK or since_ms == NEVER:
            return ""
        return f"; the venue says that {verdict.key.pool} settles, for {(self.now_ms - since_ms) // 1000} s now"

    # -------------------------------------------------------------- market

    def _prices(self, event: Prices) -> list[Transition]:
        match event.kind:
            case PriceKind.LAST:
                if not self.market.set_prices(event, self.now_ms):
                    return []
                self.book.revalue()
                return self._dress(self.judge.ratios())
            case PriceKind.MARK:
                self.market.set_marks(event, self.now_ms)
            case PriceKind.INDEX:
                self.market.set_indexes(event, self.now_ms)
        return []

    def _instruments(self, event: Instruments) -> list[Transition]:
        self.market.set_instruments(event)
        self.book.replace_all()
        self.book.revalue()
        return self._dress(self.judge.ratios())

    def _tables(self, event: GuaranteeTables) -> list[Transition]:
        before, required = self._health(), self.book.pools.requirement.copy()
        changed = self.book.set_tables(event)
        self.book.revalue()
        for row in np.flatnonzero(self.book.pools.requirement != required).tolist():
            self.book.required.add(row, FACTOR, self.book.pools.requirement[row] - required[row])
        said = self._dress(self.judge.ratios())
        used = self.book.pools.used
        coins = {change.coin for change in changed}
        for row, key in enumerate(self.book.pool_keys):
            if key.pool in coins and used[row] > 0:
                what = guarantee_changes.of_pool(changed, key.pool, float(self.book.pools.leverage[row]))
                said += self._table_changed([row], key.pool, f"the venue changed the margin tables of {key.pool}: {what}", before)
        return said

    def _settlement(self, event: Settlement) -> list[Transition]:
        """While a coin settles its alerts are held; afterwards everything of it is judged again."""
        for alias in [event.account] if event.account else self.rules:
            if event.running:
                self._settling_ms.setdefault((alias, event.coin), self.now_ms)
            else:
                self._settling_ms.pop((alias, event.coin), None)
        self._hold()
        return [] if event.running else self._dress(self.judge.ratios())

    def _hold(self) -> None:
        """Marks the pools whose coin settles, those included that were first told of meanwhile."""
        p = self.book.pools
        p.held_ms[:] = [self._settling_ms.get((key.account, key.pool), NEVER) for key in self.book.pool_keys]
        self._mark_trust(np.arange(len(p)))

    # -------------------------------------------------------------- account

    def _snapshot(self, event: CoinSnapshot) -> list[Transition]:
        account = self.book.accounts[event.account]
        coin = event.balance.coin
        before, terms = self._standing(event.account), self._terms(account, [coin])
        settling = (event.account, coin) in self._settling_ms
        owed = coin in account.pools and not settling and self.trust.owes(int(self.book.pools.trust[account.pools[coin]]))
        why = moves.SETTLEMENT if settling else moves.FOUND if owed else moves.GAP
        changed = self.book.take_snapshot(event, self.now_ms, why)
        self._cover()
        self.trust.pictured(int(self.book.pools.trust[account.pools[coin]]), self.now_ms, carried=event.live)
        self._hold()
        said = self._dress(self.judge.reconciled(account, self.book.take_compared()))
        said += self._moved(account, why, before, terms)
        if owed:
            pool = account.pools[coin]
            self._shown(event.account, changed, {pool: before[pool]})
        return said + self._unsound(event.account)

    def _update(self, event: CoinUpdate) -> list[Transition]:
        account = self.book.accounts[event.account]
        self.unheard[event.account].heard(event)
        before, terms = self._standing(event.account), self._terms(account, (balance.coin for balance in event.balances))
        self.book.take_update(event, self.now_ms)
        self._cover()
        named = {balance.coin for balance in event.balances} | {leg.margin_asset for leg in event.positions}
        self.trust.heard(self.book.pools.trust[[account.pools[coin] for coin in named if coin in account.pools]], self.now_ms)
        return self._moved(account, moves.why(event.reason), before, terms)

    def _moved(
        self, account: CoinAccount, why: str, before: Mapping[int, Standing], terms: Mapping[int, _Terms]
    ) -> list[Transition]:
        """terms: as they were, of the pools that the event speaks of."""
        p = self.book.pools
        self.book.revalue()
        known = dict(before)
        for row, was in terms.items():
            if (p.leverage[row], p.net[row]) == (was.leverage, was.net) and p.factor[row] != was.factor:  # more of the same
                by_factor = float((p.factor[row] - was.factor) * p.used[row])
                self.book.required.add(row, FACTOR, by_factor)
                known[row] = known[row]._replace(requirement=known[row].requirement + by_factor)
        said = self._account_valued(account.alias, why, known)
        for row, was in terms.items():
            after, coin = float(p.leverage[row]), self.book.pool_keys[row].pool
            if not np.isnan(was.leverage) and after != was.leverage:
                text = f"leverage of {coin} is now {after:g}x, was {was.leverage:g}x"
                said += self._happened(self.rules[account.alias].mode_change, account.alias, coin, "leverage", text)
        return said

    def _terms(self, account: CoinAccount, coins: Iterable[str]) -> dict[int, _Terms]:
        p, rows = self.book.pools, [account.pools[coin] for coin in coins if coin in account.pools]
        return {row: _Terms(float(p.leverage[row]), float(p.net[row]), float(p.factor[row])) for row in rows}

    def _coins(self, event: CoinsHeld) -> list[Transition]:
        """The list of the account's coins: of each of them a picture is to come."""
        account = self.book.accounts[event.account]
        self.book.expect(account, event.coins)
        self._cover()
        self.trust.pictured(account.place, self.now_ms)
        for coin, row in account.pools.items():
            self.trust.expect(int(self.book.pools.trust[row]), expected=coin in event.coins)
        return []

    def _stream_up(self, event: StreamUp) -> list[Transition]:
        said = super()._stream_up(event)
        if event.account:  # sent when every coin has its picture, but those that settle: theirs come afterwards
            self.trust.pictured(self._place(event.account), self.now_ms)
            said += self._gone(event.account, but={coin for alias, coin in self._settling_ms if alias == event.account})
        return said

    def _trust_row(self, pool: int) -> int:
        """A picture is of one coin."""
        p = self.book.pools
        return self.trust.cover(int(p.account[pool]), pool, self.book.pool_keys[pool].pool, self.now_ms)

    # -------------------------------------------------------------- time

    def _time(self) -> list[Verdict]:
        verdicts = []
        if self.book.look(self.now_ms):
            self.book.revalue()
            verdicts = self.judge.ratios()
        return verdicts + super()._time() + self._deliveries()

    def _mark_trust(self, rows: Rows) -> None:
        """Nothing improves on legs that do not explain what the venue says of them."""
        super()._mark_trust(rows)
        self.book.pools.may_improve[rows] &= self.book.pools.gap_ms[rows] == NEVER

    def _deliveries(self) -> list[Verdict]:
        """Deliveries ahead that break a lock between periods, with what that does to the margin."""
        book, contracts = self.book, self.book.contracts
        p = book.pools
        if not (p.cross > 0).any():
            minutes = np.full(len(p), np.inf)
            return self.judge.deliveries(minutes)
        due_ms = np.array([self._delivery_ms(symbol) for symbol in contracts.symbol.tolist()])
        held = (contracts.long_margin != contracts.short_margin) & (p.cross[contracts.pool] > 0) & (due_ms > self.now_ms)
        next_ms = np.full(len(p), np.inf)
        np.minimum.at(next_ms, contracts.pool[held], due_ms[held])
        leaving = held & (due_ms == next_ms[contracts.pool])
        after = book.margin_after_delivery(leaving)
        bore = np.bincount(contracts.pool[leaving], (contracts.long_margin + contracts.short_margin)[leaving], len(p))
        lost = after - (p.position_margin - bore)  # what the legs that stay cost more than while they were locked
        minutes = np.where(lost > 0, (next_ms - self.now_ms) / MINUTE_MS, np.inf)
        return [
            verdict._replace(summary=f"{verdict.summary}; {self._of_delivery(verdict.pool, leaving, after, lost)}")
            if verdict.level > 0
            else verdict
            for verdict in self.judge.deliveries(minutes)
        ]

    def _of_delivery(self, pool: int, leaving: np.ndarray[tuple[int], np.dtype[np.bool_]], after: Array, lost: Array) -> str:
        book, contracts, coin = self.book, self.book.contracts, self.book.pool_keys[pool].pool
        names = [self.market.symbol_names[contracts.symbol[row]] for row in np.flatnonzero(leaving & (contracts.pool == pool))]
        return (
            f"with {', '.join(names)} the lock goes: the legs that stay cost {lost[pool]:.6g} {coin} more, position margin "
            f"{book.pools.position_margin[pool]:.6g} → {after[pool]:.6g} {coin}, and they are no longer hedged"
        )

    def _delivery_ms(self, symbol_row: int) -> float:
        instrument = self.market.instruments.get(self.market.symbol_names[symbol_row])
        return np.inf if instrument is None or instrument.delivery_time_ms is None else float(instrument.delivery_time_ms)
