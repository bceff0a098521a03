"""Row 30: one change of an account comes as two frames. In any order, and with any of them lost, figures are of true states."""

from __future__ import annotations

import copy
from decimal import Decimal

import pytest
from coin_pushes import COIN, VENUE, PushWorld
from coin_world import CoinWorld
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from monitor.engine.guarantee_pushes import SKEW
from monitor.model.events import CoinBalance, CoinUpdate
from monitor.model.figures import PoolKey
from monitor.rules.health import HealthRule
from monitor.sim.htx.account import SimHtxAccount, SimHtxPosition
from monitor.sim.htx.tables import adjust_tiers

TIGHT = 1e-7


def losing(entered: str = "1.06", coins: str = "0.78", volume: int = 9000) -> PushWorld:
    """About 8.5 BTC of notional at 20x, long, entered above the market."""
    world = PushWorld(
        SimHtxAccount(
            "main",
            coins={"BTC": coins},
            leverages={"BTC": 20},
            positions=(SimHtxPosition("BTC_CW", "buy", 1, None), SimHtxPosition("BTC_CQ", "buy", 1, None)),
        )
    )
    leg = world.purse.legs[world.code(0), "buy"]
    leg.volume = volume
    leg.cost_open = leg.cost_hold = world.coin.on_grid(world.coin.contracts[0].last * Decimal(entered))
    world.states = [world.purse]
    world.now_ms += 10
    world.feed(world.snapshot())
    world.states = []
    world.said.clear()
    return world


def equity(world: PushWorld) -> float:
    found = world.pool().equity
    assert found is not None
    return found


def true(world: PushWorld) -> tuple[float, float]:
    now = world.truth(world.purse)
    return float(now.equity), float(now.adjust_factor * (now.position_margin + now.frozen_margin))


def agrees(world: PushWorld) -> None:
    wanted, required = true(world)
    assert equity(world) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert world.pool().requirement == pytest.approx(required, rel=1e-9, abs=1e-9)


ORDERS = pytest.mark.parametrize("first", ["accounts", "positions"])


@ORDERS
@pytest.mark.parametrize("volume", [9000, 4000], ids=["whole", "part"])
def test_row_30_a_realised_loss_counts_once(first: str, volume: int) -> None:
    world = losing()
    before = equity(world)
    world.trade("sell", "close", volume)
    world.deliver(first)
    assert equity(world) == pytest.approx(true(world)[0], abs=0.005), "of before or after, which a fee is between"
    world.deliver()
    agrees(world)
    assert before - equity(world) < 0.01
    assert world.levels() == []


@ORDERS
def test_row_30_a_realised_profit_counts_once(first: str) -> None:
    """Legs first: the profit is gone from their PnL and not yet in the balance."""
    world = losing(entered="0.80", coins="-1.4")
    world.trade("sell", "close", 9000)
    world.deliver(first)
    assert equity(world) == pytest.approx(true(world)[0], abs=0.01)
    world.deliver()
    agrees(world)
    assert world.levels() == []


@pytest.mark.parametrize("lost", ["accounts", "positions"])
def test_row_30_a_lost_frame_asks_for_a_snapshot_and_pages_nobody(lost: str) -> None:
    world = losing()
    world.trade("sell", "close", 9000)
    world.lose(lost)
    world.deliver()
    assert equity(world) == pytest.approx(true(world)[0], abs=0.01)
    assert world.engine.take_wanted_snapshots() == [], "the other frame may be on its way"
    world.seconds(1)
    assert world.engine.take_wanted_snapshots() == [(VENUE, "main", COIN)]
    assert any(reason.startswith("positions: not all") for reason in world.pool().unknown)
    world.seconds(4)
    assert world.engine.take_wanted_snapshots() == []
    world.seconds(1)
    assert world.engine.take_wanted_snapshots() == [(VENUE, "main", COIN)], "again while it does not come"
    assert equity(world) == pytest.approx(true(world)[0], abs=0.01)
    assert world.levels() == []
    world.feed(world.snapshot())
    agrees(world)
    world.seconds(10)
    assert world.engine.take_wanted_snapshots() == []
    assert world.levels() == []


