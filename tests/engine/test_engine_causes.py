"""Why it moved: the parts add up to the whole move of the equity, each has its right name, and tables move the requirement."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest
from coin_world import VENUE as HTX
from coin_world import CoinWorld
from engine_world import START_MS, TIERS, VENUE, World
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from monitor.engine.engine import Engine
from monitor.engine.moves import CAUSES_MAX, WHYS
from monitor.engine.scheme import AccountSetup
from monitor.model.alerts import Cause
from monitor.model.events import (
    AccountSnapshot,
    AccountUpdate,
    AssetRate,
    AssetRates,
    Balance,
    Brackets,
    CoinBalance,
    CoinSnapshot,
    CoinUpdate,
    GuaranteeTables,
    Instruments,
    Mode,
    Position,
    Price,
    PriceKind,
    Prices,
    StreamDown,
    StreamUp,
    TimePassed,
)
from monitor.model.figures import PoolFigures, PoolKey
from monitor.model.instruments import AssetInfo, Bracket, BracketTable, FactorTable, FactorTier, Instrument
from monitor.rules import RuleBook


def causes(engine: Engine, venue: str, pool: str) -> tuple[Cause, ...]:
    """What the next message of the pool would say; the count begins anew."""
    scheme = engine._schemes[venue]
    return scheme.explain.causes(scheme.book.accounts["main"].pools[pool])


def parts(found: tuple[Cause, ...], of: str = "equity") -> dict[str, float]:
    return {cause.what: cause.amount for cause in found if cause.of == of}


# ------------------------------------------------------------------ each by its name


def based(**wallets: float) -> World:
    """1 BTCUSDT long from 20,000 at 20,000, seen by a first second."""
    world = World(wallets=wallets or {"USDT": 1000.0, "BTC": 0.1})
    world.start()
    world.rate("BTC", 20_000.0, haircut=0.05)
    world.seconds(1, keep_fresh=True)
    return world


def by(world: World, reason: str, *, positions: tuple[Position, ...] = (), **wallets: float) -> None:
    rows = tuple(Balance(asset, wallet, wallet, world.now_ms) for asset, wallet in wallets.items())
    world.feed(
        AccountUpdate(venue=VENUE, account="main", event_time_ms=world.now_ms, reason=reason, balances=rows, positions=positions)
    )


def btc(world: World, quantity: float, entry: float) -> tuple[Position, ...]:
    return (Position("BTCUSDT", "BOTH", quantity, entry, world.now_ms, margin_asset="USDT"),)


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("FUNDING_FEE", "funding USDT"),
        ("DEPOSIT", "transfer USDT"),
        ("WITHDRAW", "transfer USDT"),
        ("MARGIN_TRANSFER", "transfer USDT"),
        ("ORDER", "trades and fees USDT"),
        ("AUTO_EXCHANGE", "automatic exchange USDT"),
        ("INSURANCE_CLEAR", "liquidation USDT"),
        ("ADJUSTMENT", "other change USDT"),
        ("A_WORD_OF_2031", "other change USDT"),
    ],
)
def test_a_wallet_moves_by_the_venues_own_reason(reason: str, what: str) -> None:
    world = based()
    by(world, reason, USDT=940.0)
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({what: -60.0})


def test_closing_at_the_mark_costs_only_the_fee_however_the_pnl_moves_into_the_wallet() -> None:
    world = based()
    world.mark(19_500.0)
    by(world, "ORDER", USDT=1000.0 - 250.0 - 3.0, positions=btc(world, 0.5, 20_000.0))
    world.mark(19_400.0)
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx(
        {"position BTCUSDT": -500.0 - 50.0, "trades and fees USDT": -3.0}
    )


def test_a_fill_away_from_the_mark_is_the_trades_and_not_the_markets() -> None:
    world = based()
    by(world, "ORDER", positions=btc(world, 2.0, 20_050.0))  # the second one at 20,100, while the mark is 20,000
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({"trades and fees USDT": -100.0})
    world.mark(20_010.0)
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({"position BTCUSDT": 20.0})


def test_a_position_turned_round_earned_what_each_side_earned() -> None:
    world = based()
    world.mark(19_900.0)
    by(world, "ORDER", USDT=900.0, positions=btc(world, -1.0, 19_900.0))
    world.mark(19_850.0)
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({"position BTCUSDT": -100.0 + 50.0})


def test_index_and_haircut_are_two_causes() -> None:
    world = based()
    world.rate("BTC", 18_000.0, haircut=0.10)
    found = causes(world.engine, VENUE, "USD")
    assert parts(found) == pytest.approx({"rate of BTC": 0.1 * -2000 * 0.95, "haircut of BTC": 0.1 * 18_000 * -0.05})
    world.rate("BTC", 18_123.45678901, haircut=0.10 + 1e-9)
    assert set(parts(causes(world.engine, VENUE, "USD"))) == {"rate of BTC"}, "the venue's rounding is no change"


def test_an_asset_that_is_newly_paid_in_counts_whole() -> None:
    world = based()
    by(world, "DEPOSIT", USDC=250.0)
    world.rate("USDC", 0.99)
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({"transfer USDC": 250 * 0.99})


@pytest.mark.parametrize(("down", "what"), [(False, "change found by REST"), (True, "change while the stream was down")])
def test_what_only_a_picture_shows_is_named_so(down: bool, what: str) -> None:
    world = based()
    world.feed(StreamUp(VENUE, "main", "user"))
    if down:
        world.feed(StreamDown(VENUE, "main", "user", "reset"))
    world.wallets = {"USDT": 990.0, "BTC": 0.1}
    world.snapshot(as_of_ms=world.now_ms + 1)
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({f"{what} USDT": -10.0})


def test_brackets_move_the_requirement() -> None:
    world = based()
    tiers = (structs.replace(TIERS[0], rate=0.008), TIERS[1])
    world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", tiers),), world.now_ms))
    found = causes(world.engine, VENUE, "USD")
    assert parts(found) == {}
    assert parts(found, "requirement") == pytest.approx({"brackets of BTCUSDT": 80.0})


def test_the_message_of_the_crossing_that_a_table_made_names_the_table() -> None:
    world = based()
    tiers = (structs.replace(TIERS[0], rate=0.1), TIERS[1])
    said = world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", tiers),), world.now_ms))
    [crossing] = [t for t in said if t.key.rule == "health"]
    assert parts(crossing.causes, "requirement") == pytest.approx({"brackets of BTCUSDT": 2000 - 80.0})


def test_a_haircut_of_the_margin_asset_moves_both() -> None:
    world = based(USDT=1000.0)
    world.rate("USDT", 1.0, haircut=0.02)
    found = causes(world.engine, VENUE, "USD")
    assert parts(found) == pytest.approx({"haircut of USDT": -20.0})
    assert parts(found, "requirement") == pytest.approx({"haircut of USDT": 80 * 0.02})


def test_a_larger_position_requires_more_though_no_equity_moved() -> None:
    world = based()
    by(world, "ORDER", positions=btc(world, 2.0, 20_000.0))
    found = causes(world.engine, VENUE, "USD")
    assert parts(found) == {}
    assert parts(found, "requirement") == pytest.approx({"trades and fees": 80.0})


def test_the_greater_effect_on_health_comes_first() -> None:
    """Equity 2900, requirement 80: 40 more required is half the health, 300 of equity a tenth of it."""
    world = based()
    by(world, "WITHDRAW", USDT=700.0)
    by(world, "ORDER", positions=btc(world, 1.5, 20_000.0))
    assert [cause.what for cause in causes(world.engine, VENUE, "USD")] == ["trades and fees", "transfer USDT"]


def test_two_rules_that_cross_at_once_both_say_why() -> None:
    world = World(RuleBook.model_validate({"margin_ratio": {"enabled": True}}))
    world.start()
    world.seconds(1, keep_fresh=True)
    said = world.mark(19_100.0)
    assert {t.key.rule for t in said} == {"health", "margin_ratio"}
    assert all(parts(t.causes) == pytest.approx({"position BTCUSDT": -900.0}) for t in said)


def test_what_moved_while_nothing_was_known_is_told_afterwards() -> None:
    world = based()
    by(world, "ORDER", USDT=990.0, positions=(Position("ETHUSDC", "BOTH", 1.0, 1800.0, world.now_ms, margin_asset="USDC"),))
    assert world.pool().equity is None
    assert causes(world.engine, VENUE, "USD") == ()
    world.mark(1790.0, "ETHUSDC")
    assert parts(causes(world.engine, VENUE, "USD")) == pytest.approx({"trades and fees USDT": -10.0, "position ETHUSDC": -10.0})


def test_many_small_causes_are_told_as_one_so_that_nothing_is_missing() -> None:
    world = based()
    for i, reason in enumerate(("FUNDING_FEE", "DEPOSIT", "ORDER", "AUTO_EXCHANGE", "INSURANCE_CLEAR", "ADJUSTMENT", "?")):
        by(world, reason, USDT=1000.0 + sum(range(1, i + 2)))
    world.mark(20_100.0)
    found = causes(world.engine, VENUE, "USD")
    assert len(found) == CAUSES_MAX + 1
    assert found[0].what == "position BTCUSDT"
    assert found[-1].what == "all else"
    assert sum(parts(found).values()) == pytest.approx(128.0)


# ------------------------------------------------------------------ coins


def coin_based() -> CoinWorld:
    world = CoinWorld()
    world.start({"BTC260327": 500.0})
    world.feed(TimePassed())
    return world


def coin_push(world: CoinWorld, reason: str, *, static: float | None = None, leg: tuple[float, float] | None = None) -> None:
    legs = (Position("BTC260327", "LONG", leg[0], leg[1], world.now_ms, margin_asset="BTC"),) if leg else ()
    balances = (world.balance(static),) if static is not None else ()
    world.feed(
        CoinUpdate(venue=HTX, account="main", event_time_ms=world.now_ms, reason=reason, balances=balances, positions=legs)
    )


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("contract.transfer", "transfer BTC"),
        ("order.match", "trades and fees BTC"),
        ("order.liquidation", "liquidation BTC"),
        ("settlement", "settlement BTC"),
        ("snapshot", "change found by a later push BTC"),
        ("contract.system", "other change BTC"),
    ],
)
def test_a_coin_moves_by_the_venues_own_event(reason: str, what: str) -> None:
    world = coin_based()
    coin_push(world, reason, static=0.9)
    assert parts(causes(world.engine, HTX, "BTC")) == pytest.approx({what: -0.1})


def test_a_settlement_moves_no_equity_but_its_fee() -> None:
    """PnL becomes balance, and counts from the settlement price on."""
    world = coin_based()
    world.last({"BTC260327": 9_900.0})
    lost = 500 * 100 * (1 / 10_000 - 1 / 9_900)
    coin_push(world, "settlement", static=1 + lost - 0.001)
    coin_push(world, "settlement", leg=(500.0, 9_900.0))
    assert parts(causes(world.engine, HTX, "BTC")) == pytest.approx({"position BTC260327 LONG": lost, "settlement BTC": -0.001})


def test_a_changed_factor_moves_the_requirement() -> None:
    world = coin_based()
    world.feed(GuaranteeTables(HTX, world.now_ms, (world.factor_table(0.3),)))
    found = causes(world.engine, HTX, "BTC")
    assert parts(found) == {}
    assert parts(found, "requirement") == pytest.approx({"adjustment factor": 0.1 * 0.5})


def test_a_factor_that_the_account_itself_tells_is_a_change_of_the_table_too() -> None:
    world = coin_based()
    balance = structs.replace(world.balance(), adjust_factor=0.25)
    world.feed(CoinUpdate(venue=HTX, account="main", event_time_ms=world.now_ms, reason="snapshot", balances=(balance,)))
    assert parts(causes(world.engine, HTX, "BTC"), "requirement") == pytest.approx({"adjustment factor": 0.05 * 0.5})


# ------------------------------------------------------------------ the law


def size(figures: PoolFigures) -> float:
    """Of all terms that a pool's equity is the sum of, in its unit."""
    legs = sum(abs(p.notional or 0.0) + abs(p.quantity * p.entry_price if figures.guarantee is None else 0.0)
               for p in figures.positions)  # fmt: skip
    return legs + sum(abs(a.wallet) * (a.ask or 1.0) for a in figures.assets) + abs(figures.equity or 0.0)


