"""An ADS1115 at its four registers, its inputs fed by RMS-to-DC front ends.

From SBAS444E: pointer and registers (8.1), single-shot and continuous conversion, the multiplexer,
the full-scale ranges with their saturation, and the time a conversion takes by its data rate. The
value is the input's at the end of the conversion, rounded down. Not modelled: the comparator (its
registers are kept and do nothing), noise, gain error, and the limit that the supply sets to inputs.
"""

from collections.abc import Callable, Mapping, Sequence

from meter_runtime.bench.board.bus import Nak
from meter_runtime.bench.board.supply import Flow

DEFAULT_ADDRESS = 0x48

CALIBRATION: Mapping[str, int] = {"r_uv_per_v": 8000, "t_uv_per_v": 8000, "rt_uv_per_v": 5000}
"""What a nameplate must say of :func:`front_ends`."""

_RANGES_UV = (6_144_000, 4_096_000, 2_048_000, 1_024_000, 512_000, 256_000, 256_000, 256_000)
_RATES = (8, 16, 32, 64, 128, 250, 475, 860)
_INPUTS = ((0, 1), (0, 3), (1, 3), (2, 3), (0, None), (1, None), (2, None), (3, None))
_WAKE_UP_S = 25e-6
_CONVERSION, _CONFIG = 0, 1
_RESET = (0x0000, 0x8583, 0x8000, 0x7FFF)
_OS, _SINGLE_SHOT = 0x8000, 0x0100

Input = Callable[[], int]
"""The voltage at a pin now, in microvolts against ground."""


class Ads1115Chip:
    """The chip; ``now`` is monotonic time in seconds. Inputs that are not given are grounded."""

    def __init__(self, inputs: Sequence[Input], now: Callable[[], float]) -> None:
        self.stalled = False
        """Conversions that begin do not end."""
        self.speed = 1.0
        """Of its oscillator, which may be a tenth off."""
        self._inputs = inputs
        self._now = now
        self._powered = True
        self._registers = list(_RESET)
        self._pointer = 0
        self._ends_at: float | None = None

    def power_off(self) -> None:
        """Nobody answers, and the registers are forgotten."""
        self._powered = False

    def power_on(self) -> None:
        """Power is back."""
        self._powered = True
        self._registers = list(_RESET)
        self._pointer = 0
        self._ends_at = None

    def write(self, data: bytes) -> None:
        self._awake()
        if not data:
            return
        self._pointer = data[0] & 3
        if len(data) < 3 or self._pointer == _CONVERSION:
            return
        value = int.from_bytes(data[1:3], "big")
        if self._pointer == _CONFIG:
            self._configure(value)
        else:
            self._registers[self._pointer] = value

    def read(self, n: int) -> bytes:
        self._awake()
        value = self._registers[self._pointer]
        if self._pointer == _CONFIG:
            converting = self._ends_at is not None or not value & _SINGLE_SHOT
            value = value & ~_OS | (0 if converting else _OS)
        return value.to_bytes(2, "big")[:n].ljust(n, b"\xff")

    def _awake(self) -> None:
        if not self._powered:
            raise Nak
        continuous = not self._registers[_CONFIG] & _SINGLE_SHOT
        if continuous or (self._ends_at is not None and self._now() >= self._ends_at):
            self._registers[_CONVERSION] = self._converted()
            self._ends_at = None

    def _configure(self, value: int) -> None:
        converting = self._ends_at is not None
        self._registers[_CONFIG] = value
        if value & _SINGLE_SHOT and value & _OS and not converting:
            took = 1 / _RATES[value >> 5 & 7] / self.speed
            self._ends_at = float("inf") if self.stalled else self._now() + _WAKE_UP_S + took

    def _converted(self) -> int:
        config = self._registers[_CONFIG]
        plus, minus = _INPUTS[config >> 12 & 7]
        uv = self._at(plus) - (0 if minus is None else self._at(minus))
        counts = uv * 0x8000 // _RANGES_UV[config >> 9 & 7]
        return max(-0x8000, min(0x7FFF, counts)) % 0x10000

    def _at(self, pin: int) -> int:
        return self._inputs[pin]() if pin < len(self._inputs) else 0


def front_ends(lines: Sequence[Callable[[], Flow]]) -> tuple[Input, ...]:
    """RMS-to-DC front ends of R-N, T-N and R-T, by :data:`CALIBRATION`; ``lines`` are R and T."""
    r, t = lines[0], lines[-1]

    def r_n() -> int:
        return r().voltage_mv * CALIBRATION["r_uv_per_v"] // 1000

    def t_n() -> int:
        return t().voltage_mv * CALIBRATION["t_uv_per_v"] // 1000

    def r_t() -> int:
        return (r().voltage_mv + t().voltage_mv) * CALIBRATION["rt_uv_per_v"] // 1000

    return r_n, t_n, r_t
