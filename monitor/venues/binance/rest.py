"""Calls to the venue over HTTP: signed, within the weight, with errors that say what to do next.

No URL, query or header ever reaches a log or an exception: they hold keys and signatures.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from email.utils import parsedate_to_datetime
from typing import TypeVar

import aiohttp
import msgspec
import stamina
from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger
from yarl import URL

from monitor.model.streams import Counters, count
from monitor.venues.base import AccountAccess, Fault, VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.budget import Budget, Priority
from monitor.venues.binance.numbers import UNREADABLE
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.signing import SERVER_TIME, Endpoint, Parameters, Security, check_allowed, query_of, signed_query
from monitor.venues.clock import VenueClock

T = TypeVar("T")

_TRANSIENT = frozenset({Fault.UNAVAILABLE, Fault.TIMEOUT, Fault.NETWORK})
_UNAVAILABLE_CODES = frozenset({-1000, -1001, -1006, -1007, -1008, -1016})
_AUTH_CODES = frozenset({-1022, -2014, -2015})
_COUNTED_CODES = _UNAVAILABLE_CODES | _AUTH_CODES | {-1003, -1021, -1102, -1121, -1125}
_BANNED_UNTIL = re.compile(r"banned until (\d{13})")
_LIKE_A_KEY = re.compile(r"[A-Za-z0-9]{32,}")


class _ErrorBody(Struct):
    code: int = 0
    msg: str = ""


class RestClient:
    """The venue's REST interface for all accounts. One HTTP session, opened and closed by its owner."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        settings: BinanceSettings,
        budget: Budget,
        clock: VenueClock,
        counters: Counters,
        now_ms: Callable[[], int],
        log: Logger,
    ) -> None:
        self._http = http
        self._settings = settings
        self._budget = budget
        self._clock = clock
        self._counters = counters
        self._now_ms = now_ms
        self._log = log

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
            return await self._send(endpoint, parameters, access)

        try:
            return await self._persist(once)
        except VenueError as exc:
            if exc.reason is not Fault.CLOCK:
                raise
        await self.sync_clock()
        return await self._persist(once)

    async def sync_clock(self) -> None:
        """Compare with the venue's clock. Raises VenueError."""

        async def once() -> None:
            await self._budget.admit(SERVER_TIME.weight, Priority.SNAPSHOT)
            asked_ms = self._now_ms()
            body = await self._send(SERVER_TIME, (), None)
            self._clock.set(reference.server_time_ms(body), asked_ms, self._now_ms())

        await self._persist(once)
        if abs(self._clock.offset_ms) > self._settings.clock_skew_warn_ms:
            self._log.warning("clock_skew", offset_ms=self._clock.offset_ms)

    async def _persist(self, once: Callable[[], Awaitable[T]]) -> T:
        settings = self._settings
        async for attempt in stamina.retry_context(
            on=lambda exc: isinstance(exc, VenueError) and exc.reason in _TRANSIENT and exc.retryable,
            attempts=settings.tries,
            timeout=None,
            wait_initial=settings.retry_min_s,
            wait_max=settings.retry_max_s,
            wait_jitter=settings.retry_min_s,
        ):
            with attempt:
                return await once()
        raise AssertionError("the last attempt returns or raises")

    async def _send(self, endpoint: Endpoint, parameters: Parameters, access: AccountAccess | None) -> bytes:
        try:
            body = await self._exchange(endpoint, parameters, access)
        except VenueError as exc:
            count(self._counters.rest, str(exc.code) if exc.code in _COUNTED_CODES else exc.reason)
            raise
        count(self._counters.rest, "ok")
        return body

    async def _exchange(self, endpoint: Endpoint, parameters: Parameters, access: AccountAccess | None) -> bytes:
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
        base = settings.spot if endpoint.spot_host else settings.rest
        url = URL(f"{base}{endpoint.path}?{query}" if query else f"{base}{endpoint.path}", encoded=True)  # as it was signed
        try:
            async with self._http.request(endpoint.method, url, headers=headers, allow_redirects=False) as response:
                if not endpoint.spot_host:
                    self._budget.observe(response.headers.get("X-MBX-USED-WEIGHT-1M"))
                body = await _read_capped(response, settings.answer_bytes_max)
                if response.status != 200:
                    raise self._refusal(response.status, response.headers.get("Retry-After"), body)
        except TimeoutError:
            raise VenueError(Fault.TIMEOUT, f"{endpoint.path}: no answer in time", retryable=True) from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
            raise VenueError(Fault.TLS, f"{endpoint.path}: TLS failed: {type(exc).__name__}", retryable=True) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise VenueError(Fault.NETWORK, f"{endpoint.path}: {type(exc).__name__}", retryable=True) from None
        if body.lstrip()[:1] not in (b"{", b"["):
            raise VenueError(Fault.UNAVAILABLE, f"{endpoint.path}: the answer is not JSON", retryable=True)
        return body

    def _refusal(self, status: int, retry_after: str | None, body: bytes) -> VenueError:  # noqa: PLR0911  the venue's own table
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
            until_ms = max(self._now_ms() + round(1000 * _seconds(retry_after, default_s, self._now_ms())), named_ms)
            self._budget.block(reason, until_ms)
            self._log.warning("venue_ordered_pause", reason=reason, until_ms=until_ms, status=status)
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


async def _read_capped(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The unpacked body; one that is larger than the cap is not read to its end."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > bytes_max:
            response.close()
            raise VenueError(Fault.BAD_ANSWER, f"the answer is larger than {bytes_max} bytes", retryable=False)
        parts.append(part)
    return b"".join(parts)


def _seconds(retry_after: str | None, default_s: float, now_ms: int) -> float:
    """`Retry-After`: seconds, or a date."""
    if retry_after is None:
        return default_s
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 8:
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now_ms / 1000)
    except ValueError:
        return default_s


async def together(*calls: Coroutine[None, None, bytes]) -> list[bytes]:
    """All answers, or the first VenueError with the other calls ended.

    Neither a TaskGroup nor `gather`: both can lose a cancellation that comes in the moment of an error; the daemon would run on.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        failed = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failed:
        raise failed[0]
    return [task.result() for task in tasks]
