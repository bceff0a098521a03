"""Folds events into figures and verdicts. Holds no clock, no await, no randomness: the same events give the same outcome."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from monitor.engine.book import JointBook, Rows
from monitor.engine.columns import IntColumn, LevelColumn
from monitor.engine.explain import Explainer
from monitor.engine.gauge import Verdict
from monitor.engine.judge import Judge
from monitor.engine.market import NEVER, UNIT, Market
from monitor.margin import joint
from monitor.model.alerts import Incident, IncidentKey, Level, Lever, Transition, Worse
from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    AssetRate,
    AssetRates,
    Brackets,
    Event,
    Instruments,
    LeverageChanged,
    ModeChanged,
    Prices,
    StreamDown,
    StreamUp,
    TimePassed,
    VenueCall,
)
from monitor.model.figures import Array, PoolFigures, PoolKey, PoolTable
from monitor.rules import RuleBook
from monitor.rules.occurrences import OccurrenceRule

START_GRACE_MS = 15_000  # what is not there yet begins to age only after this
SAFE_HEALTH = 1.5  # levers say how to be back here, or at the rule's next better limit


class AccountSetup(Struct, frozen=True):
    """One watched account: its alias and its rules."""

    venue: str
    alias: str
    rules: RuleBook


class _Trust(Struct):
    """Whether an account's rows are sure."""

    stream_down: str = ""  # reason, while its user stream is down
    snapshot_due: str = "no picture of the account yet"  # reason, until the next full picture
    snapshot_ms: int = NEVER

    @property
    def why_not(self) -> str:
        return self.stream_down or self.snapshot_due


class _Venue:
    """One venue's market, book, rules and trust."""

    def __init__(self, name: str, accounts: Sequence[AccountSetup], restored: Mapping[IncidentKey, Incident]) -> None:
        self.name = name
        self.market = Market(name)
        self.book = JointBook(self.market, [account.alias for account in accounts])
        self.rules = {account.alias: account.rules for account in accounts}
        self.judge = Judge(self.book, self.rules, restored)
        self.explain = Explainer(self.book)
        self.trust = {account.alias: _Trust() for account in accounts}
        stale = [account.rules.stale for account in accounts]
        self.improve_ms = np.array([rule.improve_ms for rule in stale])
        self.unknown_ms = np.array([rule.unknown_ms if rule.enabled else np.inf for rule in stale])
        self.due_ms = np.array([1000 * rule.reconcile_due_s for rule in stale])


