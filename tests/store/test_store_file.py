"""The store: what it keeps, and that no disk stops it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs
from sqlite_file import opened_file

from monitor import store as store_module
from monitor.model.alerts import Silence
from monitor.store import RESERVE_BYTES, Store

NOW_MS = 1_795_325_664_000


class Case(Struct, frozen=True):
    id: str
    is_open: bool = True
    note: str = ""


class Letter(Struct, frozen=True):
    id: str
    text: str = ""


Cases = Store[Case, Letter]
SILENCE = Silence(id="S1", author="ann", note="", created_ms=NOW_MS, until_ms=NOW_MS + 60_000, account="main")
OTHER = structs.replace(SILENCE, id="S2", account="other")


class Shaky(Store[Case, Letter]):
    """Its disk fails while `fails` is set."""

    fails = False

    def _transact(self, path: Path, batch: dict[tuple[str, str], store_module._Row | None]) -> None:
        if self.fails:
            self._disconnect()
            raise sqlite3.OperationalError("disk I/O error")
        super()._transact(path, batch)


def rot(path: Path) -> None:
    path.write_bytes(b"rotten" * 2000)


async def opened(path: Path | str, patience_s: float = 2.0) -> Cases:
    return await Store.open(path, Case, Letter, now_ms=lambda: NOW_MS, patience_s=patience_s)


def rows(path: Path, table: str) -> list[str]:
    with opened_file(path) as db:
        found = [row_id for (row_id,) in db.execute(f"SELECT id FROM {table} ORDER BY id")]  # noqa: S608  a name of ours
    db.close()
    return found


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "made" / "state.db"
    store = await opened(path)
    assert await store.commit([Case("1"), Case("2")], [Letter("a"), Letter("b")])
    assert await store.commit([Case("1", is_open=False), Case("2", note="new")], [Letter("b", "new")], ["a"])
    assert (store.durable, store.problem) == (True, "")
    await store.close()
    again = await opened(path)
    assert list(again.incidents) == [Case("2", note="new")], "closed ones are history"
    assert list(again.messages) == [Letter("b", "new")]
    await again.close()
    assert rows(path, "incidents") == ["1", "2"]


async def test_a_kill_leaves_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case("1")], [Letter("a")])
    copied = tmp_path / "as_killed.db"
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copied}{suffix}")  # the files as a kill would leave them: nothing was closed
    await store.close()
    again = await opened(copied)
    assert (list(again.incidents), list(again.messages)) == ([Case("1")], [Letter("a")])
    await again.close()


async def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "made" / "state.db"
    store = await opened(path)
    await store.commit([Case("1")])
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert modes == dict.fromkeys(["state.db", "state.db-wal", "state.db-shm", "state.db.reserve"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await store.close()


async def test_one_transaction(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    with opened_file(path) as db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'no letters today'); END")
    db.close()
    assert not await store.commit([Case("1")], [Letter("a")])
    assert store.problem == "no letters today"
    assert rows(path, "incidents") == [], "the incident without its message would be an alert that nobody gets"
    with opened_file(path) as db:
        db.execute("DROP TRIGGER no")
    db.close()
    assert await store.commit(), "a commit with nothing is a retry"
    assert (rows(path, "incidents"), rows(path, "outbox"), store.problem) == (["1"], ["a"], "")
    await store.close()


# ------------------------------------------------------------------ bad files


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (b"this is not a database, but it is long enough to look like one" * 100, "another file in its place"),
        (b"SQLite format 3\x00" + b"\xff" * 8000, "a header and noise"),
    ],
)
async def test_a_corrupt_file_is_moved_aside(tmp_path: Path, damage: bytes, why: str) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(damage)
    path.chmod(0o600)
    store = await opened(path)
    assert (list(store.incidents), store.durable) == ([], True), why
    (notice,) = store.take_notices()
    assert f"state.db.corrupt-{NOW_MS}" in notice
    assert (tmp_path / f"state.db.corrupt-{NOW_MS}").read_bytes() == damage, "somebody may want to look at it"
    assert store.take_notices() == [], "told once"
    assert await store.commit([Case("1")])
    await store.close()


async def test_a_page_that_rots_is_found_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case(f"{number:04}", note="x" * 500) for number in range(200)])
    await store.close()
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 4096)
    again = await opened(path)
    assert again.take_notices()
    assert again.durable
    await again.close()


async def test_a_file_that_rots_while_we_run_is_replaced_and_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await Shaky.open(path, Case, Letter, now_ms=lambda: NOW_MS)
    assert isinstance(store, Shaky)
    await store.commit([Case("1")], [Letter("a")])
    store.fails = True
    await store.commit([Case("2")])
    rot(path)
    store.fails = False
    assert await store.commit([Case("3")])
    assert rows(path, "incidents") == ["1", "2", "3"], "all that is open, not only what is new"
    assert rows(path, "outbox") == ["a"]
    assert store.take_notices()
    await store.close()


async def test_a_newer_schema_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with opened_file(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    store = await opened(path)
    assert not store.durable
    assert "newer version" in store.problem
    for number in range(3):  # row 36: after the first refusal too
        assert not await store.commit([Case(str(number))])
        assert "newer version" in store.problem
        await store.check()
        assert not store.durable
    await store.close()
    assert path.read_bytes() == before


async def test_row_36_a_store_of_a_newer_schema_is_never_written(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case("1")])
    await store.close()
    with opened_file(path) as db:  # with all its tables: nothing but the version keeps us from writing
        db.execute("PRAGMA user_version = 99")
    store = await opened(path)
    for number in range(3):
        assert not await store.commit([Case(f"new {number}")])
        await store.check()
        assert not store.durable
        assert "newer version" in store.problem
    await store.close()
    with opened_file(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)
    assert rows(path, "incidents") == ["1"]


async def test_row_12_a_file_that_is_deleted_in_use_is_made_again_with_all_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    assert await store.commit([Case("1")])
    for name in os.listdir(tmp_path):
        os.unlink(tmp_path / name)
    await store.check()
    assert not store.durable
    assert "deleted or replaced" in store.problem
    assert await store.commit([Case("2")])
    assert store.problem == ""
    assert rows(path, "incidents") == ["1", "2"]
    await store.close()


async def test_row_21_a_file_that_others_could_read_is_tightened_and_notified(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case("1")])
    await store.close()
    path.chmod(0o644)
    store = await opened(path)
    assert [notice for notice in store.take_notices() if "mode 0644" in notice]
    await store.commit([Case("2")])
    assert {os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)} == {0o600}
    await store.close()


async def test_an_older_schema_is_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case("1")])
    await store.close()
    monkeypatch.setattr(store_module, "SCHEMA_VERSION", store_module.SCHEMA_VERSION + 1)
    monkeypatch.setattr(store_module, "MIGRATIONS", (*store_module.MIGRATIONS, ("CREATE TABLE notes (id TEXT PRIMARY KEY)",)))
    again = await opened(path)
    assert list(again.incidents) == [Case("1")]
    await again.close()
    assert rows(path, "notes") == []


def first_version(path: Path) -> None:
    """A file as the first version of the program wrote it."""
    with opened_file(path) as db:
        for statement in store_module.MIGRATIONS[0]:
            db.execute(statement)
        db.execute("INSERT INTO incidents VALUES ('1', 1, ?)", (b'{"id": "1", "is_open": true}',))
        db.execute("INSERT INTO outbox VALUES ('a', ?)", (b'{"id": "a"}',))
        db.execute("PRAGMA user_version = 1")
    db.close()


async def test_a_file_of_the_first_version_is_read_and_takes_silences(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first_version(path)
    store = await opened(path)
    assert (list(store.incidents), list(store.messages), list(store.silences)) == ([Case("1")], [Letter("a")], [])
    assert await store.commit(silences=[SILENCE, OTHER])
    assert await store.commit(silences=[structs.replace(SILENCE, note="longer")], drop_silences=[OTHER.id])
    await store.close()
    again = await opened(path)
    assert list(again.silences) == [structs.replace(SILENCE, note="longer")]
    assert list(again.incidents) == [Case("1")]
    await again.close()


async def test_a_file_of_the_first_version_that_can_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    first_version(path)

    def refuse(db: sqlite3.Connection, version: int) -> None:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(Store, "_migrate", staticmethod(refuse))
    store = await opened(path)
    assert (list(store.incidents), list(store.messages), list(store.silences)) == ([Case("1")], [Letter("a")], [])
    assert store.problem == "attempt to write a readonly database"
    await store.close()


async def test_silences_wait_for_a_disk_that_fails(tmp_path: Path) -> None:
    store = await Shaky.open(tmp_path / "state.db", Case, Letter, now_ms=lambda: NOW_MS)
    assert isinstance(store, Shaky)
    store.fails = True
    assert not await store.commit(silences=[SILENCE, OTHER])
    assert not await store.commit(drop_silences=[OTHER.id])
    store.fails = False
    assert await store.commit()
    await store.close()
    assert rows(tmp_path / "state.db", "silences") == [SILENCE.id]


async def test_a_record_that_nobody_understands_is_left_and_told(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case("1"), Case("2")])
    await store.close()
    with opened_file(path) as db:
        db.execute("UPDATE incidents SET record = ? WHERE id = '1'", (b'{"id": 7}',))
    db.close()
    again = await opened(path)
    assert list(again.incidents) == [Case("2")]
    assert again.take_notices() == ["1 records of the store could not be read and were left in it"]
    await again.close()
    assert rows(path, "incidents") == ["1", "2"]


# ------------------------------------------------------------------ bad disks


async def test_memory_keeps_nothing_and_is_no_problem() -> None:
    store = await opened(":memory:")
    assert not await store.commit([Case("1")])
    assert store.problem == ""
    await store.close()


async def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = await opened(tmp_path / "file" / "state.db")
    assert not store.durable
    assert "Not a directory" in store.problem or "File exists" in store.problem
    assert not await store.commit([Case("1")])
    (tmp_path / "file").unlink()
    assert await store.commit([Case("2")]), "as soon as it can"
    assert rows(tmp_path / "file" / "state.db", "incidents") == ["1", "2"]
    await store.close()


async def test_a_locked_file_delays_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_MS", 300)
    path = tmp_path / "state.db"
    store = await opened(path, patience_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert not await store.commit([Case("1")])
    assert store.problem == "the disk has not answered for 0.05 s"
    assert not await store.commit([Case("2")])
    other.execute("COMMIT")
    other.close()
    while not store.durable:
        await store.commit()
    assert rows(path, "incidents") == ["1", "2"]
    assert store.problem == ""
    await store.close()


IN_A_SMALL_DISK = """
import asyncio, sys
from pathlib import Path
from msgspec import Struct
from monitor.store import Store

