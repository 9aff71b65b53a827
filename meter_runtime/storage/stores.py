"""Where everything that outlives a power cut lies: the names of the files, and the FRAM's map.

Opening is whole or not at all. What stands in a store is its own module's business.
"""

import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from meter_runtime.errors import MeterError
from meter_runtime.i2c import I2CBus
from meter_runtime.storage.directives import Directives
from meter_runtime.storage.fram import FRAM_ADDRESS, FRAM_SIZE, FramMedia
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import JOURNAL_DEPTH, Journal
from meter_runtime.storage.media import FILE_WRITE_UNIT, FileMedia, Media, Slice
from meter_runtime.storage.migration import migrate_journal, migrate_registers, migrate_ring
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import FINE_DEPTHS, LOAD_PROFILE_DEPTH, Ring
from meter_runtime.storage.switch_state import SwitchStateStore
from meter_runtime.storage.unit_memory import UnitMemory
from meter_runtime.storage.uplink_state import UplinkStateStore
from meter_runtime.storage.vault import Vault
from meter_runtime.storage.voltage_log import VOLTAGE_LOG_DEPTH, VoltageLog

log = logging.getLogger(__name__)

RING_FILE = "load-profile.ring"
REGISTERS_FILE = "registers.twin"
FINE_FILES = {60: "one-minute.ring", 300: "five-minute.ring"}
"""By interval, s."""
JOURNAL_FILE = "journal.log"
VAULT_FILE = "vault.bin"
UNITS_FILE = "units.twin"
SWITCH_FILE = "switch.twin"
DIRECTIVES_FILE = "directives.twin"
VOLTAGE_FILE = "voltage.log"
ISSUERS_FILE = "issuers.twin"
UPLINK_FILE = "uplink.twin"

FRAM_RING_SIZE = Ring.size_for(LOAD_PROFILE_DEPTH, FramMedia.write_unit)
"""The load profile begins at 0."""
FRAM_REGISTERS = FRAM_SIZE - RegisterStore.size_for(FramMedia.write_unit)
"""Offset of the registers: the end of the chip. What lies between the two is free."""

_PROBE = FRAM_REGISTERS - 1
"""The last free byte: where the size of the chip is tried."""


@dataclass(slots=True)
class Stores:
    """The meter's media, open and closed together.

    ``fine`` has one medium for each interval of :data:`~meter_runtime.storage.ring.FINE_DEPTHS`,
    in that order, or none.
    """

    ring: Media
    registers: Media
    fine: tuple[Media, ...]
    journal: Media
    vault: Media
    units: Media
    switch: Media
    directives: Media
    voltage: Media
    issuers: Media
    uplink: Media
    _opened: contextlib.ExitStack = field(repr=False)
    closed: bool = False

    def close(self) -> None:
        """Release everything; does nothing the second time."""
        self.closed = True
        self._opened.close()


def open_file_stores(state_dir: Path, *, fine: bool) -> Stores:
    """Everything in files of ``state_dir``, which is made where it is missing (mode 0700).

    Files of format 1 are brought up to date first. Raises :class:`MeterError`; no file is left
    open then.
    """
    _make_directory(state_dir)
    migrate_ring(state_dir / RING_FILE)
    migrate_registers(state_dir / REGISTERS_FILE)
    with contextlib.ExitStack() as opened:
        ring = _open_file(
            opened, state_dir / RING_FILE, Ring.size_for(LOAD_PROFILE_DEPTH, FILE_WRITE_UNIT)
        )
        registers = _open_file(
            opened, state_dir / REGISTERS_FILE, RegisterStore.size_for(FILE_WRITE_UNIT)
        )
        return _with_the_rest(opened, ring, registers, state_dir, fine=fine)


def open_fram_stores(
    bus: I2CBus, state_dir: Path, *, fine: bool, address: int = FRAM_ADDRESS
) -> Stores:
    """Load profile and registers on the FRAM at ``address``, the rest in files of ``state_dir``.

    The stores own ``bus`` from the call on, and close it. Raises :class:`MeterError`, also for a
    chip smaller than :data:`~meter_runtime.storage.fram.FRAM_SIZE`; nothing is left open then.
    """
    with contextlib.ExitStack() as opened:
        chip = FramMedia(bus, address)
        opened.callback(chip.close)
        _make_directory(state_dir)
        _check_size(chip)
        ring = Slice(chip, 0, FRAM_RING_SIZE, f"{chip.name}, load profile")
        registers = Slice(
            chip, FRAM_REGISTERS, FRAM_SIZE - FRAM_REGISTERS, f"{chip.name}, registers"
        )
        stores = _with_the_rest(opened, ring, registers, state_dir, fine=fine)
        log.info("load profile and registers are on %s", chip.name)
        return stores


def _with_the_rest(
    opened: contextlib.ExitStack, ring: Media, registers: Media, state_dir: Path, *, fine: bool
) -> Stores:
    migrate_journal(state_dir / JOURNAL_FILE)
    intervals = FINE_DEPTHS if fine else {}
    fine_media = tuple(
        _open_file(opened, state_dir / FINE_FILES[interval], Ring.size_for(depth, FILE_WRITE_UNIT))
        for interval, depth in intervals.items()
    )
    journal = _open_file(
        opened, state_dir / JOURNAL_FILE, Journal.size_for(JOURNAL_DEPTH, FILE_WRITE_UNIT)
    )
    vault = _open_file(opened, state_dir / VAULT_FILE, Vault.size_for(FILE_WRITE_UNIT))
    units = _open_file(opened, state_dir / UNITS_FILE, UnitMemory.size_for(FILE_WRITE_UNIT))
    switch = _open_file(opened, state_dir / SWITCH_FILE, SwitchStateStore.size_for(FILE_WRITE_UNIT))
    directives = _open_file(
        opened, state_dir / DIRECTIVES_FILE, Directives.size_for(FILE_WRITE_UNIT)
    )
    voltage = _open_file(
        opened, state_dir / VOLTAGE_FILE, VoltageLog.size_for(VOLTAGE_LOG_DEPTH, FILE_WRITE_UNIT)
    )
    issuers = _open_file(opened, state_dir / ISSUERS_FILE, IssuerLedger.size_for(FILE_WRITE_UNIT))
    uplink = _open_file(opened, state_dir / UPLINK_FILE, UplinkStateStore.size_for(FILE_WRITE_UNIT))
    return Stores(
        ring=ring,
        registers=registers,
        fine=fine_media,
        journal=journal,
        vault=vault,
        units=units,
        switch=switch,
        directives=directives,
        voltage=voltage,
        issuers=issuers,
        uplink=uplink,
        _opened=opened.pop_all(),
    )


def _open_file(opened: contextlib.ExitStack, path: Path, size: int) -> FileMedia:
    media = FileMedia(path, size)
    opened.callback(media.close)
    return media


def _make_directory(state_dir: Path) -> None:
    try:
        state_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as failure:
        raise MeterError(
            f"{state_dir}: the state directory cannot be made: {failure.strerror};"
            " name a writable one in [storage] state_dir"
        ) from None


def _check_size(chip: FramMedia) -> None:
    """A smaller chip wraps around: the load profile would overwrite itself unnoticed."""
    alias = _PROBE - FRAM_SIZE // 2
    before = chip.read(alias, 1)
    chip.write(_PROBE, bytes((before[0] ^ 0xFF,)))
    if chip.read(alias, 1) != before:
        chip.write(alias, before)
        raise MeterError(f"{chip.name}: holds less than {FRAM_SIZE} bytes; fit an MB85RC256V")
