"""A law over all of it: a pool that is truly critical for a minute is notified, or notified as UNKNOWN, whatever breaks."""

from __future__ import annotations

import contextlib
import logging

import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from law_mailbox import BEHAVIOURS, OK
from law_scene import Scene
from law_venues import BINANCE_ACCOUNTS, FAULTS, HTX_ACCOUNTS

from monitor.sim.refused import RefusedError

SHARDS, LIVES, STEPS = 4, 25, 200  # 20,000 steps in all


class Lives(RuleBasedStateMachine):
    """Markets move, accounts trade, and now and then something breaks: one thing at the venues, and channels beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.scene = Scene()
        self.broken = ""

    def teardown(self) -> None:
        self.scene.close()

    # ------------------------------------------------------------------ the market and its accounts

    @rule(seconds=st.one_of(*[st.integers(1, 4)] * 5, st.just(70)))
    def time_passes(self, seconds: int) -> None:
        self.scene.pass_s(seconds)

    @rule(coin=st.sampled_from(["BTC", "ETH", "SOL"]), percent=st.integers(-6, 4))
    def market_moves(self, coin: str, percent: int) -> None:
        exchange = self.scene.venues.exchange
        symbol = f"{coin}USDT"
        mark = float(exchange.binance.desk.contract(symbol).mark) * (1 + percent / 100)
        self.scene.do(exchange.price, symbol, f"{mark:.2f}", liquidates=True)
        if coin != "SOL":  # one contract after the other, as they trade: what lies between is true as well
            for contract in exchange.htx.market.coins[coin].contracts:
                last = float(contract.last) * (1 + percent / 100)
                self.scene.do(exchange.htx_control.price, contract.code, f"{last:.2f}", liquidates=True)

    @rule(account=st.sampled_from(BINANCE_ACCOUNTS), symbol=st.sampled_from(["BTCUSDT", "ETHUSDT"]), tenths=st.integers(-4, 4))
    def trades(self, account: object, symbol: str, tenths: int) -> None:
        if tenths:
            quantity = abs(tenths) / 10 * (1 if symbol == "BTCUSDT" else 20)
            side = "BUY" if tenths > 0 else "SELL"
            with contextlib.suppress(RefusedError):
                self.scene.do(self.scene.venues.exchange.order, symbol, side, f"{quantity:.1f}", account=account.name)  # type: ignore[attr-defined]

    @rule(
        account=st.sampled_from(HTX_ACCOUNTS),
        contract=st.sampled_from(["BTC_CQ", "ETH_CQ", "ETH_CW"]),
        direction=st.sampled_from(["buy", "sell"]),
        offset=st.sampled_from(["open", "close"]),
        volume=st.integers(1, 15),
    )
    def trades_coins(self, account: object, contract: str, direction: str, offset: str, volume: int) -> None:
        volume *= 50 if contract == "BTC_CQ" else 250
        with contextlib.suppress(RefusedError):
            order = self.scene.venues.exchange.htx_control.order
            self.scene.do(order, contract, direction, offset, volume, account=account.name)  # type: ignore[attr-defined]

    @rule(client=st.sampled_from(["alpha", "beta"]), where=st.sampled_from(["USDT", "BTC", "ETH"]), tenths=st.integers(-2, 6))
    def transfers(self, client: str, where: str, tenths: int) -> None:
        exchange = self.scene.venues.exchange
        with contextlib.suppress(RefusedError):
            if where == "USDT":
                self.scene.do(exchange.transfer, "USDT", f"{900 * tenths}", account=f"{client}_usdm")
            else:
                amount = tenths * (0.016 if where == "BTC" else 0.17)
                self.scene.do(exchange.htx_control.transfer, where, f"{amount:.3f}", account=f"{client}_coins")

    # ------------------------------------------------------------------ what breaks

    @precondition(lambda self: not self.broken)
    @rule(what=st.sampled_from(sorted(FAULTS)))
    def breaks(self, what: str) -> None:
        self.broken = what
        self.scene.do(FAULTS[what], self.scene.venues)

    @precondition(lambda self: self.broken)
    @rule()
    def is_mended(self) -> None:
        self.broken = ""
        self.scene.do(self.scene.venues.mend)

    @rule(
        name=st.sampled_from(["alpha_main", "alpha_reserve", "beta_main", "beta_reserve"]),
        how=st.sampled_from(BEHAVIOURS),
    )
    def receiver_is(self, name: str, how: str) -> None:
        self.scene.set_box(name, how)

    @rule()
    def receivers_are_well(self) -> None:
        for name in self.scene.boxes:
            if self.scene.boxes[name].behaviour != OK:
                self.scene.set_box(name, OK)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_critical_pool_is_notified_or_notified_as_unknown_within_a_minute(shard: int) -> None:
    """shard: each searches on its own, so that several processes can share the work."""
    structlog.configure(
        logger_factory=structlog.ReturnLoggerFactory(), wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Lives,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        ),
    )
