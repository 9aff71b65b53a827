"""What a durable half hour costs: bytes and time, beside SQLite and beside the least there is.

A year of half hours goes through the real ring and the real register store, into files and onto a
model of the FRAM chip. Beside each half hour in files, SQLite (WAL, ``synchronous=FULL``) stores
the same in one transaction, and a preallocated file gets 32 bytes and an ``fdatasync``: the least
a durable half hour can be. The three take turns, each of them first as often as the others, so
that the disk's moods meet them alike. At the end all hold the same year, or it is no measurement.

Bytes asked are what went into write calls. Bytes on the device are counted by its driver, whoever
wrote them: told is the quietest tenth of the half hours, which a write of the meter's own cannot
escape, yet other programs' can (and so can a checkpoint of SQLite's). Where the file system has no
device of its own that count is left out. The metadata is the files' times and the journal that
keeps them: written within seconds of a half hour, and not waited for.
"""

import itertools
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.row import Row
from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.mb85rc256v import DEFAULT_ADDRESS, Mb85rc256v
from meter_runtime.clock import HALF_HOUR_S, SLOTS_PER_DAY
from meter_runtime.storage.media import FILE_WRITE_UNIT, FileMedia
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import FINE_DEPTHS, LOAD_PROFILE_DEPTH, Record, Ring
from meter_runtime.storage.stores import open_file_stores, open_fram_stores

HALF_HOURS = 365 * SLOTS_PER_DAY
WITHIN_S = 40.0
"""A slow disk lives through less than a year: so long, at most."""
SETTLED = 24
"""Half hours whose metadata is awaited."""
OPENINGS = 15

DEVICE_AIM = 8192
"""Bytes: a page for the ring and one for the registers."""
CHIP_AIM = 64
APPEND_AIM = 1.3
RECOVERY_AIM_MS = 50.0

_SERIAL = "BENCHMARK"
_MARK = unit_mark(_SERIAL)
_FIRST_SLOT = 1_000_000
_BARE_BYTES = 32
_SECTOR = 512

Store = Callable[[Record], None]


class FileContender:
    """Ring and registers in files, as the meter has them."""

    def __init__(self, directory: Path) -> None:
        self._stores = open_file_stores(directory, fine=False)
        self.ring = Ring.open(self._stores.ring, HALF_HOUR_S, LOAD_PROFILE_DEPTH, _SERIAL)
        self._registers = RegisterStore(self._stores.registers)
        self.append_s: list[float] = []

    def store(self, record: Record) -> None:
        began = time.perf_counter()
        self.ring.append(record.slot, record.forward_dwh, record.reverse_dwh, record.flags)
        self.append_s.append(time.perf_counter() - began)
        self._registers.save(_checkpoint(record))

    def kept(self) -> list[tuple[int, int, int, int]]:
        return [_fields(record) for record in self.ring.records()]

    def close(self) -> None:
        self._stores.close()


class SqliteContender:
    """The same in a database: a table as long as the ring, and a row of registers."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._base = sqlite3.connect(directory / "meter.sqlite", isolation_level=None)
        self._base.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE profile(place INTEGER PRIMARY KEY, slot, forward, reverse, flags);"
            "CREATE TABLE registers(id INTEGER PRIMARY KEY, forward, reverse,"
            " unit_forward, unit_reverse, unit, wall);"
        )

    def store(self, record: Record) -> None:
        now = _checkpoint(record)
        registers = (now.forward_mwh, now.reverse_mwh, now.unit_forward_mwh, now.unit_reverse_mwh)
        execute = self._base.execute
        execute("BEGIN IMMEDIATE")
        execute(
            "INSERT OR REPLACE INTO profile VALUES(?, ?, ?, ?, ?)",
            (record.slot % LOAD_PROFILE_DEPTH, *_fields(record)),
        )
        execute(
            "INSERT OR REPLACE INTO registers VALUES(1, ?, ?, ?, ?, ?, ?)",
            (*registers, now.unit, now.wall),
        )
        execute("COMMIT")

    def kept(self) -> list[tuple[int, int, int, int]]:
        rows = self._base.execute("SELECT slot, forward, reverse, flags FROM profile ORDER BY slot")
        return rows.fetchall()

    def close(self) -> None:
        self._base.close()


class BareContender:
    """The least: a few bytes into a file that has its space already, and wait for the disk."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._size = Ring.size_for(LOAD_PROFILE_DEPTH, FILE_WRITE_UNIT)
        self._fd = os.open(directory / "bare", os.O_RDWR | os.O_CREAT, 0o600)
        os.write(self._fd, bytes(self._size))
        os.fsync(self._fd)
        self.write_s: list[float] = []

    def store(self, record: Record) -> None:
        data = record.slot.to_bytes(_BARE_BYTES, "big")
        offset = record.slot * _BARE_BYTES % (self._size - _BARE_BYTES)
        began = time.perf_counter()
        os.pwrite(self._fd, data, offset)
        os.fdatasync(self._fd)
        self.write_s.append(time.perf_counter() - began)

    def close(self) -> None:
        os.close(self._fd)


