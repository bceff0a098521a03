"""REST answers as JSON objects, field by field as documented: strings where the exchange has strings."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from monitor.sim.binance.account import Account, Leg
from monitor.sim.binance.liquidation_price import liquidation_price
from monitor.sim.binance.margin import ZERO, AssetFigures, Figures, LegFigures, figures
from monitor.sim.binance.market import Bracket, Collateral, Contract, Market
from monitor.sim.binance.text import money, money_or_zero, plain

Row = dict[str, Any]

# ------------------------------------------------------------------ public


def exchange_info(market: Market, now_ms: int, weight_limit: int) -> Row:
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": weight_limit},
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": a.asset, "marginAvailable": a.margin_available, "autoAssetExchange": plain(a.auto_exchange_at)}
            for a in market.assets.values()
        ],
        "symbols": [_symbol_row(contract) for contract in market.contracts.values()],
    }


def _symbol_row(contract: Contract) -> Row:
    tick = plain(Decimal(1).scaleb(-contract.price_places))
    step = plain(Decimal(1).scaleb(-contract.quantity_places))
    return {
        "symbol": contract.symbol,
        "pair": contract.pair,
        "contractType": contract.contract_type,
        "deliveryDate": contract.delivery_ms,
        "onboardDate": 1_569_398_400_000,
        "status": contract.status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": contract.base,
        "quoteAsset": contract.quote,
        "marginAsset": contract.margin_asset,
        "pricePrecision": contract.price_places,
        "quantityPrecision": contract.quantity_places,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": f"{contract.liquidation_fee:.6f}",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "100000000", "stepSize": step},
            {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "100000000", "stepSize": step},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
            {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
        ],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }


def premium_index(contract: Contract, market: Market, now_ms: int) -> Row:
    dated = contract.funding_rate is None
    return {
        "symbol": contract.symbol,
        "markPrice": money(contract.mark),
        "indexPrice": money(contract.index),
        "estimatedSettlePrice": money(contract.index),
        "lastFundingRate": "" if contract.funding_rate is None else money(contract.funding_rate),
        "interestRate": "" if dated else "0.00010000",
        "nextFundingTime": 0 if dated else market.next_funding_ms(now_ms),
        "time": now_ms,
    }


def asset_index(collateral: Collateral, now_ms: int) -> Row:
    ask_buffer = collateral.buffer if collateral.ask_buffer is None else collateral.ask_buffer
    return {
        "symbol": f"{collateral.asset}USD",
        "time": now_ms,
        "index": money(collateral.index),
        "bidBuffer": money(collateral.buffer),
        "askBuffer": money(ask_buffer),
        "bidRate": money(collateral.bid),
        "askRate": money(collateral.ask),
        "autoExchangeBidBuffer": money(collateral.auto_exchange_buffer),
        "autoExchangeAskBuffer": money(collateral.auto_exchange_buffer),
        "autoExchangeBidRate": money(collateral.auto_exchange_bid),
        "autoExchangeAskRate": money(collateral.auto_exchange_ask),
    }


def book_ticker(contract: Contract, now_ms: int) -> Row:
    bid, ask = best_prices(contract)
    return {
        "symbol": contract.symbol,
        "bidPrice": plain(bid),
        "bidQty": "12.500",
        "askPrice": plain(ask),
        "askQty": "9.300",
        "time": now_ms,
    }


def best_prices(contract: Contract) -> tuple[Decimal, Decimal]:
    """One price tick below and above the mark."""
    tick = Decimal(1).scaleb(-contract.price_places)
    middle = contract.mark.quantize(tick)
    return max(tick, middle - tick), middle + tick


def leverage_brackets(contract: Contract) -> Row:
    return {
        "symbol": contract.symbol,
        "brackets": [
            {
                "bracket": b.number,
                "initialLeverage": b.leverage_max,
                "notionalCap": json_number(b.cap),
                "notionalFloor": json_number(b.floor),
                "maintMarginRatio": json_number(b.rate),
                "cum": json_number(b.cum),
            }
            for b in contract.brackets
        ],
    }


def json_number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)


# ------------------------------------------------------------------ settings


def account_config(account: Account) -> Row:
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": account.hedge,
        "updateTime": 0,
        "multiAssetsMargin": account.multi_assets,
        "tradeGroupId": -1,
    }


def symbol_config(account: Account, contract: Contract) -> Row:
    return {
        "symbol": contract.symbol,
        "marginType": "ISOLATED" if account.is_isolated(contract.symbol) else "CROSSED",
        "isAutoAddMargin": "false",
        "leverage": account.leverage(contract.symbol),
        "maxNotionalValue": plain(notional_max(contract.brackets, account.leverage(contract.symbol))),
    }


def notional_max(brackets: Iterable[Bracket], leverage: int) -> Decimal:
    """The largest position that the leverage allows."""
    return max((b.cap for b in brackets if b.leverage_max >= leverage), default=ZERO)


def api_restrictions(rights: Mapping[str, bool], created_ms: int) -> Row:
    row: Row = {**rights, "createTime": created_ms}
    if rights.get("enableFutures") or rights.get("enableSpotAndMarginTrading"):
        row["tradingAuthorityExpirationTime"] = created_ms + 365 * 86_400_000
    return row


def account_products(portfolio_margin: bool) -> Row:
    return {
        "vipLevel": 0,
        "isMarginEnabled": False,
        "isFutureEnabled": True,
        "isOptionsEnabled": False,
        "isPortfolioMarginRetailEnabled": portfolio_margin,
    }


# ------------------------------------------------------------------ account


def balance(account: Account, market: Market, v3: bool) -> list[Row]:
    return [
        {
            "accountAlias": "SgsR" + account.api_key[:4],
            "asset": row.asset,
            "balance": money(row.wallet),
            "crossWalletBalance": money(row.cross_wallet),
            "crossUnPnl": money(row.cross_pnl),
            "availableBalance": money(row.available),
            "maxWithdrawAmount": money(row.max_withdraw),
            "marginAvailable": market.assets[row.asset].margin_available,
            "updateTime": account.wallet_times_ms.get(row.asset, 0),
        }
        for row in _assets_listed(figures(account, market), account, v3)
    ]


def account_information(account: Account, market: Market, v3: bool) -> Row:
    """GET /fapi/v2/account and /fapi/v3/account."""
    now = figures(account, market)
    totals = now.totals
    head: Row = {} if v3 else {**account_config(account), "feeBurn": True}
    head.pop("dualSidePosition", None)
    return {
        **head,
        "totalInitialMargin": money(totals.position_initial + totals.order_initial),
        "totalMaintMargin": money(totals.maintenance),
        "totalWalletBalance": money(totals.wallet),
        "totalUnrealizedProfit": money(totals.pnl),
        "totalMarginBalance": money(totals.equity),
        "totalPositionInitialMargin": money(totals.position_initial),
        "totalOpenOrderInitialMargin": money(totals.order_initial),
        "totalCrossWalletBalance": money(totals.cross_wallet),
        "totalCrossUnPnl": money(totals.cross_pnl),
        "availableBalance": money(totals.available),
        "maxWithdrawAmount": money(totals.max_withdraw),
        "assets": [_asset_row(row, account, market, v3) for row in _assets_listed(now, account, v3)],
        "positions": [_position_v3(row) for row in now.legs] if v3 else _positions_v2(account, market, now),
    }


def _assets_listed(now: Figures, account: Account, v3: bool) -> list[AssetFigures]:
    """v2 lists every asset; v3 those in use and the usual quote assets."""
    used = {*account.wallets, *(row.asset for row in now.legs), "USDT", "USDC"}
    return [row for row in now.assets.values() if not v3 or row.asset in used]


def _asset_row(row: AssetFigures, account: Account, market: Market, v3: bool) -> Row:
    # The v3 sample of a single-asset account lacks `marginAvailable`.
    margin_available = {} if v3 and not account.multi_assets else {"marginAvailable": market.assets[row.asset].margin_available}
    return {
        "asset": row.asset,
        "walletBalance": money(row.wallet),
        "unrealizedProfit": money(row.pnl),
        "marginBalance": money(row.wallet + row.pnl),
        "maintMargin": money(row.maintenance),
        "initialMargin": money(row.initial),
        "positionInitialMargin": money(row.position_initial),
        "openOrderInitialMargin": money(row.order_initial),
        "crossWalletBalance": money(row.cross_wallet),
        "crossUnPnl": money(row.cross_pnl),
        "availableBalance": money(row.available),
        "maxWithdrawAmount": money(row.max_withdraw),
        **margin_available,
        "updateTime": account.wallet_times_ms.get(row.asset, 0),
    }


def _isolated_margin(row: LegFigures) -> Decimal:
    return row.leg.isolated_wallet + row.pnl if row.isolated else ZERO


def _position_v3(row: LegFigures) -> Row:
    return {
        "symbol": row.leg.symbol,
        "positionSide": row.leg.side,
        "positionAmt": plain(row.leg.quantity),
        "unrealizedProfit": money(row.pnl),
        "isolatedMargin": money_or_zero(_isolated_margin(row)),
        "notional": money_or_zero(row.notional),
        "isolatedWallet": money_or_zero(row.leg.isolated_wallet),
        "initialMargin": money_or_zero(row.initial),
        "maintMargin": money_or_zero(row.maintenance),
        "updateTime": row.leg.update_ms,
    }


def _sides(account: Account) -> tuple[str, ...]:
    return ("BOTH", "LONG", "SHORT") if account.hedge else ("BOTH",)


def _positions_v2(account: Account, market: Market, now: Figures) -> list[Row]:
    """Every symbol and side, the empty ones too."""
    known = {(row.leg.symbol, row.leg.side): row for row in now.legs}
    rows = []
    for contract in market.contracts.values():
        for side in _sides(account):
            row = known.get((contract.symbol, side))
            leg = row.leg if row is not None else Leg(contract.symbol, side)
            rows.append(
                {
                    "symbol": contract.symbol,
                    "initialMargin": money_or_zero(row.initial if row else ZERO),
                    "maintMargin": money_or_zero(row.maintenance if row else ZERO),
                    "unrealizedProfit": money(row.pnl if row else ZERO),
                    "positionInitialMargin": money_or_zero(row.position_initial if row else ZERO),
                    "openOrderInitialMargin": money_or_zero(row.order_initial if row else ZERO),
                    "leverage": str(account.leverage(contract.symbol)),
                    "isolated": account.is_isolated(contract.symbol),
                    "entryPrice": plain(leg.entry_price, 1),
                    "breakEvenPrice": plain(leg.entry_price, 1),
                    "maxNotional": plain(notional_max(contract.brackets, account.leverage(contract.symbol))),
                    "bidNotional": plain(row.bid_notional if row else ZERO),
                    "askNotional": plain(row.ask_notional if row else ZERO),
                    "positionSide": side,
                    "positionAmt": plain(leg.quantity, contract.quantity_places),
                    "notional": money_or_zero(row.notional if row else ZERO),
                    "isolatedWallet": money_or_zero(leg.isolated_wallet),
                    "updateTime": leg.update_ms,
                }
            )
    return rows


# ------------------------------------------------------------------ positions


def position_risk(account: Account, market: Market, v3: bool, symbol: str | None = None) -> list[Row]:
    """GET /fapi/v2/positionRisk (all symbols and sides) and /fapi/v3/positionRisk (positions and open orders only)."""
    now = figures(account, market)
    known = {(row.leg.symbol, row.leg.side): row for row in now.legs}
    if v3:
        return [_risk_v3(row, account, market, now) for row in now.legs if symbol in {None, row.leg.symbol}]
    return [
        _risk_v2(known.get((contract.symbol, side)), Leg(contract.symbol, side), contract, account, market, now)
        for contract in market.contracts.values()
        if symbol in {None, contract.symbol}
        for side in _sides(account)
    ]


def _risk_v3(row: LegFigures, account: Account, market: Market, now: Figures) -> Row:
    return {
        "symbol": row.leg.symbol,
        "positionSide": row.leg.side,
        "positionAmt": plain(row.leg.quantity),
        "entryPrice": plain(row.leg.entry_price, 1),
        "breakEvenPrice": plain(row.leg.entry_price, 1),
        "markPrice": money(row.mark),
        "unRealizedProfit": money(row.pnl),
        "liquidationPrice": money_or_zero(liquidation_price(row, account, market, now)),
        "isolatedMargin": money_or_zero(_isolated_margin(row)),
        "notional": money_or_zero(row.notional),
        "marginAsset": row.asset,
        "isolatedWallet": money_or_zero(row.leg.isolated_wallet),
        "initialMargin": money_or_zero(row.initial),
        "maintMargin": money_or_zero(row.maintenance),
        "positionInitialMargin": money_or_zero(row.position_initial),
        "openOrderInitialMargin": money_or_zero(row.order_initial),
        "adl": 2 if row.leg.quantity else 0,
        "bidNotional": plain(row.bid_notional),
        "askNotional": plain(row.ask_notional),
        "updateTime": row.leg.update_ms,
    }


def _risk_v2(row: LegFigures | None, empty: Leg, contract: Contract, account: Account, market: Market, now: Figures) -> Row:
    leg = row.leg if row is not None else empty
    isolated = account.is_isolated(contract.symbol)
    return {
        "symbol": contract.symbol,
        "positionAmt": plain(leg.quantity, contract.quantity_places),
        "entryPrice": plain(leg.entry_price, 1),
        "breakEvenPrice": plain(leg.entry_price, 1),
        "markPrice": money(contract.mark),
        "unRealizedProfit": money(row.pnl if row else ZERO),
        "liquidationPrice": money_or_zero(liquidation_price(row, account, market, now) if row else ZERO),
        "leverage": str(account.leverage(contract.symbol)),
        "maxNotionalValue": plain(notional_max(contract.brackets, account.leverage(contract.symbol))),
        "marginType": "isolated" if isolated else "cross",
        "isolatedMargin": money(_isolated_margin(row) if row else ZERO),
        "isAutoAddMargin": "false",
        "positionSide": leg.side,
        "notional": money_or_zero(row.notional if row else ZERO),
        "isolatedWallet": money_or_zero(leg.isolated_wallet),
        "isolated": isolated,
        "adlQuantile": 2 if leg.quantity else 0,
        "updateTime": leg.update_ms,
    }
