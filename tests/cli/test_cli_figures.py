"""`margin-monitor figures`: the exchange's own figures from its own answers, by the code of the daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from monitor.cli import app

RUN = CliRunner()


def pools(folder: Path, content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    path = folder / "answers.json"
    path.write_text(json.dumps({"venue": "binance_usdm", **content}))
    result = RUN.invoke(app, ["figures", str(path), "--json"])
    assert result.exit_code == 0, result.output
    return {pool["pool"]: pool for pool in json.loads(result.output)["pools"]}


def asset(name: str, wallet: str, **more: str) -> dict[str, Any]:
    zero = dict.fromkeys(
        (
            "unrealizedProfit",
            "maintMargin",
            "initialMargin",
            "positionInitialMargin",
            "openOrderInitialMargin",
            "crossUnPnl",
            "availableBalance",
            "maxWithdrawAmount",
        ),
        "0",
    )
    return {"asset": name, "walletBalance": wallet, "crossWalletBalance": wallet, "marginBalance": wallet, **zero, **more}


def account(assets: list[dict[str, Any]], positions: list[dict[str, Any]] | None = None, **totals: str) -> dict[str, Any]:
    named = ("totalInitialMargin", "totalMaintMargin", "totalMarginBalance", "availableBalance", "maxWithdrawAmount")
    return {**dict.fromkeys(named, "0"), **totals, "assets": assets, "positions": positions or []}


def test_the_recorded_account_of_2022(shared: Path, tmp_path: Path) -> None:
    """Every check that the recording names, from the account's answer alone."""
    data = json.loads((shared / "data/binance/account_single_asset_2022.json").read_text())
    brackets = [{"symbol": "BTCUSDT", "brackets": [{"initialLeverage": 125, **row} for row in data["brackets_in_force"]]}]
    pool = pools(tmp_path, {"account": data["account"], "leverageBracket": brackets})["USDT"]
    wanted = {check["what"].split(" ")[0]: check for check in data["checks"]}
    assert pool["equity"] == pytest.approx(float(wanted["totalMarginBalance"]["value"]), abs=1e-8)
    assert pool["maintenance_margin"] == pytest.approx(float(wanted["maintMargin"]["value"]), abs=2e-8)
    assert pool["margin_ratio"] == pytest.approx(float(wanted["margin"]["value"]), rel=1e-7)
    assert pool["available"] == pytest.approx(float(wanted["availableBalance"]["value"]), abs=2e-8)
    [position] = pool["positions"]
    assert position["unrealized_pnl"] == pytest.approx(float(wanted["unrealizedProfit"]["value"]), abs=1e-6)
    assert position["liquidation_price"] is None, "the exchange reports 0: there is none"
    assert any("liquidation_price" in reason for reason in pool["unknown"])
    assert pool["venue"]["equity"] == pytest.approx(float(data["account"]["totalMarginBalance"]))
    # A moment later, with the mark of positionRisk: its notional is cut to 8 places.
    later = pools(tmp_path, {"account": data["account"], "positionRisk": data["positionRisk"], "leverageBracket": brackets})[
        "USDT"
    ]
    assert later["positions"][0]["notional"] == pytest.approx(float(wanted["positionRisk.notional"]["value"]), abs=2e-8)