def test_row_30_a_lost_frame_is_mended_by_the_periodic_pushes_as_well() -> None:
    world = losing()
    world.trade("sell", "close", 4000)
    world.lose("positions")
    world.deliver()
    world.seconds(5)
    world.picture_pushes()
    for topic in ("positions", "accounts"):
        world.deliver(topic)
        assert equity(world) == pytest.approx(true(world)[0], abs=0.01)
    agrees(world)
    assert world.levels() == []


@ORDERS
def test_row_30_a_settlement_that_only_pushes_tell_moves_no_equity(first: str) -> None:
    world = losing()
    world.settlement()
    world.deliver(first)
    assert equity(world) == pytest.approx(true(world)[0], rel=1e-9)
    world.deliver()
    agrees(world)
    assert world.levels() == []


@ORDERS
def test_row_30_a_filled_order_is_not_margin_twice(first: str) -> None:
    """What the order froze is not yet free, and the position bears margin already; or the other way round."""
    world = losing(entered="1.0", coins="0.6", volume=3000)
    last = world.coin.contracts[0].last
    world.trade("buy", "open", 4500, price=world.coin.on_grid(last * Decimal("0.999")))
    world.deliver()
    agrees(world)
    said = len(world.said)
    world.moves(-0.002)
    before = world.pool().health
    world.desk.fill_reached(world.account, world.coin)
    world.deliver(first)
    assert world.pool().health == pytest.approx(before, rel=0.01)
    world.deliver()
    agrees(world)
    assert world.levels() == [t.level.word for t in world.said[:said] if t.key.rule == "health"]


@ORDERS
def test_row_30_a_flip_is_followed(first: str) -> None:
    world = losing()
    world.trade("sell", "close", 9000)
    world.trade("sell", "open", 8000)
    while world.frames:
        world.deliver(first if any(frame.topic == first for frame in world.frames) else "")
        assert equity(world) == pytest.approx(true(world)[0], abs=0.02)
    agrees(world)
    assert world.levels() == []


def test_row_30_a_transfer_has_no_other_frame_and_is_judged_at_once() -> None:
    world = losing()
    world.desk.transfer(world.account, COIN, Decimal("-0.175"))
    world.deliver()
    agrees(world)
    assert world.levels() == ["liquidation"]
    world.seconds(5)
    assert world.engine.take_wanted_snapshots() == []


def test_row_30_a_transfer_between_the_two_frames_of_a_trade() -> None:
    world = losing()
    world.trade("sell", "close", 9000)
    world.desk.transfer(world.account, COIN, Decimal("-0.05"))
    world.deliver("accounts")
    world.deliver("accounts")
    assert equity(world) == pytest.approx(true(world)[0], rel=1e-9)
    world.deliver()
    agrees(world)
    assert world.levels() == []


def test_row_30_several_coins_in_one_push_are_each_their_own() -> None:
    """BTC's row is one of a close whose legs are to come; ETH's stands for itself."""
    world = losing()
    eth = structs.replace(world.snapshot().balance, coin="ETH", margin_static=5.0, venue_equity=5.0, venue_position_margin=0.0)
    world.feed(structs.replace(world.snapshot(), balance=eth, positions=()))
    world.trade("sell", "close", 9000)
    [(_, btc)] = world.wire.receive(world.frames[0].bytes).updates
    eth = structs.replace(eth, margin_static=3.0, venue_equity=3.0, version_ms=world.now_ms)
    world.feed(structs.replace(btc, balances=(*btc.balances, eth)))
    assert equity(world) == pytest.approx(true(world)[0], rel=1e-9)
    other = world.engine.figures(PoolKey(VENUE, "main", "ETH"))
    assert other is not None
    assert other.equity == 3.0
    world.deliver("positions")
    agrees(world)
    assert world.levels() == []


def test_row_30_a_true_worsening_is_judged_with_the_frame_that_tells_it() -> None:
    """The legs are lost, and with them what grew; the account's own figures show the danger, and are judged at once."""
    world = losing(entered="1.0", coins="0.5", volume=3000)
    world.trade("buy", "open", 45_000)
    world.lose("positions")
    world.deliver()
    wanted, required = true(world)
    assert world.pool().health == pytest.approx(wanted / required, rel=1e-9)
    assert world.levels(), "told"


