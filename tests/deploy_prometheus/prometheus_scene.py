"""The whole chain on one machine: simulated exchanges, the monitor, Prometheus that scrapes it, Alertmanager that delivers.

The market falls for real, in real time: Prometheus has no other. The fall is a part of the scenario `crash`, begun before the
monitor looks.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from prometheus_kit import DEPLOY, RULES, free_port, get, process, run, tool, wait_for

from monitor.app import Monitor
from monitor.config import Config, from_data
from monitor.sim.exchange import SimExchange

FALLEN_S = 18  # of the crash's 34 s: health is about 2 then
INTERVAL = "500ms"
LADDER = ("MarginHealthCritical", "MarginHealthEmergency")  # the crash passes both within seconds
SETTLE_S = 6.0  # so long everything goes on after the last event, for rates and rules to have their samples


@dataclass
class Stage:
    """What is left when the curtain has fallen: Prometheus still answers, for the moment `at_s`."""

    prometheus: str
    alertmanager: str
    at_s: float = 0.0
    exposition: str = ""
    paged: list[dict[str, Any]] = field(default_factory=list)  # what Alertmanager delivered to wake somebody
    mailed: list[dict[str, Any]] = field(default_factory=list)  # what it delivered to be read in the morning
    hooked: list[dict[str, Any]] = field(default_factory=list)  # what the daemon delivered itself
    active: list[dict[str, Any]] = field(default_factory=list)  # alerts that Alertmanager knows of

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The instant vector at the end of the scene. AssertionError with the reason if Prometheus refuses it."""
        answer = get(f"{self.prometheus}/api/v1/query", query=expr, time=self.at_s)
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def query_range(self, expr: str) -> list[dict[str, Any]]:
        """The matrix of the last 20 s, as a chart asks for it. AssertionError with the reason if Prometheus refuses it."""
        answer = get(f"{self.prometheus}/api/v1/query_range", query=expr, start=self.at_s - 20, end=self.at_s, step=1)
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def label_values(self, metric: str, label: str) -> list[str]:
        """As Grafana asks for `label_values(metric, label)`."""
        start, end = self.at_s - 300, self.at_s + 300
        answer = get(f"{self.prometheus}/api/v1/label/{label}/values", **{"match[]": metric, "start": start, "end": end})
        values: list[str] = answer["data"]
        return values


@contextmanager
def performed(folder: Path) -> Iterator[Stage]:
    """Plays the scene to its end, once."""
    for name in ("prometheus", "prometheus-alertmanager"):
        tool(name)
    ports = {name: free_port() for name in ("prometheus", "alertmanager", "daemon", "receiver")}
    stage = Stage(f"http://127.0.0.1:{ports['prometheus']}", f"http://127.0.0.1:{ports['alertmanager']}")
    alertmanager, prometheus = _configs(folder, ports)
    with (
        process(
            folder,
            "prometheus-alertmanager",
            f"--config.file={alertmanager}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{ports['alertmanager']}",
            "--cluster.listen-address=",
        ),
        process(
            folder,
            "prometheus",
            f"--config.file={prometheus}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
            "--rules.alert.resend-delay=1s",
        ),
    ):
        wait_for("Alertmanager is ready", lambda: get(f"{stage.alertmanager}/-/ready"))
        wait_for("Prometheus is ready", lambda: get(f"{stage.prometheus}/-/ready"))
        asyncio.run(_play(stage, ports))
        yield stage


def _configs(folder: Path, ports: dict[str, int]) -> tuple[Path, Path]:
    """The project's own files; only addresses and intervals differ. (Alertmanager's, Prometheus's)."""
    receiver = f"http://127.0.0.1:{ports['receiver']}"
    alertmanager = (DEPLOY / "alertmanager" / "alertmanager.yml").read_text().replace("http://127.0.0.1:5001", receiver)
    for wait in ("group_wait: 5s", "group_interval: 15s", "group_interval: 30s"):
        assert wait in alertmanager
        alertmanager = alertmanager.replace(wait, f"{wait.split(':')[0]}: 1s")
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    prometheus["global"] |= {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL}
    prometheus["rule_files"] = [str(RULES)]
    prometheus["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{ports['alertmanager']}"]}]
    prometheus["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{ports['daemon']}"]}]
    paths = folder / "alertmanager.yml", folder / "prometheus.yml"
    paths[0].write_text(alertmanager)
    paths[1].write_text(yaml.safe_dump(prometheus))
    run("amtool", "check-config", paths[0])
    run("promtool", "check", "config", paths[1])
    return paths


