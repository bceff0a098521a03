"""Versions of rows: a newer stream row is never rolled back, and a full picture clears what is gone."""

from __future__ import annotations

import pytest
from engine_world import VENUE

from monitor.engine.ledger import HEAL_MS, Ledger
from monitor.model.events import AccountSnapshot, AccountUpdate, Balance, Mode, Position

NOW = 1_000_000
FAR = NOW * 1000


def snapshot(
    as_of_ms: int, *, wallet: tuple[float, int] | None = None, amount: tuple[float, int] | None = None
) -> AccountSnapshot:
    return AccountSnapshot(
        venue=VENUE,
        account="main",
        as_of_ms=as_of_ms,
        mode=Mode.MULTI_ASSETS,
        hedge=False,
        balances=(Balance("USDT", wallet[0], wallet[0], wallet[1]),) if wallet else (),
        positions=(Position("BTCUSDT", "BOTH", amount[0], 1.0, amount[1]),) if amount else (),
        leverages={},
        open_order_margins={},
        figures=(),
        implied_prices={},
    )


def update(event_ms: int, *, wallet: float | None = None, amount: float | None = None) -> AccountUpdate:
    return AccountUpdate(
        venue=VENUE,
        account="main",
        event_time_ms=event_ms,
        reason="ORDER",
        balances=() if wallet is None else (Balance("USDT", wallet, wallet, event_ms),),
        positions=() if amount is None else (Position("BTCUSDT", "BOTH", amount, 1.0, event_ms),),
    )


@pytest.mark.parametrize(
    ("events", "wallet", "amount", "why"),
    [
        ([snapshot(NOW, wallet=(10, 5), amount=(1, 5))], 10, 1, "a first picture"),
        ([snapshot(NOW, wallet=(10, 5)), update(NOW + 1, wallet=9)], 9, None, "a newer row"),
        ([snapshot(NOW, wallet=(10, NOW - 1)), update(NOW - 2, wallet=9)], 10, None, "an older row, late"),
        ([update(NOW + 5, wallet=9), snapshot(NOW, wallet=(10, NOW - 1))], 9, None, "an older answer, late"),
        ([update(NOW, wallet=9), update(NOW, wallet=8)], 8, None, "two events of one fill share their time"),
        (
            [update(NOW, wallet=9), snapshot(NOW, wallet=(7, NOW))],
            9,
            None,
            "equal versions, asked in the same instant: ours stays",
        ),
        ([update(NOW, wallet=9), snapshot(NOW + 1, wallet=(7, NOW))], 7, None, "equal versions, asked later: the answer has all"),
        ([update(NOW, amount=3), snapshot(NOW + 1)], None, 0, "gone from a later picture: flat"),
        ([update(NOW, amount=3), snapshot(NOW - 1)], None, 3, "opened after the picture was asked for: kept"),
        ([update(NOW, amount=0), snapshot(NOW - 1, amount=(3, NOW - 9))], None, 0, "an older answer cannot reopen a closed leg"),
        ([update(NOW, wallet=9), update(NOW + 1)], 9, None, "an update without rows clears nothing"),
        (
            [update(NOW + 5, wallet=9), snapshot(NOW + 5 + HEAL_MS + 1, wallet=(7, NOW))],
            7,
            None,
            "a row cannot be newer than an answer that was asked for a minute later",
        ),
        ([update(FAR, wallet=9), snapshot(NOW, wallet=(7, NOW))], 7, None, "a time in microseconds does not outlive an answer"),
        ([update(FAR, amount=3), snapshot(NOW, amount=(1, NOW))], None, 1, "nor that of a leg"),
        ([update(FAR, wallet=9), snapshot(NOW, wallet=(7, FAR))], 7, None, "not where it repeats the wrong time either"),
        ([update(FAR, wallet=9, amount=3), snapshot(NOW)], 0, 0, "nor a picture that has it no longer"),
        (
            [update(NOW + HEAL_MS, wallet=9), snapshot(NOW, wallet=(7, NOW))],
            9,
            None,
            "a minute ahead is still a clock that is off",
        ),
    ],
)
def test_versions(events: list[AccountSnapshot | AccountUpdate], wallet: float | None, amount: float | None, why: str) -> None:
    ledger = Ledger()
    for event in events:
        if isinstance(event, AccountSnapshot):
            ledger.take_snapshot(event)
        else:
            ledger.take_update(event)
    if wallet is not None:
        assert ledger.balances["USDT"].wallet == wallet, why
    if amount is not None:
        assert ledger.positions["BTCUSDT", "BOTH"].quantity == amount, why


def test_rows_that_were_older_are_counted() -> None:
    ledger = Ledger()
    ledger.take_update(update(NOW + 5, wallet=9))
    ledger.take_snapshot(snapshot(NOW, wallet=(10, NOW - 1)))
    assert ledger.rows_older == 1


def test_a_stream_row_keeps_the_margin_asset_that_only_the_answer_told() -> None:
    ledger = Ledger()
    ledger.take_update(AccountUpdate(venue=VENUE, account="main", event_time_ms=1, reason="", positions=(
        Position("ETHBTC", "BOTH", 1.0, 1.0, 1, margin_asset="BTC"),)))  # fmt: skip
    ledger.take_update(AccountUpdate(venue=VENUE, account="main", event_time_ms=2, reason="", positions=(
        Position("ETHBTC", "BOTH", 2.0, 1.0, 2),)))  # fmt: skip
    assert ledger.positions["ETHBTC", "BOTH"].margin_asset == "BTC"
