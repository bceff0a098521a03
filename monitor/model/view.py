"""What readers (metrics, pages, terminal) may ask of the running monitor."""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from msgspec import Struct

from monitor.model.alerts import ChannelStatus, Incident, IncidentKey, Lever, Silence
from monitor.model.events import AssetRate
from monitor.model.figures import PoolFigures, PoolKey, PoolTable
from monitor.model.streams import Counters, StreamStatus
from monitor.model.workings import AssetTable, PositionTable


class TickTimes(Struct, kw_only=True):
    """Seconds that Engine.step took for price frames: counts[i] ticks took more than bounds[i − 1] and at most bounds[i].

    There is one count more than bounds, of those that took longer than all.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0


class SelfCheck(Struct, frozen=True, kw_only=True):
    """How the monitor itself is."""

    withheld: dict[str, bool]  # every reason against a heartbeat, and whether it holds now
    heartbeat_ms: int | None  # of the last one that arrived
    heartbeats: dict[str, int]  # by result: "sent", "timeout", "http_500", …
    loop_lag_s: float  # worst of the last seconds
    clock_offsets_ms: dict[str, int]  # venue − ours, by venue
    silences: int = 0  # in force
    store_durable: bool | None = None  # whether the state is safe on disk; None: it is kept in memory by the owner's will


class EventCounts(Struct, frozen=True, kw_only=True):
    """What became of the venues' events, since the start."""

    dropped: dict[
        tuple[str, str], int
    ]  # rows, by (venue, reason): "older_price", "older_account_row", "unknown_symbol", "unknown_asset", …
    missed: dict[str, int]  # by venue: changes of accounts that only REST told


class View(Protocol):
    """Read-only and cheap: each call is made from the event loop, between two ticks."""

    def pools(self) -> PoolTable: ...

    def pool(self, key: PoolKey) -> PoolFigures | None:
        """One pool with its workings; None if there is no such pool."""

    def positions(self) -> PositionTable:
        """All open legs, with their liquidation prices: 40 ms for 10,000 of them, so not at each tick."""

    def assets(self) -> AssetTable: ...

    def levers(self, key: PoolKey) -> Sequence[Lever]:
        """What to do now, with the amount; nothing for a pool that is safe or not there."""

    def health_limits(self, key: PoolKey) -> dict[str, float]:
        """The ladder of the pool's rule on health: limit by level word, mildest first."""

    def rates(self) -> dict[str, list[AssetRate]]:
        """Collateral rates by venue."""

    def streams(self) -> Sequence[StreamStatus]: ...

    def counters(self) -> dict[str, Counters]:
        """By venue."""

    def incidents(self) -> Sequence[Incident]:
        """Open ones, worst first."""

    def channels(self) -> Sequence[ChannelStatus]: ...

    def alerts_total(self) -> dict[tuple[str, str], int]:
        """Crossings since start by (rule, level word)."""

    def ticks(self) -> TickTimes: ...

    def missing(self) -> list[str]:
        """What is not there yet for readiness, in plain words; empty: ready."""

    def config_reloaded(self) -> tuple[bool, int]:
        """(the last load of the configuration was good, when, epoch ms)."""

    def self_check(self) -> SelfCheck: ...

    def event_counts(self) -> EventCounts: ...

    def now_ms(self) -> int: ...


class Desk(Protocol):
    """What a person may do about alerts. Each call returns when its outcome is in the store, as far as the disk lets it.

    author, note: become one harmless line each; ValueError, with the reason as its text, if nothing is left of the author.
    """

    def acknowledge(self, incident_id: str, *, author: str, note: str, minutes: float) -> Awaitable[Incident | None]:
        """The open incident, acknowledged; in the place of an earlier acknowledgement. None: there is no such open incident."""

    def unacknowledge(self, incident_id: str) -> Awaitable[Incident | None]:
        """The open incident without its acknowledgement. None: there is no such one, or it has none."""

    def silences(self) -> Sequence[Silence]:
        """Those in force, the next to end first."""

    def silence(self, match: IncidentKey, *, author: str, note: str, minutes: float) -> Awaitable[Silence]:
        """A new silence; an empty part of `match` matches everything. ValueError if all of it is empty."""

    def unsilence(self, silence_id: str) -> Awaitable[bool]:
        """Ends a silence now; what it held back is told within a second. False: there is no such one."""
