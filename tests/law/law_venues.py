"""The two simulated venues of the law, what is true there, and what can go wrong with each of them, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from monitor.sim.binance.account import SimAccount, SimPosition
from monitor.sim.binance.margin import figures as joint_figures
from monitor.sim.exchange import SimExchange
from monitor.sim.faults import RestFault
from monitor.sim.htx import faults as htx_faults
from monitor.sim.htx.account import SimHtxAccount, SimHtxPosition
from monitor.sim.htx.margin import figures as coin_figures
from monitor.sim.refused import RefusedError

Pool = tuple[str, str, str]  # venue, account, pool

START_MS = 1_772_589_600_000  # 2026-03-04 02:00 UTC: hours from any settlement, funding or delivery
FOR_EVER = 1 << 40
BINANCE, HTX = "binance_usdm", "htx_coin_futures"
CLIENTS = ("alpha", "beta")
COINS = ("BTC", "ETH")

_ACCOUNT_ANSWER = ("POST", "/api/v1/contract_account_position_info")

# Of every kind of pool, and near enough to trouble that a tenth of the price decides.
BINANCE_ACCOUNTS = (
    SimAccount(
        "alpha_usdm",
        wallets={"USDT": 9_000, "BTC": "0.05"},
        positions=(SimPosition("BTCUSDT", "0.6", leverage=20), SimPosition("ETHUSDT", "-6", leverage=20)),
    ),
    SimAccount(
        "beta_usdm",
        multi_assets=False,
        wallets={"USDT": 9_000},
        positions=(
            SimPosition("BTCUSDT", "0.5", leverage=20),
            SimPosition("SOLUSDT", "80", leverage=10, isolated_wallet=1_600),
        ),
    ),
)
HTX_ACCOUNTS = tuple(
    SimHtxAccount(
        f"{client}_coins",
        coins={"BTC": btc, "ETH": eth},
        leverages={"BTC": 20, "ETH": 10},
        positions=(
            SimHtxPosition("BTC_CQ", "buy", 1500),
            SimHtxPosition("ETH_CQ", "buy", 6000),
            SimHtxPosition("ETH_CW", "sell", 1500),
        ),
    )
    for client, btc, eth in (("alpha", "0.16", "1.7"), ("beta", "0.13", "2.1"))
)


class Venues:
    """The exchange on the loop's clock, and a switchboard of what is broken at it."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.exchange = SimExchange(
            start_ms=START_MS, noise=0.0, accounts=BINANCE_ACCOUNTS, htx_accounts=HTX_ACCOUNTS, clock_s=clock_s
        )
        self.refused: set[tuple[str, str]] = set()  # (account, coin) whose answers HTX refuses
        self.missing: set[tuple[str, str]] = set()  # … whose answers lack the coin
        self._guard_answers()

    def _guard_answers(self) -> None:
        endpoints = self.exchange.htx.rest.endpoints
        endpoint = endpoints[_ACCOUNT_ANSWER]

        def answer(call: Any) -> Any:
            what = (call.owner.name, str(call.parameters.get("symbol", "")).upper())
            if what in self.refused:
                raise RefusedError(1004, "System busy. Please try again later.")
            return [] if what in self.missing else endpoint.answer(call)

        endpoints[_ACCOUNT_ANSWER] = replace(endpoint, answer=answer)

    def healths(self) -> dict[Pool, float | None]:
        """The venues' own health of every pool now; None where nothing is at risk."""
        binance, htx = self.exchange.binance, self.exchange.htx
        found = {
            (BINANCE, account.name, pool.name): _ratio(pool.equity, pool.maintenance)
            for account in binance.accounts.values()
            for pool in joint_figures(account, binance.market).pools.values()
        }
        for owner in htx.accounts.values():
            for coin, purse in owner.purses.items():
                now = coin_figures(purse, htx.market.coins[coin])
                found[HTX, owner.name, coin] = _ratio(now.equity, now.adjust_factor * now.used_margin)
        return found

    def mend(self) -> None:
        """All is as it should be again."""
        self.refused.clear()
        self.missing.clear()
        self.exchange.fault("clear")
        self.exchange.htx_control.fault("clear")


def _ratio(equity: Decimal, requirement: Decimal) -> float | None:
    if requirement:
        return float(equity / requirement)
    return -1.0 if equity < 0 else None  # a debt without a position is beyond liquidation


# ---------------------------------------------------------------------- what breaks, until `mend`

Break = Callable[[Venues], object]


def _binance(kind: str, **options: Any) -> Break:
    return lambda venues: venues.exchange.fault(kind, **options)


def _htx(*topics: str) -> Break:
    return lambda venues: [venues.exchange.htx_control.fault("silence_topic", topic=topic) for topic in topics]


def _binance_down(path: str) -> Break:
    return lambda venues: venues.exchange.binance.faults.rest.append(RestFault(FOR_EVER, path=path, status=503))


def _binance_cut(venues: Venues) -> None:
    venues.exchange.fault("refuse_sockets", count=FOR_EVER)
    venues.exchange.fault("kill_sockets")


def _htx_cut(venues: Venues) -> None:
    venues.exchange.htx_control.fault("refuse_sockets", count=FOR_EVER)
    venues.exchange.htx_control.fault("kill_sockets")


def _htx_busy(venues: Venues) -> None:
    fault = htx_faults.RestFault(FOR_EVER, path="contract_account_position_info", code=1004)
    venues.exchange.htx.faults.rest.append(fault)


def _htx_cut_and_refused(account: str, coin: str) -> Break:
    def break_both(venues: Venues) -> None:
        _htx_cut(venues)
        venues.refused.add((account, coin))

    return break_both


_COINS_OF = tuple((f"{client}_coins", coin) for client in CLIENTS for coin in COINS)

FAULTS: dict[str, Break] = {
    "binance marks are silent": _binance("silence_stream", stream="!markPrice"),
    **{f"binance {symbol} is silent": _binance("silence_symbol", symbol=symbol) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")},
    "binance user streams are silent": _binance("silence_stream", stream="user"),
    "binance event times stand": _binance("freeze_event_time"),
    "binance takes no sockets": _binance_cut,
    "binance answers nothing": _binance_down("/fapi/"),
    "binance answers nothing on positions": _binance_down("positionRisk"),
    "htx market is silent": _htx("market"),
    **{f"htx {alias} is silent": _htx(f"market.{alias}") for alias in ("BTC_CQ", "ETH_CW")},
    "htx user streams are silent": _htx("accounts", "positions"),
    "htx positions are silent": _htx("positions"),
    "htx takes no sockets": _htx_cut,
    "htx answers on no account": _htx_busy,
    "htx maintenance": lambda venues: venues.exchange.htx_control.fault("maintenance"),
    **{f"htx refuses {coin} of {name}": lambda v, it=(name, coin): v.refused.add(it) for name, coin in _COINS_OF},
    **{f"htx leaves out {coin} of {name}": lambda v, it=(name, coin): v.missing.add(it) for name, coin in _COINS_OF},
    **{f"htx takes no sockets and refuses {coin} of {name}": _htx_cut_and_refused(name, coin) for name, coin in _COINS_OF},
}
