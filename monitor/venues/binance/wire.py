"""Market frames: bytes in, events out. No socket, no clock; whatever comes in, nothing is raised."""

from collections.abc import Iterable
from itertools import pairwise
from math import isclose
from operator import attrgetter

import msgspec
from msgspec import Struct

from monitor.model.events import AssetRate, AssetRates, Brackets, Event, Price, PriceKind, Prices
from monitor.model.instruments import Bracket, BracketTable
from monitor.model.streams import Counters, count
from monitor.venues.binance.numbers import UNREADABLE, Leverage, Name, NotNegative, Ordinal, PriceNumber, TimeMs, amount_or_none

VENUE = "binance_usdm"
COIN_M = 2  # `st` of the other contract family, which may share the market-wide streams


class MarketFrame(Struct):
    """What one frame says. `contracts_changed`: contracts or brackets should be read again."""

    events: list[Event]
    contracts_changed: bool = False


# ------------------------------------------------------------------ shapes: only the fields that are used


class _MarkRow(Price, gc=False, rename={"symbol": "s", "price": "p", "event_time_ms": "E"}):
    """A row is the price itself: nothing is built twice for the 550 rows of each second."""

    symbol: Name
    price: PriceNumber
    event_time_ms: TimeMs
    st: int = 1


class _MarkCombined(Struct):
    data: list[_MarkRow]


class _Kind(Struct):
    e: str = ""
    st: msgspec.Raw = msgspec.Raw()


class _Envelope(Struct):
    """Any object: a combined frame (`data`), a bare event (`e`), an answer to a request (`result`) or an error."""

    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    code: msgspec.Raw = msgspec.Raw()


class _IndexRow(Struct):
    E: TimeMs
    s: Name
    i: PriceNumber
    B: NotNegative  # a haircut of 100 % makes it 0
    A: PriceNumber
    Q: NotNegative = 0.0
    G: NotNegative = 0.0


class _Tier(Struct):
    bs: Ordinal
    bnf: NotNegative
    bnc: NotNegative
    mmr: NotNegative
    cf: NotNegative
    ma: Leverage


class _ContractInfo(Struct):
    s: Name
    E: TimeMs
    bks: list[_Tier] | None = None


_decode_mark = msgspec.json.Decoder(list[_MarkRow], strict=False).decode
_decode_mark_combined = msgspec.json.Decoder(_MarkCombined, strict=False).decode
_decode_mark_row = msgspec.json.Decoder(_MarkRow, strict=False).decode
_decode_index_row = msgspec.json.Decoder(_IndexRow, strict=False).decode
_decode_contract = msgspec.json.Decoder(_ContractInfo, strict=False).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_rows = msgspec.json.Decoder(list[msgspec.Raw]).decode
_family = attrgetter("st")


def newest_ms(rows: Iterable[Price] | Iterable[AssetRate]) -> int:
    """The latest event time of a frame; 0 without rows."""
    return max([row.event_time_ms for row in rows], default=0)


