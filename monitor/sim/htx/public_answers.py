"""Answers of the public REST interface: the `data` (or whole body) of each endpoint, from parameters in their raw form."""

from collections.abc import Mapping
from typing import Any

from monitor.sim.htx import dates, market_frames, rows
from monitor.sim.htx.history import PERIODS_S, Candle
from monitor.sim.htx.market import Coin, Contract, Market
from monitor.sim.htx.tables import AdjustTier, LadderRow
from monitor.sim.htx.text import plain
from monitor.sim.refused import RefusedError

Parameters = Mapping[str, Any]
Answer = dict[str, Any]

CANDLES_MAX = 2000
_INSTRUMENT_TYPES = {dates.THIS_WEEK: 1, dates.NEXT_WEEK: 2, dates.QUARTER: 3, dates.NEXT_QUARTER: 4}


def asked_coins(market: Market, parameters: Parameters, name: str = "symbol") -> list[Coin]:
    """The one that is asked for, or all. Raises RefusedError."""
    symbol = parameters.get(name)
    if symbol is None or symbol == "":
        return list(market.coins.values())
    return [market.coin(str(symbol))]


def needed_coin(market: Market, parameters: Parameters) -> Coin:
    """Raises RefusedError 1030 without a symbol."""
    if not parameters.get("symbol"):
        raise RefusedError(1030, "Input error: symbol is required.")
    return market.coin(str(parameters["symbol"]))


def contract_info(market: Market, parameters: Parameters) -> Any:
    if parameters.get("contract_code"):
        coin, _ = market.find(str(parameters["contract_code"]))
        return [r for r in rows.contract_rows([coin]) if r["contract_code"] == str(parameters["contract_code"]).upper()]
    period = parameters.get("contract_type")
    found = rows.contract_rows(asked_coins(market, parameters))
    return [row for row in found if not period or row["contract_type"] == period]


def index(market: Market, parameters: Parameters, now_ms: int) -> Any:
    coins = asked_coins(market, parameters)
    return [{"symbol": coin.symbol, "index_price": coin.index, "index_ts": now_ms} for coin in coins]


def adjust_factors(market: Market, parameters: Parameters) -> Any:
    def tier(row: AdjustTier) -> Answer:
        return {"ladder": row.number, "min_size": row.min_size, "max_size": row.max_size, "adjust_factor": row.factor}

    return [
        {
            "symbol": coin.symbol,
            "list": [{"lever_rate": lever, "ladders": [tier(row) for row in tiers]} for lever, tiers in coin.adjust.items()],
        }
        for coin in asked_coins(market, parameters)
    ]


def ladder_margins(market: Market, parameters: Parameters) -> Any:
    def step(row: LadderRow) -> Answer:
        return {
            "min_margin_balance": row.min_balance,
            "max_margin_balance": row.max_balance,
            "min_margin_available": row.min_available,
            "max_margin_available": row.max_available,
        }

    return [
        {
            "symbol": coin.symbol,
            "list": [{"lever_rate": lever, "ladders": [step(row) for row in ladder]} for lever, ladder in coin.ladders.items()],
        }
        for coin in asked_coins(market, parameters)
    ]


def query_elements(market: Market, parameters: Parameters) -> Any:
    """Here `contract_code` means a coin."""
    return [
        {
            "contract_code": coin.symbol,
            "instrument_index_code": f"{coin.symbol}-USD",
            "price_tick": f"{coin.price_tick:.18f}",
            "instrument_value": f"{coin.face:.18f}",
            "min_level": str(min(coin.levers)),
            "max_level": str(max(coin.levers)),
            "real_time_settlement": int(coin.transfer_profit_ratio > 0),
            "transfer_profit_ratio": coin.transfer_profit_ratio,
            "instrument_type": [_INSTRUMENT_TYPES[period] for period in coin.periods],
            "contract_infos": [
                {
                    "contract_code": contract.code,
                    "instrument_type": _INSTRUMENT_TYPES[contract.period],
                    "delivery_time": str(contract.delivery_ms),
                    "create_date": contract.create_date,
                    "contract_status": int(contract.status),
                    "delivery_date": dates.yyyymmdd(contract.delivery_ms),
                }
                for contract in coin.contracts
            ],
        }
        for coin in asked_coins(market, parameters, "contract_code")
    ]


def estimated_settlement_prices(market: Market, parameters: Parameters, now_ms: int) -> Any:
    """Filled only in the last hour before a settlement."""

    def row(coin: Coin, contract: Contract) -> Answer:
        is_delivery = contract.delivery_ms <= coin.next_settlement_ms
        price = None
        if coin.next_settlement_ms - now_ms <= dates.HOUR_MS:
            price = coin.delivery_price(now_ms) if is_delivery else contract.settlement_price(now_ms)
        return {
            "contract_type": contract.period,
            "contract_code": contract.code,
            "estimated_settlement_price": price,
            "settlement_type": "delivery" if is_delivery else "settlement",
        }

    return [
        {"symbol": coin.symbol, "list": [row(coin, contract) for contract in coin.contracts]}
        for coin in asked_coins(market, parameters)
    ]


