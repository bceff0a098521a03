"""The venue's request limits: so many calls in a window, per user and per address, and the pauses that it orders."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from monitor.venues.base import Fault, VenueError
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.signing import Scope

_ABSOLUTE_MS_MIN = 10**11  # `ratelimit-reset` above it is a moment, below it a duration; both have been seen


class Budget:
    """Our own count of calls per scope (and per account, for account calls), corrected by the venue's headers."""

    def __init__(self, settings: HtxSettings, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._interval_s = settings.limit_interval_s
        self._pause_max_s = settings.limit_pause_max_s
        self._limits = {
            Scope.PRIVATE: settings.private_calls,
            Scope.PUBLIC: settings.public_calls,
            Scope.MARKET: settings.market_calls,
            Scope.SPOT: settings.public_calls,
        }
        self._calls: dict[tuple[Scope, str], deque[float]] = {}
        self._paused_until_ms: dict[tuple[Scope, str], int] = {}
        self._shut_out_until_ms = {True: 0, False: 0}  # by whether it is the spot host

    async def admit(self, scope: Scope, who: str) -> None:
        """Returns when a call may be made, and counts it. Raises VenueError at once during an ordered pause.

        who: the account of a private call, else "".
        """
        calls = self._calls.setdefault((scope, who), deque())
        loop = asyncio.get_running_loop()
        while True:
            now_ms, until_ms = self._now_ms(), self._paused_until_ms.get((scope, who), 0)
            shut_out_until_ms = self._shut_out_until_ms[scope is Scope.SPOT]
            if now_ms < max(until_ms, shut_out_until_ms):
                reason = Fault.FIREWALL if now_ms < shut_out_until_ms else Fault.RATE_LIMIT
                until_ms = max(until_ms, shut_out_until_ms)
                raise VenueError(
                    reason,
                    f"the venue ordered a pause of another {(until_ms - now_ms) / 1000:.1f} s",
                    retryable=True,
                    retry_at_ms=until_ms,
                )
            now = loop.time()
            while calls and calls[0] <= now - self._interval_s:
                calls.popleft()
            if len(calls) < self._limits[scope]:
                calls.append(now)
                return
            await asyncio.sleep(calls[0] + self._interval_s - now)

    def observe(self, scope: Scope, who: str, headers: Mapping[str, str], offset_ms: int) -> None:
        """`ratelimit-*` of an answer: nothing remains, so nothing is asked until the reset. offset_ms: venue − our clock."""
        if headers.get("ratelimit-remaining") == "0":
            self.pause(scope, who, headers, offset_ms)

    def shut_out(self, scope: Scope, until_ms: int) -> bool:
        """The host's firewall refuses this address: no call to it before `until_ms`. True: that is news."""
        spot = scope is Scope.SPOT
        news = self._now_ms() >= self._shut_out_until_ms[spot]
        self._shut_out_until_ms[spot] = max(until_ms, self._shut_out_until_ms[spot])
        return news

    @property
    def shut_out_until_ms(self) -> int:
        """The end of what the firewall of the futures' host ordered, even if it is over; 0: nothing."""
        return self._shut_out_until_ms[False]

    def pause(self, scope: Scope, who: str, headers: Mapping[str, str], offset_ms: int) -> int:
        """Until the reset that the headers name, else for one window. Returns its end, our clock, ms."""
        now_ms = self._now_ms()
        reset = _whole(headers.get("ratelimit-reset"))
        if reset is None:
            wait_ms = _whole(headers.get("ratelimit-interval")) or round(1000 * self._interval_s)
        else:
            wait_ms = reset - offset_ms - now_ms if reset >= _ABSOLUTE_MS_MIN else reset
        until_ms = now_ms + min(max(wait_ms, 0), round(1000 * self._pause_max_s))
        self._paused_until_ms[scope, who] = max(until_ms, self._paused_until_ms.get((scope, who), 0))
        return until_ms


def _whole(header: str | None) -> int | None:
    return int(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 16 else None
