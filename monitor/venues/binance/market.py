"""The market streams: one connection for all accounts, and REST in its place while it brings nothing new."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from monitor.model.events import AssetRates, Prices, StreamDown, StreamUp
from monitor.model.streams import StreamStatus, count
from monitor.venues.base import VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.budget import Priority
from monitor.venues.binance.shared import Shared
from monitor.venues.binance.signing import ASSET_INDEX, PREMIUM_INDEX
from monitor.venues.binance.wire import VENUE, MarketWire, newest_ms
from monitor.venues.dial import StreamEnded
from monitor.venues.stream import EventTime, Lateness, Session, Supervisor, Watch, pump

_LATE_MS = 1000  # less is the way of the network


class MarketStream:
    """Mark prices, asset rates and contract notices. Up while mark prices advance; each 1 s stream has its own status."""

    def __init__(self, shared: Shared, mark: StreamStatus, index: StreamStatus, contracts_changed: Callable[[], None]) -> None:
        settings = self._settings = shared.settings
        self._shared = shared
        self._emit = shared.emit
        self._now_ms = shared.now_ms
        self._log = shared.log.bind(stream="market")
        self._mark = mark
        self._index = index
        self._contracts_changed = contracts_changed
        self._wire = MarketWire(shared.counters)
        self._last_mark = 0.0  # loop times of the last new data, on whichever connection
        self._last_index = 0.0
        self._newest_mark_ms = 0  # event times that any connection brought
        self._newest_index_ms = 0
        self._late_ms = 0  # of the last frame
        self._told_reason = ""  # of the StreamDown that was last emitted
        self._name = f"{settings.market_route or '/'} ({settings.mark_price_stream})"

    async def run(self) -> NoReturn:
        supervisor = Supervisor(
            self._open_session,
            self._went_down,
            lambda: self._count_reconnect("rotation"),
            self._settings.stream_limits(),
            self._log,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            group.create_task(self._take_over())
        raise AssertionError("both tasks run for ever")

    # -------------------------------------------------------------- one connection

    def _open_session(self) -> Session:
        return _MarketSession(self, self._newest_mark_ms, self._newest_index_ms)

    async def carry(self, session: "_MarketSession") -> NoReturn:
        """One connection, from the dial to its end: raises StreamEnded."""
        settings = self._settings
        async with self._shared.dial.open(settings.market_url(), for_all=True) as connection:
            session.opened_at = asyncio.get_running_loop().time()
            await pump(connection, lambda frame: self._receive(frame, session), self._watch())

    def _receive(self, frame: bytes, session: "_MarketSession") -> bool:
        """True: the mark prices of this connection advanced. Repeated event time is no data, whatever else the frame holds."""
        now = asyncio.get_running_loop().time()
        result = self._wire.receive(frame)
        fresh = False
        for event in result.events:
            if isinstance(event, Prices):
                newest = newest_ms(event.rows)
                late_ms = self._late_ms = session.lateness.of_ms(newest, now)
                if late_ms >= _LATE_MS:  # what piled up is still judged, but never as if it were of now
                    event = Prices(event.venue, event.kind, event.rows, late_ms)
                fresh = session.mark_time.moved(newest) and late_ms < 1000 * self._settings.fault_s
                if fresh:
                    self._newest_mark_ms = session.mark_time.newest_ms
                    self._last_mark = now
                    self._mark_up()
                    session.set_ready()
            elif isinstance(event, AssetRates) and session.index_time.moved(newest_ms(event.rows)):
                self._newest_index_ms = session.index_time.newest_ms
                self._last_index = now
                self._index.set_up(self._now_ms())
            self._emit(event)
        if result.contracts_changed:
            self._contracts_changed()
        self._check_index(now, session)
        return fresh

    def _mark_up(self) -> None:
        was_up = self._mark.up
        self._mark.set_up(self._now_ms())
        if not was_up:
            self._told_reason = ""
            self._log.info("stream_up")
            self._emit(StreamUp(VENUE, "", "market"))

    def _check_index(self, now: float, session: "_MarketSession") -> None:
        """Asset rates may die alone. A second connection is tried then, while this one goes on with the mark prices."""
        silent_s = now - max(self._last_index, session.opened_at)
        if silent_s < self._settings.fault_s:
            return
        if self._index.up:
            self._index.set_down(f"no new {self._settings.asset_index_stream} for {silent_s:.0f} s")
            self._log.warning("stream_silent", stream=self._index.stream, age_ms=round(1000 * silent_s))
        if silent_s >= self._settings.index_replace_s and not session.replaced:
            session.replaced = True
            count(self._index.reconnects, "silent")
            session.want_replacement()

    # -------------------------------------------------------------- silence

    def _watch(self) -> Watch:
        settings = self._settings
        return Watch(
            self._name,
            first_s=settings.first_frame_s,
            fault_s=settings.fault_s,
            end_s=settings.silence_s,
            on_fault=self._on_fault,
        )

    def _on_fault(self, silent_s: float) -> None:
        """Half way to the reconnect: REST takes over now."""
        fault_s = self._settings.fault_s
        if asyncio.get_running_loop().time() - self._last_mark < fault_s:  # another connection delivers
            return
        if self._late_ms >= 1000 * fault_s:
            self._set_all_down("late", f"what comes on {self._name} is {self._late_ms / 1000:.1f} s late")
        else:
            self._set_all_down("silent", f"nothing new on {self._name} for {silent_s:.1f} s")

    def _went_down(self, ended: StreamEnded) -> None:
        self._count_reconnect(ended.reason)
        self._set_all_down(ended.reason, ended.detail)

    def _count_reconnect(self, reason: str) -> None:
        """One connection carries both streams."""
        for status in (self._mark, self._index):
            count(status.reconnects, reason)

    def _set_all_down(self, reason: str, detail: str) -> None:
        was_up = self._mark.up
        for status in (self._mark, self._index):
            status.set_down(detail)
        if was_up or reason != self._told_reason:
            self._told_reason = reason
            self._log.warning("stream_lost", reason=reason, detail=detail)
            self._emit(StreamDown(VENUE, "", "market", detail))

    # -------------------------------------------------------------- REST in its place

    async def _take_over(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.takeover_s)
            wait_s = 0.0
            for status, endpoint, reading in (
                (self._mark, PREMIUM_INDEX, reference.mark_prices),
                (self._index, ASSET_INDEX, reference.asset_rates),
            ):
                if status.up:
                    continue
                try:  # each by itself: the failure of one must not take the other away
                    body = await self._shared.rest.call(endpoint, priority=Priority.TAKEOVER)
                    event = reading(body, self._shared.counters)
                    if event.rows:
                        self._emit(event)
                except VenueError as exc:
                    self._log.warning("takeover_failed", stream=status.stream, reason=exc.reason, detail=exc.detail)
                    wait_s = max(wait_s, exc.wait_s(self._now_ms()))
            await asyncio.sleep(wait_s)


class _MarketSession(Session):
    """One connection. Its event times are its own: a frozen connection must not look alive for another's sake."""

    def __init__(self, owner: MarketStream, mark_ms: int, index_ms: int) -> None:
        super().__init__()
        self._owner = owner
        self.mark_time = EventTime(mark_ms)  # known before: what a new connection repeats is no data either
        self.index_time = EventTime(index_ms)
        self.lateness = Lateness()
        self.opened_at = 0.0
        self.replaced = False

    async def run(self) -> None:
        await self._owner.carry(self)
