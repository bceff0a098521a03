"""The exchange's risk engine: whole liquidation of a coin's purse when its guarantee-asset ratio is used up."""

from collections.abc import Callable
from decimal import Decimal

from monitor.sim.htx.account import Account
from monitor.sim.htx.desk import Change, Desk, Fill
from monitor.sim.htx.margin import at_last, at_mark, figures
from monitor.sim.htx.market import Coin
from monitor.sim.htx.text import ZERO

Announce = Callable[[Coin, Fill], None]


class RiskEngine:
    """`announce` tells the public of a liquidation order."""

    def __init__(self, desk: Desk, announce: Announce) -> None:
        self._desk = desk
        self._announce = announce

    def check(self, account: Account, coin: Coin) -> None:
        """After every change of a price or the account; not while the coin settles."""
        if coin.is_settling or not self._is_due(account, coin):
            return
        purse = account.purses[coin.symbol]
        for order_id in list(purse.orders):  # orders go first; their margin may be enough
            self._desk.cancel(account, order_id)
        if self._is_due(account, coin):
            self._take_over(account, coin)

    def _is_due(self, account: Account, coin: Coin) -> bool:
        """At the last trade and at the mark price as well."""
        purse = account.purses[coin.symbol]
        if not purse.legs and not purse.orders:
            return False
        return figures(purse, coin, at_last).is_due and figures(purse, coin, at_mark).is_due

    def _take_over(self, account: Account, coin: Coin) -> None:
        """All at once at the last trade. The venue goes down its tiers first, and settles at the bankruptcy price; what the
        purse cannot pay, the insurance fund does."""
        purse = account.purses[coin.symbol]
        legs = list(purse.legs.values())
        fills = [self._desk.close_forced(account, coin, leg, coin.contract(leg.contract).last) for leg in legs]
        missing: Decimal = min(ZERO, purse.margin_static)
        purse.balance -= missing
        for leg, fill in zip(legs, fills, strict=True):
            self._desk.push(Change(account, coin, "order.liquidation", [leg], fill))
            self._announce(coin, fill)