async def _play(stage: Stage, ports: dict[str, int]) -> None:
    start_ms = time.time_ns() // 1_000_000 - 1000 * FALLEN_S
    async with _receiver(stage, ports["receiver"]), SimExchange("crash", 7, start_ms=start_ms) as exchange:
        await exchange.step(FALLEN_S)  # now its clock is ours
        async with _running(Monitor(_config(exchange, ports))) as monitor:
            await _until(lambda: not monitor.readout.missing(), "ready", 30)
            refused = monitor.readout.counters()["binance_usdm"].refused
            exchange.fault("garbage", form="not_json")
            await _until(lambda: bool(refused), "a frame is refused", 20)
            exchange.fault("kill_sockets", family="market")
            await _until(
                lambda: told(stage.hooked, account="usdm", rule="health", level="critical"), "the daemon's own message", 40
            )
            await _until(lambda: paged(stage, *LADDER, account="usdm"), "what Prometheus's rule found, by Alertmanager", 20)
            await _until(lambda: paged(stage, "MarginHealth", account="coin"), "what the daemon told Alertmanager", 20)
            await _until(lambda: bool(monitor.readout.self_check().heartbeats.get("sent")), "a heartbeat", 20)
            await asyncio.sleep(SETTLE_S)
            stage.at_s = time.time() - 0.5
            stage.exposition = await asyncio.to_thread(get, f"{monitor.server.url}metrics")
            stage.active = await asyncio.to_thread(get, f"{stage.alertmanager}/api/v2/alerts")
            await _fall_silent(stage, exchange)


async def _fall_silent(stage: Stage, exchange: SimExchange) -> None:
    """After all else: no price comes any more, by stream or by REST; then they come again."""
    exchange.fault("reject_rest", count=1_000_000, path="premiumIndex")
    exchange.fault("silence_stream")
    await _until(lambda: delivered(stage.mailed, "MarginDataStale", account="usdm", status="firing"), "old data are told", 40)
    exchange.fault("clear")
    await _until(lambda: delivered(stage.mailed, "MarginDataStale", account="usdm", status="resolved"), "and their end", 20)


def told(alerts: list[dict[str, Any]], **wanted: str) -> bool:
    """Whether one of the daemon's own messages is that."""
    return any(wanted.items() <= alert.items() for alert in alerts)


def delivered(alerts: list[dict[str, Any]], *names: str, status: str = "", **labels: str) -> list[dict[str, Any]]:
    """Those of these names. status: `firing` or `resolved`, or either."""
    named = [alert for alert in alerts if alert["labels"]["alertname"] in names and labels.items() <= alert["labels"].items()]
    return [alert for alert in named if status in ("", alert["status"])]


def paged(stage: Stage, *names: str, **labels: str) -> list[dict[str, Any]]:
    """What Alertmanager delivered of these alerts to wake somebody."""
    return delivered(stage.paged, *names, **labels)


def _config(exchange: SimExchange, ports: dict[str, int]) -> Config:
    venues = exchange.first_line()["venues"]
    receiver = f"http://127.0.0.1:{ports['receiver']}"
    data: dict[str, Any] = {
        "accounts": [
            {"name": name, "venue": venue, "api_key": {"env": f"{name}_KEY"}, "api_secret": {"env": f"{name}_SECRET"}}
            for name, venue in (("usdm", "binance_usdm"), ("coin", "htx_coin_futures"))
        ],
        "venues": {name: {"rest": it["rest"], "spot": it["rest"], "streams": it["streams"]} for name, it in venues.items()},
        "web": {"listen": f"127.0.0.1:{ports['daemon']}"},
        "store": {"path": ":memory:"},
        "heartbeat": {"url": {"env": "BEAT"}, "period_s": 1, "allow_insecure": True},
        "alerts": {
            "page_url": f"http://127.0.0.1:{ports['daemon']}/",
            "channels": [
                {"kind": "webhook", "name": "hook", "url": {"env": "HOOK"}, "allow_insecure": True},
                {"kind": "alertmanager", "name": "site", "url": {"env": "SITE"}, "allow_insecure": True, "resend_s": 1},
            ],
            # Of the other account Prometheus alone tells Alertmanager: of the same alert from both it delivers the daemon's.
            "routes": [{"channels": ["hook"]}, {"channels": ["site"], "accounts": ["coin"]}],
        },
    }
    environ = {
        "usdm_KEY": venues["binance_usdm"]["api_key"],
        "usdm_SECRET": venues["binance_usdm"]["api_secret"],
        "coin_KEY": venues["htx_coin_futures"]["api_key"],
        "coin_SECRET": venues["htx_coin_futures"]["api_secret"],
        "BEAT": f"{receiver}/beat",
        "HOOK": f"{receiver}/hook",
        "SITE": f"http://127.0.0.1:{ports['alertmanager']}",
    }
    return from_data(data, environ)


@asynccontextmanager
async def _receiver(stage: Stage, port: int) -> AsyncIterator[None]:
    """Takes what Alertmanager and the daemon deliver, and the heartbeat."""

    def keeps(kept: list[dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def take(request: web.Request) -> web.Response:
            kept.extend(json.loads(await request.read())["alerts"])
            return web.Response()

        return take

    async def beat(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post("/page", keeps(stage.paged))
    app.router.add_post("/tell", keeps(stage.mailed))
    app.router.add_post("/hook", keeps(stage.hooked))
    app.router.add_get("/beat", beat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _running(monitor: Monitor) -> AsyncIterator[Monitor]:
    task = asyncio.create_task(monitor.run())
    started = asyncio.create_task(monitor.started.wait())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if task.done():
        await task
    try:
        yield monitor
        assert not task.done(), task
    finally:
        monitor.end()
        async with asyncio.timeout(15):
            await task


async def _until(condition: Callable[[], object], what: str, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  what is waited for is in other processes
            await asyncio.sleep(0.05)
