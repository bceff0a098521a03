"""The simulated exchange: one world, one clock, a loopback server for each venue, and a control API on the first one's.

Python methods and control calls are the same thing: POST /sim/<name> with a JSON object of the method's arguments calls
the method; GET /sim/ledger and GET /sim/state read. `account` is the name of a SimAccount ("": the first one); amounts may be
numbers or strings.

    step        {"ticks": 1}                                    simulated seconds, one after the other
    clock       {"advance_ms"} or {"set_ms"}; {"frozen"}        without ticks; what is due by the clock happens
    price       {"symbol", "price"}                             this mark from now on; the walk goes on from it
    rate        {"asset", "index"}                              the same for an asset index
    order       {"account", "symbol", "side", "quantity", "position_side", "price"}   fills at the mark; rests with a price
    cancel      {"account", "order_id"}
    transfer    {"account", "asset", "amount"}                  into (> 0) or out of the futures wallet
    margin      {"account", "symbol", "amount", "position_side"}  into (> 0) or out of an isolated position
    funding     {"account", "symbol", "rate"}                   pay now
    leverage    {"account", "symbol", "leverage"}
    mode        {"account", "multi_assets", "hedge"}
    margin_type {"account", "symbol", "isolated"}
    brackets    {"symbol", "rows": [[cap, rate, max leverage], …]}  new tiers, told by !contractInfo
    status      {"symbol", "status"}                            TRADING, SETTLING, …
    fault       {"kind", …}                                     see binance/fault_orders.py
    htx_…       the same for HTX, which has its own port: see htx/control.py; in Python `exchange.htx_control`

Figures of GET /sim/ledger are plain decimal strings at full precision.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from aiohttp import web

from monitor.sim.binance.account import Account, SimAccount
from monitor.sim.binance.fault_orders import order_fault
from monitor.sim.binance.market import bracket_table
from monitor.sim.binance.venue import BinanceUsdm
from monitor.sim.clock import SimClock
from monitor.sim.control import control_routes
from monitor.sim.htx.account import SimHtxAccount
from monitor.sim.htx.control import HtxControl
from monitor.sim.htx.venue import HtxCoinFutures
from monitor.sim.numbers import Number, number
from monitor.sim.scenarios import scenario_named
from monitor.sim.world import World

TICK_MS = 1000


class SimExchange:
    """A seeded exchange on loopback. The same seed, start and calls give the same figures.

    tick_seconds: real seconds per simulated second. With anything but 1.0 the clock leaves real time behind: give the client
    `now_ms` as its clock, or set `check_timestamps` false. frozen: no time passes but by `step` and `clock`.
    accounts: None for the default one, else at least one; the first is that of `first_line`.
    htx_accounts: the same for HTX; empty: HTX is not served.
    symbols: pad the universe to at least so many contracts. noise: 0 for prices that move by scenario and by hand alone.
    clock_s: monotonic, what the simulated clock runs by.
    """

    def __init__(
        self,
        scenario: str = "calm",
        seed: int = 7,
        *,
        accounts: Sequence[SimAccount] | None = None,
        symbols: int = 0,
        tick_seconds: float = 1.0,
        frozen: bool = False,
        start_ms: int | None = None,
        weight_limit: int = 2400,
        check_timestamps: bool = True,
        noise: float = 1.0,
        htx_accounts: Sequence[SimHtxAccount] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if accounts is not None and not accounts:
            raise ValueError("an exchange without accounts")
        self._tick_seconds = tick_seconds
        self._clock = SimClock(start_ms, 1.0 / tick_seconds, frozen, clock_s)
        self.world = World(seed, scenario_named(scenario), noise)
        self.binance = BinanceUsdm(self.world, self._clock, seed, symbols, accounts, weight_limit, check_timestamps)
        self._htx: HtxCoinFutures | None = None
        if htx_accounts is None or htx_accounts:
            self._htx = HtxCoinFutures(self.world, self._clock, seed, htx_accounts, check_timestamps)
        self._runner: web.AppRunner | None = None
        self._ticking: asyncio.Task[None] | None = None
        self.host, self.port = "127.0.0.1", 0

    # ------------------------------------------------------------------ life

    async def start(self, host: str = "127.0.0.1", port: int = 0, htx_port: int = 0) -> None:
        app = web.Application(client_max_size=1 << 20)
        app.add_routes([*self.binance.routes(), *control_routes(self)])
        self._runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.host, self.port = host, self._runner.addresses[0][1]
        if self._htx is not None:
            await self._htx.start(host, htx_port)
        self._ticking = asyncio.get_running_loop().create_task(self._tick_on(), name="sim-ticks")

    async def stop(self) -> None:
        """Cuts every socket. Raises what ended the ticking, if that was a bug and not this call."""
        ticking, self._ticking = self._ticking, None
        runner, self._runner = self._runner, None
        if runner is not None:
            self.binance.hub.kill()
            await runner.cleanup()
        if self._htx is not None:
            await self._htx.stop()
        if ticking is not None:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    async def run(self) -> None:
        """Run until cancelled."""
        if self._ticking is None:
            raise RuntimeError("start() first")
        await self._ticking

    async def __aenter__(self) -> "SimExchange":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _tick_on(self) -> None:
        """One tick per tick_seconds of real time, by the loop's clock so that delays do not add up."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._tick_seconds
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due = max(due + self._tick_seconds, loop.time())  # after a stall the missed ticks are not made up for
            if not self._clock.frozen:
                self._tick()

    def _tick(self) -> None:
        factors = self.world.tick()
        self.binance.tick(factors)
        if self._htx is not None:
            self._htx.tick(factors)

    # ------------------------------------------------------------------ reading

    def now_ms(self) -> int:
        """The simulated clock: hand it to a client that must agree with the exchange on the time."""
        return self._clock.now_ms()

    @property
    def has_htx(self) -> bool:
        return self._htx is not None

    @property
    def htx(self) -> HtxCoinFutures:
        """Raises RuntimeError if HTX is not served."""
        if self._htx is None:
            raise RuntimeError("HTX is not served: no htx_accounts")
        return self._htx

    @property
    def htx_control(self) -> HtxControl:
        """What POST /sim/htx_… does, as methods. Raises RuntimeError if HTX is not served."""
        return HtxControl(self.htx, self._clock)

    def first_line(self) -> dict[str, Any]:
        """How to connect: printed first by `serve`. The keys are those of the first accounts."""
        venues = {self.binance.name: self.binance.connection(f"{self.host}:{self.port}")}
        if self._htx is not None:
            venues[self._htx.name] = self._htx.connection()
        return {"venues": venues}

    def account(self, name: str = "") -> Account:
        """Raises KeyError with the known names."""
        accounts = self.binance.accounts
        if not name and accounts:
            return next(iter(accounts.values()))
        if name not in accounts:
            raise KeyError(f"no account {name!r}; known: {', '.join(accounts)}")
        return accounts[name]

    def ledger(self) -> dict[str, Any]:
        venues = {self.binance.name: self.binance.ledger()}
        if self._htx is not None:
            venues[self._htx.name] = self._htx.ledger()
        return {**self.state(), "venues": venues}

    def state(self) -> dict[str, Any]:
        return {
            "time_ms": self.now_ms(),
            "tick": self.world.ticks,
            "scenario": self.world.scenario.name,
            "frozen": self._clock.frozen,
            "sockets": len(self.binance.hub.connections),
            "htx_sockets": 0 if self._htx is None else len(self._htx.hub.connections),
        }

    # ------------------------------------------------------------------ control

    async def step(self, ticks: int = 1) -> dict[str, Any]:
        """Let simulated seconds pass now; returns when their frames are on the wire."""
        for _ in range(ticks):
            self._clock.advance(TICK_MS)
            self._tick()
            await self.binance.hub.drain()
            if self._htx is not None:
                await self._htx.hub.drain()
        return self.state()

    def clock(self, advance_ms: int = 0, set_ms: int | None = None, frozen: bool | None = None) -> dict[str, Any]:
        """Move the clock without ticks. A jump of minutes brings a ping: give the client the chance to answer before the next."""
        if frozen is not None:
            self._clock.freeze(frozen)
        if set_ms is not None:
            self._clock.set_ms(set_ms)
        if advance_ms:
            self._clock.advance(advance_ms)
        self.binance.settle()
        if self._htx is not None:
            self._htx.settle()
        return self.state()

    def price(self, symbol: str, price: Number) -> None:
        contract = self.binance.desk.contract(symbol)
        contract.mark = _positive(price)
        self._repriced()

    def rate(self, asset: str, index: Number) -> None:
        self.binance.market.assets[asset].index = _positive(index)
        self._repriced()

    def _repriced(self) -> None:
        if self._clock.frozen:
            self._clock.advance(1)  # two different frames never carry one event time
        self.binance.settle()
        self.binance.publish()

    def order(
        self,
        symbol: str,
        side: str,
        quantity: Number,
        position_side: str = "BOTH",
        price: Number | None = None,
        account: str = "",
    ) -> int:
        """Returns the order id. Raises RefusedError with the exchange's code."""
        limit = None if price is None else _positive(price)
        order_id = self.binance.desk.order(self.account(account), symbol, side, number(quantity), position_side, limit)
        self.binance.settle()
        return order_id

    def cancel(self, order_id: int, account: str = "") -> None:
        self.binance.desk.cancel(self.account(account), order_id)

    def transfer(self, asset: str, amount: Number, account: str = "") -> None:
        self.binance.desk.transfer(self.account(account), asset, number(amount))
        self.binance.settle()

    def margin(self, symbol: str, amount: Number, position_side: str = "BOTH", account: str = "") -> None:
        self.binance.desk.move_margin(self.account(account), symbol, position_side, number(amount))
        self.binance.settle()

    def funding(self, symbol: str | None = None, rate: Number | None = None, account: str = "") -> None:
        self.binance.desk.pay_funding(self.account(account), symbol, None if rate is None else number(rate))
        self.binance.settle()

    def leverage(self, symbol: str, leverage: int, account: str = "") -> None:
        self.binance.desk.set_leverage(self.account(account), symbol, leverage)

    def mode(self, multi_assets: bool | None = None, hedge: bool | None = None, account: str = "") -> None:
        if multi_assets is not None:
            self.binance.desk.set_asset_mode(self.account(account), multi_assets)
        if hedge is not None:
            self.binance.desk.set_position_mode(self.account(account), hedge)
        self.binance.settle()

    def margin_type(self, symbol: str, isolated: bool, account: str = "") -> None:
        self.binance.desk.set_margin_type(self.account(account), symbol, isolated)

    def brackets(self, symbol: str, rows: Sequence[tuple[Number, Number, int]]) -> None:
        contract = self.binance.desk.contract(symbol)
        contract.brackets = bracket_table((number(cap), number(rate), leverage) for cap, rate, leverage in rows)
        self.binance.announce_contract(contract)
        self.binance.settle()

    def status(self, symbol: str, status: str) -> None:
        contract = self.binance.desk.contract(symbol)
        contract.status = status
        self.binance.announce_contract(contract)

    def fault(self, kind: str, **options: Any) -> dict[str, Any]:
        return order_fault(self.binance, self.now_ms(), kind, options)


def _positive(value: Number) -> Decimal:
    amount = number(value).quantize(Decimal("0.00000001"))
    if not amount > 0:
        raise ValueError(f"not a price: {value}")
    return amount


async def serve(
    port: int = 0,
    scenario: str = "calm",
    seed: int = 7,
    seconds: float | None = None,
    *,
    host: str = "127.0.0.1",
    symbols: int = 0,
    tick_seconds: float = 1.0,
    htx_port: int = 0,
) -> None:
    """Print the first line as one JSON line, then run until cancelled or `seconds` have passed."""
    exchange = SimExchange(scenario, seed, symbols=symbols, tick_seconds=tick_seconds)
    await exchange.start(host, port, htx_port)
    try:
        sys.stdout.write(json.dumps(exchange.first_line()) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await exchange.run()
    finally:
        await exchange.stop()
