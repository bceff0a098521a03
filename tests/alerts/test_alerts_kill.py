"""kill -9 at every point between a crossing and its acceptance: the message arrives, always with the same id."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import web
from alerts_kit import Clock, Receiver, desk, open_store, receiver, running, settings, webhook

VICTIM = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[4])
from alerts_kit import T0, Clock, crossing, desk, settings, webhook
from monitor.alerts import sender
from monitor.alerts.channels import webhook as webhook_module
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.model.alerts import Level
from monitor.store import Store

def die(*args, **more):
    os.kill(os.getpid(), signal.SIGKILL)

point, path, base = sys.argv[1:4]
if point == "before commit":
    Store._transact = die
if point == "before send":
    webhook_module.WebhookChannel.send = die
if point == "after acceptance":
    sender.Sender._sent = die

async def main():
    store = await Store.open(path, IncidentRecord, OutboxRow, now_ms=lambda: T0)
    one = desk(settings(webhook("w", base)), store, Clock())
    sending = asyncio.create_task(one.run())
    if point == "after commit":
        original = store.commit
        async def commit(*args, **more):
            await original(*args, **more)
            die()
        store.commit = commit
    await one.handle([crossing(Level.CRITICAL)])
    await one.flush(20)
    if point == "after mark":
        die()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("point", "before", "after", "why"),
    [
        ("before commit", 0, 0, "nothing was promised: the engine sees the same figures after the restart and crosses again"),
        ("after commit", 0, 1, "on disk before the network: sent after the restart"),
        ("before send", 0, 1, "the same, one step later"),
        ("in flight", 1, 1, "accepted or not, nobody knows: at least once, with the same id"),
        ("after acceptance", 1, 1, "one duplicate at most, with the same id"),
        ("after mark", 1, 0, "marked: never again"),
    ],
)
async def test_kill(tmp_path: Path, point: str, before: int, after: int, why: str) -> None:
    async with receiver() as there:
        if point == "in flight":
            there.answers["/w"] = _hangs
        killed = await _victim(tmp_path / "state.db", there, point)
        assert killed == -signal.SIGKILL
        assert len(there.got) == before, why
        there.answers.clear()
        store = await open_store(tmp_path / "state.db")
        one = desk(settings(webhook("w", there.base)), store, Clock())
        async with running(one):
            assert await one.flush(5) == 0, "within 5 s of the restart"
        await store.close()
        assert len(there.got) == before + after, why
        assert len(set(there.ids("/w"))) == (1 if before or after else 0), "a receiver can merge them"
        assert len(one.open_levels()) == (point != "before commit"), "and the incident is known"


async def _hangs(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits that long")


async def _victim(path: Path, there: Receiver, point: str) -> int:
    """Runs until it kills itself, or, where the point lies with the receiver, until its request is there."""
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", VICTIM, point, str(path), there.base, str(Path(__file__).parent)
    )
    if point == "in flight":
        await there.until(lambda: there.got)
        victim.send_signal(signal.SIGKILL)
    async with asyncio.timeout(20):
        return await victim.wait()
