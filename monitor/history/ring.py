"""A ring of past figures for the charts: each second of the last hour, each minute of the last 30 days, for every pool.

Amounts are float32 with 16 bits of precision (2e-5: a chart shows no more). Sixty samples of one pool are one row of SQLite,
so an hour of seconds takes about 10 kB a pool and 30 days of minutes about 120 kB. A file of its own, written once a minute by a
thread of its own: nothing waits for it, and what it cannot write is lost to the charts only.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from monitor.history.blocks import SAMPLES, Block, empty, merged, worst_of_each
from monitor.history.file import FREE_BYTES_MIN, KEPT_S, MINUTES, SECONDS, Filled, HistoryFile
from monitor.model.figures import PoolKey, PoolTable
from monitor.model.series import Samples, Series

log = structlog.get_logger(__name__)

BRIDGED_S = 3  # a sample stands for the seconds since the one before if that is at most so long ago: ticks drift
WAITING_MAX = 2  # blocks that wait for a slow disk; more are dropped
CLOSE_S_MAX = 5.0  # so long the end of the program waits for the disk


class _Ring:
    """The block that is being filled, of one step."""

    def __init__(self, step_s: int) -> None:
        self.step_s = step_s
        self.block = -1  # epoch s // step_s // SAMPLES
        self.values: Block = empty(0)

    def place(self, second: int) -> int:
        return second // self.step_s % SAMPLES

    def grow(self, pools: int) -> None:
        if pools > len(self.values):
            self.values = np.concatenate([self.values, empty(max(pools, 2 * len(self.values)) - len(self.values))])


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
        self._places: dict[PoolKey, int] = {}  # row in the rings, of every pool seen in this run
        self._keys: list[PoolKey] = []  # of the last table
        self._rows: NDArray[np.intp] = np.zeros(0, np.intp)  # their places
        self._rings = (_Ring(SECONDS), _Ring(MINUTES))
        self._last_s = -1
        self._waiting: set[asyncio.Future[None]] = set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._file = HistoryFile(path, bytes_max, free_bytes_min)  # only the thread touches it

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
        await ring._in_thread(ring._file.connected)
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
                ring.block, ring.values = block, empty(len(self._places))
            ring.grow(len(self._places))
        seconds.values[self._rows, :, seconds.place(second)] = sample
        place = minutes.place(second)
        so_far = minutes.values[self._rows, :, place]
        minutes.values[self._rows, :, place] = merged(so_far[..., None], sample[..., None])[..., 0]

    def _hand_over(self) -> None:
        """The minute that ended, and the hour so far, to the thread."""
        if not self._places:  # nobody has answered yet
            return
        if len(self._waiting) >= WAITING_MAX:
            self._failed("the disk does not keep up")
            return
        keys = list(self._places)
        filled = [Filled(ring.step_s, ring.block, keys, ring.values[: len(keys)].copy()) for ring in self._rings]
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._file.write, filled)
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
            await self._in_thread(self._file.disconnect)
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
        stored = await self._in_thread(lambda: self._file.stored(step_s, blocks, key))
        if stored is None and place is None:
            return None
        stored = stored or {}
        for block in fresh.keys() & set(blocks):
            stored[block] = merged(stored[block], fresh[block]) if block in stored else fresh[block]
        gap = empty(1)[0]
        whole = np.concatenate([stored.get(block, gap) for block in blocks], axis=1)
        wanted = whole[:, start - blocks[0] * SAMPLES : end - blocks[0] * SAMPLES]
        equity, requirement = worst_of_each(wanted.reshape(2, -1, together))
        return Series(start_ms=start * step_s * 1000, step_s=step_s * together, equity=equity, requirement=requirement)

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as problem:
            self._failed(str(problem))
            return None
