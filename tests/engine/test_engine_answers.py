"""The venue's own figures: what a full answer counts for, what ends with its pool, and tables that cannot be right."""

from __future__ import annotations

from engine_world import START_MS, VENUE, World, figures_of

from monitor.model.alerts import Level, Transition
from monitor.model.events import Brackets, Mode, Position
from monitor.model.instruments import Bracket, BracketTable


def of_rule(said: list[Transition], rule: str) -> list[tuple[str, str, str]]:
    """(pool, level, summary) of what one rule says."""
    return [(t.key.pool, t.level.word, t.summary) for t in said if t.key.rule == rule]


def test_row_13_brackets_that_ask_for_less_than_nothing_make_the_pool_unknown() -> None:
    world = World()
    world.start()
    world.snapshot()
    world.mark(19_082.0)  # equity 82, maintenance 76.3: liquidation is near
    assert world.pool().level >= Level.CRITICAL
    wrong = (Bracket(1, 0, 1e9, 0.004, 5_000.0, 125),)
    said = world.feed(Brackets(VENUE, "main", (BracketTable("BTCUSDT", wrong),), world.now_ms))
    assert ("USD", "ok") not in [(t.key.pool, t.level.word) for t in said if t.key.rule == "health"], "nothing resolves"
    pool = world.pool()
    assert pool.level == Level.UNKNOWN
    assert pool.requirement is None
    assert pool.health is None
    assert any("the brackets of BTCUSDT ask for nothing or less" in why for why in pool.unknown)


def test_row_18_an_answer_that_says_nothing_of_the_pool_is_no_further_difference() -> None:
    world = World()
    world.start()
    differing = figures_of(1_020.0, 80.0)
    said = world.snapshot(figures=differing)
    for _ in range(4):
        said += world.snapshot(figures=())
    assert of_rule(said, "reconcile") == [], "one answer that differs, and four that are torn"
    said = world.snapshot(figures=differing) + world.snapshot(figures=differing)
    assert [level for _, level, _ in of_rule(said, "reconcile")] == ["warning"], "three that differ"


def test_row_15_a_difference_of_an_isolated_pool_ends_with_its_position() -> None:
    leg = Position("BTCUSDT", "BOTH", 1.0, 20_000.0, START_MS, True, 1_000.0, "USDT")
    world = World(mode=Mode.SINGLE_ASSET, wallets={"USDT": 2_000.0}, position=leg)
    world.start()
    own = figures_of(1_000.0, 80.0, "USDT")
    said = world.snapshot(figures=(*own, *figures_of(2_000.0, 80.0, "BTCUSDT")))
    assert ("BTCUSDT", "high") in [(pool, level) for pool, level, _ in of_rule(said, "reconcile")]
    said = world.snapshot(positions=(), figures=own)
    ends = [one for one in of_rule(said, "reconcile") if one[0] == "BTCUSDT"]
    assert ends == [("BTCUSDT", "ok", "the pool no longer exists")]
    assert [one for one in of_rule(world.snapshot(positions=(), figures=own), "reconcile") if one[0] == "BTCUSDT"] == []


def test_row_15_a_difference_of_a_pool_ends_with_the_mode_that_made_it() -> None:
    world = World()
    world.start()
    said = world.snapshot(figures=figures_of(2_000.0, 80.0))
    assert [(pool, level) for pool, level, _ in of_rule(said, "reconcile")] == [("USD", "high")]
    said = world.snapshot(mode=Mode.SINGLE_ASSET, figures=figures_of(1_000.0, 80.0, "USDT"))
    assert ("USD", "ok", "the pool no longer exists") in of_rule(said, "reconcile")
