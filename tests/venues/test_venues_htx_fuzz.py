"""Laws of the decoders: whatever comes in, nothing is raised, and no number comes out that is not one."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
from copy import deepcopy
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from venues_htx_exchange import CODE, account_row, contract, kline, leg, ok, packed, picture, push, trade

from monitor.model.events import CoinBalance, CoinUpdate, Position, PriceKind, Prices
from monitor.model.streams import Counters
from monitor.venues.base import VenueError
from monitor.venues.htx import reference
from monitor.venues.htx.snapshot import coin_snapshots, coins_held
from monitor.venues.htx.user_wire import UserFrame, UserWire
from monitor.venues.htx.wire import MarketFrame, MarketWire, Topic, topic_name

LIMIT = 1 << 16
TOPICS: list[Topic] = [(PriceKind.LAST, CODE), (PriceKind.MARK, CODE), (PriceKind.INDEX, "BTC")]

MESSAGES: list[Any] = [
    trade(1.5, ts=9),
    kline(topic_name(*TOPICS[1]), "2.5", ts=9),
    kline(topic_name(*TOPICS[2]), "2.5", ts=9),
    {"ping": 1},
    {"op": "ping", "ts": "1"},
    {"op": "auth", "err-code": 0, "ts": 1},
    {"op": "sub", "topic": "accounts.*", "err-code": 0, "ts": 1},
    {"op": "close", "ts": 1},
    push("accounts.btc", "order.match", [account_row()], 9),
    push("accounts.btc", "order.liquidation", [account_row()], 9),
    push("positions.btc", "settlement", [leg(), leg(2, "sell")], 9),
    push("public.btc.contract_info", "init", [contract()], 9),
]

NASTY: st.SearchStrategy[Any] = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e400", "", "0", "-0", "-1", "1_000", " 1", "１２", "nan", "0E-18", "0x1", "null"]
) | st.sampled_from([None, True, 0, -1, 10**30, -(10**30), 1e308, [], {}, [[]], {"a": 1}, "x" * 200])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn, originals: list[Any]) -> Any:
    """A good message with a few places replaced or taken away."""
    message = json.loads(json.dumps(draw(st.sampled_from(originals))))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(places(message)[1:] or [()]))
        if not path:
            continue
        holder = message
        for key in path[:-1]:
            holder = holder[key]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[path[-1]]
        else:
            holder[path[-1]] = deepcopy(draw(NASTY))  # the next change may go into it
    return message


def wires() -> tuple[MarketWire, UserWire]:
    topics = {topic_name(*topic).lower(): topic for topic in TOPICS}
    return MarketWire(topics, Counters(), LIMIT), UserWire("main", Counters(), LIMIT)


def check_prices(prices: Prices) -> None:
    for row in prices.rows:
        assert math.isfinite(row.price)
        assert row.price > 0
        assert row.event_time_ms > 0


def check_balance(row: CoinBalance) -> None:
    told = [
        row.margin_static,
        row.profit_real,
        row.margin_frozen,
        row.leverage,
        row.venue_equity,
        row.venue_guarantee_asset_ratio,
    ]
    told += [
        row.venue_position_margin,
        row.venue_available,
        row.venue_withdrawable,
        row.adjust_factor,
        row.venue_liquidation_price,
    ]
    assert all(math.isfinite(number) for number in told if number is not None)
    assert row.leverage > 0
    assert row.adjust_factor is None or row.adjust_factor > 0


def check_position(row: Position) -> None:
    assert math.isfinite(row.quantity)
    assert row.quantity == 0 or (row.entry_price > 0 and (row.quantity > 0) == (row.side == "LONG"))
    assert row.open_price is None or 0 < row.open_price < math.inf


def check_update(update: CoinUpdate) -> None:
    assert update.event_time_ms > 0
    for balance in update.balances:
        check_balance(balance)
    for position in update.positions:
        check_position(position)


def check_market(said: MarketFrame) -> None:
    if said.pong is not None:
        json.loads(said.pong)
    if said.prices is not None:
        check_prices(said.prices)


def check_user(said: UserFrame) -> None:
    if said.pong is not None:
        json.loads(said.pong)
    for _, update in said.updates:
        check_update(update)
    for row in said.contracts:
        assert 0 < row.face < math.inf


@given(mutated(MESSAGES))
@example({"ch": topic_name(*TOPICS[0]).upper(), "ts": 1, "tick": {"data": [{"price": "1e400", "ts": 1, "id": 1}]}})
def test_mutated_frames_never_raise_and_never_bring_a_bad_number(message: Any) -> None:
    market, user = wires()
    check_market(market.receive(packed(message)))
    check_user(user.receive(packed(message)))


@given(st.binary(max_size=300))
def test_any_bytes_packed_or_not(noise: bytes) -> None:
    market, user = wires()
    for frame in (noise, gzip.compress(noise)):
        check_market(market.receive(frame))
        check_user(user.receive(frame))


@given(st.sampled_from(MESSAGES), st.data())
def test_a_cut_or_flipped_frame_moves_nothing_wrong(message: Any, data: st.DataObject) -> None:
    frame = bytearray(packed(message))
    if data.draw(st.booleans()):
        del frame[data.draw(st.integers(0, len(frame) - 1)) :]
    else:
        frame[data.draw(st.integers(0, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    market, user = wires()
    for said, good in (
        (market.receive(bytes(frame)), wires()[0].receive(packed(message))),
        (user.receive(bytes(frame)), wires()[1].receive(packed(message))),
    ):
        assert said == good or said.hostile, "the checksum lets nothing else through"


ANSWERS: list[Any] = [
    ok([picture(legs=[leg(), leg(2, "sell")])]),
    ok([contract()]),
    ok([{"symbol": "BTC", "list": [{"lever_rate": 10, "ladders": [{"ladder": 0, "min_size": 0, "adjust_factor": 0.1}]}]}]),
    ok([{"symbol": "BTC", "list": [{"lever_rate": 20, "ladders": [{"min_margin_balance": 0, "min_margin_available": 0}]}]}]),
    ok([{"contract_code": "BTC", "real_time_settlement": 1, "transfer_profit_ratio": 0.5}]),
    ok([{"symbol": "BTC", "index_price": 1.5, "index_ts": 1}]),
    {"tick": {"data": [{"price": "1.5", "ts": 1, "id": 1}]}, "ts": 2},
    {"data": [{"id": 1, "close": "1.5"}], "ts": 2},
]


@given(mutated(ANSWERS))
def test_mutated_answers_are_good_or_refused(answer: Any) -> None:
    for raw in (answer, json.dumps(answer).encode()):
        for reader in (reference.instruments, reference.adjust_factors, reference.ladder_margins, reference.coin_terms):
            with contextlib.suppress(VenueError):
                reader(raw, Counters())
        for prices in (
            lambda raw: reference.index_prices(raw, Counters()).rows,
            lambda raw: [reference.mark_price(raw, CODE)],
            lambda raw: [reference.last_trade(raw)],
        ):
            with contextlib.suppress(VenueError):
                assert all(0 < row.price < math.inf for row in prices(raw))
        try:
            for snapshot in coin_snapshots(raw, account="main"):
                check_balance(snapshot.balance)
                for position in snapshot.positions:
                    check_position(position)
                assert all(0 < price < math.inf for price in snapshot.implied_prices.values())
            coins_held(raw)
        except VenueError:
            pass
