"""One venue's market as the engine sees it: prices and collateral rates with their ages, contracts, assets."""

from collections import deque
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from monitor.engine.columns import Columns, FloatColumn, IndexColumn, IntColumn
from monitor.model.events import AssetRate, AssetRates, Instruments, Prices
from monitor.model.instruments import AssetInfo, Instrument

NEVER = np.iinfo(np.int64).min // 2
AHEAD_MS = 60_000  # a time so far beyond the venue's clock is wrong: it does not make the rows after it old
_symbol, _price, _event_time_ms = attrgetter("symbol"), attrgetter("price"), attrgetter("event_time_ms")
FLAT = 0  # symbol row of a position that is flat: its price is 1 and never changes
UNIT = 0  # asset row of a pool that counts in its own asset: its rates are 1 and never change


class Symbols(Columns):
    """price: NaN until the first one. event_ms: the venue's clock; seen_ms: ours, when the event time last advanced."""

    new_row = {  # noqa: RUF012
        "price": (np.float64, np.nan),
        "mark": (np.float64, np.nan),  # where `price` is another one
        "mark_ms": (np.int64, NEVER),
        "event_ms": (np.int64, NEVER),
        "seen_ms": (np.int64, NEVER),
    }
    price: FloatColumn
    mark: FloatColumn
    mark_ms: IntColumn
    event_ms: IntColumn
    seen_ms: IntColumn


class Assets(Columns):
    """index, bid, ask: USD per unit, NaN until the first rate."""

    new_row = {  # noqa: RUF012
        "index": (np.float64, np.nan),
        "bid": (np.float64, np.nan),
        "ask": (np.float64, np.nan),
        "event_ms": (np.int64, NEVER),
        "seen_ms": (np.int64, NEVER),
    }
    index: FloatColumn
    bid: FloatColumn
    ask: FloatColumn
    event_ms: IntColumn
    seen_ms: IntColumn


class RateMemory(NamedTuple):
    """Collateral rates of an hour: samples of (taken_ms, index by position in `assets`; None or NaN: not known), oldest first."""

    assets: tuple[str, ...]
    samples: list[tuple[int, list[float | None]]]


