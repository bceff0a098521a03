"""Laws of the decoders: whatever comes in, nothing is raised, and no number comes out that is not one."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from monitor.model.events import AccountUpdate, AssetRates, Brackets, Event, LeverageChanged, Prices
from monitor.model.streams import Counters
from monitor.venues.base import VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.snapshot import account_snapshot, read_answers
from monitor.venues.binance.user_wire import UserWire
from monitor.venues.binance.wire import MarketWire

FRAMES: list[Any] = [
    [{"e": "markPriceUpdate", "E": 1, "s": "BTCUSDT", "p": "1.5", "st": 1}, {"e": "markPriceUpdate", "E": 1, "s": "X", "p": "2"}],
    {"stream": "!markPrice@arr@1s", "data": [{"e": "markPriceUpdate", "E": 1, "s": "BTCUSDT", "p": "1.5"}]},
    {
        "stream": "!assetIndex@arr",
        "data": [{"e": "assetIndexUpdate", "E": 1, "s": "BTCUSD", "i": "3", "B": "2", "A": "4", "Q": "2"}],
    },
    {
        "e": "contractInfo",
        "E": 1,
        "s": "BTCUSDT",
        "bks": [{"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50}],
    },
    {
        "e": "ACCOUNT_UPDATE",
        "E": 2,
        "T": 1,
        "a": {
            "m": "ORDER",
            "B": [{"a": "USDT", "wb": "1", "cw": "1", "bc": "0"}],
            "P": [{"s": "BTCUSDT", "pa": "1", "ep": "2", "mt": "cross", "iw": "0", "ps": "BOTH", "ma": "USDT"}],
        },
    },
    {"e": "ACCOUNT_CONFIG_UPDATE", "E": 2, "T": 1, "ac": {"s": "BTCUSDT", "l": 25}},
    {"e": "ACCOUNT_CONFIG_UPDATE", "E": 2, "T": 1, "ai": {"j": True}},
    {"e": "ORDER_TRADE_UPDATE", "E": 2, "T": 1, "o": {"s": "BTCUSDT", "c": "autoclose-1", "x": "NEW", "S": "SELL", "q": "1"}},
    {"e": "MARGIN_CALL", "E": 2, "cw": "1", "p": [{"s": "BTCUSDT", "ps": "LONG", "pa": "1", "mp": "1", "mm": "1"}]},
    {"e": "listenKeyExpired", "E": 2, "listenKey": "abc"},
]

NASTY: st.SearchStrategy[Any] = st.sampled_from(
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "",
        "0",
        "-0",
        "-1",
        "1_000",
        "１",
        " 1",
        None,
        True,
        [],
        {},
        0,
        -1,
        10**30,
        1e308,
        "x",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with some leaf, row or branch replaced, dropped or doubled."""
    if draw(st.integers(0, 5)) == 0:
        return draw(NASTY | JSON)
    if isinstance(value, dict):
        result = {key: draw(mutated(item)) for key, item in value.items() if draw(st.integers(0, 15))}
        return result | (draw(st.dictionaries(st.text(max_size=3), NASTY, max_size=1)))
    if isinstance(value, list):
        return [draw(mutated(item)) for item in value for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))]
    return value


def check(event: Event) -> None:
    if isinstance(event, Prices):
        assert event.rows, "an event of nothing"
        assert all(0 < row.price < math.inf and 0 <= row.event_time_ms < 2**53 and row.symbol for row in event.rows)
    elif isinstance(event, AssetRates):
        assert all(0 <= row.bid <= row.ask < math.inf and 0 < row.index < math.inf for row in event.rows)
    elif isinstance(event, Brackets):
        for table in event.tables:
            assert table.brackets[0].notional_floor == 0
            assert all(math.isfinite(tier.rate) and math.isfinite(tier.deduction) for tier in table.brackets)
    elif isinstance(event, AccountUpdate):
        assert event.event_time_ms > 0
        assert all(math.isfinite(row.wallet) and math.isfinite(row.cross_wallet) for row in event.balances)
        for position in event.positions:
            assert math.isfinite(position.quantity)
            assert math.isfinite(position.isolated_wallet)
            assert 0 <= position.entry_price < math.inf
            assert position.entry_price > 0 or position.quantity == 0
    elif isinstance(event, LeverageChanged):
        assert 0 < event.leverage < math.inf


