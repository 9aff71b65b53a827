"""What a fault is, and one that is active.

A fault is declared once, with how to begin it. Beginning gives back how to end it, or None where
everything happens at once and nothing is left to end.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from meter_runtime.bench.faults.parameters import Parameter, Values

if TYPE_CHECKING:
    from meter_runtime.bench.laboratory import Bench

End = Callable[[], None]
"""Ends what a fault began; called once."""


@dataclass(slots=True)
class Active:
    """One fault at work."""

    fault: "Fault"
    values: Values
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    """Have something done that takes time; what is spawned is done one after another."""
    over: Callable[["Active"], None]
    """Called once the last allowed effect has been."""
    since: float
    """UTC seconds of the bench's clock."""
    until: float | None = None
    left: int | None = None
    """Effects still to come; None without a limit."""
    effects: int = 0
    end: End = field(default=lambda: None)

    def strike(self) -> bool:
        """The fault is about to take effect: False where it has done so often enough."""
        if self.left == 0:
            return False
        self.effects += 1
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.over(self)
        return True


Begin = Callable[["Bench", Active], End | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """An entry of the catalogue."""

    name: str
    group: str
    models: str
    """What it is in the field."""
    begin: Begin
    parameters: tuple[Parameter, ...] = ()
    momentary: bool = False
    """It happens at once: there is nothing to end, and it takes no ``--for`` and no ``count``."""
    counts: str | None = None
    """What one effect is, where ``count`` may limit them; None where it cannot be counted."""
    usual_count: int | None = None
    """The limit where none is given."""
