"""GPIO by the ``RPi.GPIO`` API: the library of that name, or rpi-lgpio, which has taken its place.

For boards that are wired and set up for it already; :mod:`~meter_runtime.units.gpio_gpiod` is the
better choice wherever the kernel has character devices. Lines are BCM numbers, which are the
offsets of the SoC's own chip; no other chip can be reached. What is lost:

* *edges while Python does not come to run*. The library calls back from a thread of its own, once
  for each change that it sees; two in quick succession may be one, or none. There are no sequence
  numbers: ``Edge.sequence`` counts the calls, so a gap tells what this process dropped, and
  nothing tells what the library missed.
* *time*. ``Edge.at_ns`` is when Python was called, some 0.1 ms and sometimes much more too late.
* *debouncing*. RPi.GPIO's ``bouncetime`` drops what follows an edge instead of waiting for a steady
  level: a spike counts, and a change within the time is noticed with the next one only. rpi-lgpio
  waits (*unverified*). :meth:`InputLine.active` is never debounced.
* *the level of an edge*. It is read after the fact.
"""

import asyncio
import importlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, cast

from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.units.gpio import (
    EDGES_KEPT,
    SEQUENCE_MODULUS,
    Edge,
    InputLine,
    LineSpec,
    OutputLine,
)

SOC_CHIPS = ("pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1")
"""Labels of the chip that BCM numbers count on: Pi Zero 2 W and Pi 3, Pi 4, Pi 5."""


class RpiApi(Protocol):
    """What we use of the library."""

    BCM: int
    IN: int
    OUT: int
    BOTH: int
    PUD_OFF: int
    PUD_UP: int
    PUD_DOWN: int

    def setmode(self, mode: int) -> None: ...

    def setwarnings(self, state: bool) -> None: ...

    def setup(
        self, channel: int, direction: int, pull_up_down: int = ..., initial: int = ...
    ) -> None: ...

    def input(self, channel: int) -> int: ...

    def output(self, channel: int, value: int) -> None: ...

    def add_event_detect(
        self, channel: int, edge: int, callback: Callable[[int], None], bouncetime: int = ...
    ) -> None:
        """``bouncetime`` in ms, greater than 0 where it is given."""
        ...

    def remove_event_detect(self, channel: int) -> None: ...

    def cleanup(self, channel: int) -> None: ...