def delivery_price(market: Market, parameters: Parameters, now_ms: int) -> Any:
    return {"delivery_price": needed_coin(market, parameters).delivery_price(now_ms)}


def api_state(market: Market, parameters: Parameters) -> Any:
    names = ("open", "close", "cancel", "transfer_in", "transfer_out", "master_transfer_sub", "sub_transfer_master")
    return [
        {"symbol": coin.symbol, **dict.fromkeys(names, int(not coin.is_settling))} for coin in asked_coins(market, parameters)
    ]


# ---------------------------------------------------------------------- market data: whole bodies


def mark_price_klines(market: Market, parameters: Parameters) -> Answer:
    _, contract = market.find(str(parameters.get("symbol", "")))
    nothing = {"amount": "0", "count": "0", "vol": "0"}
    candles = _candles(contract.mark_candles.of_period, parameters)
    label = str(parameters["symbol"]).upper()
    return {
        "ch": f"market.{label}.mark_price.{parameters['period']}",
        "data": [{**market_frames.candle_texts(candle), **nothing} for candle in candles],
    }


def index_klines(market: Market, parameters: Parameters) -> Answer:
    """Numbers here, where the socket has texts."""
    coin = market.coin(str(parameters.get("symbol", "")).upper().removesuffix("-USD"))
    data = [
        {"id": c.start_s, "open": c.open, "close": c.close, "high": c.high, "low": c.low, "amount": 0, "count": 0, "vol": 0}
        for c in _candles(coin.index_candles.of_period, parameters)
    ]
    return {"ch": f"market.{coin.symbol}-USD.index.{parameters['period']}", "data": data}


def _candles(of_period: Any, parameters: Parameters) -> list[Candle]:
    size = str(parameters.get("size", ""))
    if parameters.get("period") not in PERIODS_S or not size.isascii() or not size.isdigit():
        raise RefusedError(1030, "Input error: period and size are required.")
    if not 1 <= int(size) <= CANDLES_MAX:
        raise RefusedError(1030, f"Input error: size is 1 to {CANDLES_MAX}.")
    candles: list[Candle] = of_period(parameters["period"], int(size))
    return candles


def last_trades(market: Market, parameters: Parameters, now_ms: int) -> Answer:
    """Texts here, where the socket has numbers. Named by alias, with or without a symbol."""
    found = _asked_contracts(market, parameters)
    label = found[0][1].alias if parameters.get("symbol") else "*"
    data = [
        {
            "amount": str(contract.last_volume),
            "quantity": plain(market_frames.quantity(coin, contract.last_volume, contract.last)),
            "ts": contract.traded_ms,
            "id": market_frames.trade_id(contract),
            "price": plain(contract.last),
            "direction": contract.last_direction,
            "symbol": contract.alias,
        }
        for coin, contract in found
    ]
    return {"ch": f"market.{label}.trade.detail", "tick": {"data": data, "id": now_ms, "ts": now_ms}}


def merged(market: Market, parameters: Parameters, now_ms: int) -> Answer:
    if not parameters.get("symbol"):
        raise RefusedError(1030, "Input error: symbol is required.")
    coin, contract = market.find(str(parameters["symbol"]))
    return {"ch": f"market.{contract.alias}.detail.merged", "tick": _merged(coin, contract, now_ms)}


def batch_merged(market: Market, parameters: Parameters, now_ms: int) -> Answer:
    found = _asked_contracts(market, parameters)
    return {"ticks": [{**_merged(coin, contract, now_ms), "symbol": contract.alias} for coin, contract in found]}


def _merged(coin: Coin, contract: Contract, now_ms: int) -> Answer:
    bid, ask = market_frames.best(coin, contract)
    return {
        "amount": plain(market_frames.quantity(coin, contract.volume, contract.last)),
        "ask": ask,
        "bid": bid,
        "close": plain(contract.last),
        "count": contract.trades,
        "high": plain(contract.high),
        "id": now_ms // 1000,
        "low": plain(contract.low),
        "open": plain(contract.open),
        "ts": now_ms,
        "vol": str(contract.volume),
    }


def _asked_contracts(market: Market, parameters: Parameters) -> list[tuple[Coin, Contract]]:
    if parameters.get("symbol"):
        return [market.find(str(parameters["symbol"]))]
    return [(coin, contract) for coin in market.coins.values() for contract in coin.contracts]
