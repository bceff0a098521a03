"""Alertmanager is told states: what fires, since when, until when; again and again while it is open."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from alerts_kit import (
    CAUSES,
    KEY,
    LEVERS,
    MINUTE,
    T0,
    Clock,
    Receiver,
    account,
    crossing,
    desk,
    open_store,
    running,
    settings,
)
from pydantic import TypeAdapter, ValidationError

from monitor.alerts.channels import ChannelSettings
from monitor.alerts.desk import AlertDesk
from monitor.model.alerts import IncidentKey, Level

OK, WARNING, HIGH, CRITICAL, UNKNOWN = Level.OK, Level.WARNING, Level.HIGH, Level.CRITICAL, Level.UNKNOWN
PATH = "/am/api/v2/alerts"


class Alertmanager:
    """What a receiver would show: alerts by their labels, the younger word wins, until their end."""

    def __init__(self, there: Receiver, clock: Clock) -> None:
        self._there = there
        self._clock = clock

    def firing(self) -> set[str]:
        """Severities that fire now."""
        ends: dict[tuple[tuple[str, str], ...], str] = {}
        for body in self._there.at(PATH):
            for alert in body:
                assert alert["startsAt"] <= alert.get("endsAt", "9"), "it would refuse an end before the start"
                assert all(alert["labels"].values()), "to it, an empty label is none"
                ends[tuple(sorted(alert["labels"].items()))] = alert.get("endsAt", "9")
        return {dict(labels)["severity"] for labels, end in ends.items() if end > iso(self._clock.ms)}


def iso(at_ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def channel(base: str, **more: Any) -> dict[str, Any]:
    return {"kind": "alertmanager", "name": "am", "url": f"{base}/am", "allow_insecure": True, **more}


class Site:
    """A desk with an Alertmanager; both clocks are the test's."""

    def __init__(self, there: Receiver, path: Path | str = ":memory:") -> None:
        self.there = there
        self.path = path
        self.clock = Clock()
        self.now_s = 1000.0
        self.shown = Alertmanager(there, self.clock)

    async def open(self, **more: Any) -> AlertDesk:
        self.store = await open_store(self.path)
        return desk(settings(channel(self.there.base), **more), self.store, self.clock, clock_s=lambda: self.now_s)

    async def passes(self, one: AlertDesk, minutes: float) -> None:
        """Time on both clocks. The sender looks up at any message, so a test need not wait for its minute."""
        self.clock.ms += round(minutes * MINUTE)
        self.now_s += minutes * 60
        await one.tick(self.clock.ms)
        one._outbox._arrived["am"].set()


async def test_one_alert(there: Receiver) -> None:
    site = Site(there)
    one = await site.open(page_url="https://m.example")
    key = IncidentKey("binance_usdm", "main", "", "collateral_rate", "BTC")
    async with running(one):
        await one.handle([crossing(HIGH, key=key, summary="BTC moved 1.2 %", causes=CAUSES, levers=LEVERS)])
        assert await one.flush(10) == 0
    (alert,) = there.at(PATH)[0]
    assert alert["labels"] == {
        "alertname": "MarginCollateralRate",
        "venue": "binance_usdm",
        "account": "main",
        "rule": "collateral_rate",
        "subject": "BTC",
        "severity": "high",
    }
    assert alert["annotations"]["summary"] == "BTC moved 1.2 %"
    assert "to do: send 4,310.01 USDT" in alert["annotations"]["description"]
    assert alert["annotations"]["incident"] == one.incidents()[0].id
    assert (alert["startsAt"], alert["endsAt"]) == (iso(T0), iso(T0 + 15 * MINUTE))
    assert alert["generatorURL"] == "https://m.example"
    await site.store.close()


async def test_a_life(there: Receiver) -> None:
    site = Site(there)
    one = await site.open()
    async with running(one):

        async def goes(level: Level, was: Level) -> set[str]:
            site.clock.ms += 1000
            await one.handle([crossing(level, was, site.clock.ms)])
            assert await one.flush(10) == 0
            return site.shown.firing()

        assert await goes(WARNING, OK) == {"warning"}
        assert await goes(CRITICAL, WARNING) == {"critical"}, "one ends, the other starts, in one request"
        assert len(there.at(PATH)[-1]) == 2
        assert await goes(UNKNOWN, CRITICAL) == {"critical", "unknown"}, "missing data resolve nothing"
        assert await goes(HIGH, UNKNOWN) == {"critical", "unknown"}, "no news: shown with the next word"
        await site.passes(one, 1)
        await there.until(lambda: site.shown.firing() == {"high"})
        assert await goes(OK, HIGH) == set()
        posts = len(there.at(PATH))
        await site.passes(one, 60)
        await asyncio.sleep(0)
        assert len(there.at(PATH)) == posts, "nothing is open: nothing is said"
    await site.store.close()


