"""Applies the rules to the book: figures and previous levels in, verdicts out. Accounts with equal rules are judged together."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from monitor.engine.columns import BoolColumn, FloatColumn, IntColumn, LevelColumn
from monitor.engine.gauge import Gauge, Verdict, verdict
from monitor.engine.market import NEVER
from monitor.engine.pools import AccountPools, PoolBook, Rows
from monitor.engine.trust import Trust
from monitor.margin import joint
from monitor.margin.guarantee import guarantee_asset_ratio
from monitor.model.alerts import Incident, IncidentKey, Level, Worse
from monitor.rules import RuleBook
from monitor.rules.base import LadderRule
from monitor.rules.clock import ClockRule
from monitor.rules.health import GuaranteeAssetRatioRule, HealthRule, MarginRatioRule
from monitor.rules.settlement import SettlementRule
from monitor.rules.trust import StaleRule

NO_POOL = "no pool: "  # begins the name of a gauge whose rows are no pools'
RATIO_RULES = ("health", "margin_ratio", "guarantee_asset_ratio")


class Judge:
    """Keeps the levels of every rule for one book."""

    def __init__(self, book: PoolBook, rules: Mapping[str, RuleBook], restored: Mapping[IncidentKey, Incident]) -> None:
        self._book = book
        self._rules = rules
        self._restored = restored
        self._gauges: dict[str, Gauge] = {}
        self._groups: dict[str, tuple[int, list[tuple[LadderRule, Rows]]]] = {}

    def all(self) -> list[Verdict]:
        """Every rule that looks at figures, on all pools."""
        return self.ratios()

    def all_of(self, account: AccountPools) -> list[Verdict]:
        """The same on one account's pools."""
        return self.ratios(account)

    # -------------------------------------------------------------- pools: the ratios

    def ratios(self, account: AccountPools | None = None) -> list[Verdict]:
        """All pools, or one account's."""
        p = self._book.pools
        verdicts = []
        for name in RATIO_RULES:
            for rule, rows in self._pool_groups(name, account):
                gauge = self._pool_gauge(name)
                level, value, unknown = self._ratio_level(rule, rows, gauge.known[rows])
                keep = unknown | (p.held_ms[rows] != NEVER)
                changed = gauge.take(rows, level, keep=keep, may_improve=p.may_improve[rows], blind=p.blind[rows])
                if len(changed):
                    verdicts += self._verdicts(rule, gauge, rows, changed, value(), pools=rows)
        return verdicts

    def _ratio_level(
        self, rule: LadderRule, rows: Rows, was: LevelColumn
    ) -> tuple[LevelColumn, Callable[[], FloatColumn], BoolColumn]:
        """(level, how to compute what was judged, where it is unknown) by pool."""
        p = self._book.pools
        equity, requirement = p.equity[rows], p.requirement[rows]
        match rule:
            case HealthRule():
                level, value = rule.judge(equity, requirement, was), partial(joint.health, equity, requirement)
            case MarginRatioRule():
                level, value = rule.judge(equity, requirement, was), partial(joint.margin_ratio, equity, requirement)
            case GuaranteeAssetRatioRule():
                used, factor = p.used[rows], p.factor[rows]
                level, value = rule.judge(equity, used, factor, was), partial(guarantee_asset_ratio, equity, used, factor)
            case _:
                raise TypeError(f"not a rule on a ratio: {rule.name}")
        return level, value, np.isnan(equity) | np.isnan(requirement)

    # -------------------------------------------------------------- trust

    def reconciled(self, account: AccountPools, compared: Rows) -> list[Verdict]:
        """After the venue's own figures were compared with ours. compared: pools; those of other accounts are left out."""
        rule, p = self._rules[account.alias].reconcile, self._book.pools
        rows = np.intersect1d(compared, account.pool_rows())
        if not rule.enabled or not len(rows):
            return []
        difference = p.difference[rows]
        in_a_row = np.where(difference > (rule.warning or np.inf), p.differs_in_a_row[rows] + 1, 0)
        p.differs_in_a_row[rows] = np.where(np.isnan(difference), p.differs_in_a_row[rows], in_a_row)
        gauge = self._pool_gauge(rule.name)
        level = rule.judge(difference, p.differs_in_a_row[rows], gauge.known[rows])
        changed = gauge.take(rows, level, keep=np.isnan(difference), may_improve=_yes(rows), blind=~_yes(rows))
        return self._verdicts(rule, gauge, rows, changed, difference, pools=rows)

    def lagging(self, lag_ms: FloatColumn, held: BoolColumn) -> list[Verdict]:
        """Pools of which one input lags behind its own market, or whose figures are unknown. lag_ms, held: by pool row.

        held: the pool's coin settles, and may: nobody trades then.
        """
        age_s = np.where(self._book.pools.active, lag_ms / 1000, 0.0)
        verdicts = []
        for rule, rows in self._pool_groups("stale", None):
            assert isinstance(rule, StaleRule)
            gauge = self._pool_gauge(rule.name)
            level = rule.judge(age_s[rows], gauge.known[rows])
            changed = gauge.take(rows, level, keep=held[rows], may_improve=_yes(rows), blind=~_yes(rows))
            verdicts += self._verdicts(rule, gauge, rows, changed, age_s[rows], pools=rows, subject="an input of the pool")
        return verdicts

    def deliveries(self, minutes: FloatColumn) -> list[Verdict]:
        """Pools that lose a lock by a delivery in so many minutes; +inf: none."""
        verdicts = []
        for rule, rows in self._pool_groups("settlement", None):
            assert isinstance(rule, SettlementRule)
            gauge = self._pool_gauge(rule.name)
            level = rule.judge(minutes[rows], gauge.known[rows])
            changed = gauge.take(rows, level, keep=~_yes(rows), may_improve=_yes(rows), blind=~_yes(rows))
            verdicts += self._verdicts(rule, gauge, rows, changed, minutes[rows], pools=rows)
        return verdicts

    def pictures(self, trust: Trust, age_ms: IntColumn, held: BoolColumn, may_improve: BoolColumn) -> list[Verdict]:
        """What the venue's full pictures cover, and for how long it has not been sure. All by row of trust.

        held: the coin settles, and no picture can come. may_improve: nothing below it is open that would make the end untrue.
        """
        gauge = self._trust_gauge(trust, "account")
        verdicts = []
        for rule, rows in self._trust_groups(trust):
            age_s = age_ms[rows] / 1000
            level = rule.judge(age_s, gauge.known[rows])
            changed = gauge.take(rows, level, keep=held[rows], may_improve=may_improve[rows], blind=~_yes(rows))
            verdicts += self._of_trust(trust, rule, gauge, rows, changed, age_s, rule.summary, "the picture of {}")
        return verdicts

    def reconciliations(
        self, trust: Trust, overdue_ms: FloatColumn, lapsed: BoolColumn, held: BoolColumn, may_improve: BoolColumn
    ) -> list[Verdict]:
        """How far full pictures are beyond their due time. lapsed: and the stream brings nothing either."""
        gauge = self._trust_gauge(trust, "reconciliation")
        verdicts = []
        for rule, rows in self._trust_groups(trust):
            overdue_s = overdue_ms[rows] / 1000
            level = rule.judge_unverified(overdue_s, lapsed[rows], gauge.known[rows])
            changed = gauge.take(rows, level, keep=held[rows], may_improve=may_improve[rows], blind=~_yes(rows))
            words = rule.unverified_summary
            verdicts += self._of_trust(trust, rule, gauge, rows, changed, overdue_s, words, "the reconciliation of {}")
        return verdicts

    def _trust_gauge(self, trust: Trust, subject: str) -> Gauge:
        """Its rows are those of trust: of an account, or of a pool whose pictures are its own."""

        def key(row: int) -> IncidentKey:
            alias, pool = trust.names[row]
            return IncidentKey(self._book.market.venue, alias, pool, "stale", subject)

        return self._gauge(f"{NO_POOL}{subject}", key, len(trust))

    def _trust_groups(self, trust: Trust) -> list[tuple[StaleRule, Rows]]:
        groups = self._all_groups("stale", len(trust), lambda row: trust.names[row][0], " by trust")
        return [(rule, rows) for rule, rows in groups if isinstance(rule, StaleRule)]

    def _of_trust(
        self,
        trust: Trust,
        rule: StaleRule,
        gauge: Gauge,
        rows: Rows,
        changed: Rows,
        value: FloatColumn,
        words: Callable[[str, Level, float, float | None], str],
        subject: str,
    ) -> list[Verdict]:
        verdicts = []
        for i in changed:
            row = int(rows[i])
            now, was = Level(int(gauge.level[row])), Level(int(gauge.was[i]))
            limit = rule.limit_of(now)
            text = words(subject.format(trust.names[row][1] or "the account"), now, float(value[i]), limit)
            pool = int(trust.rows.pool[row])
            verdicts.append(Verdict(gauge.key_of(row), pool, now, was, float(value[i]), limit, text, rule.worse))
        return verdicts

    def feed_age(self, rule: StaleRule, feed: str, age_ms: int) -> list[Verdict]:
        """Age of a market stream of the whole venue."""
        if not rule.enabled:
            return []
        venue = self._book.market.venue
        gauge = self._gauge(f"{NO_POOL}{feed}", lambda _row: IncidentKey(venue, "", "", "stale", feed), 1)
        row, age_s = np.zeros(1, np.intp), np.array([age_ms / 1000])
        level = rule.judge(age_s, gauge.known)
        changed = gauge.take(row, level, keep=~_yes(row), may_improve=_yes(row), blind=~_yes(row))
        subject = f"the {feed} feed"
        return self._verdicts(rule, gauge, row, changed, age_s, pools=None, subject=subject)

    def clock_offset(self, rule: ClockRule, offset_s: float) -> list[Verdict]:
        """Our clock against the venue's. offset_s: venue − ours, what is sure of it."""
        if not rule.enabled:
            return []
        venue = self._book.market.venue
        gauge = self._gauge(f"{NO_POOL}clock", lambda _row: IncidentKey(venue, "", "", rule.name), 1)
        row, offset = np.zeros(1, np.intp), np.array([offset_s])
        level = rule.judge(offset, gauge.known)
        changed = gauge.take(row, level, keep=~_yes(row), may_improve=_yes(row), blind=~_yes(row))
        return self._verdicts(rule, gauge, row, changed, offset, pools=None)

    def blinded(self, rows: Rows) -> list[Verdict]:
        """Pools whose data are too old: what is open on them is unknown from now on, and not resolved."""
        verdicts = []
        for name in RATIO_RULES:
            gauge = self._gauges.get(name)
            if gauge is None:
                continue
            judged = rows[rows < len(gauge.level)]
            for row in judged[gauge.level[judged] > Level.OK].tolist():
                was, gauge.level[row] = Level(int(gauge.level[row])), Level.UNKNOWN
                worse = Worse.UP if name == "margin_ratio" else Worse.DOWN
                text = f"{name.replace('_', ' ')} is UNKNOWN: the data are too old"
                verdicts.append(Verdict(gauge.key_of(row), row, Level.UNKNOWN, was, np.nan, None, text, worse))
        return verdicts

    def ended(self, rows: Rows, why: str) -> list[Verdict]:
        """Pools that are no more: what the venue's own figures had opened on them ends with them, for no answer comes again."""
        gauge, verdicts = self._pool_gauge("reconcile"), []
        for row in rows.tolist():
            was = Level(int(gauge.level[row]))
            gauge.level[row] = gauge.known[row] = Level.OK
            self._book.pools.differs_in_a_row[row], self._book.pools.difference[row] = 0, np.nan
            if was is not Level.OK:
                verdicts.append(Verdict(gauge.key_of(row), row, Level.OK, was, np.nan, None, why, Worse.AWAY))
        return verdicts

    # -------------------------------------------------------------- readers

    def pool_levels(self) -> LevelColumn:
        """The worst level of each pool's rules; −1 where its figures are unknown."""
        book = self._book
        p = book.pools
        worst = np.zeros(len(p), np.int8)
        for name, gauge in self._gauges.items():
            if name.startswith(NO_POOL):
                continue  # of accounts, feeds and clocks: said on their own, and in the pool's age
            np.maximum.at(worst, self.pools_of(name)[: len(gauge.known)], gauge.known)
        unknown = p.blind | np.isnan(p.equity) | np.isnan(p.requirement)
        return np.where(unknown, np.int8(Level.UNKNOWN), worst)

    def pools_of(self, rule: str) -> Rows:
        """Pool of each row that the rule judges."""
        return np.arange(len(self._book.pools))

    # -------------------------------------------------------------- inside

    @staticmethod
    def _verdicts(
        rule: LadderRule,
        gauge: Gauge,
        rows: Rows,
        changed: Rows,
        value: FloatColumn,
        *,
        pools: Rows | None,
        subject: str = "",
    ) -> list[Verdict]:
        """Words for what `take` found changed. pools: row of the pool for each of `rows`; None: it is no pool's."""
        return [
            verdict(
                rule,
                gauge.key_of(int(rows[i])),
                pool=-1 if pools is None else int(pools[i]),
                level=int(gauge.level[rows[i]]),
                was=int(gauge.was[i]),
                value=float(value[i]),
                subject=subject,
            )
            for i in changed
        ]

    def _pool_gauge(self, rule: str) -> Gauge:
        def key(row: int) -> IncidentKey:
            pool = self._book.pool_keys[row]
            return IncidentKey(pool.venue, pool.account, pool.pool, rule)

        return self._gauge(rule, key, len(self._book.pools))

    def _gauge(self, name: str, key_of: Callable[[int], IncidentKey], size: int) -> Gauge:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(key_of, self._restored)
        gauge.grow(size)
        return gauge

    def _pool_groups(self, name: str, account: AccountPools | None) -> list[tuple[LadderRule, Rows]]:
        if account is not None:
            rule: LadderRule = getattr(self._rules[account.alias], name)
            return [(rule, account.pool_rows())] if rule.enabled and account.pools else []
        return self._all_groups(name, len(self._book.pools), lambda row: self._book.pool_keys[row].account)

    def _all_groups(
        self, name: str, size: int, account_of: Callable[[int], str], rows_are: str = ""
    ) -> list[tuple[LadderRule, Rows]]:
        """(settings, rows) for each distinct settings of a rule; made anew only when rows were added."""
        known = self._groups.get(name + rows_are)
        if known is None or known[0] != size:
            rows_of: dict[LadderRule, list[int]] = {}
            for row in range(size):
                rule: LadderRule = getattr(self._rules[account_of(row)], name)
                if rule.enabled:
                    rows_of.setdefault(rule, []).append(row)
            known = (size, [(rule, np.array(rows, np.intp)) for rule, rows in rows_of.items()])
            self._groups[name + rows_are] = known
        return known[1]


def _yes(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.ones(len(rows), np.bool_)
