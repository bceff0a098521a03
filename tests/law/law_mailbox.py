"""One channel's receiver, and how it behaves."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

OK = "ok"
BEHAVIOURS = (OK, "down", "refuses", "too large", "patience", "hangs")


class Mailbox:
    """alerts: what was taken, once by id, in the order in which it came."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.behaviour = OK
        self.well_since_s = 0.0  # +inf: it is not
        self.alerts: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        self._changed = asyncio.Event()

    def behave(self, behaviour: str, now_s: float) -> None:
        self.behaviour = behaviour
        self.well_since_s = now_s if behaviour == OK else float("inf")
        self._changed.set()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        return app

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.json()
        match self.behaviour:
            case "down":
                return web.Response(status=503)
            case "refuses":
                return web.Response(status=400)
            case "too large" if len(body["alerts"]) > 1:
                return web.Response(status=413)
            case "patience":
                return web.Response(status=429, headers={"Retry-After": "30"})
            case "hangs":
                self._changed.clear()
                await self._changed.wait()
                return web.Response(status=504)
        for alert in body["alerts"]:
            if alert["id"] not in self._seen:
                self._seen.add(alert["id"])
                self.alerts.append(alert)
        return web.Response(text="ok")
