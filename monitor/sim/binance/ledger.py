"""The simulator's own books at full precision, as JSON: what a monitor's figures are checked against."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from monitor.sim.binance.account import Account
from monitor.sim.binance.liquidation_price import liquidation_price
from monitor.sim.binance.margin import figures
from monitor.sim.binance.market import Market
from monitor.sim.binance.text import plain


def ledger(market: Market, accounts: Iterable[Account]) -> dict[str, Any]:
    """marks, rates and accounts. Numbers are plain decimal strings, uncut; `health` is null where nothing is at risk."""
    return {
        "marks": {contract.symbol: plain(contract.mark) for contract in market.contracts.values()},
        "rates": {c.asset: {"index": plain(c.index), "bid": plain(c.bid), "ask": plain(c.ask)} for c in market.assets.values()},
        "accounts": {account.name: account_ledger(account, market) for account in accounts},
    }


def account_ledger(account: Account, market: Market) -> dict[str, Any]:
    now = figures(account, market)
    totals = now.totals
    used = {*account.wallets, *(row.asset for row in now.legs)}
    return {
        "mode": "multi_assets" if account.multi_assets else "single_asset",
        "hedge": account.hedge,
        "assets": {
            row.asset: _texts(
                wallet=row.wallet,
                cross_wallet=row.cross_wallet,
                pnl=row.pnl,
                cross_pnl=row.cross_pnl,
                equity=row.equity,
                maintenance_margin=row.maintenance,
                cross_maintenance_margin=row.cross_maintenance,
                initial_margin=row.initial,
                available=row.available,
                max_withdraw=row.max_withdraw,
            )
            for row in now.assets.values()
            if row.asset in used
        },
        "positions": [
            {
                "symbol": row.leg.symbol,
                "side": row.leg.side,
                "margin_asset": row.asset,
                "isolated": row.isolated,
                "leverage": account.leverage(row.leg.symbol),
                "bracket": row.bracket.number,
                **_texts(
                    quantity=row.leg.quantity,
                    entry_price=row.leg.entry_price,
                    mark_price=row.mark,
                    notional=row.notional,
                    pnl=row.pnl,
                    maintenance_margin=row.maintenance,
                    maintenance_rate=row.bracket.rate,
                    cum=row.bracket.cum,
                    initial_margin=row.initial,
                    isolated_wallet=row.leg.isolated_wallet,
                    liquidation_price=liquidation_price(row, account, market, now),
                ),
            }
            for row in now.legs
        ],
        "totals": _texts(
            wallet=totals.wallet,
            pnl=totals.pnl,
            equity=totals.equity,
            maintenance_margin=totals.maintenance,
            initial_margin=totals.position_initial + totals.order_initial,
            available=totals.available,
            max_withdraw=totals.max_withdraw,
        ),
        "pools": {
            pool.name: {
                **_texts(equity=pool.equity, maintenance_margin=pool.maintenance),
                "health": float(pool.equity / pool.maintenance) if pool.maintenance else None,
                "margin_ratio": float(pool.maintenance / pool.equity) if pool.equity > 0 else None,
            }
            for pool in now.pools.values()
        },
    }


def _texts(**amounts: Decimal) -> dict[str, str]:
    return {name: plain(amount) for name, amount in amounts.items()}