class Engine:
    """`step` is the only way in; readers take `table`, `figures` and `rates`."""

    def __init__(
        self,
        accounts: Sequence[AccountSetup],
        rules: RuleBook | None = None,
        restored: Mapping[IncidentKey, Incident] | None = None,
    ) -> None:
        """rules: of what is no account's, such as a market stream. restored: incidents that were open when the program ended."""
        self._rules = rules or RuleBook()
        self._restored = dict(restored or {})
        self._venues = {
            name: _Venue(name, [a for a in accounts if a.venue == name], self._restored)
            for name in dict.fromkeys(account.venue for account in accounts)
        }
        self.now_ms = NEVER
        self._started_ms = NEVER
        self._folds: dict[type, Callable[[_Venue, Any], list[Transition]]] = {
            Prices: self._prices,
            AssetRates: self._rates,
            Instruments: self._instruments,
            Brackets: self._brackets,
            AccountSnapshot: self._snapshot,
            AccountUpdate: self._update,
            LeverageChanged: self._leverage,
            ModeChanged: self._mode,
            VenueCall: self._call,
            StreamUp: self._stream_up,
            StreamDown: self._stream_down,
        }

    # -------------------------------------------------------------- folding

    def step(self, event: Event, now_ms: int) -> list[Transition]:
        """Folds one event; now_ms never goes back. Returns what the rules have to say about it."""
        self.now_ms = max(now_ms, self.now_ms)
        if self._started_ms == NEVER:
            self._started_ms = self.now_ms
        if isinstance(event, TimePassed):
            return [t for venue in self._venues.values() for t in self._dress(venue, self._time(venue))]
        venue = self._venues.get(event.venue)
        if venue is None or not self._ours(venue, event):
            return []
        fold: Callable[[_Venue, Event], list[Transition]] = self._folds[type(event)]
        return fold(venue, event)

    def abandoned(self, now_ms: int) -> list[Transition]:
        """Ends for restored incidents of accounts that are no longer watched. Once, at the start."""
        return [
            _ended(key, incident.level, now_ms, "the account is no longer watched")
            for key, incident in self._restored.items()
            if key.account and (key.venue not in self._venues or key.account not in self._venues[key.venue].trust)
        ]

    @staticmethod
    def _ours(venue: _Venue, event: Event) -> bool:
        """Events of accounts that are not configured are nobody's."""
        account = getattr(event, "account", "")
        return not account or account in venue.trust

    def _prices(self, venue: _Venue, event: Prices) -> list[Transition]:
        if not venue.market.set_prices(event, self.now_ms):
            return []
        venue.book.revalue()
        return self._dress(venue, venue.judge.ratios())

    def _instruments(self, venue: _Venue, event: Instruments) -> list[Transition]:
        venue.market.set_instruments(event)
        venue.book.replace_all()
        return self._described(venue)

    def _described(self, venue: _Venue) -> list[Transition]:
        """After the venue's tables or rates moved: what waited for them is compared, and all is judged."""
        compared = venue.book.reconcile_late()
        venue.book.revalue()
        said = [verdict for account in compared for verdict in venue.judge.reconciled(account)]
        return self._dress(venue, said + venue.judge.ratios())

    def _update(self, venue: _Venue, event: AccountUpdate) -> list[Transition]:
        venue.book.take_update(event)
        return self._account_moved(venue, event.account)

    def _call(self, venue: _Venue, event: VenueCall) -> list[Transition]:
        subject = f"{event.kind} {','.join(event.symbols)}".strip()
        return self._happened(venue, venue.rules[event.account].venue_call, event.account, "", subject, event.text)

    @staticmethod
    def _stream_up(venue: _Venue, event: StreamUp) -> list[Transition]:
        if event.account:
            venue.trust[event.account].stream_down = ""
        return []

    @staticmethod
    def _stream_down(venue: _Venue, event: StreamDown) -> list[Transition]:
        if event.account:
            venue.trust[event.account].stream_down = event.reason
            venue.trust[event.account].snapshot_due = "no full picture since the stream broke"
        return []

    def _rates(self, venue: _Venue, event: AssetRates) -> list[Transition]:
        changed = venue.market.set_rates(event, self.now_ms)
        before = self._health(venue) if changed else None
        said = self._described(venue) + self._dress(venue, venue.judge.collateral())
        for asset, old, new in changed:
            text = (
                f"haircut of {asset} changed: owned counts {old.bid / old.index:.2%} → {new.bid / new.index:.2%}, "
                f"owed {old.ask / old.index:.2%} → {new.ask / new.index:.2%}"
            )
            rows = np.flatnonzero((venue.book.slots.rate_row == venue.market.asset_rows[asset]) & (venue.book.slots.equity != 0))
            said += self._table_changed(venue, sorted(set(venue.book.slots.pool[rows].tolist())), asset, text, before)
        return said

    def _snapshot(self, venue: _Venue, event: AccountSnapshot) -> list[Transition]:
        account, trust = venue.book.accounts[event.account], venue.trust[event.account]
        was = (account.ledger.mode, account.ledger.hedge)
        venue.book.take_snapshot(event)
        trust.snapshot_due, trust.snapshot_ms = "", self.now_ms
        said = self._dress(venue, venue.judge.reconciled(account))
        if was[0] is None:
            said += self._gone(venue, event.account)
        if was[0] is not None and was != (event.mode, event.hedge):
            sides = "hedge" if event.hedge else "one-way"
            text = f"account mode is now {event.mode.replace('_', ' ')}, {sides} positions"
            said += self._happened(venue, venue.rules[event.account].mode_change, event.account, "", "mode", text)
        return said + self._account_moved(venue, event.account)

    def _gone(self, venue: _Venue, alias: str) -> list[Transition]:
        """Ends for restored incidents of pools that the account no longer has, and of rules that are switched off."""
        pools, rules = venue.book.accounts[alias].pools, venue.rules[alias]
        said = []
        for key, incident in self._restored.items():
            if (key.venue, key.account) != (venue.name, alias):
                continue
            if key.pool and key.pool not in pools:
                said.append(_ended(key, incident.level, self.now_ms, "the pool no longer exists"))
            elif not getattr(rules, key.rule).enabled:
                said.append(_ended(key, incident.level, self.now_ms, "the rule is switched off"))
        return said

    def _account_moved(self, venue: _Venue, alias: str) -> list[Transition]:
        account = venue.book.accounts[alias]
        venue.book.revalue(account)
        self._mark_trust(venue, account.pool_rows())
        return self._dress(venue, venue.judge.ratios(account) + venue.judge.collateral(account))

    def _leverage(self, venue: _Venue, event: LeverageChanged) -> list[Transition]:
        old = venue.book.accounts[event.account].ledger.leverages.get(event.symbol)
        venue.book.take_leverage(event)
        said = self._account_moved(venue, event.account)
        if old == event.leverage:
            return said
        text = f"leverage of {event.symbol} is now {event.leverage:g}x" + (f", was {old:g}x" if old else "")
        rule = venue.rules[event.account].mode_change
        return said + self._happened(venue, rule, event.account, "", f"leverage {event.symbol}", text)

    def _mode(self, venue: _Venue, event: ModeChanged) -> list[Transition]:
        venue.trust[event.account].snapshot_due = "the account's mode changed"
        self._mark_trust(venue, venue.book.accounts[event.account].pool_rows())
        if venue.book.accounts[event.account].ledger.mode is event.mode:
            return []
        text = f"account mode is now {event.mode.replace('_', ' ')}: figures wait for a full picture"
        return self._happened(venue, venue.rules[event.account].mode_change, event.account, "", "mode", text)

    def _brackets(self, venue: _Venue, event: Brackets) -> list[Transition]:
        before = self._health(venue)
        changed = venue.book.set_brackets(event)
        said = self._described(venue)
        for alias, symbol, old in changed:
            account = venue.book.accounts[alias]
            legs = [row for (name, _), row in account.legs.items() if name == symbol]
            pools = sorted({int(venue.book.slots.pool[venue.book.legs.slot[row]]) for row in legs})
            new = venue.book.bracket_table(legs[0])
            text = (
                f"brackets of {symbol} changed: first rate {old.brackets[0].rate:.4%} → {new.brackets[0].rate:.4%}, "
                f"{len(old.brackets)} → {len(new.brackets)} tiers"
            )
            said += self._table_changed(venue, pools, symbol, text, before)
        return said

    def _table_changed(self, venue: _Venue, pools: list[int], subject: str, text: str, before: Array | None) -> list[Transition]:
        after = self._health(venue)
        said = []
        for row in pools:
            key = venue.book.pool_keys[row]
            health = ""
            if before is not None and row < len(before) and not np.isnan(before[row]):
                health = f"; health {before[row]:.4g} → {after[row]:.4g}"
            said += self._happened(venue, venue.rules[key.account].tier_change, key.account, key.pool, subject, text + health)
        return said

    # -------------------------------------------------------------- time

    def _time(self, venue: _Venue) -> list[Verdict]:
        """Silence is an event: ages, and what follows from them."""
        pools, judge, market = venue.book.pools, venue.judge, venue.market
        seen_ms = np.array([self._account_seen(trust) for trust in venue.trust.values()], np.int64)
        verdicts = judge.lagging(venue.book.set_ages(seen_ms, self.now_ms))
        was_blind = pools.blind.copy()
        self._mark_trust(venue, np.arange(len(pools)))
        verdicts += judge.blinded(np.flatnonzero(pools.blind & ~was_blind))
        if (was_blind & ~pools.blind).any():
            verdicts += judge.ratios()
        venue.explain.begin_baselines()
        verdicts += judge.feed_age(self._rules.stale, "mark price", self._age(market.newest_price_ms()))
        verdicts += judge.feed_age(self._rules.stale, "asset index", self._age(self._newest_rate(venue)))
        snapshot_ms = np.array([trust.snapshot_ms for trust in venue.trust.values()], np.int64)
        overdue_ms = np.maximum(0, self._ages(snapshot_ms) - venue.due_ms)
        verdicts += judge.accounts_age("account", "the picture of the account", self._ages(seen_ms))
        verdicts += judge.accounts_age("reconciliation", "the reconciliation, beyond its due time,", overdue_ms)
        return verdicts

    def _newest_rate(self, venue: _Venue) -> int:
        """The index feed matters only where an account is in joint margin."""
        used = (venue.book.slots.rate_row != UNIT).any()
        return venue.market.newest_rate_ms() if used else self.now_ms

    def _account_seen(self, trust: _Trust) -> int:
        """When the account's rows were last sure: now, while its stream is live."""
        return trust.snapshot_ms if trust.why_not else self.now_ms

    def _age(self, seen_ms: int) -> int:
        """What was never seen ages from the start, after a grace."""
        return self.now_ms - seen_ms if seen_ms != NEVER else max(0, self.now_ms - self._started_ms - START_GRACE_MS)

    def _ages(self, seen_ms: IntColumn) -> IntColumn:
        return np.where(seen_ms == NEVER, self._age(NEVER), self.now_ms - seen_ms)

    def _mark_trust(self, venue: _Venue, rows: Rows) -> None:
        """Writes which pools may improve and which are blind, from their ages as of the last second."""
        pools = venue.book.pools
        account, fresh_ms = pools.account[rows], pools.fresh_ms[rows]
        age = np.where(fresh_ms == NEVER, 0, self.now_ms - fresh_ms)
        trusted = np.array([not trust.why_not for trust in venue.trust.values()])[account]
        pools.may_improve[rows] = trusted & (age <= venue.improve_ms[account])
        pools.blind[rows] = (age >= venue.unknown_ms[account]) & pools.active[rows]

    # -------------------------------------------------------------- words

    def _dress(self, venue: _Venue, verdicts: list[Verdict]) -> list[Transition]:
        levels = venue.judge.pool_levels() if verdicts else None
        return [self._transition(venue, verdict, levels) for verdict in verdicts]

    def _transition(self, venue: _Venue, verdict: Verdict, levels: LevelColumn | None) -> Transition:
        """Adds figures, causes and levers of the pool."""
        row = verdict.pool
        worse = verdict.level > verdict.was or verdict.level is Level.UNKNOWN
        levers = (
            venue.explain.levers(row, SAFE_HEALTH)
            if row >= 0 and worse and verdict.key.rule in ("health", "margin_ratio")
            else ()
        )
        return Transition(
            key=verdict.key,
            level=verdict.level,
            was=verdict.was,
            at_ms=self.now_ms,
            summary=verdict.summary,
            worse=verdict.worse,
            value=None if np.isnan(verdict.value) else verdict.value,
            limit=verdict.limit,
            figures=self._figures(venue, row, levels) if row >= 0 else None,
            causes=venue.explain.causes(row) if row >= 0 and verdict.key.rule in ("health", "margin_ratio") else (),
            levers=levers,
        )

    def _happened(self, venue: _Venue, rule: OccurrenceRule, alias: str, pool: str, subject: str, text: str) -> list[Transition]:
        """A momentary transition, told once."""
        if not rule.enabled:
            return []
        row = venue.book.accounts[alias].pools.get(pool, -1)
        key = IncidentKey(venue.name, alias, pool, rule.name, subject)
        figures = self._figures(venue, row) if row >= 0 else None
        return [
            Transition(
                key=key,
                level=rule.severity,
                was=Level.OK,
                at_ms=self.now_ms,
                summary=text,
                worse=Worse.NONE,
                momentary=True,
                figures=figures,
            )
        ]

    # -------------------------------------------------------------- readers

    def table(self) -> PoolTable:
        """All pools that hold anything, as columns."""
        parts = [self._part(venue) for venue in self._venues.values()]
        whole: dict[str, Any] = {
            name: [item for part in parts for item in getattr(part, name)]
            if name in ("keys", "units")
            else np.concatenate([getattr(part, name) for part in parts])
            for name in PoolTable.__struct_fields__
        }
        return PoolTable(**whole)

    def _part(self, venue: _Venue) -> PoolTable:
        book, p = venue.book, venue.book.pools
        rows: Rows = np.flatnonzero(p.active | ~(np.isnan(p.equity) | (p.equity == 0)) | (p.requirement > 0))
        nothing = np.full(len(rows), np.nan)
        equity, requirement = p.equity[rows], p.requirement[rows]
        return PoolTable(
            keys=[book.pool_keys[row] for row in rows],
            units=[venue.explain.unit(int(row)) for row in rows],
            equity=equity,
            requirement=requirement,
            margin_ratio=joint.margin_ratio(equity, requirement),
            health=joint.health(equity, requirement),
            guarantee_asset_ratio=nothing,
            available=book.available()[rows],
            withdrawable=book.withdrawable()[rows],
            reconcile_difference=p.difference[rows],
            age_ms=np.where(p.fresh_ms[rows] == NEVER, np.nan, np.maximum(0, self.now_ms - p.fresh_ms[rows])),
            level=venue.judge.pool_levels()[rows],
        )

    def figures(self, key: PoolKey) -> PoolFigures | None:
        """One pool with its workings; None if there is none."""
        venue = self._venues.get(key.venue)
        account = venue.book.accounts.get(key.account) if venue else None
        row = account.pools.get(key.pool) if account else None
        return self._figures(venue, row) if venue is not None and row is not None else None

    def levers(self, key: PoolKey) -> tuple[Lever, ...]:
        """What to do now, with the amount; nothing for a pool that is safe or not there."""
        venue = self._venues.get(key.venue)
        account = venue.book.accounts.get(key.account) if venue else None
        row = account.pools.get(key.pool) if account else None
        return venue.explain.levers(row, SAFE_HEALTH) if venue is not None and row is not None else ()

    def _figures(self, venue: _Venue, row: int, levels: LevelColumn | None = None) -> PoolFigures:
        why = venue.trust[venue.book.pool_keys[row].account].why_not
        level = int((venue.judge.pool_levels() if levels is None else levels)[row])
        return venue.explain.figures(row, now_ms=self.now_ms, level=level, trusted=not why, why_untrusted=why)

    def rates(self) -> dict[str, list[AssetRate]]:
        """The last collateral rates by venue."""
        return {venue.name: list(venue.market.last_rates.values()) for venue in self._venues.values()}

    def trusted(self) -> dict[tuple[str, str], str]:
        """Why an account is not trusted, by (venue, alias); "" where it is."""
        return {(venue.name, alias): trust.why_not for venue in self._venues.values() for alias, trust in venue.trust.items()}

    @staticmethod
    def _health(venue: _Venue) -> Array:
        return joint.health(venue.book.pools.equity, venue.book.pools.requirement)


def _ended(key: IncidentKey, was: Level, now_ms: int, why: str) -> Transition:
    return Transition(key=key, level=Level.OK, was=was, at_ms=now_ms, summary=why)
