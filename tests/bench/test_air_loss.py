"""What the air does to frames: distance, noise, repeats, fragments, collisions, impairments."""

import itertools
import random
import statistics
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from module_room import HEMS_MAC, METER_MAC, OTHER_MAC, ManualClock
from test_air_medium import Radio, events, frame

from meter_runtime.bench.air import (
    FAST,
    REAL,
    Air,
    AirPace,
    Crossing,
    EnergyRequest,
    Fate,
    Frame,
    phy,
)
from meter_runtime.bench.air.impairments import MAX_COPIES
from meter_runtime.bench.air.medium import MAX_PENDING
from meter_runtime.bench.air.transmission import MAX_QUEUED_FRAMES

PACES = pytest.mark.parametrize("pace", [FAST, REAL], ids=["fast", "real"])


class Room:
    """Two stations, a third on demand, and the sending time each reports."""

    def __init__(self, pace: AirPace = FAST, seed: int = 1) -> None:
        self.clock = ManualClock()
        self.air = Air(self.clock, random.Random(seed), pace)
        self.one, self.two = Meter(HEMS_MAC), Meter(METER_MAC)
        self.air.attach(self.one)
        self.air.attach(self.two)

    def third(self) -> "Meter":
        station = Meter(OTHER_MAC)
        self.air.attach(station)
        return station

    def send(self, *frames: Frame, wait_s: float = 10.0) -> None:
        self.one.requests += frames
        self.air.settle()
        self.clock.advance(wait_s)


class Meter(Radio):
    """A station that adds up what it sent."""

    airtime_s = 0.0

    def sent(self, frame: Frame, *, received: bool, airtime_s: float, now: float) -> None:
        super().sent(frame, received=received, airtime_s=airtime_s, now=now)
        self.airtime_s += airtime_s

    @property
    def outcomes(self) -> list[object]:
        return [value for kind, value in events(self) if kind == "sent"]

    @property
    def heard(self) -> int:
        return sum(kind == "heard" for kind, _ in events(self))


def at_error_rate(rate: float) -> float:
    """The attenuation of the default link at which a radio frame is lost so often."""
    return next(db / 10 for db in range(1000) if phy.error_rate(phy.dbm_of(0xA1) - db / 10) >= rate)


# Distance


def test_attenuation_weakens_both_ways_and_can_be_taken_away() -> None:
    room = Room()
    room.air.set_attenuation(METER_MAC, HEMS_MAC, 20.0)
    room.send(frame(HEMS_MAC, METER_MAC))
    room.two.requests.append(frame(METER_MAC, HEMS_MAC))
    room.air.settle()
    quality = phy.lqi_of(phy.dbm_of(0xA1) - 20.0)
    assert quality == 0xA1 - round(20 / 0.275)
    assert ("heard", quality) in events(room.one)
    assert ("heard", quality) in events(room.two)
    room.air.set_attenuation(HEMS_MAC, METER_MAC, 0.0)
    room.send(frame(HEMS_MAC, METER_MAC))
    assert events(room.two)[-1] == ("heard", 0xA1)


@PACES
def test_out_of_reach_the_mac_gives_up_after_four_tries(pace: AirPace) -> None:
    room = Room(pace)
    room.air.set_attenuation(METER_MAC, HEMS_MAC, 60.0)
    told = frame(HEMS_MAC, METER_MAC, 100)
    room.send(told)
    assert events(room.one) == [("sent", False)]
    assert room.two.log == []
    assert room.one.airtime_s == pytest.approx(4 * told.airtime_s)


@PACES
def test_repeats_carry_a_frame_over_a_poor_link_and_cost_sending_time(pace: AirPace) -> None:
    room = Room(pace)
    room.air.set_attenuation(METER_MAC, HEMS_MAC, at_error_rate(0.2))
    frames = [frame(HEMS_MAC, METER_MAC) for _ in range(50)] * 4
    for some in frames:
        room.send(some, wait_s=1.0)
    # A try fails where the frame or its acknowledgement is lost: 36 %, four times over 1.7 %.
    delivered = room.one.outcomes.count(True)
    assert delivered >= 185
    assert room.two.heard >= delivered
    assert room.two.heard <= 200
    per_frame = room.one.airtime_s / 200 / frames[0].airtime_s
    assert 1.3 < per_frame < 1.8


