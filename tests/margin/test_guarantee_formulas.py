"""The formulas of coin-margined futures, case by case: what is flat, unknown, locked, negative or impossible."""

from __future__ import annotations

import numpy as np
import pytest

from monitor.margin import guarantee, joint
from monitor.model.figures import Array

INF, NAN = float("inf"), float("nan")
UNIT = 100 / 9500 / 20  # margin of one BTC contract at 9500, 20x


def ar(*values: float) -> Array:
    return np.array(values, np.float64)


# ------------------------------------------------------------------ legs


@pytest.mark.parametrize(
    ("contracts", "cost", "price", "margin", "pnl", "why"),
    [
        (10, 5000, 5000, 0.02, 0.0, "at cost nothing is won"),
        (10, 4000, 5000, 0.02, 0.05, "a long wins as the price rises: 1000 USD / 4000 − 1000 USD / 5000"),
        (-10, 4000, 5000, 0.02, -0.05, "a short loses the same"),
        (10, 5000, 4000, 0.025, -0.05, "margin grows as the price falls"),
        (0, 0, 5000, 0.0, 0.0, "a flat leg has no cost, and needs none"),
        (0, 0, NAN, 0.0, 0.0, "nor a price"),
        (10, 4000, NAN, NAN, NAN, "without a price neither is known"),
        (10, NAN, 5000, 0.02, NAN, "without a cost margin is"),
        (10, 0, 5000, 0.02, NAN, "a cost of 0 is no cost, not an infinite loss"),
        (10, 4000, 0, NAN, NAN, "a price of 0 is no price"),
        (10, 4000, -1, NAN, NAN, "nor is a negative one"),
        (NAN, 4000, 5000, NAN, NAN, "unknown contracts"),
    ],
)
def test_leg(contracts: float, cost: float, price: float, margin: float, pnl: float, why: str) -> None:
    worth = guarantee.notional(ar(100), ar(contracts), ar(price))
    np.testing.assert_allclose(guarantee.leg_margin(worth, ar(10)), [margin], rtol=1e-15, err_msg=why)
    np.testing.assert_allclose(guarantee.unrealized_pnl(worth, ar(cost), ar(price)), [pnl], rtol=1e-15, err_msg=why)


def test_unknown_leverage_makes_only_held_margin_unknown() -> None:
    np.testing.assert_array_equal(guarantee.leg_margin(ar(0.2, 0.0), ar(NAN, NAN)), [NAN, 0.0])


def test_small_move_keeps_its_digits() -> None:
    """1/cost − 1/price would lose ten of sixteen digits here."""
    worth = guarantee.notional(ar(100), ar(1), ar(30_000.0001))
    exact = 100 * 0.0001 / (30_000 * 30_000.0001)
    assert guarantee.unrealized_pnl(worth, ar(30_000), ar(30_000.0001))[0] == pytest.approx(
        exact, rel=1e-11
    )  # of the price itself


def test_scalars_are_arrays_of_one() -> None:
    worth = guarantee.notional(np.float64(100), np.float64(10), np.float64(5000))
    assert float(guarantee.leg_margin(worth, np.float64(10))) == pytest.approx(0.02)


# ------------------------------------------------------------------ locking


@pytest.mark.parametrize(
    ("longs", "shorts", "same", "cross", "margin", "why"),
    [
        ([1000], [800], 800, 0, 1000, "the venue's example: the larger side is charged"),
        ([5], [5], 5, 0, 5, "a locked pair is charged once"),
        ([5, 7], [0, 0], 0, 0, 12, "one direction locks nothing"),
        ([5, 0], [0, 5], 0, 5, 7.5, "a perfect cross lock saves a quarter"),
        (
            [400, 0, 200, 100],
            [100, 300, 50, 350],
            250,
            450,
            1025,
            "four periods: what locked in its contract does not lock twice",
        ),
        ([5, 0], [5, 0], 5, 0, 5, "an empty contract changes nothing"),
        ([], [], 0, 0, 0, "an empty pool"),
    ],
)
def test_lock(longs: list[float], shorts: list[float], same: float, cross: float, margin: float, why: str) -> None:
    pool = np.ones(len(longs), np.intp)
    locked = guarantee.lock(ar(*longs) * UNIT, ar(*shorts) * UNIT, pool, 3)
    total = sum(longs) + sum(shorts)
    for got, expect in zip((*locked, locked.saved), (total, same, cross, margin, total - margin), strict=True):
        np.testing.assert_allclose(got, [0, expect * UNIT, 0], rtol=1e-14, atol=1e-16, err_msg=why)


