"""How the A-route is put together for one meter; nothing is decided here.

It joins what commands act upon (:mod:`~meter_runtime.aroute.handlers`) to the rooms that own it,
and gate, uplink and bearer to each other. Imported only where an A-route is configured.
"""

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from meter_runtime import __version__
from meter_runtime.aroute.events import BRouteDiagnosed, Events
from meter_runtime.aroute.gate import Gate
from meter_runtime.aroute.handlers import Handlers
from meter_runtime.aroute.history import UnitHistory
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.local_port import HOLD_US, LocalPort, parse_listen
from meter_runtime.aroute.local_status import local_status
from meter_runtime.aroute.messages import Birth, Presence, Topics, encode
from meter_runtime.aroute.results import Diagnosis
from meter_runtime.aroute.service import ARouteService, subscriptions, will
from meter_runtime.aroute.trust import Trust, load_trust
from meter_runtime.aroute.uplink import Uplink
from meter_runtime.broute.diagnosis import DiagnosisChanged
from meter_runtime.broute.provisioning import Provisioning
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings, TlsFiles, parse_url
from meter_runtime.config import ARoute, Config
from meter_runtime.crew import Crew
from meter_runtime.discipline import CorrectableClock
from meter_runtime.errors import UsageError
from meter_runtime.events import EventBus
from meter_runtime.metrology.identity import VERSION as METROLOGY_VERSION
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.stores import Stores
from meter_runtime.storage.uplink_state import UplinkStateStore
from meter_runtime.units.board import Board
from meter_runtime.units.gpio import InputLine
from meter_runtime.units.inventory import Inventory
from meter_runtime.units.keeper import Keeper


def wire(
    config: Config,
    stores: Stores,
    device_key: bytes,
    journal: Journal,
    *,
    crew: Crew,
    keeper: Keeper,
    provisioning: Provisioning,
    clock: CorrectableClock,
    bus: EventBus,
    rng: random.Random,
    board: Board,
) -> tuple[ARouteService, LocalPort | None]:
    """The service to the utility, and the local port where there is one; they are not started.

    Needs ``[aroute] url``.

    Raises UsageError for what the configuration
    and its files got wrong, MeterError for a store that fails.
    """
    said, meter_id = config.aroute, config.meter.id
    if said.trust is None:
        raise UsageError("[aroute] has a url but no trust; add the file of keys to be trusted")
    topics = Topics(config.meter.utility, meter_id)
    identity = MeterIdentity.from_device_key(device_key)
    settings = bearer_settings(said, meter_id)
    settings.check()
    bearer = MqttBearer(
        settings,
        subscriptions=subscriptions(topics),
        will=will(topics),
        farewell=encode(Presence(online=False)),
        rng=rng,
    )
    uplink = Uplink(
        UnitHistory(crew.metering),
        UplinkStateStore(stores.uplink),
        meter_id,
        jitter_s=said.jitter_s,
        rng=rng,
    )
    inventory = Inventory(keeper.slots, lambda: crew.findings)
    handlers = Handlers(
        broute=provisioning,
        registers=crew.metering,
        history=uplink,
        supply=crew.switching,
        clock=clock,
        units=inventory,
        directives=crew.directives,
    )
    trusted = load_trust(said.trust)
    gate = Gate(
        meter_id,
        identity,
        trusted,
        IssuerLedger.open(stores.issuers, device_key),
        journal,
        applier=handlers,
        clock=clock,
        credential_version=lambda: provisioning.version,
        diagnosis=lambda: Diagnosis(*crew.diagnosis()),
    )

    def birth() -> Birth:
        return Birth(
            meter_id=meter_id,
            version=__version__,
            metrology_version=METROLOGY_VERSION,
            at=clock.wall(),
            trust=clock.trust.value,
            units=inventory.inventory()["units"],
            keys=identity.public.as_json(),
        )

    def diagnosed(change: DiagnosisChanged) -> None:
        bus.publish(BRouteDiagnosed(int(change.verdict.message), change.verdict.alarm))

    bus.subscribe(DiagnosisChanged, diagnosed)
    aroute = ARouteService(
        bearer,
        topics,
        uplink,
        gate,
        Events(bus, clock, meter_id),
        birth=birth,
        broute_report=lambda: dict(provisioning.report()),
        clock=clock,
        bus=bus,
    )

    def status() -> dict[str, Any]:
        return local_status(meter_id, clock, provisioning.report(), inventory.inventory())

    return aroute, _local_port(config, gate, trusted, board, status, clock=clock, bus=bus)


def _local_port(
    config: Config,
    gate: Gate,
    trusted: Trust,
    board: Board,
    status: Callable[[], Mapping[str, Any]],
    *,
    clock: CorrectableClock,
    bus: EventBus,
) -> LocalPort | None:
    said = config.local
    if said.listen is None:
        return None
    if said.ca is None or said.certificate is None or said.key is None:
        raise UsageError("[local] listen needs ca, certificate and key; add what is missing")
    open_button: Callable[[], InputLine] | None = None
    if said.presence == "button":
        button = board.profile.button
        if button is None:
            raise UsageError(
                f"[local] listen: board {board.profile.name} has no button; add button to its"
                " profile"
            )
        open_button = partial(board.gpio.input, button, edges=True, debounce_us=HOLD_US)
    port = LocalPort(
        gate,
        trusted,
        parse_listen(said.listen),
        TlsFiles(said.ca, said.certificate, said.key),
        status=status,
        open_button=open_button,
        clock=clock,
        bus=bus,
    )
    port.check()
    return port


def bearer_settings(said: ARoute, meter_id: str) -> MqttSettings:
    """Where the broker is, and as whom the meter comes; raises UsageError."""
    if said.url is None:
        raise UsageError("[aroute] has no url; name the broker")
    host, port, tls = parse_url(said.url)
    files = None
    if tls:
        if said.ca is None or said.certificate is None or said.key is None:
            raise UsageError("[aroute] mqtts needs ca, certificate and key; add what is missing")
        files = TlsFiles(said.ca, said.certificate, said.key)
    return MqttSettings(
        host,
        port,
        meter_id,
        tls=files,
        username=said.username,
        password=said.password,
        protocol=said.protocol,
    )
