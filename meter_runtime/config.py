"""The configuration file: its sections, its checks, and errors a person can act on.

The file is TOML. A key it does not know, a value of the wrong type or out of range, a
missing key and a syntax error each end in one line that names the file, the section and the
key, and the nearest right one. What a value *means* is checked where it is used: whether a
driver exists by the unit catalogue, whether a B-route ID is well formed by the link.

The B-route password is held as a :class:`~meter_runtime.secret.Secret` from the moment it is
read, and no message here ever quotes a value that could be one.
"""

import datetime
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from meter_runtime.errors import UsageError, nearest
from meter_runtime.secret import Secret
from meter_runtime.tables import read_table

log = logging.getLogger(__name__)

ENERGY_UNITS_KWH = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
"""What one count of the cumulative registers may be worth (class 0x0288, EPC 0xE1)."""

_WORLD = 0o007
_GROUP_AND_WORLD = 0o077


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One table of the file."""


class Meter(_Section, frozen=True):
    """``[meter]``: which meter this is."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    utility: str = "kansai"


class Storage(_Section, frozen=True):
    """``[storage]``: where the registers, the history and the credentials live.

    With ``medium = "fram"`` load profile and registers are on the FRAM chip at ``fram``
    (``i2c-BUS`` or ``i2c-BUS:0xADDRESS``), the rest in ``state_dir``. ``fine`` keeps one-minute
    and five-minute values through a restart. ``device_key_file`` holds the key that seals the
    credentials; without it the service manager's ``device-key`` is used.
    """

    state_dir: Path = Path("/var/lib/meter-runtime")
    medium: Literal["file", "fram"] = "file"
    fram: str = "i2c-1:0x50"
    fine: bool = False
    device_key_file: Path | None = None


class Clock(_Section, frozen=True):
    """``[clock]``: the battery-backed clock, ``auto``, ``none``, ``/dev/rtcN`` or ``i2c-N``."""

    rtc: str = "auto"


class Control(_Section, frozen=True):
    """``[control]``: where the running meter answers its operator."""

    path: Path = Path("/run/meter-runtime/control.sock")


Option = str | int | float | bool


class Board(_Section, frozen=True):
    """``[board]``: the slots and wires of this machine.

    ``profile`` is a name (``meter-runtime units detect`` lists them), a file that ends in
    ``.toml``, or ``auto`` for the one that this machine is. ``gpio`` is the library that drives
    its lines.
    """

    profile: str = "auto"
    gpio: Literal["gpiod", "rpi"] = "gpiod"


class MeteringUnit(_Section, frozen=True):
    """``[units.metering]``: a driver's name or ``auto``, and what that driver wants to know."""

    driver: str = "auto"
    options: dict[str, Option] = {}


class OptionalUnit(_Section, frozen=True):
    """``[units.optional]``: a driver's name or ``auto``, and what that driver wants to know."""

    driver: str = "auto"
    options: dict[str, Option] = {}


class CommunicationUnit(_Section, frozen=True):
    """``[units.communication]``: the driver, its port, and what else the driver wants to know.

    Without a ``port`` it is the slot's UART.
    """

    driver: str = "skstack"
    port: str | None = None
    options: dict[str, Option] = {}


class Units(_Section, frozen=True):
    """``[units]``: what is plugged in."""

    metering: MeteringUnit = MeteringUnit()
    communication: CommunicationUnit = CommunicationUnit()
    optional: OptionalUnit = OptionalUnit()
    cover: Literal["normal", "rain"] = "normal"


class Contract(_Section, frozen=True):
    """``[contract]``: what the customer's contract asks of the units; see ``units check``."""

    renewables: bool = False
    broute: bool = False
    switching: bool = False
    capacity_a: Annotated[int, msgspec.Meta(ge=1, le=120)] | None = None
    medium: Literal["920MHz", "PLC"] | None = None
    site: Literal["detached", "multi-dwelling"] | None = None


class Switching(_Section, frozen=True):
    """``[switching]``: what an optional switching unit is used for.

    With ``limit_a`` the supply is opened when the current is above it for ``limit_hold_s``; it is
    a policy for contracts with such a limit, and off without.
    """

    min_interval_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0
    limit_a: Annotated[float, msgspec.Meta(gt=0, le=120)] | None = None
    limit_hold_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0


