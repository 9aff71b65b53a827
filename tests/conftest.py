"""Says at the end of a run how many power cuts were tried."""

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
