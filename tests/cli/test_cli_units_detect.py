"""``units detect`` and ``units label`` on a board whose wires end in models of chips."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.bench.board.at24c32 import At24c32
from meter_runtime.bench.board.bus import Chip, VirtualI2C
from meter_runtime.cli import main
from meter_runtime.units import real_board
from meter_runtime.units.board_profiles import load_profile
from meter_runtime.units.contracts import (
    ARouteBearer,
    BRouteMedium,
    Nameplate,
    OptionalFunction,
    UnitKind,
    Wiring,
)
from meter_runtime.units.nameplate import decode, encode
from meter_runtime.units.real_board import RealBoard

METER = Nameplate(
    UnitKind.METERING, "MU-1P3W-60-2", "M00000000001", calibration={"gain": -3}, driver="mcp39f521"
)
RADIO = Nameplate(UnitKind.COMMUNICATION, "CU-RF-920-2", "C00000000001")
PLACES = {"metering": 0x51, "optional": 0x52, "communication": 0x53}


class Pi:
    """A Pi 4 and what is on its bus."""

    def __init__(self) -> None:
        self.chips: dict[int, Chip] = {}

    def plug(self, slot: str, record: bytes = b"") -> At24c32:
        eeprom = At24c32(time.monotonic)
        eeprom.content[: len(record)] = record
        self.chips[PLACES[slot]] = eeprom
        return eeprom

    def board(self, name: str, library: str = "gpiod") -> RealBoard:
        wired = load_profile("pi4" if name == "auto" else name)
        # Whatever hangs on this machine's serial lines is not the Pi's.
        slots = tuple(replace(slot, uart=None) for slot in wired.slots)
        profile = replace(wired, slots=slots)
        return RealBoard(profile, open_bus=lambda number: VirtualI2C(f"i2c-{number}", self.chips))


@pytest.fixture
def pi(monkeypatch: pytest.MonkeyPatch) -> Pi:
    machine = Pi()
    monkeypatch.setattr(real_board, "open_board", machine.board)
    return machine


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "meter.toml"
    path.write_text(
        f"""
        [meter]
        id = "M-1"
        [control]
        path = "{tmp_path}/control.sock"
        [board]
        profile = "pi5"
        [units.metering]
        driver = "simulated"
        [units.communication]
        driver = "skstack"
        port = "serial:/dev/ttyUSB0"
        """
    )
    return path


@pytest.fixture
def running_meter(tmp_path: Path) -> Iterator[None]:
    """Somebody listens where the configuration says that the meter does."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen()
        yield


def label(*more: str, slot: str = "metering", model: str = "MU-1P3W-60-2") -> int:
    return main(
        ["units", "label", "--slot", slot, "--model", model, "--serial", "N00000000009", *more]
    )


