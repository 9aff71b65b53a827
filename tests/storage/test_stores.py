"""Where everything lies: whole or not at all, and with advice."""

import errno
import gzip
import logging
import os
import stat
from pathlib import Path

import pytest

from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.mb85rc256v import SIZE, Mb85rc256v
from meter_runtime.errors import MeterError
from meter_runtime.storage import stores
from meter_runtime.storage.journal import JOURNAL_DEPTH, Journal
from meter_runtime.storage.registers import Checkpoint, RegisterStore, unit_mark
from meter_runtime.storage.ring import FINE_DEPTHS, LOAD_PROFILE_DEPTH, Record, Ring
from meter_runtime.storage.stores import Stores, open_file_stores, open_fram_stores
from meter_runtime.storage.vault import Vault

SERIAL = "M0000001"
SLOT = 994_000
CHECKPOINT = Checkpoint(1, 2, 3, 4, unit_mark(SERIAL), 1_789_200_000.0)
KEY = bytes(range(32))
FILES = {
    "load-profile.ring",
    "registers.twin",
    "one-minute.ring",
    "five-minute.ring",
    "journal.log",
    "vault.bin",
    "units.twin",
    "switch.twin",
    "directives.twin",
    "voltage.log",
    "issuers.twin",
    "uplink.twin",
}


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - no Path is needed


def board() -> tuple[VirtualI2C, Mb85rc256v]:
    chip = Mb85rc256v()
    return VirtualI2C("i2c-1", {0x50: chip}), chip


