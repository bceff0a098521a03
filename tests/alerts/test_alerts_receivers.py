"""Another configuration after a restart: channels that are renamed, replaced, new or gone, and what they heard of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from alerts_kit import MINUTE, Clock, Receiver, account, crossing, desk, open_store, running, settings, webhook

from monitor.alerts.desk import AlertDesk
from monitor.alerts.receivers import heirs_of
from monitor.model.alerts import Level

OK, WARNING, CRITICAL, EMERGENCY = Level.OK, Level.WARNING, Level.CRITICAL, Level.EMERGENCY
A, B = account("A"), account("B")


class Lives:
    """One store, one clock, and a run with each configuration."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.clock = Clock()

    @contextlib.asynccontextmanager
    async def life(self, *channels: dict[str, Any], **more: Any) -> AsyncIterator[AlertDesk]:
        store = await open_store(self._path)
        one, begun = desk(settings(*channels, **more), store, self.clock), asyncio.Event()
        settle_in = one._settle_in

        async def settled_in() -> None:
            await settle_in()
            begun.set()

        one._settle_in = settled_in  # type: ignore[method-assign]
        async with running(one):
            await begun.wait()
            yield one
        await store.close()


@pytest.fixture
def lives(tmp_path: Path) -> Lives:
    return Lives(tmp_path / "state.db")


async def refuses(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503)


def heard(there: Receiver, path: str) -> list[tuple[str, str, str]]:
    return [
        (alert["account"], alert["reason"], alert["level"])
        for body in there.at(path)
        for alert in body["alerts"]
        if alert["rule"] != "channel"
    ]


async def waits(one: AlertDesk, there: Receiver, path: str, *accounts: str) -> None:
    """For these accounts something critical waits at a channel that is down."""
    there.answers[path] = refuses
    await one.handle([crossing(CRITICAL, key=account(name)) for name in accounts])
    await there.until(lambda: there.at(path))


async def settled(one: AlertDesk, clock: Clock) -> None:
    await one.tick(clock.ms)
    assert await one.flush(10) == 0


@pytest.mark.parametrize("new_address", [False, True], ids=["renamed", "replaced"])
async def test_row_7_what_waits_for_a_renamed_channel_stays_with_its_client(
    there: Receiver, lives: Lives, new_address: bool
) -> None:
    client_b = webhook("client-b", there.base)
    routes = [{"channels": ["client-b"], "accounts": ["B"]}, {"channels": ["desk-a"], "accounts": ["A"]}]
    async with lives.life(client_b, webhook("desk-a", there.base), routes=routes) as one:
        await waits(one, there, "/desk-a", "A")
    there.answers.clear()
    there.got.clear()
    address = "new" if new_address else "desk-a"
    renamed = webhook("team-a", there.base, url=f"{there.base}/{address}")
    routes[1]["channels"] = ["team-a"]
    async with lives.life(client_b, renamed, routes=routes) as one:
        await there.until(lambda: there.at(f"/{address}"))
        await settled(one, lives.clock)
    assert heard(there, f"/{address}") == [("A", "first", "critical")]
    assert there.at("/client-b") == [], "not the first of the file, which is another client's"


async def test_row_7_each_message_goes_where_the_routes_lead_now(there: Receiver, lives: Lives) -> None:
    """Also where the name stayed: its route does not lead to it any more."""
    ends = [webhook(name, there.base) for name in ("a", "b")]
    async with lives.life(webhook("ops", there.base), *ends, routes=[{"channels": ["ops"]}]) as one:
        await waits(one, there, "/ops", "A", "B")
    there.got.clear()
    routes = [{"channels": ["a"], "accounts": ["A"]}, {"channels": ["b"], "accounts": ["B"]}]
    routes.append({"channels": ["ops"], "accounts": ["nobody"]})
    async with lives.life(webhook("ops", there.base), *ends, routes=routes) as one:
        await there.until(lambda: there.at("/a") and there.at("/b"))
        await settled(one, lives.clock)
        assert await one.flush(10) == 0
    assert (heard(there, "/a"), heard(there, "/b")) == ([("A", "first", "critical")], [("B", "first", "critical")])
    assert heard(there, "/ops") == []


async def test_row_7_what_nobody_may_hear_is_kept(there: Receiver, lives: Lives) -> None:
    routes = [{"channels": ["a"], "accounts": ["A"]}, {"channels": ["b"], "accounts": ["B"]}]
    async with lives.life(webhook("a", there.base), webhook("b", there.base), routes=routes) as one:
        await waits(one, there, "/a", "A")
    there.got.clear()
    async with lives.life(webhook("b", there.base), routes=routes[1:]) as one:
        await settled(one, lives.clock)
    assert there.got == []
    there.answers.clear()
    async with lives.life(webhook("a2", there.base), routes=[{"channels": ["a2"], "accounts": ["A"]}]) as one:
        await there.until(lambda: there.at("/a2"))
        await settled(one, lives.clock)
    assert heard(there, "/a2") == [("A", "first", "critical")]


