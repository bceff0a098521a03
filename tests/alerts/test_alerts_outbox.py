"""What waits, in which order it goes, and what a newer message replaces."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alerts_kit import MINUTE, T0, Clock, account, incident, message, open_store
from msgspec import structs

from monitor.alerts.batch import Batch, Waiting
from monitor.alerts.dialects import TELEGRAM_UNITS_MAX, slack, telegram, units
from monitor.alerts.message import IncidentRecord, Message, Notice, OutboxRow, Reason, row_of
from monitor.alerts.outbox import Change, Outbox, attempted
from monitor.alerts.text import compose
from monitor.model.alerts import Cause, Level
from monitor.store import Store


class Monotonic:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Bench:
    """An outbox for channels a and b, with its clocks and its store."""

    def __init__(self, store: Store[IncidentRecord, OutboxRow]) -> None:
        self.store, self.wall, self.clock = store, Clock(), Monotonic()
        self.outbox = Outbox(store, ("a", "b"), now_ms=self.wall, clock_s=self.clock)

    async def add(self, *messages: Message, to: tuple[str, ...] = ("a",)) -> None:
        await self.outbox.apply(self.outbox.plan([(one, to) for one in messages]))

    def said(self, channel: str = "a") -> list[tuple[str, ...]]:
        return sorted(tuple(said.id for said in one.row.notice.messages) for one in self.outbox.waiting(channel))

    async def on_disk(self) -> list[OutboxRow]:
        """What a next start would find."""
        assert self.store.path is not None
        again = await open_store(self.store.path)
        await again.close()
        return list(again.messages)

    def next_id(self) -> str:
        one, _ = self.outbox.next("a")
        assert one is not None
        return one.row.notice.id

    async def batch(self, channel: str = "a", *, late_ms: int = MINUTE, summary_above: int = 20) -> Batch:
        """What goes out next, as far as a sender has it in its hands."""
        one, _ = self.outbox.next(channel)
        assert one is not None
        return await self.outbox.batch(channel, one, late_ms=late_ms, summary_above=summary_above)

    async def fails(self, *ones: Waiting, refused: bool = False, wait_s: float = 0.0) -> None:
        await self.outbox.postpone(ones, partial(attempted, error="http", refused=refused), wait_s)

    async def taken(self, batch: Batch) -> None:
        await self.outbox.apply(Change(drop=tuple(one.row.id for one in batch.ones)))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store[IncidentRecord, OutboxRow]]:
    one = await open_store(tmp_path / "state.db")
    yield one
    await one.close()


@pytest.fixture
def bench(store: Store[IncidentRecord, OutboxRow]) -> Bench:
    return Bench(store)


def about(name: str, level: Level, number: int = 1, reason: Reason = Reason.FIRST, **more: Any) -> Message:
    about_it = incident(level, id=name, key=account(name), messages=number)
    return message(level, reason, incident=about_it, **({"id": f"{name}.{number}"} | more))


async def test_critical_overtakes(bench: Bench) -> None:
    await bench.add(about("A", Level.WARNING), about("B", Level.HIGH))
    bench.wall.ms += 1000
    await bench.add(about("C", Level.CRITICAL), about("D", Level.OK, reason=Reason.RESOLVED))
    order = []
    while len(bench.outbox):
        one, _ = bench.outbox.next("a")
        assert one is not None
        order.append(one.row.notice.id)
        await bench.outbox.apply(structs.replace(bench.outbox.plan([]), drop=(one.row.id,)))
    assert order == ["C.1", "B.1", "A.1", "D.1"], "urgent first, good news last"


async def test_what_was_refused_goes_last(bench: Bench) -> None:
    await bench.add(about("A", Level.LIQUIDATION), about("B", Level.WARNING))
    one, _ = bench.outbox.next("a")
    assert one is not None
    await bench.fails(one, refused=True)
    assert bench.next_id() == "B.1", "one message that a receiver will not have must not stop all others"


async def test_the_newest_state_replaces_the_waiting_one(bench: Bench) -> None:
    await bench.add(about("A", Level.EMERGENCY), about("B", Level.HIGH))
    bench.wall.ms += 60_000
    await bench.add(about("A", Level.HIGH, 2, Reason.REPEAT_DUE, told_level=Level.EMERGENCY))
    assert bench.said() == [("A.2",), ("B.1",)]
    (row,) = [one.row for one in bench.outbox.waiting("a") if one.row.notice.id == "A.2"]
    (said,) = row.notice.messages
    assert (said.swallowed, said.swallowed_worst) == (1, Level.EMERGENCY), "the worsening that was never delivered is told"
    assert said.told_level is Level.OK, "the receiver has heard nothing yet"
    assert row.created_ms == T0, "it waits since the first"


async def test_the_causes_of_two_steps_add_up(bench: Bench) -> None:
    first = (Cause("position BTCUSDT", -900.0, "USD"), Cause("rate of BTC", -100.0, "USD"), Cause("funding USDT", -5.0, "USD"))
    second = (
        Cause("rate of BTC", -850.0, "USD"),
        Cause("rate of BTC", 40.0, "USD", "requirement"),
        Cause("funding USDT", 5.0, "USD"),
    )
    await bench.add(about("A", Level.WARNING, causes=first))
    await bench.add(about("A", Level.CRITICAL, 2, Reason.WORSE, causes=second))
    await bench.add(about("A", Level.CRITICAL, 3, Reason.REPEAT_DUE))
    (one,) = bench.outbox.waiting("a")
    assert one.row.notice.messages[0].causes == (
        Cause("rate of BTC", -950.0, "USD"),
        Cause("position BTCUSDT", -900.0, "USD"),
        Cause("rate of BTC", 40.0, "USD", "requirement"),
    ), "the whole move since the receiver last heard"


async def test_each_channel_merges_its_own(bench: Bench) -> None:
    await bench.add(about("A", Level.HIGH), to=("a", "b"))
    (one,) = bench.outbox.waiting("b")
    await bench.outbox.apply(structs.replace(bench.outbox.plan([]), drop=(one.row.id,)))  # b took it
    await bench.add(about("A", Level.CRITICAL, 2, Reason.WORSE, told_level=Level.HIGH), to=("a", "b"))
    told = {name: [one.row.notice.messages[0] for one in bench.outbox.waiting(name)] for name in ("a", "b")}
    assert [(said.swallowed, said.told_level) for said in told["a"]] == [(1, Level.OK)]
    assert [(said.swallowed, said.told_level) for said in told["b"]] == [(0, Level.HIGH)]


async def test_two_changes_of_one_batch_merge(bench: Bench) -> None:
    await bench.add(about("A", Level.HIGH), about("A", Level.CRITICAL, 2, Reason.WORSE), about("A", Level.OK, 3, Reason.RESOLVED))
    (one,) = bench.outbox.waiting("a")
    (said,) = one.row.notice.messages
    assert (said.id, said.swallowed, said.swallowed_worst) == ("A.3", 2, Level.CRITICAL)


async def test_what_is_in_flight_is_left_alone(bench: Bench) -> None:
    await bench.add(about("A", Level.HIGH))
    (one,) = bench.outbox.waiting("a")
    one.in_flight = True
    await bench.add(about("A", Level.CRITICAL, 2, Reason.WORSE))
    assert bench.said() == [("A.1",), ("A.2",)]


async def test_a_replaced_row_does_not_come_back(bench: Bench) -> None:
    await bench.add(about("A", Level.HIGH))
    (one,) = bench.outbox.waiting("a")
    change = bench.outbox.plan([(about("A", Level.CRITICAL, 2, Reason.WORSE), ("a",))])
    await bench.outbox.apply(change)
    await bench.fails(one, wait_s=1.0)  # its attempt ends only now
    assert bench.said() == [("A.2",)]


@pytest.mark.parametrize(
    ("level", "reason", "refused", "why"),
    [
        (Level.CRITICAL, Reason.WORSE, False, "503: the old warning would follow the critical one"),
        (Level.OK, Reason.RESOLVED, False, "503: the alert would be told after its end"),
        (Level.OK, Reason.RESOLVED, True, "403: the same, a minute later"),
    ],
)
async def test_what_failed_in_flight_goes_into_the_newer(
    bench: Bench, level: Level, reason: Reason, refused: bool, why: str
) -> None:
    await bench.add(about("A", Level.WARNING))
    (one,) = bench.outbox.waiting("a")
    one.in_flight = True
    bench.wall.ms += 1000
    await bench.add(about("A", level, 2, reason, told_level=Level.WARNING))
    await bench.fails(one, refused=refused, wait_s=60.0)
    (left,) = bench.outbox.waiting("a")
    (said,) = left.row.notice.messages
    assert (said.id, said.swallowed, said.swallowed_worst, said.told_level) == ("A.2", 1, Level.WARNING, Level.OK), why
    assert left.row.created_ms == T0, "it waits since the first"
    assert bench.next_id() == "A.2", "the newer one is not held back by the older one's failure"
    assert await bench.on_disk() == [left.row], "and the disk says the same"


async def test_a_summary_that_failed_in_flight_gives_up_what_is_newer(bench: Bench) -> None:
    await bench.add(*(about(f"A{number}", Level.WARNING) for number in range(3)))
    summary = await bench.batch(summary_above=2)
    await bench.add(about("A1", Level.OK, 2, Reason.RESOLVED))
    await bench.fails(*summary.ones, wait_s=60.0)
    assert bench.said() == [("A0.1",), ("A1.2",), ("A2.1",)]
    assert [one.due_s for one in summary.ones if bench.outbox.is_waiting(one)] == [bench.clock.s + 60.0] * 2
    assert {row.id for row in await bench.on_disk()} == {one.row.id for one in bench.outbox.waiting("a")}
    newer = await bench.batch(summary_above=2)
    assert newer.notice.id == "A1.2", "the newer state is not held back"
    await bench.taken(newer)
    bench.clock.s += 60.0
    again = await bench.batch(summary_above=2)
    assert [said.id for said in again.notice.messages] == ["A0.1", "A2.1"], "the others go together again"
    assert again.notice.id != summary.notice.id, "other content, other id"


async def test_an_acknowledgement_takes_nobody_s_place(bench: Bench) -> None:
    await bench.add(about("A", Level.CRITICAL))
    (one,) = bench.outbox.waiting("a")
    one.in_flight = True
    await bench.add(about("A", Level.CRITICAL, 1, Reason.ACKNOWLEDGED, id="A.1.ack"))
    await bench.fails(one)
    assert bench.said() == [("A.1",), ("A.1.ack",)]


async def test_two_of_one_incident_on_disk_go_out_as_one(store: Store[IncidentRecord, OutboxRow]) -> None:
    rows = [
        row_of(said, "a", T0 + at_ms, ("a",))
        for at_ms, said in ((0, about("A", Level.WARNING)), (1000, about("A", Level.CRITICAL, 2, Reason.WORSE)))
    ]
    await store.commit((), rows)  # we died while the first was in flight
    store._loaded = ([], rows)
    bench = Bench(store)
    one, _ = bench.outbox.next("a")
    assert one is not None
    assert await bench.outbox.merged(one), "the newer one is the more urgent: it is sent"
    assert bench.said() == [("A.2",)]
    await bench.outbox.settle(lambda row: (row.channel,))
    assert [row.notice.messages[0].swallowed for row in await bench.on_disk()] == [1]


async def test_many_go_out_in_short(bench: Bench) -> None:
    await bench.add(*(about(f"A{number:02}", Level.WARNING) for number in range(24)), about("Z", Level.CRITICAL))
    summary = await bench.batch(late_ms=60 * MINUTE)
    notice = summary.notice
    assert notice.summary
    assert notice.messages[0].id == "Z.1", "worst first"
    assert (len(notice.messages), len(bench.outbox)) == (20, 25), "as many as a message holds, and nothing is lost"
    await bench.fails(*summary.ones)
    await bench.add(*(about(f"B{number:02}", Level.CRITICAL) for number in range(24)))
    again = await bench.outbox.batch("a", summary.ones[0], late_ms=60 * MINUTE, summary_above=2)
    assert again.notice == notice, "tried again as it was: same id, same content"


@pytest.mark.parametrize("died", ["before", "in"], ids=["before-the-attempt", "in-the-attempt"])
async def test_after_a_crash_a_summary_has_the_same_id(bench: Bench, died: str) -> None:
    """Whether the receiver took it nobody knows: it must be able to merge."""
    await bench.add(*(about(f"A{number:02}", Level.WARNING) for number in range(22)))
    before = await bench.batch()
    if died == "in":
        await bench.fails(*before.ones)
    await bench.add(*(about(f"B{number:02}", Level.INFO) for number in range(5)))
    bench.store._loaded = ([], await bench.on_disk())
    after = await Bench(bench.store).batch()
    assert after.notice == before.notice, "although more wait by now"


async def test_a_summary_that_is_refused_goes_in_halves_and_each_keeps_its_id(bench: Bench) -> None:
    await bench.add(*(about(f"A{number}", Level.WARNING) for number in range(5)))
    whole = await bench.batch(summary_above=2)
    await bench.outbox.split(whole)
    first = await bench.batch(summary_above=2)
    assert [said.id for said in first.notice.messages] == ["A0.1", "A1.1", "A2.1"]
    bench.store._loaded = ([], await bench.on_disk())
    assert (await Bench(bench.store).batch()).notice == first.notice, "after a crash too"
    await bench.outbox.split(first)
    await bench.taken(await bench.batch(summary_above=2))
    alone = await bench.batch(summary_above=0)
    assert (alone.notice.id, alone.notice.summary) == ("A2.1", False), "one message alone is told in full"


@pytest.mark.parametrize("letter", ["x", "@", "\U0001f4a5", "&"], ids=["plain", "mentions", "two-units", "escapes"])
async def test_a_summary_is_no_longer_than_what_is_shown(bench: Bench, letter: str) -> None:
    long = [
        message(
            Level.HIGH, incident=incident(Level.HIGH, id=f"A{number:02}", key=account(f"desk-{number:02}"), summary=letter * 290)
        )
        for number in range(24)
    ]
    await bench.add(*long)
    told: list[str] = []
    while len(bench.outbox):
        summary = await bench.batch(summary_above=0)
        shown = telegram(compose(summary.notice, "http://monitor.example:9877"))
        assert units(html.unescape(shown)) <= TELEGRAM_UNITS_MAX
        sent = slack(compose(summary.notice, "http://monitor.example:9877"))
        assert all(said.incident.key.account in sent for said in summary.notice.messages), "row 22: Slack's is not cut either"
        told += [f"desk-{number:02}" for number in range(24) if f"desk-{number:02}" in shown]
        await bench.taken(summary)
    assert sorted(told) == [f"desk-{number:02}" for number in range(24)], "each is shown, once: what is cut off waits"


@pytest.mark.parametrize(
    ("waiting", "above", "summary", "why"),
    [(20, 20, False, "up to the limit each says all"), (21, 20, True, "above it they would only scroll by")],
)
async def test_how_many_are_many(bench: Bench, waiting: int, above: int, summary: bool, why: str) -> None:
    await bench.add(*(about(f"A{number:02}", Level.WARNING) for number in range(waiting)))
    assert (await bench.batch(summary_above=above)).notice.summary is summary, why


async def test_what_is_too_late_goes_out_in_short(bench: Bench) -> None:
    await bench.add(about("A", Level.CRITICAL), about("B", Level.WARNING))
    bench.wall.ms += 61 * MINUTE
    await bench.add(about("C", Level.HIGH, at_ms=bench.wall.ms))
    summary = await bench.batch(late_ms=60 * MINUTE)
    assert [said.id for said in summary.notice.messages] == ["A.1", "B.1"]
    assert ("C.1",) in bench.said(), "what is fresh is told in full"


async def test_what_was_refused_spoils_no_summary(bench: Bench) -> None:
    await bench.add(*(about(f"A{number}", Level.WARNING) for number in range(4)))
    poison = bench.outbox.waiting("a")[0]
    await bench.fails(poison, refused=True)
    summary = await bench.batch(summary_above=2)
    assert [said.id for said in summary.notice.messages] == ["A1.1", "A2.1", "A3.1"]
    assert (await bench.outbox.batch("a", poison, late_ms=0, summary_above=0)).ones == (poison,)


async def test_a_newer_state_leaves_the_summary(bench: Bench) -> None:
    await bench.add(*(about(f"A{number}", Level.WARNING) for number in range(4)))
    before = await bench.batch(summary_above=2)
    await bench.fails(*before.ones)
    await bench.add(about("A2", Level.CRITICAL, 2, Reason.WORSE, told_level=Level.WARNING))
    assert bench.said() == [("A0.1",), ("A1.1",), ("A2.2",), ("A3.1",)]
    await bench.taken(await bench.batch(summary_above=2))
    after = await bench.batch(summary_above=2)
    assert [said.id for said in after.notice.messages] == ["A0.1", "A1.1", "A3.1"]
    assert before.notice.id != after.notice.id, "other content, other id: a receiver that merges by it would drop it"


async def test_summaries_of_two_channels_have_two_ids(bench: Bench) -> None:
    await bench.add(*(about(f"A{number}", Level.WARNING) for number in range(3)), to=("a", "b"))
    ids = [(await bench.batch(channel, summary_above=1)).notice.id for channel in ("a", "b")]
    assert ids[0] != ids[1]


async def test_a_clock_that_is_set_moves_no_retry(bench: Bench) -> None:
    await bench.add(about("A", Level.HIGH))
    one, _ = bench.outbox.next("a")
    assert one is not None
    await bench.fails(one, wait_s=2.0)
    bench.wall.ms -= 3_600_000
    assert bench.outbox.next("a") == (None, 2.0)
    bench.clock.s += 2.0
    assert bench.next_id() == "A.1"


@pytest.mark.parametrize(
    ("not_before_ms", "wait_s", "why"),
    [
        (0, 0.0, "what only our back-off delayed goes at once after a restart"),
        (T0 + 291_000, 291.0, "what the receiver asked for holds across it"),
        (T0 - 1, 0.0, "and is over when it is over"),
    ],
)
async def test_after_a_restart(store: Store[IncidentRecord, OutboxRow], not_before_ms: int, wait_s: float, why: str) -> None:
    row = row_of(about("A", Level.HIGH), "a", T0 - 5000, ("a",))
    store._loaded = ([], [attempted(row, "http_429", not_before_ms=not_before_ms)])
    bench = Bench(store)
    one, due_s = bench.outbox.next("a")
    assert (one is None) is bool(wait_s), why
    assert due_s == wait_s, why
    (waiting,) = bench.outbox.waiting("a")
    assert bench.clock.s - waiting.since_s == 5.0, "it waits since before the restart"


async def test_row_11_a_wait_that_a_wrong_clock_noted_ends(store: Store[IncidentRecord, OutboxRow]) -> None:
    """The clock was a day ahead when the receiver asked for 30 s; then it was mended."""
    row = attempted(row_of(about("A", Level.CRITICAL), "a", T0, ("a",)), "http_429", not_before_ms=T0 + 86_430_000)
    store._loaded = ([], [row])
    bench = Bench(store)
    assert bench.next_id() == "A.1", "no receiver asks for more than an hour"


async def test_what_waited_for_a_channel_that_is_gone_goes_where_the_routes_lead(
    store: Store[IncidentRecord, OutboxRow],
) -> None:
    store._loaded = ([], [row_of(about("A", Level.HIGH), "gone", T0, ("gone",))])
    bench = Bench(store)
    assert await bench.outbox.settle(lambda row: ("b",)) == 1
    assert bench.said("b") == [("A.1",)]
    assert await bench.outbox.settle(lambda row: (row.channel,)) == 0
    assert [row.id for row in await bench.on_disk()] == ["A.1@b"]


async def test_what_nobody_may_hear_stays_on_disk(store: Store[IncidentRecord, OutboxRow]) -> None:
    rows = [row_of(about(name, Level.HIGH), channel, T0, (channel,)) for name, channel in (("A", "gone"), ("B", "a"))]
    await store.commit((), rows)
    store._loaded = ([], rows)
    bench = Bench(store)
    await bench.outbox.settle(lambda row: None)
    assert not len(bench.outbox)
    assert [row.id for row in await bench.on_disk()] == ["A.1@gone", "B.1@a"]


async def test_a_summary_of_an_earlier_version_is_delivered(store: Store[IncidentRecord, OutboxRow]) -> None:
    """There, a summary was a row of its own, whose messages had their routes in common."""
    messages = (about("A", Level.CRITICAL), about("B", Level.HIGH))
    old = OutboxRow(
        id="a.A.1+1@a",
        channel="a",
        notice=Notice(id="a.A.1+1", messages=messages, summary=True),
        created_ms=T0 - 5000,
        routed=("a", "b"),
        attempts=3,
    )
    newer = row_of(about("B", Level.CRITICAL, 2, Reason.WORSE), "a", T0, ("a",))
    await store.commit((), [old, newer])
    store._loaded = ([], await Bench(store).on_disk())
    bench = Bench(store)
    assert bench.said() == [("A.1",), ("B.2",)]
    assert [one.row.routed for one in bench.outbox.waiting("a") if one.row.message.id == "A.1"] == [("a",)], (
        "whether b has it nobody knows: it falls over once more"
    )
    await bench.outbox.settle(lambda row: (row.channel,))
    assert {row.id for row in await bench.on_disk()} == {"A.1@a", "B.2@a"}
    assert [one.row.message.swallowed for one in bench.outbox.waiting("a") if one.row.message.id == "B.2"] == [1]
