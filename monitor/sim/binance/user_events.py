"""The user data stream's events as JSON objects, field by field as documented."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from monitor.sim.binance.account import Account, Leg
from monitor.sim.binance.margin import LegFigures
from monitor.sim.binance.market import Contract, Market
from monitor.sim.binance.text import money, money_or_zero, plain

Event = dict[str, Any]


def account_update(
    account: Account,
    market: Market,
    now_ms: int,
    reason: str,
    balance_changes: dict[str, Decimal],
    legs: Iterable[Leg],
    symbol: str | None = None,
) -> Event:
    """Only what changed. `balance_changes`: asset → change other than PnL and commission (the `bc` field)."""
    body: dict[str, Any] = {
        "m": reason,
        "B": [
            {
                "a": asset,
                "wb": money(account.wallets.get(asset, Decimal(0))),
                "cw": money(account.cross_wallet(asset, market)),
                "bc": money_or_zero(change),
            }
            for asset, change in balance_changes.items()
        ],
        "P": [_position_row(account, market.contracts[leg.symbol], leg) for leg in legs],
    }
    if symbol is not None:
        body["S"] = symbol
    return {"e": "ACCOUNT_UPDATE", "E": now_ms, "T": now_ms, "a": body}


def _position_row(account: Account, contract: Contract, leg: Leg) -> dict[str, Any]:
    isolated = account.is_isolated(leg.symbol)
    return {
        "s": leg.symbol,
        "pa": plain(leg.quantity),
        "ep": plain(leg.entry_price, 5),
        "bep": plain(leg.entry_price),
        "cr": plain(leg.realised),
        "up": money_or_zero(leg.quantity * (contract.mark - leg.entry_price)),
        "mt": "isolated" if isolated else "cross",
        "iw": money(leg.isolated_wallet) if isolated else "0",
        "ps": leg.side,
        "ma": contract.margin_asset,
    }


def order_update(now_ms: int, order: dict[str, Any]) -> Event:
    """`order`: what differs from an untouched GTC order."""
    body: dict[str, Any] = {
        "s": "",
        "c": "",
        "S": "BUY",
        "o": "LIMIT",
        "f": "GTC",
        "q": "0",
        "p": "0",
        "ap": "0",
        "sp": "0",
        "x": "NEW",
        "X": "NEW",
        "i": 0,
        "l": "0",
        "z": "0",
        "L": "0",
        "N": "USDT",
        "n": "0",
        "T": now_ms,
        "t": 0,
        "b": "0",
        "a": "0",
        "m": False,
        "R": False,
        "wt": "CONTRACT_PRICE",
        "ot": "LIMIT",
        "ps": "BOTH",
        "cp": False,
        "rp": "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": now_ms, "o": {**body, **order}}


def trade_lite(now_ms: int, order: dict[str, Any]) -> Event:
    keys = ("s", "q", "p", "m", "c", "S", "L", "l", "t", "i")
    return {"e": "TRADE_LITE", "E": now_ms, "T": now_ms, **{key: order.get(key, False) for key in keys}}


def margin_call(now_ms: int, cross_wallet: Decimal | None, legs: Iterable[LegFigures]) -> Event:
    event: Event = {"e": "MARGIN_CALL", "E": now_ms}
    if cross_wallet is not None:
        event["cw"] = money(cross_wallet)
    event["p"] = [
        {
            "s": row.leg.symbol,
            "ps": row.leg.side,
            "pa": plain(row.leg.quantity),
            "mt": "ISOLATED" if row.isolated else "CROSSED",
            "iw": money(row.leg.isolated_wallet) if row.isolated else "0",
            "mp": plain(row.mark),
            "up": money(row.pnl),
            "mm": money(row.maintenance),
        }
        for row in legs
    ]
    return event


def leverage_changed(now_ms: int, symbol: str, leverage: int) -> Event:
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ac": {"s": symbol, "l": leverage}}


def asset_mode_changed(now_ms: int, multi_assets: bool) -> Event:
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": now_ms, "ai": {"j": multi_assets}}


def listen_key_expired(now_ms: int, listen_key: str) -> Event:
    return {"e": "listenKeyExpired", "E": now_ms, "listenKey": listen_key}


def force_order(now_ms: int, contract: Contract, side: str, quantity: Decimal) -> Event:
    """The market stream's notice of somebody's liquidation (!forceOrder@arr)."""
    return {
        "e": "forceOrder",
        "E": now_ms,
        "o": {
            "s": contract.symbol,
            "S": side,
            "o": "LIMIT",
            "f": "IOC",
            "q": plain(quantity),
            "p": plain(contract.mark),
            "ap": plain(contract.mark),
            "X": "FILLED",
            "l": plain(quantity),
            "z": plain(quantity),
            "T": now_ms,
        },
    }
