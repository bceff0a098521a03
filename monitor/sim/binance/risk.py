"""The exchange's risk engine: margin calls, liquidation of a pool, automatic exchange of debts."""

from collections.abc import Callable
from decimal import Decimal

from monitor.sim.binance import user_events
from monitor.sim.binance.account import Account
from monitor.sim.binance.desk import Desk, Emit
from monitor.sim.binance.margin import ZERO, Figures, Pool, figures
from monitor.sim.binance.market import Contract
from monitor.sim.binance.text import cut

# The exchange publishes no threshold for its margin calls; the simulator calls at 88 % and again only after 70 %. It is late, as
# one that reaches its owner may be: who waits for it has less than the 80 % that the exchange itself advises to stay below.
CALL_AT = Decimal("0.88")
CALL_AGAIN_BELOW = Decimal("0.7")

Announce = Callable[[Contract, str, Decimal], None]


class RiskEngine:
    """`announce` tells the market of a forced order: (contract, order side, quantity)."""

    def __init__(self, desk: Desk, emit: Emit, announce: Announce) -> None:
        self._desk = desk
        self._emit = emit
        self._announce = announce

    def check(self, account: Account) -> None:
        """After every change of a price, a rate or the account. Liquidates every pool that is due."""
        now = figures(account, self._desk.market)
        for pool in list(now.pools.values()):
            if pool.is_due:
                self._liquidate(account, pool)
            elif pool.maintenance > 0:
                self._call(account, pool, now)
            else:
                account.called.discard(pool.name)
        if account.multi_assets:
            self._auto_exchange(account)

    def _call(self, account: Account, pool: Pool, now: Figures) -> None:
        if pool.maintenance < CALL_AGAIN_BELOW * pool.equity:
            account.called.discard(pool.name)
        elif pool.maintenance >= CALL_AT * pool.equity and pool.name not in account.called:
            account.called.add(pool.name)
            legs = [row for row in pool.legs if row.leg.quantity]
            cross = None
            if not legs[0].isolated:
                cross = now.totals.cross_wallet if account.multi_assets else now.assets[pool.name].cross_wallet
            self._emit(account, user_events.margin_call(self._desk.now_ms(), cross, legs))

    def _liquidate(self, account: Account, pool: Pool) -> None:
        """Orders are cancelled first, then every position of the pool is closed whole; the insurance fund takes what the
        pool cannot pay."""
        concerned = {(row.leg.symbol, row.leg.side) for row in pool.legs}
        for order in list(account.orders.values()):
            if (order.symbol, order.position_side) in concerned:
                self._desk.cancel(account, order.order_id)
        for row in pool.legs:
            leg = row.leg
            if not leg.quantity:
                continue
            quantity = leg.quantity
            wallet_before, margin = account.wallets.get(row.asset, ZERO), leg.isolated_wallet
            self._desk.close_forced(account, leg)
            contract = self._desk.market.contracts[leg.symbol]
            self._announce(contract, "SELL" if quantity > 0 else "BUY", abs(quantity))
            if row.isolated:
                lost = wallet_before - account.wallets[row.asset]
                if lost > margin:  # an isolated position loses its own margin and no more
                    self._desk.credit(account, {row.asset: lost - margin}, "INSURANCE_CLEAR")
        account.called.discard(pool.name)
        after = figures(account, self._desk.market)
        if account.multi_assets and after.totals.equity < 0:
            self._desk.credit(account, {asset: -wallet for asset, wallet in account.wallets.items() if wallet}, "INSURANCE_CLEAR")
        elif not account.multi_assets and pool.name in after.assets and after.assets[pool.name].equity < 0:
            self._desk.credit(account, {pool.name: -after.assets[pool.name].cross_wallet}, "INSURANCE_CLEAR")

    def _auto_exchange(self, account: Account) -> None:
        """A debt beyond its threshold, or any debt without positions, is paid from the other assets pro rata, at the
        auto-exchange rates."""
        assets = self._desk.market.assets
        flat = not account.open_legs() and not account.orders
        for asset, wallet in list(account.wallets.items()):
            collateral = assets[asset]
            if wallet >= 0 or (wallet >= collateral.auto_exchange_at and not flat):
                continue
            debt_usd = -wallet * collateral.auto_exchange_ask
            owned = {
                a: w * assets[a].auto_exchange_bid for a, w in account.wallets.items() if w > 0 and assets[a].margin_available
            }
            owned_usd = sum(owned.values(), ZERO)
            if not owned_usd:
                continue
            share = min(Decimal(1), debt_usd / owned_usd)
            changes = {a: -cut(account.wallets[a] * share) for a in owned}
            changes[asset] = cut(-wallet * min(Decimal(1), owned_usd / debt_usd))
            self._desk.credit(account, changes, "AUTO_EXCHANGE")
