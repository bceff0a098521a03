"""The process that is killed: the real desk, store and sender on a flow of crossings.

Run as a program it is a nursery: it imports everything once, forks one child per line of JSON on its standard input, and answers
with the child's pid, then with its wait status. A fork costs milliseconds where a start costs a second, so that a thousand deaths
take minutes. The child walks the flow from where the file `walked` says that its predecessor came to, for ever if `last` is null.

The hooks are patches in the child. The product knows nothing of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sqlite3
import sys
import traceback
from itertools import islice
from pathlib import Path
from typing import Any

import structlog
from kill_flow import STEP_MS, T0, Step, flow

from monitor.alerts.batch import Batch
from monitor.alerts.desk import AlertDesk
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.alerts.sender import Sender
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Level
from monitor.store import Store

STEPS_MAX = 3_000  # of one life: who gets so far was forgotten by his killer
CHANNELS = ("a", "b")
PAUSES_S = (0.0, 0.0, 0.0, 0.002, 0.006, 0.012)


class Hook:
    """Dies when its point is passed for the n-th time."""

    def __init__(self, point: str, count: int) -> None:
        self._point, self._left = point, count

    def passes(self, point: str) -> None:
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def set_hooks(hook: Hook) -> None:
    connect, commit, sent = Store._connect, Store.commit, Sender._sent

    def connect_traced(self: Store[Any, Any], path: Path) -> sqlite3.Connection:
        db = connect(self, path)
        written = [False]

        def trace(statement: str) -> None:  # called before the statement is run
            written[0] |= statement.startswith("INSERT INTO outbox")
            if statement == "COMMIT" and written[0]:
                written[0] = False
                hook.passes("before commit")

        db.set_trace_callback(trace)
        return db

    async def commit_hooked(self: Store[Any, Any], incidents: Any = (), messages: Any = (), drop: Any = (), **more: Any) -> bool:
        messages = tuple(messages)
        durable = await commit(self, incidents, messages, drop, **more)
        if messages:
            hook.passes("after commit")
        return durable

    async def sent_hooked(self: Sender, batch: Batch) -> None:
        hook.passes("after accept")
        await sent(self, batch)
        hook.passes("after mark")

    Store._connect, Store.commit, Sender._sent = connect_traced, commit_hooked, sent_hooked  # type: ignore[method-assign]


async def live(job: dict[str, Any]) -> None:
    """One life, which ends at step `last` with nothing left to send, or by its killer's hand."""
    walked = os.open(job["walked"], os.O_RDWR | os.O_CREAT)
    begin = int(os.read(walked, 8) or 0)
    at = [begin]

    def now_ms() -> int:
        return T0 + at[0] * STEP_MS

    channels = [
        {
            "kind": "webhook",
            "name": name,
            "url": f"{job['base']}/{name}",  # the same in each life: another address would be another receiver
            "bearer_token": str(job["life"]),
            "allow_insecure": True,
        }
        for name in CHANNELS
    ]
    # Neither a summary nor a second route: each message keeps its own id, so that all can be counted.
    delivery = {"retry_min_s": 0.01, "retry_max_s": 0.05, "summary_above": 1000, "late_min": 1440, "fail_over_s": 600}
    settings = AlertSettings.model_validate({"channels": channels, "delivery": delivery})
    store = await Store.open(job["store"], IncidentRecord, OutboxRow, now_ms=now_ms)
    desk = AlertDesk(
        settings,
        store,
        figures_of=lambda key: None,
        now_ms=now_ms,
        new_id=lambda at_ms: f"I{(at_ms - T0) // STEP_MS:06d}",
        rng=random.Random(job["life"]),
    )
    sending = asyncio.create_task(desk.run())
    levels = desk.open_levels()  # what the engine is told at a start
    rng = random.Random(f"pace:{job['life']}")
    end = begin + STEPS_MAX if job["last"] is None else job["last"]
    for step in islice(flow(job["seed"]), begin, end):
        at[0] = step.number
        await walk(desk, step, levels)
        os.pwrite(walked, b"%08d" % (step.number + 1), 0)  # never empty in between, as a truncated file would be
        await asyncio.sleep(rng.choice(PAUSES_S))
    if await desk.flush(60):
        raise AssertionError("messages are left")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await store.close()


async def walk(desk: AlertDesk, step: Step, levels: dict[Any, Level]) -> None:
    """As the engine does: nothing is crossed where the level is the one that was known. The tick tells what is due."""
    if levels.get(step.key, Level.OK) is not step.level:
        await desk.handle([step.crossing()])
        levels[step.key] = step.level
    await desk.tick(step.at_ms)


def child(job: dict[str, Any]) -> None:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    try:
        set_hooks(Hook(job["point"], job["count"]))
        asyncio.run(live(job))
        os._exit(3 if job["last"] is None else 0)
    except BaseException:  # noqa: BLE001  the nursery must not go on in two processes
        traceback.print_exc()
        os._exit(1)


def nursery() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(job)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    nursery()
