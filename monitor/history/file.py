"""The file of past figures: blocks by step, time and pool. All of it belongs to one thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import structlog
from msgspec import Struct

from monitor.history.blocks import SAMPLES, Block, merged, packed, unpacked
from monitor.model.figures import PoolKey

log = structlog.get_logger(__name__)

SECONDS, MINUTES = 1, 60  # the two steps, in s
KEPT_S = {SECONDS: 3600, MINUTES: 30 * 86_400}
DROPPED_PER_WRITE = 2  # old blocks deleted at a time: a clock that was wrong for a moment cannot empty the ring
FREE_BYTES_MIN = 64 << 20  # on its disk: what is left then belongs to the store, which alerts need
CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS pools (id INTEGER PRIMARY KEY, venue TEXT NOT NULL, account TEXT NOT NULL, pool TEXT NOT NULL)",
    # In the order of time, so that writing appends and what is too old is one stretch.
    "CREATE TABLE IF NOT EXISTS blocks (step INTEGER, block INTEGER, pool INTEGER, data BLOB NOT NULL,"
    " PRIMARY KEY (step, block, pool)) WITHOUT ROWID",
)
PUT = "INSERT OR REPLACE INTO blocks (step, block, pool, data) VALUES (?, ?, ?, ?)"
FIRST = "SELECT min(block) FROM blocks WHERE step = ?"
LAST = "SELECT max(block) FROM blocks WHERE step = ?"
GET = "SELECT data FROM blocks WHERE step = ? AND block = ? AND pool = ?"


class Filled(Struct, frozen=True):
    """A block on its way to the disk."""

    step_s: int
    block: int
    keys: Sequence[PoolKey]
    values: Block  # (len(keys), 2, SAMPLES)


class HistoryFile:
    """path: None keeps it in memory. bytes_max, free_bytes_min: as of `HistoryRing`. Raises sqlite3.Error and OSError."""

    def __init__(self, path: Path | None, bytes_max: int, free_bytes_min: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min
        self._db: sqlite3.Connection | None = None
        self._ids: dict[PoolKey, int] = {}

    def write(self, filled: Sequence[Filled]) -> None:
        """In one transaction, and a little of what is old goes; a corrupt file is moved aside first."""
        try:
            self._transact(filled)
        except Exception as problem:
            self.disconnect()  # ids that were given and rolled back are forgotten with it
            if not isinstance(problem, sqlite3.DatabaseError) or _code(problem) not in CORRUPT:
                raise
            self._transact(filled)  # into a new file

    def _transact(self, filled: Sequence[Filled]) -> None:
        db = self.connected()
        self._check_room()
        with db:  # commits, or rolls back and raises
            db.execute("BEGIN IMMEDIATE")
            for one in filled:
                self._name(db, one.keys)
                db.executemany(PUT, self._rows_of(db, one))
                self._drop_old(db, one.step_s, one.block)

    def _name(self, db: sqlite3.Connection, keys: Sequence[PoolKey]) -> None:
        """Gives ids to pools that the file does not know."""
        for key in keys:
            if key not in self._ids:
                named = db.execute(
                    "INSERT INTO pools (venue, account, pool) VALUES (?, ?, ?)", (key.venue, key.account, key.pool)
                )
                self._ids[key] = named.lastrowid or 0

    def _rows_of(self, db: sqlite3.Connection, filled: Filled) -> Iterator[tuple[int, int, int, bytes]]:
        """Only pools of which anything is known; with what an earlier run, or an earlier minute, left of the same block."""
        place = (filled.step_s, filled.block)
        told = np.flatnonzero(~np.isnan(filled.values[:, 0]).all(axis=1))
        ids = [self._ids[filled.keys[row]] for row in told.tolist()]
        values = filled.values[told]
        before = dict(db.execute("SELECT pool, data FROM blocks WHERE step = ? AND block = ?", place).fetchall())
        known = [i for i, pool in enumerate(ids) if pool in before]
        if known:
            values[known] = merged(unpacked([before[ids[i]] for i in known]), values[known])
        return ((*place, pool, data) for pool, data in zip(ids, packed(values), strict=True))

    def _drop_old(self, db: sqlite3.Connection, step_s: int, now: int) -> None:
        """A few blocks that are too old, or of a future that a wrong clock saw; and the oldest of a file that is too large."""
        oldest = now - KEPT_S[step_s] // (step_s * SAMPLES)
        for _ in range(DROPPED_PER_WRITE):
            first, last = (db.execute(edge, (step_s,)).fetchone()[0] for edge in (FIRST, LAST))
            if first is None:
                return
            if first >= oldest and last > now + 1:
                first = last
            elif first >= oldest and (step_s == SECONDS or first == now or _size(db) <= self._bytes_max):
                return
            db.execute("DELETE FROM blocks WHERE step = ? AND block = ?", (step_s, first))

    def stored(self, step_s: int, blocks: range, key: PoolKey) -> dict[int, Block] | None:
        """None: the file does not know the pool."""
        db = self.connected()
        pool = self._ids.get(key)
        if pool is None:
            return None
        found = ((block, db.execute(GET, (step_s, block, pool)).fetchone()) for block in blocks)
        rows = {block: row[0] for block, row in found if row is not None}
        return dict(zip(rows, unpacked(list(rows.values())), strict=True)) if rows else {}

    def connected(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._connect()
            except sqlite3.DatabaseError as problem:
                self.disconnect()
                if self._path is None or _code(problem) not in CORRUPT:
                    raise
                self._move_aside(self._path)
                self._connect()
        assert self._db is not None
        return self._db

    def _check_room(self) -> None:
        if self._path is None:
            return
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < self._free_bytes_min:
            raise OSError(f"less than {self._free_bytes_min >> 20} MB are free on its disk, which are left to the store")

    def _connect(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._path.exists():
                self._check_room()
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))  # before SQLite makes it readable for all
        db = self._db = sqlite3.connect(self._path or ":memory:", timeout=1.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        for statement in SCHEMA:
            db.execute(statement)
        # Pools of which nothing is left are forgotten.
        db.execute("DELETE FROM pools WHERE id NOT IN (SELECT DISTINCT pool FROM blocks)")
        names = db.execute("SELECT venue, account, pool, id FROM pools").fetchall()
        self._ids = {PoolKey(*name): pool for *name, pool in names}

    def _move_aside(self, path: Path) -> None:
        """Not deleted: somebody may want to look at it. Only the last one is kept."""
        path.replace(f"{path}.corrupt")
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        log.warning("history_corrupt", moved_to=f"{path.name}.corrupt", hint="charts begin anew")

    def disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


def _size(db: sqlite3.Connection) -> int:
    page, pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count"))
    size: int = page * (pages - free)
    return size


def _code(problem: sqlite3.Error) -> int:
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF
