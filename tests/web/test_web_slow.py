"""Clients that take their time, ask thousands of times at once, or speak no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from web.conftest import Serve
from web.view_in_memory import MemoryView, a_pool

from monitor.metrics import Metrics

POST = b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\n"
DRIBBLES = {
    "head": (b"GET /-/ready HTTP/1.1\r\nHost: localhost\r\nX: ", b""),
    "nothing": (b"", b""),
    "body": (POST + b"Content-Length: 8000\r\n\r\n", b" 408 "),
    "chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b" 408 "),
}


async def _dribble(writer: asyncio.StreamWriter, piece: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("part", DRIBBLES)
async def test_row_23_a_request_that_dribbles_ends(serve: Serve, part: str) -> None:
    begun, answered = DRIBBLES[part]

    async def reload() -> list[str]:
        raise AssertionError("the request never came whole")

    server = await serve(MemoryView(), reload=reload, head_timeout_s=0.2, body_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(begun)
    piece = {"nothing": b"", "chunks": b"1\r\nx\r\n"}.get(part, b"x")
    dribbling = asyncio.create_task(_dribble(writer, piece))
    text = b""
    try:
        async with asyncio.timeout(5.0):
            with contextlib.suppress(ConnectionError):
                text = await reader.read()
    finally:
        dribbling.cancel()
        writer.close()
    assert answered in text.partition(b"\r\n")[0]


async def test_row_39_pipelined_scrapes_cost_a_rendering_per_interval(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    renderings = 0
    blocks = Metrics.blocks

    def counted(self: Metrics, *, openmetrics: bool = False) -> Iterator[bytes]:
        nonlocal renderings
        renderings += 1
        return blocks(self, openmetrics=openmetrics)

    monkeypatch.setattr(Metrics, "blocks", counted)
    server = await serve(MemoryView([a_pool()]))
    began = time.monotonic()
    async with asyncio.timeout(30.0):
        answers = await asyncio.gather(*(_pipelined(server.port, 150) for _ in range(10)))
    assert answers == [150] * 10
    assert renderings <= 1 + (time.monotonic() - began) / 0.2


async def _pipelined(port: int, number: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
    writer.write(request.join([b""] + [b"\r\n"] * (number - 1)) + request + b"Connection: close\r\n\r\n")
    text = await reader.read()
    writer.close()
    return text.count(b"HTTP/1.1 200 OK\r\n")


async def test_row_39_who_takes_nothing_of_his_answers_is_dropped(serve: Serve) -> None:
    server = await serve(MemoryView([a_pool(str(number)) for number in range(300)]), send_timeout_s=0.2)
    with socket.socket() as sock, capture_logs() as logs:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        async with asyncio.timeout(20.0):
            with contextlib.suppress(ConnectionError):  # until the server has had enough
                while True:
                    await loop.sock_sendall(sock, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    await asyncio.sleep(0.001)
    assert [entry["event"] for entry in logs] == ["web_connection_timed_out"]


async def test_row_35_what_is_no_http_is_logged_seldom(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = await serve(MemoryView())
    with capture_logs() as logs:
        for _ in range(50):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /-/ready HTTP/1.1\r\nHost localhost\r\n\r\n")
            assert b" 400 " in await reader.read()
            writer.close()
    assert [entry["event"] for entry in logs] == ["web_request_malformed"]
    assert not caplog.records
