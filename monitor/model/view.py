"""What readers (metrics, pages, terminal) may ask of the running monitor."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from monitor.model.alerts import ChannelStatus, Incident
from monitor.model.events import AssetRate
from monitor.model.figures import PoolFigures, PoolKey, PoolTable
from monitor.model.streams import Counters, StreamStatus


class TickTimes(Struct, kw_only=True):
    """Seconds that Engine.step took for price frames: counts[i] ticks took more than bounds[i − 1] and at most bounds[i].

    There is one count more than bounds, of those that took longer than all.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0


class View(Protocol):
    """Read-only and cheap: each call is made from the event loop, between two ticks."""

    def pools(self) -> PoolTable: ...

    def pool(self, key: PoolKey) -> PoolFigures | None:
        """One pool with its workings; None if there is no such pool."""

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

    def now_ms(self) -> int: ...
