"""Applies the rules on collateral to joint pools; what holds for pools of every kind is in judge.py."""

import numpy as np

from monitor.engine.columns import BoolColumn, FloatColumn
from monitor.engine.gauge import Gauge, Verdict
from monitor.engine.joint_book import AccountRows, JointBook
from monitor.engine.judge import Judge
from monitor.engine.market import UNIT
from monitor.engine.pools import AccountPools, Rows
from monitor.margin import joint
from monitor.model.alerts import IncidentKey
from monitor.rules.base import LadderRule, Levels
from monitor.rules.collateral import AssetMixRule, AutoExchangeRule, CollateralMoveRule, CollateralRateRule, PremiumRule

COLLATERAL_RULES = ("collateral_rate", "collateral_move", "premium", "asset_mix", "auto_exchange")


class JointJudge(Judge):
    """Adds a level for each collateral slot of a joint pool."""

    _book: JointBook
    _pegged: BoolColumn = np.zeros(0, np.bool_)  # by slot

    def all(self) -> list[Verdict]:
        return super().all() + self.collateral()

    def all_of(self, account: AccountPools) -> list[Verdict]:
        assert isinstance(account, AccountRows)
        return super().all_of(account) + self.collateral(account)

    def collateral(self, account: AccountRows | None = None) -> list[Verdict]:
        """All collateral slots of joint pools, or one account's."""
        book = self._book
        s, p = book.slots, book.pools
        verdicts = []
        for name in COLLATERAL_RULES:
            for rule, rows in self._slot_groups(name, account):
                gauge = self._slot_gauge(name)
                value, level = self._collateral_level(rule, rows, gauge.known[rows])
                pool = s.pool[rows]
                unknown = np.isnan(p.equity[pool]) | np.isnan(value)
                changed = gauge.take(rows, level, keep=unknown, may_improve=p.may_improve[pool], blind=p.blind[pool])
                verdicts += self._verdicts(rule, gauge, rows, changed, value, pools=pool)
        return verdicts

    def _collateral_level(self, rule: LadderRule, rows: Rows, was: Levels) -> tuple[FloatColumn, Levels]:
        """(what was judged, level) per slot."""
        book, market = self._book, self._book.market
        s = book.slots
        rate_row = s.rate_row[rows]
        index = market.assets.index[rate_row]
        held = s.equity[rows] != 0
        equity = np.abs(book.pools.equity[s.pool[rows]])
        share = np.divide(s.value[rows], equity, out=np.zeros(len(rows)), where=equity > 0)
        match rule:
            case CollateralRateRule():
                from_peg = index - 1.0
                in_window = np.nan_to_num(market.window.move())[rate_row]
                move = np.where(np.abs(from_peg) >= np.abs(in_window), from_peg, in_window)
                return np.where(np.isnan(index), np.nan, move), rule.judge(from_peg, in_window, np.abs(share), was)
            case CollateralMoveRule():
                fall = self._health_fall(rows, np.nan_to_num(market.window.move())[rate_row])
                return fall, rule.judge(fall, was)
            case PremiumRule():
                watched = np.isin(market.asset_names, rule.assets)[rate_row] & held
                return index - 1.0, rule.judge(index, watched, was)
            case AssetMixRule():
                targets = np.array([rule.targets.get(name, np.nan) for name in market.asset_names])[rate_row]
                return np.nan_to_num(share - targets), rule.judge(share, targets, was)
            case AutoExchangeRule():
                fraction = s.wallet[rows] / self._thresholds(rule)[rate_row]
                return fraction, rule.judge(fraction, was)
        raise TypeError(f"not a rule on collateral: {rule.name}")

    def _health_fall(self, rows: Rows, move: FloatColumn) -> FloatColumn:
        """By slot: the part of its pool's health that the move of its asset's rate took. move: index / index then − 1."""
        s, p = self._book.slots, self._book.pools
        pool, moved = s.pool[rows], move / (1.0 + move)  # of what counts by the rate now
        margin = joint.margin_value(s.maintenance[rows], self._book.market.assets.ask[s.rate_row[rows]])
        return joint.health_fall(p.equity[pool], p.requirement[pool], s.value[rows] * moved, margin * moved)

    def is_pegged(self, alias: str, asset: str) -> bool:
        """Whether the account's rules compare the asset with 1 USD."""
        return asset in self._rules[alias].collateral_rate.pegged

    def _pegged_slots(self) -> BoolColumn:
        book, known = self._book, len(self._pegged)
        if known < len(book.slots):
            pools = [book.pool_keys[row] for row in book.slots.pool[known:].tolist()]
            new = [self.is_pegged(pool.account, asset) for pool, asset in zip(pools, book.slot_assets[known:], strict=True)]
            self._pegged = np.concatenate((self._pegged, np.array(new, np.bool_)))
        return self._pegged

    def _thresholds(self, rule: AutoExchangeRule) -> FloatColumn:
        """Wallet at which the venue converts, per asset row, in the asset, < 0."""
        market = self._book.market
        said = [getattr(market.asset_infos.get(name), "auto_exchange_threshold", None) for name in market.asset_names]
        default = rule.default_threshold_usd / market.assets.index
        return np.where([threshold is not None and threshold < 0 for threshold in said], np.array(said, float), default)

    def pools_of(self, rule: str) -> Rows:
        return self._book.slots.pool if rule in COLLATERAL_RULES else super().pools_of(rule)

    def _slot_gauge(self, rule: str) -> Gauge:
        def key(row: int) -> IncidentKey:
            pool = self._book.pool_keys[self._book.slots.pool[row]]
            return IncidentKey(pool.venue, pool.account, pool.pool, rule, self._book.slot_assets[row])

        return self._gauge(rule, key, len(self._book.slots))

    def _slot_groups(self, name: str, account: AccountRows | None) -> list[tuple[LadderRule, Rows]]:
        """Collateral exists in joint pools only: elsewhere an asset counts for itself. Each rule on rates has its own assets."""
        book = self._book
        if account is not None:
            rule: LadderRule = getattr(self._rules[account.alias], name)
            groups = [(rule, account.slot_rows())] if rule.enabled and account.slots else []
        else:
            groups = self._all_groups(name, len(book.slots), lambda row: book.pool_keys[book.slots.pool[row]].account)
        judged = book.slots.rate_row != UNIT
        if name in ("collateral_rate", "collateral_move"):
            judged = judged & (self._pegged_slots() == (name == "collateral_rate"))
        parts = [(rule, rows[judged[rows]]) for rule, rows in groups]
        return [(rule, rows) for rule, rows in parts if len(rows)]
