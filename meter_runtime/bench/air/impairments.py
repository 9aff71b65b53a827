"""What may befall a frame beyond distance and noise: the seam for faults on the air.

An :data:`Impairment` is asked once per frame and receiver, whatever the number of tries and
fragments, and draws only from the generator it is given, so that a seed repeats its verdicts.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from meter_runtime.bench.air.frames import Frame

MAX_COPIES = 16
"""More than this is never heard of one frame."""


@dataclass(frozen=True, slots=True)
class Fate:
    """One frame at one receiver: lost for good, heard several times, heard late."""

    lost: bool = False
    """No try gets through; the sender of unicast learns that the MAC gave up."""
    copies: int = 1
    delay_s: float = 0.0
    """Counts from the end of the frame, on either kind of air; the sender does not notice. A scan
    on an air that does not wait misses late beacons, as one on the true air misses those later
    than its dwell."""


Impairment = Callable[[Frame, bytes | None, random.Random], Fate]
"""Takes the frame, its receiver's MAC address and the air's generator."""

UNHARMED = Fate()


def fate_of(
    impairments: Iterable[Impairment], frame: Frame, receiver: bytes | None, rng: random.Random
) -> Fate:
    """What they make of it together: lost wins, copies multiply, delays add."""
    fate = UNHARMED
    for impairment in tuple(impairments):  # one of them may take itself away
        other = impairment(frame, receiver, rng)
        fate = Fate(
            fate.lost or other.lost,
            min(fate.copies * other.copies, MAX_COPIES),
            fate.delay_s + max(other.delay_s, 0.0),
        )
    return fate
