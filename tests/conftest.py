"""How many tests run at a time, and how many power cuts were tried in the end."""

import os

import pytest

COUNTED = ("power cuts", "survivors")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = dict.fromkeys(COUNTED, 0)
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name in counts and isinstance(value, int):
                counts[name] += value
    if counts["power cuts"]:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        terminalreporter.write_line(f"{told} looked at; all of them: ./dev powercut")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Most of a living test is waiting: two at a time for each core."""
    return 2 * (os.cpu_count() or 1)
