"""The shared medium: carries frames between stations on one channel and PAN.

What it models: channels, PAN IDs, airtime, carrier sense with random back-off, collisions of those
who sensed at the same instant or cannot hear each other, MAC acknowledgement with repeats,
6LoWPAN fragments, loss by distance and noise, and the impairments somebody adds. What it does
not: modulation, multipath, fading. On an air that does not wait nothing overlaps, so nothing
collides; loss is drawn alike.

The air is also the heart of the virtual radio room: it runs its stations' timers, oldest first,
so that one advance of the clock over many deadlines plays them in their true order.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from meter_runtime.bench.air import phy
from meter_runtime.bench.air.frames import Crossing, EnergyRequest, Frame
from meter_runtime.bench.air.impairments import Fate, Impairment, fate_of
from meter_runtime.bench.air.pace import REAL, AirPace
from meter_runtime.bench.air.propagation import NOISE_LQI, Propagation
from meter_runtime.bench.air.transmission import (
    MAX_QUEUED_FRAMES,
    Radio,
    Station,
    Transmission,
    Wake,
)
from meter_runtime.clock import Clock, Timer

MAX_PENDING = 1024
"""What may be under way at once; deliveries that impairments hold back beyond it are lost."""

_Action = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class _Emission:
    """A radio frame that occupies a channel, its acknowledgement included."""

    start: float
    end: float
    channel: int
    mac: bytes


class Air:
    """One radio room.

    ``noise`` sets the background of single channels as LQI, over the seed's. After each
    :meth:`settle` every station's ``wake`` is called, for its shell to fetch UART output.
    """

    def __init__(
        self,
        clock: Clock,
        rng: random.Random,
        pace: AirPace = REAL,
        noise: Mapping[int, int] | None = None,
    ) -> None:
        self.pace = pace
        self.listeners: list[Callable[[Crossing], None]] = []
        self.impairments: list[Impairment] = []
        """Asked once for each frame and receiver, see :mod:`.impairments`."""
        self._clock = clock
        self._rng = rng
        # Apart, so that both paces draw the same losses.
        self._contention = random.Random(rng.getrandbits(64))
        self._propagation = Propagation(noise)
        self._radios: list[Radio] = []
        self._due: list[tuple[float, int, Radio, _Action]] = []
        self._order = itertools.count()
        self._emissions: deque[_Emission] = deque()
        self._now = clock.monotonic()
        self._timer: Timer | None = None
        self._settling = False

    def attach(self, station: Station, wake: Wake = lambda: None) -> None:
        """Power a station up in this room."""
        if any(other.mac == station.mac for other in self._radios):
            raise ValueError(f"two stations have the MAC address {station.mac.hex().upper()}")
        self._radios.append(Radio(station, wake, station.mac))

    def detach(self, station: Station) -> None:
        """Take a station out; frames it had on air, or were yet to reach it, are lost."""
        self._radios = [radio for radio in self._radios if radio.station is not station]
        self._due = [entry for entry in self._due if entry[2].station is not station]
        heapq.heapify(self._due)

    def set_link(self, one: bytes, other: bytes, lqi: int) -> None:
        """Fix the link quality between two MAC addresses, 00 to FF; 0 is out of reach."""
        self._propagation.set_link(one, other, lqi)

    def set_attenuation(self, one: bytes, other: bytes, db: float) -> None:
        """Put ``db`` decibels between two MAC addresses, on top of the link; 0 takes it away."""
        self._propagation.set_attenuation(one, other, db)

    def noise_burst(
        self, db: float, duration_s: float | None = None, channel: int | None = None
    ) -> Callable[[], None]:
        """Raise the noise floor by ``db``, of all channels where ``channel`` is None.

        It ends after ``duration_s``, or when the returned function is called. A burst that lifts
        the floor to the level of carrier sense keeps everybody from sending.
        """
        until = None if duration_s is None else self._clock.monotonic() + duration_s
        return self._propagation.add_burst(db, channel, until)

    def settle(self) -> None:
        """Play everything that is due by now, in order of time, and arm the next timer.

        Call it before and after anything that gives a station input.
        """
        if self._settling:
            return
        self._settling = True
        try:
            self._play(self._clock.monotonic())
            for radio in tuple(self._radios):
                radio.wake()
        finally:
            self._settling = False
        self._arm()

    # Time

    def _play(self, now: float) -> None:
        self._collect(now)
        while (due := self._next_due()) is not None and due <= now:
            self._now = max(self._now, due)
            if self._due and self._due[0][0] <= self._now:
                _, _, _, action = heapq.heappop(self._due)
                action(self._now)
            else:
                for radio in tuple(self._radios):
                    deadline = radio.station.deadline
                    if deadline is not None and deadline <= self._now:
                        radio.station.tick(self._now)
                        break
            self._collect(self._now)
        self._now = max(self._now, now)

    def _next_due(self) -> float | None:
        deadlines = (radio.station.deadline for radio in self._radios)
        dues = [deadline for deadline in deadlines if deadline is not None]
        if self._due:
            dues.append(self._due[0][0])
        return min(dues, default=None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._next_due()
        self._timer = None if due is None else self._clock.call_at(due, self.settle)

    def _after(self, seconds: float, now: float, radio: Radio, action: _Action) -> None:
        """Act after these seconds where the air waits, else next."""
        self._at(now + seconds if self.pace.waits else now, radio, action)

    def _at(self, when: float, radio: Radio, action: _Action) -> None:
        heapq.heappush(self._due, (when, next(self._order), radio, action))

    # Sending: carrier sense, radio frames, acknowledgement, repeats

    def _collect(self, now: float) -> None:
        for radio in tuple(self._radios):
            for request in radio.station.take_radio():
                match request:
                    case Frame():
                        self._submit(radio, request, now)
                    case EnergyRequest(channel):
                        radio.station.energy(channel, self._level(channel, now))

    def _submit(self, radio: Radio, frame: Frame, now: float) -> None:
        if len(radio.queue) < MAX_QUEUED_FRAMES:
            radio.queue.append(frame)
            self._begin(radio, now)
        else:
            radio.station.sent(frame, received=False, airtime_s=0.0, now=now)

    def _begin(self, radio: Radio, now: float) -> None:
        if radio.sending is None and radio.queue:
            frame = radio.queue.pop(0)
            radio.sending = Transmission(frame, frame.fragments)
            self._contend(radio, radio.sending, now)

    def _contend(self, radio: Radio, sending: Transmission, now: float) -> None:
        wait_s = 0.0
        if self.pace.waits:
            slots = self._contention.randrange(2**sending.backoff_exponent)
            wait_s = slots * phy.BACKOFF_UNIT_S + phy.CARRIER_SENSE_S
        self._after(wait_s, now, radio, partial(self._sense, radio, sending))

    def _sense(self, radio: Radio, sending: Transmission, now: float) -> None:
        if self._busy(radio, sending.frame.channel, now):
            sending.backoffs += 1
            if sending.backoffs > phy.MAX_BACKOFFS:
                self._tried(radio, sending, False, now)
            else:
                self._contend(radio, sending, now)
            return
        on_air_s = sending.part_airtime_s
        answer_s = phy.TURNAROUND_S + phy.ACK_AIRTIME_S
        held_s = on_air_s + (answer_s if sending.frame.destination is not None else 0.0)
        start = now + phy.TURNAROUND_S
        emission = _Emission(start, start + held_s, sending.frame.channel, radio.mac)
        if self.pace.waits:
            while self._emissions and self._emissions[0].end < now - 1.0:
                self._emissions.popleft()
            self._emissions.append(emission)
        landing = partial(self._land, radio, sending, emission)
        self._after(phy.TURNAROUND_S + on_air_s, now, radio, landing)

    def _land(self, radio: Radio, sending: Transmission, emission: _Emission, now: float) -> None:
        """A radio frame has ended: who got it, and is it acknowledged?"""
        frame = sending.frame
        sending.airtime_s += sending.part_airtime_s
        acknowledged = False
        for receiver in tuple(self._radios):
            if receiver is radio or not receiver.station.hears(frame):
                continue
            dbm = self._propagation.dbm(radio.mac, receiver.mac)
            if dbm is None or self._collided(emission, receiver, dbm):
                continue
            if receiver.mac not in sending.fates:
                fate = fate_of(self.impairments, frame, receiver.mac, self._rng)
                sending.fates[receiver.mac] = fate
            fate = sending.fates[receiver.mac]
            if fate.lost or self._lost(dbm, frame.channel, now):
                continue
            if sending.arrived(receiver.mac):
                sending.lqi = phy.lqi_of(dbm)
                self._deliver(receiver, frame, fate, sending.lqi, now)
            if frame.destination is not None:
                acknowledged = not self._lost(dbm, frame.channel, now)
        if frame.destination is None:
            self._tried(radio, sending, True, now)
        else:
            wait_s = phy.TURNAROUND_S + phy.ACK_AIRTIME_S if acknowledged else phy.ACK_WAIT_S
            tried = partial(self._tried, radio, sending, acknowledged)
            self._after(wait_s, now, radio, tried)

    def _tried(self, radio: Radio, sending: Transmission, done: bool, now: float) -> None:
        """A fragment got through, or this try did not."""
        if not done:
            sending.tries += 1
            sending.backoffs = 0
            again = sending.frame.destination is not None and sending.tries <= phy.MAX_RETRIES
        else:
            again = sending.next_part()
        if again:
            contending = partial(self._contend, radio, sending)
            self._after(phy.PAUSE_S, now, radio, contending)
            return
        crossing = Crossing(now, sending.frame, sending.lqi > 0, sending.lqi)
        for listener in self.listeners:
            listener(crossing)
        radio.station.sent(sending.frame, received=done, airtime_s=sending.airtime_s, now=now)
        self._after(phy.PAUSE_S, now, radio, partial(self._rest, radio))

    def _rest(self, radio: Radio, now: float) -> None:
        radio.sending = None
        self._begin(radio, now)

    # Receiving

    def _deliver(self, receiver: Radio, frame: Frame, fate: Fate, lqi: int, now: float) -> None:
        if not fate.delay_s:
            self._hear(receiver, frame, fate.copies, lqi, now)
        elif len(self._due) < MAX_PENDING:
            hearing = partial(self._hear_late, receiver, frame, fate.copies, lqi)
            self._at(now + fate.delay_s, receiver, hearing)

    def _hear(self, receiver: Radio, frame: Frame, copies: int, lqi: int, now: float) -> None:
        for _ in range(copies):
            receiver.station.hear(frame, lqi, now)

    def _hear_late(self, receiver: Radio, frame: Frame, copies: int, lqi: int, now: float) -> None:
        if receiver.station.hears(frame):
            self._hear(receiver, frame, copies, lqi, now)

    # The state of a channel

    def _busy(self, radio: Radio, channel: int, now: float) -> bool:
        """What carrier sense says at this place and instant."""
        highest = NOISE_LQI[1]
        if self._propagation.noise_dbm(channel, highest, now) >= phy.CARRIER_SENSE_DBM:
            return True
        return any(
            emission.channel == channel
            and emission.start <= now < emission.end
            and (dbm := self._propagation.dbm(emission.mac, radio.mac)) is not None
            and dbm >= phy.CARRIER_SENSE_DBM
            for emission in self._emissions
        )

    def _collided(self, ours: _Emission, receiver: Radio, dbm: float) -> bool:
        """Another frame at the same time was too loud at the receiver, or its own."""
        for other in self._emissions:
            if other.mac == ours.mac or other.channel != ours.channel:
                continue
            if other.start >= ours.end or other.end <= ours.start:
                continue
            loud = self._propagation.dbm(other.mac, receiver.mac)
            if other.mac == receiver.mac or (loud is not None and loud > dbm - phy.CAPTURE_DB):
                return True
        return False

    def _lost(self, dbm: float, channel: int, now: float) -> bool:
        rise_db = self._propagation.noise_rise_db(channel, now)
        return self._rng.random() < phy.error_rate(dbm, rise_db)

    def _level(self, channel: int, now: float) -> int:
        background = self._rng.randint(*NOISE_LQI)
        return phy.lqi_of(self._propagation.noise_dbm(channel, background, now))
