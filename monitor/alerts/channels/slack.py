"""Slack incoming webhooks, and receivers that understand the same payload."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import orjson
from pydantic import AfterValidator, Field

from monitor.alerts import dialects
from monitor.alerts.channels.base import ChannelBase, Outcome, RateLimit, RetryAt, by_status
from monitor.alerts.channels.http import Answer, Http, NoAnswer
from monitor.alerts.channels.target import checked_target, shown
from monitor.alerts.message import Notice
from monitor.alerts.text import compose
from monitor.model.secret import Secret

_CODE = re.compile(r"[a-z_]{1,40}")  # Slack's errors are one word; anything else might repeat the address


class SlackSettings(ChannelBase):
    """An incoming webhook. Its address is the key to the channel: keep it where secrets are kept."""

    kind: Literal["slack"] = "slack"
    webhook_url: Annotated[Secret, AfterValidator(checked_target), Field(description="https://hooks.slack.com/services/…")]

    @property
    def receiver(self) -> tuple[str, ...]:
        return self.kind, self.webhook_url.reveal()

    @property
    def where(self) -> str:
        return shown(self.webhook_url)


class SlackChannel:
    """Posts plain text. Taken is what is answered with `ok`: a 200 of something in between proves nothing.

    410 (archived), 404, 403 and 400 do not go away by themselves; 429 says when to come back.
    """

    refresh_s: float | None = None

    def __init__(self, settings: SlackSettings, http: Http, page_url: str) -> None:
        self._settings = settings
        self._http = http
        self._page_url = page_url
        self.limits = (RateLimit(1, 1.0, ("slack", settings.webhook_url)),)

    async def send(self, notice: Notice) -> Outcome:
        payload = {
            "text": dialects.slack(compose(notice, self._page_url)),
            "mrkdwn": False,
            "link_names": False,
            "unfurl_links": False,
            "unfurl_media": False,
        }
        url = self._settings.webhook_url.reveal()
        answer = await self._http.post(url, orjson.dumps(payload), {"Idempotency-Key": notice.id}, need_body=True)
        if isinstance(answer, Answer) and answer.accepted and answer.body.strip() != b"ok":
            return RetryAt("not_slack")
        return by_status(answer, _code(answer))


def _code(answer: Answer | NoAnswer) -> str:
    if isinstance(answer, NoAnswer):
        return ""
    text = answer.body[:64].decode("ascii", "replace").strip()
    return text if _CODE.fullmatch(text) else ""
