"""A real daemon with few descriptors, an account that can be plunged, and what a hostile client of the page does to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import yaml
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from prometheus_client.parser import text_string_to_metric_families

from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.exchange import SimExchange

ACCOUNT = SimAccount("main", wallets={"USDT": 50_000}, positions=[SimPosition("BTCUSDT", "4")])
RULES: dict[str, Any] = {"health": {"critical": 1.4}}  # met before the venue's own margin call, which is at 1.25
AT_ONCE = 64
ROOMY = 4096  # descriptors of the test itself, where it may have so many


@contextlib.contextmanager
def many_descriptors() -> Any:
    """For the hostile side: the limit that is under test is the daemon's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(ROOMY, hard)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Hook:
    """A webhook that notes when each alert on health came."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[tuple[float, str]] = asyncio.Queue()

    async def take(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            if alert["rule"] == "health":
                self.came.put_nowait((time.monotonic(), alert["level"]))
        return web.Response(text="ok")


class Flooded:
    """The daemon in its own process. `crossing_s` measures what counts."""

    def __init__(self, exchange: SimExchange, hook: Hook, log: Path, port: int) -> None:
        self._exchange = exchange
        self._hook = hook
        self.log = log
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.process: asyncio.subprocess.Process
        self._reading: list[asyncio.Task[None]] = []

    async def stop(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def get(self, path: str, seconds: float = 5.0) -> tuple[int, str]:
        """As the owner asks: with a connection of his own."""
        async with ClientSession(timeout=ClientTimeout(total=seconds)) as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while True:
                assert self.process.returncode is None, self.log.read_text()
                with contextlib.suppress(ClientError, OSError):
                    if (await self.get("-/ready"))[0] == 200:
                        return
                await asyncio.sleep(0.05)

    async def crossing_s(self, limit_s: float = 30.0) -> float:
        """From the account's fall to critical until the webhook has it; then it is brought back, and that is waited for too."""
        totals = self._exchange.ledger()["venues"]["binance_usdm"]["accounts"]["main"]["totals"]
        missing = round(1.3 * float(totals["maintenance_margin"]) - float(totals["equity"]), 6)
        began = time.monotonic()
        self._exchange.transfer("USDT", str(missing))
        at = await self._came("critical", limit_s)
        self._exchange.transfer("USDT", str(-missing))
        await self._came("ok", limit_s)
        return at - began

    async def _came(self, level: str, limit_s: float) -> float:
        async with asyncio.timeout(limit_s):
            while True:
                at, came = await self._hook.came.get()
                if came == level:
                    return at

    async def metric(self, name: str) -> float:
        for family in text_string_to_metric_families((await self.get("metrics"))[1]):
            for sample in family.samples:
                if sample.name == name:
                    return float(sample.value)
        raise AssertionError(f"no sample of {name}")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def descriptors_max(self) -> int:
        limits = Path(f"/proc/{self.process.pid}/limits").read_text().splitlines()
        return next(int(line.split()[3]) for line in limits if line.startswith("Max open files"))

    def settled(self) -> bool:
        """Nobody waits to be accepted, or nobody can be."""
        listening = f"0100007F:{self.port:04X} 00000000:0000 0A "
        rows = [line.partition(listening)[2] for line in Path("/proc/net/tcp").read_text().splitlines() if listening in line]
        waiting = [int(row.split()[0].rpartition(":")[2], 16) for row in rows]
        return waiting == [0] or self.descriptors() >= self.descriptors_max() - 1

    async def connect(self, number: int, request: bytes = b"", *, reads: bool = False) -> list[socket.socket]:
        """So many connections; not all at once, for the system drops what the queue of the listening socket does not hold.

        request: written on each. reads: what is answered is taken, as fast as it comes.
        """
        sockets: list[socket.socket] = []
        while len(sockets) < number:
            some = await _connected(self.port, min(AT_ONCE, number - len(sockets)))
            await self.until(self.settled, "the daemon has what it takes")
            for sock in some:
                with contextlib.suppress(OSError):
                    sock.send(request)
            sockets += some
        if reads:
            self._reading += [asyncio.create_task(_read(sock)) for sock in sockets]
        return sockets

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  what is waited for is in another process
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def flooded(folder: Path, descriptors: int, *, hard: int = 0, **over: Any) -> AsyncIterator[Flooded]:
    """The daemon, ready, under `ulimit -n descriptors`. hard: by default the same."""
    hook = Hook()
    app = web.Application()
    app.router.add_post("/hook", hook.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    async with SimExchange("calm", 7, accounts=[ACCOUNT], htx_accounts=[], noise=0.0) as exchange:
        venue = exchange.first_line()["venues"]["binance_usdm"]
        config = {
            "accounts": [{"name": "main", "venue": "binance_usdm", "api_key": {"env": "KEY"}, "api_secret": {"env": "SECRET"}}],
            "venues": {"binance_usdm": {"rest": venue["rest"], "spot": venue["rest"], "streams": venue["streams"]}},
            "web": {"listen": f"127.0.0.1:{port}"},
            "store": {"path": str(folder / "store.sqlite3")},
            "log": {"format": "json"},
            "rules": RULES,
            "alerts": {"channels": [{"kind": "webhook", "name": "hook", "url": {"env": "HOOK"}, "allow_insecure": True}]},
        } | over
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "config.yaml").chmod(0o600)
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        environ = {"KEY": venue["api_key"], "SECRET": venue["api_secret"], "HOOK": address}
        limited = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {hard or descriptors})); "
        one = Flooded(exchange, hook, folder / "log", port)
        with one.log.open("wb") as log:
            one.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", f"{limited}from monitor.cli import main; main()", "run", str(folder / "config.yaml")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environ},
            )
        try:
            await one.ready()
            yield one
        finally:
            await one.stop()
            await runner.cleanup()


async def _connected(port: int, number: int) -> list[socket.socket]:
    """So many connections at once, each made, refused or given up after some seconds."""
    loop = asyncio.get_running_loop()
    sockets = [socket.socket() for _ in range(number)]

    async def connect(sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(4.0):
                await loop.sock_connect(sock, ("127.0.0.1", port))

    await asyncio.gather(*map(connect, sockets))
    return sockets


async def _read(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(sock, 1 << 20):
            pass
