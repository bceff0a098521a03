"""The REST interface of Binance USDⓈ-M: one table of endpoints, and the order in which a call is judged."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from monitor.sim.binance import rest_answers
from monitor.sim.binance.account import Account
from monitor.sim.binance.auth import ApiError, WeightLimiter, check_key_format, check_signature, malformed, refuse_key
from monitor.sim.binance.listen_keys import ListenKeys
from monitor.sim.binance.market import Contract, Market
from monitor.sim.faults import Faults

Parameters = Mapping[str, str]


class Security(Enum):
    NONE = "none"
    KEY = "key"  # USER_STREAM: the header alone
    SIGNED = "signed"  # USER_DATA


@dataclass(frozen=True)
class Call:
    parameters: Parameters
    account: Account | None

    @property
    def owner(self) -> Account:
        if self.account is None:
            raise refuse_key()
        return self.account


@dataclass(frozen=True)
class Endpoint:
    security: Security
    weight: Callable[[Parameters], int]
    answer: Callable[[Call], Any]
    can_be_stale: bool = False


class Rest:
    """Serves /fapi and /sapi. `accounts`: by API key."""

    def __init__(
        self,
        market: Market,
        accounts: Mapping[str, Account],
        listen_keys: ListenKeys,
        limiter: WeightLimiter,
        faults: Faults,
        now_ms: Callable[[], int],
        check_timestamps: bool = True,
    ) -> None:
        self._market = market
        self._accounts = accounts
        self._listen_keys = listen_keys
        self._limiter = limiter
        self._faults = faults
        self._now_ms = now_ms
        self._check_timestamps = check_timestamps
        self.endpoints = self._table()

    # ------------------------------------------------------------------ one call

    async def handle(self, request: web.Request) -> web.Response:
        fault = self._faults.take_rest(request.path)
        if fault is not None:
            await asyncio.sleep(fault.delay_ms / 1000)
            if fault.status:
                retry_after = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                if fault.html:
                    page = "<html><head><title>Service Unavailable</title></head></html>"
                    return web.Response(status=fault.status, text=page, content_type="text/html", headers=retry_after)
                return _json({"code": fault.code, "msg": fault.message}, fault.status, retry_after)
        body = (await request.read()).decode("utf-8", "replace")
        try:
            answer = self._answer(request, body)
        except ApiError as error:
            return _json({"code": error.code, "msg": error.message}, error.status, {**self._weight_header(), **error.headers})
        return _json(answer, 200, self._weight_header())

    def _weight_header(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT-1M": str(self._limiter.used)}

    def _answer(self, request: web.Request, body: str) -> Any:
        query = request.raw_path.partition("?")[2]
        # On a clash the query string wins.
        parameters = dict(parse_qsl(body, keep_blank_values=True)) | dict(parse_qsl(query, keep_blank_values=True))
        endpoint = self.endpoints.get((request.method, request.path))
        if endpoint is None:
            raise ApiError(404, -5000, f"Path {request.path}, Method {request.method} is invalid")
        if request.path.startswith("/fapi/"):  # the limits of /sapi are counted apart
            self._limiter.spend(endpoint.weight(parameters))
        account = None
        if endpoint.security is not Security.NONE:
            account = self._authenticated(request.headers.get("X-MBX-APIKEY", ""))
        if endpoint.security is Security.SIGNED and account is not None:
            check_signature(account.api_secret, query, body, parameters, self._now_ms(), self._check_timestamps)
            if not account.rights["enableReading"]:
                raise refuse_key()
        call = Call(parameters, account)
        if endpoint.can_be_stale and account is not None:
            return self._faults.take_stale(account.name, request.path, lambda: endpoint.answer(call))
        return endpoint.answer(call)

    def _authenticated(self, key: str) -> Account:
        check_key_format(key)
        account = self._accounts.get(key)
        if account is None:
            raise refuse_key()
        return account

    def freeze_account_answers(self, count: int) -> None:
        """Remember what each account would be told now; the next `count` calls are told that."""
        self._faults.stale_count = count
        self._faults.stale = {
            (account.name, path): endpoint.answer(Call({}, account))
            for account in self._accounts.values()
            for (_, path), endpoint in self.endpoints.items()
            if endpoint.can_be_stale
        }

    # ------------------------------------------------------------------ the table

    def _table(self) -> dict[tuple[str, str], Endpoint]:
        table: dict[tuple[str, str], Endpoint] = {}

        def add(
            method: str,
            path: str,
            weight: int | Callable[[Parameters], int],
            answer: Callable[[Call], Any],
            security: Security = Security.NONE,
            can_be_stale: bool = False,
        ) -> None:
            cost = weight if callable(weight) else (lambda _: weight)
            table[(method, path)] = Endpoint(security, cost, answer, can_be_stale)

        def one_or_all(one: int, every: int) -> Callable[[Parameters], int]:
            return lambda parameters: one if parameters.get("symbol") else every

        signed, key = Security.SIGNED, Security.KEY
        market, now_ms = self._market, self._now_ms

        add("GET", "/fapi/v1/ping", 1, lambda _: {})
        add("GET", "/fapi/v1/time", 1, lambda _: {"serverTime": now_ms()})
        add("GET", "/fapi/v1/exchangeInfo", 1, lambda _: rest_answers.exchange_info(market, now_ms(), self._limiter.limit))
        add("GET", "/fapi/v1/premiumIndex", one_or_all(1, 10), self._premium_index)
        add("GET", "/fapi/v1/assetIndex", one_or_all(1, 10), self._asset_index)
        add("GET", "/fapi/v1/ticker/bookTicker", one_or_all(2, 5), self._book_ticker)
        add("GET", "/fapi/v1/leverageBracket", 1, self._leverage_brackets, signed)

        add("GET", "/fapi/v2/account", 5, lambda c: rest_answers.account_information(c.owner, market, False), signed, True)
        add("GET", "/fapi/v3/account", 5, lambda c: rest_answers.account_information(c.owner, market, True), signed, True)
        add("GET", "/fapi/v2/balance", 5, lambda c: rest_answers.balance(c.owner, market, False), signed, True)
        add("GET", "/fapi/v3/balance", 5, lambda c: rest_answers.balance(c.owner, market, True), signed, True)
        add("GET", "/fapi/v2/positionRisk", 5, lambda c: self._position_risk(c, False), signed, True)
        add("GET", "/fapi/v3/positionRisk", 5, lambda c: self._position_risk(c, True), signed, True)
        add("GET", "/fapi/v1/accountConfig", 5, lambda c: rest_answers.account_config(c.owner), signed)
        add("GET", "/fapi/v1/symbolConfig", 5, self._symbol_config, signed)
        add("GET", "/fapi/v1/multiAssetsMargin", 30, lambda c: {"multiAssetsMargin": c.owner.multi_assets}, signed)
        add("GET", "/fapi/v1/positionSide/dual", 30, lambda c: {"dualSidePosition": c.owner.hedge}, signed)
        add("GET", "/fapi/v1/forceOrders", one_or_all(20, 50), self._forced_orders, signed)
        add("GET", "/fapi/v1/income", 30, self._income, signed)

        add("POST", "/fapi/v1/listenKey", 1, lambda c: {"listenKey": self._listen_keys.open(c.owner)}, key)
        add("PUT", "/fapi/v1/listenKey", 1, lambda c: {"listenKey": self._listen_keys.extend(c.owner)}, key)
        add("DELETE", "/fapi/v1/listenKey", 1, lambda c: self._listen_keys.close(c.owner), key)

        created_ms = now_ms()
        restrictions = "/sapi/v1/account/apiRestrictions"
        add("GET", restrictions, 1, lambda c: rest_answers.api_restrictions(c.owner.rights, created_ms), signed)
        add("GET", "/sapi/v1/account/info", 1, lambda c: rest_answers.account_products(c.owner.portfolio_margin), signed)
        return table

    # ------------------------------------------------------------------ answers that read parameters

    def _contracts(self, parameters: Parameters) -> list[Contract]:
        """The one that is asked for, or all."""
        symbol = parameters.get("symbol")
        if symbol is None:
            return list(self._market.contracts.values())
        if not symbol:
            raise malformed("symbol")
        contract = self._market.contracts.get(symbol)
        if contract is None:
            raise ApiError(400, -1121, "Invalid symbol.")
        return [contract]

    def _rows(self, call: Call, row: Callable[[Contract], dict[str, Any]]) -> Any:
        """An object for one symbol, an array for all."""
        rows = [row(contract) for contract in self._contracts(call.parameters)]
        return rows[0] if call.parameters.get("symbol") else rows

    def _premium_index(self, call: Call) -> Any:
        return self._rows(call, lambda contract: rest_answers.premium_index(contract, self._market, self._now_ms()))

    def _book_ticker(self, call: Call) -> Any:
        return self._rows(call, lambda contract: rest_answers.book_ticker(contract, self._now_ms()))

    def _leverage_brackets(self, call: Call) -> Any:
        return self._rows(call, rest_answers.leverage_brackets)

    def _asset_index(self, call: Call) -> Any:
        symbol, now = call.parameters.get("symbol"), self._now_ms()
        if symbol is None:
            return [rest_answers.asset_index(collateral, now) for collateral in self._market.assets.values()]
        collateral = self._market.assets.get(symbol.removesuffix("USD"))
        if collateral is None or not symbol.endswith("USD"):
            raise ApiError(400, -1121, "Invalid symbol.")
        return rest_answers.asset_index(collateral, now)

    def _position_risk(self, call: Call, v3: bool) -> Any:
        self._contracts(call.parameters)  # refuses an unknown symbol
        rows = rest_answers.position_risk(call.owner, self._market, v3, call.parameters.get("symbol"))
        if self._faults.zero_marks > 0:
            self._faults.zero_marks -= 1
            rows = [{**row, "markPrice": "0.00000000"} for row in rows]
        return rows

    def _symbol_config(self, call: Call) -> Any:
        return [rest_answers.symbol_config(call.owner, contract) for contract in self._contracts(call.parameters)]

    def _forced_orders(self, call: Call) -> Any:
        symbol = call.parameters.get("symbol")
        self._contracts(call.parameters)
        return [row for row in call.owner.forced_orders if symbol in {None, row["symbol"]}]

    def _income(self, call: Call) -> Any:
        symbol, kind = call.parameters.get("symbol"), call.parameters.get("incomeType")
        return [row for row in call.owner.income if symbol in {None, row["symbol"]} and kind in {None, row["incomeType"]}][-100:]


def _json(value: Any, status: int, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json", headers=headers)
