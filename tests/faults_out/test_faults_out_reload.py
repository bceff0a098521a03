"""A stop that meets a reload: the daemon in its own process (its stages in ours: e2e/test_e2e_reload.py)."""

from __future__ import annotations

import asyncio
import random
import signal
from pathlib import Path

import pytest
from conftest_e2e import until
from faults_out_kit import Daemon, Stage, daemon, exchange, never, plunge

STOPS_WITHIN_S = 15.0  # it flushes for at most 10


async def stops(one: Daemon) -> None:
    one.signal(signal.SIGTERM)
    assert await one.ended(STOPS_WITHIN_S) == 0
    assert "Traceback" not in one.text()


async def test_row_5_a_stop_while_the_outbox_is_flushed_for_a_reload(stage: Stage, tmp_path: Path) -> None:
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        stage.always["webhook"] = never  # the flush has something to wait for
        plunge(there)
        await until(lambda: bool(stage.got), "an alert is on its way")
        one.signal(signal.SIGHUP)
        await until(lambda: bool(one.events("reloading")), "the run ends")
        await stops(one)
        assert len(one.events("web_listening")) == 1, "no new run began"


async def test_row_5_a_stop_while_the_new_run_begins(stage: Stage, tmp_path: Path) -> None:
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        there.fault("delay_rest", path="", delay_ms=60_000)  # the keys are never checked
        one.signal(signal.SIGHUP)
        await until(lambda: len(one.events("web_listening")) == 2, "the new run begins")
        await stops(one)


@pytest.mark.parametrize("seed", range(4))
async def test_row_5_a_stop_at_any_moment_of_a_reload(stage: Stage, tmp_path: Path, seed: int) -> None:
    delay_s = random.Random(seed).uniform(0, 1.5)
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        one.signal(signal.SIGHUP)
        await asyncio.sleep(delay_s)  # the moment is what is drawn: nothing is waited for
        await stops(one)
