"""Published limits: kept in any order of attempts, and by all channels of one bot together, on real sockets."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from alerts_answers import PATHS, raw_settings
from alerts_kit import FAST, Clock, Receiver, crossing, desk, open_store, running, settings
from hypothesis import given
from hypothesis import strategies as st

from monitor.alerts.channels.base import RateLimit
from monitor.alerts.channels.slack import SlackChannel, SlackSettings
from monitor.alerts.channels.telegram import _limits
from monitor.alerts.pace import Pace, Paces
from monitor.model.alerts import Level
from monitor.model.secret import Secret

TOLERANCE_S = 0.002  # two clocks' grain


class Arrivals:
    """A Bot API that notes when what arrived."""

    def __init__(self, there: Receiver) -> None:
        self.at_s: list[float] = []
        self.chats: list[str] = []
        self.refuse: list[web.Response] = []
        there.answers[PATHS["telegram"]] = self._take

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.at_s.append(time.monotonic())
        self.chats.append((await request.json())["chat_id"])
        return self.refuse.pop(0) if self.refuse else web.json_response({"ok": True})


def telegram(base: str, name: str, chat_id: str, **more: Any) -> dict[str, Any]:
    return raw_settings("telegram", base, chat_id=chat_id, **more) | {"name": name}


# ------------------------------------------------------------------ the limits


@pytest.mark.parametrize(
    ("chat_id", "limits", "why"),
    [
        ("42", {(30, 1.0, 2), (1, 1.0, 3)}, "a person: one a second, 30 a second of the bot"),
        ("-42", {(30, 1.0, 2), (1, 1.0, 3), (20, 60.0, 3)}, "a group takes 20 a minute"),
        ("-100123", {(30, 1.0, 2), (1, 1.0, 3), (20, 60.0, 3)}, "so does a supergroup"),
        ("@desk", {(30, 1.0, 2), (1, 1.0, 3), (20, 60.0, 3)}, "a name may be a group's"),
    ],
)
def test_telegrams_limits(chat_id: str, limits: set[tuple[int, float, int]], why: str) -> None:
    found = _limits(Secret("123:x"), chat_id)
    assert {(one.count, one.per_s, len(one.scope)) for one in found} == limits, why


def test_who_shares_a_limit() -> None:
    paces = Paces(lambda: 0.0)

    def used_up(*limits: RateLimit) -> bool:
        return paces.of(limits).wait_s > 0

    person = RateLimit(1, 1.0, ("telegram", Secret("1:a"), "42"))
    with paces.of([person]).attempt():
        assert used_up(RateLimit(1, 1.0, ("telegram", Secret("1:a"), "42"))), "the same chat by another channel"
        assert not used_up(RateLimit(1, 1.0, ("telegram", Secret("1:b"), "42"))), "another bot"
        assert not used_up(RateLimit(1, 1.0, ("telegram", Secret("1:a"), "43"))), "another chat"
        assert not used_up(RateLimit(1, 1.0)), "of no scope: the channel's own"
    assert "1:a" not in repr(person)


def test_two_channels_of_one_slack_webhook_share_its_limit() -> None:
    one, other = (
        SlackChannel(SlackSettings(name=name, webhook_url=Secret("https://hooks.slack.com/x")), None, "")  # type: ignore[arg-type]
        for name in ("a", "b")
    )
    assert one.limits == other.limits == (RateLimit(1, 1.0, ("slack", Secret("https://hooks.slack.com/x"))),)


@given(
    count=st.integers(1, 5),
    attempts=st.lists(st.tuples(st.floats(0, 3), st.floats(0, 2)), min_size=1, max_size=60),
)
def test_no_window_ever_holds_more(count: int, attempts: list[tuple[float, float]]) -> None:
    """attempts: (pause before it, its duration). Whenever it may have arrived, from its start to its end, the limit holds."""
    now = 0.0
    pace = Pace(RateLimit(count, 1.0), lambda: now)
    spans: list[tuple[float, float]] = []
    for pause, duration in attempts:
        now += pause
        now += pace.wait_s
        assert pace.wait_s <= 1e-9
        began = now
        with pace.attempt():
            now += duration
        spans.append((began, now))
    for index, (began, _) in enumerate(spans[count:], start=count):
        assert began - spans[index - count][1] >= 1.0 - 1e-9


def test_what_is_under_way_counts() -> None:
    pace = Pace(RateLimit(2, 1.0), lambda: 0.0)
    with pace.attempt():
        assert pace.wait_s == 0.0
        with pace.attempt():
            assert pace.wait_s == 1.0, "nobody knows when these two arrive"


# ------------------------------------------------------------------ on the wire


async def test_one_bot_stays_below_its_limit_over_all_its_chats(there: Receiver) -> None:
    bot = Arrivals(there)
    channels = [telegram(there.base, f"c{number}", str(number + 1)) for number in range(40)]
    store = await open_store()
    one = desk(settings(*channels), store, Clock())
    async with running(one):
        await one.handle([crossing(Level.HIGH)])
        assert await one.flush(20) == 0
    await store.close()
    assert sorted(bot.chats, key=int) == [str(number + 1) for number in range(40)]
    assert all(later - sooner >= 1.0 - TOLERANCE_S for sooner, later in zip(bot.at_s, bot.at_s[30:], strict=False))
    assert bot.at_s[-1] - bot.at_s[0] < 10, "and no slower than it must"


async def test_two_channels_into_one_chat_share_its_second(there: Receiver) -> None:
    bot = Arrivals(there)
    channels = [telegram(there.base, name, "42", message_thread_id=thread) for name, thread in (("a", 1), ("b", 2), ("c", 3))]
    store = await open_store()
    one = desk(settings(*channels), store, Clock())
    async with running(one):
        await one.handle([crossing(Level.HIGH)])
        assert await one.flush(20) == 0
    await store.close()
    assert len(bot.at_s) == 3
    assert min(later - sooner for sooner, later in pairwise(bot.at_s)) >= 1.0 - TOLERANCE_S


async def test_retry_after_is_kept_to_the_second(there: Receiver) -> None:
    bot = Arrivals(there)
    refusal = {"ok": False, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 2}}
    bot.refuse = [web.json_response(refusal, status=429)]
    store = await open_store()
    one = desk(settings(telegram(there.base, "t", "42")), store, Clock())
    async with running(one):
        await one.handle([crossing(Level.CRITICAL)])
        await there.until(lambda: len(bot.at_s) == 2)
    await store.close()
    assert 2.0 - TOLERANCE_S <= bot.at_s[1] - bot.at_s[0] < 2.0 + FAST["retry_min_s"] + 0.8, "never before, and not much after"


async def test_a_chat_that_moved_is_known_after_a_restart(there: Receiver, tmp_path: Path) -> None:
    bot = Arrivals(there)
    bot.refuse = [web.json_response({"ok": False, "parameters": {"migrate_to_chat_id": -100777}}, status=400)]
    for level, was in ((Level.HIGH, Level.OK), (Level.CRITICAL, Level.HIGH)):
        store = await open_store(tmp_path / "state.db")
        one = desk(settings(telegram(there.base, "t", "-42")), store, Clock())
        async with running(one):
            await one.handle([crossing(level, was)])
            assert await one.flush(20) == 0
        await store.close()
    assert bot.chats == ["-42", "-100777", "-100777"], "the second process asks no longer"
