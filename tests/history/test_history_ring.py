"""The ring of past figures: what is remembered, for how long, and that nothing about it can hurt."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sqlite_file import opened_file
from structlog.testing import capture_logs

from monitor.history.blocks import SAMPLES, merged, packed, unpacked
from monitor.history.file import KEPT_S, MINUTES, SECONDS
from monitor.history.ring import HistoryRing
from monitor.model.figures import PoolKey, PoolTable
from monitor.model.series import Series

START_S = 1_760_000_040  # a full minute
MAIN, OTHER = PoolKey("binance_usdm", "main", "USD"), PoolKey("htx_coin_futures", "main", "BTC")
HOUR, MONTH = 3600, 30 * 86_400
NAN = float("nan")


def table(figures: dict[PoolKey, tuple[float, float]]) -> PoolTable:
    """By pool: equity and requirement."""
    nothing = np.full(len(figures), np.nan)
    columns = np.array(list(figures.values()), np.float64).reshape(-1, 2)
    rest = ("margin_ratio", "health", "guarantee_asset_ratio", "available", "withdrawable", "reconcile_difference", "age_ms")
    return PoolTable(
        keys=list(figures),
        units=["USD"] * len(figures),
        equity=columns[:, 0],
        requirement=columns[:, 1],
        level=np.zeros(len(figures), np.int8),
        **dict.fromkeys(rest, nothing),
    )


class Watch:
    """A ring with a clock that a test sets."""

    def __init__(self, path: Path | None, **settings: Any) -> None:
        self.path, self.settings = path, settings
        self.now_s = START_S
        self.ring: HistoryRing

    async def __aenter__(self) -> Watch:
        self.ring = await HistoryRing.open(self.path, now_ms=lambda: self.now_s * 1000, **self.settings)
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.ring.close()

    async def see(self, seconds: int, of: Callable[[int], dict[PoolKey, tuple[float, float]]]) -> None:
        """So many seconds, one by one. of: the figures of a second."""
        for _ in range(seconds):
            self.ring.take(table(of(self.now_s)), self.now_s * 1000)
            self.now_s += 1
            await self.written()

    async def written(self) -> None:
        if self.ring._waiting:
            await asyncio.wait(self.ring._waiting, timeout=20)
            assert not self.ring._waiting

    async def read(self, key: PoolKey = MAIN, span_s: int = HOUR, points_max: int = 5000) -> Series:
        self.now_s -= 1
        series = await self.ring.read(key, span_s, points_max=points_max)
        self.now_s += 1
        assert series is not None
        return series


def steady(second: int) -> dict[PoolKey, tuple[float, float]]:
    return {MAIN: (10_000.0 + second % 1000, 4_000.0), OTHER: (0.5, 0.25)}


async def test_a_minute_without_any_pool_is_no_failure_of_the_disk() -> None:
    """No venue has answered yet: there is nothing to write, and nothing is wrong."""
    async with Watch(None) as watch:
        await watch.see(150, lambda _: {})
        assert watch.ring.problem == ""
        await watch.see(90, steady)
        assert (await watch.read()).equity[-1] == pytest.approx(10_000.0 + (watch.now_s - 1) % 1000, rel=2e-5)


async def test_each_second_of_an_hour_and_its_health() -> None:
    async with Watch(None) as watch:
        await watch.see(150, steady)
        series = await watch.read()
        assert (series.step_s, len(series.equity)) == (1, 3600)
        assert series.start_ms == (watch.now_s - 3600) * 1000
        assert np.isnan(series.equity[:-150]).all(), "before the start nothing is made up"
        expected = [10_000.0 + second % 1000 for second in range(watch.now_s - 150, watch.now_s)]
        assert series.equity[-150:] == pytest.approx(expected, rel=2e-5)
        assert series.health[-1] == pytest.approx(expected[-1] / 4_000, rel=4e-5)
        other = await watch.read(OTHER)
        assert other.health[-150:] == pytest.approx([2.0] * 150)
        assert await watch.ring.read(PoolKey("binance_usdm", "nobody", "USD"), HOUR) is None


@pytest.mark.parametrize(
    ("figures", "health", "why"),
    [
        ((NAN, 4_000.0), NAN, "an unknown equity"),
        ((10_000.0, NAN), NAN, "an unknown requirement"),
        ((10_000.0, 0.0), NAN, "nothing at risk has no health"),
        ((-50.0, 4_000.0), -0.0125, "a debt is worse than nothing, not unknown"),
    ],
)
async def test_what_is_no_health(figures: tuple[float, float], health: float, why: str) -> None:
    async with Watch(None) as watch:
        await watch.see(70, lambda second: {MAIN: figures if second % 10 == 5 else (8_000.0, 4_000.0)})
        for span_s, step_s in ((HOUR, 1), (2 * HOUR, 60)):
            series = await watch.read(span_s=span_s)
            assert series.step_s == step_s
            if step_s == 1:
                assert series.health[-70:][5::10] == pytest.approx([health] * 7, nan_ok=True), why
                assert series.health[-70:][6::10] == pytest.approx([2.0] * 7)
            else:
                worst = health if health == health and health < 2 else 2.0  # noqa: PLR0124  NaN
                assert series.health[-2:] == pytest.approx([worst] * 2), f"{why}; the worst that is known of each minute"


async def test_a_minute_keeps_its_worst_moment() -> None:
    """A dip of one second is what the chart of a month is looked at for."""
    async with Watch(None) as watch:
        await watch.see(180, lambda second: {MAIN: (4_400.0, 4_000.0) if second == START_S + 77 else (12_000.0, 4_000.0)})
        minutes = await watch.read(span_s=2 * HOUR)
        assert minutes.health[-3:] == pytest.approx([3.0, 1.1, 3.0], rel=4e-5)
        assert (minutes.equity[-2], minutes.requirement[-2]) == pytest.approx((4_400.0, 4_000.0), rel=2e-5), "both of one moment"
        month = await watch.read(span_s=MONTH, points_max=100)
        assert month.step_s == 60 * 432
        assert np.nanmin(month.health) == pytest.approx(1.1, rel=4e-5), "and so does each point of a longer chart"
        assert np.count_nonzero(~np.isnan(month.health)) == 1


async def test_a_gap_is_a_gap_and_a_late_tick_is_none() -> None:
    async with Watch(None) as watch:
        await watch.see(10, steady)
        watch.now_s += 1  # a tick that came a little late: its second is bridged
        await watch.see(10, steady)
        watch.now_s += 20  # nobody watched
        await watch.see(10, steady)
        series = await watch.read()
        known = ~np.isnan(series.equity[-51:])
        assert known.tolist() == [True] * 21 + [False] * 20 + [True] * 10


async def test_it_survives_a_restart_within_a_minute(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(90, lambda second: {MAIN: (6_000.0, 4_000.0)})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with Watch(path) as again:
        again.now_s = START_S + 100
        await again.see(100, lambda second: {OTHER: (1.0, 0.5), MAIN: (9_000.0, 4_000.0)})
        for _ in range(2):  # from memory and file, then, after the flush at the end of the minute, again
            series = await again.read()
            assert series.health[-200:] == pytest.approx([1.5] * 90 + [NAN] * 10 + [2.25] * 100, nan_ok=True)
            minutes = await again.read(span_s=2 * HOUR)
            assert minutes.health[-4:] == pytest.approx([1.5, 1.5, 2.25, 2.25], rel=4e-5), (
                "the worse of what both runs saw of a minute"
            )
        assert (await again.read(OTHER)).health[-100:] == pytest.approx([2.0] * 100), (
            "another place in memory, the same name on disk"
        )
    async with Watch(path) as last:
        last.now_s = START_S + 200
        assert (await last.read(OTHER)).health[-100:] == pytest.approx([2.0] * 100), "also of a pool that is no longer watched"


async def test_a_kill_costs_a_minute_at_most(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    watch = await Watch(path).__aenter__()
    await watch.see(150, steady)  # and then no close
    async with Watch(path) as again:
        again.now_s = watch.now_s
        series = await again.read()
        assert np.count_nonzero(~np.isnan(series.equity)) == 120
        assert np.count_nonzero(~np.isnan((await again.read(span_s=2 * HOUR)).equity)) == 2
    await watch.ring.close()


async def rows(path: Path) -> dict[int, list[int]]:
    """Blocks of the file by step."""
    with opened_file(path) as db:
        found = db.execute("SELECT DISTINCT step, block FROM blocks ORDER BY 1, 2").fetchall()
    return {step: [block for one, block in found if one == step] for step in (SECONDS, MINUTES)}


async def jump(watch: Watch, seconds: int, times: int) -> None:
    """A minute and a bit, then so many seconds ahead; so many times."""
    for _ in range(times):
        await watch.see(61, steady)
        watch.now_s += seconds


async def test_what_is_too_old_goes_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(70 * 60, lambda second: {MAIN: (1.0, 0.5)})
        watch.now_s += 1
        blocks = await rows(path)
        assert len(blocks[SECONDS]) in (60, 61), "an hour of seconds"
        assert blocks[MINUTES] == list(range(START_S // 3600, (watch.now_s - 1) // 3600 + 1)), "nothing of the hours goes yet"
        await jump(watch, 3600, 800)
        blocks = await rows(path)
        assert len(blocks[SECONDS]) <= 62
        assert KEPT_S[MINUTES] // (MINUTES * SAMPLES) - 2 <= len(blocks[MINUTES]) <= 722, "30 days of minutes"


async def test_a_wrong_clock_cannot_empty_the_ring(tmp_path: Path) -> None:
    """A start with a clock that is a year ahead, then one with the right clock."""
    path = tmp_path / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(50 * 60, steady)
    async with Watch(path) as ahead:
        ahead.now_s = START_S + 365 * 86_400
        await ahead.see(130, steady)
    async with Watch(path) as right:
        right.now_s = START_S + 51 * 60
        await right.see(300, steady)
        series = await right.read()
        assert np.count_nonzero(~np.isnan(series.equity)) > 45 * 60 - 300, "a few minutes are lost, not the hour"
        assert max((await rows(path))[SECONDS]) <= right.now_s // SAMPLES + 1, "and what the wrong clock saw is gone"


async def test_a_file_that_is_too_large_loses_its_oldest_days(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    rng = np.random.default_rng(7)
    keys = [PoolKey("v", f"a{i}", "USD") for i in range(40)]

    def noise(second: int) -> dict[PoolKey, tuple[float, float]]:
        return {key: (float(equity), 4_000.0) for key, equity in zip(keys, rng.uniform(5e3, 9e3, len(keys)), strict=True)}

    async with Watch(path, bytes_max=60_000) as watch:
        for _ in range(40):
            await watch.see(61, noise)
            watch.now_s += 3600
        blocks = await rows(path)
        assert path.stat().st_size < 250_000
        newest = watch.now_s // (MINUTES * SAMPLES)
        assert blocks[MINUTES], "something is kept"
        assert min(blocks[MINUTES]) > newest - 40, "the oldest went"
        assert max(blocks[MINUTES]) >= newest - 2, "the newest stay"


@pytest.mark.parametrize("damage", [b"not a database at all" * 300, None], ids=["no_database", "torn_page"])
async def test_a_corrupt_file_is_moved_aside(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(200, steady)
    good = path.read_bytes()
    path_bytes = damage if damage is not None else good[:4096] + b"\xa5" * (len(good) - 4096)
    path.write_bytes(path_bytes)
    with capture_logs() as logs:
        async with Watch(path) as again:
            again.now_s = START_S + 300
            await again.see(130, steady)
            await again.written()
            assert np.count_nonzero(~np.isnan((await again.read()).equity)) == 130
            assert again.ring.problem == ""
    assert "history_corrupt" in [entry["event"] for entry in logs]
    assert (await asyncio.to_thread(Path(f"{path}.corrupt").read_bytes))[:20] == path_bytes[:20], (
        "it is still there to be looked at"
    )
    async with Watch(path) as last:
        last.now_s = START_S + 430
        assert np.count_nonzero(~np.isnan((await last.read()).equity)) == 130, "the new file is a good one"


@pytest.mark.parametrize("rubbish", [b"rubbish", b"", b"x\x9c\x03\x00\x00\x00\x00\x01"], ids=["no_zlib", "nothing", "too_short"])
async def test_a_row_that_is_no_block_is_a_gap(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(150, steady)
    with opened_file(path) as db:
        db.execute("UPDATE blocks SET data = ? WHERE step = 1 AND block = ?", (rubbish, START_S // 60 + 1))
        db.execute("UPDATE blocks SET data = ? WHERE step = 60", (rubbish,))
    db.close()
    async with Watch(path) as again:
        again.now_s = START_S + 150
        await again.see(61, steady)
        assert again.ring.problem == ""
        assert np.count_nonzero(~np.isnan((await again.read()).equity)) == 60 + 30 + 61
        assert np.count_nonzero(~np.isnan((await again.read(span_s=2 * HOUR)).equity)) == 2


async def test_a_name_that_was_rolled_back_is_given_anew(tmp_path: Path) -> None:
    """Otherwise its figures would be nobody's, or another pool's, after a restart."""
    path = tmp_path / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(61, lambda second: {MAIN: (8_000.0, 4_000.0)})
        db = sqlite3.connect(path)
        db.execute("CREATE TRIGGER refuse BEFORE INSERT ON blocks WHEN new.pool > 1 BEGIN SELECT RAISE(ABORT, 'refused'); END")
        await watch.see(60, lambda second: {MAIN: (8_000.0, 4_000.0), OTHER: (0.75, 0.25)})
        assert watch.ring.problem == "refused"
        db.execute("DROP TRIGGER refuse")
        db.close()
        third = PoolKey("binance_usdm", "third", "USD")
        await watch.see(60, lambda second: {third: (5.0, 1.0), OTHER: (0.75, 0.25)})
        assert watch.ring.problem == ""
    async with Watch(path) as again:
        again.now_s = START_S + 181
        for key, health in ((MAIN, 2.0), (OTHER, 3.0), (third, 5.0)):
            told = (await again.read(key)).health
            assert set(told[~np.isnan(told)].tolist()) == {health}, key


async def test_a_disk_that_refuses_hurts_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a-file" / "history.sqlite3"
    (tmp_path / "a-file").write_text("no folder")
    with capture_logs() as logs:
        async with Watch(path) as watch:
            assert watch.ring.problem
            await watch.see(130, steady)
            assert np.count_nonzero(~np.isnan((await watch.read()).equity)) == 10, "the minute in memory is there"
            assert watch.ring.problem
            (tmp_path / "a-file").unlink()
            await watch.see(61, steady)
            assert watch.ring.problem == "", "it is tried again"
            assert np.count_nonzero(~np.isnan((await watch.read()).equity)) >= 61
    assert [entry["event"] for entry in logs].count("history_not_written") == 1, "told once"


@pytest.mark.parametrize("before", [True, False], ids=["a_file_is_there", "no_file_yet"])
async def test_the_last_of_the_disk_is_left_to_the_store(tmp_path: Path, before: bool) -> None:
    """A chart must never be the reason why an alert could not be kept."""
    path = tmp_path / "history.sqlite3"
    if before:
        async with Watch(path) as watch:
            await watch.see(61, steady)
    async with Watch(path, free_bytes_min=1 << 60) as watch:
        watch.now_s = START_S + 120
        await watch.see(130, steady)
        assert "are left to the store" in watch.ring.problem
        known = np.count_nonzero(~np.isnan((await watch.read()).equity))
        assert known == (61 if before else 0) + 10, "what was there is read, and the minute in memory"
    assert await asyncio.to_thread(path.exists) is before, "and none is begun"


async def test_a_disk_that_hangs_costs_blocks_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite3"
    async with Watch(path) as watch:
        await watch.see(61, steady)
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(5 * 60):
            watch.ring.take(table(steady(watch.now_s)), watch.now_s * 1000)
            watch.now_s += 1
        assert loop.time() - began < 1.0, "five minutes were taken while nothing could be written"
        assert len(watch.ring._waiting) <= 2
        lock.execute("ROLLBACK")
        lock.close()
        await watch.written()
        await watch.see(61, steady)
        assert watch.ring.problem == ""


async def test_many_pools_that_come_and_go() -> None:
    async with Watch(None) as watch:

        def of(second: int) -> dict[PoolKey, tuple[float, float]]:
            there = [i for i in range(30) if (second // 7 + i) % 3]
            return {PoolKey("v", f"a{i}", "USD"): (1_000.0 + i, 500.0) for i in reversed(there)}

        await watch.see(200, of)
        for i in (0, 11, 29):
            series = await watch.read(PoolKey("v", f"a{i}", "USD"))
            seen = [(second // 7 + i) % 3 != 0 for second in range(watch.now_s - 200, watch.now_s)]
            assert (~np.isnan(series.equity[-200:])).tolist() == seen
            assert np.nanmax(series.equity) == pytest.approx(1_000 + i, rel=2e-5), "never another pool's figures"


FLOATS = st.one_of(st.just(np.nan), st.floats(-1e9, 1e9, width=32, allow_subnormal=False))
BLOCKS = arrays.arrays(np.float32, (3, 2, SAMPLES), elements=FLOATS)


@given(BLOCKS)
def test_packing_keeps_five_digits_and_every_gap(block: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    out = unpacked(list(packed(block)))
    assert (np.isnan(out) == np.isnan(block)).all()
    np.testing.assert_allclose(out, block, rtol=2e-5, atol=0)


def known(pairs: Sequence[Sequence[float]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(pairs, np.float32).T


PAIRS = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(1, 1e6, width=32)), min_size=SAMPLES, max_size=SAMPLES)


@given(PAIRS, PAIRS, st.lists(st.booleans(), min_size=SAMPLES, max_size=SAMPLES))
def test_of_two_the_worse_is_kept_and_the_known_one(one: Any, other: Any, gaps: list[bool]) -> None:
    a, b = known(one), known(other)
    a[:, gaps] = np.nan
    out = merged(a, b)
    health = out[0].astype(np.float64) / out[1]
    worse = np.fmin(a[0].astype(np.float64) / a[1], b[0].astype(np.float64) / b[1])
    np.testing.assert_allclose(health, worse, rtol=1e-12)
    assert not np.isnan(out).any()


async def test_what_ten_thousand_pools_cost(tmp_path: Path, record_property: Any) -> None:
    path = tmp_path / "history.sqlite3"
    rng = np.random.default_rng(5)
    size = 10_000
    keys = [PoolKey("binance_usdm", f"desk-{i:05d}", "USD") for i in range(size)]
    figures = table(dict.fromkeys(keys, (50_000.0, 20_000.0)))
    loop = asyncio.get_running_loop()
    took_s = []
    async with Watch(path) as watch:
        for _ in range(2 * SAMPLES + 1):
            figures.equity[:] *= np.exp(rng.normal(0, 2e-4, size))
            figures.requirement[:] *= np.exp(rng.normal(0, 1e-4, size))
            began = loop.time()
            watch.ring.take(figures, watch.now_s * 1000)
            took_s.append(loop.time() - began)
            watch.now_s += 1
        began = loop.time()
        await watch.written()
        written_s = loop.time() - began
    with opened_file(path) as db:
        (block_bytes,) = db.execute("SELECT avg(length(data)) FROM blocks WHERE step = 1").fetchone()
    pool_bytes = block_bytes * (KEPT_S[SECONDS] / SAMPLES + KEPT_S[MINUTES] / MINUTES / SAMPLES)
    record_property("bytes_per_pool", round(pool_bytes))
    print(
        f"\n10,000 pools: median take {1000 * float(np.median(took_s)):.2f} ms, written in {written_s:.2f} s, "
        f"{block_bytes:.0f} bytes a block, {pool_bytes / 1000:.0f} kB a pool when full"
    )
    assert np.median(took_s) < 0.02
    assert pool_bytes < 150_000
