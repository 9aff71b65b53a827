"""How the B-route is put together for one communication unit and one metering unit.

Nothing is decided here: settings come from the configuration and the metering unit's nameplate.
"""

import random
from collections.abc import Callable
from typing import Protocol

from meter_runtime.broute.announcer import Announcer
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.echonet.data import ENERGY_UNITS_MWH, MeterData, MeterSettings
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.home_data import HomeData, LiveMeter
from meter_runtime.broute.service import BRouteService
from meter_runtime.broute.status import RewriteGrace
from meter_runtime.clock import Clock
from meter_runtime.comm.contracts import CommunicationUnit
from meter_runtime.config import BRoute
from meter_runtime.errors import UsageError
from meter_runtime.events import EventBus
from meter_runtime.units.contracts import Nameplate, Wiring

_MWH_PER_KWH = 1_000_000


class Interposition(Protocol):
    """What stands between the rooms of the B-route where a laboratory wants to meddle."""

    def link(self, unit: CommunicationUnit) -> CommunicationUnit:
        """The communication unit as the B-route gets it."""
        ...

    def data(self, data: MeterData) -> MeterData:
        """The meter's live data as the home is told it."""
        ...

    def settings(self, settings: MeterSettings) -> MeterSettings:
        """The settings the home sees."""
        ...


class Direct:
    """Nothing stands between."""

    def link(self, unit: CommunicationUnit) -> CommunicationUnit:
        return unit

    def data(self, data: MeterData) -> MeterData:
        return data

    def settings(self, settings: MeterSettings) -> MeterSettings:
        return settings


def shown_settings(
    said: BRoute, nameplate: Nameplate, route_b_id: str, *, reverse: bool
) -> MeterSettings:
    """What the home is told of this metering unit; ``reverse``: also what it feeds in."""
    return MeterSettings(
        serial=nameplate.serial,
        profile=said.profile,
        wiring=nameplate.wiring or Wiring.ONE_PHASE_THREE_WIRE,
        two_way=nameplate.two_way and reverse,
        energy_unit=_energy_unit_code(said.energy_unit),
        effective_digits=said.effective_digits,
        coefficient=said.coefficient,
        route_b_id=route_b_id,
        confirmed_announcements=said.notification == "infc",
    )


def assemble(
    unit: CommunicationUnit,
    metering: LiveMeter,
    credentials: BRouteCredentials,
    clock: Clock,
    *,
    settings: MeterSettings,
    feed_in_as_forward: Callable[[], bool],
    interpose: Interposition,
    bus: EventBus,
    rng: random.Random,
    grace: RewriteGrace,
) -> BRouteService:
    """The service to the home over ``unit``; it is not started."""

    def present() -> BRouteCredentials | None:
        return service.credentials

    def mac() -> bytes | None:
        return unit.mac

    home = HomeData(metering, clock, mac, present, feed_in_as_forward=feed_in_as_forward)
    node = EchonetNode(settings, interpose.data(home))
    service = BRouteService(
        interpose.link(unit),
        node,
        Announcer(node, rng),
        credentials,
        clock,
        bus=bus,
        grace=grace,
    )
    return service


def _energy_unit_code(unit_kwh: float) -> int:
    wanted = round(unit_kwh * _MWH_PER_KWH)
    for code, unit_mwh in ENERGY_UNITS_MWH.items():
        if unit_mwh == wanted:
            return code
    raise UsageError(f"[broute] energy_unit: {unit_kwh:g} kWh is no unit of EPC E1")
