"""GPIO lines: what a driver asks of them, whatever library or chip is underneath.

Levels are logical: True is *active*, whichever voltage that is; :class:`LineSpec` says it once.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

Pull = Literal["none", "up", "down"]

EDGES_KEPT = 1024
"""Edges that wait for their reader, per line: the most a kernel keeps. The oldest are lost."""

SEQUENCE_MODULUS = 1 << 32
"""Where the kernel's sequence numbers begin anew."""


@dataclass(frozen=True, slots=True)
class LineSpec:
    """One line: its chip by *label* (numbers change from boot to boot) and its offset there."""

    chip: str
    offset: int
    active_low: bool = False
    pull: Pull = "none"

    def __str__(self) -> str:
        return f"{self.chip} line {self.offset}"


@dataclass(frozen=True, slots=True)
class Edge:
    """A change of level, by the kernel's account.

    ``at_ns`` is CLOCK_MONOTONIC when it happened, of a debounced line when it was over;
    ``sequence`` counts the line's edges from 1, modulo :data:`SEQUENCE_MODULUS`, so that a gap
    tells how many the reader lost.
    """

    at_ns: int
    active: bool
    sequence: int


class InputLine(Protocol):
    """A line that is read; every method raises :class:`MeterError` when the chip fails."""

    def active(self) -> bool:
        """The level now."""
        ...

    def take(self) -> list[Edge]:
        """The edges that are there now, oldest first; never waits. Lines opened for edges."""
        ...

    async def edges(self) -> list[Edge]:
        """Wait for at least one edge; all that are there, oldest first. Lines opened for edges.

        One reader at a time. MeterError when the line is closed meanwhile.
        """
        ...

    def close(self) -> None:
        """Let go of the line; harmless twice."""
        ...


class OutputLine(Protocol):
    """A line that is driven for as long as it is open; its level after ``close`` is undefined."""

    def set(self, active: bool) -> None: ...

    def active(self) -> bool:
        """What it was set to last."""
        ...

    def close(self) -> None:
        """Let go of the line; harmless twice."""
        ...


class Gpio(Protocol):
    """All lines of a board. Raises MeterError naming chip, line and what to do.

    ``debounce_us`` is how long a level must last to be believed. ``initial`` is what an output is
    set to as it is opened, without a glitch. Closing closes every line.
    """

    def input(self, line: LineSpec, *, edges: bool = False, debounce_us: int = 0) -> InputLine: ...

    def output(self, line: LineSpec, *, initial: bool) -> OutputLine: ...

    def close(self) -> None: ...
