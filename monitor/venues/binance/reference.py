"""Answers that are the same for all accounts (contracts, prices, rates), and brackets. Pure: answer in, event out."""

from msgspec import Struct

from monitor.model.events import AssetRate, AssetRates, Brackets, Instruments, Price, PriceKind, Prices
from monitor.model.instruments import AssetInfo, Bracket, BracketTable, Instrument
from monitor.model.streams import Counters, count
from monitor.venues.binance.answers import Answer, read, read_rows, refusal
from monitor.venues.binance.numbers import Amount, Leverage, Name, NotNegative, Ordinal, PriceNumber, TimeMs, WeightLimit
from monitor.venues.binance.wire import VENUE, asset_rate, bracket_table

_WEIGHT_LIMIT_MIN = 100  # a smaller one is no limit of this venue, and would all but end the snapshots


class _Symbol(Struct, rename="camel"):
    symbol: Name
    margin_asset: Name
    status: str = ""
    contract_type: str = ""
    delivery_date: TimeMs = 0


class _Asset(Struct, rename="camel"):
    asset: Name
    margin_available: bool = True
    auto_asset_exchange: Amount | None = None  # a text, a number or null


class _RateLimit(Struct, rename="camel"):
    rate_limit_type: str = ""
    interval: str = ""
    interval_num: int = 0
    limit: WeightLimit = 0


class _PremiumRow(Struct, rename="camel"):
    symbol: Name
    mark_price: PriceNumber
    time: TimeMs


class _IndexRow(Struct, rename="camel"):
    symbol: Name
    time: TimeMs
    index: PriceNumber
    bid_rate: NotNegative
    ask_rate: PriceNumber
    auto_exchange_bid_rate: NotNegative = 0.0
    auto_exchange_ask_rate: NotNegative = 0.0


class _Tier(Struct, rename="camel"):
    bracket: Ordinal
    initial_leverage: Leverage
    notional_cap: NotNegative
    notional_floor: NotNegative
    maint_margin_ratio: NotNegative
    cum: NotNegative


class _SymbolBrackets(Struct, rename="camel"):
    """`notionalCoef`, the user's own scale, is not read: the venue does not say whether the caps hold it already.

    Where they do not, reconciliation against the venue's own maintenance margin shows it.
    """

    symbol: Name
    brackets: list[_Tier]


class _ServerTime(Struct, rename="camel"):
    server_time: TimeMs


class _ListenKey(Struct, rename="camel"):
    listen_key: Name


def instruments(answer: Answer, counters: Counters) -> Instruments:
    """`exchangeInfo`. Not `complete` if a contract was refused: what cannot be read is not gone."""
    refused = Counters()
    rows = read_rows(answer, _Symbol, "exchangeInfo", path="symbols", on_refused=refusal(refused, "not_a_contract"))
    assets = read_rows(answer, _Asset, "exchangeInfo", path="assets", on_refused=refusal(counters, "not_an_asset"))
    lost = refused.refused.get("not_a_contract", 0)
    if lost:
        count(counters.refused, "not_a_contract", lost)
    return Instruments(
        VENUE,
        tuple(_instrument(row) for row in rows),
        tuple(AssetInfo(row.asset, row.margin_available, _threshold(row.auto_asset_exchange)) for row in assets),
        complete=bool(rows) and not lost,
    )


def _instrument(row: _Symbol) -> Instrument:
    perpetual = "PERPETUAL" in row.contract_type or not row.delivery_date  # a perpetual's date is in the year 2100
    return Instrument(
        row.symbol,
        row.margin_asset,
        row.status,
        delivery_time_ms=None if perpetual else row.delivery_date,
        contract_type=row.contract_type,
    )


def _threshold(value: float | None) -> float | None:
    """The documentation's samples show 0, which would mean "at once": taken as not said, like null."""
    return value if value is not None and value < 0 else None


def weight_limit(answer: Answer) -> int | None:
    """Request weight per minute that `exchangeInfo` names; None if it does not, or names none that can be."""
    for row in read_rows(answer, _RateLimit, "exchangeInfo", path="rateLimits", on_refused=lambda: None):
        if (row.rate_limit_type, row.interval, row.interval_num) == (
            "REQUEST_WEIGHT",
            "MINUTE",
            1,
        ) and row.limit >= _WEIGHT_LIMIT_MIN:
            return row.limit
    return None


def mark_prices(answer: Answer, counters: Counters) -> Prices:
    """`premiumIndex`. A price of 0, as settled contracts have, is no price."""
    rows = read_rows(answer, _PremiumRow, "premiumIndex", on_refused=refusal(counters, "not_a_price"))
    return Prices(VENUE, PriceKind.MARK, [Price(row.symbol, row.mark_price, row.time) for row in rows])


def asset_rates(answer: Answer, counters: Counters) -> AssetRates:
    """`assetIndex`."""
    refuse = refusal(counters, "not_a_rate")
    rates: list[AssetRate] = []
    for row in read_rows(answer, _IndexRow, "assetIndex", on_refused=refuse):
        rate = asset_rate(
            row.symbol,
            index=row.index,
            bid=row.bid_rate,
            ask=row.ask_rate,
            event_time_ms=row.time,
            exchange_bid=row.auto_exchange_bid_rate,
            exchange_ask=row.auto_exchange_ask_rate,
        )
        if rate is None:
            refuse()
        else:
            rates.append(rate)
    return AssetRates(VENUE, rates)


def bracket_tables(answer: Answer, counters: Counters) -> tuple[BracketTable, ...]:
    """`leverageBracket` of one account, array or single object."""
    refuse = refusal(counters, "not_brackets")
    tables: list[BracketTable] = []
    for row in read_rows(answer, _SymbolBrackets, "leverageBracket", on_refused=refuse):
        table = bracket_table(
            row.symbol,
            (
                Bracket(
                    tier.bracket, tier.notional_floor, tier.notional_cap, tier.maint_margin_ratio, tier.cum, tier.initial_leverage
                )
                for tier in row.brackets
            ),
        )
        if table is None:
            refuse()
        else:
            tables.append(table)
    return tuple(tables)


def brackets(answer: Answer, counters: Counters, *, account: str, event_time_ms: int) -> Brackets:
    """`leverageBracket` as an event; the answer holds no time of its own."""
    return Brackets(VENUE, account, bracket_tables(answer, counters), event_time_ms)


def server_time_ms(answer: Answer) -> int:
    return read(answer, _ServerTime, "time").server_time


def listen_key(answer: Answer) -> str:
    return read(answer, _ListenKey, "listenKey").listen_key
