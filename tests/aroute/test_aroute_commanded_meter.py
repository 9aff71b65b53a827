"""A sealed command changes a whole meter, and the signed result is true, also after a cut."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gate_room import DEVICE_KEY, METER, METER_ID, PASSWORD, PROOF_KEY, TRUST, command, message

from fuzz.swap_room import HOME, START, Room, room
from fuzz.virtual_time import in_virtual_time
from meter_runtime import report
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.gate import Gate
from meter_runtime.aroute.handlers import Handlers
from meter_runtime.aroute.results import Diagnosis, Result, proof_of, read
from meter_runtime.bench.clock import BenchClock
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.provisioning import Provisioning
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.secret import Secret
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import JOURNAL_DEPTH, Journal
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.units.inventory import Inventory

REWRITTEN = LinkCredentials(HOME.route_b_id, Secret(PASSWORD))


class NoHistory:
    def request_history(self, first: int, last: int, command_id: bytes) -> bool:
        return False


@dataclass
class Commanded:
    """A meter at work behind its gate."""

    here: Room
    journal: MemoryMedia
    ledger: MemoryMedia
    gate: Gate
    hanging: asyncio.Event
    """Set: what follows the vault's write never comes to an end."""

    async def take(self, told: Command) -> Result:
        answer = await self.gate.take(message(told), Way.CONTROL)
        assert answer is not None
        return read(answer, METER.public.signing)


@asynccontextmanager
async def commanded(
    folder: Path, journal: MemoryMedia, ledger: MemoryMedia
) -> AsyncIterator[Commanded]:
    async with room(folder) as here:
        await here.lives(5)
        meter, hanging = here.meter, asyncio.Event()
        credentials = meter.credentials
        assert credentials is not None

        async def changed(now: BRouteCredentials | None) -> None:
            if hanging.is_set():
                await asyncio.Event().wait()
            await meter.crew.credentials_changed(now)
            await meter.keeper.review()

        handlers = Handlers(
            broute=Provisioning(credentials, changed, lambda: report.status(meter)["broute"]),
            registers=meter.metering,
            history=NoHistory(),
            supply=meter.crew.switching,
            clock=BenchClock(START),
            units=Inventory(meter.keeper.slots, lambda: meter.crew.findings),
            directives=meter.crew.directives,
        )
        gate = Gate(
            METER_ID,
            METER,
            TRUST,
            IssuerLedger.open(ledger, DEVICE_KEY),
            Journal.open(journal),
            applier=handlers,
            clock=here.clock,
            credential_version=lambda: credentials.version,
            diagnosis=diagnosis(here),
        )
        yield Commanded(here, journal, ledger, gate, hanging)


def diagnosis(here: Room) -> Callable[[], Diagnosis]:
    def tell() -> Diagnosis:
        broute = here.meter.broute
        return Diagnosis(0, 0) if broute is None else Diagnosis(*broute.diagnosis())

    return tell


def media() -> tuple[MemoryMedia, MemoryMedia]:
    return (
        MemoryMedia(Journal.size_for(JOURNAL_DEPTH, 1), "journal"),
        MemoryMedia(IssuerLedger.size_for(1), "issuers"),
    )


def told(number: int, **changes: Any) -> Command:
    return command(number, not_before=int(START) - 60, expiry=int(START) + 3600, **changes)


@in_virtual_time
async def test_a_rewritten_password_is_in_the_vault_at_the_radio_and_proved(
    tmp_path: Path,
) -> None:
    async with commanded(tmp_path, *media()) as at:
        store = at.here.meter.credentials
        assert store is not None
        before = store.version
        result = await at.take(told(7))
        assert (result.code, result.counter) == (Code.OK, 7)
        assert result.proof == proof_of(PROOF_KEY, REWRITTEN)
        assert result.credential_version == before + 1 == store.version
        broute = at.here.meter.broute
        assert broute is not None
        assert broute.credentials == BRouteCredentials(REWRITTEN)
        revoked = await at.take(told(8, name="broute.revoke", arguments={}))
        assert (revoked.code, revoked.diagnosis) == (Code.OK, Diagnosis(0, 0))
        assert at.here.meter.broute is None
        again = await at.take(told(9))
        assert (again.code, again.details) == (Code.NOT_PERMITTED, {"reason": "not in service"})


@in_virtual_time
async def test_a_password_that_is_none_is_bad_format_and_stays_out_of_the_result(
    tmp_path: Path,
) -> None:
    async with commanded(tmp_path, *media()) as at:
        wrong = told(7, arguments={"password": "not 12 long!!", "proof_key": PROOF_KEY})
        result = await at.take(wrong)
        assert result.code is Code.BAD_FORMAT
        assert "not 12 long" not in repr(result)
        # It took its counter: the same one does not come through any more.
        mended = replace(told(7), command_id=bytes(15) + b"\xff")
        assert (await at.take(mended)).code is Code.STALE_COUNTER


@in_virtual_time
async def test_a_cut_behind_the_vaults_write_is_told_as_done_after_the_restart(
    tmp_path: Path,
) -> None:
    journal, ledger = media()
    async with commanded(tmp_path, journal, ledger) as at:
        at.hanging.set()
        taking = asyncio.create_task(at.gate.take(message(told(7)), Way.CONTROL))
        await at.here.lives(1)
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
    async with commanded(tmp_path, journal, ledger) as at:
        (answer,) = at.gate.settle()
        result = read(answer, METER.public.signing)
        assert (result.code, result.counter) == (Code.OK, 7)
        assert result.proof == proof_of(PROOF_KEY, REWRITTEN)
        assert result.details == {"reason": "interrupted"}
        broute = at.here.meter.broute
        assert broute is not None
        assert broute.credentials == BRouteCredentials(REWRITTEN)
        # Nothing is pending any more, and the retry hears the same.
        assert at.gate.settle() == []
        assert await at.gate.take(message(told(7)), Way.CONTROL) == answer
