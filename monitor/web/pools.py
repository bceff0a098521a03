"""The pools as pages want them: a window of the worst, filtered, each with its position that is nearest to liquidation."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from monitor.model.alerts import Level, gravities
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.view import View
from monitor.web.status import PoolSnapshot, level_word

ROWS_DEFAULT, ROWS_MAX = 50, 200
WORDS_MAX = 8
SNAPSHOT_S = 0.05  # so long pages share one, unless `renew` says that there are new figures
MOVED_MAX = 20  # per tick, for a screen reader; the window shows what they became
NEAREST_S = 0.9  # so long a liquidation price serves all pages; it takes 0.4 ms to work out
NEAREST_PER_TURN = 5  # worked out between two turns of the event loop

_WORDS = [level.word for level in sorted(Level)]  # by level + 1
WORST_FIRST = sorted(Level, key=lambda level: (-level.gravity, level == Level.UNKNOWN))  # unknown stands just below critical


class Wanted(Struct, frozen=True):
    """Which pools a page shows: `rows` of them from place `start` on, among those that match all words."""

    start: int = 0
    rows: int = ROWS_DEFAULT
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Wanted:
        """From `from`, `rows` and `q`. Raises ValueError."""
        start, rows = int(query.get("from", "0")), int(query.get("rows", str(ROWS_DEFAULT)))
        if not (0 <= start <= 1_000_000 and 1 <= rows <= ROWS_MAX):
            raise ValueError(query)
        return cls(start, rows, tuple(query.get("q", "").lower().split()[:WORDS_MAX]))


class Window(Struct, frozen=True):
    """The places of the wanted pools in a snapshot, worst first, and what is around them."""

    places: list[int]
    found: int  # that match the words
    total: int
    levels: dict[str, int]  # how many pools are at each level, worst first

    def summary(self) -> dict[str, Any]:
        return {"total": self.total, "found": self.found, "levels": self.levels}


class Changes(Struct, frozen=True):
    """From one snapshot to the next: the places that differ, and `moved`: [pool, level before, level now], worst first."""

    places: set[int]
    moved: list[list[str]]


class PoolReader:
    """Shared by all pages, so that the tenth costs hardly more than the first."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._snapshot: PoolSnapshot | None = None
        self._taken_s = -math.inf
        self._texts: tuple[list[PoolKey], list[str]] = ([], [])
        self._nearest: dict[PoolKey, tuple[float, dict[str, Any] | None]] = {}
        self._windows: dict[Wanted, Window] = {}  # of the snapshot
        self._changes: dict[int, tuple[PoolSnapshot, Changes | None]] = {}  # to the snapshot, by the id of the one before

    def renew(self) -> None:
        """There are new figures."""
        self._taken_s = -math.inf

    def snapshot(self) -> PoolSnapshot:
        now_s = asyncio.get_running_loop().time()
        if self._snapshot is None or now_s - self._taken_s > SNAPSHOT_S:
            self._snapshot, self._taken_s = PoolSnapshot(self._view), now_s
            self._windows.clear()
            self._changes.clear()
        return self._snapshot

    def changes(self, snapshot: PoolSnapshot, before: PoolSnapshot) -> Changes | None:
        """snapshot: the last one; before: what the page was told. None: other pools, so that only the whole helps."""
        known = self._changes.get(id(before))
        if known is None:  # the snapshot is kept with it, so that no other gets its id
            known = self._changes[id(before)] = before, _changes(snapshot, before)
        return known[1]

    def window(self, snapshot: PoolSnapshot, wanted: Wanted) -> Window:
        """snapshot: the last one."""
        window = self._windows.get(wanted)
        if window is None:
            window = self._windows[wanted] = self._window(snapshot, wanted)
        return window

    def _window(self, snapshot: PoolSnapshot, wanted: Wanted) -> Window:
        level = snapshot.level
        matching = np.ones(len(level), np.bool_)
        for word in wanted.words:
            named = np.array([word in name for name in _WORDS])[level + 1]
            matching &= named | np.array([word in text for text in self._texts_of(snapshot.keys)], np.bool_)
        places = np.flatnonzero(matching)
        nearness = np.nan_to_num(snapshot.health[places], nan=np.inf)
        order = places[np.lexsort((nearness, level[places] == Level.UNKNOWN, -gravities(level[places])))]
        counts = np.bincount(level + 1, minlength=len(_WORDS))
        return Window(
            order[wanted.start : wanted.start + wanted.rows].tolist(),
            len(places),
            len(level),
            {one.word: int(counts[one + 1]) for one in WORST_FIRST if counts[one + 1]},
        )

    async def nearest(self, keys: Sequence[PoolKey]) -> list[dict[str, Any] | None]:
        """`nearest_liquidation` of each; the event loop turns in between."""
        now_s = asyncio.get_running_loop().time()
        if len(self._nearest) > 10 * ROWS_MAX:
            self._nearest.clear()
        out, worked_out = [], 0
        for key in keys:
            at_s, nearest = self._nearest.get(key, (-math.inf, None))
            if now_s - at_s > NEAREST_S:
                figures = self._view.pool(key)
                nearest = None if figures is None else nearest_liquidation(figures)
                self._nearest[key] = now_s, nearest
                worked_out += 1
                if worked_out % NEAREST_PER_TURN == 0:
                    await asyncio.sleep(0)
            out.append(nearest)
        return out

    async def rows(self, snapshot: PoolSnapshot, places: Sequence[int]) -> list[dict[str, Any]]:
        """Rows of the API with `nearest`."""
        nearest = await self.nearest([snapshot.keys[place] for place in places])
        return [{**row, "nearest": one} for row, one in zip(snapshot.rows(places), nearest, strict=True)]

    def _texts_of(self, keys: list[PoolKey]) -> list[str]:
        if self._texts[0] != keys:
            self._texts = keys, [pool_name(key).lower() for key in keys]
        return self._texts[1]


def _changes(now: PoolSnapshot, before: PoolSnapshot) -> Changes | None:
    places = now.changed_since(before)
    if places is None:
        return None
    moved = np.flatnonzero(before.level != now.level)
    worst = moved[np.argsort(-gravities(now.level[moved]), kind="stable")][:MOVED_MAX].tolist()
    return Changes(places, [[pool_name(now.keys[i]), level_word(before.level[i]), level_word(now.level[i])] for i in worst])


def pool_name(key: PoolKey) -> str:
    """`venue/account/pool`, as in queries and addresses."""
    return f"{key.venue}/{key.account}/{key.pool}"


def nearest_liquidation(figures: PoolFigures) -> dict[str, Any] | None:
    """The position whose price has the shortest way to liquidation. None: no price alone liquidates, or nothing is known."""
    if figures.level == Level.UNKNOWN:
        return None  # what is left of the figures is old
    found = [
        (round(abs(math.log(position.liquidation_price / position.price)), 9), i)  # the first of equals
        for i, position in enumerate(figures.positions)
        if position.price and position.liquidation_price and position.liquidation_price > 0
    ]
    if not found:
        return None
    position = figures.positions[min(found)[1]]
    assert position.price is not None
    assert position.liquidation_price is not None
    return {
        "symbol": position.symbol,
        "side": position.side,
        "price": position.price,
        "liquidation_price": position.liquidation_price,
        "distance": (position.liquidation_price - position.price) / position.price,  # a fraction of the price, signed
    }