class RpiGpio:
    """The SoC's lines; ``api`` is the library, None imports it. Used from one event loop."""

    def __init__(self, api: RpiApi | None = None) -> None:
        self._api = _library() if api is None else api
        # Warnings would tell of lines that an earlier run of ours left configured.
        self._api.setwarnings(False)
        self._api.setmode(self._api.BCM)
        self._open: dict[int, _RpiInput | _RpiOutput] = {}

    def input(self, line: LineSpec, *, edges: bool = False, debounce_us: int = 0) -> InputLine:
        self._check(line)
        api = self._api
        pull = {"none": api.PUD_OFF, "up": api.PUD_UP, "down": api.PUD_DOWN}[line.pull]
        with _told(line):
            api.setup(line.offset, api.IN, pull_up_down=pull)
            opened = _RpiInput(api, line, edges=edges)
            if edges:
                opened.listen(-(-debounce_us // 1000))
        self._open[line.offset] = opened
        return opened

    def output(self, line: LineSpec, *, initial: bool) -> OutputLine:
        self._check(line)
        with _told(line):
            level = int(initial != line.active_low)
            self._api.setup(line.offset, self._api.OUT, initial=level)
        opened = _RpiOutput(self._api, line, initial)
        self._open[line.offset] = opened
        return opened

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _check(self, line: LineSpec) -> None:
        if line.chip not in SOC_CHIPS:
            hint = nearest(line.chip, SOC_CHIPS)
            raise UsageError(f"{line}: RPi.GPIO reaches the lines of the SoC only; {hint}")
        held = self._open.get(line.offset)
        if held is not None and not held.closed:
            raise MeterError(f"{line}: we hold it already; give each role a line of its own")


def _library() -> RpiApi:
    try:
        return cast(RpiApi, importlib.import_module("RPi.GPIO"))
    except ImportError:
        raise MeterError(
            "RPi.GPIO is not installed; install it (pip install rpi-lgpio) or use gpiod"
        ) from None
    except RuntimeError as error:
        raise MeterError(f"RPi.GPIO does not start: {error}; use gpiod") from error


@contextmanager
def _told(line: LineSpec) -> Iterator[None]:
    """The library's errors in our words; it raises RuntimeError and ValueError for all there is."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise MeterError(f"{line}: RPi.GPIO says: {error}; check the line, or use gpiod") from error


class _RpiInput:
    """One input line. Edges come in on the library's thread and go out on the loop."""

    def __init__(self, api: RpiApi, line: LineSpec, *, edges: bool) -> None:
        self.closed = False
        self._api = api
        self._line = line
        self._edges = edges
        self._lock = threading.Lock()
        self._kept: deque[Edge] = deque(maxlen=EDGES_KEPT)
        self._sequence = 0
        self._reader: asyncio.Future[None] | None = None

    def listen(self, bounce_ms: int) -> None:
        """Have the library call for each edge."""
        if bounce_ms > 0:
            self._api.add_event_detect(
                self._line.offset, self._api.BOTH, callback=self._on_edge, bouncetime=bounce_ms
            )
        else:
            self._api.add_event_detect(self._line.offset, self._api.BOTH, callback=self._on_edge)

    def active(self) -> bool:
        self._check_open()
        with _told(self._line):
            return bool(self._api.input(self._line.offset)) != self._line.active_low

    def take(self) -> list[Edge]:
        self._check_readable()
        with self._lock:
            return self._drain()

    async def edges(self) -> list[Edge]:
        while True:
            self._check_readable()
            with self._lock:
                if self._kept:
                    return self._drain()
                if self._reader is not None:
                    raise RuntimeError(f"{self._line} has a reader already")
                reader = self._reader = asyncio.get_running_loop().create_future()
            try:
                await reader
            finally:
                with self._lock:
                    self._reader = None

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        with suppress(RuntimeError, ValueError, OSError):
            if self._edges:
                self._api.remove_event_detect(self._line.offset)
            self._api.cleanup(self._line.offset)
        if self._reader is not None:
            _wake(self._reader)

    def _check_open(self) -> None:
        if self.closed:
            raise MeterError(f"{self._line}: it was closed already; open it again")

    def _check_readable(self) -> None:
        self._check_open()
        if not self._edges:
            raise RuntimeError(f"{self._line} was not opened for edges")

    def _drain(self) -> list[Edge]:
        """Under the lock."""
        taken = list(self._kept)
        self._kept.clear()
        return taken

    def _on_edge(self, channel: int) -> None:
        """On the library's thread."""
        at_ns = time.monotonic_ns()
        try:
            active = bool(self._api.input(channel)) != self._line.active_low
        except (RuntimeError, ValueError, OSError):
            return  # the line was given back meanwhile
        with self._lock:
            self._sequence = (self._sequence + 1) % SEQUENCE_MODULUS
            self._kept.append(Edge(at_ns, active, self._sequence))
            if self._reader is not None:
                # A loop that is closed has nobody left to wake.
                with suppress(RuntimeError):
                    self._reader.get_loop().call_soon_threadsafe(_wake, self._reader)


def _wake(reader: "asyncio.Future[None]") -> None:
    if not reader.done():
        reader.set_result(None)


class _RpiOutput:
    """One output line."""

    def __init__(self, api: RpiApi, line: LineSpec, initial: bool) -> None:
        self.closed = False
        self._api = api
        self._line = line
        self._active = initial

    def set(self, active: bool) -> None:
        if self.closed:
            raise MeterError(f"{self._line}: it was closed already; open it again")
        with _told(self._line):
            self._api.output(self._line.offset, int(active != self._line.active_low))
        self._active = active

    def active(self) -> bool:
        return self._active

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            with suppress(RuntimeError, ValueError, OSError):
                self._api.cleanup(self._line.offset)
