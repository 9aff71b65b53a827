"""The bench: one meter, its household, the radio room and the modules of its home.

The meter is the runtime's own, built from a configuration like any other: it finds units in the
slots of a virtual board, and its radio module hangs on a serial device as a real one would. Around
it the bench makes what a laboratory would have: a clock that can be moved, a house that uses
energy, and modules that HEMSs open.
"""

import asyncio
import hashlib
import json
import logging
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from meter_runtime import control_paths, report, runtime
from meter_runtime.aroute.presence import HOLD_S
from meter_runtime.bench.air import Air
from meter_runtime.bench.body import METERING, MeterBody
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.configuration import bench_configuration
from meter_runtime.bench.desk import handlers
from meter_runtime.bench.faults.interposer import Interposer
from meter_runtime.bench.faults.ledger import Ledger
from meter_runtime.bench.files import write_atomically
from meter_runtime.bench.frames import CrossedFrame
from meter_runtime.bench.happenings import Chronicle, Happening, Listener
from meter_runtime.bench.module.port import Dongle
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.plc import PlcHems
from meter_runtime.bench.powered import PoweredMeter
from meter_runtime.bench.radio_room import RadioRoom
from meter_runtime.bench.stored import Stored, stored_in
from meter_runtime.bench.timekeeping import KeptTime, Timekeeper, kept_time
from meter_runtime.bench.utility import BenchUtility
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.provisioning import CredentialsChanged
from meter_runtime.clock import HALF_HOUR_S, first_slot_of, jst_day, sleep_until, slot_start
from meter_runtime.control import ControlServer
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus

log = logging.getLogger(__name__)

FRAMES_KEPT = 1000
SETTLE_S = 1.0
"""While the clock is moved: how long a datagram on the real serial line is waited for."""

RECENT_S = 2 * 3600.0
"""A measured history has each minute of so long: more than the meter tells of minutes."""

