"""The sockets of the venue: who reads what, gzip frames, and the venue's own heartbeats.

Market sockets are pinged with a number, op sockets with a text; whoever leaves five pings unanswered is dropped. Any of the
last two pings may be answered. Pings go by the simulated clock; a drop also needs some real time, so that a client is not
dropped for the speed of the simulation.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from monitor.sim.htx.account import Account
from monitor.sim.htx.faults import Faults
from monitor.sim.htx.text import encode, gzip_frame
from monitor.sim.line import Line

if TYPE_CHECKING:
    from monitor.sim.htx.dialects import Dialect

MARKET, INDEX, NOTIFICATION, CENTER = "/ws", "/ws_index", "/notification", "/center-notification"
PATHS = (MARKET, INDEX, NOTIFICATION, CENTER)
PING_EVERY_MS = 5000
PINGS_UNANSWERED_MAX = 5
CONNECTIONS_PER_USER_MAX = 30


class Connection(Line):
    """One socket. `account` is None until it has authenticated."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, now_ms: int) -> None:
        super().__init__(socket, request)
        self.path = request.path
        self.host = request.headers.get("Host", "")
        self.account: Account | None = None
        self.subscriptions: dict[str, str] = {}  # topic in canonical form → as the client wrote it
        self.closing = False
        self.pinged_ms = now_ms
        self.unanswered = 0
        self.oldest_unanswered_s = 0.0
        self._pings: deque[int | str] = deque(maxlen=2)

    def tell(self, message: Any) -> None:
        """One JSON message in one frame."""
        self.put(gzip_frame(encode(message)))

    def pinged(self, now_ms: int, token: int | str) -> None:
        self.pinged_ms = now_ms
        self._pings.append(token)
        if not self.unanswered:
            self.oldest_unanswered_s = asyncio.get_running_loop().time()
        self.unanswered += 1

    def ponged(self, token: Any) -> None:
        """A pong counts if it repeats one of the last two pings, type and all."""
        if any(type(token) is type(ping) and token == ping for ping in self._pings):
            self.unanswered = 0


@dataclass
class Message:
    """One push, packed once for all who get it."""

    path: str
    topic: str
    body: dict[str, Any]
    account: Account | None = None  # None: for everybody


class Hub:
    """All sockets. `pong_grace_s`: real seconds that a client has in any case to answer a ping."""

    def __init__(self, now_ms: Callable[[], int], faults: Faults) -> None:
        self._now_ms = now_ms
        self._faults = faults
        self._readers: dict[tuple[str, str], set[Connection]] = {}
        self.connections: set[Connection] = set()
        self.pong_grace_s = 2.0

    # ------------------------------------------------------------------ out

    def topics(self, path: str) -> list[str]:
        """The topics of a path that somebody reads."""
        return [topic for (of, topic), readers in self._readers.items() if of == path and readers]

    def readers(self, path: str, topic: str) -> Iterable[Connection]:
        return tuple(self._readers.get((path, topic), ()))

    def publish(self, message: Message, wider: str = "") -> None:
        """To all who read the topic or the `wider` one (`accounts.*`), each once; a private one to its owner alone.

        A body with `ch` gets the topic as its reader wrote it.
        """
        if self._faults.is_silent(message.topic):
            return
        readers = dict.fromkeys(self.readers(message.path, message.topic))
        if wider:
            readers |= dict.fromkeys(self.readers(message.path, wider))
        packed: dict[str, bytes] = {}
        for connection in readers:
            if message.account is not None and connection.account is not message.account:
                continue
            label = connection.subscriptions.get(message.topic, "") if "ch" in message.body else ""
            if label not in packed:
                body = {**message.body, "ch": label} if label else message.body
                packed[label] = gzip_frame(encode(body))
            connection.put(packed[label])

    def kill(self, path: str = "") -> int:
        """Cut sockets off (those of one path, or all); returns how many. A client sees code 1006."""
        concerned = [connection for connection in self.connections if path in {"", connection.path}]
        for connection in concerned:
            connection.abort()
        return len(concerned)

    async def drain(self, patience_s: float = 0.5) -> None:
        """Wait until every queue is empty, at most `patience_s` for a reader that does not read."""
        for connection in list(self.connections):
            if not connection.idle.is_set():
                try:
                    await asyncio.wait_for(connection.idle.wait(), patience_s)
                except TimeoutError:
                    continue

    def keep_house(self, dialects: dict[str, "Dialect"]) -> None:
        """Pings that are due, and the end of those who do not answer."""
        now = self._now_ms()
        for connection in list(self.connections):
            if now - connection.pinged_ms < PING_EVERY_MS:
                continue
            waited_s = asyncio.get_running_loop().time() - connection.oldest_unanswered_s
            if connection.unanswered >= PINGS_UNANSWERED_MAX:
                if waited_s >= self.pong_grace_s:
                    connection.abort()
            elif not self._faults.silent_heartbeats:
                token, message = dialects[connection.path].ping(now)
                connection.pinged(now, token)
                connection.tell(message)

    # ------------------------------------------------------------------ in

    def subscribe(self, connection: Connection, topic: str, label: str) -> None:
        connection.subscriptions[topic] = label
        self._readers.setdefault((connection.path, topic), set()).add(connection)

    def unsubscribe(self, connection: Connection, topic: str) -> None:
        connection.subscriptions.pop(topic, None)
        key = (connection.path, topic)
        self._readers.get(key, set()).discard(connection)
        if not self._readers.get(key):
            self._readers.pop(key, None)

    async def handle(self, request: web.Request, dialect: "Dialect") -> web.StreamResponse:
        """Serve one socket until it ends. Under maintenance only the center socket is served."""
        in_maintenance = self._faults.maintenance and request.path != CENTER
        if self._faults.refuse_sockets > 0 or in_maintenance:
            self._faults.refuse_sockets = max(0, self._faults.refuse_sockets - 1)
            return web.Response(status=503, text="Service Unavailable")
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 16)
        await socket.prepare(request)
        connection = Connection(socket, request, self._now_ms())
        self.connections.add(connection)
        writer = asyncio.get_running_loop().create_task(connection.write())
        try:
            async for message in socket:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    dialect.receive(connection, message.data)
                if connection.closing:
                    await connection.idle.wait()
                    await socket.close()
        finally:
            for topic in list(connection.subscriptions):
                self.unsubscribe(connection, topic)
            self.connections.discard(connection)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket
