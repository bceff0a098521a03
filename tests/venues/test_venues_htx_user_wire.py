"""The account socket: pushes to updates, partial as they come; alarms, settlements, and what is said to us."""

from __future__ import annotations

from typing import Any

import pytest
from venues_htx_exchange import CODE, NEXT_CODE, account_row, contract, leg, ok, packed, picture, push

from monitor.model.streams import Counters
from monitor.venues.htx.snapshot import coin_snapshots
from monitor.venues.htx.user_wire import UserFrame, UserWire

TS = 1_604_388_667_226


def said(message: Any, counters: Counters | None = None) -> UserFrame:
    return UserWire("main", counters or Counters(), 8 << 20).receive(packed(message))


def test_a_position_push_names_only_what_it_touched() -> None:
    frame = said(push("positions.btc", "order.match", [leg(7, "sell"), leg(3, "buy", NEXT_CODE)], TS))
    [(coin, update)] = frame.updates
    assert (coin, update.balances, update.reason, update.event_time_ms) == ("BTC", (), "order.match", TS)
    legs = [(row.symbol, row.side, row.quantity, row.entry_price, row.open_price, row.version_ms) for row in update.positions]
    assert legs == [(CODE, "SHORT", -7, 10000, 9000, TS), (NEXT_CODE, "LONG", 3, 10000, 9000, TS)]


def test_a_volume_of_zero_is_a_flat_leg() -> None:
    [(_, update)] = said(push("positions.btc", "order.close", [leg(0, "sell")], TS)).updates
    row = update.positions[0]
    assert (row.symbol, row.side, row.quantity, row.entry_price) == (CODE, "SHORT", 0, 0)
    assert str(row.quantity) == "0.0", "and not −0"


def test_row_33_a_delivered_leg_is_flat_whatever_its_volume() -> None:
    [(_, update)] = said(push("positions.btc", "settlement", [leg(5) | {"contract_type": "delivered"}], TS)).updates
    assert [(row.symbol, row.side, row.quantity) for row in update.positions] == [(CODE, "LONG", 0)]
    rows = [leg(5) | {"contract_type": "delivered"}, leg(3, code=NEXT_CODE)]
    [picture_of] = coin_snapshots(ok([picture(legs=rows)]), account="main")
    assert [row.symbol for row in picture_of.positions] == [NEXT_CODE]
    assert set(picture_of.implied_prices) == {NEXT_CODE}


def test_the_last_prices_of_pushed_legs_come_along() -> None:
    [(_, update)] = said(push("positions.btc", "order.match", [leg(7) | {"last_price": 9876.5}, leg(3, "sell")], TS)).updates
    assert update.implied_prices == {CODE: 10000.0}, "one contract has one last price: the last that is told"
    [(_, update)] = said(push("positions.btc", "order.match", [leg(7) | {"last_price": None}], TS)).updates
    assert update.implied_prices == {}


@pytest.mark.parametrize(("data", "uid"), [({"user-id": "123"}, "123"), ({"user-id": 7}, "7"), ({}, ""), (None, ""), ("x", "")])
def test_the_authentication_names_the_user(data: Any, uid: str) -> None:
    frame = said({"op": "auth", "type": "api", "err-code": 0, "ts": TS, "data": data})
    assert (frame.authenticated, frame.uid) == (True, uid)


def test_a_push_of_several_coins_is_one_update_for_each() -> None:
    rows = [account_row("BTC"), account_row("ETH"), account_row("ada")]
    frame = said(push("accounts.*", "snapshot", rows, TS))
    assert [(coin, update.balances[0].coin) for coin, update in frame.updates] == [("BTC", "BTC"), ("ETH", "ETH"), ("ADA", "ADA")]


@pytest.mark.parametrize(
    ("changes", "figure"),
    [
        ({"risk_rate": None}, None),
        ({"risk_rate": ""}, None),
        ({"risk_rate": "19.5"}, 19.5),
        ({"risk_rate": "NaN"}, None),
    ],
)
def test_the_venues_own_figures_may_be_missing(changes: dict[str, Any], figure: float | None) -> None:
    [(_, update)] = said(push("accounts.btc", "snapshot", [account_row() | changes], TS)).updates
    assert update.balances[0].venue_guarantee_asset_ratio == figure
    assert update.balances[0].margin_static == 2.0


@pytest.mark.parametrize(
    ("topic", "row", "reason"),
    [
        ("accounts.btc", account_row() | {"margin_static": None}, "not_an_account"),
        ("accounts.btc", account_row() | {"margin_static": "NaN"}, "not_an_account"),
        ("accounts.btc", account_row() | {"lever_rate": 0}, "not_an_account"),
        ("positions.btc", leg() | {"volume": -1}, "not_a_position"),
        ("positions.btc", leg() | {"volume": "1_0"}, "not_a_position"),
        ("positions.btc", leg() | {"direction": "both"}, "not_a_position"),
        ("positions.btc", leg() | {"cost_hold": 0}, "not_a_position"),
        ("positions.btc", leg() | {"cost_hold": "Infinity"}, "not_a_position"),
        ("positions.btc", leg() | {"contract_code": "BTC\n301227"}, "not_a_position"),
    ],
)
def test_a_bad_row_costs_itself_and_asks_for_a_snapshot(topic: str, row: dict[str, Any], reason: str) -> None:
    counters = Counters()
    good = account_row("BTC", 3.0) if topic.startswith("accounts") else leg(5, code=NEXT_CODE)
    frame = said(push(topic, "order.match", [row, good], TS), counters)
    assert frame.lost == {"BTC"}
    assert counters.refused == {reason: 1}
    [(_, update)] = frame.updates
    assert len(update.balances) + len(update.positions) == 1


