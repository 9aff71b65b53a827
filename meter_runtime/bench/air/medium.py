"""The shared medium: carries frames between stations on one channel and PAN.

What it models: channels, PAN IDs, one frame at a time per channel, airtime, MAC acknowledgement
of unicast, link quality per pair of stations, background noise. What it does not: collisions,
bit errors and fading; a frame between two stations always arrives.

The air is also the heart of the virtual radio room: it runs its stations' timers, oldest first,
so that one advance of the clock over many deadlines plays them in their true order.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Protocol

from meter_runtime.bench.air.frames import Crossing, EnergyRequest, Frame
from meter_runtime.bench.air.pace import REAL, AirPace
from meter_runtime.clock import Clock, Timer

DEFAULT_LQI = 0xA1
"""Link quality of a pair of stations nobody set: −60 dBm."""

NOISE_LQI = (0x02, 0x11)
"""Lowest and highest background an energy scan finds on an idle channel."""


class Station(Protocol):
    """What takes part in the air: a virtual module."""

    @property
    def mac(self) -> bytes: ...

    @property
    def deadline(self) -> float | None:
        """When it wants :meth:`tick`."""
        ...

    def take_radio(self) -> list[Frame | EnergyRequest]:
        """What it wants of the air since last asked."""
        ...

    def tick(self, now: float) -> None: ...

    def sent(self, frame: Frame, *, received: bool, now: float) -> None:
        """Its frame left the air; unicast was acknowledged or not."""
        ...

    def hears(self, frame: Frame) -> bool:
        """Its receiver is on, tuned to the frame's channel, and its filter takes the frame."""
        ...

    def hear(self, frame: Frame, lqi: int, now: float) -> None: ...

    def energy(self, channel: int, lqi: int) -> None:
        """The answer to an :class:`EnergyRequest`."""
        ...


Wake = Callable[[], None]


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
        self._clock = clock
        self._rng = rng
        self._noise = dict(noise or {})
        self._stations: list[tuple[Station, Wake]] = []
        self._links: dict[frozenset[bytes], int] = {}
        self._on_air: list[tuple[float, int, Station, Frame]] = []
        self._order = itertools.count()
        self._busy_until: dict[int, float] = {}
        self._now = clock.monotonic()
        self._timer: Timer | None = None
        self._settling = False

    def attach(self, station: Station, wake: Wake = lambda: None) -> None:
        """Power a station up in this room."""
        if any(other.mac == station.mac for other, _ in self._stations):
            raise ValueError(f"two stations have the MAC address {station.mac.hex().upper()}")
        self._stations.append((station, wake))

    def detach(self, station: Station) -> None:
        """Take a station out; frames it had on air are lost."""
        self._stations = [entry for entry in self._stations if entry[0] is not station]
        self._on_air = [entry for entry in self._on_air if entry[2] is not station]
        heapq.heapify(self._on_air)

    def set_link(self, one: bytes, other: bytes, lqi: int) -> None:
        """Fix the link quality between two MAC addresses, 00 to FF; 0 is out of reach."""
        self._links[frozenset((one, other))] = lqi

    def settle(self) -> None:
        """Play everything that is due by now, in order of time, and arm the next timer.

        Call it before and after anything that gives a station input.
        """
        if self._settling:
            return
        self._settling = True
        try:
            self._play(self._clock.monotonic())
            for _, wake in tuple(self._stations):
                wake()
        finally:
            self._settling = False
        self._arm()

    def _play(self, now: float) -> None:
        self._collect(now)
        while (due := self._next_due()) is not None and due <= now:
            self._now = max(self._now, due)
            if self._on_air and self._on_air[0][0] <= self._now:
                _, _, sender, frame = heapq.heappop(self._on_air)
                self._deliver(sender, frame)
            else:
                for station, _ in tuple(self._stations):
                    if station.deadline is not None and station.deadline <= self._now:
                        station.tick(self._now)
                        break
            self._collect(self._now)
        self._now = max(self._now, now)

    def _next_due(self) -> float | None:
        dues = [station.deadline for station, _ in self._stations if station.deadline is not None]
        if self._on_air:
            dues.append(self._on_air[0][0])
        return min(dues, default=None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._next_due()
        self._timer = None if due is None else self._clock.call_at(due, self.settle)

    def _collect(self, now: float) -> None:
        for station, _ in self._stations:
            for request in station.take_radio():
                match request:
                    case Frame():
                        self._transmit(station, request, now)
                    case EnergyRequest(channel):
                        station.energy(channel, self._level(channel))

    def _transmit(self, sender: Station, frame: Frame, now: float) -> None:
        end = now
        if self.pace.waits:
            end = max(now, self._busy_until.get(frame.channel, now)) + frame.airtime_s
            self._busy_until[frame.channel] = end
        heapq.heappush(self._on_air, (end, next(self._order), sender, frame))

    def _deliver(self, sender: Station, frame: Frame) -> None:
        heard = [
            (station, lqi)
            for station, _ in self._stations
            if station is not sender
            and (lqi := self._lqi(frame.source, station.mac)) > 0
            and station.hears(frame)
        ]
        received = bool(heard) or frame.destination is None
        quality = heard[-1][1] if heard else 0
        for listener in self.listeners:
            listener(Crossing(self._now, frame, bool(heard), quality))
        sender.sent(frame, received=received, now=self._now)
        for station, lqi in heard:
            station.hear(frame, lqi, self._now)

    def _lqi(self, one: bytes, other: bytes) -> int:
        return self._links.get(frozenset((one, other)), DEFAULT_LQI)

    def _level(self, channel: int) -> int:
        lowest, highest = NOISE_LQI
        background = self._rng.randint(lowest, highest)
        return self._noise.get(channel, background)
