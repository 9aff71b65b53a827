"""The HEMS against a meter: no hardware, no letter from the utility, a second per test."""

from collections.abc import Iterator
from datetime import timedelta

import my_hems
import pytest

from meter_runtime.bench.background import BackgroundBench


@pytest.fixture
def link(meter_bench: BackgroundBench) -> Iterator[my_hems.MeterLink]:
    """Our HEMS, joined to the bench's meter."""
    link = my_hems.MeterLink(meter_bench.tty, patience_s=2.0)
    link.join(meter_bench.route_b_id, meter_bench.password)
    yield link
    link.close()


def test_power_is_the_meters(meter_bench: BackgroundBench, link: my_hems.MeterLink) -> None:
    before = meter_bench.status()["registers"]["power_w"]
    read = link.power_w()
    after = meter_bench.status()["registers"]["power_w"]
    assert read in (before, after)


def test_the_next_half_hour_is_half_an_hour_later(
    meter_bench: BackgroundBench, link: my_hems.MeterLink
) -> None:
    meter_bench.advance(30 * 60)
    first = link.half_hour()
    meter_bench.advance(30 * 60)
    second = link.half_hour()
    assert first is not None
    assert second is not None
    assert second[0] - first[0] == timedelta(minutes=30)
    assert second[1] >= first[1]


def test_an_unanswered_question_is_asked_again(
    meter_bench: BackgroundBench, link: my_hems.MeterLink
) -> None:
    meter_bench.inject("silent", count=1)
    assert link.power_w() is not None


def test_no_data_is_not_zero(meter_bench: BackgroundBench, link: my_hems.MeterLink) -> None:
    meter_bench.inject("no-data")
    assert link.power_w() is None
    meter_bench.clear()
    assert link.power_w() is not None


def test_a_wrong_password_is_told(meter_bench: BackgroundBench) -> None:
    link = my_hems.MeterLink(meter_bench.tty)
    with pytest.raises(my_hems.HemsError, match="password"):
        link.join(meter_bench.route_b_id, "WRONG0000000")
    link.close()


@pytest.mark.meter_bench(route_b_id="0" * 32)
def test_a_wrong_id_is_told(meter_bench: BackgroundBench) -> None:
    link = my_hems.MeterLink(meter_bench.tty)
    with pytest.raises(my_hems.HemsError, match="ID"):
        link.join("F" * 32, meter_bench.password)
    link.close()
