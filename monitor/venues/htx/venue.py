"""HTX coin-margined delivery futures as a source of events: two market sockets, one socket per account, REST for the rest."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import ClockOffset, Event, PriceKind
from monitor.model.streams import Counters, StreamStatus
from monitor.venues.base import AccountAccess, KeyFinding, VenueError
from monitor.venues.clock import VenueClock
from monitor.venues.htx.account import AccountStream
from monitor.venues.htx.budget import Budget
from monitor.venues.htx.contracts import Contracts
from monitor.venues.htx.keys import check_key
from monitor.venues.htx.market import Feed
from monitor.venues.htx.prices import QuietPrices
from monitor.venues.htx.rest import RestClient
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.settlements import Settlements
from monitor.venues.htx.shared import Shared
from monitor.venues.htx.tables import Tables
from monitor.venues.htx.wire import Topic, topic_name
from monitor.venues.stream import AttemptBudget

_KEY_CHECKS_AT_ONCE = 8


class _Part(Protocol):
    async def run(self) -> NoReturn: ...


class HtxVenue:
    """The adapter. It never computes margin, and it makes no call that is not in the table of `signing`.

    `emit` is called in the event loop, in the order of the facts; `streams` and `counters` are kept up to date while `run` runs.
    """

    name = VENUE

    def __init__(
        self,
        settings: HtxSettings,
        accounts: Sequence[AccountAccess],
        emit: Callable[[Event], None],
        now_ms: Callable[[], int],
        log: Logger | None = None,
    ) -> None:
        self._settings = settings
        self._accesses = tuple(accounts)
        self._emit = emit
        self._now_ms = now_ms
        self._log: Logger = (log or structlog.get_logger()).bind(venue=VENUE)
        self.counters = Counters()
        self._last = StreamStatus(venue=VENUE, account="", stream="last_price")
        self._index = StreamStatus(venue=VENUE, account="", stream="index_price")
        self._notices = StreamStatus(venue=VENUE, account="", stream="contract_info")
        self._users = [StreamStatus(venue=VENUE, account=access.alias, stream="user") for access in self._accesses]
        self.streams: list[StreamStatus] = [self._last, self._index, self._notices, *self._users]
        self._clock = VenueClock(now_ms, lambda offset_ms, error_ms: emit(ClockOffset(VENUE, offset_ms, error_ms)))
        self._running: dict[str, AccountStream] = {}
        self._tables: Tables

    async def run(self) -> NoReturn:
        """For ever: whatever the venue does is survived. An exception out of it is a bug."""
        settings = self._settings
        tls = self._tls()
        async with self._client(tls) as rest:
            await self._sync_clock(rest)  # before the first signed call
            shared = Shared(
                settings,
                rest,
                self._clock,
                self.counters,
                self._emit,
                self._now_ms,
                AttemptBudget(settings.attempts_max, settings.attempts_window_s),
                tls,
                self._log,
            )
            async with asyncio.TaskGroup() as group:
                self._start(shared, group)
                group.create_task(self._keep_clock(rest))
        raise AssertionError("all tasks run for ever")

    def _start(self, shared: Shared, group: asyncio.TaskGroup) -> None:
        """Builds the parts and starts them. They are a ring: prices follow contracts, contracts follow accounts' coins."""
        settings = self._settings
        settlements = Settlements(shared, group)

        def retarget() -> None:
            codes = [row.symbol for row in contracts.in_use()]
            trades.want(_topics([(PriceKind.LAST, code) for code in codes]))
            marks: list[Topic] = [(PriceKind.MARK, code) for code in codes]
            index.want(_topics([(PriceKind.INDEX, coin) for coin in contracts.coins_in_use()] + marks))

        contracts = Contracts(shared, self._notices, changed=retarget, settling=settlements.begin)
        quiet = QuietPrices(shared, contracts)

        def feed(path: str, stream: str, status: StreamStatus, *, quiet_is_normal: bool) -> Feed:
            return Feed(
                shared,
                path,
                stream,
                status,
                quiet_is_normal=quiet_is_normal,
                heard=quiet.heard,
                contracts_unknown=contracts.request,
            )

        trades = feed(settings.market_path, "market", self._last, quiet_is_normal=True)
        index = feed(settings.index_path, "index", self._index, quiet_is_normal=False)
        quiet.attach(trades)

        tables = self._tables = Tables(shared)
        self._running = {
            access.alias: AccountStream(shared, access, status, contracts, settlements)
            for access, status in zip(self._accesses, self._users, strict=True)
        }
        settlements.attach(contracts, tables, lambda: list(self._running.values()))
        parts: tuple[_Part, ...] = (contracts, tables, trades, index, quiet, *self._running.values())
        for part in parts:
            group.create_task(part.run())

    async def check_keys(self) -> list[KeyFinding]:
        """What is wrong with the keys, by the venue's own word. Independent of `run`."""
        gate = asyncio.Semaphore(_KEY_CHECKS_AT_ONCE)
        async with self._client(self._tls()) as rest:
            await self._sync_clock(rest)

            async def check(access: AccountAccess) -> list[KeyFinding]:
                async with gate:
                    return await check_key(rest, access)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(check(access)) for access in self._accesses]
        return [finding for task in tasks for finding in task.result()]

    def request_snapshot(self, alias: str) -> None:
        """Full snapshots of the account soon. Before `run` has started nothing is needed: it begins with them."""
        if (account := self._running.get(alias)) is not None:
            account.request_snapshot()

    def request_tables(self, alias: str) -> None:
        """The public tables soon, which are every account's; the first run reads them in any case."""
        if alias in self._running:
            self._tables.request()

    # -------------------------------------------------------------- clock and connection

    async def _keep_clock(self, rest: RestClient) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.clock_sync_s)
            await self._sync_clock(rest)

    async def _sync_clock(self, rest: RestClient) -> None:
        try:
            await rest.sync_clock()
        except VenueError as exc:  # a signed call that is refused for its time syncs again
            self._log.warning("clock_not_synced", reason=exc.reason, detail=exc.detail)

    def _tls(self) -> ssl.SSLContext | None:
        """One for all connections: each context of its own would cost memory per account."""
        settings = self._settings
        secure = any(url.startswith(("https:", "wss:")) for url in (settings.rest, settings.spot, settings.streams))
        return ssl.create_default_context() if secure else None

    @asynccontextmanager
    async def _client(self, tls: ssl.SSLContext | None) -> AsyncIterator[RestClient]:
        settings = self._settings
        timeout = aiohttp.ClientTimeout(total=settings.total_timeout_s, sock_connect=settings.connect_timeout_s)
        connector = aiohttp.TCPConnector(ssl=tls or True, limit_per_host=16)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            budget = Budget(settings, self._now_ms)
            yield RestClient(http, settings, budget, self._clock, self.counters, self._now_ms, self._log)


def _topics(topics: Sequence[Topic]) -> dict[str, Topic]:
    return {topic_name(*topic): topic for topic in topics}
