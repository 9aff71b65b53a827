"""The serial line's benchmark gives every figure, with next to no repeats."""

import pytest

from benchmarks import line


def test_round_trips_stand_beside_line_time() -> None:
    rows = line.measure(repeats=2, modules=(1,))
    assert all(row.figure > 0 for row in rows[:-1])
    for through_pty, on_line, ratio in zip(rows[0:-1:3], rows[1:-1:3], rows[2:-1:3], strict=True):
        assert ratio.figure == pytest.approx(through_pty.figure / on_line.figure)
    assert rows[-1].name == "modules until 5 ms of lag"
    assert rows[-1].figure in (0, 1)
