"""Boot and wiring of one meter: stores, units, metrology, B-route, A-route.

Nothing is decided here. :func:`build` opens what is kept, has the units found, and joins the rooms
to each other; :class:`Meter` runs them under one supervisor. The bench builds its meter through the
same function, so the runtime cannot tell a virtual laboratory from hardware.
"""

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meter_runtime.broute.assembly import Direct, Interposition
from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.provisioning import CredentialsChanged, Provisioning
from meter_runtime.broute.service import BRouteService
from meter_runtime.comm.contracts import LinkCredentials, LinkStarted, UnitFault
from meter_runtime.comm.ports import open_port
from meter_runtime.config import Config, Units
from meter_runtime.crew import Crew
from meter_runtime.discipline import CorrectableClock
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.functions.calls import OptionalUnitAnswers, OptionalUnitSilent
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
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.stores import Stores, open_file_stores, open_fram_stores
from meter_runtime.storage.vault import Vault
from meter_runtime.supervisor import Supervisor
from meter_runtime.units.board import Board
from meter_runtime.units.contracts import MeteringUnit, UnitKind
from meter_runtime.units.discovery import Wanted
from meter_runtime.units.keeper import Keeper

if TYPE_CHECKING:
    from meter_runtime.aroute.local_port import LocalPort
    from meter_runtime.aroute.service import ARouteService

log = logging.getLogger(__name__)

AROUTE_PART = "A-route"
LOCAL_PORT_PART = "local port"


@dataclass(slots=True)
class Meter:
    """One meter, wired; :meth:`run` brings it to life."""

    config: Config
    clock: CorrectableClock
    bus: EventBus
    keeper: Keeper
    crew: Crew
    credentials: CredentialStore | None
    """None where the vault cannot be used: the meter measures, and serves nobody."""
    provisioning: Provisioning
    aroute: "ARouteService | None"
    """The service to the utility; None where none is configured."""
    local_port: "LocalPort | None"
    """For a hand-held terminal; None where it is not configured."""
    journal: Journal
    supervisor: Supervisor
    stores: Stores
    started_at: float
    """Clock.monotonic() when the meter was wired, then when it began to run."""

    @property
    def metering(self) -> MeteringService:
        return self.crew.metering

    @property
    def broute(self) -> BRouteService | None:
        """The service to the home; None while there is none."""
        return self.crew.broute

    async def run(self) -> None:
        """Meter and serve until :meth:`stop`; registers are stored on the way out."""
        self.started_at = self.clock.monotonic()
        try:
            await self.supervisor.run()
        finally:
            await self.close()

    async def provision(self, credentials: BRouteCredentials, counter: int = 0) -> None:
        """Store ID, password and acceptance day, all in one step, and let the home join anew.

        ``counter`` is that of the command that says so. Raises MeterError when they cannot be
        stored; those before then stand.
        """
        await self.provisioning.provision(credentials.link, credentials.accepted_on, counter)

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self.supervisor.stop()

    async def close(self) -> None:
        """Store the registers, release units and media; does nothing the second time."""
        if not self.stores.closed:
            self.metering.close()
            self.stores.close()
            await self.keeper.close()


async def check_port(config: Config) -> None:
    """Open the communication unit's port once and close it again, where one is named.

    A port that is missing, taken or forbidden when the meter starts is a mistake to tell at once;
    one that is lost later is waited for.
    """
    if config.units.communication.port is not None:
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


