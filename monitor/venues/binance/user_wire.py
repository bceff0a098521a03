"""User-stream frames of one account: bytes in, events out. No socket, no clock; whatever comes in, nothing is raised.

A row that cannot be read is refused and counted, and the account then needs a snapshot: a lost row is a wrong figure.
"""

from collections.abc import Callable
from enum import IntEnum

import msgspec
from msgspec import Struct, field

from monitor.model.events import AccountUpdate, Balance, Event, LeverageChanged, Mode, ModeChanged, Position
from monitor.model.streams import Counters, count
from monitor.venues.binance.calls import Calls
from monitor.venues.binance.numbers import UNREADABLE, Amount, Leverage, Name, NotNegative, TimeMs
from monitor.venues.binance.wire import VENUE

SIDES = frozenset({"BOTH", "LONG", "SHORT"})
_UNUSED = frozenset(
    {"TRADE_LITE", "ALGO_UPDATE", "STRATEGY_UPDATE", "GRID_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT"}
)  # known, and without a word on margin


class Refetch(IntEnum):
    """How soon the account needs a snapshot after a frame."""

    NO = 0
    SOON = 1  # the margin of open orders changed: worth a cheap look, many such come together
    NOW = 2  # something was lost, or the pooling changed


class UserFrame(Struct):
    """What one frame says."""

    events: list[Event] = field(default_factory=list)
    refetch: Refetch = Refetch.NO
    expired_key: str | None = None  # the listen key's end; "": the notice names no key


# ------------------------------------------------------------------ shapes: only the fields that are used


class _Envelope(Struct):
    data: msgspec.Raw = msgspec.Raw()
    e: msgspec.Raw = msgspec.Raw()


class _Times(Struct):
    """Read apart from the content: a bad time must not cost a control event."""

    T: msgspec.Raw = msgspec.Raw()
    E: msgspec.Raw = msgspec.Raw()


class _Changes(Struct):
    m: str = ""
    B: list[msgspec.Raw] | None = None
    P: list[msgspec.Raw] | None = None  # missing or empty: no position changed


class _AccountUpdate(Struct):
    a: _Changes


class _BalanceRow(Struct):
    a: Name
    wb: Amount
    cw: Amount


class _PositionRow(Struct):
    s: Name
    pa: Amount
    ep: NotNegative
    iw: Amount = 0.0
    mt: str = "cross"
    ps: str = "BOTH"
    ma: str | None = None


class _LeverageRow(Struct):
    s: Name
    l: Leverage  # noqa: E741  the venue's field


class _ModeRow(Struct):
    j: bool


class _Config(Struct):
    ac: _LeverageRow | None = None
    ai: _ModeRow | None = None


class _Expired(Struct):
    listenKey: str = ""  # noqa: N815  the venue's field


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_kind = msgspec.json.Decoder(str).decode
_decode_times = msgspec.json.Decoder(_Times).decode
_decode_time = msgspec.json.Decoder(TimeMs, strict=False).decode
_decode_update = msgspec.json.Decoder(_AccountUpdate).decode
_decode_balance = msgspec.json.Decoder(_BalanceRow, strict=False).decode
_decode_position = msgspec.json.Decoder(_PositionRow, strict=False).decode
_decode_config = msgspec.json.Decoder(_Config, strict=False).decode
_decode_expired = msgspec.json.Decoder(_Expired).decode


