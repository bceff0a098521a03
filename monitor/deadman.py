"""Is the watchman awake? What the heartbeat and the service manager's watchdog are fed on, and the probe of the event loop.

A monitor that has died says nothing, and so does one that lives but sees or tells nothing. Whoever waits for a sign of life
outside must miss it in both cases: it is given only while data come in, the loop turns, and what is to be told gets out.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NoReturn, Protocol

from monitor.model.alerts import ChannelStatus
from monitor.model.streams import StreamStatus

PROBE_S = 0.5
LAG_KEPT_S = 15.0  # the usual scrape interval: no hiccup falls between two scrapes
LAG_S_MAX = 2.0
TICK_S_MAX = 5.0
WAIT_S_MAX = 45.0  # so that the last sign of life is not a minute younger than the trouble
STALL_S_MAX = 300.0
STORE_CHECK_S = 20.0
NAMED_MAX = 3  # of ten thousand streams that are down, so many are named


class Reason(StrEnum):
    """Why no sign of life is given; doubles as a metric label."""

    STREAM_DOWN = "stream_down"
    DATA_TOO_OLD = "data_too_old"
    LOOP_SLOW = "loop_slow"
    OUTBOX_STUCK = "outbox_stuck"
    CHANNELS_BROKEN = "channels_broken"
    STORE_AT_RISK = "store_at_risk"


class LoopProbe:
    """How late the event loop wakes a sleeper, in seconds. clock_s: monotonic."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._due_s: float | None = None
        self._lags_s: deque[float] = deque([0.0], maxlen=round(LAG_KEPT_S / PROBE_S))

    @property
    def lag_s(self) -> float:
        """Of the last wake-up, or of the one that is overdue."""
        overdue_s = 0.0 if self._due_s is None else self._clock_s() - self._due_s
        return max(self._lags_s[-1], overdue_s)

    @property
    def worst_lag_s(self) -> float:
        """The worst of the last 15 seconds or more."""
        return max(*self._lags_s, self.lag_s)

    async def run(self) -> NoReturn:
        while True:
            self._due_s = self._clock_s() + PROBE_S
            await asyncio.sleep(PROBE_S)
            self._lags_s.append(max(0.0, self._clock_s() - self._due_s))


class Source(Protocol):
    """What the dead man asks of a venue."""

    @property
    def streams(self) -> Sequence[StreamStatus]: ...


class Data(Protocol):
    """What the dead man asks of the engine."""

    def too_old(self) -> list[str]: ...


class Desk(Protocol):
    """What the dead man asks of the alert desk."""

    def channels(self) -> Sequence[ChannelStatus]: ...

    def waits_s(self) -> float:
        """How long the oldest message waits that its channel could take."""

    def stalled_s(self) -> float:
        """How long a message is due that its sender does not try to send."""


class Keeper(Protocol):
    """What the dead man asks of the store."""

    @property
    def problem(self) -> str: ...

    async def check(self) -> None:
        """Writes, though there is nothing to write: then `problem` is what the disk says now."""


class DeadMan:
    """Judges the parts as they are now. The app calls `ticked` at the end of each of its ticks."""

    def __init__(
        self,
        venues: Sequence[Source],
        data: Data,
        desk: Desk,
        store: Keeper,
        probe: LoopProbe,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.probe = probe
        self._venues = venues
        self._data = data
        self._desk = desk
        self._store = store
        self._clock_s = clock_s
        self._ticked_s = clock_s()

    def ticked(self) -> None:
        """The app did all that it does each second."""
        self._ticked_s = self._clock_s()

    async def check_store(self) -> NoReturn:
        """Until cancelled. In a calm night nobody writes: the crossing that matters would be what finds the disk full."""
        while True:
            await asyncio.sleep(STORE_CHECK_S)
            await self._store.check()

    def unwell(self) -> dict[Reason, str]:
        """Why no heartbeat may be sent, each in plain words; empty: all is well."""
        down = [
            f"{stream.venue} {stream.account or 'all accounts'} {stream.stream}"
            for venue in self._venues
            for stream in venue.streams
            if not stream.up
        ]
        channels = self._desk.channels()
        return _true(
            {
                Reason.STREAM_DOWN: _named(down),
                Reason.DATA_TOO_OLD: _named(self._data.too_old()),
                Reason.LOOP_SLOW: self._loop(),
                Reason.OUTBOX_STUCK: _too_long("a message waits for", self._desk.waits_s(), WAIT_S_MAX),
                Reason.CHANNELS_BROKEN: "no channel takes messages" if channels and all(c.broken for c in channels) else "",
                Reason.STORE_AT_RISK: self._store.problem,  # a store in memory is the owner's will, no problem
            }
        )

    def hangs(self) -> dict[Reason, str]:
        """Why a restart would help; empty: it would not.

        Neither a venue that is out, nor a full disk, nor a receiver that refuses us gets well by our restart: it would be
        repeated until the service manager gives us up. So the outbox counts only where its sender does not even try.
        """
        stalled = _too_long("a message is due and not tried for", self._desk.stalled_s(), STALL_S_MAX)
        return _true({Reason.LOOP_SLOW: self._loop(), Reason.OUTBOX_STUCK: stalled})

    def _loop(self) -> str:
        return _too_long("the last tick was done before", self._clock_s() - self._ticked_s, TICK_S_MAX) or _too_long(
            "the event loop lags by", self.probe.lag_s, LAG_S_MAX
        )


def _true(reasons: dict[Reason, str]) -> dict[Reason, str]:
    return {reason: text for reason, text in reasons.items() if text}


def _too_long(what: str, seconds: float, seconds_max: float) -> str:
    return f"{what} {seconds:.0f} s" if seconds >= seconds_max else ""


def _named(things: Sequence[str]) -> str:
    more = f" and {len(things) - NAMED_MAX} more" if len(things) > NAMED_MAX else ""
    return ", ".join(things[:NAMED_MAX]) + more
