"""Answers of the private REST interface: the `data` of each endpoint. Bodies come as JSON objects."""

from typing import Any

from monitor.sim.htx import rows
from monitor.sim.htx.account import Account
from monitor.sim.htx.market import Coin, Market
from monitor.sim.htx.public_answers import Parameters, asked_coins, needed_coin
from monitor.sim.refused import RefusedError

PAGE_SIZE_MAX = 50


def account_info(account: Account, market: Market, body: Parameters) -> Any:
    return [rows.rest_account_row(account.purses[c.symbol], c) for c in _readable(market, body, "assets", 1077)]


def position_info(account: Account, market: Market, body: Parameters) -> Any:
    coins = _readable(market, body, "positions", 1079)
    return [row for coin in coins for row in rows.rest_position_rows(account.purses[coin.symbol], coin)]


def account_position_info(account: Account, market: Market, body: Parameters) -> Any:
    """Both at one moment; here the coin must be named."""
    needed_coin(market, body)
    coins = _readable(market, body, "assets", 1077)
    return [
        {
            **rows.rest_account_row(account.purses[coin.symbol], coin),
            "positions": rows.rest_position_rows(account.purses[coin.symbol], coin),
        }
        for coin in coins
    ]


def _readable(market: Market, body: Parameters, what: str, code: int) -> list[Coin]:
    """While one coin settles, a call for it fails, and so does a call for all of them (with the next code)."""
    coins = asked_coins(market, body)
    settling = [coin for coin in coins if coin.is_settling]
    if settling and body.get("symbol"):
        raise RefusedError(code, f"In settlement or delivery. The {what} of this contract are not available.")
    if settling:
        raise RefusedError(code + 1, f"In settlement or delivery. The {what} of some contracts are not available.")
    return coins


def available_levels(market: Market, body: Parameters) -> Any:
    return [
        {"symbol": coin.symbol, "available_level_rate": ",".join(str(lever) for lever in coin.levers)}
        for coin in asked_coins(market, body)
    ]


def transfer_limits(market: Market, body: Parameters) -> Any:
    limits = {
        "transfer_in_max_each": 1_500_000_000,
        "transfer_in_min_each": 0.0001,
        "transfer_out_max_each": 150_000_000,
        "transfer_out_min_each": 0.000001,
        "transfer_in_max_daily": 15_000_000_000,
        "transfer_out_max_daily": 3_000_000_000,
        "net_transfer_in_max_daily": 7_500_000_000,
        "net_transfer_out_max_daily": 1_500_000_000,
    }
    return [{"symbol": coin.symbol, **limits} for coin in asked_coins(market, body)]


def position_limits(market: Market, body: Parameters) -> Any:
    def row(period: str, periods: int) -> dict[str, Any]:
        return {"contract_type": period, "buy_limit": 60_000 * periods, "sell_limit": 60_000 * periods}

    return [
        {"symbol": coin.symbol, "list": [*(row(period, 1) for period in coin.periods), row("all", len(coin.periods))]}
        for coin in asked_coins(market, body)
    ]


def settlement_records(account: Account, market: Market, body: Parameters) -> Any:
    """Newest first, in pages; start_time and end_time are epoch ms, both included."""
    purse = account.purses[needed_coin(market, body).symbol]
    start, end = _whole(body, "start_time", 0), _whole(body, "end_time", 1 << 62)
    page, size = _whole(body, "page_index", 1), _whole(body, "page_size", 20)
    if page < 1 or not 1 <= size <= PAGE_SIZE_MAX:
        raise RefusedError(1030, "Input error: page.")
    found = [record for record in purse.settlements if start <= record["settlement_time"] <= end]
    return {
        "total_page": -(-len(found) // size),
        "current_page": page,
        "total_size": len(found),
        "settlement_records": found[(page - 1) * size : page * size],
    }


def _whole(body: Parameters, name: str, default: int) -> int:
    value = body.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise RefusedError(1030, f"Input error: {name}.") from None


def key_info(account: Account, access_key: str, created_ms: int) -> Any:
    """The spot host's word on what a key may do."""
    return [
        {
            "accessKey": access_key,
            "status": "normal",
            "note": account.name,
            "permission": account.permission,
            "ipAddresses": "127.0.0.1",
            "validDays": -1,
            "createTime": created_ms,
            "updateTime": created_ms,
        }
    ]