class MarketWire:
    """The market streams of the venue, bare or combined. Refused rows cost only themselves and are counted."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def receive(self, frame: bytes) -> MarketFrame:
        rows = _fast_mark_rows(frame)
        if rows is None:
            return self._receive_any(frame)
        prices: list[Price] = [row for row in rows if row.st != COIN_M] if COIN_M in map(_family, rows) else [*rows]
        count(self._counters.frames, "mark_price")
        return MarketFrame([Prices(VENUE, PriceKind.MARK, prices)] if prices else [])

    def _receive_any(self, frame: bytes) -> MarketFrame:
        """Row by row: any event, and mark prices of which some row is bad."""
        try:
            rows = self._rows(frame)
        except UNREADABLE:
            count(self._counters.refused, "not_json")
            return MarketFrame([])
        prices: list[Price] = []
        rates: list[AssetRate] = []
        brackets: list[Event] = []
        contracts_changed = False
        seen: set[str] = set()
        for raw in rows:
            kind, other_family = self._kind(raw)
            seen.add(kind)
            if other_family:  # before anything else: its notices and its rows are of no account that is watched here
                continue
            if kind == "markPriceUpdate":
                prices += self._mark(raw)
            elif kind == "assetIndexUpdate":
                rates += self._index(raw)
            elif kind == "contractInfo":
                contracts_changed = True
                brackets += self._contract(raw)
            elif kind:
                count(self._counters.refused, "unknown_event")
        for kind, stream in _STREAMS.items():
            if kind in seen:
                count(self._counters.frames, stream)
        events: list[Event] = [Prices(VENUE, PriceKind.MARK, prices)] if prices else []
        if rates:
            events.append(AssetRates(VENUE, rates))
        return MarketFrame(events + brackets, contracts_changed)

    def _rows(self, frame: bytes | msgspec.Raw) -> list[msgspec.Raw]:
        """The events of a frame, undecoded."""
        if bytes(frame).lstrip()[:1] == b"[":
            return _decode_rows(frame)
        envelope = _decode_envelope(frame)
        if data := bytes(envelope.data):
            return _decode_rows(data) if data.lstrip()[:1] == b"[" else [envelope.data]
        if bytes(envelope.error) or bytes(envelope.code):
            count(self._counters.refused, "venue_error")  # the answer to a request of ours
            return []
        if not envelope.e and bytes(envelope.result):
            return []  # a request was acknowledged
        return [msgspec.Raw(bytes(frame))]

    def _kind(self, raw: msgspec.Raw) -> tuple[str, bool]:
        """(the event's name, whether it is of the other contract family)."""
        try:
            row = _decode_kind(raw)
        except UNREADABLE:
            row = _Kind()
        if not row.e:
            count(self._counters.refused, "not_an_event")
        return row.e, amount_or_none(row.st) == COIN_M

    def _mark(self, raw: msgspec.Raw) -> list[Price]:
        try:
            row = _decode_mark_row(raw)
        except UNREADABLE:
            count(self._counters.refused, "not_a_price")
            return []
        return [row]

    def _index(self, raw: msgspec.Raw) -> list[AssetRate]:
        try:
            row = _decode_index_row(raw)
        except UNREADABLE:
            count(self._counters.refused, "not_a_rate")
            return []
        rate = asset_rate(row.s, index=row.i, bid=row.B, ask=row.A, event_time_ms=row.E, exchange_bid=row.Q, exchange_ask=row.G)
        if rate is None:
            count(self._counters.refused, "not_a_rate")
            return []
        return [rate]

    def _contract(self, raw: msgspec.Raw) -> list[Event]:
        try:
            info = _decode_contract(raw)
        except UNREADABLE:
            count(self._counters.refused, "not_a_contract")
            return []
        if not info.bks:
            return []
        tiers = (Bracket(tier.bs, tier.bnf, tier.bnc, tier.mmr, tier.cf, tier.ma) for tier in info.bks)
        table = bracket_table(info.s, tiers)
        if table is None:
            count(self._counters.refused, "not_brackets")
            return []
        return [Brackets(VENUE, "", (table,), info.E)]


_STREAMS = {"markPriceUpdate": "mark_price", "assetIndexUpdate": "asset_index", "contractInfo": "contract_info"}


def _fast_mark_rows(frame: bytes) -> list[_MarkRow] | None:
    """The whole array in one decode, where the first bytes announce mark prices; None: not they, or some row is bad."""
    head = frame[:64]
    try:
        if b'"!markPrice@arr' in head:
            return _decode_mark_combined(frame).data
        if head[:1] == b"[" and b'"markPriceUpdate"' in head:
            return _decode_mark(frame)
    except UNREADABLE:
        pass
    return None


def asset_rate(
    symbol: str, *, index: float, bid: float, ask: float, event_time_ms: int, exchange_bid: float, exchange_ask: float
) -> AssetRate | None:
    """The rate of the asset in an index symbol such as "ADAUSD". None: another quote, or bid above ask (fields mixed up)."""
    asset = symbol.removesuffix("USD")
    if not asset or asset == symbol or bid > ask:
        return None
    return AssetRate(asset, index, bid, ask, event_time_ms, exchange_bid, exchange_ask)


def bracket_table(symbol: str, tiers: Iterable[Bracket]) -> BracketTable | None:
    """Tiers in the order of their floors. None: not a table (empty, a gap, a rate of 100 % or more)."""
    rows = tuple(sorted(tiers, key=attrgetter("notional_floor")))
    if not rows or rows[0].notional_floor != 0:
        return None
    if not all(isclose(tier.notional_cap, following.notional_floor) for tier, following in pairwise(rows)):
        return None
    if any(tier.notional_cap <= tier.notional_floor or tier.rate > 1 for tier in rows):
        return None
    return BracketTable(symbol, rows)
