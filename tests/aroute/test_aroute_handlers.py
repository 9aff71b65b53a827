"""Each command does to a whole meter what it says, tells what came of it, and fits a result."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from fuzz.swap_room import DEVICE_KEY, HOME, START, UNITS, Room, room
from fuzz.virtual_time import in_virtual_time
from meter_runtime import config as cfg
from meter_runtime import report
from meter_runtime.aroute.cbor import encode
from meter_runtime.aroute.commands import (
    COMMANDS,
    AdjustClock,
    Arguments,
    BadArgumentsError,
    Code,
    NoArguments,
    ReadHistory,
    RewritePassword,
    RotateIssuerKey,
    SetCredentials,
    SetDirection,
    SetLimit,
)
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.gate import Applier, Outcome
from meter_runtime.aroute.handlers import Handlers
from meter_runtime.aroute.handlers.ports import ClockSetter
from meter_runtime.aroute.results import MAX_DETAILS_BYTES, proof_of
from meter_runtime.bench.clock import BenchClock
from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.provisioning import Provisioning
from meter_runtime.clock import Trust, jst_day
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.discipline import Correction, Kind, Source
from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.vault import Vault
from meter_runtime.units.contracts import SwitchPosition
from meter_runtime.units.inventory import Inventory

NEW_ID = "FEDCBA98765432100123456789ABCDEF"
NEW = Secret("NEWPASSWORD1")
PROOF_KEY = bytes(range(16))
TODAY = jst_day(START)
NOTHING = NoArguments()
WITHOUT_SWITCH = UNITS[: UNITS.rindex("[[unit]]")]


@dataclass
class Requests:
    """Whoever publishes half-hours, as far as the handlers see it."""

    busy: bool = False
    taken: list[tuple[int, int, bytes]] = field(default_factory=list)

    def request_history(self, first: int, last: int, command_id: bytes) -> bool:
        if not self.busy:
            self.taken.append((first, last, command_id))
        return not self.busy


@dataclass
class NetworkClock:
    """A clock that knows better than the utility."""

    trust = Trust.SYNCED

    def wall(self) -> float:
        return START

    def adjust(self, wall: float) -> Correction:
        return Correction(Kind.IGNORED, wall - START, wall, Source.UTILITY)


@dataclass
class Desk:
    """A meter at work, and its handlers."""

    here: Room
    clock: ClockSetter
    history: Requests
    handlers: Handlers
    _counter: int = 0

    async def says(self, name: str, arguments: Arguments = NOTHING, counter: int = 0) -> Outcome:
        """Have a command carried out; its details must fit a result."""
        self._counter = counter or self._counter + 1
        command = Command(
            name, "SWAPS", bytes(range(16)), "issuer", self._counter, 0, 2**40, {}, ""
        )
        outcome = await self.handlers.apply(command, arguments)
        assert len(encode(outcome.details)) <= MAX_DETAILS_BYTES
        return outcome


def handlers_of(here: Room, clock: ClockSetter, history: Requests) -> Handlers:
    meter = here.meter

    async def changed(credentials: BRouteCredentials | None) -> None:
        await meter.crew.credentials_changed(credentials)
        await meter.keeper.review()

    return Handlers(
        broute=Provisioning(meter.credentials, changed, lambda: report.status(meter)["broute"]),
        registers=meter.metering,
        history=history,
        supply=meter.crew.switching,
        clock=clock,
        units=Inventory(meter.keeper.slots, lambda: meter.crew.findings),
        directives=meter.crew.directives,
    )


@asynccontextmanager
async def desk(folder: Path, **said: Any) -> AsyncIterator[Desk]:
    async with room(folder, **said) as here:
        await here.lives(5)
        clock, history = BenchClock(START), Requests()
        yield Desk(here, clock, history, handlers_of(here, clock, history))


def set_credentials(day: date = TODAY) -> SetCredentials:
    return SetCredentials(id=NEW_ID, password=NEW, accepted_on=day, proof_key=PROOF_KEY)


def rewrite(day: date | None = None) -> RewritePassword:
    return RewritePassword(password=NEW, proof_key=PROOF_KEY, accepted_on=day)


ARGUMENTS: dict[str, Arguments] = {
    "broute.set_credentials": set_credentials(),
    "broute.rewrite_password": rewrite(),
    "history.read": ReadHistory(first=1, last=2),
    "limit.set": SetLimit(limit_a=30.0),
    "clock.adjust": AdjustClock(wall=START),
    "config.direction": SetDirection(feed_in_as_forward=True),
    "keys.rotate": RotateIssuerKey(public_key=bytes(32)),
}


@in_virtual_time
async def test_every_command_but_the_gates_own_is_carried_out(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        applier: Applier = at.handlers
        assert applier is at.handlers
        for name in COMMANDS:
            arguments = ARGUMENTS.get(name, NOTHING)
            if name == "keys.rotate":
                with pytest.raises(BadArgumentsError):
                    await at.says(name, arguments)
                continue
            code = (await at.says(name, arguments)).code
            assert code is Code.OK, name
            await at.here.lives(2)


# The service to the home


@in_virtual_time
async def test_credentials_are_set_in_one_write_with_counter_and_proof(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        store = at.here.meter.credentials
        assert store is not None
        before = store.version
        outcome = await at.says("broute.set_credentials", set_credentials(), counter=41)
        link = LinkCredentials(NEW_ID, NEW)
        assert outcome == Outcome(Code.OK)
        assert at.handlers.proof(set_credentials()) == proof_of(PROOF_KEY, link)
        record = store.current()
        assert record is not None
        assert record.credentials == BRouteCredentials(link, TODAY)
        assert (record.counter, store.version) == (41, before + 1)
        assert at.here.meter.broute is not None
        assert at.here.meter.broute.credentials == record.credentials


@in_virtual_time
async def test_rewriting_the_password_keeps_the_id_and_the_day_that_is_not_given(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        await at.says("broute.set_credentials", set_credentials(date(2026, 4, 1)))
        broute = at.handlers.broute
        newer = replace_password(rewrite(), "NEWERPASSWD2")
        assert (await at.says("broute.rewrite_password", newer)).code is Code.OK
        assert broute.credentials == LinkCredentials(NEW_ID, Secret("NEWERPASSWD2"))
        assert broute.accepted_on == date(2026, 4, 1)
        proven = proof_of(PROOF_KEY, LinkCredentials(NEW_ID, NEW))
        assert at.handlers.proof(rewrite(TODAY)) == proven
        await at.says("broute.rewrite_password", rewrite(TODAY), counter=90)
        assert (broute.accepted_on, broute.counter) == (TODAY, 90)


def replace_password(said: RewritePassword, password: str) -> RewritePassword:
    return RewritePassword(password=Secret(password), proof_key=said.proof_key)


@in_virtual_time
async def test_a_revoked_home_is_not_served_and_its_password_cannot_be_rewritten(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        assert await at.says("broute.revoke", counter=8) == Outcome(Code.OK)
        assert at.here.meter.broute is None
        assert at.handlers.broute.counter == 8
        refused = await at.says("broute.rewrite_password", rewrite())
        assert refused == Outcome(Code.NOT_PERMITTED, {"reason": "not in service"})
        assert (await at.says("broute.revoke", counter=10)).code is Code.OK
        assert at.handlers.broute.counter == 10
        assert (await at.says("broute.set_credentials", set_credentials())).code is Code.OK
        assert at.here.meter.broute is not None


@pytest.mark.parametrize(
    "password", ["SHORT", "0123456789AB!", "TWELVE CHARS", "パスワード１２３４５６７"]
)
def test_a_password_that_is_none_is_a_bad_argument_and_is_not_quoted(
    tmp_path: Path, password: str
) -> None:
    @in_virtual_time
    async def story() -> None:
        async with desk(tmp_path) as at:
            before = at.handlers.broute.version
            for name, said in (
                ("broute.set_credentials", set_credentials()),
                ("broute.rewrite_password", rewrite()),
            ):
                wrong = type(said)(
                    **{key: getattr(said, key) for key in said.__struct_fields__}
                    | {"password": Secret(password)}
                )
                with pytest.raises(BadArgumentsError) as refused:
                    await at.says(name, wrong)
                assert password not in str(refused.value)
            assert at.handlers.broute.version == before
            assert at.handlers.broute.credentials == HOME

    story()


@in_virtual_time
async def test_a_vault_that_cannot_be_used_is_said_and_changes_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        lost = replace(at.handlers, broute=Provisioning(None, _nobody, dict))
        at.handlers = lost
        for name in ("broute.set_credentials", "broute.revoke"):
            with pytest.raises(MeterError, match="vault"):
                await at.says(name, ARGUMENTS.get(name, NOTHING))
        assert (await at.says("broute.status")).details["provisioned"] is False
        assert lost.broute.version == 0


async def _nobody(_: BRouteCredentials | None) -> None:
    raise AssertionError("nothing was stored")


async def test_what_is_stored_counts_whatever_becomes_of_the_radio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = CredentialStore.open(
        Vault.open(MemoryMedia(Vault.size_for(512), write_unit=512), DEVICE_KEY), DEVICE_KEY
    )

    async def changed(_: BRouteCredentials | None) -> None:
        raise MeterError("the radio is gone")

    desk = Provisioning(store, changed, dict)
    await desk.provision(HOME, None, 3)
    assert (desk.credentials, desk.counter, desk.version) == (HOME, 3, 1)
    assert "the radio is gone" in caplog.text
    assert HOME.password.reveal() not in caplog.text


@in_virtual_time
async def test_the_status_tells_the_diagnosis_and_what_is_kept(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        told = (await at.says("broute.status")).details
        assert told["in_service"]
        assert told["message"] == 3
        assert told["items"]["startup"] == "clear"
        assert told["medium"] == "920MHz"
        assert told["provisioned"]
        await at.says("broute.set_credentials", set_credentials())
        assert (await at.says("broute.status")).details["accepted_on"] == TODAY.isoformat()
        await at.here.body.unplug("communication")
        await at.here.lives(2)
        told = (await at.says("broute.status")).details
        assert (told["in_service"], told["provisioned"]) == (False, True)


# What was measured


@in_virtual_time
async def test_the_registers_are_those_of_the_meter_and_silence_is_said(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        metering = at.here.meter.metering
        told = (await at.says("register.read")).details
        assert told == {
            "unit": "M00000000001",
            "at": pytest.approx(at.clock.wall(), abs=1),
            "forward_mwh": metering.forward_mwh,
            "reverse_mwh": metering.reverse_mwh,
            "power_w": metering.power_w,
            "current_r_ma": metering.current_r_ma,
            "current_t_ma": metering.current_t_ma,
            "silent": False,
        }
        await at.here.body.unplug("metering")
        await at.here.lives(30)
        silent = (await at.says("register.read")).details
        assert (silent["silent"], silent["power_w"], silent["current_r_ma"]) == (True, None, None)
        assert silent["forward_mwh"] == metering.forward_mwh


@in_virtual_time
async def test_a_one_way_meter_has_no_reverse_register(tmp_path: Path) -> None:
    units = UNITS.replace("MU-1P3W-60-2", "MU-1P3W-60-1").replace("CU-RF-920-2", "CU-RF-920-1")
    async with desk(tmp_path, units=units) as at:
        told = (await at.says("register.read")).details
        assert told["reverse_mwh"] is None
        assert told["forward_mwh"] is not None


@in_virtual_time
async def test_history_is_asked_of_whoever_publishes_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        said = ReadHistory(first=1000, last=1047)
        outcome = await at.says("history.read", said)
        assert outcome == Outcome(Code.OK, {"first": 1000, "last": 1047})
        assert at.history.taken == [(1000, 1047, bytes(range(16)))]
        at.history.busy = True
        assert (await at.says("history.read", said)).code is Code.BUSY


# The supply


@in_virtual_time
async def test_the_switch_tells_where_its_contacts_are_after_the_move(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        outcome = await at.says("switch.open")
        assert outcome == Outcome(
            Code.OK, {"position": "open", "wanted": "open", "mismatch": False}
        )
        assert at.here.switch.relay is not None
        assert at.here.switch.relay.position is SwitchPosition.OPEN
        soon = await at.says("switch.close")
        assert (soon.code, soon.details["position"]) == (Code.BUSY, "open")
        await at.here.lives(2)
        outcome = await at.says("switch.close")
        assert (outcome.code, outcome.details["position"]) == (Code.OK, "closed")


@in_virtual_time
async def test_contacts_that_do_not_follow_are_told_apart_from_ones_that_did(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        assert at.here.switch.relay is not None
        at.here.switch.relay.stuck = True
        outcome = await at.says("switch.open")
        assert outcome.code is Code.UNIT_ABSENT
        assert outcome.details == {
            "position": "closed",
            "wanted": "open",
            "mismatch": True,
            "reason": "the contacts did not follow",
        }


@in_virtual_time
async def test_without_a_switch_nothing_is_switched_or_limited(tmp_path: Path) -> None:
    async with desk(tmp_path, units=WITHOUT_SWITCH) as at:
        for name in ("switch.open", "switch.close"):
            assert (await at.says(name)).code is Code.UNIT_ABSENT
        limit = SetLimit(limit_a=30.0)
        assert (await at.says("limit.set", limit)).code is Code.UNIT_ABSENT
        assert at.here.meter.crew.directives.limit_a is None
        assert (await at.says("limit.set", SetLimit(limit_a=None))).code is Code.OK


@in_virtual_time
async def test_a_combination_that_forbids_it_forbids_it_here_too(tmp_path: Path) -> None:
    units = UNITS.replace('"OU-SW-60"', '"OU-SW-120"')
    async with desk(tmp_path, units=units) as at:
        refused = await at.says("switch.open")
        assert refused.code is Code.NOT_PERMITTED
        assert "U-16" in refused.details["reason"]


@in_virtual_time
async def test_a_limit_holds_at_once_and_after_a_restart_until_the_file_is_edited(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        status = at.here.meter.crew.switching.status
        assert status.trips is None
        outcome = await at.says("limit.set", SetLimit(limit_a=3.5), counter=5)
        assert outcome == Outcome(Code.OK, {"limit_a": 3.5})
        await at.here.lives(20)
        assert at.here.meter.crew.switching.status.trips
    async with desk(tmp_path) as at:
        assert at.here.meter.crew.directives.limit_a == 3.5
        assert at.here.meter.crew.switching.status.trips is not None
    edited = cfg.Switching(min_interval_s=1.0, limit_a=50.0)
    async with desk(tmp_path, switching=edited) as at:
        assert at.here.meter.crew.directives.limit_a == 50.0
        await at.says("limit.set", SetLimit(limit_a=None))
        assert at.here.meter.crew.switching.status.trips is None


# The meter itself


@in_virtual_time
async def test_the_direction_is_told_to_the_home_at_once_and_after_a_restart(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        power_w = at.here.meter.metering.power_w
        assert power_w
        assert power_told(at) == power_w
        outcome = await at.says("config.direction", SetDirection(feed_in_as_forward=True))
        assert outcome == Outcome(Code.OK, {"feed_in_as_forward": True})
        assert power_told(at) == -power_w
    async with desk(tmp_path) as at:
        power_w = at.here.meter.metering.power_w
        assert power_w
        assert power_told(at) == -power_w
        outcome = await at.says("config.direction", SetDirection(feed_in_as_forward=None))
        assert outcome.details == {"feed_in_as_forward": False}
        assert power_told(at) == power_w


def power_told(at: Desk) -> int:
    """What the home is answered when it gets the present power (EPC E7)."""
    broute = at.here.meter.broute
    assert broute is not None
    answer = broute.node.handle(bytes.fromhex("1081 0001 05FF01 028801 62 01 E7 00"))
    assert answer is not None
    assert answer[12:14] == b"\xe7\x04"
    return int.from_bytes(answer[14:18], "big", signed=True)


@in_virtual_time
async def test_the_clock_is_slewed_or_stepped_and_the_result_says_which(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for by_s, how in ((4.0, "slew"), (-3600.0, "step")):
            said = AdjustClock(wall=at.clock.wall() + by_s)
            outcome = await at.says("clock.adjust", said)
            assert outcome.code is Code.OK
            assert outcome.details == {"by_s": pytest.approx(by_s), "how": how, "trust": "synced"}
        at.handlers = replace(at.handlers, clock=NetworkClock())
        outcome = await at.says("clock.adjust", AdjustClock(wall=START + 5))
        assert outcome.code is Code.NOT_PERMITTED
        assert outcome.details["how"] == "ignored"


@in_virtual_time
async def test_the_inventory_is_complete_and_an_empty_slot_is_told(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        told = (await at.says("inventory.get")).details
        assert {name: unit["serial"] for name, unit in told["units"].items()} == {
            "communication": "C00000000001",
            "metering": "M00000000001",
            "optional": "S00000000001",
        }
        metering = told["units"]["metering"]
        assert (metering["wiring"], metering["capacity_a"], metering["state"]) == (
            "1P3W",
            60,
            "active",
        )
        assert told["units"]["optional"]["does"] == "switching"
        assert told["findings"] == []
        await at.here.body.unplug("optional")
        await at.here.lives(2)
        told = (await at.says("inventory.get")).details
        assert told["units"]["optional"]["state"] == "removed"


@in_virtual_time
async def test_every_unit_tests_itself_and_one_that_hangs_is_bounded(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        told = (await at.says("self_test")).details
        assert told == {"findings": {"communication": [], "metering": [], "optional": []}}
        slots = at.here.meter.keeper.slots

        async def hang() -> list[str]:
            await asyncio.Event().wait()
            raise AssertionError

        slots["optional"].unit.self_test = hang
        slots["metering"].unit.self_test = _complains_at_length
        told = (await at.says("self_test")).details["findings"]
        assert "did not answer within 5 s" in told["optional"][0]
        assert len(told["metering"]) == 3


async def _complains_at_length() -> list[str]:
    return ["計" * 500] * 9


# After a power cut


@in_virtual_time
async def test_what_is_stored_decides_how_an_interrupted_command_ended(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        handlers, broute = at.handlers, at.handlers.broute
        before = broute.version
        for name in COMMANDS:
            assert handlers.settle(name, before, 77).code is Code.STORE_FAILED, name
        await at.says("broute.set_credentials", set_credentials(), counter=77)
        await at.says("limit.set", SetLimit(limit_a=60.0), counter=78)
        await at.says("config.direction", SetDirection(feed_in_as_forward=True), counter=79)
        settled = Outcome(Code.OK, {"reason": "interrupted"})
        assert handlers.settle("broute.set_credentials", before, 77) == settled
        assert handlers.settle("limit.set", before, 78) == settled
        assert handlers.settle("config.direction", before, 79) == settled
        # The same counter of another issuer, whose command came before.
        assert handlers.settle("broute.revoke", broute.version, 77).code is Code.STORE_FAILED
        assert handlers.settle("broute.revoke", before, 76).code is Code.STORE_FAILED
