"""The WebSocket side of Binance USDⓈ-M: routes, subscriptions, limits, and who gets which frame.

Streams live on the route of their family (/public, /market, /private). A stream subscribed on another route, or on the
un-routed /ws and /stream of old, is acknowledged and stays silent, as on the exchange.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from monitor.sim.faults import Faults
from monitor.sim.line import Line

FAMILIES = ("public", "market", "private")
DAY_MS = 24 * 3_600_000
PING_EVERY_MS = 180_000
PONG_WITHIN_MS = 600_000
MESSAGES_PER_S_MAX = 10
STREAMS_MAX = 1024


class ControlError(Exception):
    """A control message that the exchange answers with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Connection(Line):
    """One socket and what it reads. A text frame is a frame; bytes are sent as a ping."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, family: str, combined: bool, now_ms: int) -> None:
        super().__init__(socket, request)
        self.family = family
        self.combined = combined
        self.subscriptions: dict[str, frozenset[str]] = {}  # stream → wanted event kinds; empty: all
        self.opened_ms = now_ms
        self.pinged_ms = now_ms
        self.ponged_ms = now_ms
        self._arrivals: deque[float] = deque(maxlen=MESSAGES_PER_S_MAX + 1)

    async def send(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            await self.socket.ping(frame)
        else:
            await self.socket.send_str(frame)

    def is_flooding(self) -> bool:
        """Count one arrival. In real time: the limit protects a real machine."""
        self._arrivals.append(asyncio.get_running_loop().time())
        return len(self._arrivals) > MESSAGES_PER_S_MAX and self._arrivals[-1] - self._arrivals[0] < 1.0


class Hub:
    """All sockets of the venue. A private stream is named by its listen key; faults know them all as "user"."""

    def __init__(self, now_ms: Callable[[], int], faults: Faults) -> None:
        self._now_ms = now_ms
        self._faults = faults
        self.connections: set[Connection] = set()
        self._readers: dict[tuple[str, str], set[Connection]] = {}
        self._closing: set[asyncio.Task[bool]] = set()

    # ------------------------------------------------------------------ out

    def readers(self, family: str, stream: str) -> Iterable[Connection]:
        return tuple(self._readers.get((family, stream), ()))

    def streams(self, family: str) -> set[str]:
        """The streams of a family that somebody reads."""
        return {stream for (of, stream), readers in self._readers.items() if of == family and readers}

    def publish(self, family: str, stream: str, frame: Any, kind: str = "") -> None:
        """Send a JSON object to all readers of a stream; `kind` is the event name that a private reader may filter by."""
        readers = self.readers(family, stream)
        if readers and not self._faults.is_silent("user" if family == "private" else stream):
            self.send_text(family, stream, orjson.dumps(frame).decode(), kind)

    def send_text(self, family: str, stream: str, text: str, kind: str = "") -> None:
        """The same with ready text, be it JSON or not."""
        for connection in self.readers(family, stream):
            wanted = connection.subscriptions.get(stream, frozenset())
            if wanted and kind and kind not in wanted:
                continue
            connection.put(f'{{"stream":"{stream}","data":{text}}}' if connection.combined else text)

    def kill(self, family: str = "", close_code: int | None = None) -> int:
        """End sockets (of one family, or all): cut off, or closed with a code. Returns how many."""
        concerned = [c for c in self.connections if family in {"", c.family}]
        for connection in concerned:
            self.drop(connection, close_code)
        return len(concerned)

    def drop(self, connection: Connection, close_code: int | None) -> None:
        if close_code is None:
            connection.abort()
        else:
            task = asyncio.get_running_loop().create_task(connection.socket.close(code=close_code, drain=False))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def drain(self, patience_s: float = 0.5) -> None:
        """Wait until every queue is empty, at most `patience_s` for a reader that does not read."""
        for connection in list(self.connections):
            if not connection.idle.is_set():
                try:
                    await asyncio.wait_for(connection.idle.wait(), patience_s)
                except TimeoutError:
                    continue

    def keep_house(self) -> None:
        """Pings every 3 min, dead peers, and the end after 24 h."""
        now = self._now_ms()
        for connection in list(self.connections):
            if now - connection.opened_ms >= DAY_MS:
                self.drop(connection, WSCloseCode.GOING_AWAY)
            elif connection.pinged_ms > connection.ponged_ms and now - connection.pinged_ms >= PONG_WITHIN_MS:
                self.drop(connection, WSCloseCode.POLICY_VIOLATION)
            elif now - connection.pinged_ms >= PING_EVERY_MS and connection.pinged_ms <= connection.ponged_ms:
                connection.pinged_ms = now
                connection.put(str(now).encode())

    # ------------------------------------------------------------------ in

    async def handle(
        self, request: web.Request, family: str, combined: bool, streams: dict[str, frozenset[str]]
    ) -> web.StreamResponse:
        """Serve one socket until it ends."""
        if self._faults.refuse_sockets > 0:
            self._faults.refuse_sockets -= 1
            return web.Response(status=503, text="Service Unavailable")
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=1 << 16)
        await socket.prepare(request)
        connection = Connection(socket, request, family, combined, self._now_ms())
        self.connections.add(connection)
        for stream, kinds in streams.items():
            self._subscribe(connection, stream, kinds)
        writer = asyncio.get_running_loop().create_task(connection.write())
        try:
            await self._receive(connection)
        finally:
            for stream in list(connection.subscriptions):
                self._unsubscribe(connection, stream)
            self.connections.discard(connection)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def _receive(self, connection: Connection) -> None:
        socket = connection.socket
        async for message in socket:
            if connection.is_flooding():
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Too many requests")
                return
            if message.type == WSMsgType.PING:
                await socket.pong(message.data)
            elif message.type == WSMsgType.PONG:
                connection.ponged_ms = max(connection.pinged_ms, self._now_ms())
            elif message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                connection.put(orjson.dumps(self._answer(connection, message.data)).decode())
                if len(connection.subscriptions) > STREAMS_MAX:
                    await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Too many streams")
                    return

    def _answer(self, connection: Connection, text: str | bytes) -> dict[str, Any]:
        """The reply to one control message."""
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError as exc:
            return {"error": {"code": 3, "msg": f"Invalid JSON: {exc}"}}
        if not isinstance(request, dict) or not isinstance(request.get("id"), int | str):
            return {"error": {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}}
        try:
            return {"result": self._obey(connection, request.get("method"), request.get("params", [])), "id": request["id"]}
        except ControlError as error:
            return {"error": {"code": error.code, "msg": error.message}, "id": request["id"]}

    def _obey(self, connection: Connection, method: Any, params: Any) -> Any:
        if method in ("SUBSCRIBE", "UNSUBSCRIBE"):
            if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
                raise ControlError(2, "Invalid request: params must be an array of strings")
            for stream in params:
                if method == "SUBSCRIBE":
                    self._subscribe(connection, stream, frozenset())
                else:
                    self._unsubscribe(connection, stream)
            return None
        if method == "LIST_SUBSCRIPTIONS":
            return list(connection.subscriptions)
        if method == "GET_PROPERTY":
            return connection.combined
        if method == "SET_PROPERTY":
            if not (isinstance(params, list) and len(params) == 2 and params[0] == "combined" and isinstance(params[1], bool)):
                raise ControlError(0, "Unknown property")
            connection.combined = params[1]
            return None
        known = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
        raise ControlError(2, f"Invalid request: unknown variant {method}, expected one of {known}")

    def _subscribe(self, connection: Connection, stream: str, kinds: frozenset[str]) -> None:
        connection.subscriptions[stream] = kinds
        self._readers.setdefault((connection.family, stream), set()).add(connection)

    def _unsubscribe(self, connection: Connection, stream: str) -> None:
        connection.subscriptions.pop(stream, None)
        key = (connection.family, stream)
        if key in self._readers:
            self._readers[key].discard(connection)
            if not self._readers[key]:
                del self._readers[key]


def streams_of_target(family: str, rest: str, query: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """The subscriptions that an address itself asks for: /ws/<s>, ?streams=<s1>/<s2>, ?listenKey=<k>&events=<A>/<B>."""
    wanted: dict[str, frozenset[str]] = {rest: frozenset()} if rest else {}
    last_key = rest
    for name, value in query:
        if name == "streams":
            wanted.update({stream: frozenset() for stream in value.split("/") if stream})
        elif name == "listenKey" and family == "private":
            wanted[value] = frozenset()
            last_key = value
        elif name == "events" and last_key:
            wanted[last_key] = frozenset(value.split("/"))
    return wanted
