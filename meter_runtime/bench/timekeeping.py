"""What time it is for a bench, across its runs and its ends without warning.

Two times are told apart. *True time* is what the house lives by and the metering unit counts by:
it flows with the host's, an advance moves it on, and it never goes back. The meter's wall clock
is true time and its error, which :meth:`Bench.set_clock` and the faults of clocks change.

What is kept between runs is written before an advance begins, as if it had ended: a bench killed
on the way has been without power until then, as a real meter would have been.
"""

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.files import write_atomically
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import failure

log = logging.getLogger(__name__)

TIME_FILE = "clock-offset"


@dataclass(frozen=True, slots=True)
class KeptTime:
    """A bench's time in terms of the host's, in seconds."""

    offset_s: float = 0.0
    """True time minus the host's."""
    error_s: float = 0.0
    """The meter's clock minus true time."""
    most_error_s: float = 0.0
    """The largest error ever, at least 0: what is stored is stamped so far ahead at most."""

    def true_time(self, host: float, stored_until: float | None) -> float:
        """True time now, and never before what was stored at ``stored_until`` by the meter."""
        now = host + self.offset_s
        return now if stored_until is None else max(now, stored_until - self.most_error_s)


def kept_time(state_dir: Path) -> KeptTime | None:
    """What the last run left here; None before the first has begun to serve.

    A file of one bare number is of earlier versions: the offset of both times.
    Raises :class:`MeterError` for one that is damaged or cannot be read.
    """
    path = state_dir / TIME_FILE
    try:
        found = json.loads(path.read_text("ascii"))
        kept = KeptTime(**found) if isinstance(found, dict) else KeptTime(found)
        if all(isinstance(value, float) and math.isfinite(value) for value in astuple(kept)):
            return kept
    except FileNotFoundError:
        return None
    except OSError as reason:
        raise failure(path, "read", reason) from None
    except (ValueError, TypeError):
        pass
    raise MeterError(f"{path}: is damaged; remove it to set the clock to now")


class Timekeeper:
    """True time beside the meter's ``clock``, which is ``error_s`` off now; kept in ``state_dir``.

    ``state_dir`` None keeps nothing.
    """

    def __init__(
        self,
        clock: BenchClock,
        state_dir: Path | None,
        *,
        error_s: float = 0.0,
        most_error_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self.epoch = clock.wall() - error_s - clock.monotonic()
        """True time, UTC seconds, when the clock's monotonic time was 0."""
        self._path = None if state_dir is None else state_dir / TIME_FILE
        self._most_error_s = most_error_s
        self._moving = 0
        self._bound_for = self.now()

    def now(self) -> float:
        """True time, UTC seconds."""
        return self.epoch + self._clock.monotonic()

    def keep(self) -> None:
        """Write down how both times stand; a place that cannot be written is told, no more."""
        now = self.now()
        # To the millisecond: what passes between two looks at a clock must not add up.
        error_s = round(self._clock.wall() - now, 3)
        self._most_error_s = max(self._most_error_s, error_s)
        if self._path is None:
            return
        ahead_s = max(0.0, self._bound_for - now)
        kept = KeptTime(now + ahead_s - time.time(), error_s, self._most_error_s)
        try:
            write_atomically(self._path, json.dumps(asdict(kept)) + "\n")
        except MeterError as trouble:
            log.warning("%s; a bench started here again may be late", trouble)

    @contextmanager
    def moving(self, seconds: float) -> Iterator[None]:
        """While the clock is moved on by so much: kept as if it had been."""
        self._moving += 1
        self._bound_for = max(self._bound_for, self.now()) + seconds
        self.keep()
        try:
            yield
        finally:
            self._moving -= 1
            if not self._moving:
                self._bound_for = self.now()
            self.keep()
