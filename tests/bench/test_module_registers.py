"""SKSREG: names, ranges, print width, and what survives SKRESET."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from module_room import HEMS_MAC, ROUTE_B_ID, Host, Room

from meter_runtime.bench.module.arguments import CommandError
from meter_runtime.bench.module.registers import Reg, Registers
from meter_runtime.comm.skstack.dialects import DSE, SE


def host(option: str = "bp35a1:echo=0") -> Host:
    return Room().plug(option, HEMS_MAC)


@pytest.mark.parametrize(
    ("register", "value"),
    [
        ("S02", "21"),
        ("S03", "FFFF"),
        ("S07", "00000000"),
        ("S0A", "CCDDEEFF"),
        ("S15", "0"),
        ("S16", "00000384"),
        ("S17", "1"),
        ("SA0", "1"),
        ("SA1", "1"),
        ("SA2", "0"),
        ("SFB", "0"),
        ("SFD", "0000000000000000"),
        ("SFE", "0"),
        ("SFF", "0"),
    ],
)
def test_a_register_reads_its_default(register: str, value: str) -> None:
    assert host().ask(f"SKSREG {register}") == f"ESREG {value}\r\nOK\r\n"


def test_the_dual_stack_lives_a_day_and_knows_its_side() -> None:
    module = host("bp35c2:echo=0")
    assert module.ask("SKSREG S16") == "ESREG 00015180\r\nOK\r\n"
    assert module.ask("SKSREG SF0") == "ESREG 0\r\nOK\r\n"
    assert module.ask("SKSREG SF0 1") == "OK\r\n"
    assert module.ask("SKINFO").split()[5] == "1"


def test_the_single_stack_has_no_side_register() -> None:
    assert host().ask("SKSREG SF0") == "FAIL ER06\r\n"


@pytest.mark.parametrize("name", ["S2", "S02", "S002", "s02", "S0000002"])
@pytest.mark.parametrize("value", ["2f", "2F", "002F", "0000002f"])
def test_names_and_values_take_any_padding_and_case(name: str, value: str) -> None:
    module = host()
    assert module.ask(f"SKSREG {name} {value}") == "OK\r\n"
    assert module.ask("SKSREG S02") == "ESREG 2F\r\nOK\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "SKSREG S02 20",
        "SKSREG S02 3D",
        "SKSREG S03 10000",
        "SKSREG S03 xyz",
        "SKSREG S0A 1234567",
        "SKSREG S0A 123456789",
        "SKSREG S15 2",
        "SKSREG S16 3B",
        "SKSREG S16 100000000",
        "SKSREG S07 1",
        "SKSREG SFB 0",
        "SKSREG SFD 1",
        "SKSREG SFE +1",
        "SKSREG S99",
        "SKSREG X02",
        "SKSREG S 1",
        "SKSREG SFFF 1",
    ],
)
def test_what_is_out_of_range_is_er06(line: str) -> None:
    assert host().ask(line) == "FAIL ER06\r\n"


@pytest.mark.parametrize("line", ["SKSREG", "SKSREG S02 21 22"])
def test_a_wrong_count_is_er05(line: str) -> None:
    assert host().ask(line) == "FAIL ER05\r\n"


def test_rssi_can_be_set_on_both_dialects() -> None:
    for option in ("bp35a1:echo=0", "bp35c2:echo=0"):
        assert host(option).ask("SKSREG SA2 1") == "OK\r\n"


def test_the_authentication_id_sets_the_pairing_id() -> None:
    module = host()
    module.ask(f"SKSETRBID {ROUTE_B_ID.lower()}")
    assert module.ask("SKSREG S0A") == f"ESREG {ROUTE_B_ID[-8:]}\r\nOK\r\n"


def test_loading_what_was_never_saved_is_er10() -> None:
    module = host()
    assert module.ask("SKLOAD") == "FAIL ER10\r\n"
    assert module.ask("SKSAVE") == "OK\r\n"
    assert module.ask("SKLOAD") == "OK\r\n"
    assert module.ask("SKERASE") == "OK\r\n"
    assert module.ask("SKLOAD") == "FAIL ER10\r\n"


def test_saved_registers_come_back_with_load() -> None:
    module = host()
    module.ask("SKSREG S02 2F")
    module.ask("SKSAVE")
    module.ask("SKRESET")
    assert module.ask("SKSREG S02") == "ESREG 21\r\nOK\r\n"
    module.ask("SKLOAD")
    assert module.ask("SKSREG S02") == "ESREG 2F\r\nOK\r\n"


def test_autoload_brings_saved_registers_back_at_reset() -> None:
    module = host()
    module.ask("SKSREG S03 B5FB")
    module.ask("SKSREG SFF 1")
    module.ask("SKSAVE")
    module.ask("SKSREG S03 1234")
    module.ask("SKRESET")
    assert module.ask("SKSREG S03") == "ESREG B5FB\r\nOK\r\n"


@given(st.text(max_size=12), st.text(max_size=40))
def test_any_text_is_a_value_within_range_or_refused(name: str, value: str) -> None:
    for dialect in (SE, DSE):
        registers = Registers(dialect, echo=True)
        try:
            number = registers.find(name)
            registers.write(number, value)
        except CommandError:
            continue
        if number is not Reg.PAIRING_ID:
            assert int(registers.text(number), 16) == int(value, 16)
