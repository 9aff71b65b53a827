"""One measured figure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured, the median over the repeats, and its unit.

    ``aim`` is the figure this project wants not to exceed on a desktop-class core.
    """

    name: str
    figure: float
    unit: str
    aim: float | None = None
