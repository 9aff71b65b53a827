"""Values of the class 0x0288 as EDT bytes, with the code each keeps for "no data".

Pure functions; big-endian. Appendix release R, 3.3.25. What cannot be told is never a zero.
"""

import struct

from meter_runtime.broute.echonet.data import ENERGY_UNITS_MWH
from meter_runtime.clock import jst

NO_ENERGY = 0xFFFFFFFE

_NO_POWER = 0x7FFFFFFE
_POWER_OVER = 0x7FFFFFFF
_POWER_UNDER = -0x80000000
_NO_CURRENT = 0x7FFE
_CURRENT_OVER = 0x7FFF
_CURRENT_UNDER = -0x8000

_MWH_PER_DECI_WH = 100

u32 = struct.Struct(">I").pack
u16 = struct.Struct(">H").pack
_s32 = struct.Struct(">i").pack
_two_s16 = struct.Struct(">hh").pack
_date_time = struct.Struct(">HBBBBB").pack


class EnergyScale:
    """Energy in integer milliwatt-hours or 0.1 Wh to register counts.

    kWh = count x coefficient (D3) x unit (E1). A register drops the fraction of a count, as a
    mechanical one does, and wraps at 10^digits (D7).
    """

    def __init__(self, unit: int, coefficient: int, digits: int) -> None:
        self._count_mwh = ENERGY_UNITS_MWH[unit] * coefficient
        self._count_dwh = self._count_mwh // _MWH_PER_DECI_WH
        self._modulus: int = 10**digits

    def of_mwh(self, energy_mwh: int | None) -> int:
        """The count of a live register, or the code for no data."""
        if energy_mwh is None:
            return NO_ENERGY
        return energy_mwh // self._count_mwh % self._modulus

    def of_dwh(self, energy_dwh: int | None) -> int:
        """The count of a register stored in 0.1 Wh, or the code for no data."""
        if energy_dwh is None:
            return NO_ENERGY
        return energy_dwh // self._count_dwh % self._modulus


def power(power_w: int | None) -> bytes:
    """E7, signed 32 bit in W: 7FFFFFFE no data, 7FFFFFFF over, 80000000 under the range."""
    if power_w is None:
        return _s32(_NO_POWER)
    if power_w >= _NO_POWER:
        return _s32(_POWER_OVER)
    if power_w <= _POWER_UNDER:
        return _s32(_POWER_UNDER)
    return _s32(power_w)


def currents(r_ma: int | None, t_ma: int | None) -> bytes:
    """E8, R then T, signed 16 bit in 0.1 A: 7FFE no data, 7FFF over, 8000 under the range."""
    return _two_s16(_deci_ampere(r_ma), _deci_ampere(t_ma))


def _deci_ampere(current_ma: int | None) -> int:
    """To the nearest 0.1 A, halves away from zero, alike in both directions (*unverified*)."""
    if current_ma is None:
        return _NO_CURRENT
    size = (abs(current_ma) + 50) // 100
    if current_ma < 0:
        return max(-size, _CURRENT_UNDER)
    return size if size < _NO_CURRENT else _CURRENT_OVER


def date_time(epoch: float) -> bytes:
    """YYYY MM DD hh mm ss, JST, seven bytes."""
    t = jst(epoch)
    return _date_time(t.year, t.month, t.day, t.hour, t.minute, t.second)


def clock_time(epoch: float) -> bytes:
    """97: hh mm, JST."""
    t = jst(epoch)
    return bytes((t.hour, t.minute))


def calendar_date(epoch: float) -> bytes:
    """98: YYYY MM DD, JST."""
    t = jst(epoch)
    return u16(t.year) + bytes((t.month, t.day))
