"""The HTTP server. It reads the `View`, asks the `Desk` for what a person may do, and is never in the way of a tick."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files

import orjson
import structlog
from aiohttp import hdrs, web
from msgspec import Struct, structs

from monitor.model.secret import Secret
from monitor.model.series import History
from monitor.model.view import Desk, View
from monitor.web.answers import gathered, json_answer, packed, problem, takes_openmetrics
from monitor.web.around import incident_parts, missing_parts, stream_parts
from monitor.web.charts import ChartPath
from monitor.web.connections import Connections, connections_max
from monitor.web.desk import BODY_BYTES_MAX, DeskPaths
from monitor.web.events import EventFeed
from monitor.web.gate import EVENTS_PATH, HISTORY_PATH, few_at_once, watched
from monitor.web.guard import HEALTHY_PATH, LOOPBACK_NAMES, HostCheck, TokenCheck, guard, secure
from monitor.web.listener import Listener
from monitor.web.malformed import request_logger
from monitor.web.pools import PoolReader, Wanted, nearest_liquidation
from monitor.web.scrapes import Exposition, Scrapes
from monitor.web.status import (
    JSON_UTF8,
    PoolSnapshot,
    channel_rows,
    incident_rows,
    json_array,
    json_object,
    pool_detail,
    pool_key,
    row_pieces,
    stream_rows,
)

log = structlog.get_logger(__name__)

SWEEP_S = 0.5
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
STATIC = {
    "index.html": "text/html; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in ("app", "dom", "words", "list", "pool", "chart", "desk")},
    "vendor/uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "vendor/uPlot.min.css": "text/css; charset=utf-8",
    "vendor/uPlot.LICENSE": "text/plain; charset=utf-8",
}

Reload = Callable[[], Awaitable[Sequence[str]]]
"""Loads the configuration again; returns its errors in plain words, none if it is in force."""


class ServerSettings(Struct, frozen=True, kw_only=True):
    """Where the server listens and whom it answers."""

    host: str = "127.0.0.1"
    port: int = 9877  # 0: any free one, see `Server.port`
    host_names: tuple[str, ...] = ()  # by which it is reached, besides loopback and `host`
    token: Secret | None = None
    version: str = ""
    descriptors: int = 1024  # files and sockets that the process may have open
    event_interval_s: float = 0.2
    scrape_interval_s: float = 0.2  # in which the metrics are rendered once
    send_timeout_s: float = 10.0  # in which a client must take something
    head_timeout_s: float = 10.0  # in which a request's head must come, once it has begun
    body_timeout_s: float = 10.0
    pages_max: int = 32


class Server:
    """`await start()`, `await stop()`; start raises OSError where the address cannot be had.

    reload: None leaves `POST /-/reload` off. desk: None leaves acknowledging and silencing off. history: None leaves charts off.
    hangs: why a restart of the process would help, in plain words.
    """

    def __init__(
        self,
        view: View,
        metrics: Exposition,
        settings: ServerSettings,
        *,
        reload: Reload | None = None,
        desk: Desk | None = None,
        history: History | None = None,
        hangs: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._view = view
        self._hangs = hangs
        self._history = history
        self._pools = PoolReader(view)
        self._desk = desk
        self._scrapes = Scrapes(metrics, settings.scrape_interval_s, lambda: asyncio.get_running_loop().time())
        self._settings = settings
        self._reload = reload
        self._events: EventFeed | None = None
        self._runner: web.AppRunner | None = None
        self._listener: Listener | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        settings = self._settings
        if settings.token is None and settings.host not in LOOPBACK_NAMES:
            log.warning("web_open_to_network", host=settings.host, hint="set a token: whoever reaches this port sees balances")
        descriptors, clock_s = settings.descriptors, asyncio.get_running_loop().time
        maximum = connections_max(descriptors)
        connections = Connections(maximum, clock_s, head_s=settings.head_timeout_s, send_s=settings.send_timeout_s)
        self._events = EventFeed(
            self._view,
            self._pools,
            connections.log,
            interval_s=settings.event_interval_s,
            send_timeout_s=settings.send_timeout_s,
            clients_max=min(settings.pages_max, maximum // 2),
        )
        runner = web.AppRunner(
            self._app(self._events, connections),
            access_log=None,
            logger=request_logger(connections.log),
            keepalive_timeout=75.0,  # longer than a scrape interval
            shutdown_timeout=2.0,
            max_line_size=4096,
            max_field_size=4096,
        )
        await runner.setup()
        assert runner.server is not None
        self._runner = runner
        # As many as the page may have are left to the others: to deliveries and venues.
        self._listener = Listener(runner.server, connections, descriptors - maximum)
        try:
            await self._listener.open(settings.host, settings.port)
        except BaseException:
            await self.stop()
            raise
        self._sweeping = asyncio.create_task(_sweep(connections), name="web-sweep")
        log.info("web_listening", url=self.url)

    def wake(self) -> None:
        """There are new figures: pages are told at once."""
        if self._events is not None:
            self._events.wake()

    async def stop(self) -> None:
        """Lets the pages go, then closes. May be called twice, and without a start."""
        if self._events is not None:
            self._events.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    @property
    def port(self) -> int:
        """The real one, once started."""
        real = None if self._listener is None else self._listener.port
        return self._settings.port if real is None else real

    @property
    def url(self) -> str:
        host = self._settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def _app(self, events: EventFeed, connections: Connections) -> web.Application:
        settings = self._settings
        token = TokenCheck(settings.token) if settings.token is not None else None
        app = web.Application(
            middlewares=[
                watched(connections),
                guard(HostCheck(settings.host, settings.host_names), token),
                few_at_once(connections, settings.body_timeout_s),
            ],
            client_max_size=BODY_BYTES_MAX,
        )
        app.on_response_prepare.append(secure)
        app.router.add_get(HEALTHY_PATH, self._healthy)
        app.router.add_get("/-/ready", self._ready)
        app.router.add_post("/-/reload", self._do_reload)
        app.router.add_get("/metrics", self._scrape)
        app.router.add_get("/api/v1/status", self._status)
        app.router.add_get("/api/v1/alerts", self._alerts)
        app.router.add_get(HISTORY_PATH, ChartPath(self._view, self._history).handle)
        app.router.add_get(EVENTS_PATH, events.handle)
        writable = token is not None or settings.host in LOOPBACK_NAMES
        DeskPaths(self._view, self._desk, writable=writable).add_to(app.router)
        folder = files("monitor.web") / "static"
        for name, content_type in STATIC.items():
            path = "/" if name == "index.html" else f"/static/{name}"
            app.router.add_get(path, _static((folder / name).read_bytes(), content_type))
        runbook = files("monitor.web") / "runbook"  # written by `python -m monitor.runbook`
        app.router.add_get("/runbook", _static((runbook / "index.html").read_bytes(), STATIC["index.html"]))
        app.router.add_get("/static/runbook.css", _static((runbook / "runbook.css").read_bytes(), STATIC["app.css"]))
        return app

    async def _healthy(self, request: web.Request) -> web.Response:
        """Whether a restart would help: what a container's supervisor may go by, as the watchdog of systemd."""
        hangs = self._hangs()
        if hangs:
            return json_answer({"healthy": False, "hangs": hangs}, status=503)
        return json_answer({"healthy": True})

    async def _ready(self, request: web.Request) -> web.Response:
        missing = self._view.missing()
        return json_answer({"ready": not missing, "missing": missing}, status=503 if missing else 200)

    async def _do_reload(self, request: web.Request) -> web.Response:
        if self._reload is None:
            return problem(403, "reloading over HTTP is off", "send the process a HUP, or set web.reload_enabled")
        errors = list(await self._reload())
        return json_answer({"reloaded": not errors, "errors": errors}, status=422 if errors else 200)

    async def _scrape(self, request: web.Request) -> web.Response:
        openmetrics = takes_openmetrics(request.headers.get(hdrs.ACCEPT, ""))
        body = await self._scrapes.text(openmetrics=openmetrics)
        return await packed(request, body, OPENMETRICS if openmetrics else TEXT_FORMAT)

    async def _status(self, request: web.Request) -> web.Response:
        if "pool" in request.query:
            return await self._pool(request, request.query["pool"])
        view = self._view
        if "rows" in request.query:
            try:
                pools, some = await self._window(Wanted.of(request.query))
            except ValueError:
                return problem(400, "not a window of the pools", "?rows=50&from=0&q=words")
        else:
            pools = PoolSnapshot(view)
            some = {
                "missing": orjson.dumps(view.missing()),
                "incidents": orjson.dumps(incident_rows(view.incidents())),
                "streams": json_array(await gathered(row_pieces(stream_rows, view.streams()), b",")),
                "pools": json_array(await gathered(pools.pieces(), b",")),
            }
        config_good, config_ms = view.config_reloaded()
        parts = {
            "version": orjson.dumps(self._settings.version),
            "now_ms": b"%d" % pools.now_ms,
            "ready": orjson.dumps(some["missing"] == b"[]"),
            "config": orjson.dumps({"good": config_good, "loaded_ms": config_ms}),
            "channels": orjson.dumps(channel_rows(view.channels())),
            **some,
        }
        return await packed(request, json_object(parts), JSON_UTF8)

    async def _window(self, wanted: Wanted) -> tuple[PoolSnapshot, dict[str, bytes]]:
        """The worst of the pools and of what is around them, as pages see them."""
        view = self._view
        pools = self._pools.snapshot()
        window = self._pools.window(pools, wanted)
        rows = await self._pools.rows(pools, window.places)
        around = {**missing_parts(view.missing()), **incident_parts(view), **stream_parts(view.streams())}
        return pools, {name: orjson.dumps(part) for name, part in {**around, **window.summary(), "pools": rows}.items()}

    async def _pool(self, request: web.Request, text: str) -> web.Response:
        key = pool_key(text)
        if key is None:
            return problem(400, "not a pool", "?pool=venue/account/pool")
        figures = self._view.pool(key)
        if figures is None:
            return problem(404, "there is no such pool", "/api/v1/status lists all of them")
        detail = pool_detail(figures, self._view.now_ms())
        detail["nearest"] = nearest_liquidation(figures)
        detail["levers"] = [structs.asdict(lever) for lever in self._view.levers(key)]
        detail["history"] = self._history is not None
        detail["limits"] = self._view.health_limits(key)
        return await packed(request, orjson.dumps(detail), JSON_UTF8)

    async def _alerts(self, request: web.Request) -> web.Response:
        view = self._view
        totals = [{"rule": rule, "level": level, "count": count} for (rule, level), count in view.alerts_total().items()]
        body = {"now_ms": view.now_ms(), "incidents": incident_rows(view.incidents()), "totals": totals}
        return await packed(request, orjson.dumps(body), JSON_UTF8)


async def _sweep(connections: Connections) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        connections.sweep()


def _static(content: bytes, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return await packed(request, content, content_type)

    return handle
