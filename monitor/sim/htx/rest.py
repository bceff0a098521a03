"""The REST interface: one table of endpoints, and the order in which a call is judged.

Errors come with HTTP 200 in an envelope, everything as text/plain, as recorded of the real one.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from monitor.sim.htx import private_answers as private
from monitor.sim.htx import public_answers as public
from monitor.sim.htx.account import Account
from monitor.sim.htx.auth import AuthError, check_signature
from monitor.sim.htx.faults import Faults, RestFault
from monitor.sim.htx.limits import Limiter
from monitor.sim.htx.market import Market
from monitor.sim.htx.text import encode
from monitor.sim.refused import RefusedError

HEALTH_PATHS = ("/heartbeat/", "/api/v1/timestamp")
_HEADERS = {"Content-Type": "text/plain;charset=UTF-8"}

_CODE_V2_OK = 200
_CODE_V2_FORBIDDEN = 1002
_CODE_V2_SIGNATURE = 1003


class Kind(Enum):
    HEALTH = "health"
    MARKET = "market"  # whole body
    PUBLIC = "public"
    PRIVATE = "private"
    SPOT = "spot"  # the spot host's signed v2 calls


@dataclass(frozen=True)
class Call:
    """`parameters`: the query of a GET, the body of a POST."""

    parameters: Mapping[str, Any]
    account: Account | None

    @property
    def owner(self) -> Account:
        assert self.account is not None
        return self.account


@dataclass(frozen=True)
class Endpoint:
    kind: Kind
    answer: Callable[[Call], Any]
    can_be_stale: bool = False


class _ForbiddenError(Exception):
    """A v2 call that this user may not make."""


class Rest:
    """Serves every path of the venue. `accounts`: by API key."""

    def __init__(
        self,
        market: Market,
        accounts: Mapping[str, Account],
        faults: Faults,
        now_ms: Callable[[], int],
        check_timestamps: bool = True,
    ) -> None:
        self._market = market
        self._accounts = accounts
        self._faults = faults
        self._now_ms = now_ms
        self._check_timestamps = check_timestamps
        self._created_ms = now_ms()
        self.limiter = Limiter(now_ms)
        self.endpoints = self._table()

    # ------------------------------------------------------------------ one call

    async def handle(self, request: web.Request) -> web.Response:
        fault = self._faults.take_rest(request.path)
        if fault is not None:
            await asyncio.sleep(fault.delay_ms / 1000)
            if fault.refuses:
                return self._refusal(fault)
        if self._faults.maintenance and request.path not in HEALTH_PATHS:
            return _response({"status": "maintain"})
        endpoint = self.endpoints.get((request.method, request.path))
        if endpoint is None:
            return web.Response(status=404, text="Not Found")
        body = await request.read()
        if endpoint.kind is Kind.SPOT:
            return self._answer_v2(endpoint, request)
        headers: dict[str, str] = {}
        try:
            answer = self._answer(endpoint, request, body, headers)
        except (AuthError, RefusedError) as error:
            answer = {"status": "error", "err_code": error.code, "err_msg": error.message}
        else:
            answer = {"status": "ok", **(answer if endpoint.kind in {Kind.MARKET, Kind.HEALTH} else {"data": answer})}
        return _response({**answer, "ts": self._now_ms()}, headers)

    def _refusal(self, fault: RestFault) -> web.Response:
        if fault.html:
            page = "<html><head><title>Service Unavailable</title></head></html>"
            return web.Response(status=fault.status, text=page, content_type="text/html")
        code = 1004 if fault.code is None else fault.code
        message = fault.message or "System busy. Please try again later."
        return _response({"status": "error", "err_code": code, "err_msg": message, "ts": self._now_ms()}, status=fault.status)

    def _answer(self, endpoint: Endpoint, request: web.Request, body: bytes, headers: dict[str, str]) -> Any:
        """Fills in the headers that go with the answer, be it a refusal or not."""
        query = dict(parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True))
        account = self._authenticated(request, query) if endpoint.kind is Kind.PRIVATE else None
        if endpoint.kind is not Kind.HEALTH:
            self._count(endpoint, account, headers)
        call = Call(_object(body) if request.method == "POST" else query, account)
        if endpoint.can_be_stale and account is not None:
            key = (account.name, request.path, str(call.parameters.get("symbol", "")).upper())
            return self._faults.take_stale(key, lambda: endpoint.answer(call))
        return endpoint.answer(call)

    def _count(self, endpoint: Endpoint, account: Account | None, headers: dict[str, str]) -> None:
        if account is not None:
            allowed, told = self.limiter.spend(self.limiter.private, account.uid)
        else:
            is_market = endpoint.kind is Kind.MARKET
            allowed, told = self.limiter.spend(self.limiter.market if is_market else self.limiter.public)
        headers.update(told)
        if not allowed:
            raise RefusedError(1032, "The number of access times exceeds the limit.")

    def _authenticated(self, request: web.Request, query: Mapping[str, str]) -> Account:
        """The account of the key, if the signature is right."""
        account = self._accounts.get(query.get("AccessKeyId", ""))
        if account is None:
            raise AuthError(12007, "Incorrect public key")
        host = request.headers.get("Host", "")
        check_signature(account.api_secret, request.method, host, request.path, query, self._now_ms(), self._check_timestamps)
        return account

    def _answer_v2(self, endpoint: Endpoint, request: web.Request) -> web.Response:
        """The spot host's envelope: code and message."""
        query = dict(parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True))
        try:
            data = endpoint.answer(Call(query, self._authenticated(request, query)))
        except AuthError:
            return _response({"code": _CODE_V2_SIGNATURE, "message": "invalid signature"})
        except _ForbiddenError:
            return _response({"code": _CODE_V2_FORBIDDEN, "message": "forbidden"})
        return _response({"code": _CODE_V2_OK, "message": "success", "data": data})

    def freeze_account_answers(self, count: int) -> None:
        """Remember what each account would be told now; the next `count` calls are told that."""
        self._faults.stale_count = count
        self._faults.stale = {}
        for account in self._accounts.values():
            for (_, path), endpoint in self.endpoints.items():
                for symbol in ("", *self._market.coins) if endpoint.can_be_stale else ():
                    try:
                        answer = endpoint.answer(Call({"symbol": symbol}, account))
                    except RefusedError:
                        continue  # the symbol is required, or the coin settles
                    self._faults.stale[(account.name, path, symbol)] = answer

    # ------------------------------------------------------------------ the table

    def _table(self) -> dict[tuple[str, str], Endpoint]:
        table: dict[tuple[str, str], Endpoint] = {}

        def add(kind: Kind, path: str, answer: Callable[[Call], Any], can_be_stale: bool = False) -> None:
            table[("POST" if kind is Kind.PRIVATE else "GET", path)] = Endpoint(kind, answer, can_be_stale)

        market, now_ms, v1 = self._market, self._now_ms, "/api/v1/contract_"
        add(Kind.HEALTH, "/heartbeat/", lambda _: {"data": self._heartbeat()})
        add(Kind.HEALTH, "/api/v1/timestamp", lambda _: {})

        add(Kind.PUBLIC, v1 + "contract_info", lambda c: public.contract_info(market, c.parameters))
        add(Kind.PUBLIC, v1 + "index", lambda c: public.index(market, c.parameters, now_ms()))
        add(Kind.PUBLIC, v1 + "adjustfactor", lambda c: public.adjust_factors(market, c.parameters))
        add(Kind.PUBLIC, v1 + "ladder_margin", lambda c: public.ladder_margins(market, c.parameters))
        add(Kind.PUBLIC, v1 + "query_elements", lambda c: public.query_elements(market, c.parameters))
        estimates = public.estimated_settlement_prices
        add(Kind.PUBLIC, v1 + "estimated_settlement_price", lambda c: estimates(market, c.parameters, now_ms()))
        add(Kind.PUBLIC, v1 + "delivery_price", lambda c: public.delivery_price(market, c.parameters, now_ms()))
        add(Kind.PUBLIC, v1 + "api_state", lambda c: public.api_state(market, c.parameters))

        history = "/index/market/history/"
        add(Kind.MARKET, history + "mark_price_kline", lambda c: public.mark_price_klines(market, c.parameters))
        add(Kind.MARKET, history + "index", lambda c: public.index_klines(market, c.parameters))
        add(Kind.MARKET, "/market/trade", lambda c: public.last_trades(market, c.parameters, now_ms()))
        add(Kind.MARKET, "/market/detail/merged", lambda c: public.merged(market, c.parameters, now_ms()))
        for path in ("/market/detail/batch_merged", "/v2/market/detail/batch_merged"):
            add(Kind.MARKET, path, lambda c: public.batch_merged(market, c.parameters, now_ms()))

        add(Kind.PRIVATE, v1 + "account_info", lambda c: private.account_info(c.owner, market, c.parameters), True)
        add(Kind.PRIVATE, v1 + "position_info", lambda c: private.position_info(c.owner, market, c.parameters), True)
        both = private.account_position_info
        add(Kind.PRIVATE, v1 + "account_position_info", lambda c: both(c.owner, market, c.parameters), True)
        add(Kind.PRIVATE, v1 + "available_level_rate", lambda c: private.available_levels(market, c.parameters))
        add(Kind.PRIVATE, v1 + "transfer_limit", lambda c: private.transfer_limits(market, c.parameters))
        add(Kind.PRIVATE, v1 + "position_limit", lambda c: private.position_limits(market, c.parameters))
        records = private.settlement_records
        add(Kind.PRIVATE, v1 + "user_settlement_records", lambda c: records(c.owner, market, c.parameters))

        add(Kind.SPOT, "/v2/user/uid", lambda c: int(c.owner.uid))
        add(Kind.SPOT, "/v2/user/api-key", self._key_info)
        return table

    def _heartbeat(self) -> dict[str, Any]:
        down = self._faults.maintenance
        recovery = self._now_ms() + 600_000 if down else None
        answer: dict[str, Any] = {"heartbeat": 0 if down else 1, "estimated_recovery_time": recovery}
        for other in ("swap", "linear_swap"):
            answer |= {f"{other}_heartbeat": 1, f"{other}_estimated_recovery_time": None}
        return answer

    def _key_info(self, call: Call) -> Any:
        """Only of one's own keys, and only for a parent user."""
        owner = call.owner
        key = call.parameters.get("accessKey") or owner.api_key
        if not owner.may_ask_key or call.parameters.get("uid") != owner.uid or key != owner.api_key:
            raise _ForbiddenError
        return private.key_info(owner, key, self._created_ms)

    def routes(self) -> Iterable[web.RouteDef]:
        return [web.route("*", "/{path:.*}", self.handle)]


def _object(body: bytes) -> dict[str, Any]:
    """Raises RefusedError 1030 for what is no JSON object; nothing at all is an empty one."""
    try:
        value = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(1030, "Input error: the body must be a JSON object.")
    return value


def _response(value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(value), headers={**_HEADERS, **(headers or {})})
