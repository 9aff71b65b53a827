"""The load profiles in a state directory that no meter uses at the time.

The files' locks keep a running meter out, and these commands out of a running meter's directory.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from meter_runtime.cli.history_files import Profile
from meter_runtime.clock import HALF_HOUR_S
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FILE_WRITE_UNIT, FileMedia, Media
from meter_runtime.storage.migration import migrate_ring
from meter_runtime.storage.ring import FINE_DEPTHS, LOAD_PROFILE_DEPTH, Ring
from meter_runtime.storage.stores import FINE_FILES, RING_FILE, open_file_stores


@dataclass(frozen=True, slots=True)
class State:
    """What an import works on: the rings by interval, those not asked for included."""

    rings: Mapping[int, Media]
    registers: Media
    has_bench_unit: bool
    """A bench has run here: its simulated unit remembers registers of its own."""

    def ring(self, interval_s: int, serial: str) -> Ring:
        """The ring of an interval, which must be this unit's or new."""
        return Ring.open(self.rings[interval_s], interval_s, depth_of(interval_s), serial)


def depth_of(interval_s: int) -> int:
    """Boundaries that a meter keeps of this interval."""
    return LOAD_PROFILE_DEPTH if interval_s == HALF_HOUR_S else FINE_DEPTHS[interval_s]


def profile_in(directory: Path, interval_s: int, meter_id: str) -> Profile:
    """All stored boundaries; MeterError where there are none to read or a meter is using them.

    ``meter_id`` is what the profile shall say: the directory does not know it.
    """
    coarse = interval_s == HALF_HOUR_S
    path = directory / (RING_FILE if coarse else FINE_FILES[interval_s])
    if not path.is_file():
        raise MeterError(
            f"{path}: no such file; name the state directory of a meter that stored it"
        )
    depth = depth_of(interval_s)
    if coarse:
        migrate_ring(path)
    with closing(FileMedia(path, Ring.size_for(depth, FILE_WRITE_UNIT))) as media:
        serial = Ring.serial_on(media)
        if serial is None:
            raise MeterError(f"{path}: does not tell whose history it holds; start the meter once")
        ring = Ring.open(media, interval_s, depth, serial)
        return Profile(meter_id, serial, interval_s, tuple(ring.records()))


@contextmanager
def open_for_import(directory: Path, interval_s: int) -> Iterator[State]:
    """The stores of a directory, which is made where it is missing, locked while they are used."""
    from meter_runtime.bench.household import UNIT_FILE

    stores = open_file_stores(directory, fine=interval_s != HALF_HOUR_S)
    with closing(stores):
        rings = {HALF_HOUR_S: stores.ring, **dict(zip(FINE_DEPTHS, stores.fine, strict=False))}
        yield State(rings, stores.registers, (directory / UNIT_FILE).exists())
