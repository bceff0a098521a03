"""Pauses and budgets of reconnecting, and how the ends of connections are told apart."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import structs
from venues_exchange import until
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection, serve
from websockets.protocol import State

from monitor.venues.dial import AttemptBudget, Dialler, StreamEnded, StreamLimits
from monitor.venues.due import Due
from monitor.venues.network import Names
from monitor.venues.stream import Backoff, EventTime, Lateness, Session, Supervisor, Watch, pump

QUICK = StreamLimits(open_timeout_s=1, close_timeout_s=0.2, ping_interval_s=0.05, ping_timeout_s=0.2, frame_bytes_max=1000)


PINGLESS = structs.replace(QUICK, ping_interval_s=60.0)  # a missing pong does not come before the end that is looked at


def dial(
    url: str, tls: ssl.SSLContext | None = None, limits: StreamLimits = QUICK
) -> AbstractAsyncContextManager[ClientConnection]:
    names = Names(60, lambda _: None, structlog.get_logger())
    return Dialler(limits, names, AttemptBudget(100, 1), tls).open(url)


def test_backoff_grows_with_jitter_to_its_cap_and_never_ends() -> None:
    backoff = Backoff(0.5, 30)
    pauses = [backoff.next_s() for _ in range(2000)]
    assert all(0.5 <= pause <= 30 for pause in pauses)
    assert pauses[0] <= 1
    assert max(pauses) > 25
    assert len({round(pause, 6) for pause in pauses[100:200]}) > 90, "spread, so that many clients do not come together"
    backoff.reset()
    assert backoff.next_s() <= 1


async def test_attempts_are_capped_per_window() -> None:
    loop = asyncio.get_running_loop()
    attempts = AttemptBudget(3, 0.2)
    start = loop.time()
    for _ in range(3):
        await attempts.take()
    assert loop.time() - start < 0.15
    waiting = asyncio.create_task(attempts.take())
    await asyncio.sleep(0)
    assert not waiting.done(), "the fourth waits for the window"
    await asyncio.wait_for(waiting, 3)
    assert loop.time() - start >= 0.2


async def test_streams_that_serve_every_account_do_not_wait_for_all_others() -> None:
    attempts = AttemptBudget(20, 60)
    for _ in range(18):
        await attempts.take()
    waiting = asyncio.create_task(attempts.take())
    await asyncio.sleep(0)
    assert not waiting.done(), "a tenth is kept"
    await asyncio.wait_for(attempts.take(for_all=True), 1)
    await asyncio.wait_for(attempts.take(for_all=True), 1)
    last = asyncio.create_task(attempts.take(for_all=True))
    await asyncio.sleep(0)
    assert not last.done(), "but the limit holds for all"
    for task in (waiting, last):
        task.cancel()


async def run_against(handler: Callable[[ServerConnection], Awaitable[None]], receive: Callable[[bytes], bool]) -> StreamEnded:
    async with serve(handler, "127.0.0.1", 0, ping_interval=None) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamEnded) as caught:
            async with asyncio.timeout(5), dial(f"ws://127.0.0.1:{port}/private/ws/hidden-key") as connection:
                await pump(connection, receive)
    assert "hidden-key" not in f"{caught.value} {caught.value.detail} {caught.value.__cause__}"
    return caught.value


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, "close_1000"),
        (1001, "close_1001"),
        (1008, "close_1008"),
        (1011, "close_1011"),
        (1012, "close_1012"),
        (4001, "close_other"),
    ],
)
async def test_closes_are_told_by_their_code(code: int, reason: str) -> None:
    async def close(connection: ServerConnection) -> None:
        await connection.close(code)

    assert (await run_against(close, lambda _: True)).reason == reason


async def test_a_broken_connection_and_a_frame_too_large() -> None:
    async def abort(connection: ServerConnection) -> None:
        connection.transport.abort()

    async def flood(connection: ServerConnection) -> None:
        await connection.send("x" * 2000)
        await connection.wait_closed()

    assert (await run_against(abort, lambda _: True)).reason == "close_1006"
    assert (await run_against(flood, lambda _: True)).reason == "close_1009"


async def test_frames_come_as_bytes_and_in_order() -> None:
    got: list[bytes] = []

    def keep(frame: bytes) -> bool:
        got.append(frame)
        return True

    async def talk(connection: ServerConnection) -> None:
        for text in ("one", "zwei €", "3"):
            await connection.send(text)

    await run_against(talk, keep)
    assert got == [b"one", "zwei €".encode(), b"3"]


@asynccontextmanager
async def half_open_peer() -> AsyncIterator[int]:
    """The port of a peer that upgrades the connection and never answers again."""

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324  the protocol's
        upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        writer.write(upgrade + accept + b"\r\n\r\n")
        with suppress(ConnectionError):
            while await reader.read(4096):  # whatever comes is not answered, not even the end
                pass
            await asyncio.Event().wait()

    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(vanish(reader, writer))
        tasks.add(task)
        task.add_done_callback(lambda _: writer.close())

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_peer_that_answers_no_ping_is_gone() -> None:
    """A connection whose other end vanished without a word."""
    async with half_open_peer() as port:
        with pytest.raises(StreamEnded) as caught:
            async with asyncio.timeout(5), dial(f"ws://127.0.0.1:{port}") as connection:
                await pump(connection, lambda _: True)
    assert caught.value.reason == "close_1011"  # the library's code for a missing pong


async def test_row_27_a_connection_that_is_cancelled_closes_its_socket_though_the_peer_is_half_open() -> None:
    """A rotation or a reload. Python before 3.11.3 left the socket open."""
    connections: list[ClientConnection] = []

    async def carry(port: int) -> None:
        async with dial(f"ws://127.0.0.1:{port}", limits=PINGLESS) as connection:
            connections.append(connection)
            await asyncio.Event().wait()

    async with half_open_peer() as port:
        task = asyncio.create_task(carry(port))
        await until(lambda: connections, "it is open")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connections[0].state is State.CLOSED


async def test_row_27_a_second_cancellation_waits_for_no_peer() -> None:
    connections: list[ClientConnection] = []

    async def carry(port: int) -> None:
        async with dial(f"ws://127.0.0.1:{port}", limits=structs.replace(PINGLESS, close_timeout_s=60)) as connection:
            connections.append(connection)
            await asyncio.Event().wait()

    async with half_open_peer() as port:
        task = asyncio.create_task(carry(port))
        await until(lambda: connections, "it is open")
        task.cancel()
        await until(lambda: connections[0].state is State.CLOSING, "the close is under way")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        await until(lambda: connections[0].state is State.CLOSED, "the socket is closed")


@pytest.mark.parametrize(
    ("url", "reasons", "why"),
    [
        ("ws://127.0.0.1:1/", {"network"}, "nothing is listening"),
        ("ws://no-such-host.invalid/", {"dns", "network"}, "no such name"),
    ],
)
async def test_failed_dials(url: str, reasons: set[str], why: str) -> None:
    with pytest.raises(StreamEnded) as caught:
        async with dial(url):
            pass
    assert caught.value.reason in reasons, why


def self_signed(folder: Path) -> Path:
    """A certificate that nobody vouches for, with its key, in one file."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


