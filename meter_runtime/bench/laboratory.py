"""The bench: one meter, its household, the radio room and the modules of its home.

The meter is the runtime's own, built from a configuration like any other; its radio module hangs
on a serial device as a real one would. Around it the bench makes what a laboratory would have:
a clock that can be moved, a house that uses energy, and modules that HEMSs open.
"""

import asyncio
import json
import logging
import os
import random
import tempfile
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from meter_runtime import config as cfg
from meter_runtime import control_paths, report, runtime
from meter_runtime.bench.air import PACES, Air, Crossing
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.frames import CrossedFrame, crossed_frame
from meter_runtime.bench.household import metering_unit
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import ModulePort
from meter_runtime.bench.module.profiles import ModuleOptions, parse_module_option
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import first_slot_of, jst, jst_day, slot_start
from meter_runtime.comm.ports import open_port
from meter_runtime.control import ControlServer, Handler
from meter_runtime.errors import MeterError, UsageError

log = logging.getLogger(__name__)

FRAMES_KEPT = 1000
SETTLE_S = 1.0
"""While the clock is moved: how long a datagram on the real serial line is waited for."""
START_WITHIN_S = 120.0
"""A link on the real air needs two scan passes: twice 17.5 s, and some."""

OFFSET_FILE = "clock-offset"
_MAC_PREFIX = b"\x02MT"
"""Locally administered, so that no maker's number is taken."""


@dataclass(frozen=True, slots=True)
class HemsModule:
    """One module of the home, as a HEMS finds it."""

    profile: str
    tty: str
    mac: str