def test_locking_stays_within_its_pool_and_unknown_too() -> None:
    locked = guarantee.lock(ar(5, 0, NAN), ar(0, 5, 1), np.array([0, 1, 2]), 3)
    np.testing.assert_array_equal(locked.margin, [5, 5, NAN], "another coin locks nothing; unknown is only what depends on it")
    np.testing.assert_array_equal(locked.saved, [0, 0, NAN])


def test_margins_lock_not_contracts() -> None:
    """One contract long at 10000 and one short at 8000: the dearer margin keeps a rest that nothing locks."""
    worth = guarantee.notional(ar(100, 100), ar(1, -1), ar(10_000, 8000))
    margin = guarantee.leg_margin(worth, ar(20, 20))
    locked = guarantee.lock(ar(margin[0], 0), ar(0, margin[1]), np.zeros(2, np.intp), 1)
    assert locked.margin[0] == pytest.approx(margin.sum() - 0.5 * margin[0], rel=1e-15)


@pytest.mark.parametrize(
    ("leaving", "margin", "why"),
    [
        ([False, False], 10.5, "nobody leaves: 5 + 10, less the pair of 2, less half of 5 against 6"),
        ([True, False], 8.0, "5 leave and only 2.5 are freed: the short of 8 stands without its cross lock"),
        ([False, True], 5.0, "the long of 5 stays"),
        ([True, True], 0.0, "nothing stays"),
    ],
)
def test_margin_after_delivery(leaving: list[bool], margin: float, why: str) -> None:
    got = guarantee.margin_after_delivery(ar(5, 2), ar(0, 8), np.array(leaving), np.zeros(2, np.intp), 1)
    assert got.tolist() == [margin], why


def test_delivery_of_an_unpriced_contract_leaves_the_rest_known() -> None:
    got = guarantee.margin_after_delivery(ar(5, NAN), ar(0, 8), np.array([False, True]), np.zeros(2, np.intp), 1)
    assert got.tolist() == [5]


def test_net_contracts_of_periods_do_not_net() -> None:
    net = guarantee.net_contracts(ar(1200, 500, 3), ar(2000, 0, 3), np.array([0, 0, 1]), 2)
    assert net.tolist() == [1300, 0]


# ------------------------------------------------------------------ figures of a pool


@pytest.mark.parametrize(
    ("equity", "used", "factor", "ratio", "required", "health", "margin_ratio", "why"),
    [
        (4.0, 10.0, 0.4, 0.0, 4.0, 1.0, 1.0, "liquidation in all three senses"),
        (8.0, 10.0, 0.4, 0.4, 4.0, 2.0, 0.5, "twice what is needed"),
        (-1.0, 10.0, 0.4, -0.5, 4.0, -0.25, INF, "no equity under a requirement is no small ratio"),
        (0.0, 10.0, 0.4, -0.4, 4.0, 0.0, INF, "nor is none at all"),
        (5.0, 0.0, 0.4, NAN, 0.0, NAN, 0.0, "nothing used: no risk, not a ratio of 0"),
        (5.0, 0.0, NAN, NAN, 0.0, NAN, 0.0, "and no need to know the factor"),
        (5.0, 10.0, NAN, NAN, NAN, NAN, NAN, "which otherwise makes all unknown"),
        (NAN, 10.0, 0.4, NAN, 4.0, NAN, NAN, "unknown equity"),
        (5.0, NAN, 0.4, NAN, NAN, NAN, NAN, "unknown margin is not none"),
    ],
)
def test_ratios(
    equity: float, used: float, factor: float, ratio: float, required: float, health: float, margin_ratio: float, why: str
) -> None:
    requirement = guarantee.requirement(ar(used), ar(factor))
    got = guarantee.guarantee_asset_ratio(ar(equity), ar(used), ar(factor))
    np.testing.assert_allclose(got, [ratio], atol=1e-16, err_msg=why)
    np.testing.assert_array_equal(requirement, [required], why)
    np.testing.assert_array_equal(joint.health(ar(equity), requirement), [health], why)
    np.testing.assert_array_equal(joint.margin_ratio(ar(equity), requirement), [margin_ratio], why)


