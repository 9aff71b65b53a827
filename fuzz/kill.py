"""``python -m fuzz.kill [TIMES]``: a bench meter is killed at random moments and loses nothing.

The meter is ``meter-runtime bench`` on a kept state, a process of its own that gets SIGKILL while
it starts, is joined, idles, is advanced over boundaries, or passes one in real time. momonga,
unmodified and a process of its own, reads on through all of it. Whatever it or the operator is
served must be the truth of :mod:`fuzz.kill_record` or no data, and what was served once must be
served for ever; registers and clock never go back. The moments come from the seed alone.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fuzz.kill_record import (
    DIRECTIONS,
    DWH_PER_COUNT,
    Broken,
    Record,
    Truth,
    Values,
    counts_of,
    dwh_of,
)
from meter_runtime import control
from meter_runtime.bench.scripted_hems import PASSWORD_VARIABLE
from meter_runtime.broute.echonet.history import HISTORY_DAYS
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import MeterError

COMMAND = Path(sys.executable).with_name("meter-runtime")
MOMENTS = ("start-up", "joining", "idle", "mid-advance", "mid-boundary")
UP_WITHIN_S = 30.0
JOINS_WITHIN_S = 30.0
SWEEP_WITHIN_S = 120.0
ADVANCE_WITHIN_S = 60.0
STARTS_IN_S = 2.0
"""About: within this a start-up is killed."""
JOINS_IN_S = 2.5
"""About, as well."""
ABOUT_BOUNDARY_S = 0.8
"""How long before a boundary, and after it, real time runs."""
LEAST_EXACT = 0.9
"""Of the values: an advance passes each boundary at its very instant, real time a little later."""
_BAD_WORDS = ("UnitRestarted", "ReadingFellBack", "Traceback")


class Killing:
    """One kept meter and its HEMS, and what becomes of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._rng = random.Random(f"kill {seed}")
        self._state = folder / "state"
        self._control = folder / "control.sock"
        self._log = folder / "bench.log"
        self._env = {**os.environ, "TMPDIR": str(folder)}
        self._bench: asyncio.subprocess.Process | None = None
        self._reader: asyncio.subprocess.Process | None = None
        self._ready: dict[str, Any] = {}
        self._record: Record | None = None
        self._where = "before the first kill"
        self._joined = asyncio.Event()
        self._days: dict[date, list[tuple[int | None, ...]]] = {}
        """What the HEMS has read of each day since the last start."""
        self._seen = asyncio.Condition()
        self._clock = ""
        self._per_hour_s = 0.1
        """Real seconds that an hour of an advance takes."""
        self.stored = 0
        self.kills: collections.Counter[str] = collections.Counter()
        self.joins = 0
        self.cut = 0
        """Advances that were killed on the way."""

    @property
    def record(self) -> Record:
        """What was served so far."""
        if self._record is None:
            self._record = Record(Truth(self._seed, self._state))
        return self._record

    async def run(self, times: int) -> None:
        """Kill it so often, then look at everything once more. Raises :class:`Broken`."""
        await self._start()
        meter = self._ready["meters"][0]
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(meter))
                await self._live_and_die(times)
                reading.cancel()
        except* (MeterError, TimeoutError) as failures:
            first = failures.exceptions[0]
            said = str(first) or "the bench did not answer in time"
            raise Broken(f"{self._where}: {said}\n{self._tail()}") from first
        await self._end()

    async def _live_and_die(self, times: int) -> None:
        moments: list[str] = []
        for number in range(1, times + 1):
            if not moments:
                moments = self._rng.sample(MOMENTS, len(MOMENTS))
            await self._live_until(moments.pop(), number)
        self._where = f"after {times} kills of seed {self._seed}"
        await self._start()
        await self._settle_accounts()

    async def _live_until(self, moment: str, number: int) -> None:
        """One life and its end."""
        self._where = f"kill {number} of seed {self._seed} ({moment})"
        if self._bench is None:
            await self._start(wait=moment != "start-up")
        rng = self._rng
        if moment == "start-up":
            await asyncio.sleep(rng.uniform(0, STARTS_IN_S))
        elif moment == "joining":
            await asyncio.sleep(rng.uniform(0, JOINS_IN_S))
        else:
            await self._check_operator_view()
            if moment == "idle" or rng.random() < 0.5:
                await self._home_joins()
            await self._advance(rng.uniform(0.5, 5) * 3600)
            await self._check_operator_view()
            match moment:
                case "idle":
                    await asyncio.sleep(rng.uniform(0, 1))
                case "mid-advance":
                    hours = rng.uniform(1, 6)
                    on_the_way = asyncio.create_task(self._advance(hours * 3600))
                    await asyncio.sleep(rng.uniform(0, hours * self._per_hour_s))
                    self.cut += not on_the_way.done()
                    await self._kill()
                    await asyncio.gather(on_the_way, return_exceptions=True)
                case _:
                    now = await self._status()
                    left = HALF_HOUR_S - now % HALF_HOUR_S - ABOUT_BOUNDARY_S
                    await self._advance(max(0.0, left))
                    await asyncio.sleep(rng.uniform(0, 2 * ABOUT_BOUNDARY_S))
                    await self._check_operator_view()
        await self._kill()
        self.kills[moment] += 1
        told = f"{self.stored} stored, {self.joins} joins" if self._record else "nothing stored yet"
        print(f"kill {number}: {moment}; {told}", flush=True)

    async def _start(self, wait: bool = True) -> None:
        self._days.clear()
        self._joined.clear()
        with self._log.open("ab") as log:
            self._bench = await asyncio.create_subprocess_exec(
                *(COMMAND, "bench", "--no-ui", "--seed", str(self._seed), "--state", self._state),
                *("--tty-dir", self._folder / "tty", "--control", self._control),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._env,
            )
        if wait:
            await self._up()

    async def _up(self) -> None:
        """Wait until it serves."""
        bench = self._bench
        assert bench is not None
        assert bench.stdout is not None
        async with asyncio.timeout(UP_WITHIN_S):
            line = await bench.stdout.readline()
        if not line:
            raise Broken("the bench did not start")
        self._ready = json.loads(line)
        await self._status()

    async def _kill(self) -> None:
        """SIGKILL, whatever it does; nothing where that was done already."""
        bench, self._bench = self._bench, None
        if bench is None:
            return
        if bench.returncode is not None:
            raise Broken("the bench had ended by itself")
        bench.kill()
        await bench.wait()
        # As for a device that is gone; its number may be another terminal's by now.
        for link in (self._folder / "tty").glob("hems*"):
            link.unlink()

    async def _end(self) -> None:
        """It still ends as it should, and never doubted its metering unit."""
        bench = self._bench
        assert bench is not None
        bench.send_signal(signal.SIGINT)
        async with asyncio.timeout(UP_WITHIN_S):
            status = await bench.wait()
        log = self._log.read_text("utf-8", "replace")
        bad = [word for word in _BAD_WORDS if word in log]
        if status != 0 or bad:
            raise Broken(f"it ended with {status} and its log tells {bad}:\n{self._tail()}")

    async def close(self) -> None:
        """Leave no process behind."""
        for process in (self._bench, self._reader):
            if process is not None and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _tail(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:]

    # The operator

    async def _advance(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await control.request(self._control, "advance", timeout_s=ADVANCE_WITHIN_S, seconds=seconds)
        if seconds >= HALF_HOUR_S:
            self._per_hour_s = (loop.time() - began) / (seconds / 3600)

    async def _status(self) -> float:
        """The meter's clock, UTC seconds. Neither it nor a register may go back."""
        status = await control.request(self._control, "status")
        now = status["clock"]["now"]
        if now < self._clock:
            raise Broken(f"the clock shows {now} after {self._clock}")
        self._clock = now
        self.stored = status["history"]["stored"]
        registers = status["registers"]
        values = registers["forward_wh"], registers["reverse_wh"]
        if None not in values:
            self.record.registers(values, 0)
        return datetime.fromisoformat(now).timestamp()

    async def _check_operator_view(self) -> None:
        """Every day to 0.1 Wh, as far back as anything may be stored."""
        for day in range(HISTORY_DAYS + 1):
            for direction, name in enumerate(DIRECTIONS):
                answer = await control.request(
                    self._control, "history", day=day, reverse=name == "reverse"
                )
                values = dwh_of(answer["values_wh"])
                when = date.fromisoformat(answer["date"])
                self.record.take(Values(when, direction, values, 1))
            if when < self.record.first_day:
                break

    # The home

    async def _read(self, meter: dict[str, Any]) -> None:
        """Run the HEMS, and hold what it reads against the truth."""
        while True:
            self._reader = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fuzz.kill_reader", meter["hems_modules"][0]["tty"]),
                *(meter["route_b_id"], str(self._seed)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={**self._env, PASSWORD_VARIABLE: meter["password"]},
            )
            assert self._reader.stdout is not None
            while line := await self._reader.stdout.readline():
                await self._heard(json.loads(line))

    async def _heard(self, told: dict[str, Any]) -> None:
        match told:
            case {"joined": True}:
                self.joins += 1
                self._joined.set()
            case {"date": str(day), "kwh": [forward, reverse]}:
                rows = [counts_of(forward), counts_of(reverse)]
                for direction, counts in enumerate(rows):
                    values = Values(date.fromisoformat(day), direction, counts, DWH_PER_COUNT)
                    self.record.take(values)
                async with self._seen:
                    self._days[date.fromisoformat(day)] = rows
                    self._seen.notify_all()
            case {"register_kwh": [float(forward), float(reverse)]}:
                self.record.registers((forward, reverse), DWH_PER_COUNT)
            case _:
                pass

    async def _home_joins(self) -> None:
        try:
            async with asyncio.timeout(JOINS_WITHIN_S):
                await self._joined.wait()
        except TimeoutError:
            raise Broken(f"the home did not join within {JOINS_WITHIN_S:g} s") from None

    async def _settle_accounts(self) -> None:
        """All of the history over the B-route, and that it is the operator's."""
        if HALF_HOUR_S - await self._status() % HALF_HOUR_S < SWEEP_WITHIN_S:
            await self._advance(SWEEP_WITHIN_S)  # no boundary between this look and the next
        async with asyncio.timeout(SWEEP_WITHIN_S), self._seen:
            await self._seen.wait_for(lambda: len(self._days) > HISTORY_DAYS)
        await self._check_operator_view()
        home, operator = self.record.known(DWH_PER_COUNT), self.record.known(1)
        if home != operator:
            raise Broken(f"home and operator differ in {sorted(home ^ operator)}")


@asynccontextmanager
async def killing(seed: int) -> AsyncIterator[Killing]:
    """A meter to kill, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="kill-", ignore_cleanup_errors=True) as folder:
        one = Killing(Path(folder), seed)
        try:
            yield one
        finally:
            await one.close()


def kill(times: int, seed: int) -> str:
    """Kill a meter so often; the summary. Raises :class:`Broken`."""

    async def run() -> str:
        async with killing(seed) as one:
            await one.run(times)
        record = one.record
        boundaries = len(record.known(1)) // len(DIRECTIONS)
        exact = record.exact() // len(DIRECTIONS)
        if boundaries < times // 2 or exact < LEAST_EXACT * boundaries:
            raise Broken(f"too little to judge by: {boundaries} boundaries, {exact} of them exact")
        killed = ", ".join(f"{one.kills[moment]} {moment}" for moment in MOMENTS)
        return (
            f"{times} kills ({killed}), {one.cut} advances cut,"
            f" {one.joins} joins: {boundaries} boundaries served,"
            f" {exact} of them at their very instant, {record.checked} values held against the"
            " truth; nothing lost, nothing invented"
        )

    return asyncio.run(run())


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing was lost, 1 something was, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="dev kill",
        description="Kill a meter at random moments while momonga reads it; it loses nothing.",
        epilog="example: ./dev kill 200 --seed 7",
    )
    parser.add_argument("times", nargs="?", type=int, default=200, help="how often (200)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    args = parser.parse_args(argv)
    if args.times < 1:
        parser.error("kill it once at least")
    try:
        print(kill(args.times, args.seed))
    except Broken as failure:
        print(f"kill: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
