"""One ADE7953 on its bus: registers, and how what they tell is believed.

All registers are big-endian, at 16-bit addresses; the address tells the size.

=======  ============  ====  ==============================================================
004      LCYCMODE      u8    40 after reset: reading an energy register clears it (bit 6)
007-009  PGA           u8    gain of V, IA and IB
0FD      LAST_OP       u8    35 or CA: the last communication was a read or a write
0FE      unlock        u8    AD, written before 120
102      CONFIG        u16   8004 after reset; bit 15 cleared keeps to this interface
120      –             u16   0030 is required for full performance
1FE      LAST_ADD      u16   the last communication's address, and at
0FF-3FF  LAST_RWDATA         its data, by its size ("Communication verification")
301      ACCMODE       u32   0 in bits 0 to 3: energy is accumulated with its sign
312 313  AWATT, BWATT  s32   active power
31A 31B  IRMSA, IRMSB  u32   currents, effective values
31C      VRMS          u32   voltage, effective value
31E 31F  AENERGYA, B   s24   energy, sign-extended to 32 bits
380-38E  gains         u24   400000 is 1
702      version       u8    of the silicon
=======  ============  ====  ==============================================================

I²C has no checksum. The chip itself remembers what it was asked and what it told last, so each
value is read back there before it is believed. That the three registers are not overwritten by
being read is *unverified*, but the only way in which they make sense.

Datasheet rev. B: the I²C, "Active energy calculation" and "Communication verification" sections,
the tables of 8-bit registers and of ACCMODE. The other registers, and the start sequence, are what
the open drivers of Tasmota, Mongoose OS and A. Vartanyan agree on.
"""

import asyncio

from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import UnitFailure

ADDRESS = 0x38

LCYCMODE = 0x004
UNLOCK = 0x0FE
CONFIG = 0x102
PERFORMANCE = 0x120
ACCMODE = 0x301
VRMS = 0x31C
VERSION = 0x702
LAST_OP = 0x0FD
LAST_ADD = 0x1FE
LAST_RWDATA = {1: 0x0FF, 2: 0x1FF, 3: 0x2FF, 4: 0x3FF}
READ, WRITTEN = 0x35, 0xCA

ACCUMULATION = 0x00
"""LCYCMODE: counters run on, and reading leaves them alone."""

STAY_ON_I2C = 0x0004
"""CONFIG: high-pass filters on, interface kept."""

ATTEMPTS = 3


class Unconfirmed(UnitFailure):
    """What came over the wire is not what the chip says went over it."""


class Ade7953:
    """The chip on its bus. Its methods raise UnitFailure, which names bus, address and reason."""

    def __init__(self, bus: AsyncI2C, address: int = ADDRESS) -> None:
        self.place = f"{bus.name} address {address:#04x}"
        self._bus = bus
        self._address = address
        self._turn = asyncio.Lock()

    async def read(self, register: int) -> int:
        """A register's value as the chip confirms it, without a sign."""
        size = size_of(register)
        async with self._turn:
            failure = UnitFailure(self.place)
            for _ in range(ATTEMPTS):
                try:
                    told = await self._ask(register, size)
                    if await self._confirms(register, told):
                        return int.from_bytes(told, "big")
                    failure = Unconfirmed(f"{self.place}: register {register:#05x} came damaged")
                except UnitFailure as refused:
                    failure = refused
            raise failure

    async def read_signed(self, register: int) -> int:
        """A register's value, of 32 bits in two's complement."""
        value = await self.read(register)
        return value - (1 << 32) if value >> 31 else value

    async def write(self, register: int, value: int, *, key: int | None = None) -> None:
        """Write a register; ``key`` is written to the unlock register right before it."""
        data = value.to_bytes(size_of(register), "big")
        async with self._turn:
            failure = UnitFailure(self.place)
            for _ in range(ATTEMPTS):
                try:
                    if key is not None:
                        await self._put(UNLOCK, bytes((key,)))
                    await self._put(register, data)
                    if await self._confirms(register, data, WRITTEN):
                        return
                    failure = Unconfirmed(f"{self.place}: register {register:#05x} got damaged")
                except UnitFailure as refused:
                    failure = refused
            raise failure

    async def _confirms(self, register: int, data: bytes, operation: int = READ) -> bool:
        """The chip says that this was the last thing that went over the wire."""
        if int.from_bytes(await self._ask(LAST_ADD, 2), "big") != register:
            return False
        if await self._ask(LAST_RWDATA[len(data)], len(data)) != data:
            return False
        return await self._ask(LAST_OP, 1) == bytes((operation,))

    async def _ask(self, register: int, size: int) -> bytes:
        return await self._bus.transfer(self._address, register.to_bytes(2, "big"), size)

    async def _put(self, register: int, data: bytes) -> None:
        await self._bus.write(self._address, register.to_bytes(2, "big") + data)


def size_of(register: int) -> int:
    """Bytes of a register, by its address."""
    return 1 if register >= 0x700 else (register >> 8) + 1
