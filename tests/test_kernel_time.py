"""The host's kernel, asked for real: who keeps its clock, and when it was set."""

import asyncio
import ctypes
import struct
import time

import pytest

from meter_runtime.kernel_time import KernelTime

_ADJ_SETOFFSET = 0x0100
_STA_UNSYNC = 0x0040
_STATUS_AT = 8 + 4 * struct.calcsize("l")
_TIME_AT = _STATUS_AT + 8 + 3 * struct.calcsize("l")

needs_linux = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "adjtimex") or struct.calcsize("l") != 8,
    reason="reads struct timex as 64-bit Linux has it",
)


def adjtimex(modes: int = 0, seconds: int = 0, microseconds: int = 0) -> tuple[int, int]:
    """What the call returned, and the status bits it gave."""
    timex = ctypes.create_string_buffer(512)
    struct.pack_into("I", timex, 0, modes)
    struct.pack_into("qq", timex, _TIME_AT, seconds, microseconds)
    returned: int = ctypes.CDLL(None).adjtimex(timex)
    (status,) = struct.unpack_from("i", timex, _STATUS_AT)
    return returned, status


def may_set_the_clock() -> bool:
    return adjtimex(_ADJ_SETOFFSET)[0] >= 0


@needs_linux
def test_the_kernel_says_whether_its_clock_is_kept() -> None:
    returned, status = adjtimex()
    assert KernelTime().synchronised() == (returned >= 0 and not status & _STA_UNSYNC)


def test_both_clocks_are_read_at_one_instant() -> None:
    host = KernelTime()
    monotonic, wall = host.read()
    assert abs(monotonic - time.monotonic()) < 1
    assert abs((wall - monotonic) - (time.time() - time.monotonic())) < 0.1
    assert host.monotonic() >= monotonic


@needs_linux
async def test_the_kernel_tells_at_once_when_its_clock_is_set_and_again() -> None:
    """By a microsecond forward, and back."""
    if not may_set_the_clock():
        pytest.skip("setting the clock, if by a microsecond only, needs CAP_SYS_TIME")
    told = asyncio.Event()
    stop = KernelTime().watch(told.set)
    try:
        for seconds, microseconds in ((0, 1), (-1, 999_999)):
            told.clear()
            adjtimex(_ADJ_SETOFFSET, seconds, microseconds)
            async with asyncio.timeout(5):
                await told.wait()
    finally:
        stop()


async def test_a_watch_that_is_stopped_leaves_nothing_in_the_loop() -> None:
    told: list[int] = []
    host = KernelTime()
    for _ in range(3):
        stop = host.watch(lambda: told.append(1))
        stop()
    await asyncio.sleep(0)
    assert told == []


async def test_a_kernel_that_does_not_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare:
        """A C library without Linux's calls."""

    class Refusing:
        """A sandbox that forbids them."""

        @staticmethod
        def adjtimex(_: object) -> int:
            return -1

        @staticmethod
        def timerfd_create(_clock: int, _flags: int) -> int:
            return -1

    for libc in (Bare(), Refusing()):
        host = KernelTime()
        monkeypatch.setattr(host, "_libc", libc)
        assert not host.synchronised()
        host.watch(lambda: None)()
