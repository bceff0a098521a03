"""The rules of HTX coin-margined futures once more, slow and obvious, in exact fractions: what `monitor` is judged by.

It shares no arithmetic with `monitor` and imports nothing of it. Numbers go in as the decimal strings that the venue would
print. First a coin account and its exact figures, then random accounts, then plain dicts in the shape of the venue's answers.
Source of every rule: HTX help pages on margin, locked margin, adjustment factors, transfers and liquidation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import Any

from hypothesis import strategies as st

# ------------------------------------------------------------------ a coin account


@dataclass(frozen=True)
class Leg:
    contract: str
    direction: str  # "buy", "sell"
    contracts: int  # > 0
    cost_open: str
    cost_hold: str


@dataclass(frozen=True)
class FactorTier:
    """net_max None: open."""

    net_min: int
    net_max: int | None
    factor: str


@dataclass(frozen=True)
class LadderTier:
    """None: open."""

    equity_min: str
    equity_max: str | None
    usable_min: str
    usable_max: str | None


@dataclass(frozen=True)
class CoinAccount:
    """What is liquidated together: one coin of one account at one moment."""

    coin: str
    face: str  # USD per contract
    leverage: int
    legs: tuple[Leg, ...]
    lasts: dict[str, str]  # by contract
    margin_static: str
    profit_real: str
    margin_frozen: str
    factors: tuple[FactorTier, ...]
    ladder: tuple[LadderTier, ...] = ()
    transfer_profit_ratio: str = "0"

    @property
    def contracts(self) -> list[str]:
        """Every contract held, in the order of the legs."""
        return list(dict.fromkeys(leg.contract for leg in self.legs))

    def held(self, contract: str, direction: str) -> int:
        return sum(leg.contracts for leg in self.legs if leg.contract == contract and leg.direction == direction)


# ------------------------------------------------------------------ exact figures


@dataclass(frozen=True)
class LegFigures:
    """In the coin."""

    leg: Leg
    worth: Fraction  # signed
    margin: Fraction  # before locking
    unrealized: Fraction  # from cost_hold
    profit: Fraction  # from cost_open
    profit_rate: Fraction


@dataclass(frozen=True)
class CoinFigures:
    """In the coin. ratio, new_ratio, health are None where nothing is used; new_ratio also where there is no equity."""

    legs: tuple[LegFigures, ...]
    total: Fraction
    same: Fraction
    cross: Fraction
    position_margin: Fraction
    used: Fraction
    unrealized: Fraction
    equity: Fraction
    net: int
    factor: Fraction
    requirement: Fraction
    ratio: Fraction | None
    new_ratio: Fraction | None
    health: Fraction | None
    cap: Fraction
    available: Fraction
    transferable: Fraction
    gross: Fraction  # sum of the sizes of all terms: what the rounding of a float computation is proportional to


def figures(account: CoinAccount) -> CoinFigures:
    legs = tuple(leg_figures(account, leg) for leg in account.legs)
    total = sum((each.margin for each in legs), Fraction(0))
    same = Fraction(0)
    longs = sum((each.margin for each in legs if each.leg.direction == "buy"), Fraction(0))
    for contract in account.contracts:
        mine = [each for each in legs if each.leg.contract == contract]
        long = sum((each.margin for each in mine if each.leg.direction == "buy"), Fraction(0))
        short = sum((each.margin for each in mine if each.leg.direction == "sell"), Fraction(0))
        same += min(long, short)
    cross = min(longs, total - longs) - same
    position_margin = total - same - cross / 2
    frozen, static, real = Fraction(account.margin_frozen), Fraction(account.margin_static), Fraction(account.profit_real)
    used = position_margin + frozen
    unrealized = sum((each.unrealized for each in legs), Fraction(0))
    equity = static + unrealized
    net = net_contracts(account)
    factor = adjustment_factor(account.factors, net)
    requirement = factor * used
    cap = usable(account, equity)
    turnover = sum(
        (abs(each.worth) * (1 + Fraction(account.lasts[each.leg.contract]) / Fraction(each.leg.cost_hold)) for each in legs),
        Fraction(0),
    )
    return CoinFigures(
        legs,
        total,
        same,
        cross,
        position_margin,
        used,
        unrealized,
        equity,
        net,
        factor,
        requirement,
        equity / used - factor if used else None,
        requirement / equity if used and equity > 0 else None,
        equity / requirement if used else None,
        cap,
        cap - position_margin - frozen,
        transferable(static, real, unrealized, used, Fraction(account.transfer_profit_ratio)),
        abs(static) + abs(real) + frozen + turnover,
    )


def leg_figures(account: CoinAccount, leg: Leg) -> LegFigures:
    face, last = Fraction(account.face), Fraction(account.lasts[leg.contract])
    sign = 1 if leg.direction == "buy" else -1
    worth = sign * face * leg.contracts / last
    unrealized = sign * face * leg.contracts * (1 / Fraction(leg.cost_hold) - 1 / last)
    profit = sign * face * leg.contracts * (1 / Fraction(leg.cost_open) - 1 / last)
    at_open = face * leg.contracts / Fraction(leg.cost_open) / account.leverage
    return LegFigures(leg, worth, abs(worth) / account.leverage, unrealized, profit, profit / at_open)


def net_contracts(account: CoinAccount) -> int:
    """Periods do not net against each other."""
    return sum(abs(account.held(contract, "buy") - account.held(contract, "sell")) for contract in account.contracts)


def adjustment_factor(tiers: tuple[FactorTier, ...], net: int) -> Fraction:
    for tier in tiers:
        if tier.net_min <= net and (tier.net_max is None or net <= tier.net_max):
            return Fraction(tier.factor)
    raise ValueError(f"no tier for {net} contracts")


def usable(account: CoinAccount, equity: Fraction) -> Fraction:
    """How much of the equity may serve as margin: all of it below 20x, without a table, and in debt."""
    if account.leverage < 20 or not account.ladder or equity < 0:
        return equity
    for tier in account.ladder:
        low, start = Fraction(tier.equity_min), Fraction(tier.usable_min)
        if tier.equity_max is None or tier.usable_max is None:
            return start + (equity - low) / account.leverage
        if low <= equity < Fraction(tier.equity_max):
            share = (Fraction(tier.usable_max) - start) / (Fraction(tier.equity_max) - low)
            return start + (equity - low) * share
    raise ValueError("the ladder is not open")


def transferable(static: Fraction, real: Fraction, unrealized: Fraction, used: Fraction, ratio: Fraction) -> Fraction:
    zero = Fraction(0)
    left = static - real + min(real, zero) + min(unrealized, zero) - max(zero, used - max(zero, real))
    return max(zero, left) + max(zero, real - used) * ratio


def moved(account: CoinAccount, x: Fraction) -> CoinAccount:
    """The account with all its last prices times x."""
    return replace(account, lasts={contract: str(Fraction(last) * x) for contract, last in account.lasts.items()})


def liquidation_factor(account: CoinAccount) -> Fraction | None:
    """x at which equity = factor now × position margin, without frozen margin. Both are straight lines in 1/x: two points
    tell where they meet."""
    factor = figures(account).factor

    def surplus(x: Fraction) -> Fraction:
        there = figures(replace(moved(account, x), margin_frozen="0"))
        return there.equity - factor * there.position_margin

    at_1, at_2 = surplus(Fraction(1)), surplus(Fraction(1, 2))  # 1/x is 1 and 2
    if at_1 == at_2:
        return None
    inverse = 1 + at_1 / (at_1 - at_2)
    return 1 / inverse if inverse > 0 else None


def closed(account: CoinAccount, index: int, contracts: int) -> CoinAccount:
    """The account when so many contracts of a leg were closed at the last price: their PnL is realised."""
    leg = account.legs[index]
    part = leg_figures(account, leg).unrealized * contracts / leg.contracts
    rest = replace(leg, contracts=leg.contracts - contracts)
    legs = [*account.legs[:index], *([rest] if rest.contracts else []), *account.legs[index + 1 :]]
    return replace(
        account,
        legs=tuple(legs),
        margin_static=str(Fraction(account.margin_static) + part),
        profit_real=str(Fraction(account.profit_real) + part),
    )


def fewest_to_close(account: CoinAccount, index: int, target: Fraction) -> int | None:
    """The fewest contracts of a leg after which equity ≥ target × requirement; tries each number."""
    for contracts in range(account.legs[index].contracts + 1):
        after = figures(closed(account, index, contracts))
        if after.equity >= target * after.requirement:
            return contracts
    return None


def delivered(account: CoinAccount, contract: str) -> CoinAccount:
    """The account after a contract was delivered at its last price, without fees."""
    while any(leg.contract == contract for leg in account.legs):
        index = next(i for i, leg in enumerate(account.legs) if leg.contract == contract)
        account = closed(account, index, account.legs[index].contracts)
    return account


# ------------------------------------------------------------------ random accounts

PERIODS = ("210723", "210730", "210924", "211231")
COINS = {"BTC": ("100", 32_000), "ETH": ("10", 2_000), "ADA": ("10", 1.2), "XRP": ("10", 0.6), "TRX": ("10", 0.06)}
BTC_LADDER_20X = (  # published
    LadderTier("0", "20", "0", "20"),
    LadderTier("20", "80", "20", "50"),
    LadderTier("80", "380", "50", "110"),
    LadderTier("380", "980", "110", "170"),
    LadderTier("980", None, "170", None),
)


def coin_accounts(contracts_max: int = 100_000) -> st.SearchStrategy[list[CoinAccount]]:
    """All coins of one account: 1..40 legs, over up to 4 contracts of each coin, small ones more often. Only a size and a seed
    are drawn: the same seed with fewer legs is a smaller account of the same kind, so that a failure shrinks."""
    sizes = st.one_of(*(st.integers(1, top) for top in (2, 8, 40)))
    return st.builds(random_account, st.integers(0, 2**32 - 1), sizes, st.just(contracts_max))


def single_coins(contracts_max: int = 100_000) -> st.SearchStrategy[CoinAccount]:
    """One coin, 1..8 legs."""
    return st.builds(
        lambda seed, size: random_account(seed, size, contracts_max)[0], st.integers(0, 2**32 - 1), st.integers(1, 8)
    )


def random_account(seed: int, size: int, contracts_max: int = 100_000) -> list[CoinAccount]:
    accounts = []
    for coin in COINS:
        if size > 0:
            accounts.append(random_coin(Random(f"{seed} {coin}"), coin, min(size, 2 * len(PERIODS)), contracts_max))
            size -= 2 * len(PERIODS)
    return accounts


def random_coin(rng: Random, coin: str, size: int, contracts_max: int) -> CoinAccount:
    """size: legs, 1..8. Some contracts are locked exactly, some in part, some hold one side; prices of the periods may agree."""
    face, level = COINS[coin]
    base = level * 10 ** rng.uniform(-0.5, 0.5)
    contango = rng.choice((0.0, 0.002, 0.03))
    periods = rng.sample(PERIODS, min(len(PERIODS), rng.randint((size + 1) // 2, size)))
    largest = int(10 ** rng.uniform(0, 1) * contracts_max / 10)
    legs: list[Leg] = []
    lasts = {}
    for place, period in enumerate(periods):
        contract = coin + period
        lasts[contract] = last = _price(base * (1 + contango * place))
        two_sided = len(periods) - place < size - len(legs)
        directions = rng.sample(("buy", "sell"), 2 if two_sided else 1)
        number = rng.randint(1, max(1, largest))
        for direction in directions:
            hold = _price(float(last) * rng.uniform(0.9, 1.1)) if rng.random() < 0.9 else last
            opened = hold if rng.random() < 0.5 else _price(float(last) * rng.uniform(0.7, 1.3))
            legs.append(Leg(contract, direction, number, opened, hold))
            if rng.random() < 0.6:  # otherwise the other direction has just as many
                number = rng.randint(1, max(1, largest))
    leverage = rng.choice((1, 5, 10, 20, 75, 125))
    legs = legs[:size]
    account = CoinAccount(
        coin=coin,
        face=face,
        leverage=leverage,
        legs=tuple(legs),
        lasts={leg.contract: lasts[leg.contract] for leg in legs},
        margin_static="0",
        profit_real="0",
        margin_frozen="0",
        factors=_random_factors(rng, legs, leverage),
        ladder=BTC_LADDER_20X if leverage >= 20 and rng.random() < 0.8 else (),
        transfer_profit_ratio=rng.choice(("0", "0.6", "1")),
    )
    return _with_money(rng, account)


def _random_factors(rng: Random, legs: list[Leg], leverage: int) -> tuple[FactorTier, ...]:
    """Up to five tiers; the borders often lie just where the net position is, or could come to by closing."""
    total = sum(leg.contracts for leg in legs)
    net = sum(
        abs(sum(leg.contracts * (1 if leg.direction == "buy" else -1) for leg in legs if leg.contract == contract))
        for contract in {leg.contract for leg in legs}
    )
    borders = {
        rng.choice((net, max(net - 1, 0), rng.randint(0, total), rng.randint(0, net + 1))) for _ in range(rng.randint(0, 4))
    }
    factor = min(0.9, round(rng.uniform(0.005, 0.02) * leverage, 4) or 0.005)
    tiers, low = [], 0
    for border in [*sorted(borders), None]:
        tiers.append(FactorTier(low, border, _decimal(factor)))
        factor = min(0.95, factor * rng.uniform(1.05, 1.6))
        low = low if border is None else border + 1
    return tuple(tiers)


def _with_money(rng: Random, account: CoinAccount) -> CoinAccount:
    """Equity between deep under water and very safe; open orders in some accounts; realised profit and loss."""
    now = figures(account)
    margin = float(now.position_margin)
    frozen = _decimal(margin * rng.uniform(0, 2)) if rng.random() < 0.4 else "0"
    requirement = float(now.factor) * (margin + float(frozen))
    equity = requirement * rng.choice((-0.5, 0.0, 0.9, 1.1, 2, 3, 30)) * rng.uniform(0.8, 1.2)
    return replace(
        account,
        margin_static=_decimal(equity - float(now.unrealized)),
        profit_real=_decimal(margin * rng.choice((0, 0, -1, 1, 5)) * rng.random()),
        margin_frozen=frozen,
    )


def _price(value: float) -> str:
    return _decimal(float(f"{value:.6g}"))


def _decimal(value: float) -> str:
    """Plain, at most 18 places as the venue prints; never 0 for a positive value."""
    text = format(value, ".18f" if abs(value) < 1 else ".12f").rstrip("0").rstrip(".")
    return "0" if text in {"", "-0"} else text


# ------------------------------------------------------------------ the venue's answers of it


def account_record(account: CoinAccount) -> dict[str, Any]:
    """One element of `data` of contract_account_info and of an accounts push."""
    now = figures(account)
    x = liquidation_factor(account) if account.legs and len(account.contracts) == 1 else None
    return {
        "symbol": account.coin,
        "margin_balance": float(now.equity),
        "margin_static": float(Fraction(account.margin_static)),
        "margin_position": float(now.position_margin),
        "margin_frozen": float(Fraction(account.margin_frozen)),
        "margin_available": float(now.available),
        "profit_real": float(Fraction(account.profit_real)),
        "profit_unreal": float(now.unrealized),
        "risk_rate": None if now.ratio is None else float(now.ratio),
        "new_risk_rate": "" if now.new_ratio is None else str(float(now.new_ratio)),
        "withdraw_available": float(now.transferable),
        "liquidation_price": None if x is None else float(x * Fraction(account.lasts[account.contracts[0]])),
        "lever_rate": account.leverage,
        "adjust_factor": float(now.factor),
        "trade_partition": "",
    }


def position_records(account: CoinAccount) -> list[dict[str, Any]]:
    """`data` of contract_position_info and of a positions push."""
    return [
        {
            "symbol": account.coin,
            "contract_code": each.leg.contract,
            "contract_type": contract_type(each.leg.contract, account.coin),
            "direction": each.leg.direction,
            "volume": float(each.leg.contracts),
            "available": float(each.leg.contracts),
            "frozen": 0.0,
            "cost_open": float(each.leg.cost_open),
            "cost_hold": float(each.leg.cost_hold),
            "profit_unreal": float(each.unrealized),
            "profit": float(each.profit),
            "profit_rate": float(each.profit_rate),
            "position_margin": float(each.margin),
            "lever_rate": account.leverage,
            "last_price": float(Fraction(account.lasts[each.leg.contract])),
        }
        for each in figures(account).legs
    ]


def account_position_record(account: CoinAccount) -> dict[str, Any]:
    """One element of `data` of contract_account_position_info."""
    return {**account_record(account), "positions": position_records(account)}


def contract_records(account: CoinAccount) -> list[dict[str, Any]]:
    """`data` of contract_contract_info: the contracts that the account holds."""
    return [
        {
            "symbol": account.coin,
            "contract_code": contract,
            "contract_type": contract_type(contract, account.coin),
            "contract_size": float(account.face),
            "price_tick": 0.0001,
            "delivery_date": "20" + contract.removeprefix(account.coin),
            "contract_status": 1,
        }
        for contract in account.contracts
    ]


def adjustfactor_record(account: CoinAccount) -> dict[str, Any]:
    """One element of `data` of contract_adjustfactor."""
    ladders = [
        {"ladder": number, "min_size": tier.net_min, "max_size": tier.net_max, "adjust_factor": float(tier.factor)}
        for number, tier in enumerate(account.factors)
    ]
    return {"symbol": account.coin, "list": [{"lever_rate": account.leverage, "ladders": ladders}]}


def ladder_record(account: CoinAccount) -> dict[str, Any]:
    """One element of `data` of contract_ladder_margin."""
    ladders = [
        {
            "min_margin_balance": float(tier.equity_min),
            "max_margin_balance": None if tier.equity_max is None else float(tier.equity_max),
            "min_margin_available": float(tier.usable_min),
            "max_margin_available": None if tier.usable_max is None else float(tier.usable_max),
        }
        for tier in account.ladder
    ]
    return {"symbol": account.coin, "list": [{"lever_rate": account.leverage, "ladders": ladders}] if ladders else []}


def elements_record(account: CoinAccount) -> dict[str, Any]:
    """One element of `data` of contract_query_elements, as far as margin is concerned."""
    ratio = float(account.transfer_profit_ratio)
    return {"contract_code": account.coin, "real_time_settlement": int(ratio > 0), "transfer_profit_ratio": ratio}


def contract_type(contract: str, coin: str) -> str:
    types = ("this_week", "next_week", "quarter", "next_quarter")
    return types[PERIODS.index(contract.removeprefix(coin))]
