"""What the market and index sockets say, frame by frame as documented: numbers on /ws, text on /ws_index."""

from decimal import Decimal
from typing import Any

from monitor.sim.htx.history import Candle
from monitor.sim.htx.market import Coin, Contract, Market
from monitor.sim.htx.text import plain
from monitor.sim.htx.topics import Topic

Frame = dict[str, Any]


def frame(topic: Topic, market: Market, now_ms: int) -> Frame:
    """The present state of a topic. Raises RefusedError for an unknown coin or contract."""
    if topic.kind == "index":
        return candle_frame(
            topic, market.coin(topic.symbol.removesuffix("-USD")).index_candles.of_period(topic.period, 1), now_ms
        )
    coin, contract = market.find(topic.symbol)
    if topic.kind == "mark_price":
        return candle_frame(topic, contract.mark_candles.of_period(topic.period, 1), now_ms)
    tick = {"trade.detail": _trades, "detail": _detail, "bbo": _bbo}[topic.kind](coin, contract, now_ms)
    return {"ch": topic.name, "ts": now_ms, "tick": tick}


def candle_frame(topic: Topic, candles: list[Candle], now_ms: int) -> Frame:
    nothing = {"amount": "0", "vol": "0", "count": 0 if topic.kind == "index" else "0"}
    return {"ch": topic.name, "ts": now_ms, "tick": {**candle_texts(candles[-1]), **nothing}}


def candle_texts(candle: Candle) -> Frame:
    return {
        "id": candle.start_s,
        "open": plain(candle.open),
        "close": plain(candle.close),
        "high": plain(candle.high),
        "low": plain(candle.low),
    }


def trade_id(contract: Contract) -> int:
    """Rises with each trade of a contract."""
    return contract.delivery_ms // 1000 * 1_000_000 + contract.trades


def quantity(coin: Coin, contracts: int, price: Decimal) -> Decimal:
    """Contracts as an amount of the coin."""
    return coin.face * contracts / price


def best(coin: Coin, contract: Contract) -> tuple[list[Any], list[Any]]:
    """(bid, ask), each [price, contracts], one tick around the last trade."""
    return [contract.last - coin.price_tick, 100 + contract.trades % 900], [contract.last + coin.price_tick, 120]


def _trades(coin: Coin, contract: Contract, now_ms: int) -> Frame:
    return {
        "id": trade_id(contract) // 10,
        "ts": contract.traded_ms,
        "data": [
            {
                "amount": contract.last_volume,
                "ts": contract.traded_ms,
                "id": trade_id(contract),
                "price": contract.last,
                "direction": contract.last_direction,
                "quantity": quantity(coin, contract.last_volume, contract.last),
            }
        ],
    }


def _detail(coin: Coin, contract: Contract, now_ms: int) -> Frame:
    bid, ask = best(coin, contract)
    return {
        "id": now_ms // 60_000 * 60,
        "mrid": trade_id(contract),
        "open": contract.open,
        "close": contract.last,
        "high": contract.high,
        "low": contract.low,
        "amount": quantity(coin, contract.volume, contract.last),
        "vol": contract.volume,
        "count": contract.trades,
        "bid": bid,
        "ask": ask,
    }


def _bbo(coin: Coin, contract: Contract, now_ms: int) -> Frame:
    bid, ask = best(coin, contract)
    version = trade_id(contract)
    return {
        "mrid": version,
        "id": now_ms // 1000,
        "bid": bid,
        "ask": ask,
        "ts": now_ms,
        "version": version,
        "ch": f"market.{contract.code}.bbo",
    }
