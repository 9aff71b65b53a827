"""Format 1 to the present one, on files that a meter of format 1 wrote."""

import binascii
import gzip
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FileMedia, MemoryMedia
from meter_runtime.storage.migration import migrate_journal, migrate_registers, migrate_ring
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, Flag, Record, Ring
from meter_runtime.storage.twin import Twin

FORMAT_1 = Path(__file__).parent / "format1"
FIRST = 994_500
AHEAD = FIRST + 175_320
SERIAL = "SIM-000001"
RING_SIZE = Ring.size_for(LOAD_PROFILE_DEPTH, 512)
HISTORY = [
    Record(FIRST + n, 1_000_000 + 123 * n, 500 + 7 * n, Flag(2 * (n == 42)))
    for n in range(100)
    if n not in (40, 41)
]
CHECKPOINT = Checkpoint(
    101_217_742,
    119_301,
    9_101_217_742,
    8_119_301,
    unit_mark(SERIAL),
    (FIRST + 99) * 1800 + 10.25,
)


def golden(name: str) -> bytes:
    return gzip.decompress((FORMAT_1 / f"{name}.gz").read_bytes())


def resealed(raw: bytes, at: int, field: bytes) -> bytes:
    """Both copies of a ring's header with another field and a CRC that suits it."""
    copies = []
    for copy in (raw[:512], raw[512:1024]):
        body = copy[:at] + field + copy[at + len(field) : 52]
        copies.append(body + zlib.crc32(body).to_bytes(4, "big") + copy[56:])
    return b"".join(copies) + raw[1024:]


def put_record(raw: bytearray, slot: int, epoch: int = 2, place: int | None = None) -> None:
    """Write a record of format 1, worked out from its description."""
    body = (slot % (1 << 24)).to_bytes(3, "big") + bytes(range(10)) + bytes(((epoch << 4),))
    at = 1024 + 16 * (slot % LOAD_PROFILE_DEPTH if place is None else place)
    raw[at : at + 16] = body + binascii.crc_hqx(body, 0x1D0F).to_bytes(2, "big")


@contextmanager
def opened(path: Path) -> Iterator[Ring]:
    media = FileMedia(path, RING_SIZE)
    yield Ring.open(media, 1800, LOAD_PROFILE_DEPTH, SERIAL)
    media.close()


def test_the_load_profile_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "load-profile.ring"
    path.write_bytes(golden("load-profile.ring"))
    assert migrate_ring(path)
    with opened(path) as ring:
        assert not ring.replaced
        assert not ring.header_lost
        assert (ring.serial, ring.first_slot, ring.corrupt) == (SERIAL, FIRST, 0)
        assert list(ring.records()) == HISTORY
        assert ring.append(FIRST + 100, 1_020_000, 1_300)
    assert not migrate_ring(path)
    with opened(path) as ring:
        assert list(ring.records()) == [*HISTORY, Record(FIRST + 100, 1_020_000, 1_300)]
    assert [file.name for file in tmp_path.iterdir()] == ["load-profile.ring"]


def test_what_a_wrong_clock_had_hidden_can_still_come_back(tmp_path: Path) -> None:
    path = tmp_path / "load-profile.ring"
    path.write_bytes(golden("load-profile-wrong-clock.ring"))
    assert migrate_ring(path)
    ahead = Record(AHEAD, 1_020_000, 1_300, Flag.ADJUSTED)
    with opened(path) as ring:
        assert list(ring.records()) == [ahead]
        assert ring.withdraw([AHEAD]) == [ahead]
        assert list(ring.records()) == HISTORY


def test_the_registers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "registers.twin"
    path.write_bytes(golden("registers.twin"))
    assert migrate_registers(path)
    assert not migrate_registers(path)
    media = FileMedia(path, RegisterStore.size_for(512))
    assert RegisterStore(media).load() == CHECKPOINT
    media.close()


def test_the_later_copy_is_the_checkpoint_wherever_it_lies(tmp_path: Path) -> None:
    raw = golden("registers.twin")
    path = tmp_path / "registers.twin"
    path.write_bytes(raw[512:] + raw[:512])
    assert migrate_registers(path)
    media = FileMedia(path, RegisterStore.size_for(512))
    assert RegisterStore(media).load() == CHECKPOINT
    media.close()


