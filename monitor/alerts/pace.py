"""How fast a receiver may be told: its published limits, kept by all channels together that they count for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from monitor.alerts.channels.base import RateLimit


class Pace:
    """One limit. Its window is counted from the end of an attempt: what we got an answer to has certainly arrived by then."""

    def __init__(self, limit: RateLimit, clock_s: Callable[[], float]) -> None:
        self._limit = limit
        self._clock_s = clock_s
        self._under_way = 0
        self._ended_s: deque[float] = deque(maxlen=limit.count)

    @property
    def wait_s(self) -> float:
        """Seconds until one more may go; look again then, what is under way now may not have ended yet."""
        free = self._limit.count - self._under_way
        if free <= 0:
            return self._limit.per_s
        if len(self._ended_s) < free:
            return 0.0
        return max(0.0, self._ended_s[-free] + self._limit.per_s - self._clock_s())

    @contextmanager
    def attempt(self) -> Iterator[None]:
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            self._ended_s.append(self._clock_s())


class Paces:
    """All limits of all channels: those of the same scope are one. clock_s: monotonic."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._shared: dict[RateLimit, Pace] = {}

    def of(self, limits: Sequence[RateLimit]) -> PaceSet:
        """What one channel must keep to."""
        paces = []
        for limit in limits:
            pace = Pace(limit, self._clock_s)
            paces.append(self._shared.setdefault(limit, pace) if limit.scope else pace)
        return PaceSet(paces)


class PaceSet:
    """Several limits that all hold."""

    def __init__(self, paces: Sequence[Pace]) -> None:
        self._paces = paces

    @property
    def wait_s(self) -> float:
        return max((pace.wait_s for pace in self._paces), default=0.0)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        with ExitStack() as stack:
            for pace in self._paces:
                stack.enter_context(pace.attempt())
            yield
