"""A disk that is full, read-only or failing under a living meter: it meters and serves on.

The faults are the kernel's own: file systems that have no room, that are mounted read-only, and
whose device returns EIO; and a limit on the process that makes each write fail.
"""

import asyncio
import contextlib
import json
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meter_runtime import control
from meter_runtime.clock import HALF_HOUR_S, jst, slot_at, slot_start
from meter_runtime.storage.media import FILE_PAGE, FILE_WRITE_UNIT
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, RECORD_SIZE, Ring
from meter_runtime.storage.stores import RING_FILE

from .program import COMMAND, PATIENCE_S, Program
from .small_disk import SmallDisk, in_memory, on_loop_device
from .terminal import Terminal

FAULTY, WELL = b"\x41", b"\x42"
FAULT_STATUS, NEWEST_VALUE = 0x88, 0xEA
DWH_PER_COUNT = 1000
BEFORE = 4
"""Boundaries stored before a fault: the last one in its page of the file."""
DURING = 4
HEALS_WITHIN = 3
"""Boundaries until storage is tried again."""


def start() -> str:
    """A time so chosen that the boundaries before the fault end a page of the load profile."""
    page_ends = (2 * FILE_PAGE - Ring.size_for(0, FILE_WRITE_UNIT)) // RECORD_SIZE
    now = slot_at(time.time())
    slot = now - (now - page_ends + BEFORE + 1) % LOAD_PROFILE_DEPTH
    return jst(slot_start(slot) + 60).isoformat()


class Kept:
    """A bench that keeps its state, and what its operator asks of it."""

    def __init__(self, program: Program, control_path: Path, ready: dict[str, Any]) -> None:
        self.pid = program.pid
        self._control = control_path
        self._meter = ready["meters"][0]

    async def ask(self, what: str, **arguments: object) -> Any:
        return await control.request(self._control, what, timeout_s=PATIENCE_S, **arguments)

    async def advance(self, half_hours: float) -> None:
        await self.ask("advance", seconds=half_hours * HALF_HOUR_S)

    async def state(self) -> str:
        """Of the metering unit: "active" or "faulted"."""
        return str((await self.ask("status"))["units"]["metering"]["state"])

    async def values(self) -> list[float]:
        """Every boundary that is served, oldest first; none may be missing between (Wh)."""
        found: list[float | None] = []
        for day in (2, 1, 0):
            found += (await self.ask("history", day=day))["values_wh"]
        while found and found[0] is None:
            found.pop(0)
        while found and found[-1] is None:
            found.pop()
        values = [value for value in found if value is not None]
        assert len(values) == len(found), "a boundary is missing among the others"
        return values

    @asynccontextmanager
    async def home(self) -> AsyncIterator[Terminal]:
        """A HEMS that has joined."""
        async with Terminal(self._meter["hems_modules"][0]["tty"]).opened() as hems:
            await hems.join(self._meter["route_b_id"], self._meter["password"])
            yield hems


