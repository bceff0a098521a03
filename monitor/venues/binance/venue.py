"""Binance USDⓈ-M futures as a source of events: one market connection, one user stream per account, REST for the rest."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import NoReturn

import aiohttp
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import Event
from monitor.venues.adapter import Adapter
from monitor.venues.base import AccountAccess, Fault, KeyFinding, VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.account import SNAPSHOT_CALLS, AccountStream
from monitor.venues.binance.budget import Budget, Priority
from monitor.venues.binance.keys import check_key
from monitor.venues.binance.market import MarketStream
from monitor.venues.binance.rest import RestClient
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.shared import Shared
from monitor.venues.binance.signing import EXCHANGE_INFO
from monitor.venues.binance.tables import BracketTables
from monitor.venues.binance.wire import VENUE
from monitor.venues.due import Due
from monitor.venues.stream import Backoff

_BRACKET_RELOADS_PER_S = 20


class BinanceVenue(Adapter[RestClient]):
    """One market connection, one user stream per account, REST for the rest."""

    name = VENUE

    def __init__(
        self,
        settings: BinanceSettings,
        accounts: Sequence[AccountAccess],
        emit: Callable[[Event], None],
        now_ms: Callable[[], int],
        log: Logger | None = None,
    ) -> None:
        super().__init__(settings, accounts, emit, now_ms, log, shared_streams=("mark_price", "asset_index"))
        self._settings = settings
        self._mark, self._index = self._shared_streams
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
                self._dialler(tls),
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

    def request_snapshot(self, alias: str, pool: str = "") -> None:
        """A full snapshot of the account, all its pools, soon. Before `run` has started nothing is needed: it begins with one."""
        if (account := self._running.get(alias)) is not None:
            account.request_snapshot()

    def shut_out_until_ms(self) -> int:
        return self._budget.banned_until_ms

    def keep_out(self, until_ms: int) -> None:
        self._budget.block(Fault.BANNED, until_ms)

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

    # -------------------------------------------------------------- parts

    def _rest(self, http: aiohttp.ClientSession) -> RestClient:
        return RestClient(http, self._settings, self._budget, self._clock, self.counters, self._now_ms, self._log, self._degraded)

    async def _check_key(self, rest: RestClient, access: AccountAccess) -> list[KeyFinding]:
        return await check_key(rest, access)


def reconcile_period_s(settings: BinanceSettings, accounts: int) -> float:
    """Between regular snapshots of one account: longer where all accounts together would use too much of the weight."""
    weight = accounts * sum(endpoint.weight for endpoint in SNAPSHOT_CALLS)
    return max(settings.reconcile_s, 60 * weight / (settings.reconcile_share * settings.weight_limit))
