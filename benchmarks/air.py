"""Scan, join and Get on the true-to-life air, beside what real meters take.

Virtual time: the figures are what a HEMS at the module's UART would see, module pace included, and
do not depend on the machine. The meter behind its module answers at once; what a real one takes to
think is part of the air's pace. The bands of real meters are from logs of HEMSs in use.
"""

import heapq
import itertools
import random
import statistics
from collections.abc import Callable, Generator
from functools import partial

from benchmarks.row import Row
from meter_runtime.bench.air import REAL, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.clock import Trust
from meter_runtime.comm.skstack.addresses import link_local

LIVES = 50
GETS = 5
WITHIN_S = 120.0
"""Nothing here takes longer; a measurement that does is a failure."""

REAL_SCAN_S = 17.5
REAL_JOIN_S = (3.0, 10.0)
REAL_GET_S = (0.2, 1.3)

_METER_MAC = bytes.fromhex("024D540000000001")
_HEMS_MAC = bytes.fromhex("024D540000000002")
_METER, _HEMS = link_local(_METER_MAC), link_local(_HEMS_MAC)
_CREDENTIALS = ("SKSETPWD C 0123456789AB", "SKSETRBID " + "0" * 32, "SKSREG S2 21", "SKSREG S3 1")
_GET_E7 = bytes.fromhex("1081000105FF010288016201E700")
_E7 = bytes.fromhex("1081000102880105FF017201E704000001F8")


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class _HandClock:
    """Virtual time: it jumps from one timer to the next."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    def step(self) -> None:
        """On to the next timer."""
        when, _, timer = heapq.heappop(self._timers)
        self.now = max(self.now, when)
        if timer.callback is not None:
            timer.callback()


class _Life:
    """A meter that serves, and a HEMS that scans, joins and asks."""

    def __init__(self, seed: int) -> None:
        self.clock = _HandClock()
        self._air = Air(self.clock, random.Random(f"air {seed}"), REAL)
        self._told = ""
        self._meter = self._plug("meter", _METER_MAC, seed, self._meter_hears)
        self._hems = self._plug("hems", _HEMS_MAC, seed, self._hems_hears)
        for line in (*_CREDENTIALS, "SKSTART"):
            self._say(self._meter, line.encode() + b"\r\n")
        for line in _CREDENTIALS:
            self._say(self._hems, line.encode() + b"\r\n")

    def measure(self) -> Generator[tuple[str, float], None, None]:
        """What was done, and the seconds it took."""
        yield "scan", self._time(b"SKSCAN 2 FFFFFFFF 6\r\n", "EVENT 22")
        yield "join", self._time(f"SKJOIN {_METER}\r\n".encode(), "EVENT 25")
        for _ in range(GETS):
            yield "get", self._time(_send(_METER, _GET_E7), _E7.hex().upper())

    def _time(self, line: bytes, awaited: str) -> float:
        start = self.clock.now
        self._told = ""
        self._say(self._hems, line)
        while awaited not in self._told:
            self.clock.step()
            assert self.clock.now - start < WITHIN_S, f"no {awaited}"
        return self.clock.now - start

    def _plug(self, name: str, mac: bytes, seed: int, hear: Callable[[str], None]) -> VirtualModule:
        options = parse_module_option("bp35a1:echo=0,wopt=1")
        module = VirtualModule(options, mac, random.Random(f"{name} {seed}"), REAL)

        def wake() -> None:
            for write in module.take_uart():
                text = write.data.decode("ascii")
                self.clock.call_at(self.clock.now + write.after_s, partial(hear, text))

        self._air.attach(module, wake)
        return module

    def _say(self, module: VirtualModule, data: bytes) -> None:
        self._air.settle()
        module.receive(data, self.clock.now)
        self._air.settle()

    def _hems_hears(self, text: str) -> None:
        self._told += text

    def _meter_hears(self, text: str) -> None:
        if text.startswith("ERXUDP") and _GET_E7.hex().upper() in text:
            self._say(self._meter, _send(_HEMS, _E7))


def _send(address: str, payload: bytes) -> bytes:
    return f"SKSENDTO 1 {address} 0E1A 1 {len(payload):04X} ".encode() + payload


def measure(lives: int = LIVES) -> list[Row]:
    """Shortest, median and longest over many lives, ours and theirs."""
    seconds: dict[str, list[float]] = {"scan": [], "join": [], "get": []}
    for seed in range(lives):
        for name, took_s in _Life(seed).measure():
            seconds[name].append(took_s)
    rows = [
        Row("scan pass", statistics.median(seconds["scan"]), "s virtual"),
        Row("scan pass, real meters", REAL_SCAN_S, "s"),
    ]
    for name, real, title in (("join", REAL_JOIN_S, "join"), ("get", REAL_GET_S, "Get E7")):
        ours = seconds[name]
        rows += [
            Row(f"{title}, shortest", min(ours), "s virtual"),
            Row(f"{title}, median", statistics.median(ours), "s virtual"),
            Row(f"{title}, longest", max(ours), "s virtual", aim=real[1]),
            Row(f"{title}, real meters from", real[0], "s"),
            Row(f"{title}, real meters to", real[1], "s"),
        ]
    return rows
