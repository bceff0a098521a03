"""How long a scrape holds up the event loop: 1,000 pools of 10 positions, the engine's real one."""

from __future__ import annotations

import random
import statistics
import time

import pytest
from test_bench_mark_frame import loaded_engine, symbol_names
from web.view_in_memory import MemoryView

from monitor.engine.engine import Engine
from monitor.metrics import Metrics
from monitor.model.figures import PoolTable
from monitor.model.workings import AssetTable, PositionTable

ROUNDS = 9
HOLD_MS_MAX = 200.0  # of the loop at a stretch; measured: 40 ms


class EngineView(MemoryView):
    """The tables of an engine, and nothing else."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine
        self.rate_rows = engine.rates()

    def pools(self) -> PoolTable:
        return self._engine.table()

    def positions(self) -> PositionTable:
        return self._engine.positions()

    def assets(self) -> AssetTable:
        return self._engine.assets()


@pytest.mark.bench
@pytest.mark.parametrize("positions_max", [0, 100])
def test_scrape(positions_max: int) -> None:
    rng = random.Random(5)
    symbols = symbol_names(rng)
    engine = loaded_engine(1000, 10, symbols, [100.0] * len(symbols), rng)
    metrics = Metrics(EngineView(engine), version="1", positions_max=positions_max)
    metrics.text()  # label sets are made once
    wholes, stretches = [], []
    for _ in range(ROUNDS):
        began = last = time.perf_counter()
        longest, size = 0.0, 0
        for block in metrics.blocks():  # between two blocks the server lets the loop turn
            now = time.perf_counter()
            longest, last, size = max(longest, now - last), now, size + len(block)
        wholes.append(1000 * (last - began))
        stretches.append(1000 * longest)
    whole, stretch = statistics.median(wholes), statistics.median(stretches)
    print(f"\npositions_max {positions_max}: {whole:.0f} ms, at most {stretch:.0f} ms at a stretch, {size / 1e6:.1f} MB")
    assert stretch <= HOLD_MS_MAX
