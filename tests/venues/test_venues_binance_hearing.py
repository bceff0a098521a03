"""When a quiet user stream is found deaf, as a table of what was seen and heard."""

from __future__ import annotations

import pytest

from monitor.model.events import AccountSnapshot, Balance, Mode
from monitor.venues.binance.hearing import Hearing


def snapshot(wallet: float) -> AccountSnapshot:
    return AccountSnapshot(
        venue="binance_usdm",
        account="main",
        as_of_ms=0,
        mode=Mode.MULTI_ASSETS,
        hedge=False,
        balances=(Balance("USDT", wallet, wallet, 0),),
        positions=(),
        leverages={},
        open_order_margins={},
        figures=(),
        implied_prices={},
    )


@pytest.mark.parametrize(
    ("script", "deaf", "why"),
    [
        ("ask 1 | answer 1 5 | ask 30 | answer 30 5 | ask 60 | answer 60 5", False, "nothing changed, nothing to hear"),
        ("ask 1 | answer 1 5 | heard | ask 30 | answer 30 6 | ask 40 | answer 40 6", False, "heard before it was seen"),
        ("ask 1 | answer 1 5 | ask 30 | answer 30 6 | heard | ask 40 | answer 40 6", False, "heard within the grace"),
        ("ask 1 | answer 1 5 | ask 30 | heard | answer 30 5 | ask 60 | answer 60 6", False, "heard while the answer was older"),
        ("ask 1 | answer 1 5 | ask 30 | answer 30 6 | ask 32 | answer 32 6", False, "the grace is not over"),
        ("ask 1 | answer 1 5 | ask 30 | answer 30 6 | ask 36 | answer 36 6", True, "seen, and not heard of"),
        ("ask 1 | answer 1 5 | heard | ask 30 | answer 30 6 | ask 60 | answer 60 7 | ask 90 | answer 90 7", True, "deaf since"),
        ("ask 1 | answer 1 5 | ask 30 | answer 30 6 | forget | ask 40 | answer 40 7", False, "another connection"),
    ],
)
def test_hearing(script: str, deaf: bool, why: str) -> None:
    hearing = Hearing(grace_s=5)
    now = 0.0
    for step in script.split(" | "):
        match step.split():
            case ["ask", at]:
                now = float(at)
                hearing.asking()
            case ["answer", at, wallet]:
                hearing.answered(snapshot(float(wallet)), float(at))
            case ["heard"]:
                hearing.heard()
            case ["forget"]:
                hearing.forget()
    assert hearing.deaf(now) is deaf, why
