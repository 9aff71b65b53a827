"""The air between virtual Wi-SUN modules: frames, their pace, and who hears them."""

from meter_runtime.bench.air.frames import Crossing, EnergyRequest, Frame, UdpDatagram
from meter_runtime.bench.air.medium import Air, Station
from meter_runtime.bench.air.pace import FAST, PACES, REAL, AirPace

__all__ = [
    "FAST",
    "PACES",
    "REAL",
    "Air",
    "AirPace",
    "Crossing",
    "EnergyRequest",
    "Frame",
    "Station",
    "UdpDatagram",
]
