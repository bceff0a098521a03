"""`healthcheck` as a container's keeper calls it, against the real server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cli.test_cli_desk import TOKEN, NoMetrics, run
from web.view_in_memory import MemoryView

from monitor.model.secret import Secret
from monitor.web.server import Server, ServerSettings


@contextlib.asynccontextmanager
async def serving(missing: list[str], hangs: tuple[str, ...] = ()) -> AsyncIterator[str]:
    view = MemoryView()
    view.missing_words = missing
    server = Server(view, NoMetrics(), ServerSettings(port=0, token=Secret(TOKEN)), hangs=lambda: hangs)
    await server.start()
    yield server.url
    await server.stop()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "web_token"
    path.write_text(TOKEN)
    path.chmod(0o600)
    return str(path)


BLIND = ["binance_usdm main: no data of the user stream yet"]


@pytest.mark.parametrize(
    ("missing", "ready", "token", "code", "said", "why"),
    [
        (BLIND, False, False, 0, "alive", "alive without a token, for whoever restarts has none"),
        (BLIND, True, True, 3, BLIND[0], "no restart would help: another code, and what is missing"),
        ([], True, True, 0, "ready", "all is there"),
        ([], True, False, 1, "the daemon wants its token", "what is missing names accounts"),
    ],
)
async def test_answers(missing: list[str], ready: bool, token: bool, code: int, said: str, why: str, token_file: str) -> None:
    async with serving(missing) as url:
        args = ["--ready"] * ready + ["--token-file", token_file] * token
        found, out, err = await run("healthcheck", "--url", url, *args)
        assert found == code, why
        assert said in out + err, why


async def test_it_hangs() -> None:
    """The loop turns, but no tick is done or no message tried: what restarts a container must hear of it without a token."""
    async with serving([], ("the last tick was done before 31 s",)) as url:
        code, _, err = await run("healthcheck", "--url", url)
    assert (code, "hangs: the last tick was done before 31 s" in err) == (1, True)


async def test_nobody_is_there() -> None:
    async with serving([]) as url:
        pass
    code, _, err = await run("healthcheck", "--url", url)
    assert (code, "no daemon answers" in err) == (1, True)
    code, _, err = await run("healthcheck", "--url", "margin-monitor")
    assert (code, "is no address of a daemon" in err) == (2, True)


@pytest.mark.parametrize("ready", [False, True])
async def test_somebody_else_is_there(ready: bool, token_file: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"status": "up"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    code, _, err = await run("healthcheck", "--url", url, *(["--ready", "--token-file", token_file] if ready else []))
    await runner.cleanup()
    assert (code, "is no margin-monitor" in err) == (1, True)


async def test_it_does_not_wait_for_ever() -> None:
    """A stopped daemon still has its port open: the kernel takes the connection, and nobody answers."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda reader, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    code, _, err = await run("healthcheck", "--url", f"http://127.0.0.1:{port}")
    server.close()
    for writer in held:
        writer.close()
    assert (code, "no daemon answers" in err) == (1, True)
