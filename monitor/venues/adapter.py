"""What the adapters of all venues are alike in: keys, the venue's clock, one HTTP session, one way to dial."""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import ClassVar, Generic, NoReturn, Protocol, TypeVar

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import ClockOffset, Degraded, Event
from monitor.model.streams import Counters, StreamStatus
from monitor.venues.base import AccountAccess, KeyFinding, VenueError
from monitor.venues.clock import VenueClock
from monitor.venues.dial import AttemptBudget, Dialler, StreamLimits
from monitor.venues.network import Names
from monitor.venues.rest import Rest

_KEY_CHECKS_AT_ONCE = 8

RestT = TypeVar("RestT", bound=Rest)


class AdapterSettings(Protocol):
    """What is read here of an adapter's settings."""

    @property
    def rest(self) -> str: ...
    @property
    def spot(self) -> str: ...
    @property
    def streams(self) -> str: ...
    @property
    def connect_timeout_s(self) -> float: ...
    @property
    def total_timeout_s(self) -> float: ...
    @property
    def clock_sync_s(self) -> float: ...
    @property
    def addresses_kept_s(self) -> float: ...
    @property
    def attempts_max(self) -> int: ...
    @property
    def attempts_window_s(self) -> float: ...
    def stream_limits(self) -> StreamLimits: ...


class Adapter(ABC, Generic[RestT]):
    """A venue's protocol as events. It never computes margin, and it makes no call that is not in the table of its `signing`.

    `emit` is called in the event loop, in the order of the facts; `streams` and `counters` are kept up to date while `run` runs.
    """

    name: ClassVar[str]

    def __init__(
        self,
        settings: AdapterSettings,
        accounts: Sequence[AccountAccess],
        emit: Callable[[Event], None],
        now_ms: Callable[[], int],
        log: Logger | None = None,
        *,
        shared_streams: Sequence[str],
    ) -> None:
        """shared_streams: the streams that serve every account."""
        self._own = settings
        self._accesses = tuple(accounts)
        self._emit = emit
        self._now_ms = now_ms
        self._log: Logger = (log or structlog.get_logger()).bind(venue=self.name)
        self.counters = Counters()
        self._shared_streams = [StreamStatus(venue=self.name, account="", stream=stream) for stream in shared_streams]
        self._users = [StreamStatus(venue=self.name, account=access.alias, stream="user") for access in self._accesses]
        self.streams: list[StreamStatus] = [*self._shared_streams, *self._users]
        self._clock = VenueClock(now_ms, lambda offset_ms, error_ms: emit(ClockOffset(self.name, offset_ms, error_ms)))
        self._names = Names(settings.addresses_kept_s, self._name_lost, self._log)

    @abstractmethod
    async def run(self) -> NoReturn:
        """For ever: whatever the venue does is survived. An exception out of it is a bug."""

    async def check_keys(self) -> list[KeyFinding]:
        """What is wrong with the keys, by the venue's own word. Independent of `run`."""
        gate = asyncio.Semaphore(_KEY_CHECKS_AT_ONCE)
        async with self._client(self._tls()) as rest:
            await self._sync_clock(rest)

            async def check(access: AccountAccess) -> list[KeyFinding]:
                async with gate:
                    return await self._check_key(rest, access)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(check(access)) for access in self._accesses]
        return [finding for task in tasks for finding in task.result()]

    @abstractmethod
    async def _check_key(self, rest: RestT, access: AccountAccess) -> list[KeyFinding]: ...

    # -------------------------------------------------------------- clock and connection

    async def _keep_clock(self, rest: RestT) -> NoReturn:
        while True:
            await asyncio.sleep(self._own.clock_sync_s)
            await self._sync_clock(rest)

    async def _sync_clock(self, rest: RestT) -> None:
        try:
            await rest.sync_clock()
        except VenueError as exc:  # a signed call that is refused for its time syncs again
            self._log.warning("clock_not_synced", reason=exc.reason, detail=exc.detail)

    def _tls(self) -> ssl.SSLContext | None:
        """One for all connections: each context of its own would cost memory per account."""
        settings = self._own
        secure = any(url.startswith(("https:", "wss:")) for url in (settings.rest, settings.spot, settings.streams))
        return ssl.create_default_context() if secure else None

    @asynccontextmanager
    async def _client(self, tls: ssl.SSLContext | None) -> AsyncIterator[RestT]:
        settings = self._own
        timeout = aiohttp.ClientTimeout(total=settings.total_timeout_s, sock_connect=settings.connect_timeout_s)
        async with aiohttp.ClientSession(connector=self._names.connector(tls or True), timeout=timeout) as http:
            yield self._rest(http)

    @abstractmethod
    def _rest(self, http: aiohttp.ClientSession) -> RestT: ...

    def _dialler(self, tls: ssl.SSLContext | None) -> Dialler:
        settings = self._own
        attempts = AttemptBudget(settings.attempts_max, settings.attempts_window_s)
        return Dialler(settings.stream_limits(), self._names, attempts, tls)

    # -------------------------------------------------------------- what may need a person

    def _degraded(self, kind: str, text: str) -> None:
        self._emit(Degraded(self.name, "", kind, text, self._clock.floor_ms()))

    def _name_lost(self, host: str) -> None:
        kept_min = self._own.addresses_kept_s / 60
        self._degraded("names", f"{host} is not resolved; its last addresses are used for up to {kept_min:.0f} min")
