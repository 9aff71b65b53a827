"""GPIO chips of the kernel's simulator, and the world's hand on their lines.

Chips are made by configfs and their lines moved by sysfs (Documentation/admin-guide/gpio/
gpio-sim.rst of Linux): ``pull`` is what the outside does to a line, ``value`` what stands on it.
"""

import time
from pathlib import Path

_CONFIGURATION = Path("/sys/kernel/config/gpio-sim")
_PULLS = {True: "pull-up", False: "pull-down"}
_APPEARS_S = 5.0


class SimulatedChip:
    """A chip of ``lines`` lines with this label; it is there until :meth:`unplug`."""

    def __init__(self, label: str, lines: int) -> None:
        self.label = label
        self._device = _CONFIGURATION / label
        bank = self._device / "bank"
        bank.mkdir(parents=True)
        (bank / "label").write_text(label)
        (bank / "num_lines").write_text(str(lines))
        self._live("1")
        self.name = (bank / "chip_name").read_text().strip()
        parent = (self._device / "dev_name").read_text().strip()
        self._lines = Path("/sys/devices/platform") / parent / self.name
        self._await(Path("/dev") / self.name)

    def pull(self, line: int, *, up: bool) -> None:
        """The outside pulls the line up or down; a driven line stays as it is driven."""
        self.pull_file(line).write_text(_PULLS[up])

    def pulled_up(self, line: int) -> bool:
        """Where the line is pulled to, by the outside or the chip's own resistor."""
        return self.pull_file(line).read_text().strip() == _PULLS[True]

    def value(self, line: int) -> bool:
        """The voltage on the line."""
        return (self._lines / f"sim_gpio{line}" / "value").read_text().strip() == "1"

    def pull_file(self, line: int) -> Path:
        return self._lines / f"sim_gpio{line}" / "pull"

    def unplug(self) -> None:
        """The chip goes, whoever holds its lines."""
        self._live("0")
        (self._device / "bank").rmdir()
        self._device.rmdir()

    def _live(self, state: str) -> None:
        (self._device / "live").write_text(state)

    def _await(self, path: Path) -> None:
        """The kernel's own device file system has it within milliseconds."""
        deadline = time.monotonic() + _APPEARS_S
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not appear")
            time.sleep(0.01)
