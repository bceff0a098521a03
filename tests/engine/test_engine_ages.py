"""Each feed, symbol and account has an age of its own, by our own clock: no time that a venue or a wall clock names ages data."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from engine_world import START_MS, TIERS, VENUE, World

from monitor.clock import Clock
from monitor.model.events import (
    AssetRate,
    AssetRates,
    Brackets,
    Position,
    Price,
    PriceKind,
    Prices,
    StreamDown,
    StreamUp,
    TimePassed,
)
from monitor.model.instruments import BracketTable

DAY_MS = 86_400_000
SECONDS = 8  # beyond the first limit of the rule, 5 s


def world() -> World:
    """Two legs, two collateral assets, a live stream."""
    world = World(wallets={"USDT": 1000.0, "USDC": 500.0})
    world.start()
    world.feed(Brackets(VENUE, "main", (BracketTable("ETHUSDC", TIERS),), world.now_ms))
    world.mark(1800.0, "ETHUSDC")
    world.feed(StreamUp(VENUE, "main", "user"))
    world.update(positions=(Position("ETHUSDC", "BOTH", 0.1, 1800.0, world.now_ms, margin_asset="USDC"),))
    return world


def live_on(world: World, *, marks: tuple[str, ...] = ("BTCUSDT", "ETHUSDC"), rates: bool = True, shift_ms: int = 0) -> set[str]:
    """Some seconds in which only these advance; returns what is said to be stale. shift_ms: of the venue's times."""
    price = {"BTCUSDT": 20_000.0, "ETHUSDC": 1800.0}
    stale = set()
    for _ in range(SECONDS):
        world.now_ms += 1000
        at_ms = world.now_ms + shift_ms
        said = world.feed(Prices(VENUE, PriceKind.MARK, [Price(symbol, price[symbol], at_ms) for symbol in marks]))
        if rates:
            rows = [AssetRate(asset, 1.0, 1.0, 1.0, at_ms) for asset in ("USDT", "USDC")]
            said += world.feed(AssetRates(VENUE, rows))
        said += world.feed(TimePassed())
        stale |= {t.key.subject or t.key.pool for t in said if t.key.rule == "stale"}
    return stale


def stream_down(world: World) -> None:
    world.feed(StreamDown(VENUE, "main", "user", "reset"))


@pytest.mark.parametrize(
    ("before", "advancing", "stale", "why"),
    [
        (None, {}, set(), "all of it lives"),
        (None, {"marks": ()}, {"mark price"}, "the feed is silent: said once, of the feed"),
        (None, {"rates": False}, {"asset index"}, "the other feed"),
        (None, {"marks": ("BTCUSDT",)}, {"USD"}, "one symbol among living ones: said of the pool that holds it"),
        (stream_down, {}, {"account"}, "the account's own rows, while prices advance"),
        (None, {"shift_ms": DAY_MS}, set(), "a venue a day ahead of us"),
        (None, {"shift_ms": DAY_MS, "marks": ()}, {"mark price"}, "and its silence is silence all the same"),
    ],
)
def test_each_has_its_own_age(
    before: Callable[[World], None] | None, advancing: dict[str, object], stale: set[str], why: str
) -> None:
    one = world()
    if before is not None:
        before(one)
    assert live_on(one, **advancing) == stale, why  # type: ignore[arg-type]


def test_a_position_shows_the_age_of_its_own_price() -> None:
    one = world()
    live_on(one, marks=("BTCUSDT",))
    ages = {position.symbol: position.price_age_ms for position in one.pool().positions}
    assert ages == {"BTCUSDT": 0, "ETHUSDC": 1000 * SECONDS}
    assert one.pool().age_ms == 1000 * SECONDS, "a pool is as old as its oldest input"


def test_time_that_is_fed_back_does_not_make_anything_younger() -> None:
    """The engine's time never goes back, whatever it is told."""
    one = world()
    live_on(one, marks=("BTCUSDT",))
    one.engine.step(TimePassed(), START_MS)
    assert one.pool().age_ms == 1000 * SECONDS


@pytest.mark.parametrize("step_s", [-3600, -1, 1, 3600, 86_400])
def test_the_clock_does_not_follow_a_wall_clock_that_is_set(monkeypatch: pytest.MonkeyPatch, step_s: int) -> None:
    clock = Clock()
    before_ms = clock.now_ms()
    true_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + step_s * 1_000_000_000)
    assert 0 <= clock.now_ms() - before_ms < 900, "the wall clock moved by at least a second, this one by what passed"
    assert abs(Clock().now_ms() - before_ms - 1000 * step_s) < 900, "one that begins now begins from the new time"