async def test_it_is_told_again_while_open_and_ends_by_itself_when_we_are_gone(there: Receiver) -> None:
    site = Site(there)
    one = await site.open(repeat={"critical_min": 0})
    async with running(one):
        await one.handle([crossing(CRITICAL)])
        assert await one.flush(10) == 0
        for minute in range(1, 40):
            posts = len(there.at(PATH))
            await site.passes(one, 1)
            await there.until(lambda posts=posts: len(there.at(PATH)) > posts)
            assert there.at(PATH)[-1][0]["endsAt"] == iso(T0 + (minute + 15) * MINUTE)
            assert there.at(PATH)[-1][0]["startsAt"] == iso(T0)
        assert [incident.messages for incident in one.incidents()] == [1], "no message of ours: only its protocol"
    assert site.shown.firing() == {"critical"}
    site.clock.ms += 15 * MINUTE
    assert site.shown.firing() == set()
    await site.store.close()


async def test_after_a_restart_what_fired_before_is_ended(there: Receiver, tmp_path: Path) -> None:
    site = Site(there, tmp_path / "state.db")
    one = await site.open()
    async with running(one):
        await one.handle([crossing(CRITICAL)])
        assert await one.flush(10) == 0
    await site.store.close()
    site.clock.ms += MINUTE
    one = await site.open()
    await one.handle([crossing(WARNING, CRITICAL, site.clock.ms)])  # better: no message
    async with running(one):
        await there.until(lambda: site.shown.firing() == {"warning"})
        await one.handle([crossing(OK, WARNING, site.clock.ms)])
        assert await one.flush(10) == 0
    assert site.shown.firing() == set()
    await site.store.close()


async def test_a_silence_does_not_leak_through_the_refresh_and_an_acknowledgement_shows(there: Receiver) -> None:
    site = Site(there)
    one = await site.open()
    async with running(one):
        await one.handle([crossing(WARNING)])
        assert await one.flush(10) == 0
        await one.silence(KEY, author="ann", note="", minutes=30)
        await one.handle([crossing(CRITICAL, WARNING)])
        await one.acknowledge(one.incidents()[0].id, author="ann", note="", minutes=60)
        posts = len(there.at(PATH))
        await site.passes(one, 1)
        await there.until(lambda: len(there.at(PATH)) > posts)
        assert site.shown.firing() == {"warning"}
        assert there.at(PATH)[-1][0]["annotations"]["acknowledged_by"] == "ann"
        await site.passes(one, 30)
        await there.until(lambda: site.shown.firing() == {"critical"})
    await site.store.close()


async def test_it_keeps_what_the_routes_no_longer_send(there: Receiver) -> None:
    site = Site(there)
    one = await site.open(routes=[{"channels": ["am"], "min_level": "critical"}])
    async with running(one):
        await one.handle([crossing(WARNING, key=account("never")), crossing(CRITICAL)])
        assert await one.flush(10) == 0
        await one.handle([crossing(WARNING, CRITICAL)])
        posts = len(there.at(PATH))
        await site.passes(one, 10)
        await there.until(lambda: len(there.at(PATH)) > posts)
        assert site.shown.firing() == {"critical"}, "it wants no warnings: critical until it is over"
        assert {alert["labels"]["account"] for body in there.at(PATH) for alert in body} == {"main"}
    await site.store.close()


async def test_an_occurrence_fires_and_goes_by_itself(there: Receiver) -> None:
    site = Site(there)
    one = await site.open()
    async with running(one):
        await one.handle([crossing(CRITICAL, key=account("main", "venue_call"), momentary=True, summary="margin call")])
        assert await one.flush(10) == 0
    assert site.shown.firing() == {"critical"}
    site.clock.ms += 15 * MINUTE
    assert site.shown.firing() == set()
    await site.store.close()


async def test_row_6_two_occurrences_of_one_kind_are_two_alerts_there(there: Receiver) -> None:
    """By their labels alone the second would only be an update of the first, which pages nobody."""
    site = Site(there)
    one = await site.open()
    async with running(one):
        for symbol in ("first", "second"):
            key = account("main", "venue_call")
            await one.handle([crossing(CRITICAL, key=key, momentary=True, summary=f"adl, order {symbol}")])
        await one.handle([crossing(CRITICAL, key=account("main", "health"))])
        assert await one.flush(10) == 0
    alerts = [alert for body in there.at(PATH) for alert in body]
    calls = [alert for alert in alerts if alert["labels"]["rule"] == "venue_call"]
    assert len({tuple(sorted(alert["labels"].items())) for alert in calls}) == 2
    assert all(alert["labels"]["occurrence"] == alert["annotations"]["incident"] for alert in calls)
    assert all("occurrence" not in alert["labels"] for alert in alerts if alert not in calls), "what is open keeps its identity"
    await site.store.close()


