"""Critical messages that a channel does not deliver: the worst go to the next one first, and none comes back from the dead."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
from alerts_kit import Clock, account, crossing, desk, open_store, settings, webhook

from monitor.alerts.handover import FALL_OVERS_PER_TICK
from monitor.alerts.message import IncidentRecord, OutboxRow
from monitor.alerts.outbox import Change
from monitor.alerts.routes import Routes
from monitor.model.alerts import Level

NOBODY = "http://127.0.0.1:9"
AT_ONCE = {"fail_over_s": 0}


async def test_the_worst_fall_over_first_in_one_commit_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_store()
    one = desk(
        settings(webhook("a", NOBODY), webhook("b", NOBODY), delivery=AT_ONCE, routes=[{"channels": ["a"]}]), store, Clock()
    )
    crowd = [crossing(Level.CRITICAL, key=account(f"acc{number}")) for number in range(FALL_OVERS_PER_TICK + 50)]
    await one.handle([*crowd, crossing(Level.LIQUIDATION, key=account("last"))])
    commits: list[int] = []
    commit = store.commit

    async def counted(
        incidents: Iterable[IncidentRecord] = (), messages: Iterable[OutboxRow] = (), drop: Collection[str] = (), **more: Any
    ) -> bool:
        messages = list(messages)
        commits.append(len(messages))
        return await commit(incidents, messages, drop, **more)

    monkeypatch.setattr(store, "commit", counted)
    for passed_on in (FALL_OVERS_PER_TICK, len(crowd) + 1, len(crowd) + 1):
        commits.clear()
        await one.tick(one._now_ms())
        waiting = one._outbox.waiting("b")
        assert len(waiting) == passed_on
        assert sum(size > 0 for size in commits) <= 1, "a new liquidation waits for one commit, not for hundreds"
        assert any(said.row.notice.urgency is Level.LIQUIDATION for said in waiting), "worst first"
    await store.close()


async def test_what_was_delivered_meanwhile_stays_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = await open_store(tmp_path / "state.db")
    one = desk(
        settings(webhook("a", NOBODY), webhook("b", NOBODY), delivery=AT_ONCE, routes=[{"channels": ["a"]}]), store, Clock()
    )
    await one.handle([crossing(Level.CRITICAL, key=account(f"acc{number}")) for number in range(3)])
    delivered = [said.row.id for said in one._outbox.waiting("a")]
    commit = store.commit

    async def and_a_delivery(*args: Any, **more: Any) -> bool:
        """While this write runs, the sender of the first channel gets its answers."""
        done = await commit(*args, **more)
        monkeypatch.setattr(store, "commit", commit)
        await one._outbox.apply(Change(drop=tuple(delivered)))
        return done

    monkeypatch.setattr(store, "commit", and_a_delivery)
    await one.tick(one._now_ms())
    assert not one._outbox.waiting("a")
    await store.close()
    again = await open_store(tmp_path / "state.db")
    assert {row.channel for row in again.messages} == {"b"}, "nothing that was delivered is sent again by the next process"
    assert len(again.messages) == 3
    await again.close()


@pytest.mark.parametrize(
    ("routes", "alias", "after", "why"),
    [
        ([], "A", "bcd", "without routes every channel hears of everything"),
        ([{"channels": ["a"]}], "A", "bcd", "what no route names is everybody's reserve"),
        (
            [{"channels": ["a", "b"], "accounts": ["A"]}, {"channels": ["c", "d"], "accounts": ["B"]}],
            "A",
            "b",
            "one client's alerts are not another's",
        ),
        (
            [{"channels": ["a"]}, {"channels": ["b"], "accounts": ["B"]}, {"channels": ["c"], "min_level": "liquidation"}],
            "A",
            "cd",
            "who may hear of the account may hear of what others could not be told, whatever its level",
        ),
        ([{"channels": ["a"]}, {"channels": ["b"], "rules": ["funding"]}], "A", "bcd", "or whatever its rule"),
        ([{"channels": ["a"]}, {"channels": ["b"], "accounts": ["B"]}], "", "bcd", "what the monitor says of itself"),
    ],
)
def test_where_critical_messages_fall_over_to(routes: list[dict[str, Any]], alias: str, after: str, why: str) -> None:
    one = Routes(settings(*(webhook(name, NOBODY) for name in "abcd"), routes=routes))
    assert one.after("a", account(alias)) == tuple(after), why


async def test_no_critical_falls_over_to_another_client() -> None:
    store = await open_store()
    routes = [{"channels": ["a"], "accounts": ["A"]}, {"channels": ["b"], "accounts": ["B"]}]
    one = desk(settings(webhook("a", NOBODY), webhook("b", NOBODY), delivery=AT_ONCE, routes=routes), store, Clock())
    await one.handle([crossing(Level.LIQUIDATION, key=account("A"))])
    await one.tick(one._now_ms())
    assert [(status.name, status.pending) for status in one.channels()] == [("a", 1), ("b", 0)]
    await store.close()
