"""Calls to the venue over HTTP: signed, within the weight, with errors that say what to do next.

No URL, query or header ever reaches a log or an exception: they hold keys and signatures.
"""

import re
from collections.abc import Callable, Mapping

import aiohttp
import msgspec
from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.retry_after import retry_after_s
from monitor.model.streams import Counters
from monitor.venues.base import AccountAccess, Fault, VenueError, utc
from monitor.venues.binance import reference
from monitor.venues.binance.budget import LONGEST_BAN_S, Budget, Priority
from monitor.venues.binance.numbers import UNREADABLE, ErrorCode
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.signing import SERVER_TIME, Endpoint, Parameters, Security, check_allowed, query_of, signed_query
from monitor.venues.clock import VenueClock
from monitor.venues.rest import Rest, signed_url

_UNAVAILABLE_CODES = frozenset({-1000, -1001, -1006, -1007, -1008, -1016})
_AUTH_CODES = frozenset({-1022, -2014, -2015})
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
_SHUT_OUT = {
    Fault.BANNED: "the venue has put a ban on this address",
    Fault.FIREWALL: "the venue's firewall refuses this address; REST pauses",
}
_LIKE_A_KEY = re.compile(r"[A-Za-z0-9]{32,}")


class _ErrorBody(Struct):
    code: ErrorCode = 0
    msg: str = ""


class RestClient(Rest):
    """The venue's REST interface for all accounts."""

    counted_codes = _UNAVAILABLE_CODES | _AUTH_CODES | {-1003, -1021, -1102, -1121, -1125}

    def __init__(
        self,
        http: aiohttp.ClientSession,
        settings: BinanceSettings,
        budget: Budget,
        clock: VenueClock,
        counters: Counters,
        now_ms: Callable[[], int],
        log: Logger,
        degraded: Callable[[str, str], None] = lambda _kind, _text: None,
    ) -> None:
        """degraded: told when the venue shuts this address out, with a fixed word for it and a line for people."""
        super().__init__(http, settings, clock, counters, now_ms, log)
        self._settings = settings
        self._budget = budget
        self._degraded = degraded

    async def call(
        self,
        endpoint: Endpoint,
        parameters: Parameters = (),
        *,
        access: AccountAccess | None = None,
        priority: Priority = Priority.SNAPSHOT,
    ) -> bytes:
        """The answer's body, JSON by its first byte. Raises VenueError; transient faults were tried again before."""
        check_allowed(endpoint)

        async def once() -> bytes:
            await self._budget.admit(endpoint.weight, priority)
            return await self._counted(self._send(endpoint, parameters, access))

        try:
            return await self._persist(once)
        except VenueError as exc:
            if exc.reason is not Fault.CLOCK:
                raise
        await self.sync_clock()
        return await self._persist(once)

    async def _admit_clock(self) -> None:
        await self._budget.admit(SERVER_TIME.weight, Priority.SNAPSHOT)

    async def _server_time_ms(self) -> int:
        return reference.server_time_ms(await self._counted(self._send(SERVER_TIME, (), None)))

    async def _send(self, endpoint: Endpoint, parameters: Parameters, access: AccountAccess | None) -> bytes:
        settings = self._settings
        headers: dict[str, str] = {}
        query = query_of(parameters)
        if endpoint.security is not Security.NONE:
            if access is None:
                raise TypeError(f"{endpoint.path} needs an account")
            headers["X-MBX-APIKEY"] = access.api_key.reveal()
        if endpoint.security is Security.SIGNED and access is not None:
            query = signed_query(
                endpoint,
                parameters,
                access.api_secret,
                timestamp_ms=self._clock.now_ms(),
                recv_window_ms=settings.recv_window_ms,
            )
        url = signed_url(settings.spot if endpoint.spot_host else settings.rest, endpoint.path, query)
        reply = await self._exchange(endpoint.method, url, what=endpoint.path, headers=headers)
        if not endpoint.spot_host:
            self._budget.observe(reply.headers.get("X-MBX-USED-WEIGHT-1M"))
        if reply.status != 200:
            raise self._refusal(reply.status, reply.headers, reply.body)
        body = reply.body
        if body.lstrip()[:1] not in (b"{", b"["):
            raise VenueError(Fault.UNAVAILABLE, f"{endpoint.path}: the answer is not JSON", retryable=True)
        return body

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> VenueError:  # noqa: PLR0911  the venue's own table
        """What HTTP status and error code ask for; see the venue's general information."""
        try:
            error = msgspec.json.decode(body, type=_ErrorBody)
        except UNREADABLE:
            error = _ErrorBody()  # a page of a firewall or of maintenance
        code = error.code or None
        said = _LIKE_A_KEY.sub("***", error.msg)[:200]
        text = f"HTTP {status}" + (f", code {code}: {said}" if code else "")
        settings = self._settings

        def paused(reason: Fault, default_s: float, named_ms: int = 0) -> VenueError:
            """named_ms: an end in the message, our clock. Both are capped: nothing that is sent here stops REST for ever."""
            longest_s = LONGEST_BAN_S if reason is Fault.BANNED else settings.limit_pause_max_s
            asked_s = retry_after_s(headers.get("Retry-After"), self._clock.now_ms(), longest_s=longest_s)
            now_ms = self._now_ms()
            wait_ms = round(1000 * (default_s if asked_s is None else asked_s))
            until_ms = max(now_ms + wait_ms, min(named_ms, now_ms + round(1000 * longest_s)))
            if self._budget.block(reason, until_ms):  # calls that were under way together meet it together
                self._log.warning("venue_ordered_pause", reason=reason, until_ms=until_ms, status=status)
                if reason in _SHUT_OUT:
                    self._degraded(reason, f"{_SHUT_OUT[reason]} until {utc(until_ms)}; no request before, the streams go on")
            return VenueError(reason, text, retryable=True, code=code, retry_at_ms=until_ms)

        if status == 418:
            named = _BANNED_UNTIL.search(error.msg)
            until_ms = int(named[1]) - self._clock.offset_ms if named else 0
            return paused(Fault.BANNED, 0.0 if until_ms > self._now_ms() else settings.ban_default_s, until_ms)
        if status == 429 or code == -1003:
            return paused(Fault.RATE_LIMIT, settings.limit_default_s)
        if code in _AUTH_CODES or status == 401:
            retry_at_ms = self._now_ms() + round(1000 * settings.auth_retry_s)
            return VenueError(Fault.AUTH, text, retryable=False, code=code, retry_at_ms=retry_at_ms)
        if code == -1021:
            return VenueError(Fault.CLOCK, text, retryable=True, code=code)
        if status == 403:
            return paused(Fault.FIREWALL, settings.firewall_s)
        if status >= 500 or status == 408 or code in _UNAVAILABLE_CODES:
            return VenueError(Fault.UNAVAILABLE, text, retryable=True, code=code)
        return VenueError(Fault.REFUSED, text, retryable=False, code=code)
