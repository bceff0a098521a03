"""What the running monitor shows to its readers: metrics, pages, terminal. Implements `model.view.View`."""

from bisect import bisect_left
from collections.abc import Sequence

from monitor.alerts.desk import AlertDesk
from monitor.clock import Clock
from monitor.deadman import DeadMan, Reason
from monitor.engine.engine import Engine
from monitor.heartbeat import HeartbeatStatus
from monitor.model.alerts import ChannelStatus, Incident, Lever
from monitor.model.events import AssetRate
from monitor.model.figures import PoolFigures, PoolKey, PoolTable
from monitor.model.streams import Counters, StreamStatus
from monitor.model.view import EventCounts, SelfCheck, TickTimes
from monitor.model.workings import AssetTable, PositionTable
from monitor.readiness import gaps
from monitor.venues import Venue

TICK_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Readout:
    """Answers from the parts as they are now; keeps nothing but the times of ticks and reloads."""

    def __init__(self, engine: Engine, venues: Sequence[Venue], desk: AlertDesk, clock: Clock, dead_man: DeadMan) -> None:
        self._engine, self._venues, self._desk, self._clock, self._dead_man = engine, venues, desk, clock, dead_man
        self._ticks = TickTimes(bounds=TICK_BOUNDS_S, counts=[0] * (len(TICK_BOUNDS_S) + 1))
        self.heartbeat = HeartbeatStatus()
        self.reload_good, self.reload_ms = True, clock.now_ms()

    def took(self, seconds: float) -> None:
        """One price frame was folded."""
        self._ticks.counts[bisect_left(TICK_BOUNDS_S, seconds)] += 1
        self._ticks.total += seconds

    def pools(self) -> PoolTable:
        return self._engine.table()

    def pool(self, key: PoolKey) -> PoolFigures | None:
        return self._engine.figures(key)

    def positions(self) -> PositionTable:
        return self._engine.positions()

    def assets(self) -> AssetTable:
        return self._engine.assets()

    def levers(self, key: PoolKey) -> Sequence[Lever]:
        return self._engine.levers(key)

    def health_limits(self, key: PoolKey) -> dict[str, float]:
        return self._engine.health_limits(key)

    def rates(self) -> dict[str, list[AssetRate]]:
        return self._engine.rates()

    def streams(self) -> Sequence[StreamStatus]:
        return [stream for venue in self._venues for stream in venue.streams]

    def counters(self) -> dict[str, Counters]:
        return {venue.name: venue.counters for venue in self._venues}

    def incidents(self) -> Sequence[Incident]:
        return self._desk.incidents()

    def channels(self) -> Sequence[ChannelStatus]:
        return self._desk.channels()

    def alerts_total(self) -> dict[tuple[str, str], int]:
        return self._desk.alerts_total()

    def ticks(self) -> TickTimes:
        return self._ticks

    def missing(self) -> list[str]:
        """What keeps it from being ready, in plain words."""
        return [gap.text for gap in gaps(self._venues, self._engine)]

    def self_check(self) -> SelfCheck:
        unwell = self._dead_man.unwell()
        return SelfCheck(
            withheld={reason: reason in unwell for reason in Reason},
            heartbeat_ms=self.heartbeat.last_success_ms,
            heartbeats=self.heartbeat.results,
            loop_lag_s=self._dead_man.probe.worst_lag_s,
            clock_offsets_ms=self._engine.clock_offsets_ms(),
            silences=len(self._desk.silences()),
            store_durable=self._desk.durable(),
        )

    def event_counts(self) -> EventCounts:
        return self._engine.event_counts()

    def config_reloaded(self) -> tuple[bool, int]:
        return self.reload_good, self.reload_ms

    def now_ms(self) -> int:
        return self._clock.now_ms()
