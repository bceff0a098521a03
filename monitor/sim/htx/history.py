"""What the market remembers: candles of a price, and the averages of the last hour that settlement and delivery use."""

from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from monitor.sim.htx.dates import HOUR_MS
from monitor.sim.htx.text import ZERO, exact

MINUTE_MS = 60_000
CANDLES_MAX = 2000
PERIODS_S = {
    "1min": 60,
    "5min": 300,
    "15min": 900,
    "30min": 1800,
    "60min": 3600,
    "4hour": 14_400,
    "1day": 86_400,
    "1week": 604_800,
    "1mon": 2_592_000,
}


@dataclass
class Candle:
    start_s: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


class Candles:
    """One-minute candles of one price; longer ones are put together when asked for."""

    def __init__(self) -> None:
        self._minutes: deque[Candle] = deque(maxlen=CANDLES_MAX)

    def record(self, now_ms: int, price: Decimal) -> bool:
        """Returns whether there is something new to tell: another price, or another minute."""
        start_s = now_ms // MINUTE_MS * 60
        if not self._minutes or self._minutes[-1].start_s != start_s:
            self._minutes.append(Candle(start_s, price, price, price, price))
            return True
        candle = self._minutes[-1]
        changed = candle.close != price
        candle.high, candle.low, candle.close = max(candle.high, price), min(candle.low, price), price
        return changed

    def of_period(self, period: str, size: int) -> list[Candle]:
        """The last `size` candles, oldest first. Raises KeyError for an unknown period."""
        length_s = PERIODS_S[period]
        merged: dict[int, Candle] = {}
        for minute in self._minutes:
            start_s = minute.start_s // length_s * length_s
            known = merged.get(start_s)
            if known is None:
                merged[start_s] = Candle(start_s, minute.open, minute.high, minute.low, minute.close)
            else:
                known.high, known.low, known.close = max(known.high, minute.high), min(known.low, minute.low), minute.close
        return list(merged.values())[-size:]


class HourlyMean:
    """Sums of the last hour, minute by minute: Σ weight and Σ weight × value."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, Decimal, Decimal]] = deque(maxlen=61)

    def record(self, now_ms: int, value: Decimal, weight: Decimal) -> None:
        minute = now_ms // MINUTE_MS
        if self._minutes and self._minutes[-1][0] == minute:
            _, weights, values = self._minutes.pop()
            self._minutes.append((minute, weights + weight, values + weight * value))
        else:
            self._minutes.append((minute, weight, weight * value))

    @exact
    def mean(self, now_ms: int) -> Decimal | None:
        """None if nothing was recorded in the last hour."""
        first = (now_ms - HOUR_MS) // MINUTE_MS
        recent = [row for row in self._minutes if row[0] >= first]
        weights = sum((row[1] for row in recent), ZERO)
        return sum((row[2] for row in recent), ZERO) / weights if weights else None
