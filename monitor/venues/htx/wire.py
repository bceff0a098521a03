"""Frames of the market sockets: bytes in, prices and answers out. No socket, no clock; whatever comes in, nothing is raised."""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Raw, Struct

from monitor.model.events import Price, PriceKind, Prices
from monitor.model.streams import Counters, count
from monitor.venues.htx.frames import FrameError, heartbeat_number, inflate
from monitor.venues.htx.numbers import ABSENT, UNREADABLE, PriceNumber, TimeMs, TimeS
from monitor.venues.htx.rows import VENUE

Topic = tuple[PriceKind, str]  # and the symbol: a contract code, or the coin of an index

KLINE_MS = 60_000
_STREAMS = {PriceKind.LAST: "last_price", PriceKind.MARK: "mark_price", PriceKind.INDEX: "index_price"}


class MarketFrame(Struct):
    """What one frame says. `pong`: to be sent back. `acknowledged`, `refused`: a topic of ours, lower case."""

    prices: Prices | None = None
    ts: int = 0  # of prices: when the venue sent them
    pong: str | None = None
    acknowledged: str = ""
    refused: str = ""
    hostile: bool = False  # unreadable, or not what the venue documents


# ------------------------------------------------------------------ shapes: only the fields that are used


class _Envelope(Struct):
    ping: Raw = ABSENT
    ch: str = ""
    ts: TimeMs = 0
    tick: Raw = ABSENT
    id: str | int | None = None  # as we sent it: the topic
    status: str = ""
    subbed: str = ""
    unsubbed: str = ""


class Trade(Struct):
    """On a socket, and by REST with texts for numbers."""

    price: PriceNumber
    ts: TimeMs
    id: int = 0


class _Trades(Struct):
    data: list[Trade]


class Kline(Struct):
    """Of an index or a mark price, on a socket and by REST."""

    close: PriceNumber
    id: TimeS  # begin of its minute, epoch seconds


_decode_envelope = msgspec.json.Decoder(_Envelope, strict=False).decode
_decode_trades = msgspec.json.Decoder(_Trades, strict=False).decode
_decode_kline = msgspec.json.Decoder(Kline, strict=False).decode


def topic_name(kind: PriceKind, symbol: str) -> str:
    if kind is PriceKind.LAST:
        return f"market.{symbol}.trade.detail"
    return f"market.{symbol}-USD.index.1min" if kind is PriceKind.INDEX else f"market.{symbol}.mark_price.1min"


def latest_trade(trades: Iterable[Trade]) -> Trade | None:
    """Their order is not documented. None: no trade, or none that names its time."""
    latest = max(trades, key=lambda trade: (trade.ts, trade.id), default=None)
    return latest if latest is not None and latest.ts else None


def kline_time_ms(said_ms: int, begin_s: int) -> int:
    """When a 1-minute kline's close held: as said, but not later than its minute. A kline that is sent on and on is not news."""
    return min(said_ms, begin_s * 1000 + KLINE_MS)


class MarketWire:
    """`topics`: what we subscribed to, by topic in lower case. Only by it is a price known to a symbol, never by an alias."""

    def __init__(self, topics: Mapping[str, Topic], counters: Counters, bytes_max: int) -> None:
        self._topics = topics
        self._counters = counters
        self._bytes_max = bytes_max

    def receive(self, frame: bytes) -> MarketFrame:
        try:
            return self._read(_decode_envelope(inflate(frame, self._bytes_max)))
        except FrameError as exc:
            count(self._counters.refused, exc.reason)
        except UNREADABLE:
            count(self._counters.refused, "not_json")
        return MarketFrame(hostile=True)

    def _read(self, said: _Envelope) -> MarketFrame:
        if bytes(said.ping):
            return MarketFrame(pong=f'{{"pong":{heartbeat_number(said.ping).decode()}}}')
        if said.ch:
            return self._push(said)
        if said.status == "ok" and (said.subbed or said.unsubbed):
            return MarketFrame(acknowledged=said.subbed.lower())
        if said.status == "error":
            count(self._counters.refused, "subscription")
            return MarketFrame(refused=str(said.id).lower())
        raise FrameError("unknown_message")

    def _push(self, said: _Envelope) -> MarketFrame:
        topic = self._topics.get(said.ch.lower())
        if topic is None:
            count(self._counters.refused, "unknown_topic")  # ended a moment ago, or never asked for
            return MarketFrame()
        kind, symbol = topic
        price = self._last(said, symbol) if kind is PriceKind.LAST else self._close(said, symbol)
        if price is None:
            count(self._counters.refused, "not_a_price")
            return MarketFrame(hostile=True)
        count(self._counters.frames, _STREAMS[kind])
        return MarketFrame(Prices(VENUE, kind, [price]), said.ts or price.event_time_ms)

    def _last(self, said: _Envelope, symbol: str) -> Price | None:
        try:
            latest = latest_trade(_decode_trades(said.tick).data)
        except UNREADABLE:
            return None
        return None if latest is None else Price(symbol, latest.price, latest.ts)

    def _close(self, said: _Envelope, symbol: str) -> Price | None:
        try:
            kline = _decode_kline(said.tick)
        except UNREADABLE:
            return None
        event_time_ms = kline_time_ms(said.ts, kline.id)
        return Price(symbol, kline.close, event_time_ms) if event_time_ms > 0 else None
