"""The host's clock, :mod:`meter_runtime.kernel_time` and :mod:`meter_runtime.system_clock`.

These set the machine's clock, which nobody else uses.
"""

import asyncio
import ctypes
import struct
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from meter_runtime.clock import Trust
from meter_runtime.discipline import Source
from meter_runtime.kernel_time import KernelTime
from meter_runtime.rtc import KernelRtc
from meter_runtime.system_clock import CHECK_S, PLAUSIBLE_FROM, SystemClock

HOUR_S = 3600
_START = PLAUSIBLE_FROM + 200 * 86_400
"""What the checks set the clock to before they begin: a time that is plausible anywhere."""

_ADJ_STATUS = 0x0010
_ADJ_MAXERROR = 0x0004
_STA_UNSYNC = 0x0040
_TIMEX = struct.Struct("@Iqqqqi")
"""The head of struct timex on 64-bit machines: modes, offset, frequency, maximum and estimated
error, status."""


def set_clock(wall: float) -> None:
    """As an administrator does it."""
    at = datetime.fromtimestamp(wall, UTC).isoformat()
    subprocess.run(["/bin/date", "-u", "-s", at], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words


def keep_synchronised(kept: bool) -> None:
    """What an NTP daemon tells the kernel, or that it is gone."""
    status = 0 if kept else _STA_UNSYNC
    timex = _TIMEX.pack(_ADJ_STATUS | _ADJ_MAXERROR, 0, 0, 0, 0, status)
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(timex, 512))
    assert state >= 0, "adjtimex failed"


async def the_kernel_tells_of_a_step() -> str:
    set_clock(_START)
    told = asyncio.Event()
    stop = KernelTime().watch(told.set)
    took_ms = []
    for step_s in (HOUR_S, -HOUR_S, 1):
        before = time.monotonic()
        set_clock(time.time() + step_s)
        await asyncio.wait_for(told.wait(), 5)
        took_ms.append((time.monotonic() - before) * 1000)
        told.clear()
    stop()
    set_clock(time.time() + HOUR_S)
    await asyncio.sleep(0.5)
    assert not told.is_set(), "told after it was stopped"
    return f"steps of +1 h, -1 h and +1 s told {max(took_ms):.0f} ms after `date` began, at most"


async def a_step_of_the_hosts_clock_is_followed() -> str:
    keep_synchronised(False)
    set_clock(_START)
    clock = SystemClock()
    clock.start()
    steps: list[float] = []
    stepped = asyncio.Event()

    def note() -> None:
        assert clock.last_step is not None
        steps.append(clock.last_step.by_s)
        stepped.set()

    clock.on_step(note)
    first = (clock.source, clock.trust)
    await asyncio.sleep(1.5 * CHECK_S)  # half-way between two looks
    set_clock(time.time() + HOUR_S)
    began = time.monotonic()
    await asyncio.wait_for(stepped.wait(), 5)
    took_ms = (time.monotonic() - began) * 1000
    off_s = clock.wall() - time.time()
    clock.close()
    assert first == (Source.HOST, Trust.COARSE), first
    assert len(steps) == 1, steps
    assert abs(steps[0] - HOUR_S) < 2, steps
    assert took_ms < 300, f"{took_ms:.0f} ms: found by looking, not told"
    assert abs(off_s) < 0.01, off_s
    return (
        f"a step of {steps[0]:+.3f} s, followed {took_ms:.0f} ms after `date` ended;"
        f" off by {off_s * 1000:+.2f} ms"
    )


async def a_synchronised_kernel_is_believed() -> str:
    keep_synchronised(False)
    assert not KernelTime().synchronised()
    set_clock(_START)
    clock = SystemClock()
    clock.start()
    before = clock.trust
    keep_synchronised(True)
    assert KernelTime().synchronised()
    clock.check()
    believed = (clock.source, clock.trust)
    clock.close()
    keep_synchronised(False)
    assert before is Trust.COARSE, before
    assert believed == (Source.NETWORK, Trust.SYNCED), believed
    return "adjtimex: coarse until the kernel says that NTP keeps its clock, then synced"


async def a_clock_nobody_set_is_not_believed() -> str:
    keep_synchronised(False)
    set_clock(datetime(1970, 1, 2, tzinfo=UTC).timestamp())
    clock = SystemClock()
    clock.start()
    before = clock.trust
    clock.adjust(_START)
    believed = (clock.source, clock.trust, clock.wall() - _START < 1)
    clock.close()
    set_clock(_START)
    assert before is Trust.UNSET, before
    assert believed == (Source.UTILITY, Trust.SYNCED, True), believed
    return "1970: no time at all, until the utility says what time it is"


async def the_kernels_rtc_keeps_what_it_is_given() -> str:
    rtc = KernelRtc(Path("/dev/rtc0"))
    goal = _START + 0.2
    rtc.write(goal)
    at_once = rtc.read()
    await asyncio.sleep(2.5)
    later = rtc.read()
    assert at_once is not None
    assert later is not None
    assert 0 <= at_once - _START <= 1, at_once
    assert 2 <= later - _START <= 4, later
    clock = SystemClock(rtc)
    set_clock(datetime(1970, 1, 2, tzinfo=UTC).timestamp())
    clock.start()
    believed = (clock.source, clock.trust)
    off_s = clock.wall() - later
    clock.close()
    set_clock(_START)
    assert believed == (Source.RTC, Trust.SYNCED), believed
    assert 0 <= off_s < 4, off_s
    return "set, read and running; a clock that starts in 1970 takes its time"


CHECKS = (
    the_kernel_tells_of_a_step,
    a_step_of_the_hosts_clock_is_followed,
    a_synchronised_kernel_is_believed,
    a_clock_nobody_set_is_not_believed,
    the_kernels_rtc_keeps_what_it_is_given,
)
