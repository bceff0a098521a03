"""Fixtures of the fault suite, and the table of its run.

`FAULT_TABLE=deploy/docs/faults.md make test-faults` writes the table; an ordinary run changes no file.
"""

from __future__ import annotations

import os
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
from faults_scene import FAST, Scene, staged
from faults_table import Table
from faults_witness import watched

__all__ = ["canaries", "watched"]

Stage = Callable[..., AbstractAsyncContextManager[Scene]]


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
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Any]:
    """`async with stage(settings=…) as scene`: see faults_scene.staged."""
    monkeypatch.setattr("monitor.app.TICK_S", FAST)  # the second in which silence is noticed is an exchange second too
    return partial(staged, receiver, canaries, tmp_path / "state.db", record_property)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the controller sees the reports of all workers
        target = os.environ.get("FAULT_TABLE")
        config.pluginmanager.register(Table(config.rootpath / target if target else None), "fault-table")
