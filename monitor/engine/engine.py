"""Folds events into figures and verdicts. Holds no clock, no await, no randomness: the same events give the same outcome."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from monitor.engine.guarantee import GuaranteeScheme
from monitor.engine.joint import JointScheme
from monitor.engine.market import NEVER, RateMemory
from monitor.engine.scheme import AccountSetup, Scheme, ended, why_unjudged
from monitor.model.alerts import Incident, IncidentKey, Lever, Transition
from monitor.model.events import AssetRate, Event, TimePassed
from monitor.model.figures import PoolFigures, PoolKey, PoolTable
from monitor.model.view import EventCounts
from monitor.model.workings import AssetTable, PositionTable
from monitor.rules import RuleBook

# How a venue's margin works. A venue with a scheme that is here needs only its line.
SCHEMES: dict[str, type[Scheme]] = {"binance_usdm": JointScheme, "htx_coin_futures": GuaranteeScheme}

_Table = TypeVar("_Table", PoolTable, PositionTable, AssetTable)


class Engine:
    """`step` is the only way in; readers take `table`, `figures`, `levers` and `rates`."""

    def __init__(
        self,
        accounts: Sequence[AccountSetup],
        rules: RuleBook | None = None,
        restored: Mapping[IncidentKey, Incident] | None = None,
    ) -> None:
        """rules: of what is no account's, such as a market stream. restored: incidents that were open when the program ended."""
        self._restored = dict(restored or {})
        self._schemes: dict[str, Scheme] = {
            venue: SCHEMES[venue](venue, [a for a in accounts if a.venue == venue], rules or RuleBook(), self._restored)
            for venue in dict.fromkeys(account.venue for account in accounts)
        }
        self.now_ms = NEVER

    def step(self, event: Event, now_ms: int) -> list[Transition]:
        """Folds one event; now_ms never goes back. Returns what the rules have to say about it."""
        self.now_ms = max(now_ms, self.now_ms)
        for scheme in self._schemes.values():
            scheme.set_now(self.now_ms)
        if isinstance(event, TimePassed):
            return [transition for scheme in self._schemes.values() for transition in scheme.time_passed()]
        owner = self._schemes.get(event.venue)
        return owner.fold(event) if owner is not None else []

    def abandoned(self, now_ms: int) -> list[Transition]:
        """Ends for restored incidents of accounts and venues that are no longer watched. Once, at the start."""
        return [
            ended(key, incident.level, now_ms, why)
            for key, incident in self._restored.items()
            if (why := self._why_abandoned(key))
        ]

    def _why_abandoned(self, key: IncidentKey) -> str:
        """ "" while somebody judges the key, or will tell its end. A key without a venue is the monitor's own."""
        scheme = self._schemes.get(key.venue)
        if key.account:
            return "" if scheme is not None and key.account in scheme.rules else "the account is no longer watched"
        if key.venue and scheme is None:
            return "no account of the venue is watched any more"
        return why_unjudged(scheme.venue_rules, key.rule) if scheme is not None else ""

    # -------------------------------------------------------------- readers

    def table(self) -> PoolTable:
        """All pools that hold anything, as columns."""
        return _joined(PoolTable, [scheme.table() for scheme in self._schemes.values()])

    def positions(self) -> PositionTable:
        """All open legs, as columns."""
        return _joined(PositionTable, [scheme.positions() for scheme in self._schemes.values()])

    def assets(self) -> AssetTable:
        """All collateral, as columns."""
        return _joined(AssetTable, [scheme.assets() for scheme in self._schemes.values()])

    def figures(self, key: PoolKey) -> PoolFigures | None:
        """One pool with its workings; None if there is none."""
        found = self._row(key)
        return found[0].figures(found[1]) if found else None

    def levers(self, key: PoolKey) -> tuple[Lever, ...]:
        """What to do now, with the amount; nothing for a pool that is safe or not there."""
        found = self._row(key)
        return found[0].levers(found[1]) if found else ()

    def health_limits(self, key: PoolKey) -> dict[str, float]:
        """The ladder of the pool's account, limit by the word of its level, mildest first; empty where it is not judged."""
        scheme = self._schemes.get(key.venue)
        rules = scheme.rules.get(key.account) if scheme else None
        return {level.word: limit for level, limit in rules.health.ladder} if rules and rules.health.enabled else {}

    def rates(self) -> dict[str, list[AssetRate]]:
        """The last collateral rates by venue."""
        return {name: list(scheme.market.last_rates.values()) for name, scheme in self._schemes.items()}

    def rate_memories(self) -> dict[str, RateMemory]:
        """Where the collateral rates were in the last hour, by venue, for a run after this one."""
        return {name: scheme.market.rate_memory() for name, scheme in self._schemes.items()}

    def recall_rates(self, venue: str, memory: RateMemory, now_ms: int) -> None:
        """Before the first step."""
        if (scheme := self._schemes.get(venue)) is not None:
            scheme.market.recall_rates(memory, now_ms)

    def trusted(self) -> dict[tuple[str, str], str]:
        """Why an account is not trusted, by (venue, alias); "" where it is."""
        return {(name, alias): why for name, scheme in self._schemes.items() for alias, why in scheme.untrusted().items()}

    def too_old(self) -> list[str]:
        """Market feeds, accounts and coins whose data are so old that nothing is known, in plain words."""
        return [what for scheme in self._schemes.values() for what in scheme.too_old()]

    def clock_offsets_ms(self) -> dict[str, int]:
        """Venue − ours, by venue, where they were compared."""
        offsets = {name: scheme.clock_offset_ms for name, scheme in self._schemes.items()}
        return {name: offset_ms for name, offset_ms in offsets.items() if offset_ms is not None}

    def event_counts(self) -> EventCounts:
        return EventCounts(
            dropped={(name, why): n for name, scheme in self._schemes.items() for why, n in scheme.dropped().items()},
            missed={name: scheme.missed() for name, scheme in self._schemes.items()},
        )

    def take_doubted_tables(self) -> list[tuple[str, str]]:
        """(venue, account) whose own figures say that our tables of margin are out of date. Each mismatch is told once."""
        return [
            (name, alias)
            for name, scheme in self._schemes.items()
            if scheme.book.tables_doubted
            for alias in scheme.take_doubted()
        ]

    def take_wanted_snapshots(self) -> list[tuple[str, str, str]]:
        """(venue, account, pool) of which a full picture is wanted soon. Each want is given out once."""
        return [
            (name, *wanted)
            for name, scheme in self._schemes.items()
            if scheme.book.snapshots_wanted
            for wanted in sorted(scheme.take_wanted())
        ]

    def _row(self, key: PoolKey) -> tuple[Scheme, int] | None:
        scheme = self._schemes.get(key.venue)
        account = scheme.book.accounts.get(key.account) if scheme else None
        row = account.pools.get(key.pool) if account else None
        return None if scheme is None or row is None else (scheme, row)


def _joined(table: type[_Table], parts: Sequence[_Table]) -> _Table:
    """The rows of all parts, column by column."""
    whole: dict[str, Any] = {
        name: [item for part in parts for item in getattr(part, name)]
        if name in ("keys", "units")
        else np.concatenate([getattr(part, name) for part in parts])
        for name in table.__struct_fields__
    }
    return table(**whole)
