"""HTX coin-margined delivery futures as a whole, on the simulator's one world and one clock; a server of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from monitor.sim.clock import SimClock
from monitor.sim.htx import market_frames
from monitor.sim.htx.account import Account, SimHtxAccount, default_account, open_account
from monitor.sim.htx.desk import Desk
from monitor.sim.htx.dialects import Dialect, MarketDialect, OpDialect
from monitor.sim.htx.faults import Faults
from monitor.sim.htx.ledger import ledger
from monitor.sim.htx.market import build_market
from monitor.sim.htx.pushes import Pushes
from monitor.sim.htx.rest import Rest
from monitor.sim.htx.risk import RiskEngine
from monitor.sim.htx.settlement import Settlements
from monitor.sim.htx.sockets import CENTER, INDEX, MARKET, NOTIFICATION, Hub, Message
from monitor.sim.htx.topics import Topic, parse_topic
from monitor.sim.refused import RefusedError
from monitor.sim.world import World


class HtxCoinFutures:
    """One simulated venue. Everything but `start` and `stop` is synchronous: a change happens and its frames are queued."""

    name = "htx_coin_futures"

    def __init__(
        self,
        world: World,
        clock: SimClock,
        seed: int,
        accounts: Iterable[SimHtxAccount] | None = None,
        check_timestamps: bool = True,
    ) -> None:
        now_ms = self.now_ms = clock.now_ms
        self._world = world
        self.faults = Faults()
        self.market = build_market(seed, now_ms())
        start = [default_account(self.market)] if accounts is None else list(accounts)
        self.accounts = {account.name: open_account(account, self.market, seed) for account in start}
        by_key = {account.api_key: account for account in self.accounts.values()}
        self.hub = Hub(now_ms, self.faults)
        self.pushes = Pushes(self.hub, self.market, self.accounts.values(), self.faults, now_ms)
        self.desk = Desk(self.market, now_ms, self.pushes.change)
        self.risk = RiskEngine(self.desk, self.pushes.liquidation)
        self.settlements = Settlements(self.market, self.accounts.values(), self.pushes.change, self.pushes.contracts)
        self.rest = Rest(self.market, by_key, self.faults, now_ms, check_timestamps)
        market_dialect = MarketDialect(self.hub, self.market, self.faults, now_ms)
        op_dialect = OpDialect(self.hub, self.market, self.faults, by_key, self.pushes.greet, now_ms, check_timestamps)
        self._dialects: dict[str, Dialect] = {
            MARKET: market_dialect,
            INDEX: market_dialect,
            NOTIFICATION: op_dialect,
            CENTER: op_dialect,
        }
        self._runner: web.AppRunner | None = None
        self.host, self.port = "127.0.0.1", 0

    # ------------------------------------------------------------------ life

    async def start(self, host: str, port: int) -> None:
        app = web.Application(client_max_size=1 << 20)
        app.add_routes([web.get(path, self._socket) for path in self._dialects])
        app.add_routes(self.rest.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.host, self.port = host, self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Cuts every socket."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self.hub.kill()
            await runner.cleanup()

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        return await self.hub.handle(request, self._dialects[request.path])

    # ------------------------------------------------------------------ time

    def tick(self, factors: Mapping[str, float]) -> None:
        """One simulated second: prices move, what follows from them happens, frames go out."""
        self.market.follow(factors, self._world.noise, self.now_ms())
        self.settle()
        self.publish()

    def settle(self) -> None:
        """What the clock or a changed price or account brings about: settlements, fills, liquidations, snapshots, pings."""
        self.settlements.run_due(self.now_ms())
        for account in self.accounts.values():
            for coin in self.market.coins.values():
                self.desk.fill_reached(account, coin)
                self.risk.check(account, coin)
        self.pushes.snapshots_due()
        self.hub.keep_house(self._dialects)

    def publish(self) -> None:
        """Last trades to all who read them; index and mark prices where they changed or a new minute began."""
        now = self.faults.event_time_ms(self.now_ms())
        news = self.market.record_candles(now)
        for path in (MARKET, INDEX):
            for name in self.hub.topics(path):
                topic = parse_topic(name, path)
                if topic is not None and self._speaks(topic, news):
                    self.hub.publish(Message(path, name, market_frames.frame(topic, self.market, now)))

    def _speaks(self, topic: Topic, news: set[str]) -> bool:
        """A delivered contract falls silent for good; its alias goes on with the next."""
        if topic.kind == "index":
            return topic.symbol.removesuffix("-USD") in news
        try:
            _, contract = self.market.find(topic.symbol)
        except RefusedError:
            return False
        return contract.code in news if topic.kind == "mark_price" else contract.trades_now

    # ------------------------------------------------------------------ outside

    def account(self, name: str = "") -> Account:
        """The first one without a name. Raises KeyError with the known names."""
        if not name:
            return next(iter(self.accounts.values()))
        if name not in self.accounts:
            raise KeyError(f"no account {name!r}; known: {', '.join(self.accounts)}")
        return self.accounts[name]

    def ledger(self) -> dict[str, Any]:
        return ledger(self.market, self.accounts.values())

    def connection(self) -> dict[str, str]:
        """What a client needs. The key is that of the first account; the spot host's two calls live at the same address."""
        account = self.account()
        base = f"{self.host}:{self.port}"
        return {
            "rest": f"http://{base}",
            "streams": f"ws://{base}",
            "api_key": account.api_key,
            "api_secret": account.api_secret,
        }
