"""A small client of the simulated HTX, written from the venue's documentation: signed REST, gzip sockets, heartbeats."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import aiohttp
from sim_client import DEADLINE_S, QUIET_S, until
from websockets.asyncio.client import ClientConnection, connect
from yarl import URL

from monitor.sim import SimExchange

Json = dict[str, Any]


def signature(secret: str, method: str, host: str, path: str, parameters: Json) -> str:
    lines = [method, host, path, "&".join(f"{k}={quote(str(v), safe='')}" for k, v in sorted(parameters.items()))]
    return base64.b64encode(hmac.digest(secret.encode(), "\n".join(lines).encode(), hashlib.sha256)).decode()


def stamp(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class HtxRest:
    """Signs as the first account unless told otherwise; `headers` and `status` are those of the last answer."""

    def __init__(self, sim: SimExchange, session: aiohttp.ClientSession, account: str = "") -> None:
        self.sim = sim
        self.session = session
        self.account = sim.htx.account(account)
        self.host = f"127.0.0.1:{sim.htx.port}"
        self.status = 0
        self.headers: dict[str, str] = {}

    def auth(self, method: str, path: str, parameters: Json | None = None, /, **changes: Any) -> Json:
        """The four parameters and the signature; `changes` overwrite before signing, `secret` and `host` sign otherwise."""
        secret = changes.pop("secret", self.account.api_secret)
        host = changes.pop("host", self.host)
        signed = {
            "AccessKeyId": self.account.api_key,
            "SignatureMethod": "HmacSHA256",
            "SignatureVersion": "2",
            "Timestamp": stamp(self.sim.now_ms()),
            **changes,
        }
        signed = {name: value for name, value in signed.items() if value is not None}
        if method == "GET":
            signed |= parameters or {}
        return {**signed, "Signature": signature(secret, method, host, path, signed)}

    async def call(self, method: str, path: str, query: Json | None = None, body: Any = None) -> Any:
        text = "&".join(f"{k}={quote(str(v), safe='')}" for k, v in (query or {}).items())
        url = URL(f"http://{self.host}{path}" + (f"?{text}" if text else ""), encoded=True)
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        async with self.session.request(method, url, data=data) as answer:
            self.status, self.headers = answer.status, dict(answer.headers)
            content = await answer.text()
        try:
            return json.loads(content, parse_float=Decimal)
        except ValueError:
            return content

    async def get(self, path: str, **parameters: Any) -> Any:
        return await self.call("GET", path, parameters)

    async def post(self, path: str, **body: Any) -> Any:
        """Signed."""
        return await self.call("POST", path, self.auth("POST", path), body)

    async def signed_get(self, path: str, **parameters: Any) -> Any:
        return await self.call("GET", path, self.auth("GET", path, parameters))


class HtxReader:
    """One socket: unpacks frames, answers heartbeats unless told not to, and keeps what it did not wait for."""

    def __init__(self, sim: SimExchange, socket: ClientConnection) -> None:
        self.sim = sim
        self.socket = socket
        self.answers_pings = True
        self.pings: list[Any] = []
        self.kept: list[Any] = []  # came while something else was waited for

    async def raw(self) -> str | bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.socket.recv()

    async def message(self) -> Any:
        """The next message that is no ping."""
        return self.kept.pop(0) if self.kept else await self._next()

    async def _next(self) -> Any:
        while True:
            frame = await self.raw()
            assert isinstance(frame, bytes), "every frame is a binary one"
            message = json.loads(unpack(frame), parse_float=Decimal)
            if "ping" not in message and message.get("op") != "ping":
                return message
            self.pings.append(message)
            if self.answers_pings:
                await self.send({"pong": message["ping"]} if "ping" in message else {"op": "pong", "ts": message["ts"]})

    async def messages(self, count: int) -> list[Any]:
        return [await self.message() for _ in range(count)]

    async def send(self, message: Any) -> None:
        await self.socket.send(message if isinstance(message, str) else json.dumps(message))

    async def ask(self, message: Any) -> Any:
        """The next message is taken for the answer."""
        await self.send(message)
        return await self._next()

    async def sub(self, topic: str) -> Any:
        """Subscribe on a market socket; returns the acknowledgement, drops data that came before it."""
        await self.send({"sub": topic, "id": "s1"})
        while "ch" in (message := await self._next()):
            pass
        return message

    async def is_silent(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_S):
                await self.message()
        except TimeoutError:
            return True
        return False

    async def auth(self, account: str = "", **changes: Any) -> Any:
        owner = self.sim.htx.account(account)
        secret = changes.pop("secret", owner.api_secret)
        kind = changes.pop("type", "api")
        signed = {
            "AccessKeyId": owner.api_key,
            "SignatureMethod": "HmacSHA256",
            "SignatureVersion": "2",
            "Timestamp": stamp(self.sim.now_ms()),
            **changes,
        }
        signed = {name: value for name, value in signed.items() if value is not None}
        signed["Signature"] = signature(secret, "GET", f"127.0.0.1:{self.sim.htx.port}", "/notification", signed)
        return await self.ask({"op": "auth", "type": kind, "cid": "a", **signed})

    async def op(self, op: str, topic: str) -> Any:
        """Subscribe or unsubscribe; the pushes that come before the answer are kept."""
        await self.send({"op": op, "cid": "c", "topic": topic})
        while (answer := await self._next())["op"] != op:
            self.kept.append(answer)
        return answer


def unpack(frame: bytes) -> bytes:
    """A whole gzip stream and nothing else."""
    unzip = zlib.decompressobj(wbits=31)
    text = unzip.decompress(frame)
    assert unzip.eof
    assert not unzip.unused_data
    return text


@contextlib.asynccontextmanager
async def htx_reader(sim: SimExchange, path: str) -> AsyncIterator[HtxReader]:
    """A socket, read only once the exchange has it on its books."""
    before = len(sim.htx.hub.connections)
    async with connect(f"ws://127.0.0.1:{sim.htx.port}{path}", max_size=1 << 24, compression=None) as socket:
        await until(lambda: len(sim.htx.hub.connections) > before)
        yield HtxReader(sim, socket)


def books(sim: SimExchange, account: str = "mixed") -> Any:
    """The coins of one account, as the exchange's own ledger has them."""
    return sim.ledger()["venues"]["htx_coin_futures"]["accounts"][account]["coins"]