async def build(
    config: Config,
    stores: Stores,
    clock: CorrectableClock,
    device_key: bytes,
    *,
    board: Board,
    bus: EventBus | None = None,
    metering_unit: MeteringUnit | None = None,
    interpose: Interposition | None = None,
    rng: random.Random | None = None,
) -> Meter:
    """Find the units of ``board`` and put them to work, on ``stores``, which are the meter's then.

    ``device_key`` seals the credentials. ``bus`` is where the meter tells what happens, from its
    building on. ``metering_unit`` is in the metering slot without being
    looked for; ``interpose`` stands between the B-route and what it serves; ``rng`` draws what may
    fall either way, and is seeded where runs must repeat. The board stays the caller's.
    Raises UsageError for what the configuration got wrong and MeterError for what the world did;
    the stores are closed then. What is wrong with a unit is told, and raises nothing.
    """
    try:
        bus = bus or EventBus()
        supervisor = Supervisor(clock, bus)
        credentials = _open_credentials(config, stores, device_key)
        journal = Journal.open(stores.journal)
        rng = rng or random.Random()
        crew = Crew(
            config,
            clock,
            stores,
            supervisor,
            credentials,
            interpose=interpose or Direct(),
            bus=bus,
            rng=rng,
        )
        given = {} if metering_unit is None else {UnitKind.METERING.value: metering_unit}
        keeper = Keeper(
            board, wanted_units(config.units), crew, clock, bus=bus, rng=rng, given=given
        )
        provisioning = _provisioning(credentials, crew, keeper, bus)
        aroute = local_port = None
        if config.aroute.url is not None:
            from meter_runtime.aroute_wiring import wire

            aroute, local_port = wire(
                config,
                stores,
                device_key,
                journal,
                crew=crew,
                keeper=keeper,
                provisioning=provisioning,
                clock=clock,
                bus=bus,
                rng=rng,
                board=board,
            )
            supervisor.add(AROUTE_PART, aroute.run)
            if local_port is not None:
                supervisor.add(LOCAL_PORT_PART, local_port.run)
        _join(bus, crew, keeper)
        await keeper.start()
    except BaseException:
        stores.close()
        raise
    supervisor.add("units", keeper.run)
    return Meter(
        config,
        clock,
        bus,
        keeper,
        crew,
        credentials,
        provisioning,
        aroute,
        local_port,
        journal,
        supervisor,
        stores,
        clock.monotonic(),
    )


def wanted_units(units: Units) -> dict[str, Wanted]:
    """What the configuration says of each slot."""
    port = {} if units.communication.port is None else {"port": units.communication.port}
    return {
        "communication": Wanted(
            units.communication.driver, {**port, **units.communication.options}
        ),
        "metering": Wanted(units.metering.driver, units.metering.options),
        "optional": Wanted(units.optional.driver, units.optional.options),
    }


def _provisioning(
    store: CredentialStore | None, crew: Crew, keeper: Keeper, bus: EventBus
) -> Provisioning:
    """Whom the meter serves, and what has to happen when that changes."""

    async def changed(now: BRouteCredentials | None) -> None:
        bus.publish(CredentialsChanged(provisioning.version, now is not None))
        await crew.credentials_changed(now)
        await keeper.review()

    provisioning = Provisioning(store, changed, crew.broute_report)
    return provisioning


def _join(bus: EventBus, crew: Crew, keeper: Keeper) -> None:
    """Tell the keeper who is silent, and the B-route what the home is to hear of at once."""

    def tell_boundary(event: BoundaryStored) -> None:
        if crew.broute is not None:
            crew.broute.boundary(event.slot)

    def check_statuses(_: object) -> None:
        if crew.broute is not None:
            crew.broute.check_statuses()

    bus.subscribe(BoundaryStored, tell_boundary)
    for trouble in (UnitSilent, UnitAnswers, StorageFailed, StorageHealed):
        bus.subscribe(trouble, check_statuses)
    bus.subscribe(UnitSilent, lambda event: keeper.suspect(UnitKind.METERING, event.reason))
    bus.subscribe(UnitAnswers, lambda _: keeper.trust(UnitKind.METERING))
    bus.subscribe(OptionalUnitSilent, lambda event: keeper.suspect(UnitKind.OPTIONAL, event.reason))
    bus.subscribe(OptionalUnitAnswers, lambda _: keeper.trust(UnitKind.OPTIONAL))
    bus.subscribe(UnitFault, lambda event: keeper.suspect(UnitKind.COMMUNICATION, event.reason))
    bus.subscribe(LinkStarted, lambda _: keeper.trust(UnitKind.COMMUNICATION))


def _open_credentials(config: Config, stores: Stores, device_key: bytes) -> CredentialStore | None:
    """What the home was given. A vault that fails costs the B-route, not the meter."""
    configured = _configured_credentials(config)
    try:
        store = CredentialStore.open(Vault.open(stores.vault, device_key), device_key)
        store.seed(configured)
    except MeterError as failure:
        log.error("%s; until then the meter serves nobody", failure)
        return None
    current = store.current()
    if current is None or current.credentials is None:
        log.warning("no B-route credentials: the meter measures and stores, and serves nobody")
    return store


def _configured_credentials(config: Config) -> BRouteCredentials | None:
    said = config.broute
    if said.id is None or said.password is None:
        return None
    return BRouteCredentials(LinkCredentials(said.id, said.password), said.accepted_on)
