"""The formulas of joint margin by hand-computed rows; D numbers are defects of other programs that each row would catch."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.margin import joint
from monitor.margin.brackets import maintenance_margin, tier_of

NAN, INF = float("nan"), float("inf")
# BTCUSDT in 2022: floor, rate, deduction.
BTC_2022 = np.array([[0.0, 50_000, 250_000, 1_000_000]]), np.array([0.004, 0.005, 0.01, 0.025]), np.array([0.0, 50, 1300, 16_300])


def one(*values: float) -> list[np.ndarray]:
    return [np.array([value]) for value in values]


@pytest.mark.parametrize(
    ("notional", "margin", "why"),
    [
        (1_000_000.0, 8_700.0, "D1: rate × notional alone would be 10,000, 15 % too much"),
        (999_999.0, 8_699.99, "D6: by the notional; the tier of the collateral at 10x (99,999.9) would give 4,949.995"),
        (250_000.0, 1_200.0, "on the border the tier below holds"),
        (1_500_000.0, 21_200.0, "the last tier"),
    ],
)
def test_maintenance_margin(notional: float, margin: float, why: str) -> None:
    floors, rates, deductions = BTC_2022
    tier = tier_of(np.array([notional]), floors)
    assert maintenance_margin(np.array([notional]), rates[tier], deductions[tier]) == pytest.approx(margin, rel=1e-14), why


def test_deduction_of_ccxts_example() -> None:
    assert maintenance_margin(*one(1_000_000, 0.01, 2_550)) == 7_450, "D1: the venue says 7,450, without the deduction 10,000"


@pytest.mark.parametrize(
    ("quantity", "mark", "entry", "pnl", "why"),
    [
        (1.0, 110.0, 100.0, 10.0, "a long gains when the price rises"),
        (-1.0, 90.0, 100.0, 10.0, "D5: a short in profit is a profit; without the side it would be −10"),
        (-1.0, 110.0, 100.0, -10.0, "a short loses when the price rises"),
        (0.5, NAN, 100.0, NAN, "an unknown price makes an unknown PnL, not 0"),
    ],
)
def test_unrealized_pnl(quantity: float, mark: float, entry: float, pnl: float, why: str) -> None:
    np.testing.assert_equal(joint.unrealized_pnl(*one(quantity, mark, entry)), np.array([pnl]), err_msg=why)


@pytest.mark.parametrize(
    ("equity", "bid", "ask", "value", "why"),
    [
        (200.0, 0.9801, 0.99495, 196.02, "owned counts at bid"),
        (-300.0, 0.9801, 0.99495, -298.485, "owed counts at ask"),
        (2.0, 57_000.0, 63_000.0, 114_000.0, "D19: index rate and haircut, not 1:1"),
        (0.0, NAN, NAN, 0.0, "nothing counts for nothing, whatever its rate"),
        (1.0, NAN, NAN, NAN, "something without a rate is unknown, not 1 USD"),
        (NAN, 1.0, 1.0, NAN, "an unknown equity is unknown"),
    ],
)
def test_asset_value(equity: float, bid: float, ask: float, value: float, why: str) -> None:
    np.testing.assert_allclose(joint.asset_value(*one(equity, bid, ask)), [value], rtol=1e-15, err_msg=why)


@pytest.mark.parametrize(
    ("equity", "rate", "why"),
    [(1.0, 0.98, "owned"), (0.0, 0.98, "nothing owed"), (-1.0, 1.02, "owed"), (NAN, NAN, "unknown: neither of the two")],
)
def test_rate_used(equity: float, rate: float, why: str) -> None:
    np.testing.assert_equal(joint.rate_used(*one(equity, 0.98, 1.02)), np.array([rate]), err_msg=why)


def test_one_rate_for_wallet_and_pnl_adds_up_to_the_equity() -> None:
    wallet, pnl = np.array([200.0, 220.0, -50.0]), np.array([-500.0, 400.0, 80.0])
    bid, ask = np.array([0.9801, 1.0, 0.95]), np.array([0.99495, 1.0, 1.05])
    rate = joint.rate_used(wallet + pnl, bid, ask)
    total = joint.asset_value(wallet + pnl, bid, ask).sum()
    assert (wallet * rate).sum() + (pnl * rate).sum() == pytest.approx(total, rel=1e-15), "D8: each part counts once"
    assert total == pytest.approx(-300 * 0.99495 + 620 + 30 * 0.95, rel=1e-15)


@pytest.mark.parametrize(
    ("equity", "requirement", "health", "ratio", "why"),
    [
        (1200.0, 1000.0, 1.2, 1000 / 1200, "the two senses of one risk"),
        (1000.0, 1000.0, 1.0, 1.0, "liquidation in both senses"),
        (14_450.00116565, 15.21854666, 949.49941597, 0.0010531865351, "D14: by maintenance; by initial margin it would be 0.13"),
        (0.0, 1.0, 0.0, INF, "no equity under a requirement: beyond any number, never 0"),
        (-5.0, 1.0, -5.0, INF, "negative equity is no negative ratio"),
        (100.0, 0.0, NAN, 0.0, "D14: without positions nothing can be liquidated: no health, not a sentinel of 999"),
        (0.0, 0.0, NAN, 0.0, "an empty account is not in danger"),
        (-5.0, 0.0, NAN, 0.0, "a debt without positions is no liquidation"),
        (NAN, 1.0, NAN, NAN, "unknown equity: unknown, neither 0 nor liquidated"),
        (1.0, NAN, NAN, NAN, "unknown requirement: unknown"),
    ],
)
def test_health_and_margin_ratio(equity: float, requirement: float, health: float, ratio: float, why: str) -> None:
    np.testing.assert_allclose(joint.health(*one(equity, requirement)), [health], rtol=1e-8, err_msg=why)
    np.testing.assert_allclose(joint.margin_ratio(*one(equity, requirement)), [ratio], rtol=1e-8, err_msg=why)


@pytest.mark.parametrize(
    ("equity", "requirement", "limit", "reached", "why"),
    [
        (1200.0, 1000.0, 1.2, True, "the limit itself counts"),
        (1200.1, 1000.0, 1.2, False, "just above"),
        (-5.0, 1.0, 1.0, True, "negative equity is the worst"),
        (0.0, 0.0, 2.0, False, "no requirement, no danger"),
        (NAN, 1.0, 2.0, False, "unknown is for the caller to tell, not liquidated"),
    ],
)
def test_at_or_below(equity: float, requirement: float, limit: float, reached: bool, why: str) -> None:
    assert joint.at_or_below(np.array([equity]), np.array([requirement]), limit).tolist() == [reached], why


@pytest.mark.parametrize(
    ("equity", "initial", "free", "why"),
    [(100.0, 30.0, 70.0, "what is not bound"), (100.0, 130.0, 0.0, "never negative"), (NAN, 1.0, NAN, "unknown, not 0")],
)
def test_available(equity: float, initial: float, free: float, why: str) -> None:
    np.testing.assert_equal(joint.available(*one(equity, initial)), np.array([free]), err_msg=why)


@pytest.mark.parametrize(
    ("equity", "requirement", "equity_moved", "requirement_moved", "fall", "why"),
    [
        (900.0, 100.0, -100.0, 0.0, 0.1, "health 10 → 9"),
        (1000.0, 100.0, 0.0, 0.0, 0.0, "nothing moved"),
        (1100.0, 100.0, 100.0, 0.0, -0.1, "it added to health"),
        (1000.0, 125.0, 0.0, 25.0, 0.2, "10 → 8: more is required"),
        (900.0, 90.0, -100.0, -10.0, 0.0, "both fall in step"),
        (0.0, 100.0, -100.0, 0.0, 1.0, "all of it"),
        (-50.0, 100.0, -100.0, 0.0, 2.0, "beyond all of it: 0.5 → −0.5"),
        (-50.0, 100.0, -50.0, 0.0, 0.0, "there was none before"),
        (-50.0, 100.0, -10.0, 0.0, 0.0, "nor here"),
        (1000.0, 0.0, -100.0, 0.0, 0.0, "nothing is required: no health"),
        (np.nan, 100.0, -100.0, 0.0, np.nan, "unknown stays unknown"),
    ],
)
def test_health_fall(
    equity: float, requirement: float, equity_moved: float, requirement_moved: float, fall: float, why: str
) -> None:
    figures = [np.array([figure]) for figure in (equity, requirement, equity_moved, requirement_moved)]
    assert joint.health_fall(*figures).tolist() == pytest.approx([fall], nan_ok=True), why
