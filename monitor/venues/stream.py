"""One supervised stream: pump, watch for silence, back off, and replace a connection before it ends.

Venue-neutral: an adapter gives a `Session` (one connection's life) and is told when no session delivers any more.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from monitor.venues.dial import StreamEnded, StreamLimits
from monitor.venues.together import together

_STEP_BACK_MS = 60_000
_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013})


class Backoff:
    """Exponential with full jitter between both bounds, without limit of tries."""

    def __init__(self, min_s: float, max_s: float) -> None:
        self._min_s = min_s
        self._max_s = max_s
        self._failures = 0

    def next_s(self) -> float:
        self._failures += 1
        ceiling = min(self._max_s, self._min_s * 2.0 ** min(self._failures, 30))
        return random.uniform(min(self._min_s, ceiling), ceiling)

    def reset(self) -> None:
        self._failures = 0


def _closed(exc: ConnectionClosed) -> StreamEnded:
    frame = exc.rcvd or exc.sent
    code = 1006 if frame is None else int(frame.code)
    label = str(code) if code in _CLOSE_CODES else "other"
    return StreamEnded(f"close_{label}", f"the connection closed with code {code}")


class Watch:
    """How long a stream may bring nothing new. A wrong route accepts us and stays silent, so the clock starts with the dial."""

    def __init__(self, name: str, *, first_s: float, fault_s: float, end_s: float, on_fault: Callable[[float], None]) -> None:
        self._name = name  # with its route: a silent route is a configuration error as often as an outage
        self._first_s = first_s
        self._fault_s = fault_s
        self._end_s = end_s
        self._on_fault = on_fault
        self._last = asyncio.get_running_loop().time()
        self._had_data = False
        self._told = False

    def beat(self, now: float) -> None:
        self._last = now
        self._had_data = True
        self._told = False

    def deadline(self) -> float:
        if not self._had_data:
            return self._last + self._first_s
        return self._last + (self._end_s if self._told else self._fault_s)

    def expired(self, now: float) -> None:
        """At the first deadline tell, at the second end. Raises StreamEnded."""
        silent_s = now - self._last
        if not self._had_data:
            raise StreamEnded("no_first_frame", f"connected to {self._name}, but nothing came for {silent_s:.1f} s")
        if silent_s >= self._end_s:
            raise StreamEnded("silent", f"nothing new on {self._name} for {silent_s:.1f} s")
        self._told = True
        self._on_fault(silent_s)


class EventTime:
    """Does the venue's event time move on? A feed that repeats itself while its socket lives is dead."""

    def __init__(self, newest_ms: int = 0) -> None:
        self.newest_ms = newest_ms

    def moved(self, event_time_ms: int) -> bool:
        """A step back by minutes means that the venue's clock was set, or once ran ahead: followed, and the next step counts."""
        if event_time_ms < self.newest_ms - _STEP_BACK_MS:
            self.newest_ms = event_time_ms
            return False
        moved = event_time_ms > self.newest_ms
        self.newest_ms = max(self.newest_ms, event_time_ms)
        return moved


class Lateness:
    """By how much later than the quickest of the last 10 to 20 minutes a connection's frames come.

    What piled up in buffers is old, though its event time goes on. Neither clock need be right: only their difference must stay.
    """

    _BUCKET_S = 600.0

    def __init__(self) -> None:
        self._least_ms = self._least_before_ms = float("inf")
        self._bucket_ends = float("-inf")

    def of_ms(self, event_time_ms: int, now: float) -> int:
        """Whole ms, ≥ 0. event_time_ms: the venue's clock; now: seconds of the event loop's."""
        gap_ms = 1000 * now - event_time_ms
        if gap_ms < min(self._least_ms, self._least_before_ms) - _STEP_BACK_MS < float("inf"):
            return 0  # a time far ahead: one hostile row must not make all others look late
        if now >= self._bucket_ends:
            self._least_before_ms, self._least_ms = self._least_ms, gap_ms
            self._bucket_ends = now + self._BUCKET_S
        self._least_ms = min(self._least_ms, gap_ms)
        return round(gap_ms - min(self._least_ms, self._least_before_ms))


