"""A ban that a run before this one noted: kept to, however wrong the note is."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from monitor.bans import LONGEST_MS, Bans
from monitor.venues import Venue
from monitor.venues.binance.settings import BinanceSettings
from monitor.venues.binance.venue import BinanceVenue
from monitor.venues.htx.settings import HtxSettings
from monitor.venues.htx.venue import HtxVenue

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
FIREWALL_MS = 60_000  # HTX orders no longer pause


class _Notes:
    def __init__(self, **kept: str) -> None:
        self.kept = {f"banned_until_ms:{venue}": note for venue, note in kept.items()}

    def note(self, key: str) -> str | None:
        return self.kept.get(key)

    def put_note(self, key: str, value: str) -> None:
        self.kept[key] = value

    async def commit(self) -> bool:
        return True


def _venues() -> list[Venue]:
    return [
        BinanceVenue(BinanceSettings(), (), lambda _event: None, lambda: NOW_MS),
        HtxVenue(HtxSettings(), (), lambda _event: None, lambda: NOW_MS),
    ]


@pytest.mark.parametrize(
    ("note", "binance_ms", "htx_ms", "logged", "why"),
    [
        (None, 0, 0, "", "never banned"),
        (str(NOW_MS - 1), 0, 0, "", "over"),
        (str(NOW_MS + 30_000), 30_000, 30_000, "", "as it was noted"),
        (str(NOW_MS + 3 * DAY_MS), 3 * DAY_MS, FIREWALL_MS, "", "the longest ban"),
        (str(NOW_MS + 400 * DAY_MS), 3 * DAY_MS, FIREWALL_MS, "ban_note_capped", "noted while the clock was 400 days ahead"),
        ("253402300799000", 3 * DAY_MS, FIREWALL_MS, "ban_note_capped", "year 9999"),
        ("9" * 400, 3 * DAY_MS, FIREWALL_MS, "ban_note_capped", "more than a calendar holds"),
        ("9" * 5000, 0, 0, "ban_note_unreadable", "more digits than are read"),
        ("tomorrow", 0, 0, "ban_note_unreadable", "no number"),
        ("1e400", 0, 0, "ban_note_unreadable", "no whole number"),
        ("nan", 0, 0, "ban_note_unreadable", "not a number"),
        ("-1", 0, 0, "", "long over"),
        ("", 0, 0, "", "empty"),
    ],
)
async def test_row_17_a_note_is_capped_and_nonsense_is_ignored(
    note: str | None, binance_ms: int, htx_ms: int, logged: str, why: str
) -> None:
    binance, htx = venues = _venues()
    kept = {} if note is None else {venue.name: note for venue in venues}
    notes = _Notes(**kept)
    with capture_logs() as logs:
        bans = Bans(venues, notes, lambda: NOW_MS)
    assert (max(0, binance.shut_out_until_ms() - NOW_MS), max(0, htx.shut_out_until_ms() - NOW_MS)) == (binance_ms, htx_ms), why
    assert {entry["event"] for entry in logs} == ({logged} if logged else set()), why
    if logged == "ban_note_capped":
        await bans.look()
        assert int(notes.kept[f"banned_until_ms:{binance.name}"]) == NOW_MS + LONGEST_MS, "a start after this one ends with it"
