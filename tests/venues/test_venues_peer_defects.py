"""What the nearest programs get wrong in reading a venue, each as a test: the venue's own answers in, figures out.

The numbers D… are those of the list of peer defects; those of formulas, decisions and messages have their tests beside these.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from venues_exchange import account_answer, index_frame, mark_frame, risk_answer

import monitor
from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Transition
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.streams import Counters
from monitor.rules import RuleBook
from monitor.venues.binance import reference
from monitor.venues.binance.snapshot import account_snapshot, read_answers
from monitor.venues.binance.user_wire import UserWire
from monitor.venues.binance.wire import VENUE, MarketWire

NOW_MS = 1_700_000_000_000
JOINT = {"multiAssetsMargin": True, "dualSidePosition": False}
HEDGE = JOINT | {"dualSidePosition": True}
SINGLE = {"multiAssetsMargin": False, "dualSidePosition": False}


class Desk:
    """One account, fed with raw answers and frames through the adapter's own readers."""

    def __init__(self, symbols: Sequence[str] = ("BTCUSDT", "ETHUSDT"), percent: str | None = None) -> None:
        self.engine = Engine([AccountSetup(VENUE, "main", RuleBook())])
        self.counters = Counters()
        self.market, self.user = MarketWire(self.counters), UserWire("main", self.counters)
        rows: list[dict[str, Any]] = [{"symbol": symbol, "marginAsset": "USDT", "status": "TRADING"} for symbol in symbols]
        if percent is not None:
            rows = [row | {"maintMarginPercent": percent, "requiredMarginPercent": percent} for row in rows]
        info = {"symbols": rows, "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}]}
        self.engine.step(reference.instruments(json.dumps(info).encode(), self.counters), NOW_MS)
        tier = {"bracket": 1, "initialLeverage": 125, "notionalCap": 1e9, "notionalFloor": 0, "maintMarginRatio": 0.004, "cum": 0}
        brackets = [{"symbol": symbol, "brackets": [tier]} for symbol in symbols]
        tables = reference.bracket_tables(json.dumps(brackets).encode(), self.counters)
        self.engine.step(reference.Brackets(VENUE, "main", tables, NOW_MS), NOW_MS)
        self.frame(index_frame(NOW_MS))

    def frame(self, data: Any) -> None:
        for event in self.market.receive(json.dumps(data).encode()).events:
            self.engine.step(event, NOW_MS)

    def picture(self, account: Any, risk: Any, config: Any) -> list[Transition]:
        snapshot = account_snapshot(read_answers(account, risk, [], (config,)), account="main", as_of_ms=NOW_MS)
        return self.engine.step(snapshot, NOW_MS)

    def push(self, data: Any) -> None:
        for event in self.user.receive(json.dumps(data).encode()).events:
            self.engine.step(event, NOW_MS)

    def pool(self, name: str = "USD") -> PoolFigures:
        figures = self.engine.figures(PoolKey(VENUE, "main", name))
        assert figures is not None
        return figures


def two_legs(sides: tuple[str, str] = ("BOTH", "BOTH")) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """0.01 BTC long at 50,000 and 1 ETH short at 3,000; USDT 1,000."""
    account, risk = account_answer(), risk_answer()
    changes = {"symbol": "ETHUSDT", "positionAmt": "-1", "notional": "-3000"}
    account["positions"].append(copy.deepcopy(account["positions"][0]) | changes | {"positionSide": sides[1]})
    risk.append(copy.deepcopy(risk[0]) | changes | {"entryPrice": "3000", "markPrice": "3000", "positionSide": sides[1]})
    account["positions"][0]["positionSide"] = risk[0]["positionSide"] = sides[0]
    account["totalMaintMargin"] = "14.0014"
    return account, risk


def test_d4_a_partial_push_is_merged_and_blanks_nothing() -> None:
    """D4: rows of a push have neither mark nor margin nor liquidation price; a table that shows them goes blank."""
    desk = Desk()
    desk.frame(mark_frame(NOW_MS, "50000", "BTCUSDT") + mark_frame(NOW_MS, "3000", "ETHUSDT"))
    desk.picture(*two_legs(), JOINT)
    before = desk.pool()
    balance = {"a": "USDT", "wb": "900", "cw": "900", "bc": "0"}
    leg = {"s": "BTCUSDT", "pa": "0.02", "ep": "50000", "up": "0", "mt": "cross", "iw": "0", "ps": "BOTH"}
    desk.push({"e": "ACCOUNT_UPDATE", "E": NOW_MS, "T": NOW_MS, "a": {"m": "ORDER", "B": [balance], "P": [leg]}})
    after = desk.pool()
    assert {p.symbol: p.quantity for p in after.positions} == {"BTCUSDT": 0.02, "ETHUSDT": -1}
    assert all(p.price and p.maintenance_margin is not None for p in after.positions)
    untouched = [next(p for p in pool.positions if p.symbol == "ETHUSDT") for pool in (before, after)]
    assert untouched[0].price == untouched[1].price == 3000
    assert untouched[0].maintenance_margin == untouched[1].maintenance_margin
    assert after.requirement == pytest.approx((1000 * 0.004 + 3000 * 0.004) * 1.0001)


@pytest.mark.parametrize("percent", ["0.0001", "99.0", None])
def test_d7_margin_percents_of_exchange_info_are_never_read(percent: str | None) -> None:
    """D7: the venue says of `maintMarginPercent` and `requiredMarginPercent`: ignore."""
    desk = Desk(percent=percent)
    desk.frame(mark_frame(NOW_MS, "50000", "BTCUSDT") + mark_frame(NOW_MS, "3000", "ETHUSDT"))
    desk.picture(*two_legs(), JOINT)
    assert desk.pool().requirement == pytest.approx((500 + 3000) * 0.004 * 1.0001), "by the brackets alone"


def test_d7_no_code_of_ours_knows_these_fields() -> None:
    """D7, as a rule for what is written later. The simulated exchange sends them, as the real one does."""
    root = Path(monitor.__file__).parent
    files = [file for file in root.rglob("*.py") if "sim" not in file.relative_to(root).parts]
    assert len(files) > 100
    fields = re.compile(r"(maint|required)_?margin_?percent", re.IGNORECASE)
    assert not [file.name for file in files if fields.search(file.read_text(encoding="utf-8"))]


def test_d10_cross_pnl_that_holds_isolated_positions_is_not_believed() -> None:
    """D10: the venue has reported `crossUnPnl` with the PnL of isolated positions in it. Our own sum goes first."""
    account, risk = two_legs()
    account["positions"][0] |= {"isolatedWallet": "100", "unrealizedProfit": "50"}
    risk[0] |= {"isolatedWallet": "100", "unRealizedProfit": "50"}
    account["assets"][0] |= {"crossWalletBalance": "900", "unrealizedProfit": "50", "crossUnPnl": "50", "maintMargin": "14"}
    desk = Desk()
    desk.frame(mark_frame(NOW_MS, "55000", "BTCUSDT") + mark_frame(NOW_MS, "3000", "ETHUSDT"))
    desk.picture(account, risk, SINGLE)
    assert desk.pool("USDT").equity == pytest.approx(900), "the 50 belong to the isolated position"
    assert desk.pool("BTCUSDT").equity == pytest.approx(150)
    assert desk.pool("USDT").reconcile_difference == pytest.approx(0, abs=1e-9), (
        "and the venue's figure was read without them too"
    )


def test_d10_a_total_that_does_not_match_our_sum_is_told() -> None:
    """D10: whatever else the venue adds up wrong shows as a difference."""
    account, risk = two_legs()
    account["totalMarginBalance"] = "1100"  # 1,000 by its own rows
    desk = Desk()
    desk.frame(mark_frame(NOW_MS, "50000", "BTCUSDT") + mark_frame(NOW_MS, "3000", "ETHUSDT"))
    said = desk.picture(account, risk, JOINT)
    assert desk.pool().equity == pytest.approx(999.9), "ours is shown"
    assert [(t.key.rule, t.key.pool) for t in said if t.key.rule == "reconcile"] == [("reconcile", "USD")]


def test_d18_a_position_without_a_price_makes_the_pool_unknown_not_smaller() -> None:
    """D18: a sum over the symbols that somebody subscribed to leaves out the others' margin."""
    desk = Desk()
    desk.frame(mark_frame(NOW_MS, "50000", "BTCUSDT"))
    account, risk = two_legs()
    risk[1]["markPrice"] = account["positions"][1]["notional"] = "0"  # nobody says what ETHUSDT is worth
    desk.picture(account, risk, JOINT)
    assert desk.pool().requirement is None
    assert desk.pool().health is None
    desk.frame(mark_frame(NOW_MS, "3000", "ETHUSDT"))
    assert desk.pool().requirement == pytest.approx((500 + 3000) * 0.004 * 1.0001), "all positions, whoever watches them"


@pytest.mark.parametrize(("sides", "config"), [(("BOTH", "BOTH"), JOINT), (("LONG", "SHORT"), HEDGE)])
def test_d19_positions_of_both_modes_count(sides: tuple[str, str], config: Any) -> None:
    """D19: a filter for LONG and SHORT loses the BOTH rows of one-way accounts."""
    desk = Desk()
    desk.frame(mark_frame(NOW_MS, "50000", "BTCUSDT") + mark_frame(NOW_MS, "3000", "ETHUSDT"))
    desk.picture(*two_legs(sides), config)
    assert {(p.symbol, p.side, p.quantity) for p in desk.pool().positions} == {
        ("BTCUSDT", sides[0], 0.01),
        ("ETHUSDT", sides[1], -1),
    }
    assert desk.pool().requirement == pytest.approx((500 + 3000) * 0.004 * 1.0001)


def test_d19_a_stablecoin_is_not_a_dollar() -> None:
    """D19: it counts by its index and its haircut, as the venue says second by second."""
    desk = Desk()
    desk.frame(mark_frame(NOW_MS, "50000", "BTCUSDT") + mark_frame(NOW_MS, "3000", "ETHUSDT"))
    desk.picture(*two_legs(), JOINT)
    assert desk.pool().equity == pytest.approx(1000 * 0.9999)
    depegged = index_frame(NOW_MS + 1000)
    depegged[0] |= {"i": "0.90", "B": "0.8991", "A": "0.9009"}
    desk.frame(depegged)
    assert desk.pool().equity == pytest.approx(1000 * 0.8991)
