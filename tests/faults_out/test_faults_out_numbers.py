"""Numbers from outside that no calendar and no float holds: the daemon in a process of its own, and what becomes of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from conftest_e2e import until
from faults_out_kit import Stage, daemon, exchange, plunge
from sqlite_file import opened_file

from monitor.sim.exchange import SimExchange

NO_TIME = ["1e400", "-5", "nan", "inf", "٣", "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"]  # the last one raised OverflowError
TOO_LONG = ["99999999999999999999", "9" * 401, "Fri, 31 Dec 9999 23:59:59 GMT"]


def hurried(there: SimExchange, **over: Any) -> dict[str, Any]:
    venue = there.first_line()["venues"]["binance_usdm"]
    address = {"rest": venue["rest"], "spot": venue["rest"], "streams": venue["streams"]}
    return {"binance_usdm": address | {"reconcile_s": 0.5, "snapshot_pause_s": 0.1, "backoff_max_s": 0.5} | over}


@pytest.mark.parametrize(
    ("status", "code", "headers"),
    [(429, -1003, NO_TIME + TOO_LONG), (403, 0, NO_TIME + TOO_LONG), (418, -1003, NO_TIME)],
    ids=["rate_limit", "firewall", "ban"],
)
async def test_row_8_no_header_on_one_accounts_call_ends_the_daemon(
    stage: Stage, tmp_path: Path, status: int, code: int, headers: list[str], record_property: Any
) -> None:
    """Each header once. What it may order at most is short here, so that one after the other is met."""
    pauses = {"limit_pause_max_s": 0.3, "limit_default_s": 0.3, "firewall_s": 0.3, "ban_default_s": 0.3}
    async with exchange() as there, daemon(there, stage, tmp_path, venues=hurried(there, **pauses)) as one:
        await one.start()
        await one.ready()
        orders = there.binance.faults.rest
        for header in headers:
            there.fault("reject_rest", path="/fapi/v3/account", status=status, code=code, retry_after_s=header)
        await until(lambda: not orders or not one.alive, "all headers are met", 60)
        assert one.alive, one.text()[-3000:]
        mended = time.monotonic()
        plunge(there)
        await until(lambda: bool(stage.alerts()), "the account is watched on")
        pauses_told = one.events("venue_ordered_pause")
        assert {event["until_ms"] - round(1000 * time.time()) < 60_000 for event in pauses_told} == {True}
        assert len(pauses_told) == len(headers)
        assert "Traceback" not in one.text()
        assert await one.metric("margin_pool_health", account="main") > 0
    record_property("recovery_s", round(time.monotonic() - mended, 2))


@pytest.mark.parametrize(
    ("note", "says"),
    [
        ("tomorrow", "ban_note_unreadable"),
        ("9" * 5000, "ban_note_unreadable"),
        ("253402300799000", "ban_note_capped"),
        ("nan", "ban_note_unreadable"),
    ],
)
async def test_review_row_17_no_ban_note_ends_the_start(
    stage: Stage, tmp_path: Path, note: str, says: str, record_property: Any
) -> None:
    async with exchange() as there, daemon(there, stage, tmp_path) as one:
        await one.start()
        await one.ready()
        one.signal(15)
        assert await one.ended() == 0
        with opened_file(tmp_path / "store.sqlite3") as db:
            db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('banned_until_ms:binance_usdm', ?)", (note,))
        began = time.monotonic()
        await one.start()
        await until(lambda: bool(one.events(says)), "it is logged", 40)
        assert len(one.events(says)) == 1
        if says == "ban_note_unreadable":
            await one.ready()
        else:  # no request for 3 days: what is not known is told, and the page is there
            assert one.alive
            (capped,) = one.events(says)
            assert abs(capped["capped_ms"] - 1000 * time.time() - 3 * 86_400_000) < 60_000
            await until(lambda: noted(tmp_path) == capped["capped_ms"], "the next start does not begin the 3 days again", 30)
            assert await one.metric("margin_pool_level", account="main") == 0, "no pool yet"
    record_property("recovery_s", round(time.monotonic() - began, 2))


def noted(folder: Path) -> int:
    with opened_file(folder / "store.sqlite3") as db:
        (value,) = db.execute("SELECT value FROM meta WHERE key = 'banned_until_ms:binance_usdm'").fetchone()
        return int(value)
