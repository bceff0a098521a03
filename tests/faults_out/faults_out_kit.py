"""What fault rows 37 to 54 share: receivers that misbehave on order, the app or the daemon, and their witnesses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from conftest_e2e import data_for, until
from conftest_e2e import running as monitor_runs
from faults_canary import Canaries, answer_of, token_of
from faults_witness import saw
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from monitor.app import Monitor
from monitor.model.alerts import IncidentKey, Level, Transition, Worse
from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGES = ["/", "/metrics", "/-/ready", "/-/healthy", *(f"/api/v1/{name}" for name in ("status", "alerts", "silences", "events"))]
HURRIED: dict[str, Any] = {"connect_s": 1, "total_s": 1, "retry_min_s": 0.05, "retry_max_s": 0.2, "probe_s": 0.3}


class Got(Struct):
    """One request that arrived."""

    at_s: float  # monotonic
    channel: str
    id: str
    body: dict[str, Any]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.body.get("alerts", [])
        return found

    @property
    def text(self) -> str:
        return str(self.body.get("text", ""))


class Stage:
    """Slack, Telegram and a webhook on loopback. `orders[channel]` holds the next answers; without one all is taken."""

    def __init__(self, canaries: Canaries) -> None:
        self.canaries = canaries
        self.got: list[Got] = []
        self.taken: list[Got] = []
        self.orders: dict[str, deque[Answer]] = {"slack": deque(), "telegram": deque(), "webhook": deque()}
        self.always: dict[str, Answer] = {}
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.canaries.overhear])
        app.router.add_post("/services/{path:.*}", self._at("slack"))
        app.router.add_post("/bot{token}/sendMessage", self._at("telegram"))
        app.router.add_post("/hook{path:.*}", self._at("webhook"))
        return app

    def _at(self, channel: str) -> Answer:
        async def handle(request: web.Request) -> web.StreamResponse:
            got = Got(time.monotonic(), channel, request.headers["Idempotency-Key"], await request.json())
            self.got.append(got)
            if self.orders[channel]:
                return await self.orders[channel].popleft()(request)
            if channel in self.always:
                return await self.always[channel](request)
            self.taken.append(got)
            if channel == "slack":
                return web.Response(text="ok")
            return web.json_response({"ok": True, "result": {"message_id": len(self.taken)}})

        return handle

    def of(self, channel: str, rule: str = "health") -> list[Got]:
        """Attempts on one channel, about one rule."""
        saw("alert")
        return [got for got in self.got if got.channel == channel and got.text.split("\n")[0].find(f"· {rule}") > 0]

    def alerts(self, rule: str = "health", channel: str = "webhook") -> list[dict[str, Any]]:
        """Alerts that were taken, of one rule."""
        saw("alert")
        return [alert for got in self.taken if got.channel == channel for alert in got.alerts if alert["rule"] == rule]


@pytest.fixture
async def stage(canaries: Canaries) -> AsyncIterator[Stage]:
    one = Stage(canaries)
    runner = web.AppRunner(one.app(), shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture
def events(canaries: Canaries) -> list[Any]:
    """The log of this process."""
    return canaries.events


def logged(events: list[Any], event: str, **fields: Any) -> list[Any]:
    saw("log")
    return [entry for entry in events if entry.get("event") == event and fields.items() <= entry.items()]


# ------------------------------------------------------------------ answers


def says(status: int, body: object = None, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body if body is not None else {"ok": status == 200}, status=status, headers=headers)

    return answer


def text(status: int, body: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("the client should have hung up")


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def drips(request: web.Request) -> web.StreamResponse:
    """Headers of a failure at once, then a byte at a time for ever."""
    response = web.StreamResponse(status=500)
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


# ------------------------------------------------------------------ the app in this process

# Critical is met before the venue's own margin call, which is at 1.25: one plunge, one alert.
RULES: dict[str, Any] = {"health": {"critical": 1.4}}
PLUNGED = 1.3
ACCOUNT = SimAccount("main", wallets={"USDT": 50_000}, positions=[SimPosition("BTCUSDT", "4")])


def exchange(**more: Any) -> SimExchange:
    """Binance alone, on the real clock, with prices that stand still unless told."""
    return SimExchange("calm", 7, accounts=[ACCOUNT], htx_accounts=[], noise=0.0, **more)


@contextlib.asynccontextmanager
async def running(there: SimExchange, stage: Stage, store: Path | None = None, **over: Any) -> AsyncIterator[Monitor]:
    """The monitor, started, with canaries in all its secrets; at the end all its pages and files are looked at."""
    delivery = HURRIED | over.pop("delivery", {})
    alerts = {"delivery": delivery} | over.pop("alerts", {})
    store = store or stage.canaries.folder / "state.db"
    data = data_for(there, stage, store, alerts=alerts, rules=RULES, **over)  # type: ignore[arg-type]  it asks for no more than `url`
    async with monitor_runs(stage.canaries.config(*data)) as monitor:
        try:
            yield monitor
        finally:
            await stage.canaries.look_at(monitor)


async def ready(monitor: Monitor) -> None:
    await until(lambda: monitor.readout.missing() == [], "ready", 30)


def crossing(level: Level, was: Level = Level.OK, account: str = "main", **more: Any) -> Transition:
    """For what the simulated market cannot be made to do quickly: many accounts at once."""
    return Transition(
        key=IncidentKey("binance_usdm", account, "USD", "test"),
        level=level,
        was=was,
        at_ms=time.time_ns() // 1_000_000,
        summary=f"{account} went from {was.word} to {level.word}",
        worse=Worse.DOWN,
        **more,
    )


def plunge(there: SimExchange) -> None:
    """The account's collateral leaves: health falls to 1.3, which is critical here."""
    totals = there.ledger()["venues"]["binance_usdm"]["accounts"]["main"]["totals"]
    there.transfer("USDT", str(round(PLUNGED * float(totals["maintenance_margin"]) - float(totals["equity"]), 6)))