def test_a_damaged_copy_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    raw = bytearray(golden("registers.twin"))
    raw[30] ^= 1
    path = tmp_path / "registers.twin"
    path.write_bytes(raw)
    assert migrate_registers(path)
    media = FileMedia(path, RegisterStore.size_for(512))
    kept = RegisterStore(media).load()
    media.close()
    assert kept is not None
    assert kept.forward_mwh in {CHECKPOINT.forward_mwh, 101_217_700}


@pytest.mark.parametrize("place", [612, 640, 711])
def test_a_damaged_record_stays_absent(tmp_path: Path, place: int) -> None:
    raw = bytearray(golden("load-profile.ring"))
    raw[1024 + 16 * place + 5] ^= 0x10
    path = tmp_path / "load-profile.ring"
    path.write_bytes(raw)
    assert migrate_ring(path)
    with opened(path) as ring:
        assert list(ring.records()) == [r for r in HISTORY if r.slot % LOAD_PROFILE_DEPTH != place]


def test_records_of_other_units_and_strayed_ones_stay_behind(tmp_path: Path) -> None:
    raw = bytearray(golden("load-profile.ring"))
    put_record(raw, FIRST + 100)
    put_record(raw, FIRST + 101, epoch=1)
    put_record(raw, FIRST + 102, place=(FIRST + 103) % LOAD_PROFILE_DEPTH)
    put_record(raw, FIRST - 1)
    path = tmp_path / "load-profile.ring"
    path.write_bytes(raw)
    assert migrate_ring(path)
    added = Record(FIRST + 100, 0x0001020304, 0x0506070809)
    with opened(path) as ring:
        assert list(ring.records()) == [*HISTORY, added]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "nothing at all"),
        (bytes(33_280), "a new file"),
        (b"\x55" * 33_280, "anything else"),
        (golden("registers.twin"), "another kind of file"),
        (resealed(golden("load-profile.ring"), 4, bytes((0, 2))), "no format that there ever was"),
    ],
)
def test_what_is_not_of_format_1_is_left_alone(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / "load-profile.ring"
    path.write_bytes(content)
    assert not migrate_ring(path), name
    assert path.read_bytes() == content


def test_a_missing_file_is_nothing_to_do(tmp_path: Path) -> None:
    assert not migrate_ring(tmp_path / "load-profile.ring")
    assert not migrate_registers(tmp_path / "registers.twin")


def test_a_format_yet_to_come_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "load-profile.ring"
    FileMedia(path, RING_SIZE).close()
    media = FileMedia(path, RING_SIZE)
    Twin(media, 0, b"LP", 3, 100).save(bytes(100))
    media.close()
    before = path.read_bytes()
    assert not migrate_ring(path)
    newer = r"newer meter-runtime \(format 3, this one reads 2\)"
    with pytest.raises(MeterError, match=newer), opened(path):
        pass
    assert path.read_bytes() == before


def test_a_ring_of_other_dimensions_is_refused_untouched(tmp_path: Path) -> None:
    raw = resealed(golden("load-profile.ring"), 20, (48).to_bytes(4, "big"))
    path = tmp_path / "load-profile.ring"
    path.write_bytes(raw)
    with pytest.raises(MeterError, match="holds 48 values of 1800 s; move it away"):
        migrate_ring(path)
    assert path.read_bytes() == raw


def test_a_file_cut_short_is_refused_untouched(tmp_path: Path) -> None:
    raw = golden("load-profile.ring")[:-1]
    path = tmp_path / "load-profile.ring"
    path.write_bytes(raw)
    with pytest.raises(MeterError, match="cut short"):
        migrate_ring(path)
    assert path.read_bytes() == raw


def test_a_running_meters_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "load-profile.ring"
    FileMedia(path, RING_SIZE).close()
    holder = FileMedia(path, RING_SIZE)
    with pytest.raises(MeterError, match="another meter uses this file"):
        migrate_ring(path)
    holder.close()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "registers.twin"
    path.write_bytes(golden("registers.twin"))

    def full(fd: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(MeterError, match="No space left on device; free space"):
        migrate_registers(path)
    assert path.read_bytes() == golden("registers.twin")
    assert [file.name for file in tmp_path.iterdir()] == ["registers.twin"]


class PowerCut(BaseException):
    """No handler of the program sees what comes after it."""


class Machine:
    """The system calls of a machine whose power fails after ``left`` of them.

    A write may be done in part; what was not synced before a rename would be lost with it.
    """

    def __init__(self, left: int, torn: float) -> None:
        self.left = left
        self.torn = torn
        self.calls: list[str] = []

    def wire(self, patch: pytest.MonkeyPatch) -> None:
        write = os.write
        for name in ("open", "fsync", "rename", "unlink"):
            patch.setattr(os, name, self._call(name, getattr(os, name)))

        def torn_write(fd: int, data: memoryview) -> int:
            if self.left == 0:
                write(fd, data[: int(len(data) * self.torn)])
            return int(self._call("write", write)(fd, data))

        patch.setattr(os, "write", torn_write)

    def _call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.left <= 0:
                self.left = -1
                raise PowerCut
            self.left -= 1
            self.calls.append(name)
            return real(*args, **kwargs)

        return call


@settings(deadline=None)
@given(after=st.integers(0, 12), torn=st.floats(0, 1), kind=st.sampled_from(["ring", "registers"]))
def test_a_power_cut_leaves_the_old_file_or_the_new_one(after: int, torn: float, kind: str) -> None:
    migrate = migrate_ring if kind == "ring" else migrate_registers
    old = golden("load-profile.ring" if kind == "ring" else "registers.twin")
    directory = Path(tempfile.mkdtemp())
    path = directory / "file"
    path.write_bytes(old)
    machine = Machine(after, torn)
    with pytest.MonkeyPatch.context() as patch:
        machine.wire(patch)
        try:
            done = migrate(path)
        except PowerCut:
            done = False
    new = migrated(kind)
    assert path.read_bytes() == (new if "rename" in machine.calls else old)
    assert done is (machine.left >= 0)
    assert migrate(path) is ("rename" not in machine.calls)
    assert path.read_bytes() == new
    shutil.rmtree(directory)


def test_a_new_file_is_durable_before_it_takes_the_name(tmp_path: Path) -> None:
    path = tmp_path / "registers.twin"
    path.write_bytes(golden("registers.twin"))
    machine = Machine(100, 0)
    with pytest.MonkeyPatch.context() as patch:
        machine.wire(patch)
        assert migrate_registers(path)
    order = [call for call in machine.calls if call != "open"]
    assert order == ["write", "fsync", "rename", "fsync"]


def migrated(kind: str) -> bytes:
    """What a migration that nothing disturbs makes, through the stores alone."""
    if kind == "registers":
        media = MemoryMedia(4096, write_unit=512)
        RegisterStore(media).save(CHECKPOINT)
    else:
        media = MemoryMedia(36_864, write_unit=512)
        Ring.open(media, 1800, LOAD_PROFILE_DEPTH, SERIAL, FIRST).extend(HISTORY)
    return media.read(0, media.size)


def journal_of_format_1(*payloads: bytes) -> bytes:
    """A journal with so many done commands, worked out from its description."""
    entries = []
    for number, payload in enumerate(payloads, 1):
        head = b"Jo\x01\x02" + number.to_bytes(8, "big") + bytes((number,)) * 16
        body = head + len(payload).to_bytes(2, "big") + payload
        entries.append((body + zlib.crc32(body).to_bytes(4, "big")).ljust(512, b"\0"))
    return b"".join(entries).ljust(32_768, b"\0")


@pytest.mark.parametrize("payloads", [(), (b"did", b"this")])
def test_a_journal_is_made_anew(
    tmp_path: Path, payloads: tuple[bytes, ...], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(journal_of_format_1(*payloads))
    assert migrate_journal(path)
    assert ("2 entries of format 1 are left behind" in caplog.text) is bool(payloads)
    assert path.read_bytes() == bytes(131_072)
    assert not migrate_journal(path)


@pytest.mark.parametrize(
    "content", [b"", bytes(131_072), bytes(32_767), bytes(32_769), b"\x55" * 32_768]
)
def test_what_is_no_journal_of_format_1_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(content)
    assert not migrate_journal(path)
    assert path.read_bytes() == content
    path.unlink()
    assert not migrate_journal(path)


def test_a_running_meters_journal_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(journal_of_format_1())
    holder = FileMedia(path, 32_768)
    with pytest.raises(MeterError, match="another meter uses this file"):
        migrate_journal(path)
    holder.close()
