"""Fixtures of the fault suite, and the table of its run.

`make fault-table` writes the table; an ordinary run changes no file.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))  # the receiver and `until` are those of the e2e tests

from aiohttp import web
from conftest_e2e import Receiver
from faults_canary import Canaries, canaries
from faults_scene import Scene, staged
from faults_table import Table
from faults_witness import watched
from warping import warped as pytest_asyncio_loop_factories

__all__ = ["canaries", "pytest_asyncio_loop_factories", "watched"]

Stage = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture(autouse=True)
def same_jitter() -> None:
    """Every run sees the same: FAULT_SEED=1, 2, … for others."""
    random.seed(os.environ.get("FAULT_SEED", "0"))


@pytest.fixture
async def receiver(canaries: Canaries) -> AsyncIterator[Receiver]:
    one = Receiver()
    app = one.app()
    app.middlewares.append(canaries.overhear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield one
    await runner.cleanup()


@pytest.fixture
def stage(
    receiver: Receiver,
    canaries: Canaries,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> Callable[..., Any]:
    """`async with stage(settings=…) as scene`: see faults_scene.staged."""
    return partial(staged, receiver, canaries, tmp_path / "state.db", record_property)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the controller sees the reports of all workers
        target = os.environ.get("FAULT_TABLE")
        config.pluginmanager.register(Table(config.rootpath / target if target else None), "fault-table")
