"""What the receiver took, what the disk still held at each death, and the audit of both."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from msgspec import Struct, field

Body = dict[str, Any]


class Ledger(Struct):
    """Acceptances by channel and notice id: the lives in which they were given, and what was said."""

    taken: dict[tuple[str, str], list[tuple[int, Body]]] = field(default_factory=lambda: defaultdict(list))
    unmarked: dict[int, set[str]] = field(default_factory=dict)  # by life: ids of the outbox rows on disk when it ended

    def duplicates(self) -> dict[tuple[str, str], list[int]]:
        return {what: [life for life, _ in taken] for what, taken in self.taken.items() if len(taken) > 1}

    def audit(self, channels: tuple[str, ...], incidents: list[Body]) -> list[str]:
        """All that breaks the promise. incidents: the records that the last life left behind."""
        wrong = []
        for (channel, notice), taken in self.taken.items():
            lives = [life for life, _ in taken]
            wrong += [
                f"{notice} was sent to {channel} again in life {later}, although life {life} had marked it"
                for life, later in itertools.pairwise(lives)
                if life == later or f"{notice}@{channel}" not in self.unmarked[life]
            ]
            wrong += [f"{notice} did not say the same each time" for _, body in taken[1:] if body != taken[0][1]]
        doubled: dict[tuple[str, int], list[str]] = defaultdict(list)
        for (channel, notice), taken in self.taken.items():
            for life, _ in taken[:-1]:
                doubled[channel, life].append(notice)
        wrong += [
            f"the end of life {life} doubled {len(notices)} messages to {channel}, which gets one at a time"
            for (channel, life), notices in doubled.items()
            if len(notices) > 1
        ]
        said: dict[tuple[str, str], set[int]] = defaultdict(set)
        for (channel, notice), taken in self.taken.items():
            incident, _, number = notice.rpartition(".")
            replaced = taken[0][1]["alerts"][0]["replaces"]  # earlier messages that this one carries
            said[channel, incident] |= set(range(int(number) - replaced, int(number) + 1))
        for record in incidents:
            incident = record["incident"]
            for channel in channels:
                lost = set(range(1, incident["messages"] + 1)) - said[channel, incident["id"]]
                wrong += [f"{incident['id']}.{number} never reached {channel}" for number in sorted(lost)]
        return wrong


class Receiver:
    """Takes notices at /CHANNEL, the number of the life as their bearer token.

    `before_answer` may kill the sender in the middle of its request.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.base = ""
        self.before_answer: Callable[[], bool] = lambda: False  # True: the request is dropped, nobody accepted it
        self.requests = 0
        self.busy = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.busy += 1
        try:
            body = orjson.loads(await request.read())
            self.requests += 1
            if self.before_answer():
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            assert request.headers["Idempotency-Key"] == body["id"], "each attempt carries the id"
            life, channel = int(request.headers["Authorization"].removeprefix("Bearer ")), request.match_info["channel"]
            self.ledger.taken[channel, body["id"]].append((life, body))
            return web.Response()
        finally:
            self.busy -= 1


@contextlib.asynccontextmanager
async def receiving(ledger: Ledger) -> AsyncIterator[Receiver]:
    receiver = Receiver(ledger)
    app = web.Application()
    app.router.add_post("/{channel}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def rows(store: Path) -> tuple[list[Body], set[str]]:
    """Incidents by id, and the ids of what waits. Read from a copy: the file itself stays as the dead left it."""
    with tempfile.TemporaryDirectory(dir=store.parent) as folder:
        for suffix in ("", "-wal"):
            if Path(f"{store}{suffix}").exists():
                shutil.copy(f"{store}{suffix}", folder)
        copy = Path(folder, store.name)
        if not copy.exists():
            return [], set()
        with contextlib.closing(sqlite3.connect(copy)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'outbox'").fetchone():
                return [], set()
            incidents = [orjson.loads(record) for (record,) in db.execute("SELECT record FROM incidents ORDER BY id")]
            return incidents, {row_id for (row_id,) in db.execute("SELECT id FROM outbox")}


async def settled(receiver: Receiver) -> None:
    """Until what a dead process had sent is dealt with: it may still be in the sockets."""
    last = -1
    while receiver.busy or receiver.requests != last:
        last = receiver.requests
        await asyncio.sleep(0.002)
