"""The venue's calendar: deliveries on Fridays, settlement every day, both at 08:00 UTC. Times are epoch milliseconds."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
HOUR_MS = 3_600_000
_SETTLEMENT_HOUR = 8
_FRIDAY = 4
_FIRST_FRIDAY_MS = DAY_MS + _SETTLEMENT_HOUR * HOUR_MS  # 2 January 1970, 08:00

THIS_WEEK, NEXT_WEEK, QUARTER, NEXT_QUARTER = "this_week", "next_week", "quarter", "next_quarter"
PERIODS = (THIS_WEEK, NEXT_WEEK, QUARTER)
PERIODS_WITH_NEXT_QUARTER = (*PERIODS, NEXT_QUARTER)
ALIASES = {THIS_WEEK: "CW", NEXT_WEEK: "NW", QUARTER: "CQ", NEXT_QUARTER: "NQ"}


def settlement_after(time_ms: int) -> int:
    """The next 08:00 strictly after."""
    start = _SETTLEMENT_HOUR * HOUR_MS
    return (time_ms - start) // DAY_MS * DAY_MS + DAY_MS + start


def friday_after(time_ms: int) -> int:
    """The next Friday 08:00 strictly after."""
    return (time_ms - _FIRST_FRIDAY_MS) // WEEK_MS * WEEK_MS + WEEK_MS + _FIRST_FRIDAY_MS


def quarterly_after(time_ms: int) -> int:
    """The next last Friday of March, June, September or December, 08:00, strictly after."""
    moment = _utc(time_ms)
    year, month = moment.year, (moment.month + 2) // 3 * 3
    while True:
        delivery = _last_friday(year, month)
        if delivery > time_ms:
            return delivery
        year, month = (year, month + 3) if month < 12 else (year + 1, 3)


def is_quarterly(delivery_ms: int) -> bool:
    return quarterly_after(delivery_ms - 1) == delivery_ms


def listing(as_of_ms: int, periods: Sequence[str]) -> dict[str, int]:
    """Which deliveries are listed, by period.

    On the third-last Friday of a quarter the quarterly contract becomes the bi-weekly one, and the next one steps up.
    """
    this_week = friday_after(as_of_ms)
    next_week = this_week + WEEK_MS
    quarter = quarterly_after(next_week)
    deliveries = {
        THIS_WEEK: this_week,
        NEXT_WEEK: next_week,
        QUARTER: quarter,
        NEXT_QUARTER: quarterly_after(quarter),
    }
    return {period: deliveries[period] for period in periods}


def created_ms(delivery_ms: int, periods: Sequence[str]) -> int:
    """When a contract was first listed: two weeks ahead, a quarterly one when an earlier quarterly became bi-weekly."""
    if not is_quarterly(delivery_ms):
        return delivery_ms - 2 * WEEK_MS
    earlier = delivery_ms
    for _ in range(2 if NEXT_QUARTER in periods else 1):
        earlier = _quarterly_before(earlier)
    return earlier - 2 * WEEK_MS


def yyyymmdd(time_ms: int) -> str:
    return _utc(time_ms).strftime("%Y%m%d")


def contract_code(coin: str, delivery_ms: int) -> str:
    return coin + _utc(delivery_ms).strftime("%y%m%d")


def _quarterly_before(delivery_ms: int) -> int:
    earlier = quarterly_after(delivery_ms - 15 * WEEK_MS)
    return earlier if earlier < delivery_ms else quarterly_after(delivery_ms - 20 * WEEK_MS)


def _utc(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


def _last_friday(year: int, month: int) -> int:
    after = datetime(year + month // 12, month % 12 + 1, 1, _SETTLEMENT_HOUR, tzinfo=UTC)
    last = after - timedelta(days=1)
    friday = last - timedelta(days=(last.weekday() - _FRIDAY) % 7)
    return int(friday.timestamp() * 1000)
