"""A real server on a free port, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import pytest
from web.view_in_memory import MemoryView

from monitor.metrics import Metrics
from monitor.model.series import History
from monitor.model.view import Desk
from monitor.web.server import Reload, Server, ServerSettings

Serve = Callable[..., Awaitable[Server]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(view, reload=…, desk=…, history=…, **settings)` starts one; all are stopped in the end."""
    servers: list[Server] = []

    async def start(
        view: MemoryView,
        *,
        reload: Reload | None = None,
        desk: Desk | None = None,
        history: History | None = None,
        hangs: Callable[[], Sequence[str]] = tuple,
        **settings: Any,
    ) -> Server:
        ours = ServerSettings(port=0, version="0.1.0", **settings)
        server = Server(view, Metrics(view, version="0.1.0"), ours, reload=reload, desk=desk, history=history, hangs=hangs)
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
        yield session
