"""Every command of the table, sealed and sent over MQTT, does on a bench's meter what it says."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mosquitto_broker import MosquittoBroker, free_port

from meter_runtime.aroute import messages, results
from meter_runtime.aroute.commands import COMMANDS, Code
from meter_runtime.aroute.identity import SigningKey
from meter_runtime.bench.board.plugged import Switch
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.comm.contracts import LinkCredentials, LinkStarted
from meter_runtime.headend.lab import Lab
from meter_runtime.secret import Secret
from meter_runtime.units.contracts import SwitchPosition

from .conftest import eventually
from .program import command
from .terminal import Terminal
from .utility_room import PROOF_KEY, Desk, collecting, desk

UNITS = Path(__file__).parents[2] / "examples" / "units" / "two-way-60a.toml"
WITH_A_SWITCH = BenchOptions(units=UNITS, history_days=1)
NEW_PASSWORD = "NEWPASSWORD1"
WITHIN_S = 2.0
"""From the publication of the command to the meter's signed answer, by the paper's demand."""


@pytest.fixture
async def room() -> AsyncIterator[Desk]:
    async with Bench(WITH_A_SWITCH) as bench, desk(bench) as found:
        yield found


def link_starts(bench: Bench) -> list[LinkStarted]:
    """Fills as the radio admits a home from now on."""
    starts: list[LinkStarted] = []
    bench.meter.bus.subscribe(LinkStarted, starts.append)
    return starts


async def test_a_rewritten_password_is_answered_in_time_and_lets_only_its_holder_in() -> None:
    async with Bench() as bench, desk(bench) as office, Terminal(bench.tty).opened() as hems:
        old, route_b_id = bench.password, bench.route_b_id
        starts = link_starts(bench)
        await hems.join(route_b_id, old)
        assert await hems.power() is not None

        loop = asyncio.get_running_loop()
        command_id, message = office.message(
            "broute.rewrite_password", password=NEW_PASSWORD, proof_key=PROOF_KEY
        )
        begun = loop.time()
        result = office.read(await office.deliver(command_id, message))
        assert loop.time() - begun <= WITHIN_S
        assert (result.code, result.credential_version) == (Code.OK, 2)
        kept = LinkCredentials(route_b_id, Secret(NEW_PASSWORD))
        assert result.proof == results.proof_of(PROOF_KEY, kept)
        assert bench.password == NEW_PASSWORD

        assert await hems.told("EVENT 26 ")
        await eventually(lambda: bool(starts))
        await hems.log_in(route_b_id, old)
        await hems.tune()
        assert not await hems.knock()
        await hems.log_in(route_b_id, NEW_PASSWORD)
        await hems.tune()
        assert await hems.knock()
        assert await hems.power() is not None
        crossed = [each for heard in office.recorder.heard.values() for each in heard]
        assert message in crossed
        assert not any(NEW_PASSWORD.encode() in each for each in crossed)


async def test_new_credentials_serve_a_new_home_and_revoking_them_nobody() -> None:
    async with Bench() as bench, desk(bench) as office, Terminal(bench.tty).opened() as hems:
        moved_in = "0123456789ABCDEF" * 2
        starts = link_starts(bench)
        await office.details(
            "broute.set_credentials",
            id=moved_in,
            password=NEW_PASSWORD,
            accepted_on="2026-11-01",
            proof_key=PROOF_KEY,
        )
        await eventually(lambda: bool(starts))
        await hems.join(moved_in, NEW_PASSWORD)
        told = await office.details("broute.status")
        assert (told["provisioned"], told["accepted_on"]) == (True, "2026-11-01")

        await office.details("broute.revoke")
        assert await hems.told("EVENT 26 ")
        await eventually(lambda: not bench.status()["broute"]["in_service"])
        await hems.log_in(moved_in, NEW_PASSWORD)
        assert await hems.scan() is None
        assert not (await office.details("broute.status"))["provisioned"]
        result = await office.command(
            "broute.rewrite_password", password=NEW_PASSWORD, proof_key=PROOF_KEY
        )
        assert (result.code, result.proof) == (Code.NOT_PERMITTED, None)


async def test_the_switch_really_moves_and_its_result_is_its_feedback(room: Desk) -> None:
    (part,) = room.bench.body.unit("optional").parts
    assert isinstance(part, Switch)
    assert part.relay is not None
    for name, position in (
        ("switch.open", SwitchPosition.OPEN),
        ("switch.close", SwitchPosition.CLOSED),
    ):
        assert part.relay.position is not position
        told = await room.details(name)
        assert part.relay.position is position
        assert told == {"position": position.value, "wanted": position.value, "mismatch": False}
        assert room.bench.status()["switch"]["position"] == position.value
        await room.bench.advance(60)
    assert not part.relay.violations
    part.stuck = True
    result = await room.command("switch.open")
    assert (result.code, result.details["position"]) == (Code.UNIT_ABSENT, "closed")


async def test_a_limit_holds_beyond_a_power_cut_and_opens_the_supply(room: Desk) -> None:
    assert await room.details("limit.set", limit_a=0.5) == {"limit_a": 0.5}
    await room.bench.reboot()
    await room.bench.advance(1800)
    assert room.bench.status()["switch"]["trips"] >= 1
    await eventually(lambda: room.bench.status()["aroute"]["connected"])
    assert await room.details("limit.set", limit_a=None) == {"limit_a": None}


async def test_the_clock_is_slewed_or_set_as_the_utility_says(room: Desk) -> None:
    clock = room.bench.clock
    told = await room.details("clock.adjust", wall=clock.wall() + 3)
    assert (told["how"], told["trust"]) == ("slew", "synced")
    assert told["by_s"] == pytest.approx(3, abs=0.5)
    there = clock.wall() + 600
    told = await room.details("clock.adjust", wall=there)
    assert told["how"] == "step"
    assert clock.wall() == pytest.approx(there, abs=2)


async def test_half_hours_asked_for_come_as_the_ring_has_them(room: Desk) -> None:
    ring = room.bench.meter.metering
    newest = ring.recorder.newest()
    assert newest is not None
    first, last = newest - 40, newest - 3
    command_id, message = room.message("history.read", first=first, last=last)
    assert room.read(await room.deliver(command_id, message)).code is Code.OK
    history = room.recorder.heard[room.topics.history]
    await eventually(lambda: bool(history))
    (told,) = (messages.decode(each, messages.Readings) for each in history)
    assert (told.request, told.after, told.upto) == (command_id.hex(), first - 1, last)
    expected = {slot: ring.record(slot) for slot in range(first, last + 1)}
    assert {
        reading.slot: (reading.forward_dwh, reading.reverse_dwh, reading.flags)
        for reading in told.readings
    } == {
        slot: (record.forward_dwh, record.reverse_dwh, int(record.flags))
        for slot, record in expected.items()
        if record is not None
    }
    assert len(told.readings) == 38


async def test_what_is_read_over_mqtt_is_what_the_status_shows(room: Desk) -> None:
    await room.bench.advance(60)
    registers = await room.details("register.read")
    shown = room.bench.status()["registers"]
    assert registers["unit"] == "M00000000001"
    assert not registers["silent"]
    for name in ("forward", "reverse"):
        # A second may lie between the two.
        assert registers[f"{name}_mwh"] / 1000 == pytest.approx(shown[f"{name}_wh"], abs=10)
    assert registers["power_w"] == pytest.approx(shown["power_w"], rel=0.2, abs=50)

    told, shown = await room.details("broute.status"), room.bench.status()["broute"]
    for name in ("in_service", "message", "items", "medium"):
        assert told[name] == shown[name]
    assert told["counters"].items() <= shown["counters"].items()

    found = await room.details("inventory.get")
    units = room.bench.status()["units"]
    assert {slot: unit["serial"] for slot, unit in found["units"].items()} == {
        "communication": "C00000000001",
        "metering": "M00000000001",
        "optional": "S00000000001",
    }
    assert {slot: unit["state"] for slot, unit in found["units"].items()} == {
        slot: unit["state"] for slot, unit in units.items()
    }
    assert await room.details("self_test") == {
        "findings": {"communication": [], "metering": [], "optional": []}
    }


async def test_the_direction_that_is_told_to_the_home_can_be_turned(room: Desk) -> None:
    for turned in (True, False):
        told = await room.details("config.direction", feed_in_as_forward=turned)
        assert told == {"feed_in_as_forward": turned}
        assert room.bench.meter.crew.directives.feed_in_as_forward is turned


async def test_an_issuer_that_rotated_its_key_is_obeyed_under_the_new_one_alone(
    room: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = SigningKey.generate()
    await room.details("keys.rotate", public_key=new.public)
    rejected = room.read(await room.deliver(*room.message("register.read")))
    assert (rejected.code, rejected.command_id) == (Code.REJECTED, None)
    monkeypatch.setattr(Lab, "issuer_key", lambda *_: new)
    await room.details("register.read")
    await room.bench.reboot()
    await eventually(lambda: room.bench.status()["aroute"]["connected"])
    await room.details("register.read")


async def test_the_status_shows_how_far_the_utility_is(room: Desk) -> None:
    shown = room.bench.status()
    assert (shown["aroute"]["connected"], shown["aroute"]["protocol"]) == (True, "3.1.1")
    assert shown["aroute"]["acknowledged_up_to"] is None
    assert shown["aroute"]["queued"] >= shown["history"]["stored"] > 48
    async with collecting(room.bench):
        await eventually(lambda: room.bench.status()["aroute"]["queued"] == 0)
    told = await command("status", "--json", "--control", room.bench.control_path)
    shown = json.loads(told.out)
    assert shown["aroute"]["connected"]
    assert shown["aroute"]["acknowledged_up_to"] == shown["history"]["newest"]
    await room.details("register.read")
    assert room.bench.status()["aroute"]["counters"]["commands"]["OK"] == 1


async def test_a_message_of_an_earlier_run_is_answered_as_then_and_its_counter_is_used_up(
    folder: Path,
) -> None:
    lab = Lab.create(folder / "lab", broker_port=free_port())
    options = BenchOptions(lab=lab.path, state_dir=folder / "state")
    with MosquittoBroker(folder, lab=lab):
        async with Bench(options) as bench, desk(bench) as office:
            sent = office.message(
                "broute.rewrite_password", password=NEW_PASSWORD, proof_key=PROOF_KEY
            )
            answer = await office.deliver(*sent)
            assert office.read(answer).code is Code.OK
            unsent = office.message("register.read")
            counter = office.counter
            await office.details("register.read")
        async with Bench(options) as bench, desk(bench, counter=counter - 1) as office:
            assert bench.password == NEW_PASSWORD
            assert await office.deliver(*sent) == answer
            for late in (unsent, office.message("register.read")):
                result = office.read(await office.deliver(*late))
                assert (result.code, result.details) == (
                    Code.STALE_COUNTER,
                    {"counter": counter + 1},
                )
            assert bench.meter.provisioning.version == office.read(answer).credential_version
            office.counter = counter + 1
            await office.details("register.read")


def test_every_command_is_carried_out_here() -> None:
    source = Path(__file__).read_text("utf-8")
    assert [name for name in COMMANDS if f'"{name}"' not in source] == []
