"""Any number in any answer or frame of a venue is good or refused, down to the figures: nothing is raised on its way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import venues_exchange as binance
import venues_htx_exchange as htx
from hypothesis import given
from hypothesis import strategies as st

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.events import Event, StreamUp, TimePassed
from monitor.model.streams import Counters
from monitor.rules import RuleBook
from monitor.venues.base import VenueError
from monitor.venues.binance import reference as binance_reference
from monitor.venues.binance.snapshot import account_snapshot, read_answers
from monitor.venues.binance.user_wire import UserWire
from monitor.venues.binance.wire import MarketWire
from monitor.venues.htx import reference as htx_reference
from monitor.venues.htx.snapshot import coin_snapshots
from monitor.venues.htx.user_wire import UserWire as HtxUserWire

NOW_MS = 1_700_000_000_000
ALL_RULES = RuleBook.model_validate(
    {name: {"enabled": True} for name in ("premium", "asset_mix", "collateral_move", "margin_ratio")}
)
# None is a number that a float, a 64-bit int or a calendar cannot hold, each at an edge.
HUGE: st.SearchStrategy[Any] = st.sampled_from(
    [10**17, 10**30, -(10**30), 10**400, 2**63, -(2**63) - 1, 2**53, 1e308, -1e308, 5e-324, 0, -1, 1e17]
) | st.sampled_from(["1" + "0" * 400, "1e400", "1e17", "-1e17", "1e-320", "99999999999999999999", "0", "-0", "NaN"])


def numbers(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all that is a number, or a text of one."""
    if isinstance(value, dict | list):
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, inner in items for found in numbers(inner, (*path, key))]
    is_text = isinstance(value, str) and value.lstrip("-").replace(".", "", 1).isdigit()
    return [path] if path and (is_text or (isinstance(value, int | float) and not isinstance(value, bool))) else []


@st.composite
def one_off(draw: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    """All answers, of which up to three numbers are other ones."""
    answers = deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(numbers(answers)))
        holder: Any = answers
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = draw(HUGE)
    return answers


def watched(venue: str, events: Iterable[Callable[[], Iterable[Event]]]) -> None:
    """Folds what can be read, and looks at it all as the pages do."""
    engine = Engine([AccountSetup(venue, "main", ALL_RULES)], ALL_RULES)
    now_ms = NOW_MS
    with np.errstate(all="ignore"):
        for read in [*events, *events]:  # twice: what was folded before must not break what comes after it
            now_ms += 1000
            try:
                found = list(read())
            except VenueError:
                continue
            for event in found:
                engine.step(event, now_ms)
            engine.step(TimePassed(), now_ms)
            for key in engine.table().keys:
                engine.figures(key)
                engine.levers(key)
            engine.positions(), engine.assets()


