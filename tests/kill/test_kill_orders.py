"""Any order, split or duplication of the events of a recording ends in the same state: 10,000 disorders of each recording.

That is what makes reconnects, overlapping connections and late answers harmless.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from kill_recording import BINANCE, HTX, Recording, binance_recorded, htx_recorded, lively
from msgspec import structs

from monitor.model.events import AccountUpdate, CoinUpdate, Prices

DISORDERS = 10_000  # of a recording
LIVELY_DISORDERS = 500  # of ten times as many events


@pytest.mark.timeout(300)
@pytest.mark.parametrize("record", [binance_recorded, htx_recorded], ids=["binance", "htx"])
def test_every_order_of_what_was_recorded_ends_in_the_same_state(shared: Path, record: Callable[[Path], Recording]) -> None:
    recording = record(shared)
    expected = recording.state(recording.free)
    orders = [*itertools.permutations(recording.free)]
    for order in orders:
        assert recording.state(order) == expected
        assert recording.state([*order, *order]) == expected, "all of it once more"
        assert recording.state([event for event in order for _ in range(2)]) == expected, "each of it twice"
    rng = random.Random(7)
    for _ in range(DISORDERS):
        assert recording.state(recording.disordered(rng)) == expected


def test_what_was_recorded_ends_where_its_owners_said(shared: Path) -> None:
    """The state that all orders share is the right one."""
    recording = binance_recorded(shared)
    (usd,) = recording.state(recording.free).values()
    assert any("'asset': 'USDT', 'wallet': 5735.79804855" in row for row in usd["assets"])
    assert any("'asset': 'USDC', 'wallet': 48.84650063" in row for row in usd["assets"])
    assert len(usd["positions"]) == 2
    assert any("'symbol': 'XEMUSDT'" in row and "'quantity': -3367.0" in row for row in usd["positions"])
    (ada,) = htx_recorded(shared).state(htx_recorded(shared).free).values()
    assert any("'quantity': -1.0" in row for row in ada["positions"]), "the push replaces the nine of before"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("venue", [BINANCE, HTX])
async def test_disorders_of_a_lively_minute_end_in_the_same_state(venue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = await lively(venue, monkeypatch)
    updates = [event for event in recording.free if isinstance(event, AccountUpdate | CoinUpdate)]
    assert len(updates) >= 8
    assert sum(isinstance(event, Prices) for event in recording.free) >= 4
    expected = recording.state(recording.free)
    assert all(pool["health"] is not None for pool in expected.values() if pool["positions"]), "figures, not the lack of them"
    seed = random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    for number in range(LIVELY_DISORDERS):
        assert recording.state(recording.disordered(rng)) == expected, f"seed {seed}, disorder {number}"


async def test_the_comparison_sees_one_event_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: without the last word about one asset or leg the state is another."""
    recording = await lively(BINANCE, monkeypatch)
    expected = recording.state(recording.free)
    last = next(event for event in reversed(recording.free) if isinstance(event, AccountUpdate) and event.balances)
    late = structs.replace(last, balances=tuple(structs.replace(row, wallet=row.wallet + 1) for row in last.balances))
    assert recording.state([event if event is not last else late for event in recording.free]) != expected
