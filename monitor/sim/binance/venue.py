"""Binance USDⓈ-M as a whole: market, accounts, risk, REST and streams on the simulator's one world and one clock."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from aiohttp import web

from monitor.sim.binance import market_frames, user_events
from monitor.sim.binance.account import Account, SimAccount, default_account, open_account
from monitor.sim.binance.auth import WeightLimiter
from monitor.sim.binance.desk import Desk
from monitor.sim.binance.ledger import ledger
from monitor.sim.binance.listen_keys import ListenKeys
from monitor.sim.binance.market import Contract, build_market
from monitor.sim.binance.rest import Rest
from monitor.sim.binance.risk import RiskEngine
from monitor.sim.binance.streams import FAMILIES, Hub, streams_of_target
from monitor.sim.clock import SimClock
from monitor.sim.faults import Faults
from monitor.sim.world import World


class BinanceUsdm:
    """One simulated venue. Everything but `routes` is synchronous: a change happens and its frames are queued."""

    name = "binance_usdm"

    def __init__(
        self,
        world: World,
        clock: SimClock,
        seed: int,
        symbols: int = 0,
        accounts: Iterable[SimAccount] | None = None,
        weight_limit: int = 2400,
        check_timestamps: bool = True,
    ) -> None:
        now_ms = clock.now_ms
        self._world = world
        self._clock = clock
        self.faults = Faults()
        self.market = build_market(seed, world.scenario, symbols, now_ms())
        for contract in self.market.contracts.values():
            if contract.base.startswith("PAD"):
                world.add_coin(contract.base, 1.3)
        start = [default_account(self.market)] if accounts is None else list(accounts)
        self.accounts = {a.name: open_account(a, self.market, seed, now_ms()) for a in start}
        self.hub = Hub(now_ms, self.faults)
        self.listen_keys = ListenKeys(self.hub, now_ms, seed)
        self.desk = Desk(self.market, now_ms, self._emit)
        self.risk = RiskEngine(self.desk, self._emit, self._announce)
        self.rest = Rest(
            self.market,
            {account.api_key: account for account in self.accounts.values()},
            self.listen_keys,
            WeightLimiter(now_ms, weight_limit),
            self.faults,
            now_ms,
            check_timestamps,
        )
        self._next_funding_ms = self.market.next_funding_ms(now_ms())

    # ------------------------------------------------------------------ time

    def tick(self, factors: Mapping[str, float]) -> None:
        """One simulated second: prices move, what follows from them happens, frames go out."""
        self.market.follow(factors, self._world.noise)
        self.settle()
        self.publish()

    def publish(self) -> None:
        market_frames.publish_second(self.hub, self.market, self.faults, self._clock.now_ms(), self._world.ticks)

    def settle(self) -> None:
        """What the clock or a changed price or account brings about: funding, fills, liquidations, expiries, pings."""
        now = self._clock.now_ms()
        funding_due = now >= self._next_funding_ms
        if funding_due:
            self._next_funding_ms = self.market.next_funding_ms(now)
        for account in self.accounts.values():
            if funding_due:
                self.desk.pay_funding(account)
            self.desk.fill_reached(account)
            self.risk.check(account)
        self.listen_keys.expire_due()
        self.hub.keep_house()

    # ------------------------------------------------------------------ events

    def _emit(self, account: Account, event: user_events.Event) -> None:
        for name, out in self.faults.pass_user_event(account.name, event):
            self.send_user_event(name, out)

    def send_user_event(self, account_name: str, event: user_events.Event) -> None:
        listen_key = self.listen_keys.of(self.accounts[account_name])
        if listen_key is not None:
            self.hub.publish("private", listen_key, event, event["e"])

    def _announce(self, contract: Contract, side: str, quantity: Decimal) -> None:
        event = user_events.force_order(self._clock.now_ms(), contract, side, quantity)
        for stream in ("!forceOrder@arr", f"{contract.symbol.lower()}@forceOrder"):
            self.hub.publish("market", stream, event)

    def announce_contract(self, contract: Contract) -> None:
        event = market_frames.contract_info(contract, self._clock.now_ms())
        self.hub.publish("market", "!contractInfo", event)
        self.hub.publish("market", f"{contract.symbol.lower()}@contractInfo", event)

    # ------------------------------------------------------------------ outside

    def ledger(self) -> dict[str, Any]:
        return ledger(self.market, self.accounts.values())

    def connection(self, base: str) -> dict[str, str]:
        """What a client needs: `base` is host:port. The key is that of the first account."""
        account = next(iter(self.accounts.values()))
        return {
            "rest": f"http://{base}",
            "streams": f"ws://{base}",
            "api_key": account.api_key,
            "api_secret": account.api_secret,
        }

    def routes(self) -> list[web.RouteDef]:
        routes = [web.route("*", "/fapi/{path:.*}", self.rest.handle), web.route("*", "/sapi/{path:.*}", self.rest.handle)]
        for family in ("", *FAMILIES):  # "": the old un-routed addresses, accepted and silent
            for kind in ("ws", "stream"):
                base = f"/{family}/{kind}" if family else f"/{kind}"
                routes += [web.get(base, self._socket), web.get(base + "/{stream:.*}", self._socket)]
        return routes

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        parts = request.path.split("/")
        family = parts[1] if parts[1] in FAMILIES else ""
        streams = streams_of_target(family, request.match_info.get("stream", ""), request.query.items())
        combined = parts[2 if family else 1] == "stream"
        return await self.hub.handle(request, family, combined, streams)
