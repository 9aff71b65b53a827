"""The air between virtual Wi-SUN modules: frames, their pace, and who hears them.

``phy`` has the numbers, ``propagation`` the distances and the noise, ``impairments`` the seam for
faults, ``transmission`` one frame's state, ``medium`` the course of events.
"""

from meter_runtime.bench.air.frames import Crossing, EnergyRequest, Frame, UdpDatagram
from meter_runtime.bench.air.impairments import Fate, Impairment
from meter_runtime.bench.air.medium import Air
from meter_runtime.bench.air.pace import FAST, PACES, REAL, AirPace
from meter_runtime.bench.air.transmission import Station

__all__ = [
    "FAST",
    "PACES",
    "REAL",
    "Air",
    "AirPace",
    "Crossing",
    "EnergyRequest",
    "Fate",
    "Frame",
    "Impairment",
    "Station",
    "UdpDatagram",
]
