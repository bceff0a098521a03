"""The simulated exchange's own arithmetic: margins of one coin's purse, in the coin, in plain loops.

Sources: the venue's API documentation and help pages; quotients are cut at 18 decimals, as in its published accounts.
Nothing here is shared with the monitor that it is to test.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from monitor.sim.htx.account import BUY, SELL, Leg, Purse
from monitor.sim.htx.market import Coin, Contract
from monitor.sim.htx.tables import AdjustTier, LadderRow
from monitor.sim.htx.text import ZERO, cut, exact


@dataclass
class LegFigures:
    leg: Leg
    price: Decimal
    pnl_hold: Decimal  # profit_unreal: since the last settlement
    pnl_open: Decimal  # profit: since it was opened
    pnl_rate: Decimal  # of pnl_open against the margin it was opened with
    margin: Decimal  # before locking
    frozen: int  # contracts tied in close orders


@dataclass
class Figures:
    """One coin. `guarantee_ratio` (the API's risk_rate) falls towards trouble, `margin_ratio` (new_risk_rate) rises."""

    legs: list[LegFigures]
    margin_static: Decimal
    profit_real: Decimal
    pnl: Decimal
    equity: Decimal
    locked_same: Decimal
    locked_cross: Decimal
    position_margin: Decimal
    frozen_margin: Decimal
    available: Decimal
    net_position: int
    adjust_factor: Decimal
    withdrawable: Decimal
    guarantee_ratio: Decimal | None
    margin_ratio: Decimal | None
    liquidation_price: Decimal | None  # None with several contracts: the venue's rule for them is not known
    liquidation_factor: Decimal | None  # by which all prices must move together

    @property
    def used_margin(self) -> Decimal:
        return self.position_margin + self.frozen_margin

    @property
    def is_due(self) -> bool:
        """Guarantee ratio ≤ 0, multiplied out."""
        return self.used_margin > 0 and self.equity <= self.adjust_factor * self.used_margin


def at_last(contract: Contract) -> Decimal:
    return contract.last


def at_mark(contract: Contract) -> Decimal:
    return contract.mark


@exact
def figures(purse: Purse, coin: Coin, price_of: Callable[[Contract], Decimal] = at_last) -> Figures:
    prices = {contract.code: price_of(contract) for contract in coin.contracts}
    legs = [leg_figures(leg, purse, coin, prices[leg.contract]) for leg in purse.legs.values()]
    pnl = sum((row.pnl_hold for row in legs), ZERO)
    equity = purse.margin_static + pnl
    total, same, cross = locked(legs)
    position_margin = total - same - cross / 2
    frozen_margin = sum((order_margin(o.volume, o.price, o.offset, purse, coin) for o in purse.orders.values()), ZERO)
    used = position_margin + frozen_margin
    net = net_position(purse.legs.values())
    factor = adjust_factor(coin.adjust[purse.lever], net)
    return Figures(
        legs=legs,
        margin_static=purse.margin_static,
        profit_real=purse.profit_real,
        pnl=pnl,
        equity=equity,
        locked_same=same,
        locked_cross=cross,
        position_margin=position_margin,
        frozen_margin=frozen_margin,
        available=margin_cap(coin.ladders.get(purse.lever, ()), purse.lever, equity) - used,
        net_position=net,
        adjust_factor=factor,
        withdrawable=withdrawable(purse.balance, purse.profit_real, pnl, used, coin.transfer_profit_ratio),
        guarantee_ratio=cut(equity / used - factor) if used else None,
        margin_ratio=cut(factor * used / equity) if used and equity > 0 else None,
        liquidation_price=liquidation_price(legs, coin.face, purse.lever, factor, equity),
        liquidation_factor=liquidation_factor(legs, coin.face, factor, equity, position_margin),
    )


@exact
def inverse(price: Decimal) -> Decimal:
    return cut(1 / price)


@exact
def leg_pnl(face: Decimal, direction: str, volume: int, cost: Decimal, price: Decimal) -> Decimal:
    """An inverse contract: face × volume × (1/cost − 1/price) for a long one."""
    gain = inverse(cost) - inverse(price)
    return face * volume * (gain if direction == BUY else -gain)


@exact
def leg_margin(face: Decimal, volume: int, price: Decimal, lever: int) -> Decimal:
    return cut(face * volume / price / lever)


@exact
def order_margin(volume: int, price: Decimal, offset: str, purse: Purse, coin: Coin) -> Decimal:
    """What an order freezes: one that closes freezes contracts, not margin."""
    return leg_margin(coin.face, volume, price, purse.lever) if offset == "open" else ZERO


@exact
def leg_figures(leg: Leg, purse: Purse, coin: Coin, price: Decimal) -> LegFigures:
    pnl_open = leg_pnl(coin.face, leg.direction, leg.volume, leg.cost_open, price)
    opened_with = coin.face * leg.volume / leg.cost_open / purse.lever
    return LegFigures(
        leg=leg,
        price=price,
        pnl_hold=leg_pnl(coin.face, leg.direction, leg.volume, leg.cost_hold, price),
        pnl_open=pnl_open,
        pnl_rate=cut(pnl_open / opened_with) if opened_with else ZERO,
        margin=leg_margin(coin.face, leg.volume, price, purse.lever),
        frozen=sum(
            order.volume
            for order in purse.orders.values()
            if order.offset == "close" and (order.contract, order.leg_direction) == (leg.contract, leg.direction)
        ),
    )


def locked(legs: Sequence[LegFigures]) -> tuple[Decimal, Decimal, Decimal]:
    """(total, locked within one contract, locked across contracts): sums of leg margins."""
    longs: dict[str, Decimal] = {}
    shorts: dict[str, Decimal] = {}
    for row in legs:
        side = longs if row.leg.direction == BUY else shorts
        side[row.leg.contract] = side.get(row.leg.contract, ZERO) + row.margin
    total_long, total_short = sum(longs.values(), ZERO), sum(shorts.values(), ZERO)
    same = sum((min(margin, shorts.get(contract, ZERO)) for contract, margin in longs.items()), ZERO)
    return total_long + total_short, same, min(total_long, total_short) - same


def net_position(legs: Iterable[Leg]) -> int:
    """Σ over contracts of |long − short|: periods do not net against each other here."""
    net: dict[str, int] = {}
    for leg in legs:
        net[leg.contract] = net.get(leg.contract, 0) + (leg.volume if leg.direction == BUY else -leg.volume)
    return sum(abs(contracts) for contracts in net.values())


def adjust_factor(tiers: Sequence[AdjustTier], net: int) -> Decimal:
    for tier in tiers:
        if tier.max_size is None or net <= tier.max_size:
            return tier.factor
    return tiers[-1].factor


@exact
def margin_cap(ladder: Sequence[LadderRow], lever: int, equity: Decimal) -> Decimal:
    """How much of the equity may serve as margin. Without a ladder (below 20x) all of it."""
    for row in ladder:
        if equity < row.min_balance:
            break  # negative equity
        if row.max_balance is None or row.max_available is None:
            return row.min_available + cut((equity - row.min_balance) / lever)
        if equity < row.max_balance:
            slope = (row.max_available - row.min_available) / (row.max_balance - row.min_balance)
            return row.min_available + cut((equity - row.min_balance) * slope)
    return equity


@exact
def withdrawable(balance: Decimal, profit_real: Decimal, pnl: Decimal, used: Decimal, ratio: Decimal) -> Decimal:
    """What may be transferred out. Losses count at once; profit of the period only as cover for margin, and its rest by
    the coin's transfer ratio."""
    own = balance + min(profit_real, ZERO) + min(pnl, ZERO) - max(ZERO, used - max(ZERO, profit_real))
    return max(ZERO, own) + cut(max(ZERO, profit_real - used) * ratio)


@exact
def liquidation_price(legs: Sequence[LegFigures], face: Decimal, lever: int, factor: Decimal, equity: Decimal) -> Decimal | None:
    """Where equity = factor × position margin, with open orders gone. None with no positive solution or no single contract."""
    if len({row.leg.contract for row in legs}) != 1:
        return None
    price = legs[0].price
    long = sum(row.leg.volume for row in legs if row.leg.direction == BUY)
    short = sum(row.leg.volume for row in legs if row.leg.direction == SELL)
    net, bearing = long - short, max(long, short)
    below = equity + face * net / price
    above = face * (net + factor * bearing / lever)
    if not below or above / below <= 0:
        return None
    return cut(above / below)


@exact
def liquidation_factor(
    legs: Sequence[LegFigures], face: Decimal, factor: Decimal, equity: Decimal, position_margin: Decimal
) -> Decimal | None:
    """The same for several contracts that all move by one factor."""
    exposure = sum((face * row.leg.volume / row.price * (1 if row.leg.direction == BUY else -1) for row in legs), ZERO)
    below = equity + exposure
    above = exposure + factor * position_margin
    if not legs or not below or above / below <= 0:
        return None
    return cut(above / below)
