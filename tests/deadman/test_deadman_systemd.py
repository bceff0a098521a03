"""What the service manager hears, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from deadman_kit import task_of, until
from structlog.testing import capture_logs
from web.view_in_memory import MemoryView, a_pool, an_unknown_pool

from monitor.deadman import Reason
from monitor.status_line import status_line
from monitor.systemd import ServiceManager


@contextlib.contextmanager
def manager_at(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        sock.setblocking(False)
        yield sock


def heard(sock: socket.socket) -> list[str]:
    """All datagrams so far."""
    said = []
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(sock.recv(65536).decode())
    return said


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"@margin-monitor-test-{uuid4()}" if request.param == "abstract" else str(tmp_path / "notify")


class Watched:
    def __init__(self) -> None:
        self.reasons: dict[Reason, str] = {}
        self.line = "1 pool, worst: ok"
        self.bug: Exception | None = None

    def hangs(self) -> dict[Reason, str]:
        if self.bug:
            raise self.bug
        return self.reasons

    def status(self) -> str:
        return self.line


def test_the_words_of_the_protocol(address: str) -> None:
    with manager_at(address) as sock:
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        before_us = time.monotonic_ns() // 1000
        manager.ready()
        manager.reloading()
        manager.stopping()
        manager.tell(STATUS="two\nlines\rREADY=1")
        ready, reloading, stopping, status = heard(sock)
    assert ready == "READY=1"
    word, stamp = reloading.split("\n")
    assert word == "RELOADING=1"
    assert before_us <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert stopping == "STOPPING=1\nSTATUS=stopping"
    assert status == "STATUS=two lines READY=1", "no text of ours can become a word of the protocol"


async def test_the_watchdog_is_fed_in_half_its_time_while_nothing_hangs(address: str) -> None:
    watched = Watched()
    said: list[str] = []

    def fed() -> int:
        said.extend(heard(sock))
        return said.count("WATCHDOG=1")

    with manager_at(address) as sock, capture_logs() as logs:
        manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())})
        assert manager.watchdog_s == 0.2
        async with task_of(manager.attend(lambda: watched)):
            began_s = time.monotonic()
            await until(lambda: fed() >= 5, "fed again and again")
            assert time.monotonic() - began_s >= 0.35, "not in a frenzy"
            assert said.count("STATUS=1 pool, worst: ok") == 1, "once, for it did not change"

            watched.reasons = {Reason.LOOP_SLOW: "the event loop lags by 3 s"}
            watched.line = "loop_slow"
            await until(lambda: fed() and "STATUS=loop_slow" in said, "the status goes on")
            count = fed()
            watched.line = "loop_slow still"
            await until(lambda: fed() and "STATUS=loop_slow still" in said, "another round")
            assert fed() == count, "not fed"
            assert [line["event"] for line in logs] == ["watchdog_withheld"], "told once"

            watched.reasons = {}
            await until(lambda: fed() > count, "fed again")
            watched.bug = RuntimeError("bug")
            await until(lambda: any(line["event"] == "watchdog_crashed" for line in logs), "a bug is told")
            count = fed()
            await until(lambda: sum(line["event"] == "watchdog_crashed" for line in logs) > 2, "further rounds")
            assert fed() == count, "who cannot judge does not feed"


@pytest.mark.parametrize(
    ("environ", "seconds", "why"),
    [
        ({}, None, "no watchdog"),
        ({"WATCHDOG_USEC": "30000000"}, 30.0, "for whoever reads it"),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, "meant for another process"),
        ({"WATCHDOG_USEC": "0"}, None, "switched off"),
        ({"WATCHDOG_USEC": "soon"}, None, "not a number"),
        ({"WATCHDOG_USEC": "٣"}, None, "not a plain number"),
    ],
)
def test_the_watchdogs_time(environ: dict[str, str], seconds: float | None, why: str) -> None:
    assert ServiceManager(environ).watchdog_s == seconds, why


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_without_a_socket_nothing_is_said(address: str) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": address})
    assert not manager.present
    manager.ready()


def test_a_manager_that_is_gone_is_told_to_the_log_once(tmp_path: Path) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    with capture_logs() as logs:
        manager.ready()
        manager.stopping()
    assert [line["event"] for line in logs] == ["service_manager_not_told"]


def test_a_manager_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with manager_at(address), capture_logs() as logs:
        manager = ServiceManager({"NOTIFY_SOCKET": address})
        for _ in range(5000):
            manager.tell(STATUS="x" * 1000)
    assert [line["event"] for line in logs] == ["service_manager_not_told"]


@pytest.mark.parametrize(
    ("pools", "troubles", "line", "why"),
    [
        ([], [], "0 pools", "nothing held"),
        ([a_pool()], [], "1 pool, worst: ok (main USD health 3.00)", "one"),
        (
            [a_pool("b", level=3, health=1.4), a_pool("main", level=4, health=1.18), a_pool("c", level=4, health=1.19)],
            ["stream_down"],
            "3 pools, worst: critical (main USD health 1.18); stream_down",
            "of equal levels the least health",
        ),
        (
            [a_pool("b", level=3, health=1.4), an_unknown_pool("dark")],
            [],
            "2 pools, worst: unknown (dark USD)",
            "unknown is as bad as critical",
        ),
        (
            [an_unknown_pool("dark"), a_pool("b", level=5, health=1.05)],
            [],
            "2 pools, worst: emergency (b USD health 1.05)",
            "worse",
        ),
        ([a_pool(health=None)], [], "1 pool, worst: ok (main USD)", "nothing at risk: no health"),
    ],
)
def test_the_status_line(pools: list[object], troubles: list[str], line: str, why: str) -> None:
    table = MemoryView(pools).pools()  # type: ignore[arg-type]
    assert isinstance(table.level, np.ndarray)
    assert status_line(table, troubles) == line, why


async def test_the_manager_is_asked_about_the_present_run(tmp_path: Path) -> None:
    """A reload puts another run in the place of the first."""
    address = str(tmp_path / "notify")
    runs = [Watched()]
    with manager_at(address) as sock:
        manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"})
        async with task_of(manager.attend(lambda: runs[-1])):
            runs.append(Watched())
            runs[-1].line = "second"
            said: list[str] = []
            await until(lambda: said.extend(heard(sock)) or "STATUS=second" in said, "the second run's status")
            await asyncio.sleep(0)
