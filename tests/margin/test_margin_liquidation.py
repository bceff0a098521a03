"""Liquidation prices by hand-computed rows; D numbers are defects of other programs that each row would catch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from monitor.margin.liquidation import liquidation_prices
from monitor.model.figures import Array

NAN = float("nan")
FLAT_RATE = ((0.0, 0.004, 0.0),)  # floor, rate, deduction
ONE_PERCENT = ((0.0, 0.01, 0.0),)
STEEP = ((0.0, 0.01, 0.0), (200.0, 0.5, 98.0))
TIERS = ((0.0, 0.01, 0.0), (100.0, 0.05, 4.0))
JUMP = ((0.0, 0.01, 0.0), (100.0, 0.05, 0.0))
LATE = ((200.0, 0.01, 0.0),)
WHOLE = ((0.0, 0.01, 0.0), (100.0, 1.0, 99.0))
PADDED = ((0.0, 0.01, 0.0), (np.inf, NAN, NAN))
UNKNOWN = ((np.inf, NAN, NAN),)


class Row(NamedTuple):
    symbol: int
    quantity: float
    entry: float
    mark: float
    tiers: Sequence[tuple[float, float, float]] = ONE_PERCENT
    slot: int = 0


def prices(legs: Sequence[Row], slots: Sequence[tuple[float, float, float]]) -> Array:
    """slots: wallet, bid, ask."""
    width = max(len(leg.tiers) for leg in legs)
    table = np.array([[*leg.tiers, *[(np.inf, NAN, NAN)] * (width - len(leg.tiers))] for leg in legs])
    wallet, bid, ask = np.array(slots, float).T
    return liquidation_prices(
        symbol=np.array([leg.symbol for leg in legs]),
        quantity=np.array([leg.quantity for leg in legs], float),
        entry=np.array([leg.entry for leg in legs], float),
        mark=np.array([leg.mark for leg in legs], float),
        floors=table[:, :, 0],
        rates=table[:, :, 1],
        deductions=table[:, :, 2],
        slot=np.array([leg.slot for leg in legs]),
        slot_wallet=wallet,
        slot_bid=bid,
        slot_ask=ask,
    )


USDT = (1.0, 1.0)


@pytest.mark.parametrize(
    ("legs", "wallet", "expected", "why"),
    [
        ([Row(0, 1, 100, 100)], 5.0, [95 / 0.99], "a long: 5 + P − 100 = 0.01 P"),
        ([Row(0, -1, 100, 100)], 5.0, [105 / 1.01], "a short: 5 + 100 − P = 0.01 P"),
        ([Row(0, 1, 100, 100)], 200.0, [NAN], "more wallet than the position can ever lose"),
        ([Row(0, 3, 0.1, 0.1)], 0.3, [NAN], "just emptied at 0: its price is 0 but for rounding, none"),
        (
            [Row(0, 1, 100, 100, FLAT_RATE), Row(1, 100, 1, 1, ((0.0, 0.04, 0.0),))],
            5.0,
            [99 / 0.996, (5 - 100 - 0.4) / (4 - 100)],
            "D9: another position needs 4 of maintenance: 99.40, not 95.40",
        ),
        (
            [Row(0, 1, 100, 100), Row(1, -1, 100, 90)],
            5.0,
            [(100 - 5 - 10 + 0.9) / 0.99, (5 + 100 - 1) / 1.01],
            "D5: a short in profit keeps the long alive",
        ),
        ([Row(0, 1, 150, 150, TIERS)], 60.0, [90 / 0.99], "D16: solved with the tier at the price (0.01), not that of the mark"),
        ([Row(0, -1, 90, 90, TIERS)], 30.0, [124 / 1.05], "a short grows into the dearer tier"),
        ([Row(0, -1, 90, 90, JUMP)], 13.0, [100], "tiers that do not meet: the jump itself passes zero"),
        ([Row(0, -1, 99, 90, TIERS)], 2.0, [100], "the zero lies on the border of two tiers"),
        ([Row(0, -1, 100, 100, LATE)], 5.0, [105 / 1.01], "below the first floor the first tier holds"),
        ([Row(0, 1, 100, 50, WHOLE)], 200.0, [NAN], "where maintenance grows as fast as equity there is no zero"),
        ([Row(0, 1, 100, 100, PADDED)], 5.0, [95 / 0.99], "padding is no tier"),
        ([Row(0, 1, 100, 100), Row(0, -1, 100, 100)], 3.0, [150, 150], "D19: fully hedged: 3 = 0.02 P, above only"),
        ([Row(0, 1, 100, 100), Row(0, -0.9, 100, 100)], 5.0, [5 / 0.081] * 2, "net long: below, the same for both legs"),
        (
            [Row(0, 1, 100, 100, STEEP), Row(0, -0.9, 100, 100, STEEP)],
            5.0,
            [5 / 0.081] * 2,
            "D16: 61.7 and 224.7 are both its prices; 61.7 is nearer to 100",
        ),
        (
            [Row(0, 1, 100, 130, STEEP), Row(0, -0.9, 100, 130, STEEP)],
            5.0,
            [191 / 0.85] * 2,
            "224.7 is nearer to 130: a rise by 73 % against a fall by 53 %, which a rise by 111 % would undo",
        ),
        ([Row(0, 1, 100, 50, STEEP), Row(0, -0.9, 100, 50, STEEP)], 5.0, [5 / 0.081] * 2, "under water below: the way out"),
        ([Row(0, 1, 100, 300, STEEP), Row(0, -0.9, 100, 300, STEEP)], 5.0, [191 / 0.85] * 2, "under water above: likewise"),
        ([Row(0, 1, 100, 90)], 5.0, [95 / 0.99], "under water: the price that would save it"),
        ([Row(0, 1, 100, 100), Row(0, -1, 100, 100)], -3.0, [NAN, NAN], "under water, and no price of this symbol saves it"),
        ([Row(0, 0, 0, NAN), Row(1, 1, 100, 100)], 5.0, [NAN, 95 / 0.99], "a flat row is no position, its price no matter"),
        ([Row(0, 0, 0, 1)], 5.0, [NAN], "nothing open"),
        ([Row(0, 1, 100, NAN), Row(1, 1, 100, 100)], 5.0, [NAN, NAN], "an unknown mark makes the pool's PnL unknown"),
        ([Row(0, 1, NAN, 100)], 5.0, [NAN], "an unknown entry"),
        ([Row(0, 1, 100, 100)], NAN, [NAN], "an unknown wallet"),
        ([Row(0, 1, 100, 100, UNKNOWN), Row(1, 1, 100, 100)], 5.0, [NAN, NAN], "D17: no brackets: unknown, not another's"),
    ],
)
def test_one_asset(legs: list[Row], wallet: float, expected: list[float], why: str) -> None:
    np.testing.assert_allclose(prices(legs, [(wallet, *USDT)]), expected, rtol=1e-13, err_msg=why)


@pytest.mark.parametrize(
    ("legs", "slots", "expected", "why"),
    [
        (
            [Row(0, 1, 100, 100, FLAT_RATE)],
            [(0.0, 0.98, 1.02), (50.0, 0.99, 1.01)],
            [52.5 / (1.02 - 1.02 * 0.004)],
            "its loss is a debt in its asset, so it counts at ask: 49.5 + 1.02 (P − 100) = 1.02 · 0.004 P",
        ),
        (
            [Row(0, -1, 100, 100, FLAT_RATE)],
            [(200.0, 0.98, 1.02)],
            [294 / (0.98 + 1.02 * 0.004)],
            "still owned at the price, so at bid, the requirement at ask: 0.98 (300 − P) = 1.02 · 0.004 P",
        ),
        (
            [Row(0, 1, 100, 100), Row(1, 1, 100, 100, slot=1)],
            [(0.0, 1.0, 1.0), (20.0, 0.9, 1.1)],
            [(100 - 18 + 1.1) / 0.99, (72 + 1) / (0.9 - 0.011)],
            "each asset carries the position of the other; 20 + P − 100 is owned, so at bid: 0.9 (P − 80) = 1 + 1.1 · 0.01 P",
        ),
        (
            [Row(0, 1, 100, 100)],
            [(5.0, 1.0, 1.0), (0.0, NAN, NAN)],
            [95 / 0.99],
            "an asset of which there is nothing needs no rate",
        ),
        ([Row(0, 1, 100, 100)], [(5.0, 1.0, 1.0), (1.0, NAN, NAN)], [NAN], "collateral without a rate: unknown"),
        ([Row(0, 1, 100, 100)], [(5.0, NAN, 1.0)], [NAN], "half a rate is no rate"),
        (
            [Row(0, 1, 100, 100)],
            [(0.0, NAN, 1.02), (50.0, 0.99, 1.01)],
            [NAN],
            "not even where a zero is found with the known half: another may be nearer",
        ),
        (
            [Row(0, 1, 100, 100), Row(0, -1, 100, 100)],
            [(-5.0, 0.98, 1.02), (50.0, 1.0, 1.0)],
            [(50 - 5.1) / (1.02 * 0.02)] * 2,
            "fully hedged in an asset in debt: 50 − 1.02 · 5 = 1.02 · 0.02 P",
        ),
    ],
)
def test_joint_margin(legs: list[Row], slots: list[tuple[float, float, float]], expected: list[float], why: str) -> None:
    np.testing.assert_allclose(prices(legs, slots), expected, rtol=1e-13, err_msg=why)
