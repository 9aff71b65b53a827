"""Board profiles: the shipped ones, what each mistake is told as, and which machine is which."""

import tomllib
from pathlib import Path

import pytest

from meter_runtime.comm.ports import parse_port
from meter_runtime.errors import UsageError
from meter_runtime.units.board import NoSuchWire, Wires
from meter_runtime.units.board_profiles import GENERIC, load_profile, profile_names
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.gpio import LineSpec
from meter_runtime.units.real_board import RealBoard

SOUND = """
title = "my board"
gpio_chip = "my-chip"
fram = "i2c-1:0x50"

[slots.metering]
i2c = "i2c-1"
eeprom = 0x51
uart = "serial:/dev/ttyAMA5?baudrate=9600"
presence = { line = 6, active_low = true, pull = "up" }

[slots.metering.lines]
pulse_forward = { line = 23 }
pulse_reverse = { line = 1, chip = "other-chip" }
"""


def written(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def test_every_shipped_profile_has_a_slot_of_each_kind() -> None:
    assert profile_names() == ["generic", "pi-zero-2w", "pi3", "pi4", "pi5", "virtual"]
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert {slot.kind for slot in profile.slots} == set(UnitKind)
        assert all(slot.name == slot.kind.value for slot in profile.slots)


@pytest.mark.parametrize(
    ("name", "chip", "port"),
    [
        ("pi-zero-2w", "pinctrl-bcm2835", "/dev/serial0"),
        ("pi3", "pinctrl-bcm2835", "/dev/serial0"),
        ("pi4", "pinctrl-bcm2711", "/dev/serial0"),
        ("pi5", "pinctrl-rp1", "/dev/ttyAMA0"),
    ],
)
def test_each_pi_has_its_chip_and_its_port(name: str, chip: str, port: str) -> None:
    slots = {slot.kind: slot for slot in load_profile(name).slots}
    uart = slots[UnitKind.COMMUNICATION].uart
    assert uart is not None
    assert parse_port(uart).target == port
    assert slots[UnitKind.METERING].lines["pulse_forward"].chip == chip
    assert {"coil_open", "coil_close", "feedback_open", "feedback_closed"} == set(
        slots[UnitKind.OPTIONAL].lines
    )


@pytest.mark.parametrize("name", ["pi-zero-2w", "pi3", "pi4", "pi5", "virtual"])
def test_no_two_wires_of_a_board_are_one(name: str) -> None:
    profile = load_profile(name)
    lines = [line for slot in profile.slots for line in slot.lines.values()]
    lines += [slot.presence for slot in profile.slots if slot.presence is not None]
    assert len({(line.chip, line.offset) for line in lines}) == len(lines)
    taken = {(line.offset) for line in lines} & {0, 1, 2, 3, 14, 15}
    assert not taken, "I2C and UART of the header"
    eeproms = [(slot.i2c, slot.eeprom) for slot in profile.slots]
    assert len(set(eeproms)) == len(eeproms)
    assert profile.fram == "i2c-1:0x50"
    assert ("i2c-1", 0x50) not in eeproms


def test_an_installed_package_has_the_profiles_too() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"]["hw/boards"] == "meter_runtime/boards"


def test_coils_are_on_lines_that_the_chip_pulls_down_at_power_on() -> None:
    for name in profile_names():
        for slot in load_profile(name).slots:
            for role, line in slot.lines.items():
                if role.startswith("coil_"):
                    assert line.offset >= 9
                    assert not line.active_low


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi Zero 2 W Rev 1.0\0", "pi-zero-2w"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3\0", "pi3"),
        ("Raspberry Pi 4 Model B Rev 1.5\0", "pi4"),
        ("Raspberry Pi 400 Rev 1.0\0", "pi4"),
        ("Raspberry Pi Compute Module 4 Rev 1.1\0", "pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0\0", "pi5"),
        ("Raspberry Pi Zero W Rev 1.1\0", GENERIC),
        ("Some other board", GENERIC),
    ],
)
def test_auto_goes_by_what_the_device_tree_calls_the_machine(
    tmp_path: Path, model: str, name: str
) -> None:
    (tmp_path / "model").write_text(model)
    assert load_profile("auto", model_file=tmp_path / "model").name == name