DEVICE_KEY = hashlib.sha256(b"meter-runtime bench").digest()
"""Seals what a bench's meter keeps: throw-away credentials."""


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
        """What a HEMS needs: those in force, or the last that were."""
        self.modules: list[HemsModule] = []
        self.frames: deque[CrossedFrame] = deque(maxlen=FRAMES_KEPT)
        """Datagrams that crossed the air, oldest first."""
        self._wanted = [parse_module_option(text) for text in self.options.hems_modules]
        self._meter_module = parse_module_option(self.options.meter_module)
        self.between = Interposer()
        """Where faults change what the meter says and what it is told."""
        self.faults_at_work = Ledger(self, self._note_fault)
        self._stack = AsyncExitStack()
        self._has_past = False

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
    def meter(self) -> runtime.Meter:
        """The meter of the present life; without power, the one that was."""
        return self._power.meter

    @property
    def air(self) -> Air:
        return self._room.air

    @property
    def dongles(self) -> Mapping[str, Dongle]:
        """The modules of the room by name: "meter", "hems0", "hems1", …"""
        return self._room.dongles

    @property
    def tty(self) -> str:
        """The serial device of the first HEMS module."""
        if not self.modules:
            raise MeterError("this home has no radio module; its HEMS is at the power line")
        return self.modules[0].tty

    @property
    def plc(self) -> PlcHems:
        """The HEMS at the power line; MeterError where the B-route is on the radio."""
        if self.body.plc is None:
            raise MeterError("this house's B-route is on the radio; its HEMSs have modules")
        return self.body.plc.hems

    @property
    def route_b_id(self) -> str:
        return self.credentials.route_b_id

    @property
    def password(self) -> str:
        """In clear: it is a throw-away of this bench, and its user must type it into a HEMS."""
        return self.credentials.password.reveal()

    @property
    def happenings(self) -> deque[Happening]:
        """What happened, oldest first; the last two thousand."""
        return self.chronicle.kept

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` at once with each happening; returns how to stop it."""
        return self.chronicle.subscribe(listener)

    def status(self) -> dict[str, Any]:
        """The meter's status document."""
        return {**report.status(self.meter), "faults": self.faults()}

    def inject(
        self,
        name: str,
        *,
        for_s: float | None = None,
        count: int | None = None,
        **parameters: object,
    ) -> None:
        """Begin a fault of the catalogue, until :meth:`clear`, for a while, or for some effects.

        Raises UsageError for a fault, a parameter or a value that is not possible, MeterError for
        one that is not possible now. What takes time is done soon after.
        """
        self.faults_at_work.inject(name, for_s, count, parameters)

    def clear(self, name: str | None = None) -> None:
        """End a fault, or all of them; harmless where it is not active."""
        self.faults_at_work.clear(name)

    def faults(self) -> list[dict[str, Any]]:
        """The active faults: name, group, parameters, since, until, effects, left."""
        return self.faults_at_work.report()

    def dongle(self, name: str) -> Dongle:
        """A module of the room by name; UsageError names the nearest."""
        return self._room.dongle(name)

    def set_clock(self, wall: float) -> None:
        """Set the meter's clock, UTC seconds; no time passes."""
        self.clock.set_wall(wall)

    async def reboot(self, down_s: float = 0.0) -> None:
        """Cut the meter's power, radio module and all, and give it back; nobody is told."""
        await self._power_down()
        await sleep_until(self.clock, self.clock.monotonic() + down_s)
        await self._power_up()

    async def press_button(self) -> None:
        """Hold the meter's button long enough to open its local port."""
        board = self.body.board
        button = board.profile.button
        if button is None:
            raise MeterError("the bench's board has no button")
        wire = board.wire(button)
        wire.drive(not button.active_low)
        await sleep_until(self.clock, self.clock.monotonic() + 2 * HOLD_S)
        wire.drive(None)

    async def unplug_unit(self, slot: str) -> None:
        """Pull out the unit of a slot while the meter runs."""
        await self.body.unplug(slot)
        await self._power.look()

    async def plug_unit(self, slot: str, *, another: bool = False) -> None:
        """Put back the unit that was pulled out, or ``another`` one of its model."""
        await (self.body.swap(slot) if another else self.body.plug(slot))
        await self._power.look()

    async def replace_unit(self, down_s: float = 0.0) -> None:
        """Fit another metering unit, without power meanwhile."""
        await self._power_down()
        await self.body.swap(METERING)
        await sleep_until(self.clock, self.clock.monotonic() + down_s)
        await self._power_up()

    @property
    def broute_credentials(self) -> BRouteCredentials:
        """What the utility has provisioned last."""
        current = self.meter.provisioning.current
        if current is None:
            raise MeterError("the bench's meter has no credentials; remove its state directory")
        return current

    async def set_credentials(self, credentials: BRouteCredentials) -> None:
        """Provision ID, password and acceptance day anew, as the utility does."""
        await self.meter.provision(credentials)

    async def advance(self, seconds: float) -> None:
        """Let the meter and the room live through this time at once."""
        with self._time.moving(seconds), self._power.held():
            await self.clock.advance(seconds, self._visit)
        self.chronicle.note("advanced", by_s=seconds)

    def ready_document(self) -> dict[str, Any]:
        """What a program needs to know to use this bench."""
        return {
            "control": str(self.control_path),
            "mqtt": {"host": self.utility.host, "port": self.utility.port},
            "lab": str(self.utility.lab.path),
            "meters": [
                {
                    "meter_id": self.meter.config.meter.id,
                    "route_b_id": self.route_b_id,
                    "password": self.password,
                    "meter_module": self._module_document(),
                    "hems_modules": [
                        {"profile": m.profile, "tty": m.tty, "mac": m.mac} for m in self.modules
                    ],
                }
            ],
        }

    def _module_document(self) -> dict[str, str]:
        if self.body.plc is not None:
            return self.body.plc.document()
        mac = self.dongles["meter"].module.mac
        return {"profile": self._meter_module.profile.name, "mac": mac.hex().upper()}

    async def _start(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="meter-bench-")
        self._stack.callback(scratch.cleanup)
        private = Path(scratch.name)
        self._state_dir = _made(self.options.state_dir or private / "state")
        tty_dir = _made(self.options.tty_dir or private)
        stored = stored_in(self._state_dir)
        self._start_time(stored)
        self.chronicle = Chronicle(self.clock, self._name_of)
        self._room = RadioRoom(
            self.options,
            self.clock,
            self.chronicle,
            self._stack,
            secrets=lambda: (self.password, self.route_b_id),
            heard=self._on_frame,
        )
        port = private / "meter-module"
        await self._room.plug_in(self._meter_module, "meter", str(port))
        self.body = MeterBody(
            self.options,
            self.clock,
            self._state_dir,
            private,
            radio=self.dongles["meter"],
            new_radio=lambda: self._room.renew(self._meter_module, "meter"),
            port=port,
            epoch=self._time.epoch,
            stored=stored,
        )
        self._stack.push_async_callback(self.body.close)
        await self.body.assemble()
        self.utility = BenchUtility(self.options, private / "lab")
        await self.utility.open(self._stack, self.options.meter_id, DEVICE_KEY)
        self._power = PoweredMeter(self._build_meter)
        await self._power.build()
        self._stack.push_async_callback(self._power.cut)
        # A kept state may hold what was rewritten in an earlier run.
        self._follow_credentials()
        await self._measure_history()
        self.chronicle.follow(self.meter.bus)
        self._has_past = True
        if self.body.plc is not None:
            # Nobody in this home has a use for a radio module.
            self._wanted.clear()
            self.body.plc.follow(self._on_frame)
        for number, wanted in enumerate(self._wanted):
            tty = wanted.tty or str(tty_dir / f"hems{number}")
            mac = await self._room.plug_in(wanted, f"hems{number}", tty)
            self.modules.append(HemsModule(wanted.profile.name, tty, mac.hex().upper()))
        self._stack.push_async_callback(self._power.cut)
        await self._power.start()
        self._stack.push_async_callback(self.faults_at_work.close)
        await self._open_control()
        if self.options.ready_file is not None:
            write_atomically(self.options.ready_file, json.dumps(self.ready_document()) + "\n")
            self._stack.callback(self.options.ready_file.unlink, missing_ok=True)

    def _start_time(self, stored: Stored | None) -> None:
        """Go on from the last run; or begin where the wanted history does, or now.

        Time never goes back behind what a meter has stored here.
        """
        kept = kept_time(self._state_dir)
        self._fresh = kept is None
        until = None if stored is None else stored.until
        if kept is None:
            kept = KeptTime()
            true_time = max(self._first_wall(), until or 0.0)
        else:
            true_time = kept.true_time(time.time(), until)
        self.clock = BenchClock(true_time + kept.error_s)
        self._time = Timekeeper(
            self.clock,
            self.options.state_dir,
            error_s=kept.error_s,
            most_error_s=kept.most_error_s,
        )
        self._stack.callback(self.clock.on_step(self._time.keep))

    def _first_wall(self) -> float:
        """Where a bench without a past begins: the midnight that opens the wanted history."""
        now = self._opening_wall()
        if not self.options.history_days:
            return now
        first_day = jst_day(now) - timedelta(days=self.options.history_days)
        return slot_start(first_slot_of(first_day)) - 1.0

    def _opening_wall(self) -> float:
        """When a bench without a past begins to serve."""
        return time.time() if self.options.start is None else self.options.start.timestamp()

    async def _measure_history(self) -> None:
        """Live through the days before the bench opens, by the same way as ever.

        A unit that keeps its registers is read at the boundaries, and each minute of the last
        hours; another one each minute.
        Not kept until it is whole: a bench that was ended on the way measures the rest.
        """
        behind = self._opening_wall() - self.clock.wall()
        if self._fresh and self.options.history_days and behind > 0:
            metering, opens = self.meter.metering, self.clock.monotonic() + behind
            sparsely = metering.unit.keeps_registers

            async def read() -> None:
                recent = self.clock.monotonic() >= opens - RECENT_S
                if recent or not sparsely or self.clock.wall() % HALF_HOUR_S == 0:
                    await metering.poll()

            with metering.held():
                await metering.poll()  # fitted before the first boundary
                await self.clock.advance(behind, read)
        self._time.keep()

    async def _build_meter(self) -> runtime.Meter:
        settings = bench_configuration(
            self.options,
            self.body,
            self._state_dir,
            self._meter_module.profile.name,
            aroute=self.utility.aroute,
            local=self.utility.local,
        )
        bus = EventBus()
        bus.subscribe(CredentialsChanged, self._follow_credentials)
        if self._has_past:
            # The first life's story begins after its past, with the modules of the home.
            self.chronicle.follow(bus)
        return await runtime.build(
            settings,
            runtime.open_stores(settings),
            self.clock,
            DEVICE_KEY,
            board=self.body.board,
            bus=bus,
            interpose=self.between,
            rng=random.Random(f"meter {self.options.seed}"),
        )

    async def _power_down(self) -> None:
        module = self.dongles["meter"]
        # First the radio, so that what the runtime says on its way out reaches nobody.
        module.module.lose_power()
        self.body.cut_modem()
        await self._power.cut()
        await module.unplug()
        self.body.power_off()

    async def _power_up(self) -> None:
        self.body.power_on()
        if self.body.has_radio:
            await self.dongles["meter"].plug()
        await self._power.build()
        await self._power.start()

    async def _open_control(self) -> None:
        self.control_path = self.options.control or (
            control_paths.runtime_dir() / f"bench-{os.getpid()}-{id(self):x}.sock"
        )
        server = ControlServer(self.control_path, handlers(self))
        await server.start()
        self._stack.push_async_callback(server.close)

    def _follow_credentials(self, _: CredentialsChanged | None = None) -> None:
        self.credentials = self.meter.provisioning.credentials or self.credentials

    def _note_fault(self, kind: str, name: str, details: Mapping[str, Any]) -> None:
        self.chronicle.note(kind, name=name, **details)

    async def _visit(self) -> None:
        """One stop of a moved clock: the meter reads, and what it says gets through the UART."""
        if not self._power.on:
            return
        await self._power.visit()
        broute = self.meter.broute
        if broute is not None and not broute.idle.is_set():
            try:
                # Real time: the serial line between the runtime and its module is real.
                async with asyncio.timeout(SETTLE_S):
                    await broute.idle.wait()
            except TimeoutError:
                log.debug("a datagram takes longer than the clock waits for it")

    def _name_of(self, address: str) -> str:
        """The module with this IPv6 address."""
        plc = self.body.plc
        return (None if plc is None else plc.name_at(address)) or self._room.name_of(address)

    def _on_frame(self, frame: CrossedFrame) -> None:
        self.frames.append(frame)
        self.chronicle.crossed(frame)


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise MeterError(
            f"{directory}: cannot be made: {failure.strerror}; name a writable directory"
        ) from None
    return directory
