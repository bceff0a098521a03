"""One instance per store, however the other one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from monitor.lease import Lease, StoreInUseError

HOLDER = """
import sys, time
from pathlib import Path
from monitor.lease import Lease
with Lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    store = tmp_path / "new" / "store.sqlite3"
    with Lease(store):
        with pytest.raises(StoreInUseError) as caught, Lease(store):
            pass
        assert str(caught.value) == f"process {os.getpid()} already works on the store {store}"
        assert (tmp_path / "new" / "store.sqlite3.lock").stat().st_mode & 0o077 == 0, "nobody else can hold it against us"
    with Lease(store):
        pass  # after its end


def test_a_link_to_the_store_is_the_same_store(tmp_path: Path) -> None:
    link = tmp_path / "link.sqlite3"
    link.symlink_to(tmp_path / "store.sqlite3")
    with Lease(tmp_path / "store.sqlite3"), pytest.raises(StoreInUseError), Lease(link):
        pass


def test_two_stores_are_two() -> None:
    with Lease(Path(":memory:")), Lease(Path(":memory:")) as second:
        assert second.path is None


def test_the_lease_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    store = tmp_path / "store.sqlite3"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(store)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StoreInUseError, match=f"process {process.pid} "), Lease(store):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with Lease(store):
        assert (tmp_path / "store.sqlite3.lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_hold_it_does_not_keep_us_from_watching(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as logs, Lease(tmp_path / "file" / "store.sqlite3"):
        pass
    assert [line["event"] for line in logs] == ["lease_not_taken"]
