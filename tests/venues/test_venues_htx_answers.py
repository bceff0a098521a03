"""REST answers to events, live and from a file: every documented sample, and what must be refused."""

from __future__ import annotations

import json
from math import inf
from pathlib import Path
from typing import Any

import pytest
from venues_htx_exchange import CODE, account_row, contract, empty_row, leg, ok, picture

from monitor.model.events import CoinSnapshot, GuaranteeTables, Instruments, Price, PriceKind, Prices
from monitor.model.instruments import CoinTerms, Instrument
from monitor.model.streams import Counters
from monitor.venues.base import Fault, VenueError
from monitor.venues.htx import offline, reference
from monitor.venues.htx.snapshot import coin_snapshots, coins_held

AT_MS = 4_000_000_000_000


def samples(shared: Path, file: str) -> dict[str, list[Any]]:
    """Answers by path, each number as published."""
    found: dict[str, list[Any]] = {}
    for sample in json.loads((shared / "data/htx" / file).read_text())["samples"]:
        found.setdefault(sample["path"], []).append(sample["response"])
    return found


# ------------------------------------------------------------------ documented


def test_documented_picture_of_an_account(shared: Path) -> None:
    [answer] = samples(shared, "rest_private.json")["/api/v1/contract_account_position_info"]
    [snapshot] = coin_snapshots(json.dumps(answer), account="main")
    balance = snapshot.balance
    assert (snapshot.as_of_ms, balance.coin, balance.leverage, balance.adjust_factor) == (1604307305267, "ADA", 10, 0.2)
    assert (balance.venue_liquidation_price, balance.margin_frozen) == (None, 0)
    assert balance.margin_static == pytest.approx(403.131774146075054292, rel=1e-15)
    assert balance.profit_real == pytest.approx(16.336169922800328615, rel=1e-15)
    assert balance.venue_equity == pytest.approx(405.226124145843792312, rel=1e-15)
    assert balance.venue_position_margin == pytest.approx(10.300252356182726476, rel=1e-15)
    assert balance.venue_guarantee_asset_ratio == pytest.approx(39.141378262699244579, rel=1e-15)
    assert balance.venue_available == pytest.approx(394.925871789661065836, rel=1e-15)
    assert balance.venue_withdrawable == pytest.approx(386.795604223274725677, rel=1e-15)
    [position] = snapshot.positions
    assert (position.symbol, position.side, position.quantity) == ("ADA201225", "SHORT", -1)
    assert (position.entry_price, position.open_price, position.margin_asset) == (0.0991, 0.0991, "ADA")
    assert snapshot.implied_prices == {"ADA201225": 0.097085}


def test_the_legs_profit_follows_from_what_was_read(shared: Path) -> None:
    """The venue's own figure tells whether side, contracts, cost and price were understood: f × volume × (1/P − 1/h)."""
    [answer] = samples(shared, "rest_private.json")["/api/v1/contract_account_position_info"]
    [snapshot] = coin_snapshots(answer, account="main")
    [position] = snapshot.positions
    price = snapshot.implied_prices[position.symbol]
    own = 10 * position.quantity * (1 / position.entry_price - 1 / price)
    assert own == pytest.approx(answer["data"][0]["profit_unreal"], rel=1e-12)
    assert snapshot.balance.margin_static + own == pytest.approx(answer["data"][0]["margin_balance"], rel=1e-12)


def test_documented_holdings_old_and_new_shape(shared: Path) -> None:
    answers = samples(shared, "rest_private.json")["/api/v1/contract_account_info"]
    assert [coins_held(answer) for answer in answers] == [["ADA"], ["ADA"]]


def test_recorded_contracts(shared: Path) -> None:
    recorded = json.loads((shared / "data/htx/contract_info_recorded_20210722.json").read_text())["response"]
    counters = Counters()
    told = reference.instruments(json.dumps(recorded), counters)
    assert told.complete
    assert not counters.refused
    assert len(told.rows) == len(recorded["data"])
    assert told.rows[0] == Instrument("BTC210723", "BTC", "1", 1627027200000, 100.0, "this_week")
    assert {row.margin_asset: row.face for row in told.rows}["ETH"] == 10.0
    assert {row.contract_type for row in told.rows} == {"this_week", "next_week", "quarter"}, "never four periods assumed"


