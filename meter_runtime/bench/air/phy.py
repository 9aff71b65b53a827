"""A radio frame in numbers: octets, seconds, decibels, and the chance that it is lost.

One table of the 920 MHz B-route's physical layer: IEEE 802.15.4g FSK at 100 kbit/s under ARIB
STD-T108, with the MAC timing of IEEE 802.15.4 and the fragmentation of RFC 4944. What the medium
does with the numbers is ``medium``'s.
"""

import math

BIT_RATE = 100_000
"""Bits per second."""

PREAMBLE_OCTETS = 15
"""*Unverified*: the shortest preamble of the 100 kbit/s mode."""
SFD_OCTETS = 2
PHR_OCTETS = 2
FCS_OCTETS = 4
"""The 32-bit frame check sequence of IEEE 802.15.4g."""
MAX_PSDU_OCTETS = 255
"""*Unverified*: longest MAC frame of the profile."""
FRAGMENT_PAYLOAD = 185
"""UDP payload octets that fit one radio frame before 6LoWPAN fragments, as measured on air."""
FRAGMENT_STEP = 176
"""UDP payload octets of each fragment: 185 less the header of FRAGN, whole multiples of eight."""
HEADER_OCTETS = MAX_PSDU_OCTETS - FCS_OCTETS - FRAGMENT_PAYLOAD
"""MAC, security and compressed IPv6 headers: what the measured payload leaves of a full frame."""
CONTROL_PAYLOAD = 24
"""Octets of a beacon, a beacon request or a neighbour message above the headers. *Unverified*."""
ACK_PSDU_OCTETS = 3 + FCS_OCTETS

CARRIER_SENSE_S = 128e-6
"""ARIB STD-T108."""
TURNAROUND_S = 0.001
"""From listening to sending and back (aTurnaroundTime of the FSK PHY)."""
BACKOFF_UNIT_S = TURNAROUND_S + CARRIER_SENSE_S
MIN_BACKOFF_EXPONENT = 3
MAX_BACKOFF_EXPONENT = 5
MAX_BACKOFFS = 4
"""macMinBE, macMaxBE and macMaxCSMABackoffs: the defaults of IEEE 802.15.4."""
MAX_RETRIES = 3
"""macMaxFrameRetries: repeats of a frame nobody acknowledged."""
PAUSE_S = 0.002
"""ARIB STD-T108: silence of a station after each frame."""

CARRIER_SENSE_DBM = -80.0
"""A channel at or above this level is busy (ARIB STD-T108)."""
SENSITIVITY_DBM = -103.0
"""At this level half of the frames are lost on a quiet channel. *Unverified*: from a data sheet."""
SENSITIVITY_WIDTH_DB = 1.0
"""Scale of the logistic from all lost to none. *Unverified*: a steep receiver."""
CAPTURE_DB = 10.0
"""A frame survives another at the same time that is weaker by this much. *Unverified*."""

MAX_LQI = 0xFF
_LQI_SLOPE_DB = 0.275
_LQI_ZERO_DBM = -104.27


def dbm_of(lqi: float) -> float:
    """Signal strength of a link quality: RSSI = 0.275 LQI - 104.27."""
    return _LQI_SLOPE_DB * lqi + _LQI_ZERO_DBM


def lqi_of(dbm: float) -> int:
    """Link quality of a signal strength, 00 to FF; 0 is nothing to hear."""
    return min(max(round((dbm - _LQI_ZERO_DBM) / _LQI_SLOPE_DB), 0), MAX_LQI)


def error_rate(dbm: float, noise_rise_db: float = 0.0) -> float:
    """Chance that one radio frame of any length is lost at this strength.

    A logistic around the sensitivity, which noise above the usual floor raises by as much.
    """
    margin = (dbm - SENSITIVITY_DBM - noise_rise_db) / SENSITIVITY_WIDTH_DB
    return 1 / (1 + math.exp(min(max(margin, -60.0), 60.0)))


def fragments(octets: int) -> tuple[int, ...]:
    """The payload octets of each radio frame that carries a datagram of this many."""
    if octets <= FRAGMENT_PAYLOAD:
        return (octets,)
    whole, rest = divmod(octets, FRAGMENT_STEP)
    return (FRAGMENT_STEP,) * whole + ((rest,) if rest else ())


def airtime_s(payload_octets: int) -> float:
    """Seconds on air of one radio frame, preamble to FCS."""
    return _ppdu_s(HEADER_OCTETS + payload_octets + FCS_OCTETS)


def _ppdu_s(psdu_octets: int) -> float:
    return 8 * (PREAMBLE_OCTETS + SFD_OCTETS + PHR_OCTETS + psdu_octets) / BIT_RATE


ACK_AIRTIME_S = _ppdu_s(ACK_PSDU_OCTETS)
ACK_WAIT_S = TURNAROUND_S + ACK_AIRTIME_S + BACKOFF_UNIT_S
"""After this an acknowledgement is missing."""
