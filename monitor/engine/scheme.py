"""One venue inside the engine: market, book, judge and trust, and what is the same for every margin scheme."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from msgspec import Struct

from monitor.engine.columns import BoolColumn, LevelColumn
from monitor.engine.gauge import Verdict
from monitor.engine.judge import Judge
from monitor.engine.ledger import RowKey, Told
from monitor.engine.market import NEVER, Market
from monitor.engine.pools import PoolBook, Rows
from monitor.engine.trust import Due, Trust
from monitor.engine.unheard import Moved, Standing, Unheard
from monitor.margin import joint
from monitor.model.alerts import Cause, Incident, IncidentKey, Level, Lever, Transition, Worse
from monitor.model.events import ClockOffset, Degraded, Event, StreamDown, StreamUp, VenueCall
from monitor.model.figures import Array, PoolFigures, PoolTable
from monitor.model.workings import AssetTable, PositionTable
from monitor.rules import RuleBook
from monitor.rules.occurrences import OccurrenceRule

HOLD_MAX_MS = 300_000  # alerts of a coin that settles are held so long; then it is UNKNOWN
SAFE_HEALTH = 1.5  # levers say how to be back here, where the rule has no limit `high`
BEYOND = 1.001  # a lever must clear the limit, not stand on it
NAMES_MAX = 5  # rows that one message names
RATIO_RULES = ("health", "margin_ratio", "guarantee_asset_ratio")  # their messages say why, and what to do


class AccountSetup(Struct, frozen=True):
    """One watched account: its alias and its rules."""

    venue: str
    alias: str
    rules: RuleBook


class PoolExplainer(Protocol):
    """One pool for people."""

    def figures(self, pool: int, *, now_ms: int, level: int, trusted: bool, why_untrusted: str = "") -> PoolFigures: ...

    def unit(self, pool: int) -> str: ...

    def causes(self, pool: int) -> tuple[Cause, ...]:
        """What moved the equity since the last call."""

    def levers(self, pool: int, target: float) -> tuple[Lever, ...]: ...

    def begin_baselines(self) -> None:
        """Pools that became known: their next message tells the move from here."""


class Scheme(ABC):
    """One venue. A margin scheme adds how its events are folded: `folds`, by type of event."""

    price_feed: ClassVar[str]  # the feed that its margin lives on, in plain words
    pictures_by_pool: ClassVar[bool]  # a full picture is of one pool, not of all of the account

    market: Market
    book: PoolBook
    judge: Judge
    explain: PoolExplainer

    def __init__(
        self, name: str, accounts: Sequence[AccountSetup], venue_rules: RuleBook, restored: MutableMapping[IncidentKey, Incident]
    ) -> None:
        """venue_rules: of what is no account's. restored: what was ended is taken out of it."""
        self.name = name
        self.venue_rules = venue_rules
        self.rules = {account.alias: account.rules for account in accounts}
        self.trust = Trust({account.alias: account.rules.stale for account in accounts}, by_pool=self.pictures_by_pool)
        self.now_ms = NEVER
        self._restored = restored
        self.clock_offset_ms: int | None = None  # venue − ours, when last compared
        self._faults_told: set[tuple[str, str]] = set()
        self._covered = 0  # pools that have their row of trust
        self.unheard = {account.alias: Unheard() for account in accounts}
        self._folds: dict[type, Callable[[Any], list[Transition]]] = {
            VenueCall: self._call,
            Degraded: self._degraded,
            StreamUp: self._stream_up,
            StreamDown: self._stream_down,
            ClockOffset: self._clock_offset,
            **self.folds(),
        }

    @abstractmethod
    def folds(self) -> dict[type, Callable[[Any], list[Transition]]]:
        """How each type of event of this scheme is folded."""

    # -------------------------------------------------------------- folding

    def set_now(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def fold(self, event: Event) -> list[Transition]:
        """Events of accounts that are not configured, and of other schemes, are nobody's."""
        account = getattr(event, "account", "")
        fold = self._folds.get(type(event))
        return [] if fold is None or (account and account not in self.rules) else fold(event)

    def time_passed(self) -> list[Transition]:
        self.trust.started(self.now_ms)
        return self._dress(self._time()) + [
            said for alias, unheard in self.unheard.items() if unheard.waiting for said in self._missed(alias)
        ]

    def _call(self, event: VenueCall) -> list[Transition]:
        subject = f"{event.kind} {','.join(event.symbols)}".strip()
        active = [name for name, row in self.book.accounts[event.account].pools.items() if self.book.pools.active[row]]
        pool = active[0] if len(active) == 1 else next((name for name in active if name in event.symbols), "")
        return self._happened(self.rules[event.account].venue_call, event.account, pool, subject, event.text)

    def _degraded(self, event: Degraded) -> list[Transition]:
        rules = self.rules[event.account] if event.account else self.venue_rules
        return self._happened(rules.degraded, event.account, "", event.kind, event.text)

    def _stream_up(self, event: StreamUp) -> list[Transition]:
        if event.account:
            self.trust.stream_up(self._place(event.account))
        return []

    def _stream_down(self, event: StreamDown) -> list[Transition]:
        if event.account:
            self.trust.stream_down(self._place(event.account), event.reason, self.now_ms)
            said = self._missed(event.account)
            self.unheard[event.account].forget()
            return said
        return []

    def _clock_offset(self, event: ClockOffset) -> list[Transition]:
        self.clock_offset_ms = self.market.clock_offset_ms = event.offset_ms
        sure_ms = max(0, abs(event.offset_ms) - event.error_ms)
        offset_s = math.copysign(sure_ms, event.offset_ms) / 1000
        return self._dress(self.judge.clock_offset(self.venue_rules.clock, offset_s))

    def _place(self, alias: str) -> int:
        """Of an account: its row of trust too."""
        return self.book.accounts[alias].place

    def _shown(self, alias: str, rows: Mapping[RowKey, Told], before: Mapping[int, Standing]) -> None:
        """A picture changed these rows, and the stream owed that."""
        now = self._standing(alias)
        self.unheard[alias].shown(rows, {row: Moved(standing, now[row]) for row, standing in before.items()}, self.now_ms)

    def _missed(self, alias: str) -> list[Transition]:
        """Changes that the stream owed and did not tell. The figures hold them since the picture; what moved much is told."""
        rule = self.rules[alias].reconcile
        said = []
        for shown in self.unheard[alias].overdue(self.now_ms, 1000 * rule.unheard_s):
            names = sorted(key if isinstance(key, str) else " ".join(key) for key in shown.rows)
            more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
            for row, moved in shown.moved.items():
                level = rule.level_of(moved.relative)
                if level is not None and rule.enabled:
                    text = (
                        f"the stream did not tell of a change of {', '.join(names[:NAMES_MAX])}{more}, REST shows it: "
                        f"equity {moved.before.equity:,.6g} → {moved.after.equity:,.6g}, maintenance margin "
                        f"{moved.before.requirement:,.6g} → {moved.after.requirement:,.6g} {self.explain.unit(row)}"
                    )
                    key = self.book.pool_keys[row]
                    said += self._told_once(rule.name, level, alias, key.pool, "missed update", text)
        return said

    def _standing(self, alias: str) -> dict[int, Standing]:
        """Of each pool of the account."""
        p, rows = self.book.pools, self.book.accounts[alias].pool_rows()
        return dict(zip(rows.tolist(), map(Standing, p.equity[rows].tolist(), p.requirement[rows].tolist()), strict=True))

    def _account_moved(self, alias: str, why: str, before: Mapping[int, Standing]) -> list[Transition]:
        """After the rows of one account changed. why: the cause."""
        self.book.revalue(self.book.accounts[alias])
        return self._account_valued(alias, why, before)

    def _account_valued(self, alias: str, why: str, before: Mapping[int, Standing]) -> list[Transition]:
        account = self.book.accounts[alias]
        for row, now in self._standing(alias).items():
            self.book.required.add(row, why, now.requirement - (before[row].requirement if row in before else 0.0))
        self._mark_trust(account.pool_rows())
        return self._dress(self.judge.all_of(account))

    def _unsound(self, alias: str) -> list[Transition]:
        """What is wrong in itself with the account's tables. They are used, as there are no others; it is said once."""
        said = []
        for subject, fault in self.book.table_faults(self.book.accounts[alias]):
            if (alias, fault) not in self._faults_told:
                self._faults_told.add((alias, fault))
                text = f"the venue's table is not sound, figures by it may be wrong: {fault}"
                said += self._happened(self.rules[alias].tier_change, alias, "", subject, text)
        return said

    def _gone(self, alias: str, but: Container[str] = ()) -> list[Transition]:
        """Ends for restored incidents of what the account no longer has, and of rules that are switched off.

        Only after a complete picture of the account. but: pools of which it says nothing.
        """
        said = []
        for key, incident in list(self._restored.items()):
            if (key.venue, key.account) == (self.name, alias) and key.pool not in but and (why := self._why_gone(key)):
                del self._restored[key]  # should it come back, it begins anew
                said.append(ended(key, incident.level, self.now_ms, why))
        return said

    def _why_gone(self, key: IncidentKey) -> str:
        """ "" while a rule judges the key."""
        if key.pool and key.pool not in self.book.accounts[key.account].pools:
            return "the pool no longer exists"
        return why_unjudged(self.rules[key.account], key.rule)

    def _happened(self, rule: OccurrenceRule, alias: str, pool: str, subject: str, text: str) -> list[Transition]:
        """A momentary transition, told once. alias "": of the whole venue."""
        return self._told_once(rule.name, rule.severity, alias, pool, subject, text) if rule.enabled else []

    def _told_once(self, rule: str, level: Level, alias: str, pool: str, subject: str, text: str) -> list[Transition]:
        row = self.book.accounts[alias].pools.get(pool, -1) if alias else -1
        key = IncidentKey(self.name, alias, pool, rule, subject)
        figures = self.figures(row) if row >= 0 else None
        return [
            Transition(
                key=key,
                level=level,
                was=Level.OK,
                at_ms=self.now_ms,
                summary=text,
                worse=Worse.NONE,
                momentary=True,
                figures=figures,
                levers=self.levers(row) if row >= 0 and rule == "venue_call" else (),
            )
        ]

    def _table_changed(self, pools: list[int], subject: str, text: str, before: Array | None) -> list[Transition]:
        after = self._health()
        said = []
        for row in pools:
            key = self.book.pool_keys[row]
            health = ""
            if before is not None and row < len(before) and not np.isnan(before[row]):
                health = f"; health {before[row]:.4g} → {after[row]:.4g}"
            said += self._happened(self.rules[key.account].tier_change, key.account, key.pool, subject, text + health)
        return said

    # -------------------------------------------------------------- time

    def _time(self) -> list[Verdict]:
        """Silence is an event: ages, and what follows from them."""
        pools, judge, every = self.book.pools, self.judge, np.arange(len(self.book.pools))
        self._cover()
        lag_ms = self.book.set_ages(self.trust.seen_ms(slice(None), self.now_ms)[pools.trust], self.now_ms)
        pools.active |= self._expected()
        held, overheld = self._held(every)
        lag_ms[overheld] = np.maximum(lag_ms, self.now_ms - pools.held_ms)[overheld]  # else one that was OK would be silent
        verdicts = judge.lagging(lag_ms, held & ~overheld)
        was_blind = pools.blind.copy()
        self._mark_trust(every)
        verdicts += judge.blinded(np.flatnonzero(pools.blind))  # an event of this second may have marked it already
        if (was_blind & ~pools.blind).any():
            verdicts += judge.ratios()
        self.explain.begin_baselines()
        for feed, age_ms in self._feed_ages().items():
            verdicts += judge.feed_age(self.venue_rules.stale, feed, age_ms)
        return verdicts + self._trust_ages()

    def _trust_ages(self) -> list[Verdict]:
        """What is not sure, and what is not verified, by what one full picture covers."""
        trust, pools, judge = self.trust, self.book.pools, self.judge
        pool = trust.rows.pool
        own = pool >= 0  # a pool's: it speaks while it holds anything
        active, held = np.ones(len(trust), np.bool_), np.zeros(len(trust), np.bool_)
        active[own], held[own] = pools.active[pool[own]], self._held(pool[own])[0] & ~trust.rows.broken[own]
        sure, now_ms = trust.sure(), self.now_ms
        unsure_ms = np.where(active, trust.unsure_for_ms(now_ms), 0)
        overdue_ms = np.where(active, trust.overdue_ms(slice(None), now_ms), 0.0)
        part_open = np.zeros(len(trust), np.bool_)  # of an account: a pool of it is not sure, or not verified
        np.logical_or.at(part_open, trust.rows.account[own], (active & (~sure | (overdue_ms > 0)))[own])
        part_open[own] = False
        overdue_ms[~sure] = 0.0  # its age says more
        lapsed = (overdue_ms > 0) & trust.lapsed(slice(None), now_ms)
        return judge.pictures(trust, unsure_ms, held, ~part_open) + judge.reconciliations(
            trust, overdue_ms, lapsed, held, ~part_open & (sure | ~active)
        )

    def _cover(self) -> None:
        """Gives each new pool its row of trust."""
        pools = self.book.pools
        for row in range(self._covered, len(pools)):
            pools.trust[row] = self._trust_row(row)
        self._covered = len(pools)

    @abstractmethod
    def _trust_row(self, pool: int) -> int:
        """For a new pool."""

    def _expected(self) -> BoolColumn:
        """By pool: of which nothing is known but that it is there."""
        trust = self.trust.rows
        row = self.book.pools.trust
        expected: BoolColumn = (trust.pool[row] >= 0) & (trust.due[row] == Due.FIRST)
        return expected

    def _feed_ages(self) -> dict[str, int]:
        """ms, by the feed's name."""
        newest_price_ms = self.market.newest_price_ms() if self.book.uses_prices() else self.now_ms
        newest_rate_ms = self.market.newest_rate_ms() if self.book.uses_rates() else self.now_ms
        return {self.price_feed: self._age(newest_price_ms), "asset index": self._age(newest_rate_ms)}

    def _age(self, seen_ms: int) -> int:
        """What was never seen ages from the start, after a grace."""
        return self.now_ms - seen_ms if seen_ms != NEVER else self.trust.never_ms(self.now_ms)

    def _mark_trust(self, rows: Rows) -> None:
        """Writes which pools may improve and which are blind, from their ages as of the last second."""
        self._cover()
        pools, trust = self.book.pools, self.trust
        account, fresh_ms, row = pools.account[rows], pools.fresh_ms[rows], pools.trust[rows]
        age = np.where(fresh_ms == NEVER, 0, self.now_ms - fresh_ms)
        verified = trust.overdue_ms(row, self.now_ms) == 0
        pools.may_improve[rows] = trust.sure(row) & verified & (age <= trust.improve_ms[account])
        _, overheld = self._held(rows)
        lapsed = trust.lapsed(row, self.now_ms)
        pools.blind[rows] = ((age >= trust.unknown_ms[account]) | lapsed | overheld) & pools.active[rows]

    def _held(self, rows: Rows) -> tuple[BoolColumn, BoolColumn]:
        """(whose alerts are held as the venue settles, of those the ones that have been for too long)."""
        held_ms = self.book.pools.held_ms[rows]
        held = held_ms != NEVER
        return held, held & (self.now_ms - held_ms >= HOLD_MAX_MS)

    # -------------------------------------------------------------- words

    def _dress(self, verdicts: list[Verdict]) -> list[Transition]:
        levels = self.judge.pool_levels() if verdicts else None
        told = {verdict.pool for verdict in verdicts if verdict.pool >= 0 and verdict.key.rule in RATIO_RULES}
        causes = {row: self.explain.causes(row) for row in sorted(told)}  # once: two rules may speak of one move
        return [self._transition(verdict, levels, causes) for verdict in verdicts]

    def _transition(self, verdict: Verdict, levels: LevelColumn | None, causes: Mapping[int, tuple[Cause, ...]]) -> Transition:
        """Adds figures, causes and levers of the pool."""
        row = verdict.pool
        worse = verdict.level > verdict.was or verdict.level is Level.UNKNOWN
        levers = self.levers(row) if row >= 0 and worse and verdict.key.rule in RATIO_RULES else ()
        return Transition(
            key=verdict.key,
            level=verdict.level,
            was=verdict.was,
            at_ms=self.now_ms,
            summary=verdict.summary + self._detail(verdict),
            worse=verdict.worse,
            value=verdict.value if np.isfinite(verdict.value) else None,
            limit=verdict.limit,
            figures=self.figures(row, levels) if row >= 0 else None,
            causes=causes.get(row, ()) if verdict.key.rule in RATIO_RULES else (),
            levers=levers,
        )

    def _detail(self, verdict: Verdict) -> str:
        """What a scheme adds to the words of a rule."""
        return ""

    def levers(self, row: int) -> tuple[Lever, ...]:
        """What to do, so that the pool is back beyond the limit `high` and its hysteresis, or beyond `warning` if it is there."""
        rule = self.rules[self.book.pool_keys[row].account].health
        health = joint.health(self.book.pools.equity[row : row + 1], self.book.pools.requirement[row : row + 1])[0]
        targets = [limit * (1 + rule.hysteresis) * BEYOND for limit in (rule.high or SAFE_HEALTH, rule.warning) if limit]
        return self.explain.levers(row, next((target for target in targets if health < target), targets[0]))

    def figures(self, row: int, levels: LevelColumn | None = None) -> PoolFigures:
        why = self.trust.why_not(int(self.book.pools.trust[row]), self.now_ms)
        level = int((self.judge.pool_levels() if levels is None else levels)[row])
        return self.explain.figures(row, now_ms=self.now_ms, level=level, trusted=not why, why_untrusted=why)

    # -------------------------------------------------------------- readers

    def dropped(self) -> dict[str, int]:
        """Rows of events that were not taken, by reason, since the start."""
        return {**self.market.dropped, "older_account_row": self.book.rows_older()}

    def missed(self) -> int:
        """Changes of accounts that their streams did not tell."""
        return sum(unheard.missed for unheard in self.unheard.values())

    def take_doubted(self) -> set[str]:
        """Accounts whose tables are to be read again, each told once."""
        doubted, self.book.tables_doubted = self.book.tables_doubted, set()
        return doubted

    def take_wanted(self) -> set[tuple[str, str]]:
        """(account, pool) whose pushes do not agree with what is known: a snapshot is wanted soon."""
        wanted, self.book.snapshots_wanted = self.book.snapshots_wanted, set()
        return wanted

    def table(self) -> PoolTable:
        book, p = self.book, self.book.pools
        # A pool that was liquidated or emptied stays in sight; an isolated one ends with its position.
        rows: Rows = np.flatnonzero(p.active | (p.ever_active & ~p.isolated) | (np.nan_to_num(p.equity) != 0))

        def known(figures: Array) -> Array:
            """What is too old is unknown: no reader may take it for a figure."""
            return np.where(p.blind[rows], np.nan, figures[rows])

        equity, requirement = known(p.equity), known(p.requirement)
        return PoolTable(
            keys=[book.pool_keys[row] for row in rows],
            units=[self.explain.unit(int(row)) for row in rows],
            equity=equity,
            requirement=requirement,
            margin_ratio=joint.margin_ratio(equity, requirement),
            health=joint.health(equity, requirement),
            guarantee_asset_ratio=known(self.guarantee_asset_ratio()),
            available=known(book.available()),
            withdrawable=known(book.withdrawable()),
            reconcile_difference=p.difference[rows],
            age_ms=np.where(p.fresh_ms[rows] == NEVER, np.nan, np.maximum(0, self.now_ms - p.fresh_ms[rows])),
            level=self.judge.pool_levels()[rows],
        )

    @abstractmethod
    def positions(self) -> PositionTable:
        """The open legs of all pools."""

    @abstractmethod
    def assets(self) -> AssetTable:
        """The collateral of all pools."""

    def too_old(self) -> list[str]:
        """Market feeds and accounts that are as old as the limit `critical` of their rule `stale`, in plain words."""
        unknown_ms = self.venue_rules.stale.unknown_ms if self.venue_rules.stale.enabled else math.inf
        feeds = [feed for feed, age_ms in self._feed_ages().items() if age_ms >= unknown_ms]
        return [f"the {feed} feed of {self.name}" for feed in feeds] + [
            f"{pool} of account {alias} of {self.name}" if pool else f"account {alias} of {self.name}"
            for alias, pool in (self.trust.names[row] for row in np.flatnonzero(self._unknown_rows()))
        ]

    def _unknown_rows(self) -> BoolColumn:
        """By row of trust: what is so old that nothing is known of it."""
        trust, pools = self.trust, self.book.pools
        old = trust.unsure_for_ms(self.now_ms) >= trust.unknown_ms[trust.rows.account]
        old |= trust.lapsed(slice(None), self.now_ms)
        own = trust.rows.pool >= 0
        old[own] &= pools.active[trust.rows.pool[own]]
        return old

    def untrusted(self) -> dict[str, str]:
        """Why an account is not trusted, by alias; "" where it is. It is only as sure as each of its pools."""
        trust, pools = self.trust, self.book.pools
        whys: dict[str, list[str]] = {alias: [] for alias in self.rules}
        for row in np.flatnonzero(~trust.sure() | (trust.overdue_ms(slice(None), self.now_ms) > 0)).tolist():
            alias, pool = trust.names[row]
            if not pool:
                whys[alias] = [trust.why_not(row, self.now_ms)]
            elif pools.active[trust.rows.pool[row]] and not any(": " not in why for why in whys[alias]):
                whys[alias].append(f"{pool}: {trust.why_not(row, self.now_ms)}")
        return {alias: "; ".join(why) for alias, why in whys.items()}

    def guarantee_asset_ratio(self) -> Array:
        """By pool; NaN where the scheme has none."""
        return np.full(len(self.book.pools), np.nan)

    def _health(self) -> Array:
        return joint.health(self.book.pools.equity, self.book.pools.requirement)


def why_unjudged(rules: RuleBook, name: str) -> str:
    """ "" for a rule that is there and on. An incident of an older version may name one that is not there."""
    rule = getattr(rules, name) if name in RuleBook.model_fields else None
    if rule is None:
        return "the rule no longer exists"
    return "" if rule.enabled else "the rule is switched off"


def ended(key: IncidentKey, was: Level, now_ms: int, why: str) -> Transition:
    """The end of an incident that no data ended."""
    return Transition(key=key, level=Level.OK, was=was, at_ms=now_ms, summary=why)