def test_available_says_what_is_missing() -> None:
    np.testing.assert_array_equal(guarantee.available(ar(50, 1, NAN), ar(30, 3, 1), ar(10, 1, 1)), [10, -3, NAN])


@pytest.mark.parametrize(
    ("static", "real", "unreal", "used", "ratio", "amount", "why"),
    [
        (1.0, 0.0, 0.0, 1 / 6, 0.0, 5 / 6, "what is not used"),
        (12.0, 2.0, 0.0, 3.0, 0.0, 9.0, "realised profit covers margin, so it is not lost, but it does not leave"),
        (12.0, 2.0, 0.0, 0.0, 0.0, 10.0, "nor does it where nothing is used"),
        (12.0, 2.0, 0.0, 0.5, 0.6, 10.9, "the part of it that is settled in real time leaves, beyond the used margin"),
        (8.0, -2.0, 0.0, 3.0, 1.0, 5.0, "a realised loss is gone: 10 − 2 − 3"),
        (10.0, 0.0, -4.0, 3.0, 1.0, 3.0, "an unrealised loss too"),
        (10.0, 0.0, 4.0, 3.0, 1.0, 7.0, "an unrealised profit never leaves"),
        (1.0, 0.0, 0.0, 3.0, 1.0, 0.0, "not below 0"),
        (12.0, 2.0, 0.0, 3.0, NAN, 9.0, "an unknown ratio of nothing is nothing"),
        (12.0, 2.0, 0.0, 0.5, NAN, NAN, "of something it is unknown"),
        (NAN, 2.0, 0.0, 0.5, 0.0, NAN, "unknown equity"),
    ],
)
def test_transferable(static: float, real: float, unreal: float, used: float, ratio: float, amount: float, why: str) -> None:
    got = guarantee.transferable(ar(static), ar(real), ar(unreal), ar(used), ar(ratio))
    np.testing.assert_allclose(got, [amount], rtol=1e-15, err_msg=why)


def test_cautious_bound_of_a_transfer() -> None:
    """With k = 1 the second term hands out profit that an unrealised loss has eaten already."""
    static, real, unreal, used = ar(5), ar(4), ar(-4), ar(0.5)
    amount = guarantee.transferable(static, real, unreal, used, ar(1))
    assert amount.tolist() == [3.5], "1 − 4 is less than nothing, and 4 − 0.5 of profit"
    assert guarantee.transferable_bound(amount, guarantee.margin_balance(static, unreal), used).tolist() == [0.5]
    assert guarantee.transferable_bound(amount, ar(-1), used).tolist() == [0.0]


# ------------------------------------------------------------------ liquidation price