def test_row_30_the_causes_add_up_on_half_a_picture_too() -> None:
    world = losing()
    for amount, frames in (("-0.13", 0), ("-0.05", 1)):
        if frames:
            world.trade("sell", "close", 1000)
            world.lose("positions")
        world.desk.transfer(world.account, COIN, Decimal(amount))
        while world.frames:
            world.deliver()
    first, last = (t for t in world.said if t.key.rule == "health")
    moved = sum(cause.amount for cause in last.causes if cause.of == "equity")
    assert moved == pytest.approx((last.figures.equity or 0) - (first.figures.equity or 0), abs=1e-9)  # type: ignore[union-attr]


def test_row_30_legs_whose_account_never_comes_bear_their_margin_after_five_seconds() -> None:
    world = losing(entered="1.0", coins="0.5", volume=3000)
    world.trade("buy", "open", 45_000)
    world.lose("accounts")
    world.deliver()
    assert world.levels() == []
    world.seconds(6)
    assert world.pool().requirement == pytest.approx(true(world)[1], rel=1e-9)
    assert world.levels()


def test_row_30_prices_that_are_late_explain_a_difference() -> None:
    """The venue computed at a price that reaches us a moment later: nothing is counted twice when it does."""
    world = losing()
    world.now_ms += 50
    for contract in world.coin.contracts:
        last = world.coin.on_grid(contract.last * Decimal("0.97"))
        world.market.set_price(world.coin, contract, last, last, world.now_ms)
    world.picture_pushes()
    world.deliver("accounts")
    assert equity(world) == pytest.approx(true(world)[0], rel=1e-9), "the venue's own word leads"
    world.tell_prices()
    assert equity(world) == pytest.approx(true(world)[0], rel=1e-9)
    world.deliver()
    agrees(world)


def test_row_30_an_account_push_that_is_older_than_our_prices_hides_no_fall() -> None:
    """In a crash the account's stream may lag: what it says was true at higher prices."""
    world = losing()
    world.now_ms += 4000
    world.picture_pushes()
    world.moves(-0.03)
    world.deliver("accounts")
    agrees(world)
    assert world.levels()
    world.deliver("positions")
    agrees(world)
    world.desk.transfer(world.account, COIN, Decimal("-0.001"))
    world.moves(-0.01)
    world.now_ms += 3000
    world.deliver()
    world.seconds(2)
    agrees(world)


def test_row_30_nothing_improves_on_half_a_picture() -> None:
    world = losing()
    world.desk.transfer(world.account, COIN, Decimal("-0.175"))
    world.deliver()
    world.trade("sell", "close", 9000)
    world.lose("positions")
    world.deliver()
    world.seconds(3)
    assert world.levels() == ["liquidation"]
    world.feed(world.snapshot())
    world.seconds(1)
    assert world.levels()[-1] == "ok"


# ------------------------------------------------------------------ the account's own factor


@ORDERS
def test_row_31_a_raised_factor_holds_through_trades_until_the_tables_are_read(first: str) -> None:
    """The account tells 0.5 where the table still says 0.2: whatever is traded, nothing falls back to the table."""
    world = losing()
    world.coin.adjust[20] = adjust_tiers([(0, "0.5")])
    world.now_ms += 5000
    world.picture_pushes()
    world.deliver()
    world.deliver()
    assert factor(world) == 0.5
    assert world.engine.take_doubted_tables() == [(VENUE, "main")], "read again at once"
    for volume in (2000, 1000):
        world.trade("sell", "close", volume)
        world.deliver(first)
        assert factor(world) == 0.5
        world.deliver()
        agrees(world)
    world.trade("sell", "close", 500)
    world.lose("accounts")
    world.deliver()
    world.seconds(10)
    assert factor(world) == 0.5, "told for a net position that is no more, and the table is known to be old"
    world.read_tables()
    world.feed(world.snapshot())
    agrees(world)
    assert world.engine.take_doubted_tables() == []


