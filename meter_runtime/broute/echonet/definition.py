"""How a table of properties becomes an object that answers.

Owns the shape of a table row and the three things derived from a table: the property maps, the
access rules, and the bound readers and writers. The tables themselves stand in
:mod:`~meter_runtime.broute.echonet.meter_class` and
:mod:`~meter_runtime.broute.echonet.node_profile`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from meter_runtime.broute.echonet.data import PROFILES
from meter_runtime.broute.echonet.maps import encode_map

S = TypeVar("S")

EVERY_PROFILE = frozenset(PROFILES)


@dataclass(frozen=True, slots=True)
class PropertyDefinition(Generic[S]):
    """One row: what the property is, and how the object's state ``S`` reads and writes it.

    ``read(state, now)`` gives the EDT, or ``None`` when it cannot be told at present;
    ``write(state, edt, now)`` tells whether the value was taken. ``size`` is the EDT's length in
    bytes, for people. ``announced`` puts the code into the announcement map (9D); without
    ``gettable`` the property is notified only, on change or when asked by INF_REQ.
    """

    epc: int
    name: str
    name_ja: str
    size: str
    content: str
    read: Callable[[S, float], bytes | None]
    write: Callable[[S, bytes, float], bool] | None = None
    gettable: bool = True
    announced: bool = False
    profiles: frozenset[str] = EVERY_PROFILE
    two_way_only: bool = False


@dataclass(frozen=True, slots=True)
class PropertyMaps:
    """EPC 9D, 9E and 9F of one object."""

    announced: bytes
    settable: bytes
    gettable: bytes


def maps_of(definitions: Iterable[PropertyDefinition[S]]) -> PropertyMaps:
    """The maps these rows amount to."""
    rows = tuple(definitions)
    return PropertyMaps(
        announced=encode_map(row.epc for row in rows if row.announced),
        settable=encode_map(row.epc for row in rows if row.write is not None),
        gettable=encode_map(row.epc for row in rows if row.gettable),
    )


class ServedObject:
    """An ECHONET object at work: EPC to reader and writer, access rules applied.

    ``readers`` answer Get, ``notifiers`` INF_REQ and announcements, ``writers`` the Sets. A code
    that is missing there is refused. A change of an ``announced`` one is told unasked.
    """

    def __init__(self, eoj: bytes, rows: Iterable[PropertyDefinition[S]], state: S) -> None:
        self.eoj = eoj
        self.readers: dict[int, Callable[[float], bytes | None]] = {}
        self.notifiers: dict[int, Callable[[float], bytes | None]] = {}
        self.writers: dict[int, Callable[[bytes, float], bool]] = {}
        self.announced: list[int] = []
        for row in rows:
            reader = partial(row.read, state)
            self.notifiers[row.epc] = reader
            if row.gettable:
                self.readers[row.epc] = reader
            if row.write is not None:
                self.writers[row.epc] = partial(row.write, state)
            if row.announced:
                self.announced.append(row.epc)
