"""The power line: who hears whom, what is lost, and that the same seed loses the same."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from meter_runtime.bench.plc.frames import Joining, LineFrame
from meter_runtime.bench.plc.line import QUIET_SNR_DB, Line, LineCrossing
from meter_runtime.clock import Trust

METER, HEMS, OTHER = (bytes(7) + bytes((n,)) for n in (1, 2, 3))


class HandClock:
    """Time that a test moves; one timer at a time is all that a line needs."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.now = 0.0
        self.due: float | None = None
        self._callback: Callable[[], None] | None = None

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "HandClock":
        self.due, self._callback = when, callback
        return self

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def cancel(self) -> None:
        self.due = self._callback = None

    def fire(self) -> None:
        assert self.due is not None
        assert self._callback is not None
        self.now = self.due
        self._callback()


@dataclass
class Plain:
    """A station that keeps what it is told."""

    extended: bytes
    heard: list[tuple[LineFrame, int]] = field(default_factory=list)
    outcomes: list[bool] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)
    deadline: float | None = None
    outgoing: list[LineFrame] = field(default_factory=list)
    answers: bool = False

    def take_line(self) -> list[LineFrame]:
        frames, self.outgoing = self.outgoing, []
        return frames

    def hear(self, frame: LineFrame, lqi: int, now: float) -> None:
        self.heard.append((frame, lqi))
        if self.answers:
            self.send(frame.source)

    def sent(self, frame: LineFrame, *, received: bool, now: float) -> None:
        self.outcomes.append(received)

    def tick(self, now: float) -> None:
        self.ticks.append(now)
        self.deadline = None

    def send(self, to: bytes | None) -> None:
        self.outgoing.append(LineFrame(self.extended, to, Joining()))


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def house(clock: HandClock, seed: int = 1) -> tuple[Line, Plain, Plain, Plain]:
    line = Line(clock, random.Random(seed))
    stations = Plain(METER), Plain(HEMS), Plain(OTHER)
    for station in stations:
        line.attach(station)
    return line, *stations


def test_a_frame_reaches_whom_it_is_for_and_one_for_everybody_all_others(clock: HandClock) -> None:
    line, meter, hems, other = house(clock)
    hems.send(METER)
    hems.send(None)
    line.settle()
    assert (len(meter.heard), len(hems.heard), len(other.heard)) == (2, 0, 1)
    assert hems.outcomes == [True, True]


def test_the_link_quality_follows_the_attenuation(clock: HandClock) -> None:
    line, meter, hems, _ = house(clock)
    for db in (0.0, 10.0):
        line.set_attenuation(HEMS, db)
        hems.send(METER)
        line.settle()
    assert [lqi for _, lqi in meter.heard] == [160, 120]
    assert line.snr_db(METER, HEMS) == QUIET_SNR_DB - 10
    assert line.snr_db(METER, OTHER) == QUIET_SNR_DB


def test_too_much_attenuation_lets_nothing_through(clock: HandClock) -> None:
    line, meter, hems, other = house(clock)
    line.set_attenuation(HEMS, 60)
    hems.send(METER)
    other.send(METER)
    line.settle()
    assert (hems.outcomes, other.outcomes, len(meter.heard)) == ([False], [True], 1)
    line.set_attenuation(HEMS, 0)
    hems.send(METER)
    line.settle()
    assert hems.outcomes == [False, True]


@pytest.mark.parametrize(("rate", "lost"), [(0.0, 0.0), (0.5, 0.0625), (0.9, 0.6561), (1.0, 1.0)])
def test_noise_loses_what_four_tries_do_not_save(
    clock: HandClock, rate: float, lost: float
) -> None:
    line, _, hems, _ = house(clock)
    line.packet_error_rate = rate
    for _ in range(2000):
        hems.send(METER)
    line.settle()
    assert hems.outcomes.count(False) / 2000 == pytest.approx(lost, abs=0.04)


def test_the_same_seed_loses_the_same(clock: HandClock) -> None:
    outcomes = []
    for _ in range(2):
        line, _, hems, _ = house(clock, seed=7)
        line.packet_error_rate = 0.8
        for _ in range(50):
            hems.send(METER)
        line.settle()
        outcomes.append(hems.outcomes)
    assert outcomes[0] == outcomes[1]


def test_who_is_pulled_out_hears_nothing(clock: HandClock) -> None:
    line, meter, hems, _ = house(clock)
    line.detach(meter)
    line.detach(meter)
    hems.send(METER)
    line.settle()
    assert (meter.heard, hems.outcomes) == ([], [False])


def test_two_with_one_address_are_refused(clock: HandClock) -> None:
    line, *_ = house(clock)
    with pytest.raises(ValueError, match="two stations have the address 0000000000000001"):
        line.attach(Plain(METER))


def test_timers_are_kept(clock: HandClock) -> None:
    line, meter, hems, _ = house(clock)
    meter.deadline, hems.deadline = 5.0, 3.0
    line.settle()
    clock.fire()
    clock.fire()
    assert (hems.ticks, meter.ticks, clock.due) == ([3.0], [5.0], None)


def test_stations_that_answer_each_other_for_ever_are_stopped(clock: HandClock) -> None:
    line, meter, hems, _ = house(clock)
    meter.answers = hems.answers = True
    hems.send(METER)
    line.settle()
    assert 1000 < len(meter.heard) < 10_000


def test_listeners_are_told_of_every_frame(clock: HandClock) -> None:
    line, _, hems, _ = house(clock)
    told: list[LineCrossing] = []
    line.listeners.append(told.append)
    hems.send(METER)
    hems.send(b"nobody..")
    line.settle()
    assert [crossing.received for crossing in told] == [True, False]
