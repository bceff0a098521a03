"""Acknowledgements and silences at the real desk: they stop what they should, lose nothing, and survive a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alerts_kit import (
    CAUSES,
    KEY,
    MINUTE,
    T0,
    Clock,
    Receiver,
    account,
    crossing,
    desk,
    figures,
    open_store,
    receiver,
    running,
    settings,
    webhook,
)

from monitor.alerts.desk import AlertDesk
from monitor.model.alerts import IncidentKey, Level

OK, WARNING, HIGH, CRITICAL, EMERGENCY, UNKNOWN = (
    Level.OK,
    Level.WARNING,
    Level.HIGH,
    Level.CRITICAL,
    Level.EMERGENCY,
    Level.UNKNOWN,
)
ANYTHING_OF_MAIN = IncidentKey("", "main", "", "")


class Night:
    """One desk after the other on one store and one receiver, and a clock."""

    def __init__(self, there: Receiver, path: Path, **channel: Any) -> None:
        self.channel = webhook("w", there.base, **channel)
        self.there = there
        self.path = path
        self.clock = Clock()
        self.desk: AlertDesk

    @asynccontextmanager
    async def life(self, **more: Any) -> AsyncIterator[AlertDesk]:
        """From a start to an end of the process."""
        store = await open_store(self.path)
        self.desk = desk(settings(self.channel, **more), store, self.clock, figures_of=lambda key: figures())
        try:
            async with running(self.desk):
                yield self.desk
        finally:
            await store.close()

    async def goes(self, level: Level, was: Level, **more: Any) -> None:
        """A crossing; its message has arrived on return, so that no later one replaces it."""
        await self.desk.handle([crossing(level, was, self.clock.ms, **more)])
        assert await self.desk.flush(10) == 0

    async def passes(self, minutes: float) -> None:
        self.clock.ms += round(minutes * MINUTE)
        await self.desk.tick(self.clock.ms)
        assert await self.desk.flush(10) == 0

    async def heard(self) -> list[tuple[str, str]]:
        """(reason, level) of all that arrived so far."""
        assert await self.desk.flush(10) == 0
        return [(alert["reason"], alert["level"]) for body in self.there.at("/w") for alert in body["alerts"]]


@pytest.fixture
async def night(tmp_path: Path) -> AsyncIterator[Night]:
    async with receiver() as there:
        yield Night(there, tmp_path / "state.db")


@pytest.fixture
async def asking_night(tmp_path: Path) -> AsyncIterator[Night]:
    async with receiver() as there:
        yield Night(there, tmp_path / "state.db", acknowledgements=True)


def only_id(one: AlertDesk) -> str:
    (incident,) = one.incidents()
    return incident.id


# ------------------------------------------------------------------ acknowledgement


async def test_an_acknowledgement_stops_repeats_until_it_ends(night: Night) -> None:
    async with night.life() as one:
        await night.goes(CRITICAL, OK)
        await night.passes(5)
        incident = await one.acknowledge(only_id(one), author="ann", note="adding  margin\n", minutes=60)
        assert incident is not None
        acknowledged = incident.acknowledged
        assert acknowledged is not None
        assert (acknowledged.author, acknowledged.note, acknowledged.level) == ("ann", "adding margin", CRITICAL)
        for _ in range(11):
            await night.passes(5)
        assert await night.heard() == [("first", "critical"), ("repeat", "critical")]
        await night.passes(5)
        assert await night.heard() == [("first", "critical"), ("repeat", "critical"), ("repeat", "critical")], "an hour is over"
        assert one.incidents()[0].acknowledged is None
        await night.goes(OK, CRITICAL)
        assert (await night.heard())[-1] == ("resolved", "ok")


async def test_who_asks_for_it_is_told_of_an_acknowledgement(asking_night: Night) -> None:
    night = asking_night
    async with night.life() as one:
        await night.goes(CRITICAL, OK)
        await one.acknowledge(only_id(one), author="ann", note="adding margin", minutes=60)
        assert await one.flush(10) == 0
        night.clock.ms += 1
        await one.acknowledge(only_id(one), author="bob", note="", minutes=30)
        assert await night.heard() == [("first", "critical"), ("acknowledged", "critical"), ("acknowledged", "critical")]
    first, second = (body for body in night.there.at("/w")[1:])
    assert first["text"].startswith(
        "[CRITICAL] acknowledged by ann: main · USD · binance_usdm · health\n"
        "no repeats until 2026-11-22T06:34:24Z unless it gets worse; adding margin\n"
    )
    assert first["alerts"][0]["incident"]["acknowledged"]["author"] == "ann"
    assert second["alerts"][0]["incident"]["acknowledged"]["author"] == "bob"
    assert len(set(night.there.ids("/w"))) == 3, "each a message of its own"


async def test_who_heard_of_no_incident_hears_of_no_acknowledgement(asking_night: Night) -> None:
    night = asking_night
    async with night.life(routes=[{"channels": ["w"], "min_level": "critical"}]) as one:
        await night.goes(HIGH, OK)
        await one.acknowledge(only_id(one), author="ann", note="", minutes=60)
        assert await night.heard() == []


async def test_an_acknowledgement_dies_on_worsening_and_repeats_go_on(night: Night) -> None:
    async with night.life() as one:
        await night.goes(HIGH, OK)
        await one.acknowledge(only_id(one), author="ann", note="", minutes=600)
        await night.goes(WARNING, HIGH)
        await night.goes(HIGH, WARNING)
        await night.passes(20)
        assert await night.heard() == [("first", "high")], "no worse than what was acknowledged"
        await night.goes(CRITICAL, HIGH)
        await night.passes(5)
        assert await night.heard() == [("first", "high"), ("worse", "critical"), ("repeat", "critical")]


async def test_who_acknowledged_the_better_is_told_of_the_worse_again(night: Night) -> None:
    async with night.life() as one:
        await night.goes(CRITICAL, OK)
        await night.goes(HIGH, CRITICAL)
        await one.acknowledge(only_id(one), author="ann", note="", minutes=60)
        await night.goes(CRITICAL, HIGH)
        assert await night.heard() == [("first", "critical"), ("worse", "critical")]
        assert night.there.at("/w")[-1]["text"].startswith("[CRITICAL] worse again: main")


async def test_going_blind_ends_an_acknowledgement(night: Night) -> None:
    async with night.life() as one:
        await night.goes(CRITICAL, OK)
        await one.acknowledge(only_id(one), author="ann", note="", minutes=600)
        await night.goes(UNKNOWN, CRITICAL)
        await night.passes(5)
        assert await night.heard() == [("first", "critical"), ("unknown", "unknown"), ("repeat", "unknown")]


async def test_an_acknowledgement_can_be_taken_back(night: Night) -> None:
    async with night.life() as one:
        await night.goes(CRITICAL, OK)
        incident_id = only_id(one)
        assert await one.unacknowledge(incident_id) is None, "there is none yet"
        await one.acknowledge(incident_id, author="ann", note="", minutes=60)
        back = await one.unacknowledge(incident_id)
        assert back is not None
        assert back.acknowledged is None
        await night.passes(5)
        assert await night.heard() == [("first", "critical"), ("repeat", "critical")]
        assert await one.acknowledge("20261122T053424-NONE0", author="ann", note="", minutes=60) is None
        with pytest.raises(ValueError, match="author"):
            await one.acknowledge(incident_id, author=" \u202e\n", note="", minutes=60)


async def test_what_was_acknowledged_is_not_paged_after_a_restart(night: Night) -> None:
    async with night.life() as one:
        await night.goes(CRITICAL, OK)
        await one.acknowledge(only_id(one), author="ann", note="", minutes=60)
    night.clock.ms += 30 * MINUTE
    async with night.life() as one:
        await night.passes(0)
        await night.goes(CRITICAL, OK)  # an engine that forgot crosses once more
        await night.passes(25)
        assert await night.heard() == [("first", "critical")]
        acknowledged = one.incidents()[0].acknowledged
        assert acknowledged is not None
        assert acknowledged.author == "ann"
        await night.goes(EMERGENCY, CRITICAL)
        assert (await night.heard())[-1] == ("worse", "emergency"), "worse breaks through after a restart as before"


# ------------------------------------------------------------------ silence


async def test_a_silence_delays_and_loses_nothing(night: Night) -> None:
    async with night.life() as one:
        silence = await one.silence(ANYTHING_OF_MAIN, author="ann", note="moving funds", minutes=30)
        assert silence.until_ms == T0 + 30 * MINUTE
        await night.goes(WARNING, OK)
        await night.goes(CRITICAL, WARNING, causes=CAUSES)
        await one.handle([crossing(HIGH, key=account("other"))])
        for _ in range(5):
            await night.passes(5)
        assert await night.heard() == [("first", "high"), ("repeat", "high")], "of the other account only"
        assert [incident.silence_id for incident in one.incidents()] == [silence.id, ""]
        await night.passes(5)
        assert (await night.heard())[2:3] == [("first", "critical")], "the silence is over: told as it is now"
        told = night.there.at("/w")[2]["alerts"][0]
        assert [cause["what"] for cause in told["causes"]] == [cause.what for cause in CAUSES]
        assert told["figures"]["equity"] == figures().equity
        assert one.silences() == []
        await night.passes(5)
        assert (await night.heard()).count(("repeat", "critical")) == 1, "and repeated as ever"


async def test_what_was_told_and_gets_worse_in_silence_is_told_as_worse(night: Night) -> None:
    async with night.life() as one:
        await night.goes(WARNING, OK)
        silence = await one.silence(ANYTHING_OF_MAIN, author="ann", note="", minutes=600)
        await night.goes(CRITICAL, WARNING)
        await night.passes(10)
        assert await night.heard() == [("first", "warning")]
        assert await one.unsilence(silence.id)
        assert not await one.unsilence(silence.id), "it is over"
        await night.passes(0)
        assert await night.heard() == [("first", "warning"), ("worse", "critical")]


@pytest.mark.parametrize(
    ("steps", "heard", "why"),
    [
        ([(WARNING, OK), (OK, WARNING)], [], "over before the silence was: nobody has to know"),
        ([(HIGH, OK), (WARNING, HIGH)], [("first", "warning")], "told as it is now, not as it was"),
        ([(UNKNOWN, OK)], [("unknown", "unknown")], "blindness is told"),
        ([(HIGH, OK), (UNKNOWN, HIGH), (HIGH, UNKNOWN)], [("first", "high")], "it was blind for a while: over"),
        ([(EMERGENCY, OK)], [("first", "emergency")], "told at once"),
    ],
)
async def test_the_end_of_a_silence(
    night: Night, steps: list[tuple[Level, Level]], heard: list[tuple[str, str]], why: str
) -> None:
    async with night.life() as one:
        await one.silence(ANYTHING_OF_MAIN, author="ann", note="", minutes=3)
        for level, was in steps:
            await night.goes(level, was)
        await night.passes(3)
        assert await night.heard() == heard, why
        await night.passes(1)
        assert await night.heard() == heard, "once"


async def test_no_silence_hides_an_emergency_or_an_end(night: Night) -> None:
    async with night.life() as one:
        await night.goes(WARNING, OK)
        await one.silence(ANYTHING_OF_MAIN, author="ann", note="", minutes=600)
        await night.goes(EMERGENCY, WARNING)
        await night.passes(5)
        await night.goes(Level.LIQUIDATION, EMERGENCY)
        await night.goes(OK, Level.LIQUIDATION)
        assert await night.heard() == [
            ("first", "warning"),
            ("worse", "emergency"),
            ("repeat", "emergency"),
            ("worse", "liquidation"),
            ("resolved", "ok"),
        ]


async def test_no_silence_hides_an_emergency_that_went_dark_or_came_back(night: Night) -> None:
    async with night.life() as one:
        await one.silence(KEY, author="ada", note="", minutes=480)
        steps = [
            (EMERGENCY, OK, "first"),
            (UNKNOWN, EMERGENCY, "unknown"),
            (EMERGENCY, UNKNOWN, "repeat"),
            (CRITICAL, EMERGENCY, ""),
            (UNKNOWN, CRITICAL, ""),  # held: what was last known may wait
            (EMERGENCY, UNKNOWN, "worse"),  # than what was last known
        ]
        for number, (level, was, reason) in enumerate(steps):
            before = len(night.there.got)
            await one.handle([crossing(level, was, night.clock.ms)])
            for _ in range(2):
                assert await one.flush(5) == 0
                night.clock.ms += 5 * MINUTE
                await one.tick(night.clock.ms)
            assert await one.flush(5) == 0
            reasons = [body["alerts"][0]["reason"] for body in night.there.at("/w")[before:]]
            assert reasons[:1] == ([reason] if reason else []), f"step {number}"
            assert not reason or reasons[-1] == "repeat", f"step {number}: it is told again"


async def test_an_occurrence_waits_for_the_end_of_the_silence_even_through_a_restart(night: Night) -> None:
    async with night.life() as one:
        await one.silence(IncidentKey("", "", "", "venue_call"), author="ann", note="", minutes=30)
        for number in (1, 2):
            summary = f"margin call {number}"
            call = crossing(CRITICAL, key=account("main", "venue_call"), momentary=True, summary=summary, figures=figures())
            await one.handle([call])
        await night.passes(10)
        assert await night.heard() == []
        assert one.incidents() == [], "over, though not told"
    async with night.life() as one:
        await night.passes(10)
        assert await night.heard() == []
        assert len(one.silences()) == 1
        assert one.open_levels() == {}
        await night.passes(10)
        assert await night.heard() == [("first", "critical")] * 2
        assert {alert["summary"] for body in night.there.at("/w") for alert in body["alerts"]} == {
            "margin call 1",
            "margin call 2",
        }
    async with night.life() as one:
        await night.passes(60)
        assert len(await night.heard()) == 2, "once"
        assert one.silences() == []


async def test_what_a_silence_held_back_is_told_after_a_restart(night: Night) -> None:
    async with night.life() as one:
        await one.silence(ANYTHING_OF_MAIN, author="ann", note="", minutes=30)
        await night.goes(CRITICAL, OK)
    night.clock.ms += 31 * MINUTE
    async with night.life() as one:
        assert one.open_levels() == {KEY: CRITICAL}
        await night.passes(0)
        assert await night.heard() == [("first", "critical")], "the silence ended while nobody ran"


async def test_a_silence_must_name_something(night: Night) -> None:
    async with night.life() as one:
        with pytest.raises(ValueError, match="must name"):
            await one.silence(IncidentKey("", "", "", ""), author="ann", note="", minutes=1)
        assert one.silences() == []


async def test_many_that_were_silent_are_told_over_several_ticks_and_never_twice(night: Night) -> None:
    async with night.life() as one:
        silence = await one.silence(IncidentKey("binance_usdm", "", "", ""), author="ann", note="", minutes=30)
        await one.handle([crossing(CRITICAL, at_ms=T0, key=account(f"a{number:03}")) for number in range(250)])
        await night.passes(20)
        await one.unsilence(silence.id)
        told = []
        for _ in range(3):
            await night.passes(1 / 60)
            told.append(sum(incident.messages for incident in one.incidents()))
        assert told == [200, 250, 250]
        assert set(await night.heard()) == {("first", "critical")}
