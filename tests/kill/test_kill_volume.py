"""Volume: many thousand steps of the incidents' life, many thousand broken frames through each decoder.

The strategies, the good frames and the checks are those of the tests beside the parts; here is only the number of examples.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test
from kill_desk import DeskHistories, receiving_desk
from test_alerts_decide import Histories
from test_venues_binance_fuzz import FRAMES, check
from test_venues_binance_fuzz import NASTY as BINANCE_NASTY
from test_venues_htx_fuzz import MESSAGES, check_market, check_user, places, wires
from test_venues_htx_fuzz import NASTY as HTX_NASTY

from monitor.model.streams import Counters
from monitor.venues.binance.user_wire import UserWire
from monitor.venues.binance.wire import MarketWire

STEPS = 20_000
FRAMES_EACH = 100_000


def walked(machine: type[RuleBasedStateMachine], steps: int) -> int:
    """Runs the machine until it took so many steps. Each round has a seed of its own, and prints how to repeat a failure."""
    taken = [0]

    class Counted(machine):  # type: ignore[misc,valid-type]
        @invariant()
        def counted(self) -> None:
            taken[0] += 1

    hard = settings(
        max_examples=200,
        stateful_step_count=50,
        deadline=None,
        database=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    while taken[0] < steps:
        before = taken[0]
        run_state_machine_as_test(Counted, settings=hard)
        assert taken[0] > before
    return taken[0]


@pytest.mark.timeout(300)
def test_the_decision_over_20_000_steps() -> None:
    """Each worsening is told, missing data resolve nothing, one end per beginning: the laws stand in the machine."""
    assert walked(Histories, STEPS) >= STEPS


@pytest.mark.timeout(600)
def test_the_desk_over_20_000_steps() -> None:
    """The same through desk, outbox and store, with restarts and a receiver that fails."""
    with receiving_desk():
        assert walked(DeskHistories, STEPS) >= STEPS


# ------------------------------------------------------------------ frames


def _values(strategy: Any) -> list[Any]:
    """The nasty values of a fuzz strategy, as a plain list: drawing each one by hypothesis would take hours."""
    elements = getattr(strategy, "elements", None)
    if elements is not None:
        return list(elements)
    branches = getattr(strategy, "wrapped_strategy", strategy)
    if branches is not strategy:
        return _values(branches)
    return [value for branch in strategy.branches for value in _values(branch)]


def mutated(rng: random.Random, originals: list[Any], nasty: list[Any]) -> bytes:
    """A good message with a few places replaced, doubled or taken away, and now and then a few bytes as well."""
    message = json.loads(json.dumps(rng.choice(originals)))
    for _ in range(rng.randint(1, 3)):
        paths = places(message)[1:]
        if not paths:
            break
        path = rng.choice(paths)
        holder = message
        for key in path[:-1]:
            holder = holder[key]
        match rng.randrange(5):
            case 0:
                del holder[path[-1]]
            case 1 if isinstance(holder, list):
                holder.insert(path[-1], deepcopy(holder[path[-1]]))
            case 2 if isinstance(holder, dict):
                holder[rng.choice(["", "e", "E", "data", "ts", "ch", "op", "x" * 40])] = deepcopy(rng.choice(nasty))
            case _:
                holder[path[-1]] = deepcopy(rng.choice(nasty))
    text = bytearray(json.dumps(message).encode())
    if rng.random() < 0.25 and text:
        for _ in range(rng.randint(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
        if rng.random() < 0.5:
            del text[rng.randrange(len(text)) :]
    return bytes(text)


def packed(rng: random.Random, data: bytes) -> bytes:
    """As HTX sends it, and sometimes broken after packing."""
    frame = bytearray(gzip.compress(data, 1))
    chance = rng.random()
    if chance < 0.05:
        del frame[rng.randrange(len(frame)) :]
    elif chance < 0.1:
        frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
    return bytes(frame)


def binance_market(frame: bytes) -> bool:
    """Checks what a frame brings; True if it brought anything. So do the others."""
    events = MarketWire(Counters()).receive(frame).events
    for event in events:
        check(event)
    return bool(events)


def binance_user(frame: bytes) -> bool:
    events = UserWire("main", Counters()).receive(frame).events
    for event in events:
        check(event)
    return bool(events)


def htx_market(frame: bytes) -> bool:
    said = wires()[0].receive(frame)
    check_market(said)
    return said.prices is not None


def htx_user(frame: bytes) -> bool:
    said = wires()[1].receive(frame)
    check_user(said)
    return bool(said.updates or said.contracts)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("decode", "originals", "nasty", "is_packed"),
    [
        pytest.param(binance_market, FRAMES, _values(BINANCE_NASTY), False, id="binance_market"),
        pytest.param(binance_user, FRAMES, _values(BINANCE_NASTY), False, id="binance_user"),
        pytest.param(htx_market, MESSAGES, _values(HTX_NASTY), True, id="htx_market"),
        pytest.param(htx_user, MESSAGES, _values(HTX_NASTY), True, id="htx_user"),
    ],
)
def test_100_000_mutated_frames(decode: Callable[[bytes], bool], originals: list[Any], nasty: list[Any], is_packed: bool) -> None:
    seed = random.SystemRandom().getrandbits(32)
    rng = random.Random(seed)
    brought = 0
    for number in range(FRAMES_EACH):
        data = mutated(rng, originals, nasty)
        frame = packed(rng, data) if is_packed else data
        try:
            brought += decode(frame)
        except Exception as exc:
            raise AssertionError(f"seed {seed}, frame {number}: {frame!r}") from exc
    # Enough damage to be refused, and not so much that nothing but refusals is tried.
    assert 0.02 * FRAMES_EACH < brought < 0.8 * FRAMES_EACH, f"seed {seed}: {brought} of {FRAMES_EACH} brought something"
