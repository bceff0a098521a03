"""What the owner may set about alerts: where they go, which of them, how often."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from monitor.alerts.channels import ChannelSettings
from monitor.alerts.channels.target import check_target
from monitor.alerts.decide import RepeatPolicy
from monitor.model.alerts import Level
from monitor.model.misfit import misfit

LevelWord = Literal["info", "warning", "high", "critical", "emergency", "liquidation"]
MINUTE_MS = 60_000


def level_of(word: LevelWord) -> Level:
    return Level[word.upper()]


class _Settings(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class RouteSettings(_Settings):
    """Which alerts go to which channels. An alert goes to all channels of all routes that match it."""

    channels: Annotated[tuple[str, ...], Field(min_length=1, description="Names of channels")]
    min_level: Annotated[LevelWord, Field(description="The least level that is sent; UNKNOWN counts as critical")] = "warning"
    accounts: Annotated[tuple[str, ...], Field(description="Aliases; empty: all")] = ()
    rules: Annotated[tuple[str, ...], Field(description="Names of rules; empty: all")] = ()


class RepeatSettings(_Settings):
    """When an open incident is told again, until it is acknowledged; 0: not again. UNKNOWN repeats as critical, info never.

    A silence holds back repeats and new messages up to critical; emergency and liquidation are always told.
    """

    critical_min: Annotated[
        float,
        Field(ge=0, le=1440, description="Critical, emergency, liquidation; in minutes. A silence never holds back the last two"),
    ] = 5.0
    high_min: Annotated[float, Field(ge=0, le=1440, description="In minutes")] = 15.0
    warning_min: Annotated[float, Field(ge=0, le=10080, description="In minutes")] = 60.0


class DeliverySettings(_Settings):
    """How hard it is tried. The defaults suit the services as they are."""

    connect_s: Annotated[float, Field(gt=0, le=60, description="Time-out of a connection, in seconds")] = 5.0
    total_s: Annotated[float, Field(gt=0, le=120, description="Time-out of a whole attempt, in seconds")] = 10.0
    retry_min_s: Annotated[float, Field(gt=0, le=60, description="First wait after a failure, in seconds")] = 1.0
    retry_max_s: Annotated[float, Field(gt=0, le=3600, description="Longest wait after a failure, in seconds")] = 60.0
    probe_s: Annotated[float, Field(gt=0, le=3600, description="First wait of a broken channel, in seconds; grows fivefold")] = (
        60.0
    )
    fail_over_s: Annotated[
        float,
        Field(
            ge=0,
            le=600,
            description="A critical alert not delivered by then, in seconds, goes to the next channel too: one that a route "
            "lets hear of its account, or that no route names",
        ),
    ] = 10.0
    late_min: Annotated[
        float, Field(gt=0, le=1440, description="Older messages are too late to act on: they are told in short, in minutes")
    ] = 60.0
    summary_above: Annotated[int, Field(ge=1, le=1000, description="More waiting messages than this are told in short")] = 20

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.retry_max_s < self.retry_min_s:
            raise misfit("retry_max_s is below retry_min_s", "retry_max_s", "retry_min_s")
        return self


class AlertSettings(_Settings):
    """Where alerts go. Without channels they are decided, kept and logged, but nobody is called."""

    channels: Annotated[tuple[ChannelSettings, ...], Field(description="In the order in which critical alerts fall over")] = ()
    routes: Annotated[tuple[RouteSettings, ...], Field(description="Empty: every channel gets everything from warning up")] = ()
    repeat: RepeatSettings = RepeatSettings()
    delivery: DeliverySettings = DeliverySettings()
    tell_better: Annotated[
        bool, Field(description="Also tell when a level improves without being over; the next message tells it anyway")
    ] = False
    page_url: Annotated[
        str | None,
        Field(
            description="Where receivers reach the status page, for the links in a message; null: http:// and web.listen, "
            "unless that is all addresses; empty: no links"
        ),
    ] = None

    @field_validator("page_url")
    @classmethod
    def _page(cls, url: str | None) -> str | None:
        return check_target(url, allow_insecure=True) if url else url

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [channel.name for channel in self.channels]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two channels are called {', '.join(twice)}")
        unknown = sorted({name for route in self.routes for name in route.channels} - set(names))
        if unknown:
            raise ValueError(f"a route names {', '.join(unknown)}, which is no channel")
        return self

    def repeat_policy(self) -> RepeatPolicy:
        minutes = {
            Level.WARNING: self.repeat.warning_min,
            Level.HIGH: self.repeat.high_min,
            Level.CRITICAL: self.repeat.critical_min,
            Level.EMERGENCY: self.repeat.critical_min,
            Level.LIQUIDATION: self.repeat.critical_min,
        }
        every_ms = {level: round(length * MINUTE_MS) for level, length in minutes.items() if length > 0}
        return RepeatPolicy(every_ms=every_ms, tell_better=self.tell_better)
