"""``python -m fuzz.collecting [LIVES]``: 40 days of half-hours reach the MDMS, whatever ends.

Real are the meter, a bench whose clock is moved, Mosquitto as the laboratory configures it, and the
collectors, processes of their own. While the days pass the broker is killed or stopped and stays
away, the meter loses its power, collectors get SIGKILL or end in order, and begin again. After each
stretch all that the meter thinks acknowledged must be stored; at the end the MDMS has every
half-hour once and as the meter has it, and the meter knows. What happens comes from the seed alone,
but not how far a message had got when it did.
"""

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from meter_runtime import report
from meter_runtime.bench import Bench, BenchOptions
from meter_runtime.clock import (
    HALF_HOUR_S,
    JST,
    SLOTS_PER_DAY,
    first_slot_of,
    slot_at,
    slot_start,
)
from meter_runtime.errors import MeterError
from meter_runtime.headend.lab import BROKER, MDMS, Lab
from meter_runtime.headend.readings_store import FILE_NAME
from meter_runtime.headend.readings_view import ReadingsView

DAYS = 40
BOUNDARIES = DAYS * SLOTS_PER_DAY + 1
START = datetime(2026, 8, 31, 23, 50, tzinfo=JST)
"""The first boundary opens a day."""
COLLECTORS = ("collector-1", "collector-2")
STRETCHES = 8
"""Of a life; something happens in each."""
HAPPENINGS = ("outage", "power-cut", "collector-killed", "collector-restarted")
LONGEST_PAUSE_S = 1.5
"""Real seconds until something happens, and while the broker is away: hours of the meter's."""
MARGIN_S = 120.0
"""A power cut ends so long before the boundary: a meter without power has none."""
ENDS_WITHIN_S = 30.0
SETTLES_WITHIN_S = 300.0
"""After outages in a row a client waits for up to two minutes before it connects again."""
LOOK_S = 1.0
AGAIN_S = 120.0
"""What is sent again is sent by the meter's clock, which is moved so far at each look."""

Value = tuple[int, int | None, int]
"""Forward and reverse register, flags."""


class Lost(MeterError):  # noqa: N818 - what was found, not an accident of ours
    """The MDMS has not what the meter has; the message names life and place."""


class Process:
    """A part of the utility's side, which may be ended and begun again; ``argv`` is its program.

    Nobody waits until it serves: the others have to bear that anyway.
    """

    def __init__(self, argv: Sequence[str | Path], log: Path) -> None:
        self._argv = tuple(argv)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv, stdout=log, stderr=log
            )

    async def end(self, number: signal.Signals) -> None:
        """In order or not; harmless where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        async with asyncio.timeout(ENDS_WITHIN_S):
            await process.wait()

    def check(self) -> None:
        """Raises :class:`MeterError` where it has ended by itself."""
        if self._process is None or self._process.returncode is not None:
            raise MeterError(f"{self._log.stem} has ended: {self._log.read_text()}")


def broker(lab: Lab, folder: Path) -> Process:
    """Mosquitto as the laboratory configures it."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        raise MeterError("mosquitto is missing; install it: sudo apt-get install mosquitto")
    configuration = lab.folder(BROKER) / "mosquitto.conf"
    return Process((program, "-c", configuration), folder / "mosquitto.log")


def collector(lab: Lab, folder: Path, name: str) -> Process:
    """``meter-runtime headend mdms``."""
    words = ("-m", "meter_runtime", "headend", "mdms", "--lab", lab.path, "--name", name)
    return Process((sys.executable, *words), folder / f"{name}.log")


