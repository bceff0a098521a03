"""Answers that are the same for all accounts: contracts, tables, terms, prices. Pure: answer in, event out."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import inf
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct, field

from monitor.model.events import GuaranteeTables, Instruments, Price, PriceKind, Prices
from monitor.model.instruments import CoinTerms, FactorTable, FactorTier, Instrument, LadderTable, LadderTier
from monitor.model.streams import Counters, count
from monitor.venues.base import Fault, VenueError
from monitor.venues.htx.numbers import (
    ABSENT,
    UNREADABLE,
    Answer,
    Leverage,
    Name,
    NotNegative,
    Ordinal,
    PriceNumber,
    TimeMs,
    read,
    time_or_none,
)
from monitor.venues.htx.rows import VENUE
from monitor.venues.htx.wire import Kline, Trade, kline_time_ms, latest_trade

T = TypeVar("T")

# `contract_status`, the venue's numbers
DELISTED, LISTED, PENDING, DELIVERED = "0", "1", "2", "8"
SETTLING = frozenset({"5", "6", "7"})  # in settlement, delivering, settlement completed
WITHOUT_TRADES = frozenset({DELISTED, PENDING, DELIVERED})

_DELIVERY_HOUR_UTC = 8


# ------------------------------------------------------------------ shapes


class _Rows(Struct):
    data: list[Raw]
    ts: TimeMs = 0


class _Contract(Struct):
    symbol: Name
    contract_code: Name
    contract_size: PriceNumber
    contract_status: int
    contract_type: str = ""
    delivery_time: Raw = ABSENT
    delivery_date: Raw = ABSENT


class _FactorTier(Struct):
    ladder: Ordinal
    min_size: NotNegative
    adjust_factor: PriceNumber
    max_size: NotNegative | None = None


class _Factors(Struct):
    lever_rate: Leverage
    ladders: list[_FactorTier]


class _CoinFactors(Struct, rename={"tables": "list"}):
    symbol: Name
    tables: list[_Factors]


class _LadderTier(Struct):
    min_margin_balance: NotNegative
    min_margin_available: NotNegative
    max_margin_balance: NotNegative | None = None
    max_margin_available: NotNegative | None = None


class _Ladders(Struct):
    lever_rate: Leverage
    ladders: list[_LadderTier]


class _CoinLadders(Struct, rename={"tables": "list"}):
    symbol: Name
    tables: list[_Ladders]


class _Elements(Struct):
    contract_code: Name  # a coin
    real_time_settlement: int | None = None
    transfer_profit_ratio: NotNegative | None = None


class _Index(Struct):
    symbol: Name
    index_price: PriceNumber
    index_ts: TimeMs


class _TradeTick(Struct):
    data: list[Trade]


class _TradeAnswer(Struct):
    tick: _TradeTick
    ts: TimeMs


class _KlineAnswer(Struct):
    ts: TimeMs
    data: list[Kline] = field(default_factory=list)


class _Timestamp(Struct):
    ts: TimeMs


_decode_rows = msgspec.json.Decoder(list[Raw]).decode


def _good(rows: Iterable[Raw], shape: type[T], counters: Counters, reason: str) -> list[T]:
    """A row that is not as documented costs only itself."""
    found: list[T] = []
    for raw in rows:
        try:
            found.append(msgspec.json.decode(raw, type=shape, strict=False))
        except UNREADABLE:
            count(counters.refused, reason)
    return found


# ------------------------------------------------------------------ contracts


def instruments(answer: Answer, counters: Counters) -> Instruments:
    """`contract_contract_info` of all coins. Not `complete` if a row was refused: what cannot be read is not gone."""
    raws = read(answer, _Rows, "contract_contract_info").data
    rows = tuple(_instruments(raws, counters))
    return Instruments(VENUE, rows, complete=bool(rows) and len(rows) == len(raws))


def contract_rows(data: Raw, counters: Counters) -> list[Instrument]:
    """The rows of a `contract_info` push. Raises what a decoder raises."""
    return _instruments(_decode_rows(data), counters)


def _instruments(rows: Iterable[Raw], counters: Counters) -> list[Instrument]:
    return [
        Instrument(
            row.contract_code.upper(),
            row.symbol.upper(),
            str(row.contract_status),
            delivery_time_ms=_delivery_ms(row),
            face=row.contract_size,
            contract_type=row.contract_type,
        )
        for row in _good(rows, _Contract, counters, "not_a_contract")
    ]


def _delivery_ms(row: _Contract) -> int | None:
    """`delivery_time`; else 08:00 UTC of `delivery_date`, when deliveries are."""
    if told := time_or_none(row.delivery_time):
        return told
    try:
        day = datetime.strptime(bytes(row.delivery_date).decode().strip('"'), "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return round(day.replace(hour=_DELIVERY_HOUR_UTC).timestamp() * 1000)


def is_settling(rows: Iterable[Instrument]) -> bool:
    """Of one coin's contracts. A delivered one may stay in the list: it speaks only while no other can be traded."""
    statuses = {row.status for row in rows}
    return bool(statuses & SETTLING) or (DELIVERED in statuses and LISTED not in statuses)


