"""The shared medium: who hears whom, when, and in which order."""

import random

import pytest
from module_room import HEMS_MAC, METER_MAC, OTHER_MAC, ManualClock

from meter_runtime.bench.air import (
    FAST,
    REAL,
    Air,
    AirPace,
    Crossing,
    EnergyRequest,
    Frame,
    UdpDatagram,
    phy,
)
from meter_runtime.bench.air.frames import BeaconRequest


class Radio:
    """A station that writes down what happens to it."""

    def __init__(self, mac: bytes, channel: int = 33, pan_id: int = 1) -> None:
        self.mac = mac
        self.channel = channel
        self.pan_id = pan_id
        self.deadline: float | None = None
        self.requests: list[Frame | EnergyRequest] = []
        self.log: list[tuple[str, object, float]] = []

    def take_radio(self) -> list[Frame | EnergyRequest]:
        requests, self.requests = self.requests, []
        return requests

    def hears(self, frame: Frame) -> bool:
        return (
            frame.channel == self.channel
            and frame.destination in (None, self.mac)
            and frame.pan_id in (None, self.pan_id)
        )

    def hear(self, frame: Frame, lqi: int, now: float) -> None:
        self.log.append(("heard", lqi, now))

    def sent(self, frame: Frame, *, received: bool, airtime_s: float, now: float) -> None:
        self.log.append(("sent", received, now))

    def energy(self, channel: int, lqi: int) -> None:
        self.log.append(("energy", (channel, lqi), 0.0))

    def tick(self, now: float) -> None:
        self.log.append(("tick", self.deadline, now))
        self.deadline = None


def frame(
    source: bytes, destination: bytes | None, size: int = 10, channel: int = 33, pan_id: int = 1
) -> Frame:
    body = UdpDatagram("FE80", 1, 2, bytes(size))
    return Frame(channel, pan_id, source, destination, body)


def room(pace: AirPace = FAST) -> tuple[ManualClock, Air, Radio, Radio]:
    clock = ManualClock()
    air = Air(clock, random.Random(1), pace, {40: 0x99})
    one, two = Radio(HEMS_MAC), Radio(METER_MAC)
    air.attach(one)
    air.attach(two)
    return clock, air, one, two


def events(radio: Radio) -> list[tuple[str, object]]:
    return [(kind, value) for kind, value, _ in radio.log]


def test_unicast_is_heard_by_its_destination_and_acknowledged() -> None:
    _, air, one, two = room()
    third = Radio(OTHER_MAC)
    air.attach(third)
    one.requests.append(frame(HEMS_MAC, METER_MAC))
    air.settle()
    assert events(one) == [("sent", True)]
    assert events(two) == [("heard", 0xA1)]
    assert third.log == []


@pytest.mark.parametrize(("channel", "pan_id"), [(34, 1), (33, 2)])
def test_unicast_past_the_channel_or_pan_is_not_acknowledged(channel: int, pan_id: int) -> None:
    _, air, one, two = room()
    two.channel, two.pan_id = channel, pan_id
    one.requests.append(frame(HEMS_MAC, METER_MAC))
    air.settle()
    assert events(one) == [("sent", False)]
    assert two.log == []


def test_broadcast_reaches_all_and_needs_no_acknowledgement() -> None:
    _, air, one, two = room()
    one.requests.append(frame(HEMS_MAC, None))
    two.requests.append(frame(METER_MAC, None, channel=50))
    air.settle()
    assert ("sent", True) in events(one)
    assert events(two) == [("heard", 0xA1), ("sent", True)]


def test_link_quality_is_that_of_the_pair() -> None:
    _, air, one, two = room()
    air.set_link(METER_MAC, HEMS_MAC, 0x42)
    one.requests.append(frame(HEMS_MAC, METER_MAC))
    air.settle()
    assert events(two) == [("heard", 0x42)]
    air.set_link(HEMS_MAC, METER_MAC, 0)
    one.requests.append(frame(HEMS_MAC, METER_MAC))
    air.settle()
    assert events(one)[-1] == ("sent", False)


def test_frames_take_their_airtime_one_after_another() -> None:
    clock, air, one, two = room(REAL)
    start = clock.now
    first, second = frame(HEMS_MAC, METER_MAC, 100), frame(HEMS_MAC, METER_MAC, 1232)
    elsewhere = frame(METER_MAC, None, 10, channel=50)
    one.requests += [first, second]
    two.requests.append(elsewhere)
    air.settle()
    assert one.log == two.log == []
    clock.advance(10)
    ends = [at - start for kind, _, at in one.log if kind == "sent"]
    # Back-off, turnaround, acknowledgement and pause come on top, for each fragment.
    most = 7 * phy.BACKOFF_UNIT_S + phy.CARRIER_SENSE_S + phy.TURNAROUND_S
    most += phy.ACK_WAIT_S + phy.PAUSE_S
    assert first.airtime_s < ends[0] < first.airtime_s + most
    both = first.airtime_s + second.airtime_s
    assert both < ends[1] < both + most * (1 + len(second.fragments))
    (end,) = [at - start for kind, _, at in two.log if kind == "sent"]
    assert elsewhere.airtime_s < end < elsewhere.airtime_s + most