def test_auto_on_a_machine_without_a_device_tree_has_slots_without_wires(tmp_path: Path) -> None:
    profile = load_profile("auto", model_file=tmp_path / "none")
    assert profile.name == GENERIC
    assert all((slot.i2c, slot.uart, slot.presence) == (None,) * 3 for slot in profile.slots)


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path: Path) -> None:
    profile = load_profile(written(tmp_path, SOUND))
    assert (profile.name, profile.title, profile.fram) == ("mine", "my board", "i2c-1:0x50")
    (slot,) = profile.slots
    assert (slot.kind, slot.i2c, slot.eeprom) == (UnitKind.METERING, "i2c-1", 0x51)
    assert slot.presence == LineSpec("my-chip", 6, active_low=True, pull="up")
    assert slot.lines == {
        "pulse_forward": LineSpec("my-chip", 23),
        "pulse_reverse": LineSpec("other-chip", 1),
    }


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('title = "my board"', "", 'lacks the key "title"; add it'),
        ("title", "titel", 'has no key "titel"; did you mean "title"?'),
        ("gpio_chip", "gpiochip", 'has no key "gpiochip"; did you mean "gpio_chip"?'),
        ("[slots.metering]", "[slots.meter]", 'slots has no key "meter"; did you mean "metering"?'),
        ("eeprom =", "eprom =", 'slots.metering has no key "eprom"; did you mean "eeprom"?'),
        ("eeprom = 0x51", "eeprom = 0x78", "slots.metering.eeprom: expected int <= 119"),
        ("eeprom = 0x51", 'eeprom = "0x51"', "slots.metering.eeprom: expected int, got str"),
        ('i2c = "i2c-1"\n', 'i2c = "i2c1"\n', 'slots.metering.i2c: "i2c1" names no I2C chip'),
        ('i2c = "i2c-1"\n', 'i2c = "i2c-1:0x51"\n', "names a chip; write the bus only"),
        ('i2c = "i2c-1"\n', "", "slots.metering.eeprom needs a bus; add slots.metering.i2c"),
        ("i2c-1:0x50", "i2c-1:0x05", 'fram: "i2c-1:0x05": an I2C address is'),
        ("line = 6", "lin = 6", 'slots.metering.presence has no key "lin"; did you mean "line"?'),
        ("line = 6,", "", 'slots.metering.presence lacks the key "line"'),
        ('pull = "up"', 'pull = "pu"', "slots.metering.presence.pull: invalid enum value 'pu'"),
        (
            "{ line = 23 }",
            "{ line = -1 }",
            "slots.metering.lines.pulse_forward.line: expected int >= 0",
        ),
        ("{ line = 23 }", "23", "slots.metering.lines.pulse_forward is no table; give it the keys"),
        ("[slots.metering.lines]", "[slots]\noptional = 1\n[slots.x]", "is no table; give it"),
        (
            'gpio_chip = "my-chip"',
            "",
            "slots.metering.presence names no chip; add chip to it, or gpio_chip",
        ),
        ("title =", "title", "not TOML"),
    ],
)
def test_each_mistake_is_told_with_file_and_key(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    path = written(tmp_path, SOUND.replace(right, wrong, 1))
    with pytest.raises(UsageError) as mistake:
        load_profile(path)
    assert str(mistake.value).startswith(f"{path}: ")
    assert said in str(mistake.value)


def test_an_unknown_board_is_told_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no board is called "pi-4"; did you mean "pi4"'):
        load_profile("pi-4")
    with pytest.raises(UsageError, match="no such board profile; check its path"):
        load_profile(str(tmp_path / "none.toml"))


def test_a_wire_that_the_slot_does_not_have_is_named_with_the_key_to_add() -> None:
    board = RealBoard(load_profile(GENERIC))
    wires = Wires(board, board.profile.slots[0])
    for ask, said in (
        (wires.i2c, "no I2C bus; add slots.communication.i2c to the board's profile"),
        (wires.uart, "no UART; add slots.communication.uart"),
        (lambda: wires.input("reset"), "no line reset; add slots.communication.lines.reset"),
        (lambda: wires.output("reset", initial=False), "no line reset"),
    ):
        with pytest.raises(NoSuchWire, match=said):
            ask()
    board.close()