# ------------------------------------------------------------------ tables; a coin with one bad tier keeps what was known of it


def adjust_factors(answer: Answer, counters: Counters) -> GuaranteeTables:
    """`contract_adjustfactor`."""
    whole = read(answer, _Rows, "contract_adjustfactor")
    tables: list[FactorTable] = []
    for row in _good(whole.data, _CoinFactors, counters, "not_a_factor"):
        own = [FactorTable(row.symbol.upper(), table.lever_rate, _factor_tiers(table)) for table in row.tables]
        if all(_ascends([(tier.net_min, tier.net_max) for tier in table.tiers]) for table in own):
            tables += own
        else:
            count(counters.refused, "not_a_factor")
    return GuaranteeTables(VENUE, whole.ts, factors=tuple(tables))


def _factor_tiers(table: _Factors) -> tuple[FactorTier, ...]:
    tiers = [FactorTier(t.ladder, t.min_size, inf if t.max_size is None else t.max_size, t.adjust_factor) for t in table.ladders]
    return tuple(sorted(tiers, key=lambda tier: tier.net_min))


def ladder_margins(answer: Answer, counters: Counters) -> GuaranteeTables:
    """`contract_ladder_margin`."""
    whole = read(answer, _Rows, "contract_ladder_margin")
    tables: list[LadderTable] = []
    for row in _good(whole.data, _CoinLadders, counters, "not_a_ladder"):
        own = [LadderTable(row.symbol.upper(), table.lever_rate, _ladder_tiers(table)) for table in row.tables]
        if all(_ascends([(tier.equity_min, tier.equity_max) for tier in table.tiers]) for table in own):
            tables += own
        else:
            count(counters.refused, "not_a_ladder")
    return GuaranteeTables(VENUE, whole.ts, ladders=tuple(tables))


def _ladder_tiers(table: _Ladders) -> tuple[LadderTier, ...]:
    tiers = [
        LadderTier(
            t.min_margin_balance,
            inf if t.max_margin_balance is None else t.max_margin_balance,
            t.min_margin_available,
            inf if t.max_margin_available is None else t.max_margin_available,
        )
        for t in table.ladders
    ]
    return tuple(sorted(tiers, key=lambda tier: tier.equity_min))


def _ascends(ends: Sequence[tuple[float, float]]) -> bool:
    """Tiers that begin at 0, each with its end not below its begin and the next one not before that end."""
    if not ends or ends[0][0] != 0 or any(high < low for low, high in ends):
        return False
    return all(high <= low for (_, high), (low, _) in pairwise(ends))


def coin_terms(answer: Answer, counters: Counters) -> GuaranteeTables:
    """`contract_query_elements`. A ratio that is not told is 0: no profit may leave, which is the cautious reading."""
    whole = read(answer, _Rows, "contract_query_elements")
    rows = _good(whole.data, _Elements, counters, "not_a_term")
    return GuaranteeTables(
        VENUE,
        whole.ts,
        terms=tuple(
            CoinTerms(row.contract_code.upper(), row.real_time_settlement == 1, row.transfer_profit_ratio or 0.0) for row in rows
        ),
    )


# ------------------------------------------------------------------ prices


class LastTrade(Struct, frozen=True):
    price: float
    trade_ms: int
    answer_ms: int


def last_trade(answer: Answer) -> LastTrade:
    """`market/trade` of one contract; the symbol in it is an alias, and not read."""
    whole = read(answer, _TradeAnswer, "market/trade")
    latest = latest_trade(whole.tick.data)
    if latest is None:
        raise VenueError(Fault.BAD_ANSWER, "market/trade: no trade in it", retryable=True)
    return LastTrade(latest.price, latest.ts, whole.ts)


def mark_price(answer: Answer, contract_code: str) -> Price:
    """`mark_price_kline` of one contract with period 1min: the close of the last one."""
    whole = read(answer, _KlineAnswer, "mark_price_kline")
    last = max(whole.data, key=lambda kline: kline.id, default=None)
    if last is None:
        raise VenueError(Fault.BAD_ANSWER, "mark_price_kline: no kline in it", retryable=True)
    return Price(contract_code, last.close, kline_time_ms(whole.ts, last.id))


def index_prices(answer: Answer, counters: Counters) -> Prices:
    """`contract_index`; the symbol of an index is its coin."""
    rows = _good(read(answer, _Rows, "contract_index").data, _Index, counters, "not_a_price")
    return Prices(VENUE, PriceKind.INDEX, [Price(row.symbol.upper(), row.index_price, row.index_ts) for row in rows])


def server_time_ms(answer: Answer) -> int:
    return read(answer, _Timestamp, "timestamp").ts
