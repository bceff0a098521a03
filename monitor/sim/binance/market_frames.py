"""The market streams' frames: which event belongs to which stream, and what goes out each second."""

from typing import Any

from monitor.sim.binance import rest_answers
from monitor.sim.binance.market import Collateral, Contract, Market
from monitor.sim.binance.rest_answers import best_prices, json_number
from monitor.sim.binance.streams import Hub
from monitor.sim.binance.text import money, plain
from monitor.sim.faults import Faults

Frame = dict[str, Any]
SLOW_EVERY_TICKS = 3  # the forms without @1s


def mark_price(contract: Contract, market: Market, now_ms: int) -> Frame:
    rate = contract.funding_rate
    return {
        "e": "markPriceUpdate",
        "E": now_ms,
        "s": contract.symbol,
        "p": money(contract.mark),
        "i": money(contract.index),
        "P": money(contract.index),
        "r": "" if rate is None else money(rate),
        "ap": money(contract.mark),
        "T": 0 if rate is None else market.next_funding_ms(now_ms),
        "st": 1,
    }


def asset_index(collateral: Collateral, now_ms: int) -> Frame:
    row = rest_answers.asset_index(collateral, now_ms)
    names = {
        "s": "symbol",
        "i": "index",
        "b": "bidBuffer",
        "a": "askBuffer",
        "B": "bidRate",
        "A": "askRate",
        "q": "autoExchangeBidBuffer",
        "g": "autoExchangeAskBuffer",
        "Q": "autoExchangeBidRate",
        "G": "autoExchangeAskRate",
    }
    return {"e": "assetIndexUpdate", "E": now_ms, **{short: row[long] for short, long in names.items()}}


def book_ticker(contract: Contract, now_ms: int, update_id: int) -> Frame:
    bid, ask = best_prices(contract)
    return {
        "e": "bookTicker",
        "u": update_id,
        "s": contract.symbol,
        "ps": contract.pair,
        "b": plain(bid),
        "B": "12.500",
        "a": plain(ask),
        "A": "9.300",
        "T": now_ms,
        "E": now_ms,
        "st": 1,
    }


def contract_info(contract: Contract, now_ms: int) -> Frame:
    table = contract.brackets
    return {
        "e": "contractInfo",
        "E": now_ms,
        "s": contract.symbol,
        "ps": contract.pair,
        "ct": contract.contract_type,
        "dt": contract.delivery_ms,
        "ot": 1_569_398_400_000,
        "cs": contract.status,
        "bks": [
            {
                "bs": b.number,
                "bnf": json_number(b.floor),
                "bnc": json_number(b.cap),
                "mmr": json_number(b.rate),
                "cf": json_number(b.cum),
                "mi": table[b.number].leverage_max + 1 if b.number < len(table) else 1,
                "ma": b.leverage_max,
            }
            for b in table
        ],
    }


def publish_second(hub: Hub, market: Market, faults: Faults, now_ms: int, tick: int) -> None:
    """All frames of one simulated second; only those that somebody reads are built."""
    event_ms = faults.event_time_ms(now_ms)
    wanted = hub.streams("market")
    slow = tick % SLOW_EVERY_TICKS == 0
    contracts = [c for c in market.contracts.values() if c.symbol not in faults.silent_symbols]
    if "!markPrice@arr@1s" in wanted or ("!markPrice@arr" in wanted and slow):
        frame = [mark_price(contract, market, event_ms) for contract in contracts]
        hub.publish("market", "!markPrice@arr@1s", frame)
        if slow:
            hub.publish("market", "!markPrice@arr", frame)
    for contract in contracts:
        name = f"{contract.symbol.lower()}@markPrice"
        for stream, due in ((f"{name}@1s", True), (name, slow)):
            if due and stream in wanted:
                hub.publish("market", stream, mark_price(contract, market, event_ms))
    if "!assetIndex@arr" in wanted:
        hub.publish("market", "!assetIndex@arr", [asset_index(a, event_ms) for a in market.assets.values()])
    for collateral in market.assets.values():
        stream = f"{collateral.asset.lower()}usd@assetIndex"
        if stream in wanted:
            hub.publish("market", stream, asset_index(collateral, event_ms))
    read = hub.streams("public")
    for number, contract in enumerate(contracts):
        for stream in (f"{contract.symbol.lower()}@bookTicker", "!bookTicker"):
            if stream in read:
                hub.publish("public", stream, book_ticker(contract, event_ms, now_ms * 1000 + number))
