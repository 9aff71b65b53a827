"""Puts plugged-in units to work, and leaves undone what their combination does not allow.

The :class:`~meter_runtime.units.keeper.Keeper` says what is in the slots; here it becomes metering
and B-route. Replacing a communication or an optional unit does not touch metering. Another metering
unit begins a new history; what the old one counted stays on the medium and is not served any more.
"""

import asyncio
import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

from meter_runtime.broute.assembly import Interposition, assemble, shown_settings
from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.diagnosis import DiagnosisChanged, NotServed, OutOfService
from meter_runtime.broute.echonet.data import MeterSettings
from meter_runtime.broute.service import BRouteService
from meter_runtime.broute.status import Moment, RewriteGrace
from meter_runtime.clock import HALF_HOUR_S, Clock, Trust, jst_day, wait_for_event
from meter_runtime.comm.contracts import CommunicationUnit
from meter_runtime.config import Config
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.functions.limiter import Limiter, LimiterPolicy, limited_current_a
from meter_runtime.functions.switching import SwitchingService
from meter_runtime.functions.voltage import VoltageService
from meter_runtime.metrology.service import MeteringService
from meter_runtime.storage.directives import Directives
from meter_runtime.storage.media import Media
from meter_runtime.storage.registers import RegisterStore
from meter_runtime.storage.ring import FINE_DEPTHS, GENERATIONS, LOAD_PROFILE_DEPTH, Ring
from meter_runtime.storage.stores import Stores
from meter_runtime.storage.switch_state import SwitchStateStore
from meter_runtime.storage.unit_memory import UnitMemory
from meter_runtime.storage.voltage_log import VoltageLog
from meter_runtime.supervisor import Supervisor
from meter_runtime.units import catalogue
from meter_runtime.units.catalogue import Cover
from meter_runtime.units.combination import (
    Contract,
    Fitted,
    FittedUnit,
    Service,
    Site,
    check,
    service_of,
)
from meter_runtime.units.contracts import (
    BRouteMedium,
    MeteringUnit,
    OptionalFunction,
    UnitFailure,
    UnitKind,
)
from meter_runtime.units.findings import Finding, Function
from meter_runtime.units.keeper import Slot, SlotState
from meter_runtime.units.vacant import NOBODY, VacantSlot

log = logging.getLogger(__name__)

BROUTE_PART = "B-route"
LINK_DOWN_BOUND_S = 30.0
"""How long a link that goes down may keep the next one waiting; drivers are quicker."""