@pytest.mark.parametrize(
    ("equity", "net", "margin", "factor", "x", "why"),
    [
        (1.0, 1.0, 0.1, 0.2, 0.51, "long: (1 + 0.02) / 2 of the price"),
        (0.5, -1.0, 0.1, 0.2, 1.96, "short with half its worth: (−1 + 0.02) / −0.5"),
        (2.0, -1.0, 0.1, 0.2, NAN, "a short covered by coin is never liquidated"),
        (1.0, -1.0, 0.1, 0.2, NAN, "covered exactly: a synthetic dollar, no price moves it to liquidation"),
        (1.0 - 2e-16, -1.0, 0.1, 0.2, NAN, "covered but for rounding is covered"),
        (1.0, 0.0, 0.1, 0.2, 0.02, "a locked pair: its margin grows as the price falls"),
        (1.0, 0.0, 0.0, 0.2, NAN, "no position, no liquidation price"),
        (-2.0, 1.0, 0.1, 0.2, NAN, "under water at every price"),
        (-0.2, 1.0, 0.1, 0.2, 1.275, "under water now: the price at which it would come out"),
        (0.02, 1.0, 0.1, 0.2, 1.0, "right at liquidation"),
        (NAN, 1.0, 0.1, 0.2, NAN, "unknown equity"),
        (1.0, 1.0, 0.1, NAN, NAN, "unknown factor"),
    ],
)
def test_liquidation(equity: float, net: float, margin: float, factor: float, x: float, why: str) -> None:
    got = guarantee.liquidation_price_factor(ar(equity), ar(net), ar(margin), ar(factor))
    np.testing.assert_allclose(got, [x], rtol=1e-14, err_msg=why)


def test_liquidation_price_of_one_contract_is_the_venues_formula() -> None:
    face, long, short, price, leverage, factor, equity = 10.0, 2.0, 1.0, 0.0905, 20.0, 0.4, 446.417641681222726716
    net = guarantee.notional(ar(face, face), ar(long, -short), ar(price, price)).sum()
    margin = face * max(long, short) / price / leverage
    x = guarantee.liquidation_price_factor(ar(equity), ar(net), ar(margin), ar(factor))
    venue = face * (long - short + factor * max(long, short) / leverage) / (equity + face * (long - short) / price)
    assert x[0] * price == pytest.approx(venue, rel=1e-15)


# ------------------------------------------------------------------ what to do


@pytest.mark.parametrize(
    ("equity", "required", "target", "deposit", "why"),
    [
        (3.0, 4.0, 1.5, 3.0, "1.5 × 4 − 3"),
        (7.0, 4.0, 1.5, 0.0, "there already"),
        (-3.0, 4.0, 1.5, 9.0, "a debt comes first"),
        (5.0, 0.0, 1.5, 0.0, "nothing is needed"),
        (NAN, 4.0, 1.5, NAN, "unknown"),
        (3.0, NAN, 1.5, NAN, "unknown"),
    ],
)
def test_deposit(equity: float, required: float, target: float, deposit: float, why: str) -> None:
    np.testing.assert_array_equal(guarantee.deposit_for_health(ar(equity), ar(required), target), [deposit], why)


