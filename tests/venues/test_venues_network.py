"""Names that are not resolved, addresses that do not answer, peers that vanish: below REST and the streams alike."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, serve

from monitor.venues import network
from monitor.venues.dial import AttemptBudget, Dialler, StreamEnded, StreamLimits
from monitor.venues.network import USER_TIMEOUT_MS, Names

HOST = "venue.test"
LIMITS = StreamLimits(open_timeout_s=3, close_timeout_s=0.2)


class Resolver:
    """The resolver of the machine: knows one name, and can be broken or hang."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses = addresses or ("127.0.0.1",)
        self.broken = False
        self.hang_s = 0.0
        self.asked = 0
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        self.asked += 1
        time.sleep(self.hang_s)  # in a thread of the loop's pool, as the real one
        if self.broken or host != HOST:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses]


def names(kept_s: float = 60, lasting: Callable[[str], None] = lambda _: None, **options: Any) -> Names:
    return Names(kept_s, lasting, structlog.get_logger(), **options)


def dialler(of: Names, tls: ssl.SSLContext | None = None) -> Dialler:
    return Dialler(LIMITS, of, AttemptBudget(100, 1), tls)


@asynccontextmanager
async def websocket_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def stay(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with serve(stay, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def get(of: Names, url: str, tls: ssl.SSLContext | bool = True) -> AsyncIterator[aiohttp.ClientResponse]:
    async with aiohttp.ClientSession(connector=of.connector(tls)) as http, http.get(url) as response:
        yield response


@asynccontextmanager
async def http_server(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# ------------------------------------------------------------------ the last addresses


async def test_the_last_addresses_are_used_while_a_name_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(monkeypatch)
    lasting: list[str] = []
    book = names(lasting=lasting.append, lasting_s=0)
    first = await book.resolve(HOST, 443)
    resolver.broken = True
    with capture_logs() as logs:
        assert list(await book.resolve(HOST, 443)) == list(first)
        assert list(await book.resolve(HOST, 443)) == list(first)
        resolver.broken, resolver.addresses = False, ("127.0.0.9",)
        assert (await book.resolve(HOST, 443))[0][4] == ("127.0.0.9", 443), "a new answer counts at once"
        resolver.broken = True
        assert (await book.resolve(HOST, 443))[0][4] == ("127.0.0.9", 443)
    assert [entry["event"] for entry in logs] == ["name_not_resolved", "name_resolved_again", "name_not_resolved"]
    assert logs[0]["host"] == HOST
    assert lasting == [HOST, HOST], "each outage once"


async def test_a_hiccup_is_logged_and_only_a_lasting_loss_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(monkeypatch)
    lasting: list[str] = []
    book = names(lasting=lasting.append, lasting_s=0.2)
    await book.resolve(HOST, 443)
    resolver.broken = True
    began = time.monotonic()
    await book.resolve(HOST, 443)
    assert not lasting
    while not lasting:
        await book.resolve(HOST, 443)
        assert time.monotonic() - began < 5
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("kept_s", "ask_before", "why"),
    [(0.0, True, "what is remembered is too old"), (60.0, False, "it was never resolved")],
)
async def test_a_name_without_known_addresses_fails(
    monkeypatch: pytest.MonkeyPatch, kept_s: float, ask_before: bool, why: str
) -> None:
    resolver = Resolver(monkeypatch)
    book = names(kept_s)
    if ask_before:
        await book.resolve(HOST, 443)
    resolver.broken = True
    with pytest.raises(StreamEnded) as caught:
        async with dialler(book).open(f"ws://{HOST}:443/"):
            pass
    assert caught.value.reason == "dns", why


async def test_a_resolver_that_hangs_does_not_use_up_the_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_LOOKUP_S", 0.1)
    resolver = Resolver(monkeypatch)
    book = names()
    async with websocket_server() as port:
        await book.resolve(HOST, port)
        resolver.hang_s = 1.0
        began = time.monotonic()
        async with dialler(book).open(f"ws://{HOST}:{port}/"):
            assert time.monotonic() - began < 0.9


async def test_rest_and_streams_both_go_on_by_the_last_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(monkeypatch)
    book = names()

    async def there(_: web.Request) -> web.StreamResponse:
        return web.Response(text="there")

    async with http_server(there) as port, websocket_server() as stream_port:
        for broken in (False, True):
            resolver.broken = broken
            async with get(book, f"http://{HOST}:{port}/") as response:
                assert await response.text() == "there"
            async with dialler(book).open(f"ws://{HOST}:{stream_port}/"):
                pass


# ------------------------------------------------------------------ TLS demands the name, whatever the address


def certificate(folder: Path, *, name: str | None, address: str | None) -> Path:
    """Self-signed, with its key, in one file."""
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "simulated venue")])
    now = datetime.now(UTC)
    said: list[x509.GeneralName] = [x509.DNSName(name)] if name else []
    said += [x509.IPAddress(ip_address(address))] if address else []
    built = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(said), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}-{address}.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.mark.parametrize(
    ("name", "address", "reached", "why"),
    [
        (HOST, None, True, "the venue itself"),
        (None, "127.0.0.1", False, "somebody who only owns the address by now"),
        ("other.test", "127.0.0.1", False, "another host on the address"),
    ],
)
async def test_whoever_answers_at_a_remembered_address_must_prove_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str | None, address: str | None, reached: bool, why: str
) -> None:
    file = certificate(tmp_path, name=name, address=address)
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(file)
    trusting = ssl.create_default_context(cafile=str(file))
    resolver = Resolver(monkeypatch)
    book = names()
    async with websocket_server(server_tls) as port:
        await book.resolve(HOST, port)
        resolver.broken = True
        outcome = "reached"
        try:
            async with dialler(book, trusting).open(f"wss://{HOST}:{port}/"):
                pass
        except StreamEnded as ended:
            outcome = ended.reason
        assert outcome == ("reached" if reached else "tls"), why
        try:
            async with get(book, f"https://{HOST}:{port}/", trusting) as response:
                assert (response.status == 426) is reached, "the WebSocket server asks for an upgrade"
        except aiohttp.ClientConnectorCertificateError:
            assert not reached, why