class Market:
    """Folds market events of one venue. Only known symbols and assets take a row, so a hostile frame cannot grow it."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.instruments: dict[str, Instrument] = {}
        self.asset_infos: dict[str, AssetInfo] = {}
        self.symbols = Symbols()
        self.symbol_names: list[str] = []
        self.symbol_rows: dict[str, int] = {}
        self.assets = Assets()
        self.asset_names: list[str] = []
        self.asset_rows: dict[str, int] = {}
        self.last_rates: dict[str, AssetRate] = {}
        self.window = RateWindow(self.assets)
        self.clock_offset_ms = 0  # venue − ours
        self.dropped = {"unknown_symbol": 0, "unknown_asset": 0, "older_price": 0, "older_rate": 0}  # rows, by reason
        self._frame_names: list[str] = []
        self._frame_size = 0
        self._frame_rows: IndexColumn = np.zeros(0, np.intp)
        self.symbol_row("")  # FLAT
        self.symbols.price[FLAT] = 1.0
        self.asset_row("")  # UNIT
        self.assets.index[UNIT] = self.assets.bid[UNIT] = self.assets.ask[UNIT] = 1.0

    def symbol_row(self, symbol: str) -> int:
        row = self.symbol_rows.get(symbol)
        if row is None:
            row = self.symbol_rows[symbol] = self.symbols.add()
            self.symbol_names.append(symbol)
        return row

    def asset_row(self, asset: str) -> int:
        row = self.asset_rows.get(asset)
        if row is None:
            row = self.asset_rows[asset] = self.assets.add()
            self.asset_names.append(asset)
        return row

    def margin_asset(self, symbol: str) -> str:
        """ "" if the venue has not told."""
        instrument = self.instruments.get(symbol)
        return instrument.margin_asset if instrument else ""

    def set_instruments(self, event: Instruments) -> None:
        if event.complete:
            self.instruments.clear()
        for instrument in event.rows:
            self.instruments[instrument.symbol] = instrument
            self.symbol_row(instrument.symbol)
            self.asset_row(instrument.margin_asset)
        for info in event.assets:
            self.asset_infos[info.asset] = info
            self.asset_row(info.asset)

    def set_prices(self, event: Prices, now_ms: int) -> bool:
        """Upserts a frame; True if anything moved. A row older than what we have is dropped; equal time is idempotent.

        Only an advancing event time keeps a symbol fresh: a feed that repeats itself for ever is dead. A time of the future
        is overcome by any other: one wrong row must not end its symbol, nor a clock that stood still end them all.
        """
        rows = event.rows
        index = self._rows_of([*map(_symbol, rows)])
        price = np.fromiter(map(_price, rows), np.float64, len(rows))
        event_ms = np.fromiter(map(_event_time_ms, rows), np.int64, len(rows))
        symbols = self.symbols
        known, have_ms = index > FLAT, symbols.event_ms[index]
        older = (event_ms < have_ms) & (have_ms <= self._latest_ms(now_ms))
        good = known & ~older & (price > 0) & (price < np.inf)
        fresh = index[good & (event_ms != have_ms)]
        if not good.all():
            self.dropped["unknown_symbol"] += int((~known).sum())  # nobody has named it
            self.dropped["older_price"] += int((known & older).sum())
            index, price, event_ms = index[good], price[good], event_ms[good]
        symbols.price[index] = price
        symbols.event_ms[index] = event_ms
        symbols.seen_ms[fresh] = now_ms - event.late_ms
        return len(index) > 0

    def _latest_ms(self, now_ms: int) -> int:
        """The latest time that an event can truly have."""
        return now_ms + self.clock_offset_ms + AHEAD_MS

    def set_marks(self, event: Prices, now_ms: int) -> None:
        """Mark prices beside the prices that margin is computed with. A row older than what we have is dropped."""
        symbols, latest_ms = self.symbols, self._latest_ms(now_ms)
        for row in event.rows:
            symbol = self.symbol_rows.get(row.symbol, FLAT)
            older = row.event_time_ms < symbols.mark_ms[symbol] <= latest_ms
            if symbol != FLAT and 0 < row.price < np.inf and not older:
                symbols.mark[symbol], symbols.mark_ms[symbol] = row.price, row.event_time_ms

    def set_indexes(self, event: Prices, now_ms: int) -> None:
        """Index prices of coins, in USD: for amounts in USD, not for margin."""
        latest_ms = self._latest_ms(now_ms)
        for row in event.rows:
            known = self.last_rates.get(row.symbol)
            older = known is not None and row.event_time_ms < known.event_time_ms <= latest_ms
            if 0 < row.price < np.inf and not older:
                self.last_rates[row.symbol] = AssetRate(row.symbol, row.price, row.price, row.price, row.event_time_ms)

    def _rows_of(self, names: list[str]) -> IndexColumn:
        """Symbol rows of a frame, −1 for unknown ones. The venue sends the same symbols in the same order each second."""
        if names != self._frame_names or len(self.symbols) != self._frame_size:
            self._frame_names, self._frame_size = names, len(self.symbols)
            self._frame_rows = np.array([self.symbol_rows.get(name, -1) for name in names], np.intp)
        return self._frame_rows

    def set_rates(self, event: AssetRates, now_ms: int) -> list[tuple[str, AssetRate, AssetRate]]:
        """Upserts collateral rates. Returns (asset, before, after) where the haircut changed: the venue's table moved."""
        changed = []
        assets, latest_ms = self.assets, self._latest_ms(now_ms)
        for rate in event.rows:
            row = self.asset_rows.get(rate.asset)
            if row is None:
                self.dropped["unknown_asset"] += 1  # nobody has named it, and nobody holds it
                continue
            if rate.event_time_ms < assets.event_ms[row] <= latest_ms:
                self.dropped["older_rate"] += 1
                continue
            if not 0 < rate.bid <= rate.ask < np.inf:
                continue
            before = self.last_rates.get(rate.asset)
            if before is not None and _haircut_moved(before, rate):
                changed.append((rate.asset, before, rate))
            if rate.event_time_ms != assets.event_ms[row]:
                assets.seen_ms[row] = now_ms
            assets.event_ms[row] = rate.event_time_ms
            assets.index[row], assets.bid[row], assets.ask[row] = rate.index, rate.bid, rate.ask
            self.last_rates[rate.asset] = rate
        self.window.sample(now_ms)
        return changed

    def rate_memory(self) -> RateMemory:
        """Where the collateral rates were in the last hour."""
        return RateMemory(tuple(self.asset_names), self.window.samples())

    def recall_rates(self, memory: RateMemory, now_ms: int) -> None:
        """Goes on from what a run before this one remembered: else each restart would call a rate calm that has just moved."""
        rows = [self.asset_row(name) for name in memory.assets]
        samples = []
        for taken_ms, rates in memory.samples:
            sample = np.full(len(self.assets), np.nan)
            sample[rows[: len(rates)]] = [np.nan if rate is None else rate for rate in rates]
            samples.append((taken_ms, sample))
        self.window.resume(samples, now_ms)

    def newest_price_ms(self) -> int:
        return int(self.symbols.seen_ms.max())

    def newest_rate_ms(self) -> int:
        return int(self.assets.seen_ms.max())


