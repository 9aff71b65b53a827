"""Boot and wiring of one meter: units, metrology, B-route, and the answers for its operator.

Nothing is decided here. :func:`build` opens the stores, loads the drivers that the configuration
names and joins the rooms to each other; :class:`Meter` runs them under one supervisor. The bench
builds its meter through the same function, so the runtime cannot tell a virtual laboratory from
hardware.
"""

import contextlib
import logging
import random
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.broute.announcer import Announcer
from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.echonet.data import ENERGY_UNITS_MWH, MeterData, MeterSettings
from meter_runtime.broute.echonet.node import EchonetNode
from meter_runtime.broute.home_data import HomeData
from meter_runtime.broute.service import BRouteService
from meter_runtime.clock import HALF_HOUR_S, Clock
from meter_runtime.comm.contracts import CommunicationUnit, LinkCredentials
from meter_runtime.comm.ports import open_port
from meter_runtime.config import Config
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.i2c import LinuxI2C, parse_place
from meter_runtime.metrology.events import (
    BoundaryStored,
    StorageFailed,
    StorageHealed,
    UnitAnswers,
    UnitSilent,
)
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.fram import FRAM_ADDRESS
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.media import Media
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import FINE_DEPTHS, GENERATIONS, LOAD_PROFILE_DEPTH, Ring
from meter_runtime.storage.stores import Stores, open_file_stores, open_fram_stores
from meter_runtime.storage.vault import Vault
from meter_runtime.supervisor import Supervisor
from meter_runtime.units.contracts import MeteringUnit, UnitKind, Wiring
from meter_runtime.units.drivers import DriverContext, load_driver

log = logging.getLogger(__name__)

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
class Meter:
    """One meter, wired; :meth:`run` brings it to life."""

    config: Config
    clock: Clock
    bus: EventBus
    metering_unit: MeteringUnit
    metering: MeteringService
    broute: BRouteService | None
    credentials: CredentialStore | None
    """None where the vault cannot be used: the meter measures, and serves nobody."""
    journal: Journal
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

    async def provision(self, credentials: BRouteCredentials, counter: int = 0) -> None:
        """Store ID, password and acceptance day, all in one step, and let the home join anew.

        ``counter`` is that of the command that says so. Raises MeterError when they cannot be
        stored, or where no communication unit was in service; those before then stand.
        """
        if self.broute is None or self.credentials is None:
            raise MeterError("the meter is not in service; restart it with B-route credentials")
        self.credentials.rewrite(credentials, counter)
        await self.broute.set_credentials(credentials)

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


def open_stores(config: Config) -> Stores:
    """The media that the configuration names; no store is left open when this raises."""
    storage = config.storage
    if storage.medium == "file":
        return open_file_stores(storage.state_dir, fine=storage.fine)
    number, address = parse_place(storage.fram, FRAM_ADDRESS, "[storage] fram")
    return open_fram_stores(LinuxI2C(number), storage.state_dir, fine=storage.fine, address=address)


def persisted_time(stores: Stores) -> float | None:
    """The last wall time that was stored, UTC seconds: it cannot be earlier now."""
    checkpoint = RegisterStore(stores.registers).load()
    return None if checkpoint is None else checkpoint.wall


def build(
    config: Config,
    stores: Stores,
    clock: Clock,
    device_key: bytes,
    *,
    metering_unit: MeteringUnit | None = None,
    interpose: Interposition | None = None,
    rng: random.Random | None = None,
) -> Meter:
    """Load and join what the configuration names, on ``stores``, which are the meter's then.

    ``device_key`` seals the credentials. ``metering_unit`` stands in for the configured driver's,
    where the caller has the unit already; ``interpose`` stands between the B-route and what it
    serves; ``rng`` draws what may fall either way, and is seeded where runs must repeat.
    Raises UsageError for what the configuration got wrong and MeterError for what the world did;
    the stores are closed then.
    """
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(stores.close)
        meter = _wire(
            config,
            stores,
            clock,
            device_key,
            metering_unit=metering_unit,
            interpose=interpose,
            rng=rng or random.Random(),
        )
        on_failure.pop_all()
        return meter


def _wire(
    config: Config,
    stores: Stores,
    clock: Clock,
    device_key: bytes,
    *,
    metering_unit: MeteringUnit | None,
    interpose: Interposition | None,
    rng: random.Random,
) -> Meter:
    credentials, customer = _open_credentials(config, stores, device_key)
    context = DriverContext(clock, dict(config.units.metering.options), rng)
    unit: MeteringUnit = metering_unit or load_driver(
        UnitKind.METERING, config.units.metering.driver
    )(context)
    bus = EventBus()
    metering = _build_metering(stores, unit, clock, bus)
    supervisor = Supervisor(clock, bus)
    supervisor.add("metering", metering.run)
    broute = None
    if customer is not None:
        broute = _build_broute(
            config, clock, unit, metering, customer, bus=bus, interpose=interpose, rng=rng
        )
        _join(bus, broute)
        supervisor.add("B-route", broute.run)
    else:
        log.warning("no B-route credentials: the meter measures and stores, and serves nobody")
    return Meter(
        config,
        clock,
        bus,
        unit,
        metering,
        broute,
        credentials,
        Journal.open(stores.journal),
        supervisor,
        stores,
        clock.monotonic(),
    )


def _open_credentials(
    config: Config, stores: Stores, device_key: bytes
) -> tuple[CredentialStore | None, BRouteCredentials | None]:
    """The store and whom it says to serve. A vault that fails costs the B-route, not the meter."""
    configured = _configured_credentials(config)
    try:
        store = CredentialStore.open(Vault.open(stores.vault, device_key), device_key)
        provisioned = store.seed(configured)
    except MeterError as failure:
        log.error("%s; until then the meter serves nobody", failure)
        return None, None
    return store, None if provisioned is None else provisioned.credentials


def _configured_credentials(config: Config) -> BRouteCredentials | None:
    said = config.broute
    if said.id is None or said.password is None:
        return None
    return BRouteCredentials(LinkCredentials(said.id, said.password), said.accepted_on)


def _build_metering(
    stores: Stores, unit: MeteringUnit, clock: Clock, bus: EventBus
) -> MeteringService:
    def opened(media: Media, interval_s: int, depth: int) -> Ring:
        # However wrong the clock is, the meter starts.
        slot = min(int(clock.wall() // interval_s), depth * GENERATIONS - 1)
        return Ring.open(media, interval_s, depth, unit.nameplate.serial, slot)

    ring = opened(stores.ring, HALF_HOUR_S, LOAD_PROFILE_DEPTH)
    fine = [
        opened(media, interval_s, depth)
        for media, (interval_s, depth) in zip(stores.fine, FINE_DEPTHS.items(), strict=False)
    ]
    return MeteringService(unit, clock, ring, RegisterStore(stores.registers), bus, fine=fine)


def _join(bus: EventBus, broute: BRouteService) -> None:
    """Tell the B-route what the home is to hear of at once."""
    bus.subscribe(BoundaryStored, lambda event: broute.boundary(event.slot))
    for trouble in (UnitSilent, UnitAnswers, StorageFailed, StorageHealed):
        bus.subscribe(trouble, lambda _: broute.check_statuses())


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