@pytest.mark.parametrize(
    ("longs", "shorts", "tiers", "frozen", "equity", "of_longs", "of_shorts", "why"),
    [
        ([10], [0], [(INF, 0.5)], 0, 5, [0], [NAN], "there already; the other leg is flat"),
        ([10], [0], [(INF, 0.5)], 0, 2.5, [5], [NAN], "half the equity bears half the margin"),
        ([10], [0], [(INF, 0.5)], 0, 2.4, [6], [NAN], "4.8 may stay: whole contracts only"),
        ([10], [0], [(INF, 0.5)], 2, 2.5, [7], [NAN], "orders keep their margin"),
        ([10], [0], [(INF, 0.5)], 6, 2.5, [NAN], [NAN], "more than all would have to go"),
        ([10], [0], [(INF, 0.5)], 0, 0, [10], [NAN], "no equity bears no position"),
        ([10], [0], [(INF, 0.5)], 0, -1, [NAN], [NAN], "debt is not closed away"),
        ([10], [0], [(7, 0.25), (INF, 0.5)], 0, 2, [3], [NAN], "the lower tier's factor, one contract into it"),
        ([10], [0], [(7, 0.25), (INF, 0.5)], 0, 4.5, [1], [NAN], "enough within the tier"),
        ([10], [4], [(INF, 0.5)], 0, 3, [4], [NAN], "the larger leg alone is charged: the locked short frees nothing"),
        ([10], [4], [(INF, 0.5)], 0, 2, [6], [NAN], "down to a pair"),
        ([10], [4], [(INF, 0.5)], 0, 1.9, [NAN], [NAN], "from there on the short is charged"),
        ([10], [4], [(5, 0.2), (9, 0.4), (INF, 0.8)], 0, 3, [1], [NAN], "net 6 → 5 jumps down a tier"),
        ([0, 10], [4, 0], [(INF, 0.5)], 0, 5, [NAN, 2], [4, NAN], "cross lock: a long frees itself, a short half of it"),
        ([10], [8], [(4, 0.2), (INF, 0.8)], 0, 2.4, [0], [0], "locked within a low tier: all is well"),
        ([10], [8], [(4, 0.2), (INF, 0.8)], 0, 1.6, [2], [NAN], "closing the smaller leg would only enter the higher tier"),
        ([10], [0], [(4, 0.2), (5, 0.1), (INF, 0.8)], 0, 0.7, [5], [NAN], "a table in disorder is searched all the same"),
        ([10], [8], [(4, 0.8), (INF, 0.1)], 0, 5, [7], [3], "there more net contracts may need less: either way up counts"),
        ([3], [0], [(4, 0.8), (INF, 0.1)], 2, 1, [NAN], [NAN], "but no more can be closed than there are"),
        ([10], [0], [(INF, NAN)], 0, 5, [NAN], [NAN], "unknown factor"),
        ([10], [0], [(INF, 0.5)], NAN, 5, [NAN], [NAN], "unknown orders"),
        ([10], [0], [(INF, 0.5)], 0, NAN, [NAN], [NAN], "unknown equity"),
    ],
)
def test_reduction(
    longs: list[float],
    shorts: list[float],
    tiers: list[tuple[float, float]],
    frozen: float,
    equity: float,
    of_longs: list[float],
    of_shorts: list[float],
    why: str,
) -> None:
    """One contract's margin is 1 and health shall be 1: equity ≥ factor × (margin + frozen)."""
    got = guarantee.reduction_for_health(
        long_contracts=ar(*longs),
        short_contracts=ar(*shorts),
        contract_margin=np.ones(len(longs)),
        net_max=ar(*(top for top, _ in tiers), INF),  # one tier of padding
        factors=ar(*(factor for _, factor in tiers), NAN),
        frozen=frozen,
        equity=equity,
        target=1.0,
    )
    np.testing.assert_array_equal(got[0], of_longs, why)
    np.testing.assert_array_equal(got[1], of_shorts, why)


def test_reduction_to_a_whole_contract_is_not_one_more_by_rounding() -> None:
    """Equity for exactly so many contracts: in floats their margin is often a hair more than what is allowed."""
    for stay in range(1, 200):
        of_longs, _ = guarantee.reduction_for_health(
            long_contracts=ar(200),
            short_contracts=ar(0),
            contract_margin=ar(UNIT),
            net_max=ar(INF),
            factors=ar(0.7),
            frozen=0.0,
            equity=1.2 * 0.7 * stay * UNIT,
            target=1.2,
        )
        assert of_longs.tolist() == [200 - stay]


def test_reduction_needs_the_prices_of_held_contracts_only() -> None:
    common = {"net_max": ar(INF), "factors": ar(0.5), "frozen": 0.0, "equity": 2.5, "target": 1.0}
    margins = ar(1, NAN)
    delivered = guarantee.reduction_for_health(
        long_contracts=ar(10, 0), short_contracts=ar(0, 0), contract_margin=margins, **common
    )
    np.testing.assert_array_equal(delivered, [[5, NAN], [NAN, NAN]])
    unpriced = guarantee.reduction_for_health(
        long_contracts=ar(10, 1), short_contracts=ar(0, 0), contract_margin=margins, **common
    )
    assert np.isnan(unpriced).all()
