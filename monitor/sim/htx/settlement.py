"""Daily settlement and weekly delivery: each coin pauses for some seconds, then its books are made up and it trades again.

08:00:00  contracts go to status 5 (6: the one that is delivered); no trades, no account queries for this coin
+n s      profits are booked, basis prices move, the delivered position is gone; status 7 (8: delivered)
+n+2 s    delivered contracts leave the list, new ones come in; status 1
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from monitor.sim.htx import dates
from monitor.sim.htx.account import Account, Leg, Purse
from monitor.sim.htx.desk import Change, Push
from monitor.sim.htx.margin import leg_pnl
from monitor.sim.htx.market import Coin, Contract, Market, Status
from monitor.sim.htx.text import ZERO, cut, exact

COMPLETED_MS = 2000  # between the books and trading

Announce = Callable[[Coin], None]


@dataclass
class _Pause:
    """A settlement that is under way."""

    coin: Coin
    as_of_ms: int  # contracts that are due by then are delivered
    books_ms: int
    reopens_ms: int
    booked: bool = False


class Settlements:
    """`announce` tells of a coin whose contracts changed their status."""

    def __init__(self, market: Market, accounts: Iterable[Account], push: Push, announce: Announce) -> None:
        self._market = market
        self._accounts = list(accounts)
        self._push = push
        self._announce = announce
        self._pauses: dict[str, _Pause] = {}

    def run_due(self, now_ms: int) -> None:
        """Everything that is due by the clock, in order; after a jump of days every settlement in between."""
        for coin in self._market.coins.values():
            while True:
                pause = self._pauses.get(coin.symbol)
                if pause is not None:
                    if not self._go_on(pause, now_ms):
                        break
                elif coin.next_settlement_ms <= now_ms:
                    due_ms = coin.next_settlement_ms
                    coin.next_settlement_ms = dates.settlement_after(due_ms)
                    self._begin(coin, due_ms, due_ms, coin.settlement_s)
                else:
                    break

    def order(self, coin: Coin, now_ms: int, seconds: int | None = None, deliver: bool = False) -> None:
        """Settle now, out of turn; `deliver`: the weekly contract is delivered ahead of its time. Raises ValueError while
        a settlement is under way."""
        if coin.symbol in self._pauses:
            raise ValueError(f"{coin.symbol} is in settlement already")
        as_of_ms = max(now_ms, min(contract.delivery_ms for contract in coin.contracts)) if deliver else now_ms
        self._begin(coin, now_ms, as_of_ms, coin.settlement_s if seconds is None else seconds)
        self.run_due(now_ms)

    def _begin(self, coin: Coin, begins_ms: int, as_of_ms: int, seconds: int) -> None:
        books_ms = begins_ms + seconds * 1000
        self._pauses[coin.symbol] = _Pause(coin, as_of_ms, books_ms, books_ms + COMPLETED_MS)
        coin.is_settling = True
        coin.is_delivering = any(_is_due(contract, as_of_ms) for contract in coin.contracts)
        for contract in coin.contracts:
            contract.status = Status.DELIVERING if _is_due(contract, as_of_ms) else Status.IN_SETTLEMENT
        self._announce(coin)

    def _go_on(self, pause: _Pause, now_ms: int) -> bool:
        """The next phase, if it is due."""
        coin = pause.coin
        if not pause.booked and pause.books_ms <= now_ms:
            pause.booked = True
            self._make_up_books(pause)
            for contract in coin.contracts:
                contract.status = Status.DELIVERED if _is_due(contract, pause.as_of_ms) else Status.SETTLED
            self._announce(coin)
            return True
        if pause.booked and pause.reopens_ms <= now_ms:
            del self._pauses[coin.symbol]
            coin.is_settling = coin.is_delivering = False
            # A contract delivered ahead of its time does not come back.
            first_listed = min(contract.delivery_ms for contract in coin.contracts)
            self._market.roll(coin, max(pause.reopens_ms, pause.as_of_ms, first_listed - dates.WEEK_MS))
            self._announce(coin)
            return True
        return False

    def _make_up_books(self, pause: _Pause) -> None:
        coin, now_ms = pause.coin, pause.books_ms
        delivered = [contract for contract in coin.contracts if _is_due(contract, pause.as_of_ms)]
        prices = {contract.code: contract.settlement_price(now_ms) for contract in coin.contracts}
        prices.update({contract.code: coin.delivery_price(now_ms) for contract in delivered})
        gone = {contract.code for contract in delivered}
        for account in self._accounts:
            purse = account.purses[coin.symbol]
            if not purse.balance and not purse.profit_real and not purse.legs:
                continue
            for order in list(purse.orders.values()):
                if order.contract in gone:
                    del purse.orders[order.order_id]
            legs = settle(purse, coin, prices, gone, now_ms)
            self._push(Change(account, coin, "settlement", legs))


@exact
def settle(purse: Purse, coin: Coin, prices: dict[str, Decimal], delivered: set[str], now_ms: int) -> list[Leg]:
    """Book one purse: profit and loss become balance, basis prices become settlement prices. Returns the legs it had; a
    delivered one with volume 0."""
    begun_with, offset_profit, fees = purse.balance, purse.offset_profit, purse.fees
    legs = list(purse.legs.values())
    rows = []
    unrealised, delivery_fee = ZERO, ZERO
    for leg in legs:
        price, is_delivered = prices[leg.contract], leg.contract in delivered
        gain = leg_pnl(coin.face, leg.direction, leg.volume, leg.cost_hold, price)
        unrealised += gain
        rows.append(
            {
                "symbol": coin.symbol,
                "contract_code": leg.contract,
                "direction": leg.direction,
                "volume": leg.volume,
                "cost_open": leg.cost_open,
                "cost_hold_pre": leg.cost_hold,
                "cost_hold": price,
                "settlement_profit_unreal": gain,
                "settlement_price": price,
                "settlement_type": "delivery" if is_delivered else "settlement",
            }
        )
        if is_delivered:
            delivery_fee -= cut(coin.face * leg.volume / price * coin.delivery_fee_rate)
            leg.volume = 0
            del purse.legs[(leg.contract, leg.direction)]
        leg.cost_hold = price
    profit = offset_profit + fees + delivery_fee + unrealised
    purse.balance = begun_with + profit
    purse.offset_profit = purse.fees = ZERO
    purse.settlements.insert(
        0,
        {
            "symbol": coin.symbol,
            "margin_balance_init": begun_with,
            "margin_balance": purse.balance,
            "settlement_profit_real": profit,
            "settlement_time": now_ms,
            "clawback": 0,
            "delivery_fee": delivery_fee,
            "offset_profitloss": offset_profit,
            "fee": fees,
            "fee_asset": coin.symbol,
            "positions": rows,
        },
    )
    return legs


def _is_due(contract: Contract, as_of_ms: int) -> bool:
    return contract.delivery_ms <= as_of_ms
