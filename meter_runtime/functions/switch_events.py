"""What is told of the supply's switch: moves, mismatches, and commands that are not carried out."""

import enum
from dataclasses import dataclass

from meter_runtime.errors import MeterError
from meter_runtime.storage.switch_state import Origin
from meter_runtime.units.contracts import SwitchPosition


class Refusal(enum.Enum):
    """Why a command is not carried out."""

    NO_UNIT = "no switching unit is fitted"
    MOVING = "a move is under way"
    TOO_SOON = "too soon after the last move"
    NOT_PERMITTED = "the units that are fitted do not permit it"
    SILENT = "the unit's feedback is silent"
    NOT_STORED = "the command cannot be stored"


class SwitchRefusedError(MeterError):
    """The switch was not told to move; ``refusal`` is why."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class SwitchMoved:
    """The contacts went where they were told to go."""

    position: SwitchPosition
    origin: Origin


@dataclass(frozen=True, slots=True)
class SwitchMismatch:
    """The contacts are not where they should be; published once, and again when ``found`` changes.

    It ends with :class:`SwitchAgrees`, or with the unit's removal.
    """

    wanted: SwitchPosition
    found: SwitchPosition


@dataclass(frozen=True, slots=True)
class SwitchAgrees:
    """A mismatch is over."""

    position: SwitchPosition


@dataclass(frozen=True, slots=True)
class SwitchRefused:
    """A command was not carried out."""

    wanted: SwitchPosition
    origin: Origin
    refusal: Refusal
    reason: str