def test_a_frame_whose_acknowledgement_was_lost_is_heard_once() -> None:
    room = Room()
    room.air.set_attenuation(METER_MAC, HEMS_MAC, at_error_rate(0.5))
    for _ in range(100):
        room.send(frame(HEMS_MAC, METER_MAC), wait_s=0.0)
    assert room.two.heard <= 100
    # Some were heard though the sender never learned it.
    assert room.two.heard > room.one.outcomes.count(True)


def test_a_datagram_is_lost_with_one_of_its_fragments() -> None:
    short, long = Room(), Room()
    for room, size in ((short, 100), (long, 1232)):
        room.air.set_attenuation(METER_MAC, HEMS_MAC, at_error_rate(0.45))
        for _ in range(200):
            room.send(frame(HEMS_MAC, METER_MAC, size), wait_s=0.0)
    assert long.two.heard < short.two.heard / 2
    assert set(long.one.outcomes) == {True, False}


def test_a_broadcast_is_neither_acknowledged_nor_repeated() -> None:
    room = Room()
    room.air.set_attenuation(METER_MAC, HEMS_MAC, at_error_rate(0.5))
    told = frame(HEMS_MAC, None)
    for _ in range(200):
        room.send(told, wait_s=0.0)
    assert room.one.outcomes == [True] * 200
    assert 70 < room.two.heard < 130
    assert room.one.airtime_s == pytest.approx(200 * told.airtime_s)


@PACES
def test_both_paces_draw_the_same_losses(pace: AirPace) -> None:
    def story(pace: AirPace) -> list[object]:
        room = Room(pace, seed=5)
        room.air.set_attenuation(METER_MAC, HEMS_MAC, at_error_rate(0.4))
        for size in range(0, 1200, 40):
            room.send(frame(HEMS_MAC, METER_MAC, size))
        return [room.one.outcomes, events(room.two), room.one.airtime_s]

    assert story(pace) == story(FAST)


@given(st.floats(-200, 50), st.floats(-200, 50), st.floats(0, 60))
def test_the_error_rate_falls_with_strength_and_rises_with_noise(
    dbm: float, other: float, noise: float
) -> None:
    weak, strong = sorted((dbm, other))
    assert 0 <= phy.error_rate(strong) <= phy.error_rate(weak) <= 1
    assert phy.error_rate(dbm, noise) >= phy.error_rate(dbm)


@given(st.integers(0, 255))
def test_link_quality_and_strength_agree(lqi: int) -> None:
    assert phy.lqi_of(phy.dbm_of(lqi)) == lqi


def test_the_error_rate_is_a_half_at_the_sensitivity() -> None:
    assert phy.error_rate(phy.SENSITIVITY_DBM) == pytest.approx(0.5)
    assert phy.error_rate(phy.SENSITIVITY_DBM + 10) < 0.001
    assert phy.error_rate(phy.SENSITIVITY_DBM - 10) > 0.999


# Noise


def test_a_burst_of_noise_shows_in_an_energy_scan_and_ends_in_time() -> None:
    room = Room()

    def level(channel: int) -> int:
        room.one.requests.append(EnergyRequest(channel))
        room.air.settle()
        kind, value = events(room.one)[-1]
        assert kind == "energy"
        assert isinstance(value, tuple)
        found = value[1]
        assert isinstance(found, int)
        return found

    room.air.noise_burst(15.0, 3.0, channel=35)
    assert level(35) >= 0x02 + round(15 / 0.275)
    assert level(37) <= 0x11
    room.clock.advance(3.0)
    assert level(35) <= 0x11


@PACES
def test_noise_loses_frames_of_a_weak_link(pace: AirPace) -> None:
    room = Room(pace)
    room.air.set_attenuation(METER_MAC, HEMS_MAC, 30.0)
    room.send(frame(HEMS_MAC, METER_MAC))
    end = room.air.noise_burst(18.0)
    room.send(frame(HEMS_MAC, METER_MAC))
    end()
    room.send(frame(HEMS_MAC, METER_MAC))
    assert room.one.outcomes == [True, False, True]


@PACES
def test_noise_above_the_level_of_carrier_sense_keeps_everybody_silent(pace: AirPace) -> None:
    room = Room(pace)
    end = room.air.noise_burst(30.0)
    room.send(frame(HEMS_MAC, METER_MAC), frame(HEMS_MAC, None))
    assert room.one.outcomes == [False, False]
    assert room.one.airtime_s == 0
    end()
    end()
    room.send(frame(HEMS_MAC, METER_MAC))
    assert room.one.outcomes[-1] is True


