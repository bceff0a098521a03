"""`margin-monitor figures` for HTX: the venue's own published figures from its own answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from oracle_htx import (
    CoinAccount,
    account_position_record,
    adjustfactor_record,
    contract_records,
    elements_record,
    figures,
    ladder_record,
    liquidation_factor,
    random_account,
)
from typer.testing import CliRunner

from monitor.cli import app

RUN = CliRunner()
KEYS = {
    "pool", "equity", "unrealized_pnl", "used_margin", "margin_frozen", "locked_same", "locked_cross", "net_position",
    "adjustment_factor", "guarantee_asset_ratio", "margin_ratio", "health", "available", "transferable", "liquidation_price",
    "price_factor_to_liquidation", "positions", "venue", "unknown",
}  # fmt: skip


def pools(folder: Path, content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    path = folder / "answers.json"
    path.write_text(json.dumps({"venue": "htx_coin_futures", **content}))
    result = RUN.invoke(app, ["figures", str(path), "--json"])
    assert result.exit_code == 0, result.output
    return {pool["pool"]: pool for pool in json.loads(result.output)["pools"]}


def answer(data: object) -> dict[str, Any]:
    return {"status": "ok", "data": data, "ts": 1}


def test_the_documented_account_reproduces_to_twelve_digits(shared: Path, tmp_path: Path) -> None:
    samples = json.loads((shared / "data/htx/rest_private.json").read_text())["samples"]
    found = [s["response"] for s in samples if s["path"] == "/api/v1/contract_account_position_info"]
    assert found
    for response in found:
        for account in response["data"]:
            pool = pools(tmp_path, {"contract_account_position_info": response})[account["symbol"]]
            for ours, theirs in (
                ("equity", "margin_balance"),
                ("used_margin", "margin_position"),
                ("unrealized_pnl", "profit_unreal"),
                ("guarantee_asset_ratio", "risk_rate"),
                ("available", "margin_available"),
                ("transferable", "withdraw_available"),
            ):
                assert pool[ours] == pytest.approx(account[theirs], abs=1e-12 * max(1, abs(account[theirs]))), theirs
            assert (pool["liquidation_price"] is None) == (account["liquidation_price"] is None)
            assert pool.keys() >= KEYS


@pytest.mark.parametrize("seed", range(12))
def test_whole_accounts_with_their_tables_agree_with_exact_arithmetic(seed: int, tmp_path: Path) -> None:
    accounts: list[CoinAccount] = random_account(seed, 12)
    content = {
        "contract_account_position_info": answer([account_position_record(account) for account in accounts]),
        "contract_contract_info": answer([row for account in accounts for row in contract_records(account)]),
        "contract_adjustfactor": answer([adjustfactor_record(account) for account in accounts]),
        "contract_ladder_margin": answer([ladder_record(account) for account in accounts]),
        "contract_query_elements": answer([elements_record(account) for account in accounts]),
    }
    told = pools(tmp_path, content)
    for account in accounts:
        pool, exact = told[account.coin], figures(account)
        size = float(exact.gross)
        for name, wanted in (
            ("equity", exact.equity),
            ("used_margin", exact.position_margin),
            ("locked_same", exact.same),
            ("locked_cross", exact.cross),
            ("available", exact.available),
            ("transferable", exact.transferable),
        ):
            if name == "available" and account.leverage >= 20 and not account.ladder:
                assert pool[name] is None, "limited by a ladder that is not known"
                continue
            assert pool[name] == pytest.approx(float(wanted), abs=1e-12 * max(1.0, size)), name
        x = liquidation_factor(account)
        if x is not None and account.legs:
            assert pool["price_factor_to_liquidation"] == pytest.approx(float(x), rel=1e-9)


def test_last_prices_of_the_file_come_before_those_of_the_positions(tmp_path: Path) -> None:
    account = next(a for a in random_account(3, 12) if a.legs)
    content = {"contract_account_position_info": answer([account_position_record(account)])}
    before = pools(tmp_path, content)[account.coin]
    after = pools(tmp_path, {**content, "last_prices": {code: 2 * float(price) for code, price in account.lasts.items()}})[
        account.coin
    ]
    assert after["used_margin"] == pytest.approx(before["used_margin"] / 2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "contract_account_position_info"),
        ({"contract_account_position_info": 7}, "contract_account_position_info"),
        ({"contract_account_position_info": {"status": "error", "err_code": 1030, "err_msg": "x", "ts": 1}}, "1030"),
        ({"contract_account_position_info": {"status": "ok", "data": []}, "prices": {}}, "unknown key 'prices'"),
    ],
)
def test_a_bad_file_is_explained(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"venue": "htx_coin_futures", **content}))
    result = RUN.invoke(app, ["figures", str(path)])
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output
