"""Fault rows 42 and 43: the disk. Whatever it does, alerts go out and the daemon goes on watching."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import until
from faults_out_kit import Stage, crossing, exchange, logged, metric, metric_becomes, plunge, ready, recover, running

from monitor.alerts import own
from monitor.model.alerts import Level
from monitor.store import RESERVE_BYTES


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is tried again every second instead of every ten."""
    monkeypatch.setattr(own, "STORE_RETRY_EVERY_S", 1.0)


class SmallDisk:
    """A file system of half a MiB of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        (self.folder / "state.db.reserve").unlink(missing_ok=True)  # so full that not even that is there any more
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink()


class FileSizeLimit:
    """No file of this process may grow beyond what it is: for machines where nothing can be mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@contextlib.contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    place = folder / "disk"
    place.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, check=False
        )
    except OSError as exc:
        pytest.skip(f"nothing can be mounted here: {exc}")
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def remount(place: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(place)], check=True)


@pytest.fixture(params=["tmpfs", "file size limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk | FileSizeLimit]:
    if request.param == "tmpfs":
        with mounted(tmp_path, "640k") as place:
            yield SmallDisk(place)
    else:
        limit = FileSizeLimit(tmp_path)
        yield limit
        limit.free()


async def test_row_42_disk_full(stage: Stage, events: list[Any], record_property: Any, disk: SmallDisk | FileSizeLimit) -> None:
    path = disk.folder / "state.db"
    async with exchange() as there, running(there, stage, path) as monitor:
        await ready(monitor)
        disk.fill()
        try:
            plunge(there)
            await until(lambda: bool(stage.alerts()), "the alert goes out although the disk is full", 10)
            await until(lambda: bool(stage.alerts("store")), "and that the state is not durable is told")
            assert stage.alerts("store")[0]["level"] == "high"
            assert "at risk" in stage.alerts("store")[0]["summary"]
            assert await metric(monitor, "margin_alerts_total", rule="store", level="high") == 1
            assert await metric(monitor, "margin_heartbeat_withheld", reason="store_at_risk") == 1
            assert await metric(monitor, "margin_pool_health", account="main") < 1.4, "it goes on watching"
        finally:
            disk.free()
        freed = time.monotonic()
        await until(lambda: any(alert["reason"] == "resolved" for alert in stage.alerts("store")), "durable again")
        recovery_s = time.monotonic() - freed
        assert recovery_s < 5
        assert await metric(monitor, "margin_heartbeat_withheld", reason="store_at_risk") == 0
    with contextlib.closing(sqlite3.connect(path)) as db:
        (held,) = db.execute(
            "SELECT count(*) FROM incidents WHERE open = 1 AND CAST(record AS TEXT) LIKE '%\"health\"%'"
        ).fetchone()
    assert held == 1, "what happened meanwhile was written then"
    assert logged(events, "alert", rule="store", reason="first")
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_42_the_reserve_takes_the_crossing_that_finds_the_disk_full(tmp_path: Path, stage: Stage) -> None:
    with mounted(tmp_path, "2m") as place:
        path = place / "state.db"
        async with exchange() as there, running(there, stage, path) as monitor:
            await ready(monitor)
            ballast = place / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            reserve = path.with_name("state.db.reserve")
            assert reserve.stat().st_size == RESERVE_BYTES
            number = 0
            while reserve.exists():  # the log may have a few pages left
                number += 1
                assert number < 50, "the disk never became full"
                await monitor.desk.handle([crossing(Level.HIGH, account=f"account{number}")])
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
                query = "SELECT count(*) FROM incidents WHERE CAST(record AS TEXT) LIKE ?"
                (held,) = db.execute(query, (f'%"account{number}"%',)).fetchone()
            assert held == 1, "the crossing that found the disk full is on it"
            await until(lambda: bool(stage.alerts("store")), "the owner hears that the reserve is in use")
            for channel in ("slack", "telegram", "webhook"):
                await metric_becomes(monitor, 0, "margin_outbox_pending", 60, channel=channel)
            ballast.unlink()  # with nothing left to write: the room is found all the same
            await until(lambda: any(alert["reason"] == "resolved" for alert in stage.alerts("store")), "room again")


async def test_row_43_a_corrupt_store_is_moved_aside(
    stage: Stage, events: list[Any], tmp_path: Path, record_property: Any
) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is no database, whatever its name says\n" * 100)
    path.chmod(0o600)
    began = time.monotonic()
    async with exchange() as there, running(there, stage, path) as monitor:
        await until(lambda: bool(stage.alerts("store")), "told")
        recovery_s = time.monotonic() - began
        assert "moved aside" in stage.alerts("store")[0]["summary"]
        await ready(monitor)
        plunge(there)
        await until(lambda: bool(stage.alerts()), "it watches")
        assert await metric(monitor, "margin_alerts_total", rule="store") == 1
    assert any(name.startswith("state.db.corrupt-") for name in os.listdir(tmp_path))
    assert logged(events, "alert", rule="store", reason="first")
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_43_a_read_only_store_does_not_keep_it_from_watching(
    stage: Stage, events: list[Any], tmp_path: Path, record_property: Any
) -> None:
    with mounted(tmp_path, "4m") as place:
        path = place / "state.db"
        async with exchange() as there:
            async with running(there, stage, path) as monitor:
                await ready(monitor)
                plunge(there)
                await until(lambda: bool(stage.alerts()), "an open alert")
            remount(place, "ro")
            async with running(there, stage, path) as monitor:
                await until(lambda: bool(stage.alerts("store")), "told")
                await ready(monitor)
                assert any(incident.key.rule == "health" for incident in monitor.desk.incidents()), "what can be read is known"
                await monitor.desk.handle([crossing(Level.HIGH)])
                await until(lambda: bool(stage.alerts("test")), "alerts go out from memory")
                # Its address is another one, so it is another receiver, notified once of what is open.
                await until(lambda: len(stage.alerts()) > 1, "what is open is known there")
                assert [alert["reason"] for alert in stage.alerts()] == ["first", "repeat"]
                assert await metric(monitor, "margin_alerts_total", rule="store") == 1
                remount(place, "rw")
                freed = time.monotonic()
                await until(lambda: any(alert["reason"] == "resolved" for alert in stage.alerts("store")), "durable again")
                recovery_s = time.monotonic() - freed
                assert recovery_s < 5
    assert logged(events, "alert", rule="store", reason="first")
    record_property("recovery_s", round(recovery_s, 2))


async def test_row_43_a_locked_store_holds_up_no_alert(
    stage: Stage, events: list[Any], tmp_path: Path, record_property: Any
) -> None:
    path = tmp_path / "state.db"
    async with exchange() as there, running(there, stage, path) as monitor:
        await ready(monitor)
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            plunge(there)
            await until(lambda: bool(stage.alerts()), "the alert goes out", 10)
            assert time.monotonic() - began < 8, "it does not wait for the lock for ever"
            await until(lambda: bool(stage.alerts("store")), "told")
            other.rollback()
        freed = time.monotonic()
        await until(lambda: any(alert["reason"] == "resolved" for alert in stage.alerts("store")), "durable again")
        recovery_s = time.monotonic() - freed
        assert recovery_s < 6
        recover(there)
        await until(lambda: any(alert["reason"] == "resolved" for alert in stage.alerts()), "and its end is told")
        await metric_becomes(monitor, 0, "margin_outbox_pending", channel="webhook")
    assert logged(events, "alert", rule="store", reason="first")
    record_property("recovery_s", round(recovery_s, 2))
