"""A ring of past figures for the charts: each second of the last hour, each minute of the last 30 days, for every pool.

Amounts are float32 with 16 bits of precision (2e-5: a chart shows no more). Sixty samples of one pool are one row of SQLite,
so an hour of seconds takes about 10 kB a pool and 30 days of minutes about 120 kB. A file of its own, written once a minute by a
thread of its own: nothing waits for it, and what it cannot write is lost to the charts only.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from msgspec import Struct
from numpy.typing import NDArray

from monitor.model.figures import PoolKey, PoolTable
from monitor.model.series import Samples, Series

log = structlog.get_logger(__name__)

SAMPLES = 60  # in a block
SECONDS, MINUTES = 1, 60  # the two steps, in s
KEPT_S = {SECONDS: 3600, MINUTES: 30 * 86_400}
BRIDGED_S = 3  # a sample stands for the seconds since the one before if that is at most so long ago: ticks drift
WAITING_MAX = 2  # blocks that wait for a slow disk; more are dropped
CLOSE_S_MAX = 5.0  # so long the end of the program waits for the disk
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

Block = NDArray[np.float32]  # (pools, 2, SAMPLES): equity and requirement, NaN unknown


class _Ring:
    """The block that is being filled, of one step."""

    def __init__(self, step_s: int) -> None:
        self.step_s = step_s
        self.block = -1  # epoch s // step_s // SAMPLES
        self.values: Block = _empty(0)

    def place(self, second: int) -> int:
        return second // self.step_s % SAMPLES

    def grow(self, pools: int) -> None:
        if pools > len(self.values):
            self.values = np.concatenate([self.values, _empty(max(pools, 2 * len(self.values)) - len(self.values))])


class _Filled(Struct, frozen=True):
    """A block on its way to the disk."""

    step_s: int
    block: int
    keys: Sequence[PoolKey]
    values: Block  # (len(keys), 2, SAMPLES)


class HistoryRing:
    """`take` each second, `read` whenever; both from the event loop. Implements `model.series.History`.

    path: None keeps the ring in memory. bytes_max: of the file; beyond it the oldest minutes go first.
    free_bytes_min: on the disk; below it nothing is written.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        now_ms: Callable[[], int],
        bytes_max: int = 2000 << 20,
        free_bytes_min: int = FREE_BYTES_MIN,
    ) -> None:
        self.path = path
        self.problem = ""
        self._now_ms = now_ms
        self._bytes_max = bytes_max
        self._free_bytes_min = free_bytes_min
        self._places: dict[PoolKey, int] = {}  # row in the rings, of every pool seen in this run
        self._keys: list[PoolKey] = []  # of the last table
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)  # their places
        self._rings = (_Ring(SECONDS), _Ring(MINUTES))
        self._last_s = -1
        self._waiting: set[asyncio.Future[None]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        # Only the thread touches these:
        self._db: sqlite3.Connection | None = None
        self._ids: dict[PoolKey, int] = {}  # in the file

    @classmethod
    async def open(
        cls,
        path: Path | None,
        *,
        now_ms: Callable[[], int],
        bytes_max: int = 2000 << 20,
        free_bytes_min: int = FREE_BYTES_MIN,
    ) -> HistoryRing:
        """Does not raise on a bad disk or file: it goes on without, and `problem` says why."""
        ring = cls(path, now_ms=now_ms, bytes_max=bytes_max, free_bytes_min=free_bytes_min)
        await ring._in_thread(ring._connected)
        return ring

    # -------------------------------------------------------------- taking

    def take(self, table: PoolTable, now_ms: int) -> None:
        """The figures of this second. now_ms: never goes back within a run."""
        second = now_ms // 1000
        if second <= self._last_s:
            return
        if table.keys != self._keys:
            self._keys = list(table.keys)
            self._rows = np.array([self._places.setdefault(key, len(self._places)) for key in self._keys], np.intp)
        sample = np.stack([table.equity, table.requirement], axis=1).astype(np.float32)
        sample[np.isnan(sample).any(axis=1)] = np.nan
        first = self._last_s + 1 if second - self._last_s <= BRIDGED_S else second
        for at in range(first, second + 1):
            self._put(at, sample)
        self._last_s = second

    def _put(self, second: int, sample: Samples) -> None:
        seconds, minutes = self._rings
        if seconds.block not in (-1, second // SAMPLES):
            self._hand_over()
        for ring in self._rings:
            block = second // ring.step_s // SAMPLES
            if block != ring.block:
                ring.block, ring.values = block, _empty(len(self._places))
            ring.grow(len(self._places))
        seconds.values[self._rows, :, seconds.place(second)] = sample
        place = minutes.place(second)
        so_far = minutes.values[self._rows, :, place]
        minutes.values[self._rows, :, place] = _merged(so_far[..., None], sample[..., None])[..., 0]

    def _hand_over(self) -> None:
        """The minute that ended, and the hour so far, to the thread."""
        if len(self._waiting) >= WAITING_MAX:
            self._failed("the disk does not keep up")
            return
        keys = list(self._places)
        filled = [_Filled(ring.step_s, ring.block, keys, ring.values[: len(keys)].copy()) for ring in self._rings]
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._write, filled)
        self._waiting.add(future)
        future.add_done_callback(self._written)

    def _written(self, future: asyncio.Future[None]) -> None:
        self._waiting.discard(future)
        problem = future.exception()
        if problem is None:
            self.problem = ""
        else:
            self._failed(str(problem))

    def _failed(self, problem: str) -> None:
        if not self.problem:
            log.warning("history_not_written", problem=problem, hint="charts will have a gap; nothing else is touched")
        self.problem = problem

    async def close(self) -> None:
        """Writes what is left and closes the file, or leaves it if the disk does not answer in time."""
        if self._rings[0].block >= 0:
            self._hand_over()
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=CLOSE_S_MAX)
        if not self._waiting:
            await self._in_thread(self._disconnect)
        self._thread.shutdown(wait=False)

    # -------------------------------------------------------------- reading

    async def read(self, key: PoolKey, span_s: int, *, points_max: int = 1500) -> Series | None:
        step_s = SECONDS if span_s <= KEPT_S[SECONDS] else MINUTES
        together = -(-(span_s // step_s) // points_max)
        end = self._now_ms() // 1000 // step_s + 1  # this second, or minute, is the last
        end = -(-end // together) * together
        start = end - -(-(span_s // step_s) // together) * together
        blocks = range(start // SAMPLES, (end - 1) // SAMPLES + 1)
        place = self._places.get(key)
        fresh: dict[int, Block] = {}
        if place is not None:
            ring = self._rings[0 if step_s == SECONDS else 1]
            ring.grow(len(self._places))
            fresh = {ring.block: ring.values[place].copy()}
        stored = await self._in_thread(lambda: self._stored(step_s, blocks, key))
        if stored is None and place is None:
            return None
        stored = stored or {}
        for block in fresh.keys() & set(blocks):
            stored[block] = _merged(stored[block], fresh[block]) if block in stored else fresh[block]
        gap = _empty(1)[0]
        whole = np.concatenate([stored.get(block, gap) for block in blocks], axis=1)
        wanted = whole[:, start - blocks[0] * SAMPLES : end - blocks[0] * SAMPLES]
        equity, requirement = _worst_of_each(wanted.reshape(2, -1, together))
        return Series(start_ms=start * step_s * 1000, step_s=step_s * together, equity=equity, requirement=requirement)

    # -------------------------------------------------------------- in the thread

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as problem:
            self._failed(str(problem))
            return None

    def _write(self, filled: Sequence[_Filled]) -> None:
        try:
            self._transact(filled)
        except Exception as problem:
            self._disconnect()  # ids that were given and rolled back are forgotten with it
            if not isinstance(problem, sqlite3.DatabaseError) or _code(problem) not in CORRUPT:
                raise
            self._transact(filled)  # into a new file

    def _transact(self, filled: Sequence[_Filled]) -> None:
        db = self._connected()
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

    def _rows_of(self, db: sqlite3.Connection, filled: _Filled) -> Iterator[tuple[int, int, int, bytes]]:
        """Only pools of which anything is known; with what an earlier run, or an earlier minute, left of the same block."""
        place = (filled.step_s, filled.block)
        told = np.flatnonzero(~np.isnan(filled.values[:, 0]).all(axis=1))
        ids = [self._ids[filled.keys[row]] for row in told.tolist()]
        values = filled.values[told]
        before = dict(db.execute("SELECT pool, data FROM blocks WHERE step = ? AND block = ?", place).fetchall())
        known = [i for i, pool in enumerate(ids) if pool in before]
        if known:
            values[known] = _merged(_unpacked([before[ids[i]] for i in known]), values[known])
        return ((*place, pool, data) for pool, data in zip(ids, _packed(values), strict=True))

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

    def _stored(self, step_s: int, blocks: range, key: PoolKey) -> dict[int, Block] | None:
        """None: the file does not know the pool."""
        db = self._connected()
        pool = self._ids.get(key)
        if pool is None:
            return None
        found = ((block, db.execute(GET, (step_s, block, pool)).fetchone()) for block in blocks)
        rows = {block: row[0] for block, row in found if row is not None}
        return dict(zip(rows, _unpacked(list(rows.values())), strict=True)) if rows else {}

    def _connected(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._connect()
            except sqlite3.DatabaseError as problem:
                self._disconnect()
                if self.path is None or _code(problem) not in CORRUPT:
                    raise
                self._move_aside(self.path)
                self._connect()
        assert self._db is not None
        return self._db

    def _check_room(self) -> None:
        if self.path is None:
            return
        disk = os.statvfs(self.path.parent)
        if disk.f_bavail * disk.f_frsize < self._free_bytes_min:
            raise OSError(f"less than {self._free_bytes_min >> 20} MB are free on its disk, which are left to the store")

    def _connect(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                self._check_room()
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # before SQLite makes it readable for all
        db = self._db = sqlite3.connect(self.path or ":memory:", timeout=1.0, isolation_level=None, check_same_thread=False)
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

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()


# ------------------------------------------------------------------ samples


def _empty(pools: int) -> Block:
    return np.full((pools, 2, SAMPLES), np.nan, np.float32)


def _worse(one: Samples, other: Samples) -> NDArray[np.bool_]:
    """Where `one` is nearer to liquidation, or the other is unknown. (…, 2, n): equity and requirement; the answer is (…, 1, n).

    Multiplied out: with nothing required there is no health, and an equity below 0 is the worst.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    nearer = a[..., :1, :] * b[..., 1:, :] < b[..., :1, :] * a[..., 1:, :]
    return (nearer | np.isnan(b[..., :1, :])) & ~np.isnan(a[..., :1, :])


def _merged(old: Block, new: Block) -> Block:
    """Two parts of the same blocks, (…, 2, SAMPLES): the worse where both know."""
    return np.where(_worse(new, old), new, old)


def _worst_of_each(samples: Samples) -> Samples:
    """(2, n, k) → (2, n): of each k samples the one with the worst health; unknown only where all are."""
    worst = samples[:, :, 0]
    for i in range(1, samples.shape[2]):
        worst = _merged(worst, samples[:, :, i])
    return worst


def _packed(values: Block) -> Iterator[bytes]:
    """Rounded to 16 bits of precision; like bytes side by side, which halves what zlib makes of it."""
    bits = (values.astype("<f4").view(np.uint32) + np.uint32(0x80)) & np.uint32(0xFFFFFF00)
    planes = bits.reshape(len(values), -1, 1).view(np.uint8).transpose(0, 2, 1)
    return (zlib.compress(plane.tobytes(), 1) for plane in planes)


def _unpacked(rows: Sequence[bytes]) -> Block:
    whole = np.frombuffer(b"".join(_planes(row) for row in rows), np.uint8)
    samples = np.ascontiguousarray(whole.reshape(len(rows), 4, -1).transpose(0, 2, 1)).view("<f4")
    return samples.reshape(len(rows), 2, SAMPLES)


def _planes(row: bytes) -> bytes:
    """A row that is no block of ours is a gap, not the end of the chart."""
    try:
        planes = zlib.decompress(row)
    except zlib.error:
        planes = b""
    return planes if len(planes) == 2 * SAMPLES * 4 else zlib.decompress(next(_packed(_empty(1))))


def _size(db: sqlite3.Connection) -> int:
    page, pages, free = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count"))
    size: int = page * (pages - free)
    return size


def _code(problem: sqlite3.Error) -> int:
    return getattr(problem, "sqlite_errorcode", 0) & 0xFF
