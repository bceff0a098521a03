"""What messages say, and that what comes from outside is only ever shown."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest
from alerts_kit import CAUSES, LEVERS, MINUTE, T0, figures, incident, message
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.alerts import dialects
from monitor.alerts.channels.webhook import payload
from monitor.alerts.message import Message, Notice, Reason
from monitor.alerts.text import Text, amount, compose, duration, one_line, percent, ratio
from monitor.model.alerts import Cause, IncidentKey, Level, Lever, Worse


def lines(one: Message, page_url: str = "") -> list[str]:
    return compose(Notice(id=one.id, messages=(one,)), page_url).plain.split("\n")


def test_the_whole_message() -> None:
    one = message(figures=figures(), causes=CAUSES, levers=LEVERS, told_level=Level.HIGH, reason=Reason.WORSE)
    assert lines(one, "https://desk.example/margin/") == [
        "[CRITICAL] worse, was high: main · USD · binance_usdm · health",
        "health 1.18 is at or below 1.20",
        "health 1.18 (lower is worse, 1.00 liquidates) = margin ratio 84.7 % (higher is worse, 100 % liquidates)",
        "equity 11,800 USD, maintenance margin 10,000 USD",
        "venue's own figures: equity 11,790, maintenance margin 10,000 (health 1.179)",
        "data 0.4 s old",
        "because: position BTCUSDT -812.4 USD; rate of BTC -101 USD",
        "to do: send 4,310.01 USDT or 0.047001 BTC to be back at health 1.50 (150 %)",
        "incident 20261122T053424-7KQMZ, since 2026-11-22T05:34:24Z",
        "https://desk.example/margin/#binance_usdm/main/USD",
        "runbook: https://desk.example/margin/runbook#health",
    ]


RESOLVED = incident(
    Level.OK,
    worst=Level.EMERGENCY,
    worst_value=1.0734,
    worse=Worse.DOWN,
    closed_ms=T0 + 75 * MINUTE,
    summary="health 2.3 is above 2.08",
)


@pytest.mark.parametrize(
    ("one", "title", "line", "why"),
    [
        (message(), "[CRITICAL] new: main", None, "the first time"),
        (message(Level.HIGH, Reason.REPEAT_DUE, told_level=Level.CRITICAL), "[HIGH] better, was critical: main", None,
         "a repeat tells that it got better"),
        (message(reason=Reason.REPEAT_DUE, told_level=Level.CRITICAL, at_ms=T0 + 5 * MINUTE),
         "[CRITICAL] still open after 5 min 0 s: main", "at 2026-11-22T05:34:24Z: health 1.18 is at or below 1.20",
         "the crossing keeps its own time"),
        (message(Level.UNKNOWN, Reason.UNKNOWN, incident=incident(Level.UNKNOWN, known_level=Level.HIGH)),
         "[UNKNOWN] data missing: main", "last known level: high; missing data resolve nothing", "unknown is not safe"),
        (message(Level.UNKNOWN, Reason.REPEAT_DUE), "[UNKNOWN] still unknown: main", None, "and goes on"),
        (message(Level.OK, Reason.RESOLVED, incident=RESOLVED, told_level=Level.CRITICAL), "[RESOLVED] over, was critical: main",
         "lasted 1 h 15 min, worst level emergency, worst value 1.0734", "the end with duration and worst value"),
        (message(momentary=True), "[CRITICAL] happened: main", None, "an occurrence"),
        (message(incident=incident(Level.HIGH, key=IncidentKey("", "", "", "channel", "ops"))),
         "[HIGH] new: margin-monitor itself · ops", None, "our own trouble has no account"),
        (message(swallowed=2, swallowed_worst=Level.EMERGENCY), "[CRITICAL] new: main",
         "replaces 2 earlier messages that could not be delivered, the worst of them emergency", "what was merged is not lost"),
        (message(figures=figures(equity=-5.0, health=-0.0005, margin_ratio=float("inf"))), "[CRITICAL]",
         "health -0.001 (lower is worse, 1.00 liquidates), no equity left", "no equity: a margin ratio would be nonsense"),
        (message(figures=figures(health=None, margin_ratio=None, equity=None, unknown=("no price of BTCUSDT",))), "[CRITICAL]",
         "not known: no price of BTCUSDT", "a figure that is unknown says why"),
        (message(figures=figures(health=None, margin_ratio=0.0, requirement=0.0)), "[CRITICAL]", "health: nothing at risk",
         "no positions"),
        (message(figures=figures(trusted=False)), "[CRITICAL]",
         "data 0.4 s old; not yet confirmed since the last gap in the account's stream", "doubt is told"),
        (message(figures=figures(age_ms=None)), "[CRITICAL]", "age of the data unknown", "no age is not age 0"),
    ],
)  # fmt: skip
def test_parts(one: Message, title: str, line: str | None, why: str) -> None:
    said = lines(one)
    assert said[0].startswith(title), why
    assert line is None or line in said, why


def test_a_resolved_message_gives_no_orders() -> None:
    said = "\n".join(lines(message(Level.OK, Reason.RESOLVED, incident=RESOLVED, levers=LEVERS, causes=CAUSES)))
    assert "to do" not in said
    assert "because" not in said


def test_a_summary_has_one_line_each_worst_first() -> None:
    one, two = message(Level.WARNING, id="A.1"), message(Level.LIQUIDATION, id="B.1")
    text = compose(Notice(id="S", messages=(one, two), summary=True), "")
    assert text.title == "[LIQUIDATION] 2 alerts that waited, in short"
    assert [line.split(" ")[1] for line in text.lines] == ["[LIQUIDATION]", "[WARNING]"]


@pytest.mark.parametrize(
    ("value", "up", "shown", "why"),
    [
        (4310.001, True, "4,310.01", "rounded up: a little too little would not reach the goal"),
        (4310.001, False, "4,310", "nearest otherwise"),
        (0.047, True, "0.047", "an exact amount stays"),
        (0.0470001, True, "0.047001", "up in the last digit shown"),
        (-0.00000001, False, "-0.00000001", "no exponent"),
        (1234567.891, False, "1,234,567.89", "thousands"),
        (0.0, False, "0", "nothing"),
        (float("nan"), False, "unknown", "not a number"),
        (1e30, False, f"{int(1e30):,}", "huge, but no crash"),
    ],
)
def test_amounts(value: float, up: bool, shown: str, why: str) -> None:
    assert amount(value, up=up) == shown, why


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=1e-8, max_value=1e12))
def test_a_lever_is_never_rounded_down(value: float) -> None:
    assert float(amount(value, up=True).replace(",", "")) >= value


def test_small_words() -> None:
    assert [duration(ms) for ms in (-1, 59_999, 61_000, 3_661_000, 90_000_000)] == [
        "0 s",
        "59 s",
        "1 min 1 s",
        "1 h 1 min",
        "1 d 1 h",
    ]
    assert [ratio(value) for value in (1.2, 1.1834, 12.3456, 1.0)] == ["1.20", "1.183", "12.35", "1.00"]
    assert [percent(value) for value in (1.5, 0.8474)] == ["150 %", "84.7 %"]


# ------------------------------------------------------------------ hostile texts

PIECES = st.one_of(
    st.sampled_from(
        ["<!here>", "<!channel>", "<@U0123>", "@channel", "@everyone", "&lt;", "</b>", "<b>", "<a href='x'>", "&#60;", "*", "`",
         "\n", "\r\n", "\u2028", "\u202e", "\x00", "\x1b[31m", "]]>", "http://evil.example|x", "\ud7ff", "😀", "é"]
    ),
    st.text(max_size=8),
)  # fmt: skip
HOSTILE = st.lists(PIECES, max_size=12).map("".join)


@st.composite
def hostile_notices(draw: st.DrawFn) -> Notice:
    def one(number: int) -> Message:
        key = IncidentKey(*(draw(HOSTILE) for _ in range(5)))
        return message(
            reason=draw(st.sampled_from(Reason)),
            incident=incident(draw(st.sampled_from(Level)), key=key, summary=draw(HOSTILE), id=f"I{number}"),
            figures=figures(unknown=(draw(HOSTILE),), unit=draw(HOSTILE)),
            causes=(Cause(draw(HOSTILE), -1.0, draw(HOSTILE)),),
            levers=(Lever(draw(HOSTILE), 1.0, draw(HOSTILE), 1.5),),
        )

    messages = tuple(one(number) for number in range(draw(st.integers(1, 3))))
    return Notice(id="N", messages=messages, summary=len(messages) > 1)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.shown = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        assert not attrs

    def handle_endtag(self, tag: str) -> None:
        self.tags.append("/" + tag)

    def handle_data(self, data: str) -> None:
        self.shown += data


MENTION = re.compile(r"@(?=[^\s\u200b])")


@settings(max_examples=40)
@given(hostile_notices())
def test_telegram_shows_and_never_obeys(notice: Notice) -> None:
    text = compose(notice, "https://desk.example")
    parser = _Tags()
    sent = dialects.telegram(text)
    parser.feed(sent)
    parser.close()
    assert parser.tags == ["b", "/b"]
    assert parser.shown.replace("\u200b", "") == dialects.fit(text, dialects.TELEGRAM_UNITS_MAX).plain.replace("\u200b", "")
    assert not MENTION.search(parser.shown)


@settings(max_examples=40)
@given(hostile_notices())
def test_slack_shows_and_never_obeys(notice: Notice) -> None:
    text = compose(notice, "https://desk.example")
    sent = dialects.slack(text)
    assert not set(sent) & set("<>")
    assert re.sub(r"&(amp|lt|gt);", "", sent).count("&") == 0
    assert not MENTION.search(sent)
    assert html.unescape(sent).replace("\u200b", "") == dialects.fit(
        text, dialects.SLACK_UNITS_MAX, dialects.slack_units
    ).plain.replace("\u200b", "")


@settings(max_examples=40)
@given(hostile_notices())
def test_a_hostile_text_adds_no_line(notice: Notice) -> None:
    text = compose(notice, "https://desk.example")
    assert len(text.plain.splitlines()) == len(text.lines) + 1


@settings(max_examples=40)
@given(hostile_notices())
def test_the_webhook_says_it_exactly(notice: Notice) -> None:
    body = orjson.loads(orjson.dumps(payload(notice, "https://desk.example")))
    assert [alert["account"] for alert in body["alerts"]] == [said.incident.key.account for said in notice.messages]


@given(st.text(max_size=2000), st.lists(st.text(alphabet="aé😀@", max_size=900), min_size=2, max_size=30))
def test_telegram_takes_4096_units(title: str, rest: list[str]) -> None:
    text = Text(one_line(title, 2000), tuple(rest))
    fitted = dialects.fit(text, 4096)
    assert len(fitted.plain.encode("utf-16-le")) // 2 <= 4096
    assert fitted.lines[-1][:10] == dialects.without_mentions(rest[-1])[:10], "the incident's id and the link are never left out"


def test_one_line_is_bounded_and_harmless() -> None:
    assert one_line("a\nb\t\u202ec\x00") == "a b c"
    assert len(one_line("x" * 10_000)) == 300
