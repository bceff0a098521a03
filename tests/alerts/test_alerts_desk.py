"""The desk with real receivers: its promises, one by one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from alerts_kit import (
    KEY,
    LEVERS,
    MINUTE,
    T0,
    Answer,
    Clock,
    Receiver,
    account,
    crossing,
    desk,
    eventually,
    figures,
    open_store,
    running,
    settings,
    webhook,
)

from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.model.alerts import IncidentKey, Level, Transition
from monitor.store import Store

OK, INFO, WARNING, HIGH, CRITICAL, UNKNOWN = Level.OK, Level.INFO, Level.WARNING, Level.HIGH, Level.CRITICAL, Level.UNKNOWN


def answers(status: int, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    return answer


def alerts(there: Receiver, path: str) -> list[dict[str, Any]]:
    """All alerts that arrived, those in summaries too."""
    return [alert for body in there.at(path) for alert in body["alerts"]]


def levels(there: Receiver, path: str) -> list[tuple[str, str]]:
    return [(alert["reason"], alert["level"]) for alert in alerts(there, path)]


# ------------------------------------------------------------------ one incident


async def test_a_life_is_told(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    clock = Clock()
    async with running(desk(settings(webhook("w", there.base)), store, clock, levers_of=lambda key: LEVERS)) as one:

        async def goes(level: Level, was: Level, minutes: int, value: float | None) -> None:
            clock.ms = T0 + minutes * MINUTE
            await one.handle([crossing(level, was, clock.ms, value=value)])
            assert await one.flush(5) == 0

        await goes(WARNING, OK, 0, 1.9)
        await goes(CRITICAL, WARNING, 1, 1.15)
        await goes(HIGH, CRITICAL, 2, 1.3)  # better: not told
        await goes(CRITICAL, HIGH, 3, 1.19)  # a rise again
        await goes(UNKNOWN, CRITICAL, 4, None)
        await goes(CRITICAL, UNKNOWN, 5, 1.18)
        await one.tick(T0 + 9 * MINUTE)
        assert await one.flush(5) == 0
        await goes(OK, CRITICAL, 10, 2.4)
        await goes(OK, OK, 11, 2.5)
    assert levels(there, "/w") == [
        ("first", "warning"),
        ("worse", "critical"),
        ("worse", "critical"),
        ("unknown", "unknown"),
        ("repeat", "critical"),
        ("resolved", "ok"),
    ]
    end = alerts(there, "/w")[-1]["incident"]
    assert (end["duration_s"], end["worst"], end["worst_value"]) == (600.0, "critical", 1.15)
    assert len({alert["incident"]["id"] for alert in alerts(there, "/w")}) == 1
    assert alerts(there, "/w")[4]["levers"][0]["amount"] == LEVERS[0].amount, "a repeat says what to do now"
    assert one.incidents() == []
    assert one.alerts_total() == {("health", "warning"): 1, ("health", "critical"): 3, ("health", "unknown"): 1}


async def test_a_repeat_tells_the_present_figures(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    clock = Clock()
    now = figures(health=1.05, equity=10_500.0)
    async with running(desk(settings(webhook("w", there.base)), store, clock, figures_of=lambda key: now)) as one:
        await one.handle([crossing(CRITICAL, value=1.19)])
        assert await one.flush(5) == 0
        clock.ms += 5 * MINUTE
        await one.tick(clock.ms)
        assert await one.flush(5) == 0
    repeat = alerts(there, "/w")[1]
    assert (repeat["reason"], repeat["value"], repeat["figures"]["equity"]) == ("repeat", 1.05, 10_500.0)


async def test_the_worst_value_between_two_crossings_is_seen(store: Store[IncidentRecord, OutboxRow]) -> None:
    health = [1.19]
    one = desk(settings(), store, Clock(), figures_of=lambda key: figures(health=health[0]))
    await one.handle([crossing(CRITICAL, value=1.19)])
    for health[0] in (1.15, 1.12, 1.18):
        await one.tick(T0)
    assert [incident.worst_value for incident in one.incidents()] == [1.12]


async def test_occurrences_are_told_once_each(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    call = crossing(CRITICAL, key=account("main", "venue_call"), momentary=True, summary="margin call")
    async with running(desk(settings(webhook("w", there.base)), store, Clock())) as one:
        await one.handle([call])
        await one.handle([call])
        assert await one.flush(5) == 0
        await one.tick(T0 + 600 * MINUTE)
        assert await one.flush(5) == 0
    assert levels(there, "/w") == [("first", "critical")] * 2
    assert len({alert["incident"]["id"] for alert in alerts(there, "/w")}) == 2
    assert one.open_levels() == {}


async def test_worst_first(store: Store[IncidentRecord, OutboxRow]) -> None:
    one = desk(settings(), store, Clock())
    named = {"a": WARNING, "b": UNKNOWN, "c": Level.LIQUIDATION, "d": HIGH}
    await one.handle([crossing(level, key=account(name)) for name, level in named.items()])
    assert [incident.key.account for incident in one.incidents()] == ["c", "b", "d", "a"]
    assert one.open_levels() == {account(name): level for name, level in named.items()}


# ------------------------------------------------------------------ routes

ROUTES = [
    {"channels": ["all"], "min_level": "info"},
    {"channels": ["night"], "min_level": "critical"},
    {"channels": ["fund"], "accounts": ["fund"], "rules": ["health"]},
]


@pytest.mark.parametrize(
    ("key", "level", "to", "why"),
    [
        (account("main"), INFO, {"all"}, "info only to who asks for it"),
        (account("main"), HIGH, {"all"}, "not at night"),
        (account("main"), CRITICAL, {"all", "night"}, "critical wakes"),
        (account("main"), UNKNOWN, {"all", "night"}, "unknown wakes too"),
        (account("fund"), WARNING, {"all", "fund"}, "by account, from warning up by default"),
        (account("fund", "premium"), WARNING, {"all"}, "by rule"),
        (IncidentKey("", "", "", "store"), HIGH, {"all", "fund"}, "our own trouble passes the filters of account and rule"),
        (IncidentKey("", "", "", "channel", "fund"), CRITICAL, {"all", "night"}, "but not to the channel that is in trouble"),
    ],
)
async def test_routes(
    there: Receiver, store: Store[IncidentRecord, OutboxRow], key: IncidentKey, level: Level, to: set[str], why: str
) -> None:
    channels = [webhook(name, there.base) for name in ("all", "night", "fund")]
    async with running(desk(settings(*channels, routes=ROUTES), store, Clock())) as one:
        await one.handle([crossing(level, key=key)])
        assert await one.flush(5) == 0
    assert {path.strip("/") for path, *_ in there.got} == to, why


async def test_by_default_everybody_hears_warnings_and_nobody_info(
    there: Receiver, store: Store[IncidentRecord, OutboxRow]
) -> None:
    async with running(desk(settings(webhook("a", there.base), webhook("b", there.base)), store, Clock())) as one:
        await one.handle([crossing(INFO, key=account("x")), crossing(WARNING, key=account("y"))])
        assert await one.flush(5) == 0
    assert {path: [alert["account"] for alert in alerts(there, path)] for path in ("/a", "/b")} == {"/a": ["y"], "/b": ["y"]}


async def test_who_heard_of_it_hears_of_its_end_and_nobody_else(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    channels = [webhook(name, there.base) for name in ("all", "night", "fund")]
    async with running(desk(settings(*channels, routes=ROUTES), store, Clock())) as one:
        for level, was in ((HIGH, OK), (UNKNOWN, HIGH), (HIGH, UNKNOWN), (OK, HIGH)):
            await one.handle([crossing(level, was)])
            assert await one.flush(5) == 0
        await one.handle([crossing(HIGH, key=account("other")), crossing(OK, HIGH, key=account("other"))])
        assert await one.flush(5) == 0
    assert levels(there, "/night") == [("unknown", "unknown"), ("resolved", "ok")]


async def test_without_channels_incidents_are_kept(store: Store[IncidentRecord, OutboxRow]) -> None:
    async with running(desk(settings(), store, Clock())) as one:
        await one.handle([crossing(CRITICAL)])
        await one.tick(T0 + 5 * MINUTE)
        assert await one.flush(5) == 0
    assert [(incident.level, incident.messages) for incident in one.incidents()] == [(CRITICAL, 2)]


# ------------------------------------------------------------------ trouble


async def test_one_channels_failure_delays_no_other(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    release = asyncio.Event()

    async def hangs(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return web.Response()

    there.answers["/slow"] = hangs
    async with running(desk(settings(webhook("slow", there.base), webhook("good", there.base)), store, Clock())) as one:
        for number in range(5):
            await one.handle([crossing(CRITICAL, key=account(f"a{number}"))])
        await there.until(lambda: len(alerts(there, "/good")) == 5)
        assert len(there.at("/slow")) == 1, "the good one took five while the slow one held its first"
        release.set()
        assert await one.flush(5) == 0
    assert len({alert["id"] for alert in alerts(there, "/slow")}) == 5


async def test_a_retry_has_the_same_id(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    statuses = iter([500, 503, 200])

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=next(statuses))

    there.answers["/w"] = answer
    async with running(desk(settings(webhook("w", there.base)), store, Clock())) as one:
        await one.handle([crossing(CRITICAL)])
        await there.until(lambda: len(there.at("/w")) == 3)
        assert await one.flush(5) == 0
    assert len(set(there.ids("/w"))) == 1
    assert one.channels()[0].results == {"retry": 2, "sent": 1}


async def test_retry_after_is_obeyed(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        times.append(loop.time())
        return web.Response(status=429, headers={"Retry-After": "1"}) if len(times) == 1 else web.Response()

    there.answers["/w"] = answer
    async with running(desk(settings(webhook("w", there.base)), store, Clock())) as one:
        await one.handle([crossing(WARNING)])
        await there.until(lambda: len(times) == 1)
        await one.handle([crossing(CRITICAL, key=account("other"))])  # may overtake, but not the receiver's word
        assert await one.flush(10) == 0
    assert times[1] - times[0] >= 1.0
    assert [alert["account"] for alert in alerts(there, "/w")] == ["main", "other", "main"]


async def test_a_broken_channel_is_told_on_the_others_and_mends(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    there.answers["/bad"] = answers(410)
    async with running(desk(settings(webhook("bad", there.base), webhook("good", there.base)), store, Clock())) as one:
        await one.handle([crossing(HIGH)])
        await there.until(lambda: len(alerts(there, "/good")) == 2)
        told = [alert for alert in alerts(there, "/good") if alert["rule"] == "channel"]
        assert [(alert["level"], alert["subject"]) for alert in told] == [("high", "bad")]
        assert "http_410" in told[0]["summary"]
        bad = one.channels()[0]
        assert (bad.broken, bad.pending) == ("http_410", 1), "its message still waits: a person may repair it"
        del there.answers["/bad"]
        await there.until(lambda: levels(there, "/good")[-1] == ("resolved", "ok"))
        assert await one.flush(5) == 0
        assert [alert["rule"] for alert in alerts(there, "/bad")][-1] == "health"
        assert one.channels()[0].broken == ""
    assert [alert["rule"] for alert in alerts(there, "/bad") if alert["rule"] == "channel"] == []


async def test_one_message_that_is_refused_does_not_stop_the_others(
    there: Receiver, store: Store[IncidentRecord, OutboxRow]
) -> None:
    async def picky(request: web.Request) -> web.StreamResponse:
        return web.Response(status=422 if b'"account":"poison"' in await request.read() else 200)

    there.answers["/w"] = picky
    async with running(desk(settings(webhook("w", there.base)), store, Clock())) as one:
        await one.handle([crossing(Level.LIQUIDATION, key=account("poison")), crossing(WARNING, key=account("good"))])
        assert await one.flush(10) == 0, "the bad one is given up after the channel took another"
        status = one.channels()[0]
    assert (status.broken, status.results) == ("", {"failed": 2, "sent": 1, "given_up": 1})


async def test_critical_falls_over_to_the_next_channel(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    there.answers["/a"] = answers(503)
    now_s = [1000.0]
    routes = [{"channels": ["a"]}, {"channels": ["b", "c"], "accounts": ["main"], "rules": ["nothing"]}]
    channels = [webhook(name, there.base) for name in ("a", "b", "c")]
    clock = Clock()
    one = desk(settings(*channels, routes=routes), store, clock, clock_s=lambda: now_s[0])
    async with running(one):
        await one.handle([crossing(CRITICAL), crossing(HIGH, key=account("other"))])
        await there.until(lambda: there.at("/a"))
        now_s[0] += 9.9
        await one.tick(clock.ms)
        assert [status.pending for status in one.channels()] == [2, 0, 0], "not yet"
        now_s[0] += 0.1
        for _ in range(3):
            await one.tick(clock.ms)
        await there.until(lambda: there.at("/b"))
        await eventually(lambda: one.channels()[1].pending == 0)
        for _ in range(3):
            await one.tick(clock.ms)
        del there.answers["/a"]
        now_s[0] += 3600
        await one.handle([crossing(OK, CRITICAL)])
        now_s[0] += 3600
        assert await one.flush(5) == 0
    assert [alert["account"] for alert in alerts(there, "/b")] == ["main", "main"], "critical only, once, and then its end"
    assert [alert["reason"] for alert in alerts(there, "/b")] == ["first", "resolved"]
    assert there.at("/c") == [], "b took it: nobody else is woken"
    assert there.ids("/b")[0] in there.ids("/a"), "the same id on both"


async def test_a_broken_channel_is_skipped_when_falling_over(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    there.answers |= {"/a": answers(403), "/b": answers(403)}
    routes = [
        {"channels": ["a"]},
        {"channels": ["b"], "accounts": ["x"]},
        {"channels": ["c"], "accounts": ["main"], "rules": ["nothing"]},
    ]
    channels = [webhook(name, there.base) for name in ("a", "b", "c")]
    async with running(desk(settings(*channels, routes=routes), store, Clock())) as one:
        await one.handle([crossing(WARNING, key=account("x"))])
        await eventually(lambda: all(status.broken for status in one.channels()[:2]))
        await one.handle([crossing(CRITICAL)])
        async with asyncio.timeout(10):
            while ("first", "critical") not in levels(there, "/c"):
                await one.tick(T0)
                await asyncio.sleep(0.001)  # lets the senders run between two ticks


# ------------------------------------------------------------------ restart


async def test_a_restart_neither_forgets_nor_pages_again(there: Receiver, tmp_path: Path) -> None:
    async def life(at_ms: int, *steps: Transition) -> AlertDesk:
        store = await open_store(tmp_path / "state.db")
        clock = Clock(at_ms)
        async with running(desk(settings(webhook("w", there.base)), store, clock)) as one:
            await one.tick(at_ms)
            await one.handle(steps)
            assert await one.flush(5) == 0
        await store.close()
        return one

    await life(T0, crossing(CRITICAL, value=1.15))
    again = await life(T0 + MINUTE, crossing(CRITICAL, OK, T0 + MINUTE))  # an engine that forgot crosses once more
    assert again.open_levels() == {KEY: CRITICAL}
    assert levels(there, "/w") == [("first", "critical")], "inside the repeat window: silence"
    await life(T0 + 6 * MINUTE)
    await life(T0 + 7 * MINUTE, crossing(OK, CRITICAL, T0 + 7 * MINUTE, value=2.2))
    await life(T0 + 8 * MINUTE, crossing(OK, OK, T0 + 8 * MINUTE))
    assert levels(there, "/w") == [("first", "critical"), ("repeat", "critical"), ("resolved", "ok")]
    assert alerts(there, "/w")[-1]["incident"]["worst_value"] == 1.15
    assert len({alert["incident"]["id"] for alert in alerts(there, "/w")}) == 1


async def test_an_open_alert_about_a_channel_that_is_gone_ends(there: Receiver, tmp_path: Path) -> None:
    there.answers["/bad"] = answers(404)
    store = await open_store(tmp_path / "state.db")
    async with running(desk(settings(webhook("bad", there.base), webhook("good", there.base)), store, Clock())) as one:
        await one.handle([crossing(HIGH)])
        await there.until(lambda: len(alerts(there, "/good")) == 2)
        await eventually(lambda: one.channels()[1].pending == 0)
    await store.close()
    store = await open_store(tmp_path / "state.db")
    async with running(desk(settings(webhook("good", there.base)), store, Clock())) as one:
        await there.until(lambda: levels(there, "/good")[-1] == ("resolved", "ok"))
        assert await one.flush(5) == 0
    await store.close()
    assert [incident.key.rule for incident in one.incidents()] == ["health"]
    assert len([alert for alert in alerts(there, "/good") if alert["rule"] == "health"]) == 1, "who is left has it already"


# ------------------------------------------------------------------ a disk that fails


class BadDisk(Store[IncidentRecord, OutboxRow]):
    """A store whose disk is full while `full` is set."""

    full = True

    def _transact(self, path: Path, batch: Any) -> None:
        if self.full:
            raise OSError("no space left on device")
        super()._transact(path, batch)


async def test_a_full_disk_stops_no_alert_and_is_told(there: Receiver, tmp_path: Path) -> None:
    store = await BadDisk.open(tmp_path / "state.db", IncidentRecord, OutboxRow, now_ms=lambda: T0)
    assert isinstance(store, BadDisk)
    now_s = [1000.0]
    async with running(desk(settings(webhook("w", there.base)), store, Clock(), clock_s=lambda: now_s[0])) as one:
        await one.handle([crossing(CRITICAL)])
        await there.until(lambda: there.at("/w"))
        await one.tick(T0)
        await there.until(lambda: len(there.at("/w")) == 2)
        assert alerts(there, "/w")[1]["rule"] == "store"
        assert "no space left on device" in alerts(there, "/w")[1]["summary"]
        assert one.durable() is False
        store.full = False
        now_s[0] += 11
        await one.tick(T0)
        assert await one.flush(5) == 0
        assert store.durable
        assert one.durable() is True
    assert levels(there, "/w")[-1] == ("resolved", "ok")
    await store.close()
    again = await open_store(tmp_path / "state.db")
    assert [record.incident.key for record in again.incidents] == [KEY], "what happened meanwhile is on disk now"
    await again.close()


async def test_the_repeats_of_a_crash_are_spread_worst_first(store: Store[IncidentRecord, OutboxRow]) -> None:
    asked: list[str] = []

    def figures_of(key: object) -> None:
        asked.append(str(getattr(key, "account", "")))

    one = desk(settings(), store, Clock(), figures_of=figures_of)
    await one.handle([crossing(CRITICAL, key=account(f"a{number:03}", "stale")) for number in range(250)])
    await one.handle([crossing(Level.LIQUIDATION, key=account("worst", "stale"))])
    messages = []
    for second in range(3):
        await one.tick(T0 + 5 * MINUTE + 1000 * second)
        messages.append(sum(incident.messages - 1 for incident in one.incidents()))
    assert messages == [200, 251, 251]
    assert asked[0] == "worst"
