"""What the server offers to an attacker: its routes and methods, its content policy, the addresses that it listens on."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from web.conftest import Serve
from web.view_in_memory import MemoryView, a_pool

MAY_CHANGE = {
    ("POST", "/-/reload"),
    ("POST", "/api/v1/alerts/{id}/ack"),
    ("DELETE", "/api/v1/alerts/{id}/ack"),
    ("POST", "/api/v1/silences"),
    ("DELETE", "/api/v1/silences/{id}"),
}
LISTEN = "0A"  # state of /proc/net/tcp


async def test_only_the_named_routes_change_anything(serve: Serve) -> None:
    server = await serve(MemoryView([a_pool()]))
    assert server._runner is not None
    app = server._runner.app
    assert app is not None
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    assert {(method, path) for method, path in routes if method not in ("GET", "HEAD")} == MAY_CHANGE
    assert len(routes) > len(MAY_CHANGE)


async def test_the_content_policy_is_strict(serve: Serve, client: aiohttp.ClientSession) -> None:
    """Nothing but our own files, no inline script, no eval, in nobody's frame; so a name that were script would not run."""
    server = await serve(MemoryView([a_pool()]))
    for path in ("", "api/v1/status", "metrics", "nothing"):
        async with client.get(server.url + path) as answer:
            (header,) = answer.headers.getall("Content-Security-Policy")
        policy = {name: sources for name, *sources in (part.split() for part in header.split(";"))}
        assert policy["default-src"] == ["'none'"]
        for name in ("base-uri", "form-action", "frame-ancestors"):  # default-src does not cover these
            assert policy[name] == ["'none'"], name
        assert all(sources in (["'none'"], ["'self'"]) for sources in policy.values()), policy


def listening(pids: set[int]) -> set[str]:
    """Addresses on which these processes listen, read as `ss -ltn` reads them."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = os.readlink(fd)
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = row.split()
            if state == LISTEN and rest[5] in inodes:
                found.add(_address(local.partition(":")[0]))
    return found


def _address(words: str) -> str:
    """The kernel prints 32-bit words in the machine's own order."""
    packed = b"".join(
        bytes.fromhex(words[at : at + 8])[:: -1 if sys.byteorder == "little" else 1] for at in range(0, len(words), 8)
    )
    return str(ipaddress.ip_address(packed))


def test_the_reading_of_proc_is_right() -> None:
    """Else the tests below would prove nothing."""
    with socket.socket() as open_to_all, socket.socket(socket.AF_INET6) as six:
        open_to_all.bind(("0.0.0.0", 0))
        open_to_all.listen()
        six.bind(("::1", 0))
        six.listen()
        assert listening({os.getpid()}) >= {"0.0.0.0", "::1"}


async def test_the_server_listens_on_loopback_unless_told(serve: Serve) -> None:
    before = listening({os.getpid()})
    await serve(MemoryView([a_pool()]))
    assert listening({os.getpid()}) - before == {"127.0.0.1"}


@pytest.fixture
async def demo(project_root: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The whole program, simulator included, as its users start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "monitor",
        "demo",
        "--seconds",
        "60",
        "--listen",
        f"127.0.0.1:{port}",
        cwd=project_root,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while True:  # until its page is there
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_the_whole_program_listens_on_loopback(demo: asyncio.subprocess.Process) -> None:
    found = listening({demo.pid})
    assert found, "it listens"
    assert all(ipaddress.ip_address(one).is_loopback for one in found), found
