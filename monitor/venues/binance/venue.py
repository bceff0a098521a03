"""Binance USDⓈ-M futures as a source of events: one market connection, one user stream per account, REST for the rest."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

import aiohttp
import structlog
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import ClockOffset, Event
from monitor.model.streams import Counters, StreamStatus
from monitor.venues.base import AccountAccess, KeyFinding, VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.account import SNAPSHOT_CALLS, AccountStream
from monitor.venues.binance.budget import Budget, Priority
from monitor.venues.binance.due import Due
from monitor.venues.binance.keys import check_key
from monitor.venues.binance.market import MarketStream
from monitor.venues.binance.rest import RestClient
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.shared import Shared
from monitor.venues.binance.signing import EXCHANGE_INFO
from monitor.venues.binance.tables import BracketTables
from monitor.venues.binance.wire import VENUE
from monitor.venues.clock import VenueClock
from monitor.venues.stream import AttemptBudget, Backoff

_KEY_CHECKS_AT_ONCE = 8
_BRACKET_RELOADS_PER_S = 20


class BinanceVenue:
    """The adapter. It never computes margin, and it makes no call that is not in the table of `signing`.

    `emit` is called in the event loop, in the order of the facts; `streams` and `counters` are kept up to date while `run` runs.
    """

    name = VENUE

    def __init__(
        self,
        settings: BinanceSettings,
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
        self._mark = StreamStatus(venue=VENUE, account="", stream="mark_price")
        self._index = StreamStatus(venue=VENUE, account="", stream="asset_index")
        self._users = [StreamStatus(venue=VENUE, account=access.alias, stream="user") for access in self._accesses]
        self.streams: list[StreamStatus] = [self._mark, self._index, *self._users]
        self._clock = VenueClock(now_ms, lambda offset_ms, error_ms: emit(ClockOffset(VENUE, offset_ms, error_ms)))
        self._budget = Budget(
            now_ms,
            self.counters,
            limit=settings.weight_limit,
            shares={
                Priority.SNAPSHOT: settings.snapshot_share,
                Priority.TAKEOVER: settings.takeover_share,
                Priority.RELOAD: settings.reload_share,
            },
        )
        self._running: dict[str, AccountStream] = {}
        self._contracts_due: Due = Due()

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
                BracketTables(self.counters),
                self._emit,
                self._now_ms,
                AttemptBudget(settings.attempts_max, settings.attempts_window_s),
                tls,
                self._log,
            )
            market = MarketStream(shared, self._mark, self._index, self._contracts_changed)
            self._running = {
                access.alias: AccountStream(shared, access, status, reconcile_period_s(settings, len(self._accesses)))
                for access, status in zip(self._accesses, self._users, strict=True)
            }
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_clock(rest))
                group.create_task(self._keep_contracts(rest))
                group.create_task(market.run())
                for account in self._running.values():
                    group.create_task(account.run())
        raise AssertionError("all tasks run for ever")

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
        """A full snapshot of the account soon. Before `run` has started nothing is needed: it begins with one."""
        if (account := self._running.get(alias)) is not None:
            account.request_snapshot()

    def request_tables(self, alias: str) -> None:
        """The account's brackets soon; the first run reads them in any case."""
        if (account := self._running.get(alias)) is not None:
            account.request_brackets(0)

    # -------------------------------------------------------------- reference data

    async def _keep_contracts(self, rest: RestClient) -> NoReturn:
        settings = self._settings
        backoff = Backoff(settings.retry_min_s, settings.backoff_max_s)
        self._contracts_due.within(0)
        while True:
            await self._contracts_due.wait()
            wait_s = settings.reload_s * random.uniform(0.9, 1.1)
            try:
                body = await rest.call(EXCHANGE_INFO, priority=Priority.RELOAD)
                instruments = reference.instruments(body, self.counters)
                self._budget.limit = reference.weight_limit(body) or self._budget.limit
                self._emit(instruments)
                backoff.reset()
            except VenueError as exc:
                self._log.warning("contracts_not_loaded", reason=exc.reason, code=exc.code, detail=exc.detail)
                wait_s = exc.wait_s(self._now_ms()) + backoff.next_s()
            self._contracts_due.within(wait_s)

    def _contracts_changed(self) -> None:
        """A public notice. It says nothing of brackets that are scaled for one account: each is asked again."""
        within_s = self._settings.reload_debounce_s
        self._contracts_due.within(within_s)
        spread_s = len(self._running) / _BRACKET_RELOADS_PER_S
        for account in self._running.values():
            account.request_brackets(within_s + random.uniform(0, spread_s))

    # -------------------------------------------------------------- clock and connection

    async def _keep_clock(self, rest: RestClient) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.clock_sync_s)
            await self._sync_clock(rest)

    async def _sync_clock(self, rest: RestClient) -> None:
        try:
            await rest.sync_clock()
        except VenueError as exc:  # a signed call that meets −1021 for it syncs again
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
            yield RestClient(http, settings, self._budget, self._clock, self.counters, self._now_ms, self._log)


def reconcile_period_s(settings: BinanceSettings, accounts: int) -> float:
    """Between regular snapshots of one account: longer where all accounts together would use too much of the weight."""
    weight = accounts * sum(endpoint.weight for endpoint in SNAPSHOT_CALLS)
    return max(settings.reconcile_s, 60 * weight / (settings.reconcile_share * settings.weight_limit))