@dataclass
class Ledger:
    """Sums up causes against equity, pool by pool. 1e-9 of the largest terms that a pool has had."""

    engine: Engine
    venue: str
    equity: dict[str, float] = field(default_factory=dict)  # at its last message
    terms: dict[str, float] = field(default_factory=dict)
    told: int = 0

    def look(self) -> None:
        for name in self.engine._schemes[self.venue].book.accounts["main"].pools:
            figures = self.figures(name)
            self.terms[name] = max(self.terms.get(name, 0.0), 1.0, size(figures))

    def figures(self, name: str) -> PoolFigures:
        found = self.engine.figures(PoolKey(self.venue, "main", name))
        assert found is not None
        return found

    def begin(self) -> None:
        """As the engine does for pools that became known, each second."""
        book = self.engine._schemes[self.venue].book
        for name, row in book.accounts["main"].pools.items():
            if book.pools.based[row] and name not in self.equity:
                self.equity[name] = self.figures(name).equity or 0.0

    def message(self, name: str) -> None:
        now = self.figures(name).equity
        found = causes(self.engine, self.venue, name)
        if now is None:
            assert found == ()
            return
        if name in self.equity:
            whole = sum(parts(found).values())
            assert abs(whole - (now - self.equity[name])) <= 1e-9 * self.terms[name], (name, found, now, self.equity[name])
            self.told += 1
        self.equity[name] = now


