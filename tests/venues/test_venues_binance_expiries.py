"""Row 6: listen keys that end early. What is one end told twice, and what are two?"""

from __future__ import annotations

import pytest

from monitor.venues.binance.expiries import Expiries

MINUTE = 60.0


@pytest.mark.parametrize(
    ("ends", "told", "why"),
    [
        ([("a", 0, 5 * MINUTE)], [0], "one end is survived in silence"),
        ([("a", 0, 5 * MINUTE), ("b", 6 * MINUTE, 14.9 * MINUTE)], [0, 2], "two within ten minutes"),
        ([("a", 0, 5 * MINUTE), ("b", 6 * MINUTE, 15 * MINUTE)], [0, 0], "ten minutes apart is no pattern"),
        ([("a", 0, 5 * MINUTE), ("a", 0, 5 * MINUTE)], [0, 0], "the notice came twice"),
        ([("a", 0, 300), ("a", 290, 301)], [0, 0], "both connections of a rotation hear of it"),
        ([("a", 0, 300), ("b", 290, 301)], [0, 2], "they had keys of their own: two ends"),
        ([("a", 0, 300), ("a", 305, 400)], [0, 2], "the same key again, on a connection opened after its end: it ended again"),
        ([("a", 0, 10), ("b", 11, 20), ("c", 21, 30), ("d", 31, 40)], [0, 2, 0, 0], "a storm is told once"),
        (
            [("a", 0, 10), ("b", 11, 20), ("c", 21, 610), ("d", 611, 621)],
            [0, 2, 0, 2],
            "and again when it still goes on after ten minutes",
        ),
    ],
)
def test_what_is_told(ends: list[tuple[str, float, float]], told: list[int], why: str) -> None:
    expiries = Expiries()
    assert [expiries.note(key, opened_at, now) for key, opened_at, now in ends] == told, why
