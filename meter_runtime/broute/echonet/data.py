"""What the node is given: the meter's live data, and the settings fixed while it serves.

Owns the two contracts and the three profiles a meter of this kind may serve; where the data come
from is the service's business.
"""

import difflib
from dataclasses import dataclass, field
from typing import Protocol

from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import Wiring

TESTING_MAKER_CODE = b"\xff\xff\xf0"
"""The manufacturer code for testing; a real maker's is never used."""

ENERGY_UNITS_MWH = {
    0x00: 1_000_000,
    0x01: 100_000,
    0x02: 10_000,
    0x03: 1_000,
    0x04: 100,
    0x0A: 10_000_000,
    0x0B: 100_000_000,
    0x0C: 1_000_000_000,
    0x0D: 10_000_000_000,
}
"""EPC E1: what one count of a register is worth, in milliwatt-hours."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A set of properties as a generation of meters serves it.

    ``release`` is EPC 82 (appendix release and revision). ``max_properties`` is how many
    properties one request may name before the rest is cut.
    """

    name: str
    release: bytes
    max_properties: int


KANSAI = Profile("kansai", bytes.fromhex("00004600"), 6)
"""The 22 data items of the utility's terms of service, annex 1.

That it takes as many properties per request as AIF 1.01 asks for is *unverified*.
"""

AIF_1_01 = Profile("aif-1.01", bytes.fromhex("00004600"), 6)
"""Meter-controller interface specification 1.01, first-generation meters."""

AIF_1_10 = Profile("aif-1.10", bytes.fromhex("00005201"), 7)
"""Meter-controller interface specification 1.10, second generation, with one-minute data.

The revision byte behind release R is *unverified*.
"""

PROFILES = {profile.name: profile for profile in (KANSAI, AIF_1_01, AIF_1_10)}


class MeterData(Protocol):
    """What the home may be told, live; ``None`` where there is no datum, never a zero.

    "Forward" and "reverse" are already the home's directions: a contract that feeds everything
    in has them exchanged before they come here.
    """

    @property
    def epoch(self) -> int:
        """Changes whenever a boundary already asked for might be answered differently."""
        ...

    def wall(self) -> float:
        """The meter's clock: UTC seconds since 1970-01-01."""
        ...

    def clock_trusted(self) -> bool:
        """Whether that clock was ever set."""
        ...

    def eui64(self) -> bytes | None:
        """The communication unit's address, eight bytes, once the unit has told it."""
        ...

    def fault(self) -> bool:
        """Whether the meter knows of a fault of its own."""
        ...

    def forward_mwh(self) -> int | None: ...

    def reverse_mwh(self) -> int | None: ...

    def power_w(self) -> int | None:
        """Negative while energy flows to the grid."""
        ...

    def current_r_ma(self) -> int | None: ...

    def current_t_ma(self) -> int | None: ...

    def boundary(self, slot: int) -> tuple[int, int] | None:
        """(forward, reverse) in 0.1 Wh at the instant that opens half-hour ``slot``.

        ``slot`` is the UTC epoch // 1800.
        """
        ...

    def minute(self, minute: int) -> tuple[int, int] | None:
        """The same at the instant that opens a minute (UTC epoch // 60), for the last hour."""
        ...


@dataclass(frozen=True, slots=True)
class MeterSettings:
    """What the home sees of the meter that does not change while it serves.

    ``serial`` is the metering unit's, at most 12 ASCII characters (8D). ``place_code`` is EPC 81
    until the home sets another. ``energy_unit`` is the code of EPC E1, ``effective_digits`` D7
    (1 to 8).

    ``coefficient`` is D3 (1 to 999 999): a register counts energy / (unit x coefficient).
    ``None`` means 1. ``route_b_id`` (32 hexadecimal digits) is served as C0, in profile
    aif-1.10 only, and needed there. With ``confirmed_announcements`` the half-hour values are
    announced by INFC and expect an answer.
    """

    serial: str
    profile: str = AIF_1_01.name
    wiring: Wiring = Wiring.ONE_PHASE_THREE_WIRE
    two_way: bool = True
    place_code: int = 0x61
    maker_code: bytes = TESTING_MAKER_CODE
    energy_unit: int = 0x01
    effective_digits: int = 8
    coefficient: int | None = None
    route_b_id: str | None = field(default=None, repr=False)
    confirmed_announcements: bool = False

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            near = difflib.get_close_matches(self.profile, PROFILES, n=1, cutoff=0)[0]
            raise UsageError(f'no B-route profile is named "{self.profile}"; "{near}" is near')
        if len(self.serial) > 12 or not self.serial.isascii():
            raise UsageError(f'serial "{self.serial}": give at most 12 ASCII characters (EPC 8D)')
        if len(self.maker_code) != 3:
            raise UsageError(f"a maker code has 3 bytes, this one {len(self.maker_code)}")
        if self.place_code == 0x01 or not 0 <= self.place_code <= 0xFF:
            raise UsageError(f"place code {self.place_code:#x}: give one byte other than 0x01")
        if self.energy_unit not in ENERGY_UNITS_MWH:
            known = " ".join(f"{code:#04x}" for code in ENERGY_UNITS_MWH)
            raise UsageError(f"energy unit {self.energy_unit:#x}: EPC E1 knows {known}")
        if not 1 <= self.effective_digits <= 8:
            raise UsageError(f"effective digits {self.effective_digits}: give 1 to 8 (EPC D7)")
        self._check_coefficient()
        self._check_route_b_id()

    def _check_coefficient(self) -> None:
        if self.coefficient is None:
            return
        if not 1 <= self.coefficient <= 999_999:
            raise UsageError(
                f"coefficient {self.coefficient}: give 1 to 999999 (EPC D3); with 0 every"
                " controller would read zero"
            )
        if self.profile == KANSAI.name and self.coefficient != 1:
            raise UsageError(
                f"coefficient {self.coefficient}: profile kansai has no EPC D3 to tell the home;"
                " choose aif-1.01 or leave it out"
            )

    def _check_route_b_id(self) -> None:
        if self.route_b_id is None:
            if self.profile == AIF_1_10.name:
                raise UsageError("profile aif-1.10 serves the route B ID (EPC C0); give one")
            return
        if len(self.route_b_id) != 32 or set(self.route_b_id) - set("0123456789ABCDEF"):
            raise UsageError("a route B ID has 32 characters 0-9 A-F; copy it from the letter")

    @property
    def limits(self) -> Profile:
        """The profile's release and limits."""
        return PROFILES[self.profile]