class Account:
    """What one contender took: seconds and bytes, half hour by half hour."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.took_s: list[float] = []
        self.asked = 0
        self.on_device: list[int] = []
        self.settled: list[int] = []

    def take(self, record: Record, meters: "Meters") -> None:
        asked, on_device = meters.asked(), meters.on_device()
        began = time.perf_counter()
        self._store(record)
        self.took_s.append(time.perf_counter() - began)
        self.asked += meters.asked() - asked
        self.on_device.append(meters.on_device() - on_device)

    def settle(self, record: Record, meters: "Meters", directory: Path) -> None:
        """A half hour once more, and what the file system notes of it some seconds later."""
        before = meters.on_device()
        self._store(record)
        for path in directory.iterdir():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        self.settled.append(meters.on_device() - before)

    def rows(self, name: str, meters: "Meters", device_aim: float | None = None) -> list[Row]:
        """Per half hour."""
        rows = [Row(f"{name}: bytes asked", self.asked / len(self.took_s), "bytes")]
        if meters.has_device:
            rows += [
                Row(f"{name}: bytes on the device", _quiet(self.on_device), "bytes", device_aim),
                Row(f"{name}: and with metadata", _quiet(self.settled), "bytes"),
            ]
        rows.append(Row(f"{name}: a half hour", statistics.median(self.took_s) * 1e6, "µs"))
        return rows


class Meters:
    """The kernel's counters of what was written."""

    def __init__(self, directory: Path) -> None:
        number = directory.stat().st_dev
        counters = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat")
        self.has_device = counters.exists()
        self._files = ExitStack()
        self._own = self._open(Path("/proc/self/io"))
        self._device = self._open(counters) if self.has_device else None

    def asked(self) -> int:
        """Bytes given to write calls by this process."""
        return int(_content(self._own).partition(b"wchar: ")[2].split(maxsplit=1)[0])

    def on_device(self) -> int:
        """Bytes written to the file system's device by anybody."""
        return 0 if self._device is None else int(_content(self._device).split()[6]) * _SECTOR

    def close(self) -> None:
        self._files.close()

    def _open(self, path: Path) -> int:
        fd = os.open(path, os.O_RDONLY)
        self._files.callback(os.close, fd)
        return fd


def measure(half_hours: int = HALF_HOURS, openings: int = OPENINGS) -> list[Row]:
    """Files beside SQLite, an append beside a bare write, the chip, and the start."""
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as scratch:
        directory = Path(scratch)
        return [
            *_in_files(directory, half_hours),
            *_on_chip(directory, half_hours),
            *_recovery(directory, openings),
        ]


