"""The options of a driver: each value checked, and each key that nobody asks for refused."""

import re
from collections.abc import Mapping
from typing import Any

from meter_runtime.errors import UsageError, nearest
from meter_runtime.units.contracts import Nameplate, UnitKind, Wiring

_PRINTABLE = re.compile(r"[ -~]+")


class Options:
    """A driver's table of the configuration. Ask for every key, then call :meth:`end`.

    Every method raises UsageError, which names driver and key.
    """

    def __init__(self, driver: str, given: Mapping[str, Any]) -> None:
        self._driver = driver
        self._given = given
        self._asked: list[str] = []

    def integer(self, key: str, low: int, high: int) -> int | None:
        """A whole number from ``low`` to ``high``; None where it is not given."""
        value = self._take(key)
        if value is None:
            return None
        # A bool is an int to Python, and never meant as one.
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._wrong(key, value, f"give a whole number from {low} to {high}")
        return value

    def flag(self, key: str) -> bool | None:
        """true or false; None where it is not given."""
        value = self._take(key)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(key, value, "give true or false")

    def text(self, key: str, longest: int) -> str | None:
        """One to ``longest`` printable ASCII characters; None where it is not given."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str) or not _PRINTABLE.fullmatch(value) or len(value) > longest:
            raise self._wrong(key, value, f"give 1 to {longest} ASCII characters")
        return value

    def choice(self, key: str, known: Mapping[str, Any]) -> Any:
        """What ``known`` has for the word given; None where none is."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str) or value not in known:
            raise self._wrong(key, value, nearest(str(value), known))
        return known[value]

    def nameplate(self, kind: UnitKind) -> Nameplate:
        """What a unit without an ID EEPROM is, by the options that describe it.

        They are ``serial``, which it must have, ``model`` (the driver's name), ``wiring`` and
        ``capacity_a`` (unknown).
        """
        serial = self.text("serial", 12)
        model = self.text("model", 32)
        wiring = self.choice("wiring", {wiring.value: wiring for wiring in Wiring})
        capacity_a = self.integer("capacity_a", 1, 10_000)
        if serial is None:
            raise UsageError(
                f"the {self._driver} driver: a unit without an ID EEPROM needs the option serial"
            )
        return Nameplate(
            kind,
            model or self._driver.upper(),
            serial,
            driver=self._driver,
            wiring=wiring,
            capacity_a=capacity_a,
        )

    def end(self) -> None:
        """Refuse every key that was not asked for."""
        for key in self._given:
            if key not in self._asked:
                hint = nearest(key, self._asked)
                raise UsageError(f'the {self._driver} driver has no option "{key}"; {hint}')

    def _take(self, key: str) -> Any:
        self._asked.append(key)
        return self._given.get(key)

    def _wrong(self, key: str, value: object, remedy: str) -> UsageError:
        return UsageError(f"the {self._driver} driver: {key} = {value!r}; {remedy}")
