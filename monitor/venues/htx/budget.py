"""The venue's request limits: so many calls in a window, per user and per address, and the pauses that it orders."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

from monitor.venues.base import Fault, VenueError
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.signing import Scope

_ABSOLUTE_MS_MIN = 10**11  # `ratelimit-reset` above it is a moment, below it a duration; both have been seen


class Budget:
    """Our own count of calls per scope (and per user, for account calls), corrected by the venue's headers."""

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
        self._left: dict[tuple[Scope, str], tuple[int, int]] = {}  # calls, by the venue's word, until when (our clock, ms)
        self._users: dict[str, str] = {}  # the venue's name of the user of an account, where it is known
        self._shut_out_until_ms = {True: 0, False: 0}  # by whether it is the spot host

    async def admit(self, scope: Scope, who: str) -> None:
        """Returns when a call may be made, and counts it. Raises VenueError at once during an ordered pause.

        who: the account of a private call, else "".
        """
        loop = asyncio.get_running_loop()
        while True:
            key = (scope, self.user(who))  # it may become known while we wait
            calls = self._calls.setdefault(key, deque())
            now_ms, until_ms = self._now_ms(), self._paused_until_ms.get(key, 0)
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
            left, left_until_ms = self._left.get(key, (1, 0))
            if now_ms < left_until_ms and left <= 0:
                await asyncio.sleep((left_until_ms - now_ms) / 1000)
            elif len(calls) < self._limits[scope]:
                calls.append(now)
                self._left[key] = (left - 1, left_until_ms)
                return
            else:
                await asyncio.sleep(calls[0] + self._interval_s - now)

    def user(self, account: str) -> str:
        """Whose limits an account's calls count against: accounts with keys of one user share them."""
        return self._users.get(account, account)

    def identify(self, account: str, uid: str) -> None:
        """The venue says whose the account's key is."""
        user = f"uid {uid}"
        if self.user(account) == user:
            return
        for scope in Scope:
            was, now = (scope, self.user(account)), (scope, user)
            self._calls[now] = deque(sorted([*self._calls.pop(was, ()), *self._calls.get(now, ())]))
            self._paused_until_ms[now] = max(self._paused_until_ms.pop(was, 0), self._paused_until_ms.get(now, 0))
        self._users[account] = user

    def observe(self, scope: Scope, who: str, headers: Mapping[str, str], offset_ms: int) -> None:
        """`ratelimit-*` of an answer. Whoever else calls in this user's name, no more is asked until the reset than remains.

        offset_ms: venue − our clock.
        """
        remaining = _whole(headers.get("ratelimit-remaining"))
        if remaining is None:
            return
        if remaining == 0:
            self.pause(scope, who, headers, offset_ms)
            return
        key, until_ms = (scope, self.user(who)), self._reset_ms(headers, offset_ms)
        left, known_until_ms = self._left.get(key, (remaining, 0))
        same = self._now_ms() < known_until_ms  # of this window: calls under way are in what we counted, not in the answer
        self._left[key] = (min(left, remaining) if same else remaining, until_ms)

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
        until_ms, key = self._reset_ms(headers, offset_ms), (scope, self.user(who))
        self._paused_until_ms[key] = max(until_ms, self._paused_until_ms.get(key, 0))
        return until_ms

    def _reset_ms(self, headers: Mapping[str, str], offset_ms: int) -> int:
        now_ms = self._now_ms()
        reset = _whole(headers.get("ratelimit-reset"))
        if reset is None:
            wait_ms = _whole(headers.get("ratelimit-interval")) or round(1000 * self._interval_s)
        else:
            wait_ms = reset - offset_ms - now_ms if reset >= _ABSOLUTE_MS_MIN else reset
        return now_ms + min(max(wait_ms, 0), round(1000 * self._pause_max_s))


def _whole(header: str | None) -> int | None:
    return int(header) if header is not None and header.isascii() and header.isdigit() and len(header) < 16 else None
