"""Files of plugged-in units: what they say, and how their mistakes are told."""

import contextlib
import string
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.errors import UsageError
from meter_runtime.units.catalogue import Cover, shipped
from meter_runtime.units.combination import Contract, Site, check
from meter_runtime.units.contracts import BRouteMedium, UnitKind, Wiring
from meter_runtime.units.fitted_file import FittedFile, load

EXAMPLES = Path(__file__).parents[2] / "examples" / "units"
TODAY = date(2026, 11, 22)

UNIT = '[[unit]]\nslot = "metering"\nmodel = "MU-1P3W-60-2"\nserial = "M1"\n'


def read(folder: Path, text: str) -> FittedFile:
    path = folder / "units.toml"
    path.write_text(text, encoding="utf-8")
    return load(path, shipped())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("two-way-60a", []),
        ("one-way-pzem", []),
        ("s0-pulses", []),
        ("voltage", []),
        ("plc", []),
        ("four-mistakes", ["U-08", "U-09", "U-13", "U-16"]),
    ],
)
def test_the_examples_are_what_they_say(name: str, expected: list[str]) -> None:
    file = load(EXAMPLES / f"{name}.toml", shipped())
    findings = check(file.fitted, file.contract, shipped(), TODAY)
    assert [finding.code for finding in findings] == expected


def test_every_example_is_tested() -> None:
    assert len(list(EXAMPLES.glob("*.toml"))) == 6


def test_a_file_says_contract_cover_and_units(tmp_path: Path) -> None:
    file = read(
        tmp_path,
        """
        cover.kind = "rain"
        former.metering = "M0"
        [contract]
        renewables = true
        capacity_a = 40
        medium = "PLC"
        site = "multi-dwelling"
        [[unit]]
        slot = "metering"
        model = "MU-1P3W-60-2"
        serial = "M1"
        driver = "s0"
        certified_until = 2036-03-31
        options = { debounce_ms = 5, volatile = true }
        calibration = { pulses_per_kwh = 1000 }
        self_test = ["one", "two"]
        """,
    )
    assert file.contract == Contract(
        renewables=True, capacity_a=40, medium=BRouteMedium.PLC, site=Site.MULTI_DWELLING
    )
    assert (file.cover, file.former) == (Cover.RAIN, {UnitKind.METERING: "M0"})
    (unit,) = file.units
    plate = unit.nameplate
    assert (unit.slot, plate.driver, plate.wiring) == ("metering", "s0", Wiring("1P3W"))
    assert (plate.certified_until, plate.two_way) == (date(2036, 3, 31), True)
    assert plate.calibration == {"pulses_per_kwh": 1000}
    assert unit.options == {"debounce_ms": 5, "volatile": True}
    assert unit.fitted.troubles == ("one", "two")
    assert file.fitted.former == file.former


def test_an_unlabelled_or_unreadable_unit_is_plugged_in_all_the_same(tmp_path: Path) -> None:
    file = read(tmp_path, UNIT + "labelled = false\n" + UNIT + "unreadable = true\n")
    first, second = file.units
    assert (first.labelled, first.fitted.nameplate) == (False, first.nameplate)
    assert (second.labelled, second.fitted.nameplate) == (True, None)


def test_an_unknown_model_is_what_the_file_says_of_it(tmp_path: Path) -> None:
    file = read(tmp_path, UNIT.replace("MU-1P3W-60-2", "ACME") + 'wiring = "3P3W"\n')
    assert file.units[0].nameplate.wiring is Wiring.THREE_PHASE_THREE_WIRE


def test_an_empty_file_is_an_empty_meter(tmp_path: Path) -> None:
    assert read(tmp_path, "") == FittedFile(())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[contrakt]", 'the file has no part "contrakt"; did you mean "contract"?'),
        ("contract = 1", "[contract] is a table; write its keys below it"),
        ("[contract]\nbrute = true", '[contract] has no key "brute"; did you mean "broute"?'),
        ("[contract]\nbroute = 1", "[contract] broute: 1; give true or false"),
        (
            '[contract]\nsite = "detatched"',
            "[contract] site: 'detatched'; did you mean \"detached\"?",
        ),
        ("[contract]\ncapacity_a = 0", "[contract] capacity_a: 0; give whole ampere, 1 to 65535"),
        ("[contract]\ncapacity_a = true", "[contract] capacity_a: True; give whole ampere"),
        (UNIT + "calibration = { a = true }", "give a table of whole numbers"),
        (UNIT + 'self_test = [""]', "give a list of texts"),
        ('[cover]\nkind = "snow"', "[cover] kind: 'snow'; known: normal, rain"),
        ("[unit]", "[unit] is a list; write [[unit]]"),
        ("unit = [1]", "[[unit]] 1 is a table; write its keys below it"),
        (UNIT + "[[unit]]", '[[unit]] 2 lacks the key "slot"; add it'),
        (UNIT + 'seriel = "1"', '[[unit]] 1 has no key "seriel"; did you mean "serial"?'),
        (
            UNIT.replace("metering", "meter"),
            "[[unit]] 1 slot: 'meter'; did you mean \"metering\"?",
        ),
        (UNIT + 'wiring = "1p3w"', "[[unit]] 1 wiring: '1p3w'; known: 1P2W, 1P3W, 3P3W"),
        (UNIT + 'certified_until = "2036-03-31"', "give a day, as in 2036-03-31, without quotes"),
        (UNIT + "certified_until = 2036-03-31T00:00:00", "give a day"),
        (UNIT + "options = { a = [1] }", "give a table of texts, numbers, true and false"),
        (UNIT + "calibration = { a = 1.5 }", "give a table of whole numbers"),
        (UNIT + "calibration = { a = 4294967296 }", "calibration a 4294967296 is outside of 32"),
        (UNIT + 'self_test = "broken"', "give a list of texts"),
        (UNIT + 'driver = ""', "[[unit]] 1 driver: ''; give a text"),
        (UNIT.replace("M1", "M123456789012"), "serial 'M123456789012' is not 1 to 12 ASCII"),
        (UNIT * 17, "there are 17 units; a file takes 16"),
        ("unit = ", "not TOML"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as wrong:
        read(tmp_path, text)
    assert str(wrong.value).startswith(f"{tmp_path}/units.toml: ")
    assert told in str(wrong.value)
    assert "\n" not in str(wrong.value)


def test_a_file_that_is_not_there_says_where_examples_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file; examples are in examples/units"):
        load(tmp_path / "none.toml", shipped())


KEYS = st.sampled_from(
    ["slot", "model", "serial", "wiring", "capacity_a", "options", "self_test", "x"]
)
VALUES = st.one_of(
    st.sampled_from(['"metering"', '"1P3W"', "true", "-1", "1.5", "[]", "{}", "2036-03-31"]),
    st.text(string.printable, max_size=8),
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=4), st.booleans())
def test_no_text_is_more_than_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]], begun: bool
) -> None:
    text = (UNIT if begun else "[[unit]]\n") + "".join(f"{key} = {value}\n" for key, value in lines)
    with contextlib.suppress(UsageError):
        read(tmp_path_factory.getbasetemp(), text)
