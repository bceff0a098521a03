"""One fault on stage: the simulated exchange, the chaos proxies before it, the real monitor, and a receiver of its alerts.

Everything lives in one loop whose time jumps (tests/support/warping.py), at the product's own defaults: a minute is a minute
for all of them and costs nothing, and a busy machine makes nobody late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conftest_e2e import Receiver, data_for, until
from faults_canary import Canaries, token_of
from faults_proxy import ChaosProxy
from faults_witness import saw
from prometheus_client.parser import text_string_to_metric_families

from monitor.app import Monitor
from monitor.config import Config
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.streams import StreamStatus
from monitor.sim.exchange import SimExchange

BINANCE, HTX = "binance_usdm", "htx_coin_futures"
USD = PoolKey(BINANCE, "main", "USD")
BTC = PoolKey(HTX, "main", "BTC")
START_MS = int(datetime(2026, 3, 4, 2, tzinfo=UTC).timestamp() * 1000)  # hours from any settlement, funding or delivery


class Wall:
    """The monitor's wall clock: the exchange's, and what is wrong with it."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange
        self.wrong_by_ms = 0

    def now_ms(self) -> int:
        return self._exchange.now_ms() + self.wrong_by_ms


class Scene:
    """What a test of a fault sees and does."""

    def __init__(
        self,
        exchange: SimExchange,
        receiver: Receiver,
        canaries: Canaries,
        wall: Wall,
        rest: ChaosProxy,
        streams: ChaosProxy,
    ) -> None:
        self.exchange = exchange
        self.receiver = receiver
        self._canaries = canaries
        self.wall = wall
        self.rest = rest
        self.streams = streams
        self.logs: Sequence[Mapping[str, Any]] = canaries.events
        self.monitor: Monitor
        self._record: Callable[[str, object], None] = lambda _name, _value: None
        self._ended_at: float | None = None

    # ------------------------------------------------------------------ what can be seen

    @property
    def ready(self) -> bool:
        return self.monitor.readout.missing() == []

    @property
    def healthy(self) -> bool:
        """All streams bring data, all figures are known, and nothing is said of stale data any more."""
        incidents = self.monitor.readout.incidents()
        return (
            self.ready and all(s.up for s in self.monitor.readout.streams()) and not any(i.key.rule == "stale" for i in incidents)
        )

    def knows(self, key: PoolKey) -> bool:
        """Readiness may be a tick ahead of the first figures."""
        figures = self.monitor.readout.pool(key)
        return figures is not None and figures.health is not None

    def stream(self, name: str) -> StreamStatus:
        return next(status for status in self.monitor.readout.streams() if status.stream == name)

    def pool(self, key: PoolKey = USD) -> PoolFigures:
        figures = self.monitor.readout.pool(key)
        assert figures is not None, f"no pool {key}"
        return figures

    def told(self, rule: str, **wanted: Any) -> list[dict[str, Any]]:
        """Messages at the webhook, in their order."""
        saw("alert")
        return [m for m in self.receiver.webhook if m["rule"] == rule and wanted.items() <= m.items()]

    def logged(self, event: str, **wanted: Any) -> list[Mapping[str, Any]]:
        saw("log")
        return [entry for entry in self.logs if entry["event"] == event and wanted.items() <= entry.items()]

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page of the monitor, asked for by its owner."""
        return await self._canaries.ask(self.monitor.server.url + path, token_of(self.monitor))

    async def metric(self, name: str, **labels: str) -> float | None:
        """Sum of the matching samples of /metrics; None without any."""
        saw("metric")
        _, text = await self.page("metrics")
        values = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None

    async def reconnects(self, reason: str, stream: str) -> float:
        return await self.metric("margin_stream_reconnects_total", reason=reason, stream=stream) or 0.0

    async def refused(self, reason: str) -> float:
        return await self.metric("margin_frames_refused_total", reason=reason) or 0.0

    async def rest_results(self, result: str) -> float:
        return await self.metric("margin_rest_requests_total", result=result) or 0.0

    # ------------------------------------------------------------------ time

    def now_s(self) -> float:
        """On the event loop's clock, which no fault moves."""
        return asyncio.get_running_loop().time()

    async def until(self, condition: Callable[[], object], what: str, within_s: float = 60.0) -> float:
        """Waits for a condition, at most so many seconds; returns how long it took."""
        began = self.now_s()
        await until(lambda: bool(condition()), what, within_s)
        return self.now_s() - began

    async def seconds(self, seconds: float) -> None:
        """Lets the world go on: for what must not happen."""
        await asyncio.sleep(seconds)

    def fault_ends(self) -> None:
        """From here on the recovery is measured."""
        self._ended_at = self.now_s()

    async def recovered(self, condition: Callable[[], object] | None = None, within_s: float = 30.0) -> float:
        """Waits until all is well again, or until the condition holds; the time goes into the table of the run."""
        assert self._ended_at is not None, "fault_ends() first"
        await self.until(condition or (lambda: self.healthy), "all is well again", within_s)
        took_s = self.now_s() - self._ended_at
        saw("recovery")
        self._record("recovery_s", round(took_s, 1))
        return took_s

    # ------------------------------------------------------------------ the exchange's own figures

    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.exchange.ledger()["venues"][BINANCE]["accounts"]["main"]
        return found

    def agrees(self) -> bool:
        """Our figures are the exchange's own to 1e-9. Stop its clock before."""
        pool, theirs = self.monitor.readout.pool(USD), self.ledger()
        if pool is None or not _close(pool.equity, theirs["totals"]["equity"]):
            return False
        held = {(p.symbol, p.side): p.quantity for p in pool.positions}
        legs = {(leg["symbol"], leg["side"]): float(leg["quantity"]) for leg in theirs["positions"] if float(leg["quantity"])}
        wallets = {row.asset: row.wallet for row in pool.assets}
        return (
            _close(pool.requirement, theirs["totals"]["maintenance_margin"])
            and held == legs
            and all(_close(wallets.get(asset, 0.0), row["wallet"]) for asset, row in theirs["assets"].items())
        )

    async def agreement(self, what: str) -> None:
        """With the market at a stand, every figure becomes the exchange's own. Leaves the clock stopped."""
        self.exchange.clock(frozen=True)
        await self.exchange.step(1)
        await self.until(self.agrees, what, 60)