async def test_many_are_told_in_parts_and_an_urgent_message_comes_between(there: Receiver) -> None:
    site = Site(there)
    one = await site.open(repeat={"high_min": 0})
    key = account("urgent")

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if len(body) == 50 and key not in one.open_levels():
            await one.handle([crossing(CRITICAL, key=key, at_ms=site.clock.ms)])
        return web.Response()

    async with running(one):
        await one.handle([crossing(HIGH, key=account(f"a{number:03}")) for number in range(120)])
        await there.until(lambda: sum(map(len, there.at(PATH))) >= 120)
        assert await one.flush(10) == 0
        posts = len(there.at(PATH))
        there.answers[PATH] = answer
        await site.passes(one, 1)
        await there.until(lambda: sum(map(len, there.at(PATH)[posts:])) >= 121)
    sizes = [len(body) for body in there.at(PATH)[posts:]]
    assert sizes[:2] == [50, 1], "after the first part the urgent one, then the rest"
    await site.store.close()


async def test_a_refusal_of_the_refresh_is_told_elsewhere_and_mends(there: Receiver) -> None:
    site = Site(there)
    clock = site.clock
    store = await open_store()
    other = {"kind": "webhook", "name": "w", "url": f"{there.base}/w", "allow_insecure": True}
    one = desk(settings(channel(there.base), other), store, clock, clock_s=lambda: site.now_s)

    async def refuses(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403)

    async with running(one):
        await one.handle([crossing(HIGH)])
        assert await one.flush(10) == 0
        there.answers[PATH] = refuses
        await site.passes(one, 1)
        await there.until(lambda: [a["rule"] for body in there.at("/w") for a in body["alerts"]] == ["health", "channel"])
        assert one.channels()[0].broken == "http_403"
        assert one.channels()[0].pending == 0, "a state waits in no outbox"
        del there.answers[PATH]
        await site.passes(one, 1)
        await there.until(lambda: there.at("/w")[-1]["alerts"][0]["reason"] == "resolved")
        assert one.channels()[0].broken == ""
    await store.close()


@pytest.mark.parametrize(
    ("behind_min", "known"),
    [(20, True), (20, False), (60 * 24 * 365, True), (-60, True)],
    ids=["behind", "behind-unknown", "a-year", "ahead"],
)
async def test_row_34_no_alert_is_over_on_arrival(there: Receiver, behind_min: int, known: bool) -> None:
    """Our clock at the start is wrong by more than Alertmanager holds an alert; a venue's clock says so, or nothing does yet."""
    clock = Clock(T0 - behind_min * MINUTE)
    store = await open_store()
    one = desk(settings(channel(there.base)), store, clock, true_ms=lambda: clock.ms + behind_min * MINUTE if known else None)
    shown = Alertmanager(there, Clock(T0))
    async with running(one):
        await one.handle([crossing(CRITICAL, at_ms=clock.ms)])
        assert await one.flush(10) == 0
        (alert,) = there.at(PATH)[-1]
        assert alert.get("endsAt") == (iso(T0 + 15 * MINUTE) if known else None), "unknown: its own resolve_timeout counts"
        assert alert["startsAt"] <= iso(T0), "nothing begins in its future"
        assert shown.firing() == {"critical"}
        clock.ms += 1000
        await one.handle([crossing(OK, CRITICAL, at_ms=clock.ms)])
        assert await one.flush(10) == 0
    assert Alertmanager(there, Clock(T0 + 1000)).firing() == set(), "and its end is no end in the future"
    await store.close()


@pytest.mark.parametrize(
    ("more", "header", "why"),
    [
        ({}, None, "none asked for"),
        ({"bearer_token": "canary"}, "Bearer canary", "bearer"),
        ({"username": "me", "password": "canary"}, "Basic " + b64encode(b"me:canary").decode(), "basic"),
    ],
)
async def test_authorization(there: Receiver, more: dict[str, Any], header: str | None, why: str) -> None:
    store = await open_store()
    one = desk(settings(channel(there.base, **more)), store, Clock())
    async with running(one):
        await one.handle([crossing(HIGH)])
        assert await one.flush(10) == 0
    assert there.got[0][1].get("Authorization") == header, why
    await store.close()


@pytest.mark.parametrize(
    ("more", "problem", "why"),
    [
        ({"bearer_token": "canary", "username": "me", "password": "canary"}, "not both", "one way to say who we are"),
        ({"username": "me"}, "belong together", "a password is missing"),
        ({"password": "canary"}, "belong together", "a name is missing"),
        ({"username": "m:e", "password": "canary"}, "no colon", "the colon ends the name"),
        ({"bearer_token": "can\nary"}, "printable on one line", "a header of one's own"),
        ({"hold_min": 1, "resend_s": 60}, "at least twice", "alerts would end between two words of ours"),
        ({"url": "http://am.example/canary", "allow_insecure": False}, "must be https", "plain http"),
    ],
)
def test_bad_settings(more: dict[str, Any], problem: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(ChannelSettings).validate_python(channel("https://am.example") | more)
    assert problem in str(caught.value), why
