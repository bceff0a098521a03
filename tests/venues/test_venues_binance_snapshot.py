"""Account answers of both versions: the documented and recorded ones, and the figures that are compared with ours."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from venues_exchange import account_answer, risk_answer

from monitor.model.events import AccountSnapshot, Mode, VenueFigures
from monitor.venues.base import Fault, VenueError
from monitor.venues.binance.snapshot import account_snapshot, read_answers


def build(
    account: Any,
    risk: Any = None,
    symbols: Any = None,
    configs: tuple[Any, ...] = (),
    margin_assets: dict[str, str] | None = None,
) -> AccountSnapshot:
    return account_snapshot(
        read_answers(account, risk, symbols, configs), account="main", as_of_ms=123, margin_assets=margin_assets
    )


JOINT = {"multiAssetsMargin": True, "dualSidePosition": False}
SINGLE = {"multiAssetsMargin": False, "dualSidePosition": False}
HEDGE = {"multiAssetsMargin": False, "dualSidePosition": True}


def test_joint_margin_is_one_pool_with_the_totals() -> None:
    snapshot = build(account_answer(), risk_answer(), [{"symbol": "BTCUSDT", "leverage": 10, "marginType": "CROSSED"}], (JOINT,))
    assert snapshot.figures == (VenueFigures("USD", 1000, 2, 50, 900, 900),)
    assert (snapshot.mode, snapshot.hedge, snapshot.as_of_ms) == (Mode.MULTI_ASSETS, False, 123)
    assert snapshot.implied_prices == {"BTCUSDT": 50_000}
    assert snapshot.leverages == {"BTCUSDT": 10}
    (position,) = snapshot.positions
    assert (position.entry_price, position.margin_asset, position.isolated) == (50_000, "USDT", False)


def isolated_account() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """USDT: wallet 1100, of which 100 belong to an isolated BTCUSDT position; ETHUSDT is cross."""
    account = account_answer("1100")
    account["assets"][0] |= {
        "crossWalletBalance": "1000",
        "unrealizedProfit": "15",
        "crossUnPnl": "15",  # as the venue has reported it: with the isolated position's 5
        "maintMargin": "7",
        "initialMargin": "80",
        "openOrderInitialMargin": "3",
    }
    account["positions"][0] |= {"isolatedWallet": "100", "unrealizedProfit": "5", "maintMargin": "2", "initialMargin": "50"}
    eth = copy.deepcopy(account["positions"][0]) | {"symbol": "ETHUSDT", "positionAmt": "-1", "notional": "-3000"}
    account["positions"].append(
        eth | {"isolatedWallet": "0", "unrealizedProfit": "10", "maintMargin": "5", "initialMargin": "30"}
    )
    risk = risk_answer()
    risk[0] |= {"isolatedWallet": "100", "unRealizedProfit": "5"}
    risk.append(
        risk[0] | {"symbol": "ETHUSDT", "positionAmt": "-1", "notional": "-3000", "isolatedWallet": "0", "entryPrice": "3010"}
    )
    return account, risk


@pytest.mark.parametrize(("config", "pool", "side"), [(SINGLE, "BTCUSDT", "BOTH"), (HEDGE, "BTCUSDT:LONG", "LONG")])
def test_single_asset_mode_takes_isolated_positions_out_of_their_asset(config: Any, pool: str, side: str) -> None:
    account, risk = isolated_account()
    account["positions"][0]["positionSide"] = risk[0]["positionSide"] = side
    snapshot = build(account, risk, None, (config,))
    figures = {row.pool: row for row in snapshot.figures}
    assert figures.keys() == {pool, "USDT"}
    assert (figures[pool].equity, figures[pool].maintenance_margin) == (105, 2)
    assert figures["USDT"].equity == 1010, "cross wallet and the PnL of cross positions only"
    assert figures["USDT"].maintenance_margin == 5, "without the isolated position's"
    assert figures["USDT"].initial_margin == 30
    assert snapshot.open_order_margins == {"USDT": 3}
    by_symbol = {row.symbol: row for row in snapshot.positions}
    assert by_symbol["BTCUSDT"].isolated
    assert by_symbol["BTCUSDT"].isolated_wallet == 100
    assert not by_symbol["ETHUSDT"].isolated
    assert snapshot.implied_prices == {"BTCUSDT": 50_000, "ETHUSDT": 3000}, "a short's notional is negative"


@pytest.mark.parametrize(
    ("row", "risk", "symbol", "isolated", "why"),
    [
        ({"isolated": True}, {}, {}, True, "v2 account says it"),
        (
            {"isolated": False, "isolatedWallet": "0"},
            {},
            {"marginType": "ISOLATED"},
            False,
            "the position goes before the symbol",
        ),
        ({}, {"marginType": "isolated"}, {}, True, "v2 positionRisk says it"),
        ({}, {"marginType": "cross"}, {}, False, "v2 positionRisk, cross"),
        ({"isolatedWallet": "1"}, {}, {"marginType": "CROSSED"}, True, "v3: a wallet of its own"),
        ({}, {"isolatedWallet": "1"}, {}, True, "v3 positionRisk: a wallet of its own"),
        ({}, {}, {"marginType": "ISOLATED"}, True, "v3: the symbol's setting"),
        ({}, {}, {"marginType": "CROSSED"}, False, "cross"),
        ({}, {}, {}, False, "nothing said"),
    ],
)
def test_isolated(row: Any, risk: Any, symbol: Any, isolated: bool, why: str) -> None:
    account, risks = account_answer(), risk_answer()
    account["positions"][0] |= row
    risks[0] |= risk
    symbols = [{"symbol": "BTCUSDT", "leverage": 5, **symbol}]
    assert build(account, risks, symbols, (SINGLE,)).positions[0].isolated is isolated, why
    assert not build(account, risks, symbols, (JOINT,)).positions[0].isolated, "joint margin has no isolated positions"


@pytest.mark.parametrize(
    ("account", "configs", "mode", "hedge", "why"),
    [
        ({}, (JOINT,), Mode.MULTI_ASSETS, False, "accountConfig"),
        ({}, ({"multiAssetsMargin": True}, {"dualSidePosition": True}), Mode.MULTI_ASSETS, True, "the two older calls"),
        ({}, ({"dualSidePosition": True}, {"multiAssetsMargin": True}), Mode.MULTI_ASSETS, True, "in any order"),
        ({"multiAssetsMargin": True}, (), Mode.MULTI_ASSETS, False, "v2 account says it"),
        ({"multiAssetsMargin": True}, (SINGLE,), Mode.SINGLE_ASSET, False, "accountConfig before account"),
        ({}, (), Mode.SINGLE_ASSET, False, "nothing said"),
    ],
)
def test_mode(account: Any, configs: tuple[Any, ...], mode: Mode, hedge: bool, why: str) -> None:
    snapshot = build(account_answer() | account, risk_answer(), None, configs)
    assert (snapshot.mode, snapshot.hedge) == (mode, hedge), why


def test_a_torn_picture_has_no_figures_and_keeps_one_answers_positions() -> None:
    answers = read_answers(account_answer(amount="0.01"), risk_answer(amount="0.02"), None, (JOINT,))
    assert answers.torn()
    snapshot = account_snapshot(answers, account="main", as_of_ms=1)
    assert (snapshot.figures, snapshot.implied_prices) == ((), {})
    assert snapshot.positions[0].quantity == 0.02
    assert not read_answers(account_answer(), risk_answer()).torn()
    assert not read_answers(account_answer()).torn(), "one answer cannot be torn"


@pytest.mark.parametrize(
    ("row", "risk", "price", "why"),
    [
        ({"notional": "505"}, None, 50_500, "notional over amount"),
        ({"notional": "0"}, {"markPrice": "49000"}, 49_000, "the venue has sent notional 0: positionRisk's mark"),
        ({"notional": "0"}, {"markPrice": "0.00000000"}, None, "and a mark of 0, which is no price"),
        ({"notional": None, "entryPrice": "50000", "unrealizedProfit": "-1"}, None, 49_900, "v2 of 2022: entry and PnL"),
        ({"notional": None}, {"markPrice": "49000"}, 49_000, "only positionRisk knows"),
    ],
)
def test_implied_prices(row: Any, risk: Any, price: float | None, why: str) -> None:
    account = account_answer()
    account["positions"][0] |= row
    if risk is None:
        account["positions"][0].setdefault("entryPrice", "50000")
    snapshot = build(account, None if risk is None else [risk_answer()[0] | risk], None, (JOINT,))
    assert snapshot.implied_prices == ({} if price is None else {"BTCUSDT": pytest.approx(price, rel=1e-12)}), why


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (("assets", 0, "walletBalance"), "NaN", "NaN in a wallet"),
        (("assets", 0, "crossUnPnl"), "", "an empty number"),
        (("assets", 0, "asset"), "", "no name"),
        (("positions", 0, "positionAmt"), "Infinity", "an infinite position"),
        (("positions", 0, "positionSide"), "UP", "an unknown leg"),
        (("totalMaintMargin",), None, "no maintenance margin"),
        (("assets",), None, "no assets"),
    ],
)
def test_one_unreadable_field_refuses_the_whole_answer(place: tuple[Any, ...], value: Any, why: str) -> None:
    """A row that is left out would count as flat."""
    account = account_answer()
    target: Any = account
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with pytest.raises(VenueError) as caught:
        build(account, risk_answer(), None, (JOINT,))
    assert caught.value.reason is Fault.BAD_ANSWER, why
    assert caught.value.retryable


def test_without_an_entry_price_it_follows_from_notional_and_pnl_or_is_refused() -> None:
    account = account_answer()
    account["positions"][0] |= {"notional": "500", "unrealizedProfit": "10"}
    assert build(account, None, None, (JOINT,)).positions[0].entry_price == pytest.approx(49_000)
    account["positions"][0]["notional"] = "0"
    with pytest.raises(VenueError, match="entry price"):
        build(account, None, None, (JOINT,))


@pytest.mark.parametrize(
    ("symbol", "asset", "why"),
    [
        ("BTCUSDT", "USDT", "perpetual"),
        ("BTCUSDT_210924", "USDT", "dated"),
        ("ETHBTC", "BTC", "not all are margined in dollars"),
        ("BTCFDUSD", "FDUSD", "the longest name"),
    ],
)
def test_margin_asset_of_an_isolated_position_by_its_symbol(symbol: str, asset: str, why: str) -> None:
    account = account_answer()
    names = ("USDT", "BTC", "USD", "FDUSD")
    account["assets"] = [account["assets"][0] | {"asset": name} for name in names]
    account["positions"][0] |= {"symbol": symbol, "isolated": True, "entryPrice": "1", "isolatedWallet": "9"}
    figures = {row.pool: row.maintenance_margin for row in build(account, None, None, (SINGLE,)).figures}
    assert figures == {symbol: 2} | {name: 0 if name == asset else 2 for name in names}, why
    told = {row.pool: row.maintenance_margin for row in build(account, None, None, (SINGLE,), {symbol: "USD"}).figures}
    assert told["USD"] == 0, "exchangeInfo's word goes first"


# ------------------------------------------------------------------ documented and recorded answers


def samples(shared: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared / "data/binance/rest_samples.json").read_text())
    return found


@pytest.mark.parametrize(
    ("name", "mode", "pools"),
    [
        ("GET /fapi/v2/account [single-asset]", Mode.SINGLE_ASSET, {"USDT": 23.72469206, "BUSD": 103.12345678}),
        ("GET /fapi/v2/account [multi-assets]", Mode.MULTI_ASSETS, {"USD": 126.72469206}),
    ],
)
def test_documented_v2_accounts(shared: Path, name: str, mode: Mode, pools: dict[str, float]) -> None:
    snapshot = build(samples(shared)[name])
    assert snapshot.mode is mode
    assert {row.pool: row.equity for row in snapshot.figures} == pools
    assert snapshot.positions == (), "rows with amount 0 are no positions"
    assert snapshot.leverages == {"BTCUSDT": 100}
    assert [row.version_ms for row in snapshot.balances] == [1625474304765, 1625474304765]


@pytest.mark.parametrize(
    ("name", "config", "pools"),
    [
        ("GET /fapi/v3/account [single-asset]", SINGLE, {"USDT": 23.72469206, "USDC": 103.12345678}),
        ("GET /fapi/v3/account [multi-assets]", JOINT, {"USD": 126.72469206}),
    ],
)
def test_documented_v3_accounts(shared: Path, name: str, config: Any, pools: dict[str, float]) -> None:
    """The sample has a position of 1 with notional 0: without positionRisk nobody can know its entry."""
    account = samples(shared)[name]
    with pytest.raises(VenueError, match="entry price"):
        build(account, None, None, (config,))
    risk = [risk_answer("1.000")[0] | {"markPrice": "60000"}]
    symbols = samples(shared)["GET /fapi/v1/symbolConfig"]
    snapshot = build(json.dumps(account).encode(), json.dumps(risk), symbols, (config,))
    assert {row.pool: row.equity for row in snapshot.figures} == pools
    assert snapshot.positions[0].quantity == 1
    assert snapshot.leverages == {"BTCUSDT": 21}
    assert snapshot.implied_prices == {"BTCUSDT": 60_000}


def test_documented_position_risks(shared: Path) -> None:
    empty: dict[str, Any] = {
        "totalInitialMargin": "0",
        "totalMaintMargin": "0",
        "totalMarginBalance": "0",
        "availableBalance": "0",
    }
    empty |= {"maxWithdrawAmount": "0", "assets": [], "positions": []}
    hedge = build(empty, samples(shared)["GET /fapi/v2/positionRisk [hedge]"])
    assert hedge.hedge
    (leg,) = hedge.positions
    assert (leg.symbol, leg.side, leg.quantity, leg.entry_price) == ("BTCUSDT", "LONG", 0.001, 22185.2)
    assert hedge.leverages == {"BTCUSDT": 4}
    one_way = build(empty, samples(shared)["GET /fapi/v3/positionRisk [one-way]"])
    assert not one_way.hedge
    assert (one_way.positions[0].margin_asset, one_way.positions[0].version_ms) == ("USDT", 1720736417660)


def test_documented_configs(shared: Path) -> None:
    documented = samples(shared)
    for names, mode in (
        (("GET /fapi/v1/accountConfig",), Mode.SINGLE_ASSET),
        (("GET /fapi/v1/multiAssetsMargin", "GET /fapi/v1/positionSide/dual"), Mode.MULTI_ASSETS),
    ):
        snapshot = build(account_answer(), risk_answer(), None, tuple(documented[name] for name in names))
        assert (snapshot.mode, snapshot.hedge) == (mode, True)


def test_recorded_account_of_2022(shared: Path) -> None:
    recorded = json.loads((shared / "data/binance/account_single_asset_2022.json").read_text())
    alone = build(recorded["account"])
    with_risk = build(recorded["account"], recorded["positionRisk"])
    for snapshot in (alone, with_risk):
        (figures,) = snapshot.figures
        assert figures.pool == "USDT"
        assert figures.equity == pytest.approx(14450.00116565, abs=1e-8)
        assert figures.maintenance_margin == 15.21854666
        assert figures.maintenance_margin / figures.equity == pytest.approx(0.0010531865, rel=1e-7)
        assert snapshot.implied_prices["BTCUSDT"] == pytest.approx(16053.31926, rel=1e-8), "the moment of the figures"
        (position,) = snapshot.positions
        assert (position.quantity, position.entry_price, position.isolated) == (0.237, 16747.72013242, False)
        assert snapshot.leverages == {"BTCUSDT": 2}
        assert position.quantity * snapshot.implied_prices["BTCUSDT"] * 0.004 == pytest.approx(15.21854666, abs=1e-7)


def test_recorded_isolated_positions(shared: Path) -> None:
    """positionRisk v2 rows of real accounts: isolatedMargin = isolatedWallet + PnL is the equity of the pool."""
    recorded = json.loads((shared / "data/binance/liquidation_prices.json").read_text())["isolated_one_way"]
    for row in recorded:
        account = account_answer(amount=row["positionAmt"])
        (position,) = account["positions"]
        position |= {"symbol": row["symbol"], "unrealizedProfit": row["unRealizedProfit"], "notional": row["notional"]}
        del position["isolatedWallet"]  # v2 accounts of 2022 lack it
        snapshot = build(account, [{**row, "marginType": "isolated", "marginAsset": "USDT"}], None, (SINGLE,))
        pool = next(figures for figures in snapshot.figures if figures.pool == row["symbol"])
        assert pool.equity == pytest.approx(float(row["isolatedMargin"]), abs=2e-8)
        assert snapshot.implied_prices[row["symbol"]] == pytest.approx(float(row["markPrice"]), rel=1e-9)
        assert snapshot.positions[0].isolated