def test_the_help_pages_first_state(shared: Path, tmp_path: Path) -> None:
    data = json.loads((shared / "data/binance/multi_assets_help_page_state1.json").read_text())
    index = [
        {"symbol": symbol, "time": 1, **row, "autoExchangeBidRate": "0", "autoExchangeAskRate": "0"}
        for symbol, row in data["rates"].items()
    ]
    content = {
        "account": account([asset(name, row["walletBalance"]) for name, row in data["assets"].items()]),
        "assetIndex": index,
    }
    joint = pools(tmp_path, {"accountConfig": {"multiAssetsMargin": True, "dualSidePosition": False}, **content})["USD"]
    wanted = data["expected"]["multi_assets"]
    assert joint["equity"] == pytest.approx(float(wanted["accountEquity"]), abs=1e-9)
    assert joint["available"] == pytest.approx(float(wanted["uniAvailableForOrder"]), abs=1e-9)
    assert joint["maintenance_margin"] == float(wanted["accountMaintMargin"])
    assert joint["margin_ratio"] == float(wanted["marginRatio"])
    usdt = next(row for row in joint["assets"] if row["asset"] == "USDT")
    assert joint["available"] / usdt["ask"] == pytest.approx(float(wanted["USDT.availableForOrder"]), abs=0.005)
    single = pools(tmp_path, {"accountConfig": {"multiAssetsMargin": False, "dualSidePosition": False}, **content})
    for key, value in data["expected"]["single_asset"].items():
        assert single[key.split(".")[0]]["available"] == float(value)


def test_liquidation_prices_that_the_exchange_gave(shared: Path, tmp_path: Path) -> None:
    data = json.loads((shared / "data/binance/liquidation_prices.json").read_text())
    brackets = json.loads((shared / "data/binance/leverage_brackets.json").read_text())
    for row in data["isolated_one_way"]:
        risk = {
            "symbol": row["symbol"],
            "positionSide": "BOTH",
            "positionAmt": row["positionAmt"],
            "entryPrice": row["entryPrice"],
            "markPrice": row["markPrice"],
            "unRealizedProfit": row["unRealizedProfit"],
            "liquidationPrice": row["liquidationPrice"],
            "leverage": row["leverage"],
            "marginType": "isolated",
            "isolatedMargin": row["isolatedMargin"],
            "isolatedWallet": row["isolatedWallet"],
            "notional": row["notional"],
            "updateTime": row["updateTime"],
        }
        content = {"account": account([asset("USDT", "100000")]), "positionRisk": [risk], "leverageBracket": brackets}
        pool = pools(tmp_path, content)[row["symbol"]]
        assert pool["positions"][0]["liquidation_price"] == pytest.approx(float(row["liquidationPrice"]), abs=2e-8)
        # The recorded PnL of ENAUSDT is 5e-4 off amount × (its own mark − its own entry): it was taken at another mark.
        assert pool["positions"][0]["unrealized_pnl"] == pytest.approx(float(row["unRealizedProfit"]), abs=1e-3)
        assert pool["equity"] == pytest.approx(float(row["isolatedMargin"]), abs=1e-3)


def test_row_25_an_asset_that_only_a_position_needs_keeps_its_rate(tmp_path: Path) -> None:
    """Without exchangeInfo: `account` lists what is held, positionRisk names the margin asset of each position."""
    risk = {
        "symbol": "ETHUSDC",
        "positionSide": "BOTH",
        "positionAmt": "2",
        "entryPrice": "2000",
        "markPrice": "2010",
        "unRealizedProfit": "20",
        "notional": "4020",
        "marginAsset": "USDC",
        "isolatedWallet": "0",
        "updateTime": 1,
    }
    rates = {"time": 1, "bidBuffer": "0", "askBuffer": "0", "autoExchangeBidRate": "0", "autoExchangeAskRate": "0"}
    rate = {"index": "1", "bidRate": "0.99", "askRate": "1.01"}
    tiers = [{"bracket": 1, "initialLeverage": 50, "notionalCap": 1e6, "notionalFloor": 0, "maintMarginRatio": 0.01, "cum": 0}]
    content = {
        "accountConfig": {"multiAssetsMargin": True, "dualSidePosition": False},
        "account": account([asset("USDT", "1000")]),
        "positionRisk": [risk],
        "assetIndex": [{"symbol": f"{name}USD", **rates, **rate} for name in ("USDT", "USDC")],
        "leverageBracket": [{"symbol": "ETHUSDC", "brackets": tiers}],
    }
    pool = pools(tmp_path, content)["USD"]
    assert pool["equity"] == pytest.approx(1000 * 0.99 + 20 * 0.99)
    assert pool["maintenance_margin"] == pytest.approx(40.2 * 1.01)
    assert not [reason for reason in pool["unknown"] if "rate of USDC" in reason]


