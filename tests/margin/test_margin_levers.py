"""What to send and what to close, by hand-computed rows."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.margin.levers import deposit_for_health, reduction_for_health

NAN = float("nan")
FLOORS, RATES, DEDUCTIONS = [0.0, 100.0, np.inf], [0.01, 0.05, NAN], [0.0, 4.0, NAN]


@pytest.mark.parametrize(
    ("owned", "equity", "amount", "why"),
    [
        (0.0, 1500.0, 0.0, "there already"),
        (0.0, 1700.0, 0.0, "beyond"),
        (10.0, 1302.0, 220.0, "198 are missing, a unit counts 0.9"),
        (-100.0, 1390.0, 100.0, "110 are missing: a debt of 100 paid back at 1.1"),
        (-100.0, 1445.0, 50.0, "half of the debt is enough"),
        (-100.0, 1300.0, 200.0, "the debt first (110), then 90 at bid"),
        (-100.0, -50.0, 1700.0, "also from below nothing"),
        (NAN, 1300.0, NAN, "unknown equity of the asset"),
        (0.0, NAN, NAN, "unknown equity of the pool"),
    ],
)
def test_deposit(owned: float, equity: float, amount: float, why: str) -> None:
    got = deposit_for_health(
        slot_equity=np.array([7.0, owned]),
        slot_bid=np.array([NAN, 0.9]),
        slot_ask=np.array([NAN, 1.1]),
        slot_index=1,
        equity=equity,
        requirement=1000.0,
        target=1.5,
    )
    assert got == pytest.approx(amount, rel=1e-14, nan_ok=True), why


@pytest.mark.parametrize(
    ("bid", "ask", "amount", "why"),
    [
        (NAN, NAN, NAN, "no rate"),
        (0.0, 1.0, NAN, "an asset that counts for nothing helps no further than its debt"),
    ],
)
def test_deposit_of_an_asset_without_a_rate(bid: float, ask: float, amount: float, why: str) -> None:
    got = deposit_for_health(
        slot_equity=np.array([-10.0]),
        slot_bid=np.array([bid]),
        slot_ask=np.array([ask]),
        slot_index=0,
        equity=1300.0,
        requirement=1000.0,
        target=1.5,
    )
    assert got == pytest.approx(amount, nan_ok=True), why


@pytest.mark.parametrize(
    ("notional", "ask", "equity", "requirement", "fraction", "why"),
    [
        (200.0, 1.0, 12.0, 6.0, 0.0, "there already"),
        (200.0, 1.0, 8.0, 6.0, 0.2, "4 may stay: 160 by the dearer tier (0.05 · 160 − 4)"),
        (200.0, 1.0, 2.0, 6.0, 0.5, "1 may stay: exactly on the border"),
        (200.0, 1.0, 1.0, 6.0, 0.75, "0.5 may stay: 50 by the cheaper tier (0.01 · 50)"),
        (200.0, 1.1, 8.8, 6.6, 0.2, "the requirement counts at ask"),
        (200.0, 1.0, 8.0, 9.0, 0.5, "others need 3, so 1 may stay of it"),
        (200.0, 1.0, 0.0, 6.0, 1.0, "without equity all of it, and nothing else is at risk"),
        (200.0, 1.0, -1.0, 6.0, NAN, "a debt is not paid by closing"),
        (200.0, 1.0, 8.0, 11.0, NAN, "the others alone need more"),
        (0.0, 1.0, 8.0, 6.0, NAN, "a flat position is no lever"),
        (0.0, 1.0, 12.0, 6.0, NAN, "a flat position is no lever"),
        (NAN, 1.0, 8.0, 6.0, NAN, "unknown notional"),
        (200.0, NAN, 8.0, 6.0, NAN, "no rate"),
        (200.0, 1.0, NAN, 6.0, NAN, "unknown equity"),
    ],
)
def test_reduction(notional: float, ask: float, equity: float, requirement: float, fraction: float, why: str) -> None:
    got = reduction_for_health(
        notional=np.array([notional]),
        floors=np.array([FLOORS]),
        rates=np.array([RATES]),
        deductions=np.array([DEDUCTIONS]),
        ask=np.array([ask]),
        equity=equity,
        requirement=requirement,
        target=2.0,
    )
    np.testing.assert_allclose(got, [fraction], rtol=1e-14, atol=1e-15, err_msg=why)


def test_each_position_is_reduced_alone() -> None:
    got = reduction_for_health(
        notional=np.array([200.0, 50.0, 5000.0]),
        floors=np.array([FLOORS] * 3),
        rates=np.array([RATES] * 3),
        deductions=np.array([DEDUCTIONS] * 3),
        ask=np.ones(3),
        equity=504.0,
        requirement=252.5,  # 6 + 0.5 + 246
        target=2.0,
    )
    # 0.5 too much: of 200 a part of 10, of 50 all, of 5,000 again 10.
    np.testing.assert_allclose(got, [0.05, 1.0, 0.002], rtol=1e-12)


def test_tiers_that_do_not_meet() -> None:
    got = reduction_for_health(
        notional=np.array([200.0]),
        floors=np.array([[0.0, 100.0]]),
        rates=np.array([[0.01, 0.05]]),
        deductions=np.array([[0.0, 0.0]]),
        ask=np.ones(1),
        equity=6.0,
        requirement=10.0,
        target=2.0,
    )
    assert got.tolist() == [0.5], "3 may stay, 60 by the dearer tier is not in it: all of the cheaper one, 100"
