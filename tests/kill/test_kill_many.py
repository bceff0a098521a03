"""kill -9, many times, on a flow of crossings: none is lost, duplicates only between acceptance and mark, the end is the same.

MARGIN_KILLS sets how often (default 300; `make soak` has 1,000).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kill_ledger import Ledger, Receiver, receiving, rows, settled
from kill_victim import CHANNELS
from msgspec import Struct

KILLS = int(os.environ.get("MARGIN_KILLS", "300"))
CROSSINGS_PER_KILL = 5
SEED = 7
POINTS = ("before commit", "after commit", "mid-send", "after accept", "after mark")
RANDOM_S_MAX = 0.15
RESTART_S_MAX = 5.0


class Life(Struct):
    """How one life shall go and end."""

    number: int
    point: str = ""  # of the hooks, "random" for a moment, "" to die of old age at step `last`
    count: int = 0  # the point's n-th passing
    after_s: float = 0.0
    last: int | None = None


class Killer:
    """Lives through the nursery, one after the other, on one store."""

    def __init__(self, births: asyncio.subprocess.Process, receiver: Receiver, folder: Path, *, forgets: bool = False) -> None:
        self._nursery = births
        self._receiver = receiver
        self._forgets = forgets
        self.store = folder / "state.db"
        self.walked = folder / "walked"
        self.first_send_s: list[float] = []  # by life: from its start to its first request

    async def live(self, life: Life) -> int:
        """Returns the exit code, and notes what was not marked when it ended."""
        receiver = self._receiver
        if self._forgets:
            self.store = self.store.with_name(f"state-{life.number}.db")
        left = life.count if life.point == "mid-send" else 0
        job = {
            "store": str(self.store),
            "walked": str(self.walked),
            "base": receiver.base,
            "seed": SEED,
            "life": life.number,
            "point": life.point,
            "count": life.count,
            "last": life.last,
        }
        assert self._nursery.stdin is not None
        began = time.monotonic()
        self._nursery.stdin.write(json.dumps(job).encode() + b"\n")
        pid = int(await self._line())
        requests = [0]

        def before_answer() -> bool:
            nonlocal left
            requests[0] += 1
            if requests[0] == 1:
                self.first_send_s.append(time.monotonic() - began)
            left -= 1
            if left == 0:
                os.kill(pid, signal.SIGKILL)
                return True
            return False

        receiver.before_answer = before_answer
        ending = asyncio.ensure_future(self._line())
        if life.point == "random":
            await asyncio.wait([ending], timeout=life.after_s)
            if not ending.done():
                os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(90):
            code = int(await ending)
        await settled(receiver)
        receiver.ledger.unmarked[life.number] = rows(self.store)[1]
        return code

    async def _line(self) -> str:
        assert self._nursery.stdout is not None
        line = await self._nursery.stdout.readline()
        assert line, "the nursery died"
        return line.decode()


@contextlib.asynccontextmanager
async def nursery(errors: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("kill_victim.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
        try:
            yield process
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()


def plan(kills: int, rng: random.Random) -> list[Life]:
    """Each point as often as the others, and as many at random moments as at all points together."""
    points = ["random" if number % 2 == 0 else POINTS[(number // 2) % len(POINTS)] for number in range(kills)]
    rng.shuffle(points)
    return [Life(number, point, rng.randint(1, 12), rng.uniform(0, RANDOM_S_MAX)) for number, point in enumerate(points)]


@pytest.mark.timeout(900)
async def test_killed_again_and_again_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger()
    ended: Counter[str] = Counter()
    killed, reference = tmp_path / "killed", tmp_path / "never"
    killed.mkdir()
    reference.mkdir()
    errors = tmp_path / "errors"
    async with receiving(ledger) as receiver, nursery(errors) as births:
        killer = Killer(births, receiver, killed)
        for life in plan(KILLS, random.Random(SEED)):
            assert await killer.live(life) == -signal.SIGKILL, f"{life}: {errors.read_text()}"
            ended[life.point] += 1
        last = max(int(killer.walked.read_text()), CROSSINGS_PER_KILL * KILLS)
        assert await killer.live(Life(KILLS, last=last)) == 0, errors.read_text()
        incidents, waiting = rows(killer.store)

        never_killed = Ledger()
        async with receiving(never_killed) as other:
            untouched = Killer(births, other, reference)
            assert await untouched.live(Life(KILLS + 1, last=last)) == 0, errors.read_text()
        assert not errors.read_text()

    assert sum(ended.values()) == KILLS
    assert set(ended) == {"random", *POINTS}
    assert not waiting
    wrong = ledger.audit(CHANNELS, incidents)
    assert not wrong, "\n".join(wrong[:20])
    expected, _ = rows(untouched.store)
    assert incidents == expected, "the state is that of a run that was never killed"
    assert not never_killed.duplicates()
    assert max(killer.first_send_s) <= RESTART_S_MAX

    twice = ledger.duplicates()
    after_accept = [life for lives in twice.values() for life in lives[:-1]]
    assert len(after_accept) >= ended["after accept"] // 2, "the receiver saw the window that it was to see"
    with capsys.disabled():
        print(
            f"\n{KILLS} kills ({', '.join(f'{point} {count}' for point, count in sorted(ended.items()))}), {last} crossings,"
            f" {len(incidents)} incidents, {sum(map(len, ledger.taken.values()))} messages taken, lost 0,"
            f" taken twice {len(twice)}; first message of a life after at most {max(killer.first_send_s):.2f} s"
        )


async def test_the_audit_sees_a_store_that_forgets(tmp_path: Path) -> None:
    """The test above can fail: the same lives, each with a store of its own, lose messages."""
    ledger = Ledger()
    async with receiving(ledger) as receiver, nursery(tmp_path / "errors") as births:
        killer = Killer(births, receiver, tmp_path, forgets=True)
        for life in plan(20, random.Random(SEED)):
            await killer.live(life)
        last = int(killer.walked.read_text())
        (tmp_path / "kept").mkdir()
        never_killed = Ledger()
        async with receiving(never_killed) as other:
            untouched = Killer(births, other, tmp_path / "kept")
            assert await untouched.live(Life(99, last=last)) == 0
    expected, _ = rows(untouched.store)
    assert ledger.audit(CHANNELS, expected)
    assert not never_killed.audit(CHANNELS, expected)
