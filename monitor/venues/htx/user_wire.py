"""Frames of the account socket: bytes in, updates and answers out. No socket, no clock; whatever comes in, nothing is raised.

A row that cannot be read is refused and counted, and its coin then needs a snapshot: a lost row is a wrong figure.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct, field

from monitor.model.events import CoinBalance, CoinUpdate, Position, VenueCall
from monitor.model.instruments import Instrument
from monitor.model.streams import Counters, count
from monitor.venues.htx import reference
from monitor.venues.htx.frames import FrameError, heartbeat_number, inflate
from monitor.venues.htx.numbers import ABSENT, UNREADABLE, price_or_none, time_or_none
from monitor.venues.htx.rows import VENUE, AccountRow, PositionRow, coin_balance, position
from monitor.venues.htx.signing import masked

_CALLS_REMEMBERED = 64
_REPEATED_SUBSCRIPTION = "2014"


class UserFrame(Struct):
    """What one frame says."""

    pong: str | None = None
    authenticated: bool = False
    uid: str = ""  # whose the key is, with the authentication
    auth_error: str = ""  # "2003: …"
    acknowledged: str = ""  # a topic, lower case
    refused: str = ""  # a topic and why
    closing: bool = False  # the venue is about to hang up
    topic: str = ""  # first word of the topic of a push: "accounts", "positions", "public"
    ts: int = 0
    updates: list[tuple[str, CoinUpdate]] = field(default_factory=list)  # with their coin
    calls: list[VenueCall] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)  # coins of which a settlement is told
    lost: set[str] = field(default_factory=set)  # coins of which a row was refused; "": of which is not known
    contracts: list[Instrument] = field(default_factory=list)
    hostile: bool = False  # unreadable, or not what the venue documents


class _Envelope(Struct, rename={"code_hyphen": "err-code", "text_hyphen": "err-msg", "code": "err_code", "text": "err_msg"}):
    op: str = ""
    topic: str = ""
    event: str = ""
    ts: Raw = ABSENT
    data: Raw = ABSENT
    code_hyphen: int | str | None = None
    text_hyphen: str | None = None
    code: int | str | None = None
    text: str | None = None

    def error(self) -> str:
        """The error code as text; "": the frame names none."""
        code = self.code if self.code_hyphen is None else self.code_hyphen
        return "" if code is None else str(code)

    def error_text(self) -> str:
        return masked(f"{self.error() or 'no code'}: {self.text_hyphen or self.text or 'no text'}")


class _User(Struct, rename={"uid": "user-id"}):
    uid: Annotated[int, Meta(ge=0, lt=10**18)]


def _uid(data: Raw) -> str:
    """ "" if it is not told."""
    try:
        return str(_decode_user(data).uid)
    except UNREADABLE:
        return ""


_decode_user = msgspec.json.Decoder(_User, strict=False).decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_rows = msgspec.json.Decoder(list[Raw]).decode
_decode_account = msgspec.json.Decoder(AccountRow, strict=False).decode
_decode_position = msgspec.json.Decoder(PositionRow, strict=False).decode


class UserWire:
    """One connection to the account socket. account "": the public topics."""

    def __init__(self, account: str, counters: Counters, bytes_max: int) -> None:
        self._account = account
        self._counters = counters
        self._bytes_max = bytes_max
        self._calls: dict[tuple[str, int], set[str]] = {}  # contracts by coin and time, oldest first

    def receive(self, frame: bytes) -> UserFrame:
        try:
            return self._read(_decode_envelope(inflate(frame, self._bytes_max)))
        except FrameError as exc:
            count(self._counters.refused, exc.reason)
        except UNREADABLE:
            count(self._counters.refused, "not_json")
        return UserFrame(hostile=True)

    def _read(self, said: _Envelope) -> UserFrame:  # noqa: PLR0911  one line per message of the protocol
        if said.op == "ping":
            return UserFrame(pong=f'{{"op":"pong","ts":{heartbeat_number(said.ts).decode()}}}')
        if said.op == "notify":
            return self._push(said)
        if said.op == "auth":
            good = said.error() == "0"
            return UserFrame(authenticated=True, uid=_uid(said.data)) if good else UserFrame(auth_error=said.error_text())
        if said.op == "sub":
            if said.error() in ("", "0", _REPEATED_SUBSCRIPTION):
                return UserFrame(acknowledged=said.topic.lower())
            count(self._counters.refused, "subscription")
            return UserFrame(refused=f"{said.topic}: {said.error_text()}")
        if said.op == "close":
            return UserFrame(closing=True)
        if said.op in ("error", "unsub"):
            count(self._counters.refused, "venue_error")  # the connection stays
            return UserFrame()
        raise FrameError("unknown_message")

    def _push(self, said: _Envelope) -> UserFrame:
        topic, _, rest = said.topic.lower().partition(".")
        ts = time_or_none(said.ts)
        if ts is None or not ts:
            raise FrameError("no_time")
        frame = UserFrame(topic=topic, ts=ts)
        if topic == "public" and rest.endswith(".contract_info"):
            frame.contracts = reference.contract_rows(said.data, self._counters)
            count(self._counters.frames, "contract_info")
        elif topic in ("accounts", "positions"):
            coin = "" if rest in ("", "*") else rest.upper()
            self._private(frame, said, coin)
            count(self._counters.frames, topic)
        else:
            count(self._counters.refused, "unknown_topic")
        return frame

    def _private(self, frame: UserFrame, said: _Envelope, coin: str) -> None:
        balances: dict[str, list[CoinBalance]] = {}
        positions: dict[str, list[Position]] = {}
        prices: dict[str, float] = {}
        for raw in _decode_rows(said.data):
            try:
                if frame.topic == "accounts":
                    balance = coin_balance(_decode_account(raw), frame.ts)
                    balances.setdefault(balance.coin, []).append(balance)
                else:
                    row = _decode_position(raw)
                    leg = position(row, frame.ts)
                    positions.setdefault(leg.margin_asset, []).append(leg)
                    if (last := price_or_none(row.last_price)) is not None:
                        prices[leg.symbol] = last
            except UNREADABLE:
                count(self._counters.refused, "not_an_account" if frame.topic == "accounts" else "not_a_position")
                frame.lost.add(coin)
        for named in dict.fromkeys([*balances, *positions]):
            rows, legs = tuple(balances.get(named, ())), tuple(positions.get(named, ()))
            update = CoinUpdate(
                venue=VENUE,
                account=self._account,
                event_time_ms=frame.ts,
                reason=said.event,
                balances=rows,
                positions=legs,
                implied_prices={leg.symbol: prices[leg.symbol] for leg in legs if leg.symbol in prices},
            )
            frame.updates.append((named, update))
        named_coins = {*balances, *positions, *([coin] if coin else [])}
        if said.event == "settlement":
            frame.settled = named_coins
        elif said.event == "order.liquidation":
            for named in sorted(named_coins):
                self._call(frame, named, balances.get(named, []), positions.get(named, []))

    def _call(self, frame: UserFrame, coin: str, balances: list[CoinBalance], legs: list[Position]) -> None:
        """A liquidation is pushed on both topics, at one time, and is one alarm; other contracts at that time are another."""
        codes = tuple(dict.fromkeys(leg.symbol for leg in legs))
        known = self._calls.get((coin, frame.ts))
        if known is None:
            self._calls[coin, frame.ts] = set(codes)
            while len(self._calls) > _CALLS_REMEMBERED:
                self._calls.pop(next(iter(self._calls)))
        else:
            news = bool(known) and not known.issuperset(codes)  # empty: only the balance was pushed as yet
            known.update(codes)
            if not news:
                return
        text = f"{coin}: the venue liquidates {', '.join(codes) or 'positions of this coin'}"
        if balances and balances[0].venue_equity is not None:
            ratio = balances[0].venue_guarantee_asset_ratio
            text += f"; equity {balances[0].venue_equity:.8g} {coin}"
            text += "" if ratio is None else f", guarantee-asset ratio {100 * ratio:.2f} %"
        frame.calls.append(VenueCall(VENUE, self._account, "liquidation", codes or (coin,), text, frame.ts))
