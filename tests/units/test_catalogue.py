"""The catalogue's data, and what a nameplate may leave to it."""

from dataclasses import replace

import pytest

from meter_runtime.comm.skstack.modules import PRODUCTS
from meter_runtime.errors import UsageError
from meter_runtime.units.catalogue import Cover, Model, shipped
from meter_runtime.units.contracts import Nameplate, UnitKind, Wiring
from meter_runtime.units.nameplate import decode, encode

MODELS = [model for line in shipped().models.values() for model in line.values()]


def model(number: str) -> Model:
    (found,) = (each for each in MODELS if each.model == number)
    return found


def test_it_has_the_published_units() -> None:
    counted = {kind: len(list(shipped().units(kind))) for kind in UnitKind}
    assert counted == {
        UnitKind.COMMUNICATION: 12,
        UnitKind.METERING: 14,
        UnitKind.OPTIONAL: 3,
    }
    assert shipped().covers == (Cover.NORMAL, Cover.RAIN)


def test_no_two_units_are_alike() -> None:
    told_apart = {replace(each, model="", driver="") for each in MODELS if not each.bare}
    assert len(told_apart) == 12 + 14 + 3


@pytest.mark.parametrize("each", MODELS, ids=lambda each: each.model)
def test_a_new_units_nameplate_is_its_models_and_fits_its_eeprom(each: Model) -> None:
    plate = each.nameplate("A00000000001")
    assert each.contradictions(plate) == []
    assert each.completed(plate) == plate
    assert decode(encode(plate)) == plate


def test_a_nameplate_may_leave_the_rest_to_the_catalogue() -> None:
    bare = Nameplate(UnitKind.METERING, "MU-1P3W-60-2", "M1")
    assert model("MU-1P3W-60-2").contradictions(bare) == []
    full = model("MU-1P3W-60-2").completed(bare)
    assert (full.wiring, full.capacity_a) == (Wiring.ONE_PHASE_THREE_WIRE, 60)
    assert full.driver == "mcp39f521"


def test_what_a_nameplate_says_stands() -> None:
    said = replace(model("MU-1P3W-60-2").nameplate("M1"), driver="s0", capacity_a=120)
    assert model("MU-1P3W-60-2").completed(said) == said


def test_only_communication_units_may_have_no_b_route() -> None:
    without = {each.model for each in MODELS if not each.nameplate("1").broute}
    assert without == {f"CU-{bearer}-NONE-{ways}" for bearer in ("RF", "PLC") for ways in (1, 2)}


def test_a_nameplate_that_says_otherwise_is_told_in_figures() -> None:
    plate = replace(
        model("MU-1P3W-60-2").nameplate("M1"),
        capacity_a=120,
        wiring=Wiring.THREE_PHASE_THREE_WIRE,
        two_way=False,
    )
    assert model("MU-1P3W-60-2").contradictions(plate) == [
        "3P3W ≠ 1P3W",
        "120 A ≠ 60 A",
        "1-way ≠ 2-way",
    ]
    radio = replace(model("CU-RF-920-1").nameplate("C1"), model="CU-RF-NONE-1")
    assert model("CU-RF-NONE-1").contradictions(radio) == ["920MHz ≠ –"]


def test_the_nameplate_names_the_driver_before_the_model_does() -> None:
    plate = model("MU-1P3W-60-1").nameplate("M1")
    assert shipped().driver(plate) == "mcp39f521"
    assert shipped().driver(replace(plate, driver="s0")) == "s0"
    assert shipped().driver(replace(plate, driver="", model="?")) == ""


def test_every_radio_module_with_a_driver_is_in_it() -> None:
    known = shipped().models[UnitKind.COMMUNICATION]
    assert {product.model for product in PRODUCTS.values()} <= set(known)


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UsageError, match='did you mean "MU-1P3W-60-2"'):
        shipped().known(UnitKind.METERING, "MU-1P3W-60-3")
