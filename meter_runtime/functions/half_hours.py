"""Half-hour figures of voltages: mean, least and most of what was read.

Integer arithmetic: a mean is rounded once, to the nearest 0.01 V, halves up. Knows nothing of
clocks: whoever feeds it says which half-hour it is.
"""

from dataclasses import dataclass

from meter_runtime.storage.voltage_log import MAX_CV, MAX_READINGS, LineVoltage, VoltageRecord
from meter_runtime.units.contracts import VoltageSample

MIN_READINGS = 900
"""Of a half-hour's 1800 readings; a line with fewer has no data. *Unverified*."""

_MV_PER_CV = 10


@dataclass(slots=True)
class _Line:
    """What was read of one line so far."""

    total_mv: int = 0
    least_mv: int = 0
    most_mv: int = 0
    readings: int = 0

    def add(self, mv: int, times: int) -> None:
        self.least_mv = min(self.least_mv, mv) if self.readings else mv
        self.most_mv = max(self.most_mv, mv)
        self.total_mv += mv * times
        self.readings += times

    def figures(self, fewest: int) -> LineVoltage | None:
        if self.readings < max(1, fewest):
            return None
        return LineVoltage(
            _centivolt(self.total_mv, self.readings),
            _centivolt(self.least_mv, 1),
            _centivolt(self.most_mv, 1),
            min(self.readings, MAX_READINGS),
        )


class HalfHours:
    """The half-hour under way."""

    def __init__(self, fewest: int = MIN_READINGS) -> None:
        self._fewest = fewest
        self._slot: int | None = None
        self._lines = (_Line(), _Line(), _Line())

    def take(
        self, slot: int | None, sample: VoltageSample | None, times: int = 1
    ) -> VoltageRecord | None:
        """A reading in half-hour ``slot``; the half-hour before, where this begins another one.

        ``slot`` None: nobody knows the time; ``sample`` None: no reading, time goes on. A reading
        counts ``times``. A half-hour that the clock leaves backwards was wrong, and is dropped.
        """
        done = None
        if slot != self._slot:
            if slot is not None and self._slot is not None and slot > self._slot:
                done = self._record(self._slot)
            self._slot = slot
            self._lines = (_Line(), _Line(), _Line())
        if slot is not None and sample is not None:
            voltages = (sample.r_n_mv, sample.t_n_mv, sample.r_t_mv)
            for line, mv in zip(self._lines, voltages, strict=True):
                if mv is not None:
                    line.add(max(0, mv), times)
        return done

    def _record(self, slot: int) -> VoltageRecord | None:
        r_n, t_n, r_t = (line.figures(self._fewest) for line in self._lines)
        record = VoltageRecord(slot, r_n, t_n, r_t)
        return record if record.readings else None


def _centivolt(total_mv: int, readings: int) -> int:
    divisor = readings * _MV_PER_CV
    return min((2 * total_mv + divisor) // (2 * divisor), MAX_CV)
