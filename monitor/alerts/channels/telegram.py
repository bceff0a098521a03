"""Telegram Bot API, `sendMessage`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
import orjson
import structlog
from msgspec import Struct
from pydantic import Field, ValidationInfo, field_validator

from monitor.alerts import dialects
from monitor.alerts.channels.base import ChannelBase, Notes, Outcome, RateLimit, RetryAt, Sent, by_status, harmless
from monitor.alerts.channels.http import RETRY_AFTER_S_MAX, Answer, Http, NoAnswer
from monitor.alerts.channels.target import check_target
from monitor.alerts.message import Notice
from monitor.alerts.text import compose
from monitor.model.secret import Secret

_TOKEN = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,100}")  # it becomes part of a path
_CHAT = re.compile(r"-?[0-9]{1,20}|@[A-Za-z0-9_]{1,64}")

log = structlog.get_logger()


class TelegramSettings(ChannelBase):
    """A bot and a chat that the bot may write to."""

    kind: Literal["telegram"] = "telegram"
    bot_token: Annotated[Secret, Field(description="From @BotFather: digits, a colon, letters")]
    chat_id: Annotated[str, Field(description="A number (negative: a group) or @channelname")]
    message_thread_id: Annotated[int | None, Field(gt=0, description="Topic of a forum group")] = None
    base_url: Annotated[str, Field(description="A Bot API server of your own, if you have one")] = "https://api.telegram.org"

    @property
    def receiver(self) -> tuple[str, ...]:
        return self.kind, self.chat_id, str(self.message_thread_id or "")

    @property
    def where(self) -> str:
        return f"chat {self.chat_id}"

    @field_validator("chat_id", mode="before")
    @classmethod
    def _chat(cls, value: object) -> object:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if isinstance(text, str) and not _CHAT.fullmatch(text):
            raise ValueError("is a number or @channelname")
        return text

    @field_validator("bot_token")
    @classmethod
    def _token(cls, value: Secret) -> Secret:
        if not _TOKEN.fullmatch(value.reveal()):
            raise ValueError("is no bot token: digits, a colon, letters")
        return value

    @field_validator("base_url")
    @classmethod
    def _target(cls, value: str, info: ValidationInfo) -> str:
        return check_target(value, allow_insecure=info.data.get("allow_insecure", False))


class _Parameters(Struct):
    retry_after: float | None = None
    migrate_to_chat_id: int | None = None


class _Reply(Struct):
    """The keys that we use of every answer of the Bot API."""

    ok: bool
    description: str = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)


_decode_reply = msgspec.json.Decoder(_Reply).decode


class TelegramChannel:
    """Sends HTML. Follows a group that became a supergroup; falls back to plain text if the markup is refused."""

    refresh_s: float | None = None

    def __init__(self, settings: TelegramSettings, http: Http, page_url: str, notes: Notes) -> None:
        self._settings = settings
        self._http = http
        self._page_url = page_url
        self._notes = notes
        self.limits = _limits(settings.bot_token, settings.chat_id)

    @property
    def _moved_note(self) -> str:
        return f"telegram_chat_moved:{self._settings.chat_id}"  # another chat in the configuration is another matter

    @property
    def _chat_id(self) -> str:
        return self._notes.note(self._moved_note) or self._settings.chat_id

    async def send(self, notice: Notice) -> Outcome:
        text = compose(notice, self._page_url)
        marked_up = {"text": dialects.telegram(text), "parse_mode": "HTML"}
        plain = {"text": dialects.fit(text, dialects.TELEGRAM_UNITS_MAX).plain}
        body = marked_up
        for _ in range(3):  # as configured, then at most one move and one change of markup
            answer = await self._post(notice.id, body)
            if isinstance(answer, NoAnswer):
                return by_status(answer)
            try:
                reply = _decode_reply(answer.body)
            except msgspec.DecodeError:
                return _not_telegram(answer)
            moved_to = reply.parameters.migrate_to_chat_id
            if moved_to is not None and str(moved_to) != self._chat_id:
                log.warning("telegram_chat_moved", channel=self._settings.name, chat_id=moved_to, hint="change the configuration")
                self._notes.put_note(self._moved_note, str(moved_to))
                continue
            if answer.status == 400 and body is marked_up and "parse entities" in reply.description:
                body = plain
                continue
            return self._judged(answer, reply)
        return RetryAt("chat_moved")

    async def _post(self, notice_id: str, text: dict[str, str]) -> Answer | NoAnswer:
        payload: dict[str, object] = {**text, "chat_id": self._chat_id, "link_preview_options": {"is_disabled": True}}
        if self._settings.message_thread_id is not None:
            payload["message_thread_id"] = self._settings.message_thread_id
        url = f"{self._settings.base_url.rstrip('/')}/bot{self._settings.bot_token.reveal()}/sendMessage"
        return await self._http.post(url, orjson.dumps(payload), {"Idempotency-Key": notice_id}, need_body=True)

    def _judged(self, answer: Answer, reply: _Reply) -> Outcome:
        if answer.status // 100 == 2 and reply.ok:
            return Sent()
        wait_s = reply.parameters.retry_after
        if wait_s is not None and wait_s >= 0:
            return RetryAt(f"http_{answer.status}", min(wait_s, RETRY_AFTER_S_MAX))
        if answer.status // 100 == 2:
            return RetryAt("not_ok")
        return by_status(answer, harmless(reply.description, self._settings.bot_token))


def _limits(bot_token: Secret, chat_id: str) -> tuple[RateLimit, ...]:
    """One message per second in a chat, 20 per minute in a group, 30 per second of a bot: https://core.telegram.org/bots/faq"""
    bot, chat = ("telegram", bot_token), ("telegram", bot_token, chat_id)
    limits = (RateLimit(30, 1.0, bot), RateLimit(1, 1.0, chat))
    is_person = chat_id.isdigit()  # a group's number is negative; behind a @name is a channel or a group
    return limits if is_person else (*limits, RateLimit(20, 60.0, chat))


def _not_telegram(answer: Answer) -> Outcome:
    """Not the Bot API's JSON: something in between answers. Its 200 proves nothing."""
    return RetryAt("not_telegram") if answer.status // 100 == 2 else by_status(answer)
