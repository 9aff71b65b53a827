"""The three kinds of GPIO for one suite: the virtual one, and our adapters over libraries faked.

The fakes keep to what the libraries document: requests are exclusive, a released one raises, edges
are numbered and kept by the kernel (gpiod) or told by a callback on another thread (RPi.GPIO).
"""

import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import gpiod
import pytest
from gpiod.line import Direction, Value
from gpiod.line import Edge as Detection
from hand_clock import HandClock

from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.units.gpio import Gpio
from meter_runtime.units.gpio_gpiod import GpiodGpio
from meter_runtime.units.gpio_rpi import RpiGpio

CHIP = "pinctrl-bcm2711"
LINES = 28


class Rig(Protocol):
    """A GPIO under test, and the other side of its wires; ``keeps`` is its edge buffer."""

    gpio: Gpio
    keeps: int

    def drive(self, offset: int, high: bool) -> None: ...

    def level(self, offset: int) -> bool:
        """What a voltmeter shows."""
        ...


class VirtualRig:
    keeps = 8

    def __init__(self) -> None:
        virtual = VirtualGpio(HandClock(), {CHIP: LINES}, edge_buffer=self.keeps)
        self.gpio: Gpio = virtual
        self._virtual = virtual

    def drive(self, offset: int, high: bool) -> None:
        self._virtual.wire(CHIP, offset).drive(high)

    def level(self, offset: int) -> bool:
        return self._virtual.wire(CHIP, offset).high


@dataclass
class FakeChipInfo:
    label: str


@dataclass
class FakeLineInfo:
    consumer: str


@dataclass
class FakeKernel:
    """What stands behind ``/dev/gpiochip*``: labels by path, levels and requests by offset."""

    labels: dict[str, str]
    denied: set[str] = field(default_factory=set)
    levels: dict[int, bool] = field(default_factory=dict)
    requests: dict[int, "FakeRequest"] = field(default_factory=dict)
    settings: dict[int, gpiod.LineSettings] = field(default_factory=dict)
    consumers: set[str] = field(default_factory=set)
    fails: OSError | None = None

    def is_gpiochip_device(self, path: str) -> bool:
        return path in self.labels

    def open_chip(self, path: str) -> "FakeChip":
        if path in self.denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return FakeChip(self, path)

    def request_lines(
        self,
        path: str,
        config: dict[int, gpiod.LineSettings],
        consumer: str,
        event_buffer_size: int,
    ) -> "FakeRequest":
        if path not in self.labels:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if self.fails is not None:
            raise self.fails
        [(offset, settings)] = config.items()
        if not 0 <= offset < LINES:
            raise ValueError("line offset of out range")
        if offset in self.requests:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.consumers.add(consumer)
        self.settings[offset] = settings
        request = FakeRequest(self, offset, settings, event_buffer_size)
        self.requests[offset] = request
        return request

    def unplug(self) -> None:
        """The chip goes away under its requests, whose readers wake up to that."""
        self.fails = OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        for request in self.requests.values():
            request.hang_up()

    def drive(self, offset: int, high: bool) -> None:
        changed = self.levels.get(offset, False) != high
        self.levels[offset] = high
        if changed and offset in self.requests:
            self.requests[offset].on_change(high)


class FakeChip:
    def __init__(self, kernel: FakeKernel, path: str) -> None:
        self._kernel = kernel
        self._path = path

    def __enter__(self) -> "FakeChip":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def get_info(self) -> FakeChipInfo:
        return FakeChipInfo(self._kernel.labels[self._path])

    def get_line_info(self, offset: int) -> FakeLineInfo:
        return FakeLineInfo("coffee-machine")


class FakeRequest:
    """One requested line, readable by a real descriptor while it holds edges."""

    def __init__(
        self, kernel: FakeKernel, offset: int, settings: gpiod.LineSettings, keeps: int
    ) -> None:
        self._kernel = kernel
        self._offset = offset
        self._settings = settings
        self._events: deque[gpiod.EdgeEvent] = deque(maxlen=keeps)
        self._sequence = 0
        self._ours, self._theirs = socket.socketpair()
        self._released = False
        if settings.direction is Direction.OUTPUT:
            self.set_value(offset, settings.output_value)

    def __bool__(self) -> bool:
        return not self._released

    @property
    def fd(self) -> int:
        self._check_released()
        return self._ours.fileno()

    def get_value(self, offset: int) -> Value:
        self._check()
        high = self._kernel.levels.get(offset, False)
        return Value.ACTIVE if high != self._settings.active_low else Value.INACTIVE

    def set_value(self, offset: int, value: Value) -> None:
        self._check()
        self._kernel.levels[offset] = (value is Value.ACTIVE) != self._settings.active_low

    def on_change(self, high: bool) -> None:
        if self._settings.edge_detection is not Detection.BOTH:
            return
        self._sequence += 1
        rising = high != self._settings.active_low
        kind = gpiod.EdgeEvent.Type.RISING_EDGE if rising else gpiod.EdgeEvent.Type.FALLING_EDGE
        if not self._events:
            self._theirs.send(b"!")
        self._events.append(
            gpiod.EdgeEvent(kind.value, 1000 * self._sequence, self._offset, 0, self._sequence)
        )

    def read_edge_events(self, max_events: int) -> list[gpiod.EdgeEvent]:
        self._check()
        assert len(self._events) <= max_events
        self._ours.recv(1)
        taken = list(self._events)
        self._events.clear()
        return taken

    def hang_up(self) -> None:
        self._theirs.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        self._check_released()
        self._released = True
        self._ours.close()
        self._theirs.close()
        del self._kernel.requests[self._offset]

    def _check_released(self) -> None:
        if self._released:
            raise gpiod.RequestReleasedError

    def _check(self) -> None:
        self._check_released()
        if self._kernel.fails is not None:
            raise self._kernel.fails


