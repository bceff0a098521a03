"""The daemon's own clocks while the machine's is set, or sleeps: `monitor.clock`."""

from __future__ import annotations

import time

import pytest

from monitor.clock import Clock, TrueTime

S_NS = 1_000_000_000


class Machine:
    """Its wall clock, which people set, and its steady one, which counts while it is suspended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_ns, self.steady_ns, self.awake_ns = 1_795_325_664 * S_NS, 5_000 * S_NS, 4_000 * S_NS
        steady = {time.CLOCK_BOOTTIME: lambda: self.steady_ns, time.CLOCK_MONOTONIC: lambda: self.awake_ns}
        monkeypatch.setattr(time, "time_ns", lambda: self.wall_ns)
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.awake_ns)
        monkeypatch.setattr(time, "clock_gettime_ns", lambda which: steady[which]())

    def passes(self, seconds: int, *, asleep: bool = False) -> None:
        self.wall_ns += seconds * S_NS
        self.steady_ns += seconds * S_NS
        self.awake_ns += 0 if asleep else seconds * S_NS


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_row_29_after_a_resume_it_is_as_late_as_it_is(machine: Machine) -> None:
    clock = Clock()
    began_ms = clock.now_ms()
    machine.passes(10)
    machine.passes(3600, asleep=True)
    assert clock.now_ms() - began_ms == 3_610_000, "data from before the night are an hour old"
    assert clock.now_ms() == machine.wall_ns // 1_000_000


@pytest.mark.parametrize("step_s", [-7200, 86_400])
def test_a_wall_clock_that_is_set_moves_no_interval(machine: Machine, step_s: int) -> None:
    clock = Clock()
    began_ms = clock.now_ms()
    machine.wall_ns += step_s * S_NS
    machine.passes(1)
    assert clock.now_ms() - began_ms == 1000


@pytest.mark.parametrize("wrong_s", [-86_400, -1, 0, 3600])
def test_row_34_the_true_time_is_that_of_the_venue(machine: Machine, wrong_s: int) -> None:
    """Our clock is wrong at the start; later it is set right, and the machine sleeps."""
    true_ns = machine.wall_ns
    machine.wall_ns += wrong_s * S_NS
    clock = Clock()
    now = TrueTime(clock.now_ms)
    assert now.now_ms() is None, "nobody knows yet"
    now.compared("htx_coin_futures", -wrong_s * 1000 + 400, 900)
    now.compared("binance_usdm", -wrong_s * 1000, 20)
    machine.wall_ns = true_ns
    machine.passes(3600, asleep=True)
    assert now.now_ms() == (true_ns + 3600 * S_NS) // 1_000_000, "by the one that is surer"