def use(opened: Stores) -> None:
    """Keep something in each store."""
    ring = Ring.open(opened.ring, 1800, LOAD_PROFILE_DEPTH, SERIAL, SLOT)
    assert ring.append(SLOT, 10, 20)
    registers = RegisterStore(opened.registers)
    registers.load()
    registers.save(CHECKPOINT)
    for (interval, depth), media in zip(FINE_DEPTHS.items(), opened.fine, strict=True):
        fine = Ring.open(media, interval, depth, SERIAL, SLOT * 1800 // interval)
        assert fine.append(SLOT * 1800 // interval, interval, 0)
    Journal.open(opened.journal).begin(bytes(16), b"intent")
    Vault.open(opened.vault, KEY).store(b"content")


def check(opened: Stores) -> None:
    """What :func:`use` kept is there."""
    ring = Ring.open(opened.ring, 1800, LOAD_PROFILE_DEPTH, SERIAL, SLOT)
    assert list(ring.records()) == [Record(SLOT, 10, 20)]
    assert RegisterStore(opened.registers).load() == CHECKPOINT
    for (interval, depth), media in zip(FINE_DEPTHS.items(), opened.fine, strict=True):
        fine = Ring.open(media, interval, depth, SERIAL, SLOT * 1800 // interval)
        assert list(fine.records()) == [Record(SLOT * 1800 // interval, interval, 0)]
    journal = Journal.open(opened.journal)
    assert [entry.payload for entry in journal.pending()] == [b"intent"]
    assert journal.depth == JOURNAL_DEPTH
    assert Vault.open(opened.vault, KEY).load() == b"content"


def test_everything_kept_in_files_is_there_again(tmp_path: Path) -> None:
    for act in (use, check):
        opened = open_file_stores(tmp_path / "state", fine=True)
        act(opened)
        opened.close()
    assert names(tmp_path / "state") == FILES


def test_everything_kept_on_the_chip_and_beside_it_is_there_again(tmp_path: Path) -> None:
    _, chip = board()
    for act in (use, check):
        opened = open_fram_stores(VirtualI2C("i2c-1", {0x50: chip}), tmp_path / "state", fine=True)
        act(opened)
        opened.close()
    assert names(tmp_path / "state") == FILES - {"load-profile.ring", "registers.twin"}


def test_files_of_format_1_go_on(tmp_path: Path) -> None:
    for name in ("load-profile.ring", "registers.twin"):
        packed = Path(__file__).parent / "format1" / f"{name}.gz"
        (tmp_path / name).write_bytes(gzip.decompress(packed.read_bytes()))
    opened = open_file_stores(tmp_path, fine=True)
    ring = Ring.open(opened.ring, 1800, LOAD_PROFILE_DEPTH, "SIM-000001")
    assert (len(ring), ring.replaced, ring.header_lost) == (98, False, False)
    kept = RegisterStore(opened.registers).load()
    assert kept is not None
    assert kept.unit == unit_mark("SIM-000001")
    opened.close()


def test_a_journal_of_format_1_is_replaced_by_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_bytes(bytes(32_768))
    opened = open_file_stores(tmp_path, fine=False)
    journal = Journal.open(opened.journal)
    assert (journal.depth, journal.entries(), journal.corrupt) == (JOURNAL_DEPTH, (), 0)
    opened.close()


def test_files_beside_a_chip_are_left_as_they_are(tmp_path: Path) -> None:
    for name in ("load-profile.ring", "registers.twin"):
        (tmp_path / name).write_bytes(b"of another time")
    open_fram_stores(board()[0], tmp_path, fine=False).close()
    assert (tmp_path / "load-profile.ring").read_bytes() == b"of another time"
    assert (tmp_path / "registers.twin").read_bytes() == b"of another time"


def test_the_log_says_what_is_on_a_chip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    open_fram_stores(board()[0], tmp_path, fine=False).close()
    assert caplog.messages == ["load profile and registers are on i2c-1 address 0x50"]


def test_without_fine_values_their_files_are_not_made(tmp_path: Path) -> None:
    opened = open_file_stores(tmp_path, fine=False)
    assert opened.fine == ()
    opened.close()
    assert names(tmp_path) == FILES - {"one-minute.ring", "five-minute.ring"}


def test_a_new_directory_and_what_is_in_it_are_the_meters_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    open_file_stores(state, fine=True).close()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


def test_the_files_have_their_full_size_from_the_start(tmp_path: Path) -> None:
    open_file_stores(tmp_path, fine=True).close()
    for path in tmp_path.iterdir():
        assert path.stat().st_blocks * 512 >= path.stat().st_size


def test_closing_releases_everything_and_may_be_repeated(tmp_path: Path) -> None:
    before = open_files()
    opened = open_file_stores(tmp_path, fine=True)
    told = [opened.closed]
    for _ in range(2):
        opened.close()
        told.append(opened.closed)
    assert told == [False, True, True]
    assert open_files() == before


def test_closing_releases_the_bus(tmp_path: Path) -> None:
    bus, _ = board()
    before = open_files()
    opened = open_fram_stores(bus, tmp_path, fine=True)
    opened.close()
    assert open_files() == before
    with pytest.raises(MeterError, match="it was closed already"):
        opened.ring.read(0, 1)


def test_a_second_meter_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    opened = open_file_stores(tmp_path, fine=True)
    before = open_files()
    with pytest.raises(MeterError, match="another meter uses this file"):
        open_file_stores(tmp_path, fine=True)
    assert open_files() == before
    opened.close()


@pytest.mark.parametrize("name", sorted(FILES))
def test_when_one_file_cannot_be_opened_none_stays_open(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    before = open_files()
    with pytest.raises(MeterError, match=name):
        open_file_stores(tmp_path, fine=True)
    assert open_files() == before


def test_a_file_of_another_size_is_told_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "vault.bin").write_bytes(b"x" * 99)
    with pytest.raises(MeterError, match=r"vault\.bin: the file has 99 bytes"):
        open_file_stores(tmp_path, fine=False)
    assert (tmp_path / "vault.bin").read_bytes() == b"x" * 99


def test_a_directory_that_cannot_be_made_names_the_key(tmp_path: Path) -> None:
    for missing in (tmp_path / "no" / "state", Path("/dev/null/state")):
        with pytest.raises(MeterError, match=r"state directory cannot be made: .*state_dir"):
            open_file_stores(missing, fine=False)


def test_a_full_disk_names_the_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = open_files()
    with pytest.raises(MeterError, match=r"load-profile\.ring: .*No space left on device; free"):
        open_file_stores(tmp_path, fine=False)
    assert names(tmp_path) == set()
    assert open_files() == before


def test_a_missing_chip_is_told_before_any_file_is_made(tmp_path: Path) -> None:
    bus, _ = board()
    with pytest.raises(MeterError, match="i2c-1 address 0x57: Remote I/O error; check that"):
        open_fram_stores(bus, tmp_path, fine=False, address=0x57)
    assert names(tmp_path) == set()
    with pytest.raises(MeterError, match="it was closed already"):
        bus.read(0x50, 1)


@pytest.mark.parametrize("size", [SIZE // 2, SIZE // 4, 256])
def test_a_chip_too_small_is_refused_and_keeps_what_it_held(tmp_path: Path, size: int) -> None:
    chip = Mb85rc256v(size)
    chip.content[:] = bytes(n % 256 for n in range(size))
    with pytest.raises(MeterError, match="0x50: holds less than 32768 bytes; fit an MB85RC256V"):
        open_fram_stores(VirtualI2C("i2c-1", {0x50: chip}), tmp_path, fine=False)
    assert bytes(chip.content) == bytes(n % 256 for n in range(size))


def test_the_map_fits_the_chip_and_its_parts_do_not_meet(tmp_path: Path) -> None:
    assert stores.FRAM_RING_SIZE == 128 + 16 * LOAD_PROFILE_DEPTH
    assert stores.FRAM_REGISTERS == SIZE - 2 * 48
    assert stores.FRAM_RING_SIZE < stores.FRAM_REGISTERS
    bus, chip = board()
    opened = open_fram_stores(bus, tmp_path, fine=False)
    opened.ring.write(0, b"\xaa" * opened.ring.size)
    opened.registers.write(0, b"\xbb" * opened.registers.size)
    assert bytes(chip.content[: opened.ring.size]) == b"\xaa" * opened.ring.size
    assert bytes(chip.content[-opened.registers.size :]) == b"\xbb" * 96
    opened.close()


def test_a_chips_stores_have_names_a_person_knows(tmp_path: Path) -> None:
    opened = open_fram_stores(board()[0], tmp_path, fine=False)
    assert opened.ring.name == "i2c-1 address 0x50, load profile"
    assert opened.registers.name == "i2c-1 address 0x50, registers"
    opened.close()
