"""Calls to the venue over HTTP: signed, within its limits, with errors that say what to do next.

No URL, query or header ever reaches a log or an exception: they hold keys and signatures.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import aiohttp
import msgspec
import orjson
import stamina
from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger
from yarl import URL

from monitor.model.streams import Counters, count
from monitor.venues.base import AccountAccess, Fault, VenueError
from monitor.venues.clock import VenueClock
from monitor.venues.htx import reference
from monitor.venues.htx.budget import Budget
from monitor.venues.htx.numbers import UNREADABLE
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.signing import (
    TIMESTAMP,
    Endpoint,
    Parameters,
    Scope,
    check_allowed,
    masked,
    query_of,
    signed_host,
    signed_query,
)

T = TypeVar("T")

_TRANSIENT = frozenset({Fault.UNAVAILABLE, Fault.TIMEOUT, Fault.NETWORK})
_CLOCK_CODE = 12001
_AUTH_CODES = frozenset({403, *range(12001, 12010)})
_BUSY_CODES = frozenset({1000, 1001, 1002, 1003, 1004, 1108, 1431})
_RATE_LIMIT_CODE = 1032
SETTLEMENT_CODES = frozenset({1056, 1059, 1077, 1078, 1079, 1080})
UNKNOWN_CODES = frozenset({1013, 1014, 1332})  # coin or contract: the list of contracts has changed
_COUNTED_CODES = _AUTH_CODES | _BUSY_CODES | SETTLEMENT_CODES | UNKNOWN_CODES | {_RATE_LIMIT_CODE}


class _Envelope(
    Struct,
    rename={"code_hyphen": "err-code", "text_hyphen": "err-msg", "code_underscore": "err_code", "text_underscore": "err_msg"},
):
    """All the ways in which this venue wraps an answer: v1, v3 and spot."""

    status: str = ""
    code: int | str | None = None
    message: str | None = None
    msg: str | None = None
    code_underscore: int | str | None = None
    text_underscore: str | None = None
    code_hyphen: int | str | None = None
    text_hyphen: str | None = None

    def good(self) -> bool:
        return self.status == "ok" or (not self.status and self.code in (200, "200"))

    def error_code(self) -> int | str | None:
        """A number (futures) or a word (spot host)."""
        code = next((c for c in (self.code_underscore, self.code_hyphen, self.code) if c is not None), None)
        return int(code) if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10 else code

    def error_text(self) -> str:
        return self.text_underscore or self.text_hyphen or self.message or self.msg or ""


_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def in_settlement(error: VenueError) -> bool:
    """The coin settles or delivers: ask again when it is over."""
    return error.code in SETTLEMENT_CODES


class RestClient:
    """The venue's REST interface for all accounts. One HTTP session, opened and closed by its owner."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        settings: HtxSettings,
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

    async def call(self, endpoint: Endpoint, parameters: Parameters = (), *, access: AccountAccess | None = None) -> bytes:
        """The body of a good answer. Raises VenueError; transient faults were tried again before.

        parameters: of the query (GET) or of the JSON body (POST).
        """
        check_allowed(endpoint)

        async def once() -> bytes:
            return await self._send(endpoint, parameters, access)

        try:
            return await self._persist(once)
        except VenueError as exc:
            if exc.reason is not Fault.CLOCK:
                raise
        await self.sync_clock()
        try:
            return await self._persist(once)
        except VenueError as exc:
            if exc.reason is not Fault.CLOCK:
                raise
            raise self._rejected(exc.detail, exc.code) from None  # the venue's word for more than a wrong time

    async def sync_clock(self) -> None:
        """Compare with the venue's clock. Raises VenueError."""

        async def once() -> None:
            asked_ms = self._now_ms()
            body = await self._send(TIMESTAMP, (), None)
            self._clock.set(reference.server_time_ms(body), asked_ms, self._now_ms())

        await self._persist(once)
        if abs(self._clock.offset_ms) > self._settings.clock_skew_warn_ms:
            self._log.warning("clock_skew", offset_ms=self._clock.offset_ms)

    async def _persist(self, once: Callable[[], Awaitable[T]]) -> T:
        settings = self._settings
        async for attempt in stamina.retry_context(
            on=lambda exc: isinstance(exc, VenueError) and exc.reason in _TRANSIENT and exc.retry_at_ms is None,
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
        who = access.alias if access is not None and endpoint.scope is Scope.PRIVATE else ""
        await self._budget.admit(endpoint.scope, who)
        try:
            body = await self._exchange(endpoint, parameters, access, who)
        except VenueError as exc:
            count(self._counters.rest, str(exc.code) if exc.code in _COUNTED_CODES else exc.reason)
            raise
        count(self._counters.rest, "ok")
        return body

    async def _exchange(self, endpoint: Endpoint, parameters: Parameters, access: AccountAccess | None, who: str) -> bytes:
        settings = self._settings
        base = settings.spot if endpoint.scope is Scope.SPOT else settings.rest
        content = orjson.dumps(dict(parameters)) if endpoint.method == "POST" else None
        in_query: Parameters = () if endpoint.method == "POST" else parameters
        query = query_of(in_query)
        if endpoint.signed:
            if access is None:
                raise TypeError(f"{endpoint.path} needs an account")
            query = signed_query(
                endpoint,
                in_query,
                host=signed_host(base),
                api_key=access.api_key,
                api_secret=access.api_secret,
                at_ms=self._clock.now_ms(),
            )
        url = URL(f"{base}{endpoint.path}?{query}" if query else f"{base}{endpoint.path}", encoded=True)  # as it was signed
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            async with self._http.request(endpoint.method, url, data=content, headers=headers, allow_redirects=False) as response:
                self._budget.observe(endpoint.scope, who, response.headers, self._clock.offset_ms)
                body = await _read_capped(response, settings.answer_bytes_max)
                return self._judged(endpoint, who, response.status, response.headers, body)
        except TimeoutError:
            raise VenueError(Fault.TIMEOUT, f"{endpoint.path}: no answer in time", retryable=True) from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
            raise VenueError(Fault.TLS, f"{endpoint.path}: TLS failed: {type(exc).__name__}", retryable=True) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise VenueError(Fault.NETWORK, f"{endpoint.path}: {type(exc).__name__}", retryable=True) from None

    def _judged(self, endpoint: Endpoint, who: str, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
        """The body if it is a good answer; else raises VenueError. The content type says nothing: the venue sends text/plain."""
        try:
            envelope = _decode_envelope(body)
        except UNREADABLE:
            raise self._without_envelope(endpoint, who, status, headers) from None
        if status == 200 and envelope.good():
            return body
        settings = self._settings
        if envelope.status == "maintain":
            pause_ms = self._now_ms() + round(1000 * settings.unavailable_pause_s)
            raise VenueError(Fault.UNAVAILABLE, "the venue is under maintenance", retryable=True, retry_at_ms=pause_ms)
        code = envelope.error_code()
        if code is None:
            raise self._without_envelope(endpoint, who, status, headers)
        number = code if isinstance(code, int) else None
        text = f"{endpoint.path}: HTTP {status}, code {masked(str(code))}"
        if said := masked(envelope.error_text()):
            text += f": {said}"
        if code == _RATE_LIMIT_CODE or status == 429:
            raise self._limited(endpoint, who, headers, text, number)
        if code == _CLOCK_CODE:
            raise VenueError(Fault.CLOCK, text, retryable=True, code=number)
        if code in _AUTH_CODES or status == 401 or (isinstance(code, str) and code.startswith(("api-signature", "login"))):
            raise self._rejected(text, number)
        if code in _BUSY_CODES or status >= 500:
            raise VenueError(Fault.UNAVAILABLE, text, retryable=True, code=number)
        raise VenueError(Fault.REFUSED, text, retryable=number in SETTLEMENT_CODES, code=number)

    def _without_envelope(self, endpoint: Endpoint, who: str, status: int, headers: Mapping[str, str]) -> VenueError:
        """A page of a firewall or of maintenance, or something that is no answer of this venue."""
        text = f"{endpoint.path}: HTTP {status} without an answer of the venue's form"
        if status == 429:
            return self._limited(endpoint, who, headers, text, None)
        if status == 401:
            return self._rejected(text, None)
        if status == 403:
            retry_at_ms = self._now_ms() + round(1000 * self._settings.firewall_s)
            return VenueError(Fault.FIREWALL, text, retryable=True, retry_at_ms=retry_at_ms)
        return VenueError(Fault.UNAVAILABLE, text, retryable=True)

    def _limited(self, endpoint: Endpoint, who: str, headers: Mapping[str, str], text: str, code: int | None) -> VenueError:
        until_ms = self._budget.pause(endpoint.scope, who, headers, self._clock.offset_ms)
        self._log.warning("venue_ordered_pause", reason=Fault.RATE_LIMIT, until_ms=until_ms, scope=endpoint.scope)
        return VenueError(Fault.RATE_LIMIT, text, retryable=True, code=code, retry_at_ms=until_ms)

    def _rejected(self, text: str, code: int | None) -> VenueError:
        retry_at_ms = self._now_ms() + round(1000 * self._settings.auth_retry_s)
        return VenueError(Fault.AUTH, text, retryable=False, code=code, retry_at_ms=retry_at_ms)


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