# Several at once


def test_carrier_sense_keeps_stations_out_of_each_others_frames() -> None:
    """Two that begin at once, again and again, on one channel: nearly all get through."""
    room = Room(REAL)
    for _ in range(100):
        room.two.requests.append(frame(METER_MAC, HEMS_MAC, 150))
        room.send(frame(HEMS_MAC, METER_MAC, 150), wait_s=1.0)
    assert room.one.outcomes.count(True) >= 99
    assert room.two.outcomes.count(True) >= 99
    alone = frame(HEMS_MAC, METER_MAC, 150).airtime_s
    assert room.one.airtime_s < 1.3 * 100 * alone  # some collide, and are repeated
    assert room.one.airtime_s > 100 * alone


def test_a_channel_is_shared_in_turns() -> None:
    room = Room(REAL)
    third = room.third()
    crossings: list[Crossing] = []
    room.air.listeners.append(crossings.append)
    long = [frame(mac, None, 185) for mac in (HEMS_MAC, METER_MAC, OTHER_MAC)]
    for station, told in zip((room.one, room.two, third), long, strict=True):
        station.requests.append(told)
    room.air.settle()
    room.clock.advance(5)
    ends = sorted(crossing.at for crossing in crossings)
    assert len(ends) == 3
    # Whoever did not collide had to wait for the other's whole frame.
    gaps = [later - sooner for sooner, later in itertools.pairwise(ends)]
    assert all(gap < phy.BACKOFF_UNIT_S or gap > long[0].airtime_s for gap in gaps)


def test_channels_do_not_disturb_each_other() -> None:
    def duration_s(channel: int) -> float:
        room = Room(REAL)
        other, far = room.third(), Meter(bytes(8))
        far.channel = other.channel = channel
        room.air.attach(far)
        for _ in range(5):
            other.requests.append(frame(OTHER_MAC, bytes(8), 1232, channel=channel))
        start = room.clock.now
        room.send(frame(HEMS_MAC, METER_MAC, 1232))
        (end,) = [at for kind, _, at in room.one.log if kind == "sent"]
        return end - start

    assert duration_s(33) > 1.5 * duration_s(35)


def test_stations_that_cannot_hear_each_other_collide_at_the_third() -> None:
    def lost(*, hidden: bool) -> int:
        room = Room(REAL)
        third = room.third()
        if hidden:
            room.air.set_link(HEMS_MAC, OTHER_MAC, 0)
        for _ in range(100):
            third.requests.append(frame(OTHER_MAC, None, 185))
            room.send(frame(HEMS_MAC, None, 185), wait_s=1.0)
        return 200 - room.two.heard

    assert lost(hidden=True) > 150
    # Only those who sensed at the same instant.
    assert lost(hidden=False) < 60


def test_the_much_stronger_of_two_colliding_frames_survives() -> None:
    room = Room(REAL)
    third = room.third()
    room.air.set_link(HEMS_MAC, OTHER_MAC, 0)
    room.air.set_attenuation(OTHER_MAC, METER_MAC, 15.0)
    for _ in range(50):
        third.requests.append(frame(OTHER_MAC, None, 185))
        room.send(frame(HEMS_MAC, None, 185), wait_s=1.0)
    strong = [value for _, value in events(room.two)].count(0xA1)
    assert strong == 50


# Impairments


@PACES
def test_an_impairment_is_asked_once_per_frame_and_receiver(pace: AirPace) -> None:
    room = Room(pace)
    third = room.third()
    asked: list[tuple[Frame, bytes | None]] = []

    def impairment(told: Frame, receiver: bytes | None, _: random.Random) -> Fate:
        asked.append((told, receiver))
        return Fate(lost=receiver == METER_MAC)

    room.air.impairments.append(impairment)
    unicast, broadcast = frame(HEMS_MAC, METER_MAC, 1232), frame(HEMS_MAC, None, 400)
    room.send(unicast, broadcast)
    assert asked == [
        (unicast, METER_MAC),
        (broadcast, METER_MAC),
        (broadcast, OTHER_MAC),
    ]
    assert room.one.outcomes == [False, True]
    assert room.two.heard == 0
    assert third.heard == 1