def test_only_the_account_is_required_and_each_null_has_its_reason(tmp_path: Path) -> None:
    position = {
        "symbol": "BTCUSDT",
        "positionSide": "BOTH",
        "positionAmt": "1",
        "unrealizedProfit": "10",
        "isolatedMargin": "0",
        "notional": "50000",
        "isolatedWallet": "0",
        "initialMargin": "2500",
        "maintMargin": "200",
        "updateTime": 1,
    }
    pool = pools(tmp_path, {"account": account([asset("USDT", "9000")], [position])})["USDT"]
    assert pool["equity"] == pytest.approx(9010)
    reasons = " | ".join(pool["unknown"])
    for key in ("maintenance_margin", "margin_ratio", "health", "available", "withdrawable"):
        assert pool[key] is None
        assert key in reasons


@pytest.mark.parametrize(
    ("told", "says_so", "why"),
    [
        ({}, True, "v3 `account` alone names no mode: a Multi-Assets account's totals look the same"),
        ({"positionSide": {"dualSidePosition": False}}, True, "another setting is no answer"),
        ({"accountConfig": {"multiAssetsMargin": False, "dualSidePosition": False}}, False, "told"),
        ({"multiAssetsMargin": {"multiAssetsMargin": False}}, False, "told by the older call"),
        ({"in_account": False}, False, "v2 `account` tells it itself"),
    ],
)
def test_a_mode_that_no_answer_names_is_said_to_be_assumed(tmp_path: Path, told: dict[str, Any], says_so: bool, why: str) -> None:
    answer = account([asset("USDT", "9000")])
    if "in_account" in told:
        answer, told = {**answer, "multiAssetsMargin": False}, {}
    pool = pools(tmp_path, {"account": answer, **told})["USDT"]
    assert pool["equity"] == 9000
    assert any(reason.startswith("asset mode: ") for reason in pool["unknown"]) is says_so, why
    people = RUN.invoke(app, ["figures", str(tmp_path / "answers.json")]).output
    assert ("asset mode: no answer names it" in people) is says_so, why


def test_a_wallet_that_is_no_collateral_counts_for_nothing(tmp_path: Path) -> None:
    content = {
        "accountConfig": {"multiAssetsMargin": True, "dualSidePosition": False},
        "account": account([asset("USDT", "100"), {**asset("BNB", "5"), "marginAvailable": False}]),
        "assetIndex": [
            {"symbol": name, "time": 1, "index": "1", "bidBuffer": "0", "askBuffer": "0", "bidRate": "1", "askRate": "1"}
            for name in ("USDTUSD", "BNBUSD")
        ],
    }
    assert pools(tmp_path, content)["USD"]["equity"] == 100


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"venue": "kraken"}', "venue is 'kraken'"),
        ('{"venue": "binance_usdm"}', "the key 'account' is missing"),
        ('{"venue": "binance_usdm", "account": {}}', "account: Object missing required field"),
        ('{"venue": "binance_usdm", "account": 7}', "account: "),
        ('{"venue": "binance_usdm", "accounts": {}}', "unknown key 'accounts'"),
        ('{"venue": "binance_usdm", "account": {"totalInitialMargin": "NaN"}}', "account: "),
    ],
)
def test_a_bad_file_is_explained_without_a_traceback(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    result = RUN.invoke(app, ["figures", str(path)])
    assert result.exit_code == 2
    assert said in result.output
    assert "hint: " in result.output
    assert "Traceback" not in result.output


def test_the_table_for_people_shows_both_senses(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"venue": "binance_usdm", "account": account([asset("USDT", "100")])}))
    result = RUN.invoke(app, ["figures", str(path)])
    assert "higher is worse" in result.output
    assert "lower is worse" in result.output
