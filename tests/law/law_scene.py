"""The whole product in one loop whose time jumps: exchange, monitor, four receivers of two clients; and the law over them.

Each simulated second the venue's own health of every pool is compared with what the pool's owner was notified of.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime
from typing import Any

from aiohttp import web
from law_mailbox import OK, Mailbox
from law_venues import CLIENTS, Pool, Venues
from warping import WarpingLoop

from monitor.app import Monitor
from monitor.config import from_data
from monitor.model.alerts import Level

LIMITS = {Level.WARNING: 2.0, Level.HIGH: 1.5, Level.CRITICAL: 1.2, Level.EMERGENCY: 1.1, Level.LIQUIDATION: 1.0}
CRITICAL = LIMITS[Level.CRITICAL]
BLIND_S = 60  # after so long a critical pool is notified, or notified as UNKNOWN
DECIDED_S = 5  # of it: ticks, a price on its way
DELIVERED_S = 25  # to fall over, and over again
WELL_S = 60  # a receiver that has been well for so long owes no wait to anybody
MEMORY = 1000  # samples of true healths
RATIO_RULES = ("health", "guarantee_asset_ratio")


class LawError(AssertionError):
    """The law does not hold."""


class Scene:
    """One life of the product. Everything is synchronous for the state machine: `run` lets the loop work."""

    def __init__(self) -> None:
        self.loop = WarpingLoop()
        self.venues = Venues(self.loop.time)
        self.boxes = {name: Mailbox(name) for client in CLIENTS for name in (f"{client}_main", f"{client}_reserve")}
        self.seconds = 0
        self._healths: dict[Pool, deque[tuple[int, float | None]]] = {}  # (venue's ms, health), a second apart
        self._critical_since_s: dict[Pool, float] = {}
        self._read = dict.fromkeys(self.boxes, 0)
        self._latest: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in self.boxes}  # box → incident → alert
        self._runners: list[web.AppRunner] = []
        self._run(self._start())

    def _run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _start(self) -> None:
        for box in self.boxes.values():
            runner = web.AppRunner(box.app(), shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self._runners.append(runner)
        await self.venues.exchange.start()
        ports = [runner.addresses[0][1] for runner in self._runners]
        config = self._config(dict(zip(self.boxes, ports, strict=True)))
        self.monitor = Monitor(config, clock=self.venues.exchange, clock_s=self.loop.time)  # type: ignore[arg-type]  it tells the time
        self._task = asyncio.create_task(self.monitor.run())
        started = asyncio.create_task(self.monitor.started.wait())
        await asyncio.wait([self._task, started], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        await asyncio.sleep(5)

    def _config(self, ports: dict[str, int]) -> Any:
        exchange = self.venues.exchange
        venues = exchange.first_line()["venues"]
        environ, accounts = {}, []
        htx = exchange.htx.accounts
        for venue, held in (("binance_usdm", exchange.binance.accounts), ("htx_coin_futures", htx)):
            for name, account in held.items():
                environ |= {f"{name}_KEY": account.api_key, f"{name}_SECRET": account.api_secret}
                accounts.append(
                    {"name": name, "venue": venue, "api_key": {"env": f"{name}_KEY"}, "api_secret": {"env": f"{name}_SECRET"}}
                )
        environ |= {name: f"http://127.0.0.1:{port}/hook" for name, port in ports.items()}
        data = {
            "accounts": accounts,
            "venues": {name: {"rest": it["rest"], "spot": it["rest"], "streams": it["streams"]} for name, it in venues.items()},
            "web": {"listen": "127.0.0.1:0"},
            "store": {"path": ":memory:"},
            "history": {"enabled": False},
            "alerts": {
                "channels": [
                    {"kind": "webhook", "name": name, "url": {"env": name}, "allow_insecure": True} for name in self.boxes
                ],
                "routes": [
                    {
                        "channels": [f"{client}_{which}"],
                        "accounts": [f"{client}_usdm", f"{client}_coins"],
                        "min_level": level,
                    }
                    for client in CLIENTS
                    for which, level in (("main", "warning"), ("reserve", "emergency"))
                ],
                "delivery": {"retry_max_s": 5, "probe_s": 5, "summary_above": 4},
            },
        }
        return from_data(data, environ)

    def close(self) -> None:
        self._run(self._stop())
        self.loop.close()

    async def _stop(self) -> None:
        self.venues.mend()
        for name in self.boxes:
            self.set_box(name, OK)
        self.monitor.end()
        await self._task
        await self.venues.exchange.stop()
        for runner in self._runners:
            await runner.cleanup()

    # ------------------------------------------------------------------ time

    def pass_s(self, seconds: int) -> None:
        for _ in range(seconds):
            self._run(asyncio.sleep(1.0))
            self.seconds += 1
            if self._task.done():
                self._run(self._task)
                raise LawError("the monitor ended by itself")
            self._look()

    def do(self, call: Any, *args: Any, liquidates: bool = False, **kwargs: Any) -> Any:
        """Something at the exchange; inside the loop, as it sends. liquidates: what is flat then was liquidated in between."""

        async def work() -> Any:
            return call(*args, **kwargs)

        result = self._run(work())
        self._sample(liquidates)
        return result

    def set_box(self, name: str, behaviour: str) -> None:
        self.boxes[name].behave(behaviour, self.loop.time())

    # ------------------------------------------------------------------ the law

    def _sample(self, liquidates: bool) -> None:
        """What is true now."""
        now_ms, now_s = self.venues.exchange.now_ms(), self.loop.time()
        healths = self.venues.healths()
        for pool in self._healths.keys() - healths.keys():
            healths[pool] = None  # an isolated position that is closed
        for pool, health in healths.items():
            samples = self._healths.setdefault(pool, deque(maxlen=MEMORY))
            if liquidates and health is None and samples and samples[-1][1] is not None:
                samples.append((now_ms, 0.0))
            samples.append((now_ms, health))
            if health is not None and health <= CRITICAL:
                self._critical_since_s.setdefault(pool, now_s)
            else:
                self._critical_since_s.pop(pool, None)

    def _look(self) -> None:
        self._sample(liquidates=True)
        now_s = self.loop.time()
        for box in self.boxes.values():
            for alert in box.alerts[self._read[box.name] :]:
                self._arrived(box, alert)
            self._read[box.name] = len(box.alerts)
        for pool, since_s in self._critical_since_s.items():
            critical_s = now_s - since_s
            if critical_s >= BLIND_S + DECIDED_S and not self._decided(pool):
                raise LawError(
                    f"{pool} is critical for {critical_s:.0f} s (health {self._healths[pool][-1][1]}), nothing is open about it"
                )
            if critical_s >= BLIND_S + DECIDED_S + DELIVERED_S and self._somebody_is_well(pool) and not self._notified(pool):
                raise LawError(f"{pool} is critical for {critical_s:.0f} s, its owner was not notified")

    def _somebody_is_well(self, pool: Pool) -> bool:
        client = pool[1].partition("_")[0]
        now_s = self.loop.time()
        return any(now_s - box.well_since_s >= WELL_S for name, box in self.boxes.items() if name.startswith(client))

    def _decided(self, pool: Pool) -> bool:
        return any(
            _is_about(pool, incident.key.venue, incident.key.account, incident.key.pool)
            and (incident.level >= Level.CRITICAL or incident.level == Level.UNKNOWN)
            for incident in self.monitor.readout.incidents()
        )

    def _notified(self, pool: Pool) -> bool:
        client = pool[1].partition("_")[0]
        return any(
            _is_about(pool, alert["venue"], alert["account"], alert["pool"]) and alert["level"] in ALARMING
            for name, latest in self._latest.items()
            if name.startswith(client)
            for alert in latest.values()
        )

    def _arrived(self, box: Mailbox, alert: dict[str, Any]) -> None:
        client = box.name.partition("_")[0]
        if alert["account"] and not alert["account"].startswith(client):
            raise LawError(f"{box.name} heard of {alert['account']}: {alert['summary']}")
        if alert["momentary"]:
            return
        self._latest[box.name][alert["incident"]["id"]] = alert
        pool = (alert["venue"], alert["account"], alert["pool"])
        if alert["rule"] not in RATIO_RULES or pool not in self._healths:
            return
        if alert["level"] == "ok" and not self._was(pool, alert, lambda health: health is None or health > CRITICAL, before_s=10):
            raise LawError(f"{pool}: resolved while it is critical: {alert['summary']}")
        limit = LIMITS.get(Level[alert["level"].upper()])
        if alert["rule"] == "health" and limit is not None:
            near = limit * 1.05 if alert["reason"] in ("repeat", "better") else limit * 1.001
            if not self._was(pool, alert, lambda health: health is not None and health <= near, before_s=70):
                raise LawError(f"{pool}: {alert['level']} that never was: {alert['summary']}; {list(self._healths[pool])[-5:]}")

    def _was(self, pool: Pool, alert: dict[str, Any], holds: Any, before_s: int) -> bool:
        """Whether the venue's own health was so at the time of the alert, or not long before."""
        at_ms = int(datetime.fromisoformat(alert["at"]).timestamp() * 1000)
        near = [health for ms, health in self._healths[pool] if at_ms - before_s * 1000 <= ms <= at_ms + 2000]
        return not near or any(holds(health) for health in near)


ALARMING = ("critical", "emergency", "liquidation", "unknown")


def _is_about(pool: Pool, venue: str, account: str, name: str) -> bool:
    return venue == pool[0] and account in ("", pool[1]) and name in ("", pool[2])
