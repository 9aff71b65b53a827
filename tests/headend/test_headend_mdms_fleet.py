"""The fleet benchmark measures a district that is collected in full."""

from mosquitto_broker import mosquitto

from benchmarks import fleet
from benchmarks.groups import GROUPS


def test_a_district_is_collected_and_marked_in_full() -> None:
    mosquitto()
    rows = fleet.measure(meters=6, rounds=2, collectors=(1, 2))
    assert [row.name for row in rows] == [
        "1 collector: until the last mark",
        "1 collector: half hours a second",
        "1 collector: CPU of all, each",
        "1 collector: memory of the largest",
        "2 collectors: until the last mark",
        "2 collectors: half hours a second",
        "2 collectors: CPU of all, each",
        "2 collectors: memory of the largest",
    ]
    # Twelve messages may take less than one tick of the processor's time.
    assert all(row.figure > 0 for row in rows if row.unit != "ms")
    assert GROUPS["fleet"] is fleet.measure