def test_what_was_asked_is_shown_and_then_what_each_slot_holds(
    pi: Pi, capsys: pytest.CaptureFixture[str]
) -> None:
    pi.plug("metering", encode(METER))
    pi.plug("communication", encode(RADIO))
    assert main(["units", "detect"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "board pi4: Raspberry Pi 4"
    assert lines[2].split() == ["slot", "asked", "where", "ms", "answer"]
    asked = [line for line in lines if line.startswith("metering       ID EEPROM (24C32)  i2c-1")]
    assert "MU-1P3W-60-2 no. M00000000001" in asked[0]
    assert (
        "communication  found     CU-RF-920-2 no. C00000000001, driver skstack, by its ID EEPROM"
        in lines
    )
    assert "optional       absent    no unit answers" in lines
    assert lines[-1].startswith("took ")


def test_json_is_one_document_with_everything(pi: Pi, capsys: pytest.CaptureFixture[str]) -> None:
    pi.plug("metering", encode(METER))
    pi.plug("communication", encode(RADIO))
    assert main(["units", "detect", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["board"], told["complete"]) == ("pi4", True)
    metering = told["slots"]["metering"]
    assert metering["nameplate"]["calibration"] == {"gain": -3}
    assert metering["nameplate"]["kind"] == "metering"
    assert (metering["presence"], metering["driver"]) == ("found", "mcp39f521")
    assert metering["trail"][0]["what"] == "ID EEPROM (24C32)"
    assert told["slots"]["optional"]["nameplate"] is None
    assert 0 <= told["took_ms"] < 3000


def test_an_incomplete_meter_fails(pi: Pi, capsys: pytest.CaptureFixture[str]) -> None:
    pi.plug("metering", encode(METER))
    assert main(["units", "detect"]) == 1
    assert "communication  absent    no unit answers" in capsys.readouterr().out


def test_an_abnormal_unit_fails_and_shows_its_code(
    pi: Pi, capsys: pytest.CaptureFixture[str]
) -> None:
    pi.plug("metering", encode(METER))
    pi.plug("communication", encode(RADIO))
    pi.plug("optional", b"UNIT is damaged")
    assert main(["units", "detect"]) == 1
    assert "optional       abnormal  U-23 i2c-1 address 0x52" in capsys.readouterr().out


def test_the_configuration_names_drivers_that_can_only_be_believed(
    pi: Pi, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["units", "detect", "--config", str(configuration)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("board pi5: Raspberry Pi 5\n")
    assert "metering       found     driver simulated, by the configuration alone" in shown
    assert "communication  found     driver skstack, by the configuration alone" in shown


@pytest.mark.usefixtures("running_meter")
def test_a_running_meter_is_not_disturbed(
    pi: Pi, configuration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["units", "detect", "--config", str(configuration)]) == 1
    assert "speaks with its units; ask it with 'meter-runtime status'" in capsys.readouterr().err


def test_an_unknown_board_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["units", "detect", "--board", "pi44"]) == 2
    assert 'no board is called "pi44"; did you mean "pi4"?' in capsys.readouterr().err


def test_a_label_is_the_catalogues_with_what_the_command_says_otherwise(
    pi: Pi, capsys: pytest.CaptureFixture[str]
) -> None:
    eeprom = pi.plug("metering")
    status = label(
        *("--maker", "計器製作所", "--hw-version", "2", "--certified-until", "2036-03-31"),
        *("--calibration", "gain=-7", "--calibration", "offset=12", "--no-two-way"),
    )
    assert status == 0
    assert capsys.readouterr().out == (
        f"MU-1P3W-60-2 no. N00000000009: {len(encode(decode(bytes(eeprom.content))))} bytes"
        " written to i2c-1 address 0x51 and read back\n"
    )
    assert decode(bytes(eeprom.content)) == Nameplate(
        UnitKind.METERING,
        "MU-1P3W-60-2",
        "N00000000009",
        maker="計器製作所",
        hw_version="2",
        wiring=Wiring.ONE_PHASE_THREE_WIRE,
        capacity_a=60,
        two_way=False,
        certified_until=date(2036, 3, 31),
        calibration={"gain": -7, "offset": 12},
    )


def test_a_model_of_ones_own_is_labelled_and_remarked_upon(
    pi: Pi, capsys: pytest.CaptureFixture[str]
) -> None:
    eeprom = pi.plug("optional")
    status = label(
        *("--function", "switching", "--wiring", "1P3W", "--capacity", "60", "--driver", "relay"),
        slot="optional",
        model="SW-61",
    )
    assert status == 0
    assert "the catalogue does not know this model; did you mean" in capsys.readouterr().out
    plate = decode(bytes(eeprom.content))
    assert (plate.function, plate.capacity_a) == (OptionalFunction.SWITCHING, 60)
    eeprom = pi.plug("communication")
    own = ("--aroute", "PLC", "--broute-medium", "PLC", "--no-broute", "--fw-version", "1")
    assert label(*own, slot="communication", model="OWN") == 0
    plate = decode(bytes(eeprom.content))
    assert (plate.aroute, plate.broute_medium) == (ARouteBearer.PLC, BRouteMedium.PLC)
    assert not plate.broute


def test_a_label_that_is_there_stays_unless_forced(
    pi: Pi, capsys: pytest.CaptureFixture[str]
) -> None:
    eeprom = pi.plug("metering", encode(METER))
    assert label() == 1
    assert capsys.readouterr().err == (
        "meter-runtime: i2c-1 address 0x51 holds MU-1P3W-60-2 no. M00000000001 already;"
        " --force writes over it\n"
    )
    assert decode(bytes(eeprom.content)) == METER
    assert label("--force") == 0
    assert decode(bytes(eeprom.content)).serial == "N00000000009"


def test_what_is_not_a_label_stays_unless_forced(
    pi: Pi, capsys: pytest.CaptureFixture[str]
) -> None:
    eeprom = pi.plug("metering", b"somebody's data")
    assert label() == 1
    assert "this is no nameplate" in capsys.readouterr().err
    assert bytes(eeprom.content[:15]) == b"somebody's data"
    assert label("--force") == 0


def test_a_labelled_unit_is_detected(pi: Pi, capsys: pytest.CaptureFixture[str]) -> None:
    pi.plug("metering")
    pi.plug("communication")
    assert label() == 0
    assert label(slot="communication", model="CU-RF-920-2") == 0
    assert main(["units", "detect"]) == 0
    assert "MU-1P3W-60-2 no. N00000000009, driver mcp39f521" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["--board", "generic"], 2, "the metering slot of board generic has no ID EEPROM; add"),
        (["--serial", "N000000000099"], 2, "is not 1 to 12 ASCII characters"),
        (["--certified-until", "2036-02-30"], 2, '--certified-until: "2036-02-30" is no date'),
        (["--calibration", "gain"], 2, '--calibration: "gain" is no NAME=NUMBER'),
        (["--calibration", "gain=1.5"], 2, '--calibration: "gain=1.5" is no NAME=NUMBER'),
        (["--capacity", "0"], 2, "rated current 0 A is not 1 to 65535 A"),
        ([], 1, "i2c-1 address 0x51: Remote I/O error; check that the chip is plugged in"),
    ],
)
def test_each_mistake_is_one_line(
    pi: Pi, capsys: pytest.CaptureFixture[str], more: list[str], status: int, said: str
) -> None:
    assert label(*more) == status
    told = capsys.readouterr()
    assert said in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