def test_documented_public_answers(shared: Path) -> None:
    answers = samples(shared, "rest_public.json")
    counters = Counters()
    assert [row.symbol for row in reference.instruments(answers["/api/v1/contract_contract_info"][0], counters).rows] == [
        "BTC210813",
        "ETH210813",
    ]
    [factors] = reference.adjust_factors(answers["/api/v1/contract_adjustfactor"][0], counters).factors
    assert (factors.coin, factors.leverage) == ("BTC", 125)
    assert [(t.number, t.net_min, t.net_max, t.factor) for t in factors.tiers] == [
        (0, 0, 1999, 0.65),
        (1, 2000, 14999, 0.8),
        (2, 15000, inf, 0.85),
    ]
    [ladder] = reference.ladder_margins(answers["/api/v1/contract_ladder_margin"][0], counters).ladders
    assert (ladder.coin, ladder.leverage) == ("BTC", 20)
    assert [(t.equity_min, t.equity_max, t.usable_min, t.usable_max) for t in ladder.tiers] == [
        (0, 20, 0, 20),
        (20, 80, 20, 50),
        (80, 380, 50, 110),
        (380, 980, 110, 170),
        (980, inf, 170, inf),
    ]
    terms = reference.coin_terms(answers["/api/v1/contract_query_elements"][0], counters)
    assert (terms.terms, terms.event_time_ms) == ((CoinTerms("ETH", False, 0.0),), 1703215854265)
    assert reference.index_prices(answers["/api/v1/contract_index"][0], counters).rows == [Price("BTC", 13707.26, 1604296614010)]
    assert reference.last_trade(answers["/market/trade"][0]) == reference.LastTrade(31000.0, 1613998847438, 1614068483482)
    mark = reference.mark_price(answers["/index/market/history/mark_price_kline"][0], "BTC210924")
    assert mark == Price("BTC210924", 45862.49, 1628652647728)
    assert reference.server_time_ms(answers["/api/v1/timestamp"][0]) == 1578124684692
    assert not counters.refused


# ------------------------------------------------------------------ pictures


@pytest.mark.parametrize(
    ("asked_ms", "version_ms", "why"),
    [
        (None, 5000, "a saved answer has its own time only"),
        (4990, 4990, "a push between the question and the answer's stamp must not look older than the answer"),
        (5010, 5000, "a clock that runs ahead does not make the answer newer than it says"),
    ],
)
def test_the_version_of_a_picture(asked_ms: int | None, version_ms: int, why: str) -> None:
    [snapshot] = coin_snapshots(ok([picture()]) | {"ts": 5000}, account="main", as_of_ms=asked_ms)
    assert snapshot.as_of_ms == snapshot.balance.version_ms == snapshot.positions[0].version_ms == version_ms, why


def test_both_sides_of_a_contract_and_flat_legs() -> None:
    legs = [leg(4), leg(3, "sell"), leg(0, "buy", "BTC310328")]
    [snapshot] = coin_snapshots(ok([picture(legs=legs)]), account="main")
    assert [(row.side, row.quantity) for row in snapshot.positions] == [("LONG", 4), ("SHORT", -3)]


def test_an_account_without_positions() -> None:
    for positions in ([], None):
        [snapshot] = coin_snapshots(ok([account_row() | {"positions": positions}]), account="main")
        assert snapshot.positions == ()
    [snapshot] = coin_snapshots(ok([account_row()]), account="main")
    assert snapshot.positions == ()


@pytest.mark.parametrize(
    "broken",
    [
        {"margin_static": "NaN"},
        {"margin_static": None},
        {"lever_rate": "1_0"},
        {"symbol": ""},
        {"positions": [leg() | {"direction": "long"}]},
        {"positions": [leg() | {"cost_hold": 0}]},
        {"positions": [leg() | {"cost_hold": -1}]},
        {"positions": [leg() | {"volume": None}]},
        {"positions": "none"},
    ],
)
def test_a_picture_with_one_unreadable_row_is_refused_whole(broken: dict[str, Any]) -> None:
    with pytest.raises(VenueError) as caught:
        coin_snapshots(ok([picture(), picture() | broken]), account="main")
    assert caught.value.reason is Fault.BAD_ANSWER
    assert "contract_account_position_info" in caught.value.detail


@pytest.mark.parametrize(
    ("row", "held", "why"),
    [
        (account_row("ETH"), True, "equity"),
        (empty_row("ETH"), False, "nothing at all"),
        (empty_row("ETH") | {"margin_balance": -0.1}, True, "debt"),
        (empty_row("ETH") | {"margin_frozen": 0.1}, True, "orders"),
        (empty_row("ETH") | {"margin_static": "?"}, True, "what cannot be read counts as held"),
        (empty_row("ETH") | {"margin_position": None}, False, "not told"),
        (empty_row("ETH") | {"margin_balance": "0E-18"}, False, "as the venue writes zero"),
    ],
)
def test_which_coins_are_held(row: dict[str, Any], held: bool, why: str) -> None:
    assert coins_held(ok([row])) == (["ETH"] if held else []), why


