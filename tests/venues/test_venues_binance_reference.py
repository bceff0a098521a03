"""Answers on contracts, prices, rates, brackets and key rights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monitor.model.instruments import AssetInfo, Instrument
from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError
from monitor.venues.binance import reference
from monitor.venues.binance.keys import findings
from monitor.venues.binance.tables import BracketTables

BTC = {
    "symbol": "BTCUSDT",
    "marginAsset": "USDT",
    "status": "TRADING",
    "contractType": "PERPETUAL",
    "deliveryDate": 4133404800000,
}


@pytest.mark.parametrize(
    ("row", "expected", "why"),
    [
        (BTC, Instrument("BTCUSDT", "USDT", contract_type="PERPETUAL"), "the date of a perpetual, in 2100, is none"),
        (
            BTC | {"contractType": "CURRENT_QUARTER", "deliveryDate": 1632470400000},
            Instrument("BTCUSDT", "USDT", delivery_time_ms=1632470400000, contract_type="CURRENT_QUARTER"),
            "a dated one",
        ),
        (
            BTC | {"contractType": "TRADIFI_PERPETUAL", "status": "SETTLING"},
            Instrument("BTCUSDT", "USDT", "SETTLING", contract_type="TRADIFI_PERPETUAL"),
            "kinds and states grow",
        ),
        ({"symbol": "X", "marginAsset": "BTC"}, Instrument("X", "BTC", ""), "only what is needed"),
    ],
)
def test_contracts(row: dict[str, Any], expected: Instrument, why: str) -> None:
    event = reference.instruments({"symbols": [row], "assets": []}, Counters())
    assert event.rows == (expected,), why
    assert event.complete


@pytest.mark.parametrize(
    ("said", "threshold", "why"),
    [
        ("-10000", -10_000, "recorded: text"),
        ("-0.00100000", -0.001, "recorded: in the asset"),
        (-5, -5, "a number"),
        (None, None, "null"),
        (0, None, "the samples' 0 would mean at once: not said"),
        ("0", None, "the same as text"),
        ("10", None, "a positive threshold makes no sense"),
    ],
)
def test_auto_exchange_thresholds(said: Any, threshold: float | None, why: str) -> None:
    answer = {"symbols": [BTC], "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": said}]}
    assert reference.instruments(answer, Counters()).assets == (AssetInfo("USDT", True, threshold),), why


@pytest.mark.parametrize(
    ("symbols", "complete", "why"),
    [
        ([BTC], True, "all read"),
        ([BTC, {"symbol": "ETHUSDT"}], False, "a contract without margin asset is unread, not gone"),
        ([], False, "an empty list does not mean that all contracts are gone"),
    ],
)
def test_what_cannot_be_read_is_not_gone(symbols: Any, complete: bool, why: str) -> None:
    assert reference.instruments({"symbols": symbols, "assets": []}, Counters()).complete is complete, why


@pytest.mark.parametrize(
    ("limits", "weight", "why"),
    [
        ([{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}], 6000, "test network"),
        ([{"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200}], None, "another limit"),
        ([{"rateLimitType": "REQUEST_WEIGHT", "interval": "SECOND", "intervalNum": 1, "limit": 60}], None, "another interval"),
        ([{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 0}], None, "no limit of 0"),
        ([5], None, "not a limit"),
        (None, None, "none"),
    ],
)
def test_weight_limit(limits: Any, weight: int | None, why: str) -> None:
    answer = {"symbols": []} if limits is None else {"symbols": [], "rateLimits": limits}
    assert reference.weight_limit(answer) == weight, why


@pytest.mark.parametrize(
    ("tiers", "tables", "why"),
    [
        ([(0, 5000), (5000, 25000)], 1, "two tiers"),
        ([(5000, 25000), (0, 5000)], 1, "in any order"),
        ([(0, 5000), (6000, 25000)], 0, "a gap"),
        ([(5000, 25000)], 0, "the first is missing"),
        ([], 0, "none"),
    ],
)
def test_bracket_tables_are_whole_or_refused(tiers: list[tuple[float, float]], tables: int, why: str) -> None:
    rows = [
        {"bracket": 1, "initialLeverage": 9, "notionalFloor": low, "notionalCap": high, "maintMarginRatio": 0.01, "cum": 0}
        for low, high in tiers
    ]
    counters = Counters()
    found = reference.bracket_tables([{"symbol": "BTCUSDT", "brackets": rows}], counters)
    assert len(found) == tables, why
    assert counters.refused == ({} if tables else {"not_brackets": 1}), why
    assert all(list(table.brackets) == sorted(table.brackets, key=lambda tier: tier.notional_floor) for table in found)


def test_equal_bracket_answers_share_their_tables(shared: Path) -> None:
    body = (shared / "data/binance/leverage_brackets.json").read_bytes()
    tables = BracketTables(Counters())
    first = tables.of(body)
    assert tables.of(bytes(bytearray(body))) is first
    assert tables.of(body.replace(b"125", b"124")) is not first


def test_recorded_brackets(shared: Path) -> None:
    counters = Counters()
    event = reference.brackets(
        (shared / "data/binance/leverage_brackets.json").read_bytes(), counters, account="main", event_time_ms=5
    )
    assert len(event.tables) == 60
    assert not counters.refused
    btc = next(table for table in event.tables if table.symbol == "BTCUSDT")
    assert (btc.brackets[1].rate, btc.brackets[1].deduction, btc.brackets[-1].notional_cap) == (0.005, 50, 1_800_000_000)
    for table in event.tables:
        for lower, upper in zip(table.brackets, table.brackets[1:], strict=False):
            seam = lower.notional_cap
            assert seam * lower.rate - lower.deduction == pytest.approx(seam * upper.rate - upper.deduction), table.symbol


def test_documented_answers(shared: Path) -> None:
    samples = json.loads((shared / "data/binance/rest_samples.json").read_text())
    counters = Counters()
    assert reference.server_time_ms(samples["GET /fapi/v1/time"]) == 1499827319559
    assert reference.listen_key(samples["POST /fapi/v1/listenKey"]).startswith("pqia91")
    assert reference.listen_key(samples["PUT /fapi/v1/listenKey"]).startswith("3HBntN")
    (mark,) = reference.mark_prices(samples["GET /fapi/v1/premiumIndex?symbol=BTCUSDT"], counters).rows
    assert (mark.symbol, mark.price, mark.event_time_ms) == ("BTCUSDT", 11793.63104562, 1597370495002)
    (rate,) = reference.asset_rates(samples["GET /fapi/v1/assetIndex?symbol=ADAUSD"], counters).rows
    assert (rate.asset, rate.bid, rate.ask, rate.auto_exchange_bid) == ("ADA", 1.73661633, 2.12253107, 1.83309501)
    for name in ("GET /fapi/v1/leverageBracket", "GET /fapi/v1/leverageBracket?symbol=ETHUSDT"):
        (table,) = reference.bracket_tables(samples[name], counters)
        assert (table.symbol, table.brackets[0].leverage_max) == ("ETHUSDT", 75), name
    infos = [name for name in samples if name.startswith("GET /fapi/v1/exchangeInfo")]
    assert len(infos) == 2
    for name in infos:
        event = reference.instruments(samples[name], counters)
        assert event.complete, name
        assert reference.weight_limit(samples[name]) == 2400, name
    recorded = reference.instruments(samples[infos[1]], counters)
    assert {row.symbol: row.delivery_time_ms for row in recorded.rows}["BTCUSDT_210924"] == 1632470400000
    thresholds = {row.asset: row.auto_exchange_threshold for row in recorded.assets}
    assert thresholds["BTC"] == -0.001
    assert not counters.refused


def test_recorded_asset_index(shared: Path) -> None:
    rows = json.loads((shared / "data/binance/asset_index_2024.json").read_text())["rows"]
    rates = {rate.asset: rate for rate in reference.asset_rates(rows, Counters()).rows}
    assert rates["BTC"].bid == pytest.approx(rates["BTC"].index * 0.95, abs=1e-8)
    assert rates["USDT"].ask == 0.99894089


@pytest.mark.parametrize("answer", [b"", b"{}", b"5", b'{"serverTime":"x"}', b"[", {"serverTime": None}, []])
def test_answers_that_are_no_answers(answer: Any) -> None:
    with pytest.raises(VenueError) as caught:
        reference.server_time_ms(answer)
    assert caught.value.reason is Fault.BAD_ANSWER


SAFE = {
    "ipRestrict": True,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "permitsUniversalTransfer": False,
    "enableSpotAndMarginTrading": False,
    "enableFutures": False,
}


@pytest.mark.parametrize(
    ("changes", "verdicts", "why"),
    [
        ({}, [], "a key that only reads, from one address"),
        ({"enableWithdrawals": True}, [("refuse", "enableWithdrawals")], "can withdraw"),
        ({"enableInternalTransfer": True}, [("refuse", "enableInternalTransfer")], "can send inside the venue"),
        ({"permitsUniversalTransfer": True}, [("refuse", "permitsUniversalTransfer")], "can move between wallets"),
        ({"enableSpotAndMarginTrading": True}, [("warn", "enableSpotAndMarginTrading")], "can trade spot"),
        ({"enableFutures": True}, [("warn", "enableFutures")], "perhaps needed to read: a warning only"),
        ({"enableMargin": True}, [("warn", "enableMargin")], "can borrow"),
        ({"ipRestrict": False}, [("warn", "ipRestrict")], "from any address"),
        ({"ipRestrict": None}, [("warn", "ipRestrict")], "address list not said"),
        ({"enableReading": False}, [("warn", "enableReading")], "cannot even read"),
        ({"enableWithdrawals": None}, [("warn", "enableWithdrawals")], "not said is not safe"),
        (
            {"enableWithdrawals": True, "enableFutures": True, "ipRestrict": False},
            [("refuse", "enableWithdrawals"), ("warn", "enableFutures"), ("warn", "ipRestrict")],
            "all at once",
        ),
    ],
)
def test_key_findings(changes: dict[str, Any], verdicts: list[tuple[str, str]], why: str) -> None:
    found = list(findings(SAFE | changes, "main"))
    assert [(item.verdict, item.right) for item in found] == verdicts, why
    assert all(item.alias == "main" and item.text for item in found)
