"""Receivers that repeat whatever they were sent, address, headers and body, with every status: no secret is ever passed on.

What is searched: the log, the outcomes, the state of the channels, what the other channels are told, the store on disk. What is
searched for: any eight characters in a row of any secret, as it is and as it stands in a URL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web
from alerts_kit import Clock, crossing, desk, eventually, open_store, running, settings
from structlog.testing import capture_logs

from monitor.alerts import trial
from monitor.alerts.channels import CHANNELS
from monitor.model.alerts import Level

CANARIES = {
    "slack": "slCANARY0a1b2c3d4e5f6071",
    "telegram": "tgCANARY9z8y7x6w5v4u3t2s1r",
    "webhook": "whCanaryQ1W2E3R4T5Y6",
    "bearer": "bearerCANARY/+==A1S2D3F4",
    "alertmanager": "amCANARYz0x9c8v7b6n5",
    "password": "pwCANARY&%P0O9I8U7Y6",
    "pagerduty": "pdCanary0123456789abcdefABCDEF01",
}
STATUSES = (400, 401, 403, 404, 410, 429, 500, 302)
PIECE = 8


class Gossip:
    """Answers `status`, with all that it was sent."""

    def __init__(self) -> None:
        self.status = 400
        self.got: list[tuple[str, str, str]] = []  # path, headers, body

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        self.got.append((request.path, str(dict(request.headers)), body))
        echo = f"{request.url} {dict(request.headers)} {body}"
        reply = {"ok": False, "description": echo, "message": echo, "errors": [echo], "error": echo}
        if self.status == 400 and len(self.got) % 2:  # plain text for those that read such
            return web.Response(status=400, text=echo)
        return web.json_response(reply, status=self.status, headers={"Location": str(request.url), "X-Echo": request.path})


@pytest.fixture
async def gossip() -> AsyncIterator[tuple[Gossip, str]]:
    one = Gossip()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield one, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def channels(base: str) -> list[dict[str, Any]]:
    raw: list[dict[str, Any]] = [
        {"kind": "slack", "webhook_url": f"{base}/services/T1/B1/{CANARIES['slack']}"},
        {"kind": "telegram", "bot_token": f"123456789:{CANARIES['telegram']}", "chat_id": "42", "base_url": base},
        {"kind": "webhook", "url": f"{base}/{CANARIES['webhook']}", "bearer_token": CANARIES["bearer"]},
        {"kind": "alertmanager", "url": f"{base}/{CANARIES['alertmanager']}", "username": "u", "password": CANARIES["password"]},
        {"kind": "pagerduty", "routing_key": CANARIES["pagerduty"], "url": f"{base}/v2/enqueue"},
    ]
    return [one | {"name": one["kind"], "allow_insecure": True} for one in raw]


def heard(text: str) -> list[str]:
    return [name for name, secret in CANARIES.items() if any(piece in text for piece in _pieces(secret))]


def _pieces(secret: str) -> set[str]:
    return {form[at : at + PIECE] for form in (secret, quote(secret, safe="")) for at in range(len(form) - PIECE + 1)}


def test_the_search_finds_what_is_there() -> None:
    assert heard("x" + CANARIES["slack"][5:13] + "y") == ["slack"]
    assert set(heard(repr(CANARIES))) == set(CANARIES)


@pytest.mark.parametrize("status", STATUSES)
async def test_no_receiver_makes_us_repeat_a_secret(gossip: tuple[Gossip, str], tmp_path: Path, status: int) -> None:
    receiver, base = gossip
    receiver.status = status
    alert_settings = settings(*channels(base))
    assert {channel.kind for channel in alert_settings.channels} == set(CHANNELS)
    store = await open_store(tmp_path / "state.db")
    one = desk(alert_settings, store, Clock())
    with capture_logs() as logs:
        results = await trial.test_alert(alert_settings)
        async with running(one):
            await one.handle([crossing(Level.CRITICAL)])
            await eventually(lambda: all(channel.results.get("retry") or channel.broken for channel in one.channels()), 20)
    states = repr(one.channels()) + repr(one.incidents())
    await store.close()

    assert not any(result.ok for result in results)
    sent = repr(receiver.got)
    assert all(name in heard(sent) for name in CANARIES if name != "password"), "each secret was used where it belongs"
    said = {
        "log": repr(logs),
        "results": repr(results),
        "states": states,
        "settings": repr(alert_settings) + alert_settings.model_dump_json(),
        "store": on_disk(tmp_path),
        "messages": "".join(body for path, _, body in receiver.got if not path.startswith("/v2/enqueue")),
        "details": "".join(orjson.dumps(_without_key(body)).decode() for path, _, body in receiver.got if path == "/v2/enqueue"),
    }
    assert {where: heard(text) for where, text in said.items() if heard(text)} == {}


def on_disk(folder: Path) -> str:
    return "".join(path.read_bytes().decode("latin-1") for path in folder.glob("state.db*"))


def _without_key(body: str) -> Any:
    event = orjson.loads(body)
    assert event.pop("routing_key") == CANARIES["pagerduty"], "where it belongs"
    return event
