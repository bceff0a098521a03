"""The channels that exist. A new one is a module of this folder and a line in each of the two tables below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from monitor.alerts.channels.alertmanager import AlertmanagerChannel, AlertmanagerSettings
from monitor.alerts.channels.base import Build
from monitor.alerts.channels.pagerduty import PagerDutyChannel, PagerDutySettings
from monitor.alerts.channels.slack import SlackChannel, SlackSettings
from monitor.alerts.channels.telegram import TelegramChannel, TelegramSettings
from monitor.alerts.channels.webhook import WebhookChannel, WebhookSettings

ChannelSettings = Annotated[
    SlackSettings | TelegramSettings | WebhookSettings | AlertmanagerSettings | PagerDutySettings, Field(discriminator="kind")
]

CHANNELS: dict[str, Build] = {
    "slack": lambda settings, http, page_url, notes: SlackChannel(settings, http, page_url),
    "telegram": TelegramChannel,
    "webhook": lambda settings, http, page_url, notes: WebhookChannel(settings, http, page_url),
    "alertmanager": lambda settings, http, page_url, notes: AlertmanagerChannel(settings, http, page_url),
    "pagerduty": lambda settings, http, page_url, notes: PagerDutyChannel(settings, http, page_url),
}
