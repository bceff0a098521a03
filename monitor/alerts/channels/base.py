"""What every channel is made of: its settings, its three outcomes, its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Protocol

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from monitor.alerts.channels.http import Answer, Http, NoAnswer
from monitor.alerts.message import Notice
from monitor.alerts.text import one_line
from monitor.model.secret import Secret

WHY_CHARS_MAX = 100
# Without an answer, these do not get better by themselves.
FINAL = {
    "private_address": "its name leads to a private address; allow_insecure: true permits it",
    "bad_url": "its address has a host that cannot be one",
}

# ------------------------------------------------------------------ outcomes


class Sent(Struct, frozen=True):
    """The receiver took it."""


class RetryAt(Struct, frozen=True):
    """Not now. after_s: the receiver's own word; None leaves it to the sender's back-off."""

    reason: str
    after_s: float | None = None


class GiveUp(Struct, frozen=True):
    """No retry helps until a person changes something: the channel is broken."""

    reason: str


Outcome = Sent | RetryAt | GiveUp


class RateLimit(Struct, frozen=True):
    """The receiver takes at most `count` messages in `per_s` seconds."""

    count: int
    per_s: float
    scope: tuple[str | Secret, ...] = ()  # what it counts for, of all channels together (a bot, a chat); empty: this channel


class Channel(Protocol):
    """One way out. `send` raises nothing but bugs and cancellation."""

    @property
    def limits(self) -> tuple[RateLimit, ...]: ...
    @property
    def refresh_s(self) -> float | None:
        """How often it wants to be told of all that is open, None for a receiver that remembers."""

    async def send(self, notice: Notice) -> Outcome: ...


# ------------------------------------------------------------------ settings


class ChannelBase(BaseModel):
    """What the settings of every channel have."""

    # A refused value may be a secret, and a webhook's address is one: errors never show it. Only the outermost model's word
    # counts here, so whoever embeds these settings says the same.
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="How routes, metrics and messages call it")]
    allow_insecure: Annotated[
        bool, Field(description="Allow http and private addresses: for a receiver on this machine or network")
    ] = False

    @property
    def where(self) -> str:
        """Where it goes, as it may be shown: nothing that would let others send there."""
        raise NotImplementedError

    @property
    def receiver(self) -> tuple[str, ...]:
        """Who hears what is sent there: the kind and the address, with nothing that may change while the receiver is the same.
        It may be a secret: kept as a digest only."""
        raise NotImplementedError

    @property
    def wants_acknowledgements(self) -> bool:
        """Whether the channel is told when a person here acknowledges an incident that it heard of."""
        return False


# ------------------------------------------------------------------ meaning


def by_status(answer: Answer | NoAnswer, why: str = "") -> Outcome:
    """What an answer means for any receiver. why: the receiver's own word, already known to be harmless."""
    if isinstance(answer, NoAnswer):
        return GiveUp(FINAL[answer.why]) if answer.why in FINAL else RetryAt(answer.why)
    reason = f"http_{answer.status}" + (f": {why}" if why else "")
    if answer.accepted:
        return Sent()
    if answer.status in (408, 425, 429) or answer.status >= 500:
        return RetryAt(reason, answer.retry_after_s)
    return GiveUp(reason)


def harmless(why: str, secret: Secret) -> str:
    """A receiver's own words as they may be told: one short line, or "" if they repeat the secret."""
    return "" if secret.reveal() in why else one_line(why, WHY_CHARS_MAX)


class Notes(Protocol):
    """What a channel learns from its receiver and must know after a restart."""

    def note(self, key: str) -> str | None: ...
    def put_note(self, key: str, value: str) -> None:
        """Known at once; on disk with the next commit, the one that follows each attempt."""


Build = Callable[[Any, Http, str, Notes], Channel]  # settings, http, page url, notes
