"""What the nearest programs get wrong about telling, each defect by its number, put to the whole desk and a real receiver.

D11 FuturesMarginMonitor: an error of the provider becomes equity 0 and LIQUIDATION, then RECOVERED. D12: its cool-down moves the
state although it holds the message back, so CRITICAL, DANGER, CRITICAL within five minutes loses the second CRITICAL for ever.
D13: it says the same words for better and for worse. D15 liquidation-guardian: any alert starts half an hour of silence, however
far the factor falls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from alerts_kit import MINUTE, T0, Clock, Receiver, crossing, desk, figures, open_store, receiver, running, settings, webhook

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


class Watch:
    """A desk, a receiver, and minutes that pass second by second."""

    def __init__(self, there: Receiver) -> None:
        self.there = there
        self.clock = Clock()
        self.desk: AlertDesk
        self._level = OK

    async def goes(self, level: Level, **more: Any) -> None:
        self.clock.ms += 1000
        await self.desk.handle([crossing(level, self._level, self.clock.ms, **more)])
        self._level = level
        assert await self.desk.flush(10) == 0

    async def passes(self, minutes: float) -> None:
        end_ms = self.clock.ms + round(minutes * MINUTE)
        while self.clock.ms < end_ms:
            self.clock.ms += 10_000
            await self.desk.tick(self.clock.ms)
            assert await self.desk.flush(10) == 0

    def heard(self) -> list[tuple[str, str]]:
        return [(alert["reason"], alert["level"]) for body in self.there.at("/w") for alert in body["alerts"]]

    def titles(self) -> list[str]:
        return [body["text"].partition(":")[0] for body in self.there.at("/w")]


@pytest.fixture
async def watch(request: pytest.FixtureRequest) -> AsyncIterator[Watch]:
    async with receiver() as there:
        one = Watch(there)
        store = await open_store()
        more = getattr(request, "param", {})
        one.desk = desk(settings(webhook("w", there.base), **more), store, one.clock, figures_of=lambda key: None)
        async with running(one.desk):
            yield one
        await store.close()


async def test_d11_missing_data_are_neither_a_liquidation_nor_a_recovery(watch: Watch) -> None:
    await watch.goes(HIGH, figures=figures())
    blind = figures(equity=None, requirement=None, health=None, margin_ratio=None, unknown=("the account does not answer",))
    await watch.goes(UNKNOWN, figures=blind, summary="no data of the account for 60 s")
    await watch.goes(HIGH, figures=figures())
    assert watch.heard() == [("first", "high"), ("unknown", "unknown")], "it was high and is: no news, and no all-clear"
    (alert,) = watch.there.at("/w")[1]["alerts"]
    assert (alert["figures"]["equity"], alert["figures"]["health"], alert["value"]) == (None, None, None), "not 0"
    assert alert["incident"]["known_level"] == "high"
    text = watch.there.at("/w")[1]["text"]
    assert "last known level: high; missing data resolve nothing" in text
    assert "liquidation" not in text.lower()
    assert [one.level for one in watch.desk.incidents()] == [HIGH]


async def test_d12_a_level_that_comes_back_within_the_repeat_is_known_and_repeated(watch: Watch) -> None:
    await watch.goes(CRITICAL)
    await watch.goes(HIGH)
    await watch.goes(CRITICAL)
    assert watch.heard() == [("first", "critical"), ("worse", "critical")], "a rise is never suppressed"
    await watch.passes(11)
    assert watch.heard()[2:] == [("repeat", "critical"), ("repeat", "critical")], "and it is told while it holds"


@pytest.mark.parametrize("watch", [{"repeat": {"critical_min": 0, "warning_min": 0}}], indirect=True, ids=["no-repeats"])
@pytest.mark.parametrize(("between", "hours"), [(WARNING, 9), (HIGH, 0.01)])
async def test_row_16_a_rise_above_what_was_last_in_force_is_worse(watch: Watch, between: Level, hours: float) -> None:
    await watch.goes(CRITICAL)
    await watch.goes(between)
    watch.clock.ms += round(hours * 60 * MINUTE)
    await watch.goes(CRITICAL)
    assert watch.heard() == [("first", "critical"), ("worse", "critical")]
    assert watch.titles()[1] == "[CRITICAL] worse again"


async def test_row_16_missing_data_in_between_are_no_rise(watch: Watch) -> None:
    for level in (CRITICAL, UNKNOWN, CRITICAL):
        await watch.goes(level)
    assert watch.heard() == [("first", "critical"), ("unknown", "unknown")]


@pytest.mark.parametrize("watch", [{"repeat": {"critical_min": 0, "warning_min": 0}}], indirect=True, ids=["no-repeats"])
async def test_row_16_a_rise_that_a_silence_held_back_is_worse_when_it_ends(watch: Watch) -> None:
    await watch.goes(CRITICAL)
    await watch.goes(WARNING)
    await watch.desk.silence(IncidentKey("", "main", "", ""), author="ann", note="", minutes=3)
    await watch.goes(CRITICAL)
    assert watch.heard() == [("first", "critical")]
    await watch.passes(4)
    assert watch.heard() == [("first", "critical"), ("worse", "critical")]


async def test_row_16_up_to_what_was_acknowledged_somebody_knows(watch: Watch) -> None:
    await watch.goes(CRITICAL)
    (one,) = watch.desk.incidents()
    await watch.desk.acknowledge(one.id, author="ann", note="", minutes=60)
    for level in (WARNING, CRITICAL):
        await watch.goes(level)
    assert watch.heard() == [("first", "critical")]


@pytest.mark.parametrize("watch", [{"tell_better": True}], indirect=True, ids=["tell_better"])
async def test_d12_who_was_told_that_it_is_better_is_told_that_it_is_worse(watch: Watch) -> None:
    await watch.goes(CRITICAL)
    await watch.goes(HIGH)
    await watch.goes(CRITICAL)
    assert watch.heard() == [("first", "critical"), ("better", "high"), ("worse", "critical")]


async def test_d12_what_a_silence_held_back_is_told_when_it_ends(watch: Watch) -> None:
    await watch.desk.silence(IncidentKey("", "main", "", ""), author="ann", note="", minutes=3)
    await watch.goes(CRITICAL)
    await watch.goes(HIGH)
    await watch.goes(CRITICAL)
    assert watch.heard() == []
    await watch.passes(4)
    assert watch.heard() == [("first", "critical")], "held back, not forgotten"


@pytest.mark.parametrize("watch", [{"tell_better": True}], indirect=True, ids=["tell_better"])
async def test_d13_better_and_worse_have_different_words(watch: Watch) -> None:
    for level in (WARNING, HIGH, CRITICAL, HIGH, OK):
        await watch.goes(level)
    assert watch.titles() == [
        "[WARNING] new",
        "[HIGH] worse, was warning",
        "[CRITICAL] worse, was high",
        "[HIGH] better, was critical",
        "[RESOLVED] over, was high",
    ]


async def test_d15_every_worsening_breaks_through_at_once(watch: Watch) -> None:
    await watch.goes(WARNING)
    (one,) = watch.desk.incidents()
    await watch.desk.acknowledge(one.id, author="ann", note="", minutes=600)
    for level in (HIGH, CRITICAL, EMERGENCY, Level.LIQUIDATION):
        await watch.goes(level)
    assert watch.heard()[1:] == [("worse", "high"), ("worse", "critical"), ("worse", "emergency"), ("worse", "liquidation")]
    assert watch.clock.ms - T0 == 5000, "five seconds, not half an hour"


async def test_d15_no_silence_hides_an_emergency(watch: Watch) -> None:
    await watch.desk.silence(IncidentKey("", "main", "", ""), author="ann", note="", minutes=600)
    await watch.goes(CRITICAL)
    await watch.goes(EMERGENCY)
    assert watch.heard() == [("first", "emergency")]
