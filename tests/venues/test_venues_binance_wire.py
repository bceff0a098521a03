"""Market frames: the documented ones, the hostile ones, and what the fast path must not change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.model.events import AssetRate, AssetRates, Brackets, Price, PriceKind, Prices
from monitor.model.instruments import Bracket
from monitor.model.streams import Counters
from monitor.venues.binance.wire import MarketFrame, MarketWire, newest_ms


def receive(frame: Any) -> tuple[MarketFrame, Counters]:
    counters = Counters()
    data = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return MarketWire(counters).receive(data), counters


def prices_of(frame: MarketFrame) -> list[tuple[str, float, int]]:
    return [
        (row.symbol, row.price, row.event_time_ms) for event in frame.events if isinstance(event, Prices) for row in event.rows
    ]


def mark(symbol: str = "BTCUSDT", price: Any = "50000.5", at: Any = 1562305380000, **more: Any) -> dict[str, Any]:
    return {"e": "markPriceUpdate", "E": at, "s": symbol, "p": price, "i": "1", "P": "1", "r": "", "T": 0, **more}


def combined(rows: Any, stream: str = "!markPrice@arr@1s") -> dict[str, Any]:
    return {"stream": stream, "data": rows}


GOOD = [("BTCUSDT", 50000.5, 1562305380000)]


@pytest.mark.parametrize(
    ("frame", "prices", "refused", "why"),
    [
        ([mark()], GOOD, {}, "an array, as on /ws"),
        (combined([mark()]), GOOD, {}, "an array, as on /stream"),
        ({"data": [mark()], "stream": "!markPrice@arr@1s"}, GOOD, {}, "the order of keys says nothing"),
        (combined([{**mark(), "e": "markPriceUpdate"}], "!markPrice@arr"), GOOD, {}, "the 3 s stream"),
        (mark(), GOOD, {}, "one symbol's stream, bare"),
        (combined(mark(), "btcusdt@markPrice@1s"), GOOD, {}, "one symbol's stream, combined"),
        ([mark(price=50000.5)], GOOD, {}, "a JSON number"),
        ([mark(at="1562305380000")], GOOD, {}, "a time as text"),
        ([mark(st=1, ap="1")], GOOD, {}, "the fields of 2026"),
        ([mark(), mark("BTCUSD_PERP", st=2)], GOOD, {}, "the other contract family is dropped, and is no fault"),
        ([mark("BTCUSD_PERP", st=2)], [], {}, "nothing of ours"),
        ([mark(), mark("ETHUSDT", "NaN")], GOOD, {"not_a_price": 1}, "NaN"),
        ([mark(), mark("ETHUSDT", "Infinity")], GOOD, {"not_a_price": 1}, "Infinity"),
        ([mark(), mark("ETHUSDT", "0.00000000")], GOOD, {"not_a_price": 1}, "0, as settled contracts have"),
        ([mark(), mark("ETHUSDT", "-1")], GOOD, {"not_a_price": 1}, "negative"),
        ([mark(), mark("ETHUSDT", "")], GOOD, {"not_a_price": 1}, "empty"),
        ([mark(), mark("ETHUSDT", None)], GOOD, {"not_a_price": 1}, "null"),
        ([mark(), mark("ETHUSDT", "1_000")], GOOD, {"not_a_price": 1}, "Python's own notation"),
        ([mark(), mark("ETHUSDT", "１２")], GOOD, {"not_a_price": 1}, "full-width digits"),
        ([mark(), mark("ETHUSDT", " 1")], GOOD, {"not_a_price": 1}, "padded"),
        ([mark(), mark("ETHUSDT", "1e400")], GOOD, {"not_a_price": 1}, "past the range"),
        ([mark(), mark("ETHUSDT", True)], GOOD, {"not_a_price": 1}, "a flag is no number"),
        ([mark(), mark("ETHUSDT", at=10**30)], GOOD, {"not_a_price": 1}, "a time past 64 bits"),
        ([mark(), mark("ETHUSDT", at=-1)], GOOD, {"not_a_price": 1}, "a time before 1970"),
        ([mark(), mark("")], GOOD, {"not_a_price": 1}, "no symbol"),
        ([mark(), mark("A" * 10_000)], GOOD, {"not_a_price": 1}, "a symbol of 10,000 letters"),
        ([mark(), 5], GOOD, {"not_an_event": 1}, "a row that is no object"),
        ([mark(), {"e": "bookTicker", "s": "X", "b": "1"}], GOOD, {"unknown_event": 1}, "another event among them"),
        (combined([mark(), mark("ETHUSDT", "NaN")]), GOOD, {"not_a_price": 1}, "a bad row costs itself in a combined frame too"),
        ([], [], {}, "an empty frame"),
        (b"", [], {"not_json": 1}, "nothing"),
        (b"<html>maintenance</html>", [], {"not_json": 1}, "a page"),
        (b"\xff\xfe", [], {"not_json": 1}, "no UTF-8"),
        (b"[" * 100_000, [], {"not_json": 1}, "very deep"),
        (b'{"stream":"!markPrice@arr","data":' + b"[" * 100_000, [], {"not_json": 1}, "very deep inside"),
        (b'[{"e":"markPriceUpdate","s":"BTCUSDT","p":"1"', [], {"not_json": 1}, "half a frame"),
        ({"result": None, "id": 1}, [], {}, "a request acknowledged"),
        ({"error": {"code": 2, "msg": "bad"}, "id": 1}, [], {"venue_error": 1}, "a request refused"),
        ({"code": 2, "msg": "bad"}, [], {"venue_error": 1}, "a request refused, the other form"),
        ({"e": "somethingNew", "x": 1}, [], {"unknown_event": 1}, "an event of next year"),
    ],
)
def test_mark_prices(frame: Any, prices: list[tuple[str, float, int]], refused: dict[str, int], why: str) -> None:
    result, counters = receive(frame)
    assert prices_of(result) == prices, why
    assert counters.refused == refused, why
    assert all(isinstance(row, Price) for event in result.events if isinstance(event, Prices) for row in event.rows)


def test_a_good_frame_takes_the_fast_path_and_a_bad_row_does_not_change_the_good_ones() -> None:
    rows = [mark(f"S{number}USDT", str(number + 1)) for number in range(550)]
    good, _ = receive(rows)
    rows[300] = mark("S300USDT", "NaN")
    mixed, counters = receive(rows)
    assert len(prices_of(good)) == 550
    assert prices_of(mixed) == [row for row in prices_of(good) if row[0] != "S300USDT"]
    assert counters.refused == {"not_a_price": 1}
    assert counters.frames == {"mark_price": 1}


def index(symbol: str = "ADAUSD", **changes: Any) -> dict[str, Any]:
    row = {"e": "assetIndexUpdate", "E": 1686749230000, "s": symbol, "i": "0.27462452", "b": "0.1", "a": "0.1"}
    return row | {"B": "0.24716207", "A": "0.30208698", "q": "0.05", "g": "0.05", "Q": "0.26089330", "G": "0.28835575"} | changes


ADA = AssetRate("ADA", 0.27462452, 0.24716207, 0.30208698, 1686749230000, 0.2608933, 0.28835575)


@pytest.mark.parametrize(
    ("row", "rates", "refused", "why"),
    [
        (index(), [ADA], {}, "documented"),
        (index(st=1), [ADA], {}, "of our family"),
        (index(st=2), [], {}, "of the other family"),
        (index("ADAEUR"), [], {"not_a_rate": 1}, "not a rate in USD"),
        (index("USD"), [], {"not_a_rate": 1}, "no asset"),
        (index(B="0.31"), [], {"not_a_rate": 1}, "bid above ask: fields are mixed up"),
        (index(B="0"), [AssetRate("ADA", 0.27462452, 0.0, 0.30208698, 1686749230000, 0.2608933, 0.28835575)], {}, "all haircut"),
        (index(A="0"), [], {"not_a_rate": 1}, "a debt of no value"),
        (index(i="NaN"), [], {"not_a_rate": 1}, "NaN"),
        (index(E="x"), [], {"not_a_rate": 1}, "no time"),
    ],
)
def test_asset_rates(row: dict[str, Any], rates: list[AssetRate], refused: dict[str, int], why: str) -> None:
    for frame in ([row], combined([row], "!assetIndex@arr")):
        result, counters = receive(frame)
        assert [rate for event in result.events if isinstance(event, AssetRates) for rate in event.rows] == rates, why
        assert counters.refused == refused, why


def contract(**changes: Any) -> dict[str, Any]:
    tiers = [
        {"bs": 2, "bnf": 5000, "bnc": 25000, "mmr": 0.025, "cf": 75, "mi": 11, "ma": 20},
        {"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50},
    ]
    return {"e": "contractInfo", "E": 1669356423908, "s": "IOTAUSDT", "ct": "PERPETUAL", "cs": "TRADING", "bks": tiers} | changes


@pytest.mark.parametrize(
    ("frame", "tiers", "refused", "why"),
    [
        (contract(), 2, {}, "documented, tiers in any order"),
        (contract(bks=None), 0, {}, "a change of status"),
        (contract(st=1), 2, {}, "our family, by name"),
        (contract(st={}), 2, {}, "a family that cannot be read"),
        (contract(bks=[contract()["bks"][0]]), 0, {"not_brackets": 1}, "the first tier is missing: half a table is a wrong one"),
        (contract(bks=[{"bs": 1, "bnf": 0, "bnc": 0, "mmr": 1, "cf": 0, "ma": 1}]), 0, {"not_brackets": 1}, "an empty tier"),
        (contract(bks=[{"bs": 1}]), 0, {"not_a_contract": 1}, "fields missing"),
    ],
)
def test_contract_notices(frame: dict[str, Any], tiers: int, refused: dict[str, int], why: str) -> None:
    result, counters = receive(combined(frame, "!contractInfo"))
    tables = [table for event in result.events if isinstance(event, Brackets) for table in event.tables]
    assert sum(len(table.brackets) for table in tables) == tiers, why
    assert counters.refused == refused, why
    assert result.contracts_changed, "whatever it said, the contracts are read again"
    if tables:
        assert tables[0].brackets[0] == Bracket(1, 0, 5000, 0.01, 0, 50)
        assert result.events[0].account == ""  # type: ignore[union-attr]


@pytest.mark.parametrize("family", [2, "2", 2.0])
@pytest.mark.parametrize(
    "row",
    [
        contract(),
        contract(bks=[{"bs": 1}]),
        contract(E="x"),
        index(),
        index(i="NaN"),
        mark(),
        {"e": "new", "E": 1},
    ],
    ids=["contract", "bad brackets", "bad time", "rate", "bad rate", "price", "unknown"],
)
def test_row_24_what_is_of_the_other_family_is_nothing_to_us(row: dict[str, Any], family: Any) -> None:
    """On the merged market-wide streams: no price, no rate, no reload of contracts and brackets, nothing to count as refused."""
    result, counters = receive([row | {"st": family}, row | {"st": family, "s": "BTCUSD_PERP"}])
    assert (result.events, result.contracts_changed, counters.refused) == ([], False, {})
    both, _ = receive([row | {"st": family}, contract()])
    assert both.contracts_changed, "ours beside it still counts"


def test_newest_time_of_a_frame() -> None:
    frame, _ = receive([mark(at=5), mark("ETHUSDT", at=9), mark("XRPUSDT", at=7)])
    (event,) = frame.events
    assert isinstance(event, Prices)
    assert newest_ms(event.rows) == 9
    assert event.kind is PriceKind.MARK
    assert newest_ms([]) == 0


def test_every_documented_market_frame(shared: Path) -> None:
    samples = json.loads((shared / "data/binance/ws_samples.json").read_text())
    expected = {
        "<symbol>@markPrice@1s": {("BTCUSDT", 11794.15)},
        "<symbol>@markPrice@1s [2026 field set]": {("BTCUSDT", 11794.15)},
        "!markPrice@arr@1s": {("BTCUSDT", 11185.87786614)},
    }
    for name, marks in expected.items():
        for frame in (samples[name], combined(samples[name], name)):
            result, counters = receive(frame)
            assert {(symbol, price) for symbol, price, _ in prices_of(result)} == marks, name
            assert not counters.refused, name
    result, counters = receive(samples["!assetIndex@arr"])
    (rates,) = result.events
    assert isinstance(rates, AssetRates)
    assert [rate.asset for rate in rates.rows] == ["ADA", "USDT"]
    assert rates.rows[0] == ADA
    assert not counters.refused


def test_recorded_frames_of_other_streams_are_survived(shared: Path) -> None:
    recorded = json.loads((shared / "data/binance/recorded_market_frames_2021.json").read_text())["frames"]
    wire = MarketWire(counters := Counters())
    for item in recorded:
        frame = wire.receive(json.dumps(item["frame"]).encode())
        assert all(isinstance(event, Prices) for event in frame.events)
    assert len(recorded) == 220
    seen = sum(counters.refused.values()) + sum(counters.frames.values())
    assert seen >= 220, "each frame is counted somewhere"
    assert set(counters.refused) <= {"unknown_event"}
