"""I²C by combined transactions and an FRAM's stores on a real controller.

Modules :mod:`meter_runtime.i2c`, :mod:`meter_runtime.storage.fram` and
:mod:`meter_runtime.units.buses`. QEMU's EEPROM stands for the FRAM: 32 KiB, two address bytes, no
pages and no write delay, kept in a file of the host.
"""

import random
import time

from hwtest.inside.buses import SABRELITE_BUS, open_bus
from meter_runtime.errors import MeterError
from meter_runtime.storage.fram import FRAM_ADDRESS, FRAM_SIZE, FramMedia
from meter_runtime.units.buses import WorkerBus
from meter_runtime.units.contracts import UnitFailure

NOBODY = 0x33
_SEED = 20261122


async def an_fram_keeps_what_is_written() -> str:
    chip = FramMedia(open_bus(SABRELITE_BUS))
    rng = random.Random(_SEED)
    pattern = rng.randbytes(FRAM_SIZE)
    began = time.monotonic()
    chip.write(0, pattern)
    wrote_s = time.monotonic() - began
    began = time.monotonic()
    kept = chip.read(0, FRAM_SIZE)
    read_s = time.monotonic() - began
    assert kept == pattern
    for _ in range(20):
        offset = rng.randrange(FRAM_SIZE - 700)
        piece = rng.randbytes(rng.randrange(1, 700))
        chip.write(offset, piece)
        pattern = pattern[:offset] + piece + pattern[offset + len(piece) :]
    assert chip.read(0, FRAM_SIZE) == pattern
    chip.write(0, bytes(FRAM_SIZE))
    chip.close()
    return (
        f"{FRAM_SIZE} bytes written in {wrote_s:.1f} s and read in {read_s:.1f} s,"
        " then 20 pieces anywhere"
    )


async def nobody_at_an_address_is_told() -> str:
    bus = open_bus(SABRELITE_BUS)
    began = time.monotonic()
    try:
        bus.read(NOBODY, 1)
    except MeterError as error:
        told = f"{type(error).__name__} after {time.monotonic() - began:.2f} s: {error}"
    else:
        raise AssertionError("something answered")
    finally:
        bus.close()
    assert f"{NOBODY:#04x}" in told, told
    return told


async def a_worker_bus_is_usable_after_a_failure() -> str:
    bus = WorkerBus(open_bus(SABRELITE_BUS), bound_s=10.0)
    before = await bus.transfer(FRAM_ADDRESS, b"\0\0", 4)
    failed = ""
    try:
        await bus.read(NOBODY, 1)
    except UnitFailure as failure:
        failed = str(failure)
    after = await bus.transfer(FRAM_ADDRESS, b"\0\0", 4)
    bus.close()
    assert failed
    assert before == after
    return f"{bus.statistics.transfers} transfers, one failed, the next one answered"


CHECKS = (
    an_fram_keeps_what_is_written,
    nobody_at_an_address_is_told,
    a_worker_bus_is_usable_after_a_failure,
)