# ------------------------------------------------------------------ reference data


def test_contracts_with_a_bad_row_are_not_the_whole_list() -> None:
    counters = Counters()
    told = reference.instruments(ok([contract(), contract() | {"contract_size": 0}]), counters)
    assert len(told.rows) == 1
    assert not told.complete
    assert counters.refused == {"not_a_contract": 1}
    assert not reference.instruments(ok([]), counters).complete, "an empty list is no list"


@pytest.mark.parametrize(
    ("changes", "delivery_ms", "why"),
    [
        ({"delivery_time": "1628841600000"}, 1628841600000, "a text"),
        ({"delivery_time": 1628841600000}, 1628841600000, "a number"),
        ({"delivery_time": ""}, 1924588800000, "else 08:00 UTC of the date"),
        ({"delivery_time": None, "delivery_date": "soon"}, None, "nothing readable"),
    ],
)
def test_delivery_time(changes: dict[str, Any], delivery_ms: int | None, why: str) -> None:
    [row] = reference.instruments(ok([contract("BTC301227") | {"delivery_date": "20301227"} | changes]), Counters()).rows
    assert row.delivery_time_ms == delivery_ms, why


@pytest.mark.parametrize(
    ("statuses", "settling", "why"),
    [
        ([1, 1], False, "all trade"),
        ([1, 5], True, "one settles"),
        ([6, 6], True, "delivery"),
        ([7, 1], True, "settled, and not yet opened again"),
        ([8, 1], False, "a delivered one stays in the list; the others trade"),
        ([8], True, "delivered, and no other is listed yet"),
        ([3, 9], False, "suspended is no settlement"),
        ([], False, "no contract"),
    ],
)
def test_settlement_by_status(statuses: list[int], settling: bool, why: str) -> None:
    rows = [Instrument(f"BTC30122{i}", "BTC", str(status)) for i, status in enumerate(statuses)]
    assert reference.is_settling(rows) is settling, why


def factor_row(*tiers: tuple[float, float | None, float]) -> dict[str, Any]:
    ladders = [{"ladder": i, "min_size": a, "max_size": b, "adjust_factor": f} for i, (a, b, f) in enumerate(tiers)]
    return {"symbol": "BTC", "list": [{"lever_rate": 10, "ladders": ladders}]}


@pytest.mark.parametrize(
    ("row", "good", "why"),
    [
        (factor_row((0, 9, 0.1), (10, None, 0.2)), True, "as documented"),
        (factor_row((10, None, 0.2), (0, 9, 0.1)), True, "any order"),
        (factor_row((0, 99, 0.1)), True, "a closed last tier"),
        (factor_row((1, None, 0.1)), False, "does not begin at 0"),
        (factor_row((0, 20, 0.1), (10, None, 0.2)), False, "tiers overlap"),
        (factor_row((0, None, 0.1), (10, None, 0.2)), False, "an open tier that is not the last"),
        (factor_row((0, None, 0)), False, "a factor of 0 would call everything safe"),
        (factor_row(), False, "no tier"),
    ],
)
def test_factor_tables(row: dict[str, Any], good: bool, why: str) -> None:
    counters = Counters()
    told = reference.adjust_factors(ok([row]), counters)
    assert (len(told.factors), counters.refused) == ((1, {}) if good else (0, {"not_a_factor": 1})), why


def test_one_bad_table_costs_its_coin_and_no_other() -> None:
    bad = factor_row((0, None, 0.1))
    bad["list"] += factor_row((5, None, 0.1))["list"]
    other = factor_row((0, None, 0.3)) | {"symbol": "eth"}
    told = reference.adjust_factors(ok([bad, other]), Counters())
    assert [table.coin for table in told.factors] == ["ETH"], "half of a coin's tables would not be complete"


@pytest.mark.parametrize(
    ("row", "terms"),
    [
        ({"contract_code": "btc", "real_time_settlement": 1, "transfer_profit_ratio": "0.8"}, CoinTerms("BTC", True, 0.8)),
        ({"contract_code": "BTC"}, CoinTerms("BTC", False, 0.0)),
        ({"contract_code": "BTC", "real_time_settlement": "1", "transfer_profit_ratio": None}, CoinTerms("BTC", True, 0.0)),
    ],
)
def test_terms(row: dict[str, Any], terms: CoinTerms) -> None:
    assert reference.coin_terms(ok([row]), Counters()).terms == (terms,)


