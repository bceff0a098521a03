"""HTX coin-margined delivery futures as a source of events: two market sockets, one socket per account, REST for the rest."""

import asyncio
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

import aiohttp
from structlog.typing import FilteringBoundLogger as Logger

from monitor.model.events import Event, PriceKind
from monitor.model.streams import StreamStatus
from monitor.venues.adapter import Adapter
from monitor.venues.base import AccountAccess, KeyFinding
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
from monitor.venues.htx.signing import Scope
from monitor.venues.htx.tables import Tables
from monitor.venues.htx.wire import Topic, topic_name


class _Part(Protocol):
    async def run(self) -> NoReturn: ...


class HtxVenue(Adapter[RestClient]):
    """Two market sockets, one for the public notices, one per account, REST for the rest."""

    name = VENUE

    def __init__(
        self,
        settings: HtxSettings,
        accounts: Sequence[AccountAccess],
        emit: Callable[[Event], None],
        now_ms: Callable[[], int],
        log: Logger | None = None,
    ) -> None:
        super().__init__(settings, accounts, emit, now_ms, log, shared_streams=("last_price", "index_price", "contract_info"))
        self._settings = settings
        self._budget = Budget(settings, now_ms)
        self._last, self._index, self._notices = self._shared_streams
        self._running: dict[str, AccountStream] = {}
        self._tables: Tables

    async def run(self) -> NoReturn:
        tls = self._tls()
        async with self._client(tls) as rest:
            await self._sync_clock(rest)  # before the first signed call
            shared = Shared(
                self._settings,
                rest,
                self._clock,
                self.counters,
                self._emit,
                self._now_ms,
                self._dialler(tls),
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

    def request_snapshot(self, alias: str, pool: str = "") -> None:
        """A full snapshot of the coin, or of all, soon. Before `run` has started nothing is needed: it begins with them."""
        if (account := self._running.get(alias)) is not None:
            account.request_snapshot(pool)

    def shut_out_until_ms(self) -> int:
        return self._budget.shut_out_until_ms

    def keep_out(self, until_ms: int) -> None:
        until_ms = min(until_ms, self._now_ms() + round(1000 * self._settings.firewall_s))  # more is never ordered
        self._budget.shut_out(Scope.PRIVATE, until_ms)

    def request_tables(self, alias: str) -> None:
        """The public tables soon, which are every account's; the first run reads them in any case."""
        if alias in self._running:
            self._tables.request()

    # -------------------------------------------------------------- parts

    def _rest(self, http: aiohttp.ClientSession) -> RestClient:
        return RestClient(http, self._settings, self._budget, self._clock, self.counters, self._now_ms, self._log, self._degraded)

    async def _check_key(self, rest: RestClient, access: AccountAccess) -> list[KeyFinding]:
        return await check_key(rest, access)


def _topics(topics: Sequence[Topic]) -> dict[str, Topic]:
    return {topic_name(*topic): topic for topic in topics}
