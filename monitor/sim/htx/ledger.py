"""The simulator's own books at full precision, as JSON: what a monitor's figures are checked against."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from monitor.sim.htx.account import Account, Purse
from monitor.sim.htx.margin import figures
from monitor.sim.htx.market import Coin, Market
from monitor.sim.htx.text import plain


def ledger(market: Market, accounts: Iterable[Account]) -> dict[str, Any]:
    """coins, contracts and accounts. Numbers are plain decimal strings; null where there is none."""
    return {
        "coins": {
            coin.symbol: {
                "index": plain(coin.index),
                "transfer_profit_ratio": plain(coin.transfer_profit_ratio),
                "next_settlement_ms": coin.next_settlement_ms,
                "is_settling": coin.is_settling,
            }
            for coin in market.coins.values()
        },
        "contracts": {
            contract.code: {
                "coin": coin.symbol,
                "contract_type": contract.period,
                "alias": contract.alias,
                "status": int(contract.status),
                "delivery_ms": contract.delivery_ms,
                **_texts(face=coin.face, last_price=contract.last, mark_price=contract.mark),
            }
            for coin in market.coins.values()
            for contract in coin.contracts
        },
        "accounts": {
            account.name: {"coins": {symbol: purse_ledger(p, market.coins[symbol]) for symbol, p in account.purses.items()}}
            for account in accounts
        },
    }


def purse_ledger(purse: Purse, coin: Coin) -> dict[str, Any]:
    """One account in one coin. `health` is 1 at liquidation, null where nothing is at risk."""
    now = figures(purse, coin)
    requirement = now.adjust_factor * now.used_margin
    return {
        "leverage": purse.lever,
        "net_position": now.net_position,
        **_texts(
            balance=purse.balance,
            margin_static=now.margin_static,
            profit_real=now.profit_real,
            profit_unreal=now.pnl,
            equity=now.equity,
            locked_same=now.locked_same,
            locked_cross=now.locked_cross,
            position_margin=now.position_margin,
            frozen_margin=now.frozen_margin,
            used_margin=now.used_margin,
            adjust_factor=now.adjust_factor,
            available=now.available,
            withdrawable=now.withdrawable,
            guarantee_asset_ratio=now.guarantee_ratio,
            margin_ratio=now.margin_ratio,
            liquidation_price=now.liquidation_price,
            liquidation_factor=now.liquidation_factor,
        ),
        "health": float(now.equity / requirement) if requirement else None,
        "positions": [
            {
                "contract_code": row.leg.contract,
                "direction": row.leg.direction,
                "volume": row.leg.volume,
                **_texts(
                    cost_open=row.leg.cost_open,
                    cost_hold=row.leg.cost_hold,
                    last_price=row.price,
                    profit_unreal=row.pnl_hold,
                    profit=row.pnl_open,
                    position_margin=row.margin,
                ),
            }
            for row in now.legs
        ],
    }


def _texts(**amounts: Decimal | None) -> dict[str, str | None]:
    return {name: None if amount is None else plain(amount) for name, amount in amounts.items()}
