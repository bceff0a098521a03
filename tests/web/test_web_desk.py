"""Acknowledging and silencing over a real socket, with a real alert desk behind the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from web.conftest import Serve
from web.view_in_memory import NOW_MS, MemoryView

from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.secret import Secret
from monitor.store import Store

TOKEN = "canary-token-of-the-page"
EXISTS = {"venue": ["binance"], "account": ["main", "spare"], "rule": ["health", "stale", "channel"]}
ANN = {"author": "ann", "note": "adding margin", "minutes": 30}
JSON = {"Content-Type": "application/json"}


class DeskView(MemoryView):
    """Shows a real desk's incidents."""

    def __init__(self, desk: AlertDesk) -> None:
        super().__init__()
        self.desk = desk

    def incidents(self) -> list[Incident]:
        return self.desk.incidents()


@pytest.fixture
async def desk() -> AsyncIterator[AlertDesk]:
    """With one open incident."""
    store = await Store.open(":memory:", IncidentRecord, OutboxRow, now_ms=lambda: NOW_MS)
    one = AlertDesk(AlertSettings(), store, figures_of=lambda key: None, now_ms=lambda: NOW_MS, exists=EXISTS)
    key = IncidentKey("binance", "main", "USD", "health")
    await one.handle([Transition(key=key, level=Level.CRITICAL, was=Level.OK, at_ms=NOW_MS, summary="health 1.18")])
    yield one
    await store.close()


