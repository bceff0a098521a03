"""Everything by which an account is changed from outside: orders, transfers, leverage. Each change is pushed as documented.

Orders are not checked against the margin: whoever writes a test decides how much an account may risk.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from monitor.sim.htx.account import BUY, SELL, Account, Leg, Purse, RestingOrder
from monitor.sim.htx.margin import leg_pnl
from monitor.sim.htx.market import Coin, Contract, Market, Status
from monitor.sim.htx.text import ZERO, cut, exact
from monitor.sim.refused import RefusedError

MAKER_FEE = Decimal("0.0002")
TAKER_FEE = Decimal("0.0004")


@dataclass(frozen=True)
class Fill:
    """What a push of topic `orders` tells of a filled order."""

    order: RestingOrder
    price: Decimal
    fee: Decimal  # in the coin, negative
    profit: Decimal
    maker: bool
    liquidation: bool = False


@dataclass(frozen=True)
class Change:
    """One change of one purse. `event` is the venue's word for it; `legs` are those touched (None: no position push)."""

    account: Account
    coin: Coin
    event: str
    legs: list[Leg] | None = None
    fill: Fill | None = None


Push = Callable[[Change], None]


class Desk:
    """Works on any account; `push` takes each change, `now_ms` is the simulated clock."""

    def __init__(self, market: Market, now_ms: Callable[[], int], push: Push) -> None:
        self.market = market
        self.now_ms = now_ms
        self.push = push
        self._ids = itertools.count(773_207_641_127_878_656)  # beyond 2^53, as the real ones

    # ------------------------------------------------------------------ orders

    def order(self, account: Account, code: str, direction: str, offset: str, volume: int, price: Decimal | None = None) -> int:
        """Without a price it fills whole at the last trade; with one it rests until a trade reaches it. Returns its id."""
        coin, contract = self.market.find(code)
        _check_open(coin, contract)
        if direction not in {BUY, SELL} or offset not in {"open", "close"}:
            raise RefusedError(1030, "Input error.")
        if volume <= 0:
            raise RefusedError(1040, "The order amount must be a positive whole number.")
        purse = account.purses[coin.symbol]
        order_price = contract.last if price is None else coin.on_grid(price)
        order = RestingOrder(next(self._ids), contract.code, direction, offset, volume, order_price, self.now_ms())
        if offset == "close" and volume > _closable(purse, order):
            raise RefusedError(1048, "Insufficient close amount available.")
        if price is None:
            self._fill(account, coin, order, contract.last, TAKER_FEE)
        else:
            purse.orders[order.order_id] = order
            leg = purse.legs.get((order.contract, order.leg_direction))
            self.push(Change(account, coin, "order.open", [leg] if offset == "close" and leg else None))
        return order.order_id

    def cancel(self, account: Account, order_id: int) -> None:
        for purse in account.purses.values():
            order = purse.orders.pop(order_id, None)
            if order is not None:
                leg = purse.legs.get((order.contract, order.leg_direction))
                touched = [leg] if order.offset == "close" and leg else None
                self.push(Change(account, self.market.coins[purse.coin], "order.cancel", touched))
                return
        raise RefusedError(1061, "This order doesn't exist.")

    def fill_reached(self, account: Account, coin: Coin) -> None:
        """Fill the resting orders that the last trade has reached."""
        purse = account.purses[coin.symbol]
        for order in list(purse.orders.values()):
            contract = coin.contract(order.contract)
            reached = contract.last <= order.price if order.direction == BUY else contract.last >= order.price
            if contract.trades_now and reached:
                del purse.orders[order.order_id]
                self._fill(account, coin, order, order.price, MAKER_FEE)

    def close_forced(self, account: Account, coin: Coin, leg: Leg, price: Decimal) -> Fill:
        """The exchange takes a position over: without a fee, and without a push of its own."""
        purse = account.purses[coin.symbol]
        direction = SELL if leg.direction == BUY else BUY
        order = RestingOrder(next(self._ids), leg.contract, direction, "close", leg.volume, price, self.now_ms())
        profit = _close(purse, coin, leg, leg.volume, price)
        return Fill(order, price, ZERO, profit, maker=False, liquidation=True)

    @exact
    def _fill(self, account: Account, coin: Coin, order: RestingOrder, price: Decimal, fee_rate: Decimal) -> None:
        purse = account.purses[coin.symbol]
        profit = ZERO
        if order.offset == "open":
            leg = _open(purse, order, price)
        else:
            leg = purse.legs[(order.contract, order.leg_direction)]
            profit = _close(purse, coin, leg, order.volume, price)
        fee = -cut(coin.face * order.volume / price * fee_rate)
        purse.fees += fee
        fill = Fill(order, price, fee, profit, maker=fee_rate == MAKER_FEE)
        self.push(Change(account, coin, "order.match", [leg], fill))

    # ------------------------------------------------------------------ money and settings

    def transfer(self, account: Account, symbol: str, amount: Decimal) -> None:
        """Into (> 0) or out of (< 0) the purse of a coin."""
        coin = self.market.coin(symbol)
        if coin.is_settling:
            raise RefusedError(1106, "In settlement or delivery. Unable to transfer assets.")
        account.purses[coin.symbol].balance += amount
        self.push(Change(account, coin, "contract.transfer"))

    def switch_leverage(self, account: Account, symbol: str, lever: int) -> None:
        """One leverage for all positions of the coin; refused while orders are open."""
        coin = self.market.coin(symbol)
        purse = account.purses[coin.symbol]
        if lever not in coin.levers:
            raise RefusedError(1037, "The leverage is invalid. Please contact the customer service.")
        if purse.orders:
            raise RefusedError(1045, "Unable to switch leverage due to current orders.")
        purse.lever = lever
        self.push(Change(account, coin, "switch_lever_rate", list(purse.legs.values())))


def _check_open(coin: Coin, contract: Contract) -> None:
    if contract.status in {Status.DELIVERING, Status.DELIVERED}:
        raise RefusedError(1059, "In delivery. Your order can't be placed.")
    if coin.is_settling:
        raise RefusedError(1056, "In settlement. Your order can't be placed.")


def _closable(purse: Purse, order: RestingOrder) -> int:
    leg = purse.legs.get((order.contract, order.leg_direction))
    if leg is None:
        return 0
    tied = sum(
        other.volume
        for other in purse.orders.values()
        if other.offset == "close" and (other.contract, other.leg_direction) == (leg.contract, leg.direction)
    )
    return leg.volume - tied


@exact
def _open(purse: Purse, order: RestingOrder, price: Decimal) -> Leg:
    """Average prices of an inverse contract are harmonic: Σ volume / Σ (volume / price)."""
    key = (order.contract, order.leg_direction)
    leg = purse.legs.get(key)
    if leg is None:
        leg = purse.legs[key] = Leg(*key, 0, price, price)
    total = leg.volume + order.volume
    leg.cost_open = cut(total / (leg.volume / leg.cost_open + order.volume / price))
    leg.cost_hold = cut(total / (leg.volume / leg.cost_hold + order.volume / price))
    leg.volume = total
    return leg


def _close(purse: Purse, coin: Coin, leg: Leg, volume: int, price: Decimal) -> Decimal:
    """Realises what was made since the last settlement. A leg that is closed whole is forgotten."""
    profit = leg_pnl(coin.face, leg.direction, volume, leg.cost_hold, price)
    purse.offset_profit += profit
    leg.volume -= volume
    if not leg.volume:
        del purse.legs[(leg.contract, leg.direction)]
    return profit
