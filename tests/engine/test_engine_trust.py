"""Trust is a property of the pool: one truth of what is sure, unverified or unknown, for ages, alerts, figures and readers."""

from __future__ import annotations

import pytest
from coin_world import VENUE as HTX
from coin_world import TwoCoins
from msgspec import structs

from monitor.model.alerts import Incident, IncidentKey, Level, Transition
from monitor.model.events import CoinsHeld, Settlement

SUBJECTS = ("account", "reconciliation")


def stale(said: list[Transition], pool: str | None = None) -> list[tuple[str, str, str]]:
    """(pool, subject, level) of what is said of ages."""
    return [(t.key.pool, t.key.subject, t.level.word) for t in said if t.key.rule == "stale" and pool in (None, t.key.pool)]


def was_open(*keys: IncidentKey, level: Level = Level.CRITICAL) -> dict[IncidentKey, Incident]:
    """What the store would hold."""
    return {
        key: Incident(id="1", key=key, level=level, worst=level, opened_ms=0, changed_ms=0, summary="", known_level=level)
        for key in keys
    }


def rest(world: TwoCoins, seconds: int, *, btc_s: int = 4, eth_s: int = 0, pushes: bool = False) -> list[Transition]:
    """Seconds in which the venue answers on each coin so often; 0: it refuses. pushes: of ETH, every 5 s."""
    said = []
    for second in range(1, seconds + 1):
        said += world.tick()
        if btc_s and second % 4 == 0:
            said += world.feed(CoinsHeld(HTX, "main", ("BTC", "ETH"), world.now_ms))
        if btc_s and second % btc_s == 0:
            said += world.btc()
        if eth_s and second % eth_s == 0:
            said += world.eth(30.0)
        if pushes and second % 5 == 0:
            said += world.eth_pushed()
    return said


# ------------------------------------------------------------------ row 1: HTX, pictures come by coin


def test_row_01_a_coin_without_pictures_is_unknown_within_60_s_though_the_other_has_them() -> None:
    world = TwoCoins()
    world.live()
    world.down()
    said = rest(world, 61)
    assert stale(said) == [("ETH", "account", level) for level in ("warning", "high", "critical")], "of ETH alone, and no end"
    assert said[-1].summary == "the picture of ETH is 60 s old, limit 60 s; the figures are UNKNOWN"
    eth, btc = world.of("ETH"), world.of("BTC")
    assert eth.level == Level.UNKNOWN
    assert eth.age_ms is not None
    assert eth.age_ms >= 60_000
    assert btc.level == Level.OK
    assert btc.age_ms is not None
    assert btc.age_ms < 5_000
    table = world.engine.table()
    levels = {key.pool: level for key, level in zip(table.keys, table.level.tolist(), strict=True)}
    assert levels == {"BTC": Level.OK, "ETH": Level.UNKNOWN}
    assert world.engine.too_old() == [f"ETH of account main of {HTX}"], "the dead man sees it"
    assert world.engine.trusted() == {(HTX, "main"): "reset"}


def test_row_01_what_was_open_on_the_coin_becomes_unknown_and_comes_back() -> None:
    world = TwoCoins()
    world.live()
    world.eth(1.15)
    world.down()
    said = rest(world, 61)
    assert [(t.key.pool, t.level.word) for t in said if t.key.rule == "health"] == [("ETH", "unknown")]
    said = world.eth(1.15) + world.tick()
    assert [(t.key.pool, t.level.word) for t in said if t.key.rule == "health"] == [("ETH", "critical")]
    assert stale(said) == [("ETH", "account", "ok")]


def test_row_01_with_the_stream_up_a_coin_that_is_not_reconciled_is_told() -> None:
    """Its pushes go on: it is not unknown, but nothing proves them whole."""
    world = TwoCoins()
    world.live()
    said = rest(world, 3600, btc_s=30, pushes=True)
    assert stale(said) == [("ETH", "reconciliation", "warning"), ("ETH", "reconciliation", "high")]
    assert not world.of("ETH").trusted
    assert world.of("BTC").trusted
    assert any("unverified" in why for why in world.of("ETH").unknown)
    assert "ETH" in world.engine.trusted()[HTX, "main"]
    assert stale(world.eth(30.0) + world.tick()) == [("ETH", "reconciliation", "ok")]
    assert world.of("ETH").trusted
    assert world.engine.trusted() == {(HTX, "main"): ""}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_row_01_an_incident_of_the_earlier_key_ends_when_all_of_the_account_is_sure(subject: str) -> None:
    key = IncidentKey(HTX, "main", "", "stale", subject)
    world = TwoCoins(restored=was_open(key))
    world.market()
    world.down()
    said = world.btc() + rest(world, 8)
    assert [t for t in said if t.key == key] == [], "ETH has no picture yet, and the stream is down"
    said = world.eth(30.0) + world.btc() + world.up() + world.tick()
    assert [(t.level.word, t.was.word) for t in said if t.key == key] == [("ok", "critical")]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_row_01_a_restored_incident_of_a_coin_goes_on(subject: str) -> None:
    key = IncidentKey(HTX, "main", "ETH", "stale", subject)
    world = TwoCoins(restored=was_open(key))
    world.live()
    assert stale(rest(world, 2)) == []
    assert world.of("ETH").trusted


def test_row_01_no_word_of_freshness_while_one_coin_is_not() -> None:
    """Nothing was known of the account for a minute; then one coin answers."""
    world = TwoCoins()
    world.market()
    world.down()
    said = rest(world, 90, btc_s=0)
    assert stale(said)[-1] == ("", "account", "critical")
    world.eth(30.0)
    world.down()
    said = world.btc() + rest(world, 70)
    assert ("", "account", "ok") not in stale(said)
    assert stale(said, "ETH")[-1] == ("ETH", "account", "critical")
    said = rest(world, 4, btc_s=4, eth_s=4) + world.up() + world.tick()
    assert {("", "account", "ok"), ("ETH", "account", "ok")} <= set(stale(said))


def test_row_01_a_coin_that_the_stream_carries_does_not_wait_for_the_other() -> None:
    """The account's stream counts as up only when every coin has its picture: BTC is sure long before."""
    world = TwoCoins()
    world.live()
    world.down()
    world.feed(structs.replace(world.picture("BTC"), live=True))
    said = rest(world, 30, btc_s=0)
    assert stale(said, "BTC") == []
    assert world.of("BTC").trusted
    assert world.of("BTC").age_ms == 0
    assert not world.of("ETH").trusted


def test_an_alert_becomes_unknown_though_an_event_marks_the_pool_before_the_second_does() -> None:
    """The venue says again that the coin settles in the very moment in which it has been held for too long."""
    world = TwoCoins()
    world.live()
    world.eth(1.15)
    said = world.feed(Settlement(HTX, "ETH", True, world.now_ms))
    for _ in range(299):
        said += world.tick()
    world.now_ms += 1_000
    said += world.feed(Settlement(HTX, "ETH", True, world.now_ms))
    assert world.of("ETH").level == Level.UNKNOWN, "marked by the event"
    said += world.tick()
    assert [(t.key.pool, t.level.word) for t in said if t.key.rule == "health"] == [("ETH", "unknown")]
