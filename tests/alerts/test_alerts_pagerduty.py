"""PagerDuty as documented: who is called when, what one acknowledges, and that nothing stays open there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from alerts_answers import NOTICE, ROUTING_KEY, Notebook, raw_settings, send
from alerts_kit import (
    CAUSES,
    KEY,
    LEVERS,
    MINUTE,
    Clock,
    Receiver,
    crossing,
    desk,
    eventually,
    figures,
    incident,
    message,
    open_store,
    receiver,
    running,
    settings,
)
from pydantic import TypeAdapter

from monitor.alerts.channels import CHANNELS, ChannelSettings
from monitor.alerts.channels.base import Sent
from monitor.alerts.channels.http import Http
from monitor.alerts.channels.pagerduty import SUMMARY_CHARS_MAX
from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import Notice, Reason
from monitor.model.alerts import Level, Worse

OK, INFO, WARNING, HIGH, CRITICAL, EMERGENCY, UNKNOWN = (
    Level.OK,
    Level.INFO,
    Level.WARNING,
    Level.HIGH,
    Level.CRITICAL,
    Level.EMERGENCY,
    Level.UNKNOWN,
)
PATH = "/v2/enqueue"


class Pager:
    """What https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ says of deduplication and notifications."""

    def __init__(self, there: Receiver) -> None:
        self.there = there
        self.alerts: dict[str, str] = {}  # dedup_key -> "triggered", "acknowledged", "resolved"
        self.pages: list[str] = []  # severities with which somebody was called
        self.refuse: list[tuple[str, int]] = []  # (event_action, status): the next such event gets it
        there.answers[PATH] = self._take

    async def _take(self, request: web.Request) -> web.StreamResponse:
        event = orjson.loads(await request.read())
        action, key = event["event_action"], event["dedup_key"]
        for one in self.refuse:
            if one[0] == action:
                self.refuse.remove(one)
                return web.Response(status=one[1])
        state = self.alerts.get(key)
        if action == "trigger":
            if state in (None, "resolved"):
                self.alerts[key] = "triggered"
                self.pages.append(event["payload"]["severity"])
            # else: a log entry; an acknowledged incident "won't generate any additional notifications"
        elif state in ("triggered", "acknowledged"):
            self.alerts[key] = f"{action}d" if action == "acknowledge" else "resolved"
        return web.json_response({"status": "success", "message": "Event processed", "dedup_key": key}, status=202)

    def acknowledge_all(self) -> None:
        """The person on call, on the telephone."""
        self.alerts = {key: "acknowledged" if state == "triggered" else state for key, state in self.alerts.items()}

    def open(self) -> int:
        return sum(state != "resolved" for state in self.alerts.values())

    def actions(self) -> list[tuple[str, str]]:
        """(action, call) of all that arrived."""
        return [(event["event_action"], event["dedup_key"].partition("/")[2] or "1") for event in self.there.at(PATH)]


class Shift:
    """One desk after the other on one store and one pager."""

    def __init__(self, there: Receiver, path: Path) -> None:
        self.pager = Pager(there)
        self.clock = Clock()
        self._base = there.base
        self._path = path
        self.desk: AlertDesk

    @asynccontextmanager
    async def life(self, **more: Any) -> AsyncIterator[AlertDesk]:
        store = await open_store(self._path)
        channel = raw_settings("pagerduty", self._base)
        self.desk = desk(settings(channel, **more), store, self.clock, figures_of=lambda key: figures())
        try:
            async with running(self.desk):
                yield self.desk
        finally:
            await store.close()

    async def goes(self, level: Level, was: Level, **more: Any) -> None:
        self.clock.ms += 1000
        await self.desk.handle([crossing(level, was, self.clock.ms, **more)])
        assert await self.desk.flush(10) == 0

    async def passes(self, minutes: float) -> None:
        self.clock.ms += round(minutes * MINUTE)
        await self.desk.tick(self.clock.ms)
        assert await self.desk.flush(10) == 0

    async def acknowledge(self, minutes: float = 60) -> None:
        (one,) = self.desk.incidents()
        assert await self.desk.acknowledge(one.id, author="ann", note="adding margin", minutes=minutes)
        assert await self.desk.flush(10) == 0


@pytest.fixture
async def shift(tmp_path: Path) -> AsyncIterator[Shift]:
    async with receiver() as there:
        yield Shift(there, tmp_path / "state.db")


# ------------------------------------------------------------------ who is called


async def test_one_incident_is_one_call_and_one_end(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(CRITICAL, OK)
        await shift.passes(5)
        await shift.goes(OK, CRITICAL)
    assert shift.pager.pages == ["critical"], "a repeat is a log entry there: PagerDuty itself calls until somebody answers"
    assert shift.pager.actions() == [("trigger", "1"), ("trigger", "1"), ("resolve", "1")]
    assert shift.pager.open() == 0


async def test_worsening_calls_again_although_it_was_acknowledged_there(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(WARNING, OK)
        shift.pager.acknowledge_all()
        await shift.goes(CRITICAL, WARNING)
        assert shift.pager.pages == ["warning", "critical"]
        assert shift.pager.actions()[1:] == [("trigger", "2"), ("resolve", "1")], "nobody is let go before the next call is there"
        assert shift.pager.open() == 1
        await shift.goes(OK, CRITICAL)
    assert shift.pager.open() == 0


async def test_an_acknowledgement_here_is_one_there_and_its_end_calls_again(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(CRITICAL, OK)
        await shift.acknowledge(minutes=60)
        assert list(shift.pager.alerts.values()) == ["acknowledged"]
        for _ in range(11):
            await shift.passes(5)
        assert shift.pager.pages == ["critical"]
        await shift.passes(5)
        assert shift.pager.pages == ["critical", "critical"], "its time is over and the danger is not"
        await shift.goes(OK, CRITICAL)
    assert shift.pager.open() == 0


async def test_an_acknowledgement_taken_back_calls_again(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(CRITICAL, OK)
        await shift.acknowledge()
        await shift.desk.unacknowledge(shift.desk.incidents()[0].id)
        await shift.passes(5)
    assert shift.pager.pages == ["critical", "critical"]


async def test_missing_data_call_and_end_nothing(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(HIGH, OK)
        await shift.goes(UNKNOWN, HIGH)
        assert shift.pager.pages == ["error", "critical"]
        assert shift.pager.open() == 2, "what was known before is still true as far as anybody knows"
        await shift.acknowledge()
        assert list(shift.pager.alerts.values()) == ["acknowledged", "acknowledged"], "both are the one incident"
        await shift.goes(EMERGENCY, UNKNOWN)
        assert shift.pager.open() == 1
        await shift.goes(OK, EMERGENCY)
    assert shift.pager.open() == 0


async def test_improvement_calls_nobody(shift: Shift) -> None:
    async with shift.life(tell_better=True):
        await shift.goes(CRITICAL, OK)
        await shift.goes(WARNING, CRITICAL)
    assert shift.pager.pages == ["critical"]
    assert shift.pager.open() == 1


async def test_after_a_restart_earlier_calls_are_ended_too(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(WARNING, OK)
        await shift.goes(HIGH, WARNING)
    async with shift.life():
        await shift.goes(CRITICAL, HIGH)
        assert shift.pager.open() == 1
    async with shift.life():
        await shift.goes(OK, CRITICAL)
    assert shift.pager.open() == 0
    assert shift.pager.pages == ["warning", "error", "critical"]


async def test_an_occurrence_waits_for_a_person(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(CRITICAL, OK, momentary=True)
        await shift.goes(CRITICAL, OK, momentary=True)
    assert (shift.pager.pages, shift.pager.open()) == (["critical", "critical"], 2)


# ------------------------------------------------------------------ what gets lost on the way


async def test_what_was_accepted_is_not_sent_again_with_the_rest(shift: Shift) -> None:
    async with shift.life():
        await shift.goes(WARNING, OK)
        shift.pager.refuse = [("resolve", 429)]
        await shift.goes(CRITICAL, WARNING)
    assert shift.pager.actions() == [("trigger", "1"), ("trigger", "2"), ("resolve", "1"), ("resolve", "1")]
    ids = shift.pager.there.ids(PATH)
    assert ids[2] == ids[3], "each attempt of one event has the same id"
    assert len(set(ids)) == 3, "and each event its own"


async def test_an_acknowledgement_that_overtakes_the_call_does_not_replace_it(shift: Shift) -> None:
    async with shift.life(delivery={"retry_min_s": 30, "retry_max_s": 30}) as one:
        shift.pager.refuse = [("trigger", 503)]
        await one.handle([crossing(CRITICAL)])
        await eventually(lambda: shift.pager.there.got)
        await eventually(lambda: one.channels()[0].results.get("retry") == 1)
        (still,) = one.incidents()
        await one.acknowledge(still.id, author="ann", note="", minutes=60)
        shift.clock.ms += 1
        await one.acknowledge(still.id, author="bob", note="", minutes=60)
    async with shift.life() as one:
        assert await one.flush(10) == 0
    assert shift.pager.actions()[1:] == [("trigger", "1"), ("acknowledge", "1"), ("acknowledge", "1")]
    assert list(shift.pager.alerts.values()) == ["acknowledged"]


# ------------------------------------------------------------------ what is said


async def test_the_event(shift: Shift) -> None:
    said = message(HIGH, figures=figures(), causes=CAUSES, levers=LEVERS, limit=1.2)
    one = TypeAdapter(ChannelSettings).validate_python(raw_settings("pagerduty", shift.pager.there.base))
    async with Http(allow_insecure=True, connect_s=1, total_s=1, now_ms=shift.clock) as http:
        channel = CHANNELS["pagerduty"](one, http, "https://desk.example/margin", Notebook())
        assert await channel.send(Notice(id=said.id, messages=(said,))) == Sent()
    (event,) = shift.pager.there.at(PATH)
    details = event["payload"].pop("custom_details")
    assert event == {
        "routing_key": ROUTING_KEY,
        "event_action": "trigger",
        "dedup_key": "20261122T053424-7KQMZ",
        "payload": {
            "summary": "[HIGH] new: main · USD · binance_usdm · health: health 1.18 is at or below 1.20",
            "severity": "error",
            "source": "binance_usdm/main",
            "timestamp": "2026-11-22T05:34:24.000Z",
            "component": "USD",
            "group": "main",
            "class": "health",
        },
        "client": "margin-monitor",
        "client_url": "https://desk.example/margin/#binance_usdm/main/USD",
        "links": [
            {"href": "https://desk.example/margin/#binance_usdm/main/USD", "text": "The pool"},
            {"href": "https://desk.example/margin/runbook#health", "text": "What to do"},
        ],
    }
    assert details["text"].startswith("[HIGH] new: main")
    assert (details["figures"]["health"], details["levers"][0]["amount"]) == (1.18, 4310.001)


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        (INFO, "info"),
        (WARNING, "warning"),
        (HIGH, "error"),
        (CRITICAL, "critical"),
        (EMERGENCY, "critical"),
        (Level.LIQUIDATION, "critical"),
        (UNKNOWN, "critical"),
    ],
)
async def test_severities(shift: Shift, level: Level, severity: str) -> None:
    said = message(level, Reason.UNKNOWN if level is UNKNOWN else Reason.FIRST)
    one = TypeAdapter(ChannelSettings).validate_python(raw_settings("pagerduty", shift.pager.there.base))
    async with Http(allow_insecure=True, connect_s=1, total_s=1, now_ms=shift.clock) as http:
        await CHANNELS["pagerduty"](one, http, "", Notebook()).send(Notice(id="N", messages=(said,)))
    assert shift.pager.pages == [severity]
    assert "links" not in shift.pager.there.at(PATH)[0], "no page, no link"


async def test_a_long_summary_is_cut_to_what_is_taken(shift: Shift) -> None:
    key = type(KEY)("v" * 300, "a" * 300, "p" * 300, "r" * 300, "s" * 300)
    said = message(incident=incident(CRITICAL, key=key, summary="😀" * 300, worse=Worse.DOWN))
    one = TypeAdapter(ChannelSettings).validate_python(raw_settings("pagerduty", shift.pager.there.base))
    async with Http(allow_insecure=True, connect_s=1, total_s=1, now_ms=shift.clock) as http:
        await CHANNELS["pagerduty"](one, http, "", Notebook()).send(Notice(id="N", messages=(said,)))
    assert len(shift.pager.there.at(PATH)[0]["payload"]["summary"]) == SUMMARY_CHARS_MAX


async def test_the_key_is_in_no_header_and_no_path(shift: Shift) -> None:
    assert await send("pagerduty", shift.pager.there.base) == Sent()
    ((path, headers, body),) = shift.pager.there.got
    assert body["routing_key"] == ROUTING_KEY
    assert ROUTING_KEY not in path + repr(headers)
    assert headers["Idempotency-Key"] == NOTICE.id


async def test_an_old_event_that_failed_calls_nobody_after_a_newer_one(tmp_path: Path) -> None:
    async with receiver() as there:
        shift = Shift(there, tmp_path / "state.db")
        answered, gate = there.answers[PATH], asyncio.Event()

        async def fails_once(request: web.Request) -> web.StreamResponse:
            there.answers[PATH] = answered
            await gate.wait()
            return web.Response(status=503)

        there.answers[PATH] = fails_once
        async with shift.life() as desk_:
            await desk_.handle([crossing(WARNING)])
            await there.until(lambda: len(there.got) == 1)
            await desk_.handle([crossing(CRITICAL, WARNING)])
            gate.set()
            await eventually(lambda: sum(one.pending for one in desk_.channels()) == 0)
        assert shift.pager.pages == ["critical"]
        assert [state for state in shift.pager.alerts.values() if state != "resolved"] == ["triggered"], "the critical call stays"
        assert shift.pager.actions()[1:] == [("trigger", "2"), ("resolve", "1")]


async def test_a_late_event_of_an_earlier_call_leaves_the_later_one_alone() -> None:
    """As rows that were passed on from another channel may arrive: the later call first."""
    async with receiver() as there:
        pager = Pager(there)
        channel = TypeAdapter(ChannelSettings).validate_python(raw_settings("pagerduty", there.base))
        http = Http(allow_insecure=True, connect_s=1, total_s=1, now_ms=Clock())
        async with http:
            one = CHANNELS["pagerduty"](channel, http, "", Notebook())
            for call, level in ((2, CRITICAL), (1, WARNING)):
                said = message(level, Reason.WORSE, incident=incident(level, calls=call), id=f"A.{call}")
                assert isinstance(await one.send(Notice(id=said.id, messages=(said,))), Sent)
            assert pager.alerts["20261122T053424-7KQMZ/2"] == "triggered"
            over = message(OK, Reason.RESOLVED, incident=incident(OK, calls=2), id="A.3")
            assert isinstance(await one.send(Notice(id="A.3", messages=(over,))), Sent)
            assert pager.open() == 0
