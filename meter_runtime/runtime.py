"""Boot and wiring of one meter: units, metrology, B-route, and the answers for its operator.

Nothing is decided here. :func:`build` opens the stores, loads the drivers that the configuration
names and joins the rooms to each other; :class:`Meter` runs them under one supervisor. The bench
builds its meter through the same function, so the runtime cannot tell a virtual laboratory from
hardware.
"""

import logging
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from meter_runtime.broute.announcer import Announcer
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.echonet.data import ENERGY_UNITS_MWH, MeterData, MeterSettings
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.home_data import HomeData
from meter_runtime.broute.service import BRouteService
from meter_runtime.clock import HALF_HOUR_S, Clock, slot_at
from meter_runtime.comm.contracts import CommunicationUnit, LinkCredentials
from meter_runtime.comm.ports import open_port
from meter_runtime.config import Config
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.metrology.events import (
    BoundaryStored,
    StorageFailed,
    StorageHealed,
    UnitAnswers,
    UnitSilent,
)
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.media import FileMedia
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import LOAD_PROFILE_DEPTH, Ring
from meter_runtime.supervisor import Supervisor
from meter_runtime.units.contracts import MeteringUnit, UnitKind, Wiring
from meter_runtime.units.drivers import DriverContext, load_driver

log = logging.getLogger(__name__)

RING_FILE = "load-profile.ring"
REGISTERS_FILE = "registers.twin"
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


@dataclass(slots=True)
class Stores:
    """The meter's media, open, locked, and closed together."""

    ring: FileMedia
    registers: FileMedia
    closed: bool = False

    def close(self) -> None:
        self.closed = True
        self.ring.close()
        self.registers.close()


@dataclass(slots=True)
class Meter:
    """One meter, wired; :meth:`run` brings it to life."""

    config: Config
    clock: Clock
    bus: EventBus
    metering_unit: MeteringUnit
    metering: MeteringService
    broute: BRouteService | None
    supervisor: Supervisor
    stores: Stores
    started_at: float
    """Clock.monotonic() when the meter was wired, then when it began to run."""

    async def run(self) -> None:
        """Meter and serve until :meth:`stop`; registers are stored on the way out."""
        self.started_at = self.clock.monotonic()
        try:
            await self.supervisor.run()
        finally:
            self.close()

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self.supervisor.stop()

    def close(self) -> None:
        """Store the registers and release the media; does nothing the second time."""
        if not self.stores.closed:
            self.metering.close()
            self.stores.close()


async def check_port(config: Config) -> None:
    """Open the communication unit's port once and close it again.

    A port that is missing, taken or forbidden when the meter starts is a mistake to tell at once;
    one that is lost later is waited for.
    """
    port = await open_port(config.units.communication.port)
    await port.close()


def build(
    config: Config,
    clock: Clock,
    *,
    metering_unit: MeteringUnit | None = None,
    interpose: Interposition | None = None,
    rng: random.Random | None = None,
) -> Meter:
    """Open, load and join what the configuration names.

    ``metering_unit`` stands in for the configured driver's, where the caller has the unit already;
    ``interpose`` stands between the B-route and what it serves; ``rng`` draws what may fall either
    way, and is seeded where runs must repeat.
    Raises UsageError for what the configuration got wrong and MeterError for what the world did;
    no store is left open then.
    """
    if config.broute.id is not None and config.broute.password is not None:
        credentials = BRouteCredentials(
            LinkCredentials(config.broute.id, config.broute.password), config.broute.accepted_on
        )
    else:
        credentials = None
    rng = rng or random.Random()
    context = DriverContext(clock, dict(config.units.metering.options), rng)
    unit: MeteringUnit = metering_unit or load_driver(
        UnitKind.METERING, config.units.metering.driver
    )(context)
    stores = _open_stores(config.storage.state_dir)
    try:
        bus = EventBus()
        ring = Ring.open(
            stores.ring,
            HALF_HOUR_S,
            LOAD_PROFILE_DEPTH,
            unit.nameplate.serial,
            slot_at(clock.wall()),
        )
        metering = MeteringService(unit, clock, ring, RegisterStore(stores.registers), bus)
        supervisor = Supervisor(clock, bus)
        supervisor.add("metering", metering.run)
        broute = None
        if credentials is not None:
            broute = _build_broute(
                config, clock, unit, metering, credentials, bus=bus, interpose=interpose, rng=rng
            )
            service = broute
            bus.subscribe(BoundaryStored, lambda event: service.boundary(event.slot))
            for trouble in (UnitSilent, UnitAnswers, StorageFailed, StorageHealed):
                bus.subscribe(trouble, lambda _: service.check_statuses())
            supervisor.add("B-route", broute.run)
        else:
            log.warning("no B-route credentials: the meter measures and stores, and serves nobody")
    except BaseException:
        stores.close()
        raise
    return Meter(config, clock, bus, unit, metering, broute, supervisor, stores, clock.monotonic())


def _build_broute(
    config: Config,
    clock: Clock,
    unit: MeteringUnit,
    metering: MeteringService,
    credentials: BRouteCredentials,
    *,
    bus: EventBus,
    interpose: Interposition | None,
    rng: random.Random,
) -> BRouteService:
    wanted = config.units.communication
    context = DriverContext(clock, {"port": wanted.port, **wanted.options}, rng)
    communication: CommunicationUnit = load_driver(UnitKind.COMMUNICATION, wanted.driver)(context)
    settings = config.broute
    nameplate = unit.nameplate
    home: MeterData = HomeData(
        metering,
        clock,
        lambda: communication.mac,
        lambda: broute.credentials,
        feed_in_as_forward=settings.feed_in_as_forward,
    )
    shown = MeterSettings(
        serial=nameplate.serial,
        profile=settings.profile,
        wiring=nameplate.wiring or Wiring.ONE_PHASE_THREE_WIRE,
        two_way=nameplate.two_way,
        energy_unit=_energy_unit_code(settings.energy_unit),
        effective_digits=settings.effective_digits,
        coefficient=settings.coefficient,
        route_b_id=credentials.link.route_b_id,
        confirmed_announcements=settings.notification == "infc",
    )
    if interpose is not None:
        communication = interpose.link(communication)
        home, shown = interpose.data(home), interpose.settings(shown)
    node = EchonetNode(shown, home)
    announcer = Announcer(node, rng)
    broute = BRouteService(communication, node, announcer, credentials, clock, bus=bus)
    return broute


def _energy_unit_code(unit_kwh: float) -> int:
    wanted = round(unit_kwh * _MWH_PER_KWH)
    for code, unit_mwh in ENERGY_UNITS_MWH.items():
        if unit_mwh == wanted:
            return code
    raise UsageError(f"[broute] energy_unit: {unit_kwh:g} kWh is no unit of EPC E1")


def _open_stores(state_dir: Path) -> Stores:
    try:
        state_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as failure:
        raise MeterError(
            f"{state_dir}: the state directory cannot be made: {failure.strerror};"
            " name a writable one in [storage] state_dir"
        ) from None
    ring = FileMedia(state_dir / RING_FILE, Ring.size_for(LOAD_PROFILE_DEPTH, FileMedia.write_unit))
    try:
        registers = FileMedia(
            state_dir / REGISTERS_FILE, RegisterStore.size_for(FileMedia.write_unit)
        )
    except BaseException:
        ring.close()
        raise
    return Stores(ring, registers)
