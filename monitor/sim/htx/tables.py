"""Risk tables: adjustment factors by leverage and net position, and how much equity counts as margin at high leverage.

The real tables were never published whole. The steps at 125x, the ladder of BTC at 20x and single factors at 5x, 10x and 20x
are the venue's; the rest is filled in between them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from monitor.sim.numbers import Number, number

LADDER_FROM_LEVERAGE = 20


@dataclass(frozen=True)
class AdjustTier:
    """Holds for min_size ≤ net position ≤ max_size, in contracts; max_size None: no end."""

    number: int
    min_size: int
    max_size: int | None
    factor: Decimal


@dataclass(frozen=True)
class LadderRow:
    """For min_balance ≤ equity < max_balance (coin) the equity that may serve as margin rises from min_available to
    max_available; without an end it rises by 1 / leverage."""

    min_balance: Decimal
    max_balance: Decimal | None
    min_available: Decimal
    max_available: Decimal | None


AdjustTable = dict[int, tuple[AdjustTier, ...]]  # by leverage
LadderTable = dict[int, tuple[LadderRow, ...]]

_MAJOR_FACTORS: dict[int, tuple[str, ...]] = {
    1: ("0.008", "0.01", "0.012"),
    2: ("0.016", "0.02", "0.024"),
    3: ("0.024", "0.03", "0.036"),
    5: ("0.04", "0.05", "0.06"),
    10: ("0.08", "0.1", "0.12"),
    20: ("0.16", "0.2", "0.24"),
    30: ("0.24", "0.3", "0.36"),
    50: ("0.4", "0.5", "0.55"),
    75: ("0.5", "0.6", "0.65"),
    125: ("0.65", "0.8", "0.85"),
}
_MINOR_FACTORS: dict[int, tuple[str, ...]] = {
    1: ("0.02", "0.025", "0.03", "0.04"),
    2: ("0.04", "0.05", "0.06", "0.08"),
    3: ("0.06", "0.075", "0.09", "0.12"),
    5: ("0.1", "0.12", "0.15", "0.2"),
    10: ("0.2", "0.25", "0.3", "0.4"),
    20: ("0.4", "0.45", "0.5", "0.6"),
    30: ("0.45", "0.5", "0.55", "0.65"),
    50: ("0.5", "0.55", "0.6", "0.7"),
    75: ("0.6", "0.65", "0.7", "0.8"),
}

# The published ladder of BTC at 20x; the others are this one stretched.
_LADDER_BTC_20X = ((0, 20, 0, 20), (20, 80, 20, 50), (80, 380, 50, 110), (380, 980, 110, 170), (980, None, 170, None))


def adjust_tiers(rows: Iterable[tuple[int, Number]]) -> tuple[AdjustTier, ...]:
    """Tiers from (min_size, factor) rows in rising order. Raises ValueError if they do not start at 0 and rise."""
    given = [(int(size), number(factor)) for size, factor in rows]
    sizes = [size for size, _ in given]
    if not sizes or sizes[0] != 0 or sizes != sorted(set(sizes)):
        raise ValueError(f"tiers must start at 0 and rise: {sizes}")
    ends: list[int | None] = [size - 1 for size in sizes[1:]]
    return tuple(
        AdjustTier(index, size, end, factor) for index, ((size, factor), end) in enumerate(zip(given, [*ends, None], strict=True))
    )


def ladder_rows(rows: Iterable[Sequence[Number | None]]) -> tuple[LadderRow, ...]:
    """Rows from (min_balance, max_balance, min_available, max_available); None in the last one's ends."""
    table = []
    for low, high, low_available, high_available in rows:
        if low is None or low_available is None:
            raise ValueError("a ladder row without its lower ends")
        ends = [None if end is None else number(end) for end in (high, high_available)]
        table.append(LadderRow(number(low), ends[0], number(low_available), ends[1]))
    return tuple(table)


def adjust_table(coin: str) -> AdjustTable:
    sizes: tuple[int, ...]
    if coin in {"BTC", "ETH"}:
        sizes = (0, 2_000, 15_000) if coin == "BTC" else (0, 10_000, 60_000)
        factors = _MAJOR_FACTORS
    else:
        sizes, factors = (0, 5_000, 20_000, 80_000), _MINOR_FACTORS
    return {lever: adjust_tiers(zip(sizes, row, strict=True)) for lever, row in factors.items()}


def ladder_table(coin: str, unit: Decimal) -> LadderTable:
    """`unit`: how many of the coin stand where BTC has one."""
    levers = [lever for lever in adjust_table(coin) if lever >= LADDER_FROM_LEVERAGE]
    table = {}
    for lever in levers:
        scale = unit * LADDER_FROM_LEVERAGE / lever  # the higher the leverage, the earlier the steps
        rows = [[None if end is None else (end * scale).quantize(Decimal("0.01")) for end in row] for row in _LADDER_BTC_20X]
        table[lever] = ladder_rows(rows)
    return table
