"""One task per channel: takes what is next, sends it, and does not rest until somebody took it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import chain

import structlog

from monitor.alerts.batch import Batch, Waiting
from monitor.alerts.channels.base import Channel, GiveUp, Notes, Outcome, RetryAt, Sent
from monitor.alerts.channels.http import RETRY_AFTER_S_MAX
from monitor.alerts.message import Notice
from monitor.alerts.outbox import Change, Outbox, attempted
from monitor.alerts.pace import Paces
from monitor.alerts.settings import DeliverySettings
from monitor.model.alerts import ChannelStatus
from monitor.model.streams import count

PROBE_GROWTH = 5.0  # a message that was refused again waits this much longer

log = structlog.get_logger()


class Sender:
    """Sends one channel's rows, one request after the other. Its failures hold up nobody else.

    on_broken, on_mended: called once per change, with the channel's name and the reason.
    on_given_up: what the channel refuses while it takes others; whoever is called takes the row out of the outbox.
    standing: what is open of all that the channel was told, for one that asks for it by `refresh_s`.
    """

    def __init__(
        self,
        status: ChannelStatus,
        channel: Channel,
        paces: Paces,
        outbox: Outbox,
        delivery: DeliverySettings,
        notes: Notes,
        *,
        now_ms: Callable[[], int],
        clock_s: Callable[[], float],
        rng: random.Random,
        on_broken: Callable[[str, str], Awaitable[None]],
        on_mended: Callable[[str, str], Awaitable[None]],
        on_given_up: Callable[[str, Waiting, str], Awaitable[None]],
        standing: Callable[[str], Iterator[Notice]] = lambda name: iter(()),
    ) -> None:
        self.status = status
        self._name = status.name
        self._channel = channel
        self._outbox = outbox
        self._delivery = delivery
        self._now_ms = now_ms
        self._clock_s = clock_s
        self._rng = rng
        self._on_broken = on_broken
        self._on_mended = on_mended
        self._on_given_up = on_given_up
        self._standing = standing
        self._refreshing: Iterator[Notice] = iter(())
        self._taken_before_refresh = 0
        self._refresh_due_s = clock_s()  # a new process does not know what its receiver still remembers
        self._failures = 0  # in a row
        self._taken = 0  # requests, since the start
        self._notes = notes
        self._asked_until_s = clock_s() + self._asked_before_s()  # the receiver's own word: nothing shortens it
        self._pause_until_s = 0.0  # our back-off
        self._hurried = asyncio.Event()
        self._tried_s = -math.inf
        self._pace = paces.of(channel.limits)

    @property
    def refreshes(self) -> bool:
        """Whether the channel is sent all that is open again and again."""
        return self._channel.refresh_s is not None

    @property
    def stalled_s(self) -> float:
        """How long a message is due that is not tried though nothing holds the channel back: the sender hangs.

        A receiver that is out or asks for patience holds the channel back; so does its published limit, for a minute at most.
        """
        due_s = min((one.due_s for one in self._outbox.waiting(self._name)), default=math.inf)
        return max(0.0, self._clock_s() - max(due_s, self._asked_until_s, self._pause_until_s, self._tried_s))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._pause()
            one, wait_s = self._outbox.next(self._name)
            if one is None:
                notice, refresh_s = self._refresh()
                if notice is not None:
                    await self._settle_refresh(notice, await self._try(notice))
                else:
                    await self._outbox.arrival(self._name, _sooner(wait_s, refresh_s))
                continue
            if not await self._outbox.merged(one):
                continue
            batch = await self._outbox.batch(
                self._name,
                one,
                late_ms=round(self._delivery.late_min * 60_000),
                summary_above=self._delivery.summary_above,
            )
            await self._settle(batch, await self._attempt(batch))

    async def _attempt(self, batch: Batch) -> Outcome:
        try:
            return await self._try(batch.notice)
        finally:
            for one in batch.ones:
                one.in_flight = False

    async def _try(self, notice: Notice) -> Outcome:
        while (wait_s := self._pace.wait_s) > 0:  # noqa: ASYNC110  another channel of the same bot was faster
            await asyncio.sleep(wait_s)
        self._tried_s = self._clock_s()
        try:
            with self._pace.attempt():
                return await self._channel.send(notice)
        except Exception as exc:
            log.error("alert_send_crashed", channel=self._name, notice=notice.id, exc_info=True)
            return GiveUp(f"internal error: {type(exc).__name__}")

    def hurry(self) -> None:
        """Ends our own back-off, for a last attempt before the process ends; never a wait that the receiver asked for."""
        self._pause_until_s = 0.0
        self._hurried.set()

    async def _pause(self) -> None:
        """Until the channel may be used again: what the receiver asked for, our back-off, its published limits."""
        while (wait_s := self._pause_s()) > 0:
            self._hurried.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._hurried.wait()
            except TimeoutError:
                continue
        await asyncio.sleep(0)

    def _pause_s(self) -> float:
        until_s = max(self._asked_until_s, self._pause_until_s)
        return max(until_s - self._clock_s(), self._pace.wait_s, 0.0)

    # -------------------------------------------------------------- what the receiver asks for

    @property
    def _asked_note(self) -> str:
        return f"retry_after:{self._name}"

    def _asked_before_s(self) -> float:
        """How long the receiver asked an earlier process to wait from now on. A clock that was set back makes it no longer."""
        text = self._notes.note(self._asked_note) or "0"
        until_ms = int(text) if text.isascii() and text.isdigit() else 0
        left_s = (until_ms - self._now_ms()) / 1000
        return left_s if 0 < left_s <= RETRY_AFTER_S_MAX else 0.0

    def _hold(self, asked_s: float | None) -> tuple[float, int]:
        """After a failed attempt: (seconds to wait, the receiver's own time as wall clock, 0 if it named none).

        Never before the time that the receiver named, not all of us at once, and never sooner than our own back-off.
        """
        now_s, wait_s, not_before_ms = self._clock_s(), self._back_off_s(self._failures), 0
        self._pause_until_s = now_s + wait_s
        if asked_s:
            not_before_ms = self._now_ms() + round(asked_s * 1000)
            self._asked_until_s = now_s + asked_s + self._rng.uniform(0, self._delivery.retry_min_s)
            wait_s = max(wait_s, self._asked_until_s - now_s)
            self._notes.put_note(self._asked_note, str(not_before_ms))  # on disk with the row, or with the next commit
        return wait_s, not_before_ms

    # -------------------------------------------------------------- receivers that forget

    def _refresh(self) -> tuple[Notice | None, float | None]:
        """The next part of what the receiver must be told again, or None and the seconds until then (None: never)."""
        if self._channel.refresh_s is None:
            return None, None
        notice = next(self._refreshing, None)
        if notice is not None:
            return notice, 0.0
        wait_s = self._refresh_due_s - self._clock_s()
        if wait_s > 0:
            return None, wait_s
        self._refresh_due_s = self._clock_s() + self._channel.refresh_s
        self._refreshing = self._standing(self._name)
        self._taken_before_refresh = self._taken
        return next(self._refreshing, None), self._channel.refresh_s

    async def _settle_refresh(self, notice: Notice, outcome: Outcome) -> None:
        """A state that is sent again waits in no outbox: the next round says it better. A part that is refused is split, so that
        what is not at fault does not end there by itself."""
        if isinstance(outcome, Sent):
            self._failures = 0
            self._taken += 1
            await self._works()
            return
        self._failures += 1
        log.warning("alert_refresh_failed", channel=self._name, notice=notice.id, reason=outcome.reason)
        match outcome:
            case RetryAt():
                self._refreshing = iter(())
                self._hold(outcome.after_s)
            case GiveUp() if (number := len(notice.messages)) > 1:
                parts = (notice.messages[: number // 2], notice.messages[number // 2 :])
                halves = [Notice(id=f"{self._name}.standing.{part[0].id}+{len(part) - 1}", messages=part) for part in parts]
                self._refreshing = chain(halves, self._refreshing)
                self._pause_shortly()
            case GiveUp():
                self._hold(None)
                if self._taken == self._taken_before_refresh:
                    await self._broken(outcome.reason)

    async def _works(self) -> None:
        if self.status.broken:
            was, self.status.broken = self.status.broken, ""
            await self._on_mended(self._name, was)

    async def _broken(self, reason: str) -> None:
        newly, self.status.broken = not self.status.broken, reason
        if newly:
            await self._on_broken(self._name, reason)

    # -------------------------------------------------------------- outcomes

    async def _settle(self, batch: Batch, outcome: Outcome) -> None:
        match outcome:
            case Sent():
                await self._sent(batch)
            case RetryAt():
                await self._retry(batch, outcome)
            case GiveUp():
                await self._refused(batch, outcome.reason)

    async def _sent(self, batch: Batch) -> None:
        self._failures = 0
        self._taken += 1
        self._pause_until_s = self._asked_until_s = 0.0
        self.status.last_sent_ms = self._now_ms()
        count(self.status.results, "sent")
        attempts = max(one.row.attempts for one in batch.ones) + 1
        log.info("alert_sent", channel=self._name, notice=batch.notice.id, attempts=attempts)
        await self._outbox.apply(Change(drop=tuple(one.row.id for one in batch.ones)))
        await self._works()

    async def _retry(self, batch: Batch, answer: RetryAt) -> None:
        self._failures += 1
        count(self.status.results, "retry")
        wait_s, not_before_ms = self._hold(answer.after_s)
        log.warning("alert_retry", channel=self._name, notice=batch.notice.id, reason=answer.reason, wait_s=round(wait_s, 3))
        await self._outbox.postpone(batch.ones, partial(attempted, error=answer.reason, not_before_ms=not_before_ms), wait_s)

    async def _refused(self, batch: Batch, reason: str) -> None:
        """A refusal that no retry changes. One of several messages: of any of them, so they go out again in smaller parts.
        Of one: of the channel, as far as we know; unless the channel took others since it first refused this one."""
        self._failures += 1
        count(self.status.results, "failed")
        log.error("alert_refused", channel=self._name, notice=batch.notice.id, messages=len(batch.ones), reason=reason)
        for one in batch.ones:
            one.refused_at = self._taken if one.refused_at is None else one.refused_at
        if len(batch.ones) > 1:
            self._pause_shortly()
            await self._outbox.split(batch)
            return
        self._hold(None)
        (one,) = batch.ones
        if one.refused_at is not None and one.refused_at < self._taken:
            if await self._outbox.merged(one):  # else what came meanwhile says it
                count(self.status.results, "given_up")
                log.error("alert_given_up", channel=self._name, message=one.row.message.id, reason=reason)
                await self._on_given_up(self._name, one, reason)
            return
        wait_s = self._delivery.probe_s * (PROBE_GROWTH if one.row.refused else 1.0)
        await self._outbox.postpone([one], partial(attempted, error=reason, refused=True), wait_s)
        await self._broken(reason)

    def _pause_shortly(self) -> None:
        """After a refusal that says nothing of the channel yet."""
        self._pause_until_s = self._clock_s() + self._back_off_s(1)

    def _back_off_s(self, failures: int) -> float:
        """Doubles from retry_min_s to retry_max_s; half of it is chance, so that a receiver is not met by all at once."""
        longest = min(self._delivery.retry_min_s * 2.0 ** min(failures - 1, 30), self._delivery.retry_max_s)
        return longest * self._rng.uniform(0.5, 1.0)


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)