class RateWindow:
    """Where the rates were: one sample a minute for an hour."""

    SAMPLE_MS = 60_000
    WINDOW_MS = 3_600_000

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        self._samples: deque[tuple[int, FloatColumn]] = deque()

    def sample(self, now_ms: int) -> None:
        if self._samples and now_ms - self._samples[-1][0] < self.SAMPLE_MS:
            taken_ms, sample = self._samples[-1]
            if len(sample) < len(self._assets) or np.isnan(sample).any():  # an asset that came later begins where it came in
                late = self._assets.index.copy()
                late[: len(sample)] = np.where(np.isnan(sample), late[: len(sample)], sample)
                self._samples[-1] = (taken_ms, late)
            return
        self._samples.append((now_ms, self._assets.index.copy()))
        while len(self._samples) > 1 and now_ms - self._samples[1][0] >= self.WINDOW_MS:
            self._samples.popleft()

    def samples(self) -> list[tuple[int, list[float | None]]]:
        """(taken_ms, index per asset row), oldest first: what a run after this one begins from."""
        return [(taken_ms, sample.tolist()) for taken_ms, sample in self._samples]

    def resume(self, samples: Sequence[tuple[int, FloatColumn]], now_ms: int) -> None:
        """Samples of a run before, oldest first, columns as the rows are now; those out of the window are left away."""
        self._samples.extend(one for one in samples if 0 <= now_ms - one[0] < self.WINDOW_MS)

    def move(self) -> FloatColumn:
        """index / index an hour ago (or at the start) − 1, per asset row; NaN where there is no reference."""
        now = self._assets.index
        then = np.full_like(now, np.nan)
        for _, sample in reversed(self._samples):  # an asset that is younger than the window: its oldest sample
            then[: len(sample)] = np.where(np.isnan(sample), then[: len(sample)], sample)
        return now / then - 1.0


def haircut_rounding(index: float, other: float) -> float:
    """The rates are printed with 8 places, so a haircut recomputed from a small price is only so exact."""
    return 1e-6 + 2e-8 / min(index, other)


def _haircut_moved(before: AssetRate, after: AssetRate) -> bool:
    return any(
        abs(getattr(after, side) / after.index - getattr(before, side) / before.index)
        > haircut_rounding(before.index, after.index)
        for side in ("bid", "ask")
    )
