"""Pace, back-off and what each answer does to a channel; the receiver is a script, the clock the loop's own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest
from alerts_kit import FAST, T0, account, eventually, incident, message, open_store
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts.batch import Waiting
from monitor.alerts.channels.base import GiveUp, Outcome, RateLimit, RetryAt, Sent
from monitor.alerts.message import IncidentRecord, Message, Notice, OutboxRow
from monitor.alerts.outbox import Change, Outbox
from monitor.alerts.pace import Paces
from monitor.alerts.sender import Sender
from monitor.alerts.settings import DeliverySettings
from monitor.model.alerts import ChannelStatus, Level
from monitor.store import Store


class Script:
    """A channel that gives the outcomes of a script, then takes everything."""

    refresh_s: float | None = None

    def __init__(self, *outcomes: Outcome | Exception, limits: tuple[RateLimit, ...] = ()) -> None:
        self.limits = limits
        self.outcomes = list(outcomes)
        self.got: list[tuple[float, Notice]] = []

    async def send(self, notice: Notice) -> Outcome:
        self.got.append((asyncio.get_running_loop().time(), notice))
        outcome = self.outcomes.pop(0) if self.outcomes else Sent()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @property
    def ids(self) -> list[str]:
        return [notice.id for _, notice in self.got]

    @property
    def gaps_s(self) -> list[float]:
        times = [at for at, _ in self.got]
        return [b - a for a, b in pairwise(times)]


def about(name: str, level: Level = Level.HIGH) -> Message:
    return message(level, incident=incident(level, id=name, key=account(name)), id=f"{name}.1")


def make(
    channel: Script,
    store: Store[IncidentRecord, OutboxRow],
    told: list[str],
    clock_s: Callable[[], float] | None = None,
    paces: Paces | None = None,
    **delivery: float,
) -> tuple[Sender, Outbox]:
    clock_s = clock_s or asyncio.get_running_loop().time
    outbox = Outbox(store, ("c",), now_ms=lambda: T0, clock_s=clock_s)

    async def broken(name: str, reason: str) -> None:
        told.append(f"broken: {reason}")

    async def mended(name: str, reason: str) -> None:
        told.append(f"mended: {reason}")

    async def given_up(name: str, one: Waiting, reason: str) -> None:
        await outbox.apply(Change(drop=(one.row.id,)))

    sender = Sender(
        ChannelStatus(name="c", kind="script"),
        channel,
        paces or Paces(clock_s),
        outbox,
        DeliverySettings.model_validate(FAST | delivery),
        store,
        now_ms=lambda: T0,
        clock_s=clock_s,
        rng=random.Random(1),
        on_broken=broken,
        on_mended=mended,
        on_given_up=given_up,
    )
    return sender, outbox


@contextlib.asynccontextmanager
async def sending(channel: Script, *messages: Message, **delivery: float) -> AsyncIterator[tuple[Sender, Outbox, list[str]]]:
    told: list[str] = []
    store = await open_store()
    sender, outbox = make(channel, store, told, **delivery)
    await outbox.apply(outbox.plan([(one, ("c",)) for one in messages]))
    task = asyncio.create_task(sender.run())
    try:
        yield sender, outbox, told
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await store.close()


async def test_the_published_pace_is_kept() -> None:
    channel = Script(limits=(RateLimit(1, 0.05), RateLimit(3, 0.5)))
    async with sending(channel, *(about(name) for name in "ABCD")) as (_, outbox, _told), asyncio.timeout(5):
        await outbox.emptied()
    assert channel.ids == ["A.1", "B.1", "C.1", "D.1"]
    assert min(channel.gaps_s) >= 0.049
    assert channel.got[3][0] - channel.got[0][0] >= 0.49, "no more than three in the longer window"


async def test_what_becomes_critical_while_we_wait_goes_first() -> None:
    channel = Script(RetryAt("http_429", 0.1))
    async with sending(channel, about("A"), about("B")) as (_, outbox, _told), asyncio.timeout(5):
        await eventually(lambda: channel.got)
        await outbox.apply(outbox.plan([(about("Z", Level.CRITICAL), ("c",))]))
        await outbox.emptied()
    assert channel.ids[1] == "Z.1"
    assert channel.gaps_s[0] >= 0.1


@given(st.integers(1, 1000), st.integers(0, 2**32))
async def test_back_off_stays_between_its_ends(failures: int, seed: int) -> None:
    store = await open_store()
    sender, _ = make(Script(), store, [], retry_min_s=1.0, retry_max_s=60.0)
    sender._rng = random.Random(seed)
    wait_s = sender._back_off_s(failures)
    longest = min(2.0 ** min(failures - 1, 10), 60.0)
    assert longest / 2 <= wait_s <= longest
    await store.close()


async def test_broken_is_told_once_and_mended_once() -> None:
    channel = Script(GiveUp("http_404"), GiveUp("http_404"), RetryAt("timeout"))
    async with sending(channel, about("A")) as (sender, outbox, told), asyncio.timeout(5):
        await outbox.emptied()
        assert sender.status.broken == ""
    assert told == ["broken: http_404", "mended: http_404"]
    assert channel.ids == ["A.1"] * 4
    assert sender.status.results == {"failed": 2, "retry": 1, "sent": 1}


async def test_a_bug_in_one_message_does_not_silence_the_rest() -> None:
    channel = Script(TypeError("cannot write this"))
    async with sending(channel, about("A"), about("B")) as (_, outbox, told), asyncio.timeout(5):
        await outbox.emptied()
    assert channel.ids == ["A.1", "B.1", "A.1"]
    assert told == ["broken: internal error: TypeError", "mended: internal error: TypeError"]


async def test_a_message_that_is_refused_while_others_pass_is_given_up() -> None:
    channel = Script(GiveUp("http_422"), Sent(), GiveUp("http_422"))
    async with sending(channel, about("A", Level.CRITICAL), about("B")) as (_, outbox, told), asyncio.timeout(5):
        await outbox.emptied()
    assert channel.ids == ["A.1", "B.1", "A.1"]
    assert told == ["broken: http_422", "mended: http_422"], "its second refusal is its own"


@pytest.mark.parametrize(
    ("number", "sends", "why"),
    [(20, 20, "each in full"), (41, 3, "too many: 20, 20 and one in short")],
)
async def test_a_storm_becomes_summaries(number: int, sends: int, why: str) -> None:
    channel = Script(limits=())
    async with sending(channel, *(about(f"A{one:02}") for one in range(number))) as (_, outbox, _told), asyncio.timeout(5):
        await outbox.emptied()
    assert sorted(said.id for _, notice in channel.got for said in notice.messages) == [f"A{one:02}.1" for one in range(number)]
    assert len(channel.got) <= sends, why


async def test_a_receiver_s_patience_outlives_the_process() -> None:
    """Its word was for the channel, not for the one message that met it."""
    store = await open_store()
    first, outbox = make(Script(RetryAt("http_429", 291.0)), store, [])
    await outbox.apply(outbox.plan([(about("A"), ("c",))]))
    task = asyncio.create_task(first.run())
    await eventually(lambda: first.status.results == {"retry": 1})
    task.cancel()
    await outbox.apply(outbox.plan([(about("B"), ("c",))]))
    second, _ = make(Script(), store, [])
    assert 290.0 < second._pause_s() <= 291.0
    second.hurry()
    assert second._pause_s() > 290.0, "nor does our own end shorten it"
    await store.close()


@pytest.mark.parametrize("note", ["-5", "x", "", "1e9", str(T0 + 7200_000), str(T0 - 1)])
async def test_a_note_that_cannot_be_holds_nothing_back(note: str) -> None:
    store = await open_store()
    store.put_note("retry_after:c", note)
    sender, _ = make(Script(), store, [])
    assert sender._pause_s() == 0.0
    await store.close()


async def test_the_last_attempt_does_not_wait_for_our_own_back_off() -> None:
    channel = Script(RetryAt("http_503"))
    async with sending(channel, about("A"), retry_min_s=20, retry_max_s=60) as (sender, outbox, _told), asyncio.timeout(5):
        await eventually(lambda: sender.status.results == {"retry": 1})
        outbox.hurry()
        sender.hurry()
        await outbox.emptied()
    assert channel.ids == ["A.1"] * 2


async def test_retry_after_zero_is_no_leave_to_hammer() -> None:
    channel = Script(*[RetryAt("http_429", 0.0)] * 4)
    async with sending(channel, about("A"), retry_min_s=0.02, retry_max_s=10) as (_, outbox, _told), asyncio.timeout(5):
        await outbox.emptied()
    assert [gap_s >= 0.01 * 2**number for number, gap_s in enumerate(channel.gaps_s)] == [True] * 4, "it grows as ours does"
