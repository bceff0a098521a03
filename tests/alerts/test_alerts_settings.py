"""What may be set, what is refused, and that no error shows a secret."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from monitor.alerts.channels import CHANNELS, ChannelSettings
from monitor.alerts.channels.http import retry_after
from monitor.alerts.channels.target import check_target, is_public
from monitor.alerts.ids import IncidentIds
from monitor.alerts.settings import AlertSettings
from monitor.model.alerts import Level

SLACK = {"kind": "slack", "name": "ops", "webhook_url": "https://hooks.slack.com/services/T0/B0/canary"}
TELEGRAM = {"kind": "telegram", "name": "phone", "bot_token": "123456:canary", "chat_id": -100123}
WEBHOOK = {"kind": "webhook", "name": "desk", "url": "https://desk.example/canary", "bearer_token": "canary"}


def test_what_is_right_is_taken() -> None:
    settings = AlertSettings.model_validate(
        {
            "channels": [SLACK, TELEGRAM, WEBHOOK],
            "routes": [{"channels": ["ops"], "min_level": "info"}],
            "page_url": "http://10.0.0.1",
        }
    )
    assert [channel.kind for channel in settings.channels] == ["slack", "telegram", "webhook"]
    assert "canary" not in repr(settings)
    assert "canary" not in settings.model_dump_json()


PAGERDUTY = {"kind": "pagerduty", "name": "call", "routing_key": "canary0123456789canary0123456789"}


@pytest.mark.parametrize(
    ("channel", "where", "why"),
    [
        (
            SLACK | {"webhook_url": "https://hooks.slack.com/services/T0/B0/canarycanary7Qz"},
            "hooks.slack.com/…y7Qz",
            "host and last 4",
        ),
        (SLACK | {"webhook_url": "https://hooks.example/canary"}, "hooks.example/…", "four of seven would be too many"),
        (WEBHOOK | {"url": "https://user:canary@desk.example:8443/?key=canarycanary1234"}, "desk.example/…1234", "no password"),
        (TELEGRAM, "chat -100123", "a chat without its token is of no use"),
        (PAGERDUTY, "events.pagerduty.com/…6789", "which key it is"),
        ({"kind": "alertmanager", "name": "site", "url": "https://canary@am.example"}, "am.example/…", "no user"),
    ],
)
def test_where_a_channel_goes_is_shown_without_its_secret(channel: dict[str, Any], where: str, why: str) -> None:
    (one,) = AlertSettings.model_validate({"channels": [channel]}).channels
    assert one.where == where, why


def test_every_kind_has_a_class() -> None:
    union = ChannelSettings.__origin__  # type: ignore[attr-defined]
    kinds = {one.model_fields["kind"].default for one in union.__args__}
    assert kinds == set(CHANNELS)


def test_defaults() -> None:
    policy = AlertSettings().repeat_policy()
    minutes = {level.word: every_ms / 60_000 for level, every_ms in policy.every_ms.items()}
    assert minutes == {"warning": 60, "high": 15, "critical": 5, "emergency": 5, "liquidation": 5}
    assert Level.INFO not in policy.every_ms


@pytest.mark.parametrize(
    ("bad", "problem", "why"),
    [
        ({"channels": [SLACK, SLACK]}, "two channels are called ops", "a name is one channel"),
        ({"channels": [SLACK], "routes": [{"channels": ["opps"]}]}, "a route names opps", "a typo would silence a route"),
        ({"channels": [SLACK], "routes": [{"channels": []}]}, "at least 1 item", "a route to nowhere"),
        ({"channels": [SLACK], "routes": [{"channels": ["ops"], "min_level": "hi"}]}, "'warning', 'high'", "levels are words"),
        ({"channels": [SLACK | {"kind": "slak"}]}, "'slack', 'telegram', 'webhook'", "an unknown kind"),
        ({"channels": [SLACK | {"name": "a b"}]}, "should match pattern", "names become labels"),
        ({"channels": [SLACK | {"colour": 1}]}, "Extra inputs are not permitted", "an unknown key is a typo"),
        ({"channels": [SLACK | {"webhook_url": "http://hooks.slack.com/canary"}]}, "must be https", "plain http"),
        ({"channels": [SLACK | {"webhook_url": "canary"}]}, "starts with https://", "no url"),
        ({"channels": [SLACK | {"webhook_url": "https://a.example/can ary"}]}, "no spaces", "a url that was cut wrongly"),
        ({"channels": [WEBHOOK | {"url": "https://169.254.169.254/canary"}]}, "is a private address", "the cloud's metadata"),
        ({"channels": [WEBHOOK | {"bearer_token": "can\nary"}]}, "printable on one line", "a header of one's own"),
        ({"channels": [TELEGRAM | {"bot_token": "123456:can/ary"}]}, "is no bot token", "it becomes part of a path"),
        ({"channels": [TELEGRAM | {"chat_id": "name"}]}, "is a number or @channelname", "a chat"),
        ({"channels": [TELEGRAM | {"chat_id": True}]}, "valid string", "a bool is no number"),
        ({"channels": [TELEGRAM | {"base_url": "ftp://x"}]}, "starts with https://", "a scheme"),
        ({"repeat": {"critical_min": -1}}, "greater than or equal to 0", "no negative time"),
        ({"delivery": {"retry_min_s": 50, "retry_max_s": 2}}, "retry_max_s is below retry_min_s", "upside down"),
        ({"page_url": "javascript:alert(1)"}, "starts with https://", "the link is clicked by somebody half asleep"),
    ],
)
def test_what_is_wrong_is_refused(bad: dict[str, Any], problem: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        AlertSettings.model_validate(bad)
    said = str(caught.value)
    assert problem in said, why
    for canary in ("canary", "can ary", "can/ary", "services"):
        assert canary not in said, "no error shows a secret"


@pytest.mark.parametrize(
    ("host", "public", "why"),
    [
        ("1.1.1.1", True, "the internet"),
        ("2606:4700:4700::1111", True, "the internet"),
        ("hooks.slack.com", True, "a name is judged when it is resolved"),
        ("127.0.0.1", False, "this machine"),
        ("::1", False, "this machine"),
        ("0.0.0.0", False, "this machine too"),
        ("::", False, "this machine too"),
        ("10.1.2.3", False, "private"),
        ("172.16.0.1", False, "private"),
        ("192.168.1.1", False, "private"),
        ("100.64.0.1", False, "a provider's own"),
        ("169.254.169.254", False, "the cloud's metadata"),
        ("fe80::1", False, "link-local"),
        ("fd00::1", False, "unique local"),
        ("::ffff:127.0.0.1", False, "mapped"),
        ("::ffff:8.8.8.8", True, "mapped, of the internet"),
        ("2002:7f00:1::", False, "6to4 of 127.0.0.1"),
        ("64:ff9b::a00:1", False, "NAT64 of 10.0.0.1"),
        ("64:ff9b::808:808", True, "NAT64 of the internet"),
        ("224.0.0.1", False, "multicast"),
        ("255.255.255.255", False, "broadcast"),
        ("192.0.2.1", False, "documentation"),
    ],
)
def test_addresses(host: str, public: bool, why: str) -> None:
    assert is_public(host) is public, why
    url = f"https://[{host}]/x" if ":" in host else f"https://{host}/x"
    if public:
        assert check_target(url, allow_insecure=False) == url
    else:
        with pytest.raises(ValueError, match="private address"):
            check_target(url, allow_insecure=False)
        assert check_target(url, allow_insecure=True) == url, "a local receiver is a legal use"


@pytest.mark.parametrize(
    ("headers", "wait_s", "why"),
    [
        ({}, None, "nothing said"),
        ({"Retry-After": "30"}, 30.0, "seconds"),
        ({"Retry-After": "-5"}, None, "not a number of seconds"),
        ({"Retry-After": "1_0"}, None, "not a number for HTTP"),
        ({"Retry-After": "٣"}, None, "not a digit for HTTP"),
        ({"Retry-After": "9" * 400}, 3600.0, "capped"),
        ({"Retry-After": "Sun, 22 Nov 2026 05:35:24 GMT"}, 60.0, "a date, against our clock where the receiver has none"),
        ({"Retry-After": "Sun, 22 Nov 2026 05:35:24 GMT", "Date": "Sun, 22 Nov 2026 05:35:14 GMT"}, 10.0, "against its own"),
        ({"Retry-After": "Sun, 22 Nov 2026 05:35:24 -0000"}, 60.0, "a date without a zone is UTC"),
    ],
)
def test_retry_after(headers: dict[str, str], wait_s: float | None, why: str) -> None:
    assert retry_after(headers, 1_795_325_664_000) == wait_s, why


def test_ids_sort_and_never_repeat() -> None:
    stuck = iter("AAAAA" * 3 + "BCDEF")
    ids = IncidentIds(choose=lambda alphabet: next(stuck))
    assert ids.new(1_795_325_664_123) == "20261122T053424-AAAAA"
    assert ids.new(1_795_325_664_999) == "20261122T053424-BCDEF", "the same chance again is drawn again"
    many = IncidentIds()
    of_a_second = [many.new(1_795_325_664_000) for _ in range(5000)]
    assert len(set(of_a_second)) == 5000
    assert max(of_a_second) < many.new(1_795_325_665_000)
