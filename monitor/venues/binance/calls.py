"""The venue's own alarms on the user stream: its orders (liquidation, auto-deleveraging, settlement, delivery) and margin calls.

Each occurrence is one alarm, whatever number of frames and connections bring it, and each later one is another. They differ by an
order's id and symbol or, where there is no id, by all that they say. No field that cannot be read hides an alarm.
Source: the venue's documentation of ORDER_TRADE_UPDATE and MARGIN_CALL.
"""

from collections import deque

import msgspec
from msgspec import Raw, Struct

from monitor.model.events import VenueCall
from monitor.model.streams import Counters, count
from monitor.venues.binance.numbers import UNREADABLE, amount_or_none
from monitor.venues.binance.wire import VENUE

_REMEMBERED = 512
_NAME_LENGTH_MAX = 64
_ABSENT = Raw()

_WORDS = {
    "liquidation": "liquidation order of the venue",
    "adl": "auto-deleveraging order of the venue",
    "settlement": "settlement order of the venue",
    "delivery": "delivery order of the venue",
}
# How the client ids of the venue's own orders begin; that of auto-deleveraging is always the same.
_CLIENT_IDS = {
    "adl_autoclose": "adl",
    "settlement_autoclose-": "settlement",
    "delivery_autoclose-": "delivery",
    "autoclose-": "liquidation",
}
_OWN_CLIENT_IDS = tuple(prefix for prefix in _CLIENT_IDS if prefix.endswith("-"))  # what follows is another for each order
# Words of the fields `x` (execution), `X` (status) and `o` (type).
_EXECUTIONS = {"NEW_ADL": "adl", "NEW_INSURANCE": "liquidation", "CALCULATED": "liquidation", "LIQUIDATION": "liquidation"}


class _Order(Struct):
    """Undecoded: a field of another type than documented costs only itself."""

    i: Raw = _ABSENT
    c: Raw = _ABSENT
    x: Raw = _ABSENT
    X: Raw = _ABSENT
    o: Raw = _ABSENT
    s: Raw = _ABSENT
    S: Raw = _ABSENT
    q: Raw = _ABSENT


class _OrderUpdate(Struct):
    o: _Order


class _CallRow(Struct):
    s: Raw = _ABSENT
    ps: Raw = _ABSENT
    pa: Raw = _ABSENT
    mp: Raw = _ABSENT
    mm: Raw = _ABSENT


class _MarginCall(Struct):
    cw: Raw = _ABSENT
    p: Raw = _ABSENT


_decode_order = msgspec.json.Decoder(_OrderUpdate).decode
_decode_call = msgspec.json.Decoder(_MarginCall).decode
_decode_rows = msgspec.json.Decoder(list[Raw]).decode
_decode_call_row = msgspec.json.Decoder(_CallRow).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_id = msgspec.json.Decoder(int | str).decode


class Calls:
    """One account's alarms, over all its connections."""

    def __init__(self, account: str, counters: Counters) -> None:
        self._account = account
        self._counters = counters
        self._known: deque[tuple[object, ...]] = deque(maxlen=_REMEMBERED)

    def order(self, body: bytes, time_ms: int) -> VenueCall | None:
        """ORDER_TRADE_UPDATE. None: an order of the owner's, or one that was told. time_ms: the event's, 0: it names none."""
        try:
            order = _decode_order(body).o
        except UNREADABLE:
            count(self._counters.refused, "not_an_order")
            return None
        kind = _kind(order)
        if kind is None:
            return None
        symbol, number = _text(order.s), _order_id(order.i)
        side = {"BUY": "buy", "SELL": "sell"}.get(_text(order.S), "close")
        text = f"{_WORDS[kind]}: {side} {_number(order.q)} {symbol}".rstrip()
        client_id = _text(order.c)
        if number:
            text += f", order {number}"
            known = self._is_known(kind, symbol, number)
        elif client_id.startswith(_OWN_CLIENT_IDS):
            known = self._is_known(kind, symbol, client_id)
        else:
            known = bool(time_ms) and self._is_known(kind, time_ms, text)
        return None if known else VenueCall(VENUE, self._account, kind, (symbol,) if symbol else (), text, time_ms)

    def margin_call(self, body: bytes, time_ms: int) -> VenueCall | None:
        """MARGIN_CALL. None: it was told. time_ms: the event's, 0: it names none."""
        rows: list[_CallRow] = []
        call = _MarginCall()
        try:
            call = _decode_call(body)
            for raw in _decode_rows(call.p) if bytes(call.p) else []:
                rows.append(_decode_call_row(raw))  # noqa: PERF401  the rows before a bad one are kept
        except UNREADABLE:
            count(self._counters.refused, "not_a_margin_call_row")
        parts = [
            f"{_text(row.s)} {_text(row.ps)} {_number(row.pa)} at mark {_number(row.mp)}, maintenance margin {_number(row.mm)}"
            for row in rows
        ]
        if bytes(call.cw):
            parts.append(f"cross wallet {_number(call.cw)}")
        text = "margin call of the venue: " + ("; ".join(parts) or "no details that can be read")
        if time_ms and self._is_known("margin_call", time_ms, text):
            return None
        symbols = tuple(dict.fromkeys(symbol for row in rows if (symbol := _text(row.s))))
        return VenueCall(VENUE, self._account, "margin_call", symbols, text, time_ms)

    def _is_known(self, *identity: object) -> bool:
        if identity in self._known:
            return True
        self._known.append(identity)
        return False


def _kind(order: _Order) -> str | None:
    """By the client id that the venue gives its own orders, which says the most; else by the words that only such orders have."""
    client_id = _text(order.c)
    for prefix, kind in _CLIENT_IDS.items():
        if client_id.startswith(prefix):
            return kind
    said = (_text(order.x), _text(order.X), _text(order.o))
    return next((kind for word, kind in _EXECUTIONS.items() if word in said), None)


def _order_id(raw: Raw) -> str:
    """ "" if the frame names none; the venue's ids are above 0."""
    try:
        said = str(_decode_id(raw))[:_NAME_LENGTH_MAX]
    except UNREADABLE:
        return ""
    return "" if said == "0" else said


def _text(raw: Raw) -> str:
    """ "" for anything but a text."""
    try:
        return _decode_text(raw)[:_NAME_LENGTH_MAX]
    except UNREADABLE:
        return ""


def _number(raw: Raw) -> str:
    value = amount_or_none(raw)
    return "?" if value is None else f"{value:.12g}"