def feed(data: bytes) -> None:
    for event in [*MarketWire(Counters()).receive(data).events, *UserWire("main", Counters()).receive(data).events]:
        check(event)


@given(st.sampled_from(FRAMES).flatmap(mutated))
def test_mutated_frames(frame: Any) -> None:
    feed(json.dumps(frame).encode())


@given(st.sampled_from(FRAMES), st.data())
def test_broken_bytes(frame: Any, data: st.DataObject) -> None:
    text = bytearray(json.dumps(frame).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    feed(bytes(text[: data.draw(st.integers(0, len(text)))]))


@given(st.binary(max_size=200))
@example(b'{"data":')
@example(b'{"e":"markPriceUpdate","E":1,"s":"A","p":"1"}{')
@example(b'{"e":"ACCOUNT_UPDATE","a":{"B":[{"a":"\xff"}]},"T":1}')
def test_any_bytes(data: bytes) -> None:
    feed(data)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.floats(1e-8, 1e9), st.booleans()), max_size=30))
def test_the_fast_path_and_row_by_row_agree(rows: list[tuple[str, float, bool]]) -> None:
    frame = [
        {"e": "markPriceUpdate", "E": 5, "s": name, "p": repr(price), "st": 2 if coin_m else 1} for name, price, coin_m in rows
    ]
    fast = MarketWire(Counters()).receive(json.dumps(frame).encode())
    slow = MarketWire(Counters()).receive(json.dumps([*frame, {"e": "markPriceUpdate", "p": "bad"}]).encode())
    assert fast.events == slow.events


ANSWERS = {
    "exchangeInfo": {
        "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-1"}],
        "symbols": [{"symbol": "BTCUSDT", "marginAsset": "USDT", "contractType": "PERPETUAL", "deliveryDate": 1}],
    },
    "premiumIndex": [{"symbol": "BTCUSDT", "markPrice": "1", "time": 1}],
    "assetIndex": [{"symbol": "BTCUSD", "time": 1, "index": "1", "bidRate": "1", "askRate": "1"}],
    "brackets": [
        {
            "symbol": "BTCUSDT",
            "brackets": [
                {"bracket": 1, "initialLeverage": 9, "notionalCap": 5, "notionalFloor": 0, "maintMarginRatio": 0.1, "cum": 0}
            ],
        }
    ],
}


@given(st.sampled_from(sorted(ANSWERS)).flatmap(lambda name: st.tuples(st.just(name), mutated(ANSWERS[name]))))
def test_mutated_answers_are_read_or_refused(case: tuple[str, Any]) -> None:
    name, answer = case
    body = json.dumps(answer).encode()
    try:
        match name:
            case "exchangeInfo":
                reference.instruments(body, Counters())
                reference.weight_limit(body)
            case "premiumIndex":
                prices = reference.mark_prices(body, Counters())
                assert all(0 < row.price < math.inf for row in prices.rows)
            case "assetIndex":
                assert all(0 <= row.bid <= row.ask for row in reference.asset_rates(body, Counters()).rows)
            case "brackets":
                check(reference.brackets(body, Counters(), account="main", event_time_ms=1))
    except VenueError:
        pass  # refused whole, which the caller survives


@given(mutated({"symbol": "BTCUSDT", "positionAmt": "1", "entryPrice": "2", "unRealizedProfit": "0", "notional": "2"}))
def test_a_mutated_position_is_refused_or_whole(row: Any) -> None:
    account = dict.fromkeys(("totalInitialMargin", "totalMaintMargin", "totalMarginBalance", "availableBalance"), "1")
    body = account | {"maxWithdrawAmount": "1", "assets": [], "positions": []}
    try:
        snapshot = account_snapshot(read_answers(body, json.dumps([row]).encode()), account="main", as_of_ms=1)
    except VenueError:
        return
    for position in snapshot.positions:
        assert math.isfinite(position.quantity)
        assert 0 < position.entry_price < math.inf
