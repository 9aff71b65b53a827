"""``meter-runtime units label``: write a unit's nameplate into its ID EEPROM."""

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.system_clock import SystemClock
from meter_runtime.units import real_board
from meter_runtime.units.board import BoardProfile
from meter_runtime.units.board_profiles import AUTO
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitFailure,
    UnitKind,
    Wiring,
)
from meter_runtime.units.eeprom import read_nameplate, write_nameplate
from meter_runtime.units.nameplate import NameplateUnreadable, encode

if TYPE_CHECKING:
    from meter_runtime.cli.parser import Commands


def register(actions: "Commands") -> None:
    parser = actions.add_parser("label", help="write a unit's nameplate into its ID EEPROM")
    parser.description = (
        "Write a nameplate into the ID EEPROM of the unit in a slot, and read it back. What is"
        " there already stays unless --force is given. A running meter heeds it when the unit is"
        " plugged in again."
    )
    parser.epilog = (
        "example: meter-runtime units label --slot metering --model MU-1P3W-60-2"
        " --serial A00000000001 --certified-until 2036-03-31"
    )
    parser.add_argument("--slot", required=True, choices=[kind.value for kind in UnitKind])
    parser.add_argument("--model", required=True, help="of the catalogue, which tells the rest")
    parser.add_argument("--serial", required=True, help="1 to 12 ASCII characters")
    parser.add_argument("--maker")
    parser.add_argument("--hw-version")
    parser.add_argument("--fw-version")
    parser.add_argument("--driver", help="who speaks with it, where the catalogue does not say")
    parser.add_argument("--wiring", choices=[wiring.value for wiring in Wiring])
    parser.add_argument(
        "--capacity", type=int, dest="capacity_a", metavar="A", help="rated current in ampere"
    )
    for option, meaning in (("two-way", "it measures feed-in"), ("broute", "it has a B-route")):
        parser.add_argument(
            f"--{option}", action=argparse.BooleanOptionalAction, default=None, help=meaning
        )
    parser.add_argument("--broute-medium", choices=[medium.value for medium in BRouteMedium])
    parser.add_argument("--aroute", choices=[bearer.value for bearer in ARouteBearer])
    parser.add_argument("--function", choices=[function.value for function in OptionalFunction])
    parser.add_argument("--certified-until", metavar="DATE", help="last day, as in 2036-03-31")
    parser.add_argument(
        "--calibration",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="what the driver wants to know of this very unit; may be repeated",
    )
    parser.add_argument("--board", default=AUTO, metavar="NAME", help="as of 'units detect'")
    parser.add_argument("--force", action="store_true", help="write over what is there")
    parser.set_defaults(act=_label)


def _label(args: argparse.Namespace) -> int:
    nameplate = _nameplate(args)
    size = len(encode(nameplate))
    board = real_board.open_board(args.board)
    try:
        bus, address = _id_eeprom(board.profile, args.slot)
        asyncio.run(_write(board.i2c(bus), address, nameplate, force=args.force))
    except UnitFailure as failure:
        raise MeterError(str(failure)) from None
    finally:
        board.close()
    print(
        f"{nameplate.model} no. {nameplate.serial}: {size} bytes written to {bus}"
        f" address {address:#04x} and read back"
    )
    if shipped().find(nameplate.kind, nameplate.model) is None:
        hint = nearest(nameplate.model, shipped().models[nameplate.kind])
        print(f"the catalogue does not know this model; {hint}")
    return 0


def _id_eeprom(profile: BoardProfile, name: str) -> tuple[str, int]:
    """Bus and address of the slot's EEPROM."""
    for slot in profile.slots:
        if slot.name == name and slot.i2c is not None and slot.eeprom is not None:
            return slot.i2c, slot.eeprom
    raise UsageError(
        f"the {name} slot of board {profile.name} has no ID EEPROM;"
        f" add slots.{name}.eeprom to the board's profile, or choose another --board"
    )


async def _write(bus: AsyncI2C, address: int, nameplate: Nameplate, *, force: bool) -> None:
    if not force:
        try:
            there = await read_nameplate(bus, address)
        except NameplateUnreadable as unreadable:
            raise MeterError(f"{unreadable}; --force writes over what is there") from None
        if there is not None:
            raise MeterError(
                f"{bus.name} address {address:#04x} holds {there.model} no. {there.serial}"
                " already; --force writes over it"
            )
    await write_nameplate(bus, address, nameplate, SystemClock())


def _nameplate(args: argparse.Namespace) -> Nameplate:
    """The catalogue's for this model, with what the command says otherwise."""
    kind = UnitKind(args.slot)
    model = shipped().find(kind, args.model)
    plain = (
        Nameplate(kind, args.model, args.serial)
        if model is None
        else replace(model.nameplate(args.serial), driver="")
    )
    said = {
        key: read(getattr(args, key))
        for key, read in _GIVEN.items()
        if getattr(args, key) is not None
    }
    calibration = dict(_calibration(text) for text in args.calibration)
    return replace(plain, **said, calibration=calibration)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f'--certified-until: "{text}" is no date; write 2036-03-31') from None


def _calibration(text: str) -> tuple[str, int]:
    name, equals, number = text.partition("=")
    try:
        if not name or not equals:
            raise ValueError
        return name, int(number)
    except ValueError:
        raise UsageError(
            f'--calibration: "{text}" is no NAME=NUMBER; give a whole number'
        ) from None


_GIVEN: dict[str, Callable[[Any], Any]] = {
    "maker": str,
    "hw_version": str,
    "fw_version": str,
    "driver": str,
    "wiring": Wiring,
    "capacity_a": int,
    "broute_medium": BRouteMedium,
    "aroute": ARouteBearer,
    "function": OptionalFunction,
    "certified_until": _date,
    "two_way": bool,
    "broute": bool,
}
"""Options that say what the catalogue does not, by the nameplate's fields: text to value."""
