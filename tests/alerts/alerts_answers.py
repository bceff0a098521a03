"""Channels of every kind against receivers that answer in every way, each with the words of its own service."""

from __future__ import annotations

import asyncio
import socket
import struct
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

from aiohttp import web
from alerts_kit import T0, Answer, Clock, message
from pydantic import TypeAdapter

from monitor.alerts.channels import CHANNELS, ChannelSettings
from monitor.alerts.channels.base import Outcome
from monitor.alerts.channels.http import Http
from monitor.alerts.message import Notice

NOTICE = Notice(id="20261122T053424-7KQMZ.1", messages=(message(),))
TOTAL_S = 0.3
ROUTING_KEY = "canary" + "0" * 26
PATHS = {
    "slack": "/services/T1/B1/canary",
    "telegram": "/bot123:canary/sendMessage",
    "webhook": "/hook/canary",
    "alertmanager": "/canary/api/v2/alerts",
    "pagerduty": "/v2/enqueue",
}


class Notebook(dict[str, str]):
    """Notes in memory."""

    def note(self, key: str) -> str | None:
        return self.get(key)

    put_note = dict.__setitem__


def raw_settings(kind: str, base: str, **more: Any) -> dict[str, Any]:
    specific = {
        "slack": {"webhook_url": base + PATHS["slack"]},
        "telegram": {"bot_token": "123:canary", "chat_id": "-100", "base_url": base},
        "webhook": {"url": base + PATHS["webhook"]},
        "alertmanager": {"url": base + "/canary/"},
        "pagerduty": {"routing_key": ROUTING_KEY, "url": base + PATHS["pagerduty"]},
    }
    return {"kind": kind, "name": kind, "allow_insecure": True, **specific[kind], **more}


async def send(kind: str, base: str, *, notes: Notebook | None = None, **more: Any) -> Outcome:
    """One attempt of a channel of this kind, as it comes out of its settings."""
    channel_settings = TypeAdapter(ChannelSettings).validate_python(raw_settings(kind, base, **more))
    insecure = channel_settings.allow_insecure
    async with Http(allow_insecure=insecure, connect_s=TOTAL_S, total_s=TOTAL_S, now_ms=Clock()) as http:
        return await CHANNELS[kind](channel_settings, http, "", Notebook() if notes is None else notes).send(NOTICE)


# ------------------------------------------------------------------ answers


def says(status: int, body: object = None, **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(body if body is not None else {"ok": status == 200}, status=status, headers=headers)

    return answer


def text(status: int, body: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(30)
    raise AssertionError("the client should have hung up")


async def reset(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST instead of FIN
    request.transport.abort()
    return web.Response()


def slow_body(status: int) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        while True:  # a byte at a time, for ever
            await response.write(b" ")
            await asyncio.sleep(0.01)

    return answer


def http_date(offset_s: int) -> str:
    return format_datetime(datetime.fromtimestamp(T0 / 1000 + offset_s, UTC), usegmt=True)