def _in_files(directory: Path, half_hours: int) -> list[Row]:
    with ExitStack() as opened:
        meters = opened.enter_context(closing(Meters(directory)))
        ours = opened.enter_context(closing(FileContender(directory / "file")))
        theirs = opened.enter_context(closing(SqliteContender(directory / "SQLite")))
        bare = opened.enter_context(closing(BareContender(directory / "bare")))
        begun_with = _size(directory / "file")
        accounts = [Account(ours.store), Account(theirs.store), Account(bare.store)]
        turns = itertools.cycle(itertools.permutations(accounts))
        until = time.perf_counter() + WITHIN_S
        for record in _year(half_hours):
            for account in next(turns):
                account.take(record, meters)
            if time.perf_counter() > until:
                break
        lived = len(accounts[0].took_s)
        appends = ours.append_s[:]
        assert ours.kept() == theirs.kept() == [_fields(r) for r in _year(lived)][-len(ours.ring) :]
        assert _size(directory / "file") == begun_with, "the files have grown"
        for record in itertools.islice(_year(lived + SETTLED), lived, None):
            for account, name in zip(accounts, ("file", "SQLite"), strict=False):
                account.settle(record, meters, directory / name)
        return [
            Row("half hours lived through", lived, "half hours"),
            *accounts[0].rows("file", meters, DEVICE_AIM),
            *accounts[1].rows("SQLite", meters),
            Row("files, from the first to the last", begun_with / 1e3, "kB"),
            Row("SQLite's files at the end", _size(directory / "SQLite") / 1e3, "kB"),
            Row("ring append", statistics.median(appends) * 1e6, "µs"),
            Row("bare write and fdatasync", statistics.median(bare.write_s) * 1e6, "µs"),
            *_ratios(appends, bare.write_s),
        ]


def _ratios(appends: Sequence[float], writes: Sequence[float]) -> Iterator[Row]:
    """Day by day: the median append as a multiple of the median bare write."""
    days = [
        statistics.median(appends[at : at + SLOTS_PER_DAY])
        / statistics.median(writes[at : at + SLOTS_PER_DAY])
        for at in range(0, len(appends), SLOTS_PER_DAY)
    ]
    yield Row("append : bare", statistics.median(days), "x", APPEND_AIM)
    lower, _, upper = statistics.quantiles(days, n=4) if len(days) > 1 else days * 3
    yield Row("append : bare, lower quartile", lower, "x")
    yield Row("append : bare, upper quartile", upper, "x")


def _on_chip(directory: Path, half_hours: int) -> list[Row]:
    chip = Mb85rc256v()
    bus = VirtualI2C("i2c-1", {DEFAULT_ADDRESS: chip})
    with closing(open_fram_stores(bus, directory / "fram", fine=False)) as stores:
        ring = Ring.open(stores.ring, HALF_HOUR_S, LOAD_PROFILE_DEPTH, _SERIAL)
        registers = RegisterStore(stores.registers)
        registers.save(_checkpoint(next(_year(1))))  # the first is written twice
        before = chip.stored
        for record in _year(half_hours):
            ring.append(record.slot, record.forward_dwh, record.reverse_dwh, record.flags)
            registers.save(_checkpoint(record))
        written = chip.stored - before
    return [Row("FRAM: bytes at the chip", written / half_hours, "bytes", CHIP_AIM)]


def _recovery(directory: Path, openings: int) -> Iterator[Row]:
    """From a medium that is open to a ring that serves; all its places are taken."""
    for interval_s, depth in ((HALF_HOUR_S, LOAD_PROFILE_DEPTH), (300, FINE_DEPTHS[300])):
        path = directory / f"full-{interval_s}.ring"
        with closing(FileMedia(path, Ring.size_for(depth, FILE_WRITE_UNIT))) as media:
            Ring.open(media, interval_s, depth, _SERIAL).extend(list(_year(depth)))
            times = []
            for _ in range(openings):
                began = time.perf_counter()
                ring = Ring.open(media, interval_s, depth, _SERIAL)
                times.append(time.perf_counter() - began)
                assert len(ring) == depth
        aim = RECOVERY_AIM_MS if interval_s == HALF_HOUR_S else None
        yield Row(f"recovery of {depth:,} values", statistics.median(times) * 1e3, "ms", aim)


def _year(half_hours: int) -> Iterator[Record]:
    """Some 4 kWh a day, and a roof that gives a little back."""
    for number in range(half_hours):
        yield Record(_FIRST_SLOT + number, 120_000_000 + 833 * number, 5_000_000 + 101 * number)


def _checkpoint(record: Record) -> Checkpoint:
    forward, reverse = record.forward_dwh * 100, record.reverse_dwh * 100
    return Checkpoint(forward, reverse, forward, reverse, _MARK, float(record.slot * HALF_HOUR_S))


def _fields(record: Record) -> tuple[int, int, int, int]:
    return record.slot, record.forward_dwh, record.reverse_dwh, int(record.flags)


def _quiet(counts: Sequence[int]) -> int:
    return sorted(counts)[len(counts) // 10]


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


def _content(fd: int) -> bytes:
    return os.pread(fd, 4096, 0)