async def call(client: aiohttp.ClientSession, method: str, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    async with client.request(method, url, data=data, headers=JSON | headers if data is not None else headers) as answer:
        return answer.status, json.loads(await answer.read())


async def test_acknowledge_and_take_it_back(serve: Serve, client: aiohttp.ClientSession, desk: AlertDesk) -> None:
    server = await serve(DeskView(desk), desk=desk)
    incident_id = desk.incidents()[0].id
    ack = f"{server.url}api/v1/alerts/{incident_id}/ack"
    status, row = await call(client, "POST", ack, ANN)
    assert status == 200
    acknowledged = {
        "author": "ann",
        "note": "adding margin",
        "at_ms": NOW_MS,
        "until_ms": NOW_MS + 30 * 60_000,
        "level": "critical",
    }
    assert (row["id"], row["acknowledged"]) == (incident_id, acknowledged)
    _, alerts = await call(client, "GET", f"{server.url}api/v1/alerts")
    assert alerts["incidents"][0]["acknowledged"] == acknowledged
    status, row = await call(client, "DELETE", ack)
    assert (status, row["acknowledged"]) == (200, None)
    status, refusal = await call(client, "DELETE", ack)
    assert status == 404
    assert "not acknowledged" in refusal["error"]
    status, row = await call(client, "POST", ack, {"author": "ann"})
    assert (status, row["acknowledged"]["until_ms"]) == (200, NOW_MS + 60 * 60_000), "an hour if nothing is said"


async def test_silences(serve: Serve, client: aiohttp.ClientSession, desk: AlertDesk) -> None:
    server = await serve(DeskView(desk), desk=desk)
    url = f"{server.url}api/v1/silences"
    assert await call(client, "GET", url) == (200, {"now_ms": NOW_MS, "silences": []})
    status, row = await call(client, "POST", url, ANN | {"account": "main", "rule": "health"})
    assert status == 201
    assert row["matches"] == [desk.incidents()[0].id], "what it silences now"
    assert (row["account"], row["rule"], row["venue"], row["author"]) == ("main", "health", "", "ann")
    status, other = await call(client, "POST", url, ANN | {"account": "spare", "minutes": 5})
    assert (status, other["matches"]) == (201, []), "nothing of it is open"
    _, listed = await call(client, "GET", url)
    assert [one["id"] for one in listed["silences"]] == [other["id"], row["id"]], "the next to end first"
    _, alerts = await call(client, "GET", f"{server.url}api/v1/alerts")
    assert alerts["incidents"][0]["silence_id"] == row["id"]
    assert await call(client, "DELETE", f"{url}/{row['id']}") == (200, {"ended": row["id"]})
    assert (await call(client, "DELETE", f"{url}/{row['id']}"))[0] == 404
    _, alerts = await call(client, "GET", f"{server.url}api/v1/alerts")
    assert alerts["incidents"][0]["silence_id"] is None


ACK, SILENCES = "api/v1/alerts/{id}/ack", "api/v1/silences"


@pytest.mark.parametrize(
    ("path", "body", "status", "says", "why"),
    [
        (ACK, {}, 400, "missing required field `author`", "nobody acknowledged it"),
        (ACK, {"author": ""}, 400, "$.author", "nobody"),
        (ACK, {"author": "\u202e \n"}, 400, "an author must be named", "nobody that can be seen"),
        (ACK, {"author": "a" * 65}, 400, "$.author", "longer than a name"),
        (ACK, ANN | {"minutes": 0}, 400, "$.minutes", "no time"),
        (ACK, ANN | {"minutes": -5}, 400, "$.minutes", "time that is past"),
        (ACK, ANN | {"minutes": 1441}, 400, "$.minutes", "longer than a day"),
        (ACK, ANN | {"minutes": "60"}, 400, "Expected `float`, got `str`", "a text is no number"),
        (ACK, ANN | {"minuts": 60}, 400, "unknown field `minuts`", "a typo would be an hour"),
        (ACK, b'{"author": "ann", "minutes": NaN}', 400, "invalid", "not a number"),
        (ACK, b"author=ann", 400, "malformed", "a form"),
        (ACK, b"", 415, "must be JSON", "no body"),
        (ACK, b"\xff", 400, "malformed", "no text"),
        (ACK, [], 400, "Expected `object`", "not an object"),
        ("api/v1/alerts/20261122T053424-NONE0/ack", ANN, 404, "no such open incident", "unknown"),
        ("api/v1/alerts/%2e%2e%2fack/ack", ANN, 404, "", "nothing to climb"),
        (
            SILENCES,
            ANN | {"account": "mian"},
            400,
            "no account is called mian; there are: main, spare",
            "it would hold nothing back",
        ),
        (SILENCES, ANN | {"rule": "helth"}, 400, "no rule is called helth; there are: health, stale, channel", "nor would this"),
        (SILENCES, ANN | {"venue": "htx", "account": "main"}, 400, "no venue is called htx; there are: binance", "nor this"),
        (SILENCES, ANN | {"rule": "channel", "subject": "phone"}, 400, "no channel is called phone; there are: none", "nor this"),
        (SILENCES, ANN, 400, "must name", "silence about everything is a way to lose money"),
        (SILENCES, ANN | {"account": "main", "minutes": 10081}, 400, "$.minutes", "longer than a week"),
        (SILENCES, ANN | {"acount": "main"}, 400, "unknown field `acount`", "a typo would match more"),
        (SILENCES, ANN | {"account": None}, 400, "$.account", "not a text"),
        (SILENCES, b"{" + b" " * 9000 + b"}", 413, "Too Large", "a body without end"),
    ],
)
async def test_refusals_are_explained(
    serve: Serve, client: aiohttp.ClientSession, desk: AlertDesk, path: str, body: Any, status: int, says: str, why: str
) -> None:
    server = await serve(DeskView(desk), desk=desk)
    url = server.url + path.replace("{id}", desk.incidents()[0].id)
    headers = {} if body == b"" else JSON
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post(url, data=data, headers=headers) as answer:
        refusal = json.loads(await answer.read())
        assert (answer.status, answer.content_type) == (status, "application/json"), (why, refusal)
    assert says.lower() in refusal["error"].lower(), why
    assert status != 404 or not path.startswith("api/v1/alerts/2") or desk.incidents()[0].id in refusal["hint"], "what is open"
    assert desk.incidents()[0].acknowledged is None
    assert desk.silences() == []


@pytest.mark.parametrize(
    ("settings", "headers", "status", "why"),
    [
        ({}, {}, 200, "loopback without a token"),
        ({"token": Secret(TOKEN)}, {}, 401, "a token is set"),
        ({"token": Secret(TOKEN)}, {"Authorization": f"Bearer {TOKEN}x"}, 401, "another token"),
        ({"token": Secret(TOKEN)}, {"Authorization": f"Bearer {TOKEN}"}, 200, "the token"),
        ({"host": "0.0.0.0"}, {}, 403, "others reach it and no token is set"),
        ({"host": "0.0.0.0", "token": Secret(TOKEN)}, {"Authorization": f"Bearer {TOKEN}"}, 200, "others need the token"),
        ({}, {"Host": "evil.example"}, 403, "a name that was rebound to loopback"),
        ({}, {"Origin": "https://evil.example"}, 403, "a page of another site"),
        ({}, {"Sec-Fetch-Site": "cross-site"}, 403, "a page of another site"),
        ({}, {"Content-Type": "text/plain"}, 415, "what a form of another site could send without asking"),
    ],
)
async def test_who_may(
    serve: Serve,
    client: aiohttp.ClientSession,
    desk: AlertDesk,
    settings: dict[str, Any],
    headers: dict[str, str],
    status: int,
    why: str,
) -> None:
    server = await serve(DeskView(desk), desk=desk, **settings)
    url = f"http://127.0.0.1:{server.port}/api/v1/alerts/{desk.incidents()[0].id}/ack"
    async with client.post(url, data=json.dumps(ANN).encode(), headers=JSON | headers) as answer:
        assert answer.status == status, why
    assert (desk.incidents()[0].acknowledged is not None) == (status == 200)
    if status != 415:
        async with client.delete(url, headers=headers) as answer:
            assert answer.status == status, why


async def test_a_server_without_a_desk_only_shows(serve: Serve, client: aiohttp.ClientSession) -> None:
    server = await serve(MemoryView())
    assert (await call(client, "GET", server.url + SILENCES))[0] == 200
    for path in ("api/v1/alerts/X/ack", SILENCES):
        status, refusal = await call(client, "POST", server.url + path, ANN)
        assert status == 403
        assert "only shows" in refusal["error"]
