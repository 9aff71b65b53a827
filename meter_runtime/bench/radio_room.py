"""The radio room of a bench: the air, the modules that hang in it, and what is recorded of them."""

import random
from collections.abc import Callable
from contextlib import AsyncExitStack

from meter_runtime.bench.air import PACES, Air, Crossing
from meter_runtime.bench.capture import Capture
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.frames import CrossedFrame, crossed_frame
from meter_runtime.bench.happenings import Chronicle
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import Dongle
from meter_runtime.bench.module.profiles import ModuleOptions
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.tap import TO_MODULE, TappedPort
from meter_runtime.bench.trace import Trace
from meter_runtime.comm.ports import BytePort, open_port
from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.skstack.addresses import link_local
from meter_runtime.errors import UsageError, nearest

_MAC_PREFIX = b"\x02MT"
"""Locally administered, so that no maker's number is taken."""


class RadioRoom:
    """One room; capture and trace are written where ``options`` want them, until ``stack`` ends.

    ``secrets`` gives what must not show in a trace; ``heard`` is told each datagram on the air.
    """

    def __init__(
        self,
        options: BenchOptions,
        clock: BenchClock,
        chronicle: Chronicle,
        stack: AsyncExitStack,
        *,
        secrets: Callable[[], tuple[str, ...]],
        heard: Callable[[CrossedFrame], None],
    ) -> None:
        self.air = Air(clock, random.Random(f"air {options.seed}"), PACES[options.air])
        self.air.listeners.append(self._crossed)
        self.dongles: dict[str, Dongle] = {}
        """The modules by name: "meter", "hems0", "hems1", …"""
        self._seed = options.seed
        self._clock = clock
        self._chronicle = chronicle
        self._stack = stack
        self._secrets = secrets
        self._heard = heard
        self._names: dict[bytes, str] = {}
        self._macs = random.Random(f"modules {options.seed}")
        self._capture: Capture | None = None
        self._trace: Trace | None = None
        if options.capture is not None:
            self._capture = Capture(options.capture)
            stack.callback(self._capture.close)
            chronicle.subscribe(self._capture.happened)
        if options.trace is not None:
            self._trace = Trace(options.trace, clock, self._names)
            stack.callback(self._trace.close)
            chronicle.subscribe(self._trace.happened)

    def dongle(self, name: str) -> Dongle:
        """A module by name; UsageError names the nearest."""
        if name not in self.dongles:
            raise UsageError(f'no module "{name}" is in the room; {nearest(name, self.dongles)}')
        return self.dongles[name]

    def name_of(self, address: str) -> str:
        """The module with this IPv6 address, or the address."""
        names = {link_local(mac): name for mac, name in self._names.items()}
        return names.get(address, address)

    async def plug_in(self, options: ModuleOptions, name: str, tty: str) -> bytes:
        """Power a module up behind a pseudo-terminal at ``tty``; gives its MAC address."""
        module = self._module(options, name)

        async def open_line() -> BytePort:
            return self._tapped(name, options, await open_port(f"pty:{tty}"))

        dongle = self.dongles[name] = Dongle(name, module, open_line, self.air, self._clock)
        self._stack.push_async_callback(dongle.unplug)
        await dongle.plug()
        return module.mac

    def renew(self, options: ModuleOptions, name: str) -> None:
        """Another module is behind this line."""
        self.dongles[name].module = self._module(options, name)

    def _module(self, options: ModuleOptions, name: str) -> VirtualModule:
        mac = _MAC_PREFIX + self._macs.randbytes(5)
        self._names[mac] = name
        return VirtualModule(options, mac, random.Random(f"{name} {self._seed}"), self.air.pace)

    def _tapped(self, name: str, options: ModuleOptions, port: BytePort) -> BytePort:
        """The port, whose lines are heard and whose users are noticed."""

        def told(way: str, line: str) -> None:
            if self._trace is not None:
                self._trace.uart(name, way, line)
            if way == TO_MODULE and line.upper() == "SKRESET":
                self._chronicle.note("module-reset", module=name)

        def noticed(opened: bool) -> None:
            self._chronicle.note("tty-opened" if opened else "tty-closed", module=name)

        if isinstance(port, PtyPort):
            port.on_opened = noticed
        return TappedPort(port, options.profile.dialect, told, self._secrets)

    def _crossed(self, crossing: Crossing) -> None:
        wall = self._clock.wall()
        frame = crossed_frame(crossing, wall, self._names)
        if self._trace is not None:
            self._trace.crossed(crossing, wall, frame)
        if self._capture is not None:
            self._capture.crossed(crossing, wall)
        if frame is not None:
            self._heard(frame)