class BRoute(_Section, frozen=True):
    """``[broute]``: the service to the home.

    ``id`` and ``password`` come together; without them the meter measures and stores but is
    not in service. ``password_file`` is an alternative to ``password``: after :func:`load`
    its content is in ``password``. ``energy_unit`` is the kWh of one register count, one of
    :data:`ENERGY_UNITS_KWH`; ``coefficient`` is 1-999999, absent for 1. Nothing before the
    JST day ``accepted_on`` is served.
    """

    id: str | None = None
    password: Secret | None = None
    password_file: Path | None = None
    profile: Literal["kansai", "aif-1.01", "aif-1.10"] = "aif-1.01"
    effective_digits: Annotated[int, msgspec.Meta(ge=1, le=8)] = 8
    energy_unit: float = 0.1
    coefficient: Annotated[int, msgspec.Meta(ge=1, le=999_999)] | None = None
    notification: Literal["inf", "infc"] = "inf"
    accepted_on: datetime.date | None = None
    feed_in_as_forward: bool = False


class ARoute(_Section, frozen=True):
    """``[aroute]``: the way to the utility; off without a ``url``.

    ``url`` is ``mqtts://host[:8883]``, or ``mqtt://`` where the way is protected otherwise. ``ca``,
    ``certificate`` and ``key`` are PEM files. ``trust`` says whose commands the meter obeys. A
    half-hour value is sent up to ``jitter_s`` after its boundary, so that meters do not all speak
    at once.
    """

    url: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password: Secret | None = None
    password_file: Path | None = None
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    trust: Path | None = None
    jitter_s: Annotated[float, msgspec.Meta(ge=0, le=900)] = 60.0


class Local(_Section, frozen=True):
    """``[local]``: the port for a hand-held terminal; off without ``listen``, ``ADDRESS:PORT``.

    It is open for a while after the board's button was held; ``presence = "always"`` needs no
    button. ``ca``, ``certificate`` and ``key`` are those of ``[aroute]`` where they are left out;
    whom it obeys stands in ``[aroute] trust``.
    """

    listen: str | None = None
    presence: Literal["button", "always"] = "button"
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class Log(_Section, frozen=True):
    """``[log]``: how much is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Section, frozen=True):
    """The whole file."""

    meter: Meter
    storage: Storage = Storage()
    clock: Clock = Clock()
    control: Control = Control()
    board: Board = Board()
    contract: Contract | None = None
    units: Units = Units()
    switching: Switching = Switching()
    broute: BRoute = BRoute()
    aroute: ARoute = ARoute()
    local: Local = Local()
    log: Log = Log()


def load(path: Path) -> Config:
    """Read and check the file; :class:`UsageError` names the first mistake in it."""
    table = read_table(path, "no such file; name one with --config FILE")
    try:
        _check_keys(table, Config, "")
        config = msgspec.convert(table, Config, dec_hook=_convert)
        broute = _resolve(config.broute, path.parent)
        aroute = _resolve_aroute(config.aroute, path.parent)
        local = _resolve_local(config.local, aroute, path.parent)
        storage = _placed(config.storage, path.parent)
    except msgspec.ValidationError as wrong:
        raise UsageError(f"{path}: {_explain(str(wrong))}") from None
    except UsageError as wrong:
        raise UsageError(f"{path}: {wrong}") from None
    if config.broute.password is not None or config.aroute.password is not None:
        _warn_if_exposed(path, _GROUP_AND_WORLD)
    return msgspec.structs.replace(
        config, broute=broute, aroute=aroute, local=local, storage=storage
    )


def _check_keys(table: Mapping[str, Any], kind: type[msgspec.Struct], section: str) -> None:
    """Refuse unknown keys, missing keys and values outside a fixed choice, with advice."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    place = f"[{section}]" if section else "the file"
    for key in table:
        if key not in fields:
            raise UsageError(f'{place} has no key "{key}"; {nearest(key, fields)}')
    for name, field in fields.items():
        if name not in table:
            if field.required:
                raise UsageError(_missing(section, name))
            continue
        value = table[name]
        if isinstance(value, dict) and _is_section(field.type):
            _check_keys(value, field.type, f"{section}.{name}" if section else name)
        elif get_origin(field.type) is Literal and value not in get_args(field.type):
            choice = nearest(str(value), get_args(field.type))
            raise UsageError(f'{place} {name}: "{value}" is not one of its values; {choice}')


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _missing(section: str, name: str) -> str:
    if section:
        return f'[{section}] lacks the key "{name}"; add it'
    return f"the file lacks the section [{name}]; add it"