async def test_tls_that_fails_is_never_replaced_by_plain_text(tmp_path: Path) -> None:
    """The server's certificate is its own; the server would gladly talk."""
    reached: list[ServerConnection] = []
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(self_signed(tmp_path))

    async def accept(connection: ServerConnection) -> None:
        reached.append(connection)

    async with serve(accept, "127.0.0.1", 0, ssl=server_tls) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamEnded) as caught:
            async with dial(f"wss://127.0.0.1:{port}", ssl.create_default_context()):
                pass
    assert caught.value.reason == "tls"
    assert not reached


async def test_a_refused_handshake() -> None:
    def refuse(connection: ServerConnection, _: Any) -> Any:
        return connection.respond(404, "no")

    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamEnded) as caught:
            async with dial(f"ws://127.0.0.1:{port}"):
                pass
    assert caught.value.reason == "http_4xx"


async def test_a_redirect_is_not_followed() -> None:
    """The address holds a listen key: it goes nowhere else."""
    knocks = 0

    def redirect(connection: ServerConnection, _: Any) -> Any:
        nonlocal knocks
        knocks += 1
        response = connection.respond(302, "elsewhere")
        response.headers["Location"] = "/other"
        return response

    async with serve(lambda _: asyncio.sleep(0), "127.0.0.1", 0, process_request=redirect) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StreamEnded) as caught:
            async with dial(f"ws://127.0.0.1:{port}/private/ws/hidden-key"):
                pass
    assert (caught.value.reason, knocks) == ("http_3xx", 1)


