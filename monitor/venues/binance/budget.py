"""The request weight that all calls from this address share, and the pauses that the venue orders."""

import asyncio
from collections.abc import Callable
from enum import IntEnum

from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError

LONGEST_BAN_S = 3 * 86_400.0  # the venue's longest; an end beyond it is a wrong number, or noted by a wrong clock
_MINUTE_MS = 60_000
_LONGEST_MS = round(1000 * LONGEST_BAN_S)
_SAME_PAUSE_MS = 2_000  # answers to calls that were under way together name the same end a little differently


class Priority(IntEnum):
    """Who goes on when the weight runs short: the figures of the accounts first."""

    SNAPSHOT = 0  # snapshots, listen keys, the clock
    TAKEOVER = 1  # prices while their stream is out
    RELOAD = 2  # reference data


class Budget:
    """Weight used in the running minute: our own count, or the venue's where that is higher (others may share the address)."""

    def __init__(self, now_ms: Callable[[], int], counters: Counters, *, limit: int, shares: dict[Priority, float]) -> None:
        self._now_ms = now_ms
        self._counters = counters
        self._shares = shares
        self.limit = limit
        self._minute = 0
        self._used = 0
        self._blocked_until_ms = 0
        self._blocked_by = Fault.RATE_LIMIT

    def used(self) -> int:
        minute = self._now_ms() // _MINUTE_MS
        if minute != self._minute:
            self._minute, self._used = minute, 0
        return self._used

    def observe(self, header: str | None) -> None:
        """The venue's own count, from `X-MBX-USED-WEIGHT-1M`."""
        if header is not None and header.isascii() and header.isdigit() and len(header) < 10:
            self._used = max(self.used(), int(header))
        self._counters.weight_used = self.used()

    def block(self, reason: Fault, until_ms: int) -> bool:
        """No call at all before `until_ms`, but for 3 days at most: who goes on after a 429 is banned. True: that is news."""
        now_ms = self._now_ms()
        until_ms = min(until_ms, now_ms + _LONGEST_MS)
        again = now_ms < self._blocked_until_ms and reason is self._blocked_by
        news = until_ms > self._blocked_until_ms + (_SAME_PAUSE_MS if again else 0)
        if until_ms > self._blocked_until_ms:
            self._blocked_until_ms, self._blocked_by = until_ms, reason
        return news

    @property
    def banned_until_ms(self) -> int:
        """The end of a ban, even if it is over; 0: none, or what is ordered is only a pause for the weight."""
        return 0 if self._blocked_by is Fault.RATE_LIMIT else self._blocked_until_ms

    async def admit(self, weight: int, priority: Priority) -> None:
        """Returns when a call of this weight may be made, and charges it. Raises VenueError at once during an ordered pause."""
        while True:
            now_ms = self._now_ms()
            self._blocked_until_ms = min(self._blocked_until_ms, now_ms + _LONGEST_MS)  # our clock may have been set back
            if now_ms < self._blocked_until_ms:
                raise VenueError(
                    self._blocked_by,
                    f"the venue ordered a pause of another {(self._blocked_until_ms - now_ms) / 1000:.0f} s",
                    retryable=True,
                    retry_at_ms=self._blocked_until_ms,
                )
            used = self.used()
            if used == 0 or used + weight <= self._shares[priority] * self.limit:
                self._used += weight
                self._counters.weight_used = self._used
                return
            # To the next minute; the lower priorities a little later, so that the higher ones find it fresh.
            await asyncio.sleep((_MINUTE_MS - now_ms % _MINUTE_MS) / 1000 + 0.05 + 0.5 * priority)
