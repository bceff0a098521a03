"""From a raw mark-price frame to all decisions, as a ratio to `orjson.loads` of the same frame in the same run.

Contenders take turns frame by frame, and each round's ratio is its own: a noisy machine disturbs both alike.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time

import orjson
import pytest

from monitor.engine.engine import Engine
from monitor.engine.scheme import AccountSetup
from monitor.model.events import (
    AccountSnapshot,
    AssetRate,
    AssetRates,
    Balance,
    Brackets,
    Instruments,
    Mode,
    Position,
    Price,
    PriceKind,
    Prices,
)
from monitor.model.instruments import AssetInfo, Bracket, BracketTable, Instrument
from monitor.model.streams import Counters
from monitor.rules import RuleBook
from monitor.venues.binance.wire import VENUE, MarketWire

SYMBOLS = 550
ROUNDS, FRAMES = 15, 20
MUST = 2.0
START_MS = 1_700_000_000_000


def symbol_names(rng: random.Random) -> list[str]:
    names = dict.fromkeys(["BTCUSDT", "ETHUSDT", "BTCUSDC", "ETHUSDC"])
    while len(names) < SYMBOLS:
        base = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.choice((3, 3, 4, 4, 5, 7))))
        names[base + ("USDC" if rng.random() < 0.07 else "USDT")] = None
    return list(names)


def frame(symbols: list[str], prices: list[float], event_ms: int) -> bytes:
    """As the venue sends it in 2026, all symbols at once: about 90 KB."""
    rows = [
        {
            "e": "markPriceUpdate",
            "E": event_ms,
            "s": symbol,
            "p": f"{price:.8f}",
            "ap": f"{price * 1.00003:.8f}",
            "P": f"{price * 1.0002:.8f}",
            "i": f"{price * 0.99991:.8f}",
            "r": "0.00010000",
            "T": event_ms + 3_600_000,
        }
        for symbol, price in zip(symbols, prices, strict=True)
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def loaded_engine(accounts: int, legs: int, symbols: list[str], prices: list[float], rng: random.Random) -> Engine:
    engine = Engine([AccountSetup(VENUE, f"a{i}", RuleBook()) for i in range(accounts)])
    tiers = (
        Bracket(1, 0, 5e4, 0.004, 0, 125),
        Bracket(2, 5e4, 6e5, 0.005, 50, 100),
        Bracket(3, 6e5, 3e6, 0.01, 3050, 50),
    )
    assets = ("USDT", "USDC", "BTC")
    rates = (1.0, 1.0, 95_000.0)
    events = [
        Instruments(VENUE, tuple(Instrument(s, s[-4:]) for s in symbols), tuple(AssetInfo(a) for a in assets)),
        Brackets(VENUE, "", tuple(BracketTable(s, tiers) for s in symbols), START_MS),
        Prices(VENUE, PriceKind.MARK, [Price(s, p, START_MS) for s, p in zip(symbols, prices, strict=True)]),
        AssetRates(VENUE, [AssetRate(a, r, r * 0.95, r * 1.05, START_MS) for a, r in zip(assets, rates, strict=True)]),
    ]
    for event in events:
        engine.step(event, START_MS)
    price_of = dict(zip(symbols, prices, strict=True))
    for i in range(accounts):
        held = rng.sample(symbols, legs)
        positions = tuple(
            Position(s, "BOTH", rng.choice((1, -1)) * 10 ** rng.uniform(3, 6) / price_of[s], price_of[s], START_MS) for s in held
        )
        snapshot = AccountSnapshot(
            venue=VENUE,
            account=f"a{i}",
            as_of_ms=START_MS,
            mode=Mode.MULTI_ASSETS,
            hedge=False,
            balances=(Balance("USDT", 1e6, 1e6, START_MS), Balance("USDC", 1e4, 1e4, START_MS), Balance("BTC", 1, 1, START_MS)),
            positions=positions,
            leverages=dict.fromkeys(held, 20.0),
            open_order_margins={},
            figures=(),
            implied_prices={},
        )
        engine.step(snapshot, START_MS)
    return engine


@pytest.mark.bench
@pytest.mark.parametrize(("accounts", "legs"), [(1, 10), (100, 10), (1000, 10)])
def test_raw_frame_to_all_decisions(accounts: int, legs: int) -> None:
    rng = random.Random(5)
    symbols = symbol_names(rng)
    prices = [95_000.0, 3_400.0, 95_000.0, 3_400.0] + [10 ** rng.uniform(-3, 3) for _ in range(SYMBOLS - 4)]
    engine = loaded_engine(accounts, legs, symbols, prices, rng)
    wire = MarketWire(Counters())
    event_ms = START_MS
    ratios, ours_us = [], []
    gc.collect()
    gc.freeze()
    try:
        for _ in range(ROUNDS):
            ours = theirs = 0.0
            for _ in range(FRAMES):
                event_ms += 1000
                raw = frame(symbols, [p * (1 + rng.gauss(0, 1e-4)) for p in prices], event_ms)
                began = time.perf_counter()
                orjson.loads(raw)
                loaded = time.perf_counter()
                for event in wire.receive(raw).events:
                    engine.step(event, event_ms)
                theirs, ours = theirs + loaded - began, ours + time.perf_counter() - loaded
            ratios.append(ours / theirs)
            ours_us.append(1e6 * ours / FRAMES)
    finally:
        gc.unfreeze()
    ratio = statistics.median(ratios)
    print(f"\n{accounts} × {legs}: {statistics.median(ours_us):.0f} µs a frame of {len(raw)} bytes, {ratio:.2f} × orjson.loads")
    table = engine.table()
    assert len(table.keys) == accounts
    assert not (table.equity != table.equity).any(), "every pool was valued"
    if accounts <= 100:
        assert ratio <= MUST
