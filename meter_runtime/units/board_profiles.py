"""Board profiles: ``hw/boards/NAME.toml``, read and checked.

A profile names slots and their wires; nothing is opened here. The files come with the package, and
a path in a name's place reads a profile of one's own.
"""

from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from meter_runtime.errors import UsageError, nearest
from meter_runtime.i2c import FIRST_ADDRESS, LAST_ADDRESS, parse_place
from meter_runtime.tables import read_table
from meter_runtime.units.board import BoardProfile, SlotProfile
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.gpio import LineSpec

AUTO = "auto"
"""The board that this machine is."""

GENERIC = "generic"
"""The board of a machine that no profile claims: slots without wires."""

MODEL_FILE = Path("/proc/device-tree/model")

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Table(msgspec.Struct, frozen=True):
    """One table of the file."""


class _Line(_Table, frozen=True):
    line: Annotated[int, msgspec.Meta(ge=0, lt=1024)]
    chip: _Text | None = None
    active_low: bool = False
    pull: Literal["none", "up", "down"] = "none"


class _Slot(_Table, frozen=True):
    i2c: str | None = None
    eeprom: Annotated[int, msgspec.Meta(ge=FIRST_ADDRESS, le=LAST_ADDRESS)] | None = None
    uart: _Text | None = None
    presence: Any = None
    lines: dict[str, Any] = {}


class _Profile(_Table, frozen=True):
    title: _Text
    slots: dict[str, Any]
    machines: list[_Text] = []
    gpio_chip: _Text | None = None
    fram: str | None = None
    rtc: str | None = None
    button: Any = None


_T = TypeVar("_T", bound=_Table)


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(
        file.name.removesuffix(".toml")
        for file in _folder().iterdir()
        if file.name.endswith(".toml")
    )


def load_profile(name: str, *, model_file: Path = MODEL_FILE) -> BoardProfile:
    """The profile of this name, of this path (it ends in ``.toml``), or ``auto``.

    ``auto`` is the profile that claims this machine by what the device tree calls it, and
    :data:`GENERIC` where none does. Raises UsageError, which names file and key.
    """
    if name == AUTO:
        name = _of_this_machine(model_file)
    if name.endswith(".toml"):
        path = Path(name)
        return _checked(_read(path), path.stem, name)
    if name not in profile_names():
        raise UsageError(
            f'no board is called "{name}"; {nearest(name, [AUTO, *profile_names()])}'
            " or give a profile's path, which ends in .toml"
        )
    return _checked(_packaged(name), name, f"board {name}")


def _of_this_machine(model_file: Path) -> str:
    try:
        model = model_file.read_text(encoding="utf-8", errors="replace").rstrip("\0\n")
    except OSError:
        return GENERIC
    for name in profile_names():
        if any(model.startswith(machine) for machine in _packaged(name).get("machines", ())):
            return name
    return GENERIC


def _folder() -> Traversable:
    """``boards`` in the installed package; in a checkout, where they are written."""
    packaged = resources.files("meter_runtime") / "boards"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "hw" / "boards"


def _packaged(name: str) -> dict[str, Any]:
    with resources.as_file(_folder() / f"{name}.toml") as path:
        return _read(path)


def _read(path: Path) -> dict[str, Any]:
    return read_table(path, "no such board profile; check its path")


def _checked(table: Mapping[str, Any], name: str, where: str) -> BoardProfile:
    profile = _convert(table, _Profile, where, "")
    for key in ("fram", "rtc"):
        place = getattr(profile, key)
        if place is not None and place.startswith("i2c-"):
            parse_place(place, LAST_ADDRESS, f"{where}: {key}")
    return BoardProfile(
        name,
        profile.title,
        tuple(_slot(slot, profile, key, where) for key, slot in profile.slots.items()),
        profile.fram,
        profile.rtc,
        None if profile.button is None else _line(profile.button, profile, "button", where),
    )


def _slot(table: Any, profile: _Profile, name: str, where: str) -> SlotProfile:
    kinds = {kind.value: kind for kind in UnitKind}
    if name not in kinds:
        raise UsageError(f'{where}: slots has no key "{name}"; {nearest(name, kinds)}')
    place = f"slots.{name}"
    slot = _convert(table, _Slot, where, place)
    if slot.i2c is not None:
        parse_place(slot.i2c, LAST_ADDRESS, f"{where}: {place}.i2c")
        if ":" in slot.i2c:
            raise UsageError(f'{where}: {place}.i2c: "{slot.i2c}" names a chip; write the bus only')
    elif slot.eeprom is not None:
        raise UsageError(f"{where}: {place}.eeprom needs a bus; add {place}.i2c")

    def line(table: Any, key: str) -> LineSpec:
        return _line(table, profile, f"{place}.{key}", where)

    return SlotProfile(
        name,
        kinds[name],
        slot.i2c,
        slot.eeprom,
        slot.uart,
        None if slot.presence is None else line(slot.presence, "presence"),
        {role: line(spec, f"lines.{role}") for role, spec in slot.lines.items()},
    )


def _line(table: Any, profile: _Profile, place: str, where: str) -> LineSpec:
    spec = _convert(table, _Line, where, place)
    chip = spec.chip or profile.gpio_chip
    if chip is None:
        raise UsageError(f"{where}: {place} names no chip; add chip to it, or gpio_chip")
    return LineSpec(chip, spec.line, spec.active_low, spec.pull)


def _convert(table: Any, kind: type[_T], where: str, place: str) -> _T:
    """The table as its type; the mistakes of this level name ``place`` in it."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    spot = f"{where}: {place or 'the profile'}"
    if not isinstance(table, Mapping):
        raise UsageError(f"{spot} is no table; give it the keys {', '.join(fields)}")
    for key in table:
        if key not in fields:
            raise UsageError(f'{spot} has no key "{key}"; {nearest(key, fields)}')
    for key, field in fields.items():
        if field.required and key not in table:
            raise UsageError(f'{spot} lacks the key "{key}"; add it')
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as wrong:
        what, _, key = str(wrong).partition(" - at `$.")
        key = key.rstrip("`")
        dotted = f"{place}.{key}" if place else key
        reason = what[:1].lower() + what[1:].replace("`", "").replace(" | null", "")
        raise UsageError(f"{where}: {dotted}: {reason}") from None
