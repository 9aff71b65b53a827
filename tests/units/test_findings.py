"""The codes and their texts."""

import re

import pytest

from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import UnitKind
from meter_runtime.units.findings import LANGUAGES, Finding, Severity, code, codes

JAPANESE = re.compile(r"[぀-ヿ一-鿿]")


def test_the_codes_are_u_01_to_u_24() -> None:
    assert list(codes()) == [f"U-{number:02}" for number in range(1, 25)]


@pytest.mark.parametrize("name", codes())
def test_every_code_is_told_in_both_languages(name: str) -> None:
    words = codes()[name].words
    for text in (words["en"].title, words["en"].cause, words["en"].remedy):
        assert text
        assert not JAPANESE.search(text)
    for text in (words["ja"].title, words["ja"].cause, words["ja"].remedy):
        assert JAPANESE.search(text)
    assert [words[language].cause[-1] for language in LANGUAGES] == [".", "。"]


def test_only_what_needs_nobody_is_information() -> None:
    graver = {name for name, line in codes().items() if line.severity is Severity.ERROR}
    assert set(codes()) - graver == {"U-14", "U-21", "U-22"}


def test_a_finding_is_told_with_its_detail() -> None:
    finding = Finding("U-06", UnitKind.METERING, "MU-9 no. 1")
    assert finding.text() == "the catalogue has no such unit (MU-9 no. 1)"
    assert finding.text("ja") == "カタログにないユニットです(MU-9 no. 1)"
    assert Finding("U-01", UnitKind.METERING).text() == "no metering unit"


def test_the_effect_is_told_by_the_kind_of_unit() -> None:
    unreadable = code("U-23")
    assert unreadable.effect(UnitKind.METERING, "en") == "the meter does not enter service"
    assert unreadable.effect(UnitKind.OPTIONAL, "en") == "no switching, no voltage records"
    assert unreadable.effect(UnitKind.COMMUNICATION, "ja") == "Bルートを停止します"
    assert code("U-19").effect(UnitKind.METERING, "en").endswith("an alarm is raised")
    assert code("U-21").effect(UnitKind.METERING, "en") == "everything is served"


def test_a_code_is_found_in_small_letters_and_the_nearest_is_named() -> None:
    assert code("u-16") is codes()["U-16"]
    with pytest.raises(UsageError, match='no finding has the code "U16"; did you mean "U-16"'):
        code("U16")