async def test_watch_tells_first_and_ends_then() -> None:
    told: list[float] = []
    watch = Watch("/market", first_s=5, fault_s=5, end_s=10, on_fault=told.append)
    start = watch.deadline() - 5
    with pytest.raises(StreamEnded, match="no_first_frame"):
        watch.expired(start + 5)
    watch.beat(start + 1)
    assert watch.deadline() == start + 6
    watch.expired(start + 6)
    assert told == [5]
    assert watch.deadline() == start + 11, "told once, then the end"
    watch.beat(start + 7)
    assert watch.deadline() == start + 12, "data again: from the beginning"
    watch.expired(start + 12)
    with pytest.raises(StreamEnded, match="silent"):
        watch.expired(start + 17)
    assert told == [5, 5]


@pytest.mark.parametrize(
    ("known", "times", "moved", "why"),
    [
        (0, [1000, 2000, 3000], [1, 1, 1], "a live feed"),
        (0, [1000, 1000, 1000], [1, 0, 0], "a feed that stands still"),
        (1000, [1000, 1000], [0, 0], "and stands still on a new connection"),
        (0, [1000, 999, 1000, 999], [1, 0, 0, 0], "two halves of one frame, repeated for ever"),
        (0, [90_000, 1000, 2000], [1, 0, 1], "the venue's clock was set back"),
        (0, [10**13, 1_000_000, 1_001_000], [1, 0, 1], "one time far ahead does not silence the feed"),
    ],
)
def test_event_time(known: int, times: list[int], moved: list[int], why: str) -> None:
    event_time = EventTime(known)
    assert [int(event_time.moved(at)) for at in times] == moved, why


@pytest.mark.parametrize(
    ("frames", "late_ms", "why"),
    [
        ([(0, 100), (1, 1100), (2, 2100)], [0, 0, 0], "as quick as ever"),
        (
            [(0, 100), (9, 1100), (9.01, 2100), (9.02, 9100)],
            [0, 8000, 7010, 20],
            "what piled up while we slept, and the end of it",
        ),
        ([(0, 5000), (1, 6500), (2, 7000)], [0, 0, 500], "the quickest frame is the measure"),
        ([(0, 10**15), (1, 10**15 + 1000)], [0, 0], "clocks that are far apart"),
        ([(0, 100), (1, 10**13), (2, 2100)], [0, 0, 0], "one time far ahead makes no other frame late"),
        ([(0, 100), (700, 700_140), (1300, 1_300_180), (1900, 1_900_140)], [0, 0, 0, 40], "a slow drift is forgotten"),
    ],
)
def test_lateness(frames: list[tuple[float, int]], late_ms: list[int], why: str) -> None:
    """frames: when it came, s, and its event time, ms."""
    lateness = Lateness()
    assert [lateness.of_ms(event_time_ms, now) for now, event_time_ms in frames] == late_ms, why


async def test_due_is_the_earliest_of_all_that_was_asked() -> None:
    loop = asyncio.get_running_loop()
    due = Due()
    due.within(60)
    start = loop.time()
    waiting = asyncio.create_task(due.wait())
    await asyncio.sleep(0)
    due.within(0.02)
    due.within(30)
    await asyncio.wait_for(waiting, 2)
    assert loop.time() - start < 1
    later = asyncio.create_task(due.wait())
    await asyncio.sleep(0)
    assert not later.done(), "answered requests are forgotten"
    due.within(0)
    await asyncio.wait_for(later, 2)


# ------------------------------------------------------------------ supervisor, without sockets


