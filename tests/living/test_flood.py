"""A home that asks five hundred times a second: it is answered as often as it may, and the meter
measures, stores and obeys as ever.

The flood is a process of its own at a virtual module. What carries it is the laboratory's: a
pseudo-terminal has no bit rate, and a fast room no airtime. A serial line at 115 200 baud brings a
meter some 80 requests a second.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from meter_runtime.bench.hems_flood import TAIL_S
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.bench.scripted_hems import PASSWORD_VARIABLE
from meter_runtime.broute.requests import BURST, RATE_PER_S
from meter_runtime.clock import HALF_HOUR_S, slot_start
from meter_runtime.metrology.events import BoundaryStored

from .utility_room import desk

RATE = 500
SECONDS = 9
LEAD_S = 3.0
"""The flood begins so long before a boundary, less what a join takes. The half-hour values leave at
most 5 s after it."""

STORED_WITHIN_S = 1.0
ANSWERED_WITHIN_S = 3.0
GROWTH_MB = 16.0
"""What is kept of frames and happenings for people fills up meanwhile."""

QUICK = BenchOptions(
    hems_modules=("bp35a1:echo=0,pace=0ms",), meter_module="bp35a1:pace=0ms", history_days=1
)


class Flood:
    """The flooding HEMS of another process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        assert process.stdout is not None
        self._out = process.stdout

    async def says(self, word: str) -> str:
        """Its next line, which begins with this word; the rest of it."""
        async with asyncio.timeout(SECONDS + 20):
            line = (await self._out.readline()).decode()
        assert line.startswith(word), line
        return line.removeprefix(word)

    async def counted(self) -> tuple[int, int, float]:
        """How many requests were sent and answered, and how long that took."""
        told = json.loads(await self.says("flooded"))
        return told["sent"], told["answered"], told["took_s"]


@asynccontextmanager
async def flooded(bench: Bench) -> AsyncIterator[Flood]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "meter_runtime.bench.hems_flood", bench.tty, bench.route_b_id),
        *("--rate", str(RATE), "--seconds", str(SECONDS)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, PASSWORD_VARIABLE: bench.password},
    )
    try:
        yield Flood(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def test_a_flood_of_requests_impairs_neither_metering_nor_the_utility() -> None:
    async with Bench(QUICK) as bench, desk(bench) as utility:
        clock, late = bench.clock, []
        bench.meter.bus.subscribe(
            BoundaryStored, lambda event: late.append(clock.wall() - slot_start(event.slot))
        )
        await bench.advance(HALF_HOUR_S - clock.wall() % HALF_HOUR_S - LEAD_S)
        late.clear()
        async with flooded(bench) as flood:
            await flood.says("joined")
            before_mb = resident_mb()
            counting = asyncio.create_task(flood.counted())
            waits = []
            while not counting.done():
                begun = time.monotonic()
                await utility.details("register.read")
                waits.append(time.monotonic() - begun)
                await asyncio.wait((counting,), timeout=0.3)
            sent, answered, took_s = await counting
            assert sent >= 0.9 * RATE * SECONDS
            assert resident_mb() - before_mb < GROWTH_MB
        counters = bench.status()["broute"]["counters"]

        # The boundary, in the middle of it all.
        [stored_late] = late
        assert 0 <= stored_late < STORED_WITHIN_S
        assert len(waits) >= SECONDS
        assert max(waits) < ANSWERED_WITHIN_S

        # The home has what is its due, and no more.
        assert RATE_PER_S * SECONDS / 4 <= answered <= BURST + RATE_PER_S * (took_s + TAIL_S)
        lost = counters["rx_over_limit"] + counters["rx_overtaken"] + counters["rx_dropped"]
        # On a busy machine a few are still on their way.
        assert sent * 0.9 <= lost + answered <= counters["rx"] <= sent
        assert counters["announced"] == 1