def _explain(message: str) -> str:
    """Turn msgspec's ``what - at `$.section.key` `` into ``[section] key: what``."""
    what, _, where = message.partition(" - at `$.")
    section, _, key = where.rstrip("`").removesuffix("[...]").rpartition(".")
    what = what[:1].lower() + what[1:].replace("`", "")
    return f"[{section}] {key}: {what}" if section else f"[{key}]: {what}"


def _convert(kind: type, value: Any) -> Any:
    """Make the types msgspec does not know; its message then carries the key's place."""
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if kind is Secret:
        return Secret(value)
    return Path(value)


def _resolve(broute: BRoute, folder: Path) -> BRoute:
    """Check what a type cannot say, and read the password's file where one is named."""
    if broute.energy_unit not in ENERGY_UNITS_KWH:
        raise UsageError(
            f"[broute] energy_unit: {broute.energy_unit:g} kWh is no power of ten"
            " from 0.0001 to 10000"
        )
    if broute.password is not None and broute.password_file is not None:
        raise UsageError("[broute] has both password and password_file; keep one")
    if broute.password_file is not None:
        password = _read_password("broute", folder / broute.password_file)
        broute = msgspec.structs.replace(broute, password=password)
    match broute.id, broute.password:
        case str(), None:
            raise UsageError("[broute] has an id but no password; add password or password_file")
        case None, Secret():
            raise UsageError("[broute] has a password but no id; add id")
    return broute


def _resolve_aroute(aroute: ARoute, folder: Path) -> ARoute:
    """Check what belongs together; file names are relative to the configuration."""
    if aroute.url is None:
        return aroute
    if aroute.trust is None:
        raise UsageError("[aroute] has a url but no trust; add the file of keys to be trusted")
    if aroute.url.startswith("mqtts:") and aroute.ca is None:
        raise UsageError("[aroute] mqtts needs ca: the authority that the broker is checked by")
    if (aroute.certificate is None) != (aroute.key is None):
        raise UsageError("[aroute] certificate and key come together; add the other one")
    if aroute.password is not None and aroute.password_file is not None:
        raise UsageError("[aroute] has both password and password_file; keep one")
    password = aroute.password
    if aroute.password_file is not None:
        password = _read_password("aroute", folder / aroute.password_file)
    files = {
        name: folder / file
        for name in ("ca", "certificate", "key", "trust")
        if (file := getattr(aroute, name)) is not None
    }
    return msgspec.structs.replace(aroute, password=password, **files)


def _resolve_local(local: Local, aroute: ARoute, folder: Path) -> Local:
    """Its files, or those of ``[aroute]``, which have their place already."""
    if local.listen is None:
        return local
    if aroute.url is None:
        raise UsageError("[local] listen needs [aroute]: whom the meter obeys stands there")
    files = {}
    for name in ("ca", "certificate", "key"):
        own = getattr(local, name)
        file = getattr(aroute, name) if own is None else folder / own
        if file is None:
            raise UsageError(f"[local] listen needs {name}; add it here or in [aroute]")
        files[name] = file
    return msgspec.structs.replace(local, **files)


def _placed(storage: Storage, folder: Path) -> Storage:
    """The key file's name is relative to the configuration, as the password file's is."""
    if storage.device_key_file is None:
        return storage
    return msgspec.structs.replace(storage, device_key_file=folder / storage.device_key_file)


def _read_password(section: str, path: Path) -> Secret:
    try:
        text = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise UsageError(f"[{section}] password_file: {path} is not ASCII text") from None
    except OSError as failure:
        raise UsageError(f"[{section}] password_file: {path}: {failure.strerror}") from None
    if not text:
        raise UsageError(f"[{section}] password_file: {path} is empty; write the password into it")
    # The service manager hands credentials over with a group bit that is an ACL's mask.
    _warn_if_exposed(path, _WORLD)
    return Secret(text)


def _warn_if_exposed(path: Path, mask: int) -> None:
    if path.stat().st_mode & mask:
        log.warning("%s holds a password and others can read it; chmod 600 it", path)
