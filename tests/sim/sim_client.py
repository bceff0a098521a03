"""A small client of the simulated exchange, written from the venue's documentation: signed REST and one-socket readers."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
from websockets.asyncio.client import ClientConnection, connect
from yarl import URL

from monitor.sim import SimExchange

QUIET_S = 0.25  # how long a stream must stay silent to be called silent, while another one demonstrably speaks
DEADLINE_S = 5.0


class Rest:
    """Signs with the first account unless told otherwise; `last` keeps status and headers of the last answer."""

    def __init__(self, sim: SimExchange, session: aiohttp.ClientSession, account: str = "") -> None:
        self.sim = sim
        self.session = session
        self.account = sim.account(account)
        self.base = f"http://127.0.0.1:{sim.port}"
        self.status = 0
        self.headers: dict[str, str] = {}

    async def call(self, method: str, path: str, query: str = "", key: str | None = None, body: str | None = None) -> Any:
        headers = {} if key is None else {"X-MBX-APIKEY": key}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = URL(f"{self.base}{path}" + (f"?{query}" if query else ""), encoded=True)
        async with self.session.request(method, url, headers=headers, data=body) as answer:
            self.status, self.headers = answer.status, dict(answer.headers)
            text = await answer.text()
            return json.loads(text) if "json" in answer.content_type else text

    def signed_query(self, secret: str | None = None, timestamp_ms: int | None = None, **parameters: Any) -> str:
        time_ms = self.sim.now_ms() if timestamp_ms is None else timestamp_ms
        query = urlencode({**parameters, "timestamp": time_ms})
        key = self.account.api_secret if secret is None else secret
        return f"{query}&signature={hmac.new(key.encode(), query.encode(), hashlib.sha256).hexdigest()}"

    async def get(self, path: str, **parameters: Any) -> Any:
        return await self.call("GET", path, self.signed_query(**parameters), self.account.api_key)

    async def listen_key(self, method: str = "POST") -> Any:
        return await self.call(method, "/fapi/v1/listenKey", key=self.account.api_key)


class Reader:
    """One socket: sends control messages and collects frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._ids = 0

    async def frame(self) -> Any:
        async with asyncio.timeout(DEADLINE_S):
            return json.loads(await self.socket.recv())

    async def frames(self, count: int) -> list[Any]:
        return [await self.frame() for _ in range(count)]

    async def event(self, kind: str) -> Any:
        """The next frame of a kind; what comes before is skipped."""
        while True:
            frame = await self.frame()
            if frame.get("e") == kind:
                return frame

    async def ask(self, method: str, params: list[Any] | None = None) -> Any:
        self._ids += 1
        request: dict[str, Any] = {"method": method, "id": self._ids}
        if params is not None:
            request["params"] = params
        await self.socket.send(json.dumps(request))
        answer = await self.frame()
        assert answer["id"] == self._ids
        return answer

    async def subscribe(self, *streams: str) -> None:
        assert (await self.ask("SUBSCRIBE", list(streams)))["result"] is None

    async def is_silent(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_S):
                await self.socket.recv()
        except TimeoutError:
            return True
        return False


@contextlib.asynccontextmanager
async def reader(sim: SimExchange, path: str) -> AsyncIterator[Reader]:
    """A socket, read only once the exchange has it on its books."""
    before = len(sim.binance.hub.connections)
    async with connect(f"ws://127.0.0.1:{sim.port}{path}", max_size=1 << 24, compression=None) as socket:
        await until(lambda: len(sim.binance.hub.connections) > before)
        yield Reader(socket)


async def until(condition: Any) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for raises no event
            await asyncio.sleep(0.005)
