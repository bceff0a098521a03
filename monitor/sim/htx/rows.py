"""Rows of accounts and positions as the venue shows them, in REST answers and in pushes."""

from collections.abc import Iterable
from typing import Any

from monitor.sim.htx import dates
from monitor.sim.htx.account import Account, Leg, Purse
from monitor.sim.htx.desk import Fill
from monitor.sim.htx.margin import Figures, LegFigures, figures, leg_figures
from monitor.sim.htx.market import Coin
from monitor.sim.htx.text import plain

Row = dict[str, Any]


def account_row(purse: Purse, coin: Coin, now: Figures | None = None) -> Row:
    """The fields of an `accounts` push."""
    now = now or figures(purse, coin)
    return {
        "symbol": coin.symbol,
        "margin_balance": now.equity,
        "margin_static": now.margin_static,
        "margin_position": now.position_margin,
        "margin_frozen": now.frozen_margin,
        "margin_available": now.available,
        "profit_real": now.profit_real,
        "profit_unreal": now.pnl,
        "risk_rate": now.guarantee_ratio,
        "liquidation_price": now.liquidation_price,
        "withdraw_available": now.withdrawable,
        "lever_rate": purse.lever,
        "adjust_factor": now.adjust_factor,
    }


def rest_account_row(purse: Purse, coin: Coin, now: Figures | None = None) -> Row:
    """REST tells more than the push, some of it as text."""
    now = now or figures(purse, coin)
    ratio = "" if now.margin_ratio is None else plain(now.margin_ratio)
    return {**account_row(purse, coin, now), "new_risk_rate": ratio, "trade_partition": ""}


def position_row(leg: Leg, purse: Purse, coin: Coin) -> Row:
    """The fields of a `positions` push. A leg may be closed (volume 0), its contract delivered."""
    contract = coin.contract(leg.contract)
    return _position_row(leg_figures(leg, purse, coin, contract.last), purse, coin)


def _position_row(row: LegFigures, purse: Purse, coin: Coin) -> Row:
    leg, contract = row.leg, coin.contract(row.leg.contract)
    return {
        "symbol": coin.symbol,
        "contract_code": leg.contract,
        "contract_type": "delivered" if coin.is_delivering and not leg.volume else contract.period,
        "volume": leg.volume,
        "available": leg.volume - row.frozen,
        "frozen": row.frozen,
        "cost_open": leg.cost_open,
        "cost_hold": leg.cost_hold,
        "profit_unreal": row.pnl_hold,
        "profit_rate": row.pnl_rate,
        "profit": row.pnl_open,
        "position_margin": row.margin,
        "lever_rate": purse.lever,
        "direction": leg.direction,
        "last_price": contract.last,
    }


def position_rows(purse: Purse, coin: Coin) -> list[Row]:
    return [position_row(leg, purse, coin) for leg in purse.legs.values()]


def rest_position_rows(purse: Purse, coin: Coin) -> list[Row]:
    added = {"adl_risk_percent": "1", "liq_px": "", "new_risk_rate": "", "trade_partition": ""}
    return [{**row, **added} for row in position_rows(purse, coin)]


def order_body(account: Account, coin: Coin, fill: Fill, now_ms: int) -> Row:
    """What an `orders` push tells of a filled order, beside op, topic and time."""
    order, contract = fill.order, coin.contract(fill.order.contract)
    turnover = coin.face * order.volume
    trade_id = order.order_id // 1_000_000
    return {
        "symbol": coin.symbol,
        "contract_type": contract.period,
        "contract_code": contract.code,
        "volume": order.volume,
        "price": order.price,
        "order_price_type": "limit" if fill.maker else "opponent",
        "direction": order.direction,
        "offset": order.offset,
        "status": 6,
        "lever_rate": account.purses[coin.symbol].lever,
        "order_id": order.order_id,
        "order_id_str": str(order.order_id),
        "client_order_id": None,
        "order_source": "risk" if fill.liquidation else "web",
        "order_type": 3 if fill.liquidation else 1,
        "created_at": order.created_ms,
        "trade_volume": order.volume,
        "trade_turnover": turnover,
        "fee": fill.fee,
        "trade_avg_price": fill.price,
        "margin_frozen": 0,
        "profit": fill.profit,
        "trade": [
            {
                "trade_fee": fill.fee,
                "fee_asset": coin.symbol,
                "trade_id": trade_id,
                "id": f"{trade_id}-{order.order_id}-1",
                "trade_volume": order.volume,
                "trade_price": fill.price,
                "trade_turnover": turnover,
                "created_at": now_ms,
                "profit": fill.profit,
                "real_profit": fill.profit,
                "role": "maker" if fill.maker else "taker",
            }
        ],
        "canceled_at": 0,
        "fee_asset": coin.symbol,
        "uid": account.uid,
        "liquidation_type": "1" if fill.liquidation else "0",
        "is_tpsl": 0,
        "real_profit": fill.profit,
    }


def liquidation_row(coin: Coin, fill: Fill, now_ms: int) -> Row:
    """The public's view of a liquidation order."""
    return {
        "contract_code": fill.order.contract,
        "symbol": coin.symbol,
        "direction": fill.order.direction,
        "offset": "close",
        "volume": fill.order.volume,
        "price": fill.price,
        "created_at": now_ms,
        "amount": coin.face * fill.order.volume / fill.price,
    }


def contract_rows(coins: Iterable[Coin]) -> list[Row]:
    """contract_contract_info, and public.*.contract_info."""
    return [
        {
            "symbol": coin.symbol,
            "contract_code": contract.code,
            "contract_type": contract.period,
            "contract_size": coin.face,
            "price_tick": coin.price_tick,
            "delivery_date": dates.yyyymmdd(contract.delivery_ms),
            "delivery_time": str(contract.delivery_ms),
            "create_date": contract.create_date,
            "contract_status": int(contract.status),
            "settlement_time": str(coin.next_settlement_ms),
        }
        for coin in coins
        for contract in coin.contracts
    ]
