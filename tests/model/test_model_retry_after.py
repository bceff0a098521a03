"""A server's wish to be left alone: a stranger's number, so it is capped, and it never raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.model.retry_after import http_date_s, retry_after_s

NOW_MS = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
LONGEST_S = 3600.0


@pytest.mark.parametrize(
    ("header", "wait_s", "why"),
    [
        (None, None, "no header"),
        ("", None, "an empty one"),
        ("7", 7.0, "seconds"),
        (" 7 ", 7.0, "with blanks"),
        ("007", 7.0, "with zeros"),
        ("0", 0.0, "at once"),
        ("3601", 3600.0, "capped"),
        ("99999999999999999999", 3600.0, "no float holds it exactly, and nobody waits so long"),
        ("9" * 5000, 3600.0, "more digits than int() takes"),
        ("0" * 5000 + "7", 7.0, "zeros do not count"),
        ("-5", None, "negative is no time to wait"),
        ("1e400", None, "not whole seconds"),
        ("nan", None, "not a number"),
        ("inf", None, "not a number either"),
        ("1_000", None, "Python's way of writing is not the protocol's"),
        ("٧", None, "digits of another script"),
        ("soon", None, "a word"),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0, "a date"),
        ("Tue, 14 Nov 2023 22:13:50", 30.0, "a date without a zone"),
        ("Tue, 14 Nov 2023 23:13:50 +0100", 30.0, "a date in another zone"),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0, "a date that is over"),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0, "long over"),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0, "the last date there is"),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 3600.0, "beyond the last one, by its zone"),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None, "no calendar has it"),
        ("Thu, 31 Feb 2026 99:99:99 GMT", 3600.0, "off the calendar, but it can be counted"),
    ],
)
def test_row_8_retry_after(header: str | None, wait_s: float | None, why: str) -> None:
    assert retry_after_s(header, NOW_MS, longest_s=LONGEST_S) == wait_s, why


@pytest.mark.parametrize(
    ("sent", "wait_s", "why"),
    [
        ("Tue, 14 Nov 2023 22:13:40 GMT", 10.0, "against the sender's own clock"),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", 30.0, "a date that is none: against ours"),
        (None, 30.0, "none: against ours"),
    ],
)
def test_row_8_a_date_is_held_against_the_senders_clock(sent: str | None, wait_s: float, why: str) -> None:
    header = "Tue, 14 Nov 2023 22:13:50 GMT"
    assert retry_after_s(header, NOW_MS, longest_s=LONGEST_S, sent=sent) == wait_s, why


_NEARLY_DATES = st.lists(st.sampled_from([*"0123456789 :,+-./", "Jan", "Feb", "Fri, ", "Dec ", "9999", "GMT", "AM", "ü"])).map(
    "".join
)


@given(st.text() | _NEARLY_DATES, st.none() | st.text() | _NEARLY_DATES)
def test_row_8_no_header_raises_or_waits_for_longer(header: str, sent: str | None) -> None:
    wait_s = retry_after_s(header, NOW_MS, longest_s=LONGEST_S, sent=sent)
    assert wait_s is None or 0 <= wait_s <= LONGEST_S
    date_s = http_date_s(header)
    assert date_s is None or date_s == date_s  # noqa: PLR0124  a number
