"""The composition root: builds the parts, runs them in one task group, and ends them in the right order."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, Literal, NoReturn

import structlog

from monitor import __version__
from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.alerts.own import of_monitor
from monitor.alerts.routes import CHANNEL_RULE, STORE_RULE
from monitor.bans import Bans
from monitor.clock import Clock, TrueTime
from monitor.config import AccountConfig, Config
from monitor.deadman import DeadMan, LoopProbe, Reason
from monitor.descriptors import descriptors_max
from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.heartbeat import Heartbeat
from monitor.history.ring import HistoryRing
from monitor.lease import Lease
from monitor.metrics import Metrics
from monitor.model.alerts import Incident, IncidentKey, Lever, Transition
from monitor.model.events import ClockOffset, Event, Prices, TimePassed
from monitor.model.figures import PoolFigures, PoolKey
from monitor.rate_memory import RateKeeper
from monitor.readout import Readout
from monitor.refusals import RefusalLog
from monitor.rules import RuleBook
from monitor.status_line import status_line
from monitor.store import Store
from monitor.venues import Venue
from monitor.venues.base import AccountAccess
from monitor.venues.binance.venue import BinanceVenue
from monitor.venues.htx.venue import HtxVenue
from monitor.web.server import Server, ServerSettings

FLUSH_S = 10.0
RELOAD_FLUSH_S = 2.0  # what is under way need not be sent twice
TICK_S = 1.0
KEY_CHECK_S = 20.0  # then watching begins, and the check goes on beside it
TURN_S_MAX = 300.0  # a start or an end that takes longer hangs

log = structlog.get_logger()

Emit = Callable[[Event], None]
Reload = Callable[[], Awaitable[Sequence[str]]]

# A venue is its folder and its line here: how to build it from the configuration.
VENUES: dict[str, Callable[[Config, list[AccountAccess], Emit, Clock], Venue]] = {
    BinanceVenue.name: lambda config, accounts, emit, clock: BinanceVenue(
        config.venues.binance_usdm, accounts, emit, clock.now_ms
    ),
    HtxVenue.name: lambda config, accounts, emit, clock: HtxVenue(config.venues.htx_coin_futures, accounts, emit, clock.now_ms),
}


class Ended(Enum):
    """Why a run came to its end."""

    STOPPED = auto()
    RELOAD = auto()


class KeyRefusedError(Exception):
    """A key could move money, or its account cannot be watched; the text says which and what to do."""


class Monitor:
    """One run of the daemon with one configuration.

    reload: called for POST /-/reload; it loads the configuration, and calls `end(Ended.RELOAD)` if it is good.
    on_started: called once the page is up and the venues run. reload_problem: why the last reload could not be put into force.
    clock: wall clock. clock_s: monotonic, that of the event loop.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        reload: Reload | None = None,
        on_started: Callable[[], None] = lambda: None,
        reload_problem: str = "",
    ) -> None:
        self.config = config
        self._reload_problem = reload_problem
        self.clock = clock or Clock()
        self._true = TrueTime(self.clock.now_ms)
        self._clock_s = clock_s
        self._reload = reload if config.web.reload_enabled else None
        self._why: Ended | None = None  # it is to end
        self._ended: asyncio.Future[None] | None = None  # done as soon as it is to end
        self._checking: asyncio.Task[None] | None = None
        self._crossings: asyncio.Queue[list[Transition]] = asyncio.Queue()
        self._on_started = on_started
        self._turned_s = clock_s()  # when it began to start or to end
        self.started = asyncio.Event()
        self._adapters: dict[str, Venue] = {}
        self.server: Server
        self.readout: Readout
        self.desk: AlertDesk
        self.history: HistoryRing | None = None
        self.dead_man: DeadMan
        self.engine: Engine
        self._bans: Bans
        self._rates: RateKeeper

    def end(self, why: Ended = Ended.STOPPED) -> None:
        """At any moment, before `run` too. A stop outranks a reload that is under way."""
        if self._why is not Ended.STOPPED:
            self._why = why
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    @property
    def proven(self) -> bool:
        """It began to watch, and no key was refused."""
        checking = self._checking
        if checking is None or not checking.done() or checking.cancelled():
            return False
        return self.started.is_set() and checking.exception() is None

    def reload_refused(self) -> None:
        """The new configuration is bad; this one stays."""
        if self.started.is_set():
            self.readout.reload_good = False

    def hangs(self) -> dict[Reason, str]:
        """Why a restart of the process would help; empty while it would not."""
        if self.started.is_set() and self._why is None:
            return self.dead_man.hangs()
        turning_s = self._clock_s() - self._turned_s
        return {Reason.LOOP_SLOW: f"starting or ending for {turning_s:.0f} s"} if turning_s >= TURN_S_MAX else {}

    def status(self) -> str:
        """One line for people."""
        return status_line(self.engine.table(), self.dead_man.unwell()) if self.started.is_set() else "starting"

    async def run(self) -> Ended:
        """Until `end`. Raises StoreInUseError or KeyRefusedError before anything is watched, OSError if there is no such address.

        The order: the lease, then the store, because it knows what was open; the page and the senders before the first question
        to a venue, so that a slow start can be seen and what waited is sent. At the end the venues first, so that nothing new
        comes, then the outbox is emptied, then the store closes.
        """
        self._ended = asyncio.get_running_loop().create_future()
        if self._why is not None:
            self._ended.set_result(None)
        with Lease(self.config.store.file()):
            return await self._run()

    async def _run(self) -> Ended:
        config, clock = self.config, self.clock
        synchronous: Literal["NORMAL", "FULL"] = "FULL" if config.store.synchronous == "full" else "NORMAL"
        store = await Store.open(config.store.file(), IncidentRecord, OutboxRow, now_ms=clock.now_ms, synchronous=synchronous)
        try:
            self.desk = AlertDesk(
                config.linked_alerts(),
                store,
                figures_of=self._figures,
                levers_of=self._levers,
                now_ms=clock.now_ms,
                true_ms=self._true.now_ms,
                exists=_names(config),
                clock_s=self._clock_s,
            )
            self.engine = engine_of(config, {incident.key: incident for incident in self.desk.incidents()})
            venues = venues_of(config, self.emit, clock)
            self._adapters = {venue.name: venue for venue in venues}
            self._bans = Bans(venues, store, clock.now_ms)
            self._rates = RateKeeper(self.engine, store, list(self._adapters), clock.now_ms())
            self.dead_man = DeadMan(venues, self.engine, self.desk, store, LoopProbe(self._clock_s), self._clock_s)
            self.readout = Readout(self.engine, venues, self.desk, clock, self.dead_man)
            self.readout.reload_good = not self._reload_problem
            await self.desk.handle([*self.engine.abandoned(clock.now_ms()), *self._reload_refused()])
            await self._open_history()
            return await self._watch(venues)
        finally:
            if self.history is not None:
                await self.history.close()
            await store.close()

    def _reload_refused(self) -> list[Transition]:
        if not self._reload_problem:
            return []
        text = f"the new configuration was refused, the one before it is in force again: {self._reload_problem}"
        return [of_monitor("reload", self.clock.now_ms(), text)]

    async def _open_history(self) -> None:
        settings = self.config.history
        if settings.enabled:
            path = settings.file(self.config.store.file())
            self.history = await HistoryRing.open(path, now_ms=self.clock.now_ms, bytes_max=settings.size_mb_max << 20)

    async def _watch(self, venues: Sequence[Venue]) -> Ended:
        web = self.config.web
        settings = ServerSettings(
            host=web.host,
            port=web.port,
            host_names=web.host_names,
            token=web.token,
            version=__version__,
            descriptors=descriptors_max(),
        )
        shown = self.config.metrics
        metrics = Metrics(self.readout, version=__version__, amounts=shown.amounts, positions_max=shown.positions_max)
        self.server = Server(
            self.readout,
            metrics,
            settings,
            reload=self._reload,
            desk=self.desk,
            history=self.history,
            hangs=lambda: list(self.hangs().values()),
        )
        await self.server.start()
        sending = asyncio.create_task(self.desk.run(), name="alerts")
        checking = self._checking = asyncio.create_task(self._check_keys(venues), name="key-check")
        try:
            if not await self._ended_before(checking, KEY_CHECK_S):
                await self._feed(venues, sending, checking)
            await self._rates.keep(self.clock.now_ms())
            return await self._flushed()
        finally:
            for task in (sending, checking):
                task.cancel()
            await asyncio.gather(sending, checking, return_exceptions=True)
            await self.server.stop()

    async def _flushed(self) -> Ended:
        """What is to be told goes out, as far as its time allows. A stop that comes meanwhile is remembered."""
        if self._why is Ended.RELOAD:
            await self.desk.flush(RELOAD_FLUSH_S)
        if self._why is not Ended.RELOAD:
            await self.desk.flush(FLUSH_S)
        return self._why or Ended.STOPPED

    async def _ended_before(self, work: "asyncio.Task[None]", seconds: float) -> bool:
        """Whether `end` was called before the work was done or had its time: a silent exchange holds up nothing."""
        if self._ended is None:
            raise RuntimeError("it belongs to run")
        waiting: list[asyncio.Future[Any]] = [work, self._ended]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        return self._ended.done()

    async def _feed(self, venues: Sequence[Venue], sending: "asyncio.Task[None]", checking: "asyncio.Task[None]") -> None:
        """Runs the venues, the clock and the desk until the end; an exception in any of them is a bug and ends the run.

        checking: the check of the keys, perhaps still under way; KeyRefusedError if it ends badly.
        """
        if self._ended is None:
            raise RuntimeError("_feed belongs to run")
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(venue.run(), name=venue.name) for venue in venues]
        tasks.append(asyncio.create_task(self._tick(), name="tick"))
        deciding = asyncio.create_task(self._decide(), name="decide")
        if not checking.done():
            log.warning("key_check_takes_long", hint="watching begins; a key that is refused ends it")
            tasks.append(asyncio.create_task(_for_ever_after(checking), name="key-check"))
        tasks += self._signs_of_life()
        self.started.set()
        self._on_started()
        try:
            await asyncio.wait([*tasks, deciding, sending, self._ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._turned_s = self._clock_s()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            results += await self._decided(deciding)
        bugs = [result for result in results if isinstance(result, Exception)]
        if sending.done():
            sending.result()
        for refused in (bug for bug in bugs if isinstance(bug, KeyRefusedError)):
            raise refused
        if bugs:
            raise ExceptionGroup("a part of the monitor failed", bugs)

    # -------------------------------------------------------------- flow of events

    def emit(self, event: Event) -> None:
        """The one way into the engine. Synchronous, so that two events never interleave."""
        began = time.perf_counter()
        said = self.engine.step(event, self.clock.now_ms())
        if type(event) is ClockOffset:
            self._true.compared(event.venue, event.offset_ms, event.error_ms)
        if type(event) is Prices:
            self.readout.took(time.perf_counter() - began)
        if said:
            self._crossings.put_nowait(said)
        self.server.wake()
        for venue, alias in self.engine.take_doubted_tables():
            log.warning("tables_doubted", venue=venue, account=alias)
            self._adapters[venue].request_tables(alias)
        for venue, alias, pool in self.engine.take_wanted_snapshots():
            log.info("snapshot_wanted", venue=venue, account=alias, pool=pool)
            self._adapters[venue].request_snapshot(alias, pool)

    async def _decide(self) -> None:
        """Hands crossings to the desk in their order, up to an empty step; those that came meanwhile go as one transaction."""
        ended = False
        while not ended:
            steps = [await self._crossings.get()]
            while not self._crossings.empty():
                steps.append(self._crossings.get_nowait())
            ended = not all(steps)
            await self.desk.handle([crossing for step in steps for crossing in step])
            self.server.wake()

    async def _decided(self, deciding: "asyncio.Task[None]") -> list[BaseException | None]:
        """Lets it end by itself: an occurrence that is cut off on its way to the disk never comes again."""
        self._crossings.put_nowait([])
        await asyncio.wait([deciding], timeout=FLUSH_S)  # a disk that hangs must not hold up the end for ever
        deciding.cancel()
        return list(await asyncio.gather(deciding, return_exceptions=True))

    async def _tick(self) -> None:
        refusals = RefusalLog(self.readout.counters)
        while True:
            await asyncio.sleep(TICK_S)
            self.emit(TimePassed())
            refusals.look()
            await self._bans.look()
            await self._rates.look(self.clock.now_ms())
            await self.desk.tick(self.clock.now_ms())
            if self.history is not None:
                self.history.take(self.engine.table(), self.clock.now_ms())
            self.dead_man.ticked()

    def _signs_of_life(self) -> "list[asyncio.Task[Any]]":
        """The probe of the loop, and the heartbeat where there is somebody to call."""
        self.dead_man.ticked()  # the first tick is still to come
        tasks = [asyncio.create_task(self.dead_man.probe.run(), name="loop-probe")]
        tasks.append(asyncio.create_task(self.dead_man.check_store(), name="store-check"))
        settings = self.config.heartbeat
        if settings.url is not None:
            heartbeat = Heartbeat(settings.url, settings, self.dead_man.unwell, self.clock.now_ms, self._clock_s)
            self.readout.heartbeat = heartbeat.status
            tasks.append(asyncio.create_task(heartbeat.run(), name="heartbeat"))
        return tasks

    def _figures(self, key: PoolKey) -> PoolFigures | None:
        return self.engine.figures(key)

    def _levers(self, key: IncidentKey) -> Sequence[Lever]:
        return self.engine.levers(PoolKey(key.venue, key.account, key.pool))

    # -------------------------------------------------------------- building

    async def _check_keys(self, venues: Sequence[Venue]) -> None:
        """Refuses keys that could move money, unless the configuration says that it is meant."""
        allowed = {account.name for account in self.config.accounts if account.allow_dangerous_key}
        refused = []
        for venue, findings in zip(venues, await asyncio.gather(*(venue.check_keys() for venue in venues)), strict=True):
            for finding in findings:
                log.warning("key_check", venue=venue.name, account=finding.alias, right=finding.right, text=finding.text)
                if finding.verdict == "refuse" and finding.alias not in allowed:
                    refused.append(f"{finding.alias}: {finding.text}")
        if refused:
            raise KeyRefusedError("; ".join(refused))


async def _for_ever_after(work: "asyncio.Task[None]") -> NoReturn:
    """Does not end when the work ends well."""
    await work
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def engine_of(config: Config, restored: Mapping[IncidentKey, Incident] | None = None) -> Engine:
    """The engine for all accounts. restored: incidents that were open when the program ended."""
    setups = [AccountSetup(account.venue, account.name, account.rules) for account in config.accounts]
    return Engine(setups, config.rules, restored)


def venues_of(config: Config, emit: Emit, clock: Clock) -> list[Venue]:
    """The venues that have an account, not yet running."""
    return [
        VENUES[name](config, [_access(account) for account in config.accounts if account.venue == name], emit, clock)
        for name in dict.fromkeys(account.venue for account in config.accounts)
    ]


def _names(config: Config) -> dict[str, list[str]]:
    """What a silence may name."""
    return {
        "venue": list(dict.fromkeys(account.venue for account in config.accounts)),
        "account": [account.name for account in config.accounts],
        "rule": [*RuleBook.model_fields, CHANNEL_RULE, STORE_RULE],
    }


def _access(account: AccountConfig) -> AccountAccess:
    return AccountAccess(account.name, account.api_key, account.api_secret)