class Life:
    """One meter's 40 days, and who collects them."""

    def __init__(self, seed: int, lab: Lab, folder: Path) -> None:
        self._rng = random.Random(f"collecting {seed}")
        self._lab = lab
        self._broker = broker(lab, folder)
        self._collectors = [collector(lab, folder, name) for name in COLLECTORS]
        self._bench = Bench(BenchOptions(seed=seed, start=START, lab=lab.path))
        self._meter_id = self._bench.options.meter_id
        self._first = slot_at(START.timestamp()) + 1
        self._store = lab.folder(MDMS) / FILE_NAME
        self.happened: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        """``sent`` and ``repeated``."""

    async def live(self) -> None:
        """All 40 days, and the settling after; raises :class:`Lost`."""
        async with AsyncExitStack() as stack:
            processes = (self._broker, *self._collectors)
            for process in processes:
                stack.push_async_callback(process.end, signal.SIGKILL)
                await process.start()
            await stack.enter_async_context(self._bench)
            for kinds in self._plan():
                await self._stretch(kinds)
                self._check_acknowledged()
            await self._bench.advance(max(0.0, self._end - self._bench.clock.wall()))
            for process in processes:
                process.check()
            await self._settle()
            self._note_messages()
            self._check_all()

    @property
    def _end(self) -> float:
        """A minute after the last boundary."""
        return slot_start(self._first + BOUNDARIES - 1) + 60.0

    def _plan(self) -> list[set[str]]:
        """What happens in each stretch: everything at least once, sometimes two at a time."""
        kinds = [*HAPPENINGS, *self._rng.choices(HAPPENINGS, k=STRETCHES - len(HAPPENINGS))]
        self._rng.shuffle(kinds)
        return [{kind, self._rng.choice(HAPPENINGS)} for kind in kinds]

    async def _stretch(self, kinds: set[str]) -> None:
        """A share of the days, and what happens meanwhile."""
        self.happened.update(kinds)
        troubles: dict[str, Callable[[random.Random], Coroutine[None, None, None]]] = {
            "outage": self._outage,
            "collector-killed": partial(_exchange, self._collectors[0], signal.SIGKILL),
            "collector-restarted": partial(_exchange, self._collectors[1], signal.SIGTERM),
        }
        # Each draws from its own: which of them comes first is not the seed's.
        meanwhile = [
            troubles[kind](random.Random(self._rng.random()))
            for kind in sorted(kinds)
            if kind in troubles
        ]
        await asyncio.gather(self._days(power_cut="power-cut" in kinds), *meanwhile)

    async def _days(self, *, power_cut: bool) -> None:
        length_s = DAYS * 86_400 / STRETCHES
        share = self._rng.random()
        await self._pass(share * length_s)
        if power_cut:
            await self._power_cut()
        await self._pass((1 - share) * length_s)

    async def _pass(self, seconds: float) -> None:
        """Real time goes on, too; but not beyond the last boundary."""
        left_s = self._end - self._bench.clock.wall()
        await self._bench.advance(max(0.0, min(seconds, left_s)))
        await asyncio.sleep(self._rng.uniform(0, LONGEST_PAUSE_S / 4))

    async def _outage(self, rng: random.Random) -> None:
        await _pause(rng)
        await self._broker.end(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        await _pause(rng)
        await self._broker.start()

    async def _power_cut(self) -> None:
        """Wholly within one half-hour: every boundary finds the meter at work."""
        if self._left_s < 2 * MARGIN_S:
            await self._bench.advance(self._left_s + 60.0)
        down_s = self._rng.uniform(0, self._left_s - MARGIN_S)
        self._note_messages()
        cut = asyncio.create_task(self._bench.reboot(down_s))
        stores = self._bench.meter.stores
        async with asyncio.timeout(ENDS_WITHIN_S):
            while not stores.closed:  # noqa: ASYNC110 - nobody tells when the power is off
                await asyncio.sleep(0.01)
        await self._bench.advance(down_s)
        await cut

    @property
    def _left_s(self) -> float:
        """Until the next boundary."""
        return HALF_HOUR_S - self._bench.clock.wall() % HALF_HOUR_S

    async def _settle(self) -> None:
        """Let the meter come to an end with what it has to tell, later boundaries included."""
        until = time.monotonic() + SETTLES_WITHIN_S
        while (told := self._told())["queued"]:
            if time.monotonic() > until:
                raise Lost(f"{told['queued']} half-hours are not acknowledged: {told}")
            await asyncio.sleep(LOOK_S)
            if self._told()["connected"]:
                await self._bench.advance(AGAIN_S)

    def _told(self) -> dict[str, object]:
        told: dict[str, object] = self._bench.status()["aroute"]
        return told

    def _note_messages(self) -> None:
        aroute = self._bench.meter.aroute
        assert aroute is not None
        readings = aroute.report()["counters"]["readings"]
        self.messages.update({name: readings[name] for name in ("sent", "repeated")})

    def _truth(self) -> dict[int, Value]:
        """What the meter has, as an operator exports it."""
        page = report.export_page(self._bench.meter, HALF_HOUR_S, None)
        assert page["next"] is None
        return {
            slot: (forward, reverse, flags) for slot, forward, reverse, flags in page["records"]
        }

    def _stored(self, view: ReadingsView) -> dict[int, Value]:
        rows = [row for row in view.readings(0, 2**40) if row.meter_id == self._meter_id]
        if len({row.unit for row in rows}) > 1 or len({row.slot for row in rows}) < len(rows):
            raise Lost("a half-hour is stored twice")
        return {row.slot: (row.forward_dwh, row.reverse_dwh, int(row.flags)) for row in rows}

    def _check_acknowledged(self) -> None:
        upto = self._told()["acknowledged_up_to"]
        if upto is None:
            return
        last = slot_at(datetime.fromisoformat(str(upto)).timestamp())
        truth = self._truth()
        with ReadingsView(self._store) as view:
            stored = self._stored(view)
        for slot in range(self._first, last + 1):
            _compare(slot, truth, stored, "acknowledged")

    def _check_all(self) -> None:
        truth = self._truth()
        with ReadingsView(self._store) as view:
            stored = self._stored(view)
            gaps = view.gaps(self._bench.clock.wall(), self._meter_id)
            used = [
                half_hour.used_dwh
                for day in range(DAYS)
                for each in view.day(self._first_of(day), 2**40, self._meter_id)
                for half_hour in each.half_hours
            ]
        last = self._first + BOUNDARIES - 1
        for slot in range(self._first, last + 1):
            _compare(slot, truth, stored, "told")
        if stored != truth:
            raise Lost(
                f"beside the {BOUNDARIES} boundaries {len(stored)} are stored of {len(truth)}"
            )
        if gaps:
            raise Lost(f"gaps are shown: {gaps}")
        total = truth[last][0] - truth[self._first][0]
        if len(used) != BOUNDARIES - 1 or None in used or sum(filter(None, used)) != total:
            raise Lost(f"{len(used)} intervals do not add up to {total} dWh")

    def _first_of(self, day: int) -> int:
        return first_slot_of((START + timedelta(days=day + 1)).date())


async def _exchange(process: Process, number: signal.Signals, rng: random.Random) -> None:
    await _pause(rng)
    await process.end(number)
    await process.start()


async def _pause(rng: random.Random) -> None:
    await asyncio.sleep(rng.uniform(0, LONGEST_PAUSE_S))


def _compare(slot: int, truth: dict[int, Value], stored: dict[int, Value], how: str) -> None:
    if slot not in truth:
        raise Lost(f"the meter itself has no boundary {slot}")
    if stored.get(slot) != truth[slot]:
        raise Lost(f"boundary {slot} is {how} as {truth[slot]}, and stored is {stored.get(slot)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _collect(lives: int, seed: int) -> None:
    for number in range(lives):
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="collecting-") as name:
            lab = Lab.create(Path(name, "lab"), broker_port=_free_port())
            life = Life(seed + number, lab, Path(name))
            try:
                await life.live()
            except Lost as lost:
                raise Lost(f"seed {seed + number}: {lost}") from None
        happened = ", ".join(f"{life.happened[kind]} {kind}" for kind in HAPPENINGS)
        print(
            f"seed {seed + number}: {BOUNDARIES} boundaries in {time.monotonic() - began:.0f} s;"
            f" {happened}; {life.messages['sent']} messages,"
            f" {life.messages['repeated']} of them again",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 nothing was lost, 1 something was, 2 wrong use."""
    parser = argparse.ArgumentParser(
        prog="dev collect",
        description="Let the half-hours of 40 days reach the MDMS through whatever ends meanwhile.",
        epilog="example: ./dev collect 100 --seed 7",
    )
    parser.add_argument("lives", nargs="?", type=int, default=20, help="how many (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the first (1); then one more each")
    args = parser.parse_args(argv)
    try:
        asyncio.run(_collect(args.lives, args.seed))
    except MeterError as failure:
        print(f"collect: {failure}", file=sys.stderr)
        return 1
    print(f"{args.lives} lives, every half-hour collected once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