def test_row_31_a_lowered_factor_holds_when_account_and_table_agree() -> None:
    world = losing()
    was = factor(world)
    world.coin.adjust[20] = adjust_tiers([(0, "0.1")])
    world.now_ms += 5000
    world.picture_pushes()
    world.deliver()
    world.deliver()
    assert factor(world) == was, "the dearer of the two"
    assert world.engine.take_doubted_tables() == [(VENUE, "main")]
    world.read_tables()
    assert factor(world) == 0.1


def test_row_31_a_table_that_is_read_before_the_account_tells_of_it_holds_at_once() -> None:
    world = losing()
    world.coin.adjust[20] = adjust_tiers([(0, "0.5")])
    world.read_tables()
    assert factor(world) == 0.5


def test_row_33_an_older_account_row_that_is_dropped_ties_no_factor() -> None:
    """The factor was told for a net position that is no more; an old row must not tie it to the present one."""
    world = CoinWorld()
    world.start({"BTC231229": 500.0})
    now = world.now_ms
    world.feed(update(world, structs.replace(world.balance(), adjust_factor=0.2)))
    world.now_ms += 1000
    world.push({"BTC231229": 10_000.0})
    assert world.pool().guarantee.adjustment_factor == 0.4, "the next tier, by the table"
    world.feed(update(world, structs.replace(world.balance(), adjust_factor=0.2, version_ms=now - 5000)))
    assert world.pool().guarantee.adjustment_factor == 0.4


def update(world: CoinWorld, balance: CoinBalance) -> CoinUpdate:
    return CoinUpdate(venue=VENUE, account="main", event_time_ms=balance.version_ms, reason="snapshot", balances=(balance,))


def factor(world: PushWorld) -> float | None:
    own = world.pool().guarantee
    assert own is not None
    return own.adjustment_factor


# ------------------------------------------------------------------ the law

STEP = st.one_of(
    st.tuples(st.just("deliver"), st.integers(0, 3)),
    st.tuples(st.just("deliver"), st.integers(0, 3)),
    st.tuples(st.just("deliver"), st.integers(0, 3)),
    st.tuples(st.just("lose"), st.integers(0, 3)),
    st.tuples(st.just("close"), st.integers(1, 6000)),
    st.tuples(st.just("open"), st.integers(1, 4000)),
    st.tuples(st.just("short"), st.integers(1, 4000)),
    st.tuples(st.just("cover"), st.integers(1, 4000)),
    st.tuples(st.just("far"), st.integers(1, 3000)),
    st.tuples(st.just("rest"), st.integers(1, 3000)),
    st.tuples(st.just("transfer"), st.integers(-20, 40)),
    st.tuples(st.just("settlement"), st.just(0)),
    st.tuples(st.just("picture"), st.just(0)),
    st.tuples(st.just("price"), st.integers(-40, 40)),
    st.tuples(st.just("second"), st.integers(0, 1)),
)


