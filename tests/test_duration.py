"""Durations as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.duration import format_duration, parse_duration
from meter_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86_400),
        ("1h30m", 5400),
        ("1d2h3m4s", 93_784),
        ("1.5h", 5400),
        ("0.5s", 0.5),
        (" 2H ", 7200),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "90", "h", "30m1h", "1h1h", "-1s", "0s", "1 h", "1w", "１h", "1e3s", "9" * 400 + "s"],
)
def test_anything_else_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UsageError, match="write one like 90s, 30m, 1h30m or 2d"):
        parse_duration(text)


@given(text=st.text(alphabet="0123456789.dhms -", max_size=12))
def test_any_text_is_a_duration_or_a_mistake(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 < seconds < 10**14


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (5400, "1h 30m"),
        (86_400, "1d"),
        (86_461, "1d"),
        (93_784, "1d 2h"),
    ],
)
def test_a_duration_is_written_by_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(seconds=st.integers(1, 10**8))
def test_what_is_written_is_read_back_to_its_two_largest_units(seconds: int) -> None:
    again = parse_duration(format_duration(seconds).replace(" ", ""))
    assert again <= seconds < again + 86_400
