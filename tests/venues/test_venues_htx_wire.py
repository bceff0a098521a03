"""Frames of all sockets: recorded, documented and hostile ones."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from venues_htx_exchange import CODE, kline, packed, trade

from monitor.model.events import Price, PriceKind
from monitor.model.streams import Counters
from monitor.venues.htx.frames import FrameError, HostileFrames, inflate
from monitor.venues.htx.user_wire import UserFrame, UserWire
from monitor.venues.htx.wire import MarketFrame, MarketWire, Topic, topic_name

LIMIT = 8 << 20
TS = 1_604_388_667_226


def market(*topics: Topic, counters: Counters | None = None) -> MarketWire:
    named = {topic_name(*topic).lower(): topic for topic in topics}
    return MarketWire(named, counters or Counters(), LIMIT)


def user(counters: Counters | None = None) -> UserWire:
    return UserWire("main", counters or Counters(), LIMIT)


def documented(shared: Path, file: str, channel: str, direction: str = "server") -> list[dict[str, Any]]:
    messages = json.loads((shared / "data/htx" / file).read_text())["messages"]
    return [m["message"] for m in messages if m["channel"] == channel and m["dir"] == direction]


# ------------------------------------------------------------------ recorded and documented


def test_recorded_frames_unpack_to_their_text_and_are_confirmations(shared: Path) -> None:
    frames = json.loads((shared / "data/htx/ws_frames_recorded.json").read_text())["frames"]
    assert len(frames) == 2
    for frame in frames:
        raw = base64.b64decode(frame["base64"])
        assert inflate(raw, LIMIT).decode() == frame["text"]
        said = market().receive(raw)
        assert said.acknowledged == json.loads(frame["text"])["subbed"].lower()
        assert not said.hostile


def test_documented_market_messages(shared: Path) -> None:
    """The samples subscribe by alias; a price is known only by the topic that was asked for."""
    counters = Counters()
    wire = MarketWire(
        {
            "market.btc_cq.trade.detail": (PriceKind.LAST, CODE),
            "market.btc-usd.index.1min": (PriceKind.INDEX, "BTC"),
            "market.btc_cw.mark_price.15min": (PriceKind.MARK, CODE),
        },
        counters,
        LIMIT,
    )
    sent = documented(shared, "ws_market.json", "/ws") + documented(shared, "ws_market.json", "/ws_index")
    said = [wire.receive(packed(message)) for message in sent]
    assert [f.pong for f in said if f.pong] == ['{"pong":18212558000}']
    rows = [(f.prices.kind, f.prices.rows[0]) for f in said if f.prices]
    assert rows == [
        (PriceKind.LAST, Price(CODE, 13562.5, 1604386599123)),
        (PriceKind.INDEX, Price("BTC", 13420.3325, 1604387688243)),
        (PriceKind.MARK, Price(CODE, 60603.01, 1615773631266)),
    ]
    assert counters.refused == {"unknown_topic": 1}  # market.BTC_CQ.detail, which we did not ask for


def test_documented_notification_messages(shared: Path) -> None:
    counters = Counters()
    wire = user(counters)
    said = [wire.receive(packed(message)) for message in documented(shared, "ws_notification.json", "/notification")]
    assert not any(f.hostile for f in said)
    assert said[0].authenticated
    assert [f.pong for f in said if f.pong] == ['{"op":"pong","ts":"1492420473058"}']  # a string goes back as a string
    updates = [update for f in said for _, update in f.updates]
    assert [(u.reason, u.event_time_ms) for u in updates] == [("order.match", TS), ("order.match", TS)]
    balance = updates[0].balances[0]
    assert (balance.coin, balance.leverage, balance.adjust_factor, balance.version_ms) == ("ADA", 20, 0.4, TS)
    assert balance.margin_static == pytest.approx(445.554085945257745136, rel=1e-15)
    assert balance.venue_equity == pytest.approx(446.417641681222726716, rel=1e-15)
    assert balance.venue_guarantee_asset_ratio == pytest.approx(40.000796572150656768, rel=1e-15)
    assert balance.venue_liquidation_price == pytest.approx(0.018674308027108984, rel=1e-15)
    position = updates[1].positions[0]
    assert (position.symbol, position.side, position.quantity, position.entry_price) == ("ADA201225", "SHORT", -1, 0.0905)
    assert position.margin_asset == "ADA"
    contracts = next(f.contracts for f in said if f.contracts)
    assert [(c.symbol, c.contract_type, c.face, c.status) for c in contracts] == [
        ("BTC201106", "this_week", 100, "1"),
        ("BTC201113", "next_week", 100, "1"),
        ("BTC201225", "quarter", 100, "1"),
        ("BTC210326", "next_quarter", 100, "1"),
    ]
    assert said[-2].closing
    assert counters.refused == {"unknown_topic": 3, "venue_error": 1}  # orders, matchOrders, liquidations: not asked for


# ------------------------------------------------------------------ market rules


LAST = (PriceKind.LAST, CODE)
MARK = (PriceKind.MARK, CODE)


def test_the_latest_trade_of_a_push_counts_whatever_their_order() -> None:
    message = trade(0)
    message["tick"]["data"] = [
        {"price": 3, "ts": 20, "id": 5},
        {"price": "2.5", "ts": 20, "id": 7},
        {"price": 1, "ts": 10, "id": 9},
    ]
    said = market(LAST).receive(packed(message))
    assert said.prices is not None
    assert said.prices.rows == [Price(CODE, 2.5, 20)]


def test_a_kline_that_is_sent_on_and_on_does_not_look_new() -> None:
    message = kline(topic_name(*MARK), "10", ts=600_000_000)
    message["tick"]["id"] = 599_000
    said = market(MARK).receive(packed(message))
    assert said.prices is not None
    assert said.prices.rows[0].event_time_ms == 599_060_000


@pytest.mark.parametrize(
    ("price", "why"),
    [
        ("NaN", "not a number"),
        ("Infinity", "not finite"),
        ("-Infinity", "not finite"),
        ("1e400", "not finite as a double"),
        ("", "empty"),
        (None, "null"),
        (0, "a price is > 0"),
        ("-1", "a price is > 0"),
        ("1_000", "Python's float would take it"),
        (" 1", "padded"),
        ("１２", "full-width digits"),
        ([1], "a list"),
        (True, "a boolean"),
        (1e15, "no coin is worth that"),
    ],
)
def test_what_is_no_price_moves_nothing(price: Any, why: str) -> None:
    counters = Counters()
    wire = market(LAST, MARK, counters=counters)
    message = trade(1.0)
    message["tick"]["data"][0]["price"] = price
    for frame in (packed(message), packed(kline(topic_name(*MARK), price))):
        said = wire.receive(frame)
        assert said == MarketFrame(hostile=True), why
    assert counters.refused == {"not_a_price": 2}


@pytest.mark.parametrize("topic", ["market.BTC_CQ.trade.detail", "market.BTC301228.trade.detail"])
def test_an_alias_or_an_unwanted_contract_is_never_a_key(topic: str) -> None:
    counters = Counters()
    said = market(LAST, counters=counters).receive(packed(trade(1.0) | {"ch": topic}))
    assert said == MarketFrame()
    assert counters.refused == {"unknown_topic": 1}


def test_a_refused_subscription_is_told_by_its_id() -> None:
    message = {"status": "error", "err-code": "bad-request", "err-msg": "invalid topic", "id": topic_name(*LAST), "ts": 1}
    assert market(LAST).receive(packed(message)).refused == topic_name(*LAST).lower()


# ------------------------------------------------------------------ hostile frames

GOOD = packed(trade(1.0))
HOSTILE = [
    (b"", "truncated", "an empty frame"),
    (GOOD[:-9], "truncated", "half a gzip"),
    (b'{"ping":1}', "not_gzip", "plain text where gzip is the protocol"),
    (b"\x1f\x8b" + b"\xff" * 40, "not_gzip", "garbage behind the right first bytes"),
    (GOOD + b"x", "trailing_bytes", "something behind the end"),
    (GOOD[:-8] + bytes(8), "not_gzip", "a wrong checksum"),
    (gzip.compress(bytes(LIMIT + 1), mtime=0), "too_large", "a bomb"),
    (gzip.compress(b"\xff\xfe", mtime=0), "not_json", "no UTF-8"),
    (gzip.compress(b"[" * 100_000, mtime=0), "not_json", "nested too deep"),
    (gzip.compress(b'{"ch":"x","ts":NaN}', mtime=0), "not_json", "NaN is no JSON"),
    (gzip.compress(b"[1]", mtime=0), "not_json", "no object"),
    (gzip.compress(b'{"hello":1}', mtime=0), "unknown_message", "an object that is no message"),
]


@pytest.mark.parametrize(("frame", "reason", "why"), HOSTILE)
def test_hostile_frames_are_counted_and_say_nothing(frame: bytes, reason: str, why: str) -> None:
    counters = Counters()
    assert market(LAST, counters=counters).receive(frame) == MarketFrame(hostile=True), why
    assert counters.refused == {reason: 1}, why
    counters = Counters()
    assert user(counters).receive(frame) == UserFrame(hostile=True), why
    assert counters.refused == {reason: 1}, why


@pytest.mark.parametrize("number", ['"x"', "1.5", "null", "[1]", '{"a":1}', "-1", '"', "1" * 21, '"1', "true"])
def test_a_wrong_heartbeat_is_not_sent_back(number: str) -> None:
    for wire, message in ((market(), f'{{"ping":{number}}}'), (user(), f'{{"op":"ping","ts":{number}}}')):
        said = wire.receive(gzip.compress(message.encode()))
        assert said.pong is None
        assert said.hostile


def test_a_bomb_is_not_unpacked_to_its_end() -> None:
    with pytest.raises(FrameError, match="too_large"):
        inflate(gzip.compress(bytes(64 << 20)), 1000)


@pytest.mark.parametrize(
    ("at", "ends", "why"),
    [
        ([0, 1, 2, 3, 4], [4], "five in ten seconds"),
        ([0, 3, 6, 9, 12, 15], [], "never five within ten seconds"),
        ([0, 10, 10.5, 11, 12, 13], [13], "the first one is out of the window"),
        ([*range(20)], [4], "once: another connection would bring the same"),
        ([*range(5), *range(400, 405)], [4, 404], "after the pause it may be tried again"),
    ],
)
def test_hostile_frames_end_a_connection_at_most_once_for_a_while(at: list[float], ends: list[float], why: str) -> None:
    frames = HostileFrames(5, 10.0, 300.0)
    assert [moment for moment in at if frames.note(moment)] == ends, why