ASSETS, SYMBOLS = ("USDT", "USDC", "BTC"), {"BTCUSDT": "USDT", "ETHUSDT": "USDT", "ETHUSDC": "USDC", "ETHBTC": "BTC"}
PRICES = {"BTCUSDT": 95_000.0, "ETHUSDT": 3_400.0, "ETHUSDC": 3_400.0, "ETHBTC": 0.036}


class Life:
    """One account whose wallets, legs, prices and rates wander at random; single-asset mode has isolated legs too."""

    def __init__(self, rng: Random, mode: Mode) -> None:
        self.rng, self.mode, self.now_ms = rng, mode, START_MS
        self.engine = Engine([AccountSetup(VENUE, "main", RuleBook())])
        self.ledger = Ledger(self.engine, VENUE)
        self.wallets = {asset: rng.uniform(-1e3, 1e5) for asset in ASSETS}
        self.index = {"USDT": 1.0, "USDC": 1.0, "BTC": 95_000.0}
        self.haircut = {"USDT": 0.0001, "USDC": 0.0, "BTC": 0.05}
        self.legs: dict[str, Position] = {}
        tiers = (Bracket(1, 0, 5e4, 0.004, 0, 125), Bracket(2, 5e4, 1e9, 0.005, 50, 100))
        self.step(Instruments(VENUE, tuple(Instrument(s, a) for s, a in SYMBOLS.items()), tuple(map(AssetInfo, ASSETS))))
        self.step(Brackets(VENUE, "", tuple(BracketTable(s, tiers) for s in SYMBOLS), self.now_ms))
        self.rates()
        self.prices(list(SYMBOLS)[:-1])  # the last one has no price for a while
        self.snapshot()
        self.second()

    def step(self, event: object) -> None:
        self.now_ms += 1
        said = self.engine.step(event, self.now_ms)  # type: ignore[arg-type]
        for transition in said:
            if transition.causes or transition.key.rule in ("health", "guarantee_asset_ratio"):
                figures = transition.figures
                assert figures is not None
                name = transition.key.pool
                if figures.equity is not None:  # the engine told: the count began anew
                    self.ledger.look()
                    if name in self.ledger.equity:
                        whole = sum(parts(transition.causes).values())
                        gap = whole - (figures.equity - self.ledger.equity[name])
                        assert abs(gap) <= 1e-9 * self.ledger.terms[name], (transition.key, transition.causes)
                        self.ledger.told += 1
                    self.ledger.equity[name] = figures.equity
        self.ledger.look()
        self.ledger.begin()

    def second(self) -> None:
        self.now_ms += 1000
        self.step(TimePassed())

    def prices(self, symbols: list[str]) -> None:
        rows = [Price(s, PRICES[s] * self.rng.uniform(0.7, 1.4), self.now_ms) for s in symbols]
        self.step(Prices(VENUE, PriceKind.MARK, rows))

    def rates(self) -> None:
        rows = []
        for asset in ASSETS:
            if self.rng.random() < 0.2:
                self.haircut[asset] = self.rng.choice((0.0, 0.0001, 0.05, 0.1))
            index = self.index[asset] * self.rng.uniform(0.9, 1.1)
            cut = self.haircut[asset]
            rows.append(AssetRate(asset, index, round(index * (1 - cut), 8), round(index * (1 + cut), 8), self.now_ms))
        self.step(AssetRates(VENUE, rows))

    def trade(self) -> None:
        symbol = self.rng.choice(list(SYMBOLS))
        quantity = self.rng.choice((0.0, self.rng.uniform(-2, 2)))
        isolated = self.mode is Mode.SINGLE_ASSET and self.rng.random() < 0.3
        entry = PRICES[symbol] * self.rng.uniform(0.9, 1.1) if quantity else 0.0
        wallet = self.rng.uniform(1, 1e4) if isolated and quantity else 0.0
        self.legs[symbol] = Position(
            symbol, "BOTH", quantity, entry, self.now_ms, isolated, wallet, self.rng.choice(("", SYMBOLS[symbol]))
        )
        asset = SYMBOLS[symbol]
        self.wallets[asset] += self.rng.uniform(-1e3, 1e3)
        self.update((asset,), (self.legs[symbol],), self.rng.choice(("ORDER", "MARGIN_TYPE_CHANGE", "?")))

    def pay(self) -> None:
        asset = self.rng.choice(ASSETS)
        self.wallets[asset] = self.rng.choice((0.0, self.rng.uniform(-1e4, 1e5)))
        self.update((asset,), (), self.rng.choice(list(WHYS)))

    def update(self, assets: tuple[str, ...], legs: tuple[Position, ...], reason: str) -> None:
        balances = tuple(Balance(a, self.wallets[a], self.wallets[a], self.now_ms) for a in assets)
        self.step(
            AccountUpdate(
                venue=VENUE, account="main", event_time_ms=self.now_ms, reason=reason, balances=balances, positions=legs
            )
        )

    def snapshot(self) -> None:
        """With what no event told, and sometimes in another mode."""
        if self.rng.random() < 0.3:
            self.wallets[self.rng.choice(ASSETS)] += self.rng.uniform(-100, 100)
        if self.rng.random() < 0.1:
            self.mode = Mode.SINGLE_ASSET if self.mode is Mode.MULTI_ASSETS else Mode.MULTI_ASSETS
        for symbol in list(self.legs):
            if self.rng.random() < 0.1:
                del self.legs[symbol]
        joint = self.mode is Mode.MULTI_ASSETS
        self.legs = {
            s: structs.replace(leg, isolated=False, isolated_wallet=0.0, version_ms=self.now_ms) if joint else leg
            for s, leg in self.legs.items()
        }
        self.step(
            AccountSnapshot(
                venue=VENUE,
                account="main",
                as_of_ms=self.now_ms + 1,
                mode=self.mode,
                hedge=False,
                balances=tuple(Balance(a, w, w, self.now_ms) for a, w in self.wallets.items()),
                positions=tuple(structs.replace(leg, version_ms=self.now_ms) for leg in self.legs.values() if leg.quantity),
                leverages=dict.fromkeys(SYMBOLS, 20.0),
                open_order_margins={},
                figures=(),
                implied_prices={},
            )
        )

    def message(self) -> None:
        for name in list(self.engine._schemes[VENUE].book.accounts["main"].pools):
            if self.rng.random() < 0.5:
                self.ledger.message(name)

    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.rng.choice(
                (
                    lambda: self.prices(self.rng.sample(list(SYMBOLS), 2)),
                    self.rates,
                    self.trade,
                    self.pay,
                    self.snapshot,
                    self.message,
                    self.second,
                )
            )()
        self.message()