BINANCE: dict[str, Any] = {
    "exchangeInfo": {
        "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}],
        "assets": [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"} for asset in ("USDT", "BTC")],
        "symbols": [{"symbol": "BTCUSDT", "marginAsset": "USDT", "status": "TRADING", "deliveryDate": 4133404800000}],
    },
    "leverageBracket": [
        {
            "symbol": "BTCUSDT",
            "brackets": [
                {
                    "bracket": number,
                    "initialLeverage": 50,
                    "notionalFloor": floor,
                    "notionalCap": cap,
                    "maintMarginRatio": rate,
                    "cum": cum,
                }
                for number, floor, cap, rate, cum in ((1, 0, 50_000, 0.004, 0), (2, 50_000, 900_000, 0.005, 50))
            ],
        }
    ],
    "premiumIndex": [{"symbol": "BTCUSDT", "markPrice": "49000.5", "time": NOW_MS}],
    "assetIndex": [
        {"symbol": f"{asset}USD", "time": NOW_MS, "index": index, "bidRate": index, "askRate": index}
        for asset, index in (("USDT", "1.0"), ("BTC", "49000"))
    ],
    "account": binance.account_answer(),
    "positionRisk": binance.risk_answer(),
    "symbolConfig": [{"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": 20}],
    "accountConfig": {"multiAssetsMargin": True, "dualSidePosition": False},
    "frames": [
        binance.mark_frame(NOW_MS),
        binance.index_frame(NOW_MS),
        {
            "e": "contractInfo",
            "E": NOW_MS,
            "s": "BTCUSDT",
            "st": 1,
            "bks": [{"bs": 1, "bnf": 0, "bnc": 5000, "mmr": 0.01, "cf": 0, "mi": 21, "ma": 50}],
        },
    ],
    "pushes": [
        {
            "e": "ACCOUNT_UPDATE",
            "E": NOW_MS,
            "T": NOW_MS,
            "a": {
                "m": "ORDER",
                "B": [{"a": "USDT", "wb": "1001", "cw": "1001"}],
                "P": [{"s": "BTCUSDT", "pa": "0.02", "ep": "50000", "mt": "cross", "iw": "0", "ps": "BOTH", "ma": "USDT"}],
            },
        },
        {"e": "ACCOUNT_CONFIG_UPDATE", "E": NOW_MS, "T": NOW_MS, "ac": {"s": "BTCUSDT", "l": 20}},
        {"e": "ORDER_TRADE_UPDATE", "E": NOW_MS, "T": NOW_MS, "o": {"s": "BTCUSDT", "c": "adl_autoclose", "q": "1", "i": 7}},
        {"e": "MARGIN_CALL", "E": NOW_MS, "cw": "3", "p": [{"s": "BTCUSDT", "ps": "BOTH", "pa": "1", "mp": "2", "mm": "3"}]},
    ],
}


@given(one_off(BINANCE))
def test_row_8_any_number_of_binance_is_good_or_refused_down_to_the_figures(answers: dict[str, Any]) -> None:
    def raw(name: str) -> bytes:
        return json.dumps(answers[name]).encode()

    def snapshot() -> list[Event]:
        read = read_answers(raw("account"), raw("positionRisk"), raw("symbolConfig"), (raw("accountConfig"),))
        return [account_snapshot(read, account="main", as_of_ms=NOW_MS)]

    binance_reference.weight_limit(raw("exchangeInfo"))
    market, user = MarketWire(Counters()), UserWire("main", Counters())
    watched(
        "binance_usdm",
        [
            lambda: [binance_reference.instruments(raw("exchangeInfo"), Counters())],
            lambda: [binance_reference.brackets(raw("leverageBracket"), Counters(), account="main", event_time_ms=NOW_MS)],
            lambda: [binance_reference.mark_prices(raw("premiumIndex"), Counters())],
            lambda: [binance_reference.asset_rates(raw("assetIndex"), Counters())],
            snapshot,
            lambda: [StreamUp("binance_usdm", "main", "user")],
            *(lambda frame=frame: market.receive(json.dumps(frame).encode()).events for frame in answers["frames"]),
            *(lambda frame=frame: user.receive(json.dumps(frame).encode()).events for frame in answers["pushes"]),
        ],
    )


HTX: dict[str, Any] = {
    "contracts": htx.ok([htx.contract()]),
    "factors": htx.ok(
        [{"symbol": "BTC", "list": [{"lever_rate": 10, "ladders": [{"ladder": 0, "min_size": 0, "adjust_factor": 0.1}]}]}]
    ),
    "ladders": htx.ok(
        [{"symbol": "BTC", "list": [{"lever_rate": 10, "ladders": [{"min_margin_balance": 0, "min_margin_available": 0}]}]}]
    ),
    "terms": htx.ok([{"contract_code": "BTC", "real_time_settlement": 1, "transfer_profit_ratio": 0.5}]),
    "index": htx.ok([{"symbol": "BTC", "index_price": 1.5, "index_ts": NOW_MS}]),
    "kline": {"data": [{"id": NOW_MS // 1000, "close": "1.5"}], "ts": NOW_MS},
    "trade": {"tick": {"data": [{"price": "1.5", "ts": NOW_MS, "id": 1}]}, "ts": NOW_MS},
    "picture": htx.ok([htx.picture(legs=[htx.leg(), htx.leg(2, "sell")])]),
    "pushes": [
        htx.push("accounts.btc", "order.match", [htx.account_row()], NOW_MS),
        htx.push("positions.btc", "order.liquidation", [htx.leg(), htx.leg(2, "sell")], NOW_MS),
    ],
}


@given(one_off(HTX))
def test_row_8_any_number_of_htx_is_good_or_refused_down_to_the_figures(answers: dict[str, Any]) -> None:
    from monitor.model.events import Price as PriceRow
    from monitor.model.events import PriceKind, Prices

    venue = "htx_coin_futures"

    def raw(name: str) -> bytes:
        return json.dumps(answers[name]).encode()

    def last() -> list[Event]:
        trade = htx_reference.last_trade(raw("trade"))
        return [Prices(venue, PriceKind.LAST, [PriceRow(htx.CODE, trade.price, trade.trade_ms)])]

    user = HtxUserWire("main", Counters(), 1 << 20)

    def pushed(frame: dict[str, Any]) -> list[Event]:
        said = user.receive(htx.packed(frame))
        return [*(update for _, update in said.updates), *said.calls]

    watched(
        venue,
        [
            lambda: [htx_reference.instruments(raw("contracts"), Counters())],
            lambda: [htx_reference.adjust_factors(raw("factors"), Counters())],
            lambda: [htx_reference.ladder_margins(raw("ladders"), Counters())],
            lambda: [htx_reference.coin_terms(raw("terms"), Counters())],
            lambda: [htx_reference.index_prices(raw("index"), Counters())],
            lambda: [Prices(venue, PriceKind.MARK, [htx_reference.mark_price(raw("kline"), htx.CODE)])],
            last,
            lambda: list(coin_snapshots(raw("picture"), account="main")),
            lambda: [StreamUp(venue, "main", "user")],
            *(lambda frame=frame: pushed(frame) for frame in answers["pushes"]),
        ],
    )
