"""The laws of coin-margined pools, on random accounts: float arrays tell what exact fractions tell, and locking, liquidation,
delivery and the levers do what they promise. All coins of an account go through the arrays at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random

import numpy as np
import oracle_htx as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_htx import CoinAccount, coin_accounts, single_coins

from monitor.margin import guarantee, joint
from monitor.margin.guarantee_tables import FactorTables, LadderTables
from monitor.model.figures import Array
from monitor.model.instruments import FactorTable, FactorTier, LadderTable, LadderTier

# 2⁻⁵² for each of at most 8 legs, and a few more for each term's own products; of the sum of the terms' sizes.
ROUNDING = Fraction(1, 10**14)


@dataclass(frozen=True)
class Figures:
    """By `monitor.margin`: of the legs in the order of the accounts, of the contracts, of the pools (one per coin)."""

    worth: Array
    margin: Array
    unrealized: Array
    profit: Array
    long_contracts: Array
    short_contracts: Array
    contract_margin: Array  # of one contract
    contract_pool: guarantee.Indices
    locked: guarantee.Locked
    equity: Array
    net_notional: Array
    net: Array
    factor_rows: guarantee.Indices
    factors: FactorTables
    factor: Array
    used: Array
    requirement: Array
    ratio: Array
    cap: Array
    available: Array
    transferable: Array
    x: Array


def figures(accounts: list[CoinAccount]) -> Figures:
    legs = [(pool, leg) for pool, account in enumerate(accounts) for leg in account.legs]
    names = list(dict.fromkeys(leg.contract for _, leg in legs))
    pool = np.array([pool for pool, _ in legs], np.intp)
    contract = np.array([names.index(leg.contract) for _, leg in legs], np.intp)
    long = np.array([leg.direction == "buy" for _, leg in legs], np.bool_)
    contracts = np.array([leg.contracts for _, leg in legs], np.float64)
    last = floats(accounts[pool].lasts[leg.contract] for pool, leg in legs)
    face, leverage = (floats(getattr(account, name) for account in accounts) for name in ("face", "leverage"))
    signed = np.where(long, contracts, -contracts)
    worth = guarantee.notional(face[pool], signed, last)
    margin = guarantee.leg_margin(worth, leverage[pool])
    unrealized = guarantee.unrealized_pnl(worth, floats(leg.cost_hold for _, leg in legs), last)
    profit = guarantee.unrealized_pnl(worth, floats(leg.cost_open for _, leg in legs), last)

    def by_contract(values: Array, *, longs: bool) -> Array:
        return np.bincount(contract, np.where(long == longs, values, 0.0), len(names)).astype(np.float64)

    contract_pool = np.empty(len(names), np.intp)
    contract_pool[contract] = pool
    contract_last = np.empty(len(names))
    contract_last[contract] = last
    long_contracts, short_contracts = by_contract(contracts, longs=True), by_contract(contracts, longs=False)
    of_one = guarantee.leg_margin(
        guarantee.notional(face[contract_pool], np.ones(len(names)), contract_last), leverage[contract_pool]
    )
    size = len(accounts)
    locked = guarantee.lock(by_contract(margin, longs=True), by_contract(margin, longs=False), contract_pool, size)

    tables, ladders = FactorTables(), LadderTables()
    factor_rows = np.array([tables.row(factor_table(account)) for account in accounts], np.intp)
    ladder_rows = np.array([ladders.row(ladder_table(account)) for account in accounts], np.intp)
    static, real, frozen, ratio = (
        floats(getattr(account, name) for account in accounts)
        for name in ("margin_static", "profit_real", "margin_frozen", "transfer_profit_ratio")
    )
    pnl = np.bincount(pool, unrealized, size)
    equity = guarantee.margin_balance(static, pnl)
    net_notional = np.bincount(pool, worth, size)
    net = guarantee.net_contracts(long_contracts, short_contracts, contract_pool, size)
    factor = tables.factor(factor_rows, net)
    used = locked.margin + frozen
    cap = ladders.cap(ladder_rows, equity)
    return Figures(
        worth,
        margin,
        unrealized,
        profit,
        long_contracts,
        short_contracts,
        of_one,
        contract_pool,
        locked,
        equity,
        net_notional,
        net,
        factor_rows,
        tables,
        factor,
        used,
        guarantee.requirement(used, factor),
        guarantee.guarantee_asset_ratio(equity, used, factor),
        cap,
        guarantee.available(cap, locked.margin, frozen),
        guarantee.transferable(static, real, pnl, used, ratio),
        guarantee.liquidation_price_factor(equity, net_notional, locked.margin, factor),
    )


def factor_table(account: CoinAccount) -> FactorTable:
    tiers = (
        FactorTier(i, tier.net_min, math.inf if tier.net_max is None else tier.net_max, float(tier.factor))
        for i, tier in enumerate(account.factors)
    )
    return FactorTable(account.coin, account.leverage, tuple(tiers))


def ladder_table(account: CoinAccount) -> LadderTable:
    def end(text: str | None) -> float:
        return math.inf if text is None else float(text)

    tiers = (
        LadderTier(float(tier.equity_min), end(tier.equity_max), float(tier.usable_min), end(tier.usable_max))
        for tier in account.ladder
    )
    return LadderTable(account.coin, account.leverage, tuple(tiers))


def floats(values: object) -> Array:
    return np.array([float(Fraction(value)) for value in values], np.float64)  # type: ignore[attr-defined]


def close(got: float, exact: Fraction, gross: Fraction) -> bool:
    return abs(Fraction(float(got)) - exact) <= ROUNDING * gross


# ------------------------------------------------------------------ figures


@given(accounts=coin_accounts())
def test_formulas_tell_what_exact_arithmetic_tells(accounts: list[CoinAccount]) -> None:
    got = figures(accounts)
    leg = 0
    for pool, account in enumerate(accounts):
        exact = oracle.figures(account)
        gross = exact.gross
        for each in exact.legs:
            turnover = abs(each.worth) / 10  # the prices themselves are rounded, by a tenth of what ROUNDING allows
            assert close(got.worth[leg], each.worth, abs(each.worth)), "worth"
            assert close(got.margin[leg], each.margin, each.margin), "leg margin"
            assert close(got.unrealized[leg], each.unrealized, abs(each.unrealized) + turnover), "unrealised PnL"
            assert close(got.profit[leg], each.profit, abs(each.profit) + turnover), "profit"
            leg += 1
        for name in ("total", "same"):
            assert close(getattr(got.locked, name)[pool], getattr(exact, name), exact.total), name
        assert close(got.locked.cross[pool], exact.cross, exact.total), "cross"
        assert close(got.locked.margin[pool], exact.position_margin, exact.position_margin), "position margin"
        assert close(got.equity[pool], exact.equity, gross), "equity"
        assert got.net[pool] == exact.net, "net contracts"
        assert got.factor[pool] == float(exact.factor), "adjustment factor"
        assert close(got.requirement[pool], exact.requirement, exact.requirement), "requirement"
        assert close(got.cap[pool], exact.cap, gross), "usable margin"
        assert close(got.available[pool], exact.available, gross), "available"
        assert close(got.transferable[pool], exact.transferable, gross + exact.used), "transferable"
        assert exact.ratio is not None
        assert close(got.ratio[pool] * got.used[pool], exact.ratio * exact.used, gross + exact.used), "guarantee-asset ratio"
        check_ratios(got, pool, exact)
        check_price(account, exact, got.x[pool])


def check_ratios(got: Figures, pool: int, exact: oracle.CoinFigures) -> None:
    """Health and the newer margin ratio are one and the same as the guarantee-asset ratio, in other words."""
    equity, required = got.equity[pool : pool + 1], got.requirement[pool : pool + 1]
    health, new = joint.health(equity, required)[0], joint.margin_ratio(equity, required)[0]
    a, r = got.factor[pool], got.ratio[pool]
    assert exact.health is not None
    assert math.isclose(health, (r + a) / a, rel_tol=1e-12, abs_tol=1e-12), "health = (R + a) / a"
    assert close(health * got.requirement[pool], exact.health * exact.requirement, exact.gross), "health"
    if abs(exact.equity) > ROUNDING * exact.gross:  # nearer to 0 its sign is rounding
        assert (new == math.inf) == (exact.new_ratio is None), "no equity under a requirement"
        if exact.new_ratio is not None:
            assert close(new * got.equity[pool], exact.requirement, exact.requirement), "margin ratio"


def check_price(account: CoinAccount, now: oracle.CoinFigures, got: float) -> None:
    """At x times all prices, equity meets factor × position margin: frozen margin and the factor are held."""
    exact = oracle.liquidation_factor(account)
    if math.isnan(got):
        assert exact is None or not 1e-9 < exact < 1e9, f"is liquidated at x = {exact}"
        return
    there = oracle.figures(replace(oracle.moved(account, Fraction(float(got))), margin_frozen="0"))
    bound = ROUNDING * (there.gross + now.gross)
    assert abs(there.equity - now.factor * there.position_margin) <= bound, f"x = {got}: not liquidated there"


@given(accounts=coin_accounts())
def test_ratio_at_the_liquidation_price_is_0(accounts: list[CoinAccount]) -> None:
    """By the formulas of `monitor` alone, while the tier and no open orders are held."""
    now = figures(accounts)
    for pool, account in enumerate(accounts):
        if not 0.05 < now.x[pool] < 20:
            continue
        there = figures([replace(oracle.moved(account, Fraction(float(now.x[pool]))), margin_frozen="0")])
        terms = (np.abs(there.worth).sum() + abs(there.equity[0])) * (1 + 1 / now.x[pool]) / there.used[0]
        assert abs(there.ratio[0]) <= 1e-13 * terms
        assert there.net[0] == now.net[pool], "a price moves no contracts, so no tier"


@given(account=single_coins(), random=st.randoms(use_true_random=False))
def test_order_of_contracts_is_irrelevant(account: CoinAccount, random: Random) -> None:
    legs = list(account.legs)
    random.shuffle(legs)
    one, other = figures([account]), figures([replace(account, legs=tuple(legs))])
    for name in ("equity", "net", "factor", "used", "requirement", "available", "transferable"):
        gross = float(oracle.figures(account).gross)
        assert abs(getattr(one, name)[0] - getattr(other, name)[0]) <= 1e-14 * gross, name


@given(account=single_coins(), random=st.randoms(use_true_random=False))
def test_one_unknown_price_makes_its_coin_unknown_and_no_other(account: CoinAccount, random: Random) -> None:
    other = replace(account, legs=tuple(replace(leg, contract=f"{leg.contract} of another") for leg in account.legs))
    other = replace(other, lasts={f"{name} of another": last for name, last in account.lasts.items()})
    now = figures([account, other])
    margins = now.long_contracts * now.contract_margin, now.short_contracts * now.contract_margin
    known = guarantee.lock(*margins, now.contract_pool, 2)
    margins[random.randrange(2)][random.randrange(len(account.contracts))] = np.nan
    unknown = guarantee.lock(*margins, now.contract_pool, 2)
    assert np.isnan(unknown.margin[0])
    assert unknown.margin[1] == known.margin[1] > 0


# ------------------------------------------------------------------ locking


@given(accounts=coin_accounts())
def test_locking_never_raises_margin_and_crosswise_saves_at_most_a_quarter(accounts: list[CoinAccount]) -> None:
    locked = figures(accounts).locked
    assert (locked.margin <= locked.total).all()
    assert (locked.margin >= locked.total / 2 * (1 - 1e-15)).all(), "no more than all of one direction is ever freed"
    assert (locked.saved <= locked.same + locked.total / 4 * (1 + 1e-15)).all()
    assert (locked.same >= 0).all()
    assert (locked.cross >= 0).all()


@given(account=single_coins(), random=st.randoms(use_true_random=False))
def test_delivery_raises_neither_margin_nor_net_position(account: CoinAccount, random: Random) -> None:
    now = figures([account])
    contract = random.choice(account.contracts)
    left = oracle.delivered(account, contract)
    exact = oracle.figures(left)
    leaving = np.array([name == contract for name in account.contracts])
    longs, shorts = now.long_contracts * now.contract_margin, now.short_contracts * now.contract_margin
    margin = guarantee.margin_after_delivery(longs, shorts, leaving, now.contract_pool, 1)
    assert close(margin[0], exact.position_margin, exact.position_margin)
    assert margin[0] <= now.locked.margin[0] * (1 + 1e-15)
    assert exact.net <= now.net[0]
    assert exact.equity == oracle.figures(account).equity, "what is delivered is realised"
    freed, bore = now.locked.margin[0] - margin[0], (longs + shorts)[leaving].sum()
    assert freed <= bore * (1 + 1e-12), "less is freed than the leaving legs bore"


# ------------------------------------------------------------------ levers


@given(accounts=coin_accounts(), target=st.floats(1.0, 3.0))
def test_deposit_brings_health_to_the_target(accounts: list[CoinAccount], target: float) -> None:
    now = figures(accounts)
    deposit = guarantee.deposit_for_health(now.equity, now.requirement, target)
    after = figures([
        replace(account, margin_static=str(Fraction(account.margin_static) + Fraction(float(amount))))
        for account, amount in zip(accounts, deposit, strict=True)
    ])  # fmt: skip
    for pool, account in enumerate(accounts):
        exact = oracle.figures(account)
        if deposit[pool] == 0:
            assert exact.equity >= Fraction(target) * exact.requirement - ROUNDING * exact.gross
        else:
            assert close(after.equity[pool], Fraction(target) * exact.requirement, exact.gross + exact.requirement)


@settings(max_examples=settings().max_examples * 3)
@given(
    account=single_coins(contracts_max=40),
    random=st.randoms(use_true_random=False),
    target=st.sampled_from(["1", "1.2", "1.5", "2"]),
)
def test_reduction_is_the_fewest_contracts_that_suffice(account: CoinAccount, random: Random, target: str) -> None:
    """Each number of contracts is tried exactly; where a tried one hits the target to 9 digits, either answer is right."""
    now = figures([account])
    index = random.randrange(len(account.legs))
    leg = account.legs[index]
    longs, shorts = guarantee.reduction_for_health(
        long_contracts=now.long_contracts,
        short_contracts=now.short_contracts,
        contract_margin=now.contract_margin,
        net_max=now.factors.net_max[now.factor_rows[0]],
        factors=now.factors.factors[now.factor_rows[0]],
        frozen=float(Fraction(account.margin_frozen)),
        equity=float(now.equity[0]),
        target=float(target),
    )
    got = float((longs if leg.direction == "buy" else shorts)[account.contracts.index(leg.contract)])
    slack = 1 + Fraction(1, 10**9)
    surely = oracle.fewest_to_close(account, index, Fraction(target) * slack)
    possibly = oracle.fewest_to_close(account, index, Fraction(target) / slack)
    exact = oracle.figures(account)
    if abs(exact.equity) <= ROUNDING * exact.gross:
        return  # its sign is rounding, and with it whether an empty pool will do
    if math.isnan(got):
        assert surely is None, f"closing {surely} suffices"
    else:
        assert got in {surely, possibly}, f"{got}: exactly {possibly} or {surely}"
    empty = np.concatenate([longs[now.long_contracts == 0], shorts[now.short_contracts == 0]])
    assert np.isnan(empty).all(), "a flat leg has nothing to close"