@asynccontextmanager
async def started(folder: Path, *argv: str | Path) -> AsyncIterator[Program]:
    """This program, killed without warning when the block ends."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def bench_command(folder: Path, state: Path) -> tuple[str | Path, ...]:
    places = ("--control", folder / "control.sock", "--tty-dir", folder / "tty")
    return (COMMAND, "bench", "--no-ui", "--start", start(), "--state", state, *places)


@asynccontextmanager
async def bench(folder: Path, disk: SmallDisk | None = None) -> AsyncIterator[Kept]:
    """A bench whose state is on this disk, or in the folder; killed when the block ends."""
    argv = bench_command(folder, (folder if disk is None else disk.path) / "state")
    async with started(folder, *(argv if disk is None else disk.inside(*argv))) as program:
        yield Kept(program, folder / "control.sock", json.loads(await program.line()))


async def lives_through(
    meter: Kept, breaks: Callable[[], Awaitable[None]], heals: Callable[[], Awaitable[None]]
) -> list[float]:
    """The meter tells that storage fails, serves on, and catches up; what it has then."""
    async with meter.home() as home:
        before = await meter.values()
        await breaks()
        await meter.advance(DURING)
        assert await meter.state() == "faulted"
        assert await home.get(FAULT_STATUS) == FAULTY
        during = await meter.values()
        assert during[: len(before)] == before
        assert len(during) == len(before) + DURING
        newest = await home.get(NEWEST_VALUE)
        assert int.from_bytes(newest[7:]) == round(during[-1] * 10) // DWH_PER_COUNT

        await heals()
        for _ in range(HEALS_WITHIN):
            await meter.advance(1)
            if await meter.state() == "active":
                break
        assert await home.get(FAULT_STATUS) == WELL
        after = await meter.values()
        assert after[: len(during)] == during
        return after


async def test_a_full_disk_is_nothing_to_a_meter(folder: Path) -> None:
    async with in_memory(folder / "disk") as disk:
        async with bench(folder, disk) as meter, meter.home() as home:
            await disk.fill()
            await meter.advance(BEFORE + DURING)
            assert await meter.state() == "active"
            assert await home.get(FAULT_STATUS) == WELL
            values = await meter.values()
            assert len(values) == BEFORE + DURING
        async with bench(folder, disk) as again:
            assert (await again.values())[: len(values)] == values


async def test_values_that_find_no_room_wait_for_it(folder: Path) -> None:
    """As on a file system that copies on write, where no room is ever reserved."""
    async with in_memory(folder / "disk") as disk:
        async with bench(folder, disk) as meter:
            await meter.advance(BEFORE)
            await disk.do(f"fallocate --dig-holes {disk.path}/state/{RING_FILE}")
            values = await lives_through(meter, disk.fill, disk.free)
        async with bench(folder, disk) as again:
            assert (await again.values())[: len(values)] == values


async def test_values_that_a_failing_disk_refuses_wait_for_it(folder: Path) -> None:
    image = folder / "image"

    async with on_loop_device(folder / "disk", image) as disk:

        async def breaks() -> None:
            disk.fail(True)

        async def heals() -> None:
            disk.fail(False)

        async with bench(folder, disk) as meter:
            await meter.advance(BEFORE)
            values = await lives_through(meter, breaks, heals)
    # Mounted anew: what is read is on the disk, not in the kernel's memory of it.
    async with on_loop_device(folder / "disk", image) as disk, bench(folder, disk) as again:
        assert (await again.values())[: len(values)] == values


async def test_values_that_the_kernel_refuses_wait_for_it(folder: Path) -> None:
    async with bench(folder) as meter:
        _, most = resource.prlimit(meter.pid, resource.RLIMIT_FSIZE)

        async def breaks() -> None:
            resource.prlimit(meter.pid, resource.RLIMIT_FSIZE, (0, most))

        async def heals() -> None:
            resource.prlimit(meter.pid, resource.RLIMIT_FSIZE, (most, most))

        await meter.advance(BEFORE)
        values = await lives_through(meter, breaks, heals)
    async with bench(folder) as again:
        assert (await again.values())[: len(values)] == values


async def test_a_meter_on_a_read_only_disk_serves_until_it_can_store(folder: Path) -> None:
    async def already() -> None:
        """It was read-only when the meter started."""

    async with in_memory(folder / "disk") as disk:
        async with bench(folder, disk) as meter:
            await meter.advance(BEFORE)
            kept = await meter.values()
        await disk.read_only()
        async with bench(folder, disk) as meter:
            assert await meter.values() == kept
            values = await lives_through(meter, already, disk.writable)
            assert values[: len(kept)] == kept
        async with bench(folder, disk) as again:
            assert (await again.values())[: len(values)] == values


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("full", "No space left on device; free space on its file system"),
        ("read-only", "Read-only file system"),
    ],
)
async def test_a_new_meter_without_room_says_so_in_one_line(
    folder: Path, trouble: str, said: str
) -> None:
    async with in_memory(folder / "disk") as disk:
        await disk.do(f"mkdir {disk.path}/state")
        await (disk.fill() if trouble == "full" else disk.read_only())
        argv = bench_command(folder, disk.path / "state")
        async with started(folder, *disk.inside(*argv)) as program:
            ended = await program.ended()
        assert (ended.status, ended.out) == (1, "")
        [line] = ended.err.splitlines()
        assert line.startswith(f"meter-runtime: {disk.path}/state/")
        assert said in line
