"""`alerts`, `ack`, `silence`, `silences`, `unsilence` as a user calls them, against a server with a real alert desk."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from web.view_in_memory import NOW_MS, MemoryView

from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.secret import Secret
from monitor.store import Store
from monitor.web.server import Server, ServerSettings

EXISTS = {"venue": ["binance"], "account": ["main"], "rule": ["health", "stale", "channel"]}
TOKEN = "canary-token-of-the-page"


class DeskView(MemoryView):
    def __init__(self, desk: AlertDesk) -> None:
        super().__init__()
        self.desk = desk

    def incidents(self) -> list[Incident]:
        return self.desk.incidents()


class NoMetrics:
    def blocks(self, *, openmetrics: bool = False) -> Iterator[bytes]:
        return iter(())


class Daemon:
    """The part of the daemon that the commands talk to."""

    def __init__(self, desk: AlertDesk, server: Server, token_file: Path) -> None:
        self.desk, self.server, self.token_file = desk, server, token_file

    async def __call__(self, *args: str, token: bool = True) -> tuple[int, str, str]:
        """(exit code, standard output, standard error) of a command."""
        more = ["--url", self.server.url, *(["--token-file", str(self.token_file)] if token else [])]
        return await run(*args, *more)


async def run(*args: str) -> tuple[int, str, str]:
    env = {**os.environ, "USER": "bob", "COLUMNS": "200"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "monitor", *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in err
    assert TOKEN.encode() not in out + err
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    store = await Store.open(":memory:", IncidentRecord, OutboxRow, now_ms=lambda: NOW_MS)
    desk = AlertDesk(AlertSettings(), store, figures_of=lambda key: None, now_ms=lambda: NOW_MS, exists=EXISTS)
    key = IncidentKey("binance", "main", "USD", "health")
    summary = "health 1.18 [red]is[/red] at\x1b[2J or below 1.20"
    await desk.handle([Transition(key=key, level=Level.CRITICAL, was=Level.OK, at_ms=NOW_MS - 240_000, summary=summary)])
    server = Server(DeskView(desk), NoMetrics(), ServerSettings(port=0, token=Secret(TOKEN)), desk=desk)
    await server.start()
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")
    token_file.chmod(0o600)
    yield Daemon(desk, server, token_file)
    await server.stop()
    await store.close()


async def test_a_night(daemon: Daemon) -> None:
    incident_id = daemon.desk.incidents()[0].id
    code, out, _ = await daemon("alerts")
    assert code == 0
    assert out == (
        f"critical    {incident_id}  4 min  main · USD · binance · health\n"
        "            health 1.18 [red]is[/red] at [2J or below 1.20\n"
    ), "plain text, whatever it says"
    code, out, _ = await daemon("ack", incident_id, "--author", "ann", "--minutes", "30", "--note", "adding margin")
    assert (code, out.split(":")[0]) == (0, incident_id)
    assert "acknowledged for 30 min" in out
    acknowledged = daemon.desk.incidents()[0].acknowledged
    assert acknowledged is not None
    assert (acknowledged.author, acknowledged.note) == ("ann", "adding margin")
    assert "  acknowledged by ann, 30 min more  main" in (await daemon("alerts"))[1]
    code, out, _ = await daemon("ack", incident_id, "--undo")
    assert (code, "repeats go on" in out) == (0, True)
    assert daemon.desk.incidents()[0].acknowledged is None

    code, out, _ = await daemon("silence", "--account", "main", "--rule", "health", "--minutes", "5")
    assert code == 0
    assert "account=main rule=health is silent for 5 min, 1 open now" in out
    (silence,) = daemon.desk.silences()
    assert silence.author == "bob", "who is logged in, if nobody is named"
    assert "silenced" in (await daemon("alerts"))[1]
    code, out, _ = await daemon("silences")
    assert (code, out) == (0, f"{silence.id}  account=main rule=health  5 min more, 1 open now, by bob\n")
    assert (await daemon("unsilence", silence.id))[0] == 0
    assert (await daemon("silences"))[1] == "nothing is silenced\n"


async def test_json(daemon: Daemon) -> None:
    code, out, _ = await daemon("alerts", "--json")
    answer: dict[str, Any] = json.loads(out)
    assert (code, answer["incidents"][0]["level"], answer["incidents"][0]["acknowledged"]) == (0, "critical", None)
    assert json.loads((await daemon("silences", "--json"))[1])["silences"] == []


@pytest.mark.parametrize(
    ("args", "token", "code", "says", "why"),
    [
        (["ack", "20261122T053424-NONE0"], True, 1, "no such open incident", "an unknown incident"),
        (["ack", "../silences"], True, 1, "the daemon refused", "an id is no path"),
        (["ack", "20261122T053424-NONE0"], True, 1, "open: ", "what there is"),
        (["silence", "--account", "mian"], True, 1, "there are: main", "a typo would hold nothing back"),
        (["unsilence", "S1"], True, 1, "no such silence", "an unknown silence"),
        (["alerts"], False, 1, "--token-file", "the token is missing"),
        (["ack", "X", "--minutes", "0"], True, 2, "--minutes", "no time"),
        (["ack", "X", "--minutes", "x"], True, 2, "--minutes", "no number"),
        (["silence"], True, 2, "must name", "a silence about everything"),
        (["ack"], True, 2, "ID", "which one?"),
    ],
)
async def test_refusals(daemon: Daemon, args: list[str], token: bool, code: int, says: str, why: str) -> None:
    got, out, err = await daemon(*args, token=token)
    assert (got, out) == (code, ""), why
    assert says in err, why
    assert daemon.desk.silences() == []


async def test_no_daemon_and_no_monitor(daemon: Daemon, tmp_path: Path) -> None:
    code, _, err = await run("alerts", "--url", "http://127.0.0.1:9")
    assert (code, "no daemon answers at http://127.0.0.1:9" in err, "hint: " in err) == (1, True, True)
    for url in ("127.0.0.1:9877", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999"):
        code, _, err = await run("alerts", "--url", url)
        assert (code, "no address" in err) == (2, True), url

    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")
        writer.close()

    async with await asyncio.start_server(nonsense, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        code, _, err = await run("alerts", "--url", f"http://127.0.0.1:{port}")
    assert (code, "is no margin-monitor" in err) == (1, True)
    daemon.token_file.chmod(0o644)
    code, _, err = await daemon("alerts")
    assert (code, "readable by others" in err, "chmod 600" in err) == (2, True, True)


async def test_the_token_follows_no_redirect(daemon: Daemon) -> None:
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(elsewhere, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        code, _, err = await run("alerts", "--url", f"http://127.0.0.1:{port}", "--token-file", str(daemon.token_file))
    assert (code, "HTTP 302" in err) == (1, True)
    assert len(asked) == 1
