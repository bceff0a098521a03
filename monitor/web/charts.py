"""`/api/v1/history?pool=venue/account/pool&span=3600`: a pool's figures over time, as columns for a chart."""

import numpy as np
import orjson
from aiohttp import web

from monitor.model.series import History, Series
from monitor.model.view import View
from monitor.web.answers import packed, problem
from monitor.web.status import JSON_UTF8, json_object, pool_key

SPAN_S_DEFAULT, SPAN_S_MAX = 3600, 30 * 86_400
POINTS_DEFAULT, POINTS_MAX = 1500, 5000
NOTHING = np.zeros(0, np.float32)


class ChartPath:
    """The handler. history: None where nothing is remembered. view: a pool that it knows has a history, be it empty."""

    def __init__(self, view: View, history: History | None) -> None:
        self._view = view
        self._history = history

    async def handle(self, request: web.Request) -> web.Response:
        if self._history is None:
            return problem(404, "no history is kept", "set history.enabled")
        key = pool_key(request.query.get("pool", ""))
        try:
            span_s = int(request.query.get("span", str(SPAN_S_DEFAULT)))
            points = int(request.query.get("points", str(POINTS_DEFAULT)))
        except ValueError:
            span_s = points = 0
        if key is None or not (60 <= span_s <= SPAN_S_MAX and 2 <= points <= POINTS_MAX):
            return problem(400, "not a pool and a span of time", "?pool=venue/account/pool&span=3600, in seconds, 60 to 2592000")
        series = await self._history.read(key, span_s, points_max=points)
        if series is None and self._view.pool(key) is not None:
            series = Series(start_ms=self._view.now_ms(), step_s=1, equity=NOTHING, requirement=NOTHING)
        if series is None:
            return problem(404, "nothing is remembered of such a pool", "/api/v1/status lists the pools that are watched")
        parts = {
            "venue": orjson.dumps(key.venue),
            "account": orjson.dumps(key.account),
            "pool": orjson.dumps(key.pool),
            "start_ms": b"%d" % series.start_ms,
            "step_s": b"%d" % series.step_s,
        }
        for name in ("health", "equity", "requirement"):  # float32 as short as it can be said; NaN becomes null
            parts[name] = orjson.dumps(getattr(series, name), option=orjson.OPT_SERIALIZE_NUMPY)
        return await packed(request, json_object(parts), JSON_UTF8)
