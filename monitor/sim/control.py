"""The control API: POST /sim/<name> calls the method of that name with the JSON body's members as arguments; /sim/htx_<name>
that of the HTX venue."""

import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from monitor.sim.htx import control as htx
from monitor.sim.refused import RefusedError

if TYPE_CHECKING:
    from monitor.sim.exchange import SimExchange

_CALLS = (
    "step",
    "clock",
    "price",
    "rate",
    "order",
    "cancel",
    "transfer",
    "margin",
    "funding",
    "leverage",
    "mode",
    "margin_type",
    "brackets",
    "status",
    "fault",
)


def control_routes(exchange: "SimExchange") -> list[web.RouteDef]:
    routes = [web.get("/sim/ledger", _reader(exchange.ledger)), web.get("/sim/state", _reader(exchange.state))]
    routes += [web.post(f"/sim/{name}", _caller(getattr(exchange, name))) for name in _CALLS]
    if exchange.has_htx:
        control = exchange.htx_control
        routes += [web.post(f"/sim/htx_{name}", _caller(getattr(control, name))) for name in htx.CALLS]
    return routes


def _reader(read: Callable[[], dict[str, Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        return _json(read())

    return answer


def _caller(call: Callable[..., Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        """A wrong call is the caller's fault: HTTP 400 with what was wrong."""
        try:
            arguments = orjson.loads(await request.read() or b"{}")
            result = call(**arguments)
            if inspect.isawaitable(result):
                result = await result
        except RefusedError as refused:
            return _json({"code": refused.code, "error": refused.message}, 400)
        except (TypeError, ValueError, KeyError, ArithmeticError) as exc:
            return _json({"error": f"{type(exc).__name__}: {exc}"}, 400)
        return _json({"result": result})

    return answer


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