async def pump(connection: ClientConnection, receive: Callable[[bytes], bool], watch: Watch | None = None) -> NoReturn:
    """Hand every frame to `receive`, in order, until the connection ends (StreamEnded). True: it was new data."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            async with asyncio.timeout_at(watch.deadline() if watch else None):
                frame = await connection.recv(decode=False)  # text as bytes: no copy through str
        except ConnectionClosed as exc:
            raise _closed(exc) from None
        except TimeoutError:
            fresh = False
        else:
            fresh = receive(frame)
        if watch is None:
            continue
        now = loop.time()
        if fresh:
            watch.beat(now)
        elif now >= watch.deadline():
            watch.expired(now)


async def until_ended(*parts: Coroutine[Any, Any, object]) -> NoReturn:
    """Runs the parts of one connection until one of them ends it: raises its StreamEnded."""
    await together(*parts)
    raise StreamEnded("ended", "the connection ended")


class Session:
    """One connection, from the dial to its end."""

    def __init__(self) -> None:
        self.ready_at: float | None = None  # loop time of the moment it could carry the stream alone
        self.replace_wanted = False  # alive, but a fresh one should take over
        self.changed: Callable[[], None] = lambda: None  # set by the supervisor

    def set_ready(self) -> None:
        if self.ready_at is None:
            self.ready_at = asyncio.get_running_loop().time()
            self.changed()

    def want_replacement(self) -> None:
        self.replace_wanted = True
        self.changed()

    async def run(self) -> None:
        """Until the connection's end: raises StreamEnded."""
        raise NotImplementedError


class _Live(Struct, eq=False):
    session: Session
    task: asyncio.Task[StreamEnded]

    def ended(self) -> StreamEnded | None:
        if not self.task.done():
            return None
        if self.task.cancelled():  # not by us, or nobody would ask: the stream must come back all the same
            return StreamEnded("ended", "the connection's task was cancelled")
        return self.task.result()


class Supervisor:
    """Keeps one stream alive for ever: one connection, and a second only while it takes over (make before break)."""

    def __init__(
        self,
        open_session: Callable[[], Session],
        went_down: Callable[[StreamEnded], None],  # no session delivers: a gap begins
        rotated: Callable[[], None],  # handed over without a gap
        limits: StreamLimits,
        log: Logger,
    ) -> None:
        self._open_session = open_session
        self._went_down = went_down
        self._rotated = rotated
        self._limits = limits
        self._log = log
        self._backoff = Backoff(limits.backoff_min_s, limits.backoff_max_s)
        self._changed = asyncio.Event()

    async def run(self) -> NoReturn:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            current = self._start(group)
            spare: _Live | None = None
            rotate_at = self._rotation()
            while True:
                if spare is not None and (ended := spare.ended()):
                    spare = None
                    rotate_at = loop.time() + self._pause_s(ended)
                    self._log.warning("stream_rotation_failed", reason=ended.reason, detail=ended.detail)
                if ended := current.ended():
                    self._settle(current)
                    if spare is not None:  # it was on its way already
                        current, spare = spare, None
                        if current.session.ready_at is None:
                            self._lost(ended)
                        else:
                            self._rotated()
                    else:
                        self._lost(ended)
                        await asyncio.sleep(self._pause_s(ended))
                        current = self._start(group)
                    rotate_at = self._rotation()
                elif spare is not None and spare.session.ready_at is not None:
                    await asyncio.sleep(self._limits.overlap_s)  # both deliver: what is on its way on the old one still counts
                    if spare.task.done():
                        continue
                    current.task.cancel()
                    self._settle(current)
                    current, spare = spare, None
                    rotate_at = self._rotation()
                    self._rotated()
                elif spare is None and (loop.time() >= rotate_at or current.session.replace_wanted):
                    current.session.replace_wanted = False
                    spare = self._start(group)
                else:
                    await self._wait(rotate_at if spare is None else None)

    def _start(self, group: asyncio.TaskGroup) -> _Live:
        session = self._open_session()
        session.changed = self._changed.set
        task = group.create_task(_life(session))
        task.add_done_callback(lambda _: self._changed.set())
        return _Live(session, task)

    async def _wait(self, until: float | None) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def _lost(self, ended: StreamEnded) -> None:
        self._log.warning("stream_down", reason=ended.reason, detail=ended.detail)
        self._went_down(ended)

    def _pause_s(self, ended: StreamEnded) -> float:
        return max(ended.retry_after_s, self._backoff.next_s())

    def _settle(self, live: _Live) -> None:
        """Only a connection that delivered for a while was a success; one that opens and drops keeps the back-off growing."""
        ready_at = live.session.ready_at
        if ready_at is not None and asyncio.get_running_loop().time() - ready_at >= self._limits.settle_s:
            self._backoff.reset()

    def _rotation(self) -> float:
        limits = self._limits
        return asyncio.get_running_loop().time() + limits.rotate_after_s - random.uniform(0, limits.rotate_jitter_s)


async def _life(session: Session) -> StreamEnded:
    try:
        await session.run()
    except StreamEnded as ended:
        return ended
    return StreamEnded("ended", "the connection ended")
