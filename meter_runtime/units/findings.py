"""The codes U-01 to U-24: how grave each is, what it costs, and what a person is told of it.

The texts, English and Japanese, are data (``findings.toml``). When a code is due is
:mod:`~meter_runtime.units.combination`'s business. The codes are this project's own; the rules
behind them are inferred from the published description of the unit-type meter.
"""

import enum
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from meter_runtime.errors import UsageError, nearest
from meter_runtime.units.contracts import UnitKind

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = ("en", "ja")


class Severity(enum.Enum):
    """How grave a finding is."""

    ERROR = "error"
    """Somebody must come; an alarm is raised."""
    WARNING = "warning"
    """It may be meant."""
    INFO = "info"


class Function(enum.Enum):
    """What the meter leaves undone because of a finding."""

    SERVICE = "service"
    """All of it: the switch stays closed, registers are kept, and only an operator is answered."""
    BROUTE = "broute"
    SWITCHING = "switching"
    VOLTAGE = "voltage"
    REVERSE = "reverse"
    """Serving reverse energy: the meter is one-way to whoever reads it."""


@dataclass(frozen=True, slots=True)
class Words:
    """A code in one language."""

    title: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Code:
    """One line of the table."""

    code: str
    severity: Severity
    disables: Mapping[UnitKind, frozenset[Function]]
    """By the kind of the unit that it is about."""
    words: Mapping[Language, Words]

    def effect(self, kind: UnitKind, language: Language) -> str:
        """What it costs, in words."""
        named = [function.value for function in Function if function in self.disables[kind]]
        if not named:
            named = ["noted" if self.severity is Severity.INFO else "nothing"]
        return ("、" if language == "ja" else ", ").join(
            _table()["functions"][name][language] for name in named
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or worth knowing, about the units of one meter.

    ``kind`` says which unit it is about; ``detail`` names models, serials and figures, in no
    language.
    """

    code: str
    kind: UnitKind
    detail: str = ""

    @property
    def severity(self) -> Severity:
        return codes()[self.code].severity

    @property
    def disables(self) -> frozenset[Function]:
        return codes()[self.code].disables[self.kind]

    def text(self, language: Language = "en") -> str:
        """What an operator reads, without the code."""
        title = codes()[self.code].words[language].title
        if not self.detail:
            return title
        return f"{title}({self.detail})" if language == "ja" else f"{title} ({self.detail})"


@cache
def codes() -> Mapping[str, Code]:
    """All codes, in their order."""
    return {name: _code(name, said) for name, said in _table()["codes"].items()}


def code(name: str) -> Code:
    """The code of this name; UsageError with the nearest one."""
    wanted = name.upper()
    if wanted not in codes():
        raise UsageError(f'no finding has the code "{name}"; {nearest(wanted, codes())}')
    return codes()[wanted]


def severity_name(severity: Severity, language: Language) -> str:
    """The severity as people call it."""
    name: str = _table()["severities"][severity.value][language]
    return name


def _code(name: str, said: Mapping[str, Any]) -> Code:
    disables = said["disables"]
    by_kind = {
        kind: disables[kind.value] if isinstance(disables, dict) else disables for kind in UnitKind
    }
    return Code(
        name,
        Severity(said["severity"]),
        {kind: frozenset(map(Function, named)) for kind, named in by_kind.items()},
        {language: Words(**said[language]) for language in LANGUAGES},
    )


@cache
def _table() -> Mapping[str, Any]:
    file = resources.files("meter_runtime.units") / "findings.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))
