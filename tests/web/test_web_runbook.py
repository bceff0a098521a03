"""The runbook is served where every message links to, under the policy of all pages."""

from __future__ import annotations

import aiohttp
import pytest
from web.conftest import Serve
from web.view_in_memory import MemoryView

from monitor.model.secret import Secret


async def test_it_is_served(serve: Serve, client: aiohttp.ClientSession) -> None:
    server = await serve(MemoryView())
    async with client.get(f"{server.url}runbook", headers={"Accept-Encoding": "identity"}) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/html"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert '<article id="health">' in await answer.text()
    async with client.get(f"{server.url}static/runbook.css") as answer:
        assert (answer.status, answer.content_type) == (200, "text/css")


@pytest.mark.parametrize("path", ["runbook", "static/runbook.css"])
async def test_it_wants_the_token_like_every_page(serve: Serve, client: aiohttp.ClientSession, path: str) -> None:
    server = await serve(MemoryView(), token=Secret("a-token-of-sixteen"))
    async with client.get(server.url + path) as answer:
        assert answer.status == 401