class Bench:
    """A running laboratory; an async context manager.

    >>> async with Bench(BenchOptions(history_days=1)) as bench:
    ...     print(bench.tty, bench.route_b_id, bench.password)
    """

    def __init__(self, options: BenchOptions | None = None) -> None:
        self.options = options or BenchOptions()
        self.credentials = self.options.credentials()
        self.modules: list[HemsModule] = []
        self.frames: deque[CrossedFrame] = deque(maxlen=FRAMES_KEPT)
        """Datagrams that crossed the air, oldest first."""
        self._wanted = [parse_module_option(text) for text in self.options.hems_modules]
        self._meter_module = parse_module_option(self.options.meter_module)
        self._names: dict[bytes, str] = {}
        self._stack = AsyncExitStack()
        self._macs = random.Random(f"modules {self.options.seed}")

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def tty(self) -> str:
        """The serial device of the first HEMS module."""
        return self.modules[0].tty

    @property
    def route_b_id(self) -> str:
        return self.credentials.route_b_id

    @property
    def password(self) -> str:
        """In clear: it is a throw-away of this bench, and its user must type it into a HEMS."""
        return self.credentials.password.reveal()

    def status(self) -> dict[str, Any]:
        """The meter's status document."""
        return report.status(self.meter)

    async def advance(self, seconds: float) -> None:
        """Let the meter and the room live through this time at once."""
        with self.meter.metering.held():
            await self.clock.advance(seconds, self._visit)
        self._keep_offset()

    def ready_document(self) -> dict[str, Any]:
        """What a program needs to know to use this bench."""
        return {
            "control": str(self.control_path),
            "mqtt": None,
            "meters": [
                {
                    "meter_id": self.meter.config.meter.id,
                    "route_b_id": self.route_b_id,
                    "password": self.password,
                    "meter_module": {
                        "profile": self._meter_module.profile.name,
                        "mac": self._meter_mac.hex().upper(),
                    },
                    "hems_modules": [
                        {"profile": m.profile, "tty": m.tty, "mac": m.mac} for m in self.modules
                    ],
                }
            ],
        }

    async def _start(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="meter-bench-")
        self._stack.callback(scratch.cleanup)
        private = Path(scratch.name)
        self._state_dir = _made(self.options.state_dir or private / "state")
        tty_dir = _made(self.options.tty_dir or private)
        self.clock = BenchClock(self._start_wall())
        self._make_air()
        port = private / "meter-module"
        self._meter_mac = await self._plug_in(self._meter_module, "meter", str(port))
        self.meter = runtime.build(
            self._configuration(port),
            self.clock,
            metering_unit=metering_unit(self.options, self.clock, self._state_dir),
        )
        self._stack.callback(self.meter.close)
        await self._measure_history()
        for number, wanted in enumerate(self._wanted):
            tty = wanted.tty or str(tty_dir / f"hems{number}")
            mac = await self._plug_in(wanted, f"hems{number}", tty)
            self.modules.append(HemsModule(wanted.profile.name, tty, mac.hex().upper()))
        await self._bring_to_life()
        await self._open_control()
        if self.options.ready_file is not None:
            _write_atomically(self.options.ready_file, json.dumps(self.ready_document()) + "\n")
            self._stack.callback(self.options.ready_file.unlink, missing_ok=True)

    def _make_air(self) -> None:
        self.air = Air(
            self.clock, random.Random(f"air {self.options.seed}"), PACES[self.options.air]
        )
        self.air.listeners.append(self._on_crossing)

    async def _plug_in(self, options: ModuleOptions, name: str, tty: str) -> bytes:
        """Power a module up behind a pseudo-terminal at ``tty``; gives its MAC address."""
        mac = _MAC_PREFIX + self._macs.randbytes(5)
        self._names[mac] = name
        module = VirtualModule(
            options, mac, random.Random(f"{name} {self.options.seed}"), self.air.pace
        )
        port = await open_port(f"pty:{tty}")
        self._stack.push_async_callback(port.close)
        running = asyncio.create_task(
            ModulePort(module, port, self.air, self.clock).run(), name=name
        )
        self._stack.push_async_callback(_cancelled, running)
        return mac

    def _configuration(self, port: Path) -> cfg.Config:
        options = self.options
        return cfg.Config(
            meter=cfg.Meter(id=f"BENCH-{options.seed}"),
            storage=cfg.Storage(state_dir=self._state_dir),
            units=cfg.Units(
                communication=cfg.CommunicationUnit(
                    port=f"serial:{port}", options={"profile": self._meter_module.profile.name}
                )
            ),
            broute=cfg.BRoute(
                id=self.route_b_id,
                password=self.credentials.password,
                profile=options.echonet_profile,
                notification=options.notification,
            ),
        )

    def _start_wall(self) -> float:
        """Now; or, before the first run, the midnight at which the wanted history begins."""
        now = time.time()
        offset = self._state_dir / OFFSET_FILE
        if offset.exists():
            return now + _number(offset)
        if not self.options.history_days:
            return now
        first_day = jst_day(now) - timedelta(days=self.options.history_days)
        return slot_start(first_slot_of(first_day)) - 1.0

    async def _measure_history(self) -> None:
        """Live through the days before the bench opens, by the same way as ever."""
        behind = time.time() - self.clock.wall()
        if self.options.history_days and behind > 0 and not len(self.meter.metering.ring):
            with self.meter.metering.held():
                await self.meter.metering.poll()  # fitted before the first boundary
                await self.clock.advance(behind, self.meter.metering.poll)
            self._keep_offset()

    async def _bring_to_life(self) -> None:
        broute = self.meter.broute
        if broute is None:
            raise RuntimeError("the bench's configuration has credentials")
        life = asyncio.create_task(self.meter.run(), name="meter")
        self._stack.push_async_callback(self._end_life, life)
        started = asyncio.create_task(broute.started.wait())
        try:
            await asyncio.wait(
                (life, started), timeout=START_WITHIN_S, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            started.cancel()
        if not broute.started.is_set():
            reason = broute.link.last_fault or "the module gave no sign"
            raise MeterError(f"the meter's radio did not come up: {reason}")

    async def _end_life(self, life: asyncio.Task[None]) -> None:
        self.meter.stop()
        await asyncio.wait((life,))

    async def _open_control(self) -> None:
        self.control_path = self.options.control or (
            control_paths.runtime_dir() / f"bench-{os.getpid()}-{id(self):x}.sock"
        )
        server = ControlServer(self.control_path, self._handlers())
        await server.start()
        self._stack.push_async_callback(server.close)

    def _handlers(self) -> dict[str, Handler]:
        async def answer_advance(request: dict[str, Any]) -> object:
            seconds = request.get("seconds")
            if not isinstance(seconds, int | float):
                raise UsageError('"advance" takes a number of seconds')
            await self.advance(seconds)
            return {"now": jst(self.clock.wall()).isoformat(timespec="seconds")}

        return {**report.handlers(self.meter), "advance": answer_advance}

    async def _visit(self) -> None:
        """One stop of a moved clock: the meter reads, and what it says gets through the UART."""
        await self.meter.metering.poll()
        broute = self.meter.broute
        if broute is not None and not broute.idle.is_set():
            try:
                # Real time: the serial line between the runtime and its module is real.
                async with asyncio.timeout(SETTLE_S):
                    await broute.idle.wait()
            except TimeoutError:
                log.debug("a datagram takes longer than the clock waits for it")

    def _on_crossing(self, crossing: Crossing) -> None:
        frame = crossed_frame(crossing, self.clock.wall(), self._names)
        if frame is not None:
            self.frames.append(frame)

    def _keep_offset(self) -> None:
        """A bench with a state directory goes on where its clock stood."""
        if self.options.state_dir is not None:
            offset = self.clock.wall() - time.time()
            _write_atomically(self._state_dir / OFFSET_FILE, f"{offset:.3f}\n")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise MeterError(
            f"{directory}: cannot be made: {failure.strerror}; name a writable directory"
        ) from None
    return directory


def _number(path: Path) -> float:
    try:
        return float(path.read_text("ascii"))
    except ValueError:
        raise MeterError(f"{path}: is damaged; remove it to set the clock to now") from None


def _write_atomically(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except OSError as failure:
        raise MeterError(f"{path}: cannot be written: {failure.strerror}") from None
