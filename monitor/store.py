"""What must survive the process: incidents, messages that still wait to be sent, silences. SQLite in one thread of its own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from monitor.model.alerts import Silence

SCHEMA_VERSION = 2
CLOSED_KEPT_MAX = 10_000  # closed incidents are history: the newest stay
PRUNE_EVERY_WRITES = 256
RESERVE_BYTES = 256 << 10  # released when the disk is full, so that the crossing that fills it is still written
LOCK_WAIT_MS = 1_000
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

# One step per version: the statements that lead from version i to i + 1.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE incidents (id TEXT PRIMARY KEY, open INTEGER NOT NULL, record BLOB NOT NULL)",
        "CREATE INDEX incidents_open ON incidents (open, id)",
        "CREATE TABLE outbox (id TEXT PRIMARY KEY, record BLOB NOT NULL)",
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
    ("CREATE TABLE silences (id TEXT PRIMARY KEY, record BLOB NOT NULL)",),
)

PUT = {
    "incidents": "INSERT INTO incidents (id, open, record) VALUES (?1, ?2, ?3)"
    " ON CONFLICT (id) DO UPDATE SET open = ?2, record = ?3",
    "outbox": "INSERT INTO outbox (id, record) VALUES (?1, ?3) ON CONFLICT (id) DO UPDATE SET record = ?3",
    "silences": "INSERT INTO silences (id, record) VALUES (?1, ?3) ON CONFLICT (id) DO UPDATE SET record = ?3",
    "meta": "INSERT INTO meta (key, value) VALUES (?1, ?3) ON CONFLICT (key) DO UPDATE SET value = ?3",
}
DROP = {"outbox": "DELETE FROM outbox WHERE id = ?", "silences": "DELETE FROM silences WHERE id = ?"}
PRUNE = "DELETE FROM incidents WHERE open = 0 AND id NOT IN (SELECT id FROM incidents WHERE open = 0 ORDER BY id DESC LIMIT ?)"


class IncidentRecord(Protocol):
    """What the store asks of an incident. Ids sort by age."""

    @property
    def id(self) -> str: ...
    @property
    def is_open(self) -> bool: ...


class MessageRecord(Protocol):
    @property
    def id(self) -> str: ...


I = TypeVar("I", bound=IncidentRecord)  # noqa: E741
M = TypeVar("M", bound=MessageRecord)

Place = tuple[str, str]  # table, id


class _Row(msgspec.Struct, frozen=True):
    record: bytes
    open: bool = True


class StoreError(Exception):
    """The file cannot be used as it is; the text says why in plain words."""


class Store(Generic[I, M]):
    """A durable mirror of the open incidents, the waiting messages and the silences, which the process holds in memory anyway.

    It never refuses: what the disk does not take stays here and is written, all of it, as soon as the disk takes it again.
    `durable` and `problem` say how things are; `take_notices` gives what happened once (a file moved aside).
    """

    def __init__(
        self,
        path: Path | None,
        incident_type: type[I],
        message_type: type[M],
        *,
        now_ms: Callable[[], int],
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        patience_s: float = 2.0,
    ) -> None:
        self._path = path
        self.problem = ""
        self._failing = False  # the last write, or the opening, was refused or did not end in time
        self._decode_incident = msgspec.json.Decoder(incident_type).decode
        self._decode_message = msgspec.json.Decoder(message_type).decode
        self._decode_silence = msgspec.json.Decoder(Silence).decode
        self._encode = msgspec.json.Encoder().encode
        self._now_ms = now_ms
        self._synchronous = synchronous
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._writing: asyncio.Future[None] | None = None
        self._alive: dict[Place, _Row] = {}  # all that must be on disk: open incidents, waiting messages, silences
        self._dirty: dict[Place, _Row | None] = {}  # not yet on disk; None: to be deleted
        self._notices: list[str] = []
        self._loaded: tuple[list[I], list[M]] = ([], [])
        self._silences: list[Silence] = []
        self._notes: dict[str, str] = {}
        # Only the thread touches these:
        self._db: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None  # which file `_db` is
        self._writes = 0
        self._reserve_kept = False

    @classmethod
    async def open(
        cls,
        path: Path | str,
        incident_type: type[I],
        message_type: type[M],
        *,
        now_ms: Callable[[], int],
        synchronous: Literal["NORMAL", "FULL"] = "NORMAL",
        patience_s: float = 2.0,
    ) -> Store[I, M]:
        """Opens or makes the file, and its folder. Does not raise on a bad disk or file: look at `problem`.

        path: ":memory:" keeps nothing. synchronous: NORMAL survives any death of the process; FULL a power cut too, at ~1 ms.
        patience_s: how long a commit waits for the disk before the alert goes on without it.
        """
        where = None if str(path) == ":memory:" else Path(path)
        store = cls(where, incident_type, message_type, now_ms=now_ms, synchronous=synchronous, patience_s=patience_s)
        await asyncio.get_running_loop().run_in_executor(store._thread, store._open_and_load)
        return store

    # -------------------------------------------------------------- state

    @property
    def durable(self) -> bool:
        """All that was committed is on disk. May be so with a problem: the disk is full and the reserve was needed."""
        return self.path is not None and not (self._failing or self._dirty or self._writing)

    @property
    def path(self) -> Path | None:
        """None: in memory."""
        return self._path

    @property
    def incidents(self) -> Sequence[I]:
        """Open incidents as the file had them at the start."""
        return self._loaded[0]

    @property
    def messages(self) -> Sequence[M]:
        """Waiting messages as the file had them at the start, oldest id first."""
        return self._loaded[1]

    @property
    def silences(self) -> Sequence[Silence]:
        """Silences as the file had them at the start, ended ones included."""
        return self._silences

    def note(self, key: str) -> str | None:
        """What was put under this key, in this run or before."""
        return self._notes.get(key)

    def put_note(self, key: str, value: str) -> None:
        """Known at once; on disk with the next commit."""
        self._notes[key] = value
        self._stage(("meta", key), _Row(value.encode()), keep=True)

    def take_notices(self) -> list[str]:
        """What happened once and its owner should be told, in plain words; each is given once."""
        notices, self._notices = self._notices, []
        return notices

    # -------------------------------------------------------------- commit

    async def commit(
        self,
        incidents: Iterable[I] = (),
        messages: Iterable[M] = (),
        drop: Collection[str] = (),
        *,
        silences: Iterable[Silence] = (),
        drop_silences: Collection[str] = (),
    ) -> bool:
        """Puts incidents, messages and silences (by id) and deletes messages and silences, in one transaction. Returns `durable`.

        Also writes what an earlier commit could not: `commit()` with nothing is a retry.
        """
        for incident in incidents:
            row = _Row(self._encode(incident), incident.is_open)
            self._stage(("incidents", incident.id), row, keep=incident.is_open)
        for message in messages:
            self._stage(("outbox", message.id), _Row(self._encode(message)), keep=True)
        for message_id in drop:
            self._stage(("outbox", message_id), None, keep=False)
        for silence in silences:
            self._stage(("silences", silence.id), _Row(self._encode(silence)), keep=True)
        for silence_id in drop_silences:
            self._stage(("silences", silence_id), None, keep=False)
        await self._flush_in_time()
        return self.durable

    async def close(self) -> None:
        """Writes what is left, as far as the disk lets it, and closes the file."""
        await self.commit()
        if self._writing is None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def check(self) -> None:
        """Writes, though there is nothing to write: afterwards `problem` is what the disk says now. Waits as a commit does."""
        await self._flush_in_time(asks=True)

    async def _flush_in_time(self, *, asks: bool = False) -> None:
        hangs = self._failing and self._writing is not None  # we waited for it before: the next alert need not
        try:
            async with asyncio.timeout(0 if hangs else self._patience_s):
                await self._flush(asks=asks)
        except TimeoutError:
            self._fail(f"the disk has not answered for {self._patience_s:g} s")

    def _stage(self, place: Place, row: _Row | None, *, keep: bool) -> None:
        if keep and row is not None:
            self._alive[place] = row
        else:
            self._alive.pop(place, None)
        if self.path is not None:
            self._dirty[place] = row

    async def _flush(self, *, asks: bool = False) -> None:
        """Until all is written or the disk refuses. Who comes while a write runs shares the next one."""
        retry = asks or bool(self.problem)  # also with nothing to write: there may be room for the reserve again
        while (self._dirty or self._writing or retry) and self.path is not None:
            retry = False
            if self._writing is None:
                batch, self._dirty = self._dirty, {}
                self._writing = asyncio.get_running_loop().run_in_executor(self._thread, self._write, self.path, batch)
                self._writing.add_done_callback(partial(self._written, batch))
            running = self._writing
            await asyncio.wait([running])  # leaves it running when our caller gives up
            if running.exception() is not None:
                return

    def _written(self, batch: dict[Place, _Row | None], done: asyncio.Future[None]) -> None:
        self._writing = None
        problem = done.exception()
        if problem is None:
            self._failing = False
            self.problem = "" if self._reserve_kept else "the disk is full and the reserve of the store is used up"
            return
        # After a refusal the file may be another one (moved, restored): write everything again that must be in it.
        self._dirty = {**self._alive, **batch, **self._dirty}
        self._fail(_plain(problem))

    def _fail(self, problem: str) -> None:
        self._failing = True
        self.problem = problem

    # -------------------------------------------------------------- in the thread

    def _open_and_load(self) -> None:
        if self.path is None:
            return
        try:
            try:
                db = self._connect_or_replace(self.path)
            except (sqlite3.Error, OSError):
                if not self._release_reserve():  # a full disk has no room even for SQLite's own shared memory
                    raise
                db = self._connect_or_replace(self.path)
            self._loaded = self._load(db)
            self._keep_reserve()
        except (sqlite3.Error, OSError, StoreError) as problem:
            self._disconnect()
            self._fail(_plain(problem))
            self._load_read_only(self.path)

    def _load_read_only(self, path: Path) -> None:
        """What can be read must not be forgotten because it cannot be written."""
        for access in ("mode=ro", "immutable=1"):  # the second leaves out the write-ahead log, but needs no folder to write to
            try:
                with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{access}", uri=True)) as db:
                    self._loaded = self._load(db)
                return
            except sqlite3.Error:
                continue

    def _load(self, db: sqlite3.Connection) -> tuple[list[I], list[M]]:
        incidents: list[I] = []
        messages: list[M] = []
        silences: list[Silence] = []
        unreadable = 0
        for row_id, record in db.execute("SELECT id, record FROM incidents WHERE open = 1 ORDER BY id"):
            try:
                incidents.append(self._decode_incident(record))
                self._alive["incidents", row_id] = _Row(record)
            except msgspec.DecodeError:
                unreadable += 1
        for row_id, record in db.execute("SELECT id, record FROM outbox ORDER BY id"):
            try:
                messages.append(self._decode_message(record))
                self._alive["outbox", row_id] = _Row(record)
            except msgspec.DecodeError:
                unreadable += 1
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > 1:  # an older file that could only be read was not migrated
            for row_id, record in db.execute("SELECT id, record FROM silences ORDER BY id"):
                try:
                    silences.append(self._decode_silence(record))
                    self._alive["silences", row_id] = _Row(record)
                except msgspec.DecodeError:
                    unreadable += 1
        self._silences = silences
        for key, value in db.execute("SELECT key, CAST(value AS BLOB) FROM meta"):
            self._notes[key] = value.decode("utf-8", "replace")
            self._alive["meta", key] = _Row(value)
        if unreadable:
            self._notices.append(f"{unreadable} records of the store could not be read and were left in it")
        return incidents, messages

    def _write(self, path: Path, batch: dict[Place, _Row | None]) -> None:
        try:
            self._transact(path, batch)
        except sqlite3.Error as problem:
            self._disconnect()
            if _code(problem) != sqlite3.SQLITE_FULL or not self._release_reserve():
                raise
            try:
                self._transact(path, batch)
            except BaseException:
                self._disconnect()
                raise

    def _transact(self, path: Path, batch: dict[Place, _Row | None]) -> None:
        if self._db is not None and self._identity(path) != self._opened:  # SQLite would go on writing where nobody looks
            self._disconnect()
            raise StoreError(
                "the store's file was deleted or replaced while it was in use; it is made again with all that is open"
            )
        db = self._db or self._connect_or_replace(path)
        with db:  # commits, or rolls back and raises
            db.execute("BEGIN IMMEDIATE")
            for (table, row_id), row in batch.items():
                if row is None:
                    db.execute(DROP[table], (row_id,))
                else:
                    db.execute(PUT[table], (row_id, row.open, row.record))
            if not batch:  # a page all the same, or the disk would not be asked
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._writes += 1
            if self._writes % PRUNE_EVERY_WRITES == 1:
                db.execute(PRUNE, (CLOSED_KEPT_MAX,))
        self._keep_reserve()

    def _connect_or_replace(self, path: Path) -> sqlite3.Connection:
        """A corrupt file is moved aside, not deleted: somebody may want to look at it."""
        try:
            return self._connect(path)
        except sqlite3.DatabaseError as problem:
            if _code(problem) not in CORRUPT:
                raise
        self._disconnect()
        aside = Path(f"{path}.corrupt-{self._now_ms()}")
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            beside = Path(f"{path}{suffix}")
            if beside.exists():
                beside.replace(f"{aside}{suffix}")
        self._notices.append(f"the store was corrupt and was moved aside to {aside.name}: what only it knew is forgotten")
        return self._connect(path)

    def _connect(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # before SQLite makes it readable for all
        self._tighten(path)
        db = sqlite3.connect(path, timeout=LOCK_WAIT_MS / 1000, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:  # only a file that passed every check is ever written
            db.close()
            raise
        self._db, self._opened = db, self._identity(path)
        return db

    @staticmethod
    def _identity(path: Path) -> tuple[int, int] | None:
        """Which file it is; None: there is none."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _tighten(self, path: Path) -> None:
        """It holds account names and figures: nobody else's business. SQLite gives its side files the mode of the file."""
        for one in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            with suppress(OSError):  # of a read-only disk, or another's file: the store says itself what it cannot do
                mode = one.stat().st_mode & 0o777
                if mode & 0o077:
                    one.chmod(0o600)
                    self._notices.append(
                        f"{one.name} of the store could be read by other users (mode {mode:04o}); it is 0600 now"
                    )

    def _prepare(self, db: sqlite3.Connection) -> None:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:  # before anything is changed
            raise StoreError(f"the store was made by a newer version of this program (schema {version}, not {SCHEMA_VERSION})")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            corrupt = sqlite3.DatabaseError(verdict)
            corrupt.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise corrupt
        self._migrate(db, version)

    @staticmethod
    def _migrate(db: sqlite3.Connection, version: int) -> None:
        for step in range(version, SCHEMA_VERSION):
            with db:
                db.execute("BEGIN IMMEDIATE")
                for statement in MIGRATIONS[step]:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {step + 1}")

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # -------------------------------------------------------------- the reserve

    @property
    def _reserve(self) -> Path:
        return Path(f"{self.path}.reserve")

    def _keep_reserve(self) -> None:
        """Space that is ours when nobody else has any. Without it a full disk is found by the one write that matters."""
        self._reserve_kept = self._reserve.exists()
        if self._reserve_kept:
            return
        with suppress(OSError):
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                self._reserve_kept = os.write(fd, bytes(RESERVE_BYTES)) == RESERVE_BYTES
            finally:
                os.close(fd)
        if not self._reserve_kept:
            self._release_reserve()

    def _release_reserve(self) -> bool:
        try:
            self._reserve.unlink()
        except OSError:
            return False
        return True


def _code(problem: BaseException) -> int:
    """SQLite's primary result code; 0 where there is none."""
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF


def _plain(problem: BaseException) -> str:
    return str(problem) or type(problem).__name__
