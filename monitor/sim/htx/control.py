"""What can be done to the venue from outside: each method is POST /sim/htx_<name> with its arguments as JSON.

    order           {"contract", "direction", "offset", "volume", "price", "account"}  fills at the last trade; rests with a price
    cancel          {"order_id", "account"}
    transfer        {"coin", "amount", "account"}                   into (> 0) or out of the coin's purse
    leverage        {"coin", "leverage", "account"}
    price           {"symbol", "price", "mark_price"}               of a contract (code or alias: last and mark), or of a coin:
                                                                    its index, and all its contracts at their basis
    settlement      {"coin", "seconds"}                             now; "": all coins
    delivery        {"coin", "seconds"}                             the weekly contract, now
    adjust_factors  {"coin", "leverage", "rows": [[min_size, factor], …]}
    ladder          {"coin", "leverage", "rows": [[min, max, min_available, max_available], …]}   null ends the last
    transfer_ratio  {"coin", "ratio"}                               k of the transferable amount
    fault           {"kind", …}                                     see fault_orders.py

Tables and ratios change without a word, as the venue's do.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from monitor.sim.clock import SimClock
from monitor.sim.htx.fault_orders import order_fault
from monitor.sim.htx.market import Coin
from monitor.sim.htx.tables import adjust_tiers, ladder_rows
from monitor.sim.htx.venue import HtxCoinFutures
from monitor.sim.numbers import Number, number

CALLS = (
    "order",
    "cancel",
    "transfer",
    "leverage",
    "price",
    "settlement",
    "delivery",
    "adjust_factors",
    "ladder",
    "transfer_ratio",
    "fault",
)


class HtxControl:
    """Acts on the venue at once; the frames are queued when a method returns."""

    def __init__(self, venue: HtxCoinFutures, clock: SimClock) -> None:
        self._venue = venue
        self._clock = clock

    def order(
        self, contract: str, direction: str, offset: str, volume: int, price: Number | None = None, account: str = ""
    ) -> int:
        """Returns the order id. Raises RefusedError with the exchange's code."""
        limit = None if price is None else _positive(price)
        owner = self._venue.account(account)
        order_id = self._venue.desk.order(owner, contract, direction, offset, int(volume), limit)
        self._venue.settle()
        return order_id

    def cancel(self, order_id: int, account: str = "") -> None:
        self._venue.desk.cancel(self._venue.account(account), order_id)

    def transfer(self, coin: str, amount: Number, account: str = "") -> None:
        self._venue.desk.transfer(self._venue.account(account), coin, number(amount))
        self._venue.settle()

    def leverage(self, coin: str, leverage: int, account: str = "") -> None:
        self._venue.desk.switch_leverage(self._venue.account(account), coin, leverage)
        self._venue.settle()

    def price(self, symbol: str, price: Number, mark_price: Number | None = None) -> None:
        if self._clock.frozen:
            self._clock.advance(1)  # two different frames never carry one event time
        venue, now = self._venue, self._venue.now_ms()
        last = _positive(price)
        if symbol.upper() in venue.market.coins:
            coin = venue.market.coins[symbol.upper()]
            venue.market.set_index(coin, last, now)
            for contract in coin.contracts:
                own_last, own_mark = coin.index * (1 + contract.basis), coin.index * (1 + contract.mark_basis)
                venue.market.set_price(coin, contract, own_last, own_mark, now)
        else:
            coin, contract = venue.market.find(symbol)
            mark = last if mark_price is None else _positive(mark_price)
            venue.market.set_price(coin, contract, last, mark, now)
        venue.settle()
        venue.publish()

    def settlement(self, coin: str = "", seconds: int | None = None) -> None:
        for one in self._coins(coin):
            self._venue.settlements.order(one, self._venue.now_ms(), seconds)

    def delivery(self, coin: str = "", seconds: int | None = None) -> None:
        for one in self._coins(coin):
            self._venue.settlements.order(one, self._venue.now_ms(), seconds, deliver=True)

    def adjust_factors(self, coin: str, leverage: int, rows: Sequence[tuple[int, Number]]) -> None:
        self._venue.market.coin(coin).adjust[int(leverage)] = adjust_tiers(rows)
        self._venue.settle()

    def ladder(self, coin: str, leverage: int, rows: Sequence[Sequence[Number | None]]) -> None:
        self._venue.market.coin(coin).ladders[int(leverage)] = ladder_rows(rows)

    def transfer_ratio(self, coin: str, ratio: Number) -> None:
        self._venue.market.coin(coin).transfer_profit_ratio = number(ratio)

    def fault(self, kind: str, **options: Any) -> dict[str, Any]:
        return order_fault(self._venue, kind, options)

    def _coins(self, symbol: str) -> list[Coin]:
        market = self._venue.market
        return [market.coin(symbol)] if symbol else list(market.coins.values())


def _positive(value: Number) -> Decimal:
    amount = number(value)
    if not (amount.is_finite() and amount > 0):
        raise ValueError(f"not a price: {value}")
    return amount