class Crew:
    """Who works with the units of one meter."""

    def __init__(
        self,
        config: Config,
        clock: Clock,
        stores: Stores,
        supervisor: Supervisor,
        credentials: CredentialStore | None,
        *,
        interpose: Interposition,
        bus: EventBus,
        rng: random.Random,
    ) -> None:
        self.broute: BRouteService | None = None
        self.findings: tuple[Finding, ...] = ()
        self.service: Service = service_of(())
        self._config = config
        self._clock = clock
        self._stores = stores
        self._supervisor = supervisor
        self._credentials = credentials
        self._interpose = interpose
        self._bus = bus
        self._rng = rng
        self._memory = UnitMemory(stores.units)
        self.directives = Directives(
            stores.directives,
            limit_a=config.switching.limit_a,
            feed_in_as_forward=config.broute.feed_in_as_forward,
            limit_changed=self._limit_changed,
        )
        self._grace = RewriteGrace()
        self._told_out_of_service: OutOfService | None = None
        self._broute_turn = asyncio.Lock()
        """The keeper brings units, the utility credentials, and neither knows of the other."""
        self._communication: CommunicationUnit | None = None
        self._communication_serial = ""
        """As its nameplate says; a bare module only tells its address, and that once it is up."""
        self._reviewed = False
        vacant = VacantSlot(Ring.serial_on(stores.ring) or NOBODY)
        ring, fine = self._rings(vacant.nameplate.serial)
        self.metering = MeteringService(
            vacant, clock, ring, RegisterStore(stores.registers), bus, fine=fine
        )
        self.switching = SwitchingService(
            None,
            clock,
            bus,
            SwitchStateStore(stores.switch),
            permitted=self._why_not_open,
            min_interval_s=config.switching.min_interval_s,
            limiter=self._limiter(),
            current_a=self._current_a,
        )
        self.voltage = VoltageService(None, clock, bus, VoltageLog.open(stores.voltage))
        for name, part in (
            ("metering", self.metering.run),
            ("switching", self.switching.run),
            ("voltage", self.voltage.run),
        ):
            supervisor.add(name, part)

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the clock is moved by hand: nobody reads a unit but by :meth:`poll`."""
        with self.metering.held(), self.switching.held(), self.voltage.held():
            yield

    async def poll(self, stands_for_s: int = 1) -> None:
        """Read every unit once; a reading stands for so many seconds."""
        await self.metering.poll()
        await self.switching.poll()
        await self.voltage.poll(stands_for_s)

    async def fit(self, slot: Slot) -> None:
        """Metering begins at once; the rest waits for the review of the combination."""
        self._reviewed = False
        match slot.profile.kind:
            case UnitKind.METERING:
                await self._fit_metering(slot.unit)
            case UnitKind.COMMUNICATION:
                self._communication = slot.unit
                plate = slot.nameplate
                self._communication_serial = "" if plate is None else plate.serial
            case UnitKind.OPTIONAL if _function_of(slot) is OptionalFunction.SWITCHING:
                self.switching.fit(slot.unit)
            case UnitKind.OPTIONAL:
                self.voltage.fit(slot.unit)

    async def remove(self, slot: Slot) -> None:
        match slot.profile.kind:
            case UnitKind.METERING:
                self.metering.refit(VacantSlot(nameplate=self.metering.unit.nameplate))
            case UnitKind.COMMUNICATION:
                async with self._broute_turn:
                    await self._end_broute()
                    self._communication = None
            case UnitKind.OPTIONAL:
                self.switching.removed()
                self.voltage.removed()

    async def review(self, slots: Mapping[str, Slot]) -> None:
        """Hold what is plugged in against catalogue and contract; begin or end what follows."""
        findings = check(self._fitted(slots), self._contract(), catalogue.shipped(), self._today())
        for finding in findings:
            if finding not in self.findings:
                level = logging.WARNING if finding.disables else logging.INFO
                log.log(level, "%s: %s", finding.code, finding.text())
        self.findings, self.service = findings, service_of(findings)
        self._reviewed = True
        async with self._broute_turn:
            await self._settle_broute()
        self._tell_service()

    async def credentials_changed(self, credentials: BRouteCredentials | None) -> None:
        """They were stored: the home joins anew, by the unit that is plugged in now.

        None: they were revoked. From this call on nothing is told to the home; on return its
        session is over, and the unit forgets it as soon as it can be reached.
        """
        if credentials is None:
            self._grace.end()
            if self.broute is not None:
                self.broute.revoke()
        else:
            self._grace.begin(Moment.of(self._clock))
            self._remember_communication_unit()
        self._tell_service()
        async with self._broute_turn:
            if credentials is None:
                await self._end_broute()
                await self._settle_broute()
            elif self.broute is not None:
                await self.broute.set_credentials(credentials)
            else:
                await self._settle_broute()

    @property
    def out_of_service(self) -> OutOfService | None:
        """Why the home is not served; None while it is, or is about to be."""
        store = self._credentials
        if store is None or store.damaged:
            return OutOfService(NotServed.CREDENTIALS_LOST)
        record = store.current()
        if record is None:
            return OutOfService(NotServed.NO_CREDENTIALS)
        if record.credentials is None:
            return OutOfService(NotServed.REVOKED)
        if self._reviewed and not self.service.broute:
            against = {Function.SERVICE, Function.BROUTE}
            codes = (finding.code for finding in self.findings if finding.disables & against)
            return OutOfService(NotServed.COMBINATION, tuple(codes))
        return OutOfService(NotServed.PREPARING) if self.broute is None else None

    def broute_report(self) -> dict[str, Any]:
        """The ``broute`` part of the status document."""
        out, broute = self.out_of_service, self.broute
        if out is not None or broute is None:
            return (out or OutOfService(NotServed.PREPARING)).report()
        # Another communication unit serves by the same credentials, until they are set anew.
        again = any(finding.code == "U-22" for finding in self.findings)
        return {**broute.report(), "set_again": again}

    def diagnosis(self) -> tuple[int, int]:
        """The B-route's diagnosis in two numbers; zeros where the home is not served."""
        if self.broute is None or self.out_of_service is not None:
            return 0, 0
        return self.broute.diagnosis()

    def _tell_service(self) -> None:
        """The B-route tells of itself while there is one; that there is none is told here."""
        out = self.out_of_service
        if out is not None and out != self._told_out_of_service:
            self._bus.publish(DiagnosisChanged(out.verdict))
        self._told_out_of_service = out

    def _limit_changed(self) -> None:
        self.switching.limit(self._limiter())

    def _limiter(self) -> Limiter | None:
        limit_a = self.directives.limit_a
        if limit_a is None:
            return None
        return Limiter(LimiterPolicy(limit_a, self._config.switching.limit_hold_s))

    def _why_not_open(self) -> str | None:
        """Why the supply must not be interrupted; closing is always allowed."""
        if not self._reviewed:
            return "its combination with the other units has not been checked yet"
        if self.service.switching:
            return None
        codes = [finding.code for finding in self.findings if finding.disables]
        return f"{', '.join(codes)}: see 'meter-runtime status'"

    def _current_a(self) -> float | None:
        return limited_current_a(self.metering.current_r_ma, self.metering.current_t_ma)

    async def _fit_metering(self, unit: MeteringUnit) -> None:
        """Read at once: a unit silent from the start would go on the silence before it, untold."""
        serial = unit.nameplate.serial
        if serial == self.metering.ring.serial:
            self.metering.refit(unit)
        else:
            self.metering.close()
            ring, fine = self._rings(serial)
            self.metering.replace_unit(unit, ring, fine)
        failures = self.metering.read_failures
        await self.metering.poll()
        if self.metering.read_failures != failures:
            self.metering.refit(VacantSlot(nameplate=unit.nameplate))
            raise UnitFailure(f"metering unit {unit.nameplate.serial} gives no first reading")
        self._refresh()

    def _rings(self, serial: str) -> tuple[Ring, list[Ring]]:
        """The load profile and the fine rings, with this unit's history."""

        def opened(media: Media, interval_s: int, depth: int) -> Ring:
            # However wrong the clock is, the meter starts.
            slot = min(int(self._clock.wall() // interval_s), depth * GENERATIONS - 1)
            return Ring.open(media, interval_s, depth, serial, slot)

        ring = opened(self._stores.ring, HALF_HOUR_S, LOAD_PROFILE_DEPTH)
        fine = zip(self._stores.fine, FINE_DEPTHS.items(), strict=False)
        return ring, [opened(media, interval_s, depth) for media, (interval_s, depth) in fine]

    def _fitted(self, slots: Mapping[str, Slot]) -> Fitted:
        units = []
        for slot in slots.values():
            kind, finding = slot.profile.kind, slot.finding
            if slot.unit is not None:
                units.append(FittedUnit(kind, slot.nameplate, troubles=slot.troubles))
            elif slot.state is SlotState.ABNORMAL:
                codes = () if finding is None else finding.codes
                units.append(FittedUnit(kind, None, slot.reason, codes))
        previous = self.metering.ring.previous_serial
        former = {UnitKind.COMMUNICATION: self._memory.communication_serial}
        if previous is not None and previous != NOBODY:
            former[UnitKind.METERING] = previous
        return Fitted(tuple(units), Cover(self._config.units.cover), former)

    def _contract(self) -> Contract | None:
        said = self._config.contract
        if said is None:
            return None
        return Contract(
            said.renewables,
            said.broute,
            said.switching,
            said.capacity_a,
            None if said.medium is None else BRouteMedium(said.medium),
            None if said.site is None else Site(said.site),
        )

    def _today(self) -> date:
        """Without a clock nothing has expired."""
        unset = self._clock.trust is Trust.UNSET
        return date.min if unset else jst_day(self._clock.wall())

    def _shown(self, customer: BRouteCredentials) -> MeterSettings:
        said, plate = self._config.broute, self.metering.unit.nameplate
        return self._interpose.settings(
            shown_settings(said, plate, customer.link.route_b_id, reverse=self.service.reverse)
        )

    def _customer(self) -> BRouteCredentials | None:
        record = None if self._credentials is None else self._credentials.current()
        return None if record is None else record.credentials

    async def _settle_broute(self) -> None:
        """Serve the home if there is one, a unit to reach it by, and nothing against it."""
        customer, unit = self._customer(), self._communication
        if customer is None or unit is None or not self.service.broute:
            await self._end_broute()
            if unit is not None:
                await unit.vacate()
            return
        if self.broute is not None:
            self._refresh()
            return
        self.broute = assemble(
            unit,
            self.metering,
            customer,
            self._clock,
            settings=self._shown(customer),
            feed_in_as_forward=lambda: self.directives.feed_in_as_forward,
            interpose=self._interpose,
            bus=self._bus,
            rng=self._rng,
            grace=self._grace,
        )
        self._supervisor.add(BROUTE_PART, self.broute.run)
        if not self._memory.communication_serial:
            self._remember_communication_unit()

    def _refresh(self) -> None:
        """Show the home what has changed; what it chose to see is kept where nothing has."""
        if self.broute is None or self.broute.credentials is None:
            return
        shown = self._shown(self.broute.credentials)
        if shown != self.broute.node.settings:
            self.broute.show(shown)

    async def _end_broute(self) -> None:
        broute, self.broute = self.broute, None
        if broute is None:
            return
        await self._supervisor.drop(BROUTE_PART)
        bound = self._clock.monotonic() + LINK_DOWN_BOUND_S
        if not await wait_for_event(self._clock, broute.ended, bound):
            log.error("the link of the B-route does not come down")

    def _remember_communication_unit(self) -> None:
        if self._communication is None or not self._communication_serial:
            return
        try:
            self._memory.remember(self._communication_serial)
        except MeterError as failure:
            log.error("%s; a replaced communication unit will not be noticed", failure)


def _function_of(slot: Slot) -> OptionalFunction:
    """What an optional unit does, by its nameplate or by what it can do."""
    plate = slot.nameplate
    if plate is not None and plate.function is not None:
        return plate.function
    switches = hasattr(slot.unit, "open_contacts")
    return OptionalFunction.SWITCHING if switches else OptionalFunction.VOLTAGE
