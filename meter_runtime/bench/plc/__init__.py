"""The power line of a PLC home: the line, the coordinator's modem in the meter, the home's adapter.

``frames`` is what crosses the line, ``line`` what becomes of it there; ``modem`` is the virtual
modem behind the driver's port (``port`` joins the two), ``adapter`` the one of a HEMS, and
``station`` a HEMS on it, for tests; ``house`` is all of it for one bench.
"""

from meter_runtime.bench.plc.house import PlcHouse
from meter_runtime.bench.plc.line import Line
from meter_runtime.bench.plc.modem import VirtualModem
from meter_runtime.bench.plc.port import ModemDongle
from meter_runtime.bench.plc.station import JoinFailed, NoAnswer, PlcHems

__all__ = [
    "JoinFailed",
    "Line",
    "ModemDongle",
    "NoAnswer",
    "PlcHems",
    "PlcHouse",
    "VirtualModem",
]
