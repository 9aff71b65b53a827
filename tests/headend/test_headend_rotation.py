"""An issuer's new key, brought to real meters over the whole way while commands go on."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
from headend_room import METER, LabMeter, make_lab, running, until, whole

from meter_runtime.cli import keys
from meter_runtime.cli.parser import Parser
from meter_runtime.errors import MeterError
from meter_runtime.headend.authority import Role
from meter_runtime.headend.lab import NEW_SYSTEM, SCS, Lab
from meter_runtime.headend.new_system import NewSystem
from meter_runtime.headend.register_contracts import SupplyPoint
from meter_runtime.headend.register_requests import State
from meter_runtime.headend.scs_store import ScsStore

AWAY = "M-0002"
NOW = 1_793_000_000.0


def rotate(lab: Lab, *words: str) -> int:
    parser = Parser(prog="meter-runtime")
    keys.register(parser.add_subparsers(parser_class=Parser))
    return keys.run(parser.parse_args(["keys", "rotate", str(lab.path), *words]))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two meters, in the register, and someone who is responsible for the keys."""
    lab = make_lab(tmp_path, meters=(METER, AWAY))
    with NewSystem.open(lab) as system:
        system.staff.add(NOW, "Abe", frozenset({Role.ADMINISTRATOR}), None)
        for name, role in (("Hara", Role.REGISTRAR), ("Kita", Role.KEYS), ("Mori", Role.BROUTE)):
            system.staff.add(NOW, name, frozenset({role}), "Abe")
        for number, meter_id in enumerate((METER, AWAY)):
            point = f"SP-{number}"
            system.register.add_supply_point(NOW, "Hara", SupplyPoint(point, "Osaka"))
            system.register.add_meter(NOW, "Hara", meter_id, point)
    return lab


async def status_of(lab: Lab, meter_id: str) -> State:
    """What becomes of ``broute.status``, issued now."""
    with NewSystem.open(lab) as system:
        request = await system.issuing.issue("broute.status", meter_id, by="Mori")
        async with asyncio.timeout(30):
            while request.is_open:
                await asyncio.sleep(0.05)
                await system.issuing.poll()
                request = system.requests.find(request.id)
        return request.state


async def test_the_business_sides_key_is_changed_while_it_commands(lab: Lab) -> None:
    old = lab.signing_key(NEW_SYSTEM).public
    first, away = LabMeter(lab), LabMeter(lab, AWAY)

    async def step(*words: str) -> int:
        return await asyncio.to_thread(rotate, lab, *words)

    def changed(meter_id: str) -> bool:
        return lab.issuer_key(NEW_SYSTEM, meter_id).public != old

    with closing(ScsStore(lab.folder(SCS) / "scs.db")) as store:
        async with whole(lab, store), running(first.serve()):
            await step("--by", "Kita")
            async with asyncio.timeout(30):
                while not changed(METER):
                    await step("--by", "Kita")
            assert await status_of(lab, METER) is State.DONE
            with pytest.raises(MeterError, match=f"not confirmed yet: {AWAY}"):
                await step("--finish")
            # The one that was away comes, is still known by the old key, and changes over.
            async with running(away.serve()):
                async with asyncio.timeout(30):
                    while not changed(AWAY):
                        await step("--by", "Kita")
                assert await step("--finish") == 0
                assert await status_of(lab, METER) is State.DONE
                assert await status_of(lab, AWAY) is State.DONE
    assert lab.signing_key(NEW_SYSTEM).public != old


async def test_a_meter_left_behind_obeys_again_with_its_new_trust_file(lab: Lab) -> None:
    def step(*words: str) -> int:
        return rotate(lab, "--issuer", SCS, *words)

    assert step("--by", "Kita") == 0
    assert step("--finish", "--leave", METER, "--leave", AWAY) == 0
    meter = LabMeter(lab)
    with closing(ScsStore(lab.folder(SCS) / "scs.db")) as store:
        async with whole(lab, store), running(meter.serve()):
            from meter_runtime.headend import scs_send

            own = scs_send.issue(lab, store, "self_test", METER, {}, by="Kita")
            await until(lambda: store.task(own).final)
            assert store.task(own).code == "OK"