def recover(there: SimExchange) -> None:
    there.transfer("USDT", "60000")


def sample(exposition: str, name: str, **labels: str) -> float:
    """0 where there is no such series: counters appear with their first count."""
    saw("metric")
    for family in text_string_to_metric_families(exposition):
        for one in family.samples:
            if one.name == name and labels.items() <= one.labels.items():
                return float(one.value)
    return 0.0


async def metric(monitor: Monitor, name: str, **labels: str) -> float:
    _, _, text = await answer_of(f"{monitor.server.url}metrics", token_of(monitor))
    return sample(text, name, **labels)


async def metric_becomes(monitor: Monitor, value: float, name: str, deadline_s: float = 10.0, **labels: str) -> None:
    async with asyncio.timeout(deadline_s):
        while await metric(monitor, name, **labels) != value:  # noqa: ASYNC110  asked for over HTTP, as Prometheus does
            await asyncio.sleep(0.05)


# ------------------------------------------------------------------ the daemon in its own process


class Daemon:
    """`margin-monitor run` as a user starts it, with canaries in all its secrets. Its log goes to a file as JSON lines."""

    def __init__(self, folder: Path, config: dict[str, Any], environ: dict[str, str], canaries: Canaries) -> None:
        config, environ = canaries.plant(config, environ)
        self.canaries = canaries
        self.token = canaries.latest["web.token"]
        self.folder = folder
        self.config = folder / "config.yaml"
        self.log = folder / "log"
        self.environ = environ
        self.process: asyncio.subprocess.Process | None = None
        self.url = f"http://{config['web']['listen']}/"
        self.write(config)

    def write(self, config: dict[str, Any]) -> None:
        self.config.write_text(yaml.safe_dump(config))
        self.config.chmod(0o600)

    async def start(self, *prefix: str, command: tuple[str, ...] = ("-m", "monitor"), **environ: str) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *prefix,
                sys.executable,
                *command,
                "run",
                str(self.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environ, **environ},
            )

    async def ready(self, deadline_s: float = 40.0) -> None:
        await self._until(lambda status: status == 200, "-/ready", deadline_s)

    async def _until(self, good: Callable[[int], bool], path: str, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    assert self.alive, self.text()
                    with contextlib.suppress(OSError):
                        if good((await self.get(path))[0]):
                            return
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"{path} not within {deadline_s:g} s:\n{self.text()[-4000:]}")

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def events(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        lines = [line for line in self.text().splitlines() if line.startswith("{")]
        return logged([*map(json.loads, lines)], event, **fields)

    async def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        return await self.canaries.ask(self.url + path, self.token, timeout_s)

    async def look(self) -> None:
        """All that it shows and keeps, for the search at the end."""
        if self.alive:
            await self.canaries.look(self.url, PAGES, self.token)
        self.canaries.files[str(self.log)] = self.text() if self.log.exists() else ""
        self.canaries.read(self.folder / "store.sqlite3")

    async def metric(self, name: str, **labels: str) -> float:
        return sample((await self.get("metrics"))[1], name, **labels)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self, deadline_s: float = 20.0) -> int:
        assert self.process is not None
        async with asyncio.timeout(deadline_s):
            return await self.process.wait()


def daemon_config(there: SimExchange, stage: Stage, folder: Path, **over: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration file with the webhook alone, and the environment that holds its secrets."""
    venue = there.first_line()["venues"]["binance_usdm"]
    config: dict[str, Any] = {
        "accounts": [{"name": "main", "venue": "binance_usdm", "api_key": {"env": "KEY"}, "api_secret": {"env": "SECRET"}}],
        "venues": {"binance_usdm": {"rest": venue["rest"], "spot": venue["rest"], "streams": venue["streams"]}},
        "web": {"listen": f"127.0.0.1:{free_port()}"},
        "store": {"path": str(folder / "store.sqlite3")},
        "log": {"level": "debug", "format": "json"},
        "rules": RULES,
        "alerts": {
            "channels": [{"kind": "webhook", "name": "webhook", "url": {"env": "HOOK"}, "allow_insecure": True}],
            "delivery": dict(HURRIED),
        },
    }
    environ = {"KEY": venue["api_key"], "SECRET": venue["api_secret"], "HOOK": f"{stage.url}/hook"}
    return config | over, environ


@contextlib.asynccontextmanager
async def daemon(there: SimExchange, stage: Stage, folder: Path, **over: Any) -> AsyncIterator[Daemon]:
    """The daemon, not yet started; killed at the end whatever it is at."""
    one = Daemon(folder, *daemon_config(there, stage, folder, **over), stage.canaries)
    try:
        yield one
    finally:
        await one.look()
        if one.alive:
            await one.kill()


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