@asynccontextmanager
async def staged(
    receiver: Receiver,
    canaries: Canaries,
    store: Path,
    record: Callable[[str, object], None],
    *,
    venue: str = BINANCE,
    settings: Mapping[str, Any] | None = None,
    rules: Mapping[str, Any] | None = None,
    before: Callable[[Scene], None] = lambda _scene: None,
    rest_url: str = "http://127.0.0.1:{port}",
    streams_url: str = "ws://127.0.0.1:{port}",
    ready: bool = True,
    scenario: str = "calm",
) -> AsyncIterator[Scene]:
    """The scene with the monitor running and, unless `ready` is false, all its figures known.

    settings: of the venue's adapter. before: called when everything stands but the monitor.
    """
    noise = 1.0 if venue == HTX else 0.0  # HTX pushes only what moves
    async with SimExchange(scenario, 7, noise=noise, start_ms=START_MS, clock_s=asyncio.get_running_loop().time) as exchange:
        first = exchange.first_line()["venues"][venue]
        host, port = first["rest"].removeprefix("http://").split(":")
        async with ChaosProxy(host, int(port)) as rest, ChaosProxy(host, int(port)) as streams:
            scene = Scene(exchange, receiver, canaries, Wall(exchange), rest, streams)
            scene._record = record
            before(scene)
            if rest.tls is not None:
                await rest.close()
                await rest.listen()
            at = {
                "rest": rest_url.format(port=rest.port),
                "spot": rest_url.format(port=rest.port),
                "streams": streams_url.format(port=streams.port),
            }
            over: dict[str, Any] = {"venues": {venue: {**at, **(settings or {})}}, "rules": rules or {}}
            if venue == HTX:
                keys = {"api_key": {"env": "HTX_KEY"}, "api_secret": {"env": "HTX_SECRET"}}
                over["accounts"] = [{"name": "main", "venue": HTX, **keys}]
            async with _running(canaries.config(*data_for(exchange, receiver, store, **over)), scene):
                if ready:
                    await scene.until(lambda: scene.ready and scene.knows(BTC if venue == HTX else USD), "ready", 100)
                try:
                    yield scene
                finally:
                    await canaries.look_at(scene.monitor)


@asynccontextmanager
async def _running(config: Config, scene: Scene) -> AsyncIterator[None]:
    monitor = scene.monitor = Monitor(config, clock=scene.wall, clock_s=scene.now_s)  # type: ignore[arg-type]  it tells the time as a clock does
    task = asyncio.create_task(monitor.run())
    started = asyncio.create_task(monitor.started.wait())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if task.done():
        await task
    try:
        yield
        assert not task.done(), task
    finally:
        monitor.end()
        scene.rest.held = scene.streams.held = False
        async with asyncio.timeout(20):
            await task


def _close(ours: float | None, theirs: str) -> bool:
    return ours is not None and abs(ours - float(theirs)) <= 1e-9 * max(1.0, abs(float(theirs)))
