"""What the REST clients of all venues share: one exchange with bounds, tries after transient faults, the venue's clock.

No URL, query or header ever reaches a log or an exception: they hold keys and signatures.
"""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar

import aiohttp
import stamina
from msgspec import Struct
from structlog.typing import FilteringBoundLogger as Logger
from yarl import URL

from monitor.model.streams import Counters, count
from monitor.venues.base import Fault, VenueError
from monitor.venues.clock import VenueClock

T = TypeVar("T")

_TRANSIENT = frozenset({Fault.UNAVAILABLE, Fault.TIMEOUT, Fault.NETWORK})


class RestSettings(Protocol):
    """What is read here of an adapter's settings."""

    @property
    def tries(self) -> int: ...
    @property
    def retry_min_s(self) -> float: ...
    @property
    def retry_max_s(self) -> float: ...
    @property
    def answer_bytes_max(self) -> int: ...
    @property
    def clock_skew_warn_ms(self) -> int: ...


class Reply(Struct):
    """One answer, whatever it says."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Rest(ABC):
    """One HTTP session, opened and closed by its owner."""

    counted_codes: frozenset[int] = frozenset()  # error codes of the venue that are counted by their number

    def __init__(
        self,
        http: aiohttp.ClientSession,
        settings: RestSettings,
        clock: VenueClock,
        counters: Counters,
        now_ms: Callable[[], int],
        log: Logger,
    ) -> None:
        self._http = http
        self._limits = settings
        self._clock = clock
        self._counters = counters
        self._now_ms = now_ms
        self._log = log

    async def sync_clock(self) -> None:
        """Compare with the venue's clock. Raises VenueError."""

        async def once() -> None:
            await self._admit_clock()
            asked_ms = self._now_ms()
            self._clock.set(await self._server_time_ms(), asked_ms, self._now_ms())

        await self._persist(once)
        if abs(self._clock.offset_ms) > self._limits.clock_skew_warn_ms:
            self._log.warning("clock_skew", offset_ms=self._clock.offset_ms)

    @abstractmethod
    async def _admit_clock(self) -> None:
        """Waits until the limits of the venue leave room for that call. Raises VenueError."""

    @abstractmethod
    async def _server_time_ms(self) -> int:
        """The venue's clock, now. Raises VenueError."""

    async def _persist(self, once: Callable[[], Awaitable[T]]) -> T:
        """Tries again after what may pass by itself and names no time."""
        limits = self._limits
        async for attempt in stamina.retry_context(
            on=lambda exc: isinstance(exc, VenueError) and exc.reason in _TRANSIENT and exc.retryable and exc.retry_at_ms is None,
            attempts=limits.tries,
            timeout=None,
            wait_initial=limits.retry_min_s,
            wait_max=limits.retry_max_s,
            wait_jitter=limits.retry_min_s,
        ):
            with attempt:
                return await once()
        raise AssertionError("the last attempt returns or raises")

    async def _counted(self, exchange: Awaitable[bytes]) -> bytes:
        """Counts the call by its result."""
        try:
            body = await exchange
        except VenueError as exc:
            count(self._counters.rest, str(exc.code) if exc.code in self.counted_codes else exc.reason)
            raise
        count(self._counters.rest, "ok")
        return body

    async def _exchange(
        self, method: str, url: URL, *, what: str, headers: Mapping[str, str], content: bytes | None = None
    ) -> Reply:
        """One request and its whole answer. what: the path, for people. Raises VenueError."""
        try:
            async with self._http.request(method, url, data=content, headers=headers, allow_redirects=False) as response:
                return Reply(response.status, response.headers, await _read_capped(response, self._limits.answer_bytes_max))
        except TimeoutError:
            raise VenueError(Fault.TIMEOUT, f"{what}: no answer in time", retryable=True) from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as exc:
            raise VenueError(Fault.TLS, f"{what}: TLS failed: {type(exc).__name__}", retryable=True) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise VenueError(Fault.NETWORK, f"{what}: {type(exc).__name__}", retryable=True) from None


def signed_url(base: str, path: str, query: str) -> URL:
    """Byte for byte as it was signed. Holds a signature: never logged."""
    return URL(f"{base}{path}?{query}" if query else f"{base}{path}", encoded=True)


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
