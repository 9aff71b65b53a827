"""A fault's parameters: what a person may write, and the value that is meant.

Values come as text from a command line or as Python values from a program; both are checked here,
and what is wrong ends in a UsageError that names the fault, the parameter and what is possible.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from meter_runtime.errors import UsageError, nearest
from meter_runtime.secret import Secret


class Kind(Protocol):
    """A kind of value."""

    @property
    def range(self) -> str:
        """What may be given, for people."""
        ...

    def parse(self, given: object) -> Any:
        """The value; ValueError for what is none."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number from ``lowest`` to ``highest``; ``whole`` ones only where that is said."""

    lowest: float
    highest: float
    unit: str = ""
    whole: bool = False

    @property
    def range(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.lowest:,g} to {self.highest:,g}{unit}"

    def parse(self, given: object) -> float:
        if isinstance(given, bool) or not isinstance(given, int | float | str):
            raise ValueError(given)
        value = float(given)
        if not self.lowest <= value <= self.highest or (self.whole and value != int(value)):
            raise ValueError(given)
        return int(value) if self.whole else value


_TIME = re.compile(r"([+-]?[0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|d|)", re.ASCII)
_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time: a number of seconds, or text like ``200ms``, ``30s``, ``5m``, ``1h``."""

    lowest: float
    highest: float

    @property
    def range(self) -> str:
        return f"{self.lowest:,g} s to {self.highest:,g} s"

    def parse(self, given: object) -> float:
        found = _TIME.fullmatch(str(given).strip())
        if found is None or isinstance(given, bool):
            raise ValueError(given)
        seconds = float(found[1]) * _UNITS_S[found[2]]
        if not self.lowest <= seconds <= self.highest:
            raise ValueError(given)
        return seconds


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def range(self) -> str:
        return ", ".join(self.words)

    def parse(self, given: object) -> str:
        word = str(given)
        if word not in self.words:
            raise ValueError(given)
        return word


@dataclass(frozen=True, slots=True)
class Word:
    """Text of a fixed form; ``form`` says it for people."""

    pattern: str
    form: str
    upper: bool = False

    @property
    def range(self) -> str:
        return self.form

    def parse(self, given: object) -> str:
        text = str(given).upper() if self.upper else str(given)
        if re.fullmatch(self.pattern, text) is None:
            raise ValueError(given)
        return text


@dataclass(frozen=True, slots=True)
class Password:
    """A B-route password; masked from here on."""

    range: str = "12 letters and digits"

    def parse(self, given: object) -> Secret:
        secret = given if isinstance(given, Secret) else Secret(str(given))
        if re.fullmatch(r"[0-9A-Za-z]{12}", secret.reveal()) is None:
            raise ValueError
        return secret


@dataclass(frozen=True, slots=True)
class Epc:
    """A property code 80 to FF in hex; the value is a number, or None for ``all``."""

    every: bool = True
    """``all`` may be given."""

    @property
    def range(self) -> str:
        return "80 to FF, or all" if self.every else "80 to FF"

    def parse(self, given: object) -> int | None:
        if self.every and given == "all":
            return None
        code = given if isinstance(given, int) else int(str(given).removeprefix("0x"), 16)
        if not 0x80 <= code <= 0xFF:
            raise ValueError(given)
        return code


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a fault.

    ``default`` is written as a person would; None leaves the choice to the fault, and ``says``
    tells what it then does.
    """

    name: str
    kind: Kind
    default: object
    says: str


MODULE = Word("[a-z0-9]+", "meter, hems0, hems1, …")


def module(default: str | None = "hems0") -> Parameter:
    """The parameter that chooses a module of the room."""
    return Parameter("module", MODULE, default, "whose module")


Values = Mapping[str, Any]


def checked(fault: str, declared: tuple[Parameter, ...], given: Mapping[str, object]) -> Values:
    """Every declared parameter's value: the given one or the default."""
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            raise UsageError(f'fault {fault} has no parameter "{name}"; {nearest(name, known)}')
    values: dict[str, Any] = {}
    for parameter in declared:
        value = given.get(parameter.name, parameter.default)
        if value is None:
            values[parameter.name] = None
            continue
        try:
            values[parameter.name] = parameter.kind.parse(value)
        except ValueError:
            named = "its value" if isinstance(parameter.kind, Password) else f"{value}"
            raise UsageError(
                f"fault {fault}: {parameter.name}={named} is not possible;"
                f" give {parameter.kind.range}"
            ) from None
    return values


def shown(values: Values) -> dict[str, Any]:
    """The values for people and JSON: secrets masked, what was left open left out."""
    return {
        name: str(value) if isinstance(value, Secret) else value
        for name, value in values.items()
        if value is not None
    }
