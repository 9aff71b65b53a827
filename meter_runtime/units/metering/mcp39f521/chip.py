"""One MCP39F521 on its bus: requests, answers, and what to do when none comes.

The chip needs a while to answer. Whether it holds the clock until then is not known (*unverified*;
one open driver reads at once, others wait 10 to 100 ms), so a request is first read at once. A chip
that takes the request and still cannot answer is waited for, from then on always.
"""

import asyncio
from collections.abc import Awaitable, Callable

from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import UnitFailure
from meter_runtime.units.metering.mcp39f521 import frames
from meter_runtime.units.metering.mcp39f521.frames import FrameError, Register

WAITS_S = (0.0, 0.0, 0.02, 0.1)
"""Between request and answer, after so many requests that were taken and not answered.
*Unverified.*"""

SETTINGS = {
    "gain_current": (Register.GAIN_CURRENT, 2),
    "gain_voltage": (Register.GAIN_VOLTAGE, 2),
    "gain_active_power": (Register.GAIN_ACTIVE_POWER, 2),
    "phase": (Register.PHASE, 2),
    "range": (Register.RANGE, 4),
}
"""What a calibration may set: register and size in bytes, little-endian."""


class Unintelligible(UnitFailure):
    """Somebody answers at the address, and not as this chip does."""


class Mcp39f521:
    """The chip at ``address``. Its methods raise UnitFailure, which names bus, address and reason.

    ``pause`` waits for so many seconds. One request is under way at a time, whoever asks.
    """

    def __init__(
        self, bus: AsyncI2C, address: int, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self.address = address
        self.place = f"{bus.name} address {address:#04x}"
        self._bus = bus
        self._pause = pause
        self._wait_s = 0.0
        self._turn = asyncio.Lock()

    async def read(self, register: int, n: int) -> bytes:
        """``n`` bytes, at most 32, from a register on."""
        return await self._ask(frames.read_request(register, n), n)

    async def write(self, register: int, data: bytes) -> None:
        """Write at most 32 bytes from a register on."""
        await self._ask(frames.write_request(register, data), 0)

    async def read_page(self, page: int) -> bytes:
        """Sixteen bytes of the EEPROM."""
        return await self._ask(frames.page_read_request(page), frames.PAGE_SIZE)

    async def write_page(self, page: int, data: bytes) -> None:
        """Write sixteen bytes of the EEPROM."""
        await self._ask(frames.page_write_request(page, data), 0)

    async def prepare(self, calibration: dict[str, int]) -> None:
        """Make it count: see :meth:`read_settings` for what is looked at, and written if wrong.

        Nothing is saved in the chip's flash. What is right is not written, so that a chip which
        counts already goes on undisturbed.
        """
        for name, value in calibration.items():
            register, size = SETTINGS[name]
            await self._set(register, (value % (1 << 8 * size)).to_bytes(size, "little"))
        await self._set(Register.INTERVAL, frames.COUNTING_INTERVAL.to_bytes(2, "little"))
        if not (await self.read_settings())[1]:
            await self.write(Register.ENERGY_CONTROL, b"\x01\x00")
            if not (await self.read_settings())[1]:
                raise UnitFailure(f"{self.place}: it does not begin to count energy; replace it")

    async def read_settings(self) -> tuple[int, bool]:
        """The accumulation interval, and whether energy is counted."""
        interval = await self.read(Register.INTERVAL, 2)
        control = await self.read(Register.ENERGY_CONTROL, 2)
        return int.from_bytes(interval, "little"), bool(control[0] & 1)

    async def _set(self, register: int, wanted: bytes) -> None:
        if await self.read(register, len(wanted)) == wanted:
            return
        await self.write(register, wanted)
        if await self.read(register, len(wanted)) != wanted:
            raise UnitFailure(
                f"{self.place}: register {register:#06x} does not keep what is written; replace it"
            )

    async def _ask(self, request: bytes, n: int) -> bytes:
        async with self._turn:
            failure = UnitFailure(self.place)
            unready = 0
            for _ in WAITS_S:
                wait_s = max(WAITS_S[unready], self._wait_s)
                try:
                    await self._bus.write(self.address, request)
                except UnitFailure as refused:
                    failure = refused
                    continue
                try:
                    if wait_s:
                        await self._pause(wait_s)
                    answer = await self._bus.read(self.address, frames.answer_length(n))
                    told = frames.content(answer, n)
                except UnitFailure as refused:
                    failure = refused
                    unready += 1
                except FrameError as wrong:
                    failure = Unintelligible(f"{self.place}: {wrong}")
                    unready += not wrong.answered
                else:
                    self._wait_s = wait_s
                    return told
            raise failure