# ------------------------------------------------------------------ sockets


@asynccontextmanager
async def deaf_address() -> AsyncIterator[int]:
    """127.0.0.2 with a port that accepts nobody: its queue is full, and what comes is dropped without a word."""
    loop = asyncio.get_running_loop()
    with socket.socket() as server:
        server.bind(("127.0.0.2", 0))
        server.listen(0)
        port = server.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
        tasks = [asyncio.ensure_future(loop.sock_connect(sock, ("127.0.0.2", port))) for sock in waiting]
        await asyncio.sleep(0)
        try:
            yield port
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for sock in waiting:
                sock.close()


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    async with deaf_address() as port:
        Resolver(monkeypatch, "127.0.0.2", "127.0.0.1")
        with socket.socket() as alive:
            alive.bind(("127.0.0.1", port))
            alive.listen(1)
            began = time.monotonic()
            sock = await names().connect(HOST, port, 2.0)
            with sock:
                assert sock.getpeername() == ("127.0.0.1", port)
            assert 0.5 <= time.monotonic() - began < 1.9, "half of the time for the first"


async def test_no_address_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with deaf_address() as port:
        Resolver(monkeypatch, "127.0.0.2")
        with pytest.raises(StreamEnded) as caught:
            async with dialler(names()).open(f"ws://{HOST}:{port}/"):
                pass
        assert caught.value.reason == "timeout"


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this platform has no TCP_USER_TIMEOUT")
async def test_row_35_every_socket_ends_when_the_peer_acknowledges_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back from the live sockets of a stream and of a REST call."""
    Resolver(monkeypatch)
    book = names()

    def option(transport: asyncio.BaseTransport | None) -> int:
        assert transport is not None
        value: int = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        return value

    async with websocket_server() as port, dialler(book).open(f"ws://{HOST}:{port}/") as connection:
        assert option(connection.transport) == USER_TIMEOUT_MS == 15_000
    hold = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await hold.wait()
        return response

    async with http_server(slow) as port, get(book, f"http://{HOST}:{port}/") as response:
        assert response.connection is not None
        assert option(response.connection.transport) == USER_TIMEOUT_MS
        hold.set()
