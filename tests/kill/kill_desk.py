"""A state machine over the whole of alerts: desk, outbox, store on disk, a real receiver that fails now and then, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import orjson
from aiohttp import web
from alerts_kit import MINUTE, Clock, crossing, settings, webhook
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.model.alerts import IncidentKey, Level
from monitor.store import Store

KEYS = tuple(IncidentKey("binance_usdm", name, "USD", "health") for name in "abc")
TOLD = [level for level in Level if level is not Level.INFO]  # info is below the default route
DELIVERY = {"retry_min_s": 0.001, "retry_max_s": 0.002, "late_min": 1440, "summary_above": 1000}


class _Bench:
    """One loop and one receiver for all examples of a run."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.refusing = False
        self.got: list[dict[str, Any]] = []
        self.base = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/w", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        if self.refusing:
            return web.Response(status=503)
        self.got.append(body)
        return web.Response()


@contextlib.contextmanager
def receiving_desk() -> Iterator[None]:
    bench = DeskHistories.bench = _Bench()
    bench.loop.run_until_complete(bench.start())
    try:
        yield
    finally:
        bench.loop.run_until_complete(bench.stop())
        bench.loop.close()


class DeskHistories(RuleBasedStateMachine):
    """The model knows what the receiver was told, and what must be on its way."""

    bench: ClassVar[_Bench]

    def __init__(self) -> None:
        super().__init__()
        self.do = self.bench.loop.run_until_complete
        self.bench.got.clear()
        self.bench.refusing = False
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.levels = dict.fromkeys(KEYS, Level.OK)
        self.quiet: dict[str, IncidentKey] = {}  # by silence
        self.ever_silenced: set[IncidentKey] = set()
        self.store: Store[IncidentRecord, OutboxRow]
        self.desk: AlertDesk
        self.do(self.start())

    async def start(self) -> None:
        path = Path(self.folder.name, "state.db")
        self.store = await Store.open(path, IncidentRecord, OutboxRow, now_ms=self.clock)
        self.desk = AlertDesk(
            settings(webhook("w", self.bench.base), delivery=DELIVERY),
            self.store,
            figures_of=lambda key: None,
            now_ms=self.clock,
            rng=random.Random(1),
        )

    def teardown(self) -> None:
        self.do(self.store.close())
        self.folder.cleanup()

    # -------------------------------------------------------------- what may happen

    @rule(key=st.sampled_from(KEYS), level=st.sampled_from(TOLD))
    def crosses(self, key: IncidentKey, level: Level) -> None:
        was = self.levels[key]
        if level is was:
            return
        self.clock.ms += 1000
        self.do(self.desk.tick(self.clock.ms))
        before = self.incident(key)
        self.do(self.desk.handle([crossing(level, was, self.clock.ms, key)]))
        self.levels[key] = level
        if level is Level.UNKNOWN:
            assert self.incident(key) is not None, "missing data resolved something"
        if level is Level.OK or (self.silenced(key) and level.gravity < Level.EMERGENCY):
            return
        told = Level.OK if before is None else before.notified_level
        if before is not None and before.acknowledged is not None:
            told = min(told, before.acknowledged.level)
        if level is Level.UNKNOWN or level > told:
            said = [message.incident.level for message in self.queued(key) if message.at_ms == self.clock.ms]
            assert said == [level], f"{was.word} to {level.word} is neither delivered nor queued: {said}"

    @rule(minutes=st.integers(0, 90))
    def time_passes(self, minutes: int) -> None:
        before = {incident.id: incident for incident in self.desk.incidents()}
        self.clock.ms += minutes * MINUTE
        self.do(self.desk.tick(self.clock.ms))
        for incident in self.desk.incidents():
            quiet = before[incident.id].acknowledged
            if quiet is not None and self.clock.ms < quiet.until_ms and incident.key not in self.ever_silenced:
                assert incident.messages == before[incident.id].messages, "repeated although acknowledged"

    # -------------------------------------------------------------- what a person may do

    @rule(key=st.sampled_from(KEYS), minutes=st.integers(1, 120))
    def acknowledges(self, key: IncidentKey, minutes: int) -> None:
        if (incident := self.incident(key)) is not None:
            self.do(self.desk.acknowledge(incident.id, author="somebody", note="", minutes=minutes))

    @rule(key=st.sampled_from(KEYS))
    def takes_it_back(self, key: IncidentKey) -> None:
        if (incident := self.incident(key)) is not None:
            self.do(self.desk.unacknowledge(incident.id))

    @rule(key=st.sampled_from(KEYS), minutes=st.integers(1, 120))
    def silences(self, key: IncidentKey, minutes: int) -> None:
        match = IncidentKey("", key.account, "", "")
        silence = self.do(self.desk.silence(match, author="somebody", note="", minutes=minutes))
        self.quiet[silence.id] = key
        self.ever_silenced.add(key)

    @rule()
    def unsilences(self) -> None:
        for silence in self.desk.silences():
            assert self.do(self.desk.unsilence(silence.id))
        self.do(self.desk.tick(self.clock.ms))

    def silenced(self, key: IncidentKey) -> bool:
        return any(self.quiet[silence.id] == key for silence in self.desk.silences())

    # -------------------------------------------------------------- what may happen to us

    @rule()
    def restart(self) -> None:
        """As after kill -9: nothing is said goodbye to. The engine starts from what the desk knows."""
        before = sorted(self.desk.incidents(), key=lambda incident: incident.id)
        queued = sorted(row.row.id for row in self.desk._outbox)
        silences = self.desk.silences()
        self.do(self.store.close())
        self.do(self.start())
        assert sorted(self.desk.incidents(), key=lambda incident: incident.id) == before
        assert sorted(row.row.id for row in self.desk._outbox) == queued
        assert self.desk.silences() == silences

    @rule()
    def delivery(self) -> None:
        self.bench.refusing = False
        self.do(self.send(10.0))
        assert not len(self.desk._outbox), "a willing receiver gets everything"

    @rule()
    def delivery_fails(self) -> None:
        waiting = len(self.desk._outbox)
        got = len(self.bench.got)
        self.bench.refusing = True
        self.do(self.send(0.003))
        assert (len(self.desk._outbox), len(self.bench.got)) == (waiting, got), "what was refused waits"

    async def send(self, deadline_s: float) -> None:
        sending = asyncio.create_task(self.desk.run())
        await self.desk.flush(deadline_s)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)

    # -------------------------------------------------------------- what always holds

    @invariant()
    def what_is_bad_is_known(self) -> None:
        """Every account that is not OK has its open incident, at that level; every account that is OK has none."""
        assert self.desk.open_levels() == {key: level for key, level in self.levels.items() if level is not Level.OK}

    @invariant()
    def what_is_bad_was_told_or_waits(self) -> None:
        """Unless a silence holds it back; and then no longer than the silence lasts."""
        for incident in self.desk.incidents():
            if incident.messages:
                last = f"{incident.id}.{incident.messages}"
                told = any(alert["id"] == last for body in self.bench.got for alert in body["alerts"])
                assert told or any(message.id == last for message in self.queued(incident.key)), f"{last} is nowhere"
            if self.silenced(incident.key) and incident.level.gravity < Level.EMERGENCY:
                continue
            assert incident.messages, "nobody was told"
            if incident.level is not Level.UNKNOWN:
                assert incident.notified_level >= incident.level, "worse than anybody was told"

    @invariant()
    def one_end_per_incident(self) -> None:
        ends = [alert["incident"]["id"] for body in self.bench.got for alert in body["alerts"] if alert["reason"] == "resolved"]
        assert len(ends) == len(set(ends))

    def incident(self, key: IncidentKey) -> Any:
        return next((incident for incident in self.desk.incidents() if incident.key == key), None)

    def queued(self, key: IncidentKey) -> list[Any]:
        return [message for one in self.desk._outbox for message in one.row.notice.messages if message.incident.key == key]
