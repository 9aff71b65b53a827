"""The groups by name, in the order of the table."""

from collections.abc import Callable, Mapping

from benchmarks import air, aroute, datagram, echonet, fleet, flood, line, startup, storage, units
from benchmarks.row import Row

GROUPS: Mapping[str, Callable[[], list[Row]]] = {
    "echonet": echonet.measure,
    "datagram": datagram.measure,
    "startup": startup.measure,
    "line": line.measure,
    "air": air.measure,
    "storage": storage.measure,
    "units": units.measure,
    "aroute": aroute.measure,
    "fleet": fleet.measure,
    "flood": flood.measure,
}