class Case(Struct, frozen=True):
    id: str
    is_open: bool = True
    note: str = ""

async def main(folder):
    store = await Store.open(folder / "state.db", Case, Case, now_ms=lambda: 0)
    assert store.durable, store.problem
    (folder / "somebody_elses").write_bytes(bytes(PLACEHOLDER))
    number = 0
    while not store.problem:
        assert await store.commit([Case(f"{number:06}", note="x" * 1000)]), store.problem
        number += 1
    print("reserve used", store.problem, (folder / "state.db.reserve").exists(), flush=True)
    while await store.commit([Case(f"{number:06}", note="x" * 1000)]):
        number += 1
    number += 1
    print("full", store.problem, flush=True)
    (folder / "somebody_elses").unlink()
    assert await store.commit(), store.problem
    print("freed", store.problem, flush=True)
    await store.close()
    again = await Store.open(folder / "state.db", Case, Case, now_ms=lambda: 0)
    assert len(again.incidents) == number, (len(again.incidents), number)
    print("kept", flush=True)
    await again.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def _in_a_small_disk(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Runs a script with `folder` as a disk of 2 MiB, in a mount namespace of its own."""
    mount = 'mount -t tmpfs -o size=2m small "$1" && exec "$2" -W error -c "$3" "$1"'
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    args = [*unshare, "sh", "-c", mount, "sh", str(folder), sys.executable, script]
    return subprocess.run(args, capture_output=True, text=True, timeout=60, check=False)


def test_a_full_disk(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or _in_a_small_disk(tmp_path, "pass").returncode:
        pytest.skip("a small disk needs mount namespaces")
    taken = (2 << 20) - RESERVE_BYTES - (200 << 10)
    done = _in_a_small_disk(tmp_path, IN_A_SMALL_DISK.replace("PLACEHOLDER", str(taken)))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "reserve used the disk is full and the reserve of the store is used up False",
        "full database or disk is full",
        "freed ",
        "kept",
    ]


READ_ONLY = """
import asyncio, subprocess, sys
from pathlib import Path
from msgspec import Struct
from monitor.store import Store

class Case(Struct, frozen=True):
    id: str
    is_open: bool = True

async def main(folder):
    store = await Store.open(folder / "state.db", Case, Case, now_ms=lambda: 0)
    await store.commit([Case("1")])
    if CLOSE:
        await store.close()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=CLOSE)
    again = await Store.open(folder / "state.db", Case, Case, now_ms=lambda: 0)
    print(again.durable, bool(again.problem), [case.id for case in again.incidents], await again.commit([Case("2")]))
    await again.close()

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_read_only_disk_is_read(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or _in_a_small_disk(tmp_path, "pass").returncode:
        pytest.skip("a small disk needs mount namespaces")
    done = _in_a_small_disk(tmp_path, READ_ONLY.replace("CLOSE", "True"))
    assert (done.returncode, done.stdout.strip()) == (0, "False True ['1'] False"), done.stderr


# ------------------------------------------------------------------ history and laws


async def test_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CLOSED_KEPT_MAX", 3)
    monkeypatch.setattr(store_module, "PRUNE_EVERY_WRITES", 4)
    path = tmp_path / "state.db"
    store = await opened(path)
    await store.commit([Case("0 open")])
    for number in range(12):
        await store.commit([Case(f"{number:02}", is_open=False)])
    await store.close()
    kept = rows(path, "incidents")
    assert "0 open" in kept, "what is open is never history"
    assert "11" in kept
    assert len(kept) <= 1 + 3 + 4


Steps = st.lists(
    st.tuples(
        st.lists(st.builds(Case, st.sampled_from("1234"), st.booleans(), st.text(max_size=3)), max_size=3),
        st.lists(st.builds(Letter, st.sampled_from("abcd"), st.text(max_size=3)), max_size=3),
        st.lists(st.sampled_from("abcd"), max_size=2),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(Steps)
async def test_whatever_fails_the_file_ends_as_if_nothing_had(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[list[Case], list[Letter], list[str], bool]]
) -> None:
    path = tmp_path_factory.mktemp("shaky") / "state.db"
    store = await Shaky.open(path, Case, Letter, now_ms=lambda: NOW_MS)
    assert isinstance(store, Shaky)
    cases: dict[str, Case] = {}
    letters: dict[str, Letter] = {}
    for puts, posts, drops, fails in steps:
        store.fails = fails
        assert await store.commit(puts, posts, drops) is not (fails and bool(puts or posts or drops or store._dirty))
        cases |= {case.id: case for case in puts}
        letters |= {letter.id: letter for letter in posts}
        for row_id in drops:
            letters.pop(row_id, None)
    store.fails = False
    assert await store.commit()
    await store.close()
    again = await opened(path)
    assert list(again.incidents) == [cases[row_id] for row_id in sorted(cases) if cases[row_id].is_open]
    assert list(again.messages) == [letters[row_id] for row_id in sorted(letters)]
    await again.close()
