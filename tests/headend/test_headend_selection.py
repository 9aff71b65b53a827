"""The unit selection: five sources, one key, the best units, and mistakes that are refused."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from new_system_room import HARA, MORI, NOW, Room

from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.authority import NotPermittedError
from meter_runtime.headend.register_sources import FIELDS, SOURCES, Statement, read
from meter_runtime.headend.selection import Selection, SelectionError, select
from meter_runtime.units.catalogue import shipped
from meter_runtime.units.combination import check, is_valid
from meter_runtime.units.contracts import UnitKind

TODAY = date(2026, 11, 20)

PLAIN = {
    "customer": {"renewables": "no", "broute": "yes", "switching": "no", "capacity_a": "40"},
    "construction-results": {"wiring": "1P3W", "cover": "normal"},
    "construction-records": {"site": "detached"},
    "distribution": {"wiring": "1P3W"},
}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def chosen(**changes: str) -> Selection:
    """What is selected for a plain home with these fields said by the customer instead."""
    return select("C-1", said(**changes), shipped())


def said(**changes: str) -> list[Statement]:
    told = {
        source: {name: changes.get(name, value) for name, value in facts.items()}
        for source, facts in PLAIN.items()
    }
    told["customer"] |= changes
    return [
        Statement(source, "C-1", TODAY, f"{source}.csv line 2", facts)
        for source, facts in told.items()
    ]


def models(selection: Selection) -> tuple[str, str, str | None, str]:
    units = selection.units
    return (
        units.cu.model,
        units.mu.model,
        None if units.ou is None else units.ou.model,
        units.cover.value,
    )


@pytest.mark.parametrize(
    ("changes", "units"),
    [
        ({}, ("CU-RF-920-1", "MU-1P3W-60-1", None, "normal")),
        ({"broute": "no"}, ("CU-RF-NONE-1", "MU-1P3W-60-1", None, "normal")),
        ({"medium": "PLC"}, ("CU-RF-PLC-1", "MU-1P3W-60-1", None, "normal")),
        ({"site": "multi-dwelling"}, ("CU-PLC-920-1", "MU-1P3W-60-1", None, "normal")),
        ({"renewables": "yes"}, ("CU-RF-920-2", "MU-1P3W-60-2", None, "normal")),
        ({"capacity_a": "100"}, ("CU-RF-920-1", "MU-1P3W-120-1", None, "normal")),
        ({"capacity_a": "400"}, ("CU-RF-920-1", "MU-1P3W-5-1", None, "normal")),
        ({"wiring": "1P2W", "capacity_a": "20"}, ("CU-RF-920-1", "MU-1P2W-30-1", None, "normal")),
        ({"switching": "yes"}, ("CU-RF-920-1", "MU-1P3W-60-1", "OU-SW-60", "normal")),
        ({"voltage": "yes"}, ("CU-RF-920-1", "MU-1P3W-60-1", "OU-VOLT", "normal")),
        ({"cover": "rain"}, ("CU-RF-920-1", "MU-1P3W-60-1", None, "rain")),
        (
            {"wiring": "3P3W", "switching": "yes", "renewables": "yes", "capacity_a": "90"},
            ("CU-RF-920-2", "MU-3P3W-120-2", "OU-SW-120", "normal"),
        ),
    ],
)
def test_the_closest_units_are_chosen(
    changes: dict[str, str], units: tuple[str, str, str | None, str]
) -> None:
    assert models(chosen(**changes)) == units


_VALUES = {name: st.sampled_from(words) for name, words in FIELDS.items() if words}


@given(st.fixed_dictionaries(_VALUES), st.integers(1, 600))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_chosen_is_valid_by_the_meters_own_rules(
    facts: dict[str, str], capacity_a: int
) -> None:
    changes = facts | {"capacity_a": str(capacity_a)}
    one_too_many = facts["switching"] == facts["voltage"] == "yes"
    optional = "yes" in (facts["switching"], facts["voltage"])
    two_wire = facts["wiring"] == "1P2W"
    behind_transformers = capacity_a > 120
    if (
        one_too_many
        or (two_wire and (optional or facts["renewables"] == "yes" or behind_transformers))
        or (behind_transformers and optional)
    ):
        with pytest.raises(SelectionError, match="no units of the catalogue go with"):
            chosen(**changes)
        return
    selection = chosen(**changes)
    fitted = selection.units.fitted
    assert is_valid(check(fitted, None, shipped(), date.min))
    (metering,) = fitted.of(UnitKind.METERING)
    assert metering.nameplate is not None
    assert metering.nameplate.wiring is not None
    assert metering.nameplate.wiring.value == facts["wiring"]
    assert metering.nameplate.two_way == (facts["renewables"] == "yes")


def test_every_choice_is_explained_by_source_and_day() -> None:
    communication, metering, optional, cover = chosen().why
    assert communication.startswith("CU-RF-920-1: site detached (construction-records, 2026-11-20)")
    assert "wiring 1P3W (construction-results, 2026-11-20; distribution, 2026-11-20)" in metering
    assert "capacity_a 40 (customer, 2026-11-20)" in metering
    assert optional.startswith("no optional unit: switching no (customer")
    assert cover == "cover normal: cover normal (construction-results, 2026-11-20)"


def test_sources_that_contradict_each_other_are_refused_by_source_and_field() -> None:
    told = said()
    told[-1] = Statement("distribution", "C-1", TODAY, "d.csv line 9", {"wiring": "1P2W"})
    with pytest.raises(SelectionError) as refused:
        select("C-1", told, shipped())
    for part in (
        "wiring: 1P3W (construction-results, 2026-11-20, construction-results.csv line 2)",
        "1P2W (distribution, 2026-11-20, d.csv line 9)",
    ):
        assert part in str(refused.value)


def test_all_mistakes_are_told_at_once() -> None:
    told = [
        Statement("customer", "C-1", TODAY, "c.csv line 2", {"renewables": "no", "broute": "no"}),
        Statement("distribution", "C-1", TODAY, "d.csv line 2", {"renewables": "yes"}),
    ]
    with pytest.raises(SelectionError) as refused:
        select("C-1", told, shipped())
    said = str(refused.value)
    assert "renewables: no (customer" in said
    assert "switching: nobody says it; import customer" in said
    assert "site: nobody says it; import construction-records or implemented-site" in said


def test_a_stale_source_is_told_and_not_refused() -> None:
    told = said()
    old = TODAY - timedelta(days=181)
    told[2] = Statement("construction-records", "C-1", old, "r.csv line 2", {"site": "detached"})
    (remark,) = select("C-1", told, shipped()).remarks
    assert (remark.kind, remark.field) == ("stale", "site")
    assert "construction-records is of 2026-05-23, 181 days behind" in remark.text
    fresh = select("C-1", told, shipped(), stale_after=timedelta(days=181))
    assert fresh.remarks == ()


def test_an_unknown_contract_is_refused() -> None:
    with pytest.raises(SelectionError, match="C-9: no source knows it"):
        select("C-9", [], shipped())


def written(folder: Path, text: str) -> Path:
    path = folder / "source.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_sources_are_kept_apart_and_joined_by_the_contract(room: Room, tmp_path: Path) -> None:
    sources = room.system.sources
    for source, header, row in (
        ("construction-results", "contract,wiring", "C-1001,1P3W"),
        ("implemented-site", "site,contract", "detached,C-1001"),
    ):
        path = written(tmp_path, f"{header}\n{row}\n")
        assert sources.take(NOW, HARA, source, path, TODAY) == 1
    room.restart()
    selection = room.system.select("C-1001")
    assert models(selection) == ("CU-RF-920-1", "MU-1P3W-60-1", None, "normal")
    assert any("broute yes (register," in reason for reason in selection.why)


def test_a_customers_file_that_contradicts_the_register_is_refused(
    room: Room, tmp_path: Path
) -> None:
    path = written(tmp_path, "contract,renewables\nC-1001,yes\n")
    room.system.sources.take(NOW, HARA, "customer", path, TODAY)
    with pytest.raises(SelectionError, match=r"renewables: yes \(customer.*≠ no \(register"):
        room.system.select("C-1001")


def test_a_newer_file_replaces_and_an_older_one_is_refused(room: Room, tmp_path: Path) -> None:
    sources = room.system.sources
    sources.take(NOW, HARA, "distribution", written(tmp_path, "contract,wiring\nC-1,1P3W\n"), TODAY)
    newer = TODAY + timedelta(days=1)
    sources.take(NOW, HARA, "distribution", written(tmp_path, "contract,wiring\nC-1,3P3W\n"), newer)
    older = written(tmp_path, "contract,wiring\nC-2,1P2W\nC-1,1P2W\n")
    with pytest.raises(UsageError, match=r"C-1 is known from a newer file .* nothing was imported"):
        sources.take(NOW, HARA, "distribution", older, TODAY)
    (statement,) = sources.of("C-1")
    assert (statement.facts, statement.as_of) == ({"wiring": "3P3W"}, newer)
    assert sources.of("C-2") == []


def test_sources_are_imported_by_registrars_only(room: Room, tmp_path: Path) -> None:
    path = written(tmp_path, "contract,wiring\nC-1,1P3W\n")
    with pytest.raises(NotPermittedError, match='takes the role "registrar"'):
        room.system.sources.take(NOW, MORI, "distribution", path, TODAY)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("contract,wirin\nC-1,1P3W\n", 'has no field "wirin"; did you mean "wiring"'),
        ("contract,site\nC-1,detached\n", 'distribution has no field "site"'),
        ("wiring\n1P3W\n", 'names each column once, "contract" among them'),
        ("contract,wiring,wiring\nC-1,1P3W,1P3W\n", "names each column once"),
        ("", 'names each column once, "contract" among them'),
        ("contract,wiring\nC-1,1P4W\n", 'source.csv line 2: wiring "1P4W"; did you mean'),
        ("contract,wiring\nC-1\n", "source.csv line 2: 1 values under 2 columns"),
        ("contract,wiring\n,1P3W\n", "source.csv line 2: no contract code"),
        ("contract,wiring\nC-1,1P3W\nC-1,1P3W\n", "line 3: contract C-1 is there twice"),
        ('contract,wiring\n"C-1,1P3W\n', "not CSV"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read("distribution", written(tmp_path, text), TODAY)
    assert told in str(refused.value)


@pytest.mark.parametrize("capacity", ["0", "-5", "4.5", "forty", "10000"])
def test_a_capacity_is_whole_ampere(tmp_path: Path, capacity: str) -> None:
    with pytest.raises(UsageError, match="capacity_a: whole ampere"):
        read("customer", written(tmp_path, f"contract,capacity_a\nC-1,{capacity}\n"), TODAY)


def test_a_spreadsheets_mark_and_empty_cells_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "source.csv"
    path.write_bytes("\ufeffcontract, wiring ,cover\r\nC-1, 1P3W ,\r\n\r\n".encode())
    (statement,) = read("construction-results", path, TODAY)
    assert statement.facts == {"wiring": "1P3W"}


@given(st.binary(max_size=200))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(b"contract,wiring\nC-1,1P3W\n" + content)
    try:
        statements = read("distribution", path, TODAY)
    except MeterError:
        return
    assert statements


def test_every_field_of_a_source_is_one_that_is_known() -> None:
    assert {name for fields in SOURCES.values() for name in fields} == set(FIELDS)


def test_an_unknown_source_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no source is called "costumer"; did you mean "customer"'):
        read("costumer", tmp_path / "any.csv", TODAY)