class GpiodRig:
    keeps = 8

    def __init__(self, monkeypatch: pytest.MonkeyPatch, devices: Path) -> None:
        for name in ("gpiochip0", "gpiochip1", "gpiochip2"):
            (devices / name).touch()
        self.kernel = FakeKernel(
            {
                str(devices / "gpiochip0"): "raspberrypi-exp-gpio",
                str(devices / "gpiochip1"): CHIP,
            }
        )
        monkeypatch.setattr(gpiod, "request_lines", self.kernel.request_lines)
        monkeypatch.setattr(gpiod, "Chip", self.kernel.open_chip)
        monkeypatch.setattr(gpiod, "is_gpiochip_device", self.kernel.is_gpiochip_device)
        self.gpio: Gpio = GpiodGpio(devices, edge_buffer=self.keeps)

    def drive(self, offset: int, high: bool) -> None:
        self.kernel.drive(offset, high)

    def level(self, offset: int) -> bool:
        return self.kernel.levels[offset]


class FakeRpi:
    """The library RPi.GPIO, as far as its documentation goes."""

    BCM, IN, OUT, BOTH = 11, 1, 0, 33
    PUD_OFF, PUD_DOWN, PUD_UP = 20, 21, 22

    def __init__(self) -> None:
        self.mode: int | None = None
        self.warns = True
        self.directions: dict[int, int] = {}
        self.pulls: dict[int, int] = {}
        self.levels: dict[int, int] = {}
        self.bounce_ms: dict[int, int] = {}
        self.callbacks: dict[int, Callable[[int], None]] = {}
        self.fails: Exception | None = None

    def setmode(self, mode: int) -> None:
        self.mode = mode

    def setwarnings(self, state: bool) -> None:
        self.warns = state

    def setup(
        self, channel: int, direction: int, pull_up_down: int = PUD_OFF, initial: int = -1
    ) -> None:
        assert self.mode == self.BCM
        if not 0 <= channel < LINES:
            raise ValueError("The channel sent is invalid on a Raspberry Pi")
        if direction == self.IN and initial != -1:
            raise ValueError("initial parameter is not valid for inputs")
        self.directions[channel] = direction
        self.pulls[channel] = pull_up_down
        if initial != -1:
            self.levels[channel] = initial

    def input(self, channel: int) -> int:
        self._check(channel)
        return self.levels.get(channel, 0)

    def output(self, channel: int, value: int) -> None:
        self._check(channel)
        if self.directions[channel] != self.OUT:
            raise RuntimeError("The GPIO channel has not been set up as an OUTPUT")
        self.levels[channel] = value

    def add_event_detect(
        self, channel: int, edge: int, callback: Callable[[int], None], bouncetime: int = -666
    ) -> None:
        self._check(channel)
        assert edge == self.BOTH
        if bouncetime <= 0 and bouncetime != -666:
            raise ValueError("Bouncetime must be greater than 0")
        if channel in self.callbacks:
            raise RuntimeError("Conflicting edge detection already enabled for this GPIO channel")
        self.bounce_ms[channel] = bouncetime
        self.callbacks[channel] = callback

    def remove_event_detect(self, channel: int) -> None:
        self.callbacks.pop(channel, None)

    def cleanup(self, channel: int) -> None:
        self.callbacks.pop(channel, None)
        self.directions.pop(channel, None)

    def drive(self, offset: int, high: bool) -> None:
        changed = self.levels.get(offset, 0) != int(high)
        self.levels[offset] = int(high)
        if changed and offset in self.callbacks:
            caller = threading.Thread(target=self.callbacks[offset], args=(offset,))
            caller.start()
            caller.join()

    def _check(self, channel: int) -> None:
        if self.fails is not None:
            raise self.fails
        if channel not in self.directions:
            raise RuntimeError("You must setup() the GPIO channel first")


class RpiRig:
    keeps = 1024

    def __init__(self) -> None:
        self.library = FakeRpi()
        self.gpio: Gpio = RpiGpio(self.library)

    def drive(self, offset: int, high: bool) -> None:
        self.library.drive(offset, high)

    def level(self, offset: int) -> bool:
        return bool(self.library.levels[offset])


def rig(kind: str, request: Any) -> Rig:
    """A fresh one of this kind, for the test of ``request``."""
    match kind:
        case "virtual":
            return VirtualRig()
        case "gpiod":
            return GpiodRig(
                request.getfixturevalue("monkeypatch"), request.getfixturevalue("tmp_path")
            )
        case _:
            return RpiRig()
