"""Everything that changes an account: orders, transfers, funding, settings. Each change pushes the events it documents."""

import itertools
from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from monitor.sim.binance import user_events
from monitor.sim.binance.account import Account, Leg, RestingOrder
from monitor.sim.binance.margin import ZERO
from monitor.sim.binance.market import Contract, Market
from monitor.sim.binance.text import cut, money, plain
from monitor.sim.refused import RefusedError

TAKER_FEE = Decimal("0.0005")
_ENTRY_PLACES = Decimal("0.0000000001")

Emit = Callable[[Account, user_events.Event], None]


class Desk:
    """Works on any account; `emit` takes the events for that account's stream, `now_ms` is the simulated clock."""

    def __init__(self, market: Market, now_ms: Callable[[], int], emit: Emit) -> None:
        self.market = market
        self.now_ms = now_ms
        self._emit = emit
        self._ids = itertools.count(8_389_765_000_000_001)
        self._trade_ids = itertools.count(670_300_001)

    # ------------------------------------------------------------------ orders

    def contract(self, symbol: str) -> Contract:
        contract = self.market.contracts.get(symbol)
        if contract is None:
            raise RefusedError(-1121, "Invalid symbol.")
        return contract

    def order(
        self,
        account: Account,
        symbol: str,
        side: str,
        quantity: Decimal,
        position_side: str = "BOTH",
        price: Decimal | None = None,
    ) -> int:
        """A market order fills whole at the mark; with a `price` it rests until the mark reaches it. Returns the order id."""
        contract = self.contract(symbol)
        if side not in {"BUY", "SELL"} or position_side not in {"BOTH", "LONG", "SHORT"}:
            raise RefusedError(-1117, "Invalid side.")
        if quantity <= 0:
            raise RefusedError(-4003, "Quantity less than or equal to zero.")
        if (position_side == "BOTH") == account.hedge:
            raise RefusedError(-4061, "Order's position side does not match user's setting.")
        held = account.leg(symbol, position_side).quantity
        reduces = (position_side, side) in {("LONG", "SELL"), ("SHORT", "BUY")}
        if reduces and quantity > abs(held):
            raise RefusedError(-2022, "ReduceOnly Order is rejected.")
        order_id = next(self._ids)
        order = RestingOrder(
            order_id, f"web_{order_id}", symbol, position_side, side, quantity, contract.mark if price is None else price
        )
        kind = {"o": "MARKET", "ot": "MARKET", "p": "0"} if price is None else {"p": plain(order.price)}
        if price is not None:
            account.orders[order_id] = order
        self._emit(account, user_events.order_update(self.now_ms(), {**self._described(account, order), **kind}))
        if price is None:
            self._fill(account, order, contract.mark, kind)
        return order_id

    def cancel(self, account: Account, order_id: int) -> None:
        order = account.orders.pop(order_id, None)
        if order is None:
            raise RefusedError(-2011, "Unknown order sent.")
        change = {**self._described(account, order), "p": plain(order.price), "x": "CANCELED", "X": "CANCELED"}
        self._emit(account, user_events.order_update(self.now_ms(), change))

    def fill_reached(self, account: Account) -> None:
        """Fill the resting orders that the mark price has reached."""
        for order in list(account.orders.values()):
            mark = self.market.contracts[order.symbol].mark
            if mark <= order.price if order.side == "BUY" else mark >= order.price:
                del account.orders[order.order_id]
                self._fill(account, order, order.price, {"p": plain(order.price), "m": True})

    def close_forced(self, account: Account, leg: Leg) -> None:
        """The exchange closes a position in liquidation: at the mark, with the liquidation fee."""
        contract = self.market.contracts[leg.symbol]
        now = self.now_ms()
        order_id = next(self._ids)
        order = RestingOrder(
            order_id,
            f"autoclose-{now}{order_id % 1_000_000:06d}",
            leg.symbol,
            leg.side,
            "SELL" if leg.quantity > 0 else "BUY",
            abs(leg.quantity),
            contract.mark,
        )
        account.forced_orders.append(_forced_row(order, now))
        change = {"f": "IOC", "p": plain(contract.mark), "x": "CALCULATED"}
        self._fill(account, order, contract.mark, change, TAKER_FEE + contract.liquidation_fee)

    def _described(self, account: Account, order: RestingOrder) -> dict[str, Any]:
        open_orders = [o for o in account.orders.values() if (o.symbol, o.position_side) == (order.symbol, order.position_side)]
        return {
            "s": order.symbol,
            "c": order.client_id,
            "S": order.side,
            "q": plain(order.quantity),
            "i": order.order_id,
            "N": self.market.contracts[order.symbol].margin_asset,
            "ps": order.position_side,
            "b": plain(sum((o.quantity * o.price for o in open_orders if o.side == "BUY"), ZERO)),
            "a": plain(sum((o.quantity * o.price for o in open_orders if o.side == "SELL"), ZERO)),
        }

    def _fill(
        self, account: Account, order: RestingOrder, price: Decimal, change: dict[str, Any], fee_rate: Decimal = TAKER_FEE
    ) -> None:
        contract = self.market.contracts[order.symbol]
        leg = account.leg(order.symbol, order.position_side)
        now = self.now_ms()
        signed = order.quantity if order.side == "BUY" else -order.quantity
        realised = cut(self._trade(account, contract, leg, signed, price))
        fee = cut(order.quantity * price * fee_rate)
        leg.realised += realised
        leg.update_ms = now
        asset = contract.margin_asset
        self._credit(account, asset, realised - fee)
        if realised:
            self._book(account, asset, "REALIZED_PNL", realised, order.symbol)
        self._book(account, asset, "COMMISSION", -fee, order.symbol)
        fill = {
            **self._described(account, order),
            "ap": plain(price),
            "x": "TRADE",
            "X": "FILLED",
            "l": plain(order.quantity),
            "z": plain(order.quantity),
            "L": plain(price),
            "n": money(fee),
            "t": next(self._trade_ids),
            "rp": plain(realised),
            **change,
        }
        # The three frames of one fill carry equal stamps, in the order in which they were recorded.
        self._emit(account, user_events.trade_lite(now, fill))
        self._emit(account, self._update(account, "ORDER", {asset: ZERO}, self._rows(account, leg)))
        self._emit(account, user_events.order_update(now, fill))

    def _trade(self, account: Account, contract: Contract, leg: Leg, signed: Decimal, price: Decimal) -> Decimal:
        """Change one leg by a signed quantity; returns the realised PnL. What goes beyond flat opens the other side."""
        realised = ZERO
        isolated = account.is_isolated(leg.symbol)
        if leg.quantity * signed < 0:
            closed = min(abs(signed), abs(leg.quantity)) * (1 if signed > 0 else -1)
            realised = -closed * (price - leg.entry_price)
            leg.isolated_wallet -= cut(leg.isolated_wallet * closed / -leg.quantity)
            leg.quantity += closed
            signed -= closed
            if not leg.quantity:
                leg.entry_price, leg.isolated_wallet = ZERO, ZERO
        if signed:
            total = leg.quantity + signed
            cost = leg.quantity * leg.entry_price + signed * price
            leg.entry_price = (cost / total).quantize(_ENTRY_PLACES, rounding=ROUND_HALF_UP)
            leg.quantity = total
            if isolated:
                leg.isolated_wallet += cut(abs(signed) * price / account.leverage(contract.symbol))
        return realised

    # ------------------------------------------------------------------ money

    def transfer(self, account: Account, asset: str, amount: Decimal, reason: str | None = None) -> None:
        """Money in (> 0) or out (< 0) of the futures wallet."""
        if asset not in self.market.assets:
            raise RefusedError(-4046, f"{asset} is not an asset of the futures wallet.")
        self._credit(account, asset, amount)
        self._book(account, asset, "TRANSFER", amount)
        reason = reason or ("DEPOSIT" if amount >= 0 else "WITHDRAW")
        self._emit(account, self._update(account, reason, {asset: amount}, ()))

    def credit(self, account: Account, changes: dict[str, Decimal], reason: str) -> None:
        """A booking of the exchange's own (INSURANCE_CLEAR, AUTO_EXCHANGE): several assets in one event."""
        for asset, amount in changes.items():
            self._credit(account, asset, amount)
            self._book(account, asset, reason, amount)
        self._emit(account, self._update(account, reason, changes, ()))

    def move_margin(self, account: Account, symbol: str, side: str, amount: Decimal) -> None:
        """From the cross wallet to an isolated position (> 0) or back (< 0)."""
        contract = self.contract(symbol)
        leg = account.leg(symbol, side)
        if not account.is_isolated(symbol) or not leg.quantity:
            raise RefusedError(-4054, "Cannot add position margin: position is 0.")
        leg.isolated_wallet += amount
        leg.update_ms = self.now_ms()
        self._emit(account, self._update(account, "MARGIN_TRANSFER", {contract.margin_asset: ZERO}, self._rows(account, leg)))

    def pay_funding(self, account: Account, symbol: str | None = None, rate: Decimal | None = None) -> None:
        """Longs pay a positive rate, shorts get it. A cross position is paid with a balance row alone (`P: []`)."""
        for leg in account.open_legs():
            contract = self.market.contracts[leg.symbol]
            due = contract.funding_rate if rate is None else rate
            if due is None or symbol not in {None, leg.symbol}:
                continue
            amount = cut(-leg.quantity * contract.mark * due)
            isolated = account.is_isolated(leg.symbol)
            if isolated:
                leg.isolated_wallet += amount
                leg.update_ms = self.now_ms()
            self._credit(account, contract.margin_asset, amount)
            self._book(account, contract.margin_asset, "FUNDING_FEE", amount, leg.symbol)
            rows = self._rows(account, leg) if isolated else []
            self._emit(account, self._update(account, "FUNDING_FEE", {contract.margin_asset: amount}, rows, leg.symbol))

    def _credit(self, account: Account, asset: str, amount: Decimal) -> None:
        account.wallets[asset] = account.wallets.get(asset, ZERO) + amount
        account.wallet_times_ms[asset] = self.now_ms()

    def _book(self, account: Account, asset: str, kind: str, amount: Decimal, symbol: str = "") -> None:
        account.income.append(
            {
                "symbol": symbol,
                "incomeType": kind,
                "income": money(amount),
                "asset": asset,
                "info": kind,
                "time": self.now_ms(),
                "tranId": next(self._trade_ids),
                "tradeId": "",
            }
        )
        del account.income[:-1000]

    # ------------------------------------------------------------------ settings

    def set_leverage(self, account: Account, symbol: str, leverage: int) -> None:
        table = self.contract(symbol).brackets
        if not 1 <= leverage <= table[0].leverage_max:
            raise RefusedError(-4028, f"Leverage {leverage} is not valid")
        account.leverages[symbol] = leverage
        self._emit(account, user_events.leverage_changed(self.now_ms(), symbol, leverage))

    def set_asset_mode(self, account: Account, multi_assets: bool) -> None:
        if multi_assets and account.isolated:
            raise RefusedError(-4168, "Unable to adjust to Multi-Assets mode with symbols of isolated-margin mode.")
        account.multi_assets = multi_assets
        self._emit(account, user_events.asset_mode_changed(self.now_ms(), multi_assets))

    def set_position_mode(self, account: Account, hedge: bool) -> None:
        """The stream says nothing of this change."""
        if account.open_legs():
            raise RefusedError(-4068, "Position side cannot be changed if there exists position.")
        account.hedge = hedge
        account.legs.clear()

    def set_margin_type(self, account: Account, symbol: str, isolated: bool) -> None:
        self.contract(symbol)
        if isolated and account.multi_assets:
            raise RefusedError(-4168, "Unable to adjust to isolated-margin mode under the Multi-Assets mode.")
        if any(leg.symbol == symbol for leg in account.open_legs()):
            raise RefusedError(-4048, "Margin type cannot be changed if there exists position.")
        (account.isolated.add if isolated else account.isolated.discard)(symbol)

    # ------------------------------------------------------------------ events

    def _rows(self, account: Account, leg: Leg) -> list[Leg]:
        """The position rows of a change: in hedge mode the empty BOTH row comes along, as on the exchange."""
        return [Leg(leg.symbol, "BOTH"), leg] if account.hedge else [leg]

    def _update(
        self, account: Account, reason: str, changes: dict[str, Decimal], legs: list[Leg] | tuple[()], symbol: str | None = None
    ) -> user_events.Event:
        return user_events.account_update(account, self.market, self.now_ms(), reason, changes, legs, symbol)


def _forced_row(order: RestingOrder, now_ms: int) -> dict[str, Any]:
    """As GET /fapi/v1/forceOrders lists it."""
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": "FILLED",
        "clientOrderId": order.client_id,
        "price": plain(order.price),
        "avgPrice": plain(order.price, 5),
        "origQty": plain(order.quantity),
        "executedQty": plain(order.quantity),
        "cumQuote": plain(order.quantity * order.price),
        "timeInForce": "IOC",
        "type": "LIMIT",
        "reduceOnly": False,
        "closePosition": False,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": "0",
        "workingType": "CONTRACT_PRICE",
        "origType": "LIMIT",
        "time": now_ms,
        "updateTime": now_ms,
    }
