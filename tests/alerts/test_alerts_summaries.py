"""Many messages that one channel gets in one request: each keeps its own routes, its own falling over and its own outcome."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from alerts_kit import (
    T0,
    Answer,
    Clock,
    Receiver,
    account,
    crossing,
    desk,
    eventually,
    running,
    settings,
    webhook,
)

from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.model.alerts import Level
from monitor.store import Store

CRITICAL, EMERGENCY = Level.CRITICAL, Level.EMERGENCY


def down() -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    return answer


def refuses(*, alerts_max: int = 1000, poison: str = "") -> Answer:
    """413 above so many alerts in one request, 400 for one that it cannot read."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if len(body["alerts"]) > alerts_max:
            return web.Response(status=413)
        return web.Response(status=400 if any(alert["account"] == poison for alert in body["alerts"]) else 200)

    return answer


def accounts(there: Receiver, path: str) -> list[str]:
    """Whose alerts were taken or refused there, each as often as it came, in order of names; none of our own."""
    return sorted(alert["account"] for body in there.at(path) for alert in body["alerts"] if alert["account"])


class Accepted:
    """What a receiver answered with 200, by account."""

    def __init__(self, answer: Answer) -> None:
        self.accounts: list[str] = []
        self._answer = answer

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        answer = await self._answer(request)
        if answer.status == 200:
            self.accounts += [alert["account"] for alert in (await request.json())["alerts"] if alert["account"]]
        return answer


async def passes(one: AlertDesk, now_s: list[float], seconds: float) -> None:
    now_s[0] += seconds
    for _ in range(3):
        await one.tick(T0)


async def test_row_2_each_message_of_a_summary_falls_over(there: Receiver, store: Store[IncidentRecord, OutboxRow]) -> None:
    there.answers["/ops"] = down()
    now_s = [1000.0]
    routes = [{"channels": ["ops"]}, {"channels": ["pager"], "min_level": "emergency"}]
    channels = [webhook("ops", there.base), webhook("pager", there.base)]
    one = desk(settings(*channels, routes=routes), store, Clock(), clock_s=lambda: now_s[0])
    crowd = [account(f"acc{number:02}") for number in range(20)]
    await one.handle([crossing(CRITICAL, key=key) for key in crowd] + [crossing(EMERGENCY, key=account("worst"))])
    async with running(one):
        await there.until(lambda: there.at("/ops") and there.at("/pager"))
        assert there.at("/ops")[0]["summary"], "21 wait there: they are told in short"
        await passes(one, now_s, 11)
        await there.until(lambda: len(set(accounts(there, "/pager"))) == 21)
        await eventually(lambda: one.channels()[1].pending == 0)
    assert accounts(there, "/pager") == sorted([*(key.account for key in crowd), "worst"]), "each of them, once"


async def test_row_3_each_message_of_a_summary_goes_to_the_reserve_of_its_own_client(
    there: Receiver, store: Store[IncidentRecord, OutboxRow]
) -> None:
    there.answers["/ops"] = down()
    now_s = [1000.0]
    clients = {"ra": [f"a{number}" for number in range(6)], "rb": [f"b{number}" for number in range(5)]}
    routes: list[dict[str, Any]] = [{"channels": ["ops"]}]
    routes += [{"channels": [name], "accounts": names, "min_level": "liquidation"} for name, names in clients.items()]
    channels = [webhook(name, there.base) for name in ("ops", *clients)]
    one = desk(settings(*channels, routes=routes, delivery={"summary_above": 1}), store, Clock(), clock_s=lambda: now_s[0])
    await one.handle([crossing(CRITICAL, key=account(name)) for names in clients.values() for name in names])
    async with running(one):
        await there.until(lambda: there.at("/ops"))
        assert len(there.at("/ops")[0]["alerts"]) == 11
        await passes(one, now_s, 11)
        await there.until(lambda: len(accounts(there, "/ra") + accounts(there, "/rb")) == 11)
    assert (accounts(there, "/ra"), accounts(there, "/rb")) == (clients["ra"], clients["rb"]), "nobody hears of the other's"


async def test_row_4_a_summary_that_is_too_large_arrives_in_parts(
    there: Receiver, store: Store[IncidentRecord, OutboxRow]
) -> None:
    there.answers["/w"] = taken = Accepted(refuses(alerts_max=4))
    names = [f"acc{number:02}" for number in range(41)]
    one = desk(settings(webhook("w", there.base)), store, Clock())
    await one.handle([crossing(CRITICAL, key=account(name)) for name in names])
    async with running(one):
        assert await one.flush(10) == 0
    assert sorted(taken.accounts) == names, "each of them, once"
    assert one.channels()[0].broken == ""


@pytest.mark.parametrize("place", [0, 7, 19, 40], ids=lambda place: f"poison-{place}")
async def test_row_4_only_the_line_at_fault_is_given_up_and_goes_elsewhere(
    there: Receiver, store: Store[IncidentRecord, OutboxRow], place: int
) -> None:
    names = [f"acc{number:02}" for number in range(41)]
    there.answers["/w"] = taken = Accepted(refuses(poison=names[place]))
    channels = [webhook("w", there.base), webhook("other", there.base), webhook("reserve", there.base)]
    routes = [{"channels": ["w"]}, {"channels": ["other"], "accounts": ["somebody-else"]}]
    numbers = iter(range(1000))
    one = desk(settings(*channels, routes=routes), store, Clock(), new_id=lambda at_ms: f"I{next(numbers):03}")
    await one.handle([crossing(CRITICAL, key=account(name)) for name in names])
    async with running(one):
        await there.until(lambda: sorted({*taken.accounts, names[place]}) == names)
        await one.handle([crossing(CRITICAL, key=account("later"))])  # the last of all may have met a channel that just broke
        await there.until(lambda: names[place] in accounts(there, "/reserve"))
        assert await one.flush(10) == 0
    names.append("later")
    assert sorted(taken.accounts) == [name for name in names if name != names[place]], "each of the others, once"
    assert accounts(there, "/reserve") == [names[place]]
    assert accounts(there, "/other") == [], "not to who may not hear of it"
    assert one.channels()[0].results["given_up"] == 1, "and it can be seen"