async def test_row_38_another_receiver_under_the_same_name_hears_of_what_is_open(there: Receiver, lives: Lives) -> None:
    async with lives.life(webhook("ops", there.base)) as one:
        await one.handle([crossing(EMERGENCY, key=A), crossing(WARNING, key=B)])
        await settled(one, lives.clock)
    lives.clock.ms += MINUTE
    slack = {"kind": "slack", "name": "ops", "webhook_url": f"{there.base}/slack", "allow_insecure": True}

    async def took(request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    there.answers["/slack"] = took
    async with lives.life(slack, routes=[{"channels": ["ops"], "accounts": ["A"]}]) as one:
        await one.handle([crossing(OK, WARNING, lives.clock.ms, key=B)])
        await settled(one, lives.clock)
        await one.handle([crossing(OK, EMERGENCY, lives.clock.ms, key=A)])
        await settled(one, lives.clock)
    texts = [body["text"].splitlines()[0] for body in there.at("/slack")]
    assert len(texts) == 2, texts
    assert texts[0].startswith("[EMERGENCY]"), "it never heard of it"
    assert texts[1].startswith("[RESOLVED] over"), "and hears the end of it; of B it heard nothing, so neither of its end"
    assert "A" in texts[1]


async def test_a_renamed_channel_is_no_new_one(there: Receiver, lives: Lives) -> None:
    async with lives.life(webhook("ops", there.base)) as one:
        await one.handle([crossing(CRITICAL, key=A)])
        await settled(one, lives.clock)
    async with lives.life(webhook("desk", there.base, url=f"{there.base}/ops")) as one:
        await settled(one, lives.clock)
        await one.handle([crossing(OK, CRITICAL, key=A)])
        await settled(one, lives.clock)
    assert heard(there, "/ops") == [("A", "first", "critical"), ("A", "resolved", "ok")], "once, and the end of it"


@pytest.mark.parametrize("quiet", ["", "silence", "ack"], ids=["open", "silenced", "acknowledged"])
async def test_a_new_channel_is_notified_once_of_what_is_open(there: Receiver, lives: Lives, quiet: str) -> None:
    never = {"critical_min": 0, "high_min": 0, "warning_min": 0}
    async with lives.life(webhook("ops", there.base), repeat=never) as one:
        await one.handle([crossing(CRITICAL, key=A), crossing(WARNING, key=B)])
        await settled(one, lives.clock)
        if quiet == "silence":
            await one.silence(A, author="ann", note="", minutes=30)
        if quiet == "ack":
            (incident,) = [incident for incident in one.incidents() if incident.key == A]
            await one.acknowledge(incident.id, author="ann", note="", minutes=30)
    there.got.clear()
    lives.clock.ms += MINUTE
    both = [webhook("ops", there.base), webhook("night", there.base)]
    routes = [{"channels": ["ops"]}, {"channels": ["night"], "min_level": "critical"}]
    for _ in range(2):  # the second start finds nothing new
        async with lives.life(*both, routes=routes, repeat=never) as one:
            await settled(one, lives.clock)
    assert heard(there, "/night") == ([] if quiet else [("A", "repeat", "critical")]), "only what its route asks for"
    lives.clock.ms += 31 * MINUTE
    async with lives.life(*both, routes=routes, repeat=never) as one:
        await settled(one, lives.clock)
    assert heard(there, "/night") == [("A", "repeat", "critical")], "once nobody looks after it, once"
    assert there.at("/night")[0]["alerts"][0]["told_level"] == "ok"
    assert heard(there, "/ops") == [], "who knows is not disturbed"


async def test_a_new_alertmanager_is_sent_what_is_open(there: Receiver, lives: Lives) -> None:
    async with lives.life(webhook("ops", there.base)) as one:
        await one.handle([crossing(CRITICAL, key=A)])
        await settled(one, lives.clock)
    am = {"kind": "alertmanager", "name": "am", "url": there.base, "allow_insecure": True}
    async with lives.life(webhook("ops", there.base), am) as one:
        await there.until(lambda: there.at("/api/v2/alerts"))
        await one.handle([crossing(OK, CRITICAL, key=A)])
        await settled(one, lives.clock)
    states = [alert["labels"]["severity"] for body in there.at("/api/v2/alerts") for alert in body]
    assert states[0] == "critical"
    assert len(there.at("/api/v2/alerts")) >= 2, "and its end"


@pytest.mark.parametrize(
    ("before", "now", "heirs", "why"),
    [
        ({"a": "1"}, {"a": "1"}, {"a": "a"}, "nothing changed"),
        ({"a": "1"}, {"b": "1"}, {"a": "b"}, "renamed"),
        ({"a": "1"}, {"a": "2"}, {"a": None}, "another receiver under the name"),
        ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "b", "b": "a"}, "names swapped"),
        ({"a": "1"}, {}, {"a": None}, "gone"),
        ({"a": "1"}, {"a": "1", "b": "1"}, {"a": "a"}, "two names of one receiver: each its own"),
        ({"a": "1"}, {"c": "1", "b": "1"}, {"a": "c"}, "two new names: the first"),
        ({}, {"a": "1"}, {}, "new"),
    ],
)
def test_heirs(before: dict[str, str], now: dict[str, str], heirs: dict[str, str | None], why: str) -> None:
    assert heirs_of(before, now) == heirs, why


def test_a_note_that_cannot_be_read_is_none() -> None:
    from monitor.alerts.receivers import Receivers

    class Notes:
        def note(self, key: str) -> str | None:
            return "[1"

        def put_note(self, key: str, value: str) -> None: ...

    channels: Sequence[Any] = settings(webhook("a", "http://127.0.0.1:9")).channels
    assert (Receivers(channels, Notes()).heir("a"), Receivers(channels, Notes()).heir("b")) == ("a", None)
