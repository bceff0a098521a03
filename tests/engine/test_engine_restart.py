"""Incidents that were open when the program ended: they end by data, or when what they speak of is gone; never before."""

from __future__ import annotations

import pytest
from coin_world import VENUE as HTX
from coin_world import TwoCoins
from engine_world import VENUE as BINANCE
from engine_world import World

from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.events import Settlement
from monitor.model.figures import PoolKey
from monitor.rules import RuleBook

GONE = "the pool no longer exists"


def was_open(key: IncidentKey, level: Level = Level.CRITICAL) -> dict[IncidentKey, Incident]:
    """What the store would hold."""
    return {key: Incident(id="1", key=key, level=level, worst=level, opened_ms=0, changed_ms=0, summary="", known_level=level)}


def coin_health(coin: str, level: Level = Level.CRITICAL) -> dict[IncidentKey, Incident]:
    return was_open(IncidentKey(HTX, "main", coin, "health"), level)


# ------------------------------------------------------------------ HTX: pictures come by coin


def told(said: list[Transition]) -> list[tuple[str, str, str]]:
    return [(t.key.pool, t.was.word, t.level.word) for t in said if t.key.rule == "health"]


@pytest.mark.parametrize(
    ("health", "expected", "why"),
    [
        (1.17, [], "as bad as it was told: the incident stays open, and nobody is paged twice"),
        (1.05, [("ETH", "critical", "emergency")], "worse meanwhile"),
        (3.0, [("ETH", "critical", "ok")], "its own figures end it"),
    ],
)
def test_the_first_coins_picture_says_nothing_of_the_others(
    health: float, expected: list[tuple[str, str, str]], why: str
) -> None:
    world = TwoCoins(restored=coin_health("ETH"))
    world.market()
    assert told(world.snapshot({"BTC1": 100.0})) == [], "ETH has no picture yet"
    assert told(world.eth(health) + world.up()) == expected, why
    figures = world.engine.figures(PoolKey(HTX, "main", "ETH"))
    assert figures is not None
    assert figures.health == pytest.approx(health)


def test_a_coin_that_the_complete_picture_does_not_hold_is_gone_and_begins_anew() -> None:
    world = TwoCoins(restored=coin_health("ETH"))
    world.market()
    world.snapshot({"BTC1": 100.0})
    said = world.up()
    assert [(t.key.pool, t.was.word, t.level.word, t.summary) for t in said] == [("ETH", "critical", "ok", GONE)]
    assert world.up() == [], "told once"
    assert told(world.eth(1.17)) == [("ETH", "ok", "critical")], "what was ended and comes back is told again"


def test_a_coin_that_settles_has_no_picture_yet() -> None:
    """The stream is up without it: the venue answers nothing of a coin while it settles."""
    world = TwoCoins(restored=coin_health("ETH"))
    world.market()
    world.feed(Settlement(HTX, "ETH", True, world.now_ms))
    assert world.snapshot({"BTC1": 100.0}) + world.up() == []
    world.feed(Settlement(HTX, "ETH", False, world.now_ms))
    assert told(world.eth(1.17)) == [], "still as it was told"
    world.now_ms += 1000
    assert told(world.eth(3.0)) == [("ETH", "critical", "ok")]


def test_an_account_without_any_coin_ends_what_was_open_when_its_stream_is_up() -> None:
    world = TwoCoins(restored=coin_health("ETH"))
    assert [t.summary for t in world.up()] == [GONE]


# ------------------------------------------------------------------ subjects and rules that are no longer there


@pytest.mark.parametrize("rule", ["collateral_rate", "collateral_move", "premium", "asset_mix", "auto_exchange"])
def test_the_incident_of_an_asset_that_was_sold_meanwhile_ends(rule: str) -> None:
    settings = {"premium": {"enabled": True}, "asset_mix": {"enabled": True}, "collateral_move": {"enabled": True}}
    key = IncidentKey(BINANCE, "main", "USD", rule, "USDC")
    world = World(RuleBook.model_validate(settings), restored=was_open(key), wallets={"USDT": 1000.0, "USDC": 0.0})
    ends = [(t.level.word, t.summary) for t in world.start() if t.key == key]
    assert ends == [("ok", "the asset is no longer held")], "the picture lists it with a wallet of 0"


@pytest.mark.parametrize(
    ("rule", "asset", "pegged", "why"),
    [
        ("collateral_rate", "BTC", ("USDT",), "BTC is not pegged: its rate moves every day, and what that does is in health"),
        ("collateral_rate", "USDC", ("USDT",), "USDC is not pegged: its rate moves every day, and what that does is in health"),
        ("collateral_move", "USDC", ("USDT", "USDC"), "USDC is pegged: collateral_rate looks at it"),
    ],
)
def test_section_3_the_incident_of_an_asset_that_the_rule_no_longer_judges_ends_and_says_why(
    rule: str, asset: str, pegged: tuple[str, ...], why: str
) -> None:
    """Open since an older version, or before the list was changed."""
    key = IncidentKey(BINANCE, "main", "USD", rule, asset)
    settings = {"collateral_rate": {"pegged": pegged}, "collateral_move": {"enabled": True}}
    world = World(RuleBook.model_validate(settings), restored=was_open(key), wallets={"USDT": 1000.0, asset: 500.0})
    said = [t for t in world.start() + world.rate(asset, 1.0) + world.rate(asset, 1.0, after_ms=1000) if t.key == key]
    assert [(t.level.word, t.summary) for t in said] == [("ok", why)]
    assert world.pool().level == 0, "and the pool's level no longer has it"


def test_the_incident_of_an_asset_that_is_held_ends_by_its_rate_only() -> None:
    key = IncidentKey(BINANCE, "main", "USD", "collateral_rate", "USDC")
    world = World(restored=was_open(key), wallets={"USDT": 1000.0, "USDC": 500.0})
    assert [(t.level.word, t.was.word) for t in world.start() if t.key == key] == [("ok", "critical")]
    assert all("no longer" not in t.summary for t in world.snapshot())


@pytest.mark.parametrize(
    ("venue", "account", "why"),
    [(BINANCE, "main", "told by the first picture"), (BINANCE, "", "of the venue, told at once")],
)
def test_a_stored_rule_that_no_longer_exists_ends_and_breaks_nothing(venue: str, account: str, why: str) -> None:
    key = IncidentKey(venue, account, "USD" if account else "", "rule_of_an_older_version")
    world = World(restored=was_open(key))
    said = world.engine.abandoned(world.now_ms) + world.start()
    assert [t.summary for t in said if t.key == key] == ["the rule no longer exists"], why


def test_a_name_that_is_no_rule_is_no_rule_though_the_settings_know_it() -> None:
    key = IncidentKey(BINANCE, "main", "USD", "model_fields")
    assert [t.summary for t in World(restored=was_open(key)).start() if t.key == key] == ["the rule no longer exists"]
