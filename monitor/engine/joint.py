"""Binance USDⓈ-M inside the engine: how its events move the book, and what is said about them."""

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np

from monitor.engine import joint_workings, moves
from monitor.engine.gauge import Verdict
from monitor.engine.joint_book import JointBook
from monitor.engine.joint_explain import JointExplainer
from monitor.engine.joint_judge import COLLATERAL_RULES, JointJudge
from monitor.engine.market import Market
from monitor.engine.scheme import AccountSetup, Scheme
from monitor.engine.trust import Due
from monitor.model.alerts import Incident, IncidentKey, Transition
from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    AssetRates,
    Brackets,
    Instruments,
    LeverageChanged,
    ModeChanged,
    Prices,
)
from monitor.model.workings import AssetTable, PositionTable
from monitor.rules import RuleBook


class JointScheme(Scheme):
    """Linear contracts, collateral in several assets; margin by the mark price."""

    price_feed = "mark price"
    pictures_by_pool = False
    book: JointBook
    judge: JointJudge

    def __init__(
        self, name: str, accounts: Sequence[AccountSetup], venue_rules: RuleBook, restored: MutableMapping[IncidentKey, Incident]
    ) -> None:
        super().__init__(name, accounts, venue_rules, restored)
        self.market = Market(name)
        self.book = JointBook(self.market, [account.alias for account in accounts])
        self.judge = JointJudge(self.book, self.rules, restored)
        self.explain = JointExplainer(self.book)

    def folds(self) -> dict[type, Callable[[Any], list[Transition]]]:
        return {
            Prices: self._prices,
            AssetRates: self._rates,
            Instruments: self._instruments,
            Brackets: self._brackets,
            AccountSnapshot: self._snapshot,
            AccountUpdate: self._update,
            LeverageChanged: self._leverage,
            ModeChanged: self._mode,
        }

    def _detail(self, verdict: Verdict) -> str:
        """Of a collateral rule: from what to what, and how much of the equity it is."""
        key, market = verdict.key, self.market
        if key.rule not in COLLATERAL_RULES or verdict.pool < 0 or key.subject not in market.asset_rows:
            return ""
        row, asset = self.book.accounts[key.account].slots[key.pool, key.subject], market.asset_rows[key.subject]
        equity = abs(self.book.pools.equity[verdict.pool])
        share = f", {abs(self.book.slots.value[row]) / equity:.0%} of equity" if equity > 0 else ""
        if key.rule == "auto_exchange":
            return f": wallet {self.book.slots.wallet[row]:,.6g} {key.subject}"
        if key.rule == "asset_mix":
            return share
        index = market.assets.index[asset]
        if key.rule == "premium":
            return f": {index:,.6g} USD{share}"
        move = verdict.value if key.rule == "collateral_rate" else np.nan_to_num(market.window.move()[asset])
        then = index / (1 + move)
        since = "its dollar" if np.isclose(then, 1.0) else f"{then:,.6g} USD within the last hour"
        return f": {index:,.6g} USD, from {since}{share}"

    def _why_gone(self, key: IncidentKey) -> str:
        """An asset that was sold meanwhile has no row, so nothing judges it; nor does a rule that is about other assets."""
        if (why := super()._why_gone(key)) or key.rule not in COLLATERAL_RULES:
            return why
        if (key.pool, key.subject) not in self.book.accounts[key.account].slots:
            return "the asset is no longer held"
        pegged = self.judge.is_pegged(key.account, key.subject)
        if key.rule == "collateral_rate" and not pegged:
            return f"{key.subject} is not pegged: its rate moves every day, and what that does is in health"
        if key.rule == "collateral_move" and pegged:
            return f"{key.subject} is pegged: collateral_rate looks at it"
        return ""

    def _trust_row(self, pool: int) -> int:
        """A picture is of all pools of the account."""
        return int(self.book.pools.account[pool])

    def positions(self) -> PositionTable:
        return joint_workings.positions(self.book)

    def assets(self) -> AssetTable:
        return joint_workings.assets(self.book)

    # -------------------------------------------------------------- market

    def _prices(self, event: Prices) -> list[Transition]:
        if not self.market.set_prices(event, self.now_ms):
            return []
        self.book.revalue()
        return self._dress(self.judge.ratios())

    def _instruments(self, event: Instruments) -> list[Transition]:
        self.market.set_instruments(event)
        self.book.replace_all()
        return self._described()

    def _rates(self, event: AssetRates) -> list[Transition]:
        changed = self.market.set_rates(event, self.now_ms)
        before = self._health() if changed else None
        for asset, old, new in changed:
            self._book_haircut(asset, new.index * (new.ask / new.index - old.ask / old.index))
        said = self._described() + self._dress(self.judge.collateral())
        for asset, old, new in changed:
            text = (
                f"haircut of {asset} changed: owned counts {old.bid / old.index:.2%} → {new.bid / new.index:.2%}, "
                f"owed {old.ask / old.index:.2%} → {new.ask / new.index:.2%}"
            )
            rows = np.flatnonzero((self.book.slots.rate_row == self.market.asset_rows[asset]) & (self.book.slots.equity != 0))
            said += self._table_changed(sorted(set(self.book.slots.pool[rows].tolist())), asset, text, before)
        return said

    def _brackets(self, event: Brackets) -> list[Transition]:
        before, required = self._health(), self.book.pools.requirement.copy()
        changed = self.book.set_brackets(event)
        if changed:
            self.book.revalue()
            names = ", ".join(sorted({symbol for _, symbol, _ in changed}))
            for row in np.flatnonzero(self.book.pools.requirement != required).tolist():
                self.book.required.add(row, f"brackets of {names}", self.book.pools.requirement[row] - required[row])
        said = self._described()
        for alias, symbol, old in changed:
            account = self.book.accounts[alias]
            legs = [row for (name, _), row in account.legs.items() if name == symbol]
            pools = sorted({int(self.book.slots.pool[self.book.legs.slot[row]]) for row in legs})
            new = self.book.bracket_table(legs[0])
            text = (
                f"brackets of {symbol} changed: first rate {old.brackets[0].rate:.4%} → {new.brackets[0].rate:.4%}, "
                f"{len(old.brackets)} → {len(new.brackets)} tiers"
            )
            said += self._table_changed(pools, symbol, text, before)
        return said

    def _book_haircut(self, asset: str, ask_moved: float) -> None:
        """Margin in an asset counts at its ask. ask_moved: by the haircut alone, USD per unit."""
        slots = self.book.slots
        rows = np.flatnonzero((slots.rate_row == self.market.asset_rows[asset]) & (slots.maintenance != 0))
        for pool, margin in zip(slots.pool[rows].tolist(), slots.maintenance[rows].tolist(), strict=True):
            self.book.required.add(pool, f"haircut of {asset}", margin * ask_moved)

    def _described(self) -> list[Transition]:
        """After the venue's tables or rates moved: what waited for them is compared, and all is judged."""
        self.book.reconcile_late()
        self.book.revalue()
        compared = self.book.take_compared()
        owners = dict.fromkeys(self.book.pool_keys[row].account for row in compared.tolist())
        said = [verdict for alias in owners for verdict in self.judge.reconciled(self.book.accounts[alias], compared)]
        return self._dress(said + self.judge.ratios())

    # -------------------------------------------------------------- account

    def _snapshot(self, event: AccountSnapshot) -> list[Transition]:
        account = self.book.accounts[event.account]
        was = (account.ledger.mode, account.ledger.hedge)
        owed = self.trust.owes(account.place)
        why = moves.MODE if was[0] not in (None, event.mode) else moves.FOUND if owed else moves.GAP
        before = self._standing(event.account)
        changed = self.book.take_snapshot(event, self.now_ms, why)
        self.trust.pictured(account.place, self.now_ms)
        said = self._dress(self.judge.reconciled(account, self.book.take_compared()))
        if was[0] is None:
            said += self._gone(event.account)
        if was[0] is not None and was != (event.mode, event.hedge):
            sides = "hedge" if event.hedge else "one-way"
            text = f"account mode is now {event.mode.replace('_', ' ')}, {sides} positions"
            said += self._happened(self.rules[event.account].mode_change, event.account, "", "mode", text)
        said += self._account_moved(event.account, why, before)
        if event.figures:
            said += self._dress(self.judge.ended(self.book.ended_pools(account, event), "the pool no longer exists"))
        if owed:
            self._shown(event.account, changed, before)
        return said + self._unsound(event.account)

    def _update(self, event: AccountUpdate) -> list[Transition]:
        self.unheard[event.account].heard(event)
        self.trust.heard(self._place(event.account), self.now_ms)
        before = self._standing(event.account)
        self.book.take_update(event)
        return self._account_moved(event.account, moves.why(event.reason), before)

    def _leverage(self, event: LeverageChanged) -> list[Transition]:
        old = self.book.accounts[event.account].ledger.leverages.get(event.symbol)
        self.trust.heard(self._place(event.account), self.now_ms)
        before = self._standing(event.account)
        self.book.take_leverage(event)
        said = self._account_moved(event.account, moves.LISTS, before)
        if old == event.leverage:
            return said
        text = f"leverage of {event.symbol} is now {event.leverage:g}x" + (f", was {old:g}x" if old else "")
        rule = self.rules[event.account].mode_change
        return said + self._happened(rule, event.account, "", f"leverage {event.symbol}", text)

    def _mode(self, event: ModeChanged) -> list[Transition]:
        self.trust.wait(self._place(event.account), Due.AFTER_MODE, self.now_ms)
        self._mark_trust(self.book.accounts[event.account].pool_rows())
        if self.book.accounts[event.account].ledger.mode is event.mode:
            return []
        text = f"account mode is now {event.mode.replace('_', ' ')}: figures wait for a full picture"
        return self._happened(self.rules[event.account].mode_change, event.account, "", "mode", text)
