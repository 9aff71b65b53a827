"""A module that nobody is to be served by forgets whom it admitted, as soon as it can be told."""

import asyncio
import random
from typing import Any

import pytest
from scripted_module import CREDENTIALS, HOME, Line, ScriptedModule
from test_skstack_unit import Laboratory, turns

from meter_runtime.comm.contracts import LinkStarted
from meter_runtime.comm.skstack.dialects import DSE, SE
from meter_runtime.comm.skstack.driver import BACKOFF_LAST_S, MeterDriver, Phase

FORGETS = ["SKTERM", "SKRESET", "SKSREG S15"]


def line(module: ScriptedModule, **wire: object) -> Line:
    return Line(MeterDriver(None, random.Random(1)), module, **wire)  # type: ignore[arg-type]


def left_over(**traits: Any) -> ScriptedModule:
    """A module that serves by what a meter told it that is no more."""
    module = ScriptedModule(SE, **traits)
    before = line(module)
    before.start()
    assert module.registers["S15"] == "1"
    module.heard.clear()
    return module


def phase_of(wire: Line) -> Phase:
    return wire.driver.phase


@pytest.mark.parametrize(("cut", "delay_s"), [(None, 0.0), (1, 0.0), (7, 1.5)])
def test_a_module_that_serves_on_from_another_life_is_reset(
    cut: int | None, delay_s: float
) -> None:
    module = left_over()
    wire = line(module, cut=cut, delay_s=delay_s)
    wire.driver.vacate(wire.now)
    assert wire.driver.port_wanted
    wire.open()
    wire.wait(10)
    assert module.heard == FORGETS
    assert module.registers["S15"] == "0"
    assert wire.driver.phase is Phase.STOPPED
    assert wire.driver.counters["vacated"] == 1
    assert wire.driver.next_deadline() is None
    assert wire.told() == []


def test_it_is_told_once_and_again_only_after_it_has_served() -> None:
    module = left_over()
    wire = line(module)
    wire.driver.vacate(wire.now)
    wire.open()
    wire.driver.vacate(wire.now)
    wire.settle()
    assert phase_of(wire) is Phase.STOPPED
    assert module.heard == FORGETS
    wire.driver.start(CREDENTIALS, wire.now)
    wire.settle()
    assert phase_of(wire) is Phase.SERVING
    wire.driver.stop(wire.now)
    wire.settle()
    wire.wait(10)
    module.heard.clear()
    wire.driver.vacate(wire.now)
    wire.settle()
    wire.wait(10)
    assert module.heard == FORGETS


@pytest.mark.parametrize("trait", [{"silent": True}, {"refuses": {"SKRESET": 10}}])
def test_a_module_that_does_not_obey_is_told_until_it_does(trait: dict[str, Any]) -> None:
    module = left_over()
    for name, value in trait.items():
        setattr(module, name, value)
    wire = line(module)
    wire.driver.vacate(wire.now)
    wire.open()
    wire.wait(3600)
    assert wire.driver.phase is not Phase.STOPPED
    assert module.registers["S15"] == "1"
    module.silent, module.refuses = False, {}
    wire.wait(BACKOFF_LAST_S + 30)
    assert phase_of(wire) is Phase.STOPPED
    assert module.registers["S15"] == "0"
    assert wire.told() == []


def test_a_module_that_says_ok_and_serves_on_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = left_over()
    monkeypatch.setattr(module, "_restore", lambda: None)
    wire = line(module)
    wire.driver.vacate(wire.now)
    wire.open()
    wire.wait(60)
    assert phase_of(wire) is not Phase.STOPPED
    assert module.heard.count("SKRESET") > 2
    monkeypatch.undo()
    wire.wait(BACKOFF_LAST_S)
    assert phase_of(wire) is Phase.STOPPED


def test_without_a_port_it_waits_for_one_and_a_lost_one_costs_another_try() -> None:
    module = left_over()
    wire = line(module)
    wire.driver.vacate(wire.now)
    wire.driver.port_lost("nothing is plugged in", wire.now)
    wire.wait(2)
    assert wire.driver.port_wanted
    module.deaf_to = {"SKRESET"}
    wire.open()
    wire.driver.port_lost("pulled out", wire.now)
    module.deaf_to = set()
    wire.wait(5)
    wire.open()
    wire.wait(5)
    assert phase_of(wire) is Phase.STOPPED
    assert module.registers["S15"] == "0"
    assert wire.told() == []


def test_a_home_that_comes_in_while_it_forgets_is_told_to_nobody() -> None:
    module = left_over()
    module.deaf_to = {"SKTERM"}
    wire = line(module)
    wire.driver.vacate(wire.now)
    wire.open()
    wire.hear(module.event(0x25, HOME))
    wire.wait(10)
    assert wire.told() == []
    assert phase_of(wire) is Phase.STOPPED


@pytest.mark.parametrize("dialect", [SE, DSE])
def test_a_start_has_precedence_whatever_has_been_forgotten(dialect: Any) -> None:
    module = ScriptedModule(dialect)
    module.deaf_to = {"SKTERM"}
    wire = line(module)
    wire.driver.vacate(wire.now)
    wire.open()
    wire.driver.start(CREDENTIALS, wire.now)
    wire.settle()
    assert phase_of(wire) is Phase.SERVING
    assert [type(event) for event in wire.told()] == [LinkStarted]
    # Nobody is made to leave by a wish of before.
    wire.driver.vacate(wire.now)
    wire.wait(120)
    assert phase_of(wire) is Phase.SERVING


def test_a_stop_ends_it() -> None:
    wire = line(left_over(silent=False))
    wire.driver.vacate(wire.now)
    wire.driver.stop(wire.now)
    assert phase_of(wire) is Phase.STOPPED
    assert not wire.driver.port_wanted
    mute = line(left_over())
    mute.module.silent = True
    mute.driver.vacate(mute.now)
    mute.open()
    mute.driver.stop(mute.now)
    mute.wait(60)
    assert phase_of(mute) is Phase.STOPPED
    assert mute.driver.next_deadline() is None


async def test_the_unit_takes_the_port_for_it_and_gives_it_back() -> None:
    lab = Laboratory()
    await lab.unit.vacate()
    await turns()
    assert [port.closed for port in lab.ports] == [True]
    assert lab.module.heard == FORGETS
    await lab.unit.vacate()
    await turns()
    assert len(lab.ports) == 1
    await lab.unit.start(CREDENTIALS)
    await turns()
    assert lab.module.registers["S15"] == "1"
    assert not lab.ports[-1].closed
    await lab.unit.stop()
    await lab.unit.vacate()
    await lab.unit.close()
    assert all(port.closed for port in lab.ports)


@pytest.mark.parametrize("later", range(40))
async def test_a_start_at_any_moment_of_it_serves(later: int) -> None:
    lab = Laboratory()
    await lab.unit.vacate()
    for _ in range(later):
        await asyncio.sleep(0)
    await lab.unit.start(CREDENTIALS)
    await turns()
    assert lab.module.registers["S15"] == "1"
    assert not lab.ports[-1].closed
    assert lab.unit.counters["faults"] == 0
    await lab.unit.stop()


async def test_the_unit_waits_for_a_module_that_is_not_there() -> None:
    lab = Laboratory()
    lab.absent = "nothing is plugged in"
    await lab.unit.vacate()
    await lab.clock.advance(300)
    assert lab.ports == []
    lab.absent = None
    await lab.clock.advance(BACKOFF_LAST_S)
    assert [port.closed for port in lab.ports] == [True]
    assert lab.module.heard == FORGETS
    assert lab.told() == []
    await lab.unit.close()