class Law:
    """What may be shown: anything between the states that are on their way, at the prices of now."""

    def __init__(self) -> None:
        self.world = losing(entered="1.03", coins="1.2")
        self.world.states.append(copy.deepcopy(self.world.purse))
        self.came: set[tuple[int, str]] = set()
        self.drift = 0.0
        self.waited = False  # a second, for a frame; or it was overtaken by a later change's, or lost
        self.late = False  # an account frame came after such a second: it may be older than our prices, until a snapshot says
        self.settled = 0  # the newest state of which everything came
        self.tops = 0

    def act(self, what: str, number: int, rest_answers: bool) -> None:
        world = self.world
        if what in ("deliver", "lose"):
            if world.frames:
                place = min(number, len(world.frames) - 1)
                self.waited |= what == "lose" or world.frames[place].change != world.frames[0].change
                if what == "deliver":
                    frame = world.deliver_at(place)
                    self.came.add((frame.change, frame.topic))
                    self.late |= self.waited and frame.topic == "accounts"
                else:
                    world.frames.pop(place)
        elif what == "price":
            self.drift += self._gross() * abs(number) / 10_000 * 1.2
            world.moves(number / 10_000)
            world.desk.fill_reached(world.account, world.coin)
        elif what == "second":
            world.seconds(1)
            if self.settled == len(world.states) - 1:
                self.drift = 0.0  # what was computed before a move of the price no longer leads
            self.waited = True
            if number and rest_answers and world.engine.take_wanted_snapshots():
                self._picture()
        else:
            self._change(what, number)
        self._settle()

    def _change(self, what: str, number: int) -> None:
        world = self.world
        longs = world.purse.legs.get((world.code(0), "buy"))
        shorts = world.purse.legs.get((world.code(0), "sell"))
        resting = world.coin.on_grid(world.coin.contracts[0].last * Decimal("0.9995"))
        {
            "close": lambda: longs and world.trade("sell", "close", min(number, longs.volume)),
            "open": lambda: world.trade("buy", "open", number),
            "short": lambda: world.trade("sell", "open", number),
            "cover": lambda: shorts and world.trade("buy", "close", min(number, shorts.volume)),
            "far": lambda: world.trade("sell", "open", number, period=2),
            "rest": lambda: world.trade("buy", "open", number, price=resting),
            "transfer": lambda: world.desk.transfer(world.account, COIN, Decimal(number) / 100),
            "settlement": world.settlement,
            "picture": world.picture_pushes,
        }[what]()

    def _picture(self) -> None:
        world = self.world
        world.now_ms += 1
        world.feed(world.snapshot())
        newest = len(world.states) - 1
        self.came |= {(i, topic) for i in range(newest + 1) for topic in ("accounts", "positions")}

    def _settle(self) -> None:
        """The oldest state that may still be shown."""
        newest = len(self.world.states) - 1
        accounts = max((i for i, topic in self.came if topic == "accounts"), default=0)
        told = {i for i, topic in self.came if topic == "positions"}
        with_legs = {frame.change for frame in self.world.frames if frame.topic == "positions"} | self._legs_lost()
        legs = min((i for i in with_legs if i not in told), default=newest + 1) - 1
        self.settled = max(self.settled, min(accounts, legs))
        if self.settled == newest:
            self.waited = self.late = False

    def _legs_lost(self) -> set[int]:
        """Changes whose legs were sent and neither came nor wait."""
        return {i for i in self.world.with_legs if (i, "positions") not in self.came}

    def _gross(self) -> float:
        prices = {c.code: float(c.last) for c in self.world.coin.contracts}
        return max(
            sum(100 * leg.volume / prices[leg.contract] for leg in purse.legs.values())
            for purse in self.world.states[self.settled :]
        )

    def holds(self) -> None:
        world = self.world
        truths = [world.truth(purse) for purse in world.states[self.settled :]]
        # a frame that was late or lost for a second may be taken for a difference of prices, see SKEW
        slack = TIGHT + self.drift + (1.1 * SKEW * self._gross() if self.waited else 0.0)
        equities = [float(now.equity) for now in truths]
        shown = equity(world)
        assert shown <= max(equities) + slack, (equities, shown, slack)
        if self.late:  # what it hides is not known, so it counts to the worse, never to the better
            self.tops = len(world.said)
            return
        assert min(equities) - slack <= shown, (equities, shown, slack)
        required = [
            (float(now.equity) - slack, float(now.adjust_factor * (now.position_margin + now.frozen_margin))) for now in truths
        ]
        worst = max(level_of(e, r + slack / 20) for e, r in required)
        for transition in world.said[self.tops :]:
            if transition.key.rule == "health":
                assert transition.level <= worst, (transition.summary, required, slack)
        self.tops = len(world.said)


def level_of(equity_: float, requirement: float) -> int:
    rule = HealthRule()
    return max((int(level) for level, limit in rule.ladder if equity_ <= limit * requirement), default=0)


@settings(max_examples=max(200, settings().max_examples), deadline=None)
@given(steps=st.lists(STEP, min_size=5, max_size=40), rest_answers=st.booleans())
def test_row_30_law_any_interleaving_shows_only_what_is_between_true_states(
    steps: list[tuple[str, int]], rest_answers: bool
) -> None:
    law = Law()
    for what, number in steps:
        law.act(what, number, rest_answers)
        law.holds()
    world = law.world
    world.frames.clear()
    world.now_ms += 10
    world.feed(world.snapshot())
    agrees(world)