class Scripted(Session):
    """A connection that does what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.end: asyncio.Future[StreamEnded] = asyncio.get_running_loop().create_future()
        self.closed = False

    async def run(self) -> None:
        try:
            raise await self.end
        finally:
            self.closed = True


class Stage:
    """A supervisor and what it told."""

    def __init__(self, **limits: Any) -> None:
        self.sessions: list[Scripted] = []
        self.downs: list[str] = []
        self.rotations = 0
        settings: dict[str, Any] = {
            "backoff_min_s": 0.01,
            "backoff_max_s": 0.02,
            "settle_s": 0,
            "overlap_s": 0.01,
            "rotate_jitter_s": 0,
        } | limits
        self.supervisor = Supervisor(
            self._open,
            lambda ended: self.downs.append(ended.reason),
            self._rotated,
            StreamLimits(**settings),
            structlog.get_logger(),
        )

    def _open(self) -> Session:
        self.sessions.append(Scripted())
        return self.sessions[-1]

    def _rotated(self) -> None:
        self.rotations += 1

    async def reach(self, sessions: int) -> None:
        await until(lambda: len(self.sessions) >= sessions, f"{sessions} connections")


async def supervised(stage: Stage, script: Callable[[Stage], Awaitable[None]]) -> None:
    task = asyncio.create_task(stage.supervisor.run())
    try:
        await script(stage)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert all(session.closed for session in stage.sessions), "no connection is left behind"


async def test_an_end_is_told_and_a_new_connection_follows() -> None:
    async def script(stage: Stage) -> None:
        await stage.reach(1)
        stage.sessions[0].end.set_result(StreamEnded("close_1006", "x"))
        await stage.reach(2)
        assert stage.downs == ["close_1006"]

    await supervised(Stage(), script)


async def test_row_27_a_connection_that_ends_as_cancelled_is_dialled_again() -> None:
    """Nobody cancelled it but a library's mistake: a stream that stayed away for that would be silent for ever."""

    async def script(stage: Stage) -> None:
        await stage.reach(1)
        stage.sessions[0].end.cancel()
        await stage.reach(2)
        assert stage.downs == ["ended"]

    await supervised(Stage(), script)


async def test_the_successor_takes_over_only_when_it_is_ready() -> None:
    async def script(stage: Stage) -> None:
        await stage.reach(1)
        stage.sessions[0].set_ready()
        await stage.reach(2)
        assert not stage.sessions[0].closed, "the successor is not ready yet"
        stage.sessions[1].set_ready()
        await until(lambda: stage.sessions[0].closed, "the old connection is closed")
        assert (stage.downs, stage.rotations) == ([], 1)
        assert not stage.sessions[1].closed

    await supervised(Stage(rotate_after_s=0.05), script)


async def test_a_successor_that_fails_leaves_the_old_connection_alone() -> None:
    async def script(stage: Stage) -> None:
        await stage.reach(1)
        stage.sessions[0].set_ready()
        await stage.reach(2)
        stage.sessions[1].end.set_result(StreamEnded("no_first_frame", "x"))
        await stage.reach(3)
        assert not stage.sessions[0].closed
        assert (stage.downs, stage.rotations) == ([], 0)

    await supervised(Stage(rotate_after_s=0.05), script)


@pytest.mark.parametrize(
    ("ready", "downs", "rotations", "why"),
    [
        (False, ["close_1006"], 0, "the successor was not ready: a gap, and no third connection"),
        (True, [], 1, "the successor was ready: no gap"),
    ],
)
async def test_the_old_connection_ends_during_the_rotation(ready: bool, downs: list[str], rotations: int, why: str) -> None:
    async def script(stage: Stage) -> None:
        await stage.reach(1)
        stage.sessions[0].set_ready()
        await stage.reach(2)
        if ready:
            stage.sessions[1].set_ready()
        stage.sessions[0].end.set_result(StreamEnded("close_1006", "x"))
        await until(lambda: (stage.downs, stage.rotations) == (downs, rotations), why)
        assert len(stage.sessions) == 2, why

    await supervised(Stage(rotate_after_s=0.1), script)


async def test_a_wish_for_a_replacement_is_a_rotation() -> None:
    async def script(stage: Stage) -> None:
        await stage.reach(1)
        stage.sessions[0].set_ready()
        stage.sessions[0].want_replacement()
        await stage.reach(2)
        assert not stage.sessions[0].closed

    await supervised(Stage(), script)


async def test_the_pause_that_an_end_asks_for_is_kept() -> None:
    loop = asyncio.get_running_loop()

    async def script(stage: Stage) -> None:
        await stage.reach(1)
        start = loop.time()
        stage.sessions[0].end.set_result(StreamEnded("listen_key_auth", "x", retry_after_s=0.2))
        await stage.reach(2)
        assert loop.time() - start >= 0.2

    await supervised(Stage(), script)


async def test_a_bug_is_not_survived() -> None:
    def broken() -> Session:
        session = Scripted()
        session.end.set_exception(ZeroDivisionError())
        return session

    supervisor = Supervisor(broken, lambda _: None, lambda: None, StreamLimits(), structlog.get_logger())
    with pytest.raises(ExceptionGroup) as caught:
        await supervisor.run()
    assert caught.group_contains(ZeroDivisionError)
