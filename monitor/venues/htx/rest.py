"""Calls to the venue over HTTP: signed, within its limits, with errors that say what to do next.

No URL, query or header ever reaches a log or an exception: they hold keys and signatures.
"""

from collections.abc import Callable, Mapping

import aiohttp
import msgspec
import orjson
from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.streams import Counters
from monitor.venues.base import AccountAccess, Fault, VenueError, utc
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
from monitor.venues.rest import Rest, signed_url

_CLOCK_CODE = 12001
_AUTH_CODES = frozenset({403, *range(12001, 12010)})
_BUSY_CODES = frozenset({1000, 1001, 1002, 1003, 1004, 1108, 1431})
_RATE_LIMIT_CODE = 1032
SETTLEMENT_CODES = frozenset({1056, 1059, 1077, 1078, 1079, 1080})
UNKNOWN_CODES = frozenset({1013, 1014, 1332})  # coin or contract: the list of contracts has changed


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


class RestClient(Rest):
    """The venue's REST interface for all accounts."""

    counted_codes = _AUTH_CODES | _BUSY_CODES | SETTLEMENT_CODES | UNKNOWN_CODES | {_RATE_LIMIT_CODE}

    def __init__(
        self,
        http: aiohttp.ClientSession,
        settings: HtxSettings,
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
        self._told_until_ms: dict[tuple[Scope, str], int] = {}  # of ordered pauses

    async def call(self, endpoint: Endpoint, parameters: Parameters = (), *, access: AccountAccess | None = None) -> bytes:
        """The body of a good answer. Raises VenueError; transient faults were tried again before.

        parameters: of the query (GET) or of the JSON body (POST).
        """
        check_allowed(endpoint)
        who = access.alias if access is not None and endpoint.scope is Scope.PRIVATE else ""  # "": this address's limit

        async def once() -> bytes:
            await self._budget.admit(endpoint.scope, who)
            return await self._counted(self._send(endpoint, parameters, access, who))

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

    def identify(self, access: AccountAccess, uid: str) -> None:
        """The venue says whose the account's key is: keys of one user share their limits."""
        self._budget.identify(access.alias, uid)

    async def _admit_clock(self) -> None:
        await self._budget.admit(TIMESTAMP.scope, "")

    async def _server_time_ms(self) -> int:
        return reference.server_time_ms(await self._counted(self._send(TIMESTAMP, (), None, "")))

    async def _send(self, endpoint: Endpoint, parameters: Parameters, access: AccountAccess | None, who: str) -> bytes:
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
        headers = {} if content is None else {"Content-Type": "application/json"}
        url = signed_url(base, endpoint.path, query)
        reply = await self._exchange(endpoint.method, url, what=endpoint.path, headers=headers, content=content)
        self._budget.observe(endpoint.scope, who, reply.headers, self._clock.offset_ms)
        return self._judged(endpoint, who, reply.status, reply.headers, reply.body)

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
            until_ms = self._now_ms() + round(1000 * self._settings.firewall_s)
            if self._budget.shut_out(endpoint.scope, until_ms):  # calls that were under way together meet it together
                self._log.warning("venue_ordered_pause", reason=Fault.FIREWALL, until_ms=until_ms, status=status)
                said = f"the venue's firewall refuses this address; REST pauses until {utc(until_ms)}, the streams go on"
                self._degraded(Fault.FIREWALL, said)
            return VenueError(Fault.FIREWALL, text, retryable=True, retry_at_ms=until_ms)
        return VenueError(Fault.UNAVAILABLE, text, retryable=True)

    def _limited(self, endpoint: Endpoint, who: str, headers: Mapping[str, str], text: str, code: int | None) -> VenueError:
        until_ms = self._budget.pause(endpoint.scope, who, headers, self._clock.offset_ms)
        if self._now_ms() >= self._told_until_ms.get((endpoint.scope, who), 0):  # calls under way together meet it together
            self._told_until_ms[endpoint.scope, who] = until_ms
            self._log.warning("venue_ordered_pause", reason=Fault.RATE_LIMIT, until_ms=until_ms, scope=endpoint.scope)
        return VenueError(Fault.RATE_LIMIT, text, retryable=True, code=code, retry_at_ms=until_ms)

    def _rejected(self, text: str, code: int | None) -> VenueError:
        retry_at_ms = self._now_ms() + round(1000 * self._settings.auth_retry_s)
        return VenueError(Fault.AUTH, text, retryable=False, code=code, retry_at_ms=retry_at_ms)