@pytest.mark.parametrize("price", ["NaN", "0", -1, None, "", "1e999"])
def test_rest_prices_that_are_none(price: Any) -> None:
    counters = Counters()
    assert reference.index_prices(ok([{"symbol": "BTC", "index_price": price, "index_ts": 1}]), counters).rows == []
    assert counters.refused == {"not_a_price": 1}
    with pytest.raises(VenueError):
        reference.last_trade({"tick": {"data": [{"price": price, "ts": 1}]}, "ts": 1})
    with pytest.raises(VenueError):
        reference.mark_price({"data": [{"id": 1, "close": price}], "ts": 1}, CODE)


@pytest.mark.parametrize("answer", [{"tick": {"data": []}, "ts": 1}, {"ts": 1}])
def test_a_contract_without_any_trade(answer: Any) -> None:
    with pytest.raises(VenueError):
        reference.last_trade(answer)


# ------------------------------------------------------------------ a file of answers


def file_of(**answers: Any) -> dict[str, Any]:
    return {"venue": "htx_coin_futures", **answers}


def test_a_file_with_the_one_required_answer() -> None:
    answer = ok([picture(), picture("ADA", 400.0, [leg(1, "sell", "ADA301227")])]) | {"ts": 77}
    told = list(offline.events(file_of(contract_account_position_info=answer), account="file", at_ms=AT_MS))
    kinds = [type(event) for event in told]
    assert kinds == [Instruments, Prices, CoinSnapshot, CoinSnapshot]
    assert {row.symbol: (row.margin_asset, row.face) for row in told[0].rows} == {  # type: ignore[union-attr]
        CODE: ("BTC", 100.0),
        "ADA301227": ("ADA", 10.0),
    }
    prices = told[1]
    assert isinstance(prices, Prices)
    assert prices.kind is PriceKind.LAST
    assert {row.symbol: row.price for row in prices.rows} == {CODE: 10000.0, "ADA301227": 10000.0}
    assert [event.balance.coin for event in told if isinstance(event, CoinSnapshot)] == ["BTC", "ADA"]
    assert [event.as_of_ms for event in told if isinstance(event, CoinSnapshot)] == [77, 77]


def test_a_file_with_everything(shared: Path) -> None:
    public = samples(shared, "rest_public.json")
    answers = file_of(
        contract_account_position_info=samples(shared, "rest_private.json")["/api/v1/contract_account_position_info"][0],
        contract_contract_info=ok([contract("ADA201225") | {"contract_size": 10}]),
        contract_adjustfactor=public["/api/v1/contract_adjustfactor"][0],
        contract_ladder_margin=public["/api/v1/contract_ladder_margin"][0],
        contract_query_elements=public["/api/v1/contract_query_elements"][0],
        last_prices={"ada201225": "0.1"},
        mark_prices={"ADA201225": 0.11},
    )
    told = list(offline.events(answers, account="file", at_ms=AT_MS))
    kinds = [type(event) for event in told]
    assert kinds == [Instruments, GuaranteeTables, GuaranteeTables, GuaranteeTables, Prices, Prices, CoinSnapshot]
    frames = [(event.kind, event.rows) for event in told if isinstance(event, Prices)]
    assert frames == [
        (PriceKind.LAST, [Price("ADA201225", 0.1, AT_MS)]),
        (PriceKind.MARK, [Price("ADA201225", 0.11, AT_MS)]),
    ]
    assert isinstance(told[0], Instruments)
    assert [row.contract_type for row in told[0].rows] == ["quarter"], "what the file tells is not made up again"


@pytest.mark.parametrize(
    ("answers", "named"),
    [
        ({"contract_account_info": {}}, "contract_account_info"),
        ({}, "contract_account_position_info"),
        ({"contract_account_position_info": {"data": 5}}, "contract_account_position_info"),
        ({"contract_account_position_info": ok([picture()]), "last_prices": {"X": "NaN"}}, "last_prices"),
        ({"contract_account_position_info": ok([picture()]), "last_prices": {"X": float("nan")}}, "last_prices"),
        ({"contract_account_position_info": ok([picture()]), "contract_contract_info": [1]}, "contract_contract_info"),
        ({"contract_account_position_info": ok([picture()]), "contract_contract_info": ok([{}])}, "not_a_contract"),
    ],
)
def test_a_bad_file_names_what_is_wrong(answers: dict[str, Any], named: str) -> None:
    with pytest.raises(VenueError) as caught:
        list(offline.events(file_of(**answers), account="file", at_ms=AT_MS))
    assert named in caught.value.detail