def test_nothing_waits_on_a_fast_air() -> None:
    clock, air, one, two = room(FAST)
    one.requests.append(frame(HEMS_MAC, METER_MAC, 1232))
    air.settle()
    assert one.log == [("sent", True, clock.now)]
    assert two.log == [("heard", 0xA1, clock.now)]


def test_airtime_counts_every_octet_at_100_kbit_s() -> None:
    one = frame(HEMS_MAC, None, phy.FRAGMENT_PAYLOAD).airtime_s
    full = 8 * (phy.PREAMBLE_OCTETS + phy.SFD_OCTETS + phy.PHR_OCTETS + phy.MAX_PSDU_OCTETS)
    assert one == pytest.approx(full / 100_000)
    assert frame(HEMS_MAC, None, 0).airtime_s == pytest.approx(one - 8 * 185 / 100_000)
    two = frame(HEMS_MAC, None, phy.FRAGMENT_PAYLOAD + 1).airtime_s
    assert two - one > 8 * (phy.HEADER_OCTETS + phy.PREAMBLE_OCTETS) / phy.BIT_RATE
    assert frame(HEMS_MAC, None, 1232).airtime_s < 0.4
    assert Frame(33, None, HEMS_MAC, None, BeaconRequest(None)).airtime_s > 0.008


@pytest.mark.parametrize("size", [0, 1, 185, 186, 352, 353, 1232])
def test_fragments_hold_the_whole_datagram(size: int) -> None:
    parts = phy.fragments(size)
    assert sum(parts) == size
    assert max(parts) <= phy.FRAGMENT_PAYLOAD
    assert (len(parts) == 1) == (size <= 185)
    assert all(part % 8 == 0 for part in parts[:-1])


def test_a_leap_of_the_clock_plays_timers_in_their_order() -> None:
    clock, air, one, two = room()
    one.deadline, two.deadline = clock.now + 20, clock.now + 10
    air.settle()
    played: list[str] = []
    order = {METER_MAC: "two", HEMS_MAC: "one"}
    for radio in (one, two):
        radio.log = _Log(played, order[radio.mac])
    clock.now += 100
    air.settle()
    assert played == ["two", "one"]
    assert [at for _, _, at in one.log] == [1020.0]
    assert [at for _, _, at in two.log] == [1010.0]


class _Log(list[tuple[str, object, float]]):
    """A list that also notes in which order several of them were written."""

    def __init__(self, played: list[str], name: str) -> None:
        super().__init__()
        self._played, self._name = played, name

    def append(self, entry: tuple[str, object, float]) -> None:
        self._played.append(self._name)
        super().append(entry)


def test_timers_are_armed_on_the_clock() -> None:
    clock, air, one, _ = room()
    one.deadline = clock.now + 5
    air.settle()
    clock.advance(4.9)
    assert one.log == []
    clock.advance(0.2)
    assert events(one) == [("tick", 1005.0)]


def test_noise_comes_from_the_seed_or_is_set() -> None:
    _, air, one, _ = room()
    one.requests += [EnergyRequest(40), EnergyRequest(41)]
    air.settle()
    set_level, drawn = events(one)
    assert set_level == ("energy", (40, 0x99))
    assert drawn in [("energy", (41, level)) for level in range(0x02, 0x12)]


def test_listeners_see_every_frame_once_with_its_time() -> None:
    clock, air, one, two = room(REAL)
    seen: list[Crossing] = []
    air.listeners.append(seen.append)
    heard, lost = frame(HEMS_MAC, METER_MAC), frame(METER_MAC, OTHER_MAC)
    one.requests.append(heard)
    two.requests.append(lost)
    air.settle()
    clock.advance(1)
    told = [(crossing.frame, crossing.received, crossing.lqi) for crossing in seen]
    assert told == [(heard, True, 0xA1), (lost, False, 0)]
    assert seen[0].at > 1000.0 + heard.airtime_s


def test_stations_are_woken_after_each_settling() -> None:
    clock, air, one, _ = room()
    woken: list[float] = []
    air.attach(Radio(OTHER_MAC), lambda: woken.append(clock.now))
    air.settle()
    one.deadline = clock.now + 5
    air.settle()
    clock.advance(10)
    assert woken == [1000.0, 1000.0, 1005.0]


def test_a_detached_station_is_gone_with_its_frames() -> None:
    clock, air, one, two = room(REAL)
    one.requests.append(frame(HEMS_MAC, METER_MAC))
    air.settle()
    air.detach(one)
    clock.advance(10)
    assert one.log == two.log == []


def test_one_mac_address_is_one_station() -> None:
    _, air, _, _ = room()
    with pytest.raises(ValueError, match="C0F945004058B5FB"):
        air.attach(Radio(METER_MAC))
