"""The products a virtual module can be, and the options that set its state at power-up.

One frozen record per product. What is told apart is what client programs can see: dialect,
version lines, optional commands, and the state a module of that kind is usually found in.

Source: the vendors' command manuals as quoted by public client code, and logs of real modules.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect
from meter_runtime.errors import UsageError

DEFAULT_PACE_S = 0.010
"""What a real module takes before it answers."""

LONGEST_PACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One product."""

    name: str
    dialect: Dialect
    stack_version: str
    """``EVER``."""
    application_version: str
    """``EAPPVER``."""
    echo: bool = True
    """Register SFE at power-up."""
    hex_data: bool = True
    """Option byte WOPT as shipped: ERXUDP payloads in hex, not raw."""
    has_options: bool = True
    """Knows WOPT, ROPT and SKAPPVER; older firmware answers FAIL ER04."""
    scan_arguments: int = 3
    """How many arguments SKSCAN takes."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("bp35a1", SE, "1.2.10", "rev26e", hex_data=False),
        Profile("wsr35a1", SE, "1.2.10", "rev26e"),
        Profile("rl7023-ips", SE, "1.2.8", "rev25", has_options=False),
        Profile("bp35c2", DSE, "1.5.2", "rev40", hex_data=False, scan_arguments=4),
        Profile("rs-wsuha-p", DSE, "1.5.2", "rev40", scan_arguments=4),
        Profile("rl7023-dss", DSE, "1.5.2", "rev40", scan_arguments=4),
    )
}
"""By name. Versions other than 1.2.10, rev26e and 1.5.2 are *unverified*, and so is which product
ships with WOPT 00: what must be certain can be set by option."""


@dataclass(frozen=True, slots=True)
class ModuleOptions:
    """One virtual module as it is asked for: a product, and its state at power-up."""

    profile: Profile
    pace_s: float = DEFAULT_PACE_S
    """Real time between what the host or the air does and each write to the UART."""
    tty: str | None = None
    """A fixed path for the serial device."""


def parse_module_option(text: str) -> ModuleOptions:
    """``PROFILE[:key=value,…]``, keys ``echo``, ``wopt``, ``pace``, ``tty``, ``ropt``, ``scan``.

    >>> parse_module_option("bp35c2:echo=0,wopt=1,pace=0ms").profile.echo
    False

    UsageError names the option and the nearest right profile, key or value.
    """
    name, _, rest = text.partition(":")
    if name not in PROFILES:
        raise UsageError(f"module {name!r} is not known{_nearest(name, PROFILES)}")
    options = ModuleOptions(PROFILES[name])
    seen: set[str] = set()
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if key not in _SETTERS:
            raise UsageError(f"module option {text!r}: no key {key!r}{_nearest(key, _SETTERS)}")
        if key in seen:
            raise UsageError(f"module option {text!r}: {key!r} is given twice; keep one")
        if not equals or not value:
            raise UsageError(f"module option {text!r}: {key!r} has no value; {_VALUES[key]}")
        seen.add(key)
        try:
            options = _SETTERS[key](options, value)
        except ValueError:
            raise UsageError(
                f"module option {text!r}: {key}={value} is not possible; {_VALUES[key]}"
            ) from None
    return options


_VALUES = {
    "echo": "write echo=0 or echo=1",
    "wopt": "write wopt=0 (raw ERXUDP payloads) or wopt=1 (hex)",
    "pace": f"write a time of 0 to {LONGEST_PACE_S:.0f} s, as in pace=10ms",
    "tty": "write a path, as in tty=/tmp/module",
    "ropt": "write ropt=0 (WOPT, ROPT and SKAPPVER fail with ER04) or ropt=1",
    "scan": "write scan=3 or scan=4, the number of SKSCAN's arguments",
}


def _nearest(given: str, known: Iterable[str]) -> str:
    names = tuple(known)
    close = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"


def _flag(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError(value)
    return value == "1"


def _seconds(value: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s)", value)
    if found is None:
        raise ValueError(value)
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    if seconds > LONGEST_PACE_S:
        raise ValueError(value)
    return seconds


def _scan_arguments(value: str) -> int:
    if value not in ("3", "4"):
        raise ValueError(value)
    return int(value)


_SETTERS = {
    "echo": lambda o, v: replace(o, profile=replace(o.profile, echo=_flag(v))),
    "wopt": lambda o, v: replace(o, profile=replace(o.profile, hex_data=_flag(v))),
    "pace": lambda o, v: replace(o, pace_s=_seconds(v)),
    "tty": lambda o, v: replace(o, tty=v),
    "ropt": lambda o, v: replace(o, profile=replace(o.profile, has_options=_flag(v))),
    "scan": lambda o, v: replace(o, profile=replace(o.profile, scan_arguments=_scan_arguments(v))),
}
