"""The job at work without keys or network: a simulated exchange, the monitor, and a receiver in place of Slack and Telegram."""

import asyncio
import contextlib
import html
import re
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from monitor.app import Monitor
from monitor.config import Config, load
from monitor.model.alerts import Level
from monitor.model.figures import PoolFigures
from monitor.sim.exchange import SimExchange
from monitor.terminal import STYLES, amount, number

REFRESH_S = 0.5
LINE_S = 5.0  # without a terminal: one line of figures so often


class Receiver:
    """Stands for Slack and Telegram: takes what they would get and keeps the last texts."""

    def __init__(self) -> None:
        self.texts: deque[tuple[str, str]] = deque(maxlen=50)
        self.received = 0
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/slack", self._slack)
        app.router.add_post("/bot{token}/sendMessage", self._telegram)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _slack(self, request: web.Request) -> web.Response:
        self._take("Slack", (await request.json())["text"])
        return web.Response(text="ok")

    async def _telegram(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._take("Telegram", html.unescape(re.sub(r"</?\w+[^>]*>", "", body["text"])))
        return web.json_response({"ok": True, "result": {"message_id": self.received}})

    def _take(self, service: str, text: str) -> None:
        self.received += 1
        self.texts.append((service, text))


async def demo(scenario: str, seconds: float | None, *, listen: str = "127.0.0.1:9877", console: Console | None = None) -> None:
    """Until Ctrl-C or the end of `seconds`. Raises ValueError for an unknown scenario, OSError if the address is taken."""
    console = console or Console()
    exchange, receiver = SimExchange(scenario, seed=7), Receiver()
    async with contextlib.AsyncExitStack() as stack:
        await exchange.start()
        stack.push_async_callback(exchange.stop)
        await receiver.start()
        stack.push_async_callback(receiver.stop)
        monitor = Monitor(_config(exchange, receiver, listen))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, monitor.end)
        running = asyncio.create_task(monitor.run())
        showing = asyncio.create_task(_show(monitor, exchange, receiver, console))
        ending = loop.call_later(seconds, monitor.end) if seconds is not None else None
        try:
            await running
        finally:
            if ending is not None:
                ending.cancel()
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
    console.print(f"{receiver.received} messages were delivered; the demo left nothing behind.")


def _config(exchange: SimExchange, receiver: Receiver, listen: str) -> Config:
    """config/demo.yaml with the addresses of the moment; the key goes by the environment, as a real one may."""
    venues = exchange.first_line()["venues"]
    over: dict[str, Any] = {
        "web": {"listen": listen},
        "venues": {name: {"rest": it["rest"], "spot": it["rest"], "streams": it["streams"]} for name, it in venues.items()},
        "alerts": {
            "page_url": f"http://{listen}/",
            "channels": [
                {"kind": "slack", "name": "slack", "webhook_url": {"env": "DEMO_SLACK"}, "allow_insecure": True},
                {
                    "kind": "telegram",
                    "name": "telegram",
                    "bot_token": {"env": "DEMO_TELEGRAM"},
                    "chat_id": "1",
                    "base_url": receiver.url,
                    "allow_insecure": True,
                },
            ],
        },
    }
    environ = {
        "MARGIN_MONITOR_BINANCE_API_KEY": venues["binance_usdm"]["api_key"],
        "MARGIN_MONITOR_BINANCE_API_SECRET": venues["binance_usdm"]["api_secret"],
        "MARGIN_MONITOR_HTX_API_KEY": venues["htx_coin_futures"]["api_key"],
        "MARGIN_MONITOR_HTX_API_SECRET": venues["htx_coin_futures"]["api_secret"],
        "DEMO_SLACK": f"{receiver.url}/slack",
        "DEMO_TELEGRAM": "1234567890:demo-demo-demo-demo-demo-demo-demo-de",
    }
    return load(_file(), environ, over=over)


def _file() -> Path:
    """demo.yaml: beside this module in an installed package, in config/ of a checkout."""
    here = Path(__file__)
    places = (here.with_name("demo.yaml"), here.parent.parent / "config" / "demo.yaml")
    return next((place for place in places if place.is_file()), places[-1])


async def _show(monitor: Monitor, exchange: SimExchange, receiver: Receiver, console: Console) -> None:
    await monitor.started.wait()
    rests = ", ".join(venue["rest"] for venue in exchange.first_line()["venues"].values())
    console.print(f"Page: {monitor.server.url}   simulated exchanges: {rests}")
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            while True:
                live.update(_screen(monitor, receiver))
                await asyncio.sleep(REFRESH_S)
    shown = 0
    while True:
        for pool in _pools(monitor):
            console.print(_line(pool), markup=False, highlight=False, soft_wrap=True)
        fresh = receiver.received - shown
        for service, text in list(receiver.texts)[-fresh:] if fresh else []:
            console.print(f"→ {service}: {text.splitlines()[0]}", markup=False, highlight=False, soft_wrap=True)
        shown = receiver.received
        await asyncio.sleep(LINE_S)


def _pools(monitor: Monitor) -> Iterator[PoolFigures]:
    for key in monitor.readout.pools().keys:
        pool = monitor.readout.pool(key)
        if pool is not None:
            yield pool


def _line(pool: PoolFigures) -> str:
    level = Level(pool.level).word.upper()
    return (
        f"{level:<11} {pool.key.account} {pool.key.pool}  health {number(pool.health, '.3f')}  "
        f"margin ratio {number(pool.margin_ratio, '.1%')}  equity {amount(pool.equity)} {pool.unit}  "
        f"maintenance margin {amount(pool.requirement)}"
    )


def _screen(monitor: Monitor, receiver: Receiver) -> Group:
    pools = Table(title="margin-monitor demo", title_justify="left", expand=True, box=None)
    for heading in ("level", "pool", "health ↓", "ratio ↑", "equity", "maintenance margin"):
        pools.add_column(heading, justify="left" if heading in ("level", "pool") else "right", no_wrap=True)
    positions = Table(expand=True, box=None)
    for heading in ("position", "quantity", "price", "PnL", "liquidation", "distance"):
        positions.add_column(heading, justify="left" if heading == "position" else "right", no_wrap=True)
    for pool in _pools(monitor):
        level = Level(pool.level)
        pools.add_row(
            Text(level.word.upper(), STYLES[level]),
            f"{pool.key.account} {pool.key.pool}",
            Text(number(pool.health, ".3f"), STYLES[level]),
            number(pool.margin_ratio, ".1%"),
            f"{amount(pool.equity)} {pool.unit}",
            amount(pool.requirement),
        )
        for position in pool.positions:
            price, liquidation = position.price, position.liquidation_price
            distance = liquidation / price - 1 if price and liquidation else None
            positions.add_row(
                position.symbol,
                f"{position.quantity:,.6g}",
                number(price, ",.6g"),
                amount(position.unrealized_pnl),
                number(liquidation, ",.6g"),
                number(distance, "+.1%"),
            )
    last = [text for service, text in receiver.texts if service == "Slack"][-1:]  # Telegram has got the same
    messages = [Panel(escape(text.strip()), title="last delivered to Slack and Telegram", title_align="left") for text in last]
    waiting = monitor.readout.missing()
    state = "ready" if not waiting else "not ready: " + "; ".join(waiting[:3])
    footer = Text(f"{state}   {receiver.received} messages delivered   page {monitor.server.url}   Ctrl-C ends", "dim")
    return Group(pools, *messages, positions, footer)  # a small terminal cuts the end, not what to do
