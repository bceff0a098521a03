"""User-stream frames: the documented and the recorded ones, and what must not be lost for a side field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.model.events import AccountUpdate, Balance, LeverageChanged, Mode, ModeChanged, Position, VenueCall
from monitor.model.streams import Counters
from monitor.venues.binance.user_wire import Refetch, UserFrame, UserWire


def receive(frame: Any) -> tuple[UserFrame, Counters]:
    counters = Counters()
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return UserWire("main", counters).receive(data), counters


def update(changes: Any, **more: Any) -> dict[str, Any]:
    return {"e": "ACCOUNT_UPDATE", "E": 8, "T": 7, "a": changes, **more}


USDT = {"a": "USDT", "wb": "100.5", "cw": "90.5", "bc": "50"}
BTC = {"s": "BTCUSDT", "pa": "-0.5", "ep": "6563.6", "cr": "1", "up": "2", "mt": "cross", "iw": "0", "ps": "BOTH", "ma": "USDT"}
USDT_ROW = Balance("USDT", 100.5, 90.5, 7)
BTC_ROW = Position("BTCUSDT", "BOTH", -0.5, 6563.6, 7, margin_asset="USDT")


@pytest.mark.parametrize(
    ("changes", "balances", "positions", "refetch", "refused", "why"),
    [
        ({"m": "ORDER", "B": [USDT], "P": [BTC]}, [USDT_ROW], [BTC_ROW], 0, {}, "absolute values; bc is never added"),
        ({"m": "FUNDING_FEE", "B": [USDT]}, [USDT_ROW], [], 0, {}, "P missing clears nothing"),
        ({"m": "FUNDING_FEE", "B": [USDT], "P": []}, [USDT_ROW], [], 0, {}, "P empty clears nothing"),
        ({"m": "FUNDING_FEE", "B": [USDT], "P": None}, [USDT_ROW], [], 0, {}, "P null clears nothing"),
        ({"m": "NEW_REASON", "B": [USDT]}, [USDT_ROW], [], 0, {}, "reasons grow"),
        ({"B": [USDT]}, [USDT_ROW], [], 0, {}, "no reason"),
        (
            {"P": [BTC | {"pa": "0", "ep": "0.0"}]},
            [],
            [Position("BTCUSDT", "BOTH", 0.0, 0.0, 7, margin_asset="USDT")],
            0,
            {},
            "flat",
        ),
        (
            {"P": [BTC | {"pa": "0"}]},
            [],
            [Position("BTCUSDT", "BOTH", 0.0, 0.0, 7, margin_asset="USDT")],
            0,
            {},
            "flat has no entry",
        ),
        (
            {"P": [BTC | {"mt": "isolated", "iw": "13.5", "ps": "SHORT"}]},
            [],
            [Position("BTCUSDT", "SHORT", -0.5, 6563.6, 7, True, 13.5, "USDT")],
            0,
            {},
            "isolated, hedge mode",
        ),
        (
            {"P": [BTC | {"mt": "ISOLATED", "iw": "1"}]},
            [],
            [Position("BTCUSDT", "BOTH", -0.5, 6563.6, 7, True, 1, "USDT")],
            0,
            {},
            "case",
        ),
        ({"P": [{"s": "X", "pa": "1", "ep": "2"}]}, [], [Position("X", "BOTH", 1, 2, 7)], 0, {}, "only what is needed"),
        (
            {"B": [USDT, {"a": "USDC", "wb": "1"}]},
            [USDT_ROW],
            [],
            2,
            {"not_a_balance": 1},
            "half a row: the other half is unknown",
        ),
        ({"B": [USDT, USDT | {"wb": "Infinity"}]}, [USDT_ROW], [], 2, {"not_a_balance": 1}, "Infinity"),
        ({"B": [USDT, 5]}, [USDT_ROW], [], 2, {"not_a_balance": 1}, "not a row"),
        ({"P": [BTC, BTC | {"pa": "nan"}]}, [], [BTC_ROW], 2, {"not_a_position": 1}, "NaN"),
        (
            {"P": [BTC, BTC | {"ep": "0"}]},
            [],
            [BTC_ROW],
            2,
            {"not_a_position": 1},
            "entry 0 would be a profit of the whole notional",
        ),
        ({"P": [BTC, BTC | {"ep": "-1"}]}, [], [BTC_ROW], 2, {"not_a_position": 1}, "a negative entry"),
        ({"P": [BTC, BTC | {"ps": "UP"}]}, [], [BTC_ROW], 2, {"not_a_position": 1}, "an unknown leg"),
        ({"P": [BTC | {"s": ""}]}, [], [], 2, {"not_a_position": 1}, "no symbol, and so no event"),
        ({"B": 5}, [], [], 2, {"not_an_account_update": 1}, "no rows at all"),
        (None, [], [], 2, {"not_an_account_update": 1}, "no content"),
    ],
)
def test_account_update(
    changes: Any, balances: list[Balance], positions: list[Position], refetch: int, refused: dict[str, int], why: str
) -> None:
    result, counters = receive(update(changes))
    assert counters.refused == refused, why
    assert result.refetch == refetch, why
    if not balances and not positions:
        assert result.events == [], why
        return
    (event,) = result.events
    assert isinstance(event, AccountUpdate)
    assert (list(event.balances), list(event.positions)) == (balances, positions), why
    assert (event.account, event.event_time_ms) == ("main", 7), why


@pytest.mark.parametrize(
    ("times", "time_ms", "why"),
    [
        ({"T": 7, "E": 8}, 7, "T versions the rows"),
        ({"T": "7", "E": 8}, 7, "as text"),
        ({"T": None, "E": 8}, 8, "E in its place"),
        ({"T": "x", "E": "8"}, 8, "E in its place, as text"),
        ({"E": 8}, 8, "T missing"),
        ({"T": 10**40, "E": 8}, 8, "past 64 bits"),
        ({"T": "x", "E": "y"}, None, "no time: nobody knows what it is newer than"),
    ],
)
def test_version_of_an_account_update(times: dict[str, Any], time_ms: int | None, why: str) -> None:
    frame = {"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER", "B": [USDT]}} | times
    result, counters = receive(frame)
    if time_ms is None:
        assert (result.events, result.refetch, counters.refused) == ([], Refetch.NOW, {"no_event_time": 1}), why
        return
    (event,) = result.events
    assert isinstance(event, AccountUpdate)
    assert (event.event_time_ms, event.balances[0].version_ms) == (time_ms, time_ms), why


@pytest.mark.parametrize(
    ("frame", "event", "refetch", "why"),
    [
        ({"T": 7, "ac": {"s": "BTCUSDT", "l": 25}}, LeverageChanged("binance_usdm", "main", "BTCUSDT", 25, 7), 0, "leverage"),
        ({"T": 7, "ai": {"j": True}}, ModeChanged("binance_usdm", "main", Mode.MULTI_ASSETS, 7), 2, "into joint margin"),
        ({"T": 7, "ai": {"j": False}}, ModeChanged("binance_usdm", "main", Mode.SINGLE_ASSET, 7), 2, "out of joint margin"),
        (
            {"T": "x", "E": None, "ai": {"j": True}},
            ModeChanged("binance_usdm", "main", Mode.MULTI_ASSETS, 0),
            2,
            "no time is needed",
        ),
        ({"T": 7, "ac": {"s": "BTCUSDT", "l": 0}}, None, 2, "leverage 0: something changed, what is unknown"),
        ({"T": 7, "ai": {}}, None, 2, "the mode is missing"),
        ({"T": 7}, None, 0, "neither: a new kind of setting"),
    ],
)
def test_config_update(frame: dict[str, Any], event: Any, refetch: int, why: str) -> None:
    result, _ = receive({"e": "ACCOUNT_CONFIG_UPDATE", "E": 8} | frame)
    assert result.events == ([] if event is None else [event]), why
    assert result.refetch == refetch, why


@pytest.mark.parametrize(
    ("order", "kind", "why"),
    [
        ({"c": "autoclose-1596107620040000020", "x": "NEW"}, "liquidation", "by the client id"),
        ({"c": "adl_autoclose", "x": "NEW"}, "adl", "auto-deleveraging"),
        ({"c": "adl_autoclose", "x": "CALCULATED"}, "adl", "the id says more than the type"),
        ({"c": "settlement_autoclose-1", "x": "NEW"}, "settlement", "delisting"),
        ({"c": "anything", "x": "CALCULATED"}, "liquidation", "by the execution type"),
        ({"c": "my-autoclose-1", "x": "TRADE"}, None, "an order of the owner"),
        ({"x": "EXPIRED"}, None, "no client id"),
        ({"c": "autoclose-1", "q": {}, "ap": []}, "liquidation", "bad side fields do not hide it"),
        ({"c": 5, "x": "NEW"}, None, "no text for a client id: an order as any other"),
        ({"c": "delivery_autoclose-20261226", "x": "NEW"}, "delivery", "row 26: a dated contract ends"),
        ({"c": None, "x": "CALCULATED"}, "liquidation", "no client id"),
        ({"c": 5, "x": "CALCULATED", "q": []}, "liquidation", "a client id of another type hides nothing"),
        ({"c": "x", "x": "NEW_ADL"}, "adl", "the counterparty's liquidation"),
        ({"c": "x", "x": "NEW", "X": "NEW_ADL"}, "adl", "the same as a status"),
        ({"c": "x", "x": "NEW", "X": "NEW_INSURANCE"}, "liquidation", "taken over by the insurance fund"),
        ({"c": "x", "x": "NEW", "o": "LIQUIDATION"}, "liquidation", "by the type of the order"),
    ],
)
def test_only_the_venues_own_orders_are_told(order: dict[str, Any], kind: str | None, why: str) -> None:
    frame = {"e": "ORDER_TRADE_UPDATE", "E": 8, "T": 7, "o": {"s": "BTCUSDT", "S": "SELL", "q": "0.001", **order}}
    result, _ = receive(frame)
    assert result.refetch == Refetch.SOON, "the margin of open orders may have changed"
    calls = [event for event in result.events if isinstance(event, VenueCall)]
    assert [call.kind for call in calls] == ([] if kind is None else [kind]), why
    assert all(call.symbols == ("BTCUSDT",) and "BTCUSDT" in call.text for call in calls), why


def test_one_forced_order_is_one_call_however_often_it_is_filled_or_seen() -> None:
    wire = UserWire("main", Counters())
    frame = {"e": "ORDER_TRADE_UPDATE", "T": 7, "o": {"s": "BTCUSDT", "S": "SELL", "q": "1", "c": "autoclose-1", "x": "NEW"}}
    calls = [event for x in ("NEW", "TRADE", "TRADE") for event in wire.receive(json.dumps(frame | {"x": x}).encode()).events]
    assert len(calls) == 1
    frame["o"]["c"] = "autoclose-2"  # type: ignore[index]
    assert len(wire.receive(json.dumps(frame).encode()).events) == 1


def _forced(**order: Any) -> dict[str, Any]:
    named = {"s": "BTCUSDT", "S": "SELL", "q": "1", "c": "adl_autoclose", "x": "NEW", "i": 1}
    return {"e": "ORDER_TRADE_UPDATE", "E": 8, "T": 7, "o": named | order}


@pytest.mark.parametrize(
    ("frames", "told", "why"),
    [
        ([_forced(), _forced()], 1, "two connections"),
        ([_forced(), _forced() | {"T": 9, "E": 9}], 1, "its fill comes later"),
        ([_forced(), _forced(x="TRADE", l="0.4"), _forced(x="TRADE", l="0.6")], 1, "its fills, in one millisecond"),
        ([_forced(), _forced(i=2)], 2, "a second auto-deleveraging: the client id is the same for all"),
        ([_forced(), _forced(s="ETHUSDT")], 2, "order ids are counted per symbol"),
        ([_forced(i="1"), _forced(i=1)], 1, "an id as a text is the same id"),
        ([_forced(c="", x="CALCULATED", i=5), _forced(c="", x="CALCULATED", i=6)], 2, "no client id"),
        ([_forced(c="", x="CALCULATED", i=None), _forced(c="", x="CALCULATED", i=None, q="2")], 2, "no id at all: by content"),
        ([_forced(c="", x="CALCULATED", i=None), _forced(c="", x="CALCULATED", i=None)], 1, "and the same content is the same"),
        ([_forced(c="", x="CALCULATED", i=0), _forced(c="", x="CALCULATED", i=0) | {"T": 9}], 2, "and later is another"),
        ([_forced(i=None) | {"T": None, "E": None}] * 2, 2, "neither id nor time: rather twice than not"),
        ([_forced(c="autoclose-1", i=None), _forced(c="autoclose-1", i=None) | {"T": 9}], 1, "a client id that is its own"),
        ([_forced(c="autoclose-1", i=7), _forced(c="autoclose-2", i=8)], 2, "two liquidations"),
        ([_forced(i=number) for number in range(1, 400)] + [_forced(i=1)], 399, "a storm of them, and a late fill of the first"),
    ],
)
def test_row_6_each_order_of_the_venues_own_is_told_once_and_each_later_one_too(
    frames: list[dict[str, Any]], told: int, why: str
) -> None:
    wire = UserWire("main", Counters())
    calls = [event for frame in frames for event in wire.receive(json.dumps(frame).encode()).events]
    assert len(calls) == told, why
    assert all(isinstance(call, VenueCall) for call in calls)


def test_row_6_two_margin_calls_of_one_millisecond_are_two() -> None:
    wire = UserWire("main", Counters())
    rows = [{"s": symbol, "ps": "LONG", "pa": "1", "mt": "CROSSED", "mp": "10", "mm": "1"} for symbol in ("ETHUSDT", "BTCUSDT")]
    frames = [{"e": "MARGIN_CALL", "E": 5, "p": [row]} for row in (rows[0], rows[1], rows[0], rows[1])]
    calls = [event for frame in frames for event in wire.receive(json.dumps(frame).encode()).events]
    assert [call.symbols for call in calls] == [("ETHUSDT",), ("BTCUSDT",)]
    worse = {"e": "MARGIN_CALL", "E": 5, "p": [rows[0] | {"mm": "2"}]}
    assert len(wire.receive(json.dumps(worse).encode()).events) == 1, "the same position, other figures"


@pytest.mark.parametrize(
    ("frame", "symbols", "words", "why"),
    [
        (
            {"E": 5, "cw": "3.16", "p": [{"s": "ETHUSDT", "ps": "LONG", "pa": "1.327", "mp": "187.17", "mm": "1.61"}]},
            ("ETHUSDT",),
            ("ETHUSDT LONG 1.327", "187.17", "1.61", "3.16"),
            "documented",
        ),
        ({"E": 5, "p": [{"s": "ETHUSDT", "pa": {}}]}, ("ETHUSDT",), ("ETHUSDT", "?"), "an unreadable amount"),
        ({"E": 5, "p": [{"s": "A"}, 5, {"s": "B"}]}, ("A",), ("A",), "what can be read before a bad row"),
        ({"E": "x", "p": 5}, (), ("no details",), "nothing can be read: it is an alarm all the same"),
        ({}, (), ("no details",), "empty"),
    ],
)
def test_a_margin_call_is_never_lost(frame: dict[str, Any], symbols: tuple[str, ...], words: tuple[str, ...], why: str) -> None:
    result, _ = receive({"e": "MARGIN_CALL"} | frame)
    (call,) = result.events
    assert isinstance(call, VenueCall)
    assert (call.kind, call.symbols) == ("margin_call", symbols), why
    assert all(word in call.text for word in words), (why, call.text)


def test_a_margin_call_that_two_connections_bring_is_told_once() -> None:
    wire = UserWire("main", Counters())
    frame = b'{"e":"MARGIN_CALL","E":5,"p":[]}'
    assert [len(wire.receive(frame).events) for _ in range(3)] == [1, 0, 0]
    assert len(wire.receive(b'{"e":"MARGIN_CALL","E":6,"p":[]}').events) == 1


@pytest.mark.parametrize(
    ("frame", "key", "why"),
    [
        ({"E": 1576653824250}, "", "documented"),
        ({"E": "1576653824250", "listenKey": "abc"}, "abc", "a time as text"),
        ({"E": None, "listenKey": "abc"}, "abc", "a null time"),
        ({"E": {"x": 1}, "listenKey": 5}, "", "everything else unreadable"),
    ],
)
def test_the_end_of_a_listen_key_is_never_lost(frame: dict[str, Any], key: str, why: str) -> None:
    for form in ({"e": "listenKeyExpired"} | frame, {"stream": "x", "data": {"e": "listenKeyExpired"} | frame}):
        result, _ = receive(form)
        assert result.expired_key == key, why


@pytest.mark.parametrize(
    ("frame", "refused", "refetch", "why"),
    [
        ({"e": "TRADE_LITE", "E": 1}, {}, 0, "known and not needed"),
        ({"e": "SOMETHING_NEW", "E": 1}, {"unknown_event": 1}, 0, "an event of next year"),
        ({"result": None, "id": 1}, {}, 0, "an answer to a request"),
        (b"garbage", {"not_json": 1}, 2, "it may have been anything: ask"),
        (b'{"e":"ACCOUNT_UPDATE","a":' + b"[" * 100_000, {"not_json": 1}, 2, "very deep"),
        (b'{"e":5}', {"not_json": 1}, 2, "no name"),
    ],
)
def test_the_rest_is_survived(frame: Any, refused: dict[str, int], refetch: int, why: str) -> None:
    result, counters = receive(frame)
    assert (result.events, counters.refused, result.refetch) == ([], refused, refetch), why


def test_recorded_events_end_in_the_expected_state(shared: Path) -> None:
    recorded = json.loads((shared / "data/binance/recorded_user_events.json").read_text())
    wire = UserWire("main", counters := Counters())
    state: dict[str, float] = {}
    for frame, expected in zip(recorded["events"], recorded["expected_after_each"], strict=True):
        result = wire.receive(json.dumps(frame).encode())
        for event in result.events:
            assert isinstance(event, AccountUpdate)
            state |= {f"{row.asset}.wb": row.wallet for row in event.balances}
            state |= {f"{row.symbol}.{row.side}.pa": row.quantity for row in event.positions}
            assert event.event_time_ms == frame["T"]
            assert all(row.margin_asset == "USDT" for row in event.positions)
        assert result.refetch is Refetch.NO
        assert {name: state[name] for name in expected} == {name: float(value) for name, value in expected.items()}
    assert not counters.refused


def test_every_documented_user_frame(shared: Path) -> None:
    samples = json.loads((shared / "data/binance/ws_samples.json").read_text())
    kinds = {
        "ACCOUNT_UPDATE": AccountUpdate,
        "MARGIN_CALL": VenueCall,
        "ACCOUNT_CONFIG_UPDATE [leverage]": LeverageChanged,
        "ACCOUNT_CONFIG_UPDATE [multi-assets mode]": ModeChanged,
    }
    for name, kind in kinds.items():
        for frame in (samples[name], {"stream": "key", "data": samples[name]}):
            result, counters = receive(frame)
            assert [type(event) for event in result.events] == [kind], name
            assert not counters.refused, name
    update_event = receive(samples["ACCOUNT_UPDATE"])[0].events[0]
    assert isinstance(update_event, AccountUpdate)
    assert [(row.side, row.quantity, row.isolated) for row in update_event.positions] == [
        ("BOTH", 0, True),
        ("LONG", 20, True),
        ("SHORT", -10, True),
    ]
    for name in ("listenKeyExpired", "listenKeyExpired [newer field set; key value is a placeholder]"):
        assert receive(samples[name])[0].expired_key is not None, name