def test_fates_combine() -> None:
    room = Room()
    room.air.impairments += [
        lambda *_: Fate(copies=2),
        lambda *_: Fate(copies=3, delay_s=0.5),
        lambda *_: Fate(delay_s=0.25),
    ]
    room.send(frame(HEMS_MAC, METER_MAC), wait_s=0.7)
    assert room.one.outcomes == [True]
    assert room.two.heard == 0
    room.clock.advance(0.1)
    assert [at for kind, _, at in room.two.log if kind == "heard"] == [1000.75] * 6
    room.air.impairments.append(lambda *_: Fate(lost=True))
    room.send(frame(HEMS_MAC, METER_MAC))
    assert room.two.heard == 6


def test_copies_and_late_frames_are_bounded() -> None:
    room = Room()
    room.air.impairments += [lambda *_: Fate(copies=1000)] * 3
    room.send(frame(HEMS_MAC, METER_MAC))
    assert room.two.heard == MAX_COPIES
    room.air.impairments[:] = [lambda *_: Fate(delay_s=1e6)]
    for _ in range(2 * MAX_PENDING):
        room.send(frame(HEMS_MAC, METER_MAC), wait_s=0)
    assert len(room.air._due) <= MAX_PENDING
    assert room.one.outcomes == [True] * (1 + 2 * MAX_PENDING)


def test_an_impairment_may_take_itself_away() -> None:
    room = Room()

    def once(told: Frame, receiver: bytes | None, _: random.Random) -> Fate:
        room.air.impairments.remove(once)
        return Fate(lost=True)

    room.air.impairments += [once, lambda *_: Fate(copies=2)]
    room.send(frame(HEMS_MAC, METER_MAC), frame(HEMS_MAC, METER_MAC))
    assert room.one.outcomes == [False, True]
    assert room.two.heard == 2


def test_a_late_frame_finds_its_receiver_gone_or_elsewhere() -> None:
    room = Room()
    room.air.impairments.append(lambda *_: Fate(delay_s=1.0))
    room.send(frame(HEMS_MAC, METER_MAC), wait_s=0)
    room.two.channel = 50
    room.clock.advance(2)
    assert room.two.heard == 0
    room.two.channel = 33
    room.send(frame(HEMS_MAC, METER_MAC), wait_s=0)
    room.air.detach(room.two)
    room.clock.advance(2)
    assert room.two.heard == 0


def test_a_station_that_sends_without_end_is_stopped_at_its_queue() -> None:
    room = Room(REAL)
    room.one.requests += [frame(HEMS_MAC, METER_MAC)] * 1000
    room.air.settle()
    assert room.one.outcomes.count(False) == 1000 - 1 - MAX_QUEUED_FRAMES
    room.clock.advance(60)
    assert room.one.outcomes.count(True) == 1 + MAX_QUEUED_FRAMES


def test_impairments_draw_from_the_airs_seed() -> None:
    def story(seed: int) -> list[object]:
        room = Room(seed=seed)
        room.air.impairments.append(lambda _f, _r, rng: Fate(lost=rng.random() < 0.5))
        for _ in range(40):
            room.send(frame(HEMS_MAC, METER_MAC), wait_s=0)
        return room.one.outcomes

    assert story(1) == story(1)
    assert len({tuple(story(seed)) for seed in range(5)}) == 5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400), st.floats(0, 0.1))))
def test_whoever_sends_whenever_every_frame_ends_once(
    story: list[tuple[str, int, float]],
) -> None:
    room = Room(REAL)
    stations = dict(zip("abc", (room.one, room.two, room.third()), strict=True))
    for name, size, wait_s in story[:MAX_QUEUED_FRAMES]:
        station = stations[name]
        station.requests.append(frame(station.mac, None if size % 3 else HEMS_MAC, size))
        room.air.settle()
        room.clock.advance(wait_s)
    room.clock.advance(120)
    for name, station in stations.items():
        assert len(station.outcomes) == sum(who == name for who, _, _ in story[:MAX_QUEUED_FRAMES])
    assert len(room.air._due) == 0


def rtts() -> Iterator[float]:
    for seed in range(20):
        room = Room(REAL, seed)
        start = room.clock.now
        room.send(frame(HEMS_MAC, METER_MAC, 14))
        yield next(at for kind, _, at in room.one.log if kind == "sent") - start


def test_a_get_is_on_air_for_some_ten_milliseconds() -> None:
    assert 0.008 < statistics.median(rtts()) < 0.025