class UserWire:
    """One account's user stream, over all its connections: what two of them bring twice is told once where it is an alarm."""

    def __init__(self, account: str, counters: Counters) -> None:
        self._account = account
        self._counters = counters
        self._calls = Calls(account, counters)
        self._handlers: dict[str, Callable[[bytes], UserFrame]] = {
            "ACCOUNT_UPDATE": self._account_update,
            "ACCOUNT_CONFIG_UPDATE": self._config,
            "ORDER_TRADE_UPDATE": self._order,
            "MARGIN_CALL": self._margin_call,
            "listenKeyExpired": _expired,
        }

    def receive(self, frame: bytes) -> UserFrame:
        try:
            kind, body = _kind_and_body(frame)
        except UNREADABLE:
            self._refuse("not_json")
            return UserFrame(refetch=Refetch.NOW)  # it may have been anything
        count(self._counters.frames, "user")
        handle = self._handlers.get(kind)
        if handle is not None:
            return handle(body)
        if kind and kind not in _UNUSED:  # without a kind: the answer to a request
            self._refuse("unknown_event")
        return UserFrame()

    def _account_update(self, body: bytes) -> UserFrame:
        time_ms = _event_time(body)
        try:
            changes = _decode_update(body).a
        except UNREADABLE:
            return self._lost("not_an_account_update")
        if not time_ms:  # without a time nobody can say what it is newer than
            return self._lost("no_event_time")
        balance_rows = [self._balance(raw, time_ms) for raw in changes.B or ()]
        position_rows = [self._position(raw, time_ms) for raw in changes.P or ()]
        balances = tuple(row for row in balance_rows if row is not None)
        positions = tuple(row for row in position_rows if row is not None)
        lost = len(balances) + len(positions) != len(balance_rows) + len(position_rows)
        update = AccountUpdate(
            venue=VENUE,
            account=self._account,
            event_time_ms=time_ms,
            reason=changes.m[:64],
            balances=balances,
            positions=positions,
        )
        return UserFrame([update] if balances or positions else [], Refetch.NOW if lost else Refetch.NO)

    def _balance(self, raw: msgspec.Raw, time_ms: int) -> Balance | None:
        try:
            row = _decode_balance(raw)
        except UNREADABLE:
            self._refuse("not_a_balance")
            return None
        return Balance(row.a, row.wb, row.cw, time_ms)  # `bc` is a change, and information only

    def _position(self, raw: msgspec.Raw, time_ms: int) -> Position | None:
        try:
            row = _decode_position(raw)
        except UNREADABLE:
            self._refuse("not_a_position")
            return None
        if row.ps not in SIDES or (row.pa and not row.ep):
            self._refuse("not_a_position")
            return None
        isolated = row.mt.lower() == "isolated"
        return Position(
            row.s, row.ps, row.pa, row.ep if row.pa else 0.0, time_ms, isolated, row.iw if isolated else 0.0, (row.ma or "")[:64]
        )

    def _config(self, body: bytes) -> UserFrame:
        time_ms = _event_time(body)
        try:
            config = _decode_config(body)
        except UNREADABLE:
            return self._lost("not_a_config_update")
        frame = UserFrame()
        if config.ac is not None:
            frame.events.append(LeverageChanged(VENUE, self._account, config.ac.s, config.ac.l, time_ms))
        if config.ai is not None:
            mode = Mode.MULTI_ASSETS if config.ai.j else Mode.SINGLE_ASSET
            frame.events.append(ModeChanged(VENUE, self._account, mode, time_ms))
            frame.refetch = Refetch.NOW
        return frame

    def _order(self, body: bytes) -> UserFrame:
        """Only orders of the venue's own are told; any order may change the margin of open orders."""
        call = self._calls.order(body, _event_time(body))
        return UserFrame([] if call is None else [call], Refetch.SOON)

    def _margin_call(self, body: bytes) -> UserFrame:
        call = self._calls.margin_call(body, _event_time(body))
        return UserFrame() if call is None else UserFrame([call], Refetch.NOW)

    def _lost(self, reason: str) -> UserFrame:
        self._refuse(reason)
        return UserFrame(refetch=Refetch.NOW)

    def _refuse(self, reason: str) -> None:
        count(self._counters.refused, reason)


def _kind_and_body(frame: bytes) -> tuple[str, bytes]:
    """The event's name, "" if there is none, and its object, out of a combined frame if need be."""
    envelope = _decode_envelope(frame)
    if not bytes(envelope.e) and (data := bytes(envelope.data)):
        frame, envelope = data, _decode_envelope(data)
    return (_decode_kind(envelope.e) if bytes(envelope.e) else ""), frame


def _event_time(body: bytes) -> int:
    """`T`, else `E`, numbers or texts; 0 if neither is a time."""
    times = _decode_times(body)
    for raw in (times.T, times.E):
        try:
            if time_ms := _decode_time(raw):
                return time_ms
        except UNREADABLE:
            continue
    return 0


def _expired(body: bytes) -> UserFrame:
    try:
        return UserFrame(expired_key=_decode_expired(body).listenKey)
    except UNREADABLE:
        return UserFrame(expired_key="")