def test_of_which_coin_a_bad_row_was_may_be_unknown() -> None:
    assert said(push("accounts.*", "snapshot", [{"symbol": 5}], TS)).lost == {""}


def test_a_liquidation_is_told_once_though_both_topics_push_it() -> None:
    wire = UserWire("main", Counters(), 8 << 20)
    row = account_row(equity=0.05) | {"risk_rate": -0.01}
    first = wire.receive(packed(push("accounts.btc", "order.liquidation", [row], TS)))
    again = wire.receive(packed(push("positions.btc", "order.liquidation", [leg(0)], TS)))
    later = wire.receive(packed(push("positions.btc", "order.liquidation", [leg(0)], TS + 1)))
    [call] = first.calls
    assert (call.kind, call.account, call.symbols, call.event_time_ms) == ("liquidation", "main", ("BTC",), TS)
    assert "equity 0.05 BTC, guarantee-asset ratio -1.00 %" in call.text
    assert again.calls == []
    assert [c.symbols for c in later.calls] == [(CODE,)]
    assert len(first.updates) == len(again.updates) == 1, "its rows count as well"


@pytest.mark.parametrize("balance_first", [True, False])
def test_row_6_two_contracts_that_are_liquidated_at_one_time_are_two_alarms(balance_first: bool) -> None:
    wire = UserWire("main", Counters(), 8 << 20)
    balance = push("accounts.btc", "order.liquidation", [account_row()], TS)
    legs = [push("positions.btc", "order.liquidation", [leg(0, code=code)], TS) for code in (CODE, NEXT_CODE, CODE)]
    frames = [balance, *legs] if balance_first else [legs[0], balance, *legs[1:]]
    calls = [call for frame in frames for call in wire.receive(packed(frame)).calls]
    assert [call.symbols for call in calls] == [("BTC",) if balance_first else (CODE,), (NEXT_CODE,)]


def test_a_liquidation_push_without_rows_is_still_an_alarm() -> None:
    [call] = said(push("positions.btc", "order.liquidation", [], TS)).calls
    assert call.symbols == ("BTC",)


def test_a_settlement_push_names_its_coin() -> None:
    assert said(push("accounts.btc", "settlement", [account_row()], TS)).settled == {"BTC"}
    assert said(push("accounts.btc", "order.match", [account_row()], TS)).settled == set()


@pytest.mark.parametrize(
    ("message", "field", "value", "why"),
    [
        ({"op": "auth", "err-code": 0}, "authenticated", True, "hyphen"),
        ({"op": "auth", "err_code": 0}, "authenticated", True, "underscore"),
        ({"op": "auth", "err-code": "0"}, "authenticated", True, "as text"),
        ({"op": "auth"}, "authenticated", False, "no code is no welcome"),
        ({"op": "auth", "err-code": 2003, "err-msg": "bad"}, "auth_error", "2003: bad", "the venue's own word"),
        (
            {"op": "auth", "err-code": 2003, "err-msg": "no key e2aaaaaa-99bbbbbb-84cccccc-7dddd"},
            "auth_error",
            "2003: no key ***",
            "but not the key that it quotes",
        ),
        ({"op": "sub", "topic": "Accounts.*", "err-code": 0}, "acknowledged", "accounts.*", "topics have no case"),
        ({"op": "sub", "topic": "accounts.*", "err-code": 2014}, "acknowledged", "accounts.*", "repeated: we are subscribed"),
        ({"op": "sub", "topic": "accounts.*", "err_code": 2002}, "refused", "accounts.*: 2002: no text", "underscore"),
        ({"op": "close", "ts": 1}, "closing", True, "about to hang up"),
        ({"op": "error", "ts": 1}, "hostile", False, "the connection stays"),
    ],
)
def test_what_the_venue_says_to_us(message: dict[str, Any], field: str, value: Any, why: str) -> None:
    assert getattr(said(message), field) == value, why


@pytest.mark.parametrize("ts", [None, "x", -1, 10**15, 0])
def test_a_push_without_time_moves_nothing(ts: Any) -> None:
    frame = said(push("accounts.btc", "snapshot", [account_row()]) | {"ts": ts})
    assert frame == UserFrame(hostile=True)


def test_contract_notices() -> None:
    counters = Counters()
    frame = said(push("public.btc.contract_info", "update", [contract(status=6), {"symbol": "BTC"}], TS), counters)
    assert [(row.symbol, row.margin_asset, row.status, row.face) for row in frame.contracts] == [(CODE, "BTC", "6", 100)]
    assert counters.refused == {"not_a_contract": 1}
