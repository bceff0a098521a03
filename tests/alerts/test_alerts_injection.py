"""Names from outside in every dialect, ten thousand times: shown, never obeyed."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

import orjson
import pytest
from alerts_kit import KEY, Clock, incident, message
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from msgspec import structs

from monitor.alerts import dialects
from monitor.alerts.channels.alertmanager import AlertmanagerChannel, AlertmanagerSettings
from monitor.alerts.channels.http import Http
from monitor.alerts.channels.pagerduty import PagerDutyChannel, PagerDutySettings
from monitor.alerts.channels.webhook import payload
from monitor.alerts.message import Notice
from monitor.alerts.text import Text, compose
from monitor.metrics import label_value
from monitor.model.secret import Secret

PAGE = "https://desk.example"
CASES = 10_000
# What the services obey: mentions, links, markup, entities, what ends a line or turns the direction of writing.
BITS = (
    "@channel", "@here", "@everyone", "@ann", "<!here>", "<!channel>", "<!subteam^S1>", "<@U1>", "<#C1|x>",
    "<https://evil.example|ok>",
    "<b>", "</b>", "<a href='tg://user?id=1'>", "&lt;", "&amp;", "&#64;channel", "&", "<", ">", "@", "\uff20here",
    "*bold*", "_it_", "~x~", "`code`", "```", "[x](tg://user?id=1)", '"', "'", "\\", "{}", "{{ .Labels }}", "${jndi:x}", "%s",
    "\n", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x00", "\u202e", "\u200f", "\u200b", "\u00ad", "\ufeff", "\ud800",
    "é", "漢", "😀", "a", " ",
)  # fmt: skip
HOSTILE = st.lists(st.sampled_from(BITS) | st.text(max_size=3), max_size=8).map("".join)
MENTION = re.compile(r"@(?=[^\s\u200b])")
LABEL = re.compile(r"[\w:.\-]{0,32}(~[0-9a-f]{12})?")


def _notice(account: str, subject: str, summary: str) -> Notice:
    about = incident(key=structs.replace(KEY, account=account, subject=subject), summary=summary)
    return Notice(id="N", messages=(message(incident=about),))


@examples(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(account=HOSTILE, subject=HOSTILE, summary=HOSTILE)
def test_chats_show_and_never_obey(account: str, subject: str, summary: str) -> None:
    text = compose(_notice(account, subject, summary), PAGE)
    assert len(text.plain.splitlines()) == 1 + len(text.lines), "no name adds a line"
    assert not any(unicodedata.category(char)[0] == "C" for line in (text.title, *text.lines) for char in line)

    slack = dialects.slack(text)
    assert not set(slack) & set("<>")
    assert "&" not in re.sub(r"&(amp|lt|gt);", "", slack)
    assert not MENTION.search(html.unescape(slack)), "a name after @ calls somebody"

    telegram = dialects.telegram(text)
    assert re.findall(r"<[^>]*>", telegram) == ["<b>", "</b>"], "our own bold title, and no other markup"
    shown = html.unescape(re.sub(r"<[^>]*>", "", telegram))
    assert not MENTION.search(shown)
    assert len(shown.encode("utf-16-le")) <= 2 * 4096


@examples(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(account=HOSTILE, subject=HOSTILE, summary=HOSTILE)
def test_programs_get_harmless_labels(account: str, subject: str, summary: str) -> None:
    notice = _notice(account, subject, summary)
    for one in (account, subject):
        assert LABEL.fullmatch(label_value(one)), "a label of Prometheus needs no escape in any dialect"

    (alert,) = ALERTMANAGER._alerts(notice.messages[0])
    assert set(alert["labels"]) <= {"alertname", "venue", "account", "pool", "rule", "subject", "severity"}
    for value in alert["labels"].values():
        assert value
        assert not any(unicodedata.category(char)[0] == "C" for char in value)
        assert value == " ".join(value.split())
    orjson.dumps(alert["labels"])

    ((_, event),) = PAGERDUTY._events(notice.messages[0])
    assert len(event["payload"]["summary"]) <= 1024
    assert len(event["payload"]["summary"].splitlines()) == 1
    assert not any(unicodedata.category(char)[0] == "C" for char in event["payload"]["source"])


@examples(max_examples=CASES // 10, deadline=None)
@given(account=HOSTILE.filter(lambda text: "\ud800" not in text))
def test_the_webhook_says_it_exactly(account: str) -> None:
    """A program must find the alias that it knows; showing it harmlessly is its own affair. It stays inside its string."""
    body: Any = orjson.loads(orjson.dumps(payload(_notice(account, "", ""), PAGE)))
    assert body["alerts"][0]["account"] == account


HTTP = Http(allow_insecure=True, connect_s=1, total_s=1, now_ms=Clock())
ALERTMANAGER = AlertmanagerChannel(AlertmanagerSettings(name="a", url=Secret("https://am.example")), HTTP, PAGE)
PAGERDUTY = PagerDutyChannel(PagerDutySettings(name="p", routing_key=Secret("k" * 32)), HTTP, PAGE)


@pytest.mark.parametrize("letter", ["&", "<", "x", "\U0001f600", "@"])
def test_row_22_slack_s_length_is_that_of_what_is_sent(letter: str) -> None:
    """Slack cuts at 40,000; an escape is five letters, and one outside the basic plane counts twice."""
    text = Text(letter * 10_000, (*(f"{number}{letter * 590}" for number in range(60)), "incident I", "link", "runbook"))
    sent = dialects.slack(text)
    assert len(sent.encode("utf-16-le")) // 2 <= dialects.SLACK_UNITS_MAX
    assert sent.endswith("incident I\nlink\nrunbook")
    assert "…" in sent, "it can be seen that something was left out"