@pytest.mark.parametrize("mode", list(Mode))
@settings(max_examples=max(60, settings().max_examples // 2), deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(10, 60))
def test_the_parts_are_the_whole_move(mode: Mode, seed: int, steps: int) -> None:
    """Joint and single-asset accounts, and those that change between the two."""
    life = Life(Random(seed), mode)
    life.live(steps)


def test_the_law_is_put_to_the_test() -> None:
    """Those lives do tell messages with causes: a law that is never asked holds always."""
    lives = [Life(Random(seed), mode) for seed in range(10) for mode in Mode]
    for life in lives:
        life.live(50)
    assert sum(life.ledger.told for life in lives) > 200


@settings(max_examples=max(60, settings().max_examples // 2), deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(5, 60))
def test_the_parts_are_the_whole_move_of_a_coin(seed: int, steps: int) -> None:
    rng, now_ms = Random(seed), START_MS
    codes = ("BTC260327", "BTC260626")
    engine = Engine([AccountSetup(HTX, "main", RuleBook())])
    ledger = Ledger(engine, HTX)
    static, legs = rng.uniform(0.5, 3), {}
    prices = dict.fromkeys(codes, 10_000.0)

    def step(event: object) -> None:
        said = engine.step(event, now_ms)  # type: ignore[arg-type]
        for t in said:
            if t.key.rule in ("health", "guarantee_asset_ratio") and t.figures is not None and t.figures.equity is not None:
                if "BTC" in ledger.equity and t is said[0]:
                    gap = sum(parts(t.causes).values()) - (t.figures.equity - ledger.equity["BTC"])
                    assert abs(gap) <= 1e-9 * ledger.terms["BTC"], (gap, t.causes)
                ledger.equity["BTC"] = t.figures.equity
        ledger.look()
        ledger.begin()

    def balance() -> CoinBalance:
        return CoinBalance(
            coin="BTC", margin_static=static, profit_real=0.0, margin_frozen=0.0, leverage=10.0, adjust_factor=None,
            version_ms=now_ms,
        )  # fmt: skip

    tiers = (FactorTier(0, 0, 99_999, 0.2),)
    step(Instruments(HTX, tuple(Instrument(code, "BTC", "1", face=100.0) for code in codes[:1])))
    step(GuaranteeTables(HTX, now_ms, (FactorTable("BTC", 10.0, tiers),)))
    for _ in range(steps):
        now_ms += 7
        match rng.randrange(8):
            case 0:
                step(Instruments(HTX, tuple(Instrument(code, "BTC", "1", face=100.0) for code in codes)))
            case 1 | 2:
                prices = {code: 10_000 * rng.uniform(0.8, 1.3) for code in codes}
                step(Prices(HTX, PriceKind.LAST, [Price(code, price, now_ms) for code, price in prices.items()]))
            case 3:
                code, side = rng.choice(codes), rng.choice(("LONG", "SHORT"))
                count = float(rng.choice((0, rng.randrange(1, 900)))) * (1 if side == "LONG" else -1)
                hold = 10_000 * rng.uniform(0.9, 1.1) if count else 0.0
                legs[code, side] = Position(code, side, count, hold, now_ms, margin_asset="BTC")
                step(CoinUpdate(venue=HTX, account="main", event_time_ms=now_ms, reason="order.match",
                                positions=(legs[code, side],)))  # fmt: skip
            case 4:
                static += rng.uniform(-0.2, 0.2)
                step(CoinUpdate(venue=HTX, account="main", event_time_ms=now_ms, reason=rng.choice(list(WHYS)),
                                balances=(balance(),)))  # fmt: skip
            case 5:
                held = tuple(structs.replace(leg, version_ms=now_ms) for leg in legs.values() if leg.quantity)
                step(CoinSnapshot(venue=HTX, account="main", as_of_ms=now_ms + 1, balance=balance(), positions=held,
                                  implied_prices={}))  # fmt: skip
            case 6:
                now_ms += 1000
                step(TimePassed())
            case 7 if "BTC" in engine._schemes[HTX].book.accounts["main"].pools:
                ledger.message("BTC")
